"""What a level remembers from sample to sample: how it begins, how it ends, and until when a sample counts."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from streams.domain.memory import EMPTY, Memory, Point
from streams.domain.rule import Presence
from streams.domain.typed.levels import Sampled, Ways
from streams.domain.typed.truth import UNKNOWN, Truth
from streams.rehearsal import START

ONCE = Ways()
HELD = Ways(hold=timedelta(minutes=30), clear_hold=timedelta(minutes=20))
IN_A_ROW = Ways(consecutive=3, clear_hold=timedelta(minutes=20))
OFF, ON = 0.0, 1.0
SECOND = timedelta(seconds=1)


def at(minutes: float) -> datetime:
    """So many minutes after the start."""
    return START + timedelta(minutes=minutes)


def met(minutes: float, value: float = 39.0) -> Sampled:
    """A sample that meets the condition; it counts for an hour."""
    return Sampled(at(minutes), at(minutes + 60), met=True, ended=False, value=value)


def ended(minutes: float, value: float = 37.0) -> Sampled:
    """A sample that meets the end."""
    return Sampled(at(minutes), at(minutes + 60), met=False, ended=True, value=value)


def between(minutes: float, value: float = 38.0) -> Sampled:
    """A sample that says neither."""
    return Sampled(at(minutes), at(minutes + 60), met=False, ended=False, value=value)


def after(ways: Ways, *samples: Sampled) -> Memory:
    """The memory after samples in order."""
    memory = EMPTY
    for sample in samples:
        memory = ways.sampled(memory, sample)
    return memory


def turn(minutes: float, value: float) -> tuple[Point, ...]:
    """Since when it holds or does not."""
    return (Point(at(minutes), value),)


@pytest.mark.parametrize(
    ("ways", "samples", "expected"),
    [
        (ONCE, [ended(0)], Memory(None, at(60), turn(0, OFF), (37.0, 0.0))),
        (ONCE, [met(0)], Memory(None, at(60), turn(0, ON), (39.0, 0.0))),
        (ONCE, [met(0), met(10, 40.0)], Memory(None, at(70), turn(0, ON), (40.0, 0.0))),
        (ONCE, [met(0), ended(10)], Memory(None, at(70), turn(10, OFF), (37.0, 0.0))),
        (ONCE, [ended(0), between(10), met(20)], Memory(None, at(80), turn(20, ON), (39.0, 0.0))),
    ],
)
def test_without_a_hold_each_sample_decides(ways: Ways, samples: list[Sampled], expected: Memory) -> None:
    """Its time is when it turned; the last value is the last sample's."""
    assert after(ways, *samples) == expected


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([met(0)], Memory(at(0), at(60), turn(0, OFF), (39.0, 1.0))),
        ([ended(0), met(5), met(20, 40.0)], Memory(at(5), at(80), turn(0, OFF), (40.0, 2.0))),
        ([met(0), between(20), met(25)], Memory(at(25), at(85), turn(0, OFF), (39.0, 1.0))),
        # The hold ended at 30, before the sample that comes then; it begins the way back.
        ([met(0), ended(30)], Memory(at(30), at(90), turn(30, ON), (37.0, 1.0))),
        ([met(0), met(45, 40.0)], Memory(None, at(105), turn(30, ON), (40.0, 0.0))),
        # Nobody knows of the time between 60 and 70; the sample shows that it held.
        ([met(0), met(70)], Memory(None, at(130), turn(30, ON), (39.0, 0.0))),
    ],
)
def test_a_hold_is_remembered_from_its_first_sample(samples: list[Sampled], expected: Memory) -> None:
    """It began when the hold ended, whichever sample tells."""
    assert after(HELD, *samples) == expected


def test_a_hold_that_nothing_told_of_in_time_ends_with_the_sample_that_tells() -> None:
    """Its end lay after the last sample's time: it holds from the next sample on."""
    ways = Ways(hold=timedelta(minutes=90))

    assert after(ways, met(0), met(100)) == Memory(None, at(160), turn(100, ON), (39.0, 0.0))
    assert after(ways, met(0), ended(100)) == Memory(None, at(160), turn(0, OFF), (37.0, 0.0))


def test_a_hold_that_ends_when_its_sample_does_is_one() -> None:
    """The last instant of a sample still counts, and a second later it would not have."""
    ways, longer = Ways(hold=timedelta(minutes=60)), Ways(hold=timedelta(minutes=60, seconds=1))
    held = Memory(None, at(60), turn(60, ON), (39.0, 0.0))

    assert ways.settled(after(ways, met(0)), at(60)) == held
    assert ways.settled(after(ways, met(0)), at(500)) == held
    assert longer.settled(after(longer, met(0)), at(500)) == after(longer, met(0))


