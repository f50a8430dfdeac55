"""Stalls, stops, lost programs and minimum rates at their limits: what DLV-01 and DLV-03 to DLV-05 say of one state."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from streams.domain.alert import Episode, Priority, Reason
from streams.domain.conditions.delivery import reached
from streams.domain.observing.flow import Change, FlowLog, LowPhase, LowRate, Scan
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Presence
from streams.domain.telemetry import Alarm, Motor
from streams.domain.world import Mri, PumpState, Session, Stall
from streams.rehearsal import START, moment
from tests.domain.views import MORPHINE, PROMETRA, ZICONOTIDE, judged, step, track

HIGH_RISK = {"risks": ["prior_withdrawal"]}


def _scan(start: str, declared_at: str | None = None, ended_at: str | None = None) -> Scan:
    return Scan(
        moment(start),
        moment(ended_at) if ended_at is not None else None,
        moment(declared_at or start),
    )


def _stalled(since: str | None, *scans: Scan, **fields: Any) -> PumpState:
    return PumpState(
        motor=Motor.STALLED if since is not None else Motor.RUNNING,
        stalled_since=moment(since) if since is not None else None,
        flow=FlowLog(scans=scans),
        **fields,
    )


def _stall(priority: Priority, since: str, words: str, **more: Any) -> Finding:
    values = {"since": words, "state": "no drug is delivered"}
    return Finding(Presence.PRESENT, (step(priority, since),), values=values, **more)


@pytest.mark.parametrize(
    ("profile", "priority", "physician_by"),
    [
        ({}, Priority.HIGH, "PT5H"),
        (HIGH_RISK, Priority.HIGH, "PT2H"),
        (MORPHINE, Priority.HIGH, "PT11H"),
        (ZICONOTIDE, Priority.MEDIUM, None),
    ],
)
def test_a_stall_calls_the_physician_half_an_hour_before_the_budget_is_used_up(
    profile: dict[str, Any], priority: Priority, physician_by: str | None
) -> None:
    """DLV-01: from the last confirmed delivery on, not from the stall; on W1 nobody is called."""
    state = _stalled("PT1H", confirmed_at=moment("-PT30M"))

    found = judged("DLV-01", "PT1H", state, profile=profile)

    assert found == _stall(
        priority,
        "PT1H",
        "2026-11-02 01:00 UTC",
        physician_by=moment(physician_by) if physician_by is not None else None,
    )


def test_a_stall_before_any_confirmed_delivery_has_no_deadline_for_the_physician() -> None:
    """DLV-01: nobody knows how much of the budget is left."""
    assert judged("DLV-01", "PT1H", _stalled("PT1H")) == _stall(Priority.HIGH, "PT1H", "2026-11-02 01:00 UTC")


def test_no_stall_is_absent_once_the_motor_or_an_ended_stall_was_told() -> None:
    """DLV-01: without either word nothing is known."""
    ended_at = moment("PT1H")

    assert judged("DLV-01", "PT2H", PumpState()) == NOT_EVALUABLE
    assert judged("DLV-01", "PT2H", PumpState(motor=Motor.RUNNING)) == ABSENT
    assert judged("DLV-01", "PT2H", PumpState(last_stall_ended_at=ended_at)) == Finding(
        Presence.ABSENT, ended_at=ended_at
    )


@pytest.mark.parametrize(
    ("lasted", "words"),
    [
        (timedelta(seconds=899), "self-recovered after 14 min"),
        (timedelta(minutes=15), "recovered after 15 min"),
        (timedelta(minutes=90), "recovered after 90 min"),
    ],
)
def test_a_stall_that_lasted_a_quarter_of_an_hour_did_not_recover_by_itself(lasted: timedelta, words: str) -> None:
    """DLV-01: the newest stall counts, in whole minutes."""
    start, end = moment("PT1H"), moment("PT1H") + lasted
    state = PumpState(
        motor=Motor.RUNNING, stalls=(Stall(START, moment("PT5M")), Stall(start, end)), last_stall_ended_at=end
    )

    assert judged("DLV-01", "PT4H", state) == Finding(
        Presence.ABSENT, ended_at=end, values={"since": "2026-11-02 01:00 UTC", "state": words}
    )


def test_of_a_stall_whose_end_nobody_told_no_length_is_said() -> None:
    """DLV-01: the text stays as it was."""
    state = PumpState(motor=Motor.RUNNING, stalls=(Stall(START),))

    assert judged("DLV-01", "PT4H", state) == ABSENT


def test_a_declared_mri_withholds_the_stall_and_takes_back_its_alert() -> None:
    """DLV-01, M.8: also after the stall is over, but not from a new stall that no MRI explains."""
    scan, own = _scan("PT0M"), track("DLV-01", "PT5M")
    taken_back = Finding(Presence.ABSENT, ended_at=moment("PT5M"), retract=Reason.MRI_DECLARED)

    assert judged("DLV-01", "PT10M", _stalled("PT5M", scan)) == ABSENT
    assert judged("DLV-01", "PT10M", _stalled("PT5M", scan), own) == taken_back
    assert judged("DLV-01", "PT30M", _stalled(None, scan), own) == taken_back
    assert judged("DLV-01", "PT5H", _stalled("PT5H", scan), own).presence is Presence.PRESENT


def test_an_alert_that_began_outside_the_window_stays_while_another_stall_is_withheld() -> None:
    """DLV-01: what the MRI does not explain is not taken back."""
    own = track("DLV-01", "-PT3H")

    assert judged("DLV-01", "PT10M", _stalled("PT5M", _scan("PT0M")), own) == ABSENT


def test_a_stall_in_a_window_that_was_declared_too_late_goes_under_what_the_mri_left_open() -> None:
    """DLV-01, M.8: MRI-04 before MRI-02, where they are about this MRI or a later one."""
    state = _stalled("PT5M", _scan("PT0M", declared_at="PT20M1S"))
    trap, overdue = track("MRI-04", "-PT15M"), track("MRI-02", "PT30M")

    assert judged("DLV-01", "PT1H", state, trap, overdue).parents == ("MRI-04", "MRI-02")
    assert judged("DLV-01", "PT1H", state, track("MRI-04", "-PT15M1S"), overdue).parents == ("MRI-02",)
    assert judged("DLV-01", "PT5H", _stalled("PT5H", _scan("PT0M")), overdue).parents == ()


def _stopped(since: str | None, **fields: Any) -> PumpState:
    since_at = moment(since) if since is not None else None
    return PumpState(motor=Motor.STOPPED, stopped_since=since_at, **{"confirmed_at": since_at, **fields})


def _steps(state: PumpState, at: str, *tracks: Episode, **known: Any) -> list[tuple[Priority, str]]:
    found = judged("DLV-03", at, state, *tracks, **known)
    return [(reached_.priority, str(reached_.at - START)) for reached_ in found.steps]


INFO, LOW, MEDIUM, HIGH = Priority.INFO, Priority.LOW, Priority.MEDIUM, Priority.HIGH


@pytest.mark.parametrize(
    ("profile", "medium", "high"),
    [
        ({}, "1:00:00", "3:00:00"),
        (HIGH_RISK, "0:45:00", "1:30:00"),
        (MORPHINE, "1:00:00", "4:00:00"),
        (ZICONOTIDE, "1:00:00", "1 day, 0:00:00"),
    ],
)
def test_a_stop_climbs_at_the_earlier_of_the_hours_and_the_share_of_the_budget(
    profile: dict[str, Any], medium: str, high: str
) -> None:
    """DLV-03: min(1 h, B/4) and min(4 h, B/2), on W1 a day."""
    assert _steps(_stopped("PT0H"), "P1D", profile=profile) == [(INFO, "0:00:00"), (MEDIUM, medium), (HIGH, high)]


@pytest.mark.parametrize(
    ("at", "steps", "wake_at"),
    [
        ("PT0S", [INFO], "PT1H"),
        ("PT59M59S", [INFO], "PT1H"),
        ("PT1H", [INFO, MEDIUM], "PT3H"),
        ("PT2H59M59S", [INFO, MEDIUM], "PT3H"),
        ("PT3H", [INFO, MEDIUM, HIGH], "PT44H"),
        ("PT43H59M59S", [INFO, MEDIUM, HIGH], "PT44H"),
        ("PT44H", [INFO, MEDIUM, HIGH], None),
    ],
)
def test_each_deadline_of_a_stop_is_inclusive_and_says_when_the_next_one_is(
    at: str, steps: list[Priority], wake_at: str | None
) -> None:
    """DLV-03: after 44 hours people are told once more."""
    long = at == "PT44H"

    found = judged("DLV-03", at, _stopped("PT0H"))

    assert [reached_.priority for reached_ in found.steps] == steps
    assert found.presence is Presence.PRESENT
    assert found.wake_at == (moment(wake_at) if wake_at is not None else None)
    assert found.reminders == ((moment("PT44H"),) if long else ())
    assert found.values == {
        "since": "2026-11-02 00:00 UTC",
        "plan": "no signed plan in force",
        "note": " Device damage risk: a stop of more than 48 h becomes critical." if long else "",
    }


@pytest.mark.parametrize(
    ("confirmed_at", "medium", "high"), [("-PT30M", "0:30:00", "2:30:00"), ("PT30M", "1:00:00", "3:00:00")]
)
def test_the_hours_of_a_stop_count_from_the_last_confirmed_delivery(confirmed_at: str, medium: str, high: str) -> None:
    """DLV-03: but never from later than the stop."""
    state = _stopped("PT0H", confirmed_at=moment(confirmed_at))

    assert _steps(state, "PT5H") == [(INFO, "0:00:00"), (MEDIUM, medium), (HIGH, high)]


def test_a_stop_long_after_the_last_confirmed_delivery_is_high_at_once() -> None:
    """DLV-03: deadlines that passed before the stop are due with it; lower steps are left out."""
    assert _steps(_stopped("PT0H", confirmed_at=moment("-PT5H")), "PT0H") == [(HIGH, "0:00:00")]
    assert _steps(_stopped("PT0H", confirmed_at=None), "PT1H") == [(INFO, "0:00:00"), (MEDIUM, "1:00:00")]


def test_a_session_that_may_hold_nothing_back_any_more_moves_no_step_before_the_stop() -> None:
    """DLV-03, I3: half of the budget had passed two hours before the pump was stopped."""
    session = Session("S", moment("-PT10M"), moment("PT2H"))
    state = _stopped("PT0H", confirmed_at=moment("-PT5H"), armed_since=moment("-PT5H"), sessions=(session,))

    assert _steps(state, "PT0H") == [(HIGH, "0:00:00")]


def test_a_later_version_of_the_profile_opens_its_steps_when_it_starts() -> None:
    """DLV-03, M.29: not in the past."""
    later = [{"from": "PT2H", **HIGH_RISK}]

    assert _steps(_stopped("PT0H"), "PT2H", profile=MORPHINE, later=[{"from": "PT2H30M", **HIGH_RISK}]) == [
        (INFO, "0:00:00"),
        (MEDIUM, "1:00:00"),
    ]
    assert _steps(_stopped("PT0H"), "PT2H", later=later) == [(INFO, "0:00:00"), (HIGH, "2:00:00")]


def test_a_signed_plan_moves_what_is_still_to_come_to_its_end() -> None:
    """DLV-03: and is named while it is in force."""
    plan = {"kind": "stop_plan", "from": "PT0H", "until": "PT10H", "care_id": "PLAN-7"}
    during = judged("DLV-03", "PT9H59M59S", _stopped("PT0H"), care=[plan])

    assert [reached_.priority for reached_ in during.steps] == [INFO]
    assert during.wake_at == moment("PT10H")
    assert during.values is not None
    assert during.values["plan"] == "plan PLAN-7 in force"
    assert _steps(_stopped("PT0H"), "PT10H", care=[plan]) == [(INFO, "0:00:00"), (HIGH, "10:00:00")]


@pytest.mark.parametrize(
    ("mri", "planned_at", "low_at"),
    [
        (None, "PT0S", "0:00:00"),
        (None, "PT24H", "0:00:00"),
        (None, "PT24H1S", None),
        (None, "-PT1S", None),
        (Mri(moment("PT0S"), declared_at=moment("PT0S")), None, "0:00:00"),
        (Mri(moment("PT10M"), declared_at=moment("PT10M")), "PT1H", "0:10:00"),
        (Mri(moment("-PT1S"), declared_at=moment("PT0S")), None, None),
        (Mri(moment("-PT1S"), declared_at=moment("PT0S")), "PT1H", "0:00:00"),
        (Mri(moment("PT10M"), last_seen_at=moment("PT10M")), None, None),
    ],
)
def test_a_stop_before_a_declared_or_soon_planned_mri_is_noted(
    mri: Mri | None, planned_at: str | None, low_at: str | None
) -> None:
    """DLV-03, M-06: LOW, and the text says why; nothing of it concerns a pump with valves."""
    planned = moment(planned_at) if planned_at is not None else None
    state = _stopped("PT0S", mri=mri, flow=FlowLog(mri_planned_at=planned))
    note = " Stopping before an MRI is discouraged: an extended stall would be noticed late."

    found = judged("DLV-03", "PT30M", state)
    valves = judged("DLV-03", "PT30M", state, profile=PROMETRA)

    low = [str(reached_.at - START) for reached_ in found.steps if reached_.priority is LOW]
    assert low == ([low_at] if low_at is not None else [])
    assert (found.values or {})["note"] == (note if low_at is not None else "")
    assert [reached_.priority for reached_ in valves.steps] == [INFO]


def test_both_notes_of_a_stop_are_told() -> None:
    """DLV-03: the damage first."""
    state = _stopped("PT0S", flow=FlowLog(mri_planned_at=moment("PT1H")))

    found = judged("DLV-03", "PT44H", state)

    assert (found.values or {})["note"] == (
        " Device damage risk: a stop of more than 48 h becomes critical."
        " Stopping before an MRI is discouraged: an extended stall would be noticed late."
    )


def test_a_session_holds_the_steps_after_info_until_a_quarter_of_an_hour_after_it() -> None:
    """DLV-03: also the note of an MRI."""
    session = Session("S", moment("-PT10M"), moment("PT2H"))
    state = _stopped("PT0S", sessions=(session,), flow=FlowLog(mri_planned_at=moment("PT1H")))

    assert _steps(state, "PT2H14M59S") == [(INFO, "0:00:00")]
    assert _steps(state, "PT2H15M") == [(INFO, "0:00:00"), (MEDIUM, "2:15:00")]


def test_a_short_session_holds_only_the_note() -> None:
    """DLV-03: the hour is up later anyway."""
    session = Session("S", moment("-PT10M"), moment("PT5M"))
    state = _stopped("PT0S", sessions=(session,), flow=FlowLog(mri_planned_at=moment("PT1H")))

    assert _steps(state, "PT1H") == [(INFO, "0:00:00"), (LOW, "0:20:00"), (MEDIUM, "1:00:00")]


def test_only_a_running_motor_ends_a_stop() -> None:
    """DLV-03: any other word leaves it open."""
    running = PumpState(motor=Motor.RUNNING, motor_at=moment("PT2H"))

    assert judged("DLV-03", "PT3H", running) == Finding(Presence.ABSENT, ended_at=moment("PT2H"))
    for motor in (None, Motor.STALLED, Motor.TELEMETRY_MODE, Motor.UNKNOWN):
        assert judged("DLV-03", "PT3H", PumpState(motor=motor, motor_at=moment("PT2H"))) == NOT_EVALUABLE


def _alarmed(**fields: Any) -> PumpState:
    return PumpState(alarms=(Alarm.PUMP_STOPPED_48H,), **{"alarms_at": moment("PT3H"), **fields})


def test_the_pump_s_own_alarm_of_a_stop_is_high_until_the_motor_runs_after_it() -> None:
    """DLV-03: running in the same report does not end it."""
    ended = Finding(Presence.ABSENT, ended_at=moment("PT3H1S"))

    assert _steps(_alarmed(), "PT4H") == [(HIGH, "3:00:00")]
    assert _steps(_alarmed(motor=Motor.RUNNING, motor_at=moment("PT3H")), "PT4H") == [(HIGH, "3:00:00")]
    assert _steps(_alarmed(motor=Motor.RUNNING), "PT4H") == [(HIGH, "3:00:00")]
    assert _steps(_alarmed(motor=Motor.UNKNOWN, motor_at=moment("PT4H")), "PT4H") == [(HIGH, "3:00:00")]
    assert judged("DLV-03", "PT4H", _alarmed(motor=Motor.RUNNING, motor_at=moment("PT3H1S"))) == ended
    assert judged("DLV-03", "PT4H", _alarmed(alarms_at=None)) == NOT_EVALUABLE
    assert judged("DLV-03", "PT4H", PumpState(alarms_at=moment("PT3H"), alarms=(Alarm.LOW_RESERVOIR,))) == NOT_EVALUABLE


def test_an_alarm_of_a_stop_continues_the_stop_that_was_told() -> None:
    """DLV-03: since when the pump stands still is the earlier of both."""
    earlier = judged("DLV-03", "PT4H", _alarmed(), track("DLV-03", "PT1H", INFO))
    later = judged("DLV-03", "PT4H", _alarmed(), track("DLV-03", "PT3H30M", INFO))
    stopped = judged("DLV-03", "PT4H", _alarmed(stopped_since=moment("PT2H")))

    assert [(found.values or {})["since"] for found in (earlier, later, stopped)] == [
        "2026-11-02 01:00 UTC",
        "2026-11-02 03:00 UTC",
        "2026-11-02 02:00 UTC",
    ]
    assert all(found.steps == (step(HIGH, "PT3H"),) for found in (earlier, later, stopped))
    assert (earlier.wake_at, later.wake_at) == (moment("PT45H"), moment("PT47H"))


def test_an_alarm_of_a_stop_still_to_come_opens_nothing_yet() -> None:
    """DLV-03: by a deadline of its own time."""
    found = judged("DLV-03", "PT2H59M59S", _alarmed())

    assert found == Finding(Presence.NOT_EVALUABLE, wake_at=moment("PT3H"))


def test_a_step_that_a_higher_one_overtakes_is_left_out() -> None:
    """At the same moment or earlier; what is not due yet does not count."""
    due = [(INFO, moment("PT0H")), (MEDIUM, moment("PT2H")), (HIGH, moment("PT2H"))]

    assert reached(due, moment("PT2H")) == (step(INFO, "PT0H"), step(HIGH, "PT2H"))
    assert reached(due, moment("PT1H59M59S")) == (step(INFO, "PT0H"),)
    assert reached([(MEDIUM, moment("PT1H")), (INFO, moment("PT0H"))], moment("PT1H")) == (
        step(MEDIUM, "PT1H"),
        step(INFO, "PT0H"),
    )
    assert reached([(INFO, moment("PT2H")), (MEDIUM, moment("PT1H")), (HIGH, moment("PT3H"))], moment("PT3H")) == (
        step(MEDIUM, "PT1H"),
        step(HIGH, "PT3H"),
    )


def _lost(priority: Priority, at: str, cause: str) -> Finding:
    return Finding(Presence.PRESENT, (step(priority, at),), values={"cause": cause})


GRAVE = "critical memory error or safe state: delivery is unknown"
RESET = "reset to the default program: delivery is unknown"


@pytest.mark.parametrize("alarm", [Alarm.CRITICAL_MEMORY_ERROR, Alarm.SAFE_STATE])
def test_a_lost_program_is_high_with_a_plain_memory_error_beside_it_too(alarm: Alarm) -> None:
    """DLV-04: the memory error alone is LOW."""
    at = moment("PT1H")
    plain = PumpState(alarms=(Alarm.MEMORY_ERROR,), alarms_at=at)
    both = PumpState(alarms=(Alarm.MEMORY_ERROR, alarm), alarms_at=at)

    assert judged("DLV-04", "PT2H", both) == _lost(HIGH, "PT1H", GRAVE)
    assert judged("DLV-04", "PT2H", plain) == _lost(LOW, "PT1H", "memory error, not critical")


def test_of_several_causes_the_gravest_is_told_and_of_those_the_earliest() -> None:
    """DLV-04: a reset and an alarm."""
    grave = PumpState(alarms=(Alarm.SAFE_STATE,), alarms_at=moment("PT2H"), reset_at=moment("PT1H"))
    later = PumpState(alarms=(Alarm.SAFE_STATE,), alarms_at=moment("PT2H"), reset_at=moment("PT3H"))
    mild = PumpState(alarms=(Alarm.MEMORY_ERROR,), alarms_at=moment("PT2H"), reset_at=moment("PT3H"))

    assert judged("DLV-04", "PT4H", grave) == _lost(HIGH, "PT1H", RESET)
    assert judged("DLV-04", "PT4H", later) == _lost(HIGH, "PT2H", GRAVE)
    assert judged("DLV-04", "PT4H", mild) == _lost(HIGH, "PT3H", RESET)


@pytest.mark.parametrize(
    ("alarms_at", "over_at", "ended_at"), [("PT1H", None, "PT1H"), (None, "PT2H", "PT2H"), ("PT3H", "PT2H", "PT3H")]
)
def test_a_lost_program_is_over_by_the_newest_word(alarms_at: str | None, over_at: str | None, ended_at: str) -> None:
    """DLV-04: alarms that name nothing of it, and delivery confirmed since a reset."""
    state = PumpState(
        alarms_at=moment(alarms_at) if alarms_at is not None else None,
        reset_at=moment("PT0H") if over_at is not None else None,
        reset_over_at=moment(over_at) if over_at is not None else None,
    )

    assert judged("DLV-04", "PT4H", state) == Finding(Presence.ABSENT, ended_at=moment(ended_at))


def test_a_pump_that_told_no_alarms_and_no_reset_may_have_lost_its_program() -> None:
    """DLV-04: nothing is known."""
    assert judged("DLV-04", "PT4H", PumpState()) == NOT_EVALUABLE


Sample = tuple[str, float]
TWICE: tuple[Sample, ...] = (("PT0M", 0.048), ("PT15M", 0.048))


def _low(
    *newest: Sample,
    since: str = "PT0M",
    program: str = "",
    changes: tuple[Change, ...] = (),
    phases: tuple[LowPhase, ...] = (),
    **fields: Any,
) -> PumpState:
    rates = tuple((moment(at), flow) for at, flow in newest)
    low = LowRate(moment(since), rates, program)
    return PumpState(flow=FlowLog(low=low, changes=changes, phases=phases), **fields)


def _minimum(priority: Priority, at: str, flow: str = "0.048") -> Finding:
    return Finding(Presence.PRESENT, (step(priority, at),), values={"flow": flow})


@pytest.mark.parametrize(
    ("profile", "priority"), [({}, HIGH), (HIGH_RISK, HIGH), (MORPHINE, HIGH), (ZICONOTIDE, MEDIUM)]
)
def test_the_second_sample_at_the_minimum_opens_it(profile: dict[str, Any], priority: Priority) -> None:
    """DLV-05: at the second sample's time."""
    assert judged("DLV-05", "PT20M", _low(*TWICE), profile=profile) == _minimum(priority, "PT15M")


