"""Refills: what is compared with what was put in, what confirms it, and what each filling showed."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from streams.domain.memory import Point
from streams.domain.observing.fills import (
    MAX_OUTCOMES,
    MAX_RESTARTS,
    MAX_SHORTFALLS,
    Check,
    Emptying,
    Fill,
    FillLog,
    Outcome,
    Restart,
    Shortfall,
    happened,
    measured,
    over_infused,
    refill_ratios,
)
from streams.domain.observing.volumes import Reading, VolumeLog
from streams.domain.profile import STRICTEST, Therapy
from streams.domain.telemetry import Event, EventType, InterrogationResult
from streams.domain.world import PumpState, Resumption, Sample
from streams.rehearsal import START, moment, profiles_of, received_of

THERAPY = profiles_of({}).therapy(START)
LARGE = profiles_of({"reservoir_ml": 40}).therapy(START)
EMPTY, UNSEEN = FillLog(), PumpState()
BACLOFEN = (("baclofen", 500.0),)
KNOWN: dict[str, Any] = {"drugs": BACLOFEN, "profile_from": THERAPY.valid_from}


def after(log: FillLog, at: str, state: PumpState = UNSEEN, therapy: Therapy = THERAPY, **said: Any) -> FillLog:
    """The log after a report."""
    return measured(log, state, therapy, received_of({"at": at, "motor": "running", **said}, 0).report)


def told(
    log: FillLog, kind: EventType, at: str, state: PumpState = UNSEEN, therapy: Therapy = THERAPY, **fields: Any
) -> FillLog:
    """The log after an event."""
    return happened(log, state, therapy, Event(type=kind, **fields), moment(at))


def checked(log: FillLog) -> Check:
    """The refill that is checked."""
    assert log.check is not None
    return log.check


CHECKED = FillLog(check=Check(START, 18.0), drugs=BACLOFEN, profile_from=THERAPY.valid_from)


@pytest.mark.parametrize(("therapy", "plausible"), [(THERAPY, 1.0), (STRICTEST, 1.0), (LARGE, 2.0)])
def test_a_level_confirms_a_refill_by_the_size_of_the_reservoir(therapy: Therapy, plausible: float) -> None:
    """Up to 1 mL below what was put in, in a large reservoir up to 2 mL; both inclusive."""
    log = replace(CHECKED, profile_from=therapy.valid_from)

    enough = after(log, "PT10M", therapy=therapy, reservoir_estimated_ml=18.0 - plausible)
    short = after(log, "PT10M", therapy=therapy, reservoir_estimated_ml=18.0 - plausible - 0.01)

    assert checked(enough) == Check(START, 18.0, confirmed_at=moment("PT10M"))
    assert short is log
    tiny = replace(log, check=Check(START, plausible + 1e-6))
    assert checked(after(tiny, "PT10M", therapy=therapy, reservoir_estimated_ml=0.0)).confirmed_at == moment("PT10M")


def test_what_was_programmed_since_a_refill_is_not_missing() -> None:
    """A day at 2.4 mL/day is 2.4 mL less; where no rate is known it is none."""
    state = PumpState(flow_ml_per_day=2.4)

    assert checked(after(CHECKED, "P1D", state, reservoir_estimated_ml=14.6)).confirmed_at == moment("P1D")
    assert after(CHECKED, "P1D", state, reservoir_estimated_ml=14.59) is CHECKED
    assert after(CHECKED, "P1D", reservoir_estimated_ml=16.99) is CHECKED


def test_shortfalls_are_measured_within_an_hour_and_only_where_they_grow() -> None:
    """Above half of what is plausible (exclusive); the hour is inclusive, and a computed level tells none."""
    half = after(CHECKED, "PT10M", reservoir_measured_ml=17.5)
    log = after(CHECKED, "PT10M", reservoir_measured_ml=16.5)
    same = after(log, "PT20M", reservoir_measured_ml=16.5)
    more = after(log, "PT1H", reservoir_measured_ml=16.0)
    late = after(log, "PT1H1S", reservoir_measured_ml=15.0)

    assert checked(half).shortfalls == ()
    assert checked(log) == Check(START, 18.0, (Shortfall(moment("PT10M"), 1.5),), moment("PT10M"))
    assert same is log
    assert checked(more).shortfalls == (*checked(log).shortfalls, Shortfall(moment("PT1H"), 2.0))
    assert checked(more).told_at == moment("PT1H")
    assert late is log
    assert after(CHECKED, "PT10M", reservoir_estimated_ml=10.0) is CHECKED


def test_a_level_that_confirms_may_still_be_short() -> None:
    """0.6 mL below is plausible and remembered all the same."""
    log = after(CHECKED, "PT10M", reservoir_measured_ml=17.4)

    assert checked(log).confirmed_at == moment("PT10M")
    assert [shortfall.ml for shortfall in checked(log).shortfalls] == [pytest.approx(0.6)]


def test_a_confirmed_refill_is_compared_for_its_hour_and_another_level_confirms_nothing_anew() -> None:
    """An unconfirmed one is compared on and on."""
    confirmed = replace(CHECKED, check=Check(START, 18.0, confirmed_at=moment("PT5M")))

    within = after(confirmed, "PT1H", reservoir_measured_ml=16.0)
    assert [shortfall.ml for shortfall in checked(within).shortfalls] == [2.0]
    assert checked(within).confirmed_at == moment("PT5M")
    assert after(confirmed, "PT1H", reservoir_measured_ml=18.0) is confirmed
    assert after(confirmed, "PT1H1S", reservoir_measured_ml=16.0) is confirmed
    assert after(CHECKED, "-PT1S", reservoir_measured_ml=18.0) is CHECKED
    assert checked(after(CHECKED, "PT0S", reservoir_measured_ml=18.0)).confirmed_at == START


def test_both_levels_of_a_report_are_compared() -> None:
    """The computed one confirms, the measured one is short."""
    log = after(CHECKED, "PT10M", reservoir_estimated_ml=18.0, reservoir_measured_ml=15.0)

    assert checked(log).confirmed_at == moment("PT10M")
    assert [shortfall.ml for shortfall in checked(log).shortfalls] == [3.0]


def test_the_first_shortfalls_are_remembered() -> None:
    """Six of them."""
    log = CHECKED
    for minute in range(1, MAX_SHORTFALLS + 3):
        log = after(log, f"PT{minute}M", reservoir_measured_ml=16.0 - minute)

    assert [shortfall.ml for shortfall in checked(log).shortfalls] == [
        2.0 + minute for minute in range(1, MAX_SHORTFALLS + 1)
    ]


REFILL: dict[str, Any] = {"aspirated_ml": 2.0, "injected_ml": 17.0, "residual_ml": 0.5}


def test_a_refill_waits_for_the_counter_of_its_report() -> None:
    """What could not be aspirated stays in the reservoir: it was left, and is part of the filling."""
    volumes = VolumeLog(bolus_ml=1.5, estimated=Reading(3.0, moment("PT1H"), 0.0, 0.0))
    state = PumpState(clock=moment("PT3H"), volumes=volumes)

    log = told(EMPTY, EventType.REFILL, "PT1H", state, **REFILL)

    assert log.waiting == (Emptying(moment("PT1H"), 2.5, 17.5, 1.5, 3.0, moment("PT3H")),)
    assert log.check == Check(moment("PT1H"), 17.5)
    assert (log.drugs, log.profile_from) == (BACLOFEN, THERAPY.valid_from)
    earlier = told(EMPTY, EventType.REFILL, "PT59M", state, **REFILL)
    assert earlier.waiting[0].level_ml is None


def test_a_refill_that_tells_no_volumes_left_nothing() -> None:
    """And is told at its own time where the clock is not known, or older."""
    (waiting,) = told(EMPTY, EventType.REFILL, "PT1H").waiting
    (newer,) = told(EMPTY, EventType.REFILL, "PT1H", PumpState(clock=START)).waiting

    assert waiting == newer == Emptying(moment("PT1H"), 0.0, 0.0, 0.0, None, moment("PT1H"))


def test_an_older_refill_waits_and_is_not_checked() -> None:
    """One of the same second is."""
    log = FillLog(check=Check(moment("PT2H"), 18.0))

    assert checked(told(log, EventType.REFILL, "PT1H", **REFILL)) == Check(moment("PT2H"), 18.0)
    assert len(told(log, EventType.REFILL, "PT1H", **REFILL).waiting) == 1
    assert checked(told(log, EventType.REFILL, "PT2H", **REFILL)) == Check(moment("PT2H"), 17.5)


def test_five_refills_may_wait() -> None:
    """The newest ones."""
    log = EMPTY
    for hour in range(MAX_OUTCOMES + 2):
        log = told(log, EventType.REFILL, f"PT{hour}H", **REFILL)

    assert [waiting.at for waiting in log.waiting] == [moment(f"PT{hour}H") for hour in range(2, MAX_OUTCOMES + 2)]


def test_levels_known_since_a_refill_that_is_told_late_confirm_it() -> None:
    """Computed ones after it, the measured one at its second as well; and what is short is told now."""
    estimated = (Sample(17.5, moment("PT1H")), Sample(17.4, moment("PT2H")), Sample(17.3, moment("PT3H")))
    state = PumpState(clock=moment("PT4H"), estimated=estimated)

    at_once = told(EMPTY, EventType.REFILL, "PT1H", state, **REFILL)
    sensed = told(EMPTY, EventType.REFILL, "PT1H", PumpState(clock=moment("PT4H"), measured=estimated[0]), **REFILL)
    short = PumpState(clock=moment("PT4H"), measured=Sample(14.0, moment("PT2H")))

    assert checked(at_once) == Check(moment("PT1H"), 17.5, confirmed_at=moment("PT2H"))
    assert checked(sensed).confirmed_at == moment("PT1H")
    assert checked(told(EMPTY, EventType.REFILL, "PT1H", short, **REFILL)) == Check(
        moment("PT1H"), 17.5, (Shortfall(moment("PT2H"), 3.5),), moment("PT4H")
    )
    computed = PumpState(clock=moment("PT4H"), estimated=(Sample(14.0, moment("PT2H")),))
    assert checked(told(EMPTY, EventType.REFILL, "PT1H", computed, **REFILL)).shortfalls == ()


def test_a_measured_level_says_nothing_of_a_refill_that_is_told_at_once() -> None:
    """It may be from before it, at the same second; and an older one never counts."""
    state = PumpState(clock=moment("PT1H"), measured=Sample(17.5, moment("PT1H")))
    older = PumpState(clock=moment("PT4H"), measured=Sample(17.5, moment("PT59M")))

    assert checked(told(EMPTY, EventType.REFILL, "PT1H", state, **REFILL)).confirmed_at is None
    assert checked(told(EMPTY, EventType.REFILL, "PT1H", older, **REFILL)).confirmed_at is None


def test_an_interrogation_confirms_a_refill_from_its_second_on() -> None:
    """The earliest word counts, the newest interrogation is remembered; one that failed says nothing."""
    result = InterrogationResult.RUNNING
    early = told(CHECKED, EventType.INTERROGATION, "-PT1S", result=result)
    first = told(CHECKED, EventType.INTERROGATION, "PT0S", result=result)
    later = told(first, EventType.INTERROGATION, "PT2M", result=result)
    before = told(
        replace(CHECKED, check=Check(START, 18.0, confirmed_at=moment("PT2M"))),
        EventType.INTERROGATION,
        "PT1M",
        result=result,
    )
    same = told(later, EventType.INTERROGATION, "PT2M", result=result)

    assert (checked(early).confirmed_at, early.interrogated_at) == (None, moment("-PT1S"))
    assert (checked(first).confirmed_at, first.interrogated_at) == (START, START)
    assert (checked(later).confirmed_at, later.interrogated_at) == (START, moment("PT2M"))
    assert checked(before).confirmed_at == moment("PT1M")
    assert same is later
    assert told(first, EventType.INTERROGATION, "PT0S", result=result) is first
    assert told(later, EventType.INTERROGATION, "PT1M", result=result) is later
    assert told(CHECKED, EventType.INTERROGATION, "PT1M", result=InterrogationResult.FAILED) is CHECKED


def test_an_interrogation_known_since_a_refill_that_is_told_late_confirms_it() -> None:
    """At the refill's own second as well."""
    seen = [FillLog(interrogated_at=moment(at)) for at in ("PT1H", "PT59M59S")]

    confirmed, unconfirmed = (told(log, EventType.REFILL, "PT1H", **REFILL) for log in seen)

    assert checked(confirmed).confirmed_at == moment("PT1H")
    assert checked(unconfirmed).confirmed_at is None


