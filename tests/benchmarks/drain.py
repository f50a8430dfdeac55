"""How fast one worker is: a prepared telemetry topic, drained with every rule, history, state and offset.

The worker reads its own natural form, records of a batch each, as ingest writes them. The rivals read theirs, one
report as JSON per record. `rivals` says what each side does and leaves out.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Final

from services.standalone.child import tail
from streams import topics
from tests.benchmarks import fleet
from tests.benchmarks.figures import Figure, Finding, median
from tests.benchmarks.ground import PARTITIONS, Ground, Plot, cpu_seconds, rss_bytes
from tests.stack import Service

POLL_SECONDS: Final = 0.1
DRAIN_SECONDS: Final = 150.0
RATE: Final = "worker_reports_per_second"
TARGET_RATE: Final = 10_000
TARGET_RSS_MB: Final = 300
TARGET_CPU_US: Final = 90


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look showed: seconds since the start, reports applied, resident bytes, processor seconds."""

    at: float
    applied: int
    rss: int
    cpu: float


@dataclass(slots=True)
class Progress:
    """What was seen of a drain, in order."""

    seen: list[Seen] = field(default_factory=list)

    def rate(self) -> float:
        """Reports per second from the first progress seen to the last; start-up does not count."""
        first, last = self._ends()
        return (last.applied - first.applied) / (last.at - first.at) if last.at > first.at else math.nan

    def cpu_us_per_report(self) -> float:
        """Processor time of the worker's process per report, over the same stretch; a busy machine shows less in it."""
        first, last = self._ends()
        applied = last.applied - first.applied
        return (last.cpu - first.cpu) / applied * 1e6 if applied else math.nan

    def rss_growth_share(self) -> float:
        """Resident memory at the end over that when half was applied, minus 1."""
        last = self._ends()[1]
        half = next(seen.rss for seen in self.seen if seen.applied >= last.applied / 2)
        return last.rss / half - 1 if half else math.nan

    def _ends(self) -> tuple[Seen, Seen]:
        total = self.seen[-1].applied
        first = next((seen for seen in self.seen if seen.applied > 0), self.seen[-1])
        return first, next(seen for seen in self.seen if seen.applied == total)


def size(*, quick: bool) -> tuple[tuple[str, ...], int]:
    """Which pumps report, and how often each."""
    return (fleet.pump_ids("D", 1_000), 10) if quick else (fleet.pump_ids("D", 10_000), 30)


@dataclass(frozen=True, slots=True)
class Drained:
    """One drain: how it went, what it left in PostgreSQL, and the topic that was drained."""

    progress: Progress
    topic: str
    offered: int
    stored: int
    alerts: int
    records: int


async def measure(ground: Ground, *, quick: bool) -> Finding:
    """Drain once, and report rate and memory."""
    return finding([await drain(ground, "drain", quick=quick)], quick=quick)


async def drain(ground: Ground, name: str, *, quick: bool) -> Drained:
    """Prepare a topic, and let one worker drain it; ``name`` tells the drains of a run apart."""
    pumps, rounds = size(quick=quick)
    async with ground.plot(name) as plot:
        await plot.add_pumps(pumps)
        counts = await prepare(plot, pumps, rounds)
        worker = plot.stack.service("worker")
        await worker.start(ready=False)
        return Drained(
            progress=await _drained(plot, worker, counts),
            topic=plot.settings.topic(topics.TELEMETRY.name),
            offered=len(pumps) * rounds,
            stored=await plot.count("SELECT count(*) FROM reading"),
            alerts=await plot.count("SELECT count(*) FROM alert"),
            records=sum(len(sizes) for sizes in counts.values()),
        )


def finding(drains: Sequence[Drained], *, quick: bool) -> Finding:
    """The median rate and cost of the drains, and the worst of what memory they took."""
    pumps, progresses = len(size(quick=quick)[0]), [one.progress for one in drains]
    rate = median([progress.rate() for progress in progresses])
    cost = median([progress.cpu_us_per_report() for progress in progresses])
    peak = max(seen.rss for progress in progresses for seen in progress.seen)
    growth = max(progress.rss_growth_share() for progress in progresses)
    return Finding(
        "worker",
        (
            Figure(RATE, rate, f"reports/s, median of {len(drains)}", TARGET_RATE),
            Figure("worker_cpu_us_per_report", cost, "µs of one core", TARGET_CPU_US, "at most"),
            Figure("worker_rss_mb", peak / 1e6, f"MB, {pumps:,} pumps", TARGET_RSS_MB, "at most"),
            Figure("worker_rss_growth", growth, "share, half-way to end", 0.1, "at most"),
        ),
        {
            "drains": [
                {
                    "reports_per_second": one.progress.rate(),
                    "reports": one.offered,
                    "reports_stored": one.stored,
                    "alerts": one.alerts,
                    "records": one.records,
                    "complete": one.stored == one.offered,
                }
                for one in drains
            ]
        },
    )


async def prepare(plot: Plot, pumps: tuple[str, ...], rounds: int) -> dict[int, list[int]]:
    """Fill the telemetry topic; for each partition, how many reports its first 1, 2, ... records hold."""
    now = datetime.now(UTC)
    received = [
        fleet.received(fleet.as_json(moment), moment.at + timedelta(seconds=1))
        for moment in fleet.history(pumps, rounds, now - timedelta(seconds=5))
    ]
    sizes: dict[int, list[int]] = defaultdict(list)
    records: list[tuple[int, bytes | None, bytes]] = []
    for partition, size, value in fleet.batches(received, PARTITIONS):
        sizes[partition].append(size)
        records.append((partition, None, value))
    await plot.produce(plot.settings.topic(topics.TELEMETRY.name), records)
    return {partition: list(accumulate(found)) for partition, found in sizes.items()}


async def _drained(plot: Plot, worker: Service, counts: dict[int, list[int]]) -> Progress:
    """Watch the consumed offsets until every report is applied."""
    progress, total = Progress(), sum(found[-1] for found in counts.values())
    started = time.monotonic()
    while time.monotonic() - started < DRAIN_SECONDS:
        rows = await plot.pool.fetch("SELECT partition, next_offset FROM consumed", timeout=10)
        applied = sum(
            counts[row["partition"]][row["next_offset"] - 1]
            for row in rows
            if row["next_offset"] > 0 and row["partition"] in counts
        )
        pid = worker.child.pid
        if pid is None or not worker.child.running:
            raise AssertionError(f"the worker ended with code {worker.child.returncode}:\n{tail(worker.child.log, 10)}")
        progress.seen.append(Seen(time.monotonic() - started, applied, rss_bytes(pid), cpu_seconds(pid)))
        if applied >= total:
            return progress
        await asyncio.sleep(POLL_SECONDS)
    return progress
