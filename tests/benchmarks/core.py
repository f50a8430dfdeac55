"""What deciding costs by itself: one call of ``step``, and one of ``validate``, on one core and without any I/O."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from streams.domain import pipeline
from streams.domain.profile import ProfileHistory, PumpProfile, profile_from
from streams.domain.telemetry import Received, validate
from streams.rulebook import load
from streams.settings import RULES
from streams.topics import decode_batch, encode_batch
from tests.benchmarks import fleet
from tests.benchmarks.figures import Figure, Finding, median, percentile

PUMPS: Final = 200
SLICE: Final = 200
Item = TypeVar("Item")


def measure(*, quick: bool) -> Finding:
    """Median over slices of calls, in microseconds: a single call is shorter than the clock's noise."""
    now, rounds = datetime.now(UTC), 20 if quick else 120
    moments = list(fleet.history(fleet.pump_ids("C", PUMPS), rounds, now))
    raw = [fleet.as_json(moment) for moment in moments]
    validating = _microseconds(raw, lambda body: validate(body, now))
    received = _as_carried(
        [fleet.received(body, moment.at + timedelta(seconds=1)) for body, moment in zip(raw, moments, strict=True)]
    )
    rules, profiles = load(RULES), _profiles(now)
    worlds = {pump: pipeline.new_world(pump) for pump in fleet.pump_ids("C", PUMPS)}

    def step(report: Received) -> None:
        pump = report.report.pump_id
        worlds[pump] = pipeline.step(worlds[pump], report, profiles[pump], rules, now).world

    stepping = _microseconds(received, step)
    return Finding(
        "core",
        (
            Figure("step_us", median(stepping), "µs, median"),
            Figure("validate_us", median(validating), "µs, median"),
        ),
        {
            "step_us_p99_of_slices": percentile(stepping, 0.99),
            "validate_us_p99_of_slices": percentile(validating, 0.99),
            "calls": len(raw),
            "rules": len(rules),
            "report_bytes": median([len(body) for body in raw]),
        },
    )


def _as_carried(received: list[Received]) -> list[Received]:
    """The reports as a worker gets them: decoded from the records in which ingest put them."""
    parts = (tuple(received[start : start + SLICE]) for start in range(0, len(received), SLICE))
    return [report for part in parts for report in decode_batch(encode_batch(part)).reports]


def _profiles(now: datetime) -> dict[str, ProfileHistory]:
    pumps = fleet.pump_ids("C", PUMPS)
    profiles = [profile_from(json.loads(line)) for line in fleet.profile_lines(pumps, now - timedelta(days=30))]
    return {profile.pump_id: ProfileHistory((profile,)) for profile in profiles if isinstance(profile, PumpProfile)}


def _microseconds(items: Iterable[Item], call: Callable[[Item], object]) -> list[float]:
    """Mean microseconds of processor time of a call in each slice of calls."""
    waiting, found = list(items), []
    gc.collect()
    for start in range(0, len(waiting) - SLICE + 1, SLICE):
        before = time.process_time()
        for item in waiting[start : start + SLICE]:
            call(item)
        found.append((time.process_time() - before) / SLICE * 1e6)
    return found