def test_settling_changes_nothing_before_the_hold_is_over() -> None:
    """At exactly its end it is over; the value that is known stays, and the count begins anew."""
    memory = after(HELD, met(0, 40.5))

    assert HELD.settled(memory, at(30) - SECOND) is memory
    assert HELD.settled(memory, at(30)) == Memory(None, at(60), turn(30, ON), (40.5, 0.0))


@pytest.mark.parametrize(
    ("ways", "samples"),
    [
        # On its way back: that ends with a sample, never by time.
        (HELD, [met(0), met(30), ended(40)]),
        # Two of three in a row: time makes no third.
        (IN_A_ROW, [met(0), met(1)]),
        (HELD, [ended(0)]),
        (HELD, []),
    ],
)
def test_time_alone_settles_nothing_but_a_hold(ways: Ways, samples: list[Sampled]) -> None:
    """Not the way back, not samples in a row, not what is off, and nothing of what nobody told."""
    memory = after(ways, *samples)

    assert ways.settled(memory, at(95)) is memory


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([met(0)], Memory(at(0), at(60), turn(0, OFF), (39.0, 1.0))),
        ([met(0), met(1)], Memory(at(0), at(61), turn(0, OFF), (39.0, 2.0))),
        ([met(0), met(1), met(2)], Memory(None, at(62), turn(2, ON), (39.0, 0.0))),
        ([met(0), met(1), between(2), met(3)], Memory(at(3), at(63), turn(0, OFF), (39.0, 1.0))),
        ([met(0), met(1), met(2), ended(3)], Memory(at(3), at(63), turn(2, ON), (37.0, 1.0))),
        (
            [met(0), met(1), met(2), ended(3), ended(4), ended(5), ended(6)],
            Memory(at(3), at(66), turn(2, ON), (37.0, 4.0)),
        ),
        ([met(0), met(1), met(2), ended(3), ended(23)], Memory(None, at(83), turn(23, OFF), (37.0, 0.0))),
    ],
)
def test_samples_in_a_row_begin_it_and_a_clear_hold_ends_it(samples: list[Sampled], expected: Memory) -> None:
    """The third begins it; the way back is one of time, however many samples it has."""
    assert after(IN_A_ROW, *samples) == expected


def test_a_clear_hold_is_inclusive() -> None:
    """The sample at its very end ends it, one a second before does not."""
    on = after(HELD, met(0), met(30), ended(40))
    early = Sampled(at(60) - SECOND, at(120), met=False, ended=True, value=36.5)

    assert HELD.sampled(on, early) == Memory(at(40), at(120), turn(30, ON), (36.5, 2.0))
    assert HELD.sampled(on, ended(60)) == Memory(None, at(120), turn(60, OFF), (37.0, 0.0))


@pytest.mark.parametrize(
    ("samples", "minutes", "expected"),
    [
        ([], 0, UNKNOWN),
        ([met(0)], 0, Truth(Presence.ABSENT, at(0), at(30))),
        ([ended(0), met(5)], 29, Truth(Presence.ABSENT, at(0), at(35))),
        ([met(0)], 30, Truth(Presence.PRESENT, at(30))),
        ([met(0)], 60, Truth(Presence.PRESENT, at(30))),
        ([met(0)], 60.1, UNKNOWN),
        ([ended(0)], 60, Truth(Presence.ABSENT, at(0))),
        ([ended(0)], 60.1, UNKNOWN),
        ([met(0), met(30), ended(40)], 95, Truth(Presence.PRESENT, at(30))),
    ],
)
def test_it_is_judged_while_its_last_sample_counts(samples: list[Sampled], minutes: float, expected: Truth) -> None:
    """The last instant of it included; what a hold will change is known beforehand."""
    assert HELD.judge(after(HELD, *samples), at(minutes)) == expected


@pytest.mark.parametrize(
    "memory", [Memory(None, at(60), (), (39.0, 0.0)), Memory(None, None, turn(0, ON), (39.0, 0.0))]
)
def test_half_of_a_memory_finds_nothing(memory: Memory) -> None:
    """Neither a value of which nobody knows whether it holds, nor one that nobody knows how long to believe."""
    assert HELD.judge(memory, at(10)) == UNKNOWN


@pytest.mark.parametrize(("hold", "wake_at"), [(59, at(59)), (60, at(60)), (61, None)])
def test_a_hold_that_outlasts_its_sample_wakes_nobody(hold: float, wake_at: datetime | None) -> None:
    """Time alone will not begin it."""
    ways = Ways(hold=timedelta(minutes=hold))

    assert ways.judge(after(ways, met(0)), at(10)) == Truth(Presence.ABSENT, at(0), wake_at)


def test_samples_in_a_row_wake_nobody() -> None:
    """Only a further sample changes it."""
    assert IN_A_ROW.judge(after(IN_A_ROW, met(0), met(1)), at(50)) == Truth(Presence.ABSENT, at(0))
