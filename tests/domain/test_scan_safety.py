"""What an MRI may do beside stopping a pump, at its limits: MRI-04, MRI-05 and MRI-06 on single states."""

from __future__ import annotations

from typing import Any

import pytest

from streams.domain.alert import Episode, Priority, Reason
from streams.domain.observing.scans import Alteration, Program, Rates, ScanLog
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Presence
from streams.domain.telemetry import FlowValve, Motor
from streams.domain.world import Mri, PumpState, Sample, Session
from streams.rehearsal import moment
from tests.domain.views import MORPHINE, PROMETRA, ZICONOTIDE, judged, step, track

HIGH = Priority.HIGH
HIGH_RISK = {"risks": ["prior_withdrawal"]}
THIRD = {"family": "synchromed_iii"}


def _at(offset: str | None) -> Any:
    return moment(offset) if offset is not None else None


def _times(**offsets: str | None) -> dict[str, Any]:
    return {name: _at(offset) for name, offset in offsets.items()}


def _trap(since: str, words: str, physician_by: str | None = None) -> Finding:
    return Finding(
        Presence.PRESENT,
        (step(HIGH, since),),
        physician_by=_at(physician_by),
        values={"since": f"2026-11-02 {words} UTC"},
    )


@pytest.mark.parametrize(("profile", "physician_by"), [({}, "PT5H30M"), (MORPHINE, "PT11H30M"), (ZICONOTIDE, None)])
def test_a_field_that_came_while_an_alarm_sounded_traps_the_pump(
    profile: dict[str, Any], physician_by: str | None
) -> None:
    """MRI-04: the physician is called when the budget is used up, on W1 nobody."""
    state = PumpState(motor=Motor.RUNNING, scans=ScanLog(trapped_at=moment("PT1H")), confirmed_at=moment("-PT30M"))

    assert judged("MRI-04", "PT2H", state, profile=profile) == _trap("PT1H", "01:00", physician_by)


def test_only_synchromed_ii_is_trapped_by_a_sounding_alarm() -> None:
    """MRI-04: pumps with valves are another rule's."""
    state = PumpState(motor=Motor.RUNNING, scans=ScanLog(trapped_at=moment("PT1H")))

    assert judged("MRI-04", "PT2H", state) == _trap("PT1H", "01:00")
    assert judged("MRI-04", "PT2H", state, profile=THIRD) == ABSENT
    assert judged("MRI-04", "PT2H", state, profile=PROMETRA) == NOT_EVALUABLE


@pytest.mark.parametrize(("asked_at", "trapped"), [("PT59M", True), ("PT1H", True), ("PT1H1S", False)])
def test_only_a_later_interrogation_ends_the_trap(asked_at: str, trapped: bool) -> None:
    """MRI-04: of an open alert by its own start; its time is the end."""
    state = PumpState(motor=Motor.RUNNING, scans=ScanLog(**_times(trapped_at="PT1H", interrogated_at=asked_at)))
    calm = PumpState(motor=Motor.RUNNING, scans=ScanLog(**_times(interrogated_at=asked_at)))
    own = track("MRI-04", "PT1H")

    assert judged("MRI-04", "PT2H", state) == (_trap("PT1H", "01:00") if trapped else ABSENT)
    ended = Finding(Presence.ABSENT, ended_at=moment(asked_at))
    assert judged("MRI-04", "PT2H", calm, own) == (_trap("PT1H", "01:00") if trapped else ended)
    assert judged("MRI-04", "PT2H", calm, track("MRI-04", "PT1H", present=False)) == ABSENT


def test_an_open_trap_stays_without_any_interrogation() -> None:
    """MRI-04: whatever the pump says of its motor; a new one after an interrogation is a new one."""
    own = track("MRI-04", "PT1H")
    again = ScanLog(**_times(interrogated_at="PT2H", trapped_at="PT3H"))

    assert judged("MRI-04", "PT9H", PumpState(motor=Motor.RUNNING), own) == _trap("PT1H", "01:00")
    assert judged("MRI-04", "PT9H", PumpState(motor=Motor.RUNNING, scans=again), own) == _trap("PT3H", "03:00")


