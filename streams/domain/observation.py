"""What a report means for a pump's state: the delivery clock, the reservoir, the motor, the MRI.

A report is unfolded into facts, each with its own event time: its events by ``at``, then its measurements (catalogue
M.27). A fact that is older than what is already known of its signal changes nothing but history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from streams.domain.alert import Episode
from streams.domain.memory import Fact
from streams.domain.observing import contacts, dosing, fills, flow, heat, levels, power, scans, volumes
from streams.domain.observing.scans import (
    BEFORE_START,
    HARD_END,
    declared_end,
    explains_interference,
    hard_end,
    valve_gated,
)
from streams.domain.profile import Therapy
from streams.domain.telemetry import Alarm, EmiLevel, Event, EventType, InterrogationResult, Motor, Received, Report
from streams.domain.world import KEPT, Mri, PumpState, Refill, Resumption, Sample, Session, Stall, Symptoms

KEPT_ESTIMATES: Final = 5
DELIVERY_ALARMS: Final = frozenset(
    {
        Alarm.MOTOR_STALL,
        Alarm.RESERVOIR_EMPTY,
        Alarm.PUMP_STOPPED_48H,
        Alarm.CRITICAL_MEMORY_ERROR,
        Alarm.SAFE_STATE,
    }
)
"""Alarms with which a turning motor is no evidence of delivery; in the last two it turns at a minimum (A-11)."""
Until = Literal["never", "delivery", "until_refill", "until_interrogation", "until_valve_reset"]
"""Which evidence ends a freeze: any, or only the stronger one that a rule names (catalogue A.1)."""
Evidence = Literal["motor", "interrogation", "valve_reset"]
"""What shows that drug moves: a turning motor or sensed flow, an interrogation, the record of a valve's reset."""

_LOGS: Final = tuple(
    (name, module.happened)
    for name, module in (
        ("levels", levels),
        ("fills", fills),
        ("flow", flow),
        ("scans", scans),
        ("power", power),
        ("dosing", dosing),
        ("volumes", volumes),
    )
)
"""The logs that events tell something; heat and contacts are told by measurements alone."""


class Told(msgspec.Struct, frozen=True):
    """A fact with its event time, and what it does to the state."""

    at: datetime
    tell: Callable[[PumpState, Therapy], PumpState]
    event: Event | None = None


def facts(state: PumpState, received: Received) -> list[Told]:
    """What the report says, oldest first, each with its event time and what it does to the state."""
    report = received.report
    measured = Told(report.event_time, partial(observe, report=report))
    told: list[Told] = []
    for event in sorted(report.events, key=lambda event: event.at or report.event_time):
        at = event.at or report.event_time
        told.append(Told(at, partial(_event, event=event, at=at, received=received), event))
        if event.type is EventType.STALL_STARTED and (seen_at := _ended_unseen(state, report, at)) is not None:
            # The stall is news, its end is not: the motor was already seen running since.
            told.append(Told(at, partial(_confirmed_again, at=seen_at)))
    told.append(measured)
    return told


def _ended_unseen(state: PumpState, report: Report, at: datetime) -> datetime | None:
    """When the motor was last seen running after a stall at ``at``, if the report does not say when it recovered."""
    recovered = EventType.STALL_RECOVERED
    if any(event.type is recovered and (event.at or report.event_time) >= at for event in report.events):
        return None
    return state.confirmed_at if state.confirmed_at is not None and state.confirmed_at > at else None


def signals(fact: Fact) -> Iterator[str]:
    """Names of what a fact carries, as operators of typed conditions listen to them."""
    if fact.event is not None:
        yield f"event:{fact.event.type.value}"
        return
    yield "report"
    report = fact.report
    for name in SIGNALS:
        if getattr(report, name) is not None:
            yield name


SIGNALS: Final = tuple(
    field.name
    for field in fields(Report)
    if field.name
    not in ("schema_version", "pump_id", "boot_id", "seq", "event_time", "gateway_id", "gateway_time", "events")
)


