"""Programmed doses at their limits: what THR-01 and THR-03 say of single states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from streams.domain.alert import Episode, Priority, Reason
from streams.domain.conditions.dose import increase_times, recent_doses
from streams.domain.observing.dosing import SAME_DOSE, Basis, Dose, DoseHistory, DosingLog, Program
from streams.domain.observing.schedule import DAY, Rate, Schedule
from streams.domain.profile import PumpProfile
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Presence
from streams.domain.world import PumpState, Session, Symptoms
from streams.rehearsal import START, moment, profiles_of
from tests.domain.views import MORPHINE, ZICONOTIDE, judged, step, track, view_at
from tests.shipped import RULES

LOW, MEDIUM, HIGH = Priority.LOW, Priority.MEDIUM, Priority.HIGH
Told = tuple[str, float]
SALINE = {"drugs": [{"name": "saline"}], "prescribed_ug_per_day": None}
HALF = 0.48
"""The prescribed rate of the default profile, mL/day."""


def _at(offset: str | None) -> Any:
    return moment(offset) if offset is not None else None


def _profile(fields: Mapping[str, Any]) -> PumpProfile:
    return profiles_of(fields).versions[0]


def _dosing(
    *rates: Told,
    heard_at: str | None = None,
    had_steps: bool = False,
    changed_at: str | None = None,
    prescribed_at: str | None = None,
    basis: bool = True,
    profile: Mapping[str, Any] = {},
    rate: float | None = HALF,
    sessions: tuple[Session, ...] = (),
    reported_at: str | None = None,
    **basis_fields: Any,
) -> PumpState:
    known = _profile(profile)
    drug = known.drugs[0]
    told = Basis(
        known.valid_from,
        drug.name,
        drug.concentration_ug_per_ml,
        known.prescribed_ug_per_day,
        _at(prescribed_at),
        **basis_fields,
    )
    shown = tuple(Rate(moment(at), ml_per_day) for at, ml_per_day in rates)
    heard = heard_at or (rates[-1][0] if rates else None)
    schedule = Schedule(shown, _at(heard), had_steps=had_steps)
    log = DosingLog(
        schedule=schedule, program=Program(changed_at=_at(changed_at)), basis=told if basis else None, rate=rate
    )
    return PumpState(dosing=log, sessions=sessions, reported_at=_at(reported_at))


def _off(state: PumpState, at: str, *tracks: Episode, **known: Any) -> Finding:
    return judged("THR-01", at, state, *tracks, **known)


def _wrong(since: str, cause: str, wake_at: str | None = None) -> Finding:
    return Finding(Presence.PRESENT, (step(HIGH, since),), wake_at=_at(wake_at), values={"cause": cause})


VISIT = (Session("S", moment("PT0H"), moment("PT1H")),)
TIMES = "times the prescribed dose"


@pytest.mark.parametrize(
    ("ml_per_day", "times"),
    [(0.504, None), (0.456, None), (0.50401, "1.05"), (0.45599, "0.95"), (0.6, "1.25"), (1.92, "4.00")],
)
def test_a_dose_may_differ_from_the_prescription_by_its_tolerance(ml_per_day: float, times: str | None) -> None:
    """THR-01: five percent, inclusive, both ways; since the session that asked."""
    found = _off(_dosing(("-P2D", ml_per_day), sessions=VISIT), "PT2H")

    assert found == (_wrong("PT1H", f"{times} {TIMES}") if times is not None else ABSENT)


@pytest.mark.parametrize(
    ("fields", "since"),
    [
        ({}, None),
        ({"sessions": VISIT}, "PT1H"),
        ({"sessions": (Session("S", moment("-PT5H")),)}, "-PT5H"),
        ({"sessions": (*VISIT, Session("T", moment("-PT3H"), moment("-PT2H")))}, "PT1H"),
        ({"sessions": (Session("T", moment("PT3H"), moment("PT4H")),)}, None),
        ({"prescribed_at": "PT1H30M"}, "PT1H30M"),
        ({"prescribed_at": "PT2H"}, "PT2H"),
        ({"prescribed_at": "PT2H1S"}, None),
        ({"sessions": VISIT, "prescribed_at": "PT30M"}, "PT1H"),
    ],
)
def test_a_session_or_another_prescription_asks_whether_the_dose_fits(
    fields: dict[str, Any], since: str | None
) -> None:
    """THR-01: the latest of them that has come counts; without any nobody asks."""
    found = _off(_dosing(("-P2D", 0.6), **fields), "PT2H")

    assert found == (_wrong(since, f"1.25 {TIMES}") if since is not None else ABSENT)


def test_a_rate_that_began_after_the_session_is_wrong_since_then() -> None:
    """THR-01: the later of both."""
    assert _off(_dosing(("PT90M", 0.6), sessions=VISIT), "PT2H") == _wrong("PT90M", f"1.25 {TIMES}")


def test_while_a_session_goes_on_nothing_is_judged() -> None:
    """THR-01: nor in the quarter of an hour after it; at its end what is due is due then."""
    state = _dosing(("-P2D", 0.6), sessions=VISIT, rate=30.0)
    waits = Finding(Presence.NOT_EVALUABLE, wake_at=moment("PT1H15M"))

    assert _off(state, "PT0H") == waits
    assert _off(state, "PT1H14M59S") == waits
    assert _off(state, "PT1H15M") == _wrong("PT1H15M", f"1.25 {TIMES}")
    assert _off(state, "PT1H15M1S") == _wrong("PT1H", f"1.25 {TIMES}")


@pytest.mark.parametrize(
    ("state", "profile"),
    [
        (_dosing(("-P2D", 0.6), sessions=VISIT, basis=False), {}),
        (_dosing(("-P2D", 0.6), sessions=VISIT, profile={"valid_from": "2021-01-01"}), {}),
        (_dosing(("-P2D", 0.6), sessions=VISIT), {**SALINE}),
        (
            _dosing(("-P2D", 0.6), sessions=VISIT),
            {"drugs": [{"name": "saline"}, {"name": "baclofen", "concentration_ug_per_ml": 500.0}]},
        ),
        (
            _dosing(("-P2D", 0.6), sessions=VISIT),
            {
                "drugs": [
                    {"name": "saline", "concentration_ug_per_ml": 1.0},
                    {"name": "baclofen", "concentration_ug_per_ml": 500.0},
                ],
                "prescribed_ug_per_day": None,
            },
        ),
        (_dosing(("-P2D", 0.6), sessions=VISIT), None),
    ],
)
def test_a_dose_is_held_against_a_prescription_that_the_pump_reported_under(
    state: PumpState, profile: dict[str, Any] | None
) -> None:
    """THR-01: saline has none, and without a profile nobody knows it."""
    assert _off(state, "PT2H", profile=profile) == ABSENT


def test_without_any_rate_nothing_is_known() -> None:
    """THR-01: of saline nothing needs to be."""
    state = _dosing(sessions=VISIT, rate=None)

    assert _off(state, "PT2H") == NOT_EVALUABLE
    assert _off(state, "PT2H", profile=SALINE) == ABSENT


STEPS = (("-PT30H", 0.24), ("-PT12H", 0.72))
"""The mean of the day up to the start is the prescribed rate."""


def test_the_mean_of_a_day_with_steps_counts_until_a_day_without_another_rate() -> None:
    """THR-01: a window that moves on over steps long past tells nothing new."""
    state = _dosing(*STEPS, heard_at="PT0H", sessions=(Session("S", moment("-PT3H"), moment("-PT2H")),))

    assert _off(state, "PT0H") == Finding(Presence.ABSENT, wake_at=moment("PT24H"))
    assert _off(state, "PT23H59M59S") == Finding(Presence.ABSENT, wake_at=moment("PT24H"))
    assert _off(state, "PT24H") == _wrong("-PT2H", f"1.50 {TIMES}")


def test_what_the_steps_unknown_moments_may_hide_is_no_difference() -> None:
    """THR-01: half an expected interval of each step's height, which is a quarter of a percent here."""
    session = Session("S", moment("-PT3H"), moment("-PT2H"))
    near = _dosing(("-PT30H", 0.24), ("-PT13H19M", 0.72), heard_at="PT0H", sessions=(session,))
    far = _dosing(("-PT30H", 0.24), ("-PT13H21M", 0.72), heard_at="PT0H", sessions=(session,))

    assert _off(near, "PT0H").presence is Presence.ABSENT
    assert _off(far, "PT0H") == _wrong("-PT2H", f"1.06 {TIMES}", "PT24H")


