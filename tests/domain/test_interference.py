"""Repeated interference at its limits: what EMI-01 says of single states."""

from __future__ import annotations

from typing import Any

import pytest

from streams.domain.alert import Episode, Priority, Reason
from streams.domain.observing.scans import Interference, ScanLog
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Presence
from streams.domain.world import PumpState, Stall
from streams.rehearsal import moment
from tests.domain.views import MORPHINE, ZICONOTIDE, judged, step, track

LOW, MEDIUM, HIGH = Priority.LOW, Priority.MEDIUM, Priority.HIGH


def _emi(*told: tuple[str, int], stalls: tuple[Stall, ...] = (), **log: Any) -> PumpState:
    interference = tuple(Interference(moment(at), count) for at, count in told)
    return PumpState(scans=ScanLog(interference=interference, **{"told_emi": True, **log}), stalls=stalls)


def _judged(state: PumpState, *tracks: Episode, **known: Any) -> Finding:
    return judged("EMI-01", "P10D", state, *tracks, **known)


def _quietly(since: str) -> Finding:
    return Finding(Presence.PRESENT, (step(LOW, since),), values={"stall": "no stall so far"})


def test_a_pump_that_tells_no_interference_is_not_judged_by_it() -> None:
    """EMI-01: only a word on it makes none of it absent."""
    assert _judged(_emi(told_emi=False)) == NOT_EVALUABLE
    assert _judged(_emi()) == ABSENT


@pytest.mark.parametrize(
    ("told", "since"),
    [
        ((("PT0H", 1), ("PT12H", 1), ("P1D", 1)), "P1D"),
        ((("PT0H", 1), ("PT12H", 1), ("P1DT1S", 1)), None),
        ((("PT0H", 2), ("PT1H", 1)), "PT1H"),
        ((("PT0H", 3), ("PT1H", 1)), "PT0H"),
        ((("PT0H", 2),), None),
        ((("P0D", 1), ("P2D", 1), ("P4D", 1), ("P6D", 1), ("P7D", 1)), "P7D"),
        ((("P0D", 1), ("P2D", 1), ("P4D", 1), ("P6D", 1), ("P7DT1S", 1)), None),
        ((("P0D", 2), ("P2D", 2), ("P4D", 1), ("P6D", 1)), "P4D"),
    ],
)
def test_three_times_in_a_day_or_five_in_a_week_are_frequent(
    told: tuple[tuple[str, int], ...], since: str | None
) -> None:
    """EMI-01: both windows are inclusive, each report counts as often as it says, and the first time counts."""
    assert _judged(_emi(*told)) == (_quietly(since) if since is not None else ABSENT)


OFTEN = (("PT0H", 1), ("PT3H", 1), ("PT6H", 1))


def _stall(start: str, end: str | None = None) -> Stall:
    return Stall(moment(start), moment(end) if end is not None else None)


@pytest.mark.parametrize(("profile", "worse"), [({}, HIGH), (MORPHINE, MEDIUM), (ZICONOTIDE, MEDIUM)])
def test_a_stall_after_frequent_interference_is_worse_from_its_own_time_on(
    profile: dict[str, Any], worse: Priority
) -> None:
    """EMI-01: half an hour after the last interference, inclusive."""
    found = _judged(_emi(*OFTEN, stalls=(_stall("PT6H30M"),)), profile=profile)

    assert found == Finding(
        Presence.PRESENT, (step(LOW, "PT6H"), step(worse, "PT6H30M")), values={"stall": "with a stall"}
    )


@pytest.mark.parametrize(
    "stall",
    [
        _stall("-PT3H", "-PT30M"),
        _stall("PT2H", "PT2H30M"),
        _stall("PT3H30M", "PT3H40M"),
        _stall("PT6H"),
        _stall("PT1H"),
    ],
)
def test_a_stall_near_any_of_it_makes_it_worse_at_once(stall: Stall) -> None:
    """EMI-01: half an hour on both sides, inclusive, or over it."""
    found = _judged(_emi(*OFTEN, stalls=(stall,)))

    assert found == Finding(Presence.PRESENT, (step(HIGH, "PT6H"),), values={"stall": "with a stall"})


@pytest.mark.parametrize("stall", [_stall("PT6H30M1S"), _stall("-PT3H", "-PT30M1S"), _stall("PT3H30M1S", "PT5H29M59S")])
def test_a_stall_further_off_is_none_of_it(stall: Stall) -> None:
    """EMI-01: a second more than half an hour before, between and after."""
    assert _judged(_emi(*OFTEN, stalls=(stall,))) == _quietly("PT6H")


def test_of_several_stalls_the_first_that_is_known_counts() -> None:
    """EMI-01: in whatever order they are remembered."""
    stalls = (_stall("PT6H25M"), _stall("PT6H10M", "PT6H20M"), _stall("PT12H"))

    for told in (stalls, stalls[::-1]):
        assert _judged(_emi(*OFTEN, stalls=told)).steps == (step(LOW, "PT6H"), step(HIGH, "PT6H10M"))


def test_an_open_alert_goes_on_from_its_start_while_any_interference_is_remembered() -> None:
    """EMI-01: however little; what came at its very start counts."""
    for told in ((("P1D", 1),), (("PT0H", 1), ("P1D", 1))):
        assert _judged(_emi(*told), track("EMI-01", "P1D", LOW)) == _quietly("P1D")
    assert _judged(_emi(("P1D", 1)), track("EMI-01", "P1D", LOW, present=False)) == ABSENT


def test_seven_quiet_days_end_it() -> None:
    """EMI-01: told at the start of the alert or later."""
    own = track("EMI-01", "P1D", LOW)

    for quiet_at in ("P1D", "P8D"):
        ended = Finding(Presence.ABSENT, ended_at=moment(quiet_at))
        assert _judged(_emi(quiet_at=moment(quiet_at)), own) == ended


def test_interference_that_a_later_declared_mri_explains_is_taken_back() -> None:
    """EMI-01: nothing that is left, or nothing since its start, made it frequent; an older quiet week says nothing."""
    own = track("EMI-01", "P1D", LOW)
    taken_back = Finding(Presence.ABSENT, ended_at=moment("P1D"), retract=Reason.MRI_DECLARED)

    assert _judged(_emi(), own) == taken_back
    assert _judged(_emi(("PT0H", 3), ("PT23H59M59S", 3)), own) == taken_back
    assert _judged(_emi(quiet_at=moment("PT23H59M59S")), own) == taken_back
    assert _judged(_emi(("P2D", 1), quiet_at=moment("P1D")), own) == _quietly("P1D")
