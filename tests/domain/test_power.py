"""Battery and device life at the edges: deadlines to the second, bookings, replacements, slopes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from streams.domain.alert import Priority
from streams.domain.observing.power import Indicator, PowerLog, Trend, measured
from streams.domain.profile import ProfileHistory
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Presence
from streams.domain.telemetry import Alarm
from streams.domain.world import PumpState
from streams.rehearsal import START, profiles_of, received_of
from tests.domain.judging import DAY, HOUR, SECOND, ended_of, episode, judged, steps_of

LOW, MEDIUM, HIGH = Priority.LOW, Priority.MEDIUM, Priority.HIGH
ASKED = PumpState(alarms_at=START, power=PowerLog(eri=Indicator(START)))
"""A pump that asks for its replacement from the start on; it stops on day 90."""


def _booked(on: str, since: str = "P0D", zone: str = "UTC") -> ProfileHistory:
    return profiles_of({}, care=[{"kind": "replacement_booked", "from": since, "booked_on": on}], zone=ZoneInfo(zone))


def _replaced(at: str) -> ProfileHistory:
    return profiles_of({}, care=[{"kind": "replaced", "from": at}])


# PWR-01 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "steps", "wakes_after"),
    [
        (timedelta(0), [(LOW, 0)], 30),
        (30 * DAY - SECOND, [(LOW, 0)], 30),
        (30 * DAY, [(LOW, 0), (MEDIUM, 30)], 60),
        (60 * DAY, [(LOW, 0), (MEDIUM, 30)], 76),
        (76 * DAY - SECOND, [(LOW, 0), (MEDIUM, 30)], 76),
        (76 * DAY, [(LOW, 0), (MEDIUM, 30), (HIGH, 76)], None),
    ],
)
def test_each_step_to_the_deadline_comes_at_its_own_second(
    after: timedelta, steps: list[tuple[Priority, int]], wakes_after: int | None
) -> None:
    """PWR-01: MEDIUM at 60 days left, HIGH at 14; each is waited for, and so is the reminder."""
    finding = judged("PWR-01", ASKED, START + after)

    assert steps_of(finding) == [(priority, days * DAY) for priority, days in steps]
    assert finding.wake_at == (None if wakes_after is None else START + wakes_after * DAY)
    assert finding.values == {"deadline": "2027-01-31"}


def test_the_reminder_is_due_at_its_own_second_and_told_once() -> None:
    """PWR-01: people are told again at 30 days left."""
    track = episode("PWR-01", (LOW, timedelta(0)), (MEDIUM, 30 * DAY))
    known = judged("PWR-01", ASKED, START + 60 * DAY, tracks=[track]).reminders
    reminded = replace(track, reminders=known)

    assert judged("PWR-01", ASKED, START + 60 * DAY - SECOND, tracks=[track]).reminders == ()
    assert known == (START + 60 * DAY,)
    assert judged("PWR-01", ASKED, START + 61 * DAY, tracks=[reminded]).reminders == known


@pytest.mark.parametrize(
    ("booked_on", "medium_after"),
    [("2027-01-01", 61), ("2026-12-31", 60), ("2027-01-18", 78)],
)
def test_an_alert_that_becomes_medium_when_the_reminder_is_due_or_later_is_not_told_twice(
    booked_on: str, medium_after: int
) -> None:
    """PWR-01: a booking that fails on day 60 or later is news enough."""
    at = START + medium_after * DAY

    finding = judged("PWR-01", ASKED, at, _booked(booked_on))

    assert finding.steps[-1].at == at
    assert finding.reminders == ()


def test_a_reminder_that_was_told_stays_told_when_a_replacement_is_booked() -> None:
    """PWR-01: what was told stays so, booked or not, and is not told once more."""
    at = START + 62 * DAY
    track = episode("PWR-01", (LOW, timedelta(0)), (MEDIUM, 30 * DAY))
    told = judged("PWR-01", ASKED, START + 60 * DAY, tracks=[track]).reminders
    track = replace(track, reminders=told)

    booked = judged("PWR-01", ASKED, at, _booked("2027-01-15", "P61D"), [track])
    taken_back = judged("PWR-01", ASKED, START + 75 * DAY, tracks=[track])

    assert booked.reminders == told
    assert taken_back.reminders == told


def test_the_reminder_counts_from_when_the_alert_was_medium() -> None:
    """Booked too late it was MEDIUM from day 2 on; nothing is booked from day 61 on, and the reminder is due then."""
    track = episode("PWR-01", (LOW, timedelta(0)), (MEDIUM, 2 * DAY))
    late, none = "2027-03-01", {"kind": "absence", "from": "P61D", "until": "P62D"}
    care = [{"kind": "replacement_booked", "from": "P2D", "booked_on": late}, none]

    finding = judged("PWR-01", ASKED, START + 61 * DAY, profiles_of({}, care=care), [track])

    assert finding.reminders == (START + 61 * DAY,)


@pytest.mark.parametrize(("booked_on", "steps"), [("2027-01-31", [LOW]), ("2027-02-01", [MEDIUM, HIGH])])
def test_a_replacement_on_the_day_of_the_deadline_is_in_time(booked_on: str, steps: list[Priority]) -> None:
    """PWR-01: on or before the deadline; the day after is MEDIUM at once, which takes the place of LOW."""
    finding = judged("PWR-01", ASKED, START + 80 * DAY, _booked(booked_on))

    assert [step.priority for step in finding.steps] == steps
    assert finding.steps[0].at == START


@pytest.mark.parametrize(("zone", "hours"), [("UTC", 0), ("America/New_York", 5), ("Europe/Berlin", -1)])
def test_a_booked_day_counts_until_it_has_passed_at_the_site(zone: str, hours: int) -> None:
    """Booked for day 40: the next midnight of the site ends it, and the alert is MEDIUM from then on."""
    known, passed_after = _booked("2026-12-12", zone=zone), 41 * DAY + hours * HOUR

    before = judged("PWR-01", ASKED, START + passed_after - SECOND, known)
    after = judged("PWR-01", ASKED, START + passed_after, known)

    assert steps_of(before) == [(LOW, timedelta(0))]
    assert before.wake_at == START + passed_after
    assert steps_of(after) == [(LOW, timedelta(0)), (MEDIUM, passed_after)]
    assert after.wake_at == START + 60 * DAY


def test_a_day_that_had_passed_when_it_was_entered_is_no_booking() -> None:
    """The first booking held; the one that took its place on day 48 was for a day before."""
    care = [
        {"kind": "replacement_booked", "from": "P1D", "booked_on": "2027-01-20"},
        {"kind": "replacement_booked", "from": "P48D", "booked_on": "2026-12-12"},
    ]

    finding = judged("PWR-01", ASKED, START + 48 * DAY, profiles_of({}, care=care))

    assert steps_of(finding) == [(LOW, timedelta(0)), (MEDIUM, 48 * DAY)]


def test_a_pump_without_a_profile_counts_down_from_its_own_indicator() -> None:
    """PWR-01: nobody can have booked anything."""
    later = PumpState(power=PowerLog(eri=Indicator(START + DAY)))

    finding = judged("PWR-01", later, START + 77 * DAY, profiles_of(None))

    assert steps_of(finding) == [(LOW, DAY), (MEDIUM, 31 * DAY), (HIGH, 77 * DAY)]


def test_a_profile_older_than_the_indicator_moves_no_deadline() -> None:
    """PWR-01: a day that passed long before the deadlines is no booking, and no news either."""
    later = PumpState(power=PowerLog(eri=Indicator(START + 5 * DAY)))

    finding = judged("PWR-01", later, START + 36 * DAY, _booked("2026-11-10"))

    assert steps_of(finding) == [(LOW, 5 * DAY), (MEDIUM, 35 * DAY)]


def test_a_battery_that_never_spoke_is_not_judged() -> None:
    """PWR-01 and PWR-02: alarms that were told and are silent say that nothing is wrong."""
    assert judged("PWR-01", PumpState(), START) == NOT_EVALUABLE
    assert judged("PWR-01", PumpState(alarms_at=START), START) == ABSENT
    assert judged("PWR-02", PumpState(), START).presence is Presence.NOT_EVALUABLE
    assert judged("PWR-02", PumpState(alarms_at=START), START).presence is Presence.ABSENT


def test_an_indicator_that_the_pump_took_back_ends_the_countdown_when_it_did() -> None:
    """PWR-01: the end has the time of the pump's own word."""
    taken_back = PumpState(power=PowerLog(eri=Indicator(START, START + DAY)))

    assert judged("PWR-01", taken_back, START + 2 * DAY) == Finding(Presence.ABSENT, ended_at=START + DAY)


