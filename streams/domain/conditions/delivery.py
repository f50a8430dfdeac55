"""Delivery conditions: a motor that stalls or is stopped, a pump that lost its program, a rate that is too low.

What is counted over days is in `stall_burden`, what is measured in `delivered_volume`, and the clock behind everything
else in `non_delivery`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from streams.domain.alert import Priority, PriorityStep, Reason
from streams.domain.conditions import delivered_volume, non_delivery, stall_burden
from streams.domain.conditions.mri import explained, parents_of_mri, scan_of, withholds_stall
from streams.domain.conditions.sessions import held_until, known_session
from streams.domain.observing.flow import LowRate, program_of
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View
from streams.domain.telemetry import Alarm, Motor
from streams.domain.world import PumpState

SESSION_TOLERANCE: Final = timedelta(minutes=30)
"""How far from an authorised session a program change may lie and still belong to it (rule THR-02)."""
SCHEDULE_REPEATS: Final = (timedelta(days=1), timedelta(days=7))
"""A program may have other steps on other days of the week (clinical.md D-09)."""
SHORTEST_SLACK, LONGEST_SLACK = timedelta(minutes=15), timedelta(hours=1)
"""A step shows in the next report only: by two expected intervals, within these limits, phases may seem to differ."""
LOST_PROGRAM: Final = (Alarm.CRITICAL_MEMORY_ERROR, Alarm.SAFE_STATE)
"""Alarms after which the pump runs at its minimum or not at all until it is programmed anew (A-11)."""


def motor_stalled(view: View, rule: Rule) -> Finding:
    """DLV-01: the motor stalls, and no declared MRI explains it.

    HIGH, on W1 MEDIUM. ``physician_lead_minutes`` before the non-delivery budget is used up the physician on call is
    told whatever was acknowledged. A stall that ended within ``self_recovered_minutes`` says so and stays open. Source:
    rules_catalogue.md DLV-01, M.8, M.9.
    """
    state, therapy = view.state, view.therapy
    since, track = state.stalled_since, view.open_track(rule.id)
    withheld = since is not None and withholds_stall(state, therapy, since)
    if track is not None and (since is None or withheld) and explained(view, track):
        return Finding(Presence.ABSENT, ended_at=track.start, retract=Reason.MRI_DECLARED)
    if since is None:
        if state.motor is None and state.last_stall_ended_at is None:
            return NOT_EVALUABLE
        return _recovered(view, rule)
    if withheld:
        return ABSENT
    physician_by = None
    if not therapy.lowers_high and state.confirmed_at is not None:
        lead = timedelta(minutes=view.parameters(rule)["physician_lead_minutes"])
        physician_by = state.confirmed_at + therapy.budget - lead
    scan = scan_of(state, since)
    step = PriorityStep(Priority.MEDIUM if therapy.lowers_high else Priority.HIGH, since)
    return Finding(
        Presence.PRESENT,
        (step,),
        physician_by=physician_by,
        parents=parents_of_mri(view, scan, "MRI-04", "MRI-02") if scan is not None else (),
        values={"since": written(since), "state": "no drug is delivered"},
    )


def _recovered(view: View, rule: Rule) -> Finding:
    state = view.state
    stall = state.stalls[-1] if state.stalls else None
    values = None
    if stall is not None and stall.end is not None:
        minutes = int((stall.end - stall.start) / timedelta(minutes=1))
        recovered = "self-recovered" if minutes < view.parameters(rule)["self_recovered_minutes"] else "recovered"
        values = {"since": written(stall.start), "state": f"{recovered} after {minutes} min"}
    return Finding(Presence.ABSENT, ended_at=state.last_stall_ended_at, values=values)


def stopped(view: View, rule: Rule) -> Finding:
    """DLV-03: the pump is stopped; INFO at once. What else is due waits for the end of an authorised session's hold.

    MEDIUM at LCD + min(``medium_hours``, B/4), HIGH at LCD + min(``high_hours``, B/2). Neither is due while a signed
    plan is in force, which ends at LCD + 24 h at the latest. LOW when an MRI starts meanwhile, or is planned within
    ``mri_note_hours`` of the stop. The pump's own alarm is HIGH at once. Source: rules_catalogue.md DLV-03, M-06.
    """
    state, at = view.state, view.at
    track = view.present_track(rule.id)
    alarm_at = _stopped_too_long(state)
    since = state.stopped_since
    if since is None:
        if alarm_at is None:
            return _running_again(state)
        since = min(track.start, alarm_at) if track is not None else alarm_at
    held = held_until(view, since)
    deadlines = [(Priority.INFO, since), *_stop_deadlines(view, rule, since, held)]
    if alarm_at is not None:
        deadlines = [(Priority.HIGH, alarm_at)]
    steps = reached(deadlines, at)
    long_at = since + timedelta(hours=view.parameters(rule)["long_stop_hours"])
    wake_at = min((due for due in (*(due for _, due in deadlines), long_at) if due > at), default=None)
    if not steps:
        return Finding(Presence.NOT_EVALUABLE, wake_at=wake_at)
    return Finding(
        Presence.PRESENT,
        steps,
        wake_at=wake_at,
        reminders=(long_at,) if long_at <= at else (),
        values={"since": written(since), "plan": _plan_words(view), "note": _stop_note(view, rule, since, long_at)},
    )


def _stopped_too_long(state: PumpState) -> datetime | None:
    """When the pump's own alarm was last heard; a motor seen running since then ended it."""
    at = state.alarms_at
    if at is None or Alarm.PUMP_STOPPED_48H not in state.alarms:
        return None
    running_since = state.motor == Motor.RUNNING and state.motor_at is not None and state.motor_at > at
    return None if running_since else at


