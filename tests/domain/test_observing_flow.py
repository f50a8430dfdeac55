"""What is remembered of the flow: volumes and their windows, low rates, changes of the program, and declared MRIs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from streams.domain.observing.drift import Drift, RefillDrift, Sums
from streams.domain.observing.fills import Outcome
from streams.domain.observing.flow import (
    KEPT_CHANGES,
    KEPT_LOW,
    KEPT_PHASES,
    KEPT_SCANS,
    MOST_VOLUMES,
    Change,
    FlowLog,
    LowPhase,
    LowRate,
    Scan,
    Volume,
    happened,
    let_go,
    measured,
    program_of,
    refilled,
    short_of,
    window,
)
from streams.domain.telemetry import Event, EventType
from streams.domain.world import Mri, PumpState, Stall
from streams.rehearsal import START, moment, profiles_of, received_of

THERAPY = profiles_of({}).therapy(START)
EMPTY = FlowLog()
RUNNING = PumpState(boot_id=1, motor="running", checksum="a")
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
PROGRAMMED, DELIVERED = "volume_programmed_ml", "volume_delivered_ml"
DRIFT = Drift((START, 0.0, 0.0), moment("P1D"))


def about(value: float) -> Any:
    """The number, as exact as arithmetic lets it be."""
    return pytest.approx(value)


def after(log: FlowLog, at: str, state: PumpState = RUNNING, **said: Any) -> FlowLog:
    """The log after a report."""
    return measured(log, state, THERAPY, received_of({"at": at, "temperature_celsius": 37.0, **said}, 0).report)


def told(log: FlowLog, kind: EventType, at: str, state: PumpState = RUNNING, **fields: Any) -> FlowLog:
    """The log after an event."""
    return happened(log, state, THERAPY, Event(type=kind, **fields), moment(at))


def volume(at: str, programmed_ml: float, delivered_ml: float | None = None) -> Volume:
    """Volumes; as much delivered as programmed unless said otherwise."""
    return Volume(moment(at), programmed_ml, programmed_ml if delivered_ml is None else delivered_ml)


def sensing(*volumes: Volume, **fields: Any) -> FlowLog:
    """A log of volumes of the boot that goes on."""
    return FlowLog(boot_id=1, volumes=volumes, running_since=volumes[0].at, **fields)


def senses(log: FlowLog, at: str, programmed: float, delivered: float | None = None, **said: Any) -> FlowLog:
    """The log after a report of volumes."""
    delivered = programmed if delivered is None else delivered
    return after(log, at, **{PROGRAMMED: programmed, DELIVERED: delivered, **said})


# Volumes ---------------------------------------------------------------------------------------------------------


def test_the_first_volumes_of_a_pump_begin_its_log() -> None:
    """It senses what it delivers, so its refills judge it no more."""
    log = senses(FlowLog(refill_drift=RefillDrift(START, Sums(3.0, 0.0))), "PT1H", 1.0, 0.9)

    first = volume("PT1H", 1.0, 0.9)
    assert log == FlowLog(
        boot_id=1,
        volumes=(first,),
        running_since=first.at,
        drift=Drift((first.at, 1.0, 0.9), moment("P1D")),
    )
    assert log.refill_drift is None


def test_one_volume_alone_says_nothing() -> None:
    """Neither what was programmed nor what was delivered."""
    assert after(EMPTY, "PT1H", volume_delivered_ml=1.0) is EMPTY
    assert after(EMPTY, "PT1H", volume_programmed_ml=1.0) is EMPTY
    log = sensing(volume("PT0H", 1.0))
    assert after(log, "PT1H", volume_delivered_ml=1.0) is log
    assert after(log, "PT1H", volume_programmed_ml=1.0) is log


@pytest.mark.parametrize(
    ("programmed", "delivered", "boot_id", "continued"),
    [(1.0, 1.0, 1, True), (0.99, 1.0, 1, False), (1.0, 0.99, 1, False), (1.1, 1.1, 2, False)],
)
def test_volumes_go_on_within_a_boot_while_neither_falls(
    programmed: float, delivered: float, boot_id: int, continued: bool
) -> None:
    """Otherwise they begin anew, and so does all that was made of them."""
    owing = volume("PT0H", 1.0)
    log = sensing(volume("PT0H", 1.0), owing=owing, drift=DRIFT)

    later = senses(log, "PT30M", programmed, delivered, boot_id=boot_id)

    newest = volume("PT30M", programmed, delivered)
    assert later.volumes == ((*log.volumes, newest) if continued else (newest,))
    assert later.running_since == (START if continued else newest.at)
    assert later.owing == (owing if continued else None)
    assert later.boot_id == boot_id
    assert later.drift is not None
    assert later.drift.opened == (DRIFT.opened if continued else (newest.at, programmed, delivered))


def test_volumes_of_an_older_boot_say_nothing() -> None:
    """The log stays the same object."""
    log = replace(sensing(volume("PT0H", 1.0)), boot_id=2)

    assert senses(log, "PT1H", 1.1) is log


def test_the_motor_runs_from_the_first_volume_on_which_it_did() -> None:
    """A stop ends it, whether it comes with volumes or without; so does a stall that goes on."""
    log = replace(sensing(volume("PT0H", 1.0)), drift=DRIFT)
    stopped = senses(log, "PT1H", 1.0, motor="stopped")
    silent = after(log, "PT1H", motor="stopped")
    stalled = after(log, "PT1H", replace(RUNNING, stalled_since=START))

    assert (stopped.running_since, silent.running_since, stalled.running_since) == (None, None, None)
    for interrupted in (stopped, silent, stalled):
        assert interrupted.drift == replace(DRIFT, spoiled=True)
    assert after(silent, "PT2H", motor="stopped") is silent
    assert senses(stopped, "PT2H", 1.1, motor="running").running_since == moment("PT2H")
    assert senses(log, "PT1H", 1.1, motor="running").running_since == START
    assert senses(silent, "PT2H", 1.1).running_since == moment("PT2H")
    told_running = senses(log, "PT1H", 1.1)
    assert told_running.running_since == START


def test_a_motor_that_is_not_told_is_as_it_was_told_last() -> None:
    """A report's own word counts before it."""
    log = sensing(volume("PT0H", 1.0))
    stopped = PumpState(motor="stopped")

    assert after(log, "PT1H", stopped).running_since is None
    assert after(log, "PT1H", stopped, motor="running") is log
    assert senses(EMPTY, "PT1H", 1.0, motor="stopped").running_since is None
    assert senses(EMPTY, "PT1H", 1.0, motor="stopped").drift == Drift(
        (moment("PT1H"), 1.0, 1.0), moment("P1D"), spoiled=True
    )


