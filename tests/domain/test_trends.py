"""What windows are made of: which samples are kept, what they say of a window, and since when it is so."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from streams.domain.memory import Memory, Point
from streams.domain.profile import STRICTEST
from streams.domain.rule import Presence, View
from streams.domain.typed.trends import since_start, slope, thinned, turned, with_turn
from streams.domain.typed.truth import UNKNOWN, Truth
from streams.domain.world import PumpState
from streams.rehearsal import START

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
FIVE_MINUTES = timedelta(minutes=5)


def at(minutes: float) -> datetime:
    """So many minutes after the start."""
    return START + timedelta(minutes=minutes)


def points(*minutes: float) -> tuple[Point, ...]:
    """Samples at these minutes; each is its own minute."""
    return tuple(Point(at(minute), minute) for minute in minutes)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ((), (8,)),
        ((0,), (0, 8)),
        ((0, 4), (0, 8)),
        # Exactly as far apart as they must be: both stay.
        ((0, 5), (0, 5, 8)),
        ((0, 5, 7), (0, 5, 8)),
        ((0, 1, 7), (0, 1, 7, 8)),
    ],
)
def test_samples_are_thinned_but_the_newest_is_always_there(
    known: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    """It takes the place of the last one where that is too close to the one before."""
    assert thinned(points(*known), points(8)[0], FIVE_MINUTES) == points(*expected)


@pytest.mark.parametrize(
    ("start", "expected"),
    [(-1, (0, 10, 20)), (0, (0, 10, 20)), (9, (0, 10, 20)), (10, (10, 20)), (19, (10, 20)), (20, (20,)), (99, (20,))],
)
def test_a_window_keeps_the_sample_that_it_begins_with(start: float, expected: tuple[float, ...]) -> None:
    """The last one at or before its start; all of them where none is, and never none of them."""
    assert since_start(points(0, 10, 20), at(start)) == points(*expected)
    assert since_start((), at(start)) == ()


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [((0, 59.9), None), ((0, 60), 60.0), ((0, 30, 60), 60.0), ((0, 120), 60.0), ((0, 120.1), None), ((7,), None)],
)
def test_a_slope_needs_samples_that_cover_its_window(minutes: tuple[float, ...], expected: float | None) -> None:
    """From a window to two of them, both inclusive; each minute adds one, so it is sixty an hour."""
    found = slope(points(*minutes), HOUR, HOUR)

    assert found == (None if expected is None else pytest.approx(expected))


def test_a_slope_falls_and_is_per_its_unit() -> None:
    """From 10 to 4 in an hour and a half."""
    falling = (Point(at(0), 10.0), Point(at(30), 99.0), Point(at(90), 4.0))

    assert slope(falling, HOUR, HOUR) == pytest.approx(-4.0)
    assert slope(falling, HOUR, timedelta(days=1)) == pytest.approx(-96.0)


@pytest.mark.parametrize(
    ("memory", "on", "expected"),
    [
        (Memory(), True, at(9)),
        (Memory(), None, None),
        (Memory(at(1), at(60), (), (1.0,)), True, at(1)),
        (Memory(at(1), at(60), (), (0.0,)), False, at(1)),
        (Memory(at(1), at(60), (), (0.0,)), True, at(9)),
        (Memory(at(1), at(60), (), (1.0,)), False, at(9)),
        (Memory(at(1), at(60), (), (1.0,)), None, None),
        # What could not be told in between is no part of what is so now.
        (Memory(None, at(60), (), (1.0,)), True, at(9)),
        (Memory(None, at(60), (), (0.0, 1.0)), False, at(9)),
        (Memory(at(1), at(60), (), ()), True, at(9)),
        (Memory(at(1), at(60), (), (0.0, 1.0)), True, at(9)),
    ],
)
def test_what_is_as_before_is_so_since_before(memory: Memory, on: bool | None, expected: datetime | None) -> None:
    """And what turned, since now."""
    assert with_turn(memory, on, at(9)) == expected


@pytest.mark.parametrize(
    ("memory", "minutes", "expected"),
    [
        (Memory(), 0, UNKNOWN),
        (Memory(None, at(60), (), (1.0,)), 10, UNKNOWN),
        (Memory(at(1), None, (), (1.0,)), 10, UNKNOWN),
        (Memory(at(1), at(60), (), (1.0, 0.0)), 60, Truth(Presence.PRESENT, at(1))),
        (Memory(at(1), at(60), (), (0.0, 1.0)), 60, Truth(Presence.ABSENT, at(1))),
        (Memory(at(1), at(60), (), (1.0,)), 60.1, UNKNOWN),
    ],
)
def test_what_the_last_sample_showed_counts_as_long_as_it_does(memory: Memory, minutes: float, expected: Truth) -> None:
    """Its last instant included."""
    assert turned(memory, View(PumpState(), STRICTEST, {}, at(minutes))) == expected