@pytest.mark.parametrize(("replaced_after", "person"), [("P10D", "example"), (None, "pump_replaced")])
def test_a_replacement_ends_the_countdown_at_its_own_time_whoever_told_it(
    replaced_after: str | None, person: str
) -> None:
    """PWR-01: a named person's record, or the pump's own event."""
    by_pump = PumpState(power=ASKED.power, replaced_at=START + 10 * DAY)
    state, known = (by_pump, profiles_of({})) if replaced_after is None else (ASKED, _replaced(replaced_after))
    track = episode("PWR-01", (LOW, timedelta(0)))

    finding = judged("PWR-01", state, START + 11 * DAY, known, [track])

    assert finding == Finding(Presence.ABSENT, ended_at=START + 10 * DAY, closed_by=person)
    assert judged("PWR-01", state, START + 11 * DAY, known) == ABSENT


def test_the_new_pump_s_own_indicator_counts_from_the_replacement_on_exclusive() -> None:
    """PWR-01: told at the moment of the replacement it is the old pump's."""
    known = _replaced("P10D")
    at_once = PumpState(power=PowerLog(eri=Indicator(START + 10 * DAY)))
    after = PumpState(power=PowerLog(eri=Indicator(START + 10 * DAY + SECOND)))

    assert judged("PWR-01", at_once, START + 11 * DAY, known) == ABSENT
    assert steps_of(judged("PWR-01", after, START + 11 * DAY, known)) == [(LOW, 10 * DAY + SECOND)]


