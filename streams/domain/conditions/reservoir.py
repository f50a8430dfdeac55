"""Reservoir conditions. The level most pumps report is computed from the program, not measured (clinical.md D-01)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from streams.domain.alert import Priority, PriorityStep
from streams.domain.profile import WithdrawalClass
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View
from streams.domain.telemetry import Alarm


def at_most(view: View, rule: Rule) -> Finding:
    """RSV-01: the computed level is at or under the limit on consecutive reports, or the pump says so itself.

    Parameters: ``consecutive_reports`` (1 to 5), ``clear_margin_ml`` above the limit that a refill must reach,
    ``urgent_within_hours`` of the worst-case empty time for MEDIUM to become HIGH on ``W3+1``. The limit is the
    profile's ``low_reservoir_ml``, else 4.0 mL on W3 and 2.0 mL otherwise (catalogue M.12).
    """
    state, therapy = view.state, view.therapy
    track = view.open_track(rule.id)
    if track is not None and track.present:
        since: datetime | None = track.start
        if _refilled(view, track.start, therapy.low_reservoir_ml + view.parameters(rule)["clear_margin_ml"]):
            return Finding(Presence.ABSENT, ended_at=state.refilled_at)
    else:
        since = _low_since(view, view.parameters(rule)["consecutive_reports"])
    if since is None:
        return ABSENT if state.estimated or state.alarms_at else NOT_EVALUABLE
    empty_at = state.empty_at(therapy, view.at)
    steps: tuple[PriorityStep, ...] = (PriorityStep(Priority.MEDIUM, since),)
    wake_at = None
    if empty_at and therapy.raises_medium:
        urgent_at = empty_at - timedelta(hours=view.parameters(rule)["urgent_within_hours"])
        if urgent_at >= view.at:
            wake_at = urgent_at + timedelta(microseconds=1)
        elif track is None or not track.present:
            steps = (PriorityStep(Priority.HIGH, since),)
        else:
            steps = (*steps, PriorityStep(Priority.HIGH, view.at))
    values = {"worst_case_empty": empty_at.strftime("%Y-%m-%d %H:%M UTC") if empty_at else "unknown"}
    return Finding(Presence.PRESENT, steps, wake_at=wake_at, values=values)


def _low_since(view: View, consecutive: int) -> datetime | None:
    state = view.state
    if Alarm.LOW_RESERVOIR in state.alarms:
        return state.alarms_at
    limit = view.therapy.low_reservoir_ml
    # The newest decides almost always.
    if not state.estimated or state.estimated[-1].value > limit:
        return None
    newest = state.estimated[-consecutive:]
    if len(newest) == consecutive and all(sample.value <= limit for sample in newest):
        return newest[-1].at
    return None


def _refilled(view: View, since: datetime, level_ml: float) -> bool:
    state = view.state
    if state.refilled_at is None or state.refilled_at < since or Alarm.LOW_RESERVOIR in state.alarms:
        return False
    levels = [sample for sample in (state.estimated_ml, state.measured) if sample and sample.at >= state.refilled_at]
    return any(sample.value >= level_ml for sample in levels)


def empty(view: View, rule: Rule) -> Finding:
    """RSV-02: the pump says empty, or a level is at or under ``limit_ml``; ends with a refill and then delivery.

    HIGH, on W1 MEDIUM. Refilling alone proves nothing: a motor turning over an empty reservoir delivers nothing.
    """
    state, therapy = view.state, view.therapy
    track = view.open_track(rule.id)
    if track is not None and track.present:
        since: datetime | None = track.start
        refilled, confirmed = state.refilled_at, state.confirmed_at
        if refilled and confirmed and refilled >= track.start and confirmed >= refilled and not state.needs_refill:
            return Finding(Presence.ABSENT, ended_at=confirmed)
    else:
        since = _empty_since(view, view.parameters(rule)["limit_ml"])
    if since is None:
        return ABSENT if state.estimated or state.measured or state.alarms_at else NOT_EVALUABLE
    w1 = therapy.withdrawal is WithdrawalClass.W1
    physician_by = None if w1 or state.confirmed_at is None else state.confirmed_at + therapy.budget
    step = PriorityStep(Priority.MEDIUM if w1 else Priority.HIGH, since)
    return Finding(Presence.PRESENT, (step,), physician_by=physician_by)


def _empty_since(view: View, limit_ml: float) -> datetime | None:
    state = view.state
    candidates = [
        sample.at
        for sample in (state.estimated_ml, state.measured)
        if sample is not None and sample.value <= limit_ml and _after_refill(view, sample.at)
    ]
    if Alarm.RESERVOIR_EMPTY in state.alarms and state.alarms_at and _after_refill(view, state.alarms_at):
        candidates.append(state.alarms_at)
    return min(candidates, default=None)


def _after_refill(view: View, at: datetime) -> bool:
    return view.state.refilled_at is None or at >= view.state.refilled_at


CONDITIONS: Final = {
    "reservoir.at_most": Named(at_most, reads=("estimated", "measured", "alarms", "refilled_at", "flow_ml_per_day")),
    "reservoir.empty": Named(empty, reads=("estimated", "measured", "alarms", "refilled_at")),
}