def test_an_interruption_spoils_a_running_day_also_where_the_motor_was_already_not_running() -> None:
    """Each by itself changes the log."""
    log = replace(sensing(volume("PT0H", 1.0), drift=DRIFT), running_since=None)

    assert after(log, "PT1H", motor="stopped") == replace(log, drift=replace(DRIFT, spoiled=True))
    spoiled = replace(sensing(volume("PT0H", 1.0)), drift=replace(DRIFT, spoiled=True))
    assert after(spoiled, "PT1H", motor="stopped") == replace(spoiled, running_since=None)


def at_minutes(*minutes: float) -> tuple[Volume, ...]:
    """Volumes of a pump that is programmed to rest."""
    return tuple(Volume(START + minute * MINUTE, 1.0, 1.0) for minute in minutes)


def kept(volumes: tuple[Volume, ...]) -> list[float]:
    """At which minutes volumes are kept once the last of them came."""
    last = volumes[-1]
    log = senses(sensing(*volumes[:-1]), f"PT{(last.at - START).total_seconds():.0f}S", last.programmed_ml)
    return [(one.at - START) / MINUTE for one in log.volumes]


def test_twenty_six_volumes_are_kept_as_they_are() -> None:
    """Of one more those of the last seventy minutes (inclusive) stay ten apart, older ones a fourteenth of all."""
    tens = [10 * number for number in range(MOST_VOLUMES + 1)]

    assert kept(at_minutes(*tens[:-1])) == tens[:-1]
    assert kept(at_minutes(*tens)) == [*range(0, 181, 20), *range(190, 261, 10)]


