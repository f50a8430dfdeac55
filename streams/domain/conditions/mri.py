"""MRI conditions: a stall that is expected, and a recovery that is overdue.

A declared MRI has an owner and a hard end, so it may withhold the stall alert; interference that merely looks like an
MRI withholds nothing, because a household magnet looks the same (clinical.md M-13).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from streams.domain.alert import Priority, PriorityStep
from streams.domain.profile import Therapy, WithdrawalClass
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View
from streams.domain.world import Mri, PumpState

HARD_END: Final = timedelta(minutes=120)
AFTER_END: Final = timedelta(minutes=15)
LATE_DECLARATION: Final = timedelta(minutes=15)
"""How long after a stall an MRI may still be declared to explain it (event time of the declaring report; M.8)."""


def hard_end(mri: Mri) -> datetime:
    """When a declared window ends at the latest: 15 min after its end, and never later than 120 min after its start."""
    latest = mri.start + HARD_END
    return min(mri.ended_at + AFTER_END, latest) if mri.ended_at else latest


def declared_end(mri: Mri) -> datetime:
    """``end`` in the catalogue: the recorded end, else the hard end; for undeclared MRI the last interference seen."""
    if not mri.declared:
        return mri.last_seen_at or mri.start
    return mri.ended_at or hard_end(mri)


def withholds_stall(state: PumpState, therapy: Therapy, stalled_since: datetime) -> bool:
    """Whether a declared MRI explains a stall that began at ``stalled_since``.

    A stall before the scan began is not explained by it: its alarm sounded when the field came (clinical.md M-05).
    """
    mri = state.mri
    if mri is None or mri.declared_at is None or not therapy.known or therapy.valve_gated:
        return False
    in_window = mri.start <= stalled_since <= hard_end(mri)
    return in_window and mri.declared_at <= stalled_since + LATE_DECLARATION


def stall_expected(view: View, rule: Rule) -> Finding:
    """MRI-01: a stall inside a declared window is attached as INFO, until evidence of recovery."""
    state = view.state
    mri = state.mri
    if view.therapy.valve_gated or not view.therapy.known or (state.motor is None and mri is None):
        return NOT_EVALUABLE
    stalled_since = state.stalled_since
    if mri is not None and stalled_since is not None and withholds_stall(state, view.therapy, stalled_since):
        return Finding(Presence.PRESENT, (PriorityStep(Priority.INFO, stalled_since),))
    if stalled_since is not None:
        return NOT_EVALUABLE if view.open_track(rule.id) else ABSENT
    return Finding(Presence.ABSENT, ended_at=state.last_stall_ended_at)


def recovery_overdue(view: View, rule: Rule) -> Finding:
    """MRI-02: no recovery after an MRI; MEDIUM at T1, HIGH at T2, which never passes half of the budget.

    T1 = end + ``medium_after_minutes``; T2 = min(end + ``high_after_minutes``, LCD + B/2), on W1 MEDIUM like T1.
    """
    state, therapy = view.state, view.therapy
    mri = state.mri
    if mri is None or therapy.valve_gated:
        return NOT_EVALUABLE if therapy.valve_gated or state.motor is None else ABSENT
    if mri.recovered_at is not None:
        return Finding(Presence.ABSENT, ended_at=mri.recovered_at)
    end = declared_end(mri)
    medium_at = view.due(end + timedelta(minutes=view.parameters(rule)["medium_after_minutes"]))
    confirmed_at = state.confirmed_at or mri.start
    high_at = min(
        end + timedelta(minutes=view.parameters(rule)["high_after_minutes"]), confirmed_at + therapy.budget / 2
    )
    high_at = view.due(max(high_at, mri.start))
    w1 = therapy.withdrawal is WithdrawalClass.W1
    deadlines = [(Priority.MEDIUM, min(medium_at, high_at) if w1 else medium_at)]
    if not w1:
        deadlines = [(Priority.HIGH, high_at)] if high_at <= medium_at else [*deadlines, (Priority.HIGH, high_at)]
    steps = tuple(PriorityStep(priority, at) for priority, at in deadlines if at <= view.at)
    wake_at = min((at for _, at in deadlines if at > view.at), default=None)
    if not steps:
        return Finding(Presence.ABSENT if view.open_track(rule.id) is None else Presence.NOT_EVALUABLE, wake_at=wake_at)
    physician_by = confirmed_at + therapy.budget if steps[-1].priority is Priority.HIGH else None
    ended = "ended" if end <= view.at else "its window is open until"
    values = {"end": f"{ended} {end:%Y-%m-%d %H:%M} UTC"}
    return Finding(Presence.PRESENT, steps, wake_at=wake_at, physician_by=physician_by, values=values)


CONDITIONS: Final = {
    "mri.recovery_overdue": Named(recovery_overdue, reads=("mri", "frozen_at")),
    "mri.stall_expected": Named(stall_expected, reads=("mri", "stalled_since")),
}