@pytest.mark.parametrize(("opened_after", "ended"), [(10 * DAY, True), (10 * DAY + SECOND, False)])
@pytest.mark.parametrize("rule_id", ["PWR-01", "PWR-02", "PWR-03"])
def test_a_replacement_ends_only_alerts_that_were_open_by_then(
    rule_id: str, opened_after: timedelta, ended: bool
) -> None:
    """An alert that opened at the moment of the replacement ends with it, a second later not."""
    track = episode(rule_id, (MEDIUM, opened_after))

    finding = judged(rule_id, PumpState(alarms_at=START), START + 11 * DAY, _replaced("P10D"), [track])

    assert ended_of(finding) == (START + 10 * DAY if ended else None)


# PWR-02 ----------------------------------------------------------------------------------------------------------


def test_the_deadline_of_the_indicator_is_the_end_at_its_own_second() -> None:
    """PWR-02: it is waited for, and reached inclusively."""
    before = judged("PWR-02", ASKED, START + 90 * DAY - SECOND)
    then = judged("PWR-02", ASKED, START + 90 * DAY)

    assert before == Finding(Presence.ABSENT, wake_at=START + 90 * DAY)
    assert steps_of(then) == [(HIGH, 90 * DAY)]
    assert then.wake_at is None


@pytest.mark.parametrize(("over_after", "ended_at"), [(90 * DAY, None), (90 * DAY + SECOND, START + 90 * DAY + SECOND)])
def test_an_indicator_taken_back_by_the_deadline_was_no_end(over_after: timedelta, ended_at: Any) -> None:
    """PWR-02: taken back at the deadline it never ended; a second later it did, until then."""
    state = PumpState(alarms_at=START, power=PowerLog(eri=Indicator(START, START + over_after)))

    assert judged("PWR-02", state, START + 91 * DAY) == Finding(Presence.ABSENT, ended_at=ended_at)