def waits(at: str, withdrawn_ml: float = 2.5, level_ml: float | None = None, bolus_ml: float = 0.0) -> Emptying:
    """A refill that waits."""
    return Emptying(moment(at), withdrawn_ml, 17.5, bolus_ml, level_ml, moment(at))


def filling(waiting: tuple[Emptying, ...], last: Fill | None = None) -> FillLog:
    """A log of refills that wait."""
    return FillLog(last=last, waiting=waiting, drugs=BACLOFEN, profile_from=THERAPY.valid_from)


BOOKS = PumpState(
    volumes=VolumeLog(
        since=START,
        at=moment("P10D"),
        boot_id=1,
        counter_ml=5.0,
        counted_at=moment("P10D"),
        programmed_ml=5.0,
        scheduled_ml=5.0,
        rates=(Point(START, 0.5),),
        program_since=START,
    )
)


def test_a_filling_showed_what_was_put_in_less_what_was_withdrawn() -> None:
    """Programmed is the counter's difference; the new filling begins with the totals of its own moment."""
    log = filling((waits("P11D", bolus_ml=0.0),), Fill(START, 10.0, 1.0, 1.0, 0.0))

    done = after(log, "P12D", BOOKS, volume_programmed_ml=6.0, reservoir_measured_ml=17.0)

    assert done.outcomes == (Outcome(moment("P11D"), 4.5, 7.5, moment("P12D")),)
    assert done.last == Fill(moment("P11D"), 17.5, 5.5, 5.5, 0.0)
    assert done.waiting == ()


