"""Reservoir levels: when dates are recomputed, from what, and which steps are remembered."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from streams.domain.memory import Point
from streams.domain.observing.fills import Fill, FillLog
from streams.domain.observing.levels import Forecast, LevelLog, LevelStep, happened, measured, newest_fall
from streams.domain.observing.volumes import Reading, VolumeLog
from streams.domain.telemetry import Event, EventType
from streams.domain.world import PumpState, Sample
from streams.rehearsal import START, moment, profiles_of, received_of

THERAPY = profiles_of({}).therapy(START)
EMPTY = LevelLog()
ESTIMATED, MEASURED = "reservoir_estimated_ml", "reservoir_measured_ml"


def about(value: float) -> Any:
    """The number, as exact as arithmetic lets it be."""
    return pytest.approx(value)


def after(log: LevelLog, state: PumpState, at: str, **said: Any) -> LevelLog:
    """The log after a report of levels."""
    return measured(log, state, THERAPY, received_of({"at": at, "motor": "running", **said}, 0).report)


def knowing(at: str, **volumes: Any) -> PumpState:
    """A state whose books are as of ``at``; a pump that is programmed to rest."""
    log = VolumeLog(since=START, at=moment(at), boot_id=1, rates=(Point(START, 0.0),), program_since=START)
    return PumpState(volumes=replace(log, **volumes), estimated=(Sample(9.0, moment(at)),))


def reading(at: str, ml: float, programmed_ml: float = 0.0, planned_ml: float = 0.0) -> Reading:
    """A level with the program's totals."""
    return Reading(ml, moment(at), programmed_ml, planned_ml)


def step(at: str, before_at: str, change_ml: float, sensed: bool = True, programmed_ml: float = 0.0) -> LevelStep:
    """A step, its volumes as exact as arithmetic lets them be."""
    return LevelStep(moment(at), moment(before_at), about(change_ml), about(programmed_ml), sensed)


def test_dates_are_computed_from_the_level_the_mean_and_the_boluses() -> None:
    """Half a millilritre of boluses in two days is a quarter a day."""
    volumes = VolumeLog(
        since=moment("-P9D"),
        bolus_ml=1.5,
        rates=(Point(START, 0.4), Point(moment("P1D"), 1.0)),
        program_since=START,
    )
    state = PumpState(
        estimated=(Sample(9.0, moment("PT47H")),),
        flow_ml_per_day=1.0,
        volumes=volumes,
        fills=FillLog(last=Fill(START, 20.0, 0.0, 0.0, 1.0)),
    )

    log = after(EMPTY, state, "P2D", **{ESTIMATED: 9.0})

    assert log == LevelLog((Forecast(moment("P2D"), 9.0, moment("PT47H"), about(1.0), 0.25),))
    changed = after(EMPTY, replace(state, flow_ml_per_day=2.0), "P2D", **{ESTIMATED: 9.0})
    assert changed.forecasts[0].flow_ml_per_day == 2.0


@pytest.mark.parametrize(("at", "ml"), [("PT23H59M59S", 8.0), ("P1D", 9.0)])
def test_dates_are_computed_from_a_measured_level_for_a_day(at: str, ml: float) -> None:
    """Then the computed one counts again."""
    state = replace(knowing("PT0H"), measured=Sample(8.0, START))

    assert after(EMPTY, state, at, **{ESTIMATED: 9.0}).forecasts[0].level_ml == ml


@pytest.mark.parametrize(
    ("volumes", "filled", "rate"),
    [
        ({"bolus_ml": 1.0}, None, 0.25),
        ({"bolus_ml": 0.0}, None, 0.0),
        ({"bolus_ml": 1.0, "since": None}, None, 0.0),
        ({"bolus_ml": 1.0}, ("P3D", 0.6), 0.4),
        ({"bolus_ml": 1.0}, ("P3DT23H", 0.5), 0.5),
        ({"bolus_ml": 1.0}, ("P3D", 1.0), 0.0),
        ({"bolus_ml": 1.0}, ("P3D", 1.5), 0.0),
    ],
)
def test_boluses_count_since_the_last_refill_and_at_least_a_day(
    volumes: dict[str, Any], filled: tuple[str, float] | None, rate: float
) -> None:
    """Without a refill since the pump was first seen."""
    fills = FillLog(last=Fill(moment(filled[0]), 20.0, 0.0, 0.0, filled[1])) if filled else FillLog()
    state = replace(knowing("P4D", **volumes), fills=fills)

    (forecast,) = after(EMPTY, state, "P4D", **{ESTIMATED: 9.0}).forecasts

    assert forecast.bolus_ml_per_day == about(rate)


