"""Batteries, temperatures and drift: indicators, slopes, spells of warmth, and days that count."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from streams.domain.observing import drift, heat, power
from streams.domain.observing.drift import Drift, RefillDrift, Sums
from streams.domain.observing.fills import Outcome
from streams.domain.observing.heat import HeatLog, Spell
from streams.domain.observing.power import Indicator, PowerLog, Trend, replacement
from streams.domain.observing.series import Series
from streams.domain.profile import Therapy
from streams.domain.telemetry import Event, EventType
from streams.domain.world import PumpState, Refill, Stall
from streams.rehearsal import START, moment, profiles_of, received_of

THERAPY = profiles_of({}).therapy(START)
UNSEEN = PumpState()
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


def about(value: float) -> Any:
    """The number, as exact as arithmetic lets it be."""
    return pytest.approx(value)


def cared(*records: dict[str, Any], at: str = "P400D", zone: str = "UTC") -> Therapy:
    """A therapy with care records."""
    return profiles_of({}, care=records, zone=ZoneInfo(zone)).therapy(moment(at))


# Power -----------------------------------------------------------------------------------------------------------


def powered(log: PowerLog, at: str, state: PumpState = UNSEEN, therapy: Therapy = THERAPY, **said: Any) -> PowerLog:
    """The log after a report."""
    return power.measured(log, state, therapy, received_of({"at": at, "motor": "running", **said}, 0).report)


def battery(**said: Any) -> dict[str, Any]:
    """What a report says of the battery."""
    return {"battery": said}


def test_a_person_or_the_pump_says_that_it_was_replaced() -> None:
    """The later word, the person's where both are of one second."""
    pump = PumpState(replaced_at=moment("P2D"))
    person = {"kind": "replaced", "from": "P2D"}

    assert replacement(UNSEEN, THERAPY) == (None, None)
    assert replacement(pump, THERAPY) == (moment("P2D"), "pump_replaced")
    assert replacement(UNSEEN, cared(person)) == (moment("P2D"), "example")
    assert replacement(pump, cared(person)) == (moment("P2D"), "example")
    assert replacement(replace(pump, replaced_at=moment("P3D")), cared(person)) == (moment("P3D"), "pump_replaced")


def test_the_replacement_indicator_is_said_by_the_battery_or_by_alarm() -> None:
    """Since its first word; the battery takes it back unless the alarm sounded in the state's last word."""
    log = powered(PowerLog(), "PT1H", **battery(eri=True))
    alarmed = powered(PowerLog(), "PT1H", alarms=["low_reservoir", "elective_replacement"])
    mixed = powered(PowerLog(), "PT1H", alarms=["elective_replacement"], **battery(eri=False))

    assert log == PowerLog(eri=Indicator(moment("PT1H")))
    assert alarmed.eri == mixed.eri == log.eri
    assert powered(log, "PT2H", **battery(eri=True)) is log
    assert powered(log, "PT2H", alarms=[]) is log
    assert powered(log, "PT2H", **battery(voltage_v=0.0)) is log
    back = powered(log, "PT2H", **battery(eri=False))
    assert back.eri == Indicator(moment("PT1H"), moment("PT2H"))
    assert powered(back, "PT3H", **battery(eri=False)) is back
    assert powered(back, "PT3H", **battery(eri=True)).eri == log.eri
    silenced = PumpState(alarms=("elective_replacement",))
    assert powered(log, "PT2H", silenced, **battery(eri=False)) is log
    assert powered(PowerLog(), "PT1H", **battery(eri=False)) == PowerLog()
    assert powered(PowerLog(), "PT1H") == PowerLog()
    assert powered(PowerLog(), "PT1H", alarms=[]) == PowerLog()


@pytest.mark.parametrize(("since", "anew"), [("P2D", True), ("P2DT1S", False), ("P1D", True)])
def test_after_a_replacement_an_indicator_is_the_new_battery_s(since: str, anew: bool) -> None:
    """One said at its very second is the old one's; of that second no new one is said."""
    log, state = PowerLog(eri=Indicator(moment(since))), PumpState(replaced_at=moment("P2D"))

    said = powered(log, "P3D", state, **battery(eri=True))

    assert said.eri == Indicator(moment("P3D") if anew else moment(since))
    assert powered(PowerLog(eri=Indicator(moment("P1D"))), "P2D", state, **battery(eri=True)).eri == Indicator(
        moment("P1D")
    )
    cared_for = powered(log, "P3D", therapy=cared({"kind": "replaced", "from": "P2D"}), **battery(eri=True))
    assert cared_for.eri == said.eri


