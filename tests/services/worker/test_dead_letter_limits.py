"""When a partition has diverted too much."""

from __future__ import annotations

from streams.dead_letters import RATIO_HALF_LIFE_SECONDS, RATIO_MINIMUM_REPORTS, DeadLetterLimit


def test_a_row_of_dead_letters_has_an_end() -> None:
    """Exactly the limit is allowed."""
    limit = DeadLetterLimit(in_a_row=3, ratio=1.0)

    allowed = [limit.divert(at=0.0) for _ in range(4)]

    assert allowed == [True, True, True, False]


def test_a_small_share_is_allowed_and_a_large_one_is_not() -> None:
    """1 % of 10,000 recent reports, spread out, and not one more."""
    limit = DeadLetterLimit(in_a_row=1_000, ratio=0.01)
    limit.usable(9_900, at=0.0)

    allowed = sum(limit.divert(at=0.0) for _ in range(200))

    assert allowed == 100


def test_a_few_reports_make_no_share() -> None:
    """One bad report among the first ones of a partition stops nothing."""
    limit = DeadLetterLimit(in_a_row=10, ratio=0.01)
    limit.usable(RATIO_MINIMUM_REPORTS - 100, at=0.0)

    assert limit.divert(at=0.0)


def test_without_anything_usable_only_the_row_counts() -> None:
    """A share of nothing says nothing: everything is broken, and the row ends it."""
    limit = DeadLetterLimit(in_a_row=2_000, ratio=0.01)

    assert all(limit.divert(at=0.0) for _ in range(2_000))
    assert not limit.divert(at=0.0)


def test_old_dead_letters_are_forgiven() -> None:
    """The share is one of recent reports: after hours the old ones weigh nothing."""
    limit = DeadLetterLimit(in_a_row=1_000, ratio=0.01)
    limit.usable(9_900, at=0.0)
    while limit.divert(at=0.0):
        pass

    limit.usable(9_900, at=20 * RATIO_HALF_LIFE_SECONDS)

    assert limit.divert(at=20 * RATIO_HALF_LIFE_SECONDS)


def test_the_row_goes_on_where_the_last_run_left_it() -> None:
    """A restart is no reset."""
    limit = DeadLetterLimit(in_a_row=3, ratio=1.0, consecutive=3)

    assert not limit.divert(at=0.0)