def test_dates_are_recomputed_hourly_and_two_of_them_are_kept() -> None:
    """After exactly an hour they are."""
    log = after(EMPTY, knowing("PT0H"), "PT0H", **{ESTIMATED: 9.0})

    assert after(log, knowing("PT59M59S"), "PT59M59S", **{ESTIMATED: 9.0}) is log
    for hour in (1, 2):
        log = after(log, knowing(f"PT{hour}H"), f"PT{hour}H", **{MEASURED: 9.0})
    assert [forecast.at for forecast in log.forecasts] == [moment("PT1H"), moment("PT2H")]


def test_without_a_level_no_dates_are_computed() -> None:
    """Neither where the report tells none nor where none is known."""
    assert after(EMPTY, knowing("PT0H"), "PT0H") is EMPTY
    assert after(EMPTY, PumpState(), "PT0H", **{ESTIMATED: 9.0}) is EMPTY


@pytest.mark.parametrize("name", ["estimated", "measured"])
@pytest.mark.parametrize(
    ("before", "ml", "change"), [(9.0, 9.25, None), (9.0, 9.26, 0.26), (0.15, 0.0, None), (0.16, 0.0, -0.16)]
)
def test_a_step_is_remembered_beyond_a_quarter_up_and_0_15_down(
    name: str, before: float, ml: float, change: float | None
) -> None:
    """Both exclusive, for computed and for measured levels."""
    state = knowing("PT0H", **{name: reading("PT0H", before)})

    log = after(EMPTY, state, "PT1H", **{f"reservoir_{name}_ml": ml})

    assert log.steps == ((step("PT1H", "PT0H", change, name == "measured"),) if change is not None else ())


@pytest.mark.parametrize(
    ("at", "ml", "rate", "remembered"),
    [
        ("PT23H59M59S", 8.0, 0.0, True),
        ("P1D", 8.0, 0.0, False),
        ("P1D", 10.0, 0.0, True),
        ("PT12H", 8.0, 1.8, False),
        ("PT12H", 8.0, 1.6, True),
    ],
)
def test_a_fall_needs_neighbours_of_one_day_and_more_than_was_programmed(
    at: str, ml: float, rate: float, remembered: bool
) -> None:
    """A rise needs neither. Half a day at 1.6 mL/day explains 0.8 mL of one."""
    state = knowing("PT0H", estimated=reading("PT0H", 9.0), rates=(Point(START, rate),))

    assert bool(after(EMPTY, state, at, **{ESTIMATED: ml}).steps) is remembered


@pytest.mark.parametrize(("before", "remembered"), [(0.25, False), (0.26, True)])
def test_a_fall_of_exactly_0_15_beyond_the_program_is_none(before: float, remembered: bool) -> None:
    """0.1 mL were programmed."""
    state = knowing("PT0H", estimated=reading("PT0H", before), rates=(Point(START, 0.2),))

    assert bool(after(EMPTY, state, "PT12H", **{ESTIMATED: 0.0}).steps) is remembered


def test_a_slow_fall_of_exactly_0_15_beyond_what_the_program_explains_is_none() -> None:
    """The limit is exclusive here as well."""
    volumes = {"programmed_ml": 0.001, "counter_ml": 0.001, "counted_at": moment("PT6H")}
    state = knowing("PT6H", measured=reading("PT6H", 0.0, 0.001), higher=(reading("PT0H", 0.151145),), **volumes)

    assert after(EMPTY, state, "PT7H", **{MEASURED: 0.0, "volume_programmed_ml": 0.001}).steps == ()


def test_a_step_says_what_was_programmed_meanwhile() -> None:
    """By the larger of both totals."""
    state = knowing("PT0H", estimated=reading("PT0H", 9.0), rates=(Point(START, 1.2),))

    (found,) = after(EMPTY, state, "PT6H", **{ESTIMATED: 8.0}).steps

    assert found == step("PT6H", "PT0H", -1.0, sensed=False, programmed_ml=0.3)


def test_both_levels_of_a_report_may_step() -> None:
    """The computed one comes first; what one of them does says nothing of the other."""
    state = knowing("PT0H", estimated=reading("PT0H", 9.0), measured=reading("PT0H", 9.0))

    log = after(EMPTY, state, "PT1H", **{ESTIMATED: 8.0, MEASURED: 10.0})
    computed = after(EMPTY, state, "PT1H", **{ESTIMATED: 8.0, MEASURED: 9.0})

    assert log.steps == (step("PT1H", "PT0H", -1.0, sensed=False), step("PT1H", "PT0H", 1.0))
    assert computed.steps == (step("PT1H", "PT0H", -1.0, sensed=False),)


SINKING = knowing(
    "PT6H",
    measured=reading("PT6H", 9.4),
    higher=(reading("PT0H", 9.5), reading("PT3H", 9.6)),
)


