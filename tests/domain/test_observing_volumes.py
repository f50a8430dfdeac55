"""The program's totals: counters over boots, the schedule between them, and the levels that falls are measured from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace as changed

from streams.domain.memory import Point
from streams.domain.observing.volumes import (
    MAX_RATES,
    Reading,
    VolumeLog,
    comparable,
    fall_told,
    happened,
    mean_rate_ml_per_day,
    measured,
    programmed_between_ml,
    tells_program,
    totals_at,
    unexplained_ml,
)
from streams.domain.telemetry import Event, EventType
from streams.domain.world import PumpState
from streams.rehearsal import START, moment, profiles_of, received_of

THERAPY = profiles_of({}).therapy(START)
EMPTY, UNSEEN = VolumeLog(), PumpState()
SECOND = timedelta(seconds=1)
RATE, COUNTER = "flow_programmed_ml_per_day", "volume_programmed_ml"


def about(value: float) -> Any:
    """The number, as exact as arithmetic lets it be."""
    return pytest.approx(value)


def after(*entries: dict[str, Any], log: VolumeLog = EMPTY, state: PumpState = UNSEEN) -> VolumeLog:
    """The log after reports; one that says nothing of volumes says that the motor runs."""
    for number, entry in enumerate(entries):
        log = measured(log, state, THERAPY, received_of({"motor": "running", **entry}, number).report)
    return log


def bolus(outcome: Any, volume_ml: float | None = 0.5) -> Event:
    """A bolus event."""
    return Event(type=EventType.BOLUS, outcome=outcome, volume_ml=volume_ml)


def reading(at: str, ml: float, programmed_ml: float = 0.0, planned_ml: float = 0.0) -> Reading:
    """A level with the program's totals."""
    return Reading(ml, moment(at), programmed_ml, planned_ml)


def test_the_first_report_begins_the_books() -> None:
    """A first counter counts from its boot's start, a rate from its report."""
    first = after(
        {"at": "PT1H", RATE: 2.4, COUNTER: 3.0, "reservoir_measured_ml": 17.0, "reservoir_estimated_ml": 16.0}
    )

    at = moment("PT1H")
    assert first == VolumeLog(
        since=at,
        at=at,
        boot_id=1,
        counter_ml=3.0,
        counted_at=at,
        programmed_ml=3.0,
        rates=(Point(at, 2.4),),
        program_since=at,
        estimated=Reading(16.0, at, 3.0, 0.0),
        measured=Reading(17.0, at, 3.0, 0.0),
    )


def test_a_rate_counts_for_as_long_as_it_was_in_force() -> None:
    """Half a day at 2.4 mL/day, then a day at 1.2; the counter told half as much of the first."""
    log = after({"at": "PT0H", RATE: 2.4, COUNTER: 0.0}, {"at": "PT12H", RATE: 1.2, COUNTER: 0.6}, {"at": "PT36H"})

    assert (log.scheduled_ml, log.programmed_ml) == (about(2.4), 0.6)
    assert (log.since, log.at, log.counted_at) == (START, moment("PT36H"), moment("PT12H"))


def test_levels_carry_both_totals_of_their_moment_and_stay_until_the_next() -> None:
    """The schedule's total has the boluses in it; the counter is as of its own time."""
    log = happened(after({"at": "PT0H", RATE: 2.4, COUNTER: 0.0}), PumpState(), THERAPY, bolus("delivered"), START)

    log = after({"at": "PT12H", COUNTER: 1.0, "reservoir_measured_ml": 10.0, "reservoir_estimated_ml": 9.0}, log=log)
    later = after({"at": "PT18H", COUNTER: 2.0}, log=log)

    assert log.measured == reading("PT12H", 10.0, 1.0, 1.7)
    assert log.estimated == reading("PT12H", 9.0, 1.0, 1.7)
    assert (later.measured, later.estimated) == (log.measured, log.estimated)


