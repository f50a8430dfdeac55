"""Reservoir conditions. The level most pumps report is computed from the program, not measured (clinical.md D-01)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from streams.domain.alert import Episode, Priority, PriorityStep, Reason
from streams.domain.conditions.incidents import Incident, rising, standing, told
from streams.domain.conditions.sessions import held_until
from streams.domain.observing.levels import Forecast, LevelStep
from streams.domain.profile import WithdrawalClass
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View
from streams.domain.telemetry import Alarm
from streams.domain.world import PumpState

LONGEST: Final = timedelta(days=36_500)
"""A date further ahead than this is as good as never."""
ROUNDING_ML: Final = 1e-6
"""Volumes come in thousandths of a millilitre; a difference of two is not exact."""


def at_most(view: View, rule: Rule) -> Finding:
    """RSV-01: the computed level is at or under the limit on consecutive reports, or the pump says so itself.

    Parameters: ``consecutive_reports`` (1 to 5), ``clear_margin_ml`` above the limit that a refill must reach,
    ``urgent_within_hours`` of the worst-case empty time for MEDIUM to become HIGH on ``W3+1``. The limit is the
    profile's ``low_reservoir_ml``, else 4.0 mL on W3 and 2.0 mL otherwise (catalogue M.12).
    """
    state, therapy = view.state, view.therapy
    track = view.open_track(rule.id)
    low_since = _low_since(view, view.parameters(rule)["consecutive_reports"])
    since = track.start if track is not None and track.present else low_since
    if since is None:
        return ABSENT if state.estimated or state.alarms_at else NOT_EVALUABLE
    enough_ml = therapy.low_reservoir_ml + view.parameters(rule)["clear_margin_ml"]
    # Low levels after the refill are news, whatever was measured meanwhile.
    again = low_since is not None and state.refilled_at is not None and low_since > state.refilled_at
    if not again and _refilled(view, since, enough_ml):
        return Finding(Presence.ABSENT, ended_at=state.refilled_at)
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
    values = {"worst_case_empty": _stamp(empty_at), "nominal_empty": _stamp(_nominal_empty_at(view))}
    planning = view.open_track("RSV-03")
    parents = ("RSV-03",) if planning is not None and planning.priority is Priority.HIGH else ()
    return Finding(Presence.PRESENT, steps, wake_at=wake_at, values=values, parents=parents)


def _stamp(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC") if at is not None else "unknown"


def _nominal_empty_at(view: View) -> datetime | None:
    """When the reservoir is empty if the pump delivers as programmed and no bolus is taken."""
    level = view.state.level(view.at)
    flow = view.state.flow_ml_per_day or view.therapy.prescribed_ml_per_day
    return _after_days(level.at, level.value / flow) if level is not None and flow else None


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

    A new pump in its place was filled as well. HIGH, on W1 MEDIUM. Refilling alone proves nothing: a motor turning over
    an empty reservoir delivers nothing.
    """
    state, therapy = view.state, view.therapy
    track = view.open_track(rule.id)
    if track is not None and track.present:
        since: datetime | None = track.start
        filled, confirmed = _filled_at(state), state.confirmed_at
        if filled and confirmed and filled >= track.start and confirmed >= filled and not state.needs_refill:
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
    state, measured = view.state, view.state.measured
    above = not state.estimated or state.estimated[-1].value > limit_ml
    if above and not state.alarms and (measured is None or measured.value > limit_ml):
        # Nearly always.
        return None
    candidates = [
        sample.at
        for sample in (state.estimated_ml, state.measured)
        if sample is not None and sample.value <= limit_ml and _since_filled(state, sample.at)
    ]
    if Alarm.RESERVOIR_EMPTY in state.alarms and state.alarms_at and _since_filled(state, state.alarms_at):
        candidates.append(state.alarms_at)
    return min(candidates, default=None)


def _since_filled(state: PumpState, at: datetime) -> bool:
    filled_at = _filled_at(state)
    return filled_at is None or at >= filled_at


def _filled_at(state: PumpState) -> datetime | None:
    """When the pump was last refilled, or replaced by one that was filled."""
    return max((at for at in (state.refilled_at, state.replaced_at) if at is not None), default=None)


class Outlook(msgspec.Struct, frozen=True):
    """When a level is reached, as the two latest forecasts agree: the later date of both, so that both have to say so.

    ``threshold_at`` is Dw of the catalogue as a date, ``nominal_threshold_at`` Dn, ``empty_at`` Ew. ``deadline_at`` and
    ``nominal_deadline_at`` are what a booked date is judged against: threshold, or empty once the threshold is reached.
    ``newest_...`` are the newest forecast's own. None: never, at what the schedule says.
    """

    since: datetime
    threshold_at: datetime
    empty_at: datetime
    deadline_at: datetime
    nominal_threshold_at: datetime | None
    nominal_deadline_at: datetime | None
    newest_threshold_at: datetime
    newest_deadline_at: datetime


