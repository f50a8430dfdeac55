"""MRI and interference: windows to the second, trapped alarms, and the program before and after a field."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from streams.domain.observing.scans import (
    KEPT_INTERFERENCE,
    KEPT_PROGRAMS,
    KEPT_RATES,
    KEPT_SPANS,
    Alteration,
    Exposure,
    Interference,
    Program,
    Quiet,
    Rates,
    ScanLog,
    Span,
    declared_end,
    explains_interference,
    happened,
    hard_end,
    in_window,
    measured,
    valve_gated,
)
from streams.domain.profile import STRICTEST, Therapy
from streams.domain.telemetry import Event, EventType, InterrogationResult
from streams.domain.world import Mri, PumpState, Sample, Stall
from streams.rehearsal import START, moment, profiles_of, received_of

THERAPY = profiles_of({}).therapy(START)
EMPTY, UNSEEN = ScanLog(), PumpState()
DECLARED = Mri(START, declared_at=START)
SEEN = Mri(START, last_seen_at=START)
RATE = "flow_programmed_ml_per_day"


def after(log: ScanLog, at: str, state: PumpState = UNSEEN, therapy: Therapy = THERAPY, **said: Any) -> ScanLog:
    """The log after a report."""
    return measured(log, state, therapy, received_of({"at": at, "motor": "running", **said}, 0).report)


def told(
    log: ScanLog, kind: EventType, at: str, state: PumpState = UNSEEN, therapy: Therapy = THERAPY, **fields: Any
) -> ScanLog:
    """The log after an event."""
    return happened(log, state, therapy, Event(type=kind, **fields), moment(at))


def field(level: str = "strong", count: int = 1) -> dict[str, Any]:
    """What a report says of interference."""
    return {"emi": {"level": level, "count": count}}


# Windows ---------------------------------------------------------------------------------------------------------


def test_a_declared_window_ends_a_quarter_after_its_end_and_after_two_hours_at_the_latest() -> None:
    """The recorded end itself may be later than that."""
    ended = replace(DECLARED, ended_at=moment("PT30M"))
    late = replace(DECLARED, ended_at=moment("PT1H50M"))

    assert [hard_end(mri) for mri in (DECLARED, ended, late)] == [moment("PT2H"), moment("PT45M"), moment("PT2H")]
    assert [declared_end(mri) for mri in (DECLARED, ended, late)] == [
        moment("PT2H"),
        moment("PT30M"),
        moment("PT1H50M"),
    ]


def test_an_undeclared_mri_ends_with_the_last_interference_seen() -> None:
    """Or where it began."""
    assert declared_end(Mri(START, last_seen_at=moment("PT5M"))) == moment("PT5M")
    assert declared_end(Mri(START)) == START


@pytest.mark.parametrize(("at", "inside"), [("-PT15M1S", False), ("-PT15M", True), ("PT2H", True), ("PT2H1S", False)])
def test_a_window_includes_the_quarter_before_its_start_and_its_end(at: str, inside: bool) -> None:
    """Both to the second; interference told then is explained by it."""
    assert in_window(DECLARED, moment(at)) is inside
    assert explains_interference(DECLARED, moment(at), None) is inside


def test_interference_since_a_report_before_the_end_is_explained_afterwards() -> None:
    """It is told for the time since the report before, which has to be before the end itself."""
    mri = replace(DECLARED, ended_at=moment("PT30M"))

    assert explains_interference(mri, moment("PT3H"), moment("PT29M59S"))
    assert not explains_interference(mri, moment("PT3H"), moment("PT30M"))
    assert not explains_interference(SEEN, START, START)
    assert not explains_interference(None, START, START)


def test_valves_meet_the_field_by_the_profile_or_by_what_a_pump_without_one_reports() -> None:
    """M.22."""
    valved = profiles_of({"family": "prometra"}).therapy(START)
    told_open = ScanLog(valve="open")

    assert valve_gated(EMPTY, valved)
    assert valve_gated(told_open, STRICTEST)
    assert not valve_gated(EMPTY, STRICTEST)
    assert not valve_gated(told_open, THERAPY)


# Interference ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["strong", "mri"])
def test_strong_interference_is_an_exposure_of_the_program_that_ran(level: str) -> None:
    """How often it came is counted; the days without any begin anew."""
    log = ScanLog(programs=tuple(Program(name, START) for name in "axb"), quiet=Quiet(3, 3), told_emi=True)

    exposed = after(log, "PT1H", **field(level, 3))

    at = moment("PT1H")
    assert exposed.exposure == Exposure(at, at, "b")
    assert exposed.interference == (Interference(at, 3),)
    assert exposed.quiet == Quiet()


def test_weak_interference_only_shows_that_the_pump_tells_of_it() -> None:
    """And once that is known the log stays the same object; a count of none is no interference."""
    log = after(EMPTY, "PT1H", **field("weak"))

    assert log == ScanLog(told_emi=True)
    assert after(log, "PT2H", **field("none")) is log
    none = after(EMPTY, "PT1H", **field("strong", 0))
    assert (none.interference, none.exposure) == ((), Exposure(moment("PT1H"), moment("PT1H")))


def test_interference_that_a_declared_mri_explains_is_none() -> None:
    """Without a profile it counts all the same, but is no exposure of its own (M.22)."""
    state = PumpState(mri=DECLARED)

    explained = after(EMPTY, "PT1H", state, **field())
    counted = after(EMPTY, "PT1H", state, STRICTEST, **field())
    unexplained = after(EMPTY, "PT3H", replace(state, previous_at=moment("PT2H")), **field())

    assert explained == ScanLog(told_emi=True)
    assert (counted.exposure, counted.interference) == (None, (Interference(moment("PT1H"), 1),))
    assert unexplained.interference == (Interference(moment("PT3H"), 1),)
    assert after(EMPTY, "PT3H", replace(state, previous_at=moment("PT1H")), **field()).interference == ()


def test_sixteen_times_of_interference_are_remembered() -> None:
    """The newest ones."""
    log = EMPTY
    for minute in range(KEPT_INTERFERENCE + 2):
        log = after(log, f"PT{minute}M", **field())

    assert [one.at for one in log.interference] == [moment(f"PT{n}M") for n in range(2, KEPT_INTERFERENCE + 2)]


@pytest.mark.parametrize(
    ("stall", "trapped"),
    [
        (Stall(moment("-PT1S")), True),
        (Stall(START), False),
        (Stall(moment("-PT1H"), START), True),
        (Stall(moment("-PT1H"), moment("-PT1S")), False),
    ],
)
def test_an_undeclared_field_that_comes_while_a_stall_sounds_traps_its_alarm(stall: Stall, trapped: bool) -> None:
    """The field came since the report before: a stall that ended with this report sounded then."""
    state = PumpState(mri=SEEN, stalls=(stall,))

    assert after(EMPTY, "PT0H", state, **field("mri")).trapped_at == (START if trapped else None)


@pytest.mark.parametrize(
    ("span", "trapped"),
    [
        (Span(START), True),
        (Span(moment("PT1S")), False),
        (Span(moment("-PT1H"), moment("PT1S")), True),
        (Span(moment("-PT1H"), START), False),
    ],
)
def test_an_undeclared_field_that_comes_while_an_alarm_sounds_traps_it(span: Span, trapped: bool) -> None:
    """An alarm sounds from its start (inclusive) to its end (exclusive)."""
    log = ScanLog(sounding=(span,))

    assert after(log, "PT0H", PumpState(mri=SEEN), **field("mri")).trapped_at == (START if trapped else None)


def test_only_the_start_of_an_undeclared_mri_traps() -> None:
    """Neither strong interference, nor what goes on, nor a declared one's."""
    log, sounding = ScanLog(sounding=(Span(moment("-PT1H")),)), PumpState(mri=SEEN)

    assert after(log, "PT0H", sounding, **field("strong")).trapped_at is None
    assert after(log, "PT1H", sounding, **field("mri")).trapped_at is None
    assert after(log, "PT0H", PumpState(mri=DECLARED), **field("mri")).trapped_at is None
    assert after(log, "PT0H", UNSEEN, **field("mri")).trapped_at is None