def test_a_changed_program_is_known_at_once_where_its_rate_was_steady() -> None:
    """THR-01: from the change on, and after a day since the day was whole."""
    before, same = _dosing(("-P2D", 0.6), changed_at="PT0H", heard_at="PT1H"), f"1.25 {TIMES}"
    new = _dosing(("-P2D", HALF), ("PT1H", 0.6), changed_at="PT0H")

    assert _off(before, "PT2H") == _wrong("PT0H", same)
    assert _off(new, "PT2H") == _wrong("PT1H", same, "PT25H")
    assert _off(new, "PT23H59M59S") == _wrong("PT1H", same, "PT25H")
    assert _off(before, "PT24H") == _wrong("PT24H", same)
    assert _off(before, "PT30H") == _wrong("PT24H", same)


def test_the_rate_at_the_very_change_is_the_new_program_s() -> None:
    """THR-01: the one from before it is not."""
    state = _dosing(("-P2D", HALF), ("PT0H", 0.6), changed_at="PT0H")

    assert _off(state, "PT2H") == _wrong("PT0H", f"1.25 {TIMES}", "PT24H")


@pytest.mark.parametrize("heard_at", ["-PT1S", "-P1D"])
def test_a_rate_told_before_the_change_is_judged_after_a_day_without_another(heard_at: str) -> None:
    """THR-01: until then the new program has shown nothing."""
    state = _dosing(("-P2D", 0.6), changed_at="PT0H", heard_at=heard_at)

    assert _off(state, "PT23H59M59S") == Finding(Presence.NOT_EVALUABLE, wake_at=moment("PT24H"))
    assert _off(state, "PT24H") == _wrong("PT24H", f"1.25 {TIMES}")