def outlook(view: View, accuracy_allowance: float) -> Outlook | None:
    """What the two latest forecasts agree on; None while there are not two, or nothing leaves the reservoir.

    Args:
        view: The pump and the moment judged.
        accuracy_allowance: True over programmed flow in the worst case; an observed over-infusion (REF-02) takes its
            place where it is larger (clinical.md D-02).
    """
    forecasts = view.state.levels.forecasts
    if len(forecasts) < 2:
        return None
    allowance = max(accuracy_allowance, view.state.fills.over_infusion_ratio or 0.0)
    dates = [_dates(view, forecast, allowance) for forecast in forecasts]
    first, newest = dates
    if first is None or newest is None:
        return None
    return Outlook(
        since=forecasts[-1].at,
        threshold_at=max(first.threshold_at, newest.threshold_at),
        empty_at=max(first.empty_at, newest.empty_at),
        deadline_at=max(first.deadline_at, newest.deadline_at),
        nominal_threshold_at=_later(first.nominal_threshold_at, newest.nominal_threshold_at),
        nominal_deadline_at=_later(first.nominal_deadline_at, newest.nominal_deadline_at),
        newest_threshold_at=newest.threshold_at,
        newest_deadline_at=newest.deadline_at,
    )


class _Dates(msgspec.Struct, frozen=True):
    threshold_at: datetime
    empty_at: datetime
    deadline_at: datetime
    nominal_threshold_at: datetime | None
    nominal_deadline_at: datetime | None


def _dates(view: View, forecast: Forecast, allowance: float) -> _Dates | None:
    therapy = view.therapy
    flow = forecast.flow_ml_per_day
    flow = therapy.prescribed_ml_per_day if flow is None else flow
    if flow is None:
        return None
    worst = (flow + therapy.max_bolus_ml_per_day) * allowance
    if worst <= 0:
        return None
    nominal, since, level_ml = flow + forecast.bolus_ml_per_day, forecast.level_at, forecast.level_ml
    above_ml = level_ml - therapy.low_reservoir_ml
    threshold_at, empty_at = _after_days(since, above_ml / worst), _after_days(since, level_ml / worst)
    nominal_threshold_at = _after_days(since, above_ml / nominal) if nominal > 0 else None
    nominal_deadline_at = nominal_threshold_at
    if above_ml <= 0:
        nominal_deadline_at = _after_days(since, level_ml / flow) if flow > 0 else None
    deadline_at = threshold_at if above_ml > 0 else empty_at
    return _Dates(threshold_at, empty_at, deadline_at, nominal_threshold_at, nominal_deadline_at)


def _after_days(since: datetime, days: float) -> datetime:
    return since + min(LONGEST, timedelta(days=min(days, LONGEST.days)))


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return None if one is None or other is None else max(one, other)


def _day_ends_at(view: View, booked_at: datetime) -> datetime:
    """24:00 of a booked day at the site (catalogue M.13)."""
    day = booked_at.astimezone(view.therapy.zone).date()
    return view.therapy.midnight(day + timedelta(days=1))


def _since(track: Episode) -> datetime:
    return max(track.start, track.recurred_at or track.start)


def _refilled_since(state: PumpState, track: Episode | None) -> bool:
    return track is not None and state.refilled_at is not None and state.refilled_at > _since(track)


def _planning_values(view: View, dates: Outlook | None, booked_at: datetime | None) -> Mapping[str, str]:
    """The dates people plan with; never a drug or a name (G9)."""
    over = view.state.fills.over_infusion_ratio
    reliability = ""
    if over is not None:
        reliability = (
            f" The computed level is unreliable: the last filling left {over:.2f} times as fast as programmed."
        )
    booked = f"{booked_at.astimezone(view.therapy.zone):%Y-%m-%d}" if booked_at is not None else "no date"
    return {
        "worst_case": _stamp(dates.threshold_at if dates else None),
        "nominal": _stamp(dates.nominal_threshold_at if dates else None),
        "empty": _stamp(dates.empty_at if dates else None),
        "booked": booked,
        "reliability": reliability,
    }


