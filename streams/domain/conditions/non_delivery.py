"""The non-delivery clock: what nobody else noticed, nobody may miss."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from streams.domain.alert import Episode, Priority, PriorityStep
from streams.domain.care import CareKind, CareRecord
from streams.domain.conditions.mri import declared_end
from streams.domain.rule import NOT_EVALUABLE, Finding, Named, Presence, Rule, View
from streams.domain.telemetry import Motor

DELIVERY_RULES: Final = (
    *(f"DLV-0{number}" for number in range(1, 9)),
    *(f"MRI-0{number}" for number in range(2, 7)),
    "RSV-02",
)
"""The rules whose open MEDIUM or HIGH alert means that somebody is told of the interruption (catalogue M.5)."""
INTERRUPTIONS: Final = ("DLV-01", "DLV-03", "DLV-04", "MRI-02", "MRI-03", "MRI-04", "MRI-05", "RSV-02")
"""Those of them that say of the present moment that nothing is delivered; the others may be true for days."""
LONGEST_PLAN: Final = timedelta(hours=24)
"""A signed plan for a stop covers this much non-delivery at most (catalogue I3, DLV-03)."""


def not_confirmed(view: View, rule: Rule) -> Finding:
    """DLV-09: nothing confirms delivery for a quarter, half, all of the patient's non-delivery budget B.

    The armed clock runs in event time and never pauses. Silence after a running motor is judged only where
    `View.heard_at` allows it. Its parent is an alert that tells the cause and whose condition holds: one that merely
    waits for a person tells nobody of a new interruption. Source: rules_catalogue.md DLV-09, M.4 to M.7, M.29, M.30.
    """
    state = view.state
    if view.heard_at is not None:
        return _silent(view, rule)
    if state.confirmed_at is None:
        return NOT_EVALUABLE
    if state.armed_since is None:
        return Finding(Presence.ABSENT, ended_at=state.confirmed_at)
    own = view.present_track(rule.id)
    if own is not None and state.frozen_at is None and state.confirmed_at >= own.start:
        # Sensed flow ended it, although the unknown motor keeps the clock armed.
        own = None
    deadlines = _deadlines(view, rule, own, state.confirmed_at, state.armed_since)
    reached = [PriorityStep(priority, at) for priority, at in deadlines if at <= view.at]
    wake_at = min((at for _, at in deadlines if at > view.at), default=None)
    if not reached:
        if state.frozen_at is None:
            return Finding(Presence.ABSENT, ended_at=state.confirmed_at, wake_at=wake_at)
        return Finding(Presence.NOT_EVALUABLE if view.open_track(rule.id) else Presence.ABSENT, wake_at=wake_at)
    high = reached[-1].priority is Priority.HIGH
    return Finding(
        Presence.PRESENT,
        tuple(reached),
        wake_at=wake_at,
        physician_by=state.confirmed_at + view.therapy.budget if high else None,
        parents=tuple(rule_id for rule_id in INTERRUPTIONS if view.present_track(rule_id) is not None),
        values={"since": state.confirmed_at.strftime("%Y-%m-%d %H:%M UTC")},
    )


def plan_in_force(view: View) -> CareRecord | None:
    """The signed plan that covers a stop now; none covers more than a day without delivery."""
    confirmed_at = view.state.confirmed_at
    if confirmed_at is not None and view.at >= confirmed_at + LONGEST_PLAN:
        return None
    return view.therapy.newest(CareKind.STOP_PLAN)


def after_plan(view: View, confirmed_at: datetime, due_at: datetime) -> datetime:
    """When a deadline is due that a signed plan moves to its own end; past deadlines and other plans move nothing."""
    for record in view.therapy.known_care:
        if record.kind is CareKind.STOP_PLAN and record.valid_from <= due_at:
            ends_at = min(record.ends_at or record.valid_from, confirmed_at + LONGEST_PLAN)
            due_at = max(due_at, ends_at)
    return due_at


def _deadlines(
    view: View, rule: Rule, own: Episode | None, confirmed_at: datetime, armed_since: datetime
) -> list[tuple[Priority, datetime]]:
    budget = view.therapy.budget
    planned = view.state.stopped_since is not None or view.present_track("DLV-03") is not None

    def due(share: float) -> datetime:
        at = max(confirmed_at + share * budget, armed_since)
        return view.due(after_plan(view, confirmed_at, at) if planned else at)

    if view.therapy.lowers_high:
        return [(Priority.HIGH, due(1.0))]
    high_at = due(0.5)
    medium_at = own.start if own is not None else _medium_at(view, rule, due(0.25))
    if medium_at is None or medium_at >= high_at:
        return [(Priority.HIGH, high_at)]
    return [(Priority.MEDIUM, medium_at), (Priority.HIGH, high_at)]


def _medium_at(view: View, rule: Rule, due_at: datetime) -> datetime | None:
    """When the MEDIUM step is due: not while another delivery alert is open, nor before an MRI recovery is overdue."""
    for rule_id in DELIVERY_RULES:
        track = view.tracks.get(rule_id)
        if track is None or track.retracted or track.priority.rank < Priority.MEDIUM.rank:
            continue
        if not track.closed:
            return None
        if track.ended_at is not None and track.ended_at > due_at:
            due_at = track.ended_at
    mri = view.state.mri
    withheld = view.therapy.known and not view.therapy.valve_gated
    if withheld and mri is not None and mri.declared and mri.recovered_at is None:
        return max(due_at, declared_end(mri) + timedelta(minutes=view.parameters(rule)["after_mri_minutes"]))
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
    "delivery.not_confirmed": Named(
        not_confirmed, reads=("armed_since", "frozen_at", "mri", "stopped_since"), follows=DELIVERY_RULES
    ),
}
