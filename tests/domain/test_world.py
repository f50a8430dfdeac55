"""The books of arrivals: what is missing, what came late, and what was seen; and what lists show of a pump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.domain.observing.fills import FillLog, Outcome
from streams.domain.pipeline import new_world
from streams.domain.profile import ProfileHistory
from streams.domain.world import (
    LATENESS,
    MAX_GAPS,
    Arrivals,
    Folded,
    Gap,
    PumpState,
    Sample,
    Snapshot,
    World,
    decode_world,
    encode_world,
    give_up,
    note_arrival,
    snapshot,
)
from streams.rehearsal import START, profiles_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MEASURED, ESTIMATED = Sample(9.0, NOON), Sample(8.0, NOON)


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


def test_a_gap_is_filled_from_its_edges_and_from_inside() -> None:
    """The others stay as they are, and what is left of one stays as old as it was."""
    later = NOON + timedelta(minutes=1)
    opened, _ = _book((0, 0), (0, 4), (0, 6))
    opened, _ = _book((0, 9), at=later, arrivals=opened)

    first, _ = _book((0, 1), at=later, arrivals=opened)
    last, _ = _book((0, 3), at=later, arrivals=opened)
    inside, _ = _book((0, 2), at=later, arrivals=opened)
    whole, _ = _book((0, 5), at=later, arrivals=opened)

    one, two, three = Gap(0, 1, 0, 4, NOON), Gap(0, 5, 0, 6, NOON), Gap(0, 7, 0, 9, later)
    assert opened.gaps == (one, two, three)
    assert first.gaps == (Gap(0, 2, 0, 4, NOON), two, three)
    assert last.gaps == (Gap(0, 1, 0, 3, NOON), two, three)
    assert inside.gaps == (Gap(0, 1, 0, 2, NOON), Gap(0, 3, 0, 4, NOON), two, three)
    assert whole.gaps == (one, three)
    assert whole.next_seq == 10


def test_the_next_report_behind_an_open_gap_opens_no_other() -> None:
    """It is early, and the one after it is expected."""
    arrivals, kinds = _book((0, 0), (0, 2), (0, 3))

    assert kinds == ["next", "early", "early"]
    assert (arrivals.boot_id, arrivals.next_seq, arrivals.gaps) == (0, 4, (Gap(0, 1, 0, 2, NOON),))


def test_a_report_that_comes_when_a_gap_is_given_up_finds_none_open() -> None:
    """So it is in order again; what was given up is missed."""
    opened, _ = _book((0, 0), (0, 2))

    arrivals, kinds = _book((0, 3), at=NOON + LATENESS + timedelta(seconds=1), arrivals=opened)

    assert kinds == ["next"]
    assert (arrivals.gaps, arrivals.missed) == ((), (Gap(0, 1, 0, 2, NOON),))


def test_only_gaps_older_than_the_bound_are_given_up() -> None:
    """The younger ones are waited for further."""
    old, young = Gap(0, 1, 0, 2, NOON), Gap(0, 3, 0, 4, NOON + timedelta(seconds=1))

    arrivals = give_up(Arrivals(0, 5, (old, young)), NOON + LATENESS + timedelta(seconds=1))

    assert arrivals == Arrivals(0, 5, (young,), (old,))


def test_as_many_gaps_as_may_be_are_kept_and_one_more_costs_the_oldest() -> None:
    """One that is filled from inside becomes two."""
    full, _ = _book((0, 0), (0, 4), *((0, 2 * number) for number in range(3, MAX_GAPS + 2)))

    split, kinds = _book((0, 2), arrivals=full)

    assert (len(full.gaps), full.overflows, full.missed) == (MAX_GAPS, 0, ())
    assert kinds == ["filled"]
    assert (len(split.gaps), split.overflows, split.missed) == (MAX_GAPS, 1, (Gap(0, 1, 0, 2, NOON),))
    assert split.gaps[0] == Gap(0, 3, 0, 4, NOON)


def test_the_oldest_two_of_too_many_missed_ranges_become_one() -> None:
    """By their place, not by when they were given up; what lies between them counts as missed too."""
    missed = [Gap(0, 10 * number, 0, 10 * number + 2, NOON + timedelta(hours=number)) for number in range(MAX_GAPS)]
    shuffled = (*missed[1:], missed[0])
    late = Gap(1, 5, 1, 6, NOON - timedelta(hours=9))

    few = give_up(Arrivals(1, 7, (late,), shuffled[1:]), NOON)
    many = give_up(Arrivals(1, 7, (late,), shuffled), NOON)

    assert few.missed == (*shuffled[1:], late)
    assert many.missed == (Gap(0, 0, 0, 12, NOON + timedelta(hours=1)), *missed[2:], late)


def test_a_late_report_inside_a_missed_range_leaves_what_is_around_it() -> None:
    """Also where there are as many ranges as may be."""
    missed = tuple(Gap(0, 10 * number, 0, 10 * number + 3, NOON) for number in range(MAX_GAPS))

    arrivals, kinds = _book((0, 631), (0, 631), arrivals=Arrivals(1, 7, (), missed))

    assert kinds == ["late", "seen"]
    assert len(arrivals.missed) == MAX_GAPS
    assert arrivals.missed[0] == Gap(0, 0, 0, 13, NOON)
    assert arrivals.missed[-2:] == (Gap(0, 630, 0, 631, NOON), Gap(0, 632, 0, 633, NOON))


@pytest.mark.parametrize(
    ("gap", "holds"),
    [(Gap(1, 1, 1, 3, NOON), True), (Gap(1, 0, 1, 3, NOON), False), (Gap(0, 1, 1, 3, NOON), False)],
)
def test_only_between_two_seen_reports_of_a_boot_one_is_certainly_missing(gap: Gap, holds: bool) -> None:
    """A boot's own first report may never have been."""
    assert gap.holds is holds


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


