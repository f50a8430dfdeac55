"""What a drift remembers over days that count and days that do not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from streams.domain.memory import EMPTY, Fact, Memory, Point
from streams.domain.profile import STRICTEST
from streams.domain.telemetry import Event, EventType, Motor
from streams.domain.typed.drift import Cusum
from streams.rehearsal import START
from tests.domain.typed import report_of

DRIFT = Cusum(of="volume_delivered_ml", to="volume_programmed_ml")
NUMBERS = (1.0, 2.0, 0.0, 4.0, 0.05, 0.06, 7.0, 8.0, 0.01, 0.02)
"""On, boot, not spoiled, the other volume, centre, sigma, both sums, and two days of a baseline."""
KNOWN = Memory(START, START + timedelta(days=2), (Point(START, 3.0),), NUMBERS)
SPOILED = Memory(KNOWN.since, KNOWN.until, KNOWN.points, (*NUMBERS[:2], 1.0, *NUMBERS[3:]))


def told(hours: float, **said: Any) -> Fact:
    """A report's measurements."""
    at = START + timedelta(hours=hours)
    return Fact(at, report_of(at, boot_id=2, **said), None, STRICTEST)


def happened(kind: EventType, hours: float) -> Fact:
    """An event."""
    at, fact = START + timedelta(hours=hours), told(hours)
    return Fact(at, fact.report, Event(type=kind, at=at), STRICTEST)


@pytest.mark.parametrize(
    "fact",
    [happened(EventType.REFILL, 0), happened(EventType.STALL_STARTED, 5), told(5, motor=Motor.STOPPED)],
)
def test_what_spoils_a_day_changes_nothing_else(fact: Fact) -> None:
    """Its sums, its baseline and where the day began stay; a second one changes nothing at all."""
    assert DRIFT.observe(KNOWN, fact) == SPOILED
    assert DRIFT.observe(SPOILED, fact) is SPOILED


@pytest.mark.parametrize(
    "fact",
    [happened(EventType.REFILL, -0.1), happened(EventType.MRI_START, 5), told(5, motor=Motor.RUNNING), told(5)],
)
def test_what_does_not_spoil_a_day_leaves_the_memory_as_it_is(fact: Fact) -> None:
    """An event before the day began belongs to another."""
    assert DRIFT.observe(KNOWN, fact) is KNOWN


@pytest.mark.parametrize("fact", [happened(EventType.REFILL, 5), told(5, motor=Motor.STALLED)])
def test_before_the_first_day_there_is_nothing_to_spoil(fact: Fact) -> None:
    """No volumes were heard yet."""
    assert DRIFT.observe(EMPTY, fact) is EMPTY


def test_a_reset_begins_a_day_that_is_not_whole_and_keeps_what_was_learned() -> None:
    """The baseline is the pump's own, whatever its counters say."""
    fact = told(5, volume_programmed_ml=0.5, volume_delivered_ml=0.25)
    rebooted = Fact(fact.at, replace(fact.report, boot_id=3), None, STRICTEST)

    assert DRIFT.observe(KNOWN, rebooted) == Memory(
        KNOWN.since, KNOWN.until, (Point(fact.at, 0.5),), (1.0, 3.0, 1.0, 0.25, *NUMBERS[4:])
    )


def test_the_first_report_begins_a_day_that_is_not_whole() -> None:
    """Nothing is learned of it."""
    fact = told(5, volume_programmed_ml=0.5, volume_delivered_ml=0.25)

    assert DRIFT.observe(EMPTY, fact) == Memory(
        None, None, (Point(fact.at, 0.5),), (0.0, 2.0, 1.0, 0.25, 0.0, 0.0, 0.0, 0.0)
    )


@pytest.mark.parametrize(
    ("hours", "days"),
    [
        (11.9, NUMBERS[8:]),
        (12, (*NUMBERS[8:], 0.5)),
        (36, (*NUMBERS[8:], 0.5)),
        (36.1, NUMBERS[8:]),
    ],
)
def test_a_days_volumes_are_twelve_to_thirty_six_hours_apart(hours: float, days: tuple[float, ...]) -> None:
    """Both inclusive."""
    learning = Memory(None, None, KNOWN.points, (0.0, *NUMBERS[1:4], 0.0, 0.0, 0.0, 0.0, *NUMBERS[8:]))
    fact = told(hours, volume_programmed_ml=3.5, volume_delivered_ml=4.75)
    # Midnight at the site lies between the two reports.
    there = Fact(fact.at, fact.report, None, replace(STRICTEST, zone=ZoneInfo("Etc/GMT-14")))

    after = DRIFT.observe(learning, there)

    assert after.numbers == pytest.approx((0.0, 2.0, 0.0, 4.75, 0.0, 0.0, 0.0, 0.0, *days))
    assert after.points == (Point(fact.at, 3.5),)


def test_a_second_report_of_a_day_at_the_site_changes_nothing() -> None:
    """The day is the site's: midnight in UTC is eleven in the evening before one hour west of it."""
    west = replace(STRICTEST, zone=ZoneInfo("Etc/GMT+1"))
    fact = told(23.5, volume_programmed_ml=4.0, volume_delivered_ml=5.0)

    same_day = DRIFT.observe(KNOWN, fact)
    next_day = DRIFT.observe(KNOWN, Fact(fact.at, fact.report, None, west))

    assert same_day is KNOWN
    assert next_day.points == (Point(fact.at, 4.0),)


def sums(memory: Memory) -> tuple[float, ...]:
    """Whether it alarms, and both sums."""
    return memory.numbers[0], *memory.numbers[6:8]


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        # z = x / 0.125 is clipped to ±3; k is 0.5; a sum of exactly 5 is no alarm.
        (0.125, (0.0, 4.5, 2.5)),
        (0.1875, (0.0, 5.0, 2.0)),
        (0.203125, (1.0, 5.125, 1.875)),
        (0.9, (1.0, 6.5, 0.5)),
        (-0.9, (1.0, 0.5, 6.5)),
        (0.0, (0.0, 3.5, 3.5)),
    ],
)
def test_a_day_moves_both_sums(x: float, expected: tuple[float, ...]) -> None:
    """By its deviation in sigmas less ``k``."""
    known = Memory(START, START, (Point(START, 3.0),), (0.0, 2.0, 0.0, 4.0, 0.0, 0.125, 4.0, 4.0))

    after = DRIFT.observe(known, told(24, volume_programmed_ml=4.0, volume_delivered_ml=4.0 + 1.0 + x))

    assert sums(after) == expected
    assert after.until == START + timedelta(days=3)
    assert after.since == (START + timedelta(days=1) if expected[0] else START)