def test_a_pump_that_told_neither_motor_nor_alarms_may_be_trapped() -> None:
    """MRI-04: either word is enough."""
    assert judged("MRI-04", "PT9H", PumpState()) == NOT_EVALUABLE
    assert judged("MRI-04", "PT9H", PumpState(motor=Motor.RUNNING)) == ABSENT
    assert judged("MRI-04", "PT9H", PumpState(alarms_at=moment("PT0H"))) == ABSENT


def _telemetry(told_at: str | None = "PT0M", motor: Motor = Motor.TELEMETRY_MODE, **fields: Any) -> PumpState:
    return PumpState(
        motor=motor,
        telemetry_mode_since=moment("PT0M"),
        telemetry_mode_at=_at(told_at),
        **fields,
    )


@pytest.mark.parametrize("motor", [Motor.TELEMETRY_MODE, Motor.UNKNOWN])
def test_telemetry_mode_is_a_trap_once_a_report_shows_more_than_a_quarter_of_an_hour(motor: Motor) -> None:
    """MRI-04: longer than, not as long as; without another report two minutes later, exclusive."""
    waits = Finding(Presence.ABSENT, wake_at=moment("PT17M0.000001S"))

    assert judged("MRI-04", "PT15M1S", _telemetry("PT15M1S", motor)) == _trap("PT15M", "00:15")
    assert judged("MRI-04", "PT15M", _telemetry("PT15M", motor)) == waits
    assert judged("MRI-04", "PT17M", _telemetry("PT15M", motor)) == waits
    assert judged("MRI-04", "PT17M0.000001S", _telemetry("PT15M", motor)) == _trap("PT15M", "00:15")
    assert judged("MRI-04", "PT18M", _telemetry(None, motor)) == _trap("PT15M", "00:15")


@pytest.mark.parametrize("motor", [Motor.RUNNING, Motor.STALLED, Motor.STOPPED])
def test_any_other_word_on_the_motor_is_no_telemetry_mode(motor: Motor) -> None:
    """MRI-04: even where it was never told to be over."""
    assert judged("MRI-04", "PT1H", _telemetry("PT1H", motor)) == ABSENT
    assert judged("MRI-04", "PT1H", PumpState(motor=Motor.UNKNOWN)) == ABSENT


@pytest.mark.parametrize(("asked_at", "since", "words"), [("-PT1M", "PT15M", "00:15"), ("PT10M", "PT25M", "00:25")])
def test_after_an_interrogation_telemetry_mode_counts_anew(asked_at: str, since: str, words: str) -> None:
    """MRI-04: from the later of both."""
    state = _telemetry("PT30M", scans=ScanLog(**_times(interrogated_at=asked_at)))

    assert judged("MRI-04", "PT30M", state) == _trap(since, words)


def _session(start: str, end: str | None, session_id: str = "S") -> Session:
    return Session(session_id, moment(start), _at(end))


@pytest.mark.parametrize(
    ("sessions", "since"),
    [
        ((_session("-PT1H", "-PT1S"),), "PT15M"),
        ((_session("-PT1H", "PT0M"),), "PT15M"),
        ((_session("-PT1H", "PT5M"),), "PT20M"),
        ((_session("PT15M", "PT30M"),), "PT45M"),
        ((_session("PT15M1S", "PT30M"),), "PT15M"),
        ((_session("PT5M", "PT10M"), _session("PT20M", "PT30M")), "PT45M"),
        ((_session("PT20M", "PT30M"), _session("PT5M", "PT10M")), "PT45M"),
        ((_session("PT1M", "PT30M"), _session("PT2M", "PT3M")), "PT45M"),
    ],
)
def test_a_session_explains_telemetry_mode_until_a_quarter_of_an_hour_after_it(
    sessions: tuple[Session, ...], since: str
) -> None:
    """MRI-04: sessions that follow each other within that time add up, in whatever order they are known."""
    found = judged("MRI-04", "PT3H", _telemetry("PT3H", sessions=sessions))

    assert found.steps == (step(HIGH, since),)