def test_the_end_of_service_begins_anew_after_it_was_taken_back() -> None:
    """The replacement indicator goes on."""
    log = powered(PowerLog(), "PT1H", **battery(eos=True))
    back = powered(log, "PT2H", **battery(eos=False))

    assert log.eos == Indicator(moment("PT1H"))
    assert back.eos == Indicator(moment("PT1H"), moment("PT2H"))
    assert powered(back, "PT3H", **battery(eos=True)).eos == Indicator(moment("PT3H"))
    assert powered(back, "PT3H", alarms=[]) is back


@pytest.mark.parametrize("alarm", ["end_of_service", "battery_reset"])
def test_a_dead_battery_is_said_by_alarm(alarm: str) -> None:
    """Until a report without it; one that tells no alarms says nothing."""
    log = powered(PowerLog(), "PT1H", alarms=["low_reservoir", alarm])

    assert log == PowerLog(alarm=Indicator(moment("PT1H")))
    assert powered(log, "PT2H", **battery(eos=None)) is log
    assert powered(log, "PT2H", alarms=[]).alarm == Indicator(moment("PT1H"), moment("PT2H"))
    assert powered(log, "PT2H", alarms=["low_reservoir"]).alarm == Indicator(moment("PT1H"), moment("PT2H"))
    over = powered(log, "PT2H", alarms=[])
    assert powered(over, "PT3H", alarms=[alarm]).alarm == Indicator(moment("PT3H"))
    state = PumpState(replaced_at=moment("PT1H"))
    assert powered(log, "PT2H", state, alarms=[alarm]).alarm == Indicator(moment("PT2H"))
    end = powered(PowerLog(eos=Indicator(START)), "PT2H", state, **battery(eos=True))
    assert end.eos == Indicator(moment("PT2H"))
    named = cared({"kind": "replaced", "from": "PT1H"})
    assert powered(log, "PT2H", therapy=named, alarms=[alarm]).alarm == Indicator(moment("PT2H"))
    assert powered(PowerLog(eos=Indicator(START)), "PT2H", therapy=named, **battery(eos=True)).eos == end.eos


def test_the_first_voltage_of_a_day_counts() -> None:
    """In millivolts; zero is none."""
    log = powered(PowerLog(), "PT1H", **battery(voltage_v=2.9004))

    assert log.voltages == Series(START.toordinal(), (2900,))
    assert powered(log, "PT2H", **battery(voltage_v=2.5)) is log
    assert powered(PowerLog(), "PT1H", **battery(voltage_v=0.0)) == PowerLog()
    said = powered(log, "P1DT1H", alarms=["end_of_service"], **battery(voltage_v=2.8, eri=True, eos=True))
    assert said.voltages.values == (2900, 2800)
    assert said.eri == said.eos == said.alarm == Indicator(moment("P1DT1H"))


def test_voltages_of_seventy_four_days_are_kept() -> None:
    """The newest ones."""
    log = PowerLog(voltages=Series(START.toordinal(), (2900,) * 74))

    assert powered(log, "P1D", **battery(voltage_v=2.8)).voltages.values == (*(2900,) * 73, 2800)


def trended(before: list[int], recent: list[int]) -> Trend | None:
    """The trend after daily voltages; the newest fourteen days are the recent ones."""
    values = (*before, *recent)
    log = PowerLog(voltages=Series(START.toordinal() - 1, values[:-1]))
    return powered(log, "PT0H", **battery(voltage_v=values[-1] / 1000)).trend


def test_a_battery_s_slope_of_two_weeks_is_held_against_the_days_before() -> None:
    """At least eight voltages against twenty; the level is the recent line's at its newest day."""
    before, recent = [3000 - day for day in range(20)], [2900 - 5 * day for day in range(14)]

    found = trended(before, recent)

    assert found == Trend(START, about(-5.0), about(-1.0), about(2835.0))
    assert trended(before[1:], recent) is None
    assert trended(before, [*recent[:7], *[0] * 6, recent[13]]) is not None
    assert trended(before, [*recent[:6], *[0] * 7, recent[13]]) is None


