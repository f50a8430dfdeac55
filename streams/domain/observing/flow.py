"""Delivered against programmed volume, the programmed rate, and when MRI explained a stall (DLV-02 to DLV-08).

Only a pump that senses what it delivers has ``volumes`` and a ``drift``, the others have a ``refill_drift``; for them
nearly every report leaves the log as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from streams.domain.observing import drift
from streams.domain.observing.drift import Drift, RefillDrift
from streams.domain.observing.fills import Outcome
from streams.domain.profile import Therapy
from streams.domain.telemetry import Alarm, Event, EventType, Motor, Report

if TYPE_CHECKING:
    from streams.domain.world import PumpState

DRIFT_RULE: Final = "DLV-08"
LOWEST_RATES_ML_PER_DAY: Final = 0.06
"""Rates up to this are remembered as low; a rule about the minimum rate cannot look higher."""
KEPT_LOW: Final = 5
KEPT_PHASES: Final = 16
DOUBTS_PROGRAM: Final = frozenset(
    {Alarm.BATTERY_RESET, Alarm.CRITICAL_MEMORY_ERROR, Alarm.MEMORY_ERROR, Alarm.SAFE_STATE, Alarm.END_OF_SERVICE}
)
"""Alarms after which nobody knows whether the program is the one that it was (clinical.md A-08, A-11)."""
KEPT_CHANGES: Final = 4
KEPT_SCANS: Final = 8
REACTS_WITHIN: Final = timedelta(minutes=30)
"""A program change shows in the programmed rate after this time at the latest."""

MOST_VOLUMES: Final = 26
FINE_AGE, FINE_STEP = timedelta(minutes=70), timedelta(minutes=10)
KEPT_PROGRAMMED_ML: Final = 0.15
"""Two windows of 0.05 mL and what they may overshoot; volumes older than that are dropped, after three hours."""
SHORTEST_MEMORY, LONGEST_MEMORY = timedelta(hours=3), timedelta(hours=72)
COARSE_STEPS: Final = 14

OWING_BELOW: Final = 0.85
"""From the first window below this share of the program on, what is missing adds up."""
WINDOW_ML: Final = 0.05
SHORTEST_WINDOW, LONGEST_WINDOW = timedelta(hours=1), timedelta(hours=24)
ROUNDING_ML: Final = 1e-6
"""Volumes are told in microlitres at the finest; differences smaller than this are arithmetic."""


class Volume(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Cumulative volumes since the boot, in mL, at an event time."""

    at: datetime
    programmed_ml: float
    delivered_ml: float


class LowRate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A run of reports with a programmed rate near the minimum: since when, and the newest (mL/day), at most five.

    ``program`` is the one that ran when it began, as `program_of` tells; empty where it did not stay.
    """

    since: datetime
    newest: tuple[tuple[datetime, float], ...]
    program: str = ""


class LowPhase(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A run of low rates, seen from ``since`` to ``until``, that the program left for a higher one by itself."""

    since: datetime
    until: datetime
    ml_per_day: float
    program: str


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A program change with the session that it says it belongs to."""

    at: datetime
    session_id: str


class Scan(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A declared MRI; ``declared_at`` is the event time of the report that declared it."""

    start: datetime
    ended_at: datetime | None = None
    declared_at: datetime | None = None