def freeze(state: PumpState, at: datetime, interval: timedelta, until: Until = "delivery") -> PumpState:
    """Stop counting delivery as confirmed at ``at``, and arm the non-delivery clock.

    Delivery counts as confirmed up to ``at`` when the last evidence is at most two expected intervals older (M.1).
    Weaker evidence than ``until`` asks for proves nothing, not even where it came after ``at``.
    """
    confirmed_at, frozen_at, armed_since = state.confirmed_at, state.frozen_at, state.armed_since or at
    if confirmed_at is not None and confirmed_at > at:
        if until == "delivery":
            return state
        if until != "until_refill":
            confirmed_at = frozen_at = at
            armed_since = min(armed_since, at)
    if frozen_at is None:
        if confirmed_at is None or timedelta(0) < at - confirmed_at <= 2 * interval:
            confirmed_at = at
        frozen_at = at
    return replace(
        state,
        confirmed_at=confirmed_at,
        frozen_at=frozen_at,
        armed_since=armed_since,
        needs_refill=state.needs_refill or until == "until_refill",
        needs_interrogation=state.needs_interrogation or until == "until_interrogation",
        needs_valve_reset=state.needs_valve_reset or until == "until_valve_reset",
    )


def confirm(state: PumpState, at: datetime, evidence: Evidence = "motor") -> PumpState:
    """Take evidence at ``at`` that drug moves: it ends a stall, and unfreezes the clock where it is strong enough."""
    if state.stalled_since is not None and at >= state.stalled_since:
        ended = (*state.stalls[:-1], Stall(state.stalled_since, at))
        state = replace(state, stalled_since=None, last_stall_ended_at=at, stalls=ended)
    if state.confirmed_at is not None and at < state.confirmed_at:
        return state
    state = _met(state, at, evidence)
    if state.needs_interrogation or state.needs_valve_reset:
        return state
    if state.needs_refill:
        if state.refilled_at is None or at < state.refilled_at or state.refilled_at < (state.frozen_at or at):
            return state
    elif state.frozen_at is not None and not _later(at, state):
        return state
    if state.frozen_at is None:
        return _recovered(replace(state, confirmed_at=at, armed_since=None), at)
    resumed = Resumption(at, state.confirmed_at or state.frozen_at)
    state = replace(state, confirmed_at=at, frozen_at=None, armed_since=None, needs_refill=False, resumed=resumed)
    return _recovered(state, at)


def _met(state: PumpState, at: datetime, evidence: Evidence) -> PumpState:
    """What a freeze no longer asks for, once the stronger evidence that it named has come."""
    if not (state.needs_interrogation or state.needs_valve_reset) or not _later(at, state):
        return state
    if evidence == "interrogation" and state.needs_interrogation:
        return replace(state, needs_interrogation=False)
    if evidence == "valve_reset" and state.needs_valve_reset:
        return replace(state, needs_valve_reset=False)
    return state


def _later(at: datetime, state: PumpState) -> bool:
    """Whether evidence comes after the freeze; a motor running at the very start of an MRI says nothing about after."""
    frozen_at = state.frozen_at
    if frozen_at is None:
        return True
    by_mri = state.mri is not None and state.mri.start == frozen_at
    return at > frozen_at if by_mri else at >= frozen_at


def _recovered(state: PumpState, at: datetime) -> PumpState:
    mri = state.mri
    if mri is None or mri.recovered_at is not None:
        return state
    if mri.stalled_at is not None:
        back = at > mri.stalled_at
    elif mri.declared:
        back = at > declared_end(mri)
    else:
        back = mri.last_seen_at is None or at > mri.last_seen_at
    return replace(state, mri=replace(mri, recovered_at=at)) if back else state


