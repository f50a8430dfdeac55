"""From a record's reports to committed rows: decide, keep what cannot be used, write everything in one transaction.

The offset moves in the transaction that writes the effects. Only where PostgreSQL refuses a row are a record's reports
written in parts, under the same fence but without moving the offset: a crash in between repeats parts, and a repeated
report has no effect.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

import asyncpg
import structlog

from streams.dead_letters import DeadLetter, DeadLetterLimit, DeadLetterReason, DeadLetters, Limits
from streams.deciding import (
    Decided,
    by_pump,
    decide_conflicts,
    decide_pump,
    explain_silences,
    first_seen,
    identity,
    strays,
)
from streams.domain.outage import silences_ended
from streams.domain.pipeline import Disposition
from streams.domain.telemetry import Received
from streams.metrics import Failure, Metrics
from streams.partition import Partition, Record
from streams.rules_in_force import RulesInForce
from streams.store import Claim, Identity, StoredWorld, Work
from streams.topics import MAX_BATCH_REPORTS, MalformedBatch, decode_batch, encode_batch
from streams.worker_settings import Settings

REFUSALS: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,
    OverflowError,
)
"""PostgreSQL, or the way there, does not accept a value: trying the same again cannot help."""
SLICE_SECONDS: Final = 0.05
NOTHING: Final = Work((), (), ())


class ClinicalStore(Protocol):
    """What the worker asks of `streams.store.Store`; its promises are stated there."""

    async def next_offset(self, topic: str, partition: int) -> int | None:
        """The offset of the record to apply next."""

    async def worlds(self, pump_ids: Sequence[str]) -> dict[str, StoredWorld]:
        """The pumps' stored worlds; all that were asked for."""

    async def fingerprints(self, identities: Sequence[Identity]) -> Mapping[Identity, bytes]:
        """Fingerprints of stored readings."""

    async def silences_of_an_outage(self, alert_ids: Sequence[UUID]) -> set[UUID]:
        """Silences that an outage of their whole site explains."""

    async def due(self, partitions: Sequence[int], now: datetime, limit: int) -> list[str]:
        """Pumps whose deadline has passed."""

    async def pumps_after(self, partition: int, pump_id: str, limit: int) -> list[str]:
        """The partition's next pumps in the order of their ids."""

    async def apply(self, claims: Sequence[Claim], work: Work, now: datetime) -> None:
        """Write everything in one transaction, or nothing."""


class Apart(Exception):
    """Something in these records concerns one partition alone: nothing was written, settle each partition by itself."""


