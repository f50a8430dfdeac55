"""Boluses outside the patient's limits, and programs that nobody changed, at the edges (THR-04, THR-02)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from streams.domain.alert import Priority, Reason
from streams.domain.observing.boluses import Bolus, BolusLog, Use, site_day
from streams.domain.observing.dosing import Change, DosingLog, Program
from streams.domain.profile import ProfileHistory
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Presence
from streams.domain.world import PumpState, Session
from streams.rehearsal import START, profiles_of
from tests.domain.judging import BACLOFEN, DAY, HOUR, MINUTE, SECOND, ended_of, episode, judged, steps_of

LOW, MEDIUM, HIGH = Priority.LOW, Priority.MEDIUM, Priority.HIGH
NOW = timedelta(0)
MORPHINE: dict[str, Any] = {"drugs": [{"name": "morphine", "concentration_ug_per_ml": 10000.0}]}


def _allowed(**limits: Any) -> ProfileHistory:
    return profiles_of({**MORPHINE, **limits})


def _given(*times: timedelta, ml: float = 0.1) -> tuple[Bolus, ...]:
    return tuple(Bolus(START + at, ml, START + at) for at in times)


def _taken(
    delivered: tuple[Bolus, ...] = (),
    denied: tuple[timedelta, ...] = (),
    days: tuple[Use, ...] = (),
    heard: timedelta | None = None,
    **fields: Any,
) -> PumpState:
    log = BolusLog(delivered, tuple(START + at for at in denied), days)
    return PumpState(dosing=DosingLog(boluses=log), reported_at=None if heard is None else START + heard, **fields)


# THR-04 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("apart", "too_soon"), [(HOUR - SECOND, True), (HOUR, False)])
def test_a_bolus_within_the_lockout_is_high(apart: timedelta, too_soon: bool) -> None:
    """THR-04: shorter than it, since the one before; without a lockout nothing is too soon."""
    boluses = _taken(_given(NOW, apart))

    assert steps_of(judged("THR-04", boluses, START + apart, _allowed(bolus_lockout_minutes=60))) == (
        [(HIGH, apart)] if too_soon else []
    )
    assert judged("THR-04", boluses, START + apart, _allowed()) == ABSENT
    assert judged("THR-04", boluses, START + apart, profiles_of(None)) == ABSENT


def test_each_bolus_is_held_against_the_one_before() -> None:
    """THR-04: the third follows the second too soon, not the first."""
    boluses = _taken(_given(NOW, 2 * HOUR, 2 * HOUR + MINUTE))

    finding = judged("THR-04", boluses, START + 3 * HOUR, _allowed(bolus_lockout_minutes=60))

    assert steps_of(finding) == [(HIGH, 2 * HOUR + MINUTE)]


@pytest.mark.parametrize(
    ("times", "too_many"),
    [
        ((NOW, HOUR, 2 * HOUR), True),
        ((NOW, HOUR), False),
        ((NOW, HOUR, DAY - SECOND), True),
        ((NOW, HOUR, DAY), False),
    ],
)
def test_a_bolus_beyond_the_daily_count_is_high(times: tuple[timedelta, ...], too_many: bool) -> None:
    """THR-04: two in less than 24 hours are allowed."""
    finding = judged("THR-04", _taken(_given(*times)), START + times[-1], _allowed(bolus_max_per_day=2))

    assert steps_of(finding) == ([(HIGH, times[-1])] if too_many else [])


@pytest.mark.parametrize(("ml", "too_much"), [(0.25, False), (0.2505, False), (0.251, True)])
def test_a_bolus_beyond_the_daily_volume_is_high(ml: float, too_much: bool) -> None:
    """THR-04: 0.5 mL in less than 24 hours are allowed, up to rounding."""
    boluses = (*_given(NOW, ml=0.5), *_given(DAY, DAY + MINUTE, ml=ml))

    finding = judged("THR-04", _taken(boluses), START + DAY + MINUTE, _allowed(max_bolus_ml_per_day=0.5))

    assert steps_of(finding) == ([(HIGH, DAY + MINUTE)] if too_much else [])


def test_a_pump_with_very_many_boluses_is_judged_by_its_day_at_the_site() -> None:
    """THR-04: from 64 a day on they are not remembered one by one."""
    today = site_day(BACLOFEN.therapy(START), START)

    def found(most: int, day: int, count: int) -> list[tuple[Priority, timedelta]]:
        state = _taken(_given(NOW), days=(Use(day, count, 1.0), Use(today - 2, 999, 1.0)))
        return steps_of(judged("THR-04", state, START, _allowed(bolus_max_per_day=most)))

    assert found(64, today, 65) == [(HIGH, NOW)]
    assert found(64, today, 64) == []
    assert found(64, today - 1, 65) == []
    assert found(63, today, 63) == []
    many = _taken(_given(*(index * MINUTE for index in range(65))), days=(Use(today, 64, 1.0),))
    assert judged("THR-04", many, START + 64 * MINUTE, _allowed(bolus_max_per_day=64)) == ABSENT
    assert steps_of(judged("THR-04", many, START + 64 * MINUTE, _allowed(bolus_max_per_day=63)))


@pytest.mark.parametrize(
    ("family", "drugs", "permitted"),
    [
        ("prometra", ["baclofen"], False),
        ("prometra_ii", ["morphine", "baclofen"], False),
        ("prometra", ["morphine"], True),
        ("synchromed_ii", ["baclofen"], True),
    ],
)
def test_a_bolus_of_baclofen_from_a_valve_gated_pump_is_high(family: str, drugs: list[str], permitted: bool) -> None:
    """THR-04: its patient controller is not cleared for it."""
    mixture = [{"name": name, "concentration_ug_per_ml": 1000.0} for name in drugs]

    finding = judged("THR-04", _taken(_given(NOW)), START, profiles_of({"family": family, "drugs": mixture}))

    assert steps_of(finding) == ([] if permitted else [(HIGH, NOW)])


@pytest.mark.parametrize(
    ("begins", "ends", "counts"),
    [
        (76 * MINUTE, 2 * HOUR, False),
        (76 * MINUTE + SECOND, 2 * HOUR, True),
        (NOW, 15 * MINUTE, False),
        (NOW, 15 * MINUTE - SECOND, True),
    ],
)
def test_a_bolus_near_an_authorised_session_is_not_the_patient_s(
    begins: timedelta, ends: timedelta, counts: bool
) -> None:
    """THR-04: within 15 minutes of it (inclusive); neither is it too soon nor the next one after it."""
    state = _taken(_given(30 * MINUTE, 61 * MINUTE), sessions=(Session("S", START + begins, START + ends),))

    finding = judged("THR-04", state, START + 2 * HOUR, _allowed(bolus_lockout_minutes=60))

    assert steps_of(finding) == ([(HIGH, 61 * MINUTE)] if counts else [])


@pytest.mark.parametrize(
    ("heard", "holds"), [(None, True), (75 * MINUTE - SECOND, True), (75 * MINUTE, False), (DAY, False)]
)
def test_a_violation_holds_until_the_pump_reports_a_quarter_of_an_hour_later(
    heard: timedelta | None, holds: bool
) -> None:
    """THR-04: counted from when it was told; then the alert has ended with that report."""
    boluses = tuple(replace(bolus, told_at=START + HOUR) for bolus in _given(NOW, MINUTE))
    track = episode("THR-04", (HIGH, MINUTE))

    finding = judged(
        "THR-04", _taken(boluses, heard=heard), START + 2 * DAY, _allowed(bolus_lockout_minutes=60), [track]
    )

    assert steps_of(finding) == ([(HIGH, MINUTE)] if holds else [])
    assert ended_of(finding) == (None if holds or heard is None else START + heard)


def test_an_older_violation_is_over_while_a_newer_one_is_told() -> None:
    """THR-04: each holds for itself; the newer one is told again."""
    boluses = _given(NOW, MINUTE, 3 * HOUR, 3 * HOUR + MINUTE)
    track, limits = episode("THR-04", (HIGH, MINUTE)), _allowed(bolus_lockout_minutes=60)
    at = 3 * HOUR + MINUTE

    opened = judged("THR-04", _taken(boluses, heard=at), START + at, limits)
    again = judged("THR-04", _taken(boluses, heard=at), START + at, limits, [track])
    waiting = judged("THR-04", _taken(boluses, heard=at), START + at, limits, [replace(track, present=False)])
    later = judged("THR-04", _taken(boluses, heard=at), START + at + SECOND, limits, [track])

    assert steps_of(opened) == [(HIGH, at)]
    assert opened.reminders == later.reminders == ()
    assert again.reminders == waiting.reminders == (START + at,)


@pytest.mark.parametrize(
    ("heard", "finding"),
    [
        (None, NOT_EVALUABLE),
        (HOUR - SECOND, NOT_EVALUABLE),
        (HOUR, Finding(Presence.ABSENT, ended_at=START + HOUR)),
    ],
)
def test_overuse_ends_with_a_report_of_its_last_step_or_later(heard: timedelta | None, finding: Finding) -> None:
    """THR-04: what was reported before says nothing."""
    state, track = _taken(_given(NOW), heard=heard), episode("THR-04", (LOW, NOW), (MEDIUM, HOUR))

    assert judged("THR-04", state, START + 2 * HOUR, _allowed(), [track]) == finding
    assert judged("THR-04", state, START + 2 * HOUR, _allowed(), [replace(track, present=False)]) == ABSENT


def test_a_pump_that_never_told_a_bolus_is_not_judged() -> None:
    """THR-04: denied ones alone are told as well."""
    assert judged("THR-04", PumpState(), START) == NOT_EVALUABLE
    assert judged("THR-04", _taken(denied=(NOW,)), START) == ABSENT


@pytest.mark.parametrize(
    ("denied", "heard", "since"),
    [
        ((0, 1, 2, 3, 4), None, 4),
        ((0, 1, 2, 3), None, None),
        ((0, 1, 2, 3, 4, 5), 5, 4),
        ((0, 1, 2, 3, 24), None, None),
        ((1, 2, 3, 4, 24), None, 24),
        ((0, 1, 2, 3, 4), 23.99, 4),
        ((0, 1, 2, 3, 4), 24, None),
        ((0, 1, 2, 3, 4), 2, 4),
    ],
)
def test_five_denied_within_a_day_are_low_since_the_fifth(
    denied: tuple[int, ...], heard: float | None, since: int | None
) -> None:
    """THR-04: within 24 hours (exclusive) of the newest, or of the pump's last report where that is later."""
    state = _taken(denied=tuple(at * HOUR for at in denied), heard=None if heard is None else heard * HOUR)

    finding = judged("THR-04", state, START + 2 * DAY)

    assert steps_of(finding) == ([] if since is None else [(LOW, since * HOUR)])