def test_a_new_program_that_gave_more_than_a_day_s_dose_is_wrong_before_its_day_is_whole() -> None:
    """THR-01: 0.504 mL, five percent more than the prescription, since the first rate that it told."""
    rates = (("-P2D", HALF), ("PT1H", 0.24), ("PT5H", 0.48), ("PT11H", 2.4))
    state, given_at = _dosing(*rates, changed_at="PT0H"), "PT14H26M24S"
    waits = Finding(Presence.NOT_EVALUABLE, wake_at=moment(given_at))
    cause = "more than a day's prescribed dose in less than a day"

    assert _off(state, "PT12H") == waits
    assert _off(state, "PT14H26M23S") == waits
    assert _off(state, given_at) == _wrong(given_at, cause, "PT24H")
    assert _off(state, "PT20H") == _wrong(given_at, cause, "PT24H")


def test_a_new_program_with_a_second_rate_has_steps() -> None:
    """THR-01: the first at the very change, from which on its volume counts."""
    state = _dosing(("-P2D", HALF), ("PT0H", 1.008), ("PT6H", 2.016), changed_at="PT0H")
    slow = _dosing(("-P2D", HALF), ("PT0H", 0.24), ("PT1H", 0.48), changed_at="PT0H")

    assert _off(state, "PT7H") == Finding(Presence.NOT_EVALUABLE, wake_at=moment("PT9H"))
    assert _off(slow, "PT2H") == Finding(Presence.NOT_EVALUABLE, wake_at=moment("PT24H"))


def test_a_steady_rate_after_a_schedule_with_steps_may_only_be_its_first_one() -> None:
    """THR-01: its whole day is waited for, unless it gives too much before."""
    slow = _dosing(("PT0H", HALF), changed_at="PT0H", had_steps=True)
    fast = _dosing(("-P2D", 1.008), changed_at="PT0H", heard_at="PT0H", had_steps=True)

    assert _off(slow, "PT2H") == Finding(Presence.NOT_EVALUABLE, wake_at=moment("PT24H"))
    assert _off(slow, "PT24H") == ABSENT
    assert _off(fast, "PT2H") == Finding(Presence.NOT_EVALUABLE, wake_at=moment("PT12H"))
    assert _off(fast, "PT12H").steps == (step(HIGH, "PT12H"),)