def test_without_a_counter_the_schedule_stands_in_for_it() -> None:
    """And a counter that comes later goes on from there: what it counted before is in the schedule already."""
    log = after({"at": "PT0H", RATE: 2.4}, {"at": "PT12H"})
    counted = after({"at": "P1D", COUNTER: 50.0}, {"at": "P2D", COUNTER: 51.0}, log=log)

    assert (log.programmed_ml, log.counter_ml, log.counted_at) == (about(1.2), None, moment("PT12H"))
    assert (counted.programmed_ml, counted.counter_ml) == (about(3.4), 51.0)


def test_a_first_counter_after_reports_without_any_rate_counts_from_its_boot() -> None:
    """Nothing was known of the program before it."""
    log = after({"at": "PT0H"}, {"at": "PT12H", COUNTER: 5.0})

    assert log.programmed_ml == 5.0


def test_a_counter_of_another_boot_after_one_without_does_not_count_twice() -> None:
    """What the first boot told is known; that there was no rate says nothing against it."""
    log = after({"at": "PT0H", COUNTER: 5.0}, {"at": "PT6H", "boot_id": 2}, {"at": "PT12H", "boot_id": 2, COUNTER: 2.0})

    assert (log.programmed_ml, log.counter_ml) == (5.0, 2.0)


def test_a_counter_left_out_keeps_its_place_within_a_boot_only() -> None:
    """After a reboot the schedule stands in."""
    log = after({"at": "PT0H", RATE: 2.4, COUNTER: 5.0})

    same = after({"at": "PT12H"}, log=log)
    other = after({"at": "PT12H", "boot_id": 2}, log=log)

    assert (same.programmed_ml, same.counter_ml, same.counted_at) == (5.0, 5.0, START)
    assert (other.programmed_ml, other.counter_ml, other.counted_at) == (6.2, None, moment("PT12H"))


@pytest.mark.parametrize(("counter", "added"), [(0.5, 1.2), (3.0, 3.0)])
def test_over_a_reboot_the_larger_of_counter_and_schedule_counts(counter: float, added: float) -> None:
    """What the old boot programmed after its last counter went with it."""
    log = after({"at": "PT0H", RATE: 2.4, COUNTER: 5.0}, {"at": "PT12H", "boot_id": 2, COUNTER: counter})

    assert log.programmed_ml == about(5.0 + added)
    assert (log.counter_ml, log.counted_at, log.boot_id) == (counter, moment("PT12H"), 2)


@pytest.mark.parametrize(("counter", "total"), [(5.0, 5.0), (5.5, 5.5), (1.0, 6.0)])
def test_a_counter_that_fell_began_anew(counter: float, total: float) -> None:
    """One that stands still added nothing."""
    log = after({"at": "PT0H", COUNTER: 5.0}, {"at": "PT12H", COUNTER: counter})

    assert log.programmed_ml == total
    assert (log.counter_ml, log.counted_at) == (counter, moment("PT12H"))


def test_a_rate_never_told_is_no_rate() -> None:
    """Nothing is added for it."""
    log = after({"at": "PT0H"}, {"at": "P1D"})

    assert (log.rate_ml_per_day, log.scheduled_ml, log.programmed_ml) == (0.0, 0.0, 0.0)


def test_a_rate_seen_before_is_the_same_program() -> None:
    """A schedule comes back to its rates; one that it never had is another program."""
    flex = [{"at": f"PT{hour}H", RATE: rate} for hour, rate in ((0, 0.5), (6, 1.0), (12, 0.5), (13, 0.5))]
    log = after(*flex)
    other = after({"at": "PT14H", RATE: 2.0}, log=log)

    assert log.rates == (Point(START, 0.5), Point(moment("PT6H"), 1.0), Point(moment("PT12H"), 0.5))
    assert log.program_since == moment("PT6H")
    assert other.program_since == moment("PT14H")