@pytest.mark.parametrize(("confirmed_at", "since"), [("PT0M", "PT3H"), ("-PT2H", "PT1H"), ("-PT5H", "PT15M")])
def test_half_of_the_budget_ends_what_a_session_explains(confirmed_at: str, since: str) -> None:
    """MRI-04, I3: but a quarter of an hour it may always last."""
    state = _telemetry("PT5H", sessions=(_session("PT1M", None),), confirmed_at=moment(confirmed_at))

    assert judged("MRI-04", "PT5H", state).steps == (step(HIGH, since),)


def test_a_later_version_of_the_profile_is_a_trap_from_its_start_on() -> None:
    """M.29: MRI-04 for the pump that was taken for one with valves."""
    found = judged("MRI-04", "PT1H", _telemetry("PT1H"), profile=PROMETRA, later=[{"from": "PT30M", **THIRD}])

    assert found.steps == (step(HIGH, "PT30M"),)


FULL = {"hazard": "drug in the reservoir for the MRI: the field may release it"}
SHUT = {"hazard": "valve not reset after the MRI: no drug is delivered until it is"}


def _mri(start: str = "PT0H", ended_at: str | None = None, *, declared: bool = True) -> Mri:
    return Mri(moment(start), moment(start) if declared else None, _at(ended_at))


def _valves(
    mri: Mri | None = None, *, level_ml: float | None = None, valve: str | None = None, **fields: Any
) -> PumpState:
    names = ("scheduled_for", "scheduled_at", "valve_at", "valve_reset_at")
    log = ScanLog(
        valve=valve,
        level_of=mri.start if mri is not None and level_ml is not None else None,
        level_ml=level_ml,
        **{name: _at(fields.pop(name, None)) for name in names},
    )
    return PumpState(mri=mri, scans=log, **fields)


def _sample(value: float, at: str) -> Sample:
    return Sample(value, moment(at))


def _unsafe(state: PumpState, at: str, *tracks: Episode, **known: Any) -> Finding:
    return judged("MRI-05", at, state, *tracks, **{"profile": PROMETRA, **known})


def test_valves_are_judged_where_the_profile_or_without_one_the_pump_tells_of_them() -> None:
    """MRI-05, M.22: without any word on level or valve nothing is known."""
    closed = _valves(valve=FlowValve.CLOSED)

    assert _unsafe(_valves(), "P1D") == NOT_EVALUABLE
    assert _unsafe(closed, "P1D") == ABSENT
    assert _unsafe(closed, "P1D", profile=None) == ABSENT
    assert _unsafe(_valves(estimated=(_sample(9.0, "PT0H"),)), "P1D") == ABSENT
    assert _unsafe(closed, "P1D", profile={}) == NOT_EVALUABLE
    assert _unsafe(_valves(), "P1D", profile=None) == NOT_EVALUABLE


def test_an_mri_with_drug_in_the_reservoir_is_unsafe_from_its_start_on() -> None:
    """MRI-05: any drug; and the valve is to be looked at half an hour after the end."""
    full = Finding(Presence.PRESENT, (step(HIGH, "PT0H"),), wake_at=moment("PT2H30M"), values=FULL)

    assert _unsafe(_valves(_mri(), level_ml=0.1), "PT0H") == full
    assert _unsafe(_valves(_mri(), level_ml=0.0), "PT0H") == Finding(Presence.NOT_EVALUABLE, wake_at=moment("PT2H30M"))
    assert _unsafe(_valves(_mri(declared=False), level_ml=9.0), "PT0H") == NOT_EVALUABLE


def test_a_level_that_was_known_of_another_mri_says_nothing_of_this_one() -> None:
    """MRI-05: each start has its own."""
    state = PumpState(mri=_mri(), scans=ScanLog(level_of=moment("-P1D"), level_ml=9.0))

    assert _unsafe(state, "PT0H") == Finding(Presence.NOT_EVALUABLE, wake_at=moment("PT2H30M"))