@pytest.mark.parametrize(
    ("start", "at", "taken_back"),
    [
        ("PT0H", "PT24H", True),
        ("PT23H59M59S", "PT30H", True),
        ("PT24H", "PT30H", False),
        ("-PT1S", "PT30H", False),
        ("PT0H", "PT23H59M59S", False),
    ],
)
def test_a_guess_from_a_new_program_s_first_rate_is_taken_back_where_its_day_disproves_it(
    start: str, at: str, taken_back: bool
) -> None:
    """THR-01: an alert that began in that day; any other merely ends."""
    state = _dosing(("-P2D", HALF), changed_at="PT0H", heard_at="PT1H")
    retract = Reason.LATE_EVIDENCE if taken_back else None

    found = _off(state, at, track("THR-01", start))

    assert found == Finding(Presence.ABSENT, retract=retract)


def test_nothing_is_taken_back_of_an_alert_that_is_over_or_without_a_change_or_a_rate() -> None:
    """THR-01: what nobody knows disproves nothing."""
    state, own = _dosing(("-P2D", HALF), changed_at="PT0H", heard_at="PT1H"), track("THR-01", "PT0H")

    assert _off(state, "PT30H", track("THR-01", "PT0H", present=False)) == ABSENT
    assert _off(_dosing(("-P2D", HALF)), "PT30H", own) == ABSENT
    assert _off(_dosing(changed_at="PT0H"), "PT30H", own) == NOT_EVALUABLE


def test_a_later_plan_to_look_again_is_kept_while_an_alert_is_taken_back() -> None:
    """THR-01: a day after the last rate."""
    state = _dosing(("PT0H", 0.24), ("PT12H", 0.72), changed_at="PT0H", heard_at="PT24H")

    assert _off(state, "PT24H", track("THR-01", "PT1H")) == Finding(
        Presence.ABSENT, retract=Reason.LATE_EVIDENCE, wake_at=moment("PT48H")
    )


KEPT = "a rate that the device cannot keep"


@pytest.mark.parametrize(
    ("rate", "wrong"), [(0.048, False), (0.0479, True), (24.0, False), (24.01, True), (0.0, True), (None, False)]
)
def test_a_rate_that_no_device_keeps_is_wrong_as_long_as_it_is_told(rate: float | None, wrong: bool) -> None:
    """THR-01: both ends inclusive; an open alert keeps its start."""
    state = _dosing(("-P2D", HALF), rate=rate)

    assert _off(state, "PT2H") == (_wrong("PT2H", KEPT) if wrong else ABSENT)
    if wrong:
        assert _off(state, "PT2H", track("THR-01", "PT1H")) == _wrong("PT1H", KEPT)
        assert _off(state, "PT2H", track("THR-01", "PT1H", present=False)) == _wrong("PT2H", KEPT)


def test_a_declared_stop_is_no_rate_that_the_device_cannot_keep() -> None:
    """THR-01: a plan covers no rate but zero, a pump with valves keeps any low one."""
    plan = [{"kind": "stop_plan", "from": "PT0H", "until": "PT9H"}]
    session = [{"kind": "session", "session_id": "S", "from": "-PT5H", "until": "-PT4H"}]
    stopped, slow = _dosing(("-P2D", HALF), rate=0.0), _dosing(("-P2D", HALF), rate=0.01)

    assert _off(stopped, "PT2H", care=plan) == ABSENT
    assert _off(slow, "PT2H", care=plan) == _wrong("PT2H", KEPT)
    assert _off(stopped, "PT2H", care=session) == _wrong("PT2H", KEPT)
    assert _off(stopped, "PT10H", care=plan) == _wrong("PT10H", KEPT)
    assert _off(slow, "PT2H", profile={"family": "prometra"}) == ABSENT


def test_of_several_causes_the_earliest_is_told() -> None:
    """THR-01: not the first that was looked at."""
    state = _dosing(("-P2D", 0.6), sessions=VISIT, rate=30.0)

    assert _off(state, "PT2H") == _wrong("PT1H", f"1.25 {TIMES}")


HIGHEST = "more than the drug's highest dose"