def test_the_minimum_s_tolerance_is_inclusive() -> None:
    """DLV-05: 0.0504 mL/day is the minimum, a ten-thousandth more is not."""
    at_limit = (("PT0M", 0.0504), ("PT15M", 0.0504))
    above = Finding(Presence.ABSENT, ended_at=moment("PT15M"))

    assert judged("DLV-05", "PT20M", _low(*at_limit)) == _minimum(HIGH, "PT15M", "0.0504")
    assert judged("DLV-05", "PT20M", _low(("PT0M", 0.048), ("PT15M", 0.0505))) == above
    assert judged("DLV-05", "PT20M", _low(("PT15M", 0.0505))) == above


def test_a_sample_above_the_minimum_begins_the_count_anew() -> None:
    """DLV-05: only the newest two count."""
    assert judged("DLV-05", "PT20M", _low(("PT0M", 0.048))) == NOT_EVALUABLE
    assert judged("DLV-05", "PT20M", _low(("PT0M", 0.055), ("PT15M", 0.048))) == NOT_EVALUABLE
    assert judged("DLV-05", "PT40M", _low(("-PT15M", 0.055), *TWICE)) == _minimum(HIGH, "PT15M")


def test_an_open_alert_of_the_minimum_goes_on_with_every_sample() -> None:
    """DLV-05: one sample above and one at the minimum do not make it wait."""
    state = _low(("PT0M", 0.055), ("PT15M", 0.048))

    assert judged("DLV-05", "PT20M", state, track("DLV-05", "-PT1H")) == _minimum(HIGH, "PT15M")
    assert judged("DLV-05", "PT20M", state, track("DLV-05", "-PT1H", present=False)) == NOT_EVALUABLE
    assert judged("DLV-05", "PT20M", _low(("PT10M", 0.048)), track("DLV-05", "-PT1H")) == _minimum(HIGH, "PT10M")