def stall(state: PumpState, at: datetime, interval: timedelta) -> PumpState:
    """Note that the motor stands still although it should turn."""
    if state.stalled_since is None:
        state = replace(state, stalled_since=at, stalls=(*state.stalls, Stall(at))[-KEPT:])
        mri = state.mri
        if mri is not None:
            latest = hard_end(mri) if mri.declared else mri.start + HARD_END
            if mri.start - BEFORE_START <= at <= latest:
                state = replace(state, mri=replace(mri, stalled_at=at, recovered_at=None))
    return freeze(state, at, interval)


def motor_expires_at(state: PumpState, interval: timedelta) -> datetime | None:
    """When the last motor value stops counting because other telemetry goes on without it (catalogue M.2)."""
    motor_at, reported_at = state.motor_at, state.reported_at
    if reported_at is motor_at or motor_at is None or reported_at is None or reported_at <= motor_at:
        return None
    if state.motor == Motor.UNKNOWN:
        return None
    expires_at = motor_at + max(3 * interval, timedelta(hours=1))
    # Silence is no telemetry that goes on: it is told by its own rules, and by the next report that leaves it out.
    return expires_at if reported_at >= expires_at - 2 * interval else None


def expire_motor_value(state: PumpState, at: datetime, interval: timedelta) -> PumpState:
    """Let a left-out motor value become ``unknown`` at ``at``."""
    return freeze(replace(state, motor=Motor.UNKNOWN.value), at, interval)


def _confirmed_again(state: PumpState, _: Therapy, at: datetime) -> PumpState:
    return confirm(state, at)


def let_go(state: PumpState, rule_id: str) -> PumpState:
    """A person resolved the rule's alert: what only added up to it starts anew (rule DLV-08)."""
    log = flow.let_go(state.flow, rule_id)
    return state if log is state.flow else replace(state, flow=log)


def told(state: PumpState, episode: Episode) -> PumpState:
    """People are told of an alert: a level that falls on is compared with where they were told it stood (RSV-05)."""
    if episode.rule_id != levels.FALL_RULE:
        return state
    fall = levels.newest_fall(state.levels)
    newest = (episode.start, episode.recurred_at, episode.steps[-1].at, *episode.reminders[-1:])
    if fall is None or fall.at not in newest:
        return state
    log = volumes.fall_told(state.volumes, fall.at)
    return state if log is state.volumes else replace(state, volumes=log)


def _event(state: PumpState, therapy: Therapy, event: Event, at: datetime, received: Received) -> PumpState:
    """An event, and what each family's log makes of it."""
    state = _happened(state, therapy, event, at, received)
    changes = {}
    for name, happened in _LOGS:
        log = getattr(state, name)
        if (after := happened(log, state, therapy, event, at)) is not log:
            changes[name] = after
    return replace(state, **changes) if changes else state


def _happened(state: PumpState, therapy: Therapy, event: Event, at: datetime, received: Received) -> PumpState:
    if event.type is EventType.MRI_START:
        return _mri_started(state, at, received.report.event_time, therapy)
    if event.type is EventType.PROGRAMMING_SESSION:
        return _session(state, event, at) if received.clinic else state
    happened = _HAPPENED.get(event.type)
    return happened(state, therapy, event, at) if happened is not None else state


def _refilled(state: PumpState, _: Therapy, event: Event, at: datetime) -> PumpState:
    refill = Refill(at, event.aspirated_ml or 0.0, event.injected_ml or 0.0, event.residual_ml or 0.0)
    level = Sample(min(refill.residual_ml + refill.injected_ml, 60.0), at)
    # A refill that is told late takes its place among what is known since.
    estimated = tuple(sorted((*state.estimated, level), key=attrgetter("at")))[-KEPT_ESTIMATES:]
    refills = tuple(sorted((*state.refills, refill), key=attrgetter("at")))[-KEPT:]
    return replace(state, refilled_at=refills[-1].at, estimated=estimated, refills=refills)