class FlowLog(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the delivery rules remember. All times are event times.

    ``volumes`` are the newest, oldest first, thinned out with age; they begin anew with a boot. ``running_since`` is
    the first of them since which the motor was always seen running. ``owing`` is where a run of windows with too little
    delivered began. ``changes`` are program changes that no higher rate followed yet. ``phases`` are the low parts of a
    schedule, oldest first, forgotten with whatever may have changed the program.
    """

    boot_id: int = -1
    volumes: tuple[Volume, ...] = ()
    running_since: datetime | None = None
    owing: Volume | None = None
    drift: Drift | None = None
    refill_drift: RefillDrift | None = None
    low: LowRate | None = None
    changes: tuple[Change, ...] = ()
    scans: tuple[Scan, ...] = ()
    mri_planned_at: datetime | None = None
    phases: tuple[LowPhase, ...] = ()


def measured(log: FlowLog, state: PumpState, therapy: Therapy, report: Report) -> FlowLog:
    """The log after a report's measurements."""
    if report.alarms and not DOUBTS_PROGRAM.isdisjoint(report.alarms):
        log = _forgotten(log)
    if report.flow_programmed_ml_per_day is not None:
        log = _rated(log, state, report.flow_programmed_ml_per_day, report.event_time)
    programmed, delivered = report.volume_programmed_ml, report.volume_delivered_ml
    if programmed is None and not log.volumes:
        return log
    running = _running(state, report)
    if not running and log.volumes:
        log = _interrupted(log)
    if programmed is None or delivered is None:
        return log
    volume = Volume(report.event_time, programmed, delivered)
    return _sensed(log, therapy, volume, report.boot_id, running=running)


def refilled(log: FlowLog, state: PumpState, therapy: Therapy, outcomes: Iterable[Outcome]) -> FlowLog:
    """The log after refills showed what the fillings before them gave; they judge a pump that senses no volume."""
    if log.volumes:
        return log
    after = log.refill_drift
    for outcome in outcomes:
        after = drift.refilled(after, state, therapy, outcome)
    return log if after is log.refill_drift else replace(log, refill_drift=after)


def happened(log: FlowLog, state: PumpState, therapy: Therapy, event: Event, at: datetime) -> FlowLog:
    """The log after an event that happened at ``at``."""
    if event.type is EventType.MRI_START:
        # Like `PumpState.mri`, so that an older one than the newest is not taken in.
        mri = state.mri
        if mri is not None and mri.declared and mri.start == at and all(scan.start != at for scan in log.scans):
            return replace(log, scans=(*log.scans, Scan(at, declared_at=mri.declared_at))[-KEPT_SCANS:])
    elif event.type is EventType.MRI_END:
        return _scan_ended(log, state)
    elif event.type is EventType.MRI_SCHEDULED:
        return replace(log, mri_planned_at=event.scheduled_for)
    elif event.type in (EventType.PROGRAM_CHANGE, EventType.PUMP_RESET, EventType.PUMP_REPLACED):
        return _reprogrammed(_forgotten(log), event, at)
    elif event.type in (EventType.STALL_STARTED, EventType.STALL_RECOVERED, EventType.REFILL) and log.volumes:
        spoiled = drift.spoiled(log.drift, at)
        log = log if spoiled is log.drift else replace(log, drift=spoiled)
        if event.type is not EventType.REFILL and log.running_since is not None and log.running_since <= at:
            return replace(log, running_since=None)
    return log


def let_go(log: FlowLog, rule_id: str) -> FlowLog:
    """The log after a person resolved a rule's alert."""
    if rule_id != DRIFT_RULE:
        return log
    return replace(log, drift=drift.restarted(log.drift), refill_drift=drift.refills_restarted(log.refill_drift))


def window(volumes: tuple[Volume, ...], end: int, ml: float, shortest: timedelta, longest: timedelta) -> int | None:
    """Where the window that ends at ``volumes[end]`` starts; None when the volumes do not cover it whole.

    It is as long as the program needs for ``ml`` millilitres, at least ``shortest`` and at most ``longest``, and
    starts at the newest volume at which it is whole (catalogue DLV-06, M.15).
    """
    last = volumes[end]
    newest_at, oldest_at = last.at - shortest, last.at - longest
    most_ml = last.programmed_ml - ml + ROUNDING_ML
    # The older a volume, the more was programmed since: those that make the window whole are the first ones.
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        first = volumes[middle]
        if first.at <= oldest_at or (first.at <= newest_at and first.programmed_ml <= most_ml):
            low = middle + 1
        else:
            high = middle
    return low - 1 if low else None


def _running(state: PumpState, report: Report) -> bool:
    told = report.motor.value if report.motor is not None else state.motor
    return told == Motor.RUNNING and state.stalled_since is None


def _rated(log: FlowLog, state: PumpState, flow: float, at: datetime) -> FlowLog:
    """A stop is programmed as no rate at all, and is another rule's."""
    if flow > LOWEST_RATES_ML_PER_DAY:
        changes = log.changes
        if changes and any(at - change.at > REACTS_WITHIN for change in changes):
            changes = tuple(change for change in changes if at - change.at <= REACTS_WITHIN)
        if log.low is None and changes is log.changes:
            return log
        return replace(log, low=None, changes=changes, phases=_phases(log, state))
    if state.stopped_since is not None:
        return log
    low = log.low or LowRate(at, (), program_of(state))
    return replace(log, low=replace(low, newest=(*low.newest, (at, flow))[-KEPT_LOW:]))


def program_of(state: PumpState) -> str:
    """What shows that a pump still runs the program that it ran: its checksum, in one boot; empty where it has none."""
    return f"{state.boot_id}/{state.checksum}" if state.checksum is not None else ""


def _phases(log: FlowLog, state: PumpState) -> tuple[LowPhase, ...]:
    """The low phases after a higher rate; one that ended with another program was none of a schedule."""
    low = log.low
    if low is None or not low.program or low.program != program_of(state):
        return log.phases
    # Up to where it was seen: what followed in silence nobody knows.
    phase = LowPhase(low.since, low.newest[-1][0], max(flow for _, flow in low.newest), low.program)
    return (*log.phases, phase)[-KEPT_PHASES:]


def _reprogrammed(log: FlowLog, event: Event, at: datetime) -> FlowLog:
    if event.type is EventType.PUMP_REPLACED:
        return replace(log, drift=None, refill_drift=None)
    if event.session_id is not None and (log.low is None or log.low.since - at <= REACTS_WITHIN):
        return replace(log, changes=(*log.changes, Change(at, event.session_id))[-KEPT_CHANGES:])
    return log


def _forgotten(log: FlowLog) -> FlowLog:
    """The log after something that may have changed the program: what its schedule was says nothing any more."""
    if not log.phases and (log.low is None or not log.low.program):
        return log
    return replace(log, phases=(), low=replace(log.low, program="") if log.low is not None else None)


def _interrupted(log: FlowLog) -> FlowLog:
    spoiled = drift.spoiled(log.drift, log.volumes[-1].at)
    if log.running_since is None and spoiled is log.drift:
        return log
    return replace(log, running_since=None, drift=spoiled)


def _sensed(log: FlowLog, therapy: Therapy, volume: Volume, boot_id: int, *, running: bool) -> FlowLog:
    if boot_id < log.boot_id:
        return log
    last = log.volumes[-1] if log.volumes else None
    continued = (
        last is not None
        and boot_id == log.boot_id
        and volume.programmed_ml >= last.programmed_ml
        and volume.delivered_ml >= last.delivered_ml
    )
    since = None
    if running:
        since = log.running_since if continued and log.running_since is not None else volume.at
    volumes = _kept((*log.volumes, volume)) if continued else (volume,)
    point = (volume.at, volume.programmed_ml, volume.delivered_ml)
    return replace(
        log,
        boot_id=boot_id,
        volumes=volumes,
        running_since=since,
        owing=_owing(log.owing, volumes) if continued else None,
        drift=drift.measured(log.drift, therapy, point, running=running, continued=continued),
        refill_drift=None,
    )


def _kept(volumes: tuple[Volume, ...]) -> tuple[Volume, ...]:
    """The volumes that the next windows need; where they are too many, they are thinned out with age."""
    newest, first = volumes[-1], 0
    while first + 2 < len(volumes) and _outlived(volumes[first + 1], newest):
        first += 1
    if len(volumes) - first <= MOST_VOLUMES:
        return volumes[first:]
    oldest = volumes[first]
    coarse = (newest.at - oldest.at) / COARSE_STEPS
    kept = [oldest]
    for volume in volumes[first + 1 : -1]:
        step = FINE_STEP if newest.at - volume.at <= FINE_AGE else max(coarse, FINE_STEP)
        if volume.at - kept[-1].at >= step:
            kept.append(volume)
    return (*kept, newest)


def _outlived(volume: Volume, newest: Volume) -> bool:
    age = newest.at - volume.at
    enough = newest.programmed_ml - volume.programmed_ml >= KEPT_PROGRAMMED_ML
    return age > LONGEST_MEMORY or (enough and age > SHORTEST_MEMORY)


def _owing(owing: Volume | None, volumes: tuple[Volume, ...]) -> Volume | None:
    """Where too little began to be delivered: kept until two windows in a row got enough."""
    last = len(volumes) - 1
    if owing is None and not short_of(volumes[-2], volumes[-1], OWING_BELOW):
        return None
    start = window(volumes, last, WINDOW_ML, SHORTEST_WINDOW, LONGEST_WINDOW)
    if start is None:
        return owing
    if short_of(volumes[start], volumes[last], OWING_BELOW):
        return owing or volumes[start]
    if owing is None:
        return None
    before = window(volumes, start, WINDOW_ML, SHORTEST_WINDOW, LONGEST_WINDOW)
    return None if before is None or not short_of(volumes[before], volumes[start], OWING_BELOW) else owing


def short_of(first: Volume, last: Volume, share: float) -> bool:
    """Whether less than a share of what was programmed between two volumes was delivered."""
    wanted = share * (last.programmed_ml - first.programmed_ml)
    return last.delivered_ml - first.delivered_ml < wanted - ROUNDING_ML


def _scan_ended(log: FlowLog, state: PumpState) -> FlowLog:
    mri = state.mri
    if mri is None or not mri.declared or not log.scans or log.scans[-1].start != mri.start:
        return log
    if log.scans[-1].ended_at == mri.ended_at:
        return log
    return replace(log, scans=(*log.scans[:-1], replace(log.scans[-1], ended_at=mri.ended_at)))