def test_a_rate_that_is_not_low_or_a_stop_is_no_minimum() -> None:
    """DLV-05: nothing is known where no rate was told, or the pump is stopped."""
    stopped: dict[str, Any] = {"stopped_since": moment("PT0M")}

    assert judged("DLV-05", "PT20M", PumpState()) == NOT_EVALUABLE
    assert judged("DLV-05", "PT20M", PumpState(flow_ml_per_day=0.48)) == ABSENT
    assert judged("DLV-05", "PT20M", PumpState(flow_ml_per_day=0.48, **stopped)) == NOT_EVALUABLE
    assert judged("DLV-05", "PT20M", _low(*TWICE, flow_ml_per_day=0.048, **stopped)) == NOT_EVALUABLE


def test_a_prescription_at_the_minimum_or_of_saline_is_meant_so() -> None:
    """DLV-05: and without a profile nobody knows what is prescribed."""
    saline = {"drugs": [{"name": "saline"}], "prescribed_ug_per_day": None}

    assert judged("DLV-05", "PT20M", _low(*TWICE), profile={"prescribed_ug_per_day": 25.2}) == ABSENT
    assert judged("DLV-05", "PT20M", _low(*TWICE), profile={"prescribed_ug_per_day": 25.3}).steps
    assert judged("DLV-05", "PT20M", _low(*TWICE), profile=saline) == Finding(Presence.ABSENT, ended_at=moment("PT15M"))
    assert judged("DLV-05", "PT20M", _low(*TWICE), profile=None) == NOT_EVALUABLE


