"""Programs, doses and boluses: what is told twice is one change, and what a day's mean says of the dose."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from streams.domain.observing.boluses import KEPT_BOLUSES, KEPT_DENIALS, Bolus, BolusLog, Use, noted, site_day
from streams.domain.observing.dosing import (
    KEPT_BRIDGES,
    KEPT_CHANGES,
    Basis,
    Change,
    Complaint,
    Dose,
    DoseHistory,
    DosingLog,
    Program,
    happened,
    measured,
)
from streams.domain.observing.schedule import KEPT_RATES, Mean, Rate, Schedule, mean, parts, reprogrammed, said_at, told
from streams.domain.observing.series import Series, added
from streams.domain.profile import STRICTEST, Therapy
from streams.domain.telemetry import Event, EventType
from streams.domain.world import PumpState
from streams.rehearsal import START, moment, profiles_of, received_of

THERAPY = profiles_of({}).therapy(START)
EMPTY, UNSEEN, UNHEARD = DosingLog(), PumpState(), Schedule()
DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)


def about(value: float) -> Any:
    """The number, as exact as arithmetic lets it be."""
    return pytest.approx(value)


def after(log: DosingLog, at: str, state: PumpState = UNSEEN, therapy: Therapy = STRICTEST, **said: Any) -> DosingLog:
    """The log after a report, of a pump without a profile unless said otherwise."""
    return measured(log, state, therapy, received_of({"at": at, "motor": "running", **said}, 0).report)


def told_of(
    log: DosingLog, kind: EventType, at: str, state: PumpState = UNSEEN, therapy: Therapy = THERAPY, **fields: Any
) -> DosingLog:
    """The log after an event."""
    return happened(log, state, therapy, Event(type=kind, **fields), moment(at))


# Programs --------------------------------------------------------------------------------------------------------


def test_another_checksum_is_a_change_of_program() -> None:
    """The first one ever seen is none, the same one says nothing."""
    first = after(EMPTY, "PT0H", program_checksum="a")
    other = after(first, "PT1H", program_checksum="b")

    assert first.program == Program("a")
    assert after(first, "PT1H", program_checksum="a") is first
    assert after(first, "PT1H") is first
    at = moment("PT1H")
    assert other.program == Program("b", (Change(at, at, "b"),), at)


def test_eight_changes_are_remembered() -> None:
    """The newest ones."""
    log = EMPTY
    for hour in range(KEPT_CHANGES + 2):
        log = after(log, f"PT{hour}H", program_checksum=f"c{hour}")

    assert [change.checksum for change in log.program.changes] == [f"c{hour}" for hour in range(2, KEPT_CHANGES + 2)]


def test_a_recorded_change_is_told_when_its_report_came() -> None:
    """By the clock; its checksum is the running one."""
    state = PumpState(clock=moment("PT3H"))

    log = told_of(EMPTY, EventType.PROGRAM_CHANGE, "PT1H", state, new_checksum="b", session_id="S")

    change = Change(moment("PT1H"), moment("PT3H"), "b", "S", recorded=True)
    assert log.program == Program("b", (change,), moment("PT1H"))
    newer = told_of(EMPTY, EventType.PROGRAM_CHANGE, "PT4H", state, new_checksum="b")
    assert newer.program.changes[0].told_at == moment("PT4H")


SEEN = Program("b", (Change(moment("-P9D"), START, "x"), Change(START, START, "b")), START)


@pytest.mark.parametrize(
    ("at", "checksum", "takes"),
    [("PT0H", "b", True), ("-P1D", "b", True), ("-P1DT1S", "b", False), ("PT1S", "b", False), ("PT0H", "c", False)],
)
def test_a_record_takes_the_place_of_the_change_that_its_checksum_showed(at: str, checksum: str, takes: bool) -> None:
    """Up to a day later, inclusive, and never earlier."""
    log = told_of(DosingLog(program=SEEN), EventType.PROGRAM_CHANGE, at, new_checksum=checksum)

    record = Change(moment(at), moment(at), checksum, recorded=True)
    assert log.program.changes == (SEEN.changes[0], *(() if takes else SEEN.changes[1:]), record)
    assert log.program.changed_at == (START if takes else max(START, moment(at)))


def test_a_record_never_takes_the_place_of_another_record() -> None:
    """It is another change; of two that were only seen, the newer one is meant."""
    seen = (Change(START, START, "b"), Change(START + HOUR, START, "c"), Change(START + 2 * HOUR, START, "b"))
    record = replace(seen[0], recorded=True)

    known = told_of(
        DosingLog(program=Program("b", (record,), START)), EventType.PROGRAM_CHANGE, "PT0H", new_checksum="b"
    )
    newer = told_of(DosingLog(program=Program("b", seen, START)), EventType.PROGRAM_CHANGE, "PT0H", new_checksum="b")

    assert len(known.program.changes) == 2
    assert newer.program.changes == (*seen[:2], record)


@pytest.mark.parametrize(("at", "checksum"), [("PT0H", "c"), ("PT1H", "c"), ("-PT1S", "b")])
def test_the_newest_record_says_which_program_runs(at: str, checksum: str) -> None:
    """One of the same second does; one without a checksum leaves it unknown."""
    log = told_of(DosingLog(program=SEEN), EventType.PROGRAM_CHANGE, at, new_checksum="c")

    assert log.program.checksum == checksum
    assert told_of(DosingLog(program=SEEN), EventType.PROGRAM_CHANGE, "PT1H").program.checksum is None


def test_a_change_that_moves_the_program_on_makes_its_rates_be_told_anew() -> None:
    """One that was known already does not, nor an older one."""
    schedule = Schedule((Rate(START, 0.5),), START)
    log = DosingLog(program=SEEN, schedule=schedule)

    assert told_of(log, EventType.PROGRAM_CHANGE, "PT1H").schedule == replace(schedule, heard_at=None)
    assert told_of(log, EventType.PROGRAM_CHANGE, "PT0H", new_checksum="b").schedule == schedule
    assert told_of(log, EventType.PROGRAM_CHANGE, "-PT1H").schedule == schedule
    assert after(log, "PT1H", program_checksum="c").schedule == replace(schedule, heard_at=None)
    late = DosingLog(program=replace(SEEN, changed_at=moment("PT2H")), schedule=schedule)
    assert after(late, "PT1H", program_checksum="c").schedule == schedule
    unnamed = DosingLog(schedule=schedule)
    assert after(unnamed, "PT1H", program_checksum="c").schedule == schedule


def test_another_pump_runs_a_program_of_its_own() -> None:
    """Its patient and the patient's boluses are the same."""
    log = DosingLog(
        program=SEEN,
        schedule=Schedule((Rate(START, 0.5),)),
        history=DoseHistory("baclofen"),
        rate=0.5,
        occluded_at=START,
    )

    assert told_of(log, EventType.PUMP_REPLACED, "PT1H") == replace(log, program=Program(), schedule=Schedule())
    assert told_of(log, EventType.MRI_START, "PT1H") is log