def test_of_refills_that_waited_one_older_than_the_last_filling_tells_nothing() -> None:
    """The next one still does; one of the same second does too."""
    last = Fill(moment("P11D"), 10.0, 1.0, 1.0, 0.0)

    done = after(filling((waits("P10D"), waits("P11DT12H")), last), "P12D", BOOKS, volume_programmed_ml=6.0)
    same = after(filling((waits("P11D"),), last), "P12D", BOOKS, volume_programmed_ml=6.0)

    assert [outcome.at for outcome in done.outcomes] == [moment("P11DT12H")]
    assert [outcome.at for outcome in same.outcomes] == [moment("P11D")]


def test_the_first_filling_is_known_by_the_profile_only() -> None:
    """Without one nobody knows what was in the reservoir; the filling that begins is known all the same."""
    log = filling((waits("P11D", level_ml=12.0),))
    filled = profiles_of({"last_fill_ml": 18.0}).therapy(START)

    done = after(log, "P12D", BOOKS, filled, volume_programmed_ml=6.0)
    unknown = after(log, "P12D", BOOKS, STRICTEST, volume_programmed_ml=6.0)

    assert done.outcomes == (Outcome(moment("P11D"), 6.0, 15.5, moment("P12D")),)
    assert unknown.outcomes == ()
    assert unknown.last == done.last == Fill(moment("P11D"), 17.5, 5.5, 5.5, 0.0)