def test_a_version_of_the_profile_that_came_later_opens_it_when_it_starts() -> None:
    """DLV-05, M.29."""
    later = [{"from": "PT18M", "prescribed_ug_per_day": 240.0}]

    found = judged("DLV-05", "PT20M", _low(*TWICE), profile={"prescribed_ug_per_day": 20.0}, later=later)

    assert found == _minimum(HIGH, "PT18M")


SESSION = Session("S", moment("-PT20M"), moment("-PT10M"))


def _authorised(change: str, *, session_id: str = "S", session: Session = SESSION) -> PumpState:
    changes = (Change(moment("-P1D"), "unknown"), Change(moment(change), session_id))
    return _low(*TWICE, changes=changes, sessions=(session,))


@pytest.mark.parametrize("change", ["-PT15M", "PT0M", "-PT50M"])
def test_a_session_that_changed_the_program_before_explains_the_minimum(change: str) -> None:
    """DLV-05: half an hour around the session, both inclusive; an alert that began since never was."""
    state, at = _authorised(change), moment(change)
    explained = Finding(Presence.ABSENT, ended_at=at)
    disproved = Finding(Presence.ABSENT, ended_at=at, retract=Reason.LATE_EVIDENCE)

    assert judged("DLV-05", "PT20M", state) == explained
    assert judged("DLV-05", "PT20M", state, track("DLV-05", change)) == disproved
    assert judged("DLV-05", "PT20M", state, track("DLV-05", "PT15M")) == disproved
    assert judged("DLV-05", "PT20M", state, track("DLV-05", "-PT1H")) == explained