def test_another_battery_has_voltages_of_its_own() -> None:
    """Its indicators are judged by when it was replaced."""
    log = PowerLog(eri=Indicator(START), voltages=Series(1, (2900,)), trend=Trend(START, 1.0, 1.0, 1.0))

    def told(log: PowerLog, kind: EventType) -> PowerLog:
        return power.happened(log, UNSEEN, THERAPY, Event(type=kind), START)

    assert told(log, EventType.PUMP_REPLACED) == PowerLog(eri=Indicator(START))
    assert told(log, EventType.BOLUS) is log
    fresh = PowerLog(eri=Indicator(START))
    assert told(fresh, EventType.PUMP_REPLACED) is fresh


# Heat ------------------------------------------------------------------------------------------------------------

BLOCK = int(START.timestamp()) // (4 * 3600)
USUAL = HeatLog(3700, Series(BLOCK, (3700,) * 6))


def warmed(log: HeatLog, at: str, celsius: float, **said: Any) -> HeatLog:
    """The log after a temperature."""
    report = received_of({"at": at, "motor": "running", "temperature_celsius": celsius, **said}, 0).report
    return heat.measured(log, UNSEEN, THERAPY, report)


def test_one_reading_of_four_hours_is_kept_and_their_median_is_usual() -> None:
    """From six on, and without the one that is judged; a week's, inclusive."""
    log = HeatLog()
    for number, celsius in enumerate([36.0, 36.2, 36.4, 36.6, 36.8, 37.0]):
        log = warmed(log, f"PT{4 * number}H", celsius)

    assert (log.usual, log.blocks) == (0, Series(BLOCK + 5, (3600, 3620, 3640, 3660, 3680, 3700)))
    assert warmed(log, "PT23H", 36.0) is log
    assert warmed(log, "P1D", 37.2).usual == 3650
    assert (warmed(log, "P7D", 37.2).usual, warmed(log, "P7DT4H", 37.2).usual) == (3650, 0)
    assert warmed(log, "P7D", 37.2).blocks.values[-1] == 3720
    assert len(warmed(log, "P7D", 37.2).blocks.values) == 42
    silent = heat.measured(log, UNSEEN, THERAPY, received_of({"at": "P1D", "motor": "running"}, 0).report)
    assert silent is log
    assert warmed(log, "P1D", 0.0) is log
    assert warmed(log, "P1D", 0.01).blocks.values[-1] == 1


@pytest.mark.parametrize(
    ("usual", "celsius", "kept"),
    [(3700, 37.49, False), (3700, 37.5, True), (0, 37.99, False), (0, 38.0, True), (3790, 38.0, True)],
)
def test_readings_are_kept_while_the_pump_is_warm(usual: int, celsius: float, kept: bool) -> None:
    """Half a degree above what is usual, or 38; both inclusive."""
    log = replace(USUAL, usual=usual)

    assert warmed(log, "PT1M", celsius).spells == (
        (Spell(moment("PT1M"), moment("PT1M"), round(celsius * 100), round(celsius * 100)),) if kept else ()
    )


@pytest.mark.parametrize(("level", "in_field"), [("strong", 3850), ("mri", 3850), ("weak", 0), ("none", 0)])
def test_warmth_inside_strong_interference_is_told_apart(level: str, in_field: int) -> None:
    """It may be the field's."""
    (spell,) = warmed(USUAL, "PT1M", 38.5, emi={"level": level}).spells

    assert spell.in_field == in_field


def test_readings_of_two_minutes_are_one_spell() -> None:
    """Lowest, highest, and the highest in a field; by the clock's own two minutes."""
    log = warmed(warmed(USUAL, "PT0S", 38.5, emi={"level": "mri"}), "PT1M", 38.2)

    assert log.spells == (Spell(START, moment("PT1M"), 3820, 3850, 3850),)
    assert warmed(log, "PT1M59S", 38.9).spells == (Spell(START, moment("PT1M59S"), 3820, 3890, 3850),)
    assert warmed(log, "PT2M", 38.9).spells == (*log.spells, Spell(moment("PT2M"), moment("PT2M"), 3890, 3890))
    field = warmed(log, "PT1M", 38.6, emi={"level": "mri"})
    assert field.spells[0].in_field == 3860
    later = warmed(warmed(USUAL, "PT30S", 38.5), "PT1M", 38.2)
    assert later.spells == (Spell(moment("PT30S"), moment("PT1M"), 3820, 3850),)
    second = warmed(warmed(log, "PT2M", 38.9), "PT3M", 38.3)
    assert second.spells == (*log.spells, Spell(moment("PT2M"), moment("PT3M"), 3830, 3890))