@pytest.mark.parametrize(
    ("level_ml", "last_fill_ml", "programmed_ml"),
    [(20.0, 18.0, 0.0), (17.5, 18.0, 0.5), (None, 18.0, 5.5), (None, 5.5, 5.5), (None, 5.4, None)],
)
def test_of_the_first_filling_the_level_or_the_counter_tells_what_was_programmed(
    level_ml: float | None, last_fill_ml: float, programmed_ml: float | None
) -> None:
    """A counter of more than was put in cannot have come from one filling."""
    log = filling((waits("P11D", level_ml=level_ml),))
    therapy = profiles_of({"last_fill_ml": last_fill_ml}).therapy(START)

    done = after(log, "P12D", BOOKS, therapy, volume_programmed_ml=6.0)

    assert [outcome.programmed_ml for outcome in done.outcomes] == ([] if programmed_ml is None else [programmed_ml])


def test_a_counter_that_says_nothing_tells_nothing_of_the_first_filling() -> None:
    """A total of zero is none."""
    therapy = profiles_of({"last_fill_ml": 18.0}).therapy(START)

    assert after(filling((waits("P11D"),)), "P12D", therapy=therapy).outcomes == ()
    (outcome,) = after(filling((waits("P11D"),)), "P12D", therapy=therapy, volume_programmed_ml=0.5).outcomes
    assert outcome.programmed_ml == 0.5