def quiet_after(*days: float, last: str = "PT0H") -> ScanLog:
    """After reports so many days after interference that tell of none."""
    log = ScanLog(interference=(Interference(moment(last), 1),), told_emi=True)
    for day in days:
        log = after(log, f"PT{round(day * 86_400)}S", **field("none"))
    return log


def test_a_day_is_quiet_when_a_report_says_so() -> None:
    """Days end inclusively; several reports of one day count once, and a day without any does not count."""
    assert quiet_after(0.5).quiet == Quiet(1, 0)
    assert quiet_after(0.5, 1.0).quiet == Quiet(1, 0)
    assert quiet_after(0.5, 1.0, 1.1).quiet == Quiet(2, 1)
    assert quiet_after(0.5, 3.5).quiet == Quiet(2, 3)
    assert quiet_after(0.5, 1.0, last="-PT0.000001S").quiet == Quiet(2, 1)


def test_seven_quiet_days_end_the_interference() -> None:
    """At exactly seven days, and with every day's report; later where one was missing."""
    week = (0.5, 1.5, 2.5, 3.5, 4.5, 5.5)

    assert quiet_after(*week, 6.5).interference != ()
    done = quiet_after(*week, 6.5, 7.0)
    assert done == ScanLog(told_emi=True, quiet_at=moment("P7D"))
    assert quiet_after(*week[:-1], 6.5, 7.0).interference != ()
    assert quiet_after(*week[:-1], 6.5, 7.5).quiet_at == moment("P7DT12H")
    assert quiet_after(*week, 6.5, 6.99).quiet_at is None


