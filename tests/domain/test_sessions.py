"""Authorised sessions, what they hold back and until when; and which priorities are reached."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from streams.domain.alert import Priority
from streams.domain.conditions.sessions import ended_by, held_until, known_session, sessions
from streams.domain.conditions.steps import next_after, reached
from streams.domain.rule import View
from streams.domain.world import PumpState, Session
from streams.rehearsal import moment
from tests.domain.views import step, view_at

TOLD = Session("TOLD", moment("PT0H"), moment("PT1H"))
OPEN = Session("OPEN", moment("PT0H"))
MARGIN = timedelta(minutes=30)


def _view(*told: Session, care: tuple[dict[str, Any], ...] = (), **fields: Any) -> View:
    return view_at("PT12H", PumpState(sessions=told, **fields), care=care)


def test_sessions_are_those_of_the_pump_and_those_that_people_entered() -> None:
    """Whenever they were; other records are none, not even with an end."""
    care = (
        {"kind": "session", "session_id": "CARE", "from": "P2D", "until": "P3D"},
        {"kind": "session", "session_id": "LONG", "from": "P4D"},
        {"kind": "stop_plan", "from": "PT0H", "until": "PT2H"},
    )

    known = list(sessions(_view(TOLD, care=care)))

    assert known == [TOLD, Session("CARE", moment("P2D"), moment("P3D")), Session("LONG", moment("P4D"))]


def test_a_session_whose_end_nobody_told_is_over_after_four_hours() -> None:
    """Catalogue I1: a hard end."""
    assert ended_by(TOLD) == moment("PT1H")
    assert ended_by(OPEN) == moment("PT4H")


@pytest.mark.parametrize(
    ("at", "known"), [("-PT30M1S", False), ("-PT30M", True), ("PT1H30M", True), ("PT1H30M1S", False)]
)
def test_a_session_is_known_around_its_time_with_both_margins_inclusive(at: str, known: bool) -> None:
    """By its id, or by any."""
    for session_id in ("TOLD", None):
        found = known_session(_view(TOLD), session_id, moment(at), MARGIN)

        assert found == (TOLD if known else None)
    assert known_session(_view(TOLD), "OTHER", moment(at), MARGIN) is None


def test_of_two_sessions_the_one_with_the_id_is_known() -> None:
    """Also where another one was going on at the same time."""
    assert known_session(_view(TOLD, OPEN), "OPEN", moment("PT1H"), MARGIN) == OPEN


@pytest.mark.parametrize(
    ("at", "until"),
    [("-PT1S", None), ("PT0H", "PT1H15M"), ("PT1H15M", "PT1H15M"), ("PT1H15M1S", None)],
)
def test_a_session_holds_what_happens_from_its_start_until_a_quarter_of_an_hour_after_it(
    at: str, until: str | None
) -> None:
    """Both inclusive."""
    assert held_until(_view(TOLD), moment(at)) == (moment(until) if until is not None else None)


def test_of_several_sessions_the_last_end_holds() -> None:
    """An open one until its hard end."""
    assert held_until(_view(TOLD, OPEN), moment("PT1H")) == moment("PT4H15M")


@pytest.mark.parametrize(
    ("fields", "until"),
    [
        ({"armed_since": moment("PT0H"), "confirmed_at": moment("PT0H")}, "PT3H"),
        ({"armed_since": moment("PT0H"), "confirmed_at": moment("PT2H")}, "PT4H15M"),
        ({"armed_since": moment("PT0H")}, "PT4H15M"),
        ({"confirmed_at": moment("PT0H")}, "PT4H15M"),
    ],
)
def test_no_session_holds_past_half_of_the_budget_once_the_clock_is_armed(fields: dict[str, Any], until: str) -> None:
    """Catalogue I3: three hours after the last confirmed delivery on baclofen."""
    assert held_until(_view(OPEN, **fields), moment("PT1H")) == moment(until)


def test_priorities_are_reached_in_order_of_time() -> None:
    """One that comes no earlier than a higher one is left out; a deadline is inclusive."""
    low, medium, high = Priority.LOW, Priority.MEDIUM, Priority.HIGH
    climbing = [(high, moment("PT3H")), (low, moment("PT1H")), (medium, moment("PT2H"))]
    together = [(low, moment("PT1H")), (medium, moment("PT2H")), (high, moment("PT2H")), (low, moment("PT3H"))]

    assert reached(climbing, moment("PT3H")) == (step(low, "PT1H"), step(medium, "PT2H"), step(high, "PT3H"))
    assert reached(climbing, moment("PT2H59M59S")) == (step(low, "PT1H"), step(medium, "PT2H"))
    assert reached(together, moment("PT4H")) == (step(low, "PT1H"), step(high, "PT2H"))
    assert reached([(medium, moment("PT1H")), (medium, moment("PT2H"))], moment("PT4H")) == (step(medium, "PT1H"),)
    assert reached([], moment("PT4H")) == ()


def test_the_next_moment_is_the_first_one_still_to_come() -> None:
    """Exclusive; moments that nobody knows do not count."""
    moments = [None, moment("PT3H"), moment("PT1H"), moment("PT2H")]

    assert next_after(moments, moment("PT1H")) == moment("PT2H")
    assert next_after(moments, moment("PT3H")) is None
    assert next_after([], moment("PT3H")) is None
