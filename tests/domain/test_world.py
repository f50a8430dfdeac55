"""The books of arrivals: what is missing, what came late, and what was seen; and what lists show of a pump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.pipeline import new_world
from streams.domain.profile import ProfileHistory
from streams.domain.world import (
    LATENESS,
    MAX_GAPS,
    Arrivals,
    Gap,
    decode_world,
    encode_world,
    give_up,
    note_arrival,
    snapshot,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _book(*keys: tuple[int, int], at: datetime = NOON, arrivals: Arrivals | None = None) -> tuple[Arrivals, list[str]]:
    arrivals, kinds = arrivals or Arrivals(), []
    for boot_id, seq in keys:
        arrivals, kind = note_arrival(arrivals, boot_id, seq, at)
        kinds.append(kind)
    return arrivals, kinds


def test_reports_in_order_from_the_very_first_leave_no_gap() -> None:
    """Boot 0, number 0 has nothing before it."""
    arrivals, kinds = _book((0, 0), (0, 1), (0, 2))

    assert kinds == ["next", "next", "next"]
    assert arrivals.gaps == ()


def test_a_jump_opens_a_gap_that_holds_and_can_be_filled_from_inside() -> None:
    """Between two seen numbers of a boot reports certainly exist."""
    arrivals, kinds = _book((0, 0), (0, 4), (0, 2))

    assert kinds == ["next", "early", "filled"]
    assert [(gap.first_seq, gap.end_seq, gap.holds) for gap in arrivals.gaps] == [(1, 2, True), (3, 4, True)]


def test_what_may_never_have_existed_holds_nothing_back() -> None:
    """Before the first report ever seen, and at the end of an older boot, nobody knows what there was."""
    arrivals, kinds = _book((3, 5), (4, 0))

    assert kinds == ["early", "early"]
    assert arrivals.gaps == (Gap(0, 0, 3, 5, NOON), Gap(3, 6, 4, 0, NOON))
    assert not any(gap.holds for gap in arrivals.gaps)


def test_an_older_boot_inside_the_bound_is_in_time() -> None:
    """Its first report fills the gap before the newer boot, and makes certain what is missing around it."""
    arrivals, kinds = _book((3, 5), (1, 2), (3, 3))

    assert kinds == ["early", "filled", "filled"]
    assert arrivals.gaps == (
        Gap(0, 0, 1, 2, NOON),
        Gap(1, 3, 3, 3, NOON),
        Gap(3, 4, 3, 5, NOON),
    )
    assert [gap.holds for gap in arrivals.gaps] == [False, False, True]


def test_lateness_is_inclusive_and_measured_by_arrival() -> None:
    """An hour after the newer report arrived an older one is in time; later it is late, and then seen."""
    opened, _ = _book((0, 0), (0, 3))
    microsecond = timedelta(microseconds=1)

    _, in_time = _book((0, 1), at=NOON + LATENESS, arrivals=opened)
    late, kinds = _book((0, 1), (0, 1), at=NOON + LATENESS + microsecond, arrivals=opened)

    assert in_time == ["filled"]
    assert kinds == ["late", "seen"]
    assert late.gaps == ()
    assert give_up(late, NOON + 2 * LATENESS) is late
    assert give_up(opened, NOON + LATENESS) is opened


def test_too_many_gaps_are_given_up_oldest_first_and_counted() -> None:
    """Memory is bounded; what falls out is late, never seen."""
    keys = [(0, 2 * number) for number in range(MAX_GAPS + 6)]

    arrivals, _ = _book(*keys)
    _, kinds = _book((0, 1), (0, 2), at=NOON, arrivals=arrivals)

    assert len(arrivals.gaps) == MAX_GAPS
    assert arrivals.overflows == 5
    assert kinds == ["late", "seen"]


def test_missed_ranges_are_merged_rather_than_forgotten() -> None:
    """A report of a range that fell out of the books counts as late, so that nothing is taken for a duplicate."""
    arrivals = Arrivals()
    for number in range(2 * MAX_GAPS):
        arrivals, _ = note_arrival(arrivals, 0, 2 * number + 1, NOON + number * 2 * LATENESS)

    _, kinds = _book((0, 0), (0, 2), (0, 100), at=NOON + 500 * LATENESS, arrivals=arrivals)

    assert len(arrivals.missed) <= MAX_GAPS
    assert kinds == ["late", "late", "late"]


@given(keys=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=30))
def test_within_the_bound_each_identity_is_new_exactly_once(keys: list[tuple[int, int]]) -> None:
    """Whatever the order, the first arrival of an identity counts and every other one is seen."""
    arrivals, known = Arrivals(), set[tuple[int, int]]()
    for key in keys:
        arrivals, kind = note_arrival(arrivals, *key, NOON)

        assert (kind == "seen") == (key in known)
        known.add(key)


def test_a_pump_that_never_reported_has_an_empty_summary() -> None:
    """Nothing is made up."""
    summary = snapshot(new_world("P-1"), ProfileHistory())

    assert summary.last_event_time is None
    assert summary.site is None


def test_a_world_survives_its_bytes() -> None:
    """Equal worlds have equal bytes."""
    world = new_world("P-1")

    assert decode_world(encode_world(world)) == world
    assert encode_world(decode_world(encode_world(world))) == encode_world(world)


def test_bytes_that_are_no_world_are_refused() -> None:
    """A world is never guessed."""
    with pytest.raises(ValueError, match="array"):
        decode_world(b"\x01")
