"""What one record's reports make of their pumps: pure, so it can be tested without broker or database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from streams.domain.alert import AlertEvent
from streams.domain.outage import explained, silences_ended
from streams.domain.pipeline import Disposition, Step, Steps, note_conflict, steps, tick
from streams.domain.profile import ProfileHistory
from streams.domain.rule import RuleBook
from streams.domain.silence import Hearing
from streams.domain.telemetry import Received, fingerprint
from streams.domain.world import World, snapshot
from streams.store import Change, Identity, Quarantined, StoredWorld
from streams.topics import partition_of


@dataclass(frozen=True, slots=True)
class Poison:
    """A report that cannot be decided, and why."""

    received: Received
    error: Exception


@dataclass(slots=True)
class Decided:
    """The outcome of a batch so far; `decide_pump` adds to it, pump by pump."""

    readings: list[Received] = field(default_factory=list)
    late: int = 0
    released: list[Received] = field(default_factory=list)
    """Readings, too, that had been quarantined before."""
    repeated: list[Received] = field(default_factory=list)
    """Seen before under the same identity: the same report again, or a conflict that only the store can tell."""
    quarantined: list[Quarantined] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    after: list[StoredWorld] = field(default_factory=list)
    """The changed pumps as they are once the changes are committed; in the order of ``changes``."""
    poisoned: list[Poison] = field(default_factory=list)
    untold: list[Poison] = field(default_factory=list)
    """Conflicts of which the pump's alerts do not know, since it cannot be judged."""
    held: dict[Identity, bytes] = field(default_factory=dict)
    """Fingerprints of quarantined reports whose identities were used again."""
    unchanged: dict[str, StoredWorld] = field(default_factory=dict)
    """Pumps that only repeated themselves; see `decide_conflicts`."""


def by_pump(reports: Iterable[Received]) -> dict[str, list[Received]]:
    """Reports of each pump in their order, pumps sorted: every writer then locks rows in the same order."""
    groups: dict[str, list[Received]] = {}
    for received in reports:
        pump_id = received.report.pump_id
        group = groups.get(pump_id)
        if group is None:
            groups[pump_id] = [received]
        else:
            group.append(received)
    return dict(sorted(groups.items()))


def strays(pump_ids: Iterable[str], partition: int, partitions: int) -> bool:
    """Whether a pump does not belong to the partition; one record must not touch another partition's rows."""
    return any(partition_of(pump_id, partitions) != partition for pump_id in pump_ids)


def decide_pump(
    decided: Decided,
    stored: StoredWorld,
    reports: Sequence[Received],
    rules: RuleBook,
    now: datetime,
    partition: int,
) -> None:
    """Take one pump through its reports of a batch, and add what follows to ``decided``."""
    events: list[AlertEvent] = []
    causes: list[datetime] = []
    world = stored.world
    for taken in _taken(decided, world, reports, stored.profiles, rules, now):
        world = taken.world
        events.extend(taken.events)
        if taken.caused_at is not None:
            causes.append(taken.caused_at)
    if world is not stored.world:
        caused_at = causes[0] if causes else reports[-1].received_at
        decided.changes.append(_change(stored, world, tuple(events), caused_at, partition))
        decided.after.append(StoredWorld(stored.revision + 1, world, stored.profiles))
    elif decided.repeated:
        decided.unchanged[world.pump_id] = stored


def _taken(
    decided: Decided,
    world: World,
    reports: Sequence[Received],
    profiles: ProfileHistory,
    rules: RuleBook,
    now: datetime,
) -> Iterator[Steps]:
    """The pump's steps, sorted into ``decided``; a report that no rule can judge is found by halving."""
    waiting = [reports]
    while waiting:
        part = waiting.pop()
        try:
            taken = steps(world, part, profiles, rules, now)
        except Exception as error:  # noqa: BLE001 - one report that no rule can judge must not stop the others
            if len(part) == 1:
                decided.poisoned.append(Poison(part[0], error))
            else:
                waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
            continue
        _sort(decided, world, taken)
        world = taken.world
        yield taken


def _sort(decided: Decided, before: World, taken: Steps) -> None:
    """Where each report goes, and those that they take out of quarantine."""
    decided.released.extend(taken.released)
    for outcome in taken.outcomes:
        received, disposition = outcome.received, outcome.disposition
        if disposition is Disposition.DUPLICATE:
            decided.repeated.append(received)
            decided.held.update(_held(before, received) | _held(taken.world, received))
        elif disposition is Disposition.QUARANTINED_FUTURE:
            decided.quarantined.append(Quarantined(received, "future"))
        else:
            decided.readings.append(received)
            decided.late += disposition is Disposition.LATE