def test_symptoms_are_told_when_their_report_came() -> None:
    """The newest report of them counts."""
    log = told_of(EMPTY, EventType.SYMPTOM_REPORT, "PT1H", PumpState(clock=moment("PT2H")), codes=("itching", "fever"))

    assert log == DosingLog(complaint=Complaint(moment("PT1H"), moment("PT2H"), ("itching", "fever")))
    assert told_of(log, EventType.SYMPTOM_REPORT, "PT3H").complaint == Complaint(moment("PT3H"), moment("PT3H"), ())


def test_an_occlusion_is_remembered_from_when_it_was_last_said() -> None:
    """Among other alarms too."""
    log = after(EMPTY, "PT1H", alarms=["low_reservoir", "catheter_occlusion"])

    assert log.occluded_at == moment("PT1H")
    assert after(log, "PT2H", alarms=["catheter_occlusion"]).occluded_at == moment("PT2H")
    assert after(log, "PT2H", alarms=["low_reservoir"]) is log


# Rates and doses -------------------------------------------------------------------------------------------------


def test_a_stopped_pump_tells_no_rate_of_its_program() -> None:
    """A zero of one that runs is a rate, and what a stopped one tells otherwise is none of its schedule."""
    log = after(EMPTY, "PT0H", flow_programmed_ml_per_day=0.5)
    stopped = PumpState(motor="stopped")

    assert (log.rate, log.schedule) == (0.5, Schedule((Rate(START, 0.5),), START))
    assert after(log, "PT10M", flow_programmed_ml_per_day=0.5) is log
    rest = after(log, "PT2H", stopped, flow_programmed_ml_per_day=0.0)
    zero = after(log, "PT2H", flow_programmed_ml_per_day=0.0)
    kept = after(log, "PT2H", stopped, flow_programmed_ml_per_day=0.7)
    assert (rest.rate, zero.rate, kept.rate) == (None, 0.0, 0.7)
    assert rest.schedule == zero.schedule == kept.schedule == log.schedule


