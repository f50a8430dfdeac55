"""The system's own alerts: from which number on they open, and how long they stay."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from streams.domain.alert import Priority
from streams.domain.system import (
    Observation,
    OpenSystemAlert,
    PumpSeen,
    SiteSeen,
    SystemBook,
    SystemFinding,
    Verdict,
    alarm_storm,
    notification_failure,
)
from streams.rehearsal import START
from tests.shipped import RULES

STORM, FAILURE = RULES["SYS-01"], RULES["SYS-02"]
SILENCE = OpenSystemAlert("SYS-01", "silence/north", Priority.HIGH)
MINUTE = timedelta(minutes=1)


def _storm(**seen: Any) -> list[SystemFinding]:
    return list(alarm_storm(Observation(START, [SiteSeen(site="north", **seen)]), STORM))


def _failure(**seen: Any) -> list[SystemFinding]:
    return list(notification_failure(Observation(START, [SiteSeen(site="north", **seen)]), FAILURE))


@pytest.mark.parametrize(
    ("pumps", "newly_silent", "silent", "opens"),
    [
        (20, 10, 10, True),
        (19, 19, 19, None),
        (20, 9, 10, False),
        (30, 10, 10, True),
        (40, 12, 12, False),
        (40, 13, 13, True),
        (40, 0, 6, False),
        (40, 0, 5, None),
    ],
)
def test_a_silence_storm_needs_twenty_pumps_ten_silent_and_more_than_three_in_ten(
    pumps: int, newly_silent: int, silent: int, opens: bool | None
) -> None:
    """Half that share keeps it open (False); below half it is over (None)."""
    found = _storm(pumps=pumps, newly_silent=newly_silent, silent=silent)

    assert [finding.opens for finding in found] == ([] if opens is None else [opens])


@pytest.mark.parametrize(
    ("opened", "usual", "opens"),
    [
        (10, 0.0, True),
        (9, 0.0, False),
        (5, 0.0, False),
        (4, 0.0, None),
        (51, 10.0, True),
        (50, 10.0, False),
        (25, 10.0, False),
        (24, 10.0, None),
    ],
)
def test_a_storm_of_openings_is_measured_by_what_is_usual(opened: int, usual: float, opens: bool | None) -> None:
    """Ten in ten minutes at least, and more than five times the usual number; half of it keeps the storm open."""
    found = _storm(opened=opened, usual_opened=usual)

    assert [finding.opens for finding in found] == ([] if opens is None else [opens])


@pytest.mark.parametrize(("opened", "opens"), [(11, True), (10, False), (5, False), (4, None)])
def test_a_storm_of_one_pump_is_more_than_ten_alerts(opened: int, opens: bool | None) -> None:
    """Five keep it open."""
    pump = PumpSeen(pump_id="P-1", site="north", opened=opened)

    found = list(alarm_storm(Observation(START, pumps=[pump]), STORM))

    assert [finding.opens for finding in found] == ([] if opens is None else [opens])


def test_a_storm_says_where_it_is_and_what_happens() -> None:
    """Each kind has a subject of its own, so that two at one site are two alerts."""
    site = SiteSeen(site="north", pumps=40, newly_silent=20, silent=21, opened=30)
    pump = PumpSeen(pump_id="P-1", site="south", opened=11)

    found = list(alarm_storm(Observation(START, [site], [pump]), STORM))

    said = {
        "silence/north": ("north", "Alarm storm: 21 of 40 pumps of the site are silent."),
        "openings/north": ("north", "Alarm storm: 30 alerts opened at the site within 10 minutes."),
        "pump/P-1": ("south", "Alarm storm: very many alerts of one pump within 5 minutes."),
    }
    assert found == [
        SystemFinding("SYS-01", subject, where, Priority.HIGH, message, opens=True)
        for subject, (where, message) in said.items()
    ]


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (
            {"on_call": False, "uncovered_in_hours": 0.0},
            [("on_call/north", Priority.HIGH, "nobody is on call for the site")],
        ),
        (
            {"uncovered_in_hours": 8.0},
            [("rota/north", Priority.MEDIUM, "nobody will be on call for the site in 8.0 h")],
        ),
        ({"uncovered_in_hours": 8.01}, []),
        (
            {"unreached": Priority.INFO},
            [("unreached/north", Priority.HIGH, "a page reached nobody through any channel")],
        ),
        ({}, []),
    ],
)
def test_who_cannot_be_reached_is_told(seen: dict[str, Any], told: list[tuple[str, Priority, str]]) -> None:
    """Nobody on call now is HIGH, within eight hours MEDIUM; a page that reached nobody is HIGH whatever it was for."""
    assert _failure(**seen) == [
        SystemFinding("SYS-02", subject, "north", priority, f"Notification failure: {what}.", opens=True)
        for subject, priority, what in told
    ]


def test_a_site_may_have_two_failures_and_every_site_its_own() -> None:
    """One of them hides no other."""
    south = SiteSeen(site="south", on_call=False, unreached=Priority.HIGH)
    nowhere = SiteSeen(site=None, uncovered_in_hours=1.0)

    found = list(notification_failure(Observation(START, [south, nowhere]), FAILURE))

    assert [(finding.subject, finding.site) for finding in found] == [
        ("on_call/south", "south"),
        ("unreached/south", "south"),
        ("rota/", None),
    ]


def test_pumps_without_a_site_have_storms_too() -> None:
    """They are told together, without a site's name."""
    seen = SiteSeen(site=None, pumps=20, newly_silent=10, silent=10, opened=10, on_call=False, unreached=Priority.LOW)
    observation = Observation(START, [seen])

    found = [*alarm_storm(observation, STORM), *notification_failure(observation, FAILURE)]

    assert [(finding.subject, finding.site) for finding in found] == [
        ("silence/", None),
        ("openings/", None),
        ("on_call/", None),
        ("unreached/", None),
    ]


