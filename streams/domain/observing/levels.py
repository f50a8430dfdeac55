"""Reservoir levels: what predicted dates and unexplained steps are judged by (RSV-03 to RSV-05)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from streams.domain.observing import volumes
from streams.domain.observing.volumes import (
    DAY,
    Reading,
    VolumeLog,
    comparable,
    mean_rate_ml_per_day,
    programmed_between_ml,
    tells_program,
    unexplained_ml,
)
from streams.domain.profile import ACCURACY_ALLOWANCE, Therapy
from streams.domain.telemetry import Event, EventType, Report

if TYPE_CHECKING:
    from streams.domain.world import PumpState

FALL_RULE: Final = "RSV-05"
RECOMPUTED_EVERY: Final = timedelta(hours=1)
"""Predicted dates are recomputed at most so often; inclusive (rules_catalogue.md RSV-03)."""
SUSPECT_RISE_ML: Final = 0.25
SUSPECT_FALL_ML: Final = 0.15
"""Smaller steps are not even remembered; limits in rule files are larger."""
MAX_STEPS: Final = 6
FALL_WITHIN: Final = timedelta(hours=24)
"""Samples further apart than this (inclusive) say nothing about a fall."""


class Forecast(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What predicted dates are computed from, as of the recomputation at ``at``.

    ``level_ml`` is the level at ``level_at``, ``flow_ml_per_day`` the schedule's mean (None: never said),
    ``bolus_ml_per_day`` what the patient's boluses took since the last refill.
    """

    at: datetime
    level_ml: float
    level_at: datetime
    flow_ml_per_day: float | None
    bolus_ml_per_day: float


class LevelStep(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A level that changed more than the program explains, between the samples at ``before_at`` and ``at``.

    ``change_ml`` is positive for a rise; ``programmed_ml`` is what the program asked for in between. ``sensed``: the
    level was measured, not computed.
    """

    at: datetime
    before_at: datetime
    change_ml: float
    programmed_ml: float
    sensed: bool


class LevelLog(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The two latest forecasts and the latest suspicious steps, oldest first.

    Of a fall that goes on unnoticed the step grows, until people were told of it.
    """

    forecasts: tuple[Forecast, ...] = ()
    steps: tuple[LevelStep, ...] = ()


def measured(log: LevelLog, state: PumpState, therapy: Therapy, report: Report) -> LevelLog:
    """The log after a report's measurements."""
    estimated, sensed = report.reservoir_estimated_ml, report.reservoir_measured_ml
    if estimated is None and sensed is None:
        return log
    before = state.volumes
    if _suspect(before.estimated, estimated) or _suspect(before.measured, sensed) or _sunk(before, sensed):
        after = volumes.measured(before, state, therapy, report)
        if estimated is not None:
            log = _stepped(log, _step(before.estimated, after.estimated, False))
        if sensed is not None:
            log = _stepped(log, _sensed_step(before, after, state.refilled_at))
    at = report.event_time
    if log.forecasts and at - log.forecasts[-1].at < RECOMPUTED_EVERY:
        return log
    level = state.level(at)
    if level is None:
        return log
    forecast = Forecast(
        at,
        level.value,
        level.at,
        mean_rate_ml_per_day(state.volumes, at, state.flow_ml_per_day),
        _bolus_rate(state, at),
    )
    return replace(log, forecasts=(*log.forecasts[-1:], forecast))


def happened(log: LevelLog, state: PumpState, therapy: Therapy, event: Event, at: datetime) -> LevelLog:
    """The log after an event that happened at ``at``: what was predicted of the last filling is void after a refill."""
    if event.type is EventType.REFILL:
        filled_ml = min((event.residual_ml or 0.0) + (event.injected_ml or 0.0), 60.0)
        kept = tuple(forecast for forecast in log.forecasts if forecast.level_at >= at)
        first = Forecast(at, filled_ml, at, mean_rate_ml_per_day(state.volumes, at, state.flow_ml_per_day), 0.0)
        return replace(log, forecasts=(first, *kept)[-2:])
    return LevelLog() if event.type is EventType.PUMP_REPLACED else log


def newest_fall(log: LevelLog) -> LevelStep | None:
    """The latest fall of the measured level."""
    return next((step for step in reversed(log.steps) if step.sensed and step.change_ml < 0), None)


def _suspect(before: Reading | None, now_ml: float | None) -> bool:
    if before is None or now_ml is None:
        return False
    return now_ml - before.ml > SUSPECT_RISE_ML or before.ml - now_ml > SUSPECT_FALL_ML


def _sunk(before: VolumeLog, now_ml: float | None) -> bool:
    """Whether the measured level lies low below an earlier one, by what was programmed up to the last report."""
    if now_ml is None or not before.higher:
        return False
    newest = Reading(now_ml, before.higher[-1].at, before.programmed_ml, before.planned_ml)
    return any(unexplained_ml(reading, newest) > SUSPECT_FALL_ML for reading in before.higher)


def _sensed_step(before: VolumeLog, after: VolumeLog, refilled_at: datetime | None) -> LevelStep | None:
    """A step of the measured level: a rise since the one before, or the largest fall since one of the last day."""
    last, newest = before.measured, after.measured
    if last is None or newest is None:
        return None
    earlier = [reading for reading in before.higher if comparable(reading, newest.at, refilled_at)]
    # A fall over hours is nothing of note where nobody knows what was programmed.
    if newest.ml - last.ml > SUSPECT_RISE_ML or not earlier or not tells_program(after, newest.at):
        return _step(last, newest, True)
    first = max((last, *earlier), key=lambda reading: unexplained_ml(reading, newest))
    return _step(first, newest, True)


def _stepped(log: LevelLog, step: LevelStep | None) -> LevelLog:
    """The log with one more step, which takes the place of one that it goes on from; a smaller one is no news."""
    if step is None:
        return log
    for known in log.steps:
        if known.before_at == step.before_at and known.sensed and step.sensed and known.change_ml < 0:
            if _beyond_ml(step) <= _beyond_ml(known):
                return log
            return replace(log, steps=(*(other for other in log.steps if other is not known), step))
    return replace(log, steps=(*log.steps, step)[-MAX_STEPS:])


def _beyond_ml(step: LevelStep) -> float:
    return -step.change_ml - ACCURACY_ALLOWANCE * step.programmed_ml


def _step(before: Reading | None, after: Reading | None, sensed: bool) -> LevelStep | None:
    if before is None or after is None or not _suspect(before, after.ml):
        return None
    change_ml, programmed_ml = after.ml - before.ml, programmed_between_ml(before, after)
    if change_ml < 0 and (-change_ml - programmed_ml <= SUSPECT_FALL_ML or after.at - before.at >= FALL_WITHIN):
        return None
    return LevelStep(after.at, before.at, change_ml, programmed_ml, sensed)


def _bolus_rate(state: PumpState, at: datetime) -> float:
    filled = state.fills.last
    taken_ml = state.volumes.bolus_ml - (filled.bolus_ml if filled is not None else 0.0)
    since = filled.at if filled is not None else state.volumes.since
    return taken_ml / max(1.0, (at - since) / DAY) if since is not None and taken_ml > 0 else 0.0