def test_a_dose_is_judged_once_a_day_and_kept_where_it_changes() -> None:
    """By more than half a percent, exclusive; of the screened drug alone."""
    log = after(EMPTY, "PT0H", therapy=THERAPY, flow_programmed_ml_per_day=0.5)
    same_day = after(log, "PT23H", therapy=THERAPY, flow_programmed_ml_per_day=0.9)

    assert log.history == DoseHistory("baclofen", START, (Dose(START, 250.0),))
    assert same_day.history == log.history

    def dosed(rate: float) -> tuple[float, ...]:
        fresh = replace(log, schedule=Schedule())
        return tuple(
            dose.ug for dose in after(fresh, "P1D", therapy=THERAPY, flow_programmed_ml_per_day=rate).history.doses
        )

    assert dosed(0.5025) == (250.0,)
    assert dosed(0.5026) == (250.0, 251.3)
    assert dosed(0.4975) == (250.0,)
    assert dosed(0.497) == (250.0, 248.5)
    judged = after(replace(log, schedule=Schedule()), "P1D", therapy=THERAPY, flow_programmed_ml_per_day=0.5).history
    assert judged == DoseHistory("baclofen", moment("P1D"), log.history.doses)


def test_a_dose_of_a_schedule_with_steps_is_its_mean() -> None:
    """Twelve hours each of 0.5 and 0.9 mL/day."""
    log = DosingLog(schedule=Schedule((Rate(START, 0.5), Rate(moment("PT12H"), 0.9)), moment("PT23H30M")))

    assert after(log, "P1D", therapy=THERAPY, flow_programmed_ml_per_day=0.9).history.doses == (
        Dose(moment("P1D"), 350.0),
    )


def test_a_dose_is_told_to_a_thousandth_of_a_microgram() -> None:
    """More is arithmetic."""
    log = after(EMPTY, "PT0H", therapy=THERAPY, flow_programmed_ml_per_day=0.1234567)

    assert log.history.doses[0].ug == 61.728


def test_of_a_mix_the_screened_drug_is_followed() -> None:
    """Another one begins anew, and without one or without a profile there is no history."""
    mix = [
        {"name": "bupivacaine", "concentration_ug_per_ml": 5000.0},
        {"name": "morphine", "concentration_ug_per_ml": 1000.0},
    ]
    mixed = profiles_of({"drugs": mix}).therapy(START)
    none = profiles_of({"drugs": mix[:1]}).therapy(START)
    log = after(EMPTY, "PT0H", therapy=THERAPY, flow_programmed_ml_per_day=0.5)

    other = after(log, "P1D", therapy=mixed, flow_programmed_ml_per_day=0.5)
    assert other.history == DoseHistory("morphine", moment("P1D"), (Dose(moment("P1D"), 500.0),))
    assert after(log, "P1D", therapy=none, flow_programmed_ml_per_day=0.5).history == DoseHistory()
    assert after(log, "P1D", flow_programmed_ml_per_day=0.5).history == DoseHistory()
    judged = DosingLog(history=DoseHistory("baclofen"))
    assert after(judged, "P1D", flow_programmed_ml_per_day=0.5).history is judged.history


