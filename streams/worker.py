"""Takes telemetry records in order, each exactly once in effect, however often and by whomever they are delivered.

PostgreSQL's offset is the truth. A record below it was applied before; one above it means that something in between was
skipped, and nothing is applied until that was read. Faust acknowledges a record whatever happens to it, so nothing may
escape `Worker.handle`: what cannot be settled ends the process, and the next start reads the record again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, NoReturn, Protocol

import asyncpg
import stamina
import structlog
from aiokafka.errors import KafkaError

from streams.applying import Applier, ClinicalStore, Record, TooManyDeadLetters
from streams.metrics import Failure, Metrics, RecordOutcome
from streams.partition import LogRange, Partition, Stop
from streams.store import Fenced, StaleWorlds
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
        self._at_once = asyncio.Semaphore(max(1, settings.worker_connections - 1))
        self._partitions: dict[int, Partition] = {}
        self._log = structlog.get_logger()
        self.seek_back: Callable[[int, int], Awaitable[None]] | None = None
        """Makes the consumer read a partition again from an offset; set by the app."""

    @property
    def partitions(self) -> list[Partition]:
        """The partitions that the broker gave to us, stopped ones too."""
        return [partition for partition in self._partitions.values() if partition.assigned]

    # Assignment -------------------------------------------------------------------------------------------------------

    async def assigned(self, logs: Mapping[int, LogRange]) -> dict[int, int]:
        """Take over exactly these partitions; returns the offset to read each from."""
        self.revoked(set(self._partitions) - set(logs))
        return {number: await self._take_over(number, log) for number, log in sorted(logs.items())}

    def revoked(self, numbers: Iterable[int]) -> None:
        """The broker took these away."""
        for number in numbers:
            partition = self._partitions.get(number)
            if partition is not None and partition.assigned:
                partition.let_go()
                self._applier.forget_limit(partition)
        self._count_partitions()

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
            partition.take_over(stored, stopped, time.monotonic())
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
        self._log.error("partition stopped", partition=partition.number, reason=reason)
        self._count_partitions()

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

    async def handle(self, record: Record) -> None:
        """Settle one record. Never raises: what is neither done nor harmless to repeat ends the process."""
        try:
            partition = self._partitions.get(record.partition)
            if partition is None or not partition.open:
                self._metrics.records.labels(RecordOutcome.IGNORED).inc()
                return
            async with partition.lock:
                await self._settle(partition, record)
        except Exception as error:  # noqa: BLE001 - Faust would acknowledge the record and go on to the next
            self._fatal("record not settled", error, partition=record.partition, offset=record.offset)

    async def _settle(self, partition: Partition, record: Record) -> None:
        """Try until the record is settled or the patience is over."""
        retries = stamina.retry_context(
            on=_worth_another_try,
            attempts=None,
            timeout=self._settings.worker_retry_seconds,
            wait_initial=self._first_wait_seconds,
            wait_max=LONGEST_WAIT_SECONDS,
            wait_jitter=self._first_wait_seconds,
        )
        async for attempt in retries:
            with attempt:
                await self._attempt(partition, record, first=attempt.num == 1)

    async def _attempt(self, partition: Partition, record: Record, *, first: bool) -> None:
        if not partition.open:
            self._metrics.records.labels(RecordOutcome.IGNORED).inc()
            return
        try:
            async with self._at_once, asyncio.timeout(self._settings.worker_transaction_seconds):
                if await self._is_next(partition, record, first=first):
                    await self._apply(partition, record, first=first)
        except BaseException as error:
            # Cancellation too: whether the transaction was committed is unknown.
            partition.forget()
            if isinstance(error, TRANSIENT):
                self._metrics.failures.labels(Failure.TRANSIENT).inc()
            raise

    async def _is_next(self, partition: Partition, record: Record, *, first: bool) -> bool:
        """Whether this record comes next."""
        await self.make_sure(partition)
        if record.offset == partition.next_offset:
            return True
        if record.offset < partition.next_offset:
            self._metrics.records.labels(RecordOutcome.SKIPPED if first else RecordOutcome.APPLIED).inc()
            return False
        await self._go_back(partition, record)
        return False

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

    async def _go_back(self, partition: Partition, record: Record) -> None:
        """Something in between was skipped: read again from the stored offset. Records after it only come once more."""
        self._metrics.records.labels(RecordOutcome.GAP).inc()
        now = time.monotonic()
        if partition.seek_at is not None and now - partition.seek_at < SEEK_AGAIN_SECONDS:
            return
        partition.seek_at = now
        self._log.warning(
            "gap before a record; reading again", partition=partition.number, offset=record.offset,
            next_offset=partition.next_offset,
        )  # fmt: skip
        if self.seek_back is None:
            self._fatal("gap before a record", partition=partition.number, offset=record.offset)
        await self.seek_back(partition.number, partition.next_offset)

    async def _apply(self, partition: Partition, record: Record, *, first: bool) -> None:
        try:
            await self._applier.apply(partition, record)
        except StaleWorlds:
            self._metrics.failures.labels(Failure.STALE).inc()
            raise
        except Fenced as error:
            self._metrics.failures.labels(Failure.FENCED).inc()
            if not first:
                raise Unsettled from error
            self.stop(partition, Stop.FENCED)
        except TooManyDeadLetters:
            self.stop(partition, Stop.DEAD_LETTERS)
        else:
            partition.moved_to(record.offset + 1, time.monotonic())
            self._metrics.applied_records.inc()
            self._metrics.last_processed.set_to_current_time()


def _worth_another_try(error: Exception) -> bool:
    return isinstance(error, (*TRANSIENT, StaleWorlds, Unsettled))