class TooManyDeadLetters(Exception):
    """A partition produces more dead letters than it may; it must stop before the next one."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A record and the reports in it."""

    record: Record
    reports: tuple[Received, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """One partition's part of a transaction: reports from ``run``, after which its offset is ``next_offset``."""

    partition: Partition
    run: Sequence[Opened]
    reports: Sequence[Received]
    next_offset: int


@dataclass(frozen=True, slots=True)
class Unusable:
    """A record that is kept as it is."""

    record: Record
    reason: DeadLetterReason
    error: str

    def letter(self, topic: str) -> DeadLetter:
        """The whole record as a dead letter."""
        record = self.record
        return DeadLetter(record.value, topic, record.partition, record.offset, None, self.reason, self.error)


class Applier:
    """Applies records of any partition; the caller holds the partition's lock and knows that the first one is next.

    Args:
        clock: Service time, aware UTC.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        store: ClinicalStore,
        rules: RulesInForce,
        dead_letters: DeadLetters,
        limits: Limits,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings, self._topic = settings, topic
        self._store, self._rules = store, rules
        self._dead_letters, self._limits = dead_letters, limits
        self._metrics, self._clock = metrics, clock
        self._limit_of: dict[int, DeadLetterLimit] = {}
        self._kept: dict[int, set[tuple[int, int | None]]] = {}

    async def apply(self, partition: Partition, records: Sequence[Record]) -> int:
        """Make the first of these records take effect, as many as fit one transaction, and move the offset past them.

        Args:
            partition: Of all the records; the caller holds its lock.
            records: With consecutive offsets, the first of which comes next.

        Returns:
            The offset of the record to apply next.

        Raises:
            Fenced: Another worker moved the offset; nothing was written.
            StaleWorlds: A pump was changed elsewhere; nothing was written.
            TooManyDeadLetters: The partition must stop; the offset did not move past the offender.
            PostgresError, OSError, TimeoutError, KafkaError: The outcome is unknown.
        """
        run: list[Opened] = []
        size = 0
        for record in records:
            opened = self._open(partition, record)
            if isinstance(opened, Unusable):
                if run:
                    break
                await self._divert(partition, opened.letter(self._topic))
                await self._move(partition, record)
                return record.offset + 1
            size += len(opened.reports)
            if run and size > MAX_BATCH_REPORTS:
                break
            run.append(opened)
        return await self._apply_run(partition, run)

    async def apply_together(self, taken: Sequence[tuple[Partition, Sequence[Record]]]) -> None:
        """Make all of these records take effect in one transaction, and move their partitions' offsets past them.

        Args:
            taken: Each partition once, with consecutive records the first of which comes next; the caller holds the
                locks, and knows that they are not too many for one transaction.

        Raises:
            Apart: A record or a report cannot be used; nothing was written.
            Exception: As `apply` raises them, and as PostgreSQL's refusals of a value.
        """
        shares = [self._share(partition, self._opened(partition, records)) for partition, records in taken]
        await self._write(shares)
        self._note(shares)

    def _opened(self, partition: Partition, records: Sequence[Record]) -> list[Opened]:
        run = []
        for record in records:
            opened = self._open(partition, record)
            if isinstance(opened, Unusable):
                raise Apart
            run.append(opened)
        return run

    async def _apply_run(self, partition: Partition, run: Sequence[Opened]) -> int:
        share = self._share(partition, run)
        try:
            await self._write((share,))
        except REFUSALS as error:
            partition.cache.clear()
            self._metrics.failures.labels(Failure.REFUSED).inc()
            if len(run) > 1:
                # Record by record, so that only the one with the offender is written in parts.
                return await self._apply_run(partition, run[:1])
            await self._isolate(partition, run[0], _grouped(share.reports), error)
            await self._move(partition, run[0].record)
        self._note((share,))
        return share.next_offset

    @staticmethod
    def _share(partition: Partition, run: Sequence[Opened]) -> Share:
        reports = [received for opened in run for received in opened.reports]
        return Share(partition, run, reports, run[-1].record.offset + 1)

    def _note(self, shares: Sequence[Share]) -> None:
        """What was committed counts: in the metrics, and as heard."""
        for share in shares:
            self._kept.pop(share.partition.number, None)
            for opened in share.run:
                self._metrics.batch_reports.observe(len(opened.reports))
            self._note_times(share.partition, share.reports)

    def _open(self, partition: Partition, record: Record) -> Opened | Unusable:
        try:
            reports = decode_batch(record.value).reports
        except MalformedBatch as error:
            return Unusable(record, DeadLetterReason.UNDECODABLE, type(error).__name__)
        pump_ids = {received.report.pump_id for received in reports}
        if strays(pump_ids, partition.number, self._settings.partitions):
            return Unusable(record, DeadLetterReason.WRONG_PARTITION, "StrayPump")
        return Opened(record, reports)

    async def _write(self, shares: Sequence[Share], *, released: bool = True) -> None:
        """One transaction for these shares; each offset goes to ``next_offset``, which may be where it is.

        Without ``released``, what these reports take out of quarantine takes effect, and is stored there only.
        """
        now = self._clock()
        decided = await self._decide(shares, now)
        await self._divert_poisoned(shares, decided)
        await self._find_conflicts(decided, now)
        await self.find_outages(decided)
        claims = [
            Claim(self._topic, share.partition.number, share.run[0].record.offset, share.next_offset)
            for share in shares
        ]
        started = time.perf_counter()
        readings = [*decided.readings, *decided.released] if released else decided.readings
        await self._store.apply(claims, Work(readings, decided.quarantined, decided.changes), now)
        self._metrics.transaction_seconds.observe(time.perf_counter() - started)
        remember({share.partition.number: share.partition for share in shares}, decided)
        for share in shares:
            await self._count_usable(share.partition, len(share.reports) - len(decided.poisoned))
        self._count(decided)

    async def _decide(self, shares: Sequence[Share], now: datetime) -> Decided:
        # Sorted over all shares: every writer then locks rows in the same order.
        groups, rules = by_pump(received for share in shares for received in share.reports), self._rules.book
        pumps = [(share.partition, {received.report.pump_id for received in share.reports}) for share in shares]
        numbers = {pump_id: partition.number for partition, pump_ids in pumps for pump_id in pump_ids}
        worlds = await self.worlds(pumps)
        decided = Decided()
        started = pause_at = time.perf_counter()
        for pump_id, group in groups.items():
            decide_pump(decided, worlds[pump_id], group, rules, now, numbers[pump_id])
            if time.perf_counter() - pause_at > SLICE_SECONDS:
                # Metrics and health answer between two pumps of a batch that takes long.
                await asyncio.sleep(0)
                pause_at = time.perf_counter()
        self._metrics.step_seconds.observe(time.perf_counter() - started)
        return decided

    async def _divert_poisoned(self, shares: Sequence[Share], decided: Decided) -> None:
        if decided.poisoned and len(shares) > 1:
            # Dead letters are counted by partition, and one that has too many must not hold up the others.
            raise Apart
        for poison in decided.poisoned:
            [share] = shares
            letter = self._letter(share.run, poison.received, DeadLetterReason.UNDECIDABLE, poison.error)
            await self._divert(share.partition, letter)

    async def worlds(self, pumps: Iterable[tuple[Partition, Collection[str]]]) -> dict[str, StoredWorld]:
        """The worlds of partitions' pumps, from memory where they are known; the caller holds the partitions' locks."""
        found: dict[str, StoredWorld] = {}
        missing: list[str] = []
        for partition, pump_ids in pumps:
            known, unknown = partition.cache.get(pump_ids)
            found.update(known)
            missing.extend(unknown)
        self._metrics.cache_hits.inc(len(found))
        if missing:
            self._metrics.cache_misses.inc(len(missing))
            found.update(await self._store.worlds(missing))
        return found

    async def _find_conflicts(self, decided: Decided, now: datetime) -> None:
        if not decided.repeated:
            return
        known: dict[Identity, bytes] = first_seen(decided)
        asked = [key for received in decided.repeated if (key := identity(received)) not in known]
        if asked:
            known.update(await self._store.fingerprints(asked))
        decide_conflicts(decided, known, self._rules.book, now, self._settings.partitions)
        for poison in decided.untold:
            structlog.get_logger().error("conflict of a pump not told", error=type(poison.error).__name__)

    async def find_outages(self, decided: Decided) -> None:
        """Say of the silences that end why: most end one by one, those of a site's outage together (SYS-01)."""
        ended = [alert_id for change in decided.changes for alert_id in silences_ended(change.events)]
        if ended and (by_outage := await self._store.silences_of_an_outage(ended)):
            explain_silences(decided, by_outage)

    async def _isolate(
        self, partition: Partition, opened: Opened, reports: Sequence[Received], error: Exception
    ) -> None:
        """Find the reports that PostgreSQL refuses by halving, keep them as dead letters, and write the rest."""
        if len(reports) == 1:
            await self._isolate_one(partition, opened, reports[0], error)
            return
        middle = len(reports) // 2
        for half in (reports[:middle], reports[middle:]):
            try:
                await self._write((Share(partition, (opened,), half, opened.record.offset),))
            except REFUSALS as refusal:
                partition.cache.clear()
                await self._isolate(partition, opened, half, refusal)

    async def _isolate_one(self, partition: Partition, opened: Opened, received: Received, error: Exception) -> None:
        """Keep it as a dead letter, unless PostgreSQL only refuses what it takes out of quarantine.

        That is in quarantine already, and would else make a dead letter of every report of its pump from now on.
        """
        try:
            await self._write((Share(partition, (opened,), (received,), opened.record.offset),), released=False)
        except REFUSALS:
            partition.cache.clear()
            await self._divert(partition, self._letter((opened,), received, DeadLetterReason.REFUSED, error))

    async def _move(self, partition: Partition, record: Record) -> None:
        claim = Claim(self._topic, partition.number, record.offset, record.offset + 1)
        await self._store.apply((claim,), NOTHING, self._clock())

    def _letter(
        self, run: Sequence[Opened], received: Received, reason: DeadLetterReason, error: Exception
    ) -> DeadLetter:
        """One report as a record of its own, which can be fed again; with its place in the record it came in."""
        record, index = next(
            (opened.record, index) for opened in run for index, one in enumerate(opened.reports) if one is received
        )
        value, name = encode_batch((received,)), type(error).__name__
        return DeadLetter(value, self._topic, record.partition, record.offset, index, reason, name)

    async def _divert(self, partition: Partition, letter: DeadLetter) -> None:
        """Keep one letter, unless an earlier try of the same record kept it already."""
        kept = self._kept.setdefault(partition.number, set())
        if (letter.offset, letter.index) in kept:
            return
        limit = await self._limit(partition)
        if not limit.divert(time.monotonic()):
            raise TooManyDeadLetters
        await self._dead_letters.put(letter, self._clock())
        kept.add((letter.offset, letter.index))
        await self._limits.save(self._topic, partition.number, limit.consecutive)
        self._metrics.dead_letters.labels(letter.reason).inc()

    async def _limit(self, partition: Partition) -> DeadLetterLimit:
        limit = self._limit_of.get(partition.number)
        if limit is None:
            consecutive = await self._limits.load(self._topic, partition.number)
            limit = DeadLetterLimit(
                self._settings.worker_dead_letters_in_a_row, self._settings.worker_dead_letter_ratio, consecutive
            )
            self._limit_of[partition.number] = limit
        return limit

    async def _count_usable(self, partition: Partition, count: int) -> None:
        limit = await self._limit(partition)
        before = limit.consecutive
        limit.usable(count, time.monotonic())
        if before and not limit.consecutive:
            await self._limits.save(self._topic, partition.number, 0)

    def forget_limit(self, partition: Partition) -> None:
        """Read the count again at the next need: another worker may have moved it."""
        self._limit_of.pop(partition.number, None)
        self._kept.pop(partition.number, None)

    def _count(self, decided: Decided) -> None:
        self._metrics.untold.inc(len(decided.untold))
        reports = self._metrics.reports
        counts = {
            Disposition.APPLIED.value: len(decided.readings) - decided.late,
            "released": len(decided.released),
            Disposition.LATE.value: decided.late,
            "dead_letter": len(decided.poisoned),
        }
        conflicting = sum(1 for quarantined in decided.quarantined if quarantined.reason == "conflict")
        counts["conflict"] = conflicting
        counts[Disposition.QUARANTINED_FUTURE.value] = len(decided.quarantined) - conflicting
        counts[Disposition.DUPLICATE.value] = len(decided.repeated) - conflicting
        for disposition, count in counts.items():
            if count:
                reports.labels(disposition).inc(count)
        for change in decided.changes:
            for event in change.events:
                self._metrics.alert_events.labels(event.kind, event.alert.priority).inc()

    def _note_times(self, partition: Partition, reports: Sequence[Received]) -> None:
        now = self._clock()
        self._metrics.latency.observe([(now - received.received_at).total_seconds() for received in reports])
        self._metrics.event_age.observe([(now - received.report.event_time).total_seconds() for received in reports])
        partition.heard(max(received.received_at for received in reports))


def remember(partitions: Mapping[int, Partition], decided: Decided) -> None:
    """Put what was committed into the memory of the pumps' partitions, by their numbers."""
    for change, after in zip(decided.changes, decided.after, strict=True):
        partitions[change.kafka_partition].cache.put(change.pump_id, after)


def _grouped(reports: Sequence[Received]) -> list[Received]:
    """Reports pump by pump: halves then split few pumps."""
    return [received for group in by_pump(reports).values() for received in group]
