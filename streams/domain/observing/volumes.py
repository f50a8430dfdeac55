"""Volumes: how much the program asked for since the pump was first seen, over boots and missing fields.

The program's total is the pump's own cumulative counter where it has one, else the schedule's rate over time. It
changes with every report, so it is a log of its own that no rule reads: the logs of levels and fills take from it what
they need, and only rarely.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from streams.domain.memory import Point
from streams.domain.profile import ACCURACY_ALLOWANCE, Therapy
from streams.domain.telemetry import Event, EventType, Report

if TYPE_CHECKING:
    from streams.domain.world import PumpState

DAY: Final = timedelta(days=1)
MAX_RATES: Final = 16
"""A flex schedule has at most 13 rate steps a day (clinical.md D-09)."""
KEPT_APART: Final = timedelta(hours=3)
"""Of measured levels closer together only the first is kept, so that a day of them stays few."""
SETTLES: Final = timedelta(hours=2)
"""Measured levels so soon after a refill (exclusive) are compared with their neighbours alone (rule RSV-05)."""


class Reading(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A reservoir level in mL at event time ``at``, and the program's two totals in mL at that moment."""

    ml: float
    at: datetime
    programmed_ml: float
    planned_ml: float


class VolumeLog(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Totals in mL since the pump was first seen, and its latest levels.

    ``programmed_ml`` follows the counter as of ``counted_at``; a first counter counts from its boot's start.
    ``scheduled_ml`` is the schedule's rate over time as of ``at``, ``bolus_ml`` the boluses delivered. ``rates`` are
    the rates in mL/day of about the last day, each from its own time on; ``program_since`` is since when the program
    is the same, as far as its rates tell. ``higher`` are measured levels of the last day before ``measured``, oldest
    first, above which none stood since, by what the program explains: a slow fall shows against them.
    """

    since: datetime | None = None
    at: datetime | None = None
    boot_id: int | None = None
    counter_ml: float | None = None
    counted_at: datetime | None = None
    programmed_ml: float = 0.0
    scheduled_ml: float = 0.0
    bolus_ml: float = 0.0
    rates: tuple[Point, ...] = ()
    program_since: datetime | None = None
    estimated: Reading | None = None
    measured: Reading | None = None
    higher: tuple[Reading, ...] = ()

    @property
    def planned_ml(self) -> float:
        """The schedule with the boluses, whatever the counter says."""
        return self.scheduled_ml + self.bolus_ml

    @property
    def rate_ml_per_day(self) -> float:
        """The schedule's latest rate; 0 when it was never said."""
        return self.rates[-1].value if self.rates else 0.0


def measured(log: VolumeLog, state: PumpState, therapy: Therapy, report: Report) -> VolumeLog:
    """The log after a report's measurements."""
    at = report.event_time
    scheduled = log.rate_ml_per_day * ((at - log.at) / DAY) if log.at is not None else 0.0
    scheduled_ml = log.scheduled_ml + scheduled
    programmed_ml, counter_ml, counted_at = _counted(log, report, scheduled)
    planned_ml = scheduled_ml + log.bolus_ml
    estimated, sensed = report.reservoir_estimated_ml, report.reservoir_measured_ml
    rates, program_since = _rates(log, report)
    level, higher = log.measured, log.higher
    if sensed is not None:
        level = Reading(sensed, at, programmed_ml, planned_ml)
        higher = _higher(log, level, state.refilled_at)
    # In the order of its fields: names would cost more than all the rest.
    return VolumeLog(
        log.since or at,
        at,
        report.boot_id,
        counter_ml,
        counted_at,
        programmed_ml,
        scheduled_ml,
        log.bolus_ml,
        rates,
        program_since,
        log.estimated if estimated is None else Reading(estimated, at, programmed_ml, planned_ml),
        level,
        higher,
    )


def happened(log: VolumeLog, state: PumpState, therapy: Therapy, event: Event, at: datetime) -> VolumeLog:
    """The log after an event that happened at ``at``."""
    if event.type is EventType.BOLUS and event.outcome == "delivered" and event.volume_ml:
        # One from before the last refill says nothing of what left the reservoir since.
        late = state.refilled_at is not None and at < state.refilled_at
        return log if late else replace(log, bolus_ml=log.bolus_ml + event.volume_ml)
    if event.type is EventType.PROGRAM_CHANGE and log.rates:
        return replace(log, rates=log.rates[-1:], program_since=at)
    return VolumeLog() if event.type is EventType.PUMP_REPLACED else log


def fall_told(log: VolumeLog, at: datetime) -> VolumeLog:
    """The log after people were told that the measured level had fallen at ``at``: earlier ones are done with."""
    higher = tuple(reading for reading in log.higher if reading.at >= at)
    return log if higher == log.higher else replace(log, higher=higher)


def programmed_between_ml(first: Reading, last: Reading) -> float:
    """What the program asked for between two levels.

    The larger of both totals: a counter may leave boluses out, and a schedule is only known at its reports.
    """
    return max(last.programmed_ml - first.programmed_ml, last.planned_ml - first.planned_ml)


def unexplained_ml(first: Reading, last: Reading) -> float:
    """By how much a level fell beyond what an accurate pump may take; negative when by less."""
    return first.ml - last.ml - ACCURACY_ALLOWANCE * programmed_between_ml(first, last)


def comparable(reading: Reading, at: datetime, refilled_at: datetime | None) -> bool:
    """Whether a fall since a reading may be told at ``at``: it is of the last day (exclusive), and of this filling."""
    return at - reading.at < DAY and (refilled_at is None or reading.at >= refilled_at + SETTLES)


def tells_program(log: VolumeLog, at: datetime) -> bool:
    """Whether the totals hold at ``at``, a report's time: by a schedule, or by the counter that came with it."""
    return bool(log.rates) or (log.counter_ml is not None and log.counted_at == at)


def _higher(log: VolumeLog, newest: Reading, refilled_at: datetime | None) -> tuple[Reading, ...]:
    """The levels that the next one is compared with besides ``newest``."""
    last, higher = log.measured, log.higher
    if last is None:
        return ()
    if (not higher or last.at - higher[-1].at >= KEPT_APART) and tells_program(log, last.at):
        higher = (*higher, last)
    return tuple(
        reading
        for reading in higher
        if unexplained_ml(reading, newest) > 0 and comparable(reading, newest.at, refilled_at)
    )


def _counted(log: VolumeLog, report: Report, scheduled: float) -> tuple[float, float | None, datetime | None]:
    """The program's total, the counter it stands on, and as of when."""
    counter, at = report.volume_programmed_ml, report.event_time
    rebooted = log.boot_id is not None and report.boot_id != log.boot_id
    if counter is None:
        if log.counter_ml is not None and not rebooted:
            return log.programmed_ml, log.counter_ml, log.counted_at
        return log.programmed_ml + scheduled, None, at
    if log.counter_ml is None:
        first = log.at is None or (log.programmed_ml == 0.0 and not log.rates)
        return (counter if first else log.programmed_ml + scheduled), counter, at
    if rebooted:
        # What the old boot programmed after its last report went with it: the schedule stands in.
        missing = log.rate_ml_per_day * ((at - log.counted_at) / DAY) if log.counted_at else 0.0
        return log.programmed_ml + max(counter, missing), counter, at
    grown = counter - log.counter_ml
    return log.programmed_ml + (grown if grown >= 0 else counter), counter, at


def _rates(log: VolumeLog, report: Report) -> tuple[tuple[Point, ...], datetime | None]:
    """The rates of about the last day; one that was not among them is another program, not the same schedule."""
    at, rate, rates, since = report.event_time, report.flow_programmed_ml_per_day, log.rates, log.program_since
    if len(rates) == 1 and (rate is None or rate == rates[0].value):
        return rates, since
    if rate is not None and (not rates or rates[-1].value != rate):
        if not any(point.value == rate for point in rates):
            since = at
        rates = (*rates, Point(at, rate))[-MAX_RATES:]
    while len(rates) > 1 and rates[1].at <= at - DAY:
        rates = rates[1:]
    return rates, since


def mean_rate_ml_per_day(log: VolumeLog, at: datetime, rate: float | None) -> float | None:
    """The schedule's mean rate over the day before ``at``, while the program is the same; None: never said.

    It stands for the mean of the coming weeks: the wire carries the schedule's value of the moment (``rate``, as of
    ``at``), not the schedule.
    """
    rates = log.rates
    if rate is not None and not any(point.value == rate for point in rates):
        return rate
    if len(rates) < 2:
        return rates[0].value if rates else None
    begin = max(log.program_since or at, rates[0].at, at - DAY)
    span = at - begin
    if span <= timedelta(0):
        return rates[-1].value
    total = 0.0
    for index, point in enumerate(rates):
        until = min(rates[index + 1].at, at) if index + 1 < len(rates) else at
        total += point.value * (max(timedelta(0), until - max(point.at, begin)) / span)
    return total


def totals_at(before: VolumeLog, after: VolumeLog, at: datetime) -> tuple[float, float]:
    """The program's and the schedule's totals in mL at ``at``, between two reports or before both."""
    if after.at is None or after.at <= at or before.at is None:
        return after.programmed_ml, after.scheduled_ml
    if at >= before.at:
        share = (at - before.at) / (after.at - before.at)
        counted = before.programmed_ml + _uncounted(before)
        return (
            counted + (after.programmed_ml - counted) * share,
            before.scheduled_ml + (after.scheduled_ml - before.scheduled_ml) * share,
        )
    back = before.rate_ml_per_day * ((before.at - at) / DAY)
    return max(0.0, before.programmed_ml - back), max(0.0, before.scheduled_ml - back)


def _uncounted(log: VolumeLog) -> float:
    """What the schedule asked for since the counter was last told."""
    if log.at is None or log.counted_at is None:
        return 0.0
    return log.rate_ml_per_day * ((log.at - log.counted_at) / DAY)