@pytest.mark.parametrize(
    ("limits", "count", "ml", "full"),
    [
        ({"bolus_max_per_day": 10}, 9, 0.0, True),
        ({"bolus_max_per_day": 10}, 8, 9.9, False),
        ({"max_bolus_ml_per_day": 1.0}, 99, 0.9 - 0.001, True),
        ({"max_bolus_ml_per_day": 1.0}, 99, 0.898, False),
        ({"bolus_max_per_day": 10, "max_bolus_ml_per_day": 1.0}, 1, 0.9, True),
        ({"bolus_max_per_day": 0, "max_bolus_ml_per_day": 0.0}, 0, 0.0, False),
        ({}, 99, 9.9, False),
    ],
)
def test_a_day_is_full_at_nine_tenths_of_either_allowance(
    limits: dict[str, Any], count: int, ml: float, full: bool
) -> None:
    """THR-04: by count or by volume, inclusive up to rounding; three such days of seven are LOW."""
    known = _allowed(**limits)
    today = site_day(known.therapy(START), START)
    days = tuple(Use(today - back, count, ml) for back in (6, 3, 1))
    told = tuple(replace(bolus, told_at=START - HOUR) for bolus in _given(NOW, ml=0.0))

    finding = judged("THR-04", _taken(told, days=days, heard=NOW), START, known)

    assert steps_of(finding) == ([(LOW, NOW)] if full else [])


