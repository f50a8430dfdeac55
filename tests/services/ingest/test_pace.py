"""How the feeder sees the worker, and how much it dares."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.feeder import UnderWay, reports_in
from services.ingest.pace import MOST_SAMPLES, Pace, Window


def test_a_worker_that_applied_all_has_no_lag() -> None:
    """Ends equal to applied offsets: nothing is behind, however long ago that was."""
    pace = Pace()

    assert pace.observe(0.0, {0: 5, 1: 0}, {0: 5, 1: 0}) == 0.0
    assert pace.observe(900.0, {0: 5, 1: 0}, {0: 5, 1: 0}) == 0.0


def test_lag_is_the_age_of_the_oldest_record_not_applied() -> None:
    """It counts from when the record was first seen, and falls when that record is applied."""
    pace = Pace()
    pace.observe(10.0, {0: 5}, {0: 5})
    pace.observe(10.1, {0: 6}, {0: 5})
    pace.observe(10.3, {0: 9}, {0: 5})

    assert math.isclose(pace.observe(10.5, {0: 9}, {0: 5}), 0.4)
    assert math.isclose(pace.observe(10.6, {0: 9}, {0: 6}), 0.3)
    assert pace.observe(10.7, {0: 9}, {0: 9}) == 0.0


def test_the_slowest_partition_counts() -> None:
    """A fresh alarm may be on any partition."""
    pace = Pace()
    pace.observe(0.0, {0: 1, 1: 1}, {0: 0, 1: 1})

    assert pace.observe(2.0, {0: 1, 1: 2}, {0: 0, 1: 1}) == 2.0


def test_a_worker_that_never_came_is_infinitely_behind() -> None:
    """Records and no offset: nothing may move; an empty partition without offset says nothing."""
    assert Pace().observe(0.0, {0: 3}, {}) == math.inf
    assert Pace().observe(0.0, {0: 0}, {}) == 0.0


def test_memory_is_bounded_and_the_oldest_keeps_its_age() -> None:
    """A worker that is away for hours costs no more memory than one that is away for seconds."""
    pace = Pace()
    for number in range(4 * MOST_SAMPLES):
        pace.observe(float(number), {0: number + 1}, {0: 0})

    assert pace.observe(5_000.0, {0: 9_999}, {0: 0}) == 5_000.0


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=200))
def test_the_window_stays_within_its_bounds_and_nothing_moves_at_the_limit(looks: list[tuple[float, bool]]) -> None:
    """Whatever the worker does, the queue in front of it is bounded, and above the limit it gets nothing more."""
    window = Window(most=4_000, lag_seconds=0.2)

    for lag, used in looks:
        assert window.adjust(lag, used=used) is (lag < 0.2)
        assert 100 <= window.size <= 4_000


def test_a_slow_worker_halves_the_window_and_a_quick_one_grows_it() -> None:
    """Back off fast, probe slowly."""
    window = Window(most=4_000, lag_seconds=0.2)
    for _ in range(10):
        window.adjust(0.0, used=True)
    grown = window.size

    window.adjust(0.25, used=True)

    assert grown == 1_400
    assert window.size == 700


def test_what_is_applied_is_no_longer_under_way() -> None:
    """A record counts until the worker's next offset is above it."""
    under_way = UnderWay()
    under_way.add(0, 10, 200)
    under_way.add(0, 11, 50)
    under_way.add(3, 4, 7)

    under_way.applied({0: 11, 3: 4}, {0: 12, 3: 5})

    assert under_way.reports == 57


def test_what_was_moved_to_a_topic_that_is_gone_is_not_under_way() -> None:
    """A new topic's offsets begin again: the worker would never seem to get there, and nothing would move any more."""
    under_way, pace = UnderWay(), Pace()
    under_way.add(0, 10, 200)
    under_way.add(3, 4, 7)
    pace.observe(0.0, {0: 11, 3: 5}, {0: 10, 3: 4})

    under_way.applied({0: 2, 3: 4}, {0: 2, 3: 5})

    assert under_way.reports == 7
    assert pace.observe(9.0, {0: 2, 3: 5}, {0: 2, 3: 5}) == 0.0


def test_a_record_that_does_not_say_its_reports_counts_as_full() -> None:
    """A wrong or missing number must not let the queue grow."""
    assert reports_in([("reports", b"12")]) == 12
    assert reports_in([("reports", b"many")]) == 1_000
    assert reports_in([]) == 1_000
    assert reports_in([("reports", b"999999")]) == 1_000