def spell(at: str, high: int = 3850) -> Spell:
    """A spell of one reading."""
    return Spell(moment(at), moment(at), high, high)


def test_readings_are_forgotten_once_nothing_was_warm_for_three_quarters_of_an_hour() -> None:
    """Inclusive, and only where two spells show it; the newest reading counts as well."""
    cool = replace(USUAL, spells=(spell("PT0M", 3720), spell("PT30M", 3720)))

    assert warmed(cool, "PT45M", 37.2).spells == ()
    assert len(warmed(cool, "PT44M59S", 37.2).spells) == 3
    assert len(warmed(cool, "PT45M", 37.5).spells) == 3
    warm = replace(USUAL, spells=(spell("PT0M", 3720), spell("PT30M", 3750)))
    assert len(warmed(warm, "PT45M", 37.2).spells) == 3
    single = replace(USUAL, spells=(spell("PT0M", 3720),))
    assert len(warmed(single, "PT45M", 37.2).spells) == 2


def test_the_readings_of_an_hour_are_kept_and_the_one_before() -> None:
    """Inclusive; after a day's gap they begin anew."""
    log = replace(USUAL, spells=(spell("PT0M"), spell("PT4M"), spell("PT8M")))

    assert [one.first for one in warmed(log, "PT1H", 38.5).spells] == [
        START,
        moment("PT4M"),
        moment("PT8M"),
        moment("PT1H"),
    ]
    assert [one.first for one in warmed(log, "PT1H1S", 38.5).spells] == [
        moment("PT4M"),
        moment("PT8M"),
        moment("PT1H1S"),
    ]
    assert [one.first for one in warmed(log, "PT20H", 38.5).spells] == [moment("PT8M"), moment("PT20H")]
    assert [one.first for one in warmed(log, "P1DT8M", 38.5).spells] == [moment("PT8M"), moment("P1DT8M")]
    assert [one.first for one in warmed(log, "P1DT8M1S", 38.5).spells] == [moment("P1DT8M1S")]


# Drift -----------------------------------------------------------------------------------------------------------


def drifted(
    known: Drift | None,
    at: str,
    programmed: float,
    delivered: float | None = None,
    therapy: Therapy = THERAPY,
    **how: bool,
) -> Drift:
    """The drift after volumes."""
    said = {"running": True, "continued": True, **how}
    point = (moment(at), programmed, programmed if delivered is None else delivered)
    return drift.measured(known, therapy, point, **said)


OPENED = Drift((START, 0.0, 0.0), moment("P1D"))


def test_the_first_volume_of_a_day_opens_it() -> None:
    """It ends at the site's midnight; a motor that does not run spoils it."""
    assert drifted(None, "PT0H", 0.0) == OPENED
    assert drifted(None, "PT0H", 0.0, running=False) == replace(OPENED, spoiled=True)
    assert drifted(None, "PT15H", 1.0, 1.1, cared(zone="Asia/Tokyo")) == Drift(
        (moment("PT15H"), 1.0, 1.1), moment("P1DT15H")
    )


def test_within_a_day_only_an_interruption_is_news() -> None:
    """Once."""
    assert drifted(OPENED, "PT23H59M59S", 0.5) is OPENED
    spoiled = drifted(OPENED, "PT5H", 0.5, running=False)
    assert spoiled == replace(OPENED, spoiled=True)
    assert drifted(spoiled, "PT6H", 0.5, running=False) is spoiled


def test_volumes_that_begin_anew_open_a_day_and_tell_nothing_of_the_one_before() -> None:
    """Whenever they come."""
    assert drifted(OPENED, "PT5H", 0.1, continued=False) == Drift((moment("PT5H"), 0.1, 0.1), moment("P1D"))
    assert drifted(OPENED, "P1D", 0.5, continued=False) == Drift((moment("P1D"), 0.5, 0.5), moment("P2D"))