# Alarms ----------------------------------------------------------------------------------------------------------


def test_alarms_other_than_the_stall_s_sound_until_a_report_without_them() -> None:
    """Four times of sounding are remembered; what a report leaves out goes on."""
    log = after(EMPTY, "PT1H", alarms=["low_reservoir"])
    on = after(log, "PT2H", alarms=["motor_stall", "memory_error"])
    off = after(on, "PT3H", alarms=["motor_stall"])

    assert log == ScanLog(sounding=(Span(moment("PT1H")),))
    assert on is log
    assert after(on, "PT3H") is log
    assert off.sounding == (Span(moment("PT1H"), moment("PT3H")),)
    assert after(off, "PT4H", alarms=[]) is off
    assert after(EMPTY, "PT1H", alarms=["motor_stall"]) is EMPTY
    again = after(off, "PT5H", alarms=["low_reservoir"])
    assert again.sounding == (*off.sounding, Span(moment("PT5H")))
    assert after(again, "PT6H", alarms=[]).sounding == (*off.sounding, Span(moment("PT5H"), moment("PT6H")))
    many = ScanLog(sounding=tuple(Span(moment(f"PT{n}M"), moment(f"PT{n}M30S")) for n in range(KEPT_SPANS)))
    assert after(many, "PT1H", alarms=["low_reservoir"]).sounding == (*many.sounding[1:], Span(moment("PT1H")))


def test_an_alarm_that_begins_with_a_declared_mri_is_trapped() -> None:
    """One that begins later, or at an undeclared one, is not; nor does one that goes on begin."""
    alarms: dict[str, Any] = {"alarms": ["low_reservoir"]}

    assert after(EMPTY, "PT0H", PumpState(mri=DECLARED), **alarms).trapped_at == START
    assert after(EMPTY, "PT1S", PumpState(mri=DECLARED), **alarms).trapped_at is None
    assert after(EMPTY, "PT0H", PumpState(mri=SEEN), **alarms).trapped_at is None
    assert after(EMPTY, "PT0H", UNSEEN, **alarms).trapped_at is None


# A declared MRI --------------------------------------------------------------------------------------------------


def started(log: ScanLog = EMPTY, therapy: Therapy = THERAPY, **state: Any) -> ScanLog:
    """The log after a declared MRI began at the start."""
    return told(log, EventType.MRI_START, "PT0H", PumpState(**{"mri": DECLARED, **state}), therapy)


def test_a_declared_mri_is_an_exposure_up_to_its_end() -> None:
    """Of the program that was told last before it, or at that second."""
    log = ScanLog(programs=(Program("a", moment("-PT1H")), Program("b", START)))
    ended = replace(DECLARED, ended_at=moment("PT30M"))

    assert started(log).exposure == Exposure(START, moment("PT2H"), "b")
    assert started(log, mri=ended).exposure == Exposure(START, moment("PT30M"), "b")
    assert started().exposure == Exposure(START, moment("PT2H"))


