"""A clinical store in memory that keeps the promises of the real one, and fails when told to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import asyncpg

from streams.dead_letters import DeadLetter
from streams.deciding import identity
from streams.domain.alert import AlertEvent
from streams.domain.pipeline import new_world
from streams.domain.telemetry import Received, fingerprint
from streams.rehearsal import profiles_of
from streams.store import Claim, Fenced, Identity, Quarantined, StaleWorlds, StoredWorld, Work
from streams.topics import partition_of

KNOWN = profiles_of({})
"""What is known of every pump: without a profile each would have an alert that asks for it."""
REFUSED_CHECKSUM = "bad\0"
"""PostgreSQL stores no NUL in text; the edges refuse it, and who writes to the topic directly may not."""


@dataclass
class MemoryStore:
    """Rows of one topic. ``before`` and ``after`` hold errors to raise at the next commits, None for none."""

    partitions: int = 1
    offsets: dict[int, int] = field(default_factory=dict)
    topic_ids: dict[int, str | None] = field(default_factory=dict)
    pumps: dict[str, StoredWorld] = field(default_factory=dict)
    readings: dict[Identity, Received] = field(default_factory=dict)
    quarantine: list[Quarantined] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)
    before: list[BaseException | None] = field(default_factory=list)
    after: list[BaseException | None] = field(default_factory=list)
    facts: list[AlertEvent] = field(default_factory=list)
    outage: set[UUID] = field(default_factory=set)
    """Silences that an outage of their site explains."""
    commits: int = 0

    async def next_offset(self, topic: str, partition: int) -> int | None:
        """See `Store.next_offset`."""
        return self.offsets.get(partition)

    async def begin(self, partition: int, offset: int, topic_id: str | None) -> None:
        """See `Offsets.begin`."""
        self.offsets.setdefault(partition, offset)
        self.topic_ids.setdefault(partition, topic_id)

    async def topic_id(self, partition: int) -> str | None:
        """See `Offsets.topic_id`."""
        return self.topic_ids.get(partition)

    async def worlds(self, pump_ids: Sequence[str]) -> dict[str, StoredWorld]:
        """See `Store.worlds`."""
        return {pump_id: self.pumps.get(pump_id) or StoredWorld(0, new_world(pump_id), KNOWN) for pump_id in pump_ids}

    async def fingerprints(self, identities: Sequence[Identity]) -> Mapping[Identity, bytes]:
        """See `Store.fingerprints`."""
        return {key: fingerprint(self.readings[key].report) for key in identities if key in self.readings}

    async def silences_of_an_outage(self, alert_ids: Sequence[UUID]) -> set[UUID]:
        """See `Store.silences_of_an_outage`."""
        return self.outage.intersection(alert_ids)

    async def due(self, partitions: Sequence[int], now: datetime, limit: int) -> list[str]:
        """See `Store.due`."""
        return sorted(
            pump_id
            for pump_id, stored in self.pumps.items()
            if partition_of(pump_id, self.partitions) in partitions
            and stored.world.next_wake_at is not None
            and stored.world.next_wake_at <= now
        )[:limit]

    async def pumps_after(self, partition: int, pump_id: str, limit: int) -> list[str]:
        """See `Store.pumps_after`."""
        ours = (known for known in self.pumps if partition_of(known, self.partitions) == partition)
        return sorted(known for known in ours if known > pump_id)[:limit]

    async def apply(self, claims: Sequence[Claim], work: Work, now: datetime) -> None:
        """See `Store.apply`."""
        _raise_next(self.before)
        assert claims
        if any(self.offsets.get(claim.partition) != claim.expected for claim in claims):
            raise Fenced(claims)
        for change in work.changes:
            stored = self.pumps.get(change.pump_id)
            if (stored.revision if stored else 0) != change.revision:
                raise StaleWorlds
        if any(received.report.program_checksum == REFUSED_CHECKSUM for received in work.readings):
            raise asyncpg.CharacterNotInRepertoireError("invalid byte sequence")
        self._commit(claims, work)
        _raise_next(self.after)

    def _commit(self, claims: Sequence[Claim], work: Work) -> None:
        self.commits += 1
        self.offsets.update({claim.partition: claim.next_offset for claim in claims})
        for received in work.readings:
            assert identity(received) not in self.readings, "a reading took effect twice"
            self.readings[identity(received)] = received
        self.quarantine.extend(one for one in work.quarantined if one not in self.quarantine)
        for change in work.changes:
            known = self.pumps.get(change.pump_id)
            profiles = known.profiles if known else KNOWN
            self.pumps[change.pump_id] = StoredWorld(change.revision + 1, change.world, profiles)
            self.facts.extend(change.events)
            self.events.extend((event.kind.value, str(event.alert.alert_id)) for event in change.events)


@dataclass
class MemoryDeadLetters:
    """Dead letters in a list; ``faults`` are raised first."""

    letters: list[DeadLetter] = field(default_factory=list)
    faults: list[BaseException | None] = field(default_factory=list)

    async def put(self, letter: DeadLetter, now: datetime) -> None:
        """See `DeadLetters.put`."""
        _raise_next(self.faults)
        self.letters.append(letter)


@dataclass
class MemoryLimits:
    """Counts in a row."""

    counts: dict[int, int] = field(default_factory=dict)

    async def load(self, topic: str, partition: int) -> int:
        """See `Limits.load`."""
        return self.counts.get(partition, 0)

    async def save(self, topic: str, partition: int, consecutive: int) -> None:
        """See `Limits.save`."""
        self.counts[partition] = consecutive


def _raise_next(faults: list[BaseException | None]) -> None:
    fault = faults.pop(0) if faults else None
    if fault is not None:
        raise fault