@pytest.mark.parametrize(
    ("counter", "bolus_ml", "programmed_ml"),
    [(5.5, 1.0, 5.5), (5.0, 1.0, 5.0), (4.99, 1.0, 5.99), (4.5, 1.0, 5.5), (4.5, 0.0, 4.5), (6.0, 1.0, 6.0)],
)
def test_boluses_are_added_to_a_counter_that_left_them_out(
    counter: float, bolus_ml: float, programmed_ml: float
) -> None:
    """It did where it grew by less than the schedule and half of the boluses."""
    books = PumpState(volumes=replace(BOOKS.volumes, at=moment("P11D"), programmed_ml=counter, scheduled_ml=4.5))
    last = Fill(START, 10.0, 0.0, 0.0, 2.0)
    log = filling((waits("P12D", bolus_ml=2.0 + bolus_ml),), last)
    resting = replace(books, volumes=replace(books.volumes, rates=(), counter_ml=counter))

    (outcome,) = after(log, "P12D", resting, volume_programmed_ml=counter).outcomes

    assert outcome.programmed_ml == pytest.approx(programmed_ml)


def test_what_a_filling_showed_counts_from_where_the_last_one_began() -> None:
    """All three totals are differences."""
    books = PumpState(volumes=VolumeLog(at=moment("P11D"), counter_ml=9.0, programmed_ml=9.0, scheduled_ml=8.0))
    last = Fill(START, 10.0, 5.0, 3.0, 2.0)

    def programmed(scheduled_ml: float) -> float:
        state = replace(books, volumes=replace(books.volumes, scheduled_ml=scheduled_ml))
        log = filling((waits("P12D", bolus_ml=3.0),), last)
        (outcome,) = after(log, "P12D", state, volume_programmed_ml=9.0).outcomes
        return outcome.programmed_ml

    assert (programmed(6.5), programmed(6.6)) == (4.0, 5.0)


def test_five_outcomes_are_remembered() -> None:
    """The newest ones."""
    waiting = tuple(waits(f"P11DT{hour}H") for hour in range(MAX_OUTCOMES + 1))

    done = after(filling(waiting, Fill(START, 10.0, 0.0, 0.0, 0.0)), "P12D", BOOKS, volume_programmed_ml=6.0)

    assert [outcome.at for outcome in done.outcomes] == [moment(f"P11DT{hour}H") for hour in range(1, MAX_OUTCOMES + 1)]


def test_over_infusion_is_the_newest_outcome_s() -> None:
    """What an older one showed is past; exactly 2 mL programmed and 1 mL too much are no noise."""
    over, well = Outcome(START, 2.0, 3.0, START), Outcome(START, 10.0, 10.0, START)

    assert FillLog(outcomes=(well, over)).over_infusion_ratio == 1.5
    assert FillLog(outcomes=(over, well)).over_infusion_ratio is None
    assert EMPTY.over_infusion_ratio is None
    assert over_infused(Outcome(START, 2.0, 3.0 - 5e-7, START))
    assert not over_infused(Outcome(START, 1.99, 4.0, START))
    assert not over_infused(Outcome(START, 2.0, 2.99, START))
    assert refill_ratios(FillLog(outcomes=(over,))) == (1.5,)
    assert refill_ratios(FillLog(outcomes=(over, well)), 1) == (1.0,)
    assert Outcome(START, 0.0, 3.0, START).ratio == 1.0
    assert Outcome(START, 0.5, 3.0, START).ratio == 6.0


