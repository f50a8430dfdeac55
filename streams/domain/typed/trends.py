"""Leaves that compare samples over time: rates, ratios of volumes, predictions.

Samples are thinned to a fixed number per window, so a memory does not grow with how often a pump reports. A window
counts only when samples cover it whole, and none that reaches over a pump's reset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

from pydantic import Field

from streams.domain.memory import Fact, Memory, Point
from streams.domain.rule import Presence, View
from streams.domain.typed.signals import (
    CLOSED,
    CUMULATIVE,
    READERS,
    CumulativeSignal,
    Duration,
    LevelSignal,
    Limit,
    NumberSignal,
    kept_for,
    listens_to,
    moment,
)
from streams.domain.typed.truth import UNKNOWN, Truth

GRAIN: Final = 32
"""A window is remembered by about so many samples."""
LONGEST_SPAN: Final = 2
"""Samples that lie further apart than so many windows say nothing of one window."""
UNIT: Final = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
Volume = Annotated[float, Field(strict=True, gt=0, le=60)]


def with_turn(memory: Memory, on: bool | None, at: datetime) -> datetime | None:
    """Since when a leaf whose first number tells whether it holds has been so; None while it cannot be told."""
    if on is None:
        return None
    same = memory.since is not None and memory.numbers and memory.numbers[0] == float(on)
    return memory.since if same else at


def turned(memory: Memory, view: View) -> Truth:
    """What a leaf found at its last sample, as long as that counts."""
    if memory.since is None or memory.until is None or view.at > memory.until:
        return UNKNOWN
    return Truth(Presence.PRESENT if memory.numbers[0] else Presence.ABSENT, memory.since)


def thinned(points: tuple[Point, ...], point: Point, spacing: timedelta) -> tuple[Point, ...]:
    """With one more sample at the end; the newest is always there, those before it at least ``spacing`` apart."""
    if len(points) >= 2 and points[-1].at - points[-2].at < spacing:
        return (*points[:-1], point)
    return (*points, point)


def since_start(points: tuple[Point, ...], start: datetime) -> tuple[Point, ...]:
    """The samples from the last one at or before ``start`` on."""
    first = 0
    while first + 1 < len(points) and points[first + 1].at <= start:
        first += 1
    return points[first:] if first else points


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate(Limit):
    """How fast a number changes, per hour or day, over a window that ends with its last sample; falling is negative."""

    __pydantic_config__ = CLOSED

    signal: NumberSignal
    window: Duration
    per: Literal["hour", "day"]

    @property
    def signals(self) -> frozenset[str]:
        """What it listens to."""
        return listens_to(self.signal)

    @property
    def reads(self) -> tuple[str, ...]:
        """Nothing beside its memory."""
        return ()

    @property
    def names(self) -> frozenset[str]:
        """The rate."""
        return frozenset({"rate"})

    def observe(self, memory: Memory, fact: Fact) -> Memory:
        """Numbers: whether the limit is met, the boot, the rate."""
        value = READERS[self.signal](fact.report)
        if value is None:
            return memory
        boot, points = float(fact.report.boot_id), memory.points
        if self.signal in CUMULATIVE and memory.numbers and memory.numbers[1] != boot:
            points = ()
        points = since_start(thinned(points, Point(fact.at, value), self.window / GRAIN), fact.at - self.window)
        rate = slope(points, self.window, UNIT[self.per])
        on = None if rate is None else self.met(rate)
        since, until = with_turn(memory, on, fact.at), fact.at + kept_for(fact.therapy)
        return Memory(since, until, points, (float(on or False), boot, rate or 0.0))

    def judge(self, memory: Memory, view: View) -> Truth:
        """Whether the limit is met."""
        return turned(memory, view)

    def values(self, memory: Memory) -> Mapping[str, str]:
        """The last rate."""
        return {"rate": f"{memory.numbers[2]:.3g}"} if memory.since is not None else {}


def slope(points: tuple[Point, ...], window: timedelta, unit: timedelta) -> float | None:
    """Change per unit of time from the window's start to its end; None where samples do not cover it."""
    oldest, newest = points[0], points[-1]
    span = newest.at - oldest.at
    if not window <= span <= LONGEST_SPAN * window:
        return None
    return (newest.value - oldest.value) / (span / unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeWindow:
    """As long as ``ml`` takes by the compared volume, within [``least``, ``most``]: low flow needs long windows."""

    __pydantic_config__ = CLOSED

    ml: Volume
    least: Duration
    most: Duration

    def __post_init__(self) -> None:
        """Check the order."""
        if self.least > self.most or self.most > 48 * self.least:
            raise ValueError("expected least to be at most most, and most to be 48 times least at most")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio(Limit):
    """One cumulative volume over another, in back-to-back windows that end with the last sample; all must meet it.

    ``least_difference_ml`` keeps the resolution of a sensor from looking like a fault: in each window the two must
    differ by so much; inclusive.
    """

    __pydantic_config__ = CLOSED

    of: CumulativeSignal
    to: CumulativeSignal
    window: Duration | None = None
    volume: VolumeWindow | None = None
    windows: Annotated[int, Field(strict=True, ge=1, le=4)] = 1
    least_difference_ml: Volume | None = None

    def __post_init__(self) -> None:
        """Check what is compared."""
        Limit.__post_init__(self)
        if self.of == self.to:
            raise ValueError("expected two different volumes in of and to")
        if (self.window is None) == (self.volume is None):
            raise ValueError("expected exactly one of window, volume")

    @property
    def signals(self) -> frozenset[str]:
        """What it listens to: both volumes are in the same report, or there is no ratio."""
        return frozenset({self.to})

    @property
    def reads(self) -> tuple[str, ...]:
        """Nothing beside its memory."""
        return ()

    @property
    def names(self) -> frozenset[str]:
        """The newest window's ratio."""
        return frozenset({"ratio"})

    @property
    def bounds(self) -> tuple[timedelta, timedelta, float]:
        """Shortest and longest window, and the volume that ends it in between."""
        if self.volume is not None:
            return self.volume.least, self.volume.most, self.volume.ml
        window = self.window or timedelta(days=1)
        return window, window, 0.0

    def observe(self, memory: Memory, fact: Fact) -> Memory:
        """Points are of the volume compared with; numbers: whether it is met, boot, ratio, then the other volumes."""
        to, of = READERS[self.to](fact.report), READERS[self.of](fact.report)
        if to is None or of is None:
            return memory
        boot = float(fact.report.boot_id)
        points, others = memory.points, memory.numbers[3:]
        if memory.numbers and memory.numbers[1] != boot:
            points, others = (), ()
        least, most, _ = self.bounds
        spacing = max(least / (GRAIN // 4), self.windows * most / (4 * GRAIN))
        longer = thinned(points, Point(fact.at, to), spacing)
        others = (*(others[:-1] if len(longer) == len(points) else others), of)
        points = since_start(longer, fact.at - self.windows * LONGEST_SPAN * most)
        others = others[len(longer) - len(points) :]
        on, ratio = self._found(points, others)
        since, until = with_turn(memory, on, fact.at), fact.at + kept_for(fact.therapy)
        return Memory(since, until, points, (float(on or False), boot, ratio, *others))

    def _found(self, points: tuple[Point, ...], others: tuple[float, ...]) -> tuple[bool | None, float]:
        """Whether all windows meet the limit, as far as it can be told; and the newest window's ratio."""
        end, newest = len(points) - 1, 0.0
        for number in range(self.windows):
            start = self._start(points, end)
            if start is None or points[end].value <= points[start].value:
                return None, newest
            to, of = points[end].value - points[start].value, others[end] - others[start]
            if number == 0:
                newest = of / to
            enough = self.least_difference_ml is None or abs(of - to) >= self.least_difference_ml - 1e-9
            if not (enough and self.met(of / to)):
                return False, newest
            end = start
        return True, newest

    def _start(self, points: tuple[Point, ...], end: int) -> int | None:
        """The sample with which a window begins that ends with sample ``end``; None where none covers it."""
        least, most, volume = self.bounds
        for start in range(end - 1, -1, -1):
            span = points[end].at - points[start].at
            if span > LONGEST_SPAN * most:
                return None
            enough = volume and points[end].value - points[start].value >= volume - 1e-9
            if span >= most or (span >= least and enough):
                return start
        return None

    def judge(self, memory: Memory, view: View) -> Truth:
        """Whether all windows meet the limit."""
        return turned(memory, view)

    def values(self, memory: Memory) -> Mapping[str, str]:
        """The newest window's ratio."""
        return {"ratio": f"{memory.numbers[2]:.3g}"} if memory.since is not None else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """A level gets to ``reaches`` (mL) within ``within`` if it goes on as it does; inclusive.

    ``by: program`` takes the programmed flow, and ``allowance`` as the factor by which a pump may exceed it;
    ``by: level`` takes how the level itself fell over ``window``. A level that does not fall never gets there.
    """

    __pydantic_config__ = CLOSED

    signal: LevelSignal
    reaches: Annotated[float, Field(strict=True, ge=0, le=60)]
    within: Duration
    by: Literal["program", "level"]
    window: Duration | None = None
    allowance: Annotated[float, Field(strict=True, ge=1, le=2)] = 1.0

    def __post_init__(self) -> None:
        """Check that the window is there where it is needed, and only there."""
        if (self.by == "level") != (self.window is not None):
            raise ValueError("expected window with by: level, and only there")

    @property
    def signals(self) -> frozenset[str]:
        """What it listens to."""
        return frozenset({self.signal, "flow_programmed_ml_per_day"} if self.by == "program" else {self.signal})

    @property
    def reads(self) -> tuple[str, ...]:
        """Nothing beside its memory."""
        return ()

    @property
    def names(self) -> frozenset[str]:
        """When it gets there."""
        return frozenset({"reached_at"})

    def observe(self, memory: Memory, fact: Fact) -> Memory:
        """Numbers: whether it holds, the flow (mL/day; -1 when unknown), days left at the last sample (-1: never)."""
        level, flow = READERS[self.signal](fact.report), fact.report.flow_programmed_ml_per_day
        held = self._settled(memory, fact.at)
        known_flow = held.numbers[1] if held.numbers else -1.0
        if flow is not None:
            known_flow = flow
        points, until = held.points, held.until
        if level is not None:
            grain = (self.window or timedelta(days=1)) / GRAIN
            points = thinned(points, Point(fact.at, level), grain) if self.window else (Point(fact.at, level),)
            points = since_start(points, fact.at - self.window) if self.window else points
            until = fact.at + kept_for(fact.therapy)
        if not points:
            return Memory(None, until, (), (0.0, known_flow, -1.0)) if flow is not None else memory
        left = self._days_left(points, known_flow)
        on = None if left is None else points[-1].at + timedelta(days=max(left, 0.0)) - self.within <= fact.at
        if left is not None and left < 0:
            on = False
        since = with_turn(held, on, fact.at)
        return Memory(since, until, points, (float(on or False), known_flow, -1.0 if left is None else left))

    def _days_left(self, points: tuple[Point, ...], flow: float) -> float | None:
        """Days from the last sample until the level is there; negative for never, None where it cannot be told."""
        level = points[-1].value
        if level <= self.reaches:
            return 0.0
        if self.window is None:
            fall = flow * self.allowance
        else:
            change = slope(points, self.window, UNIT["day"])
            fall = -1.0 if change is None else max(0.0, -change) * self.allowance
        if fall < 0:
            return None
        return (level - self.reaches) / fall if fall > (level - self.reaches) / 36_500 else -1.0

    def _due(self, memory: Memory) -> datetime | None:
        """When it begins to hold if the level goes on as it does."""
        if memory.since is None or not memory.points or memory.numbers[0] or memory.numbers[2] < 0:
            return None
        return memory.points[-1].at + timedelta(days=memory.numbers[2]) - self.within

    def _settled(self, memory: Memory, at: datetime) -> Memory:
        due = self._due(memory)
        if due is None or memory.until is None or due > at or due > memory.until:
            return memory
        return Memory(due, memory.until, memory.points, (1.0, *memory.numbers[1:]))

    def judge(self, memory: Memory, view: View) -> Truth:
        """Whether it gets there in time."""
        memory = self._settled(memory, view.at)
        truth, due = turned(memory, view), self._due(memory)
        if truth is UNKNOWN or due is None or memory.until is None or due > memory.until:
            return truth
        return Truth(truth.presence, truth.since, due)

    def values(self, memory: Memory) -> Mapping[str, str]:
        """When it gets there."""
        if not memory.points or memory.numbers[2] < 0:
            return {}
        return {"reached_at": moment(memory.points[-1].at + timedelta(days=memory.numbers[2]))}