def test_an_mri_that_is_not_the_newest_changes_nothing() -> None:
    """Nor one that nobody declared."""
    assert started(mri=replace(DECLARED, start=moment("PT1S"))) is EMPTY
    assert started(mri=SEEN).exposure is None
    assert started(mri=None) is EMPTY


def test_a_program_told_since_an_mri_that_is_told_late_is_held_against_the_one_before() -> None:
    """The first one after it counts at its own time."""
    programs = (Program("a", moment("-PT1H")), Program("b", moment("PT1H")), Program("c", moment("PT2H")))

    log = started(ScanLog(programs=programs))

    assert log.altered == Alteration(moment("PT1H"), START, "a")
    assert log.exposure == Exposure(START, moment("PT2H"), "a", checked=True)
    unknown = started(ScanLog(programs=programs[1:2]))
    assert (unknown.altered, unknown.exposure) == (None, Exposure(START, moment("PT2H"), "b", checked=True))


@pytest.mark.parametrize(
    ("stall", "trapped"),
    [
        (Stall(moment("-PT1S")), True),
        (Stall(START), False),
        (Stall(moment("-PT1H"), moment("PT1S")), True),
        (Stall(moment("-PT1H"), START), False),
    ],
)
def test_a_stall_from_before_a_declared_mri_is_trapped_in_it(stall: Stall, trapped: bool) -> None:
    """One that begins with the field is the field's."""
    assert started(stalls=(stall,)).trapped_at == (START if trapped else None)


def test_an_alarm_that_sounds_when_a_declared_mri_begins_is_trapped() -> None:
    """An alarm alone is enough."""
    assert started(ScanLog(sounding=(Span(moment("-PT1H")),))).trapped_at == START
    assert started(ScanLog(sounding=(Span(moment("-PT1H"), moment("-PT30M")),))).trapped_at is None


def test_a_declared_mri_explains_the_interference_of_its_window() -> None:
    """A quarter before its start to its end, both inclusive; without a profile nothing is explained."""
    times = ("-PT15M1S", "-PT15M", "PT1H", "PT2H", "PT2H1S")
    log = ScanLog(interference=tuple(Interference(moment(at), 1) for at in times))

    left = started(log)

    assert [one.at for one in left.interference] == [moment("-PT15M1S"), moment("PT2H1S")]
    assert started(log, STRICTEST).interference == log.interference


def test_the_end_of_a_declared_mri_ends_its_exposure() -> None:
    """Of another exposure it does not, and the same end changes nothing."""
    ended = PumpState(mri=replace(DECLARED, ended_at=moment("PT30M")))
    log = ScanLog(exposure=Exposure(START, moment("PT2H"), "a", checked=True))
    other = ScanLog(exposure=Exposure(moment("PT1S"), moment("PT2H")))

    done = told(log, EventType.MRI_END, "PT30M", ended)

    assert done == ScanLog(exposure=Exposure(START, moment("PT30M"), "a", checked=True))
    assert told(done, EventType.MRI_END, "PT30M", ended) is done
    assert told(other, EventType.MRI_END, "PT30M", ended) is other
    assert told(EMPTY, EventType.MRI_END, "PT30M", ended) is EMPTY
    assert told(log, EventType.MRI_END, "PT30M") is log


# Levels and delivery ---------------------------------------------------------------------------------------------


def sample(at: str, ml: float) -> Sample:
    """A level."""
    return Sample(ml, moment(at))


@pytest.mark.parametrize(
    ("estimated", "sensed", "level_ml"),
    [
        ((sample("-PT2H", 9.0), sample("PT0H", 8.0), sample("PT1S", 7.0)), None, 8.0),
        ((), sample("PT0H", 8.5), 8.5),
        ((), sample("PT1S", 8.5), None),
        ((), sample("-PT23H59M59S", 8.5), 8.5),
        ((), sample("-P1D", 8.5), None),
        ((sample("-PT1H", 9.0),), sample("-PT1H", 8.5), 9.0),
        ((sample("-PT1H", 8.0),), sample("-PT1H", 8.5), 8.5),
        ((), None, None),
    ],
)
def test_the_level_before_an_mri_is_the_higher_of_those_known(
    estimated: tuple[Sample, ...], sensed: Sample | None, level_ml: float | None
) -> None:
    """Of its own second as well; a measured one counts for a day."""
    log = started(estimated=estimated, measured=sensed)

    assert (log.level_of, log.level_ml) == (START, level_ml)