INTERRUPTED = PumpState(armed_since=moment("PT1H"), confirmed_at=moment("PT1H"), clock=moment("PT9H"))


@pytest.mark.parametrize(("kind", "name"), [(EventType.REFILL, "refill"), (EventType.VALVE_RESET, "valve_reset")])
def test_a_refill_or_reset_while_delivery_is_interrupted_begins_it_anew(kind: EventType, name: str) -> None:
    """From an hour on, inclusive; a shorter interruption is not remembered."""
    log = told(FillLog(**KNOWN), kind, "PT2H", INTERRUPTED)

    assert log.restarts == (Restart(moment("PT2H"), name, moment("PT9H"), moment("PT1H")),)
    assert told(FillLog(**KNOWN), kind, "PT1H59M59S", INTERRUPTED).restarts == ()
    assert told(FillLog(**KNOWN), kind, "PT2H", replace(INTERRUPTED, armed_since=None)).restarts == ()
    assert told(FillLog(**KNOWN), kind, "PT2H", replace(INTERRUPTED, confirmed_at=None)).restarts == ()


def resumed(at: str, not_since: str) -> PumpState:
    """Delivery that is confirmed again."""
    return PumpState(resumed=Resumption(moment(at), moment(not_since)))


@pytest.mark.parametrize(
    ("at", "kinds"), [("PT3H", ["refill"]), ("PT3H1S", ["refill", "delivery"]), ("PT2H", ["refill"])]
)
def test_delivery_within_an_hour_of_a_refill_is_the_restart_that_it_began(at: str, kinds: list[str]) -> None:
    """Later than that, inclusive, it is one of its own."""
    log = told(FillLog(**KNOWN), EventType.REFILL, "PT2H", INTERRUPTED)

    done = after(log, "PT4H", resumed(at, "PT1H"))

    assert [restart.kind for restart in done.restarts] == kinds
    assert done.resumed_at == moment(at)


def test_delivery_after_another_interruption_is_another_restart() -> None:
    """It is told with the report that shows it, once; an interruption of less than an hour is none."""
    log = FillLog(restarts=(Restart(moment("PT2H"), "refill", moment("PT2H"), moment("PT1H")),), **KNOWN)

    done = after(log, "PT4H", resumed("PT3H", "PT2H"))
    short = after(log, "PT4H", resumed("PT3H", "PT2H1S"))

    assert done.restarts[-1] == Restart(moment("PT3H"), "delivery", moment("PT4H"), moment("PT2H"))
    assert after(done, "PT5H", resumed("PT3H", "PT2H")) is done
    assert short == replace(log, resumed_at=moment("PT3H"))
    assert after(log, "PT4H") is log


def test_delivery_that_resumed_before_an_event_is_told_with_it() -> None:
    """Late ones at the clock's time."""
    state = replace(resumed("PT3H", "PT1H"), clock=moment("PT6H"))

    log = told(FillLog(**KNOWN), EventType.BOLUS, "PT4H", state)

    assert log.restarts == (Restart(moment("PT3H"), "delivery", moment("PT6H"), moment("PT1H")),)


def test_four_restarts_are_remembered_whatever_began_them() -> None:
    """The newest ones."""
    known = tuple(Restart(moment(f"PT{minute}M"), "refill", START) for minute in range(MAX_RESTARTS))
    log = FillLog(restarts=known, **{**KNOWN, "drugs": (("morphine", 1.0),)})

    logs = {
        "delivery": after(log, "P1D", resumed("PT5H", "PT1H")),
        "valve_reset": told(log, EventType.VALVE_RESET, "PT5H", INTERRUPTED),
        "concentration": told(log, EventType.PROGRAM_CHANGE, "PT5H"),
        "replaced": told(log, EventType.PUMP_REPLACED, "PT5H"),
    }

    for kind, found in logs.items():
        assert [restart.kind for restart in found.restarts] == ["refill"] * 3 + [kind]
        assert found.restarts[-1].at == moment("PT5H")


