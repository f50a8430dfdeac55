"""Leaves that look at what happened: events, counts in a window, deadlines, and signals that stay away.

An event may be told late, with its own earlier time; it is put in its place. That something did not happen is only
known while the pump is heard.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
from pydantic import Field

from streams.domain.memory import Fact, Memory, Point
from streams.domain.rule import Presence, View
from streams.domain.telemetry import Alarm, EmiLevel
from streams.domain.typed.signals import (
    CLOSED,
    READERS,
    REPORT,
    AnySignal,
    Duration,
    EventPattern,
    fresh,
    kept_for,
)
from streams.domain.typed.truth import INSTANT, UNKNOWN, Truth

BEGINS: Final = 1.0
ENDS: Final = 0.0
GOES_ON: Final = 2.0
KEPT_EVENTS: Final = 16
FOREVER: Final = timedelta.max


class Run(msgspec.Struct, frozen=True):
    """Where a sequence of beginnings and ends leads: the present run, if any, and since when there was none before."""

    start: datetime | None = None
    last: datetime | None = None
    off: datetime | None = None


def placed(points: tuple[Point, ...], point: Point) -> tuple[Point, ...]:
    """With one more point, in the order of time; after those of the same time."""
    place = bisect_right(points, point.at, key=lambda other: other.at)
    return (*points[:place], point, *points[place:])


def heard(memory: Memory, at: datetime) -> Memory:
    """The memory after any report: from the first one on, what is not told did not happen."""
    return memory if memory.since is not None else Memory(at, memory.until, memory.points, memory.numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened(EventPattern):
    """An event happened: it holds from the event's own time for ``lasts`` (inclusive), or until another event."""

    __pydantic_config__ = CLOSED

    lasts: Duration | None = None
    until: EventPattern | None = None

    def __post_init__(self) -> None:
        """Check that it ends somehow."""
        EventPattern.__post_init__(self)
        if self.lasts is None and self.until is None:
            raise ValueError("expected lasts, until, or both: an event must end to count some time")

    @property
    def signals(self) -> frozenset[str]:
        """What it listens to."""
        return frozenset({REPORT, self.signal} | ({self.until.signal} if self.until else set()))

    @property
    def reads(self) -> tuple[str, ...]:
        """When the pump was heard last."""
        return ("reported_at",)

    @property
    def names(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def observe(self, memory: Memory, fact: Fact) -> Memory:
        """Points are beginnings and ends; ``since`` is from when on their absence is known."""
        if fact.event is None:
            return heard(memory, fact.at)
        if self.fits(fact.event):
            kind = BEGINS
        elif self.until is not None and self.until.fits(fact.event):
            kind = ENDS
        else:
            return memory
        points = placed(memory.points, Point(fact.at, kind))
        if len(points) <= KEPT_EVENTS:
            return Memory(memory.since, None, points)
        old = self._run(points[:-2], memory.since)
        if old.start is None or old.last is None:
            return Memory(old.off, None, points[-2:])
        kept = (Point(old.start, BEGINS), Point(old.last, GOES_ON))
        return Memory(old.off, None, (*kept, *points[-2:]))

    def _run(self, points: tuple[Point, ...], off: datetime | None) -> Run:
        start = last = None
        lasts = self.lasts or FOREVER
        for point in points:
            if start is not None and last is not None and point.value != GOES_ON and point.at - last > lasts:
                start, off = None, last + lasts
            if point.value == ENDS:
                if start is not None:
                    start, off = None, point.at
            else:
                start, last = start or point.at, point.at
        return Run(start, last, off)

    def judge(self, memory: Memory, view: View) -> Truth:
        """Whether it happened and still counts."""
        run = self._run(memory.points, memory.since)
        off = run.off
        if run.start is not None and run.last is not None:
            if self.lasts is None:
                return Truth(Presence.PRESENT, run.start)
            end = run.last + self.lasts
            if view.at <= end:
                return Truth(Presence.PRESENT, run.start, end + INSTANT)
            off = end
        return Truth(Presence.ABSENT, off) if off is not None and fresh(view) else UNKNOWN

    def values(self, memory: Memory) -> Mapping[str, str]:
        """Nothing."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """``within`` has passed since ``after`` and no ``unless`` came; inclusive.

    A repeated ``after`` does not restart it. It can begin in silence: what should have been told was not.
    """

    __pydantic_config__ = CLOSED

    after: EventPattern
    within: Duration
    unless: EventPattern

    @property
    def signals(self) -> frozenset[str]:
        """What it listens to."""
        return frozenset({REPORT, self.after.signal, self.unless.signal})

    @property
    def reads(self) -> tuple[str, ...]:
        """When the pump was heard last."""
        return ("reported_at",)

    @property
    def names(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def observe(self, memory: Memory, fact: Fact) -> Memory:
        """Points are what starts the clock and what stops it; ``since`` is from when on it did not run out."""
        if fact.event is None:
            return heard(memory, fact.at)
        points = memory.points
        if self.unless.fits(fact.event):
            points = placed(points, Point(fact.at, ENDS))
        if self.after.fits(fact.event):
            points = placed(points, Point(fact.at, BEGINS))
        if points is memory.points:
            return memory
        if len(points) <= KEPT_EVENTS:
            return Memory(memory.since, None, points)
        old = self._run(points[:-4], memory.since)
        kept = (Point(old.start, BEGINS),) if old.start is not None else ()
        return Memory(old.off, None, (*kept, *points[-4:]))

    def _run(self, points: tuple[Point, ...], off: datetime | None) -> Run:
        start = None
        for point in points:
            if point.value == BEGINS:
                start = start or point.at
            elif start is not None:
                off = point.at if point.at >= start + self.within else off
                start = None
        return Run(start, start, off)

    def judge(self, memory: Memory, view: View) -> Truth:
        """Whether the time is over."""
        run = self._run(memory.points, memory.since)
        wake_at = None
        if run.start is not None:
            due = run.start + self.within
            if due <= view.at:
                return Truth(Presence.PRESENT, due)
            wake_at = due
        if run.off is None or not fresh(view):
            return Truth(Presence.NOT_EVALUABLE, None, wake_at)
        return Truth(Presence.ABSENT, run.off, wake_at)

    def values(self, memory: Memory) -> Mapping[str, str]:
        """Nothing."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """At least so many within a time: events, beginnings of an alarm, or interference of some levels; inclusive.

    Interference counts as often as its report says.
    """

    __pydantic_config__ = CLOSED

    at_least: Annotated[int, Field(strict=True, ge=1, le=100)]
    within: Duration
    event: EventPattern | None = None
    alarm: Alarm | None = None
    emi: Annotated[tuple[EmiLevel, ...], Field(min_length=1, max_length=4)] | None = None

    def __post_init__(self) -> None:
        """Check that one thing is counted."""
        if sum(what is not None for what in (self.event, self.alarm, self.emi)) != 1:
            raise ValueError("expected exactly one of event, alarm, emi")

    @property
    def signals(self) -> frozenset[str]:
        """What it listens to."""
        if self.event is not None:
            return frozenset({REPORT, self.event.signal})
        return frozenset({"alarms" if self.alarm is not None else "emi"})

    @property
    def reads(self) -> tuple[str, ...]:
        """When the pump was heard last."""
        return ("reported_at",)

    @property
    def names(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def observe(self, memory: Memory, fact: Fact) -> Memory:
        """Points are what was counted, the newest that are needed; ``since``: from when on they are enough.

        ``until`` is from when on they are not, and the only number whether the alarm sounded at the last report.
        """
        report, event = fact.report, fact.event
        if event is not None:
            return self._added(memory, fact.at, 1) if self.event is not None and self.event.fits(event) else memory
        if memory.until is None:
            memory = Memory(memory.since, fact.at, memory.points, memory.numbers)
        if self.alarm is not None:
            sounds = self.alarm in (report.alarms or ())
            sounded = memory.numbers == (1.0,)
            if sounds is not sounded:
                memory = Memory(memory.since, memory.until, memory.points, (float(sounds),))
            return self._added(memory, fact.at, 1) if sounds and not sounded else memory
        if self.emi is not None and report.emi is not None and report.emi.level in self.emi and report.emi.count:
            return self._added(memory, fact.at, report.emi.count)
        return memory

    def _added(self, memory: Memory, at: datetime, weight: int) -> Memory:
        since, until = memory.since, memory.until
        if since is not None and at - memory.points[0].at > self.within:
            since, until = None, memory.points[0].at + self.within
        points, counted, first = placed(memory.points, Point(at, float(weight))), 0.0, 0
        for first in range(len(points) - 1, -1, -1):
            counted += points[first].value
            if counted >= self.at_least:
                break
        points = points[first:]
        enough = counted >= self.at_least and points[-1].at - points[0].at <= self.within
        if enough and since is None:
            since = points[-1].at
        return Memory(since if enough else None, until, points, memory.numbers)

    def judge(self, memory: Memory, view: View) -> Truth:
        """Whether there are enough in the time that ends at the moment judged."""
        off = memory.until
        if memory.since is not None:
            end = memory.points[0].at + self.within
            if view.at <= end:
                return Truth(Presence.PRESENT, memory.since, end + INSTANT)
            off = end
        return Truth(Presence.ABSENT, off) if off is not None and fresh(view) else UNKNOWN

    def values(self, memory: Memory) -> Mapping[str, str]:
        """Nothing."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """A signal that a pump once said is in none of its reports for ``lasts``, while reports go on; inclusive.

    Time in which the pump was silent (for longer than three expected intervals, at least an hour) does not count.
    """

    __pydantic_config__ = CLOSED

    signal: AnySignal
    lasts: Duration

    @property
    def signals(self) -> frozenset[str]:
        """Every report."""
        return frozenset({REPORT})

    @property
    def reads(self) -> tuple[str, ...]:
        """Nothing beside its memory."""
        return ()

    @property
    def names(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def observe(self, memory: Memory, fact: Fact) -> Memory:
        """``since`` to ``until``: heard without the signal; the point is since when it was not missing."""
        at = fact.at
        if READERS[self.signal](fact.report) is not None:
            came_back = not memory.points or self._missing(memory)
            return Memory(at, at, (Point(at, 0.0),) if came_back else memory.points)
        if not memory.points or memory.since is None or memory.until is None:
            return memory
        silent = not self._missing(memory) and at - memory.until > kept_for(fact.therapy)
        return Memory(at if silent else memory.since, at, memory.points)

    def _missing(self, memory: Memory) -> bool:
        since, until = memory.since, memory.until
        return since is not None and until is not None and until - since >= self.lasts

    def judge(self, memory: Memory, view: View) -> Truth:
        """Whether the signal is missing."""
        since, until = memory.since, memory.until
        if since is None or until is None or view.at > until + kept_for(view.therapy):
            return UNKNOWN
        if self._missing(memory):
            return Truth(Presence.PRESENT, since + self.lasts)
        return Truth(Presence.ABSENT, memory.points[0].at)

    def values(self, memory: Memory) -> Mapping[str, str]:
        """Nothing."""
        return {}