def levelled(log: ScanLog, at: str, **said: Any) -> float | None:
    """The level before an MRI after a report during it."""
    state = PumpState(mri=DECLARED, refilled_at=said.pop("refilled_at", None))
    return after(log, at, state, **said).level_ml


def test_a_level_told_during_an_mri_counts_where_none_was_known_before() -> None:
    """From its start to its end, both inclusive; of two the higher one."""
    log = ScanLog(level_of=START)

    assert levelled(log, "PT1H", reservoir_estimated_ml=8.0, reservoir_measured_ml=7.0) == 8.0
    assert levelled(log, "PT1H", reservoir_estimated_ml=6.0, reservoir_measured_ml=7.0) == 7.0
    assert levelled(log, "PT2H", reservoir_estimated_ml=8.0) == 8.0
    assert levelled(log, "PT2H1S", reservoir_estimated_ml=8.0) is None
    assert levelled(log, "-PT1S", reservoir_estimated_ml=8.0) is None
    assert levelled(ScanLog(level_of=moment("PT1S")), "PT1H", reservoir_estimated_ml=8.0) is None
    assert levelled(log, "PT1H") is None


def test_a_level_of_the_very_start_of_an_mri_counts_where_it_is_higher() -> None:
    """Later ones do not, nor do lower ones."""
    log = ScanLog(level_of=START, level_ml=7.5)

    assert levelled(log, "PT0H", reservoir_estimated_ml=8.0) == 8.0
    assert levelled(log, "PT0H", reservoir_estimated_ml=7.0) == 7.5
    assert levelled(log, "PT1S", reservoir_estimated_ml=8.0) == 7.5
    assert after(log, "PT0H", PumpState(mri=DECLARED), reservoir_estimated_ml=7.5) is log


def test_a_level_after_a_refill_says_nothing_of_the_one_before_the_mri() -> None:
    """A refill at its very start was before the field."""
    log = ScanLog(level_of=START)

    assert levelled(log, "PT1H", reservoir_estimated_ml=8.0, refilled_at=moment("PT1S")) is None
    assert levelled(log, "PT1H", reservoir_estimated_ml=8.0, refilled_at=START) == 8.0


@pytest.mark.parametrize(
    ("confirmed_at", "known", "delivered_at"),
    [
        ("PT2H", None, None),
        ("PT2H1S", None, "PT2H1S"),
        ("PT3H", "PT2H1S", "PT2H1S"),
        ("PT3H", "PT2H", "PT3H"),
        (None, None, None),
    ],
)
def test_delivery_after_an_mri_is_the_first_that_is_confirmed_after_its_end(
    confirmed_at: str | None, known: str | None, delivered_at: str | None
) -> None:
    """Exclusive; one that belongs to an MRI before is replaced. Events tell it as reports do."""
    state = PumpState(mri=DECLARED, confirmed_at=moment(confirmed_at) if confirmed_at else None)
    log = ScanLog(delivered_at=moment(known) if known else None)

    found = [after(log, "PT4H", state).delivered_at, told(log, EventType.BOLUS, "PT4H", state).delivered_at]

    assert found == [moment(delivered_at) if delivered_at else None] * 2
    frozen = replace(state, frozen_at=START)
    assert after(log, "PT4H", frozen) is log


# Other events ----------------------------------------------------------------------------------------------------


def test_the_newest_interrogation_that_found_the_pump_running_is_remembered() -> None:
    """What another found says nothing here."""
    log = told(EMPTY, EventType.INTERROGATION, "PT1H", result=InterrogationResult.RUNNING)

    assert log == ScanLog(interrogated_at=moment("PT1H"))
    assert told(log, EventType.INTERROGATION, "PT1H", result=InterrogationResult.RUNNING) is log
    newer = told(log, EventType.INTERROGATION, "PT2H", result=InterrogationResult.RUNNING)
    assert newer.interrogated_at == moment("PT2H")
    assert told(EMPTY, EventType.INTERROGATION, "PT1H", result=InterrogationResult.STALLED) is EMPTY