def test_the_first_word_of_the_end_counts_while_one_goes_on() -> None:
    """PWR-02: of several the earliest, and the indicator's deadline is waited for all the same."""
    log = PowerLog(eri=Indicator(START), eos=Indicator(START + 5 * DAY), alarm=Indicator(START + 3 * DAY))

    finding = judged("PWR-02", PumpState(power=log), START + 6 * DAY)

    assert steps_of(finding) == [(HIGH, 3 * DAY)]
    assert finding.wake_at == START + 90 * DAY


def test_what_the_pump_took_back_ends_with_the_last_of_its_words() -> None:
    """PWR-02: while one of them goes on, nothing has ended."""
    both = PowerLog(eos=Indicator(START, START + 5 * DAY), alarm=Indicator(START, START + 3 * DAY))
    one = PowerLog(eos=Indicator(START + DAY), alarm=Indicator(START, START + 3 * DAY))

    assert ended_of(judged("PWR-02", PumpState(power=both), START + 6 * DAY)) == START + 5 * DAY
    assert steps_of(judged("PWR-02", PumpState(power=one), START + 6 * DAY)) == [(HIGH, DAY)]


def test_what_the_old_pump_said_is_not_the_new_one_s() -> None:
    """Told up to the replacement it is the old pump's; a second later the new one's."""
    known, at = _replaced("P10D"), START + 11 * DAY
    old = PumpState(alarms_at=START, power=PowerLog(eos=Indicator(START + 10 * DAY)))
    new = PumpState(alarms_at=START, power=PowerLog(eos=Indicator(START + 10 * DAY + SECOND)))

    assert judged("PWR-02", old, at, known) == ABSENT
    assert steps_of(judged("PWR-02", new, at, known)) == [(HIGH, 10 * DAY + SECOND)]


def test_a_replacement_ends_the_end_of_service_and_the_new_pump_s_deadline_is_waited_for() -> None:
    """PWR-02: by the person who recorded it."""
    state = PumpState(power=PowerLog(eri=Indicator(START + 20 * DAY), eos=Indicator(START + DAY)))
    track = episode("PWR-02", (HIGH, DAY))

    finding = judged("PWR-02", state, START + 21 * DAY, _replaced("P10D"), [track])

    assert finding == Finding(
        Presence.ABSENT, ended_at=START + 10 * DAY, closed_by="example", wake_at=START + 110 * DAY
    )


def test_the_new_pump_s_own_end_is_no_end_by_the_replacement() -> None:
    """PWR-02: it ends when the new pump takes its word back."""
    state = PumpState(power=PowerLog(eos=Indicator(START + 11 * DAY, START + 12 * DAY)))
    track = episode("PWR-02", (HIGH, DAY))

    finding = judged("PWR-02", state, START + 13 * DAY, _replaced("P10D"), [track])

    assert finding == Finding(Presence.ABSENT, ended_at=START + 12 * DAY)


# PWR-03 ----------------------------------------------------------------------------------------------------------

IMPLANTED = profiles_of({"implanted_on": "2026-11-02"})
LOW_AFTER, MEDIUM_AFTER = 6.5 * 365.25 * DAY, 6.9 * 365.25 * DAY