def test_a_day_is_over_with_the_first_volume_of_the_next() -> None:
    """Its value is what was delivered beyond the program, as a share of it."""
    done = drifted(replace(OPENED, opened=(START, 1.0, 2.0)), "P1D", 1.5, 2.55)

    assert done == Drift(
        (moment("P1D"), 1.5, 2.55),
        moment("P2D"),
        learning=(about(0.1),),
        newest=(about(0.1),),
        at=moment("P1D"),
    )
    stopped = drifted(OPENED, "P1D", 0.5, running=False)
    assert (stopped.learning, stopped.spoiled) == ((0.0,), True)


@pytest.mark.parametrize(
    ("opened_at", "at", "programmed", "counts"),
    [
        ("PT0H", "P1D", 0.05, True),
        ("PT0H", "P1D", 0.05 - 1e-6, True),
        ("PT0H", "P1D", 0.0499, False),
        ("PT0H", "P1DT23H59M59S", 0.5, True),
        ("PT0H", "P2D", 0.5, False),
        ("PT12H", "P1D", 0.5, True),
        ("PT12H1S", "P1D", 0.5, False),
    ],
)
def test_a_day_counts_with_enough_of_time_and_volume(opened_at: str, at: str, programmed: float, counts: bool) -> None:
    """Half a day and 0.05 mL, both inclusive, and a volume of the very next day."""
    day = replace(OPENED, opened=(moment(opened_at), 0.0, 0.0))

    assert bool(drifted(day, at, programmed).learning) is counts
    assert drifted(replace(day, spoiled=True), at, programmed).learning == ()


def test_after_fourteen_days_a_pump_s_own_usual_value_is_known() -> None:
    """The median, at most five percent; the spread by the median distance, at least three."""

    def learned(values: list[float]) -> tuple[float | None, float]:
        known = replace(OPENED, learning=tuple(values[:-1]), newest=tuple(values[-8:-1]))
        done = drifted(known, "P1D", 1.0, 1.0 + values[-1])
        assert done.at == moment("P1D")
        assert len(done.newest) == 7
        assert done.newest[-1] == about(values[-1])
        assert done.learning == ()
        assert done.sums == Sums()
        return done.usual, done.spread

    twelve = [0.0, 0.02] * 6
    assert learned([*twelve, 0.0, 0.02]) == (about(0.01), 0.03)
    assert learned([0.2, 0.0] * 7)[0] == 0.05
    assert learned([-0.2, 0.0] * 7)[0] == -0.05
    assert learned([0.0] * 4 + [0.04] * 6 + [0.3] * 4) == (about(0.04), about(1.4826 * 0.04))
    assert learned([0.04, -0.04] * 7) == (about(0.0), about(1.4826 * 0.04))
    assert drifted(replace(OPENED, learning=(0.0,) * 12), "P1D", 1.0).usual is None


def test_further_days_are_held_against_it() -> None:
    """And the newest seven values are kept."""
    known = replace(
        OPENED, usual=0.01, spread=0.04, newest=tuple(0.01 * day for day in range(7)), sums=Sums(1.0, 1.0, 2, 2)
    )

    done = drifted(known, "P1D", 1.0, 1.09)

    assert done.sums == Sums(about(2.5), 0.0, 0, 3)
    assert done.newest == (*known.newest[1:], about(0.09))
    assert (done.at, done.usual, done.spread) == (moment("P1D"), 0.01, 0.04)


@pytest.mark.parametrize(
    ("value", "sums"),
    [
        (0.5, Sums(2.0, 1.0, 3, 3)),
        (0.51, Sums(2.01, 0.99, 0, 3)),
        (-0.5, Sums(1.0, 2.0, 3, 3)),
        (-0.51, Sums(0.99, 2.01, 3, 0)),
        (9.0, Sums(4.5, 0.0, 0, 3)),
        (-9.0, Sums(0.0, 4.5, 3, 0)),
        (2.0, Sums(3.5, 0.0, 0, 3)),
    ],
)
def test_a_sum_grows_by_what_lies_beyond_half_a_spread(value: float, sums: Sums) -> None:
    """At most three spreads count; exactly half a spread is quiet."""
    found = Sums(2.0, 2.0, 2, 2).add(value, 0.0, 1.0)

    assert (found.up, found.down) == (about(sums.up), about(sums.down))
    assert (found.quiet_up, found.quiet_down) == (sums.quiet_up, sums.quiet_down)