def test_volumes_of_a_pump_that_reports_often_are_never_closer_than_ten_minutes() -> None:
    """Except the newest."""
    assert kept(at_minutes(*(3 * number for number in range(MOST_VOLUMES + 1)))) == [0, 12, 24, 36, 48, 60, 72, 78]


def test_old_volumes_are_dropped_once_enough_was_programmed_since() -> None:
    """0.15 mL (inclusive) and three hours (exclusive); the newest of those that are old enough stays."""
    old = (volume("PT0H", 0.0), volume("PT1H", 0.0))

    def left(at: str, programmed: float) -> int:
        return len(senses(sensing(*old), at, programmed).volumes)

    assert (left("PT4H1S", 0.15), left("PT4H", 0.15), left("PT4H1S", 0.14)) == (2, 3, 3)
    assert (left("PT73H1S", 0.1), left("PT73H", 0.1)) == (2, 3)


def test_two_volumes_stay_however_old_they_are() -> None:
    """The last one before the newest."""
    three = senses(sensing(volume("PT0H", 0.0), volume("PT1H", 0.5), volume("PT2H", 1.0)), "P9D", 5.0)

    assert three.volumes == (volume("PT2H", 1.0), volume("P9D", 5.0))


def test_what_is_dropped_by_age_is_not_thinned_out_as_well() -> None:
    """Twenty-six are left."""
    volumes = (
        *at_minutes(0, 1),
        *(Volume(one.at + 72 * HOUR + 2 * MINUTE, 1.0, 1.0) for one in at_minutes(*range(25))),
    )
    more = (*at_minutes(0), *volumes)

    assert len(volumes) == MOST_VOLUMES + 1
    assert len(kept(volumes)) == MOST_VOLUMES
    assert len(kept(more)) == MOST_VOLUMES


def test_thinning_begins_at_the_oldest_volume_that_is_left() -> None:
    """A fourteenth of the time from there, and it stays."""
    late = [72 * 60 + 30 + 10 * number for number in range(MOST_VOLUMES)]
    volumes = at_minutes(0, 1, 2, *late)

    found = kept(volumes)

    assert found[0] == 2
    assert found[1:] == [late[0], *late[-8:]]


# Windows ---------------------------------------------------------------------------------------------------------

FLOWING = tuple(volume(f"PT{hour}H", 0.5 * hour) for hour in range(6))


@pytest.mark.parametrize(
    ("ml", "shortest", "longest", "start"),
    [
        (0.5, 1, 24, 4),
        (0.5, 2, 24, 3),
        (1.0, 1, 24, 3),
        (1.01, 1, 24, 2),
        (1.0 + 1e-6, 1, 24, 3),
        (9.0, 1, 3, 2),
        (9.0, 1, 5, 0),
        (9.0, 1, 6, None),
        (2.5, 1, 24, 0),
    ],
)
def test_a_window_is_as_long_as_its_volume_needs(ml: float, shortest: int, longest: int, start: int | None) -> None:
    """At least the shortest time, at most the longest; it starts at the newest volume at which it is whole."""
    assert window(FLOWING, 5, ml, shortest * HOUR, longest * HOUR) == start


def test_a_window_may_end_anywhere() -> None:
    """Before its shortest time has passed there is none."""
    assert window(FLOWING, 2, 0.5, HOUR, 24 * HOUR) == 1
    assert window(FLOWING, 0, 0.5, HOUR, 24 * HOUR) is None
    assert window(FLOWING, 1, 0.5, 2 * HOUR, 24 * HOUR) is None