def predicted_empty(view: View, rule: Rule) -> Finding:
    """RSV-03: the low-reservoir limit is near in the worst case, and no refill is booked in time.

    With Dw days left: LOW at ``low_within_days``, MEDIUM at ``medium_within_days``, HIGH at ``high_within_days`` (W1
    stays MEDIUM), all inclusive, in event time; a step needs two forecasts that agree. Ends with a refill, a booking at
    least ``booking_margin_days`` before Dw, or Dw ``step_down_margin_days`` beyond the first step. A booked date begins
    at 00:00 and has passed at 24:00 of the site's day; a passed one is no booking (catalogue M.13).
    """
    state, therapy, p = view.state, view.therapy, view.parameters(rule)
    track = view.present_track(rule.id)
    if _refilled_since(state, track):
        return Finding(Presence.ABSENT, ended_at=state.refilled_at)
    dates = outlook(view, p["accuracy_allowance"])
    if dates is None:
        return NOT_EVALUABLE
    floors = [dates.since]
    if therapy.since is not None:
        floors.append(therapy.since)
    booked_at = therapy.refill_booked_at
    if booked_at is not None:
        passed_at = _day_ends_at(view, booked_at)
        if passed_at <= view.at:
            floors.append(passed_at)
        elif _booking_holds(booked_at, dates, track, p):
            return Finding(Presence.ABSENT, wake_at=passed_at)
    low_within = timedelta(days=p["low_within_days"])
    step_down = low_within + timedelta(days=p["step_down_margin_days"])
    if track is not None and dates.newest_threshold_at - dates.since > step_down:
        return Finding(Presence.ABSENT, ended_at=dates.since)
    steps = [(Priority.LOW, low_within), (Priority.MEDIUM, timedelta(days=p["medium_within_days"]))]
    if therapy.withdrawal is not WithdrawalClass.W1:
        steps.append((Priority.HIGH, timedelta(days=p["high_within_days"])))
    due = [PriorityStep(priority, max(*floors, dates.threshold_at - within)) for priority, within in steps]
    return _planned(view, track, due, _planning_values(view, dates, booked_at), "RSV-04")


def _booking_holds(booked_at: datetime, dates: Outlook, track: Episode | None, p: Mapping[str, Any]) -> bool:
    """Whether a booked date is in time: on or before Dw, and a day before it once there is an alert."""
    if track is None:
        return booked_at <= dates.deadline_at
    return booked_at <= dates.newest_deadline_at - timedelta(days=p["booking_margin_days"])


def _planned(
    view: View,
    track: Episode | None,
    due: list[PriorityStep],
    values: Mapping[str, str],
    other: str,
) -> Finding:
    """A finding of RSV-03 or RSV-04 from the steps with their times, those to come included; known ones stay."""
    reached = [step for step in due if step.at <= view.at]
    known = track.priority.rank if track is not None else -1
    wake_at = min((step.at for step in due if step.at > view.at and step.priority.rank > known), default=None)
    if not reached and track is None:
        return Finding(Presence.ABSENT, wake_at=wake_at)
    steps = rising([*reached, *(track.steps if track is not None else ())])
    return Finding(Presence.PRESENT, steps, wake_at=wake_at, values=values, parents=(other,))


def appointment(view: View, rule: Rule) -> Finding:
    """RSV-04: the booked refill is too late for the worst case, or its day has passed and nobody refilled.

    LOW when the date is later than ``booking_margin_days`` before Dw, MEDIUM when it is after Dn (both exclusive);
    MEDIUM at 24:00 of a day that passed without a refill, on ``W3+1`` HIGH once less than ``urgent_within_days`` remain
    to Dw. A refill up to ``early_days`` before the booked day is that refill. Ends with a refill or another booking.
    """
    state, therapy, p = view.state, view.therapy, view.parameters(rule)
    track = view.present_track(rule.id)
    if _refilled_since(state, track):
        return Finding(Presence.ABSENT, ended_at=state.refilled_at)
    booked_at = therapy.refill_booked_at
    if booked_at is None:
        return ABSENT
    if state.refilled_at is not None and state.refilled_at >= booked_at - timedelta(days=p["early_days"]):
        return Finding(Presence.ABSENT, ended_at=None if track is None else state.refilled_at)
    dates = outlook(view, p["accuracy_allowance"])
    passed_at = _day_ends_at(view, booked_at)
    due = _too_late(view, dates, booked_at, passed_at, p) + _missed(view, dates, passed_at, p)
    changed = track is not None and therapy.since is not None and therapy.since > _since(track)
    if changed and not any(step.at <= view.at for step in due):
        # Somebody rebooked: what the new date is judged by has not come yet.
        return Finding(Presence.ABSENT, ended_at=therapy.since, wake_at=min(step.at for step in due))
    return _planned(view, track, due, _planning_values(view, dates, booked_at), "RSV-03")


def _too_late(
    view: View, dates: Outlook | None, booked_at: datetime, passed_at: datetime, p: Mapping[str, Any]
) -> list[PriorityStep]:
    if dates is None or booked_at <= dates.deadline_at - timedelta(days=p["booking_margin_days"]):
        return []
    at = max(dates.since, view.therapy.since or dates.since)
    if at >= passed_at:
        return []
    nominal_at = dates.nominal_deadline_at
    return [PriorityStep(Priority.MEDIUM if nominal_at is not None and booked_at > nominal_at else Priority.LOW, at)]