@pytest.mark.parametrize(("ml_per_day", "wrong"), [(0.768, False), (0.7681, True)])
def test_ziconotide_has_a_highest_dose(ml_per_day: float, wrong: bool) -> None:
    """THR-01: 19.2 micrograms a day, inclusive; also as the second drug of a mixture, whatever was prescribed."""
    alone = ZICONOTIDE
    mixed = {
        "drugs": [
            {"name": "morphine", "concentration_ug_per_ml": 10000.0},
            {"name": "ziconotide", "concentration_ug_per_ml": 25.0},
        ],
        "prescribed_ug_per_day": 7680.0,
    }

    for profile in (alone, mixed):
        state = _dosing(("-P2D", ml_per_day), profile=profile)
        assert _off(state, "PT2H", profile=profile) == (_wrong("PT2H", HIGHEST) if wrong else ABSENT)
    if wrong:
        state = _dosing(("-P2D", ml_per_day), profile=alone)
        assert _off(state, "PT2H", track("THR-01", "PT1H"), profile=alone) == _wrong("PT1H", HIGHEST)
        assert _off(_dosing(("-P2D", ml_per_day), basis=False), "PT2H", profile=alone) == ABSENT
        assert _off(_dosing(("-P2D", ml_per_day), profile=MORPHINE), "PT2H", profile=MORPHINE) == ABSENT
        assert _off(_dosing(profile=alone), "PT2H", profile=alone) == NOT_EVALUABLE


def test_what_steps_may_hide_is_not_above_the_highest_dose() -> None:
    """THR-01: the mean of these steps is a little above it, by less than their moments are unsure."""
    near = _dosing(("-PT30H", 0.264), ("-PT12H", 1.274), heard_at="PT0H", profile=ZICONOTIDE)
    far = _dosing(("-PT30H", 0.264), ("-PT12H", 1.3), heard_at="PT0H", profile=ZICONOTIDE)

    assert _off(near, "PT1H", profile=ZICONOTIDE).presence is Presence.ABSENT
    assert _off(far, "PT1H", profile=ZICONOTIDE) == _wrong("PT1H", HIGHEST, "PT24H")


BRIDGE = "no bridge bolus after a changed concentration"


def _bridged(*bridges: str, sessions: tuple[Session, ...] = VISIT, **fields: Any) -> PumpState:
    boluses = tuple(moment(bolus) for bolus in bridges)
    return _dosing(("-P2D", HALF), concentrated_at=moment("PT0H"), bridges=boluses, sessions=sessions, **fields)


def test_a_changed_concentration_without_a_bolus_is_wrong_after_its_session() -> None:
    """THR-01: a quarter of an hour after its end, until the pump reports again some minutes later."""
    waits = Finding(Presence.NOT_EVALUABLE, wake_at=moment("PT1H15M"))

    assert _off(_bridged(), "PT1H14M59S") == waits
    assert _off(_bridged(), "PT1H15M") == _wrong("PT1H15M", BRIDGE)
    assert _off(_bridged(reported_at="PT1H29M59S"), "PT2H") == _wrong("PT1H15M", BRIDGE)
    assert _off(_bridged(reported_at="PT1H30M"), "PT2H") == ABSENT
    assert _off(_dosing(("-P2D", HALF), sessions=VISIT), "PT2H") == ABSENT


@pytest.mark.parametrize(
    ("bolus", "counts"), [("-PT1S", False), ("PT0H", True), ("PT1H15M", True), ("PT1H15M1S", False)]
)
def test_a_bolus_in_the_session_or_just_after_it_is_the_bridge(bolus: str, counts: bool) -> None:
    """THR-01: both ends inclusive; one of several is enough."""
    assert _off(_bridged(bolus), "PT2H") == (ABSENT if counts else _wrong("PT1H15M", BRIDGE))
    assert _off(_bridged("-PT1H", bolus), "PT2H") == (ABSENT if counts else _wrong("PT1H15M", BRIDGE))


@pytest.mark.parametrize(
    ("start", "due"),
    [("-PT4H", "-PT2H45M"), ("-PT4H1S", None), ("PT24H", "PT25H15M"), ("PT24H1S", None)],
)
def test_the_session_of_a_changed_concentration_begins_around_it(start: str, due: str | None) -> None:
    """THR-01: four hours before until a day after it, inclusive."""
    session = Session("S", moment(start), moment(start) + (moment("PT1H") - START))

    assert _off(_bridged(sessions=(session,)), "P3D") == (_wrong(due, BRIDGE) if due is not None else ABSENT)


def test_of_several_sessions_the_first_one_needs_the_bridge() -> None:
    """THR-01: in whatever order they are known."""
    both = (Session("T", moment("PT5H"), moment("PT6H")), *VISIT)

    assert _off(_bridged("PT5H30M", sessions=both), "P3D") == _wrong("PT1H15M", BRIDGE)
    assert _off(_bridged("PT30M", sessions=both), "P3D") == ABSENT