@pytest.mark.parametrize(("at", "kept"), [("PT30H", 2), ("PT29H59M59S", 3)])
def test_a_rate_is_kept_until_the_next_one_is_a_day_old(at: str, kept: int) -> None:
    """The rate that was in force a day ago is the oldest one that counts."""
    log = after({"at": "PT0H", RATE: 0.5}, {"at": "PT6H", RATE: 1.0}, {"at": "PT12H", RATE: 0.5}, {"at": at})

    assert len(log.rates) == kept


def test_of_two_rates_the_one_before_is_forgotten_as_well() -> None:
    """A day after the second one only that one is left."""
    log = after({"at": "PT0H", RATE: 0.5}, {"at": "PT6H", RATE: 1.0}, {"at": "PT30H"})

    assert log.rates == (Point(moment("PT6H"), 1.0),)


def test_of_a_schedule_no_more_rates_are_kept_than_it_can_have() -> None:
    """The newest ones."""
    log = after(*({"at": f"PT{minute}M", RATE: 1.0 + minute / 100} for minute in range(MAX_RATES + 2)))

    assert [point.at for point in log.rates] == [moment(f"PT{minute}M") for minute in range(2, MAX_RATES + 2)]


def test_a_delivered_bolus_is_added_unless_it_was_before_the_refill() -> None:
    """One at the refill's own second counts; what was denied or only asked for never does."""
    log, refilled = VolumeLog(bolus_ml=1.0), PumpState(refilled_at=moment("PT2H"))

    def told(event: Event, at: str, state: PumpState = refilled) -> float:
        return happened(log, state, THERAPY, event, moment(at)).bolus_ml

    assert told(bolus("delivered"), "PT2H") == 1.5
    assert told(bolus("delivered"), "PT1H59M59S") == 1.0
    assert told(bolus("delivered"), "PT1H", PumpState()) == 1.5
    assert [told(bolus(outcome), "PT3H") for outcome in ("denied", "requested")] == [1.0, 1.0]
    assert told(bolus("delivered", None), "PT3H") == 1.0
    assert told(replace(bolus("delivered"), type=EventType.REFILL), "PT3H") == 1.0


def test_a_program_change_forgets_the_rates_of_the_program_before() -> None:
    """The one in force goes on until another is told; without any there is nothing to forget."""
    log = after({"at": "PT0H", RATE: 0.4}, {"at": "PT3H", RATE: 0.5}, {"at": "PT6H", RATE: 1.0})
    change = Event(type=EventType.PROGRAM_CHANGE)

    told = happened(log, PumpState(), THERAPY, change, moment("PT8H"))

    assert told == changed(log, rates=(Point(moment("PT6H"), 1.0),), program_since=moment("PT8H"))
    empty = VolumeLog(bolus_ml=1.0)
    assert happened(empty, PumpState(), THERAPY, change, START) is empty


def test_another_pump_has_books_of_its_own() -> None:
    """Nothing of the old one is left."""
    log = after({"at": "PT0H", RATE: 0.5})

    assert happened(log, PumpState(), THERAPY, Event(type=EventType.PUMP_REPLACED), START) == VolumeLog()


def test_people_who_were_told_of_a_fall_are_done_with_what_was_before_it() -> None:
    """The level at its own time is what the next fall counts from."""
    levels = (reading("PT0H", 9.0), reading("PT3H", 8.0), reading("PT6H", 7.0))
    log = VolumeLog(since=START, higher=levels)

    assert fall_told(log, moment("PT3H")) == VolumeLog(since=START, higher=levels[1:])
    assert fall_told(log, START) is log


def test_the_larger_total_is_what_the_program_asked_for() -> None:
    """And a fall beyond 1.145 times that is not explained by it."""
    first = reading("PT0H", 10.0, 2.0, 1.0)

    assert programmed_between_ml(first, reading("PT1H", 9.0, 2.5, 1.2)) == 0.5
    assert programmed_between_ml(first, reading("PT1H", 9.0, 2.1, 2.0)) == 1.0
    assert unexplained_ml(first, reading("PT1H", 8.0, 2.0, 2.0)) == about(2.0 - 1.145)


