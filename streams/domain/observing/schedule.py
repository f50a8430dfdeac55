"""The programmed rate over the last day: flow is a schedule with steps, one report says little (clinical.md D-09)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

import msgspec
from msgspec.structs import replace

from streams.domain.profile import Therapy

DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)
KEPT_RATES: Final = 64
"""A schedule has at most 13 steps a day (clinical.md D-09)."""


class Rate(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A programmed rate, from the first report that showed it until the next one."""

    at: datetime
    ml_per_day: float


class Schedule(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The rates of the last day, oldest first, the one in force a day ago included.

    ``heard_at`` is when a rate was last told, kept to the hour; ``gap_ended_at`` is the end of the last time in which
    nothing was told for longer than a value counts. ``had_steps`` says whether the rate had changed within the day
    before the last change of program.
    """

    rates: tuple[Rate, ...] = ()
    heard_at: datetime | None = None
    gap_ended_at: datetime | None = None
    had_steps: bool = False


class Mean(msgspec.Struct, frozen=True):
    """A mean rate in mL/day, known since ``known_at``; ``error`` is what the steps' unknown moments may hide."""

    ml_per_day: float
    known_at: datetime
    error: float = 0.0


def told(schedule: Schedule, therapy: Therapy, at: datetime, ml_per_day: float) -> Schedule:
    """The schedule after a report of the rate in force at ``at``."""
    rates, heard_at = schedule.rates, schedule.heard_at
    same = bool(rates) and rates[-1].ml_per_day == ml_per_day
    if same and heard_at is not None and at - heard_at < HOUR:
        return schedule
    longest = max(3 * therapy.interval, HOUR) + HOUR
    gap = heard_at is not None and at - heard_at > longest
    if not same:
        rates = (*rates, Rate(at, ml_per_day))
    start = at - DAY
    while len(rates) > 1 and (rates[1].at <= start or len(rates) > KEPT_RATES):
        rates = rates[1:]
    return Schedule(rates, at, at if gap else schedule.gap_ended_at, schedule.had_steps)


def reprogrammed(schedule: Schedule, at: datetime) -> Schedule:
    """The schedule after a change of program: the rate must be told anew."""
    return replace(schedule, heard_at=None, had_steps=len({rate for rate, _ in parts(schedule, at - DAY, at)}) > 1)


def parts(schedule: Schedule, start: datetime, end: datetime) -> Iterator[tuple[float, timedelta]]:
    """Rates and for how long they were in force between two moments."""
    for index, rate in enumerate(schedule.rates):
        until = schedule.rates[index + 1].at if index + 1 < len(schedule.rates) else end
        lasted = min(until, end) - max(rate.at, start)
        if lasted > timedelta(0):
            yield rate.ml_per_day, lasted


def said_at(schedule: Schedule) -> Iterator[datetime]:
    """When the mean of the day before follows from what was told: at the latest rate, and after a day without another.

    In between the window moves on over steps long past, which tells nothing new. A rate that never changed is its own
    mean at any time.
    """
    if schedule.heard_at is not None and len(schedule.rates) > 1:
        yield schedule.heard_at
        yield schedule.heard_at + DAY


def mean(schedule: Schedule, therapy: Therapy, at: datetime) -> Mean | None:
    """The mean programmed rate of the 24 hours up to ``at``; None where it is not known.

    A rate that did not change is its own mean, however short the time. A step is seen up to one expected interval late,
    on average half of one.
    """
    rates = schedule.rates
    if not rates:
        return None
    start = at - DAY
    known = list(parts(schedule, start, at))
    if len({rates[-1].ml_per_day, *(rate for rate, _ in known)}) == 1:
        return Mean(rates[-1].ml_per_day, rates[-1].at)
    known_at = max(rates[0].at, schedule.gap_ended_at or rates[0].at) + DAY
    if known_at > at:
        return None
    steps = sum(abs(after - before) for (before, _), (after, _) in pairwise(known))
    error = steps * (therapy.interval / 2 / DAY)
    return Mean(sum(rate * (lasted / DAY) for rate, lasted in known), known_at, error)
