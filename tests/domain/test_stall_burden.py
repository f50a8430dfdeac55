"""Repeated stalls at their limits: what DLV-02 says of single states."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from streams.domain.alert import Episode, Priority, Reason
from streams.domain.observing.flow import FlowLog, Scan
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Presence
from streams.domain.telemetry import Motor
from streams.domain.world import PumpState, Stall
from streams.rehearsal import START, moment
from tests.domain.views import MORPHINE, PROMETRA, judged, step, track

MEDIUM, HIGH = Priority.MEDIUM, Priority.HIGH
Told = tuple[str, str | None]
HOUR = timedelta(hours=1)


def _at(offset: str | None) -> Any:
    return moment(offset) if offset is not None else None


def _stalls(*told: Told, scans: tuple[Scan, ...] = (), **fields: Any) -> PumpState:
    stalls = tuple(Stall(moment(start), _at(end)) for start, end in told)
    return PumpState(stalls=stalls, flow=FlowLog(scans=scans), **fields)


def _short(*starts: str) -> PumpState:
    """Stalls of no length worth mentioning."""
    return PumpState(stalls=tuple(Stall(moment(start), moment(start) + timedelta(seconds=1)) for start in starts))


def _opioid(state: PumpState, at: str, *tracks: Episode, **known: Any) -> Finding:
    """On an opioid a pair of stalls is nothing yet."""
    return judged("DLV-02", at, state, *tracks, **{"profile": MORPHINE, **known})


def _burden(since: str, stalls: int, priority: Priority = MEDIUM, **more: Any) -> Finding:
    values = {"stalls": str(stalls), "hours": "72"}
    return Finding(Presence.PRESENT, (step(priority, since),), values=values, **more)


def test_without_a_stall_there_is_no_burden_once_the_motor_was_told() -> None:
    """DLV-02: without that word nothing is known."""
    assert _opioid(PumpState(), "P1D") == NOT_EVALUABLE
    assert _opioid(PumpState(motor=Motor.RUNNING), "P1D") == ABSENT


def test_three_stalls_within_three_days_are_too_many_at_the_third_start() -> None:
    """DLV-02: the three days are inclusive."""
    assert _opioid(_short("PT0H", "PT36H", "PT72H"), "PT72H") == _burden("PT72H", 3)
    assert _opioid(_short("PT0H", "PT36H", "PT72H1S"), "PT73H") == ABSENT
    assert _opioid(_short("PT0H", "PT1H"), "PT2H") == ABSENT


def test_the_burden_lasts_until_the_first_of_three_is_three_days_ago() -> None:
    """DLV-02: inclusive; what is told are the stalls of the last three days."""
    state = _short("-P4D", "PT0H", "PT1H", "PT2H")

    assert _opioid(state, "PT2H") == _burden("PT2H", 3)
    assert _opioid(state, "PT72H") == _burden("PT2H", 3)
    assert _opioid(state, "PT72H1S") == ABSENT
    assert _opioid(_short("PT0H", "PT1H", "PT2H", "PT3H"), "PT72H1S") == _burden("PT2H", 3)


def test_stalls_count_in_order_of_time_however_they_are_remembered() -> None:
    """DLV-02: a log that came late is remembered last."""
    assert _opioid(_short("PT2H", "PT0H", "PT1H"), "PT5H") == _burden("PT2H", 3)


@pytest.mark.parametrize(("second", "since"), [("PT24H", "PT24H"), ("PT1H", "PT1H"), ("PT24H1S", None)])
def test_two_stalls_within_a_day_are_too_many_where_withdrawal_is_severe(second: str, since: str | None) -> None:
    """DLV-02: inclusive, on W3 alone, where it is HIGH."""
    state = _short("PT0H", second)

    assert judged("DLV-02", second, state) == (_burden(since, 2, HIGH) if since is not None else ABSENT)
    assert _opioid(state, second) == ABSENT


def test_a_patient_at_high_risk_gets_high() -> None:
    """DLV-02: also on an opioid."""
    profile = {**MORPHINE, "risks": ["lives_alone"]}

    assert _opioid(_short("PT0H", "PT1H", "PT2H"), "PT2H", profile=profile) == _burden("PT2H", 3, HIGH)


@pytest.mark.parametrize(
    ("at", "found"),
    [
        ("PT10M", Finding(Presence.ABSENT, wake_at=START + HOUR)),
        ("PT59M59S", Finding(Presence.ABSENT, wake_at=START + HOUR)),
        ("PT1H", _burden("PT1H", 1, parents=("DLV-01", "MRI-02", "MRI-04"))),
        ("PT50H", _burden("PT1H", 1, parents=("DLV-01", "MRI-02", "MRI-04"))),
    ],
)
def test_one_stall_that_goes_on_is_too_long_after_an_hour(at: str, found: Finding) -> None:
    """DLV-02: inclusive; the child of what tells it already."""
    assert _opioid(_stalls(("PT0H", None)), at) == found


@pytest.mark.parametrize(
    ("told", "since", "until"),
    [
        ((("PT0H", "PT1H"),), "PT1H", "PT24H"),
        ((("PT0H", "PT2H"),), "PT1H", "PT25H"),
        ((("PT0H", "PT30M"), ("PT10H", "PT10H30M")), "PT10H30M", "PT24H"),
        ((("PT0H", "PT30M"), ("PT10H", "PT10H50M")), "PT10H30M", "PT24H20M"),
        ((("PT0H", "PT50M"), ("PT23H50M", "PT24H30M")), "PT24H", "PT24H30M"),
        ((("PT0H", "PT40M"), ("PT10M", "PT1H")), "PT35M", "PT24H20M"),
    ],
)
def test_an_hour_in_all_within_a_day_is_too_long(told: tuple[Told, ...], since: str, until: str) -> None:
    """DLV-02: from the moment at which the hour is full until so much of it is a day ago, both inclusive.

    Where two records overlap both count.
    """
    second, state = timedelta(seconds=1), _stalls(*told)

    assert _opioid(state, since).steps == (step(MEDIUM, since),)
    assert _opioid(state, until).steps == (step(MEDIUM, since),)
    for offset in (moment(since) - second, moment(until) + second):
        elapsed = f"PT{int((offset - START).total_seconds())}S"
        assert _opioid(state, elapsed).presence is Presence.ABSENT


@pytest.mark.parametrize("told", [(("PT0H", "PT59M59S"),), (("PT0H", "PT30M"), ("P1D", "P1DT30M"))])
def test_less_than_an_hour_in_any_day_is_not(told: tuple[Told, ...]) -> None:
    """DLV-02: a second less, or further apart."""
    for hour in range(0, 60, 2):
        assert _opioid(_stalls(*told), f"PT{hour}H") == ABSENT


def test_burdens_that_follow_each_other_are_one() -> None:
    """DLV-02: since the first of them; also where the second begins as the first one ends, or lies within it."""
    touching = _short("PT0H", "PT1H", "PT24H")
    within = _stalls(("PT0H", "PT2H"), ("PT3H", "PT3H1S"))

    assert judged("DLV-02", "PT24H30M", touching).steps == (step(HIGH, "PT1H"),)
    assert judged("DLV-02", "PT71H", touching).steps == (step(HIGH, "PT1H"),)
    assert judged("DLV-02", "PT24H30M", within).steps == (step(HIGH, "PT1H"),)
    assert judged("DLV-02", "PT49H", _short("PT0H", "PT1H", "PT48H", "PT49H")).steps == (step(HIGH, "PT48H"),)


def test_an_open_alert_goes_on_from_its_start() -> None:
    """DLV-02: whatever is counted anew; one whose condition ended begins anew."""
    state = _short("PT0H", "PT1H", "PT2H")

    assert _opioid(state, "PT5H", track("DLV-02", "PT1H")) == _burden("PT1H", 3)
    assert _opioid(state, "PT5H", track("DLV-02", "PT1H", present=False)) == _burden("PT2H", 3)


SCAN = Scan(START, None, START)


def _scanned(*told: Told, **fields: Any) -> PumpState:
    return _stalls(*told, scans=(SCAN,), **fields)


def test_of_a_stall_in_a_declared_mri_the_first_hour_and_a_half_do_not_count() -> None:
    """DLV-02: one that ends by then, inclusive, is no episode; what goes on counts from there."""
    others: tuple[Told, Told] = (("PT10H", "PT10H1S"), ("PT11H", "PT11H1S"))
    spared, counted = ("PT5M", "PT1H35M"), ("PT5M", "PT1H35M1S")

    assert _opioid(_scanned(spared, *others), "PT12H") == ABSENT
    assert _opioid(_scanned(counted, *others), "PT12H") == _burden("PT11H", 3)
    assert _opioid(_stalls(spared, *others), "PT12H").steps
    assert _opioid(_scanned(("PT5M", "PT2H35M")), "PT3H").steps == (step(MEDIUM, "PT2H35M"),)
    assert _opioid(_scanned(("PT5M", None)), "PT10M") == Finding(Presence.ABSENT, wake_at=moment("PT2H35M"))
    assert _opioid(_scanned(("PT2H", "PT3H")), "PT4H") == ABSENT
    assert _opioid(_scanned(("PT2H1S", "PT3H1S")), "PT4H").steps == (step(MEDIUM, "PT3H1S"),)


def test_an_mri_spares_nothing_of_a_pump_that_nobody_knows_or_that_has_valves() -> None:
    """DLV-02, M.22."""
    state = _scanned(("PT5M", "PT1H35M"))

    for profile in (None, {**MORPHINE, **PROMETRA}):
        assert judged("DLV-02", "PT2H", state, profile=profile).steps[0].at == moment("PT1H5M")


def test_a_spared_stall_does_not_hide_those_after_it() -> None:
    """DLV-02: nor do those before a review."""
    care = [{"kind": "review", "rule_id": "DLV-02", "from": "PT0H"}]
    others: tuple[Told, ...] = tuple((f"PT1{hour}H", f"PT1{hour}H1S") for hour in range(3))

    assert _opioid(_scanned(("PT5M", "PT20M"), *others), "PT12H") == _burden("PT12H", 3)
    assert _opioid(_stalls(("-PT5M", "PT20M"), *others), "PT12H", care=care) == _burden("PT12H", 3)


def _reviews(*told: tuple[str, str, str]) -> list[dict[str, Any]]:
    return [{"kind": "review", "rule_id": rule_id, "from": at, "person": who} for rule_id, at, who in told]


@pytest.mark.parametrize(("reviewed_at", "counts"), [("-PT1S", True), ("PT0H", False), ("PT30M", False)])
def test_stalls_before_a_review_count_no_more(reviewed_at: str, counts: bool) -> None:
    """DLV-02: one that began at its very moment neither; a review of another rule's alert does not matter."""
    state, care = _short("PT0H", "PT1H", "PT2H"), _reviews(("DLV-02", reviewed_at, "ada"))

    assert (_opioid(state, "PT3H", care=care) == _burden("PT2H", 3)) is counts
    assert _opioid(state, "PT3H", care=_reviews(("DLV-01", reviewed_at, "ada"))) == _burden("PT2H", 3)


