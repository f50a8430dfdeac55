"""What an MRI may do to a pump beside stopping it: trap it, empty or shut its valves, change its program."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from streams.domain.alert import Episode, Priority, PriorityStep, Reason
from streams.domain.care import CareKind, CareRecord
from streams.domain.conditions.sessions import ended_by, sessions
from streams.domain.observing.scans import Alteration, declared_end, valve_gated
from streams.domain.profile import Family
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View
from streams.domain.telemetry import FlowValve, Motor
from streams.domain.world import Mri, Sample, Session

INSTANT: Final = timedelta(microseconds=1)
SESSION_MARGIN: Final = timedelta(minutes=30)
"""How far a programming session may lie from what it explains (as in rule THR-02)."""
DAY: Final = timedelta(hours=24)


def trapped(view: View, rule: Rule) -> Finding:
    """MRI-04: delivery stays off until somebody interrogates the pump.

    HIGH where the field came while an alarm sounded (SynchroMed II), or the motor has been in telemetry mode for longer
    than ``telemetry_mode_minutes`` without an authorised session: as soon as a report shows it, else when none has
    found it running ``next_report_minutes`` later. Only an interrogation that finds it running ends it.
    Source: rules_catalogue.md MRI-04; clinical.md M-05.
    """
    state, therapy, log = view.state, view.therapy, view.state.scans
    if therapy.valve_gated:
        return NOT_EVALUABLE
    track, asked_at = view.present_track(rule.id), log.interrogated_at
    if track is not None and (asked_at is None or asked_at <= track.start):
        since: datetime | None = track.start
        wake_at = None
    else:
        since, wake_at = _trapped_since(view, rule)
    if since is not None:
        known = state.confirmed_at
        return Finding(
            Presence.PRESENT,
            (PriorityStep(Priority.HIGH, since),),
            physician_by=known + therapy.budget if known is not None and not therapy.lowers_high else None,
            values={"since": f"{since:%Y-%m-%d %H:%M} UTC"},
        )
    if track is None and state.motor is None and state.alarms_at is None:
        return NOT_EVALUABLE
    return Finding(Presence.ABSENT, ended_at=asked_at if track is not None else None, wake_at=wake_at)


def _trapped_since(view: View, rule: Rule) -> tuple[datetime | None, datetime | None]:
    """Since when the pump is trapped, or when it will be if nothing comes in between."""
    state, log = view.state, view.state.scans
    asked_at, trapped_at = log.interrogated_at, log.trapped_at
    in_field = trapped_at is not None and view.therapy.family is Family.SYNCHROMED_II
    if in_field and trapped_at is not None and (asked_at is None or asked_at <= trapped_at):
        return trapped_at, None
    since = state.telemetry_mode_since
    if since is None or state.motor not in (Motor.TELEMETRY_MODE, Motor.UNKNOWN):
        return None, None
    if asked_at is not None and asked_at > since:
        since = asked_at
    parameters = view.parameters(rule)
    due = view.due(_unattended(view, since, timedelta(minutes=parameters["telemetry_mode_minutes"])))
    # Longer than the hold, not as long as: a report every 15 minutes that finds it running again comes in time.
    if state.telemetry_mode_at is not None and state.telemetry_mode_at > due:
        return due, None
    # That report is on its way, or a few seconds late by the pump's clock: a single sample shows no duration.
    judged_at = due + timedelta(minutes=parameters["next_report_minutes"])
    return (due, None) if view.at > judged_at else (None, judged_at + INSTANT)


def _unattended(view: View, since: datetime, hold: timedelta) -> datetime:
    """When telemetry mode has lasted for ``hold`` without a session; half of the budget ends a session's say (I3)."""
    due = since + hold
    for session in sorted(sessions(view), key=lambda session: session.start):
        end = ended_by(session)
        if session.start <= due and end + hold > due and end >= since:
            due = end + hold
    confirmed_at = view.state.confirmed_at
    if confirmed_at is None:
        return due
    return min(due, max(since + hold, confirmed_at + view.therapy.budget / 2))