def test_too_little_is_less_than_a_share_of_what_was_programmed() -> None:
    """Exactly the share is enough, and a millionth of a millilitre is arithmetic."""
    first = volume("PT0H", 1.0, 2.0)

    assert not short_of(first, volume("PT1H", 2.0, 2.5), 0.5)
    assert not short_of(first, volume("PT1H", 2.0, 2.5 - 5e-7), 0.5)
    assert short_of(first, volume("PT1H", 2.0, 2.49), 0.5)


def owing(*steps: tuple[str, float, float], log: FlowLog = EMPTY) -> FlowLog:
    """The log after volumes: time, programmed, delivered."""
    for at, programmed, delivered in steps:
        log = senses(log, at, programmed, delivered)
    return log


def test_what_is_missing_adds_up_from_the_first_window_below_eighty_five_percent() -> None:
    """From where that window starts; exactly 85 percent is none."""
    started = owing(("PT0H", 0.0, 0.0), ("PT1H", 0.1, 0.1), ("PT2H", 0.2, 0.14))
    enough = owing(("PT0H", 0.0, 0.0), ("PT1H", 0.1, 0.085))

    assert started.owing == volume("PT1H", 0.1)
    assert enough.owing is None
    assert owing(("PT3H", 0.3, 0.14), log=started).owing == started.owing


def test_a_volume_that_is_short_begins_nothing_before_its_window_is_whole() -> None:
    """Nor where the window as a whole got enough."""
    short = owing(("PT0H", 0.0, 0.0), ("PT30M", 0.05, 0.01))

    assert short.owing is None
    late = owing(("PT0H", 0.0, 0.0), ("PT30M", 0.1, 0.2), ("PT1H", 0.2, 0.21))
    assert late.owing is None


def test_what_is_missing_counts_until_two_windows_in_a_row_got_enough() -> None:
    """One of them is not yet enough."""
    started = owing(("PT0H", 0.0, 0.0), ("PT1H", 0.1, 0.0))
    one = owing(("PT2H", 0.2, 0.1), log=started)
    two = owing(("PT3H", 0.3, 0.2), log=one)

    assert started.owing == volume("PT0H", 0.0)
    assert one.owing == started.owing
    assert two.owing is None


def test_a_window_after_a_short_time_keeps_what_is_missing() -> None:
    """It is not whole yet, although as much as was programmed came since."""
    known = volume("PT0H", 0.0)
    log = FlowLog(boot_id=1, volumes=(known,), running_since=START, owing=known)

    assert owing(("PT30M", 0.01, 0.01), log=log).owing == known
    assert owing(("PT1H", 0.1, 0.1), log=log).owing is None


# Low rates -------------------------------------------------------------------------------------------------------


def test_rates_near_the_minimum_are_remembered_with_their_program() -> None:
    """Up to 0.06 mL/day, the newest five; a pump that is stopped has none."""
    log = after(EMPTY, "PT0H", flow_programmed_ml_per_day=0.06)

    assert log.low == LowRate(START, ((START, 0.06),), "1/a")
    assert after(EMPTY, "PT0H", flow_programmed_ml_per_day=0.061) is EMPTY
    assert after(EMPTY, "PT0H", replace(RUNNING, stopped_since=START), flow_programmed_ml_per_day=0.0) is EMPTY
    for hour in range(1, KEPT_LOW + 2):
        log = after(log, f"PT{hour}H", flow_programmed_ml_per_day=0.01 * hour)
    assert log.low is not None
    assert log.low.since == START
    assert log.low.newest == tuple((moment(f"PT{hour}H"), 0.01 * hour) for hour in range(2, KEPT_LOW + 2))