def test_the_newest_review_ends_an_open_alert_in_its_person_s_name() -> None:
    """DLV-02: where it is no older than the alert."""
    state = _short("PT0H", "PT1H", "PT2H")
    care = _reviews(("DLV-02", "PT2H", "ada"), ("DLV-02", "PT4H", "bob"))

    assert _opioid(state, "PT5H", track("DLV-02", "PT2H"), care=care) == Finding(
        Presence.ABSENT, ended_at=moment("PT4H"), closed_by="bob"
    )
    assert _opioid(state, "PT3H", track("DLV-02", "PT2H"), care=care[:1]).closed_by == "ada"
    assert _opioid(state, "PT5H", track("DLV-02", "PT4H1S"), care=care).closed_by is None
    goes_on = _stalls(("PT0H", "PT1S"), ("PT4H30M", None))
    assert _opioid(goes_on, "PT5H", track("DLV-02", "PT2H"), care=care) == Finding(
        Presence.ABSENT, ended_at=moment("PT4H"), closed_by="bob", wake_at=moment("PT5H30M")
    )


def _past(confirmed_at: str | None, armed_since: str | None = None, **fields: Any) -> PumpState:
    stalls = _short("PT0H", "PT1H", "PT2H").stalls
    return PumpState(stalls=stalls, confirmed_at=_at(confirmed_at), armed_since=_at(armed_since), **fields)