@pytest.mark.parametrize(
    ("fields", "over"),
    [
        ({"valve_reset_at": "PT0S"}, False),
        ({"valve_reset_at": "PT1S"}, True),
        ({"estimated": (_sample(0.0, "PT0S"),)}, False),
        ({"estimated": (_sample(0.0, "PT1S"),)}, True),
        ({"estimated": (_sample(0.1, "PT1S"),)}, False),
    ],
)
def test_a_reset_or_an_empty_reservoir_since_the_start_ends_that(fields: dict[str, Any], over: bool) -> None:
    """MRI-05: what was so at the start came before it."""
    found = _unsafe(_valves(_mri(), level_ml=9.0, **fields), "PT1H")

    assert (found.presence is Presence.PRESENT) is not over


def test_an_mri_that_a_person_reviewed_is_dealt_with() -> None:
    """MRI-05: a review at its start or later; the newest one ends the open alert in that person's name."""
    state, own = _valves(_mri(), level_ml=9.0, estimated=(_sample(9.0, "-PT1H"),)), track("MRI-05", "PT0H")
    reviews = [
        {"kind": "review", "rule_id": "MRI-05", "from": "-PT1S", "person": "ada"},
        {"kind": "review", "rule_id": "MRI-05", "from": "PT0H", "person": "bob"},
        {"kind": "review", "rule_id": "MRI-04", "from": "PT30M", "person": "eve"},
    ]
    wake_at = moment("PT2H30M")

    assert _unsafe(state, "PT1H", own, care=reviews[:1]).presence is Presence.PRESENT
    assert _unsafe(state, "PT1H", own, care=reviews[1:]) == Finding(
        Presence.ABSENT, ended_at=moment("PT0H"), wake_at=wake_at, closed_by="bob"
    )
    assert _unsafe(state, "PT1H", own, care=reviews).closed_by == "bob"
    assert _unsafe(state, "PT1H", track("MRI-05", "PT1S"), care=reviews).closed_by is None
    assert _unsafe(state, "PT1H", care=reviews) == Finding(Presence.ABSENT, wake_at=wake_at)


def _planned(level: float | None = 9.0, level_at: str = "-P2D", **fields: Any) -> PumpState:
    estimated = (_sample(level, level_at),) if level is not None else ()
    planned = {"scheduled_for": "P2D", "scheduled_at": "-P1D", **fields}
    return _valves(**{"estimated": estimated, **planned})


def _full_from(since: str) -> Finding:
    return Finding(Presence.PRESENT, (step(HIGH, since),), values=FULL)


def test_a_planned_mri_is_unsafe_from_a_day_before_it() -> None:
    """MRI-05: inclusive; at the earliest when the plan was told and the level known."""
    assert _unsafe(_planned(), "PT23H59M59S") == Finding(Presence.ABSENT, wake_at=moment("P1D"))
    assert _unsafe(_planned(), "P1D") == _full_from("P1D")
    assert _unsafe(_planned(scheduled_at="P1DT6H"), "P1DT7H") == _full_from("P1DT6H")
    assert _unsafe(_planned(level_at="P1DT5H"), "P1DT7H") == _full_from("P1DT5H")


@pytest.mark.parametrize(
    "state",
    [
        _planned(0.0),
        _planned(None, valve=FlowValve.OPEN),
        _planned(scheduled_for=None),
        _planned(scheduled_at=None),
    ],
)
def test_without_a_level_or_a_plan_nothing_is_unsafe(state: PumpState) -> None:
    """MRI-05: nor with an empty reservoir."""
    assert _unsafe(state, "P1DT7H") == ABSENT


def test_a_plan_is_gone_by_a_day_after_it() -> None:
    """MRI-05: exclusive; of an open alert only reports that go on say so."""
    own = track("MRI-05", "P1D")

    assert _unsafe(_planned(), "P3D") == _full_from("P1D")
    assert _unsafe(_planned(), "P3DT1S") == ABSENT
    assert _unsafe(_planned(), "P9D", own) == _full_from("P1D")
    assert _unsafe(_planned(reported_at=moment("P3D")), "P9D", own) == _full_from("P1D")
    assert _unsafe(_planned(reported_at=moment("P3DT1S")), "P9D", own) == Finding(
        Presence.ABSENT, ended_at=moment("P3DT1S")
    )
    assert _unsafe(_planned(), "P9D", track("MRI-05", "P1D", present=False)) == NOT_EVALUABLE