def test_what_a_person_reviewed_starts_anew() -> None:
    """Once for each review, of this rule's alone; the newest one counts."""
    reviews = [{"kind": "review", "rule_id": "DLV-08", "from": at} for at in ("PT6H", "PT5H")] + [
        {"kind": "review", "rule_id": "DLV-02", "from": "PT7H"}
    ]
    known = replace(OPENED, usual=0.0, newest=(0.1, 0.2), sums=Sums(3.0, 3.0))

    done = drifted(known, "P1D", 1.0, therapy=cared(*reviews))
    seen = drifted(replace(known, reviewed_at=moment("PT6H")), "P1D", 1.0, therapy=cared(*reviews))
    newer = drifted(replace(known, reviewed_at=moment("PT5H")), "P1D", 1.0, therapy=cared(*reviews))

    assert (done.sums.up, done.newest, done.reviewed_at) == (0.0, (0.0,), moment("PT6H"))
    assert (seen.sums.up, seen.newest) == (2.5, (0.1, 0.2, 0.0))
    assert newer == done
    assert drifted(known, "P1D", 1.0, therapy=cared(reviews[2])).sums.up == 2.5


def test_what_happens_in_a_day_spoils_it() -> None:
    """From its first volume on, inclusive; a day that is spoiled stays so."""
    spoiled = replace(OPENED, spoiled=True)

    assert drift.spoiled(OPENED, START) == spoiled
    assert drift.spoiled(OPENED, START - SECOND) is OPENED
    assert drift.spoiled(spoiled, START) is spoiled
    assert drift.spoiled(None, START) is None
    assert drift.restarted(replace(OPENED, sums=Sums(3.0, 3.0))) == OPENED
    assert (drift.restarted(None), drift.refills_restarted(None)) == (None, None)


def outcome(at: str, programmed: float = 10.0, delivered: float = 11.0) -> Outcome:
    """What a refill showed."""
    return Outcome(moment(at), programmed, delivered, moment(at))


def test_a_refill_counts_from_two_millilitres_on() -> None:
    """Ten percent are two spreads."""
    first = drift.refilled(None, UNSEEN, THERAPY, outcome("P10D"))

    assert first == RefillDrift(moment("P10D"), Sums(about(1.5), 0.0, 0, 1))
    second = drift.refilled(first, UNSEEN, THERAPY, outcome("P20D", 2.0, 1.8))
    assert second == RefillDrift(moment("P20D"), Sums(0.0, about(1.5), 1, 0))
    assert drift.refilled(first, UNSEEN, THERAPY, outcome("P20D", 1.99, 1.0)) is first
    assert drift.refilled(None, UNSEEN, THERAPY, outcome("P20D", 1.99, 1.0)) is None


@pytest.mark.parametrize(
    ("stall", "counts"),
    [
        (Stall(moment("P20D")), False),
        (Stall(moment("P20DT1S")), True),
        (Stall(moment("P5D"), moment("P10D")), False),
        (Stall(moment("P5D"), moment("P9DT23H")), True),
        (Stall(moment("P5D")), False),
    ],
)
def test_a_stall_during_its_filling_explains_what_a_refill_showed(stall: Stall, counts: bool) -> None:
    """From the refill before to its own, both inclusive; a filling without one before reaches back for ever."""
    refills = tuple(Refill(moment(f"P{day}D"), 1.0, 1.0) for day in (1, 10, 20, 30))
    state = PumpState(refills=refills, stalls=(stall,))

    assert (drift.refilled(None, state, THERAPY, outcome("P20D")) is not None) is counts
    alone = replace(state, refills=refills[2:])
    assert (drift.refilled(None, alone, THERAPY, outcome("P20D")) is not None) is (stall.start > moment("P20D"))


def test_a_review_of_refills_counts_once() -> None:
    """The same one says nothing more."""
    known = RefillDrift(moment("P10D"), Sums(3.0, 0.0))
    therapy = cared({"kind": "review", "rule_id": "DLV-08", "from": "P15D"})

    done = drift.refilled(known, UNSEEN, therapy, outcome("P20D"))
    again = drift.refilled(done, UNSEEN, therapy, outcome("P30D"))
    older = drift.refilled(replace(known, reviewed_at=moment("P14D")), UNSEEN, therapy, outcome("P20D"))

    assert done == RefillDrift(moment("P20D"), Sums(about(1.5), 0.0, 0, 1), moment("P15D"))
    assert again is not None
    assert again.sums.up == about(3.0)
    assert older == done