def test_only_delivery_confirmed_after_the_burden_ends_it() -> None:
    """DLV-02: later than its last moment, and with the clock not armed; the mere passing of time shows nothing."""
    own = track("DLV-02", "PT2H")

    assert _opioid(_past("PT72H1S"), "P4D", own) == Finding(Presence.ABSENT, ended_at=moment("PT72H1S"))
    for state in (_past("PT72H"), _past("PT72H1S", "PT73H"), _past(None)):
        assert _opioid(state, "P4D", own) == NOT_EVALUABLE


def test_while_another_stall_goes_on_the_end_names_when_to_look_again() -> None:
    """DLV-02: whether delivery was confirmed since, or it never was, or nothing is known."""
    stalls = (*_short("PT0H", "PT1H", "PT2H").stalls, Stall(moment("PT95H50M")))
    own, wake_at = track("DLV-02", "PT2H"), moment("PT96H50M")
    late = track("DLV-02", "PT1H30M")

    confirmed = PumpState(stalls=stalls, confirmed_at=moment("PT95H"))
    assert _opioid(confirmed, "PT96H", own) == Finding(Presence.ABSENT, ended_at=moment("PT95H"), wake_at=wake_at)
    assert _opioid(PumpState(stalls=stalls), "PT96H", own) == Finding(Presence.NOT_EVALUABLE, wake_at=wake_at)
    assert _opioid(PumpState(stalls=stalls), "PT96H", late) == Finding(
        Presence.ABSENT, retract=Reason.LATE_LOG, wake_at=wake_at
    )