def test_a_mean_that_is_not_known_says_nothing_of_the_dose() -> None:
    """A step since the first report, and no day is over; a new drug is noted all the same."""
    schedule = Schedule((Rate(START, 0.5), Rate(moment("PT20H"), 0.9)), moment("PT20H"))
    history = DoseHistory("baclofen", moment("-P1D"), (Dose(moment("-P1D"), 100.0),))
    log = DosingLog(schedule=schedule, history=history)

    assert after(log, "PT20H30M", therapy=THERAPY, flow_programmed_ml_per_day=0.9).history == history
    other = replace(log, history=replace(history, drug="morphine"))
    assert after(other, "PT20H30M", therapy=THERAPY, flow_programmed_ml_per_day=0.9).history == DoseHistory("baclofen")


def test_doses_are_kept_for_ninety_two_days() -> None:
    """The one in force then is the oldest; its next is dropped a second after that."""
    doses = (Dose(moment("-P9D"), 100.0), Dose(START, 200.0), Dose(moment("P2D"), 250.0))

    def left(at: str) -> tuple[float, ...]:
        log = DosingLog(history=DoseHistory("baclofen", moment("P3D"), doses))
        return tuple(dose.ug for dose in after(log, at, therapy=THERAPY, flow_programmed_ml_per_day=0.5).history.doses)

    assert (left("P92D"), left("P92DT1S")) == ((100.0, 200.0, 250.0), (200.0, 250.0))
    assert left("P400D") == (250.0,)


# The prescription ------------------------------------------------------------------------------------------------


def based(*changes: dict[str, Any]) -> list[Therapy]:
    """Therapies by versions of the profile, one a day."""
    later = [{"from": f"P{day}D", **change} for day, change in enumerate(changes, 1)]
    profiles = profiles_of({}, later)
    return [profiles.therapy(moment(f"P{day}D")) for day in range(len(changes) + 1)]


def test_the_prescription_is_as_the_profile_said_first() -> None:
    """Without a profile nothing is known of it, and what was known stays."""
    log = after(EMPTY, "PT0H", therapy=THERAPY)

    assert THERAPY.valid_from is not None
    assert log.basis == Basis(THERAPY.valid_from, "baclofen", 500.0, 240.0)
    assert after(log, "PT1H", therapy=THERAPY) is log
    assert after(log, "PT1H") is log
    assert after(EMPTY, "PT0H") is EMPTY


def test_what_changed_of_a_prescription_is_told_apart() -> None:
    """Another version, another dose, another concentration, another drug."""
    same, dose, strong, drug = based(
        {"site": "elsewhere"},
        {"prescribed_ug_per_day": 250.0},
        {"drugs": [{"name": "baclofen", "concentration_ug_per_ml": 1000.0}]},
        {"drugs": [{"name": "morphine", "concentration_ug_per_ml": 1000.0}]},
    )[1:]
    log = after(EMPTY, "PT0H", therapy=THERAPY)
    days = [moment(f"P{day}D") for day in range(5)]

    moved = after(log, "P1D", therapy=same)
    raised = after(moved, "P2D", therapy=dose)
    stronger = after(raised, "P3D", therapy=strong)
    other = after(stronger, "P4D", therapy=drug)

    assert moved.basis == Basis(days[1], "baclofen", 500.0, 240.0)
    assert raised.basis == Basis(days[2], "baclofen", 500.0, 250.0, changed_at=days[2])
    assert stronger.basis == Basis(days[3], "baclofen", 1000.0, 250.0, days[3], days[3])
    assert other.basis == Basis(days[4], "morphine", 1000.0, 250.0, days[4], days[4])


def test_a_change_of_dose_keeps_what_is_known_of_the_concentration() -> None:
    """And so does another version of the same."""
    dose, same = based({"prescribed_ug_per_day": 250.0}, {"site": "elsewhere"})[1:]
    known = Basis(moment("-P9D"), "baclofen", 500.0, 240.0, moment("-P8D"), moment("-P9D"), (moment("-P9D"),))

    raised = after(DosingLog(basis=known), "P1D", therapy=dose)
    again = after(raised, "P2D", therapy=same)

    expected = replace(known, version=moment("P1D"), prescribed=250.0, changed_at=moment("P1D"))
    assert raised.basis == expected
    assert again.basis == replace(expected, version=moment("P2D"))


