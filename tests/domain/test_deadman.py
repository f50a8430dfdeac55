"""The dead man's switch at its edges: the last moment of quiet, the last pass that is missing (SYS-03)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from streams.domain.alert import Priority
from streams.domain.deadman import DeadMan, Limits, Turn, look, passed
from streams.rehearsal import START

LIMITS = Limits(medium_after=timedelta(seconds=30), high_after=timedelta(seconds=45), passes_to_clear=3)
SECOND = timedelta(seconds=1)
OPEN = DeadMan(START, Priority.MEDIUM, START + 30 * SECOND)


def test_it_opens_at_thirty_seconds_and_not_before() -> None:
    """It counts from the last pass, and says since when it holds."""
    assert look(DeadMan(START), START + 29 * SECOND, LIMITS) == (DeadMan(START), None)
    assert look(DeadMan(START), START + 30 * SECOND, LIMITS) == (OPEN, Turn.OPENED)
    assert look(DeadMan(START), START + 99 * SECOND, LIMITS) == (OPEN, Turn.OPENED)


def test_it_is_high_at_forty_five_seconds_and_only_once() -> None:
    """Since when it holds does not change."""
    high = replace(OPEN, priority=Priority.HIGH)

    assert look(OPEN, START + 44 * SECOND, LIMITS) == (OPEN, None)
    assert look(OPEN, START + 45 * SECOND, LIMITS) == (high, Turn.ESCALATED)
    assert look(high, START + 99 * SECOND, LIMITS) == (high, None)


def test_it_ends_by_the_third_pass() -> None:
    """Then it is as it was at the start; a pass that came late in order moves no time back."""
    one, first = passed(OPEN, START + 50 * SECOND, LIMITS)
    two, second = passed(one, START + 40 * SECOND, LIMITS)
    over, third = passed(two, START + 60 * SECOND, LIMITS)

    assert (one.passes, two.passes, two.last_pass_at) == (1, 2, START + 50 * SECOND)
    assert (first, second, third) == (None, None, Turn.CLEARED)
    assert over == DeadMan(START + 60 * SECOND)


def test_a_pass_while_all_is_well_only_moves_the_time() -> None:
    """It is not counted for later."""
    assert passed(DeadMan(START), START + SECOND, LIMITS) == (DeadMan(START + SECOND), None)


@pytest.mark.parametrize(("after", "passes"), [(29, 2), (30, 0)])
def test_a_path_that_breaks_again_counts_its_passes_anew(after: int, passes: int) -> None:
    """From the moment at which it would have opened."""
    assert look(replace(OPEN, passes=2), START + after * SECOND, LIMITS)[0].passes == passes


@pytest.mark.parametrize(
    ("medium", "high", "passes", "usable"),
    [(30, 45, 3, True), (30, 30, 1, True), (30, 29, 3, False), (0, 45, 3, False), (30, 45, 0, False)],
)
def test_limits_that_could_not_work_are_refused(medium: int, high: int, passes: int, usable: bool) -> None:
    """HIGH may come with MEDIUM but not before it; nothing opens at once, and something must end it."""
    parameters = {"medium_seconds": medium, "high_seconds": high, "passes": passes}

    if usable:
        assert Limits.of(parameters) == Limits(
            medium_after=medium * SECOND, high_after=high * SECOND, passes_to_clear=passes
        )
    else:
        with pytest.raises(ValueError, match="HIGH not before that"):
            Limits.of(parameters)