def test_a_burden_looks_at_the_next_one_that_is_still_to_come() -> None:
    """DLV-02: a stall in an MRI begins to count half an hour after the first burden is over; it is not told before."""
    scan = Scan(moment("PT71H"), None, moment("PT71H"))
    stalls = (*_short("PT0H", "PT1H", "PT2H").stalls, Stall(moment("PT71H")))
    state = PumpState(stalls=stalls, flow=FlowLog(scans=(scan,)))

    assert _opioid(state, "PT71H40M") == _burden("PT2H", 3, wake_at=moment("PT72H30M"))


def test_a_burden_that_late_records_disprove_is_taken_back() -> None:
    """DLV-02: a recovery that was told later made the stall shorter."""
    own = track("DLV-02", "PT1H")
    taken_back = Finding(Presence.ABSENT, retract=Reason.LATE_LOG)

    assert _opioid(_stalls(("PT0H", "PT20M")), "PT2H", own) == taken_back
    assert _opioid(_stalls(("PT0H", "PT1H")), "P2D", own) == NOT_EVALUABLE
    assert _opioid(_stalls(("PT0H", "PT1H")), "P2D", track("DLV-02", "PT24H")) == NOT_EVALUABLE
    assert _opioid(_stalls(("PT0H", "PT1H")), "P2D", track("DLV-02", "PT59M59S")) == taken_back
    assert _opioid(_stalls(("PT0H", "PT1H")), "P2D", track("DLV-02", "PT24H1S")) == taken_back


def test_a_burden_of_a_single_moment_was_one() -> None:
    """DLV-02: two stalls exactly a day apart, on W3."""
    state = _short("PT0H", "PT24H")

    assert judged("DLV-02", "P2D", state, track("DLV-02", "PT24H")) == NOT_EVALUABLE


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("PT1H4M59S", Reason.LATE_LOG),
        ("PT1H5M", Reason.MRI_DECLARED),
        ("PT24H25M", Reason.MRI_DECLARED),
        ("PT24H25M1S", Reason.LATE_LOG),
    ],
)
def test_a_burden_that_a_later_declared_mri_explains_is_taken_back_for_it(start: str, reason: Reason) -> None:
    """DLV-02: where it would have been one without the MRI."""
    state = _scanned(("PT5M", "PT1H25M"))

    assert _opioid(state, "P3D", track("DLV-02", start)) == Finding(Presence.ABSENT, retract=reason)


def test_other_terms_than_at_its_start_disprove_nothing() -> None:
    """DLV-02: what a later version of the profile would have said then; an MRI does all the same."""
    later = [{"from": "PT2H", "reservoir_ml": 40}]
    short, own = _stalls(("PT0H", "PT20M"), confirmed_at=moment("PT1H1S")), track("DLV-02", "PT1H")

    assert _opioid(short, "PT3H", own, later=later) == Finding(Presence.ABSENT, ended_at=moment("PT1H1S"))
    assert _opioid(short, "PT3H", track("DLV-02", "PT1H1S"), later=later) == NOT_EVALUABLE
    assert _opioid(short, "PT3H", track("DLV-02", "PT2H"), later=later).retract is Reason.LATE_LOG
    assert judged("DLV-02", "PT3H", short, own, profile=None).retract is Reason.LATE_LOG
    scanned = _scanned(("PT5M", "PT1H25M"))
    assert _opioid(scanned, "PT3H", track("DLV-02", "PT1H5M"), later=later).retract is Reason.MRI_DECLARED


@pytest.mark.parametrize(
    ("oldest", "count", "retract"),
    [
        (-72 * HOUR, 32, Reason.LATE_LOG),
        (-72 * HOUR + timedelta(seconds=1), 32, None),
        (-72 * HOUR + timedelta(seconds=1), 31, Reason.LATE_LOG),
    ],
)
def test_stalls_that_are_forgotten_may_have_made_it_one(oldest: timedelta, count: int, retract: Reason | None) -> None:
    """DLV-02: where as many are remembered as fit, and none from three days before the alert."""
    starts = (START + oldest, *(START + (10 + number) * HOUR for number in range(count - 1)))
    state = PumpState(stalls=tuple(Stall(start, start + timedelta(seconds=1)) for start in starts))

    assert _opioid(state, "P20D", track("DLV-02", "PT0H")).retract is retract