def test_an_open_alert_goes_on_without_a_level() -> None:
    """MRI-05: one that is not told any more; it keeps its start."""
    assert _unsafe(_planned(None), "P1DT7H", track("MRI-05", "P1DT1H")) == _full_from("P1DT1H")
    assert _unsafe(_planned(level_at="P1DT5H"), "P1DT7H", track("MRI-05", "P1D")) == _full_from("P1D")
    assert _unsafe(_planned(0.0, "P1DT5H"), "P1DT7H", track("MRI-05", "P1D")) == Finding(
        Presence.ABSENT, ended_at=moment("P1DT5H")
    )


@pytest.mark.parametrize(("reviewed_at", "dealt_with"), [("PT23H59M59S", False), ("P1D", True)])
def test_a_review_since_a_plan_became_unsafe_deals_with_it(reviewed_at: str, dealt_with: bool) -> None:
    """MRI-05: inclusive."""
    care = [{"kind": "review", "rule_id": "MRI-05", "from": reviewed_at}]

    assert _unsafe(_planned(), "P1DT7H", care=care) == (ABSENT if dealt_with else _full_from("P1D"))


@pytest.mark.parametrize(
    ("mri", "kept"),
    [
        (_mri("PT23H59M59S"), True),
        (_mri("P1D"), False),
        (_mri("P1D", declared=False), True),
    ],
)
def test_an_mri_since_a_plan_became_unsafe_is_the_planned_one(mri: Mri, kept: bool) -> None:
    """MRI-05: a declared one; what it found is then what counts."""
    found = _unsafe(_planned(mri=mri, valve_reset_at="P1DT1H"), "P1DT7H")

    assert (found.presence is Presence.PRESENT) is kept


@pytest.mark.parametrize(
    ("fields", "full"),
    [
        ({"measured": _sample(0.0, "P1D"), "estimated": (_sample(9.0, "P1D"),)}, True),
        ({"measured": _sample(9.0, "P1D"), "estimated": (_sample(0.0, "P1D"),)}, True),
        ({"measured": _sample(9.0, "PT1H"), "estimated": (_sample(0.0, "P1DT1H"),)}, False),
        ({"measured": _sample(9.0, "PT1H1S"), "estimated": (_sample(0.0, "P1DT1H"),)}, True),
        ({"measured": _sample(9.0, "PT1H"), "estimated": ()}, True),
        (
            {
                "measured": _sample(9.0, "PT1H"),
                "refilled_at": moment("PT0H"),
                "estimated": (_sample(0.0, "P1DT1H"),),
            },
            False,
        ),
        ({"measured": _sample(9.0, "PT1H"), "refilled_at": moment("PT1H"), "estimated": ()}, True),
        ({"measured": _sample(9.0, "PT1H"), "refilled_at": moment("PT1H1S"), "estimated": ()}, False),
        (
            {
                "measured": _sample(0.0, "P1D"),
                "refilled_at": moment("P1DT1H"),
                "estimated": (_sample(9.0, "P1DT1H"),),
            },
            True,
        ),
    ],
)
def test_the_higher_level_counts_while_it_is_one(fields: dict[str, Any], full: bool) -> None:
    """MRI-05: a sensed level for a day against the other one, and until a refill."""
    assert (_unsafe(_planned(**fields), "P1DT7H").presence is Presence.PRESENT) is full


def test_a_later_version_of_the_profile_is_unsafe_from_its_start_on() -> None:
    """M.29: before a planned MRI and after one."""
    later = [{"from": "P1DT6H", **PROMETRA}]

    assert _unsafe(_planned(), "P1DT7H", profile={}, later=later) == _full_from("P1DT6H")
    assert _unsafe(_valves(_mri()), "P1DT7H", profile={}, later=later).steps == (step(HIGH, "P1DT6H"),)


def _shut(since: str, **more: Any) -> Finding:
    return Finding(Presence.PRESENT, (step(HIGH, since),), **{"values": SHUT, **more})