@pytest.mark.parametrize(
    "state",
    [
        _authorised("PT1S"),
        _authorised("-PT50M1S"),
        _authorised("-PT15M", session_id="T"),
        _authorised("PT0M", session=Session("S", moment("-PT50M"), moment("-PT30M1S"))),
    ],
)
def test_another_session_or_a_change_at_another_time_does_not(state: PumpState) -> None:
    """DLV-05: a second after the rate fell, a second outside the half hour, another id."""
    assert judged("DLV-05", "PT20M", state).presence is not Presence.ABSENT


def test_a_session_without_a_program_change_holds_it_back_for_a_while() -> None:
    """DLV-05: until a quarter of an hour after its end, where the rate fell during it; an open alert goes on."""
    state = _low(*TWICE, sessions=(Session("S", moment("-PT10M"), moment("PT30M")),))

    assert judged("DLV-05", "PT44M59S", state) == Finding(Presence.NOT_EVALUABLE, wake_at=moment("PT45M"))
    assert judged("DLV-05", "PT45M", state) == _minimum(HIGH, "PT45M")
    assert judged("DLV-05", "PT20M", state, track("DLV-05", "PT0M")) == _minimum(HIGH, "PT15M")


def _phase(since: str, until: str, flow: float = 0.048, program: str = "1/A") -> LowPhase:
    return LowPhase(moment(since), moment(until), flow, program)


