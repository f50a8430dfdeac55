"""Patient boluses: the last day's one by one, the last week's by day (THR-04)."""

from __future__ import annotations

from bisect import insort
from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec.structs import replace

from streams.domain.profile import Therapy
from streams.domain.telemetry import Event

KEPT_BOLUSES: Final = 64
KEPT_DENIALS: Final = 16
KEPT_DAYS: Final = 7
DAY: Final = timedelta(days=1)


class Bolus(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A bolus that was delivered, and the moment from which the reports told so."""

    at: datetime
    ml: float
    told_at: datetime


class Use(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Boluses delivered on one day at the site (its proleptic ordinal)."""

    day: int
    count: int
    ml: float


class BolusLog(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Delivered and denied boluses of the last day, oldest first, and the use by day."""

    delivered: tuple[Bolus, ...] = ()
    denied: tuple[datetime, ...] = ()
    days: tuple[Use, ...] = ()


def site_day(therapy: Therapy, at: datetime) -> int:
    """The day at the pump's site."""
    return at.astimezone(therapy.zone).toordinal()


def noted(log: BolusLog, therapy: Therapy, event: Event, at: datetime, told_at: datetime) -> BolusLog:
    """The log after a bolus event; what was only requested says nothing yet."""
    if event.outcome == "denied":
        latest = max(at, *log.denied) if log.denied else at
        times = sorted(time for time in (*log.denied, at) if latest - time < DAY)
        return replace(log, denied=tuple(times[-KEPT_DENIALS:]))
    if event.outcome != "delivered":
        return log
    delivered = list(log.delivered)
    insort(delivered, Bolus(at, event.volume_ml or 0.0, told_at), key=lambda bolus: bolus.at)
    latest = delivered[-1].at
    kept = tuple(bolus for bolus in delivered if latest - bolus.at < DAY or bolus.at == at)[-KEPT_BOLUSES:]
    return BolusLog(kept, log.denied, _used(log.days, site_day(therapy, at), event.volume_ml or 0.0))


def _used(days: tuple[Use, ...], day: int, ml: float) -> tuple[Use, ...]:
    by_day = {use.day: use for use in days}
    before = by_day.get(day, Use(day, 0, 0.0))
    by_day[day] = Use(day, before.count + 1, before.ml + ml)
    newest = max(by_day)
    return tuple(by_day[known] for known in sorted(by_day) if newest - known < KEPT_DAYS)