@pytest.mark.parametrize(
    ("at", "counts"), [("PT19H59M59S", False), ("PT20H", True), ("P2DT4H", True), ("P2DT4H1S", False)]
)
def test_boluses_around_a_changed_concentration_may_be_its_bridge(at: str, counts: bool) -> None:
    """From four hours before it to twenty-eight after, inclusive; those told before and after it."""
    strong = based({"drugs": [{"name": "baclofen", "concentration_ug_per_ml": 1000.0}]})[1]
    first = after(EMPTY, "PT0H", therapy=THERAPY)
    said: dict[str, Any] = {"outcome": "delivered", "volume_ml": 0.1}

    before = after(told_of(first, EventType.BOLUS, at, **said), "P1D", therapy=strong)
    since = told_of(after(first, "P1D", therapy=strong), EventType.BOLUS, at, **said)
    denied = told_of(after(first, "P1D", therapy=strong), EventType.BOLUS, at, outcome="denied", volume_ml=0.1)

    bridges = (moment(at),) if counts else ()
    assert before.basis is not None
    assert since.basis is not None
    assert denied.basis is not None
    assert (before.basis.bridges, since.basis.bridges, denied.basis.bridges) == (bridges, bridges, ())


def test_the_first_bridges_are_remembered() -> None:
    """Eight of them, each after the one before."""
    basis = Basis(START, "baclofen", 500.0, 240.0, START, START)
    log = DosingLog(basis=basis)
    for minute in range(KEPT_BRIDGES + 1):
        log = told_of(log, EventType.BOLUS, f"PT{minute}M", outcome="delivered", volume_ml=0.1)

    assert log.basis is not None
    assert log.basis.bridges == tuple(moment(f"PT{minute}M") for minute in range(KEPT_BRIDGES))


# Boluses ---------------------------------------------------------------------------------------------------------


def noting(log: BolusLog, at: str, outcome: Any, ml: float | None = 0.5, therapy: Therapy = THERAPY) -> BolusLog:
    """The log after a bolus that is told an hour later."""
    event = Event(type=EventType.BOLUS, outcome=outcome, volume_ml=ml)
    return noted(log, therapy, event, moment(at), moment(at) + HOUR)


def test_a_delivered_bolus_is_noted_in_its_place() -> None:
    """With its volume, and the day that it was at the site; what was only asked for says nothing."""
    log = noting(noting(BolusLog(), "PT2H", "delivered"), "PT1H", "delivered", 0.25)

    day = START.toordinal()
    assert log == BolusLog(
        (Bolus(moment("PT1H"), 0.25, moment("PT2H")), Bolus(moment("PT2H"), 0.5, moment("PT3H"))),
        days=(Use(day, 2, 0.75),),
    )
    assert noting(log, "PT3H", "requested") is log
    unknown = noting(BolusLog(), "PT1H", "delivered", None)
    assert (unknown.delivered[0].ml, unknown.days) == (0.0, (Use(day, 1, 0.0),))
    state = PumpState(clock=moment("PT9H"))
    told_late = told_of(EMPTY, EventType.BOLUS, "PT1H", state, outcome="delivered", volume_ml=0.25)
    assert told_late.boluses == BolusLog((Bolus(moment("PT1H"), 0.25, moment("PT9H")),), days=(Use(day, 1, 0.25),))
    assert told_of(EMPTY, EventType.BOLUS, "PT1H", outcome="requested", volume_ml=0.25) is EMPTY


def test_boluses_of_a_day_are_kept() -> None:
    """Exclusive, by the latest; one that is told late is kept itself all the same."""
    log = noting(noting(BolusLog(), "PT0H", "delivered"), "PT1S", "delivered")

    assert [bolus.at for bolus in noting(log, "P1D", "delivered").delivered] == [START + SECOND, START + DAY]
    late = noting(noting(BolusLog(), "P9D", "delivered"), "P1D", "delivered")
    assert [bolus.at for bolus in late.delivered] == [moment("P1D"), moment("P9D")]
    many = BolusLog()
    for number in range(KEPT_BOLUSES + 1):
        many = noting(many, f"PT{number}M", "delivered")
    assert [bolus.at for bolus in many.delivered] == [moment(f"PT{n}M") for n in range(1, KEPT_BOLUSES + 1)]