def _missed(view: View, dates: Outlook | None, passed_at: datetime, p: Mapping[str, Any]) -> list[PriorityStep]:
    missed_at = max(passed_at, view.therapy.since or passed_at)
    steps = [PriorityStep(Priority.MEDIUM, missed_at)]
    if view.therapy.raises_medium and dates is not None:
        urgent_at = dates.threshold_at - timedelta(days=p["urgent_within_days"])
        steps.append(PriorityStep(Priority.HIGH, max(missed_at, urgent_at, dates.since)))
    return steps


def unexplained_step(view: View, rule: Rule) -> Finding:
    """RSV-05: the level rose without a refill, or fell by more than the program explains.

    A rise of more than ``rise_ml`` is judged ``judged_after_hours`` later, because the refill may still be told: LOW. A
    fall of more than programmed times ``accuracy_allowance`` plus ``fall_margin_ml`` is judged at once: HIGH where it
    was measured, MEDIUM where it was computed (somebody reprogrammed it). A measured level is compared with those of
    the last 24 hours, so that a slow fall shows; a computed one with the one before. A computed step inside an
    authorised session is INFO until the session no longer holds it. A refill that is told later takes the alert back.
    """
    p, track = view.parameters(rule), view.open_track(rule.id)
    incidents, wakes, explained = list[Incident](), list[datetime](), set[datetime]()
    for step in view.state.levels.steps:
        priority = _step_priority(step, p)
        if priority is None:
            continue
        due_at = step.at if step.change_ml < 0 else step.at + timedelta(hours=p["judged_after_hours"])
        if _explained(view.state, step, timedelta(hours=p["refill_within_hours"])):
            explained.add(due_at)
        elif due_at > view.at:
            wakes.append(due_at)
        else:
            incidents.append(_step_incident(view, step, priority, due_at, wakes))
    wake_at = min(wakes, default=None)
    if track is not None and track.start in explained and told(track).isdisjoint(item.at for item in incidents):
        return Finding(Presence.ABSENT, retract=Reason.LATE_EVIDENCE, wake_at=wake_at)
    if not incidents and track is None and not (view.state.estimated or view.state.measured):
        return NOT_EVALUABLE
    return standing(view, rule, incidents, wake_at=wake_at)


def _step_priority(step: LevelStep, p: Mapping[str, Any]) -> Priority | None:
    if step.change_ml > 0:
        return Priority.LOW if step.change_ml > p["rise_ml"] + ROUNDING_ML else None
    allowed_ml = step.programmed_ml * p["accuracy_allowance"] + p["fall_margin_ml"]
    if -step.change_ml <= allowed_ml + ROUNDING_ML:
        return None
    return Priority.HIGH if step.sensed else Priority.MEDIUM


def _explained(state: PumpState, step: LevelStep, within: timedelta) -> bool:
    """Whether a refill explains the step: before it, or for a rise up to ``within`` after it as well; inclusive."""
    rose = step.change_ml > 0
    begin = step.before_at - within if rose else min(step.before_at, step.at - within)
    end = step.at + within if rose else step.at
    return any(begin <= refill.at <= end for refill in state.refills)


def _step_incident(
    view: View, step: LevelStep, priority: Priority, due_at: datetime, wakes: list[datetime]
) -> Incident:
    steps: tuple[PriorityStep, ...] = (PriorityStep(priority, due_at),)
    held_end = None if step.sensed else held_until(view, step.at)
    if held_end is not None and held_end > due_at:
        steps = (PriorityStep(Priority.INFO, due_at),)
        if held_end <= view.at:
            steps = (*steps, PriorityStep(priority, held_end))
        else:
            wakes.append(held_end)
    values = {
        "change": f"{'rose' if step.change_ml > 0 else 'fell'} by {abs(step.change_ml):.2f} mL",
        "since": _stamp(step.before_at),
        "level": "measured" if step.sensed else "computed",
        "programmed": f"{step.programmed_ml:.2f} mL",
        "at": _stamp(step.at),
    }
    return Incident(due_at, due_at, steps, values)


_PLANNING_READS: Final = ("levels", "fills", "refilled_at")

CONDITIONS: Final = {
    "reservoir.at_most": Named(
        at_most, reads=("estimated", "measured", "alarms", "refilled_at", "flow_ml_per_day"), follows=("RSV-03",)
    ),
    "reservoir.empty": Named(empty, reads=("estimated", "measured", "alarms", "refilled_at")),
    "reservoir.predicted_empty": Named(predicted_empty, reads=_PLANNING_READS),
    "reservoir.appointment": Named(appointment, reads=_PLANNING_READS),
    "reservoir.unexplained_step": Named(unexplained_step, reads=("levels", "refills")),
}
