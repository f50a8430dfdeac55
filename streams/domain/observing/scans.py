"""MRI and interference: what sounded when the field came, the program before it, and what people did after it.

Also the arithmetic of an MRI's window, because the log and the conditions (MRI-01 to MRI-06, EMI-01) must agree on it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from streams.domain.profile import Therapy
from streams.domain.telemetry import Alarm, EmiLevel, Event, EventType, InterrogationResult, Motor, Report

if TYPE_CHECKING:
    from streams.domain.observing.flow import Scan
    from streams.domain.world import Mri, PumpState

HARD_END: Final = timedelta(minutes=120)
AFTER_END: Final = timedelta(minutes=15)
BEFORE_START: Final = timedelta(minutes=15)
"""A stall so long before a declared start still belongs to the window: declarations come late (rule MRI-01)."""
CHANGE_WITHIN: Final = timedelta(hours=24)
"""How long after an exposure another program is laid to it; the first word on the program after it always is."""
RATES_LEARNT: Final = timedelta(hours=24)
"""A schedule repeats daily: rates seen for so long before an exposure are those it has."""
SAME_RATE: Final = 0.01
"""Relative difference under which two programmed rates are the same one."""
QUIET_DAYS: Final = 7
DAY: Final = timedelta(days=1)
KEPT_SPANS: Final = 4
KEPT_PROGRAMS: Final = 4
KEPT_RATES: Final = 8
KEPT_INTERFERENCE: Final = 16


def hard_end(mri: Mri | Scan) -> datetime:
    """When a declared window ends at the latest: 15 min after its end, and never later than 120 min after its start."""
    latest = mri.start + HARD_END
    return min(mri.ended_at + AFTER_END, latest) if mri.ended_at else latest


def in_window(scan: Mri | Scan, at: datetime) -> bool:
    """Whether ``at`` lies in a declared MRI's window, the minutes before its start included."""
    return scan.start - BEFORE_START <= at <= hard_end(scan)


def declared_end(mri: Mri) -> datetime:
    """``end`` in the catalogue: the recorded end, else the hard end; for undeclared MRI the last interference seen."""
    if not mri.declared:
        return mri.last_seen_at or mri.start
    return mri.ended_at or hard_end(mri)


def explains_interference(mri: Mri | None, at: datetime, previous_at: datetime | None) -> bool:
    """Whether a declared MRI explains interference told at ``at``.

    Interference is told for the time since the previous report, so it may have been before the end although the report
    that tells it comes after the window.
    """
    if mri is None or not mri.declared or at < mri.start - BEFORE_START:
        return False
    return at <= hard_end(mri) or (previous_at is not None and previous_at < declared_end(mri))


