"""Moves old reports from the backlog to the worker, only as fast as the worker keeps up.

A record is moved as it is, then Kafka's offset is committed: a crash between the two moves it again, and the identity
of each report takes care of that. What is under way to the worker stays below a window, so a fresh alarm never finds
more than a fraction of a second of old reports before it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.ingest.batching import MAX_BACKLOG_REPORTS, REPORTS_HEADER
from services.ingest.metrics import Failure, FeederState, Metrics
from services.ingest.pace import Pace, Window
from services.ingest.publisher import NotAcknowledged, Publisher
from services.ingest.settings import Settings
from streams import topics
from streams.operations import NO_DATABASE, STATEMENT_SECONDS
from streams.topics import MAX_BATCH_REPORTS, MAX_RECORD_BYTES

CALL_SECONDS: Final = 10.0
START_SECONDS: Final = 30.0
POLL_MS: Final = 1_000
MOST_RECORDS: Final = 100
RETRY_SECONDS: Final = 2.0
MAX_POLL_MS: Final = 24 * 3600 * 1000
"""A worker may be away for hours; until then the feeder only holds a few records and must not lose its place."""
TROUBLE: Final = (KafkaError, NotAcknowledged, *NO_DATABASE)


async def applied_offsets(pool: asyncpg.Pool, topic: str) -> dict[int, int]:
    """Each partition's next offset to apply, as the worker committed it."""
    rows = await pool.fetch(
        "SELECT partition, next_offset FROM consumed WHERE topic = $1", topic, timeout=STATEMENT_SECONDS
    )
    return {row["partition"]: row["next_offset"] for row in rows}


def reports_in(headers: Any) -> int:
    """How many reports a record of the backlog says it holds; the most there can be when it does not say."""
    for name, value in headers:
        if name == REPORTS_HEADER and value.isdigit():
            return max(1, min(int(value), MAX_BATCH_REPORTS))
    return MAX_BATCH_REPORTS