def test_a_valve_that_nobody_reset_is_unsafe_half_an_hour_after_the_end() -> None:
    """MRI-05: inclusive; the physician is called when the budget is used up."""
    state = _valves(_mri(ended_at="PT40M"), confirmed_at=moment("PT0H"))

    assert _unsafe(state, "PT1H9M59S") == Finding(Presence.NOT_EVALUABLE, wake_at=moment("PT1H10M"))
    assert _unsafe(state, "PT1H10M") == _shut("PT1H10M", physician_by=moment("PT6H"))
    assert _unsafe(_valves(_mri()), "PT9H") == _shut("PT2H30M")


def test_before_its_end_the_physician_is_not_called_for_a_full_reservoir() -> None:
    """MRI-05: too much drug is not too little."""
    state = _valves(_mri(), level_ml=9.0, confirmed_at=moment("PT0H"))

    assert _unsafe(state, "PT1H").physician_by is None


@pytest.mark.parametrize(
    ("ended_at", "reset_at", "reset"),
    [
        ("PT40M", "PT40M", True),
        ("PT40M", "PT39M59S", False),
        (None, "PT1S", True),
        (None, "PT0S", False),
    ],
)
def test_a_reset_counts_from_the_end_of_the_mri_on(ended_at: str | None, reset_at: str, reset: bool) -> None:
    """MRI-05: where nobody told the end, from after its start on; a valve that says it is closed is not reset."""
    state = _valves(_mri(ended_at=ended_at), valve=FlowValve.OPEN, valve_reset_at=reset_at)
    closed = _valves(_mri(ended_at=ended_at), valve=FlowValve.CLOSED, valve_reset_at=reset_at)

    assert (_unsafe(state, "PT9H") == ABSENT) is reset
    assert (_unsafe(state, "PT9H").presence is Presence.PRESENT) is not reset
    assert _unsafe(closed, "PT9H").presence is Presence.PRESENT


@pytest.mark.parametrize(
    ("valve_at", "reset_at", "since"),
    [("PT1H", "PT50M", "PT1H10M"), ("PT2H", "PT50M", "PT2H"), (None, "PT50M", "PT1H10M"), ("PT2H", None, "PT1H10M")],
)
def test_a_valve_that_closed_again_after_its_reset_is_unsafe_since_it_was_told(
    valve_at: str | None, reset_at: str | None, since: str
) -> None:
    """MRI-05: not before half an hour after the end; without a reset that deadline is what counts."""
    state = _valves(_mri(ended_at="PT40M"), valve=FlowValve.CLOSED, valve_at=valve_at, valve_reset_at=reset_at)

    assert _unsafe(state, "PT9H").steps == (step(HIGH, since),)


def test_an_undeclared_field_counts_with_a_closed_valve_only() -> None:
    """MRI-05: by the last interference that was told."""
    seen = Mri(moment("PT0H"), last_seen_at=moment("PT20M"))

    assert _unsafe(_valves(seen, valve=FlowValve.CLOSED), "PT9H") == _shut("PT50M")
    assert _unsafe(_valves(seen, valve=FlowValve.OPEN), "PT9H") == ABSENT


@pytest.mark.parametrize(("reviewed_at", "dealt_with"), [("PT1H9M59S", False), ("PT1H10M", True)])
def test_a_review_since_the_deadline_deals_with_the_valve(reviewed_at: str, dealt_with: bool) -> None:
    """MRI-05: inclusive."""
    care = [{"kind": "review", "rule_id": "MRI-05", "from": reviewed_at}]
    state = _valves(_mri(ended_at="PT40M"), valve=FlowValve.OPEN)

    assert _unsafe(state, "PT9H", care=care) == (ABSENT if dealt_with else _shut("PT1H10M"))


def test_both_hazards_of_one_mri_are_one_alert_that_is_told_again() -> None:
    """MRI-05: the valve after the drug; each time once."""
    state, own = _valves(_mri(ended_at="PT40M"), level_ml=9.0), track("MRI-05", "PT0H")
    told = (moment("PT1H10M"),)

    assert _unsafe(state, "PT9H") == _shut("PT0H")
    assert _unsafe(state, "PT9H", own) == _shut("PT0H", reminders=told)
    assert _unsafe(state, "PT9H", track("MRI-05", "PT0H", reminders=told)) == _shut("PT0H", reminders=told)
    earlier = (moment("PT30M"),)
    assert _unsafe(state, "PT9H", track("MRI-05", "PT0H", reminders=earlier)) == _shut(
        "PT0H", reminders=(*earlier, *told)
    )
    assert _unsafe(state, "PT9H", track("MRI-05", "PT1H10M")) == _shut("PT1H10M")
    assert _unsafe(state, "PT9H", track("MRI-05", "-P1D", present=False)) == _shut("PT0H", reminders=told)