def _silent(at: datetime, silent: int) -> Observation:
    return Observation(at, [SiteSeen(site="north", pumps=40, newly_silent=silent, silent=silent)])


def test_a_storm_opens_once_and_clears_after_fifteen_minutes_of_calm() -> None:
    """Calm counts from the last moment at which it held, even if only enough to stay open."""
    book = SystemBook([(STORM, alarm_storm)], START)

    first = book.judge(_silent(START, 20), [])
    again = book.judge(_silent(START + MINUTE, 20), [SILENCE])
    weaker = book.judge(_silent(START + 10 * MINUTE, 7), [SILENCE])
    early = [book.judge(_silent(START + at * MINUTE, 0), [SILENCE]) for at in (11, 20, 24.99)]
    over = book.judge(_silent(START + 25 * MINUTE, 0), [SILENCE])

    assert [finding.subject for finding in first.opens] == ["silence/north"]
    assert first.closes == ()
    assert [again, weaker, *early] == [Verdict((), ())] * 5
    assert over == Verdict((), (SILENCE,))


def test_what_only_keeps_a_storm_open_opens_none() -> None:
    """Half of a threshold is no storm."""
    assert SystemBook([(STORM, alarm_storm)], START).judge(_silent(START, 7), []) == Verdict((), ())


def test_a_process_that_starts_anew_waits_from_its_start() -> None:
    """It does not know when the condition last held."""
    book = SystemBook([(STORM, alarm_storm)], START)

    early = book.judge(_silent(START + 14 * MINUTE, 0), [SILENCE])
    over = book.judge(_silent(START + 15 * MINUTE, 0), [SILENCE])

    assert (early.closes, over.closes) == ((), (SILENCE,))


def test_a_storm_that_just_opened_is_remembered_although_nobody_knew_it() -> None:
    """Its calm begins where it ended."""
    book = SystemBook([(STORM, alarm_storm)], START)
    book.judge(_silent(START + 10 * MINUTE, 20), [])

    assert book.judge(_silent(START + 24 * MINUTE, 0), [SILENCE]).closes == ()
    assert book.judge(_silent(START + 25 * MINUTE, 0), [SILENCE]).closes == (SILENCE,)


def test_what_was_closed_is_forgotten_and_counts_anew() -> None:
    """An alert opened later by somebody else's word waits from the start, not from a storm long past."""
    book = SystemBook([(STORM, alarm_storm)], START)
    book.judge(_silent(START + 10 * MINUTE, 20), [])
    book.judge(_silent(START + 11 * MINUTE, 0), [])

    assert book.judge(_silent(START + 15 * MINUTE, 0), [SILENCE]).closes == (SILENCE,)


def test_one_kind_of_alert_keeps_no_other_open() -> None:
    """The storm of openings goes on; the silence is over; what no rule here judges stays as it is."""
    book = SystemBook([(STORM, alarm_storm), (FAILURE, notification_failure)], START)
    openings = OpenSystemAlert("SYS-01", "openings/north", Priority.HIGH)
    unreached = OpenSystemAlert("SYS-02", "unreached/north", Priority.HIGH)
    foreign = OpenSystemAlert("SYS-09", "silence/north", Priority.HIGH)
    seen = SiteSeen(site="north", opened=10)

    verdict = book.judge(Observation(START + 15 * MINUTE, [seen]), [foreign, openings, SILENCE, unreached])

    assert verdict == Verdict((), (SILENCE, unreached))


def test_a_failure_closes_the_moment_it_is_mended_and_not_while_it_holds() -> None:
    """SYS-02 waits for no calm."""
    book = SystemBook([(FAILURE, notification_failure)], START)
    open_alert = OpenSystemAlert("SYS-02", "on_call/north", Priority.HIGH)
    broken = Observation(START + MINUTE, [SiteSeen(site="north", on_call=False)])
    mended = Observation(START + 2 * MINUTE, [SiteSeen(site="north")])

    assert book.judge(broken, [open_alert]) == Verdict((), ())
    assert book.judge(mended, [open_alert]) == Verdict((), (open_alert,))