def _held(world: World, received: Received) -> dict[Identity, bytes]:
    """What a held report under the same identity said: it is not among the stored readings."""
    wanted = identity(received)
    return {identity(one): fingerprint(one.report) for one in world.head.timing.held if identity(one) == wanted}


def decide_conflicts(
    decided: Decided, known: Mapping[Identity, bytes], rules: RuleBook, now: datetime, partitions: int
) -> None:
    """Set aside the repeats that say something else than what was applied, and let their pumps' alerts know.

    Where a pump cannot be judged, the repeat is set aside all the same, and is found in ``untold``.

    Args:
        decided: Of the same batch, all of its pumps decided.
        known: What is stored or was applied under the repeats' identities.
        rules: The rules in force.
        now: Service time, aware UTC.
        partitions: How many the topic has.
    """
    found = conflicts(decided.repeated, known)
    decided.quarantined.extend(found)
    for one in found:
        pump_id = one.received.report.pump_id
        place = next((index for index, change in enumerate(decided.changes) if change.pump_id == pump_id), None)
        stored = decided.unchanged[pump_id] if place is None else decided.after[place]
        try:
            outcome = note_conflict(stored.world, one.received, stored.profiles, rules, now)
        except Exception as error:  # noqa: BLE001 - one pump that cannot be judged must not stop the others
            decided.untold.append(Poison(one.received, error))
            continue
        if place is None:
            number, caused_at = partition_of(pump_id, partitions), one.received.received_at
            decided.changes.append(_change(stored, outcome.world, outcome.events, caused_at, number))
            decided.after.append(StoredWorld(stored.revision + 1, outcome.world, stored.profiles))
            continue
        change = decided.changes[place]
        decided.changes[place] = replace(
            change,
            world=outcome.world,
            snapshot=snapshot(outcome.world, stored.profiles),
            events=(*change.events, *outcome.events),
        )
        decided.after[place] = replace(stored, world=outcome.world)


def explain_silences(decided: Decided, by_outage: AbstractSet[UUID]) -> None:
    """Name the outage as the cause of the silences that it explains, in what is written and what is remembered."""
    for place, change in enumerate(decided.changes):
        if by_outage.isdisjoint(silences_ended(change.events)):
            continue
        world, events = explained(change.world, change.events, by_outage)
        decided.changes[place] = replace(change, world=world, events=events)
        decided.after[place] = replace(decided.after[place], world=world)


def decide_tick(
    decided: Decided, stored: StoredWorld, rules: RuleBook, now: datetime, hearing: Hearing, partition: int
) -> None:
    """Let time pass for one pump; a change even without events, since the next deadline has moved."""
    outcome: Step = tick(stored.world, stored.profiles, rules, now, hearing)
    decided.changes.append(_change(stored, outcome.world, outcome.events, None, partition))
    decided.after.append(StoredWorld(stored.revision + 1, outcome.world, stored.profiles))


def _change(
    stored: StoredWorld, world: World, events: tuple[AlertEvent, ...], received_at: datetime | None, partition: int
) -> Change:
    return Change(
        pump_id=world.pump_id,
        kafka_partition=partition,
        revision=stored.revision,
        world=world,
        snapshot=snapshot(world, stored.profiles),
        events=events,
        received_at=received_at,
    )


def identity(received: Received) -> Identity:
    """What makes a report the same report: pump, boot and sequence number."""
    report = received.report
    return report.pump_id, report.boot_id, report.seq


def first_seen(decided: Decided) -> dict[Identity, bytes]:
    """What is known without the store of the repeats' identities: the batch's own readings, and held reports."""
    if not decided.repeated:
        return {}
    wanted = {identity(received) for received in decided.repeated}
    known = {
        key: fingerprint(received.report)
        for received in (*decided.readings, *decided.released)
        if (key := identity(received)) in wanted
    }
    return decided.held | known


def conflicts(repeated: Iterable[Received], known: Mapping[Identity, bytes]) -> list[Quarantined]:
    """Those repeats that say something else than what is stored under their identity (catalogue M.18)."""
    return [
        Quarantined(received, "conflict")
        for received in repeated
        if (stored := known.get(identity(received))) is not None and bytes(stored) != fingerprint(received.report)
    ]
