"""What depends on how much is stored: looking for due pumps in a large fleet, and replaying months of history.

`measure_looks` belongs to every run. `measure_backtest` fills 1,000 pumps x 30 days first, through the same `step`,
`tick` and store as the worker, which takes as long as the rest of the benchmarks together: it runs only when named.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from streams.domain import pipeline
from streams.domain.alert import AlertEvent
from streams.domain.profile import ProfileHistory, PumpProfile, profile_from
from streams.domain.rule import RuleBook
from streams.domain.silence import Hearing
from streams.domain.telemetry import Alarm, Battery, Event, EventType, Motor, PumpId, Received, Report
from streams.domain.world import World, encode_world, snapshot
from streams.profiles import import_profiles
from streams.rulebook import load
from streams.settings import RULES
from streams.store import Change, Store, Work
from tests.benchmarks import fleet
from tests.benchmarks.figures import Figure, Finding, median
from tests.benchmarks.ground import PARTITIONS, Ground, inherited
from tests.stack import ROOT

LOOKS: Final = 50
DUE_LIMIT: Final = 2_000
TARGET_LOOK_MS: Final = 100
TARGET_BACKTEST_SECONDS: Final = 180
INTERVAL: Final = timedelta(minutes=15)
PROCESSES: Final = 2
FLOW_ML_PER_DAY: Final = 0.48
FIRST_FILL_ML: Final = 12.0
REFILLED_ON_DAY: Final = 12
STALLS_ONE_IN: Final = 10
"""One pump in so many has an hour of stalls."""


async def measure_looks(ground: Ground, *, quick: bool) -> Finding:
    """How long a look at 350,000 pumps takes of which none is due; every intrathecal pump in the world."""
    pumps = 20_000 if quick else 350_000
    now = datetime.now(UTC)
    world = encode_world(_settled_world(now))
    async with ground.plot("looks") as plot:
        await plot.pool.execute(
            """
            INSERT INTO pump_state (pump_id, kafka_partition, revision, next_wake_at, world, site)
            SELECT 'P-' || n, n % $2, 1, now() + interval '1 hour' + n * interval '1 millisecond', $3, 'bench'
            FROM generate_series(1, $1) AS n
            """,
            pumps,
            PARTITIONS,
            world,
            timeout=300,
        )
        await plot.pool.execute("VACUUM ANALYZE pump_state", timeout=300)
        store = await Store.open(plot.database.app)
        try:
            took = []
            for _ in range(LOOKS):
                started = time.perf_counter()
                due = await store.due(range(PARTITIONS), now, DUE_LIMIT)
                took.append((time.perf_counter() - started) * 1000)
        finally:
            await store.close()
    return Finding(
        "looks",
        (
            Figure(
                "look_ms_none_due", max(took), f"ms, slowest of {LOOKS}, {pumps:,} pumps", TARGET_LOOK_MS, "at most"
            ),
            Figure("state_bytes_quiet_pump", len(world), "bytes after 30 days", 4_096, "at most"),
        ),
        {"median_ms": median(took), "due": len(due), "pumps": pumps},
    )


def _settled_world(now: datetime) -> World:
    """A pump that reported every 15 minutes for 30 days, was refilled once, and is well."""
    [pump] = fleet.pump_ids("Q", 1)
    start = now - timedelta(days=30)
    profiles, rules, world = _profiles(pump, start), load(RULES), pipeline.new_world(pump)
    for received in _life(pump, start, now, stalls=False):
        world = pipeline.step(world, received, profiles, rules, received.received_at).world
    return world


async def measure_backtest(ground: Ground, *, quick: bool) -> Finding:
    """The command over stored history: how long it takes, and whether it tells exactly what was recorded."""
    pumps, days = fleet.pump_ids("H", 40 if quick else 1_000), 3 if quick else 30
    now = datetime.now(UTC)
    start = now - timedelta(days=days)
    async with ground.plot("backtest") as plot:
        documents = [json.dumps(document) for pump in pumps for document in _documents(pump, start)]
        imported = await import_profiles(plot.pool, documents, "bench", start)
        if imported.errors:
            raise AssertionError(f"profiles were refused: {imported.errors[0]}")
        with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as processes:
            parts = [pumps[first :: 4 * PROCESSES] for first in range(4 * PROCESSES)]
            filled = [processes.submit(_fill, plot.database.app, part, start, now) for part in parts]
            reports = sum([await asyncio.wrap_future(future) for future in filled])
        started = time.monotonic()
        told, exit_code = await _backtest(plot.database.app, days + 1)
        seconds = time.monotonic() - started
    differences = len(told["differences"])
    return Finding(
        "backtest",
        (
            Figure(
                "backtest_seconds",
                seconds,
                f"s, {len(pumps):,} pumps x {days} days",
                TARGET_BACKTEST_SECONDS,
                "at most",
            ),
            Figure("backtest_differences", differences, "alerts that differ from the recorded ones", 0, "at most"),
        ),
        {"reports": reports, "replayed": told["reports"], "recorded": told["recorded"], "exit_code": exit_code},
    )


async def _backtest(dsn: str, days: int) -> tuple[dict[str, Any], int]:
    arguments = (sys.executable, "-m", "services.cli", "rules", "backtest", "--since", f"{days}d", "--json")
    process = await asyncio.create_subprocess_exec(
        *arguments, env={**inherited(), "PUMPWATCH_POSTGRES": dsn}, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    told: dict[str, Any] = json.loads(out)
    return told, process.returncode or 0


# A stored month ---------------------------------------------------------------------------------------------------


def _fill(dsn: str, pumps: tuple[str, ...], start: datetime, end: datetime) -> int:
    """Let pumps live as the worker would have seen it, and store it all; how many reports that were."""
    return asyncio.run(_stored(dsn, pumps, start, end))


async def _stored(dsn: str, pumps: tuple[str, ...], start: datetime, end: datetime) -> int:
    rules, reports = load(RULES), 0
    store = await Store.open(dsn)
    try:
        for pump in pumps:
            stalls = int(pump.rpartition("-")[2]) % STALLS_ONE_IN == 0
            readings = list(_life(pump, start, end, stalls=stalls))
            profiles = _profiles(pump, start)
            world, events = _lived(pump, readings, profiles, rules, start, end)
            change = Change(pump, 0, 0, world, snapshot(world, profiles), tuple(events), end)
            await store.apply((), Work(readings, (), (change,)), end)
            reports += len(readings)
    finally:
        await store.close()
    return reports


def _lived(
    pump: str, readings: list[Received], profiles: ProfileHistory, rules: RuleBook, start: datetime, end: datetime
) -> tuple[World, list[AlertEvent]]:
    world = pipeline.new_world(pump)
    events: list[AlertEvent] = []
    for until, received in [*((one.received_at, one) for one in readings), (end, None)]:
        while world.next_wake_at is not None and world.next_wake_at <= until:
            now = world.next_wake_at
            ticked = pipeline.tick(world, profiles, rules, now, Hearing(start, now))
            world = ticked.world
            events.extend(ticked.events)
        if received is not None:
            stepped = pipeline.step(world, received, profiles, rules, until)
            world = stepped.world
            events.extend(stepped.events)
    return world, events


def _life(pump: str, start: datetime, end: datetime, *, stalls: bool) -> Iterator[Received]:
    """A report every 15 minutes, with levels, volumes, temperature and battery; refilled on day `REFILLED_ON_DAY`."""
    chance = random.Random(pump)
    shift = timedelta(seconds=chance.randrange(900))
    per_day = round(timedelta(days=1) / INTERVAL)
    refilled, stalled = REFILLED_ON_DAY * per_day, range(5 * per_day, 5 * per_day + 4)
    for turn in range((end - start - shift) // INTERVAL):
        at, taken_ml = start + shift + turn * INTERVAL, FLOW_ML_PER_DAY * turn / per_day
        level_ml = FIRST_FILL_ML - taken_ml
        if turn >= refilled:
            level_ml = 20.0 - FLOW_ML_PER_DAY * (turn - refilled) / per_day
        stands = stalls and turn in stalled
        report = Report(
            schema_version=1,
            pump_id=PumpId(pump),
            boot_id=0,
            seq=turn,
            event_time=at,
            gateway_id=fleet.GATEWAY,
            gateway_time=at,
            motor=Motor.STALLED if stands else Motor.RUNNING,
            alarms=(Alarm.MOTOR_STALL,) if stands else (),
            reservoir_estimated_ml=round(level_ml, 3),
            flow_programmed_ml_per_day=FLOW_ML_PER_DAY,
            volume_programmed_ml=round(taken_ml, 3),
            temperature_celsius=round(36.7 + 0.2 * chance.random(), 2),
            battery=Battery(voltage_v=2.94),
            program_checksum="3F9A",
        )
        if turn == refilled:
            emptied_ml = round(FIRST_FILL_ML - taken_ml, 2)
            report = replace(
                report, events=(Event(type=EventType.REFILL, at=at, aspirated_ml=emptied_ml, injected_ml=20.0),)
            )
        yield Received(report=report, received_at=at + timedelta(seconds=1))


def _documents(pump: str, start: datetime) -> list[dict[str, Any]]:
    """Two versions: the refill's booking, and after it the booking of the next one."""
    since = start - timedelta(days=30)
    first: dict[str, Any] = json.loads(fleet.profile_lines((pump,), since)[0])
    refilled_at = start + timedelta(days=REFILLED_ON_DAY, hours=1)
    second = {**first, "valid_from": refilled_at.isoformat()}
    first["refill_booked_on"] = refilled_at.date().isoformat()
    second["refill_booked_on"] = (refilled_at + timedelta(days=25)).date().isoformat()
    return [first, second]


def _profiles(pump: str, start: datetime) -> ProfileHistory:
    found = [profile_from(document) for document in _documents(pump, start)]
    return ProfileHistory(tuple(profile for profile in found if isinstance(profile, PumpProfile)))