def test_the_latest_word_on_a_planned_mri_counts() -> None:
    """Also one of the same second; an older one does not."""
    plans = [moment("P1D"), moment("P2D"), moment("P3D")]
    log = told(EMPTY, EventType.MRI_SCHEDULED, "PT1H", scheduled_for=plans[0])

    assert log == ScanLog(scheduled_for=plans[0], scheduled_at=moment("PT1H"))
    assert told(log, EventType.MRI_SCHEDULED, "PT1H", scheduled_for=plans[1]).scheduled_for == plans[1]
    assert told(log, EventType.MRI_SCHEDULED, "PT59M", scheduled_for=plans[2]) is log


def test_after_a_valve_s_reset_its_state_is_unknown_until_it_is_told() -> None:
    """What was told since the reset stands; a pump that tells of no valve has none."""
    log = ScanLog(valve="closed", valve_at=moment("PT1H"))

    reset = told(log, EventType.VALVE_RESET, "PT1H")
    assert reset == ScanLog(valve="unknown", valve_at=moment("PT1H"), valve_reset_at=moment("PT1H"))
    assert told(log, EventType.VALVE_RESET, "PT59M").valve == "closed"
    assert told(EMPTY, EventType.VALVE_RESET, "PT1H") == ScanLog(valve_reset_at=moment("PT1H"))
    assert told(reset, EventType.VALVE_RESET, "PT1H") is reset
    assert told(reset, EventType.VALVE_RESET, "PT30M") is reset
    assert told(reset, EventType.VALVE_RESET, "PT2H").valve_reset_at == moment("PT2H")


def test_a_valve_s_state_is_as_of_when_it_was_first_told() -> None:
    """Another word is news."""
    log = after(EMPTY, "PT1H", flow_valve="open")

    assert log == ScanLog(valve="open", valve_at=moment("PT1H"))
    assert after(log, "PT2H", flow_valve="open") is log
    assert after(log, "PT2H", flow_valve="closed") == ScanLog(valve="closed", valve_at=moment("PT2H"))


def test_another_pump_remembers_nothing_of_fields_and_other_events_say_nothing() -> None:
    """A bolus is no news here, and a program change without a program's identity neither."""
    log = ScanLog(trapped_at=START)

    assert told(log, EventType.PUMP_REPLACED, "PT1H") == EMPTY
    assert told(log, EventType.BOLUS, "PT1H") is log
    assert told(log, EventType.PROGRAM_CHANGE, "PT1H") is log
    assert told(log, EventType.STALL_STARTED, "PT1H", new_checksum="b") is log


def _met(at: str) -> ScanLog:
    """A log in which all happened at one moment."""
    moment_at = moment(at)
    return ScanLog(
        sounding=(Span(moment_at),),
        trapped_at=moment_at,
        interrogated_at=moment_at,
        delivered_at=moment_at,
        scheduled_for=moment("P9D"),
        scheduled_at=moment_at,
        valve="open",
        valve_at=moment_at,
        valve_reset_at=moment_at,
        level_of=moment_at,
        level_ml=12.0,
        programs=(Program("a", moment_at),),
        exposure=Exposure(moment_at, moment_at, "a"),
        altered=Alteration(moment_at, moment_at, "a"),
        interference=(Interference(moment_at, 1),),
        quiet=Quiet(2, 2),
        quiet_at=moment_at,
        told_emi=True,
    )


def test_a_replacement_that_is_told_late_keeps_what_came_after_it() -> None:
    """All of it is the new pump's, to the second; a rate is learnt anew."""
    log = replace(_met("PT2H"), rates=Rates((1.0,), START))

    assert told(log, EventType.PUMP_REPLACED, "PT1H59M59S") == _met("PT2H")
    assert told(log, EventType.PUMP_REPLACED, "PT2H") == EMPTY


def test_what_the_old_pump_ran_is_not_held_against_the_new_one() -> None:
    """The program before the field was the old pump's, and of the spans and programs only the newer ones stay."""
    old, new = _met("PT1H"), _met("PT2H")
    log = replace(
        new,
        sounding=(*old.sounding, *new.sounding),
        interference=(*old.interference, *new.interference),
        programs=old.programs,
    )

    kept = told(log, EventType.PUMP_REPLACED, "PT1H30M")

    assert kept == replace(new, programs=(), exposure=Exposure(moment("PT2H"), moment("PT2H"), None))