def _session(state: PumpState, event: Event, at: datetime) -> PumpState:
    """A session that starts, or the end of one; an end without its start is a session of its own."""
    session_id = event.session_id or ""
    known = next((session for session in state.sessions if session.session_id == session_id), None)
    others = tuple(session for session in state.sessions if session is not known)
    start, end = (known.start, known.end) if known else (at, None)
    session = Session(session_id, min(start, at), at if event.phase == "end" else end)
    return replace(state, sessions=(*others, session)[-KEPT:])


def _stall_started(state: PumpState, therapy: Therapy, _: Event, at: datetime) -> PumpState:
    return stall(state, at, therapy.interval)


def _stall_recovered(state: PumpState, _: Therapy, __: Event, at: datetime) -> PumpState:
    """The recovery record knows better than the first running sample when a stall was over."""
    newest = state.stalls[-1] if state.stalls else None
    if newest is not None and newest.end is not None and newest.start <= at < newest.end:
        state = replace(state, stalls=(*state.stalls[:-1], Stall(newest.start, at)))
    return confirm(state, at)


def _reset(state: PumpState, _: Therapy, event: Event, at: datetime) -> PumpState:
    newer = state.reset_at is None or at > state.reset_at
    return replace(state, reset_at=at, reset_over_at=None) if event.default_program and newer else state


def _symptoms_told(state: PumpState, _: Therapy, event: Event, at: datetime) -> PumpState:
    return replace(state, symptoms=(*state.symptoms, Symptoms(at, event.codes or ()))[-KEPT:])


def _pump_replaced(state: PumpState, _: Therapy, __: Event, at: datetime) -> PumpState:
    """What the old pump needed before it could deliver, the new one does not; its own troubles stay."""
    mri = state.mri if state.mri is not None and state.mri.start > at else None
    state = replace(state, replaced_at=at, mri=mri)
    if state.frozen_at is not None and state.frozen_at > at:
        return state
    return replace(state, needs_refill=False, needs_interrogation=False, needs_valve_reset=False)


def _interrogated(state: PumpState, therapy: Therapy, event: Event, at: datetime) -> PumpState:
    if event.result is InterrogationResult.RUNNING:
        return confirm(state, at, "interrogation")
    if event.result is InterrogationResult.STALLED:
        return stall(state, at, therapy.interval)
    if event.result in (InterrogationResult.STOPPED, InterrogationResult.TELEMETRY_MODE):
        return freeze(state, at, therapy.interval)
    return state


def _mri_started(state: PumpState, at: datetime, told_at: datetime, therapy: Therapy) -> PumpState:
    mri = state.mri
    if mri is not None and mri.declared and mri.start >= at:
        return state
    stalled_at = state.stalled_since if state.stalled_since and state.stalled_since >= at - BEFORE_START else None
    state = replace(state, mri=Mri(start=at, declared_at=told_at, stalled_at=stalled_at))
    reset_at = state.scans.valve_reset_at
    stays_shut = valve_gated(state.scans, therapy) and (reset_at is None or reset_at <= at)
    return freeze(state, at, therapy.interval, "until_valve_reset" if stays_shut else "delivery")


def _mri_ended(state: PumpState, _: Therapy, __: Event, at: datetime) -> PumpState:
    mri = state.mri
    if mri is None or not mri.declared or at < mri.start or (mri.ended_at is not None and mri.ended_at >= at):
        return state
    state = replace(state, mri=replace(mri, ended_at=at))
    seen_running = state.confirmed_at is not None and state.frozen_at is None and state.stalled_since is None
    return _recovered(state, state.confirmed_at) if seen_running and state.confirmed_at else state


def _valve_reset(state: PumpState, _: Therapy, __: Event, at: datetime) -> PumpState:
    return confirm(state, at, "valve_reset") if state.needs_valve_reset else state


