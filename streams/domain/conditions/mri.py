"""MRI conditions: a stall that is expected, and a recovery that is overdue.

A declared MRI has an owner and a hard end, so it may withhold the stall alert; interference that merely looks like an
MRI withholds nothing, because a household magnet looks the same (clinical.md M-13).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from streams.domain.alert import Episode, Priority, PriorityStep
from streams.domain.observing.scans import BEFORE_START, declared_end, in_window
from streams.domain.profile import Family, Therapy, WithdrawalClass
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View
from streams.domain.world import Mri, PumpState

__all__ = ["CONDITIONS", "declared_end", "explained", "parents_of_mri", "scan_of", "withholds_stall"]

LATE_DECLARATION: Final = timedelta(minutes=15)
"""How long after a stall an MRI may still be declared to explain it (event time of the declaring report; M.8)."""


def withholds_stall(state: PumpState, therapy: Therapy, stalled_since: datetime) -> bool:
    """Whether a declared MRI explains a stall that began at ``stalled_since``; a later one takes nothing back.

    A stall in the 15 minutes before the start sounded its alarm when the field came (clinical.md M-05): the MRI takes
    it over only where rule MRI-04 then says so (M.9).
    """
    if not state.flow.scans or not therapy.known or therapy.valve_gated:
        return False
    trapped_at = state.scans.trapped_at if therapy.family is Family.SYNCHROMED_II else None
    for scan in state.flow.scans:
        before = stalled_since < scan.start
        if not in_window(scan, stalled_since) or (before and (trapped_at is None or trapped_at < scan.start)):
            continue
        # The new pump in the place of one that was scanned was in no field.
        own = state.replaced_at is None or not scan.start <= state.replaced_at <= stalled_since
        if own and (scan.declared_at or scan.start) <= stalled_since + LATE_DECLARATION:
            return True
    return False


def scan_of(state: PumpState, stalled_since: datetime) -> datetime | None:
    """Start of the newest declared MRI in whose window a stall began, however late that was declared."""
    return next((scan.start for scan in reversed(state.flow.scans) if in_window(scan, stalled_since)), None)


def explained(view: View, track: Episode | None) -> bool:
    """Whether an MRI that was declared since explains the stall with which an open episode began."""
    return track is not None and withholds_stall(view.state, view.therapy, track.start)


def parents_of_mri(view: View, start: datetime, *rule_ids: str) -> tuple[str, ...]:
    """Those of the rules whose open episode is about the MRI that began at ``start``, or a later one.

    What an earlier one left open defers nothing.
    """
    since = start - BEFORE_START
    tracks = ((rule_id, view.open_track(rule_id)) for rule_id in rule_ids)
    return tuple(rule_id for rule_id, track in tracks if track is not None and track.start >= since)


def stall_expected(view: View, rule: Rule) -> Finding:
    """MRI-01: a stall inside a declared window is attached as INFO, until evidence of recovery."""
    state = view.state
    mri = state.mri
    if view.therapy.valve_gated or not view.therapy.known or (state.motor is None and mri is None):
        return NOT_EVALUABLE
    stalled_since = state.stalled_since
    if stalled_since is not None and withholds_stall(state, view.therapy, stalled_since):
        return Finding(Presence.PRESENT, (PriorityStep(Priority.INFO, stalled_since),))
    if stalled_since is not None:
        return NOT_EVALUABLE if view.open_track(rule.id) else ABSENT
    return Finding(Presence.ABSENT, ended_at=state.last_stall_ended_at)


def recovery_overdue(view: View, rule: Rule) -> Finding:
    """MRI-02: no recovery after an MRI; MEDIUM at T1, HIGH at T2, which never passes half of the budget.

    T1 = end + ``medium_after_minutes``; T2 = min(end + ``high_after_minutes``, LCD + B/2), on W1 MEDIUM like T1. While
    MRI-04 says of the same MRI that the pump waits for an interrogation, it is its child.
    """
    state, therapy = view.state, view.therapy
    mri = state.mri
    if mri is None or therapy.valve_gated:
        return NOT_EVALUABLE if therapy.valve_gated or state.motor is None else ABSENT
    if mri.recovered_at is not None:
        return Finding(Presence.ABSENT, ended_at=mri.recovered_at)
    deadlines = _recovery_deadlines(view, rule, mri)
    steps = tuple(PriorityStep(priority, at) for priority, at in deadlines if at <= view.at)
    wake_at = min((at for _, at in deadlines if at > view.at), default=None)
    if not steps:
        return Finding(Presence.ABSENT if view.open_track(rule.id) is None else Presence.NOT_EVALUABLE, wake_at=wake_at)
    confirmed_at, end = state.confirmed_at or mri.start, declared_end(mri)
    ended = "ended" if end <= view.at else "its window is open until"
    return Finding(
        Presence.PRESENT,
        steps,
        wake_at=wake_at,
        physician_by=confirmed_at + therapy.budget if steps[-1].priority is Priority.HIGH else None,
        parents=parents_of_mri(view, mri.start, "MRI-04"),
        values={"end": f"{ended} {end:%Y-%m-%d %H:%M} UTC"},
    )


def _recovery_deadlines(view: View, rule: Rule, mri: Mri) -> list[tuple[Priority, datetime]]:
    """T1 and T2 of MRI-02, those that matter."""
    therapy, parameters, end = view.therapy, view.parameters(rule), declared_end(mri)
    medium_at = view.due(end + timedelta(minutes=parameters["medium_after_minutes"]))
    half_of_budget = (view.state.confirmed_at or mri.start) + therapy.budget / 2
    high_at = min(end + timedelta(minutes=parameters["high_after_minutes"]), half_of_budget)
    high_at = view.due(max(high_at, mri.start))
    if therapy.lowers_high:
        return [(Priority.MEDIUM, min(medium_at, high_at))]
    if high_at <= medium_at:
        return [(Priority.HIGH, high_at)]
    return [(Priority.MEDIUM, medium_at), (Priority.HIGH, high_at)]


def not_interrogated(view: View, rule: Rule) -> Finding:
    """MRI-03: nobody found the pump running by an interrogation after an MRI's end.

    MEDIUM ``medium_after_minutes`` after the end; HIGH ``high_after_minutes`` after it on W2 and W3, unless telemetry
    confirmed delivery after the end. An undeclared MRI asks for it only after a stall, or while nothing later confirms
    delivery (M.10). An interrogation that failed, or found the pump in any other state, does not count.
    """
    state, therapy = view.state, view.therapy
    mri, log = state.mri, state.scans
    if mri is None or therapy.valve_gated:
        return NOT_EVALUABLE if therapy.valve_gated or state.motor is None else ABSENT
    end, track = declared_end(mri), view.open_track(rule.id)
    asked_at = min(end, track.start) if track is not None else end
    if log.interrogated_at is not None and log.interrogated_at >= asked_at:
        return Finding(Presence.ABSENT, ended_at=log.interrogated_at)
    if not mri.declared and mri.stalled_at is None and mri.recovered_at is not None:
        return Finding(Presence.ABSENT, ended_at=mri.recovered_at)
    parameters = view.parameters(rule)
    deadlines = [(Priority.MEDIUM, view.due(end + timedelta(minutes=parameters["medium_after_minutes"])))]
    high_at = view.due(end + timedelta(minutes=parameters["high_after_minutes"]))
    delivered = log.delivered_at is not None and end < log.delivered_at <= high_at
    if therapy.withdrawal is not WithdrawalClass.W1 and not delivered:
        deadlines.append((Priority.HIGH, high_at))
    steps = tuple(PriorityStep(priority, at) for priority, at in deadlines if at <= view.at)
    wake_at = min((at for _, at in deadlines if at > view.at), default=None)
    if not steps:
        return Finding(Presence.ABSENT if track is None else Presence.NOT_EVALUABLE, wake_at=wake_at)
    seen = "Delivery was seen since" if delivered else "Delivery was not seen since"
    return Finding(
        Presence.PRESENT,
        steps,
        wake_at=wake_at,
        parents=parents_of_mri(view, mri.start, "MRI-04", "MRI-02"),
        values={"end": f"{end:%Y-%m-%d %H:%M} UTC", "delivery": seen},
    )


CONDITIONS: Final = {
    "mri.not_interrogated": Named(not_interrogated, reads=("mri", "scans"), follows=("MRI-02", "MRI-04")),
    "mri.recovery_overdue": Named(recovery_overdue, reads=("mri", "frozen_at"), follows=("MRI-04",)),
    "mri.stall_expected": Named(stall_expected, reads=("mri", "stalled_since", "scans", "replaced_at")),
}