def _scheduled(*phases: LowPhase, program: str = "1/A", **fields: Any) -> PumpState:
    return _low(*TWICE, program=program, phases=phases, **{"boot_id": 1, "checksum": "A", **fields})


@pytest.mark.parametrize(
    ("phase", "until"),
    [
        (_phase("-P1D", "-PT23H"), "PT1H30M"),
        (_phase("-P7D", "-P6DT22H"), "PT2H30M"),
        (_phase("-P1DT30M", "-PT23H"), "PT1H30M"),
        (_phase("-PT23H30M", "-PT23H"), "PT1H30M"),
    ],
)
def test_a_phase_of_the_same_program_a_day_or_a_week_before_is_its_schedule(phase: LowPhase, until: str) -> None:
    """DLV-05: while it lasted then, give or take two expected intervals; an open alert goes on."""
    state = _scheduled(phase)

    assert judged("DLV-05", "PT20M", state) == Finding(Presence.NOT_EVALUABLE, wake_at=moment(until))
    assert judged("DLV-05", until, state) == _minimum(HIGH, until)
    assert judged("DLV-05", "PT20M", state, track("DLV-05", "PT0M")) == _minimum(HIGH, "PT15M")


@pytest.mark.parametrize(
    "state",
    [
        _scheduled(_phase("-P1DT30M1S", "-PT23H")),
        _scheduled(_phase("-PT23H29M59S", "-PT23H")),
        _scheduled(_phase("-P2D", "-P1DT23H")),
        _scheduled(_phase("-P1D", "-PT23H", flow=0.049)),
        _scheduled(_phase("-P1D", "-PT23H", program="1/B")),
        _scheduled(_phase("-P1D", "-PT23H"), checksum="B"),
        _scheduled(_phase("-P1D", "-PT23H"), boot_id=2),
        _scheduled(_phase("-P1D", "-PT23H", program=""), program="", checksum=None),
    ],
)
def test_any_other_phase_is_not(state: PumpState) -> None:
    """DLV-05: at another time, of a higher rate, of another program or boot, or of a program that nobody knows."""
    assert judged("DLV-05", "PT20M", state) == _minimum(HIGH, "PT15M")