def valve_unsafe(view: View, rule: Rule) -> Finding:
    """MRI-05: a valve-gated pump goes into the field with drug in it, or its valve was not reset after it.

    HIGH from ``scheduled_within_hours`` before a scheduled MRI, or from its start, with more than ``empty_ml`` in the
    reservoir (the field may open the valves: overdose); HIGH ``reset_within_minutes`` after its end while the valve is
    closed or nobody recorded its reset (withdrawal), told again where the first was open already. Undeclared MRI-level
    interference counts only with a valve that the pump says is closed. Source: rules_catalogue.md MRI-05; M-08 to M-10.
    """
    if not valve_gated(view.state.scans, view.therapy):
        return NOT_EVALUABLE
    track, review = view.open_track(rule.id), _review(view, rule)
    reviewed_at = review.valid_from if review is not None else None
    present = track is not None and track.present
    full_at, full_from = _full(view, rule, reviewed_at, present=present)
    shut_at, shut_from = _shut(view, rule, reviewed_at)
    wake_at = min((at for at in (full_from, shut_from) if at is not None), default=None)
    begun = [at for at in (full_at, shut_at) if at is not None]
    if not begun:
        if track is not None and review is not None and review.valid_from >= track.start:
            return Finding(Presence.ABSENT, ended_at=review.valid_from, wake_at=wake_at, closed_by=review.person)
        return _safe(view, rule, track, wake_at, waits=shut_from is not None)
    since = track.start if track is not None and track.present else min(begun)
    told = track.reminders if track is not None else ()
    if shut_at is not None and track is not None and track.start < shut_at and shut_at not in told:
        told = (*told, shut_at)
    confirmed_at = view.state.confirmed_at
    return Finding(
        Presence.PRESENT,
        (PriorityStep(Priority.HIGH, since),),
        wake_at=wake_at,
        physician_by=confirmed_at + view.therapy.budget if shut_at is not None and confirmed_at is not None else None,
        values={"hazard": _SHUT if shut_at is not None else _FULL},
        reminders=told,
    )


_FULL: Final = "drug in the reservoir for the MRI: the field may release it"
_SHUT: Final = "valve not reset after the MRI: no drug is delivered until it is"


def _review(view: View, rule: Rule) -> CareRecord | None:
    """The newest review of this rule's alert that a person recorded; what began before it is dealt with."""
    reviews = (record for record in reversed(view.therapy.of_kind(CareKind.REVIEW)) if record.rule_id == rule.id)
    return next(reviews, None)


def _full(
    view: View, rule: Rule, reviewed_at: datetime | None, *, present: bool
) -> tuple[datetime | None, datetime | None]:
    """Since when there is drug in the reservoir for an MRI; and when that is to be looked at again."""
    state, log, parameters = view.state, view.state.scans, view.parameters(rule)
    mri, level, empty_ml = state.mri, _level(view), parameters["empty_ml"]
    emptied_at = level.at if level is not None and level.value <= empty_ml else None
    if mri is not None and mri.declared and not _after(reviewed_at, mri.start):
        full = log.level_of == mri.start and log.level_ml is not None and log.level_ml > empty_ml
        over = any(at is not None and at > mri.start for at in (log.valve_reset_at, emptied_at))
        if full and not over:
            return mri.start, None
    planned, told_at = log.scheduled_for, log.scheduled_at
    if planned is None or told_at is None or emptied_at is not None or (level is None and not present):
        return None, None
    opens_at = max(planned - timedelta(hours=parameters["scheduled_within_hours"]), told_at)
    # A day after the plan, reports that go on say that it came to nothing; silence says nothing.
    clock = state.reported_at if present else view.at
    gone_by = clock is not None and clock > planned + DAY
    if gone_by or _after(reviewed_at, opens_at) or (mri is not None and mri.declared and mri.start >= opens_at):
        return None, None
    if view.at < opens_at:
        return None, opens_at
    return view.due(opens_at if present or level is None else max(opens_at, level.at)), None


def _after(reviewed_at: datetime | None, begun_at: datetime) -> bool:
    return reviewed_at is not None and reviewed_at >= begun_at


def _level(view: View) -> Sample | None:
    """The higher of what the pump computes and what it senses; a sensed level counts for 24 h and until a refill."""
    state = view.state
    sensed, told = state.measured, state.estimated_ml
    # Measured against the other level, not against the clock: time alone empties nothing.
    if sensed is not None and told is not None and told.at - sensed.at >= DAY:
        sensed = None
    if sensed is not None and state.refilled_at is not None and sensed.at < state.refilled_at:
        sensed = None
    return max((sample for sample in (sensed, told) if sample), key=lambda sample: sample.value, default=None)