class UnderWay:
    """What was moved and is not applied yet."""

    def __init__(self) -> None:
        self._moved: dict[int, deque[tuple[int, int]]] = {}
        self.reports = 0

    def add(self, partition: int, offset: int, reports: int) -> None:
        """A record of so many reports now stands at this offset of the telemetry topic."""
        self._moved.setdefault(partition, deque()).append((offset, reports))
        self.reports += reports

    def applied(self, offsets: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """Forget what lies below each partition's next offset to apply, and what is no longer in its log.

        Args:
            offsets: Each partition's next offset to apply.
            ends: Each partition's end offset, asked for later. Below what was moved: the topic was made anew.
        """
        for partition, moved in self._moved.items():
            following = offsets.get(partition, 0)
            gone = bool(moved) and ends.get(partition, math.inf) <= moved[-1][0]
            while moved and (gone or moved[0][0] < following):
                self.reports -= moved.popleft()[1]


class Feeder:
    """One consumer of the backlog per process, all in one group.

    Args:
        settings: Topics, and how far the worker may fall behind.
        publisher: Puts records on the telemetry topic.
        pool: PostgreSQL, where the worker's progress stands.
        metrics: Where it counts.
    """

    def __init__(self, settings: Settings, publisher: Publisher, pool: asyncpg.Pool, metrics: Metrics) -> None:
        self._settings, self._publisher, self._pool, self._metrics = settings, publisher, pool, metrics
        self._backlog = settings.topic(topics.BACKLOG.name)
        self._telemetry = settings.topic(topics.TELEMETRY.name)
        self._pause = settings.ingest_feeder_pause_ms / 1000
        self._pace = Pace()
        self._window = Window(settings.ingest_feeder_reports, settings.ingest_feeder_lag_ms / 1000)
        self._under_way = UnderWay()
        self._partitions = [TopicPartition(self._telemetry, number) for number in range(settings.partitions)]

    async def run(self) -> None:
        """Move until cancelled; whatever fails is tried again from the committed offset."""
        while True:
            try:
                await self._session()
            except TROUBLE as error:
                self._metrics.failures.labels(Failure.FEEDER).inc()
                self._metrics.feeder_does(FeederState.UNREACHABLE)
                structlog.get_logger().warning("feeder interrupted", error=type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)

    async def _session(self) -> None:
        # A broker answers one connection's requests in turn: beside a fetch that waits for records, each question for
        # end offsets would wait too. So it is asked on a connection that fetches nothing.
        observer = AIOKafkaConsumer(**self._settings.kafka_client(), enable_auto_commit=False)
        consumer = self._consumer()
        try:
            async with asyncio.timeout(START_SECONDS):
                await observer.start()
                await consumer.start()
            while True:
                await self._round(consumer, observer)
        finally:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.gather(consumer.stop(), observer.stop())

    def _consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            self._backlog,
            **self._settings.kafka_client(),
            group_id=self._settings.topic(topics.FEEDER_GROUP),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(self._settings.ingest_session_seconds * 1000),
            max_poll_interval_ms=MAX_POLL_MS,
            rebalance_timeout_ms=int(self._settings.ingest_session_seconds * 1000),
            max_partition_fetch_bytes=MAX_RECORD_BYTES // 8,
        )

    async def _round(self, consumer: AIOKafkaConsumer, observer: AIOKafkaConsumer) -> None:
        """Fetch some records, move them at the worker's pace, commit."""
        found = await consumer.getmany(timeout_ms=POLL_MS, max_records=MOST_RECORDS)
        records = deque(record for one in found.values() for record in one)
        await self._note_backlog(consumer, len(records))
        if not records:
            self._metrics.feeder_does(FeederState.IDLE)
            return
        await self._move(observer, records)
        async with asyncio.timeout(CALL_SECONDS):
            await consumer.commit()

    async def _note_backlog(self, consumer: AIOKafkaConsumer, fetched: int) -> None:
        waiting = 0
        async with asyncio.timeout(CALL_SECONDS):
            for partition in consumer.assignment():
                end = consumer.highwater(partition)
                if end is not None:
                    waiting += max(0, end - await consumer.position(partition))
        self._metrics.backlog_records.set(waiting + fetched)

    async def _move(self, observer: AIOKafkaConsumer, records: deque[Any]) -> None:
        while records:
            lag = await self._look(observer)
            room = self._window.size - self._under_way.reports
            fits = self._window.adjust(lag, used=room < MAX_BACKLOG_REPORTS)
            self._metrics.feeder_window.set(self._window.size)
            moving = self._next(records, room) if fits else []
            self._metrics.feeder_does(FeederState.FEEDING if moving else FeederState.WAITING)
            await asyncio.gather(*(self._forward(record) for record in moving))
            if records:
                await asyncio.sleep(self._pause)

    def _next(self, records: deque[Any], room: int) -> list[Any]:
        """As many records as fit; one always fits into an empty window, however large it is."""
        moving: list[Any] = []
        while records:
            count = reports_in(records[0].headers)
            if count > room and (moving or self._under_way.reports):
                break
            room -= count
            moving.append(records.popleft())
        return moving

    async def _forward(self, record: Any) -> None:
        count = reports_in(record.headers)
        position = await self._publisher.publish(self._telemetry, record.value, partition=record.partition)
        self._under_way.add(position.partition, position.offset, count)
        self._metrics.backlog_moved.inc(count)

    async def _look(self, observer: AIOKafkaConsumer) -> float:
        async with asyncio.timeout(CALL_SECONDS):
            # Offsets first: a record that arrives between the two questions then counts as not applied yet.
            applied = await applied_offsets(self._pool, self._telemetry)
            found = await observer.end_offsets(self._partitions)
        ends = {tp.partition: end for tp, end in found.items()}
        self._under_way.applied(applied, ends)
        lag = self._pace.observe(time.monotonic(), ends, applied)
        self._metrics.worker_lag.set(lag)
        return lag