def test_denials_of_a_day_are_kept() -> None:
    """Exclusive, by the latest; sixteen of them, in order."""
    log = noting(noting(BolusLog(), "PT0H", "denied"), "PT1S", "denied")

    assert noting(log, "P1D", "denied") == BolusLog(denied=(START + SECOND, START + DAY))
    late = noting(BolusLog(denied=(moment("PT23H"),)), "-PT1H", "denied")
    assert late.denied == (moment("PT23H"),)
    assert noting(BolusLog(denied=(moment("PT3H"),)), "PT1H", "denied").denied == (moment("PT1H"), moment("PT3H"))
    many = BolusLog()
    for number in range(KEPT_DENIALS + 1):
        many = noting(many, f"PT{number}M", "denied")
    assert many.denied == tuple(moment(f"PT{n}M") for n in range(1, KEPT_DENIALS + 1))
    both = noting(noting(BolusLog(), "PT1H", "denied"), "PT2H", "delivered")
    assert both.denied == (moment("PT1H"),)


def test_the_use_of_seven_days_is_kept() -> None:
    """Days of the site, in order, also of those told late."""
    log = BolusLog()
    for day in (0, 1, 7, 3, 0):
        log = noting(log, f"P{day}D", "delivered")

    first = START.toordinal()
    assert [(use.day - first, use.count) for use in log.days] == [(1, 1), (3, 1), (7, 1)]
    tokyo = profiles_of({}, zone=ZoneInfo("Asia/Tokyo")).therapy(START)
    assert site_day(tokyo, moment("PT15H")) == first + 1
    assert noting(BolusLog(), "PT15H", "delivered", therapy=tokyo).days == (Use(first + 1, 1, 0.5),)


# Schedules -------------------------------------------------------------------------------------------------------


def hearing(*rates: tuple[str, float], schedule: Schedule = UNHEARD) -> Schedule:
    """The schedule after rates were told."""
    for at, rate in rates:
        schedule = told(schedule, THERAPY, moment(at), rate)
    return schedule


def test_a_rate_is_noted_when_it_changes_and_heard_once_an_hour() -> None:
    """After exactly an hour it is heard again."""
    first = hearing(("PT0H", 0.5))

    assert first == Schedule((Rate(START, 0.5),), START)
    assert hearing(("PT59M59S", 0.5), schedule=first) is first
    assert hearing(("PT1H", 0.5), schedule=first) == Schedule((Rate(START, 0.5),), moment("PT1H"))
    assert hearing(("PT1M", 0.7), schedule=first) == Schedule(
        (Rate(START, 0.5), Rate(moment("PT1M"), 0.7)), moment("PT1M")
    )
    anew = replace(first, heard_at=None)
    assert hearing(("PT1M", 0.5), schedule=anew) == replace(first, heard_at=moment("PT1M"))


@pytest.mark.parametrize(("interval", "longest"), [(900, 2 * HOUR), (3600, 4 * HOUR)])
def test_a_gap_is_longer_than_a_value_counts(interval: int, longest: timedelta) -> None:
    """Three intervals, an hour at least, and an hour because it is heard hourly; inclusive."""
    therapy = profiles_of({"expected_interval_seconds": interval}).therapy(START)
    first = hearing(("PT0H", 0.5))

    assert told(first, therapy, START + longest, 0.5).gap_ended_at is None
    gap = told(first, therapy, START + longest + SECOND, 0.5)
    assert gap.gap_ended_at is not None
    assert gap.gap_ended_at == START + longest + SECOND
    assert told(gap, therapy, gap.gap_ended_at + HOUR, 0.5).gap_ended_at == gap.gap_ended_at
    assert told(replace(first, heard_at=None), therapy, START + 9 * DAY, 0.5).gap_ended_at is None