def _shut(view: View, rule: Rule, reviewed_at: datetime | None) -> tuple[datetime | None, datetime | None]:
    """Since when the valve should have been reset after an MRI, or when it should be."""
    mri, log = view.state.mri, view.state.scans
    if mri is None:
        return None, None
    due = view.due(declared_end(mri) + timedelta(minutes=view.parameters(rule)["reset_within_minutes"]))
    reset, closed = _reset(view, mri), log.valve == FlowValve.CLOSED
    if not closed and (reset or not mri.declared):
        return None, None
    if view.at < due:
        return None, due
    since = max(due, log.valve_at) if reset and log.valve_at is not None else due
    return (None, None) if _after(reviewed_at, since) else (since, None)


def _reset(view: View, mri: Mri) -> bool:
    reset_at = view.state.scans.valve_reset_at
    return reset_at is not None and (reset_at >= mri.ended_at if mri.ended_at else reset_at > mri.start)


def _safe(view: View, rule: Rule, track: Episode | None, wake_at: datetime | None, *, waits: bool) -> Finding:
    """Neither hazard holds: with the evidence of that for an open alert, or without any nothing is said.

    ``waits``: the valve still waits for its reset, only its deadline was moved.
    """
    log, level = view.state.scans, _level(view)
    if track is None:
        known = level is not None or log.valve is not None
        return Finding(Presence.ABSENT if known else Presence.NOT_EVALUABLE, wake_at=wake_at)
    emptied_at = level.at if level is not None and level.value <= view.parameters(rule)["empty_ml"] else None
    told = (log.valve_reset_at, log.valve_at, emptied_at, log.scheduled_at)
    later = [at for at in told if at is not None and at >= track.start]
    ended_at = max(later, default=view.state.reported_at)
    if waits or ended_at is None or ended_at < track.start:
        return Finding(Presence.NOT_EVALUABLE, wake_at=wake_at)
    return Finding(Presence.ABSENT, ended_at=ended_at, wake_at=wake_at)


def program_altered(view: View, rule: Rule) -> Finding:
    """MRI-06: the program or its schedule is another one after an exposure than before, and nobody was in session.

    HIGH at the first report that tells it. Ends with an authorised session after it, with a person's review, or when
    the old program runs again. Source: rules_catalogue.md MRI-06; clinical.md M-04.
    """
    log = view.state.scans
    altered, track = log.altered, view.open_track(rule.id)
    if altered is None:
        return ABSENT if log.programs or log.rates.values else NOT_EVALUABLE
    # A change is a fact and no deadline: a later version of the profile does not make it news.
    since = altered.at
    if any(_in_session(session, altered) for session in sessions(view)):
        disproved = track is not None and track.start == since
        reason = Reason.LATE_EVIDENCE if disproved else None
        return Finding(Presence.ABSENT, ended_at=altered.at if disproved else None, retract=reason)
    review = _review(view, rule)
    if review is not None and review.valid_from >= since:
        return Finding(Presence.ABSENT, ended_at=review.valid_from, closed_by=review.person)
    later = [session for session in sessions(view) if since < session.start <= view.at]
    if later:
        return Finding(Presence.ABSENT, ended_at=min(session.start for session in later))
    newest = log.programs[-1] if log.programs else None
    if newest is not None and not altered.schedule and newest.checksum == altered.before:
        return Finding(Presence.ABSENT, ended_at=newest.since)
    what = "schedule" if altered.schedule else "program"
    values = {"what": what, "exposed": f"{altered.exposed_at:%Y-%m-%d %H:%M} UTC"}
    return Finding(Presence.PRESENT, (PriorityStep(Priority.HIGH, since),), values=values)


def _in_session(session: Session, altered: Alteration) -> bool:
    """Whether an authorised session, give or take half an hour, lies between the exposure and the change."""
    return session.start - SESSION_MARGIN <= altered.at and ended_by(session) + SESSION_MARGIN >= altered.exposed_at


CONDITIONS: Final = {
    "mri.program_altered": Named(program_altered, reads=("scans", "sessions")),
    "mri.trapped": Named(trapped, reads=("scans", "telemetry_mode_since", "telemetry_mode_at", "motor", "sessions")),
    "mri.valve_unsafe": Named(valve_unsafe, reads=("mri", "scans", "estimated", "measured", "refilled_at")),
}