_HAPPENED: Final[dict[EventType, Callable[[PumpState, Therapy, Event, datetime], PumpState]]] = {
    EventType.MRI_END: _mri_ended,
    EventType.STALL_STARTED: _stall_started,
    EventType.STALL_RECOVERED: _stall_recovered,
    EventType.REFILL: _refilled,
    EventType.INTERROGATION: _interrogated,
    EventType.SYMPTOM_REPORT: _symptoms_told,
    EventType.PUMP_REPLACED: _pump_replaced,
    EventType.PUMP_RESET: _reset,
    EventType.VALVE_RESET: _valve_reset,
}


def _interference(state: PumpState, at: datetime, therapy: Therapy) -> PumpState:
    """Undeclared MRI-level interference arms the recovery rules and withholds nothing (catalogue M.10)."""
    mri = state.mri
    if explains_interference(mri, at, state.previous_at):
        return state
    if mri is not None and not mri.declared and mri.recovered_at is None and at - mri.start <= HARD_END:
        return replace(state, mri=replace(mri, last_seen_at=at))
    if mri is not None and at < mri.start:
        return state
    state = replace(state, mri=Mri(start=at, last_seen_at=at, stalled_at=state.stalled_since))
    return freeze(state, at, therapy.interval)


def observe(state: PumpState, therapy: Therapy, report: Report) -> PumpState:
    """The state after a report's measurements; its events are facts of their own."""
    at = report.event_time
    in_order = state.clock is None or at >= state.clock
    changes = _news(state, report)
    rebooted = state.boot_id is not None and report.boot_id > state.boot_id
    if state.boot_id is None or rebooted:
        changes["boot_id"] = report.boot_id
    if rebooted:
        changes |= {"motor": None, "motor_at": None, "delivered_ml": None}
    newest = state.motor_at is None or rebooted or at >= state.motor_at
    if report.motor is not None and newest:
        changes["motor_at"] = at
        if report.motor.value != state.motor or rebooted or report.motor is Motor.TELEMETRY_MODE:
            changes |= _motor_changes(state, report.motor, at)
    delivered, moved = report.volume_delivered_ml, False
    if delivered is not None:
        moved = not rebooted and state.delivered_ml is not None and delivered > state.delivered_ml
        changes["delivered_ml"] = delivered
    if newest and _goes_on(state, report):
        # Nearly always: what follows would find nothing else to change.
        changes["confirmed_at"] = at
        state = replace(state, **changes)
    else:
        state = replace(state, **changes)
        if report.emi is not None and report.emi.level is EmiLevel.MRI:
            state = _interference(state, at, therapy)
        if newest:
            state = _motor(state, therapy, report, moved=moved)
    if state.reset_at is not None and state.reset_over_at is None:
        state = _reset_over(state, state.reset_at)
    return _logged(state, therapy, report) if in_order else state


def _goes_on(state: PumpState, report: Report) -> bool:
    """Whether an undisturbed pump runs on, so that its report confirms delivery and nothing more."""
    return (
        report.motor is Motor.RUNNING
        and not report.alarms
        and state.frozen_at is None
        and state.armed_since is None
        and state.stalled_since is None
        and state.mri is None
        and (report.emi is None or report.emi.level is not EmiLevel.MRI)
        and not (state.needs_refill or state.needs_interrogation or state.needs_valve_reset)
        and (state.confirmed_at is None or report.event_time >= state.confirmed_at)
    )


def _reset_over(state: PumpState, reset_at: datetime) -> PumpState:
    confirmed_at = state.confirmed_at
    if confirmed_at is None or confirmed_at <= reset_at or state.frozen_at is not None:
        return state
    return replace(state, reset_over_at=confirmed_at)