def test_the_rates_of_a_day_are_kept_with_the_one_in_force_before() -> None:
    """It is dropped when the next one is a day old; and no more than a schedule can have."""
    two = hearing(("PT0H", 0.5), ("PT6H", 0.7))

    assert len(hearing(("PT29H59M59S", 0.7), schedule=two).rates) == 2
    assert hearing(("PT30H", 0.7), schedule=two).rates == (Rate(moment("PT6H"), 0.7),)
    many = hearing(*((f"PT{minute}M", 1.0 + minute) for minute in range(KEPT_RATES + 1)))
    assert [rate.at for rate in many.rates] == [moment(f"PT{n}M") for n in range(1, KEPT_RATES + 1)]
    stepped = hearing(("PT30H", 0.7), schedule=replace(two, had_steps=True))
    assert stepped.had_steps


def test_after_a_change_of_program_its_rate_must_be_told_anew() -> None:
    """What is known of the day before is whether it had steps."""
    two = hearing(("PT0H", 0.5), ("PT6H", 0.7))

    assert reprogrammed(two, moment("PT12H")) == replace(two, heard_at=None, had_steps=True)
    assert not reprogrammed(two, moment("PT30H")).had_steps
    assert not reprogrammed(two, moment("PT6H")).had_steps
    assert not reprogrammed(hearing(("PT0H", 0.5)), moment("PT12H")).had_steps


def test_parts_of_a_time_are_as_long_as_their_rates_were_in_force() -> None:
    """Those of no length are left out."""
    three = hearing(("PT0H", 0.5), ("PT6H", 0.7), ("PT9H", 0.5))

    assert list(parts(three, moment("PT3H"), moment("PT12H"))) == [(0.5, 3 * HOUR), (0.7, 3 * HOUR), (0.5, 3 * HOUR)]
    assert list(parts(three, moment("PT6H"), moment("PT9H"))) == [(0.7, 3 * HOUR)]


def test_a_mean_is_known_a_day_after_the_first_rate_and_after_a_gap() -> None:
    """Inclusive; a rate that never changed is its own mean. A step may have been up to an interval earlier."""
    two = Schedule((Rate(START, 0.5), Rate(moment("PT6H"), 0.7)), moment("PT6H"))
    error = 0.2 * (7.5 / 1440)

    assert mean(Schedule(), THERAPY, START) is None
    assert mean(hearing(("PT0H", 0.5)), THERAPY, START) == Mean(0.5, START)
    assert mean(two, THERAPY, moment("PT23H59M59S")) is None
    assert mean(two, THERAPY, moment("P1D")) == Mean(about(0.65), moment("P1D"), about(error))
    gap = replace(two, gap_ended_at=moment("PT3H"))
    assert mean(gap, THERAPY, moment("PT26H59M59S")) is None
    assert mean(gap, THERAPY, moment("PT27H")) == Mean(about((3 * 0.5 + 21 * 0.7) / 24), moment("PT27H"), about(error))
    assert mean(two, THERAPY, moment("PT30H")) == Mean(0.7, moment("PT6H"))


def test_the_mean_of_the_day_before_follows_from_the_latest_rate_and_a_day_after_it() -> None:
    """Of a schedule with steps."""
    two = hearing(("PT0H", 0.5), ("PT6H", 0.7))

    assert list(said_at(two)) == [moment("PT6H"), moment("PT30H")]
    assert list(said_at(hearing(("PT0H", 0.5)))) == []
    assert list(said_at(replace(two, heard_at=None))) == []


# Series ----------------------------------------------------------------------------------------------------------


def test_a_series_has_a_place_for_each_step_of_time() -> None:
    """Those without a number are left out when it is told; the first number of a place counts."""
    series = added(added(Series(), 5, 50, 10), 8, 80, 10)

    assert series == Series(8, (50, 0, 0, 80))
    assert list(series.told()) == [(5, 50), (8, 80)]
    assert added(series, 8, 81, 10) is series
    assert added(series, 7, 70, 10) is series
    assert added(series, 9, 90, 10) == Series(9, (50, 0, 0, 80, 90))


def test_a_series_forgets_what_is_older_than_its_places() -> None:
    """One that was silent for as long begins anew."""
    series = Series(5, (40, 50))

    assert added(series, 7, 70, 3) == Series(7, (50, 0, 70))
    assert added(series, 8, 80, 3) == Series(8, (0, 0, 80))
    assert added(series, 9, 90, 3) == Series(9, (90,))