@pytest.mark.parametrize(
    ("at", "refilled_at", "may"),
    [
        ("PT33H59M59S", None, True),
        ("PT34H", None, False),
        ("PT11H", "PT8H", True),
        ("PT11H", "PT8H1S", False),
        ("PT11H", "PT20H", False),
    ],
)
def test_levels_are_compared_within_a_day_and_two_hours_after_a_refill(
    at: str, refilled_at: str | None, may: bool
) -> None:
    """The day is exclusive, the two hours inclusive."""
    refilled = moment(refilled_at) if refilled_at else None

    assert comparable(reading("PT10H", 9.0), moment(at), refilled) is may


def test_totals_hold_by_a_schedule_or_by_a_counter_of_that_moment() -> None:
    """A counter of an earlier report says nothing of this one."""
    counted = after({"at": "PT1H", COUNTER: 5.0})

    assert tells_program(after({"at": "PT1H", RATE: 0.5}), moment("PT9H"))
    assert tells_program(counted, moment("PT1H"))
    assert not tells_program(counted, moment("PT2H"))
    assert not tells_program(after({"at": "PT1H"}), moment("PT1H"))


def levels(*told: tuple[str, float], refilled_at: str | None = None) -> list[tuple[Any, float]]:
    """Time and value of what the next level is compared with, after levels of a pump that is programmed to rest."""
    state = PumpState(refilled_at=moment(refilled_at) if refilled_at else None)
    log = after(*({"at": at, RATE: 0.0, "reservoir_measured_ml": ml} for at, ml in told), state=state)
    return [(one.at, one.ml) for one in log.higher]


def test_of_higher_levels_one_is_kept_for_each_three_hours() -> None:
    """The first of them; exactly three hours later is the next."""
    told = [("PT0H", 10.0), ("PT1H", 9.9), ("PT2H59M59S", 9.8), ("PT4H", 9.7)]

    assert levels(*told) == [(START, 10.0)]
    assert levels(*told, ("PT5H", 9.6)) == [(START, 10.0), (moment("PT4H"), 9.7)]
    assert levels(("PT0H", 10.0), ("PT1H", 9.9), ("PT3H", 9.8), ("PT4H", 9.7)) == [
        (START, 10.0),
        (moment("PT3H"), 9.8),
    ]


def test_a_level_that_stands_as_high_again_is_compared_with_nothing_lower() -> None:
    """Only what lies above the newest level is remembered, for a day, and not of the time of settling."""
    assert levels(("PT0H", 10.0)) == []
    assert levels(("PT0H", 10.0), ("PT1H", 10.0)) == []
    assert levels(("PT0H", 10.0), ("PT4H", 9.0), ("PT8H", 9.5)) == [(START, 10.0)]
    assert levels(("PT0H", 10.0), ("P1D", 9.0)) == []
    assert levels(("PT0H", 10.0), ("PT1H", 9.5), refilled_at="PT0H") == []


def test_a_level_whose_program_nobody_knows_is_no_measure() -> None:
    """Neither by a rate nor by a counter that came with it."""
    first, second = {"at": "PT0H", "reservoir_measured_ml": 10.0}, {"at": "PT1H", "reservoir_measured_ml": 9.0}

    assert after(first, second).higher == ()
    assert after({**first, COUNTER: 3.0}, {**second, COUNTER: 3.1}).higher == (reading("PT0H", 10.0, 3.0),)


def test_the_mean_rate_is_of_the_day_before_while_the_program_is_the_same() -> None:
    """A rate that is not among those known is another program, whose only rate it is."""
    rates = (Point(START, 0.4), Point(moment("PT6H"), 1.0), Point(moment("PT18H"), 0.4))
    log = VolumeLog(rates=rates, program_since=START)

    assert mean_rate_ml_per_day(log, moment("PT24H"), 0.4) == about(0.7)
    assert mean_rate_ml_per_day(log, moment("PT30H"), None) == about(0.7)
    assert mean_rate_ml_per_day(log, moment("PT33H"), 1.0) == about((9 * 1.0 + 15 * 0.4) / 24)
    assert mean_rate_ml_per_day(log, moment("P1D"), 0.9) == 0.9
    began = changed(log, program_since=moment("PT12H"))
    assert mean_rate_ml_per_day(began, moment("PT24H"), 0.4) == about(0.7)
    assert mean_rate_ml_per_day(began, moment("PT20H"), None) == about((6 * 1.0 + 2 * 0.4) / 8)