def _running_again(state: PumpState) -> Finding:
    """Only a running motor ends it: a stall, telemetry mode or an unknown motor delivers no more than a stop."""
    if state.motor == Motor.RUNNING:
        return Finding(Presence.ABSENT, ended_at=state.motor_at)
    return NOT_EVALUABLE


def _stop_deadlines(view: View, rule: Rule, since: datetime, held: datetime | None) -> list[tuple[Priority, datetime]]:
    parameters, budget = view.parameters(rule), view.therapy.budget
    confirmed_at = min(view.state.confirmed_at or since, since)
    medium_at = confirmed_at + min(timedelta(hours=parameters["medium_hours"]), budget / 4)
    high_at = confirmed_at + min(timedelta(hours=parameters["high_hours"]), budget / 2)
    deadlines = [
        (priority, view.due(max(non_delivery.after_plan(view, confirmed_at, due), since, held or since)))
        for priority, due in ((Priority.MEDIUM, medium_at), (Priority.HIGH, high_at))
    ]
    noted_at = _mri_meanwhile(view, rule, since)
    if noted_at is not None:
        deadlines.insert(0, (Priority.LOW, max(noted_at, held or since)))
    return deadlines


def _mri_meanwhile(view: View, rule: Rule, since: datetime) -> datetime | None:
    """When a stop turned out to be one before an MRI, which would delay the notice of an extended stall (M-06)."""
    if view.therapy.valve_gated:
        return None
    mri, planned_at = view.state.mri, view.state.flow.mri_planned_at
    if mri is not None and mri.declared and mri.start >= since:
        return mri.start
    soon = timedelta(hours=view.parameters(rule)["mri_note_hours"])
    return since if planned_at is not None and since <= planned_at <= since + soon else None


def _plan_words(view: View) -> str:
    plan = non_delivery.plan_in_force(view)
    return f"plan {plan.care_id} in force" if plan is not None else "no signed plan in force"


def _stop_note(view: View, rule: Rule, since: datetime, long_at: datetime) -> str:
    notes = []
    if view.at >= long_at:
        notes.append(" Device damage risk: a stop of more than 48 h becomes critical.")
    if _mri_meanwhile(view, rule, since) is not None:
        notes.append(" Stopping before an MRI is discouraged: an extended stall would be noticed late.")
    return "".join(notes)


def program_lost(view: View, _: Rule) -> Finding:
    """DLV-04: safe state, critical memory error, or a reset to the default program, HIGH; a memory error alone is LOW.

    After a reset the condition ends with delivery confirmed later than it; whether the program is the right one a
    person must say. Source: rules_catalogue.md DLV-04, M.24.
    """
    state = view.state
    causes: list[tuple[Priority, datetime, str]] = []
    alarms_at = state.alarms_at
    if alarms_at is not None:
        if any(alarm in state.alarms for alarm in LOST_PROGRAM):
            causes.append((Priority.HIGH, alarms_at, "critical memory error or safe state: delivery is unknown"))
        elif Alarm.MEMORY_ERROR in state.alarms:
            causes.append((Priority.LOW, alarms_at, "memory error, not critical"))
    if state.reset_at is not None and state.reset_over_at is None:
        causes.append((Priority.HIGH, state.reset_at, "reset to the default program: delivery is unknown"))
    if not causes:
        if alarms_at is None and state.reset_at is None:
            return NOT_EVALUABLE
        return Finding(Presence.ABSENT, ended_at=_latest(alarms_at, state.reset_over_at))
    priority, at, cause = min(causes, key=lambda cause: (-cause[0].rank, cause[1]))
    return Finding(Presence.PRESENT, (PriorityStep(priority, at),), values={"cause": cause})


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)