@pytest.mark.parametrize(("ml", "from_at"), [(9.46, None), (9.35, "PT3H"), (9.3, "PT3H")])
def test_a_slow_fall_is_counted_from_the_level_that_it_lies_furthest_below(ml: float, from_at: str | None) -> None:
    """Although it is no step from the level before."""
    log = after(EMPTY, SINKING, "PT7H", **{MEASURED: ml})

    expected = (step("PT7H", from_at, ml - 9.6),) if from_at else ()
    assert log.steps == expected


def test_a_slow_fall_begins_above_its_limit_by_what_the_last_report_knew() -> None:
    """1.145 times what was programmed explains it; exactly 0.15 mL beyond it is none."""
    state = knowing(
        "PT6H",
        measured=reading("PT6H", 7.8, 1.0),
        higher=(reading("PT0H", 9.0),),
        programmed_ml=1.0,
        counter_ml=1.0,
        counted_at=moment("PT6H"),
    )

    def steps(ml: float) -> int:
        return len(after(EMPTY, state, "PT7H", **{MEASURED: ml, "volume_programmed_ml": 1.0}).steps)

    assert (steps(7.72), steps(7.69)) == (0, 1)


def test_planned_boluses_explain_a_slow_fall_as_well() -> None:
    """The counter may leave them out."""
    state = knowing("PT6H", measured=reading("PT6H", 7.9), higher=(reading("PT0H", 9.0),), bolus_ml=1.0)

    assert after(EMPTY, state, "PT7H", **{MEASURED: 7.8}).steps == ()


def test_a_level_is_compared_with_its_neighbour_alone_where_nothing_else_may_be() -> None:
    """Earlier levels that are a day old or from before a refill; a rise; and a program that nobody knows."""
    old = knowing("PT25H", measured=reading("PT25H", 9.0), higher=(reading("PT1H", 12.0),))
    refilled = replace(SINKING, refilled_at=moment("PT2H"))
    unknown = replace(SINKING, volumes=replace(SINKING.volumes, rates=()))
    counted = {MEASURED: 9.0, "volume_programmed_ml": 0.0}

    assert after(EMPTY, old, "PT26H", **{MEASURED: 8.8}).steps == (step("PT26H", "PT25H", -0.2),)
    assert after(EMPTY, refilled, "PT7H", **{MEASURED: 9.0}).steps == (step("PT7H", "PT6H", -0.4),)
    assert after(EMPTY, SINKING, "PT7H", **{MEASURED: 9.7}).steps == (step("PT7H", "PT6H", 0.3),)
    assert after(EMPTY, unknown, "PT7H", **{MEASURED: 9.0}).steps == (step("PT7H", "PT6H", -0.4),)
    assert after(EMPTY, unknown, "PT7H", **counted).steps == (step("PT7H", "PT3H", -0.6),)


def test_a_rise_by_exactly_a_quarter_is_no_end_of_a_fall() -> None:
    """It is still held against the level before the fall."""
    state = knowing("PT6H", measured=reading("PT6H", 7.0), higher=(reading("PT0H", 9.0),))

    assert after(EMPTY, state, "PT7H", **{MEASURED: 7.25}).steps == (step("PT7H", "PT0H", -1.75),)


def test_the_level_before_counts_as_well_as_the_earlier_ones() -> None:
    """It may be the highest of all."""
    state = knowing("PT6H", measured=reading("PT6H", 9.8), higher=(reading("PT0H", 9.6),))

    assert after(EMPTY, state, "PT7H", **{MEASURED: 9.0}).steps == (step("PT7H", "PT6H", -0.8),)


def test_a_fall_that_goes_on_takes_its_own_place() -> None:
    """A smaller or equal one is no news, one from another level is a step of its own."""
    other = step("PT4H", "PT0H", -0.5)
    log = LevelLog(steps=(LevelStep(moment("PT6H"), moment("PT3H"), -0.5, 0.0, True), other))

    deeper = after(log, SINKING, "PT7H", **{MEASURED: 9.0})
    as_deep = after(log, SINKING, "PT7H", **{MEASURED: 9.1})
    above = after(log, SINKING, "PT7H", **{MEASURED: 9.2})

    assert deeper.steps == (other, step("PT7H", "PT3H", -0.6))
    assert as_deep.steps == log.steps
    assert above.steps == log.steps


@pytest.mark.parametrize(
    "known",
    [
        LevelStep(moment("PT6H"), moment("PT3H"), -0.9, 0.0, False),
        LevelStep(moment("PT6H"), moment("PT3H"), 0.9, 0.0, True),
        LevelStep(moment("PT6H"), moment("PT0H"), -0.9, 0.0, True),
    ],
    ids=["computed", "a rise", "from elsewhere"],
)
def test_a_fall_goes_on_only_from_a_measured_fall_of_the_same_level(known: LevelStep) -> None:
    """Otherwise it stands beside it."""
    log = after(LevelLog(steps=(known,)), SINKING, "PT7H", **{MEASURED: 9.2})

    assert log.steps == (known, step("PT7H", "PT3H", -0.4))