def test_a_higher_rate_makes_a_low_phase_of_it_while_the_program_is_the_same() -> None:
    """Up to where it was seen, with its highest rate."""
    low = LowRate(START, ((START, 0.05), (moment("PT1H"), 0.03), (moment("PT2H"), 0.04)), "1/a")
    log = FlowLog(low=low)

    done = after(log, "PT5H", flow_programmed_ml_per_day=0.5)

    assert done == FlowLog(phases=(LowPhase(START, moment("PT2H"), 0.05, "1/a"),))
    assert after(log, "PT5H", replace(RUNNING, checksum="b"), flow_programmed_ml_per_day=0.5) == EMPTY
    assert after(log, "PT5H", replace(RUNNING, boot_id=2), flow_programmed_ml_per_day=0.5) == EMPTY
    unknown = replace(RUNNING, checksum=None)
    assert after(FlowLog(low=replace(low, program="")), "PT5H", unknown, flow_programmed_ml_per_day=0.5) == EMPTY
    assert (program_of(RUNNING), program_of(unknown)) == ("1/a", "")


def test_sixteen_low_phases_are_remembered() -> None:
    """The newest ones."""
    known = tuple(LowPhase(START + n * HOUR, START + n * HOUR, 0.05, "1/a") for n in range(KEPT_PHASES))
    log = FlowLog(phases=known, low=LowRate(moment("P9D"), ((moment("P9D"), 0.05),), "1/a"))

    assert [phase.since for phase in after(log, "P10D", flow_programmed_ml_per_day=0.5).phases] == [
        *(phase.since for phase in known[1:]),
        moment("P9D"),
    ]


PHASED = FlowLog(
    phases=(LowPhase(START, START, 0.05, "1/a"),), low=LowRate(START, ((START, 0.05),), "1/a"), mri_planned_at=START
)


@pytest.mark.parametrize(
    "alarm", ["battery_reset", "critical_memory_error", "memory_error", "safe_state", "end_of_service"]
)
def test_an_alarm_after_which_nobody_knows_the_program_makes_its_schedule_void(alarm: str) -> None:
    """The low rate goes on without a program; another alarm says nothing of it."""
    log = after(PHASED, "PT1H", alarms=["low_reservoir", alarm])

    assert log == replace(PHASED, phases=(), low=LowRate(START, ((START, 0.05),)))
    assert after(PHASED, "PT1H", alarms=["low_reservoir"]) is PHASED
    assert after(log, "PT2H", alarms=[alarm]) is log
    assert after(replace(PHASED, low=None), "PT1H", alarms=[alarm]) == replace(PHASED, phases=(), low=None)
    assert after(replace(PHASED, phases=()), "PT1H", alarms=[alarm]) == log
    assert after(EMPTY, "PT1H", alarms=[alarm]) is EMPTY


@pytest.mark.parametrize("kind", [EventType.PROGRAM_CHANGE, EventType.PUMP_RESET, EventType.PUMP_REPLACED])
def test_another_program_makes_the_schedule_of_the_old_one_void(kind: EventType) -> None:
    """Whatever brought it."""
    assert told(PHASED, kind, "PT1H") == replace(PHASED, phases=(), low=LowRate(START, ((START, 0.05),)))


# Changes of the program ------------------------------------------------------------------------------------------


def test_a_change_of_program_is_remembered_with_its_session_until_a_higher_rate() -> None:
    """For half an hour, inclusive; one without a session is not."""
    log = told(EMPTY, EventType.PROGRAM_CHANGE, "PT0H", session_id="S")

    assert log == FlowLog(changes=(Change(START, "S"),))
    assert told(EMPTY, EventType.PROGRAM_CHANGE, "PT0H") is EMPTY
    assert after(log, "PT30M", flow_programmed_ml_per_day=0.5) is log
    assert after(log, "PT30M1S", flow_programmed_ml_per_day=0.5) == EMPTY
    both = told(log, EventType.PROGRAM_CHANGE, "PT20M", session_id="T")
    assert after(both, "PT40M", flow_programmed_ml_per_day=0.5).changes == (Change(moment("PT20M"), "T"),)
    assert after(both, "PT50M", flow_programmed_ml_per_day=0.5).changes == (Change(moment("PT20M"), "T"),)
    assert after(replace(log, low=LowRate(START, ((START, 0.05),), "")), "PT10M", flow_programmed_ml_per_day=0.5) == log


