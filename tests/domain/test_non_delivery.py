"""The non-delivery clock at its limits: what DLV-09 says of single states, and what a signed plan moves."""

from __future__ import annotations

from typing import Any

import pytest

from streams.domain.alert import Episode, Priority
from streams.domain.conditions.non_delivery import DELIVERY_RULES, after_plan, plan_in_force
from streams.domain.rule import NOT_EVALUABLE, Finding, Presence
from streams.domain.telemetry import Motor
from streams.domain.world import Mri, PumpState, Sample
from streams.rehearsal import moment
from tests.domain.views import MORPHINE, PROMETRA, ZICONOTIDE, judged, step, track, view_at

LOW, MEDIUM, HIGH = Priority.LOW, Priority.MEDIUM, Priority.HIGH
HIGH_RISK = {"risks": ["prior_withdrawal"]}
SINCE = {"since": "2026-11-02 00:00 UTC"}


def _at(offset: str | None) -> Any:
    return moment(offset) if offset is not None else None


def _armed(armed_since: str | None = "PT0H", confirmed_at: str | None = "PT0H", **fields: Any) -> PumpState:
    frozen_at = fields.pop("frozen_at", "PT0H")
    return PumpState(
        motor=Motor.UNKNOWN,
        armed_since=_at(armed_since),
        confirmed_at=_at(confirmed_at),
        frozen_at=_at(frozen_at),
        **fields,
    )


def _steps(state: PumpState, *tracks: Episode, at: str = "P5D", **known: Any) -> tuple[Any, ...]:
    return judged("DLV-09", at, state, *tracks, **known).steps


def test_without_confirmed_delivery_there_is_no_clock_and_unarmed_it_stands() -> None:
    """DLV-09: the last confirmed delivery is what shows that it stands."""
    assert judged("DLV-09", "P1D", PumpState(armed_since=moment("PT0H"))) == NOT_EVALUABLE
    assert judged("DLV-09", "P1D", _armed(armed_since=None)) == Finding(Presence.ABSENT, ended_at=moment("PT0H"))


@pytest.mark.parametrize(
    ("at", "steps", "wake_at"),
    [
        ("PT1H29M59S", (), "PT1H30M"),
        ("PT1H30M", (step(MEDIUM, "PT1H30M"),), "PT3H"),
        ("PT2H59M59S", (step(MEDIUM, "PT1H30M"),), "PT3H"),
        ("PT3H", (step(MEDIUM, "PT1H30M"), step(HIGH, "PT3H")), None),
    ],
)
def test_a_quarter_and_half_of_the_budget_are_inclusive(at: str, steps: tuple[Any, ...], wake_at: str | None) -> None:
    """DLV-09: from HIGH on the physician is called at the whole of it."""
    found = judged("DLV-09", at, _armed())

    if not steps:
        assert found == Finding(Presence.ABSENT, wake_at=_at(wake_at))
        return
    physician_by = moment("PT6H") if len(steps) == 2 else None
    assert found == Finding(Presence.PRESENT, steps, wake_at=_at(wake_at), physician_by=physician_by, values=SINCE)


@pytest.mark.parametrize(
    ("profile", "steps"),
    [
        (HIGH_RISK, (step(MEDIUM, "PT45M"), step(HIGH, "PT1H30M"))),
        (MORPHINE, (step(MEDIUM, "PT3H"), step(HIGH, "PT6H"))),
        (ZICONOTIDE, (step(HIGH, "P2D"),)),
    ],
)
def test_each_drug_has_its_own_budget(profile: dict[str, Any], steps: tuple[Any, ...]) -> None:
    """DLV-09: W1 has only the step at the whole of it, which calls the physician at once."""
    found = judged("DLV-09", "P5D", _armed(), profile=profile)

    assert found.steps == steps
    assert found.physician_by == moment(
        {0: "PT3H", 1: "PT12H", 2: "P2D"}[(HIGH_RISK, MORPHINE, ZICONOTIDE).index(profile)]
    )


def test_a_clock_that_was_armed_late_is_due_when_it_was_armed() -> None:
    """DLV-09: never in its past; MEDIUM is left out where HIGH is due no later."""
    assert _steps(_armed(armed_since="PT2H")) == (step(MEDIUM, "PT2H"), step(HIGH, "PT3H"))
    assert _steps(_armed(armed_since="PT3H")) == (step(HIGH, "PT3H"),)
    assert _steps(_armed(armed_since="PT4H")) == (step(HIGH, "PT4H"),)