def minimum_rate(view: View, rule: Rule) -> Finding:
    """DLV-05: the program runs at the device's minimum although more is prescribed, and nobody authorised it.

    At most ``minimum_ml_per_day`` times ``tolerance`` on ``samples`` (1 to 5) reports in a row; together at most 0.06
    mL/day. HIGH, on W1 MEDIUM; saline at the minimum is meant so (HZ-20). A phase that the same program had at the same
    time of a day before is expected while it lasted then: nothing less than programmed is delivered (D-09). Source:
    rules_catalogue.md DLV-05, A-08.
    """
    state, therapy = view.state, view.therapy
    parameters = view.parameters(rule)
    limit = parameters["minimum_ml_per_day"] * parameters["tolerance"]
    low, samples = state.flow.low, int(parameters["samples"])
    if low is None or state.stopped_since is not None:
        return ABSENT if state.flow_ml_per_day is not None and state.stopped_since is None else NOT_EVALUABLE
    newest = low.newest[-samples:]
    if therapy.saline_only or newest[-1][1] > limit:
        return Finding(Presence.ABSENT, ended_at=newest[-1][0])
    prescribed = therapy.prescribed_ml_per_day
    if prescribed is None:
        return NOT_EVALUABLE
    if prescribed <= limit:
        return Finding(Presence.ABSENT)
    track = view.present_track(rule.id)
    if track is None and (len(newest) < samples or any(flow > limit for _, flow in newest)):
        return NOT_EVALUABLE
    if (authorised_at := _authorised(view, low)) is not None:
        wrong = track is not None and track.start >= authorised_at
        return Finding(Presence.ABSENT, ended_at=authorised_at, retract=Reason.LATE_EVIDENCE if wrong else None)
    return _at_minimum(view, rule, low, newest[-1])


def _at_minimum(view: View, rule: Rule, low: LowRate, newest: tuple[datetime, float]) -> Finding:
    since = view.due(newest[0])
    if view.present_track(rule.id) is None:
        held = held_until(view, low.since), _scheduled_until(view, low)
        since = max([since, *(at for at in held if at is not None)])
    if since > view.at:
        return Finding(Presence.NOT_EVALUABLE, wake_at=since)
    priority = Priority.MEDIUM if view.therapy.lowers_high else Priority.HIGH
    return Finding(Presence.PRESENT, (PriorityStep(priority, since),), values={"flow": f"{newest[1]:g}"})


def _scheduled_until(view: View, low: LowRate) -> datetime | None:
    """Until when the low rate is the program's own schedule; None when it did not have it a day or a week before.

    The program must be the same by its checksum, in the same boot, and have left that phase for a higher rate by
    itself, which no pump does after a reset; anything that may have changed it since makes it another one.
    """
    state = view.state
    if not low.program or low.program != program_of(state):
        return None
    seen_within = min(max(2 * view.therapy.interval, SHORTEST_SLACK), LONGEST_SLACK)
    ends = [
        phase.until + period + seen_within
        for phase in state.flow.phases
        for period in SCHEDULE_REPEATS
        if phase.program == low.program
        and phase.ml_per_day <= low.newest[-1][1]
        and abs(low.since - phase.since - period) <= seen_within
    ]
    return max(ends, default=None)


def _authorised(view: View, low: LowRate) -> datetime | None:
    """When an authorised session brought the low rate by a program change."""
    for change in view.state.flow.changes:
        if change.at <= low.since and known_session(view, change.session_id, change.at, SESSION_TOLERANCE) is not None:
            return change.at
    return None


def reached(deadlines: list[tuple[Priority, datetime]], at: datetime) -> tuple[PriorityStep, ...]:
    """The steps whose time has come, lowest first; one that a higher one overtakes is left out."""
    due = [PriorityStep(priority, moment) for priority, moment in deadlines if moment <= at]
    return tuple(
        step
        for index, step in enumerate(due)
        if all(step.at < later.at for later in due[index + 1 :] if later.priority.rank > step.priority.rank)
    )


def written(moment: datetime) -> str:
    """A time as messages show it."""
    return moment.strftime("%Y-%m-%d %H:%M UTC")


CONDITIONS: Final = {
    "delivery.motor_stalled": Named(
        motor_stalled, reads=("stalled_since", "mri", "scans", "replaced_at"), follows=("MRI-02", "MRI-04")
    ),
    "delivery.stopped": Named(stopped, reads=("stopped_since", "alarms", "motor", "sessions", "armed_since")),
    "delivery.program_lost": Named(program_lost, reads=("alarms", "reset_at", "reset_over_at")),
    "delivery.minimum_rate": Named(
        minimum_rate, reads=("flow", "sessions", "armed_since", "stopped_since", "checksum", "boot_id")
    ),
    **stall_burden.CONDITIONS,
    **delivered_volume.CONDITIONS,
    **non_delivery.CONDITIONS,
}
DELIVERY_RULES: Final = non_delivery.DELIVERY_RULES
