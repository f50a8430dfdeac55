"""The Kafka edge: one report per record of ``pump.reports.v1``, key ``pump_id``.

The sender cannot be told what is wrong, so what cannot be used goes to the dead letters with its original bytes. Both
are acknowledged before the offset moves: a crash repeats, and loses nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from services.ingest.batching import Batcher, Taken
from services.ingest.judging import Reason, judge, reason_of
from services.ingest.metrics import Failure, Metrics, RequestOutcome, Transport
from services.ingest.publisher import NotAcknowledged, Publisher
from services.ingest.settings import Settings
from services.ingest.tokens import KnownGateways
from services.ingest.urgency import carries_alarm, lane_of
from streams import topics
from streams.dead_letters import DeadLetterLimit, PostgresLimits
from streams.domain.telemetry import Received, Rejected
from streams.operations import NO_DATABASE, version

GROUP: Final = "pumpwatch-ingest"
SCHEMA_VERSION: Final = "1"
CALL_SECONDS: Final = 10.0
START_SECONDS: Final = 30.0
POLL_MS: Final = 500
MOST_RECORDS: Final = 1_000
RETRY_SECONDS: Final = 1.0
FAILING_SECONDS: Final = 60.0
"""Sessions that fail for so long one after the other need an operator: it may be a record that cannot be read."""
STEADY_SECONDS: Final = 10.0
"""A session that reads for so long works again; a record that cannot be read ends each within a fetch or two."""
KEPT_KEY_BYTES: Final = 1024
TROUBLE: Final = (KafkaError, OSError, TimeoutError, NotAcknowledged)


@dataclass(frozen=True, slots=True)
class Unusable:
    """A record that cannot be used, as Kafka gave it."""

    record: Any
    reason: Reason


def judge_record(key: bytes | None, value: bytes | None, now: datetime, known: KnownGateways) -> Received | Reason:
    """The report in a record, or why there is none; the key must be the report's ``pump_id`` in UTF-8.

    Kafka decides who may write here, so a gateway that is not known may pass reports on; it is not a clinic's then.
    """
    if value is None:
        return Reason.NO_VALUE
    report = judge(value, now)
    if isinstance(report, Rejected):
        return reason_of(report)
    if key != report.pump_id.encode():
        return Reason.KEY_MISMATCH
    return Received(report=report, received_at=now, clinic=known.in_clinic(report.gateway_id))


def kept(data: bytes, most: int, name: str) -> tuple[bytes, dict[str, str]]:
    """As much of a key or value as a dead letter can hold, and headers that say what was cut off, if anything.

    Kafka takes larger ones from others than from us where they come compressed.
    """
    if len(data) <= most:
        return data, {}
    return data[:most], {f"full_{name}_bytes": str(len(data)), f"full_{name}_sha256": hashlib.sha256(data).hexdigest()}


def letter_headers(unusable: Unusable, now: datetime, cut: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """Where a dead letter came from and why it is one, and what was ``cut``; no text of the record itself."""
    record = unusable.record
    fields = {
        "origin_topic": record.topic,
        "origin_partition": str(record.partition),
        "origin_offset": str(record.offset),
        "origin_timestamp": str(record.timestamp),
        "edge": Transport.KAFKA.value,
        "reason": unusable.reason.value,
        "error": "Rejected",
        "schema_version": SCHEMA_VERSION,
        "app_version": version(),
        "recorded_at": now.isoformat(),
        **cut,
    }
    return [(name, text.encode()) for name, text in fields.items()]


@dataclass(slots=True)
class _Sorted:
    """What one poll holds, and up to which offset each partition was looked at."""

    taken: list[Taken] = field(default_factory=list)
    unusable: list[Unusable] = field(default_factory=list)
    alarm: bool = False
    following: dict[TopicPartition, int] = field(default_factory=dict)


class _Assignment(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Forgets limits of partitions that moved, so that they are read again where they come back."""

    def __init__(self, forget: Callable[[], None]) -> None:
        self._forget = forget

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self._forget()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Nothing to do: limits are read when a partition's first record comes."""