def test_a_later_version_of_the_profile_is_due_when_it_starts() -> None:
    """M.29: both steps then fall together."""
    later = [{"from": "PT2H", **HIGH_RISK}]

    assert _steps(_armed(), later=later, at="PT2H") == (step(HIGH, "PT2H"),)


def test_flow_that_was_sensed_before_the_deadline_is_evidence_where_nothing_is_frozen() -> None:
    """DLV-09: the unknown motor keeps the clock armed, and wakes it; a frozen one waits where an alert is open."""
    own = track("DLV-09", "-PT5H")
    sensed = Finding(Presence.ABSENT, ended_at=moment("PT0H"), wake_at=moment("PT1H30M"))

    assert judged("DLV-09", "PT1H", _armed(frozen_at=None)) == sensed
    assert judged("DLV-09", "PT1H", _armed(frozen_at=None), own) == sensed
    assert judged("DLV-09", "PT1H", _armed(), track("DLV-09", "-PT5H", present=False)) == Finding(
        Presence.NOT_EVALUABLE, wake_at=moment("PT1H30M")
    )


@pytest.mark.parametrize(
    ("fields", "start", "medium"),
    [
        ({}, "PT1H", "PT1H"),
        ({}, "-PT1H", "-PT1H"),
        ({"frozen_at": None}, "-PT1H", "PT1H30M"),
        ({"frozen_at": None}, "PT0H", "PT1H30M"),
        ({"frozen_at": None}, "PT1S", "PT1S"),
    ],
)
def test_an_open_alert_goes_on_from_its_start_unless_delivery_was_sensed_since(
    fields: dict[str, Any], start: str, medium: str
) -> None:
    """DLV-09: at the very start counts as since."""
    assert _steps(_armed(**fields), track("DLV-09", start, MEDIUM)) == (step(MEDIUM, medium), step(HIGH, "PT3H"))


@pytest.mark.parametrize("rule_id", DELIVERY_RULES)
def test_an_open_delivery_alert_takes_the_medium_step(rule_id: str) -> None:
    """DLV-09, M.5: of MEDIUM or above, whether its condition holds or not."""
    high = (step(HIGH, "PT3H"),)
    both = (step(MEDIUM, "PT1H30M"), *high)

    for other in (track(rule_id, "PT0H", MEDIUM), track(rule_id, "PT0H", HIGH, present=False)):
        assert _steps(_armed(), other) == high
    assert _steps(_armed(), track(rule_id, "PT0H", LOW)) == both
    assert _steps(_armed(), track(rule_id, "PT0H", HIGH, retracted=True)) == both


def test_other_alerts_do_not_take_the_medium_step() -> None:
    """M.5: nor does its own."""
    assert _steps(_armed(), track("PWR-02", "PT0H")) == (step(MEDIUM, "PT1H30M"), step(HIGH, "PT3H"))


@pytest.mark.parametrize(
    ("ended_at", "medium"), [(None, "PT1H30M"), ("PT1H", "PT1H30M"), ("PT2H", "PT2H"), ("PT3H", None)]
)
def test_after_a_delivery_alert_that_closed_the_medium_step_is_due_when_it_ended(
    ended_at: str | None, medium: str | None
) -> None:
    """DLV-09: of several the last one counts; never at or after HIGH."""
    closed = track("DLV-01", "PT0H", closed=True, present=False, ended_at=_at(ended_at))
    earlier = track("DLV-03", "PT0H", closed=True, present=False, ended_at=moment("PT1H15M"))
    mild = track("RSV-02", "PT0H", LOW, closed=True, present=False, ended_at=moment("PT2H30M"))
    steps = ((step(MEDIUM, medium),) if medium is not None else ()) + (step(HIGH, "PT3H"),)

    assert _steps(_armed(), closed, earlier, mild) == steps


def test_a_closed_alert_hides_no_open_one_behind_it() -> None:
    """DLV-09: each rule is looked at."""
    closed = track("DLV-01", "PT0H", closed=True, present=False, ended_at=moment("PT2H"))

    assert _steps(_armed(), closed, track("RSV-02", "PT0H")) == (step(HIGH, "PT3H"),)
    assert _steps(_armed(), track("DLV-01", "PT0H", LOW), track("RSV-02", "PT0H")) == (step(HIGH, "PT3H"),)


def _mri(ended_at: str | None = "PT1H30M", **fields: Any) -> Mri:
    return Mri(moment("PT0H"), ended_at=_at(ended_at), **{"declared_at": moment("PT0H"), **fields})


