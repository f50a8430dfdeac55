"""Leaves that look at what a signal says now: thresholds, words and alarms, each with its hold and its way back.

They share one memory: whether it holds and since when (``points``), since when samples say otherwise (``since``), until
when the last sample counts (``until``), and the last value and how many samples in a row say otherwise (``numbers``).
A hold ends by time alone while the last sample still counts; a clear hold ends with a sample, for silence clears
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Final, Self

import msgspec
from pydantic import Field, StrictBool, StrictStr

from streams.domain.memory import Fact, Memory, Point
from streams.domain.rule import Presence, View
from streams.domain.telemetry import Alarm
from streams.domain.typed.signals import (
    CLOSED,
    READERS,
    WORDS,
    Duration,
    Limit,
    LimitNumber,
    NumberSignal,
    Parameter,
    WordSignal,
    kept_for,
    listens_to,
    placeholder,
    plain,
)
from streams.domain.typed.truth import UNKNOWN, Truth

AT_ONCE: Final = timedelta(0)
Consecutive = Annotated[int, Field(strict=True, ge=1, le=20)]


class Sampled(msgspec.Struct, frozen=True):
    """One sample: its time, until when it counts, whether it meets the condition and whether it meets the end."""

    at: datetime
    until: datetime
    met: bool
    ended: bool
    value: float = 0.0


class Ways(msgspec.Struct, frozen=True):
    """How long, or how many samples in a row, it takes to begin and to end."""

    hold: timedelta = AT_ONCE
    consecutive: int = 0
    clear_hold: timedelta = AT_ONCE

    def settled(self, memory: Memory, at: datetime) -> Memory:
        """The memory at ``at``: a hold that ended meanwhile, while the last sample counted, has begun the condition."""
        if memory.since is None or memory.until is None or self.consecutive or memory.points[0].value:
            return memory
        due = memory.since + self.hold
        if due > at or due > memory.until:
            return memory
        return Memory(None, memory.until, (Point(due, 1.0),), (memory.numbers[0], 0.0))

    def sampled(self, memory: Memory, sample: Sampled) -> Memory:
        """The memory after a sample."""
        memory = self.settled(memory, sample.at)
        points = memory.points or (Point(sample.at, 0.0),)
        on = bool(points[0].value)
        if not (sample.ended if on else sample.met):
            return Memory(None, sample.until, points, (sample.value, 0.0))
        since = memory.since or sample.at
        count = memory.numbers[1] + 1 if memory.numbers else 1.0
        if self.consecutive and not on:
            turns = count >= self.consecutive
        else:
            turns = sample.at - since >= (self.clear_hold if on else self.hold)
        if turns:
            return Memory(None, sample.until, (Point(sample.at, 0.0 if on else 1.0),), (sample.value, 0.0))
        return Memory(since, sample.until, points, (sample.value, count))

    def judge(self, memory: Memory, at: datetime) -> Truth:
        """What holds at ``at``; not evaluable once the last sample does not count any more."""
        if not memory.points or memory.until is None or at > memory.until:
            return UNKNOWN
        memory = self.settled(memory, at)
        newest, wake_at = memory.points[0], None
        if newest.value:
            return Truth(Presence.PRESENT, newest.at)
        if memory.since is not None and not self.consecutive and memory.until is not None:
            due = memory.since + self.hold
            wake_at = due if due <= memory.until else None
        return Truth(Presence.ABSENT, newest.at, wake_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold(Limit):
    """A number meets a limit, for ``hold`` or on so many ``consecutive`` samples (1 to 20); both inclusive.

    It ends on a sample beyond ``clear`` (inclusive; the limit itself where left out, and where a patient's own limit
    lies beyond it), or after ``clear_hold`` of them.
    ``keep`` is how long a sample counts: three expected intervals, at least an hour, where left out.
    """

    __pydantic_config__ = CLOSED

    signal: NumberSignal
    hold: Duration | None = None
    consecutive: Consecutive | None = None
    clear: LimitNumber | None = None
    clear_hold: Duration | None = None
    keep: Duration | None = None

    def __post_init__(self) -> None:
        """Check the limits."""
        Limit.__post_init__(self)
        if self.hold is not None and self.consecutive is not None:
            raise ValueError("expected hold or consecutive, not both")
        if self.clear is None or self.parameters:
            return
        clear, bound = plain(self.clear), plain(self.bound)
        if clear > bound if self.rising else clear < bound:
            way = "at most" if self.rising else "at least"
            raise ValueError(f"clear: expected {way} {bound:g}, the limit itself")

    def given(self, parameters: Mapping[str, float]) -> Self:
        """See `Limit.given`; a way back on the wrong side of the limit is left out."""
        if self.clear is not None:
            ends = (self.clear, self.bound)
            clear, bound = (parameters[one.name] if isinstance(one, Parameter) else one for one in ends)
            if clear > bound if self.rising else clear < bound:
                return Limit.given(replace(self, clear=None), parameters)
        return Limit.given(self, parameters)

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
        """The signal's value."""
        return frozenset({placeholder(self.signal)})

    def observe(self, memory: Memory, fact: Fact) -> Memory:
        """The memory after a sample."""
        value = READERS[self.signal](fact.report)
        if value is None:
            return memory
        met = self.met(value)
        ended = not met
        if self.clear is not None:
            ended = value <= plain(self.clear) if self.rising else value >= plain(self.clear)
            # A limit that excludes its own number must not be met and ended by the same value.
            ended = ended and not met
        until = fact.at + (self.keep or kept_for(fact.therapy))
        return _ways(self).sampled(memory, Sampled(fact.at, until, met, ended, float(value)))

    def judge(self, memory: Memory, view: View) -> Truth:
        """Whether the limit is met."""
        return _ways(self).judge(memory, view.at)

    def values(self, memory: Memory) -> Mapping[str, str]:
        """The last value."""
        return {placeholder(self.signal): f"{memory.numbers[0]:g}"} if memory.numbers else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A signal that is no number says one of some words, for ``hold`` or on ``consecutive`` samples."""

    __pydantic_config__ = CLOSED

    signal: WordSignal
    # One word or several; in YAML a list even where it is only one.
    one_of: Annotated[tuple[StrictBool | StrictStr, ...], Field(min_length=1, max_length=8)]
    hold: Duration | None = None
    consecutive: Consecutive | None = None
    clear_hold: Duration | None = None
    keep: Duration | None = None

    def __post_init__(self) -> None:
        """Check that the signal knows the words."""
        if self.hold is not None and self.consecutive is not None:
            raise ValueError("expected hold or consecutive, not both")
        known = WORDS[self.signal]
        for word in self.one_of:
            if not any(word is other or (word == other and isinstance(word, str)) for other in known):
                shown = ", ".join(str(other).lower() if isinstance(other, bool) else other for other in known)
                raise ValueError(f"one_of: {word!r} is not said by {self.signal}; expected {shown}")

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
        """None: words are the rule's own."""
        return frozenset()

    def observe(self, memory: Memory, fact: Fact) -> Memory:
        """The memory after a sample."""
        said = READERS[self.signal](fact.report)
        if said is None:
            return memory
        met = said in self.one_of
        until = fact.at + (self.keep or kept_for(fact.therapy))
        return _ways(self).sampled(memory, Sampled(fact.at, until, met, not met))

    def judge(self, memory: Memory, view: View) -> Truth:
        """Whether one of the words is said."""
        return _ways(self).judge(memory, view.at)

    def values(self, memory: Memory) -> Mapping[str, str]:
        """Nothing."""
        return {}


def _ways(leaf: Threshold | Word) -> Ways:
    return Ways(leaf.hold or AT_ONCE, leaf.consecutive or 0, leaf.clear_hold or AT_ONCE)


_ONCE: Final = Ways()


@dataclass(frozen=True, slots=True)
class AlarmCode:
    """A pump's own alarm sounds: on the first report that says so, until one that says otherwise."""

    code: Alarm

    @property
    def signals(self) -> frozenset[str]:
        """What it listens to."""
        return frozenset({"alarms"})

    @property
    def reads(self) -> tuple[str, ...]:
        """Nothing beside its memory."""
        return ()

    @property
    def names(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def observe(self, memory: Memory, fact: Fact) -> Memory:
        """The memory after a report that says which alarms sound."""
        sounds = self.code in (fact.report.alarms or ())
        return _ONCE.sampled(memory, Sampled(fact.at, fact.at + kept_for(fact.therapy), sounds, not sounds))

    def judge(self, memory: Memory, view: View) -> Truth:
        """Whether it sounds."""
        return _ONCE.judge(memory, view.at)

    def values(self, memory: Memory) -> Mapping[str, str]:
        """Nothing."""
        return {}