def test_another_pump_keeps_only_what_is_not_of_the_old_one() -> None:
    """The drugs, the profile and what was told of delivery."""
    old = FillLog(
        last=Fill(START, 1.0, 1.0, 1.0, 1.0),
        check=Check(START, 18.0),
        restarts=(Restart(START, "refill", START),),
        resumed_at=START,
        interrogated_at=START,
        **KNOWN,
    )

    log = told(old, EventType.PUMP_REPLACED, "PT5H", PumpState(clock=moment("PT6H")))

    assert log == FillLog(
        restarts=(*old.restarts, Restart(moment("PT5H"), "replaced", moment("PT6H"))), resumed_at=START, **KNOWN
    )


def test_other_events_say_nothing_of_fillings() -> None:
    """The log stays the same object."""
    assert told(CHECKED, EventType.BOLUS, "PT1H") is CHECKED
    assert told(CHECKED, EventType.MRI_START, "PT1H") is CHECKED


MIX: dict[str, Any] = {
    "drugs": [
        {"name": "morphine", "concentration_ug_per_ml": 10000.0},
        {"name": "baclofen", "concentration_ug_per_ml": 500.0},
    ]
}


def test_a_refill_or_program_change_brings_the_profile_s_concentrations() -> None:
    """The first ones known are no change; other ones are a restart; without a profile nobody knows any."""
    mixed = profiles_of(MIX).therapy(START)
    both = (("baclofen", 500.0), ("morphine", 10000.0))

    first = told(EMPTY, EventType.PROGRAM_CHANGE, "PT5H", therapy=mixed)
    other = told(FillLog(**KNOWN), EventType.PROGRAM_CHANGE, "PT5H", PumpState(clock=moment("PT6H")), mixed)

    assert first == FillLog(drugs=both, profile_from=mixed.valid_from)
    assert other == FillLog(
        drugs=both,
        profile_from=mixed.valid_from,
        restarts=(Restart(moment("PT5H"), "concentration", moment("PT6H")),),
    )
    filled = told(FillLog(**KNOWN), EventType.REFILL, "PT5H", PumpState(clock=moment("PT6H")), mixed)
    assert (filled.drugs, filled.restarts) == (both, other.restarts)
    assert told(EMPTY, EventType.PROGRAM_CHANGE, "PT5H", therapy=STRICTEST) is EMPTY
    saline = profiles_of({"drugs": [{"name": "saline"}], "prescribed_ug_per_day": None}).therapy(START)
    assert told(EMPTY, EventType.PROGRAM_CHANGE, "PT5H", therapy=saline).drugs == (("saline", 0.0),)


@pytest.mark.parametrize(
    ("refilled_at", "brought"),
    [("PT0H", True), ("-PT1S", False), ("PT23H59M59S", True), ("P1D", False), (None, False)],
)
def test_a_profile_entered_within_a_day_after_its_refill_counts_from_its_own_time(
    refilled_at: str | None, brought: bool
) -> None:
    """M.29: the refill brought it; the day is inclusive, the version's own second is no more after it."""
    later = profiles_of({}, [{"from": "P1D", **MIX}]).therapy(moment("P1D"))
    state = PumpState(refilled_at=moment(refilled_at) if refilled_at else None)

    log = after(FillLog(**KNOWN), "P2D", state, later)

    assert log.profile_from == moment("P1D")
    assert log.restarts == ((Restart(moment("P1D"), "concentration", moment("P2D")),) if brought else ())
    assert log.drugs == ((("baclofen", 500.0), ("morphine", 10000.0)) if brought else BACLOFEN)


def test_the_first_profile_is_taken_as_it_is() -> None:
    """Nothing is known to compare it with; without one nothing is."""
    assert after(EMPTY, "P2D", PumpState(refilled_at=START)) == FillLog(**KNOWN)
    assert after(FillLog(**KNOWN), "P2D", therapy=STRICTEST) == FillLog(**KNOWN)
