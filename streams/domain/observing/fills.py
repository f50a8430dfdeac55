"""Refills: what was put in, what should have been left, what is measured after (REF-01 to REF-04)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from streams.domain.observing import volumes
from streams.domain.observing.volumes import DAY, VolumeLog, totals_at
from streams.domain.profile import ACCURACY_ALLOWANCE, Therapy
from streams.domain.telemetry import Event, EventType, InterrogationResult, Report

if TYPE_CHECKING:
    from streams.domain.world import PumpState

CHECKED_FOR: Final = timedelta(minutes=60)
"""How long after a refill measured levels are compared with what was put in; inclusive (REF-01)."""
PLAUSIBLE_ML: Final = {20: 1.0, 40: 2.0}
"""A level this much below what was put in still confirms a refill, by reservoir size (clinical.md F-09)."""
SHORTEST_INTERRUPTION: Final = timedelta(hours=1)
"""A shorter interruption is not remembered; limits in rule files are longer."""
SAME_RESTART: Final = timedelta(hours=1)
"""Delivery that comes back so soon after a refill or valve reset is the restart that the refill began."""
LEAST_PROGRAMMED_ML: Final = 2.0
LEAST_EXCESS_ML: Final = 1.0
"""Under these a refill ratio is syringe noise (clinical.md D-03)."""
MAX_OUTCOMES: Final = 5
MAX_RESTARTS: Final = 4
MAX_SHORTFALLS: Final = 6


class Fill(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What was in the reservoir after a refill at ``at``, and the program's totals then; all in mL."""

    at: datetime
    volume_ml: float
    programmed_ml: float
    scheduled_ml: float
    bolus_ml: float