def test_a_session_still_to_come_is_looked_at_after_it() -> None:
    """THR-01: one that was entered before."""
    care = [{"kind": "session", "session_id": "S", "from": "PT3H", "until": "PT4H"}]

    assert _off(_bridged(sessions=()), "PT1H", care=care) == Finding(Presence.ABSENT, wake_at=moment("PT4H15M"))


def _history(*doses: tuple[int, float], judged_day: int = 100, symptoms: tuple[Symptoms, ...] = ()) -> PumpState:
    told = tuple(Dose(START + day * DAY, ug) for day, ug in doses)
    history = DoseHistory("morphine", START + judged_day * DAY, told)
    return PumpState(dosing=DosingLog(history=history), symptoms=symptoms)


def _grows(state: PumpState, *tracks: Episode, at: str = "P101D", **known: Any) -> Finding:
    return judged("THR-03", at, state, *tracks, **{"profile": MORPHINE, **known})


def _grown(since: int, priority: Priority = LOW) -> Finding:
    return Finding(Presence.PRESENT, (step(priority, f"P{since}D"),))


def test_without_doses_nothing_is_known() -> None:
    """THR-03: nor where no day was judged yet."""
    unjudged = PumpState(dosing=DosingLog(history=DoseHistory("morphine", None, (Dose(START, 100.0),))))

    assert _grows(PumpState()) == NOT_EVALUABLE
    assert _grows(unjudged) == NOT_EVALUABLE
    assert _grows(_history()) == NOT_EVALUABLE
    assert _grows(_history((0, 100.0))) == ABSENT


@pytest.mark.parametrize(
    ("doses", "profile", "since"),
    [
        (((0, 100.0), (80, 130.0)), MORPHINE, 80),
        (((0, 100.0), (80, 129.9)), MORPHINE, None),
        (((0, 100.0), (70, 120.0), (80, 130.0)), MORPHINE, None),
        (((0, 100.0), (71, 120.0), (80, 130.0)), MORPHINE, 80),
        (((69, 100.0), (70, 110.0), (80, 130.0)), MORPHINE, None),
        (((0, 100.0), (69, 100.5), (80, 130.0), (90, 125.0)), MORPHINE, None),
        (((0, 100.0), (80, 149.0)), {}, None),
        (((0, 100.0), (80, 150.0)), {}, 80),
    ],
)
def test_a_rise_within_thirty_days_is_an_escalation(
    doses: tuple[tuple[int, float], ...], profile: dict[str, Any], since: int | None
) -> None:
    """THR-03: against the dose in force at their start, inclusive; by the newest dose; half as much on baclofen."""
    assert _grows(_history(*doses), profile=profile) == (_grown(since) if since is not None else ABSENT)


@pytest.mark.parametrize(
    ("doses", "since"),
    [
        (((0, 100.0), (20, 105.0), (40, 111.0), (60, 117.0)), 60),
        (((0, 100.0), (20, 105.0), (40, 111.0), (60, 115.9)), None),
        (((0, 100.0), (11, 105.0), (40, 111.0), (60, 117.0)), 60),
        (((0, 100.0), (10, 105.0), (40, 111.0), (60, 117.0)), None),
        (((0, 100.0), (20, 105.0), (40, 111.0), (60, 117.0), (80, 123.0)), 60),
    ],
)
def test_three_increases_within_ninety_days_are_an_escalation(
    doses: tuple[tuple[int, float], ...], since: int | None
) -> None:
    """THR-03: each of five percent at least, at the third one."""
    assert _grows(_history(*doses)) == (_grown(since) if since is not None else ABSENT)


RISEN = ((0, 100.0), (80, 130.0))


@pytest.mark.parametrize(
    ("fields", "exempt"),
    [
        ({"implanted_on": "2026-11-21"}, False),
        ({"implanted_on": "2026-11-22"}, True),
        ({"titration_until": "2027-01-19"}, False),
        ({"titration_until": "2027-01-20"}, True),
        ({"implanted_on": "2026-11-22", "titration_until": "2026-12-01"}, True),
        ({"implanted_on": "2026-11-02", "titration_until": "2027-01-21"}, True),
        ({"titration_until": "2027-02-09"}, True),
        ({"titration_until": "2027-02-10"}, True),
    ],
)
def test_the_initial_titration_is_exempt(fields: dict[str, Any], exempt: bool) -> None:
    """THR-03: sixty days from the implantation, and until the day that the profile names, the later of both.

    What the dose was when it ended is the one that counts from then on.
    """
    profile = {**MORPHINE, **fields}

    assert _grows(_history(*RISEN), profile=profile) == (ABSENT if exempt else _grown(80))


