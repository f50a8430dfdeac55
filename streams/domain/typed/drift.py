"""Slow drift of delivered against programmed volume: a two-sided CUSUM over the site's days, with a learned baseline.

A single day says little: a pump may deliver 14.5 % more than its program, and its sensor has a bias of its own. What
counts is a small deviation from its own first days that goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Annotated, Final, Literal

import msgspec
from pydantic import Field

from streams.domain.memory import Fact, Memory, Point
from streams.domain.rule import View
from streams.domain.telemetry import EventType, Motor
from streams.domain.typed.signals import CLOSED, READERS, CumulativeSignal
from streams.domain.typed.trends import turned, with_turn
from streams.domain.typed.truth import Truth

SHORTEST_DAY: Final = timedelta(hours=12)
LONGEST_DAY: Final = timedelta(hours=36)
"""A day's volumes lie between the first reports of two days; further apart they are not those of one day."""
COUNTS_FOR: Final = timedelta(days=2)
NORMAL: Final = 1.4826
"""From the median absolute deviation to the standard deviation of a normal distribution."""
Positive = Annotated[float, Field(strict=True, gt=0, le=1_000)]


class Sums(msgspec.Struct, frozen=True):
    """What the recursion knows: whether it alarms, where the day began, the baseline and both sums."""

    on: float = 0.0
    boot: float = -1.0
    spoiled: float = 1.0
    other: float = 0.0
    centre: float = 0.0
    sigma: float = 0.0
    over: float = 0.0
    under: float = 0.0
    days: tuple[float, ...] = ()

    @property
    def numbers(self) -> tuple[float, ...]:
        """As a memory keeps it."""
        first = (self.on, self.boot, self.spoiled, self.other, self.centre, self.sigma, self.over, self.under)
        return (*first, *self.days)


def _sums(memory: Memory) -> Sums:
    if not memory.numbers:
        return Sums()
    on, boot, spoiled, other, centre, sigma, over, under, *days = memory.numbers
    return Sums(on, boot, spoiled, other, centre, sigma, over, under, tuple(days))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cusum:
    """A day's ``x = of / to - 1`` deviates from the pump's own baseline for so long that a sum exceeds ``h``.

    ``z = (x - centre) / sigma`` is clipped to ±``clip``; the sums are ``max(0, S ± z - k)``, at most twice ``h``. The
    baseline is the median of the first ``baseline_days`` valid days, limited to ±``baseline_limit``; sigma their scaled
    median absolute deviation, at least ``least_sigma``. Days with a refill, a stall, a motor that did not run, a reset
    or less than ``least_ml`` programmed are left out.
    """

    __pydantic_config__ = CLOSED

    of: CumulativeSignal
    to: CumulativeSignal
    side: Literal["over", "under", "both"] = "both"
    k: Annotated[float, Field(strict=True, ge=0, le=10)] = 0.5
    h: Positive = 5.0
    clip: Positive = 3.0
    baseline_days: Annotated[int, Field(strict=True, ge=3, le=60)] = 14
    baseline_limit: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.05
    least_sigma: Positive = 0.03
    least_ml: Positive = 0.05

    def __post_init__(self) -> None:
        """Check what is compared."""
        if self.of == self.to:
            raise ValueError("expected two different volumes in of and to")

    @property
    def signals(self) -> frozenset[str]:
        """What it listens to."""
        return frozenset({self.to, "motor", "event:refill", "event:stall_started"})

    @property
    def reads(self) -> tuple[str, ...]:
        """Nothing beside its memory."""
        return ()

    @property
    def names(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def observe(self, memory: Memory, fact: Fact) -> Memory:
        """The point is where the day began, and the volume compared with there; numbers are `Sums`."""
        if fact.event is not None:
            spoils = fact.event.type in (EventType.REFILL, EventType.STALL_STARTED)
            return _spoiled(memory) if spoils and memory.points and fact.at >= memory.points[0].at else memory
        to, of = READERS[self.to](fact.report), READERS[self.of](fact.report)
        if to is not None and of is not None:
            memory = self._measured(memory, fact, to, of)
        return memory if fact.report.motor in (None, Motor.RUNNING) else _spoiled(memory)

    def _measured(self, memory: Memory, fact: Fact, to: float, of: float) -> Memory:
        sums, boot, here = _sums(memory), float(fact.report.boot_id), (Point(fact.at, to),)
        if not memory.points or sums.boot != boot:
            # The first day began before the first report of it: it is not a whole one.
            begun = msgspec.structs.replace(sums, boot=boot, spoiled=1.0, other=of)
            return Memory(memory.since, memory.until, here, begun.numbers)
        start, zone = memory.points[0], fact.therapy.zone
        if start.at.astimezone(zone).date() == fact.at.astimezone(zone).date():
            return memory
        programmed = to - start.value
        whole = SHORTEST_DAY <= fact.at - start.at <= LONGEST_DAY
        valid = whole and not sums.spoiled and programmed >= self.least_ml
        after = self._day(sums, (of - sums.other) / programmed - 1.0) if valid else sums
        after = msgspec.structs.replace(after, spoiled=0.0, other=of)
        since, until = memory.since, memory.until
        if valid and after.sigma:
            since, until = with_turn(memory, bool(after.on), fact.at), fact.at + COUNTS_FOR
        return Memory(since, until, here, after.numbers)

    def _day(self, sums: Sums, x: float) -> Sums:
        """The sums after one valid day."""
        if not sums.sigma:
            days = (*sums.days, x)
            if len(days) < self.baseline_days:
                return msgspec.structs.replace(sums, days=days)
            middle = median(days)
            spread = NORMAL * median(abs(day - middle) for day in days)
            centre = max(-self.baseline_limit, min(self.baseline_limit, middle))
            return msgspec.structs.replace(sums, centre=centre, sigma=max(spread, self.least_sigma), days=())
        z = max(-self.clip, min(self.clip, (x - sums.centre) / sums.sigma))
        over = min(max(0.0, sums.over + z - self.k), 2 * self.h)
        under = min(max(0.0, sums.under - z - self.k), 2 * self.h)
        on = (self.side != "under" and over > self.h) or (self.side != "over" and under > self.h)
        return msgspec.structs.replace(sums, over=over, under=under, on=float(on))

    def judge(self, memory: Memory, view: View) -> Truth:
        """Whether a sum exceeds ``h``."""
        return turned(memory, view)

    def values(self, memory: Memory) -> Mapping[str, str]:
        """Nothing."""
        return {}


def _spoiled(memory: Memory) -> Memory:
    sums = _sums(memory)
    if not memory.points or sums.spoiled:
        return memory
    return Memory(memory.since, memory.until, memory.points, msgspec.structs.replace(sums, spoiled=1.0).numbers)
