"""How fast one worker is: a prepared telemetry topic, drained with every rule, history, state and offset.

The worker reads its own natural form, records of a batch each, as ingest writes them. The rivals read theirs, one
report as JSON per record. `rivals` says what each side does and leaves out.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Final

from services.standalone.child import tail
from streams import topics
from tests.benchmarks import fleet
from tests.benchmarks.figures import Figure, Finding
from tests.benchmarks.ground import PARTITIONS, Ground, Plot, rss_bytes
from tests.stack import Service

POLL_SECONDS: Final = 0.1
DRAIN_SECONDS: Final = 150.0
TOPIC: Final = "drain." + topics.TELEMETRY.name
RATE: Final = "worker_reports_per_second"
TARGET_RATE: Final = 10_000
TARGET_RSS_MB: Final = 300


@dataclass(slots=True)
class Progress:
    """What was seen of a drain: (seconds, reports applied, resident bytes), in order."""

    seen: list[tuple[float, int, int]] = field(default_factory=list)

    def rate(self) -> float:
        """Reports per second from the first progress seen to the last; start-up does not count."""
        moving = [(at, count) for at, count, _ in self.seen if count > 0]
        if len(moving) < 2 or moving[-1][0] <= moving[0][0]:
            return float("nan")
        end = next(index for index, (_, count) in enumerate(moving) if count == moving[-1][1])
        (first_at, first), (last_at, last) = moving[0], moving[end]
        return (last - first) / (last_at - first_at) if last_at > first_at else float("nan")

    def rss_growth_share(self) -> float:
        """Resident memory at the end over that when half was applied, minus 1."""
        total = self.seen[-1][1]
        half = next(rss for _, count, rss in self.seen if count >= total / 2)
        return self.seen[-1][2] / half - 1 if half else float("nan")


def size(*, quick: bool) -> tuple[tuple[str, ...], int]:
    """Which pumps report, and how often each."""
    return (fleet.pump_ids("D", 1_000), 10) if quick else (fleet.pump_ids("D", 10_000), 30)


async def measure(ground: Ground, *, quick: bool) -> Finding:
    """Drain once, and report rate and memory."""
    pumps, rounds = size(quick=quick)
    async with ground.plot("drain") as plot:
        await plot.add_pumps(pumps)
        counts = await prepare(plot, pumps, rounds)
        worker = plot.stack.service("worker")
        await worker.start(ready=False)
        progress = await _drained(plot, worker, counts)
        stored = await plot.count("SELECT count(*) FROM reading")
        alerts = await plot.count("SELECT count(*) FROM alert")
    offered, peak = len(pumps) * rounds, max(rss for _, _, rss in progress.seen)
    return Finding(
        "worker",
        (
            Figure(RATE, progress.rate(), "reports/s", TARGET_RATE),
            Figure("worker_rss_mb", peak / 1e6, f"MB, {len(pumps):,} pumps", TARGET_RSS_MB, "at most"),
            Figure("worker_rss_growth", progress.rss_growth_share(), "share, half-way to end", 0.1, "at most"),
        ),
        {
            "reports": offered,
            "reports_stored": stored,
            "alerts": alerts,
            "records": sum(len(sizes) for sizes in counts.values()),
            "complete": stored == offered,
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
        progress.seen.append((time.monotonic() - started, applied, rss_bytes(pid)))
        if applied >= total:
            return progress
        await asyncio.sleep(POLL_SECONDS)
    return progress