def test_without_interference_since_nothing_is_known_of_quiet_days() -> None:
    """Whether the new pump tells of interference shows in its reports."""
    log = replace(_met("PT2H"), interference=_met("PT1H").interference)

    kept = told(log, EventType.PUMP_REPLACED, "PT1H30M")

    assert kept == replace(_met("PT2H"), interference=(), quiet=Quiet(), told_emi=False)


# Programs --------------------------------------------------------------------------------------------------------


def test_programs_are_remembered_from_when_they_were_first_told() -> None:
    """By reports and by their own records; an older word than the newest says nothing."""
    log = told(after(EMPTY, "PT1H", program_checksum="a"), EventType.PROGRAM_CHANGE, "PT2H", new_checksum="b")

    assert log.programs == (Program("a", moment("PT1H")), Program("b", moment("PT2H")))
    assert after(log, "PT3H", program_checksum="b") is log
    assert told(log, EventType.PROGRAM_CHANGE, "PT1H59M", new_checksum="c") is log
    assert len(told(log, EventType.PROGRAM_CHANGE, "PT2H", new_checksum="c").programs) == 3
    for number in range(KEPT_PROGRAMS):
        log = after(log, f"PT{4 + number}H", program_checksum=f"c{number}")
    assert [program.checksum for program in log.programs] == [f"c{number}" for number in range(KEPT_PROGRAMS)]


EXPOSED = ScanLog(
    programs=(Program("a", moment("-PT1H")),), exposure=Exposure(START, moment("PT2H"), "a"), told_emi=True
)


def test_the_first_program_told_after_an_exposure_is_laid_to_it_however_late() -> None:
    """A later change for a day after its end, inclusive; one that is the same as before never."""
    first = after(EXPOSED, "P9D", program_checksum="b")
    same = after(EXPOSED, "PT3H", program_checksum="a")

    assert first.altered == Alteration(moment("P9D"), START, "a")
    assert first.exposure == Exposure(START, moment("PT2H"), "a", checked=True)
    assert (same.altered, same.exposure) == (None, first.exposure)
    assert after(same, "PT26H", program_checksum="b").altered == Alteration(moment("PT26H"), START, "a")
    assert after(same, "PT26H1S", program_checksum="b").altered is None


def test_of_one_exposure_the_first_change_is_remembered() -> None:
    """Another exposure has one of its own."""
    changed = after(EXPOSED, "PT3H", program_checksum="b")
    again = after(changed, "PT4H", program_checksum="c")
    other = replace(changed, exposure=Exposure(moment("PT5H"), moment("PT5H"), "b"))

    assert again.altered == changed.altered
    assert after(other, "PT6H", program_checksum="c").altered == Alteration(moment("PT6H"), moment("PT5H"), "b")


def test_a_program_told_before_an_exposure_is_none_after_it() -> None:
    """At its very second it is."""
    late = replace(EXPOSED, programs=())

    early = told(late, EventType.PROGRAM_CHANGE, "-PT1S", new_checksum="b")
    assert (early.altered, early.exposure) == (None, EXPOSED.exposure)
    assert told(late, EventType.PROGRAM_CHANGE, "PT0H", new_checksum="b").altered == Alteration(START, START, "a")


def test_where_no_program_was_known_before_the_first_one_after_it_is_taken_for_it() -> None:
    """A change after that is one."""
    log = ScanLog(exposure=Exposure(START, START))

    first = after(log, "PT1H", program_checksum="a")

    assert (first.altered, first.exposure) == (None, Exposure(START, START, "a", checked=True))
    assert after(first, "PT2H", program_checksum="b").altered == Alteration(moment("PT2H"), START, "a")
    unnamed = ScanLog(exposure=Exposure(START, START, checked=True))
    assert after(unnamed, "PT1H", program_checksum="a").exposure == Exposure(START, START, "a", checked=True)


# Rates -----------------------------------------------------------------------------------------------------------


def rated(log: ScanLog, at: str, rate: float, **said: Any) -> ScanLog:
    """The log after a rate of a pump that tells no program."""
    return after(log, at, **{RATE: rate, **said})