@pytest.mark.parametrize(
    ("after", "steps", "wakes_after"),
    [
        (LOW_AFTER - SECOND, [], LOW_AFTER),
        (LOW_AFTER, [(LOW, LOW_AFTER)], MEDIUM_AFTER),
        (MEDIUM_AFTER - SECOND, [(LOW, LOW_AFTER)], MEDIUM_AFTER),
        (MEDIUM_AFTER, [(LOW, LOW_AFTER), (MEDIUM, MEDIUM_AFTER)], None),
    ],
)
def test_a_pump_grows_old_at_its_own_second(
    after: timedelta, steps: list[tuple[Priority, timedelta]], wakes_after: timedelta | None
) -> None:
    """PWR-03: 6.5 and 6.9 years of 365.25 days."""
    finding = judged("PWR-03", PumpState(), START + after, IMPLANTED)

    assert finding.presence is (Presence.PRESENT if steps else Presence.ABSENT)
    assert steps_of(finding) == steps
    assert finding.wake_at == (None if wakes_after is None else START + wakes_after)


@pytest.mark.parametrize(
    ("implanted_on", "age_from"), [(None, 10 * DAY), ("2020-05-03", 10 * DAY), ("2026-11-13", 11 * DAY)]
)
def test_a_pump_s_age_counts_from_the_later_of_implantation_and_replacement(
    implanted_on: str | None, age_from: timedelta
) -> None:
    """PWR-03: a pump that was replaced is young again."""
    known = profiles_of({"implanted_on": implanted_on} if implanted_on else {})
    state = PumpState(replaced_at=START + 10 * DAY)

    finding = judged("PWR-03", state, START + 12 * DAY, known)

    assert finding == Finding(Presence.ABSENT, wake_at=START + age_from + LOW_AFTER)


def _trend(recent: float, before: float, level_mv: float, after: timedelta = DAY) -> PumpState:
    return PumpState(power=PowerLog(trend=Trend(START + after, recent, before, level_mv)))


@pytest.mark.parametrize(
    ("recent", "before", "level_mv", "falls"),
    [
        (-12.0, -3.0, 2900.0, True),
        (-9.0, -3.0, 2800.0, False),  # exactly three times as fast is not faster
        (-9.1, -3.0, 2800.0, True),
        (-12.0, -1.0, 2960.0, False),  # exactly thirty days are left
        (-12.0, -1.0, 2959.9, True),
        (-0.1, 2.0, 2601.0, True),  # it did not fall before: how soon it ends decides
        (0.0, -1.0, 2601.0, False),
        (0.5, -1.0, 2500.0, False),
    ],
)
def test_a_battery_falls_by_its_slope_and_what_is_left(
    recent: float, before: float, level_mv: float, falls: bool
) -> None:
    """PWR-03: both limits are exclusive."""
    finding = judged("PWR-03", _trend(recent, before, level_mv), START + 2 * DAY)

    assert finding.presence is (Presence.PRESENT if falls else Presence.ABSENT)
    assert steps_of(finding) == ([(MEDIUM, DAY)] if falls else [])


@pytest.mark.parametrize(("after", "falls"), [(10 * DAY, False), (10 * DAY + SECOND, True)])
def test_the_old_battery_s_slope_is_not_the_new_one_s(after: timedelta, falls: bool) -> None:
    """PWR-03: a slope counts when it was found after the replacement."""
    finding = judged("PWR-03", _trend(-12.0, -1.0, 2900.0, after), START + 11 * DAY, _replaced("P10D"))

    assert finding.presence is (Presence.PRESENT if falls else Presence.ABSENT)


def test_a_decline_that_was_told_stays_until_the_replacement() -> None:
    """A steeper past makes the slope look ordinary again; the alert is none the less."""
    track = episode("PWR-03", (MEDIUM, DAY))

    finding = judged("PWR-03", _trend(-1.0, -1.0, 2900.0, 20 * DAY), START + 20 * DAY, tracks=[track])

    assert steps_of(finding) == [(MEDIUM, DAY)]


def test_neither_an_age_nor_a_slope_is_no_word_on_the_battery() -> None:
    """PWR-03: with either of them a quiet pump is well."""
    assert judged("PWR-03", PumpState(), START) == NOT_EVALUABLE
    assert judged("PWR-03", _trend(-1.0, -1.0, 2900.0), START + DAY) == ABSENT