class Emptying(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A refill whose outcome waits for the counter that comes with its report."""

    at: datetime
    withdrawn_ml: float
    filled_ml: float
    bolus_ml: float
    level_ml: float | None
    told_at: datetime


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the refill at ``at`` showed of the filling before it: ``programmed_ml`` (Vp) and ``delivered_ml`` (Va)."""

    at: datetime
    programmed_ml: float
    delivered_ml: float
    told_at: datetime

    @property
    def ratio(self) -> float:
        """Delivered over programmed; 1.0 when nothing was programmed."""
        return self.delivered_ml / self.programmed_ml if self.programmed_ml > 0 else 1.0

    @property
    def excess_ml(self) -> float:
        """What was delivered beyond the program; negative when less."""
        return self.delivered_ml - self.programmed_ml


class Shortfall(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A level measured at ``at`` lay ``ml`` below what should be there, more than any before."""

    at: datetime
    ml: float


class Check(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The latest refill while it is checked: what was put in, what was missing since, and what confirms it."""

    at: datetime
    filled_ml: float
    shortfalls: tuple[Shortfall, ...] = ()
    told_at: datetime | None = None
    confirmed_at: datetime | None = None


class Restart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Drug flows again, or another way, from ``at`` on; ``not_since`` is LCD before an interruption.

    ``kind`` is ``refill``, ``valve_reset``, ``delivery``, ``concentration`` or ``replaced``.
    """

    at: datetime
    kind: str
    told_at: datetime
    not_since: datetime | None = None


class FillLog(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The last filling, what earlier ones showed (oldest first), and what began anew.

    ``told_at`` of each part is the moment at which it became known, in event time. ``drugs`` are the concentrations
    that the last refill or program change brought, ``profile_from`` the profile version they were compared with.
    """

    last: Fill | None = None
    outcomes: tuple[Outcome, ...] = ()
    waiting: tuple[Emptying, ...] = ()
    check: Check | None = None
    restarts: tuple[Restart, ...] = ()
    drugs: tuple[tuple[str, float], ...] | None = None
    profile_from: datetime | None = None
    resumed_at: datetime | None = None
    interrogated_at: datetime | None = None

    @property
    def over_infusion_ratio(self) -> float | None:
        """The last filling's ratio where it was over-infusion in the sense of REF-02, else None."""
        newest = self.outcomes[-1] if self.outcomes else None
        return newest.ratio if newest is not None and over_infused(newest) else None


def over_infused(outcome: Outcome) -> bool:
    """Whether a filling left the reservoir too fast; the ratio exclusive, the floors inclusive (REF-02)."""
    if outcome.programmed_ml < LEAST_PROGRAMMED_ML or outcome.excess_ml < LEAST_EXCESS_ML - 1e-6:
        return False
    return outcome.ratio > ACCURACY_ALLOWANCE


def refill_ratios(log: FillLog, count: int = 3) -> tuple[float, ...]:
    """Delivered over programmed volume of the latest ``count`` refills, oldest first, without the noise (THR-06)."""
    told = [outcome.ratio for outcome in log.outcomes if outcome.programmed_ml >= LEAST_PROGRAMMED_ML]
    return tuple(told[-count:])


def measured(log: FillLog, state: PumpState, therapy: Therapy, report: Report) -> FillLog:
    """The log after a report's measurements."""
    at = report.event_time
    if log.waiting:
        log = _emptied(log, state.volumes, volumes.measured(state.volumes, state, therapy, report), therapy, at)
    check = log.check
    if check is not None and at >= check.at and (check.confirmed_at is None or at <= check.at + CHECKED_FOR):
        estimated, sensed = report.reservoir_estimated_ml, report.reservoir_measured_ml
        for level_ml, is_sensed in ((estimated, False), (sensed, True)):
            if level_ml is not None:
                check = _compared(check, level_ml, at, at, state, therapy, sensed=is_sensed)
        if check is not log.check:
            log = replace(log, check=check)
    if therapy.valid_from != log.profile_from and therapy.profile is not None:
        log = _other_profile(log, state, therapy, at)
    return _resumed(log, state, at) if state.resumed is not None else log


def happened(log: FillLog, state: PumpState, therapy: Therapy, event: Event, at: datetime) -> FillLog:
    """The log after an event that happened at ``at``."""
    told_at = at if state.clock is None else max(at, state.clock)
    log = _resumed(log, state, told_at)
    if event.type is EventType.REFILL:
        log = _refilled(log, state, therapy, event, at, told_at)
        log = _interrupted(log, state, "refill", at, told_at)
        return _brought(log, therapy, at, told_at)
    if event.type is EventType.VALVE_RESET:
        return _interrupted(log, state, "valve_reset", at, told_at)
    if event.type is EventType.PROGRAM_CHANGE:
        return _brought(log, therapy, at, told_at)
    if event.type is EventType.INTERROGATION and event.result is not InterrogationResult.FAILED:
        return _interrogated(log, at)
    if event.type is EventType.PUMP_REPLACED:
        kept = FillLog(drugs=log.drugs, profile_from=log.profile_from, resumed_at=log.resumed_at)
        return replace(kept, restarts=(*log.restarts, Restart(at, "replaced", told_at))[-MAX_RESTARTS:])
    return log


def _refilled(
    log: FillLog, state: PumpState, therapy: Therapy, event: Event, at: datetime, told_at: datetime
) -> FillLog:
    residual_ml = event.residual_ml or 0.0
    filled_ml = residual_ml + (event.injected_ml or 0.0)
    # What could not be aspirated was in the reservoir all the same.
    withdrawn_ml = (event.aspirated_ml or 0.0) + residual_ml
    before = state.volumes.estimated
    level_ml = before.ml if before is not None and before.at <= at else None
    emptying = Emptying(at, withdrawn_ml, filled_ml, state.volumes.bolus_ml, level_ml, told_at)
    waiting = (*log.waiting, emptying)[-MAX_OUTCOMES:]
    if log.check is not None and at < log.check.at:
        return replace(log, waiting=waiting)
    check = Check(at, filled_ml)
    for sample in state.estimated:
        if sample.at > at:
            check = _compared(check, sample.value, sample.at, told_at, state, therapy, sensed=False)
    if state.measured is not None and state.measured.at >= at and told_at > at:
        check = _compared(check, state.measured.value, state.measured.at, told_at, state, therapy, sensed=True)
    log = replace(log, waiting=waiting, check=check)
    seen_at = log.interrogated_at
    return _interrogated(log, seen_at) if seen_at is not None and seen_at >= at else log


def _compared(
    check: Check, level_ml: float, at: datetime, told_at: datetime, state: PumpState, therapy: Therapy, *, sensed: bool
) -> Check:
    """A level after the refill: it confirms the refill when about as much is there as should be."""
    expected_ml = check.filled_ml - (state.flow_ml_per_day or 0.0) * ((at - check.at) / DAY)
    missing_ml = expected_ml - level_ml
    plausible_ml = PLAUSIBLE_ML[therapy.profile.reservoir_ml if therapy.profile is not None else 20]
    if check.confirmed_at is None and missing_ml <= plausible_ml + 1e-6:
        check = replace(check, confirmed_at=at)
    worst_ml = check.shortfalls[-1].ml if check.shortfalls else 0.0
    if not sensed or at > check.at + CHECKED_FOR or missing_ml <= max(worst_ml, plausible_ml / 2):
        return check
    return replace(check, shortfalls=(*check.shortfalls, Shortfall(at, missing_ml))[:MAX_SHORTFALLS], told_at=told_at)


def _interrogated(log: FillLog, at: datetime) -> FillLog:
    check = log.check
    if check is not None and at >= check.at and (check.confirmed_at is None or at < check.confirmed_at):
        log = replace(log, check=replace(check, confirmed_at=at))
    if log.interrogated_at is None or at > log.interrogated_at:
        log = replace(log, interrogated_at=at)
    return log


def _emptied(log: FillLog, before: VolumeLog, after: VolumeLog, therapy: Therapy, told_at: datetime) -> FillLog:
    """What the refills that waited showed, now that their report's counter is known at ``told_at``."""
    last, outcomes = log.last, log.outcomes
    for emptying in log.waiting:
        programmed_ml, scheduled_ml = totals_at(before, after, emptying.at)
        if last is not None and emptying.at < last.at:
            continue
        filled_ml = last.volume_ml if last is not None else therapy.profile.last_fill_ml if therapy.profile else None
        if filled_ml is not None:
            taken_ml = _programmed_since(last, programmed_ml, scheduled_ml, emptying, filled_ml)
            if taken_ml is not None:
                outcome = Outcome(emptying.at, taken_ml, filled_ml - emptying.withdrawn_ml, told_at)
                outcomes = (*outcomes, outcome)[-MAX_OUTCOMES:]
        last = Fill(emptying.at, emptying.filled_ml, programmed_ml, scheduled_ml, emptying.bolus_ml)
    return replace(log, last=last, outcomes=outcomes, waiting=())


def _programmed_since(
    last: Fill | None, programmed_ml: float, scheduled_ml: float, emptying: Emptying, filled_ml: float
) -> float | None:
    """Vp: what the program asked for since the last fill, boluses included; None when nothing tells.

    A counter that grew by the schedule alone leaves boluses out, so they are added. Before the first refill that we
    saw, the computed level tells what the program took (clinical.md D-01); without one, the counter of the boot does,
    as long as it can have come from one filling.
    """
    if last is None:
        if emptying.level_ml is not None:
            return max(0.0, filled_ml - emptying.level_ml)
        return programmed_ml if 0 < programmed_ml <= filled_ml else None
    counted_ml = programmed_ml - last.programmed_ml
    bolus_ml = emptying.bolus_ml - last.bolus_ml
    with_boluses_ml = scheduled_ml - last.scheduled_ml + bolus_ml
    return counted_ml if counted_ml >= with_boluses_ml - bolus_ml / 2 else counted_ml + bolus_ml


def _interrupted(log: FillLog, state: PumpState, kind: str, at: datetime, told_at: datetime) -> FillLog:
    """A refill or valve reset while delivery is interrupted: from here on it may flow again."""
    not_since = state.confirmed_at
    if state.armed_since is None or not_since is None or at - not_since < SHORTEST_INTERRUPTION:
        return log
    return replace(log, restarts=(*log.restarts, Restart(at, kind, told_at, not_since))[-MAX_RESTARTS:])


def _resumed(log: FillLog, state: PumpState, told_at: datetime) -> FillLog:
    """Delivery is confirmed again after an interruption; the restart that a refill began is not told twice."""
    resumed = state.resumed
    if resumed is None or resumed.at == log.resumed_at:
        return log
    log = replace(log, resumed_at=resumed.at)
    if resumed.at - resumed.not_since < SHORTEST_INTERRUPTION:
        return log
    for known in log.restarts:
        if known.not_since == resumed.not_since and resumed.at - known.at <= SAME_RESTART:
            return log
    restart = Restart(resumed.at, "delivery", told_at, resumed.not_since)
    return replace(log, restarts=(*log.restarts, restart)[-MAX_RESTARTS:])


def _concentrations(therapy: Therapy) -> tuple[tuple[str, float], ...]:
    drugs = therapy.profile.drugs if therapy.profile is not None else ()
    return tuple(sorted((drug.name.value, drug.concentration_ug_per_ml or 0.0) for drug in drugs))


def _brought(log: FillLog, therapy: Therapy, at: datetime, told_at: datetime) -> FillLog:
    """A refill or program change brings the concentrations of the profile in force."""
    if therapy.profile is None:
        return log
    drugs = _concentrations(therapy)
    changed = log.drugs is not None and drugs != log.drugs
    log = replace(log, drugs=drugs, profile_from=therapy.valid_from)
    if not changed:
        return log
    return replace(log, restarts=(*log.restarts, Restart(at, "concentration", told_at))[-MAX_RESTARTS:])


def _other_profile(log: FillLog, state: PumpState, therapy: Therapy, at: datetime) -> FillLog:
    """A version entered after the refill of its day that brought it counts from its own time (catalogue M.29).

    Otherwise the change comes with the next refill or program change (M.28).
    """
    if log.drugs is None:
        return replace(log, drugs=_concentrations(therapy), profile_from=therapy.valid_from)
    since, refilled_at = therapy.valid_from, state.refilled_at
    log = replace(log, profile_from=since)
    if since is None or refilled_at is None or not since - DAY <= refilled_at < since:
        return log
    return _brought(log, therapy, since, at)
