"""How truths are joined: since when, and when time alone changes what was found."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from streams.domain.rule import Presence
from streams.domain.typed.truth import UNKNOWN, Truth, all_of, any_of, earliest, held, latest, negation
from streams.rehearsal import START

HALF_AN_HOUR = timedelta(minutes=30)
SECOND = timedelta(seconds=1)


def at(minutes: float) -> datetime:
    """So many minutes after the start."""
    return START + timedelta(minutes=minutes)


def present(since: float, wake_at: float | None = None) -> Truth:
    """It holds."""
    return Truth(Presence.PRESENT, at(since), None if wake_at is None else at(wake_at))


def absent(since: float, wake_at: float | None = None) -> Truth:
    """It does not hold."""
    return Truth(Presence.ABSENT, at(since), None if wake_at is None else at(wake_at))


def unknown(wake_at: float) -> Truth:
    """Nobody knows, until then."""
    return Truth(Presence.NOT_EVALUABLE, None, at(wake_at))


def test_of_times_only_those_that_are_known_count() -> None:
    """None of none is none."""
    assert earliest([at(2), None, at(1)]) == at(1)
    assert latest([at(1), None, at(2), at(1)]) == at(2)
    assert earliest([None]) is None
    assert latest([]) is None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([present(1, 50), present(3, 40), present(2)], present(3, 40)),
        ([present(1, 40), absent(5), absent(4, 50), UNKNOWN], absent(4, 40)),
        ([present(1), unknown(30), present(2, 60)], unknown(30)),
        ([present(1), present(2)], present(2)),
    ],
)
def test_all_hold_since_the_last_and_wake_at_the_first_change(found: list[Truth], expected: Truth) -> None:
    """Whatever was found, the first moment at which a part changes may change the whole."""
    assert all_of(found) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([present(2, 50), absent(1, 40), present(3), UNKNOWN], present(2, 40)),
        ([absent(1), absent(3, 40), absent(2, 50)], absent(3, 40)),
        ([absent(1, 60), unknown(30)], unknown(30)),
    ],
)
def test_any_holds_since_the_first_and_wakes_at_the_first_change(found: list[Truth], expected: Truth) -> None:
    """The mirror of all."""
    assert any_of(found) == expected


@pytest.mark.parametrize(
    ("truth", "expected"),
    [(present(1, 5), absent(1, 5)), (absent(1, 5), present(1, 5)), (unknown(5), unknown(5))],
)
def test_turned_around_it_is_so_since_the_same_time(truth: Truth, expected: Truth) -> None:
    """And changes at the same time."""
    assert negation(truth) == expected


@pytest.mark.parametrize(
    ("truth", "judged", "expected"),
    [
        (present(0, 90), at(30), present(30, 90)),
        (present(0), at(31), present(30)),
        (present(0), at(30) - SECOND, absent(0, 30)),
        # It may end before it has been so for long enough.
        (present(0, 20), at(10), absent(0, 20)),
        (present(0, 40), at(10), absent(0, 30)),
        (absent(0, 20), at(60), absent(0, 20)),
        (unknown(20), at(60), unknown(20)),
    ],
)
def test_what_is_held_is_so_from_the_end_of_its_time_on(truth: Truth, judged: datetime, expected: Truth) -> None:
    """At exactly its end it is; only what holds is held."""
    assert held(truth, HALF_AN_HOUR, judged) == expected