@pytest.mark.parametrize(
    ("age", "refilled", "planned_with"),
    [
        (timedelta(hours=24) - timedelta(seconds=1), None, MEASURED),
        (timedelta(hours=24), None, ESTIMATED),
        (timedelta(hours=1), NOON, MEASURED),
        (timedelta(hours=1), NOON + timedelta(seconds=1), ESTIMATED),
    ],
)
def test_a_measured_level_counts_for_a_day_and_until_the_next_refill(
    age: timedelta, refilled: datetime | None, planned_with: Sample
) -> None:
    """Then the computed one does (RSV-03)."""
    state = PumpState(estimated=(Sample(1.0, NOON - timedelta(days=1)), ESTIMATED), measured=MEASURED)

    assert replace(state, refilled_at=refilled).level(NOON + age) == planned_with
    assert replace(state, refilled_at=refilled, measured=None).level(NOON + age) == ESTIMATED
    assert PumpState().level(NOON) is None


@pytest.mark.parametrize(
    ("flow", "bolus", "ratio", "ml_per_day"),
    [
        (0.5, 0.0, None, 0.5 * 1.145),
        (0.5, 0.3, None, 0.8 * 1.145),
        (None, 0.0, None, 0.48 * 1.145),
        (0.5, 0.0, 1.3, 0.5 * 1.3),
        (0.5, 0.0, 1.1, 0.5 * 1.145),
        (0.0, 0.3, None, None),
    ],
)
def test_a_reservoir_is_empty_at_the_latest_by_full_boluses_and_the_labelled_bound(
    flow: float | None, bolus: float, ratio: float | None, ml_per_day: float | None
) -> None:
    """A pump that over-infused is judged by what it did; where no flow is known the prescription counts."""
    therapy = profiles_of({"max_bolus_ml_per_day": bolus}).therapy(NOON)
    outcomes = (Outcome(NOON, 10.0, 10.0 * ratio, NOON),) if ratio is not None else ()
    state = PumpState(estimated=(ESTIMATED,), flow_ml_per_day=flow, fills=FillLog(outcomes=outcomes))

    empty_at = state.empty_at(therapy, NOON)

    if ml_per_day is None:
        assert empty_at is None
    else:
        assert empty_at is not None
        expected = NOON + timedelta(days=8.0 / ml_per_day)
        assert abs(empty_at - expected) < timedelta(seconds=1)
    assert replace(state, estimated=()).empty_at(therapy, NOON) is None


def test_a_summary_shows_each_thing_by_its_name() -> None:
    """The profile is the one in force at the pump's last report."""
    profiles = profiles_of({"site": "north"}, [{"from": "PT1H", "site": "south"}])
    state = PumpState(
        clock=START,
        reported_at=START - timedelta(minutes=1),
        motor="running",
        estimated=(Sample(8.0, START),),
        measured=Sample(7.5, START),
        confirmed_at=START - timedelta(minutes=2),
        flow_ml_per_day=0.5,
    )
    heard = START + timedelta(hours=2)
    world = World(pump_id="P-1", base=Folded(state), last_received_at=heard)

    assert snapshot(world, profiles) == Snapshot(
        last_event_time=START - timedelta(minutes=1),
        last_received_at=heard,
        motor="running",
        reservoir_estimated_ml=8.0,
        reservoir_measured_ml=7.5,
        last_confirmed_delivery_at=START - timedelta(minutes=2),
        predicted_empty_at=state.empty_at(profiles.therapy(START), START),
        site="north",
    )
    later = replace(world, base=Folded(replace(state, clock=START + timedelta(hours=1), estimated=(), measured=None)))
    shown = snapshot(later, profiles)
    assert (shown.site, shown.reservoir_estimated_ml, shown.reservoir_measured_ml) == ("south", None, None)


def test_a_pump_of_which_only_the_arrival_is_known_shows_that() -> None:
    """Its reports are in quarantine."""
    world = replace(new_world("P-1"), last_received_at=NOON)

    assert snapshot(world, ProfileHistory()) == Snapshot(None, NOON, None, None, None, None, None, None)


def test_a_world_survives_its_bytes() -> None:
    """Equal worlds have equal bytes."""
    world = new_world("P-1")

    assert decode_world(encode_world(world)) == world
    assert encode_world(decode_world(encode_world(world))) == encode_world(world)


def test_bytes_that_are_no_world_are_refused() -> None:
    """A world is never guessed."""
    with pytest.raises(ValueError, match="array"):
        decode_world(b"\x01")