def test_the_next_plan_is_looked_at_while_a_valve_waits() -> None:
    """MRI-05: whichever comes first."""
    state = _planned(mri=_mri(ended_at="PT40M"))

    assert _unsafe(state, "PT1H").wake_at == moment("PT1H10M")
    assert _unsafe(state, "PT9H") == _shut("PT1H10M", wake_at=moment("P1D"))
    assert _unsafe(_planned(mri=_mri("PT22H")), "PT23H").wake_at == moment("P1D")


@pytest.mark.parametrize(
    ("fields", "ended_at"),
    [
        ({"valve_reset_at": "PT5H"}, "PT5H"),
        ({"valve_at": "PT4H", "valve": FlowValve.OPEN, "valve_reset_at": "PT3H"}, "PT4H"),
        ({"estimated": (_sample(0.0, "PT6H"),), "valve_reset_at": "PT5H"}, "PT6H"),
        ({"estimated": (_sample(0.1, "PT6H"),), "valve_reset_at": "PT5H"}, "PT5H"),
        ({"scheduled_at": "PT7H", "valve_reset_at": "PT5H"}, "PT7H"),
        ({"valve_reset_at": "PT2H", "reported_at": moment("PT1H")}, "PT2H"),
    ],
)
def test_the_newest_word_that_it_is_safe_ends_an_open_alert(fields: dict[str, Any], ended_at: str) -> None:
    """MRI-05: at the alert's start or later."""
    found = _unsafe(_valves(_mri(ended_at="PT40M"), level_ml=9.0, **fields), "PT9H", track("MRI-05", "PT2H"))

    assert found == Finding(Presence.ABSENT, ended_at=moment(ended_at))


def test_a_plan_still_to_come_is_looked_at_after_the_end_of_an_alert() -> None:
    """MRI-05: a day before it."""
    state = _planned(mri=_mri(ended_at="PT40M"), valve_reset_at="PT5H")

    assert _unsafe(state, "PT9H", track("MRI-05", "PT2H")) == Finding(
        Presence.ABSENT, ended_at=moment("PT5H"), wake_at=moment("P1D")
    )


@pytest.mark.parametrize(
    ("reported_at", "ended_at"), [("PT2H", "PT2H"), ("PT8H", "PT8H"), ("PT1H59M59S", None), (None, None)]
)
def test_without_such_a_word_reports_that_go_on_end_it(reported_at: str | None, ended_at: str | None) -> None:
    """MRI-05: silence shows nothing."""
    state = _valves(_mri(ended_at="PT40M"), valve_reset_at="PT50M", reported_at=_at(reported_at))
    safe = Finding(Presence.ABSENT, ended_at=_at(ended_at))

    assert _unsafe(state, "PT9H", track("MRI-05", "PT2H")) == (safe if ended_at is not None else NOT_EVALUABLE)


def test_a_moved_deadline_of_the_valve_ends_nothing() -> None:
    """MRI-05: it still waits for its reset."""
    state = _valves(_mri(), reported_at=moment("PT1H"))

    assert _unsafe(state, "PT1H", track("MRI-05", "PT30M")) == Finding(
        Presence.NOT_EVALUABLE, wake_at=moment("PT2H30M")
    )


def _altered(*programs: tuple[str, str], sessions: tuple[Session, ...] = (), **fields: Any) -> PumpState:
    altered = Alteration(moment("PT2H"), moment("PT1H"), "A", **fields)
    told = tuple(Program(checksum, moment(since)) for checksum, since in programs)
    return PumpState(scans=ScanLog(altered=altered, programs=told), sessions=sessions)