def _logged(state: PumpState, therapy: Therapy, report: Report) -> PumpState:
    """What each family's log makes of the measurements."""
    # A log that hears nothing new stays the same object, which tells that no rule that reads it need be judged.
    filled = fills.measured(state.fills, state, therapy, report)
    flowing = flow.measured(state.flow, state, therapy, report)
    known = state.fills.outcomes
    if filled.outcomes is not known:
        flowing = flow.refilled(flowing, state, therapy, (one for one in filled.outcomes if one not in known))
    return replace(
        state,
        levels=levels.measured(state.levels, state, therapy, report),
        fills=filled,
        flow=flowing,
        scans=scans.measured(state.scans, state, therapy, report),
        power=power.measured(state.power, state, therapy, report),
        dosing=dosing.measured(state.dosing, state, therapy, report),
        heat=heat.measured(state.heat, state, therapy, report),
        contacts=contacts.measured(state.contacts, state, therapy, report),
        volumes=volumes.measured(state.volumes, state, therapy, report),
    )


def _motor_changes(state: PumpState, motor: Motor, at: datetime) -> dict[str, Any]:
    stopped, in_telemetry = motor is Motor.STOPPED, motor is Motor.TELEMETRY_MODE
    return {
        "motor": motor.value,
        "stopped_since": (state.stopped_since or at) if stopped else None,
        "telemetry_mode_since": (state.telemetry_mode_since or at) if in_telemetry else None,
        "telemetry_mode_at": at if in_telemetry else None,
    }


def _news(state: PumpState, report: Report) -> dict[str, Any]:
    """What is newer than what is known of the clock, the flow, the program, the alarms and the levels."""
    at = report.event_time
    changes: dict[str, Any] = {}
    if state.clock is None or at > state.clock:
        changes["clock"] = at
    if state.reported_at is None or at > state.reported_at:
        changes["reported_at"], changes["previous_at"] = at, state.reported_at
        if report.flow_programmed_ml_per_day is not None:
            changes["flow_ml_per_day"] = report.flow_programmed_ml_per_day
        if report.program_checksum is not None and report.program_checksum != state.checksum:
            changes["checksum"] = report.program_checksum
    if report.alarms is not None and (state.alarms_at is None or at >= state.alarms_at):
        changes["alarms_at"] = at
        if report.alarms or state.alarms:
            # Another object even where it says the same: rules have to see that the pump said it again.
            changes["alarms"] = (*report.alarms,)
    estimated = state.estimated
    if report.reservoir_estimated_ml is not None and (not estimated or at >= estimated[-1].at):
        changes["estimated"] = (*estimated, Sample(report.reservoir_estimated_ml, at))[-KEPT_ESTIMATES:]
    if report.reservoir_measured_ml is not None and (state.measured is None or at >= state.measured.at):
        changes["measured"] = Sample(report.reservoir_measured_ml, at)
    return changes


def _motor(state: PumpState, therapy: Therapy, report: Report, *, moved: bool) -> PumpState:
    """What the newest word on the motor, or a sensed flow, says of delivery."""
    at, motor, alarms = report.event_time, report.motor, report.alarms
    if motor is Motor.STALLED or (alarms and Alarm.MOTOR_STALL in alarms):
        return stall(state, at, therapy.interval)
    alarming = alarms and not DELIVERY_ALARMS.isdisjoint(alarms)
    if motor is Motor.UNKNOWN and moved and not alarming and _moved_since_frozen(state):
        return _moved_so_far(state, at, therapy.interval)
    if (motor is not None and motor is not Motor.RUNNING) or alarming:
        return freeze(state, at, therapy.interval)
    if motor is Motor.RUNNING or moved:
        return confirm(state, at)
    return state


def _moved_since_frozen(state: PumpState) -> bool:
    """Whether what moved since the report before moved after the clock was frozen, not before."""
    return state.frozen_at is None or (state.previous_at is not None and state.previous_at >= state.frozen_at)


def _moved_so_far(state: PumpState, at: datetime, interval: timedelta) -> PumpState:
    """Drug moved up to ``at``; that it goes on moving an unknown motor does not say, so the clock stays armed."""
    state = confirm(state, at)
    return replace(state, armed_since=at) if state.frozen_at is None else freeze(state, at, interval)