class Span(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A time during which a pump's alarm sounded, as its reports tell it; ``end`` None while it does."""

    start: datetime
    end: datetime | None = None


class Program(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A running program's identity, and the first event time at which it was told."""

    checksum: str
    since: datetime


class Rates(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The different rates that a schedule was seen to have, in mL/day.

    More than `KEPT_RATES` are not a schedule that could be recognised: ``varied`` then, and nothing is concluded.
    """

    values: tuple[float, ...] = ()
    since: datetime | None = None
    varied: bool = False


class Exposure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The latest strong field or MRI, and the program that ran before it.

    ``checked``: the pump has told its program since.
    """

    start: datetime
    end: datetime
    checksum: str | None = None
    checked: bool = False


class Alteration(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A program (its checksum) or schedule (its rate) that is another one after an exposure than before it."""

    at: datetime
    exposed_at: datetime
    before: str
    schedule: bool = False


class Interference(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Strong or MRI-level interference that no declared MRI explains: told at ``at``, ``count`` times (M.16)."""

    at: datetime
    count: int


class Quiet(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How many of the days after the last interference had a report that told of none; ``slot`` is the newest one."""

    days: int = 0
    slot: int = -1


class ScanLog(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the MRI and interference rules remember; all times are event times.

    ``trapped_at``: start of the latest exposure that began while an alarm sounded. ``interrogated_at``: latest
    interrogation that found the pump running. ``delivered_at``: first evidence of delivery after the end of the latest
    MRI. ``valve`` is ``unknown`` after a reset until the pump tells it again. ``level_ml`` is what a reservoir held at
    ``level_of``, the start of the latest declared MRI. ``quiet_at``: when interference last had been away long enough.
    """

    sounding: tuple[Span, ...] = ()
    trapped_at: datetime | None = None
    interrogated_at: datetime | None = None
    delivered_at: datetime | None = None
    scheduled_for: datetime | None = None
    scheduled_at: datetime | None = None
    valve: str | None = None
    valve_at: datetime | None = None
    valve_reset_at: datetime | None = None
    level_of: datetime | None = None
    level_ml: float | None = None
    programs: tuple[Program, ...] = ()
    rates: Rates = Rates()
    exposure: Exposure | None = None
    altered: Alteration | None = None
    interference: tuple[Interference, ...] = ()
    quiet: Quiet = Quiet()
    quiet_at: datetime | None = None
    told_emi: bool = False


def valve_gated(log: ScanLog, therapy: Therapy) -> bool:
    """Whether valves meet the field: by the profile, or, without one, because the pump reports a flow valve (M.22)."""
    return therapy.valve_gated or (not therapy.known and log.valve is not None)


def measured(log: ScanLog, state: PumpState, therapy: Therapy, report: Report) -> ScanLog:
    """The log after a report's measurements."""
    at = report.event_time
    if report.emi is not None:
        log = _interfered(log, state, therapy, report)
    if report.alarms is not None and (report.alarms or log.sounding):
        log = _sounded(log, state, report.alarms, at)
    if report.flow_valve is not None and report.flow_valve.value != log.valve:
        log = replace(log, valve=report.flow_valve.value, valve_at=at)
    if report.program_checksum is not None:
        log = _programmed(log, report.program_checksum, at)
    elif report.flow_programmed_ml_per_day and report.motor is not Motor.STOPPED and not log.programs:
        log = _rated(log, report.flow_programmed_ml_per_day, at)
    if state.mri is not None:
        log = _levelled(_delivered(log, state), state, report)
    return log


def happened(log: ScanLog, state: PumpState, therapy: Therapy, event: Event, at: datetime) -> ScanLog:
    """The log after an event that happened at ``at``."""
    kind = event.type
    if kind is EventType.PUMP_REPLACED:
        return _of_the_new_pump(log, at)
    if kind is EventType.MRI_START:
        log = _started(log, state, therapy, at)
    elif kind is EventType.MRI_END:
        log = _ended(log, state)
    elif kind is EventType.INTERROGATION and event.result is InterrogationResult.RUNNING:
        if log.interrogated_at is None or at > log.interrogated_at:
            log = replace(log, interrogated_at=at)
    elif kind is EventType.MRI_SCHEDULED and (log.scheduled_at is None or at >= log.scheduled_at):
        log = replace(log, scheduled_for=event.scheduled_for, scheduled_at=at)
    elif kind is EventType.VALVE_RESET and (log.valve_reset_at is None or at > log.valve_reset_at):
        known = log.valve_at is not None and log.valve_at > at
        log = replace(log, valve_reset_at=at, valve=log.valve if known or log.valve is None else "unknown")
    elif kind is EventType.PROGRAM_CHANGE and event.new_checksum is not None:
        log = _programmed(log, event.new_checksum, at)
    return _delivered(log, state) if state.mri is not None else log


def _of_the_new_pump(log: ScanLog, at: datetime) -> ScanLog:
    """What the pump met that was put in at ``at``: a replacement that is told late ends none of it."""

    def newer(moment: datetime | None) -> bool:
        return moment is not None and moment > at

    interference = tuple(one for one in log.interference if one.at > at)
    programs = tuple(program for program in log.programs if program.since > at)
    exposure = log.exposure if log.exposure is not None and log.exposure.start > at else None
    if exposure is not None and not programs:
        exposure = replace(exposure, checksum=None)
    return ScanLog(
        sounding=tuple(span for span in log.sounding if span.start > at),
        trapped_at=log.trapped_at if newer(log.trapped_at) else None,
        interrogated_at=log.interrogated_at if newer(log.interrogated_at) else None,
        delivered_at=log.delivered_at if newer(log.delivered_at) else None,
        scheduled_for=log.scheduled_for if newer(log.scheduled_at) else None,
        scheduled_at=log.scheduled_at if newer(log.scheduled_at) else None,
        valve=log.valve if newer(log.valve_at) else None,
        valve_at=log.valve_at if newer(log.valve_at) else None,
        valve_reset_at=log.valve_reset_at if newer(log.valve_reset_at) else None,
        level_of=log.level_of if newer(log.level_of) else None,
        level_ml=log.level_ml if newer(log.level_of) else None,
        programs=programs,
        exposure=exposure,
        altered=log.altered if log.altered is not None and log.altered.exposed_at > at else None,
        interference=interference,
        quiet=log.quiet if interference else Quiet(),
        quiet_at=log.quiet_at if newer(log.quiet_at) else None,
        told_emi=bool(interference),
    )


def _interfered(log: ScanLog, state: PumpState, therapy: Therapy, report: Report) -> ScanLog:
    at, emi = report.event_time, report.emi
    if not log.told_emi:
        log = replace(log, told_emi=True)
    if emi is None or emi.level not in (EmiLevel.STRONG, EmiLevel.MRI):
        return _quieter(log, at) if log.interference else log
    mri = state.mri
    if emi.level is EmiLevel.MRI and mri is not None and not mri.declared and mri.start == at:
        # The field came since the previous report: what sounded then counts, not what this report tells.
        stalled = any(span.start < at and (span.end is None or span.end >= at) for span in state.stalls)
        if stalled or _sounds(log, at):
            log = replace(log, trapped_at=at)
    if explains_interference(mri, at, state.previous_at):
        if therapy.known:
            return log
    else:
        checksum = log.programs[-1].checksum if log.programs else None
        log = replace(log, exposure=Exposure(at, at, checksum))
    if emi.count:
        interference = (*log.interference, Interference(at, emi.count))[-KEPT_INTERFERENCE:]
        log = replace(log, interference=interference, quiet=Quiet())
    return log


def _quieter(log: ScanLog, at: datetime) -> ScanLog:
    """Count a day without interference; enough of them, each with a report that says so, end it."""
    since = at - log.interference[-1].at
    slot = (since - timedelta(microseconds=1)) // DAY
    if slot > log.quiet.slot:
        log = replace(log, quiet=Quiet(log.quiet.days + 1, slot))
    if log.quiet.days >= QUIET_DAYS and since >= QUIET_DAYS * DAY:
        return replace(log, interference=(), quiet=Quiet(), quiet_at=at)
    return log


def _sounded(log: ScanLog, state: PumpState, alarms: tuple[Alarm, ...], at: datetime) -> ScanLog:
    """Note when alarms other than the stall's begin and end; stalls are in the state."""
    sounds = any(alarm is not Alarm.MOTOR_STALL for alarm in alarms)
    newest = log.sounding[-1] if log.sounding else None
    if sounds == (newest is not None and newest.end is None):
        return log
    if newest is not None and newest.end is None:
        return replace(log, sounding=(*log.sounding[:-1], Span(newest.start, at)))
    log = replace(log, sounding=(*log.sounding, Span(at))[-KEPT_SPANS:])
    mri = state.mri
    at_start = mri is not None and mri.declared and mri.start == at
    return replace(log, trapped_at=at) if at_start else log


def _sounds(log: ScanLog, at: datetime) -> bool:
    return any(span.start <= at and (span.end is None or span.end > at) for span in log.sounding)


def _started(log: ScanLog, state: PumpState, therapy: Therapy, at: datetime) -> ScanLog:
    """A declared MRI: what sounded, ran and was in the reservoir when it began."""
    mri = state.mri
    if mri is None or not mri.declared or mri.start != at:
        return log
    # A stall that begins with the field is the field's; one from before sounds its alarm in it.
    stalled = any(span.start < at and (span.end is None or span.end > at) for span in state.stalls)
    if stalled or _sounds(log, at):
        log = replace(log, trapped_at=at)
    if therapy.known:
        left = tuple(one for one in log.interference if not at - BEFORE_START <= one.at <= hard_end(mri))
        log = replace(log, interference=left) if len(left) != len(log.interference) else log
    before = [program for program in log.programs if program.since <= at]
    log = replace(
        log,
        exposure=Exposure(at, declared_end(mri), before[-1].checksum if before else None),
        level_of=at,
        level_ml=_level_before(state, at),
    )
    for program in log.programs:
        if program.since > at:
            log = _checked(log, program.checksum, program.since)
    return log


def _ended(log: ScanLog, state: PumpState) -> ScanLog:
    mri, exposure = state.mri, log.exposure
    if mri is None or exposure is None or exposure.start != mri.start or exposure.end == declared_end(mri):
        return log
    return replace(log, exposure=replace(exposure, end=declared_end(mri)))


def _level_before(state: PumpState, at: datetime) -> float | None:
    """The higher of the computed and the sensed level that were known at ``at``; a sensed one counts for 24 h."""
    levels = [sample.value for sample in state.estimated if sample.at <= at][-1:]
    if state.measured is not None and timedelta(0) <= at - state.measured.at < DAY:
        levels.append(state.measured.value)
    return max(levels, default=None)


def _levelled(log: ScanLog, state: PumpState, report: Report) -> ScanLog:
    """The level told in the report of an MRI's start, or first during it, where none was known before."""
    mri, at = state.mri, report.event_time
    told = [ml for ml in (report.reservoir_estimated_ml, report.reservoir_measured_ml) if ml is not None]
    if mri is None or not told or log.level_of != mri.start or not mri.start <= at <= declared_end(mri):
        return log
    if state.refilled_at is not None and state.refilled_at > mri.start:
        return log
    if log.level_ml is not None and (at != mri.start or max(told) <= log.level_ml):
        return log
    return replace(log, level_ml=max(told))


def _delivered(log: ScanLog, state: PumpState) -> ScanLog:
    """The first evidence of delivery after the end of the latest MRI."""
    mri, confirmed_at = state.mri, state.confirmed_at
    if mri is None or confirmed_at is None or state.frozen_at is not None:
        return log
    end = declared_end(mri)
    if confirmed_at <= end or (log.delivered_at is not None and log.delivered_at > end):
        return log
    return replace(log, delivered_at=confirmed_at)


def _programmed(log: ScanLog, checksum: str, at: datetime) -> ScanLog:
    newest = log.programs[-1] if log.programs else None
    if newest is not None and at < newest.since:
        return log
    if newest is None or newest.checksum != checksum:
        log = replace(log, programs=(*log.programs, Program(checksum, at))[-KEPT_PROGRAMS:])
    return _checked(log, checksum, at)


def _checked(log: ScanLog, checksum: str, at: datetime) -> ScanLog:
    """Hold a program that was told at ``at`` against the one before the exposure."""
    exposure = log.exposure
    if exposure is None or at < exposure.start:
        return log
    before, checked = exposure.checksum or checksum, exposure.checked
    if not checked or exposure.checksum is None:
        log = replace(log, exposure=replace(exposure, checksum=before, checked=True))
    if before == checksum or (checked and at > exposure.end + CHANGE_WITHIN):
        return log
    if log.altered is not None and log.altered.exposed_at == exposure.start:
        return log
    return replace(log, altered=Alteration(at, exposure.start, before))


def _rated(log: ScanLog, rate: float, at: datetime) -> ScanLog:
    """Where no program tells its identity, a rate that its schedule never had before an exposure is another one."""
    rates, exposure = log.rates, log.exposure
    if rates.varied or (exposure is None and rate in rates.values):
        return log
    known = any(abs(rate - value) <= SAME_RATE * max(rate, value) for value in rates.values)
    if exposure is not None and at >= exposure.start and not (known and exposure.checked):
        learnt = rates.since is not None and rates.since <= exposure.start - RATES_LEARNT
        if not known and learnt and (not exposure.checked or at <= exposure.end + CHANGE_WITHIN):
            before = ", ".join(f"{value:g}" for value in rates.values)
            log = replace(log, altered=Alteration(at, exposure.start, before[:64], schedule=True))
        log = replace(log, exposure=replace(exposure, checked=True)) if not exposure.checked else log
    if known:
        return log
    if len(rates.values) == KEPT_RATES:
        return replace(log, rates=Rates(varied=True))
    return replace(log, rates=Rates((*rates.values, rate), rates.since or at))