@pytest.mark.parametrize(
    ("days_back", "heard", "used_up"),
    [
        ((6, 3, 0), None, True),
        ((7, 3, 0), None, False),
        ((3, 0), None, False),
        ((6, 5, 4, 0), None, True),
        ((6, 3, 0), DAY, False),
        ((5, 3, 0), DAY, True),
        ((6, 3, 0), -DAY, True),
    ],
)
def test_the_last_week_counts_up_to_the_newest_bolus_or_report(
    days_back: tuple[int, ...], heard: timedelta | None, used_up: bool
) -> None:
    """THR-04: three of seven days at the site; the alert is as old as the newest bolus."""
    known = _allowed(bolus_max_per_day=2)
    today = site_day(known.therapy(START), START)
    days = tuple(Use(today - back, 2, 0.2) for back in days_back)

    finding = judged("THR-04", _taken(_given(NOW), days=days, heard=heard), START + 2 * DAY, known)

    assert steps_of(finding) == ([(LOW, NOW)] if used_up else [])


def test_the_week_is_the_site_s() -> None:
    """THR-04: at 23:30 UTC it is the next day in Berlin, and the first of seven days has passed there."""
    zone = ZoneInfo("Europe/Berlin")
    known = profiles_of({**MORPHINE, "bolus_max_per_day": 2}, zone=zone)
    day = (START + DAY).toordinal()
    days = tuple(Use(day - back, 2, 0.2) for back in (6, 3, 1))

    def found(at: timedelta) -> list[tuple[Priority, timedelta]]:
        return steps_of(judged("THR-04", _taken(_given(at), days=days), START + at, known))

    assert found(47 * HOUR - SECOND) == [(LOW, 47 * HOUR - SECOND)]
    assert found(47 * HOUR) == []