def test_a_titration_ends_at_midnight_of_the_site() -> None:
    """THR-03: thirteen hours before that of UTC in Auckland."""
    profile, auckland = {**MORPHINE, "titration_until": "2027-01-20"}, ZoneInfo("Pacific/Auckland")

    assert _grows(_history(*RISEN), profile=profile, zone=auckland) == _grown(80)


def _review(day: int, rule_id: str = "THR-03", person: str = "ada") -> dict[str, Any]:
    return {"kind": "review", "rule_id": rule_id, "from": f"P{day}D", "person": person}


def test_a_review_ends_an_open_alert_and_from_then_on_the_dose_counts_anew() -> None:
    """THR-03: by the newest one of this rule, no older than the alert."""
    care = [_review(80), _review(85, person="bob"), _review(90, "THR-01", "eve")]
    ended = Finding(Presence.ABSENT, ended_at=moment("P85D"), closed_by="bob")

    assert _grows(_history(*RISEN), track("THR-03", "P80D", LOW), care=care) == ended
    assert _grows(_history(*RISEN), track("THR-03", "P85D", LOW), care=care) == ended
    assert _grows(_history(*RISEN), track("THR-03", "P86D", LOW), care=care) == Finding(
        Presence.ABSENT, ended_at=moment("P100D")
    )
    assert _grows(_history(*RISEN), care=care) == ABSENT
    assert _grows(_history(*RISEN), care=care[:1]) == ABSENT
    assert _grows(_history(*RISEN), care=[_review(79)]) == _grown(80)
    assert _grows(_history(*RISEN), care=[_review(90, "THR-01")]) == _grown(80)


def test_the_later_of_review_and_titration_begins_the_count() -> None:
    """THR-03: whichever it is."""
    late = {**MORPHINE, "titration_until": "2027-01-25"}
    early = {**MORPHINE, "titration_until": "2026-12-01"}

    assert _grows(_history(*RISEN), profile=late, care=[_review(10)]) == ABSENT
    assert _grows(_history(*RISEN), profile=early, care=[_review(85)]) == ABSENT
    assert _grows(_history(*RISEN), profile=early, care=[_review(10)]) == _grown(80)


@pytest.mark.parametrize(("start", "ended_at"), [("P80D", "P100D"), ("P101D", "P101D")])
def test_an_open_alert_ends_with_the_newest_day_that_shows_no_growth(start: str, ended_at: str) -> None:
    """THR-03: not before its own start."""
    found = _grows(_history((0, 100.0)), track("THR-03", start, LOW))

    assert found == Finding(Presence.ABSENT, ended_at=moment(ended_at))


def _told(day: int, *codes: str) -> Symptoms:
    return Symptoms(START + day * DAY, codes)


@pytest.mark.parametrize(
    ("symptoms", "steps"),
    [
        ((_told(85, "weakness"),), (step(LOW, "P80D"), step(MEDIUM, "P85D"))),
        ((_told(80, "sensory_change"),), (step(MEDIUM, "P80D"),)),
        ((_told(70, "bladder_change"),), (step(MEDIUM, "P80D"),)),
        ((_told(85, "itching"),), (step(LOW, "P80D"),)),
        ((_told(-10, "weakness"),), (step(MEDIUM, "P80D"),)),
        ((_told(-11, "weakness"),), (step(LOW, "P80D"),)),
        ((_told(-11, "weakness"), _told(85, "weakness")), (step(LOW, "P80D"),)),
        ((_told(85, "weakness"), _told(-11, "weakness")), (step(LOW, "P80D"),)),
        ((_told(-11, "weakness"), _told(85, "weakness", "sensory_change")), (step(LOW, "P80D"), step(MEDIUM, "P85D"))),
        (
            (_told(-12, "weakness"), _told(-11, "sensory_change"), _told(85, "weakness", "sensory_change")),
            (step(LOW, "P80D"),),
        ),
        ((_told(90, "weakness"), _told(85, "bladder_change")), (step(LOW, "P80D"), step(MEDIUM, "P85D"))),
    ],
)
def test_a_neurological_symptom_that_is_new_makes_it_medium(
    symptoms: tuple[Symptoms, ...], steps: tuple[Any, ...]
) -> None:
    """THR-03: new since ninety days before the growth, inclusive; in whatever order they are remembered."""
    assert _grows(_history(*RISEN, symptoms=symptoms)).steps == steps