def test_four_changes_are_remembered() -> None:
    """The newest ones."""
    log = EMPTY
    for number in range(KEPT_CHANGES + 1):
        log = told(log, EventType.PROGRAM_CHANGE, f"PT{number}M", session_id=f"S{number}")

    assert [change.session_id for change in log.changes] == [f"S{number}" for number in range(1, KEPT_CHANGES + 1)]


@pytest.mark.parametrize(("at", "explains"), [("PT30M", True), ("PT29M59S", False), ("PT2H", True)])
def test_a_change_explains_a_low_rate_that_follows_within_half_an_hour(at: str, explains: bool) -> None:
    """Inclusive; or one that was there before."""
    log = FlowLog(low=LowRate(moment("PT1H"), ((moment("PT1H"), 0.05),)))

    assert bool(told(log, EventType.PROGRAM_CHANGE, at, session_id="S").changes) is explains


def test_another_pump_has_no_drift_yet() -> None:
    """What was told of sessions is not its own either."""
    log = FlowLog(drift=DRIFT, refill_drift=RefillDrift(START), mri_planned_at=START)

    assert told(log, EventType.PUMP_REPLACED, "PT1H", session_id="S") == FlowLog(mri_planned_at=START)
    assert told(log, EventType.PUMP_RESET, "PT1H") == log


# Stalls and refills ----------------------------------------------------------------------------------------------

RUN = sensing(volume("PT1H", 1.0), drift=replace(DRIFT, opened=(moment("PT1H"), 1.0, 1.0)))


@pytest.mark.parametrize("kind", [EventType.STALL_STARTED, EventType.STALL_RECOVERED])
@pytest.mark.parametrize(("at", "ended"), [("PT1H", True), ("PT59M59S", False), ("PT2H", True)])
def test_a_stall_since_the_motor_ran_ends_that_and_spoils_the_day(kind: EventType, at: str, ended: bool) -> None:
    """From its first volume on, inclusive."""
    log = told(RUN, kind, at)

    assert log.running_since == (None if ended else moment("PT1H"))
    assert log.drift == replace(RUN.drift or DRIFT, spoiled=ended)
    assert ended or log is RUN


def test_a_refill_spoils_the_day_alone() -> None:
    """A pump that senses nothing has none; and what is spoiled stays so."""
    log = told(RUN, EventType.REFILL, "PT2H")

    assert log == replace(RUN, drift=replace(RUN.drift or DRIFT, spoiled=True))
    assert told(log, EventType.REFILL, "PT3H") is log
    unsensed = replace(RUN, volumes=())
    assert told(unsensed, EventType.STALL_STARTED, "PT2H") is unsensed
    assert told(RUN, EventType.BOLUS, "PT2H") is RUN
    resting = replace(RUN, running_since=None, drift=None)
    assert told(resting, EventType.STALL_STARTED, "PT2H") is resting


def test_refills_judge_a_pump_that_senses_no_volume() -> None:
    """One after the other."""
    outcomes = [Outcome(moment(f"P{day}D"), 10.0, 11.0, moment(f"P{day}D")) for day in (10, 20)]

    log = refilled(EMPTY, RUNNING, THERAPY, outcomes)

    assert log.refill_drift is not None
    assert (log.refill_drift.at, log.refill_drift.sums.up) == (moment("P20D"), about(3.0))
    assert refilled(RUN, RUNNING, THERAPY, outcomes) is RUN
    assert refilled(EMPTY, RUNNING, THERAPY, []) is EMPTY
    assert refilled(refilled(EMPTY, RUNNING, THERAPY, outcomes[:1]), RUNNING, THERAPY, outcomes[1:]) == log
    stalled = replace(RUNNING, stalls=(Stall(moment("P19D")),))
    assert refilled(EMPTY, stalled, THERAPY, outcomes).refill_drift == RefillDrift(
        moment("P10D"),
        refilled(EMPTY, RUNNING, THERAPY, outcomes[:1]).refill_drift.sums,  # type: ignore[union-attr]
    )


