"""How long a stall takes to reach a person: from the moment its request was due to the first attempt to send a mail.

That is longer than from acceptance, which is reported beside it (``received_at`` of the report, stamped before Kafka
acknowledged it, to the same attempt). All clocks are those of one machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from tests.benchmarks import fleet
from tests.benchmarks.figures import Figure, Finding, latencies_ms
from tests.benchmarks.fleet import Moment
from tests.benchmarks.live import System
from tests.benchmarks.openloop import Answer, offer

RATE: Final = 2_000
PER_REQUEST: Final = 20
STALLS_PER_SECOND: Final = 8
BACKLOG_REPORTS: Final = 200_000
BACKLOG_PUMPS: Final = 1_000
LIVE_RATE: Final = 500
SETTLE_SECONDS: Final = 15.0
CATCH_UP_SECONDS: Final = 60.0
MAX_STALLS: Final = 1_200

FIRST_TOLD: Final = """
    SELECT a.pump_id, extract(epoch FROM min(n.first_attempt_at))::float8 AS told_at,
           extract(epoch FROM min(o.received_at))::float8 AS accepted_at
    FROM alert a JOIN notification n USING (alert_id) JOIN outbox o USING (alert_id)
    WHERE a.rule_id = 'DLV-01' AND a.pump_id = ANY($1) AND n.first_attempt_at IS NOT NULL AND o.kind = 'opened'
    GROUP BY a.pump_id
"""


def stall_pumps() -> tuple[str, ...]:
    """Pumps that stall once each."""
    return fleet.pump_ids("S", MAX_STALLS)


def backlog_pumps() -> tuple[str, ...]:
    """Pumps whose old reports arrive all at once."""
    return fleet.pump_ids("B", BACKLOG_PUMPS)


@dataclass(slots=True)
class Told:
    """Stalls sent, and when people were told of them."""

    due_at: dict[str, float] = field(default_factory=dict)
    from_due: list[float] = field(default_factory=list)
    from_acceptance: list[float] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """Stalls of which nobody was told in time."""
        return len(self.due_at) - len(self.from_due)


async def measure(running: System, *, quick: bool) -> list[Finding]:
    """Latency at 2,000 reports a second, and of fresh alarms while a backlog is drained."""
    pumps = iter(stall_pumps())
    await running.caught_up(CATCH_UP_SECONDS)
    steady = await _stalls(running, pumps, RATE, 10 if quick else 75)
    behind, details = await _behind_backlog(running, pumps, quick=quick)
    return [
        _finding("alert_latency", steady, 100, 500, {"rate": RATE}),
        _finding("alert_latency_with_backlog", behind, None, 2_000, details),
    ]


def _finding(name: str, told: Told, p50: float | None, p99: float, details: dict[str, object]) -> Finding:
    due, accepted = latencies_ms(told.from_due), latencies_ms(told.from_acceptance)
    figures = (
        Figure(f"{name}_ms_p50", due["p50"], "ms, from intended send", p50, "at most"),
        Figure(f"{name}_ms_p99", due["p99"], "ms, from intended send", p99, "at most"),
        Figure(f"{name}_ms_p99.9", due["p99.9"], "ms, from intended send"),
        Figure(f"{name}_missing", told.missing, "alerts", 0, "at most"),
    )
    return Finding(name, figures, {"from_intended_send_ms": due, "from_acceptance_ms": accepted, **details})


async def _stalls(running: System, pumps: Iterator[str], rate: float, seconds: float) -> Told:
    """Offer reports with stalls strewn in at irregular requests, and look up when people were told."""
    told = Told()
    every = round(rate / PER_REQUEST / STALLS_PER_SECOND)

    def body(number: int, due_at: float) -> bytes:
        # A stride that shares no factor with the second keeps stalls out of step with timers.
        stalled = (next(pumps),) if number % max(1, every) == 0 else ()
        told.due_at.update(dict.fromkeys(stalled, due_at))
        return running.body(PER_REQUEST - len(stalled), due_at, stalled)

    await offer(running.edge, body, per_request=PER_REQUEST, rate=rate, seconds=seconds)
    await _look_up(running, told)
    return told


async def _look_up(running: System, told: Told) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    rows: list[asyncpg.Record] = []
    while len(rows) < len(told.due_at) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        rows = await running.plot.pool.fetch(FIRST_TOLD, list(told.due_at), timeout=30)
    for row in rows:
        told.from_due.append(row["told_at"] - told.due_at[row["pump_id"]])
        told.from_acceptance.append(row["told_at"] - row["accepted_at"])


async def _behind_backlog(running: System, pumps: Iterator[str], *, quick: bool) -> tuple[Told, dict[str, object]]:
    """Send old reports as fast as they are accepted, then fresh alarms while the feeder moves them."""
    reports, seconds = (10_000, 5) if quick else (BACKLOG_REPORTS, 40)
    started = time.monotonic()
    answers = await _send_backlog(running, reports)
    sent_seconds = time.monotonic() - started
    told = await _stalls(running, pumps, LIVE_RATE, seconds)
    stored = await running.plot.count("SELECT count(*) FROM reading WHERE pump_id = ANY($1)", list(backlog_pumps()))
    return told, {
        "backlog": reports,
        "backlog_sent_seconds": sent_seconds,
        "backlog_refusals": sum(answer.refusals for answer in answers),
        "backlog_applied_meanwhile": stored,
        "live_rate": LIVE_RATE,
    }


async def _send_backlog(running: System, reports: int) -> list[Answer]:
    """Old reports from four gateway connections, each pump's in order."""
    rounds, start = reports // BACKLOG_PUMPS, datetime.now(UTC) - timedelta(hours=12)
    pumps = backlog_pumps()
    lanes = [pumps[lane::4] for lane in range(4)]

    async def lane(mine: tuple[str, ...]) -> list[Answer]:
        answers: list[Answer] = []
        for first in range(0, rounds, 2):
            turns = range(first, min(rounds, first + 2))
            moments = [
                Moment(pump, running.next_seq(pump), start + turn * timedelta(minutes=3))
                for turn in turns
                for pump in mine
            ]
            body = b"[" + b",".join(map(fleet.as_json, moments)) + b"]"
            answers.append(await running.edge.post(body, time.time()))
        return answers

    found = await asyncio.gather(*(lane(mine) for mine in lanes))
    return [answer for answers in found for answer in answers]