def test_a_schedule_s_rates_are_learnt_where_no_program_is_told() -> None:
    """Rates within one percent are the same one; no rate and a stopped pump's say nothing."""
    log = rated(rated(EMPTY, "PT1H", 1.0), "PT2H", 2.0)

    assert log == ScanLog(rates=Rates((1.0, 2.0), moment("PT1H")))
    assert rated(log, "PT3H", 1.0) is log
    assert rated(log, "PT3H", 0.991) is log
    assert rated(log, "PT3H", 1.985) is log
    assert rated(log, "PT3H", 0.98).rates.values == (1.0, 2.0, 0.98)
    assert rated(EMPTY, "PT3H", 0.0) is EMPTY
    assert rated(EMPTY, "PT3H", 1.0, motor="stopped") is EMPTY
    known = ScanLog(programs=(Program("a", START),))
    assert rated(known, "PT3H", 1.0) is known
    assert rated(EMPTY, "PT3H", 1.0, program_checksum="a").rates == Rates()


def test_more_than_eight_rates_are_no_schedule() -> None:
    """Nothing is concluded from them, whatever comes."""
    log = EMPTY
    for number in range(KEPT_RATES):
        log = rated(log, f"PT{number}H", 1.0 + number)

    assert len(log.rates.values) == KEPT_RATES
    varied = rated(log, "P1D", 20.0)
    assert varied == ScanLog(rates=Rates(varied=True))
    exposed = replace(varied, exposure=Exposure(moment("P2D"), moment("P2D")))
    assert rated(exposed, "P3D", 1.0) is exposed


def rates_exposed(at: str, *, checked: bool = False) -> ScanLog:
    """A schedule of two rates since the start, and an exposure of an hour."""
    start = moment(at)
    return ScanLog(rates=Rates((0.5, 1.25), START), exposure=Exposure(start, start + timedelta(hours=1), None, checked))


def test_a_rate_never_seen_in_a_day_before_an_exposure_is_laid_to_it() -> None:
    """The day is inclusive; the rates before are told as they were."""
    log = rated(rates_exposed("P1D"), "P9D", 3.0)

    assert log.altered == Alteration(moment("P9D"), moment("P1D"), "0.5, 1.25", schedule=True)
    assert log.exposure == rates_exposed("P1D", checked=True).exposure
    assert log.rates.values == (0.5, 1.25, 3.0)
    assert rated(rates_exposed("PT23H59M59S"), "P9D", 3.0).altered is None
    unlearnt = replace(rates_exposed("P1D"), rates=Rates())
    assert rated(unlearnt, "P9D", 3.0).altered is None


@pytest.mark.parametrize(("at", "laid"), [("P2DT1H", True), ("P2DT1H1S", False)])
def test_after_the_first_rate_another_is_laid_to_an_exposure_for_a_day(at: str, laid: bool) -> None:
    """After its end, inclusive."""
    log = rated(rates_exposed("P1D", checked=True), at, 3.0)

    assert (log.altered is not None) is laid
    assert log.exposure == rates_exposed("P1D", checked=True).exposure


def test_a_known_rate_after_an_exposure_is_the_first_word_on_the_program() -> None:
    """And after that the log stays the same object."""
    log = rated(rates_exposed("P1D"), "P2D", 0.5)

    assert log == rates_exposed("P1D", checked=True)
    assert rated(log, "P2DT1H", 1.25) is log
    assert rated(rates_exposed("P1D"), "P1D", 0.5) == log


def test_a_rate_told_before_an_exposure_says_nothing_of_it() -> None:
    """It is learnt all the same."""
    log = rated(rates_exposed("P1D"), "PT23H", 3.0)

    assert (log.altered, log.exposure) == (None, rates_exposed("P1D").exposure)
    assert log.rates.values == (0.5, 1.25, 3.0)


def test_what_is_told_of_the_rates_before_is_short() -> None:
    """64 characters."""
    values = tuple(1.23456 + number for number in range(KEPT_RATES))
    log = replace(rates_exposed("P1D"), rates=Rates(values, START))

    altered = rated(log, "P2D", 20.0).altered

    assert altered is not None
    assert altered.before == "1.23456, 2.23456, 3.23456, 4.23456, 5.23456, 6.23456, 7.23456, 8"