@pytest.mark.parametrize(("day", "medium"), [(9, False), (10, True)])
def test_a_symptom_from_before_the_titration_ended_or_a_review_is_not_new(day: int, medium: bool) -> None:
    """THR-03: the later of that and the ninety days."""
    state = _history(*RISEN, symptoms=(_told(day, "weakness"),))

    found = _grows(state, care=[_review(10)])

    assert found.steps == ((step(MEDIUM, "P80D"),) if medium else (step(LOW, "P80D"),))


def test_a_symptom_still_to_come_waits() -> None:
    """THR-03: as everything after the moment judged."""
    assert _grows(_history(*RISEN, symptoms=(_told(85, "weakness"),)), at="P84D") == _grown(80)


def _recent(state: PumpState, days: int, **profile: Any) -> list[tuple[int, float]]:
    view = view_at("P101D", state, profile={**MORPHINE, **profile})
    doses = recent_doses(view, days * DAY, RULES["THR-03"].parameters)
    return [((dose.at - START) // DAY, dose.ug) for dose in doses]


def test_recent_doses_begin_with_the_one_in_force_at_their_start() -> None:
    """Before the last day that was judged; inclusive."""
    doses = ((0, 100.0), (40, 110.0), (80, 120.0))

    assert _recent(_history(*doses), 60) == [(40, 110.0), (80, 120.0)]
    assert _recent(_history(*doses), 61) == [(0, 100.0), (40, 110.0), (80, 120.0)]
    assert _recent(_history(*doses), 10) == [(80, 120.0)]
    assert _recent(_history(*doses), 900) == [(0, 100.0), (40, 110.0), (80, 120.0)]


def test_recent_doses_are_those_after_the_titration() -> None:
    """None where it still goes on, or no day was judged."""
    state = _history((0, 100.0), (40, 110.0), (80, 120.0))

    assert _recent(state, 90, titration_until="2026-12-31") == [(40, 110.0), (80, 120.0)]
    assert _recent(state, 90, implanted_on="2026-11-02") == [(40, 110.0), (80, 120.0)]
    assert _recent(state, 90, titration_until="2027-02-09") == [(80, 120.0)]
    assert _recent(state, 90, titration_until="2027-02-10") == []
    assert _recent(PumpState(), 90) == []


@pytest.mark.parametrize(
    ("doses", "days"),
    [
        (((0, 100.0), (10, 105.0)), [10]),
        (((0, 100.0), (1, 105.0)), [1]),
        (((0, 100.0), (10, 100.0 * (1 + 0.05 - SAME_DOSE))), [10]),
        (((0, 100.0), (10, 104.4)), []),
        (((0, 100.0), (10, 103.0), (12, 106.0)), [12]),
        (((0, 100.0), (10, 103.0), (13, 106.0)), []),
        (((0, 100.0), (10, 106.0), (12, 112.0)), [10]),
        (((0, 100.0), (10, 106.0), (13, 112.0)), [10, 13]),
        (((0, 100.0), (10, 106.0), (11, 90.0), (12, 96.0)), [10]),
        (((0, 100.0), (10, 106.0), (11, 90.0), (12, 111.0)), [10, 12]),
        (((0, 100.0), (10, 90.0), (12, 96.0)), []),
        (((0, 100.0), (10, 90.0), (13, 96.0)), [13]),
        (((0, 100.0), (10, 106.0), (11, 106.0), (12, 112.0)), [10]),
        ((), []),
    ],
)
def test_an_increase_is_five_percent_above_the_dose_that_lasted(
    doses: tuple[tuple[int, float], ...], days: list[int]
) -> None:
    """Rises at most two days apart are one, also with a fall among them; half a percent is no difference."""
    told = [Dose(START + day * DAY, ug) for day, ug in doses]

    assert [(at - START) // DAY for at in increase_times(told, 0.05)] == days
