"""Silence and data that need a check, at the edges of their limits (COM-01, COM-02)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from streams.domain.alert import Priority
from streams.domain.observing.contacts import ContactLog, Drift, Notice, Peak
from streams.domain.profile import ProfileHistory
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Presence
from streams.domain.world import PumpState
from streams.rehearsal import START, profiles_of
from tests.domain.judging import BACLOFEN, DAY, HOUR, MINUTE, SECOND, judged, steps_of

INFO, LOW, MEDIUM, HIGH = Priority.INFO, Priority.LOW, Priority.MEDIUM, Priority.HIGH
MORPHINE: dict[str, Any] = {"drugs": [{"name": "morphine", "concentration_ug_per_ml": 10000.0}]}
RUNNING = PumpState(motor="running")


def _silent(after: timedelta, known: ProfileHistory = BACLOFEN, state: PumpState = RUNNING) -> Finding:
    return judged("COM-01", state, START + after, known, heard_at=START)


def _every(seconds: int, **profile: Any) -> ProfileHistory:
    return profiles_of({"expected_interval_seconds": seconds, **profile})


# COM-01 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "dues"),
    [
        (15 * MINUTE, (45 * MINUTE, 4 * HOUR, 12 * HOUR)),
        (30 * MINUTE, (90 * MINUTE, 4 * HOUR, 12 * HOUR)),
        (HOUR, (3 * HOUR, 8 * HOUR, 24 * HOUR)),
    ],
)
def test_silence_grows_at_its_own_second(interval: timedelta, dues: tuple[timedelta, timedelta, timedelta]) -> None:
    """COM-01: 3, 8 and 24 intervals, LOW and MEDIUM not before 4 and 12 hours; each is waited for."""
    known = _every(int(interval.total_seconds()))
    info, low, medium = dues
    reached = [(INFO, info), (LOW, low), (MEDIUM, medium)]

    for count, due in enumerate(dues):
        before, then = _silent(due - SECOND, known), _silent(due, known)
        assert steps_of(before) == reached[:count]
        assert before.presence is (Presence.PRESENT if count else Presence.NOT_EVALUABLE)
        assert before.wake_at == START + due
        assert steps_of(then) == reached[: count + 1]
    assert _silent(medium, known).wake_at is None
    assert _silent(medium, known).values == {"since": "2026-11-02 00:00 UTC"}


def test_silence_is_judged_only_while_the_service_listens() -> None:
    """COM-01: without a moment from which it could hear, nobody can say; silence never clears."""
    assert judged("COM-01", RUNNING, START + DAY) == NOT_EVALUABLE


@pytest.mark.parametrize(("motor", "steps"), [("running", [(INFO, 45 * MINUTE)]), ("stalled", None), (None, None)])
def test_silence_of_a_pump_that_was_not_running_is_medium_on_w3(motor: str | None, steps: Any) -> None:
    """COM-01: at 3 intervals, and nothing else is waited for; on an opioid it grows as ever."""
    state = PumpState(motor=motor)

    finding = _silent(45 * MINUTE, state=state)

    assert steps_of(finding) == (steps or [(MEDIUM, 45 * MINUTE)])
    assert finding.wake_at == (START + 4 * HOUR if steps else None)
    assert steps_of(_silent(45 * MINUTE, profiles_of(MORPHINE), state)) == [(INFO, 45 * MINUTE)]


def _absent(*spans: tuple[str, str], kind: str = "absence") -> ProfileHistory:
    return profiles_of({}, care=[{"kind": kind, "from": begin, "until": end} for begin, end in spans])


@pytest.mark.parametrize(
    ("spans", "low"),
    [
        ((("PT1H", "PT6H"),), 6 * HOUR),
        ((("PT4H", "PT6H"),), 6 * HOUR),
        ((("PT4H1S", "PT6H"),), 4 * HOUR),
        ((("PT1H", "PT4H"),), 4 * HOUR),
        ((("PT1H", "PT4H1S"),), 4 * HOUR + SECOND),
        ((("PT1H", "PT6H"), ("PT6H", "PT8H")), 8 * HOUR),
        ((("PT1H", "PT6H"), ("PT6H1S", "PT8H")), 6 * HOUR),
        ((("PT0H", "PT2H"), ("PT1H", "PT6H")), 6 * HOUR),
    ],
)
def test_a_declared_absence_puts_low_off_to_its_end(spans: tuple[tuple[str, str], ...], low: timedelta) -> None:
    """COM-01: one that covers the moment at which LOW is due; absences that follow each other add up."""
    finding = _silent(11 * HOUR, _absent(*spans))

    assert steps_of(finding) == [(INFO, 45 * MINUTE), (LOW, low)]
    assert finding.wake_at == START + 12 * HOUR


def test_a_declared_absence_puts_nothing_else_off() -> None:
    """COM-01: not MEDIUM, which takes the place of a later LOW; and a plan for a stop is no absence."""
    long = _silent(2 * DAY, _absent(("PT1H", "P1D")))
    plan = _silent(11 * HOUR, _absent(("PT1H", "PT6H"), kind="stop_plan"))

    assert steps_of(long) == [(INFO, 45 * MINUTE), (MEDIUM, 12 * HOUR)]
    assert steps_of(plan) == [(INFO, 45 * MINUTE), (LOW, 4 * HOUR)]


# COM-02 ----------------------------------------------------------------------------------------------------------


def _checked(
    after: timedelta, reported: timedelta | None = None, known: ProfileHistory = BACLOFEN, **log: Any
) -> Finding:
    reported_at = None if reported is None else START + reported
    state = PumpState(contacts=ContactLog(**log), reported_at=reported_at)
    return judged("COM-02", state, START + after, known)


def _notice(last: timedelta = timedelta(0), end: timedelta | None = None) -> Notice:
    return Notice(START, START + last, None if end is None else START + end)


@pytest.mark.parametrize(
    ("name", "priority", "cause"),
    [
        ("gap", LOW, "reports are missing and did not come within an hour"),
        ("conflict", MEDIUM, "two different reports came under one number"),
        ("conflicting_alarm", HIGH, "a report that was set aside carries a critical pump alarm"),
        ("twins", MEDIUM, "two pumps seem to report under one id"),
    ],
)
def test_what_was_wrong_with_reports_stays_until_a_day_of_telemetry_without_it(
    name: str, priority: Priority, cause: str
) -> None:
    """COM-02: counted from when it was last seen; silence ends nothing, an end of its own does."""
    wrong: dict[str, Any] = {name: _notice(last=HOUR)}

    stays = _checked(2 * DAY, 25 * HOUR - SECOND, **wrong)

    assert steps_of(stays) == [(priority, timedelta(0))]
    assert stays.values == {"cause": cause}
    assert _checked(2 * DAY, None, **wrong).presence is Presence.PRESENT
    assert _checked(2 * DAY, 25 * HOUR, **wrong) == ABSENT


def test_a_cause_with_an_end_of_its_own_ends_with_it() -> None:
    """COM-02: the end is waited for, and exclusive; of several that ended the last counts."""
    ended: dict[str, Any] = {"gap": _notice(end=HOUR), "conflict": _notice(end=2 * HOUR)}

    before = _checked(2 * HOUR - SECOND, **ended)

    assert steps_of(before) == [(MEDIUM, timedelta(0))]
    assert before.wake_at == START + 2 * HOUR
    assert _checked(2 * HOUR, **ended) == Finding(Presence.ABSENT, ended_at=START + 2 * HOUR)


def test_a_cause_that_is_still_to_come_is_waited_for() -> None:
    """COM-02: it counts from its own second; what ended before it is told beside it."""
    later = Notice(START + 3 * HOUR, START + 3 * HOUR)

    between = _checked(2 * HOUR, gap=_notice(end=HOUR), conflict=later)

    assert between == Finding(Presence.ABSENT, ended_at=START + HOUR, wake_at=START + 3 * HOUR)
    assert steps_of(_checked(3 * HOUR, conflict=later)) == [(MEDIUM, 3 * HOUR)]
    assert _checked(2 * HOUR, conflict=later) == Finding(Presence.ABSENT, wake_at=START + 3 * HOUR)


def test_the_worst_cause_is_named_and_of_equals_the_first() -> None:
    """COM-02: one episode at the priority of the worst, with a step for each that raised it."""
    later = Notice(START + HOUR, START + HOUR)

    worst = _checked(2 * HOUR, gap=_notice(), conflicting_alarm=later)
    equal = _checked(2 * HOUR, conflict=later, twins=_notice())

    assert steps_of(worst) == [(LOW, timedelta(0)), (HIGH, HOUR)]
    assert worst.values == {"cause": "a report that was set aside carries a critical pump alarm"}
    assert steps_of(equal) == [(MEDIUM, timedelta(0))]
    assert equal.values == {"cause": "two pumps seem to report under one id"}


def test_an_alarm_with_an_impossible_time_is_high() -> None:
    """COM-02: since a gateway got it; a pump without any cause is well."""
    finding = _checked(2 * HOUR, alarm_at=START + HOUR)

    assert steps_of(finding) == [(HIGH, HOUR)]
    assert finding.values == {"cause": "a report with an impossible time carries a critical pump alarm"}
    assert _checked(2 * HOUR) == ABSENT


def _drift(*peaks: int, behind: bool = True) -> Drift:
    return Drift(behind, tuple(Peak(minutes, START + index * HOUR) for index, minutes in enumerate(peaks)))


@pytest.mark.parametrize(
    ("peaks", "steps"),
    [
        ((1,), []),
        ((2,), [(LOW, 0)]),
        ((9,), [(LOW, 0)]),
        ((10,), [(MEDIUM, 0)]),
        ((1, 2, 3, 9, 10, 11), [(LOW, 1), (MEDIUM, 4)]),
    ],
)
def test_an_offset_is_as_old_as_the_first_peak_that_reaches_its_limit(
    peaks: tuple[int, ...], steps: list[tuple[Priority, int]]
) -> None:
    """COM-02: more than 2 minutes LOW, more than 10 MEDIUM; a peak says more than how many whole minutes it was."""
    finding = _checked(DAY, drift=_drift(*peaks))

    assert steps_of(finding) == [(priority, hours * HOUR) for priority, hours in steps]


@pytest.mark.parametrize(("behind", "way"), [(True, "behind"), (False, "ahead")])
def test_a_clock_that_is_off_is_told_with_its_highest_peak(behind: bool, way: str) -> None:
    """COM-02: and with its direction."""
    finding = _checked(DAY, drift=_drift(3, 12, behind=behind))

    assert finding.values == {"cause": f"the pump's clock is more than 12 min {way}"}


def test_a_pump_without_a_profile_asks_for_one() -> None:
    """COM-02: MEDIUM since its first report; with a profile, or before any report, it does not."""
    unknown: dict[str, Any] = {"unknown_since": START}

    finding = _checked(HOUR, known=profiles_of(None), **unknown)

    assert steps_of(finding) == [(MEDIUM, timedelta(0))]
    assert finding.values == {"cause": "the pump has no profile; it is judged by the strictest limits"}
    assert _checked(HOUR, **unknown) == ABSENT
    assert _checked(HOUR, known=profiles_of(None)) == ABSENT


def test_a_setting_that_cannot_be_used_is_low_since_it_was_made() -> None:
    """COM-02: one that can be used is none, and each is looked at."""
    usable = {"kind": "setting", "rule_id": "PWR-01", "parameter": "high_days_left", "value": 20.0, "from": "PT0H"}
    refused = {**usable, "value": 1.0, "from": "PT1H"}

    finding = _checked(2 * HOUR, known=profiles_of({}, care=[usable, refused]))

    assert steps_of(finding) == [(LOW, HOUR)]
    assert finding.values == {"cause": "a setting of this patient cannot be used"}
    assert _checked(2 * HOUR, known=profiles_of({}, care=[usable])) == ABSENT
