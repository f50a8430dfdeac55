"""When nobody is on call: the rule SYS-02 tells it before it is so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from streams.domain.rota import Shift, uncovered_at

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def shift(begin: float, end: float) -> Shift:
    """A shift in hours from noon."""
    return Shift(NOON + timedelta(hours=begin), NOON + timedelta(hours=end))


@pytest.mark.parametrize(
    ("shifts", "hole"),
    [
        ([], 0),
        ([(0, 9)], None),
        ([(-3, 8)], 8),
        ([(0, 4), (4, 9)], None),
        ([(4, 9), (0, 4)], None),
        ([(0, 4), (4.5, 9)], 4),
        ([(0, 6), (1, 2), (6, 9)], None),
        ([(1, 9)], 0),
        ([(-3, -1)], 0),
        ([(0, 8)], 8),
    ],
)
def test_the_first_moment_without_anybody_is_found(shifts: list[tuple[float, float]], hole: float | None) -> None:
    """Starts are inclusive, ends exclusive, and the eight hours that are looked at inclusive."""
    found = uncovered_at((shift(*one) for one in shifts), NOON, NOON + timedelta(hours=8))

    assert found == (None if hole is None else NOON + timedelta(hours=hole))