@pytest.mark.parametrize(
    ("mri", "profile", "medium"),
    [
        (_mri(), {}, "PT2H"),
        (_mri("PT30M"), {}, "PT1H30M"),
        (_mri(None), {}, "PT2H30M"),
        (_mri(recovered_at=moment("PT1H")), {}, "PT1H30M"),
        (_mri(declared_at=None), {}, "PT1H30M"),
        (_mri(), PROMETRA, "PT1H30M"),
    ],
)
def test_a_declared_mri_holds_the_medium_step_until_its_recovery_is_overdue(
    mri: Mri, profile: dict[str, Any], medium: str
) -> None:
    """DLV-09: half an hour after its end; a pump with valves, a recovered one or an undeclared field hold nothing."""
    assert _steps(_armed(mri=mri), profile=profile) == (step(MEDIUM, medium), step(HIGH, "PT3H"))


def test_without_a_profile_no_mri_holds_the_medium_step() -> None:
    """M.22: the strictest budget counts, three hours."""
    assert _steps(_armed(mri=_mri("PT20M")), profile=None) == (step(MEDIUM, "PT45M"), step(HIGH, "PT1H30M"))


def test_its_parents_are_the_alerts_that_say_so_of_the_present_moment() -> None:
    """DLV-09: what merely waits for a person, or may be true for days, is none."""
    tracks = (track("DLV-01", "PT0H"), track("RSV-02", "PT0H"), track("MRI-04", "PT0H", present=False))

    found = judged("DLV-09", "PT4H", _armed(), *tracks, track("DLV-08", "PT0H"))

    assert found.parents == ("DLV-01", "RSV-02")


PLAN = {"kind": "stop_plan", "from": "PT1H", "until": "PT10H"}


@pytest.mark.parametrize(
    ("fields", "tracks", "moved"),
    [
        ({"stopped_since": moment("PT0H")}, (), True),
        ({}, (track("DLV-03", "PT0H", Priority.INFO),), True),
        ({}, (track("DLV-03", "PT0H", Priority.INFO, present=False),), False),
        ({}, (), False),
    ],
)
def test_a_signed_plan_moves_the_steps_of_a_stop_alone(
    fields: dict[str, Any], tracks: tuple[Episode, ...], moved: bool
) -> None:
    """DLV-09, I3: an interruption of another kind is covered by no plan for a stop."""
    steps = (step(HIGH, "PT10H"),) if moved else (step(MEDIUM, "PT1H30M"), step(HIGH, "PT3H"))

    assert _steps(_armed(**fields), *tracks, care=[PLAN]) == steps


@pytest.mark.parametrize(
    ("care", "due", "moved_to"),
    [
        ([PLAN], "PT59M59S", "PT59M59S"),
        ([PLAN], "PT1H", "PT10H"),
        ([PLAN], "PT9H", "PT10H"),
        ([PLAN], "PT11H", "PT11H"),
        ([{**PLAN, "until": "P3D"}], "PT2H", "P1D"),
        ([{**PLAN, "from": "PT10H", "until": "PT12H"}, PLAN], "PT2H", "PT12H"),
        ([{**PLAN, "from": "PT10H1S", "until": "PT12H"}, PLAN], "PT2H", "PT10H"),
        ([{"kind": "session", "session_id": "S", "from": "PT1H", "until": "PT10H"}], "PT2H", "PT2H"),
        ([{"kind": "session", "session_id": "S", "from": "PT0H", "until": "PT1H"}, PLAN], "PT2H", "PT10H"),
        ([{**PLAN, "from": "PT5H"}, {**PLAN, "from": "PT6H"}], "PT2H", "PT2H"),
    ],
)
def test_a_deadline_in_a_plan_is_due_at_its_end(care: list[dict[str, Any]], due: str, moved_to: str) -> None:
    """I3: a day after the last confirmed delivery at the latest; plans that follow each other add up."""
    view = view_at("P2D", PumpState(), care=care)

    assert after_plan(view, moment("PT0H"), moment(due)) == moment(moved_to)