def test_the_mean_rate_is_of_no_more_than_the_rates_that_are_known() -> None:
    """A program older than its oldest known rate: what ran before, nobody knows any more."""
    rates = (Point(moment("PT6H"), 0.4), Point(moment("PT12H"), 1.0))

    assert mean_rate_ml_per_day(VolumeLog(rates=rates, program_since=START), moment("PT18H"), None) == about(0.7)


def test_the_mean_rate_before_a_rate_that_is_known_already_leaves_it_out() -> None:
    """A refill that is told late: the rates since are not of the day before it."""
    rates = (Point(START, 0.4), Point(moment("PT6H"), 1.0), Point(moment("PT18H"), 0.4))
    log = VolumeLog(rates=rates, program_since=START)

    assert mean_rate_ml_per_day(log, moment("PT12H"), 0.4) == about(0.7)


def test_the_mean_rate_of_a_program_that_begins_now_is_its_rate() -> None:
    """Also where nobody knows since when it runs; without a rate there is no mean."""
    rates = (Point(START, 0.4), Point(moment("PT3H"), 0.7), Point(moment("PT6H"), 1.0))
    log = VolumeLog(rates=rates, program_since=moment("PT6H"))

    assert mean_rate_ml_per_day(log, moment("PT6H"), None) == 1.0
    assert mean_rate_ml_per_day(changed(log, program_since=None), moment("PT9H"), None) == 1.0
    assert mean_rate_ml_per_day(VolumeLog(rates=(Point(START, 0.4),)), moment("PT9H"), None) == 0.4
    assert mean_rate_ml_per_day(VolumeLog(), START, None) is None
    assert mean_rate_ml_per_day(VolumeLog(), START, 0.3) == 0.3


def test_totals_between_two_reports_grow_evenly() -> None:
    """The counter's from what the schedule asked for since it was told last."""
    before = after({"at": "PT0H", RATE: 2.4, COUNTER: 2.0}, {"at": "PT12H"})
    later = after({"at": "PT36H", RATE: 2.4, COUNTER: 7.2}, log=before)

    assert totals_at(before, later, moment("PT18H")) == (about(4.2), about(1.8))
    assert totals_at(before, later, moment("PT12H")) == (about(3.2), about(1.2))
    assert totals_at(before, later, moment("PT36H")) == (7.2, about(3.6))
    assert totals_at(before, later, moment("P9D")) == (7.2, about(3.6))


def test_totals_before_both_reports_are_counted_back_and_never_negative() -> None:
    """At the rate of that time."""
    before = VolumeLog(at=moment("P1D"), programmed_ml=2.0, scheduled_ml=1.0, rates=(Point(START, 2.4),))
    later = changed(before, at=moment("P2D"), programmed_ml=9.0, scheduled_ml=9.0)

    assert totals_at(before, later, moment("PT18H")) == (about(1.4), about(0.4))
    assert totals_at(before, later, START) == (0.0, 0.0)


def test_totals_without_two_reports_at_two_times_are_those_of_the_newest() -> None:
    """Two reports of one second have nothing between them."""
    first = VolumeLog(at=START, programmed_ml=2.0, scheduled_ml=1.0)
    second = changed(first, programmed_ml=3.0, scheduled_ml=1.5)

    assert totals_at(VolumeLog(), first, START - SECOND) == (2.0, 1.0)
    assert totals_at(first, VolumeLog(programmed_ml=4.0, scheduled_ml=5.0), START) == (4.0, 5.0)
    assert totals_at(first, second, START) == (3.0, 1.5)
    assert totals_at(first, changed(second, at=moment("PT1H")), START) == (2.0, 1.0)
