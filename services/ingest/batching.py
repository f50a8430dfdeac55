"""Collects accepted reports into batches of one partition, and tells when Kafka has them.

A batch waits at most the linger time while nothing of its partition is under way, and else until that is acknowledged:
at a low rate batches are small and quick, at a high rate they grow by themselves. Old reports have batches, a topic
and room of their own, so fresh ones never wait behind them; requests with an alarm have further room that nothing else
gets.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from services.ingest.metrics import Metrics
from services.ingest.publisher import NotAcknowledged, Publisher
from services.ingest.room import Room
from services.ingest.settings import Settings
from services.ingest.urgency import Lane
from streams import topics
from streams.domain.telemetry import Received
from streams.topics import MAX_BATCH_REPORTS, encode_batch, partition_of

MAX_BATCH_BYTES: Final = 1024 * 1024
"""Of the reports as received; what is encoded is smaller, so a record stays far below the broker's limit."""
MAX_BACKLOG_REPORTS: Final = 200
"""Per record of the backlog: the worker takes a record whole, and a fresh alarm waits for one at most."""
MOST_REPORTS: Final = {Lane.FRESH: MAX_BATCH_REPORTS, Lane.BACKLOG: MAX_BACKLOG_REPORTS}
REPORTS_HEADER: Final = "reports"
"""On records of the backlog: how many reports are in it, as text."""

_Key = tuple[Lane, int]


@dataclass(frozen=True, slots=True)
class Taken:
    """An accepted report: its lane, and its size as received in bytes."""

    received: Received
    lane: Lane
    size: int


@dataclass(slots=True)
class _Batch:
    lane: Lane
    partition: int
    done: asyncio.Future[bool]
    reports: list[Received] = field(default_factory=list)
    size: int = 0


class Acceptance:
    """What one request waits for."""

    def __init__(self, batches: Iterable[_Batch]) -> None:
        self._waiting = {batch.done for batch in batches}

    async def acknowledged(self, timeout: float) -> bool:
        """Whether all of it was acknowledged within so many seconds; what is late may still be kept."""
        if not self._waiting:
            return True
        done, pending = await asyncio.wait(self._waiting, timeout=timeout)
        return not pending and all(future.result() for future in done)


class Batcher:
    """Batches of every partition and lane; `close` it before its publisher.

    Args:
        publisher: Where batches go.
        settings: Topics, partitions, linger and room.
        metrics: Where it counts.
    """

    def __init__(self, publisher: Publisher, settings: Settings, metrics: Metrics) -> None:
        self._publisher, self._metrics = publisher, metrics
        self._partitions, self._linger = settings.partitions, settings.ingest_linger_ms / 1000
        self._loop = asyncio.get_running_loop()
        self._topics = {
            Lane.FRESH: settings.topic(topics.TELEMETRY.name),
            Lane.BACKLOG: settings.topic(topics.BACKLOG.name),
        }
        self._rooms = {
            Lane.FRESH: Room(settings.ingest_fresh_bytes, settings.ingest_alarm_bytes),
            Lane.BACKLOG: Room(settings.ingest_backlog_bytes, settings.ingest_alarm_bytes),
        }
        self._open: dict[_Key, _Batch] = {}
        self._under_way: Counter[_Key] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def offer(self, taken: Sequence[Taken], *, alarm: bool = False) -> Acceptance | None:
        """Take reports into batches, all or none; None when there is no room.

        Args:
            taken: Reports of one request, in their order.
            alarm: Whether one of them carries an alarm, which opens the room reserved for that.
        """
        sizes = {lane: sum(one.size for one in taken if one.lane is lane) for lane in Lane}
        for lane, size in sizes.items():
            if not self._rooms[lane].fits(size, reserve=alarm):
                self._metrics.refused_full.labels(lane).inc()
                return None
        batches: dict[int, _Batch] = {}
        for one in taken:
            batch = self._add(one)
            batches[id(batch)] = batch
        self._note_buffers(sizes, {lane: sum(one.lane is lane for one in taken) for lane in Lane})
        if self._timer is None and self._open:
            self._timer = self._loop.call_later(self._linger, self._linger_over)
        return Acceptance(batches.values())

    async def close(self, timeout: float) -> None:
        """Send what is there and wait for it so many seconds at most."""
        if self._timer is not None:
            self._timer.cancel()
        for key in list(self._open):
            self._send(key)
        if self._sending:
            await asyncio.wait(self._sending, timeout=timeout)
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    def _add(self, one: Taken) -> _Batch:
        key = (one.lane, partition_of(one.received.report.pump_id, self._partitions))
        batch = self._open.get(key)
        if batch is not None and batch.size + one.size > MAX_BATCH_BYTES:
            self._send(key)
            batch = None
        if batch is None:
            batch = self._open[key] = _Batch(*key, self._loop.create_future())
        batch.reports.append(one.received)
        batch.size += one.size
        if len(batch.reports) >= MOST_REPORTS[one.lane]:
            self._send(key)
        return batch

    def _note_buffers(self, sizes: dict[Lane, int], counts: dict[Lane, int]) -> None:
        for lane, size in sizes.items():
            if counts[lane]:
                self._rooms[lane].occupy(size)
                self._metrics.buffered_bytes.labels(lane).inc(size)
                self._metrics.buffered_reports.labels(lane).inc(counts[lane])

    def _linger_over(self) -> None:
        self._timer = None
        for key in [key for key in self._open if not self._under_way[key]]:
            self._send(key)

    def _send(self, key: _Key) -> None:
        batch = self._open.pop(key)
        self._under_way[key] += 1
        task = self._loop.create_task(self._publish(key, batch))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _publish(self, key: _Key, batch: _Batch) -> None:
        reports = tuple(batch.reports)
        headers = [(REPORTS_HEADER, str(len(reports)).encode())] if batch.lane is Lane.BACKLOG else ()
        kept = False
        try:
            value = encode_batch(reports)
            await self._publisher.publish(self._topics[batch.lane], value, partition=batch.partition, headers=headers)
            kept = True
        except NotAcknowledged as error:
            structlog.get_logger().warning("batch not acknowledged", reports=len(reports), cause=error.cause)
        finally:
            self._settle(key, batch, kept=kept)

    def _settle(self, key: _Key, batch: _Batch, *, kept: bool) -> None:
        self._rooms[batch.lane].give(batch.size)
        self._metrics.buffered_bytes.labels(batch.lane).dec(batch.size)
        self._metrics.buffered_reports.labels(batch.lane).dec(len(batch.reports))
        self._metrics.batch_reports.labels(batch.lane).observe(len(batch.reports))
        if not batch.done.done():
            batch.done.set_result(kept)
        self._under_way[key] -= 1
        if key in self._open and not self._under_way[key]:
            self._send(key)