@pytest.mark.parametrize(
    ("at", "confirmed_at", "in_force"),
    [
        ("PT59M59S", "PT0H", False),
        ("PT1H", "PT0H", True),
        ("PT9H59M59S", "PT0H", True),
        ("PT10H", "PT0H", False),
        ("PT9H", "-PT15H", False),
        ("PT8H59M59S", "-PT15H", True),
        ("PT9H", None, True),
    ],
)
def test_a_plan_is_in_force_for_a_day_without_delivery_at_most(
    at: str, confirmed_at: str | None, in_force: bool
) -> None:
    """I3: at the very end of the day it is no more."""
    plan = plan_in_force(view_at(at, PumpState(confirmed_at=_at(confirmed_at)), care=[PLAN]))

    assert (plan is not None) is in_force


def _silent(at: str, heard_at: str = "PT0H", profile: dict[str, Any] | None = None, **fields: Any) -> Finding:
    state = PumpState(**{"motor": Motor.RUNNING, "confirmed_at": moment("PT0H"), **fields})
    return judged("DLV-09", at, state, heard_at=heard_at, profile=profile or {})


def test_silence_after_a_running_motor_is_medium_at_the_budget() -> None:
    """DLV-09, M.4: inclusive; and at the earliest ten seconds after the pump was last heard."""
    medium = Finding(Presence.PRESENT, (step(MEDIUM, "PT6H"),), values=SINCE)

    assert _silent("PT5H59M59S") == Finding(Presence.NOT_EVALUABLE, wake_at=moment("PT6H"))
    assert _silent("PT6H") == medium
    assert _silent("PT6H9S", "PT6H") == Finding(Presence.NOT_EVALUABLE, wake_at=moment("PT6H10S"))
    assert _silent("PT6H10S", "PT6H") == medium
    assert _silent("PT5H", "PT4H") == Finding(Presence.NOT_EVALUABLE, wake_at=moment("PT6H"))


@pytest.mark.parametrize(
    "fields",
    [{"confirmed_at": None}, {"armed_since": moment("PT0H")}, {"motor": Motor.UNKNOWN}, {"motor": None}],
)
def test_silence_after_any_other_word_is_another_branch_s(fields: dict[str, Any]) -> None:
    """DLV-09: the last state must be running."""
    assert _silent("P2D", **fields) == NOT_EVALUABLE


@pytest.mark.parametrize(("seconds", "judges"), [(2700, True), (2701, False)])
def test_silence_is_judged_of_pumps_that_report_eight_times_in_a_budget(seconds: int, judges: bool) -> None:
    """DLV-09: inclusive; of the others COM-01 alone tells."""
    found = _silent("PT6H", profile={"expected_interval_seconds": seconds})

    assert (found.presence is Presence.PRESENT) is judges
    assert judges or found == NOT_EVALUABLE


def test_a_patient_at_high_risk_gets_high_at_twice_the_budget() -> None:
    """DLV-09: inclusive."""
    before, then = _silent("PT5H59M59S", profile=HIGH_RISK), _silent("PT6H", profile=HIGH_RISK)

    assert before == Finding(Presence.PRESENT, (step(MEDIUM, "PT3H"),), wake_at=moment("PT6H"), values=SINCE)
    assert then == Finding(Presence.PRESENT, (step(MEDIUM, "PT3H"), step(HIGH, "PT6H")), values=SINCE)


@pytest.mark.parametrize(("ml", "high"), [(0.48, "P1D"), (0.12, "PT12H")])
def test_others_get_high_once_the_reservoir_is_empty_too(ml: float, high: str) -> None:
    """DLV-09: in the worst case, and not before twice the budget; without a level nobody knows."""
    level = Sample(1.145 * ml, moment("PT0H"))
    state: dict[str, Any] = {"estimated": (level,), "flow_ml_per_day": 0.48}

    found = _silent("P3D", **state)

    assert found.steps == (step(MEDIUM, "PT6H"), step(HIGH, high))
    assert found.wake_at is None
    assert _silent("PT7H", **state).wake_at == moment(high)
    assert _silent("P3D") == Finding(Presence.PRESENT, (step(MEDIUM, "PT6H"),), values=SINCE)


def test_a_sensed_level_counts_where_it_was_fresh_when_delivery_was_last_confirmed() -> None:
    """DLV-09: silence makes it no older."""
    sensed, told = Sample(1.145 * 0.48, moment("-PT23H")), Sample(18.0, moment("PT0H"))

    assert _silent("P2D", measured=sensed, estimated=(told,), flow_ml_per_day=0.24).steps[-1] == step(HIGH, "P1DT1H")
    older = Sample(1.145 * 0.48, moment("-P1D"))
    assert _silent("P2D", measured=older, estimated=(told,), flow_ml_per_day=0.24).steps == (step(MEDIUM, "PT6H"),)
