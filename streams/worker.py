"""Takes telemetry records in order, each exactly once in effect, however often and by whomever they are delivered.

PostgreSQL's offset is the truth. A record below it was applied before; one above it means that something in between was
skipped, and nothing is applied until that was read. Faust acknowledges a record whatever happens to it, so nothing may
escape `Worker.handle`: what cannot be settled ends the process, and the next start reads the record again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final, NoReturn, Protocol

import asyncpg
import stamina
import structlog
from aiokafka.errors import KafkaError

from streams.applying import Apart, Applier, ClinicalStore, TooManyDeadLetters
from streams.metrics import Failure, Metrics, RecordOutcome
from streams.partition import LogRange, Partition, Record, Stop, consecutive
from streams.store import Fenced, StaleWorlds
from streams.turns import Load, Turns
from streams.worker_settings import Settings

SEEK_AGAIN_SECONDS: Final = 2.0
FIRST_WAIT_SECONDS: Final = 0.05
LONGEST_WAIT_SECONDS: Final = 2.0

TRANSIENT: Final = (
    OSError,
    TimeoutError,
    KafkaError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.TransactionRollbackError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.OperatorInterventionError,
    asyncpg.InternalClientError,
)
"""Trying again can help: the network, a restart, a deadlock, a limit of connections or time."""


class Unsettled(Exception):
    """Somebody moved the stored offset while the outcome of our own try was unknown: it may have been ourselves."""


class Fatal(Protocol):
    """Ends the process at once: what happened must not be acknowledged as done."""

    def __call__(self, event: str, error: BaseException | None = None, **fields: object) -> NoReturn:
        """Log, and exit."""


class Offsets(Protocol):
    """Where the consumed offsets are kept, beside what `ClinicalStore` reads of them."""

    async def begin(self, partition: int, offset: int, topic_id: str | None) -> None:
        """Make the row of a partition never seen before."""

    async def topic_id(self, partition: int) -> str | None:
        """The id of the topic whose offset is stored; None: not known."""


class Worker:
    """The partitions that are ours, and what happens to their records.

    Args:
        topic: Name on the broker.
        fatal: Called with what must not go on.
        first_wait_seconds: Pause before the second try of a record; it doubles with each further one.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        store: ClinicalStore,
        offsets: Offsets,
        applier: Applier,
        metrics: Metrics,
        fatal: Fatal,
        *,
        first_wait_seconds: float = FIRST_WAIT_SECONDS,
    ) -> None:
        self.topic = topic
        self._settings, self._store, self._offsets = settings, store, offsets
        self._applier, self._metrics, self._fatal = applier, metrics, fatal
        self._first_wait_seconds = first_wait_seconds
        # One connection stays free for ticks and heartbeats; a decoded record that waits for one would fill memory.
        self._transactions = max(1, settings.worker_connections - 1)
        self._at_once = asyncio.Semaphore(self._transactions)
        self._turns = Turns()
        self._runners: list[asyncio.Task[None]] = []
        self._partitions: dict[int, Partition] = {}
        self._log = structlog.get_logger()
        self.seek_back: Callable[[int, int], Awaitable[None]] | None = None
        """Makes the consumer read a partition again from an offset; set by the app."""
        self.pause: Callable[[int], None] = _nothing
        self.go_on: Callable[[int], None] = _nothing
        """Fetch a partition no longer, and again; set by the app."""

    @property
    def partitions(self) -> list[Partition]:
        """The partitions that the broker gave to us, stopped ones too."""
        return [partition for partition in self._partitions.values() if partition.assigned]

    # Assignment -------------------------------------------------------------------------------------------------------

    async def assigned(self, logs: Mapping[int, LogRange]) -> dict[int, int]:
        """Take over exactly these partitions; returns the offset to read each from."""
        self.revoked(set(self._partitions) - set(logs))
        positions = {number: await self._take_over(number, log) for number, log in sorted(logs.items())}
        if not self._runners:
            self._runners = [asyncio.create_task(self._run()) for _ in range(self._transactions)]
            for runner in self._runners:
                runner.add_done_callback(self._ended)
        return positions

    def _ended(self, runner: asyncio.Task[None]) -> None:
        """Without runners nothing would be settled, and nobody would be told."""
        if not runner.cancelled():
            self._fatal("settling ended", runner.exception())

    def revoked(self, numbers: Iterable[int]) -> None:
        """The broker took these away."""
        for number in numbers:
            partition = self._partitions.get(number)
            if partition is not None and partition.assigned:
                partition.let_go()
                self._applier.forget_limit(partition)
        self._count_partitions()

    async def release(self, numbers: Iterable[int]) -> None:
        """The broker takes these away: begin nothing more on them, and let what is under way end first."""
        gone = [partition for number in numbers if (partition := self._partitions.get(number)) is not None]
        self.revoked(partition.number for partition in gone)
        try:
            async with asyncio.timeout(self._settings.worker_transaction_seconds):
                for partition in gone:
                    async with partition.lock:
                        partition.cache.clear()
        except TimeoutError:
            # The next owner's fence takes care of what still comes.
            self._log.warning("partitions released with work under way")

    async def _take_over(self, number: int, log: LogRange) -> int:
        partition = self._partitions.get(number)
        if partition is None:
            limit = max(1, self._settings.worker_cache_pumps // self._settings.partitions)
            partition = self._partitions[number] = Partition(number, limit)
        async with partition.lock:
            stored = await self._store.next_offset(self.topic, number)
            if stored is None:
                stored = log.start
                await self._offsets.begin(number, stored, log.topic_id)
            stopped = await self._why_not(number, stored, log)
            partition.take_over(stored, stopped, time.monotonic(), log.topic_id)
        # What filled its inbox was forgotten: no record of it is left whose turn would let fetching go on.
        self.go_on(number)
        if stopped is not None:
            self._log.error(
                "partition refused", partition=number, reason=stopped, next_offset=stored, log_start=log.start,
                log_end=log.end,
            )  # fmt: skip
        self._count_partitions()
        return min(max(stored, log.start), log.end)

    async def _why_not(self, number: int, stored: int, log: LogRange) -> Stop | None:
        known_id = await self._offsets.topic_id(number)
        if known_id is not None and log.topic_id is not None and known_id != log.topic_id:
            return Stop.OTHER_TOPIC
        if stored < log.start:
            return Stop.LOG_START
        return Stop.LOG_END if stored > log.end else None

    def stop(self, partition: Partition, reason: Stop) -> None:
        """Work on a partition no longer, and say so; its lag grows until somebody acts."""
        partition.stop(reason)
        self.pause(partition.number)
        self._log.error("partition stopped", partition=partition.number, reason=reason)
        self._count_partitions()

    def fenced(self, partition: Partition) -> bool:
        """Another worker moved the stored offset; whether the partition is stopped for it.

        Once per assignment it may have been the last transaction of the owner before us: the stored offset is read
        again. Twice means that somebody else works on it, and that the broker has not told us yet.
        """
        self._metrics.failures.labels(Failure.FENCED).inc()
        partition.fences += 1
        if partition.fences == 1:
            partition.forget()
            return False
        self.stop(partition, Stop.FENCED)
        return True

    def _count_partitions(self) -> None:
        ours = self.partitions
        self._metrics.partitions.set(sum(1 for partition in ours if partition.open))
        for reason in Stop:
            self._metrics.stopped.labels(reason).set(sum(1 for partition in ours if partition.stopped is reason))

    def forget_pump(self, pump_id: str) -> None:
        """Drop a pump whose profile changed; an empty id drops every pump."""
        for partition in self._partitions.values():
            if pump_id:
                partition.cache.drop(pump_id)
            else:
                partition.cache.clear()

    # Records ----------------------------------------------------------------------------------------------------------

    def offer(self, record: Record) -> None:
        """Take a record from the broker; it is settled in its turn."""
        partition = self._partitions.get(record.partition)
        if partition is None or not partition.open:
            self._metrics.records.labels(RecordOutcome.IGNORED).inc()
            return
        partition.inbox.put(record)
        self._turns.put(partition)
        if partition.inbox.full:
            self.pause(record.partition)

    async def _run(self) -> None:
        """Settle what is offered, the records of each partition in order, until cancelled."""
        while True:
            load = await self._turns.take()
            try:
                if not await self._settle_together(load):
                    await asyncio.gather(*(self.handle(*records) for _, records in load))
            finally:
                self._turns.done(load)
            for partition, _ in load:
                if partition.open and partition.inbox.low:
                    self.go_on(partition.number)

    async def close(self) -> None:
        """Settle nothing more; what is under way is left to the next start."""
        for runner in self._runners:
            runner.cancel()
        await asyncio.gather(*self._runners, return_exceptions=True)

    async def _settle_together(self, load: Load) -> bool:
        """Settle all of these in one transaction; False: they are to be settled partition by partition.

        Whatever is out of the ordinary in one partition is settled there, where it cannot hold up the others.
        """
        if len(load) == 1:
            return False  # Nothing is saved, and alone it takes fewer steps.
        async with AsyncExitStack() as held:
            for partition, _ in load:
                await held.enter_async_context(partition.lock)
            if not all(partition.expects(records) for partition, records in load):
                return False
            for partition, records in load:
                partition.tried_until = records[-1].offset + 1
            try:
                async with self._at_once, asyncio.timeout(self._settings.worker_transaction_seconds):
                    await self._applier.apply_together(load)
            except Apart:
                return False
            except BaseException as error:
                self._not_committed(error, *(partition for partition, _ in load))
                if not isinstance(error, Exception):
                    raise
                self._log.info("partitions not settled together", error=type(error).__name__)
                return False
            for partition, records in load:
                self._note_applied(partition, records[-1].offset + 1)
        return True

    async def handle(self, *records: Record) -> None:
        """Settle records of one partition; never raises: what cannot be settled ends the process."""
        try:
            partition = self._partitions.get(records[0].partition)
            if partition is None:
                self._metrics.records.labels(RecordOutcome.IGNORED).inc(len(records))
                return
            async with partition.lock:
                pending: Sequence[Record] = records
                while pending:
                    pending = await self._settle_some(partition, pending)
        except Exception as error:  # noqa: BLE001 - Faust takes the records for done: the next start reads them again
            self._fatal("records not settled", error, partition=records[0].partition, offset=records[0].offset)

    async def _settle_some(self, partition: Partition, pending: Sequence[Record]) -> Sequence[Record]:
        """Try until the first of these are settled or the patience is over; returns those that are left.

        What took too long is tried again with the first record alone: all of them would take as long again.
        """
        retries = stamina.retry_context(
            on=_worth_another_try,
            attempts=None,
            timeout=self._settings.worker_retry_seconds,
            wait_initial=self._first_wait_seconds,
            wait_max=LONGEST_WAIT_SECONDS,
            wait_jitter=self._first_wait_seconds,
        )
        left: Sequence[Record] = ()
        most = len(pending)
        async for attempt in retries:
            with attempt:
                try:
                    left = await self._attempt(partition, pending[:most], first=attempt.num == 1)
                except TimeoutError:
                    most = 1
                    raise
        return [*left, *pending[most:]]

    async def _attempt(self, partition: Partition, taken: Sequence[Record], *, first: bool) -> Sequence[Record]:
        try:
            async with self._at_once, asyncio.timeout(self._settings.worker_transaction_seconds):
                if not partition.open:
                    self._metrics.records.labels(RecordOutcome.IGNORED).inc(len(taken))
                    return ()
                await self.make_sure(partition)
                pending = self._without_done(partition, taken)
                if pending and pending[0].offset > partition.next_offset:
                    await self._go_back(partition, pending)
                    return ()
                return await self._apply(partition, pending, first=first) if pending else ()
        except BaseException as error:
            self._not_committed(error, partition)
            raise

    def _not_committed(self, error: BaseException, *partitions: Partition) -> None:
        """Cancellation too: whether the transaction was committed is unknown, unless the fence did not hold."""
        for partition in partitions:
            partition.forget()
            if isinstance(error, Fenced):
                partition.tried_until = 0
        if isinstance(error, TRANSIENT):
            self._metrics.failures.labels(Failure.TRANSIENT).inc()

    def _without_done(self, partition: Partition, pending: Sequence[Record]) -> Sequence[Record]:
        """What lies below the stored offset was applied: by somebody before, or by the try whose answer was lost."""
        left = [record for record in pending if record.offset >= partition.next_offset]
        for record in pending[: len(pending) - len(left)]:
            tried = record.offset < partition.tried_until
            self._metrics.records.labels(RecordOutcome.APPLIED if tried else RecordOutcome.SKIPPED).inc()
        return left

    async def make_sure(self, partition: Partition) -> None:
        """Ask PostgreSQL for the next offset where memory may be wrong; the caller holds the partition's lock."""
        if not partition.unsure:
            return
        stored = await self._store.next_offset(self.topic, partition.number)
        if stored is None:
            self._fatal("the stored offset is gone", partition=partition.number)
        if stored != partition.next_offset:
            partition.moved_to(stored, time.monotonic())
        partition.unsure = False

    async def _go_back(self, partition: Partition, pending: Sequence[Record]) -> None:
        """Something in between was skipped: read again from the stored offset. Records after it only come once more."""
        self._metrics.records.labels(RecordOutcome.GAP).inc(len(pending))
        now = time.monotonic()
        if partition.seek_at is not None and now - partition.seek_at < SEEK_AGAIN_SECONDS:
            return
        partition.seek_at = now
        self._log.warning(
            "gap before a record; reading again", partition=partition.number, offset=pending[0].offset,
            next_offset=partition.next_offset,
        )  # fmt: skip
        if self.seek_back is None:
            self._fatal("gap before a record", partition=partition.number, offset=pending[0].offset)
        await self.seek_back(partition.number, partition.next_offset)

    async def _apply(self, partition: Partition, pending: Sequence[Record], *, first: bool) -> Sequence[Record]:
        run = consecutive(pending)
        partition.tried_until = run[-1].offset + 1
        try:
            next_offset = await self._applier.apply(partition, run)
        except StaleWorlds:
            self._metrics.failures.labels(Failure.STALE).inc()
            raise
        except Fenced as error:
            partition.tried_until = 0
            if not first or not self.fenced(partition):
                raise Unsettled from error
            return ()
        except TooManyDeadLetters:
            self.stop(partition, Stop.DEAD_LETTERS)
            return ()
        self._note_applied(partition, next_offset)
        return [record for record in pending if record.offset >= next_offset]

    def _note_applied(self, partition: Partition, next_offset: int) -> None:
        self._metrics.applied_records.inc(next_offset - partition.next_offset)
        self._metrics.last_processed.set_to_current_time()
        partition.moved_to(next_offset, time.monotonic())
        partition.tried_until = 0


def _nothing(partition: int) -> None:
    pass


def _worth_another_try(error: Exception) -> bool:
    return isinstance(error, (*TRANSIENT, StaleWorlds, Unsettled))