def test_a_fall_that_goes_on_is_weighed_by_what_was_programmed() -> None:
    """0.5 mL deeper, and 0.5 mL more were programmed: by 1.145 times that it lies less deep."""
    state = replace(SINKING, volumes=replace(SINKING.volumes, scheduled_ml=0.5))
    log = LevelLog(steps=(LevelStep(moment("PT6H"), moment("PT3H"), -0.6, 0.0, True),))

    assert after(log, state, "PT7H", **{MEASURED: 8.5}).steps == log.steps
    assert after(log, state, "PT7H", **{MEASURED: 8.4}).steps == (step("PT7H", "PT3H", -1.2, programmed_ml=0.5),)


def test_a_computed_fall_never_takes_the_place_of_a_measured_one() -> None:
    """Each says something of its own."""
    known = LevelStep(moment("PT3H"), moment("PT0H"), -0.3, 0.0, True)
    state = knowing("PT0H", estimated=reading("PT0H", 9.0))

    log = after(LevelLog(steps=(known,)), state, "PT7H", **{ESTIMATED: 8.0})

    assert log.steps == (known, step("PT7H", "PT0H", -1.0, sensed=False))


def test_six_steps_are_remembered() -> None:
    """The newest ones."""
    log = EMPTY
    for hour in range(1, 9):
        state = knowing(f"PT{hour}H", estimated=reading(f"PT{hour}H", 9.0))
        log = after(log, state, f"PT{hour}H30M", **{ESTIMATED: 8.0})

    assert [found.before_at for found in log.steps] == [moment(f"PT{hour}H") for hour in range(3, 9)]


def test_a_refill_brings_a_level_of_its_own() -> None:
    """What was left and what was put in, at most what any reservoir holds; what was computed of it later stays."""
    early, late = (Forecast(moment("PT9H"), 5.0, moment(level_at), 0.5, 0.1) for level_at in ("PT7H59M", "PT8H"))
    state = PumpState(volumes=VolumeLog(rates=(Point(START, 0.4),)), flow_ml_per_day=0.9)
    log = LevelLog((early, late), (step("PT2H", "PT1H", -1.0),))

    def told(**fields: Any) -> LevelLog:
        return happened(log, state, THERAPY, Event(type=EventType.REFILL, **fields), moment("PT8H"))

    filled = told(residual_ml=0.5, injected_ml=18.0)
    flex = VolumeLog(rates=(Point(START, 0.4), Point(moment("PT4H"), 0.9)), program_since=START)
    flexing = happened(log, replace(state, volumes=flex), THERAPY, Event(type=EventType.REFILL), moment("PT8H"))

    assert flexing.forecasts[0].flow_ml_per_day == about(0.65)
    assert filled.forecasts == (Forecast(moment("PT8H"), 18.5, moment("PT8H"), 0.9, 0.0), late)
    assert filled.steps == log.steps
    assert [told(**fields).forecasts[0].level_ml for fields in ({}, {"residual_ml": 50.0, "injected_ml": 20.0})] == [
        0.0,
        60.0,
    ]


def test_of_a_refill_told_late_the_two_newest_dates_stay() -> None:
    """They are of its own filling."""
    forecasts = tuple(Forecast(moment(f"PT{hour}H"), 5.0, moment(f"PT{hour}H"), 0.5, 0.1) for hour in (9, 10))

    log = happened(LevelLog(forecasts), PumpState(), THERAPY, Event(type=EventType.REFILL), moment("PT8H"))

    assert log.forecasts == forecasts


def test_another_pump_has_levels_of_its_own_and_other_events_say_nothing() -> None:
    """A bolus changes what is computed, not the log."""
    log = LevelLog(steps=(step("PT2H", "PT1H", -1.0),))

    assert happened(log, PumpState(), THERAPY, Event(type=EventType.PUMP_REPLACED), START) == EMPTY
    assert happened(log, PumpState(), THERAPY, Event(type=EventType.BOLUS), START) is log


def test_the_newest_fall_is_the_last_one_that_was_measured() -> None:
    """Neither a rise nor a computed fall, nor a level that came back to where it was."""
    first, second = (LevelStep(START, START, change, 0.0, True) for change in (-1.0, -0.5))
    others = (LevelStep(START, START, 1.0, 0.0, True), LevelStep(START, START, -1.0, 0.0, False))

    assert newest_fall(LevelLog(steps=(first, second, *others))) is second
    assert newest_fall(LevelLog(steps=others)) is None
    assert newest_fall(LevelLog(steps=(LevelStep(START, START, 0.0, 0.0, True),))) is None
