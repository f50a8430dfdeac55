"""What occurrences remember: the order of events, and from when on something is known not to have happened."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from streams.domain.memory import Memory, Point
from streams.domain.typed.occurrences import heard, placed
from streams.rehearsal import START


def at(minutes: float) -> datetime:
    """So many minutes after the start."""
    return START + timedelta(minutes=minutes)


KNOWN = (Point(at(0), 1.0), Point(at(10), 1.0), Point(at(20), 1.0))


@pytest.mark.parametrize(("minutes", "place"), [(-1, 0), (0, 1), (5, 1), (10, 2), (20, 3), (30, 3)])
def test_an_event_told_late_is_placed_by_its_time(minutes: float, place: int) -> None:
    """After those of the same time."""
    point = Point(at(minutes), 0.0)

    assert placed(KNOWN, point) == (*KNOWN[:place], point, *KNOWN[place:])
    assert placed((), point) == (point,)


def test_the_first_report_is_when_absence_begins_to_be_known() -> None:
    """No later one changes it, and what was known before stays."""
    first = heard(Memory(None, at(5), KNOWN, (1.0,)), at(30))

    assert first == Memory(at(30), at(5), KNOWN, (1.0,))
    assert heard(first, at(40)) is first
