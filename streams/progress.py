"""Whether records are applied as they come, judged by the broker's log and PostgreSQL's offset, not by Faust's word."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from streams.metrics import Metrics
from streams.partition import Partition, Stop
from streams.worker import Fatal, Worker
from streams.worker_settings import Settings

CHECK_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 10.0
ON_ITS_WAY: Final = timedelta(seconds=2)
"""A report accepted this shortly before may still be on its way from the edge into the log."""
EXIT_AFTER_SECONDS: Final = 5.0
"""Time for the failing ``/livez`` to be seen before the process ends by itself."""


@dataclass(frozen=True, slots=True)
class Log:
    """What the broker says; each question may fail or hang.

    Args:
        ends: The end offset of each of these partitions.
        topic_id: The id of the topic that they are of; None where it is not known.
        backlogged: Partitions whose backlog was not moved into the log yet.
    """

    ends: Callable[[Sequence[int]], Awaitable[Mapping[int, int]]]
    topic_id: Callable[[], Awaitable[str | None]]
    backlogged: Callable[[], Awaitable[set[int]]]


class Progress:
    """Compares each partition's log end with the stored offset; `run` until cancelled.

    A log that lost records, or a topic made anew, is no reason for the broker to move partitions, and the consumer
    would read on from the start without a word: what is written there then lies below the stored offset, and would be
    skipped. So such a partition is stopped here.

    Args:
        log: What the broker says.
        moving: Whether partitions are being moved between workers, when none of them is worked on.
        clock: Service time, aware UTC.
    """

    def __init__(
        self,
        settings: Settings,
        worker: Worker,
        log: Log,
        moving: Callable[[], bool],
        metrics: Metrics,
        clock: Callable[[], datetime],
        fatal: Fatal,
    ) -> None:
        self._settings, self._worker, self._broker = settings, worker, log
        self._metrics, self._clock, self._fatal = metrics, clock, fatal
        self._moving = moving
        self._answered_at = self._still_at = time.monotonic()
        self._shown: set[int] = set()
        self._reason: str | None = None
        self._reason_at = 0.0
        self._log = structlog.get_logger()

    def stalled(self) -> str | None:
        """None while records are applied as they come, else why the process should be restarted."""
        return self._reason

    def stopped(self) -> str | None:
        """Which partitions wait for an operator, if any."""
        waiting = sorted(
            f"{partition.number} ({partition.stopped})" for partition in self._worker.partitions if partition.stopped
        )
        return f"partitions stopped: {', '.join(waiting)}" if waiting else None

    async def run(self) -> None:
        """Check every second, and end a process that does not get on."""
        while True:
            await self.once()
            if self._reason is not None and time.monotonic() - self._reason_at > EXIT_AFTER_SECONDS:
                self._fatal("no progress", reason=self._reason)
            await asyncio.sleep(CHECK_SECONDS)

    async def once(self) -> None:
        """One look at the log."""
        asked_at, now = self._clock(), time.monotonic()
        ours = self._worker.partitions
        # Before the ends: what is applied in between can only lie below them.
        applied = {partition: partition.next_offset for partition in ours if partition.open and not partition.unsure}
        ends: Mapping[int, int] = {}
        topic_id: str | None = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                # Before the ends: what is moved in between is then found in the log.
                waiting = await self._broker.backlogged()
                for partition in ours:
                    partition.backlogged = partition.number in waiting
                if ours:
                    topic_id = await self._broker.topic_id()
                    ends = await self._broker.ends([partition.number for partition in ours])
            self._answered_at = now
        except Exception as error:  # noqa: BLE001 - whatever the client says, what counts is how long it goes on
            self._metrics.watch_failures.inc()
            self._log.warning("log ends unknown", error=type(error).__name__)
        self._stop_misfits(applied, ends, topic_id)
        self._note(ours, ends, asked_at)
        reason = self._judge(ours, ends, now)
        if reason is None or self._reason is None:
            self._reason, self._reason_at = reason, now
        self._metrics.cached_pumps.set(sum(len(partition.cache) for partition in ours))

    def _stop_misfits(self, applied: Mapping[Partition, int], ends: Mapping[int, int], topic_id: str | None) -> None:
        """Stop the partitions whose log is not the one that was applied."""
        for partition, next_offset in applied.items():
            if not partition.open:
                continue
            if None not in (topic_id, partition.topic_id) and topic_id != partition.topic_id:
                self._worker.stop(partition, Stop.OTHER_TOPIC)
            elif ends.get(partition.number, next_offset) < next_offset:
                self._worker.stop(partition, Stop.LOG_END)

    def _note(self, ours: Sequence[Partition], ends: Mapping[int, int], asked_at: datetime) -> None:
        for partition in ours:
            end = ends.get(partition.number)
            if end is None:
                continue
            self._metrics.lag.labels(partition.number).set(max(0, end - partition.next_offset))
            self._shown.add(partition.number)
            if partition.open and not partition.unsure and partition.next_offset >= end:
                partition.heard(asked_at - ON_ITS_WAY)
        for number in self._shown - {partition.number for partition in ours}:
            # Another worker's lag is not ours to report.
            self._metrics.lag.remove(number)
            self._shown.discard(number)

    def _judge(self, ours: Sequence[Partition], ends: Mapping[int, int], now: float) -> str | None:
        patience = self._settings.worker_stall_seconds
        if not self._moving():
            self._still_at = now
        if now - self._answered_at > patience:
            return "the broker does not answer"
        if now - self._still_at > patience:
            return "partitions are being moved without end"
        for partition in ours:
            caught_up = partition.open and ends.get(partition.number, 0) <= partition.next_offset
            if caught_up or (partition.stopped is not None and partition.stopped is not Stop.FENCED):
                partition.progress_at = now
            elif partition.number in ends and now - partition.progress_at > patience:
                return f"partition {partition.number} has records that are not applied"
        return None