# THR-02 ----------------------------------------------------------------------------------------------------------


def _changed(*changes: Change, heard: timedelta | None = None, **fields: Any) -> PumpState:
    program = Program(checksum="a", changes=changes)
    return PumpState(dosing=DosingLog(program=program), reported_at=None if heard is None else START + heard, **fields)


def _change(at: timedelta, session_id: str | None = None, told: timedelta | None = None) -> Change:
    return Change(START + at, START + (at if told is None else told), "b", session_id, True)


def test_a_program_that_never_changed_is_well_where_it_is_known() -> None:
    """THR-02: a pump that told no checksum is not judged."""
    assert judged("THR-02", PumpState(), START) == NOT_EVALUABLE
    assert judged("THR-02", _changed(), START) == ABSENT


@pytest.mark.parametrize(
    ("session", "session_id", "explained"),
    [
        (Session("S", START + HOUR + 30 * MINUTE), "S", True),
        (Session("S", START + HOUR + 30 * MINUTE + SECOND), "S", False),
        (Session("S", START, START + 30 * MINUTE), "S", True),
        (Session("S", START, START + 30 * MINUTE - SECOND), "S", False),
        (Session("S", START, START + 30 * MINUTE), "T", False),
        (Session("S", START, START + 30 * MINUTE), None, True),
        (Session("S", START - 3 * HOUR - 30 * MINUTE), None, True),
        (Session("S", START - 3 * HOUR - 30 * MINUTE - SECOND), None, False),
    ],
)
def test_a_change_belongs_to_a_session_within_half_an_hour(
    session: Session, session_id: str | None, explained: bool
) -> None:
    """THR-02: by its id, or any where it names none; a session whose end nobody told lasts four hours at most."""
    finding = judged("THR-02", _changed(_change(HOUR, session_id), sessions=(session,)), START + HOUR)

    assert finding.presence is (Presence.ABSENT if explained else Presence.PRESENT)
    assert steps_of(finding) == ([] if explained else [(HIGH, HOUR)])


def test_a_change_in_a_foreign_session_is_held_until_that_is_over() -> None:
    """THR-02: fifteen minutes after its end, to the second; then it counts from there."""
    state = _changed(_change(HOUR, "T"), sessions=(Session("S", START, START + 2 * HOUR),))
    track = episode("THR-02", (HIGH, -DAY), present=False)

    held = judged("THR-02", state, START + 135 * MINUTE - SECOND)
    over = judged("THR-02", state, START + 135 * MINUTE)

    assert held == Finding(Presence.ABSENT, wake_at=START + 135 * MINUTE)
    assert steps_of(over) == [(HIGH, 135 * MINUTE)]
    assert over.wake_at is None
    assert over.parents == ("MRI-06",)
    assert judged("THR-02", state, START + 135 * MINUTE, tracks=[track]).reminders == (START + 135 * MINUTE,)