class KafkaEdge:
    """Reads reports from Kafka.

    Args:
        settings: Topics and limits.
        batcher: Where usable reports go.
        publisher: Puts dead letters on Kafka.
        limits: Remembers each partition's dead letters in a row.
        known: Tells a clinic's gateways from those at homes.
        metrics: Where it counts.
        clock: Service time, aware UTC.
        make: Makes a consumer; for tests.
        failing_seconds: After so long without a steady session the edge says that it fails.
    """

    def __init__(
        self,
        settings: Settings,
        batcher: Batcher,
        publisher: Publisher,
        limits: PostgresLimits,
        known: KnownGateways,
        metrics: Metrics,
        clock: Callable[[], datetime],
        *,
        make: Callable[..., AIOKafkaConsumer] = AIOKafkaConsumer,
        failing_seconds: float = FAILING_SECONDS,
    ) -> None:
        self._settings, self._batcher, self._publisher = settings, batcher, publisher
        self._make, self._failing_seconds = make, failing_seconds
        self._stored_limits, self._known, self._metrics, self._clock = limits, known, metrics, clock
        self._topic = settings.topic(topics.REPORTS.name)
        self._dead_letters = settings.topic(topics.DEAD_LETTERS.name)
        self._age: timedelta = settings.backlog_age
        self._limits: dict[TopicPartition, DeadLetterLimit] = {}
        self._saved: dict[TopicPartition, int] = {}
        self._stopped: set[TopicPartition] = set()
        self._failing_since: float | None = None
        self._failure = ""

    def stopped(self) -> str | None:
        """Why this edge needs an operator; None while it does not."""
        failing = 0.0 if self._failing_since is None else time.monotonic() - self._failing_since
        if failing > self._failing_seconds:
            return f"{self._topic} cannot be read: {self._failure}"
        if not self._stopped:
            return None
        return f"{len(self._stopped)} partitions of {self._topic} have too many unusable records and are stopped"

    async def run(self) -> None:
        """Read until cancelled; whatever fails is tried again from the committed offset."""
        while True:
            try:
                await self._session()
            except TROUBLE as error:
                self._failure, self._failing_since = type(error).__name__, self._failing_since or time.monotonic()
                self._metrics.failures.labels(Failure.KAFKA_EDGE).inc()
                self._metrics.requests.labels(Transport.KAFKA, RequestOutcome.UNAVAILABLE).inc()
                structlog.get_logger().warning("kafka edge interrupted", error=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)

    async def _session(self) -> None:
        consumer = self._make(
            **self._settings.kafka_client(),
            group_id=self._settings.topic(GROUP),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(self._settings.ingest_session_seconds * 1000),
        )
        consumer.subscribe([self._topic], listener=_Assignment(self._forget))
        try:
            async with asyncio.timeout(START_SECONDS):
                await consumer.start()
            reads_since = None
            while True:
                found = await consumer.getmany(timeout_ms=POLL_MS, max_records=MOST_RECORDS)
                if found:
                    await self._take(consumer, found)
                reads_since = reads_since or time.monotonic()
                if time.monotonic() - reads_since > STEADY_SECONDS:
                    self._failing_since = None
        finally:
            self._forget()
            async with asyncio.timeout(START_SECONDS):
                await consumer.stop()

    def _forget(self) -> None:
        self._limits.clear()
        self._saved.clear()
        self._stopped.clear()
        self._metrics.stopped_partitions.set(0)

    async def _take(self, consumer: AIOKafkaConsumer, found: Mapping[TopicPartition, Sequence[Any]]) -> None:
        """Pass on what is usable, put aside what is not, and only then move the offsets."""
        began, result = time.perf_counter(), _Sorted()
        for partition, records in found.items():
            await self._sort(consumer, partition, records, result)
        if not result.following:
            return  # The first record of each stopped its partition: there is nothing to pass on or to commit.
        now = self._clock()
        await asyncio.gather(*(self._put_aside(one, now) for one in result.unusable))
        await self._pass_on(result)
        await self._save_limits(result.following)
        async with asyncio.timeout(CALL_SECONDS):
            await consumer.commit(result.following)
        outcome = RequestOutcome.PARTLY_ACCEPTED if result.unusable else RequestOutcome.ACCEPTED
        self._metrics.requests.labels(Transport.KAFKA, outcome).inc()
        self._metrics.duration.labels(Transport.KAFKA).observe(time.perf_counter() - began)
        for lane, count in Counter(one.lane for one in result.taken).items():
            self._metrics.accepted.labels(Transport.KAFKA, lane).inc(count)

    async def _sort(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, records: Sequence[Any], result: _Sorted
    ) -> None:
        limit, now = await self._limit(partition), self._clock()
        for record in records:
            judged = judge_record(record.key, record.value, now, self._known)
            if isinstance(judged, Received):
                limit.usable(1, time.monotonic())
                result.alarm = result.alarm or carries_alarm(judged.report)
                lane = lane_of(judged.report, now, self._age)
                result.taken.append(Taken(judged, lane, len(record.value)))
            elif limit.divert(time.monotonic()):
                result.unusable.append(Unusable(record, judged))
            else:
                self._stop(consumer, partition, record.offset)
                return
            result.following[partition] = record.offset + 1

    def _stop(self, consumer: AIOKafkaConsumer, partition: TopicPartition, offset: int) -> None:
        """Leave a partition where it is: a faulty sender must not divert everything unnoticed."""
        consumer.pause(partition)
        consumer.seek(partition, offset)
        self._stopped.add(partition)
        self._metrics.stopped_partitions.set(len(self._stopped))
        structlog.get_logger().error("kafka edge partition stopped", partition=partition.partition, offset=offset)

    async def _put_aside(self, unusable: Unusable, now: datetime) -> None:
        record = unusable.record
        # A record with neither key nor value cannot be sent; the reason says that there was no value.
        value, cut = kept(b"" if record.value is None else record.value, topics.MAX_RECORD_BYTES, "value")
        key, key_cut = (None, {}) if record.key is None else kept(record.key, KEPT_KEY_BYTES, "key")
        headers = letter_headers(unusable, now, {**cut, **key_cut})
        await self._publisher.publish(self._dead_letters, value, key=key, headers=headers)
        self._metrics.dead_letters.labels(unusable.reason).inc()
        self._metrics.rejected.labels(Transport.KAFKA, unusable.reason).inc()

    async def _pass_on(self, result: _Sorted) -> None:
        """Wait for room and for the acknowledgement; sooner or later the session is given up and begins anew."""
        async with asyncio.timeout(self._settings.ingest_produce_seconds):
            while (acceptance := self._batcher.offer(result.taken, alarm=result.alarm)) is None:
                await asyncio.sleep(0.05)
        if not await acceptance.acknowledged(self._settings.ingest_produce_seconds + 1):
            raise NotAcknowledged(topics.TELEMETRY.name, "batch failed")

    async def _limit(self, partition: TopicPartition) -> DeadLetterLimit:
        limit = self._limits.get(partition)
        if limit is None:
            settings = self._settings
            limit = self._limits[partition] = DeadLetterLimit(
                settings.ingest_dead_letters_in_a_row,
                settings.ingest_dead_letter_ratio,
                await self._stored(partition),
            )
            self._saved[partition] = limit.consecutive
        return limit

    async def _stored(self, partition: TopicPartition) -> int:
        try:
            return await self._stored_limits.load(self._topic, partition.partition)
        except NO_DATABASE as error:
            self._limit_trouble(error)
            return 0

    async def _save_limits(self, following: Mapping[TopicPartition, int]) -> None:
        """Remember the counts; without PostgreSQL they only live as long as this process."""
        try:
            for partition, limit in list(self._limits.items()):
                count = limit.consecutive
                if partition in following and count != self._saved.get(partition, 0):
                    await self._stored_limits.save(self._topic, partition.partition, count)
                    self._saved[partition] = count
        except NO_DATABASE as error:
            self._limit_trouble(error)

    def _limit_trouble(self, error: BaseException) -> None:
        self._metrics.failures.labels(Failure.DEAD_LETTER_LIMIT).inc()
        structlog.get_logger().warning("dead letter limit not stored", error=type(error).__name__)
