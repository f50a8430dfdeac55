"""Battery and device life (PWR-01 to PWR-03)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from statistics import fmean
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from streams.domain.care import CareKind
from streams.domain.observing.series import Series, added
from streams.domain.profile import Therapy
from streams.domain.telemetry import Alarm, Event, EventType, Report

if TYPE_CHECKING:
    from streams.domain.world import PumpState

RECENT_DAYS: Final = 14
BEFORE_DAYS: Final = 60
"""The battery's latest slope is held against the slope of the days before (rule PWR-03)."""
LEAST_RECENT: Final = 8
LEAST_BEFORE: Final = 20
"""With fewer daily voltages than these a slope says nothing (our own design)."""
DEAD: Final = frozenset({Alarm.END_OF_SERVICE, Alarm.BATTERY_RESET})


class Indicator(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Something that the pump says of itself: since when, and when it took it back."""

    since: datetime
    over_at: datetime | None = None


class Trend(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Slopes of the daily voltages at ``at``, in mV per day, and the voltage in mV by the recent slope's line."""

    at: datetime
    recent: float
    before: float
    level_mv: float


class PowerLog(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Replacement indicator, end of service, and the first voltage of each UTC day in mV."""

    eri: Indicator | None = None
    eos: Indicator | None = None
    alarm: Indicator | None = None
    """End of service or a battery reset by alarm code."""
    voltages: Series = Series()
    trend: Trend | None = None


def replacement(state: PumpState, therapy: Therapy) -> tuple[datetime | None, str | None]:
    """When the pump was last replaced, and who says so: a named person, or the pump's own event."""
    record = therapy.newest(CareKind.REPLACED) if therapy.care else None
    if record is not None and (state.replaced_at is None or record.valid_from >= state.replaced_at):
        return record.valid_from, record.person
    return state.replaced_at, "pump_replaced" if state.replaced_at is not None else None


def measured(log: PowerLog, state: PumpState, therapy: Therapy, report: Report) -> PowerLog:
    """The log after a report's measurements."""
    battery, at = report.battery, report.event_time
    if battery is None and report.alarms is None:
        return log
    eos = battery.eos if battery is not None else None
    if report.alarms or eos or log.eri or log.eos or log.alarm or (battery is not None and battery.eri):
        eri = _indicated(log.eri, _said_eri(state, report), at, state, therapy, again=False)
        end = _indicated(log.eos, eos, at, state, therapy)
        alarm = _indicated(log.alarm, _said_dead(report), at, state, therapy)
        if eri is not log.eri or end is not log.eos or alarm is not log.alarm:
            log = replace(log, eri=eri, eos=end, alarm=alarm)
    if battery is None or not battery.voltage_v:
        return log
    voltages = added(log.voltages, at.toordinal(), round(battery.voltage_v * 1000), RECENT_DAYS + BEFORE_DAYS)
    if voltages is log.voltages:
        return log
    return replace(log, voltages=voltages, trend=_trend(voltages, at))


def happened(log: PowerLog, state: PumpState, therapy: Therapy, event: Event, at: datetime) -> PowerLog:
    """The log after an event that happened at ``at``; another battery has voltages of its own."""
    if event.type is EventType.PUMP_REPLACED and log.voltages.values:
        return replace(log, voltages=Series(), trend=None)
    return log


def _said_eri(state: PumpState, report: Report) -> bool | None:
    """An alarm that stops may only have been silenced; the battery's own word takes the indicator back."""
    if report.alarms and Alarm.ELECTIVE_REPLACEMENT in report.alarms:
        return True
    eri = report.battery.eri if report.battery is not None else None
    return None if eri is False and Alarm.ELECTIVE_REPLACEMENT in state.alarms else eri


def _said_dead(report: Report) -> bool | None:
    return None if report.alarms is None else not DEAD.isdisjoint(report.alarms)


def _indicated(
    known: Indicator | None, said: bool | None, at: datetime, state: PumpState, therapy: Therapy, *, again: bool = True
) -> Indicator | None:
    """The indicator after a word on it; ``again`` says whether it starts anew after it was taken back."""
    if said is None:
        return known
    if not said:
        return replace(known, over_at=at) if known is not None and known.over_at is None else known
    if known is None or (again and known.over_at is not None):
        return Indicator(at)
    replaced_at, _ = replacement(state, therapy)
    if replaced_at is not None and known.since <= replaced_at < at:
        return Indicator(at)
    return known if known.over_at is None else Indicator(known.since)


def _trend(voltages: Series, at: datetime) -> Trend | None:
    first_recent = voltages.newest - RECENT_DAYS + 1
    points = list(voltages.told())
    recent = [point for point in points if point[0] >= first_recent]
    before = [point for point in points if point[0] < first_recent]
    if len(recent) < LEAST_RECENT or len(before) < LEAST_BEFORE:
        return None
    slope, middle, level = _line(recent)
    return Trend(at, slope, _line(before)[0], level + slope * (voltages.newest - middle))


def _line(points: Sequence[tuple[int, int]]) -> tuple[float, float, float]:
    """Slope, and the middle of both axes, of the straight line that fits best (least squares)."""
    middle, level = fmean(day for day, _ in points), fmean(value for _, value in points)
    spread = sum((day - middle) ** 2 for day, _ in points)
    return sum((day - middle) * (value - level) for day, value in points) / spread, middle, level