def test_of_several_phases_the_one_that_lasts_longest_counts() -> None:
    """DLV-05: in whatever order they are remembered."""
    phases = _phase("-P7D", "-P6DT22H"), _phase("-P1D", "-PT23H")

    for told in (phases, phases[::-1]):
        assert judged("DLV-05", "PT20M", _scheduled(*told)).wake_at == moment("PT2H30M")


@pytest.mark.parametrize(
    ("interval", "within"), [(60, "PT15M"), (450, "PT15M"), (600, "PT20M"), (1800, "PT1H"), (7200, "PT1H")]
)
def test_phases_may_seem_apart_by_two_intervals_within_limits(interval: int, within: str) -> None:
    """DLV-05: at least a quarter of an hour, at most an hour, inclusive."""
    profile = {"expected_interval_seconds": interval}
    early = moment("-P1D") - (moment(within) - START)
    phase = LowPhase(early, moment("-PT23H"), 0.048, "1/A")
    second = LowPhase(early - timedelta(seconds=1), moment("-PT23H"), 0.048, "1/A")

    found = judged("DLV-05", "PT15M", _scheduled(phase), profile=profile)

    assert found.wake_at == moment("PT1H") + (moment(within) - START)
    assert judged("DLV-05", "PT15M", _scheduled(second), profile=profile).steps


def test_a_phase_is_held_against_the_newest_rate() -> None:
    """DLV-05: a lower one in between does not matter."""
    low = LowRate(moment("PT0M"), tuple((moment(at), flow) for at, flow in (*TWICE, ("PT30M", 0.047))), "1/A")
    state = PumpState(boot_id=1, checksum="A", flow=FlowLog(low=low, phases=(_phase("-P1D", "-PT23H"),)))
    rising = replace(low, newest=(low.newest[0], low.newest[2], (moment("PT45M"), 0.048)))

    assert judged("DLV-05", "PT45M", state).steps
    assert not judged("DLV-05", "PT45M", replace(state, flow=replace(state.flow, low=rising))).steps


def test_the_longer_of_session_and_schedule_holds() -> None:
    """DLV-05: one does not end the other."""
    session = Session("S", moment("-PT10M"), moment("PT2H"))
    state = _scheduled(_phase("-P1D", "-PT23H"), sessions=(session,))

    assert judged("DLV-05", "PT20M", state).wake_at == moment("PT2H15M")