# What the pump says of itself ------------------------------------------------------------------------------------


def _said(log: PowerLog, after: timedelta, state: PumpState | None = None, **fields: Any) -> PowerLog:
    report = received_of({"at": f"PT{int(after.total_seconds())}S", **fields}, 0).report
    return measured(log, state or PumpState(), profiles_of({}).therapy(START), report)


def test_an_indicator_counts_from_its_first_word_and_is_over_by_its_first_denial() -> None:
    """A report that does not speak of it changes nothing."""
    first = _said(PowerLog(), DAY, battery={"eri": True, "eos": True})
    again = _said(first, 2 * DAY, battery={"eri": True, "eos": True})
    silent = _said(again, 3 * DAY, battery={"voltage_v": 0.0}, alarms=[])
    over = _said(silent, 4 * DAY, battery={"eri": False, "eos": False})
    still = _said(over, 5 * DAY, battery={"eri": False, "eos": False})

    assert (first.eri, first.eos) == (Indicator(START + DAY), Indicator(START + DAY))
    assert (silent.eri, silent.eos) == (first.eri, first.eos)
    assert over.eri == over.eos == Indicator(START + DAY, START + 4 * DAY)
    assert (still.eri, still.eos) == (over.eri, over.eos)


def test_a_countdown_taken_back_goes_on_where_an_end_of_service_begins_anew() -> None:
    """The 90 days of an indicator are counted from its first word."""
    over = PowerLog(eri=Indicator(START, START + DAY), eos=Indicator(START, START + DAY))
    dead = PowerLog(alarm=Indicator(START, START + DAY))

    again = _said(over, 2 * DAY, battery={"eri": True, "eos": True})

    assert again.eri == Indicator(START)
    assert again.eos == Indicator(START + 2 * DAY)
    assert _said(dead, 2 * DAY, alarms=["battery_reset"]).alarm == Indicator(START + 2 * DAY)


@pytest.mark.parametrize(
    ("replaced_after", "counts_from"),
    [
        (timedelta(0), 3 * DAY),
        (2 * DAY, 3 * DAY),
        (3 * DAY - SECOND, 3 * DAY),
        (3 * DAY, timedelta(0)),
        (-SECOND, timedelta(0)),
    ],
)
def test_what_is_said_after_a_replacement_is_the_new_pump_s(replaced_after: timedelta, counts_from: timedelta) -> None:
    """Said before it or with it, it is the word of the old pump."""
    log = PowerLog(eri=Indicator(START), eos=Indicator(START), alarm=Indicator(START))
    state = PumpState(replaced_at=START + replaced_after)

    said = _said(log, 3 * DAY, state, battery={"eri": True, "eos": True}, alarms=["end_of_service"])

    assert said.eri == said.eos == said.alarm == Indicator(START + counts_from)


def test_a_countdown_taken_back_before_the_replacement_is_not_the_new_pump_s() -> None:
    """The new pump has 90 days of its own."""
    log, state = PowerLog(eri=Indicator(START, START + DAY)), PumpState(replaced_at=START + 2 * DAY)

    assert _said(log, 3 * DAY, state, battery={"eri": True}).eri == Indicator(START + 3 * DAY)


def test_only_the_battery_takes_an_indicator_back_and_not_against_its_own_alarm() -> None:
    """An alarm that stops may have been silenced."""
    log, sounding = PowerLog(eri=Indicator(START)), PumpState(alarms=(Alarm.ELECTIVE_REPLACEMENT,))
    denied: dict[str, Any] = {"battery": {"eri": False}}

    assert _said(log, DAY, sounding, **denied).eri == Indicator(START)
    assert _said(log, DAY, PumpState(), alarms=[]).eri == Indicator(START)
    assert _said(log, DAY, PumpState(), **denied).eri == Indicator(START, START + DAY)