def test_a_review_counts_for_refills_as_well() -> None:
    """What came before it was looked at by a person."""
    care = [{"kind": "review", "rule_id": "DLV-08", "from": "P15D"}]
    outcomes = [Outcome(moment(f"P{day}D"), 10.0, 11.0, moment(f"P{day}D")) for day in (10, 20)]
    first = refilled(EMPTY, RUNNING, THERAPY, outcomes[:1])

    log = refilled(first, RUNNING, profiles_of({}, care=care).therapy(moment("P20D")), outcomes[1:])

    assert log.refill_drift is not None
    assert log.refill_drift.sums.up == about(1.5)


def test_what_a_person_resolved_starts_anew() -> None:
    """Both drifts; another rule's alert says nothing of them."""
    sums = Sums(3.0, 2.0, 1, 1)
    log = FlowLog(drift=replace(DRIFT, sums=sums), refill_drift=RefillDrift(START, sums), mri_planned_at=START)

    assert let_go(log, "DLV-08") == FlowLog(drift=DRIFT, refill_drift=RefillDrift(START), mri_planned_at=START)
    assert let_go(log, "DLV-06") is log
    assert let_go(EMPTY, "DLV-08") == EMPTY


# Declared MRIs ---------------------------------------------------------------------------------------------------


def test_declared_mris_are_remembered_once() -> None:
    """The newest eight; neither an undeclared one nor one that the state did not take in."""
    declared = replace(RUNNING, mri=Mri(START, declared_at=moment("PT1H")))
    log = told(EMPTY, EventType.MRI_START, "PT0H", declared)

    assert log == FlowLog(scans=(Scan(START, declared_at=moment("PT1H")),))
    assert told(log, EventType.MRI_START, "PT0H", declared) is log
    assert told(EMPTY, EventType.MRI_START, "PT1S", declared) is EMPTY
    assert told(EMPTY, EventType.MRI_START, "PT0H", replace(RUNNING, mri=Mri(START))) is EMPTY
    assert told(EMPTY, EventType.MRI_START, "PT0H") is EMPTY
    for hour in range(1, KEPT_SCANS + 1):
        state = replace(RUNNING, mri=Mri(START + hour * HOUR, declared_at=START))
        log = told(log, EventType.MRI_START, f"PT{hour}H", state)
    assert [scan.start for scan in log.scans] == [START + hour * HOUR for hour in range(1, KEPT_SCANS + 1)]


def test_the_end_of_the_newest_mri_is_remembered() -> None:
    """Of the same one, and once."""
    ended = replace(RUNNING, mri=Mri(START, declared_at=START, ended_at=moment("PT30M")))
    first, second = Scan(moment("-P1D"), declared_at=START), Scan(START, declared_at=START)
    log = FlowLog(scans=(first, second))

    done = told(log, EventType.MRI_END, "PT30M", ended)

    assert done == FlowLog(scans=(first, replace(second, ended_at=moment("PT30M"))))
    assert told(done, EventType.MRI_END, "PT30M", ended) is done
    other = FlowLog(scans=(second, first))
    assert told(other, EventType.MRI_END, "PT30M", ended) is other
    assert told(EMPTY, EventType.MRI_END, "PT30M", ended) is EMPTY
    assert told(log, EventType.MRI_END, "PT30M") is log
    undeclared = replace(RUNNING, mri=Mri(START, ended_at=moment("PT30M")))
    assert told(log, EventType.MRI_END, "PT30M", undeclared) is log
    third = replace(first, ended_at=moment("PT30M"))
    three = FlowLog(scans=(first, third, second))
    assert told(three, EventType.MRI_END, "PT30M", ended).scans == (first, third, done.scans[-1])


def test_a_planned_mri_is_remembered() -> None:
    """The one told last."""
    assert told(EMPTY, EventType.MRI_SCHEDULED, "PT0H", scheduled_for=moment("P1D")).mri_planned_at == moment("P1D")
