"""How much the whole system carries: HTTP batches of 100 to PostgreSQL, with notify and web running beside it.

A rate is sustained when the edge accepted all of it in time, and the worker's lag did not grow: over the last third of
the offer it is at most a second's worth of records above that of the middle third.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Final

from tests.benchmarks.figures import Figure, Finding, latencies_ms
from tests.benchmarks.ground import rss_bytes
from tests.benchmarks.live import System
from tests.benchmarks.openloop import offer

PER_REQUEST: Final = 100
TARGET_RATE: Final = 6_000
STEP_UP: Final = 1.25
STEP_DOWN: Final = 0.8
MAX_STEPS: Final = 3
ACCEPTED_SHARE: Final = 0.98
DRAIN_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Held:
    """How the system took one rate (reports per second); lag in seconds of that offer."""

    offered: float
    accepted: float
    lag_seconds: float
    lag_growth_seconds: float
    edge_ms_p50: float
    edge_ms_p99: float
    refusals: int

    @property
    def sustained(self) -> bool:
        """Whether all was accepted and the lag did not grow."""
        return self.accepted >= ACCEPTED_SHARE * self.offered and self.lag_growth_seconds <= 1.0


async def measure(running: System, *, quick: bool) -> Finding:
    """The target rate for a minute, then up or down to the highest rate that is sustained."""
    first = await hold(running, TARGET_RATE, 10 if quick else 60)
    found, rate = [first], float(TARGET_RATE)
    for _ in range(1 if quick else MAX_STEPS):
        await running.caught_up(DRAIN_SECONDS)
        rate *= STEP_UP if first.sustained else STEP_DOWN
        found.append(await hold(running, rate, 5 if quick else 20))
        if found[-1].sustained != first.sustained:
            break
    drained = await running.caught_up(DRAIN_SECONDS)
    best = max((held.accepted for held in found if held.sustained), default=0.0)
    memory = {name: rss_bytes(service.child.pid or 0) / 1e6 for name, service in running.plot.stack.services.items()}
    return Finding(
        "system",
        (
            Figure("system_reports_per_second", best, "reports/s, highest sustained", TARGET_RATE),
            Figure(
                "system_lag_growth_at_6000", first.lag_growth_seconds, "s over a third of the offer", 1.0, "at most"
            ),
            Figure("ingest_ms_p99_at_6000", first.edge_ms_p99, "ms, from intended send to 202"),
        ),
        {"offers": [asdict(held) | {"sustained": held.sustained} for held in found], "drained": drained}
        | {"rss_mb": memory, "pumps": len(running.pumps)},
    )


async def hold(running: System, rate: float, seconds: float) -> Held:
    """Offer one rate and watch the lag each second."""
    lags: list[int] = []
    records_before, started = await running.end_records(), time.time()

    async def watch() -> None:
        while True:
            lags.append(await running.lag_records())
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    try:
        offered = await offer(
            running.edge,
            lambda _, due_at: running.body(PER_REQUEST, due_at),
            per_request=PER_REQUEST,
            rate=rate,
            seconds=seconds,
        )
    finally:
        watching.cancel()
    records_per_second = max(1.0, (await running.end_records() - records_before) / seconds)
    third = max(1, len(lags) // 3)
    growth = statistics.fmean(lags[-third:]) - statistics.fmean(lags[third : 2 * third] or lags[-third:])
    edge = latencies_ms(answer.latency_seconds for answer in offered.accepted)
    return Held(
        offered=rate,
        accepted=offered.accepted_rate(seconds, started),
        lag_seconds=lags[-1] / records_per_second,
        lag_growth_seconds=growth / records_per_second,
        edge_ms_p50=edge["p50"],
        edge_ms_p99=edge["p99"],
        refusals=offered.refusals,
    )