def _other(what: str = "program") -> Finding:
    values = {"what": what, "exposed": "2026-11-02 01:00 UTC"}
    return Finding(Presence.PRESENT, (step(HIGH, "PT2H"),), values=values)


def test_another_program_or_schedule_after_an_exposure_is_told() -> None:
    """MRI-06: at the first report that tells it."""
    assert judged("MRI-06", "PT9H", _altered(("B", "PT2H"))) == _other()
    assert judged("MRI-06", "PT9H", _altered()) == _other()
    assert judged("MRI-06", "PT9H", _altered(schedule=True)) == _other("schedule")


def test_without_a_program_or_rates_no_change_could_be_seen() -> None:
    """MRI-06: either is enough."""
    programs, rates = (Program("A", moment("PT0H")),), Rates((0.48,))

    assert judged("MRI-06", "PT9H", PumpState()) == NOT_EVALUABLE
    assert judged("MRI-06", "PT9H", PumpState(scans=ScanLog(programs=programs))) == ABSENT
    assert judged("MRI-06", "PT9H", PumpState(scans=ScanLog(rates=rates))) == ABSENT


@pytest.mark.parametrize(
    ("session", "explains"),
    [
        (_session("PT0H", "PT30M"), True),
        (_session("PT0H", "PT29M59S"), False),
        (_session("PT2H30M", "PT3H"), True),
        (_session("PT1H30M", None), True),
    ],
)
def test_a_session_between_exposure_and_change_explains_it(session: Session, explains: bool) -> None:
    """MRI-06: give or take half an hour, inclusive; an alert about this very change never was."""
    state = _altered(("B", "PT2H"), sessions=(session,))
    disproved = Finding(Presence.ABSENT, ended_at=moment("PT2H"), retract=Reason.LATE_EVIDENCE)

    assert judged("MRI-06", "PT9H", state) == (ABSENT if explains else _other())
    if explains:
        assert judged("MRI-06", "PT9H", state, track("MRI-06", "PT2H")) == disproved
        assert judged("MRI-06", "PT9H", state, track("MRI-06", "PT1H")) == ABSENT


@pytest.mark.parametrize(("start", "at", "ended"), [("PT2H30M1S", "PT9H", True), ("PT10H", "PT9H", False)])
def test_a_later_session_ends_it(start: str, at: str, ended: bool) -> None:
    """MRI-06: the first one after it, once it has begun."""
    sessions = (_session("PT9H", None, "T"), _session(start, None))
    found = judged("MRI-06", at, _altered(("B", "PT2H"), sessions=sessions if ended else sessions[1:]))

    assert found == (Finding(Presence.ABSENT, ended_at=moment(start)) if ended else _other())


def test_a_session_that_begins_now_ends_it() -> None:
    """MRI-06: inclusive."""
    state = _altered(("B", "PT2H"), sessions=(_session("PT9H", None),))

    assert judged("MRI-06", "PT9H", state) == Finding(Presence.ABSENT, ended_at=moment("PT9H"))


@pytest.mark.parametrize(("reviewed_at", "ended"), [("PT1H59M59S", False), ("PT2H", True), ("PT5H", True)])
def test_a_review_since_the_change_ends_it(reviewed_at: str, ended: bool) -> None:
    """MRI-06: inclusive."""
    care = [{"kind": "review", "rule_id": "MRI-06", "from": reviewed_at, "person": "ada"}]
    reviewed = Finding(Presence.ABSENT, ended_at=moment(reviewed_at), closed_by="ada")

    assert judged("MRI-06", "PT9H", _altered(("B", "PT2H")), care=care) == (reviewed if ended else _other())


def test_the_old_program_running_again_ends_it() -> None:
    """MRI-06: since it was told; of a schedule nobody can say so."""
    back = ("B", "PT2H"), ("A", "PT5H")

    assert judged("MRI-06", "PT9H", _altered(*back)) == Finding(Presence.ABSENT, ended_at=moment("PT5H"))
    assert judged("MRI-06", "PT9H", _altered(*back, ("C", "PT6H"))) == _other()
    assert judged("MRI-06", "PT9H", _altered(*back, schedule=True)) == _other("schedule")