@pytest.mark.parametrize(
    ("heard", "holds"), [(None, True), (135 * MINUTE - SECOND, True), (135 * MINUTE, False), (DAY, False)]
)
def test_a_change_holds_until_the_pump_reports_a_quarter_of_an_hour_later(heard: timedelta | None, holds: bool) -> None:
    """THR-02: after it was told; then the alert has ended with that report."""
    state = _changed(_change(HOUR, told=2 * HOUR), heard=heard)

    known = judged("THR-02", state, START + 2 * DAY, tracks=[episode("THR-02", (HIGH, HOUR))])
    unknown = judged("THR-02", state, START + 2 * DAY)

    assert steps_of(known) == ([(HIGH, HOUR)] if holds else [])
    assert ended_of(known) == (None if holds or heard is None else START + heard)
    assert unknown.presence is (Presence.PRESENT if holds else Presence.ABSENT)
    assert unknown.ended_at is None


def test_a_further_change_is_told_again_and_the_same_one_is_not() -> None:
    """THR-02: one later than all that the alert told; a record may move what its checksum showed before."""
    track = episode("THR-02", (HIGH, HOUR))
    moved, further = _change(30 * MINUTE, told=2 * HOUR), _change(90 * MINUTE, told=2 * HOUR)

    finding = judged("THR-02", _changed(moved, further), START + 2 * HOUR, tracks=[track])
    later = judged("THR-02", _changed(moved, further), START + 2 * HOUR + SECOND, tracks=[track])

    assert finding.reminders == (START + 90 * MINUTE,)
    assert later.reminders == ()
    assert judged("THR-02", _changed(_change(HOUR)), START + HOUR, tracks=[track]).reminders == ()


SESSION = (Session("S", START, START + 2 * HOUR),)


@pytest.mark.parametrize(
    ("opened", "changes", "retracted"),
    [
        (HOUR, [_change(HOUR, "S")], True),
        (25 * HOUR, [_change(HOUR, "S")], True),
        (25 * HOUR + SECOND, [_change(HOUR, "S")], False),
        (HOUR - SECOND, [_change(HOUR, "S")], False),
        (HOUR, [_change(HOUR, "S"), _change(-23 * HOUR)], False),
        (HOUR, [_change(HOUR, "S"), _change(-23 * HOUR - SECOND)], True),
        (HOUR, [_change(HOUR, "S"), _change(9 * HOUR)], False),
    ],
)
def test_a_session_told_late_takes_back_an_alert_about_nothing_else(
    opened: timedelta, changes: list[Change], retracted: bool
) -> None:
    """THR-02: what it was about, up to a day before it, is explained, and nothing since then is left."""
    state, track = _changed(*changes, sessions=SESSION, heard=2 * DAY), episode("THR-02", (HIGH, opened))

    finding = judged("THR-02", state, START + 2 * DAY, tracks=[track])

    assert finding.presence is Presence.ABSENT
    assert finding.retract is (Reason.LATE_EVIDENCE if retracted else None)
    assert ended_of(finding) == (None if retracted else START + 2 * DAY)


def test_a_held_change_is_waited_for_beside_one_that_is_told() -> None:
    """THR-02: and beside one that is over."""
    held, told = _change(3 * HOUR, "T"), _change(-DAY)
    sessions = (Session("S", START + 2 * HOUR, START + 4 * HOUR),)
    track = episode("THR-02", (HIGH, -DAY))

    fresh = judged("THR-02", _changed(held, told, sessions=sessions), START + 3 * HOUR)
    over = judged("THR-02", _changed(held, told, sessions=sessions, heard=3 * HOUR), START + 3 * HOUR, tracks=[track])

    assert steps_of(fresh) == [(HIGH, -DAY)]
    assert fresh.wake_at == over.wake_at == START + 255 * MINUTE
    assert ended_of(over) == START + 3 * HOUR
