"""Delivery conditions: the stall, and the clock of non-delivery behind everything else."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from streams.domain.alert import Priority, PriorityStep, Reason
from streams.domain.conditions.mri import declared_end, explained, hard_end, parents_of_this_mri, withholds_stall
from streams.domain.profile import WithdrawalClass
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View
from streams.domain.telemetry import Motor

DELIVERY_RULES: Final = ("DLV-01", "MRI-02", "RSV-02")
"""The rules whose open MEDIUM or HIGH alert means that somebody is told of the interruption (catalogue M.5)."""


def motor_stalled(view: View, rule: Rule) -> Finding:
    """DLV-01: the motor stalls, and no declared MRI explains it.

    HIGH, on W1 MEDIUM. ``physician_lead_minutes`` before the non-delivery budget is used up the physician on call is
    told whatever was acknowledged. Source: rules_catalogue.md DLV-01, M.8.
    """
    state, therapy = view.state, view.therapy
    since, track = state.stalled_since, view.open_track(rule.id)
    withheld = since is not None and withholds_stall(state, therapy, since)
    if track is not None and (since is None or withheld) and explained(view, track):
        return Finding(Presence.ABSENT, ended_at=track.start, retract=Reason.MRI_DECLARED)
    if since is None:
        if state.motor is None and state.last_stall_ended_at is None:
            return NOT_EVALUABLE
        return Finding(Presence.ABSENT, ended_at=state.last_stall_ended_at)
    if withheld:
        return ABSENT
    w1 = therapy.withdrawal is WithdrawalClass.W1
    physician_by = None
    if not w1 and state.confirmed_at is not None:
        lead = timedelta(minutes=view.parameters(rule)["physician_lead_minutes"])
        physician_by = state.confirmed_at + therapy.budget - lead
    mri = state.mri
    during_mri = mri is not None and mri.declared and since <= hard_end(mri)
    step = PriorityStep(Priority.MEDIUM if w1 else Priority.HIGH, since)
    return Finding(
        Presence.PRESENT,
        (step,),
        physician_by=physician_by,
        parents=parents_of_this_mri(view, "MRI-04", "MRI-02") if during_mri else (),
        values={"since": since.strftime("%Y-%m-%d %H:%M UTC")},
    )


def not_confirmed(view: View, rule: Rule) -> Finding:
    """DLV-09: nothing confirms delivery for a quarter, half, all of the patient's non-delivery budget B.

    The armed clock runs in event time and never pauses. Silence after a running motor is judged only where
    `View.heard_at` allows it. Source: rules_catalogue.md DLV-09, M.4, M.5.
    """
    state = view.state
    if view.heard_at is not None:
        return _silent(view, rule)
    if state.confirmed_at is None:
        return NOT_EVALUABLE
    if state.armed_since is None:
        return Finding(Presence.ABSENT, ended_at=state.confirmed_at)
    deadlines = _deadlines(view, state.confirmed_at, state.armed_since)
    reached = [PriorityStep(priority, at) for priority, at in deadlines if at <= view.at]
    wake_at = min((at for _, at in deadlines if at > view.at), default=None)
    if not reached:
        return Finding(Presence.NOT_EVALUABLE if view.open_track(rule.id) else Presence.ABSENT, wake_at=wake_at)
    high = reached[-1].priority is Priority.HIGH
    return Finding(
        Presence.PRESENT,
        tuple(reached),
        wake_at=wake_at,
        physician_by=state.confirmed_at + view.therapy.budget if high else None,
        values={"since": state.confirmed_at.strftime("%Y-%m-%d %H:%M UTC")},
    )


def _deadlines(view: View, confirmed_at: datetime, armed_since: datetime) -> list[tuple[Priority, datetime]]:
    budget = view.therapy.budget
    if view.therapy.withdrawal is WithdrawalClass.W1:
        return [(Priority.HIGH, view.due(max(confirmed_at + budget, armed_since)))]
    high_at = view.due(max(confirmed_at + budget / 2, armed_since))
    medium_at = _medium_at(view, view.due(max(confirmed_at + budget / 4, armed_since)))
    if medium_at is None or medium_at >= high_at:
        return [(Priority.HIGH, high_at)]
    return [(Priority.MEDIUM, medium_at), (Priority.HIGH, high_at)]


def _medium_at(view: View, due_at: datetime) -> datetime | None:
    """When the MEDIUM step is due: not while another delivery alert is open, nor before an MRI recovery is overdue."""
    own = view.open_track("DLV-09")
    if own is not None and own.present:
        return own.start
    for rule_id in DELIVERY_RULES:
        track = view.tracks.get(rule_id)
        if track is None or track.retracted or track.priority.rank < Priority.MEDIUM.rank:
            continue
        if not track.closed:
            return None
        if track.ended_at is not None and track.ended_at > due_at:
            due_at = track.ended_at
    mri = view.state.mri
    if mri is not None and mri.declared and mri.recovered_at is None and view.therapy.known:
        return max(due_at, declared_end(mri) + timedelta(minutes=30))
    return due_at


def _silent(view: View, rule: Rule) -> Finding:
    """The silence branch: last state running, then nothing; MEDIUM at B, HIGH at 2 B for R1 or an empty reservoir."""
    state, therapy, at = view.state, view.therapy, view.at
    budget = therapy.budget
    heard_at, confirmed_at = view.heard_at, state.confirmed_at
    if heard_at is None or confirmed_at is None or state.armed_since is not None or state.motor != Motor.RUNNING:
        return NOT_EVALUABLE
    if therapy.interval > budget / 8:
        return NOT_EVALUABLE
    due_at, settled_at = (
        confirmed_at + budget,
        heard_at + timedelta(seconds=view.parameters(rule)["silence_settle_seconds"]),
    )
    if at < due_at or at < settled_at:
        return Finding(Presence.NOT_EVALUABLE, wake_at=max(due_at, settled_at))
    steps, wake_at = [PriorityStep(Priority.MEDIUM, due_at)], None
    empty_at = state.empty_at(therapy, confirmed_at)
    high_at: datetime | None = confirmed_at + 2 * budget
    if not therapy.high_risk:
        high_at = max(confirmed_at + 2 * budget, empty_at) if empty_at else None
    if high_at is not None and at >= high_at:
        steps.append(PriorityStep(Priority.HIGH, high_at))
    else:
        wake_at = high_at
    values = {"since": confirmed_at.strftime("%Y-%m-%d %H:%M UTC")}
    return Finding(Presence.PRESENT, tuple(steps), wake_at=wake_at, values=values)


CONDITIONS: Final = {
    "delivery.motor_stalled": Named(motor_stalled, reads=("stalled_since", "mri"), follows=("MRI-02", "MRI-04")),
    "delivery.not_confirmed": Named(not_confirmed, reads=("armed_since", "frozen_at", "mri"), follows=DELIVERY_RULES),
}
