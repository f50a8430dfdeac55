"""Reservoir rules at the edges: limits to the microlitre, dates to the second, bookings, refills, what explains a step.

The default limit on baclofen is 4.0 mL, and the worst case 1.145 times the programmed flow.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from streams.domain.alert import Episode, Priority, Reason
from streams.domain.conditions.reservoir import Outlook, outlook
from streams.domain.observing.fills import FillLog, Outcome
from streams.domain.observing.levels import Forecast, LevelLog, LevelStep
from streams.domain.profile import ProfileHistory
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Presence, View
from streams.domain.telemetry import Alarm
from streams.domain.world import PumpState, Refill, Sample, Session
from streams.rehearsal import START, profiles_of
from tests.domain.judging import BACLOFEN, DAY, HOUR, MINUTE, SECOND, ended_of, episode, judged, steps_of

LOW, MEDIUM, HIGH, INFO = Priority.LOW, Priority.MEDIUM, Priority.HIGH, Priority.INFO
NOW = timedelta(0)
ZICONOTIDE: dict[str, Any] = {
    "drugs": [{"name": "ziconotide", "concentration_ug_per_ml": 25.0}],
    "prescribed_ug_per_day": 12.0,
}
W1 = profiles_of({**ZICONOTIDE, "low_reservoir_ml": 4.0})


def _levels(*samples: tuple[float, timedelta], **fields: Any) -> PumpState:
    """A pump with computed levels; their times since the start."""
    return PumpState(estimated=tuple(Sample(ml, START + after) for ml, after in samples), **fields)


# RSV-01 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before_ml", "now_ml", "low"), [(4.0, 4.0, True), (4.001, 4.0, False), (4.0, 4.001, False), (3.0, 2.0, True)]
)
def test_two_levels_at_the_limit_are_low(before_ml: float, now_ml: float, low: bool) -> None:
    """RSV-01: the limit is inclusive, and the alert is as old as the second of them."""
    state = _levels((9.0, NOW), (before_ml, MINUTE), (now_ml, 2 * MINUTE), flow_ml_per_day=0.1)

    finding = judged("RSV-01", state, START + 3 * MINUTE)

    assert steps_of(finding) == ([(MEDIUM, 2 * MINUTE)] if low else [])


def test_one_level_is_not_two() -> None:
    """RSV-01: a pump's first report cannot open it."""
    assert judged("RSV-01", _levels((3.0, NOW)), START) == ABSENT


def test_neither_a_level_nor_an_alarm_is_no_word_on_the_reservoir() -> None:
    """RSV-01 and RSV-02: silent alarms, or any level, say that it is not low."""
    measured = PumpState(measured=Sample(9.0, START))

    assert judged("RSV-01", PumpState(), START) == NOT_EVALUABLE
    assert judged("RSV-01", PumpState(alarms_at=START), START) == ABSENT
    assert judged("RSV-02", PumpState(), START) == NOT_EVALUABLE
    assert judged("RSV-02", PumpState(alarms_at=START), START) == ABSENT
    assert judged("RSV-02", measured, START) == ABSENT
    assert judged("RSV-02", _levels((9.0, NOW)), START) == ABSENT


@pytest.mark.parametrize(
    ("refilled", "levelled", "ml", "alarms", "cleared"),
    [
        (HOUR, HOUR, 5.0, (), True),  # at the moment of the refill, exactly a millilitre above the limit
        (HOUR, HOUR, 4.999, (), False),
        (HOUR, HOUR - SECOND, 5.0, (), False),  # a level of before the refill
        (NOW, HOUR, 5.0, (), True),  # a refill at the moment at which the alert opened
        (-SECOND, HOUR, 5.0, (), False),
        (HOUR, HOUR, 5.0, (Alarm.LOW_RESERVOIR,), False),
    ],
)
@pytest.mark.parametrize("sensed", [True, False])
def test_a_refill_clears_once_a_level_shows_it(
    refilled: timedelta, levelled: timedelta, ml: float, alarms: tuple[str, ...], cleared: bool, sensed: bool
) -> None:
    """RSV-01: the refill and a level at least a millilitre above the limit since, measured or computed."""
    state = PumpState(refilled_at=START + refilled, alarms=alarms, alarms_at=START)
    shown = Sample(ml, START + levelled)
    state = replace(state, measured=shown) if sensed else replace(state, estimated=(shown,))

    finding = judged("RSV-01", state, START + 2 * HOUR, tracks=[episode("RSV-01", (MEDIUM, NOW))])

    assert finding.presence is (Presence.ABSENT if cleared else Presence.PRESENT)
    assert ended_of(finding) == (START + refilled if cleared else None)


@pytest.mark.parametrize(("low_after", "cleared"), [(HOUR, True), (HOUR + SECOND, False)])
def test_low_levels_after_a_refill_are_news(low_after: timedelta, cleared: bool) -> None:
    """RSV-01: two low ones, the second later than the refill, hold the alert open whatever was measured."""
    state = _levels((3.0, low_after - SECOND), (3.0, low_after), refilled_at=START + HOUR)
    state = replace(state, measured=Sample(18.0, START + HOUR), flow_ml_per_day=0.1)

    finding = judged("RSV-01", state, START + 2 * HOUR, tracks=[episode("RSV-01", (MEDIUM, NOW))])

    assert finding.presence is (Presence.ABSENT if cleared else Presence.PRESENT)


def test_less_than_two_days_to_the_worst_case_are_high_from_the_next_moment_on() -> None:
    """RSV-01: 2.29 mL at 1.145 mL a day last 48 h; exactly 48 h are MEDIUM still."""
    state = _levels((2.29, NOW), (2.29, NOW), flow_ml_per_day=1.0)
    known = episode("RSV-01", (MEDIUM, NOW))
    moment = timedelta(microseconds=1)

    at_first = judged("RSV-01", state, START)
    late = judged("RSV-01", state, START + moment)
    risen = judged("RSV-01", state, START + moment, tracks=[known])

    assert steps_of(at_first) == [(MEDIUM, NOW)]
    assert at_first.wake_at == START + moment
    assert steps_of(late) == [(HIGH, NOW)]
    assert late.wake_at is None
    assert steps_of(risen) == [(MEDIUM, NOW), (HIGH, moment)]
    assert steps_of(judged("RSV-01", state, START + moment, tracks=[replace(known, present=False)])) == [(HIGH, NOW)]


def test_on_a_drug_that_nobody_misses_a_low_reservoir_stays_medium() -> None:
    """RSV-01: only ``W3+1`` raises it, and nothing is waited for."""
    finding = judged("RSV-01", _levels((1.0, NOW), (1.0, NOW), flow_ml_per_day=1.0), START, W1)

    assert steps_of(finding) == [(MEDIUM, NOW)]
    assert finding.wake_at is None


@pytest.mark.parametrize(
    ("flow", "nominal"), [(1.0, "2026-11-04 00:00 UTC"), (0.0, "2026-11-06 04:00 UTC"), (None, "2026-11-06 04:00 UTC")]
)
def test_a_low_reservoir_names_both_empty_dates(flow: float | None, nominal: str) -> None:
    """RSV-01: 2 mL at 1.0 mL a day, else at the 0.48 mL that is prescribed."""
    finding = judged("RSV-01", _levels((2.0, NOW), (2.0, NOW), flow_ml_per_day=flow), START)

    assert finding.values is not None
    assert finding.values["nominal_empty"] == nominal


def test_an_unknown_level_has_no_empty_dates() -> None:
    """RSV-01 by alarm without a level (M.12); and nobody knows the worst case of a pump that is stopped."""
    state = PumpState(alarms=(Alarm.LOW_RESERVOIR,), alarms_at=START)

    finding = judged("RSV-01", state, START + HOUR)

    assert steps_of(finding) == [(MEDIUM, NOW)]
    assert finding.values == {"worst_case_empty": "unknown", "nominal_empty": "unknown"}
    stopped = judged("RSV-01", _levels((2.0, NOW), (2.0, NOW), flow_ml_per_day=0.0), START, profiles_of(None))
    assert stopped.values == {"worst_case_empty": "unknown", "nominal_empty": "unknown"}


@pytest.mark.parametrize(("priority", "parents"), [(HIGH, ("RSV-03",)), (MEDIUM, ())])
def test_a_low_reservoir_goes_under_planning_while_that_is_high(priority: Priority, parents: tuple[str, ...]) -> None:
    """RSV-01 under RSV-03."""
    state = _levels((2.0, NOW), (2.0, NOW))

    assert judged("RSV-01", state, START, tracks=[episode("RSV-03", (priority, NOW))]).parents == parents


# RSV-02 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refilled", "replaced", "confirmed", "needs_refill", "ended"),
    [
        (NOW, None, NOW, False, NOW),
        (HOUR, None, HOUR, False, HOUR),
        (HOUR, None, HOUR - SECOND, False, None),
        (-SECOND, None, HOUR, False, None),
        (HOUR, None, HOUR, True, None),
        (None, HOUR, 2 * HOUR, False, 2 * HOUR),
        (-HOUR, HOUR, 2 * HOUR, False, 2 * HOUR),
        (HOUR, 3 * HOUR, 2 * HOUR, False, None),
        (None, None, 2 * HOUR, False, None),
        (HOUR, None, None, False, None),
    ],
)
def test_an_empty_reservoir_ends_with_a_filling_and_then_delivery(
    refilled: timedelta | None,
    replaced: timedelta | None,
    confirmed: timedelta | None,
    needs_refill: bool,
    ended: timedelta | None,
) -> None:
    """RSV-02: filled when the alert opened or later, and confirmed then or later."""
    times = (None if after is None else START + after for after in (refilled, replaced, confirmed))
    refilled_at, replaced_at, confirmed_at = times
    state = PumpState(
        refilled_at=refilled_at, replaced_at=replaced_at, confirmed_at=confirmed_at, needs_refill=needs_refill
    )

    finding = judged("RSV-02", state, START + 4 * HOUR, tracks=[episode("RSV-02", (HIGH, NOW))])

    assert finding.presence is (Presence.PRESENT if ended is None else Presence.ABSENT)
    assert ended_of(finding) == (None if ended is None else START + ended)


@pytest.mark.parametrize(
    ("estimated", "measured", "alarms", "since"),
    [
        ((0.5, HOUR), None, (), HOUR),
        ((0.501, HOUR), None, (), None),
        ((9.0, HOUR), (0.5, 2 * HOUR), (), 2 * HOUR),
        (None, (0.5, 2 * HOUR), (), 2 * HOUR),
        (None, (0.501, 2 * HOUR), (), None),
        ((0.4, 3 * HOUR), (0.4, 2 * HOUR), (), 2 * HOUR),
        ((0.4, HOUR), (9.0, 2 * HOUR), (), HOUR),
        ((9.0, HOUR), None, (Alarm.RESERVOIR_EMPTY,), 90 * MINUTE),
        ((0.4, HOUR), None, (Alarm.RESERVOIR_EMPTY,), HOUR),
        ((0.4, 2 * HOUR), None, (Alarm.RESERVOIR_EMPTY,), 90 * MINUTE),
        ((9.0, HOUR), (9.0, HOUR), (Alarm.MEMORY_ERROR,), None),
    ],
)
def test_a_reservoir_is_empty_since_the_first_word_of_it(
    estimated: tuple[float, timedelta] | None,
    measured: tuple[float, timedelta] | None,
    alarms: tuple[str, ...],
    since: timedelta | None,
) -> None:
    """RSV-02: alarm, computed or measured level at half a millilitre (inclusive), whichever came first."""
    state = _levels(*([estimated] if estimated else []), alarms=alarms, alarms_at=START + 90 * MINUTE)
    if measured:
        state = replace(state, measured=Sample(measured[0], START + measured[1]))

    finding = judged("RSV-02", state, START + 4 * HOUR)

    assert steps_of(finding) == ([] if since is None else [(HIGH, since)])


@pytest.mark.parametrize(("filled", "empty"), [(HOUR, True), (HOUR + SECOND, False)])
def test_what_was_empty_before_the_last_filling_is_not_now(filled: timedelta, empty: bool) -> None:
    """RSV-02: the computed and the measured level, and the alarm; at the moment of the refill they count."""
    told = (Sample(0.4, START + HOUR),)
    states = (
        PumpState(estimated=told, alarms_at=START),
        PumpState(measured=told[0], alarms_at=START),
        PumpState(alarms=(Alarm.RESERVOIR_EMPTY,), alarms_at=START + HOUR),
    )

    findings = [judged("RSV-02", replace(state, refilled_at=START + filled), START + 2 * HOUR) for state in states]

    assert {finding.presence for finding in findings} == {Presence.PRESENT if empty else Presence.ABSENT}


@pytest.mark.parametrize(
    ("known", "confirmed", "priority", "physician_after"),
    [(BACLOFEN, True, HIGH, 7 * HOUR), (BACLOFEN, False, HIGH, None), (W1, True, MEDIUM, None)],
)
def test_the_physician_is_told_of_an_empty_reservoir_when_the_budget_is_used_up(
    known: ProfileHistory, confirmed: bool, priority: Priority, physician_after: timedelta | None
) -> None:
    """RSV-02: LCD + B (6 h on baclofen); on W1 it is MEDIUM, and nobody waits."""
    state = _levels((0.4, 2 * HOUR), confirmed_at=START + HOUR if confirmed else None)

    finding = judged("RSV-02", state, START + 3 * HOUR, known)

    assert steps_of(finding) == [(priority, 2 * HOUR)]
    assert finding.physician_by == (None if physician_after is None else START + physician_after)


# Outlook ---------------------------------------------------------------------------------------------------------


def _forecast(level_ml: float, after: timedelta = NOW, flow: float | None = 1.0, bolus: float = 0.0) -> Forecast:
    return Forecast(START + after, level_ml, START + after, flow, bolus)


def _ahead(state: PumpState, known: ProfileHistory = BACLOFEN) -> Outlook | None:
    return outlook(View(state, known.therapy(START), {}, START), 1.145)


def _planned(*forecasts: Forecast, **fields: Any) -> PumpState:
    return PumpState(levels=LevelLog(forecasts=forecasts), **fields)


def test_an_outlook_takes_the_later_date_of_two_forecasts_in_everything() -> None:
    """RSV-03: both have to say so; only what is called newest is the newest one's own."""
    high, low = _forecast(4.0 + 11.45, NOW), _forecast(4.0 + 2.29, HOUR)
    empty_days = 15.45 / 1.145

    falling, rising = _ahead(_planned(high, low)), _ahead(_planned(replace(low, at=START), replace(high, at=low.at)))

    assert falling == Outlook(
        since=START + HOUR,
        threshold_at=START + 10 * DAY,
        empty_at=START + timedelta(days=empty_days),
        deadline_at=START + 10 * DAY,
        nominal_threshold_at=START + timedelta(days=11.45),
        nominal_deadline_at=START + timedelta(days=11.45),
        newest_threshold_at=START + HOUR + 2 * DAY,
        newest_deadline_at=START + HOUR + 2 * DAY,
    )
    assert rising == replace(falling, newest_threshold_at=START + 10 * DAY, newest_deadline_at=START + 10 * DAY)


def test_once_the_limit_is_reached_a_booking_is_judged_by_when_the_reservoir_is_empty() -> None:
    """RSV-03: at Dw = 0 (inclusive) Ew and V/q take the place of Dw and Dn."""
    at_limit, above = _forecast(4.0, bolus=1.0), _forecast(4.0001, bolus=1.0)

    reached, not_yet = _ahead(_planned(at_limit, at_limit)), _ahead(_planned(above, above))

    assert reached is not None
    assert reached.threshold_at == reached.nominal_threshold_at == START
    assert reached.deadline_at == reached.newest_deadline_at == reached.empty_at
    assert reached.empty_at == START + timedelta(days=4.0 / 1.145)
    assert reached.nominal_deadline_at == START + 4 * DAY
    assert not_yet is not None
    assert not_yet.deadline_at == not_yet.threshold_at < START + MINUTE * 10
    assert not_yet.nominal_deadline_at == not_yet.nominal_threshold_at


@pytest.mark.parametrize(
    ("flow", "taken", "allowed", "threshold_days", "nominal_days"),
    [
        (0.0, 0.0, 0.5, 4.0 / (0.5 * 1.145), None),
        (0.0, 0.5, 0.5, 4.0 / (0.5 * 1.145), 8.0),
        (0.5, 0.25, 0.5, 4.0 / 1.145, 4.0 / 0.75),
        (None, 0.0, 0.0, 4.0 / (0.48 * 1.145), 4.0 / 0.48),
    ],
)
def test_the_worst_case_counts_boluses_allowed_and_the_nominal_one_those_taken(
    flow: float | None, taken: float, allowed: float, threshold_days: float, nominal_days: float | None
) -> None:
    """RSV-03: Dw = (V - thr) / ((q + b) 1.145), Dn = (V - thr) / (q + observed b); q as prescribed if never told."""
    forecast = _forecast(8.0, flow=flow, bolus=taken)

    found = _ahead(_planned(forecast, forecast), profiles_of({"max_bolus_ml_per_day": allowed}))

    assert found is not None
    assert found.threshold_at == START + timedelta(days=threshold_days)
    assert found.nominal_threshold_at == (None if nominal_days is None else START + timedelta(days=nominal_days))


def test_an_empty_date_at_the_limit_needs_a_flow() -> None:
    """RSV-03: boluses alone, which nobody needs to take, give no nominal date."""
    forecast = _forecast(3.0, flow=0.0, bolus=0.5)

    found = _ahead(_planned(forecast, forecast), profiles_of({"max_bolus_ml_per_day": 0.5}))

    assert found is not None
    assert found.nominal_threshold_at is not None
    assert found.nominal_deadline_at is None


def test_a_nominal_date_needs_both_forecasts() -> None:
    """RSV-03: what one of them cannot tell nobody tells."""
    with_flow, without = _forecast(8.0), _forecast(8.0, flow=0.0)
    known = profiles_of({"max_bolus_ml_per_day": 0.5})

    for pair in ((with_flow, without), (without, with_flow)):
        found = _ahead(_planned(*pair), known)
        assert found is not None
        assert found.nominal_threshold_at is None
        assert found.nominal_deadline_at is None


@pytest.mark.parametrize(
    ("forecasts", "known"),
    [
        ((_forecast(8.0),), BACLOFEN),
        ((_forecast(8.0), _forecast(8.0, flow=0.0)), BACLOFEN),
        ((_forecast(8.0, flow=0.0), _forecast(8.0)), BACLOFEN),
        ((_forecast(8.0, flow=None), _forecast(8.0, flow=None)), profiles_of(None)),
    ],
)
def test_nothing_is_ahead_where_nothing_is_known_to_flow(
    forecasts: tuple[Forecast, ...], known: ProfileHistory
) -> None:
    """RSV-03: one forecast, or one with nothing that leaves the reservoir, is not evaluable."""
    assert _ahead(_planned(*forecasts), known) is None
    assert judged("RSV-03", _planned(*forecasts), START, known) == NOT_EVALUABLE


def test_a_date_further_than_a_century_ahead_is_as_good_as_never() -> None:
    """RSV-03: it stays a date."""
    forecast = _forecast(8.0, flow=1e-9)

    found = _ahead(_planned(forecast, forecast))

    assert found is not None
    assert found.threshold_at == found.empty_at == START + timedelta(days=36_500)


def _delivered(ratio: float) -> FillLog:
    return FillLog(outcomes=(Outcome(START, 10.0, 10.0 * ratio, START),))


@pytest.mark.parametrize(("ratio", "allowance"), [(1.0, 1.145), (1.2, 1.2), (2.0, 2.0)])
def test_an_observed_over_infusion_counts_instead_of_the_label(ratio: float, allowance: float) -> None:
    """RSV-03 after REF-02."""
    forecast = _forecast(4.0 + allowance)

    found = _ahead(_planned(forecast, forecast, fills=_delivered(ratio)))

    assert found is not None
    assert found.threshold_at == START + DAY


# RSV-03 ----------------------------------------------------------------------------------------------------------


def _days_left(days: float, after: timedelta = HOUR, **fields: Any) -> PumpState:
    """Two forecasts, the second after an hour, that see the limit so many days after the start in the worst case."""
    forecast = _forecast(4.0 + 1.145 * days)
    return _planned(forecast, replace(forecast, at=START + after), **fields)


@pytest.mark.parametrize(
    ("after", "steps", "wakes_after"),
    [
        (6 * DAY - SECOND, [], 6),
        (6 * DAY, [(LOW, 6)], 13),
        (13 * DAY - SECOND, [(LOW, 6)], 13),
        (13 * DAY, [(LOW, 6), (MEDIUM, 13)], 18),
        (18 * DAY, [(LOW, 6), (MEDIUM, 13), (HIGH, 18)], None),
    ],
)
def test_the_way_to_the_limit_has_steps_at_their_own_second(
    after: timedelta, steps: list[tuple[Priority, int]], wakes_after: int | None
) -> None:
    """RSV-03, Dw on day 20: LOW at 14 days, MEDIUM at 7, HIGH at 2, all inclusive; each is waited for."""
    finding = judged("RSV-03", _days_left(20), START + after)

    assert steps_of(finding) == [(priority, days * DAY) for priority, days in steps]
    assert finding.presence is (Presence.PRESENT if steps else Presence.ABSENT)
    assert finding.wake_at == (None if wakes_after is None else START + wakes_after * DAY)
    assert finding.parents == (("RSV-04",) if steps else ())


def test_on_a_drug_that_nobody_misses_a_near_limit_stays_medium() -> None:
    """RSV-03 on W1."""
    finding = judged("RSV-03", _days_left(20), START + 19 * DAY, W1)

    assert steps_of(finding) == [(LOW, 6 * DAY), (MEDIUM, 13 * DAY)]


@pytest.mark.parametrize(
    ("known", "since"),
    [
        (profiles_of(None), HOUR),
        (BACLOFEN, HOUR),
        (profiles_of({}, care=[{"kind": "review", "from": "PT2H", "rule_id": "DLV-02"}]), 2 * HOUR),
    ],
)
def test_a_near_limit_opens_with_the_second_forecast_or_what_people_said_since(
    known: ProfileHistory, since: timedelta
) -> None:
    """RSV-03: the alert is no older than what it is judged by."""
    finding = judged("RSV-03", _days_left(10), START + 3 * HOUR, known)

    assert steps_of(finding) == [(LOW, since)]


def _booked(on: str, since: str = "PT0H", profile: dict[str, Any] | None = None, zone: str = "UTC") -> ProfileHistory:
    care = [{"kind": "refill_booked", "from": since, "booked_on": on}]
    return profiles_of(profile or {}, care=care, zone=ZoneInfo(zone))


@pytest.mark.parametrize(("on", "held"), [("2026-11-12", True), ("2026-11-13", False)])
def test_a_booking_on_the_very_moment_of_the_limit_keeps_the_alert_from_opening(on: str, held: bool) -> None:
    """RSV-03: on or before Dw, here 12 November 00:00."""
    finding = judged("RSV-03", _days_left(10), START + 2 * HOUR, _booked(on))

    assert finding.presence is (Presence.ABSENT if held else Presence.PRESENT)
    assert finding.wake_at == (START + 11 * DAY if held else START + 3 * DAY)


@pytest.mark.parametrize(("on", "ends"), [("2026-11-11", True), ("2026-11-12", False)])
def test_a_booking_a_day_before_the_limit_ends_the_alert(on: str, ends: bool) -> None:
    """RSV-03: at least a day before Dw, as the newest forecast has it, once there is an alert."""
    sooner = _planned(_forecast(4.0 + 1.145 * 12), replace(_forecast(4.0 + 1.145 * 10), at=START + HOUR))

    finding = judged("RSV-03", sooner, START + 2 * HOUR, _booked(on), [episode("RSV-03", (LOW, HOUR))])

    assert finding.presence is (Presence.ABSENT if ends else Presence.PRESENT)
    assert finding.wake_at == (START + 10 * DAY if ends else START + 5 * DAY)


@pytest.mark.parametrize(("zone", "hours"), [("UTC", 0), ("America/New_York", 5), ("Europe/Berlin", -1)])
def test_a_booking_holds_up_to_the_end_of_its_day(zone: str, hours: int) -> None:
    """RSV-03: the day's last second at the site, and the midnight after it, from which on the alert counts."""
    state, known, passed_after = _days_left(10), _booked("2026-11-10", zone=zone), 9 * DAY + hours * HOUR

    before = judged("RSV-03", state, START + passed_after - SECOND, known)
    after = judged("RSV-03", state, START + passed_after, known)

    assert before == Finding(Presence.ABSENT, wake_at=START + passed_after)
    assert steps_of(after) == [(HIGH, passed_after)]


@pytest.mark.parametrize(("days", "ends"), [(15, False), (15.001, True)])
def test_a_limit_more_than_a_day_beyond_the_first_step_ends_the_alert(days: float, ends: bool) -> None:
    """RSV-03: more than 14 + 1 days after the newest forecast, as that one has it; then it ends with it."""
    first, newest = _forecast(4.0 + 1.145 * 3), _forecast(4.0 + 1.145 * days, HOUR)
    track = episode("RSV-03", (LOW, NOW))

    finding = judged("RSV-03", _planned(first, newest), START + 2 * HOUR, tracks=[track])

    assert finding.presence is (Presence.ABSENT if ends else Presence.PRESENT)
    assert ended_of(finding) == (START + HOUR if ends else None)


def test_one_high_forecast_before_a_near_one_does_not_end_the_alert() -> None:
    """RSV-03: the newest counts; and what is far away without an alert ends nothing."""
    far, near = _forecast(4.0 + 1.145 * 30), _forecast(4.0 + 1.145 * 10, HOUR)

    finding = judged("RSV-03", _planned(far, near), START + 2 * HOUR, tracks=[episode("RSV-03", (LOW, NOW))])

    assert steps_of(finding) == [(LOW, NOW)]
    assert judged("RSV-03", _days_left(30), START + 2 * HOUR) == Finding(Presence.ABSENT, wake_at=START + 16 * DAY)


def test_steps_that_are_known_are_neither_waited_for_nor_lost() -> None:
    """RSV-03: MEDIUM is known although its time comes only on day 13; HIGH is still to come."""
    track = episode("RSV-03", (LOW, NOW), (MEDIUM, DAY))

    finding = judged("RSV-03", _days_left(15), START + 2 * DAY, tracks=[track])
    highest = judged("RSV-03", _days_left(15), START + 2 * DAY, tracks=[episode("RSV-03", (HIGH, 2 * DAY))])

    assert steps_of(finding) == [(LOW, NOW), (MEDIUM, DAY)]
    assert finding.wake_at == START + 13 * DAY
    assert steps_of(highest) == [(LOW, DAY), (HIGH, 2 * DAY)]
    assert highest.wake_at is None


@pytest.mark.parametrize(
    ("refilled", "recurred", "ends"),
    [(2 * HOUR, None, False), (2 * HOUR + SECOND, None, True), (3 * HOUR, 3 * HOUR, False), (4 * HOUR, 3 * HOUR, True)],
)
@pytest.mark.parametrize("rule_id", ["RSV-03", "RSV-04"])
def test_a_refill_after_the_alert_began_ends_it(
    rule_id: str, refilled: timedelta, recurred: timedelta | None, ends: bool
) -> None:
    """RSV-03 and RSV-04: later than its start, or than its last recurrence."""
    track = episode(rule_id, (LOW, 2 * HOUR))
    track = replace(track, recurred_at=None if recurred is None else START + recurred)
    state = _days_left(5, refilled_at=START + refilled)

    finding = judged(rule_id, state, START + 5 * HOUR, _booked("2026-11-20"), [track])

    assert ended_of(finding) == (START + refilled if ends else None)


def test_planning_names_its_dates_and_the_booking_as_the_site_writes_it() -> None:
    """RSV-03: midnight in New York is another day in UTC only by its hour; an unreliable level is called so."""
    state = replace(_days_left(10), fills=_delivered(1.2))
    plain = judged("RSV-03", _days_left(10), START + 2 * HOUR)
    finding = judged("RSV-03", state, START + 2 * HOUR, _booked("2026-11-20", zone="Europe/Berlin"))

    assert plain.values is not None
    assert plain.values == {
        "worst_case": "2026-11-12 00:00 UTC",
        "nominal": "2026-11-13 10:48 UTC",
        "empty": "2026-11-15 11:50 UTC",
        "booked": "no date",
        "reliability": "",
    }
    assert finding.values is not None
    assert finding.values["booked"] == "2026-11-20"
    appointment = judged("RSV-04", _days_left(10), START + 2 * HOUR, _booked("2026-11-20"))
    assert appointment.values == {**plain.values, "booked": "2026-11-20"}
    assert finding.values["reliability"] == (
        " The computed level is unreliable: the last filling left 1.20 times as fast as programmed."
    )


# RSV-04 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "steps"),
    [
        ("2026-11-11", []),  # a day before Dw
        ("2026-11-12", [(LOW, HOUR)]),
        ("2026-11-13", [(LOW, HOUR)]),  # Dn is 13 November 10:48
        ("2026-11-14", [(MEDIUM, HOUR)]),
    ],
)
def test_a_booking_later_than_a_day_before_the_limit_is_too_late(
    on: str, steps: list[tuple[Priority, timedelta]]
) -> None:
    """RSV-04: both bounds are exclusive."""
    finding = judged("RSV-04", _days_left(10), START + 2 * HOUR, _booked(on, "-PT1H"))

    assert steps_of(finding) == steps
    assert finding.parents == (("RSV-03",) if steps else ())


def test_a_booking_on_the_very_moment_of_the_nominal_date_is_low() -> None:
    """RSV-04: MEDIUM is later than Dn; without a nominal date nothing is."""
    to_the_day = _forecast(4.0 + 12.0)
    boluses_only = _forecast(4.0 + 1.0, flow=0.0)
    known = profiles_of(
        {"max_bolus_ml_per_day": 0.5}, care=[{"kind": "refill_booked", "from": "PT0H", "booked_on": "2026-11-14"}]
    )

    on_time = judged("RSV-04", _planned(to_the_day, to_the_day), START, _booked("2026-11-14"))
    no_date = judged("RSV-04", _planned(boluses_only, boluses_only), START, known)

    assert steps_of(on_time) == [(LOW, NOW)]
    assert steps_of(no_date) == [(LOW, NOW)]


@pytest.mark.parametrize(("since", "opened"), [("PT0H", HOUR), ("PT1H30M", 90 * MINUTE)])
def test_a_booking_is_too_late_since_it_and_the_second_forecast_are_known(since: str, opened: timedelta) -> None:
    """RSV-04: whichever came later."""
    finding = judged("RSV-04", _days_left(10), START + 2 * HOUR, _booked("2026-11-12", since))

    assert steps_of(finding) == [(LOW, opened)]


@pytest.mark.parametrize(("since", "steps"), [("P10DT23H59M59S", [LOW]), ("P11D", [])])
def test_a_booking_that_had_passed_when_it_was_entered_is_missed_and_not_late(since: str, steps: list[Any]) -> None:
    """RSV-04: 12 November has passed at its own midnight; then it is MEDIUM, and HIGH so near the limit."""
    known = _booked("2026-11-12", since, ZICONOTIDE | {"low_reservoir_ml": 4.0})

    finding = judged("RSV-04", _days_left(10), START + 11 * DAY, known)

    assert [step.priority for step in finding.steps] == [*steps, MEDIUM]
    assert finding.steps[-1].at == START + 11 * DAY


def test_a_day_that_had_passed_when_it_was_entered_is_missed_from_then_on() -> None:
    """RSV-04: nobody could have known before."""
    finding = judged("RSV-04", PumpState(), START + 6 * DAY, _booked("2026-11-04", "P5D"))

    assert steps_of(finding) == [(MEDIUM, 5 * DAY)]


@pytest.mark.parametrize(
    ("days", "after", "steps", "wakes_after"),
    [
        (20, 3 * DAY - SECOND, [], 3),
        (20, 3 * DAY, [(MEDIUM, 3)], 17),
        (20, 17 * DAY, [(MEDIUM, 3), (HIGH, 17)], None),
        (6, 3 * DAY, [(HIGH, 3)], None),
        (5, 3 * DAY, [(HIGH, 3)], None),
        (None, 3 * DAY, [(MEDIUM, 3)], None),
    ],
)
def test_a_missed_day_is_medium_and_high_from_three_days_before_the_limit(
    days: float | None, after: timedelta, steps: list[tuple[Priority, int]], wakes_after: int | None
) -> None:
    """RSV-04 on baclofen: booked for 4 November, missed at the midnight after it; without a forecast MEDIUM."""
    state = PumpState() if days is None else _days_left(days)

    finding = judged("RSV-04", state, START + after, _booked("2026-11-04"))

    assert steps_of(finding) == [(priority, day * DAY) for priority, day in steps]
    assert finding.wake_at == (None if wakes_after is None else START + wakes_after * DAY)


def test_a_missed_day_is_high_no_earlier_than_the_forecasts_that_say_so() -> None:
    """RSV-04: the second forecast came on day 5; on W1 it never is."""
    state = _days_left(6, 5 * DAY)

    assert steps_of(judged("RSV-04", state, START + 6 * DAY, _booked("2026-11-04"))) == [
        (MEDIUM, 3 * DAY),
        (HIGH, 5 * DAY),
    ]
    assert steps_of(judged("RSV-04", state, START + 6 * DAY, _booked("2026-11-04", profile=ZICONOTIDE))) == [
        (MEDIUM, 3 * DAY)
    ]


@pytest.mark.parametrize(("refilled", "done"), [(2 * DAY, True), (2 * DAY - SECOND, False)])
def test_a_refill_up_to_two_weeks_before_the_booked_day_is_that_refill(refilled: timedelta, done: bool) -> None:
    """RSV-04: booked for day 16; an alert that it precedes ends with it."""
    known, state = _booked("2026-11-18"), _days_left(5, refilled_at=START + refilled)
    track = episode("RSV-04", (MEDIUM, 3 * DAY))

    finding = judged("RSV-04", state, START + 4 * DAY, known)

    assert (finding == ABSENT) is done
    assert ended_of(judged("RSV-04", state, START + 4 * DAY, known, [track])) == (START + refilled if done else None)


def test_another_booking_ends_the_alert_while_nothing_is_wrong_with_it() -> None:
    """RSV-04: rebooked for day 8 at hour 5, in time; what it will be judged by is waited for."""
    track, state = episode("RSV-04", (LOW, HOUR)), _days_left(20)
    late = replace(track, start=START + 5 * HOUR)

    rebooked = judged("RSV-04", state, START + 6 * HOUR, _booked("2026-11-10", "PT5H"), [track])
    before = judged("RSV-04", state, START + 6 * HOUR, _booked("2026-11-10", "PT5H"), [late])

    assert rebooked == Finding(Presence.ABSENT, ended_at=START + 5 * HOUR, wake_at=START + 9 * DAY)
    assert steps_of(before) == [(LOW, HOUR)]


def test_another_booking_that_is_late_too_leaves_the_alert_open() -> None:
    """RSV-04: it counts from its own second, and the lower priority changes nothing."""
    track = episode("RSV-04", (MEDIUM, HOUR))

    finding = judged("RSV-04", _days_left(10), START + 5 * HOUR, _booked("2026-11-12", "PT5H"), [track])

    assert steps_of(finding) == [(MEDIUM, HOUR)]


def test_no_booking_is_no_late_one() -> None:
    """RSV-04: that is RSV-03's."""
    assert judged("RSV-04", _days_left(1), START + 2 * HOUR) == ABSENT


# RSV-05 ----------------------------------------------------------------------------------------------------------


def _step(change_ml: float, *, programmed_ml: float = 0.0, sensed: bool = True, after: timedelta = HOUR) -> LevelStep:
    return LevelStep(START + after, START, change_ml, programmed_ml, sensed)


def _stepped(*steps: LevelStep, **fields: Any) -> PumpState:
    return PumpState(levels=LevelLog(steps=steps), **fields)


@pytest.mark.parametrize(
    ("step", "at", "priority"),
    [
        (_step(-0.3), HOUR, None),
        (_step(-0.3000009), HOUR, None),
        (_step(-0.30001), HOUR, HIGH),
        (_step(-0.30001, sensed=False), HOUR, MEDIUM),
        (_step(-1.445, programmed_ml=1.0), HOUR, None),
        (_step(-1.44501, programmed_ml=1.0), HOUR, HIGH),
        (_step(0.5), 3 * HOUR, None),
        (_step(0.5000009), 3 * HOUR, None),
        (_step(0.50001), 3 * HOUR, LOW),
        (_step(0.50001, sensed=False), 3 * HOUR, LOW),
    ],
)
def test_a_step_counts_beyond_its_limit(step: LevelStep, at: timedelta, priority: Priority | None) -> None:
    """RSV-05: a fall beyond 1.145 times the program + 0.3 mL at once, a rise beyond 0.5 mL two hours later."""
    finding = judged("RSV-05", _stepped(step, measured=Sample(9.0, START)), START + at)

    assert steps_of(finding) == ([] if priority is None else [(priority, at)])


def test_a_rise_is_waited_for_until_its_second_hour_is_over() -> None:
    """RSV-05: of two the first, beside one too small to count."""
    rises = _stepped(_step(0.4), _step(0.6, after=2 * HOUR), _step(0.6), measured=Sample(9.0, START))

    finding = judged("RSV-05", rises, START + 3 * HOUR - SECOND)

    assert finding == Finding(Presence.ABSENT, wake_at=START + 3 * HOUR)
    assert judged("RSV-05", rises, START + 3 * HOUR).wake_at == START + 4 * HOUR


def test_levels_without_a_step_are_absent_and_no_level_says_nothing() -> None:
    """RSV-05: computed or measured; an alert that is open stays so."""
    open_alert = judged("RSV-05", PumpState(), START + HOUR, tracks=[episode("RSV-05", (LOW, NOW))])

    assert judged("RSV-05", PumpState(), START) == NOT_EVALUABLE
    assert judged("RSV-05", _levels((9.0, NOW)), START) == ABSENT
    assert judged("RSV-05", PumpState(measured=Sample(9.0, START)), START) == ABSENT
    assert steps_of(open_alert) == [(LOW, NOW)]


@pytest.mark.parametrize(
    ("change_ml", "before", "refilled", "explained"),
    [
        (1.0, NOW, -2 * HOUR, True),
        (1.0, NOW, -2 * HOUR - SECOND, False),
        (1.0, NOW, 3 * HOUR, True),
        (1.0, NOW, 3 * HOUR + SECOND, False),
        (-1.0, NOW, HOUR, True),
        (-1.0, NOW, HOUR + SECOND, False),
        (-1.0, NOW, -HOUR, True),  # two hours before the fall, although not between the samples
        (-1.0, NOW, -HOUR - SECOND, False),
        (-1.0, -3 * HOUR, -3 * HOUR, True),
        (-1.0, -3 * HOUR, -3 * HOUR - SECOND, False),
    ],
)
def test_a_refill_explains_a_step_near_it(
    change_ml: float, before: timedelta, refilled: timedelta, explained: bool
) -> None:
    """RSV-05: two hours around a rise, and a fall between its samples or in the two hours before; inclusive."""
    step = replace(_step(change_ml), before_at=START + before)
    other = Refill(START - 9 * DAY, 0.0, 18.0)
    state = _stepped(step, refills=(other, Refill(START + refilled, 0.0, 18.0)), measured=Sample(9.0, START))

    finding = judged("RSV-05", state, START + (3 * HOUR if change_ml > 0 else HOUR))

    assert finding.presence is (Presence.ABSENT if explained else Presence.PRESENT)


def _told(*incidents: timedelta) -> Episode:
    first, *later = incidents
    track = episode("RSV-05", (HIGH, first))
    return replace(track, reminders=tuple(START + after for after in later))


def test_a_refill_told_late_takes_back_only_an_alert_that_tells_nothing_else() -> None:
    """RSV-05: what it was opened for is explained; another fall of the same alert is not. A rise is waited for."""
    explained, other = _step(-1.0), _step(-1.0, after=5 * HOUR)
    other = replace(other, before_at=START + 4 * HOUR)
    rise = replace(_step(1.0, after=6 * HOUR), before_at=START + 5 * HOUR)
    refills, at = (Refill(START, 0.0, 18.0),), START + 7 * HOUR

    alone = judged("RSV-05", _stepped(explained, rise, refills=refills), at, tracks=[_told(HOUR)])
    both = judged("RSV-05", _stepped(explained, other, refills=refills), at, tracks=[_told(HOUR, 5 * HOUR)])
    foreign = judged("RSV-05", _stepped(explained, refills=refills), at, tracks=[_told(2 * HOUR)])

    assert alone == Finding(Presence.ABSENT, retract=Reason.LATE_EVIDENCE, wake_at=START + 8 * HOUR)
    assert both.presence is Presence.PRESENT
    assert foreign.presence is Presence.PRESENT


SESSION = (Session("S1", START, START + 2 * HOUR),)
"""It holds back what happens in it until 2:15."""


@pytest.mark.parametrize(
    ("at", "steps", "wakes"),
    [
        (HOUR, [(INFO, HOUR)], True),
        (135 * MINUTE - SECOND, [(INFO, HOUR)], True),
        (135 * MINUTE, [(INFO, HOUR), (MEDIUM, 135 * MINUTE)], False),
    ],
)
def test_a_computed_fall_is_noted_until_its_session_no_longer_holds_it(
    at: timedelta, steps: list[tuple[Priority, timedelta]], wakes: bool
) -> None:
    """RSV-05: fifteen minutes after the session's end, to the second."""
    track = [_told(HOUR)] if at > HOUR else []
    track = [replace(one, steps=(replace(one.steps[0], priority=INFO),)) for one in track]

    finding = judged("RSV-05", _stepped(_step(-1.0, sensed=False), sessions=SESSION), START + at, tracks=track)

    assert steps_of(finding) == steps
    assert finding.wake_at == (START + 135 * MINUTE if wakes else None)


def test_what_a_session_no_longer_holds_when_it_is_due_counts_at_once() -> None:
    """RSV-05: a rise is due two hours later, here just as the hold ends, or earlier; a measured fall is never held."""
    rise, earlier = _step(1.0, sensed=False, after=15 * MINUTE), _step(1.0, sensed=False, after=16 * MINUTE)

    at_its_end = judged("RSV-05", _stepped(rise, sessions=SESSION), START + 135 * MINUTE)
    short = (Session("S1", START, START + 20 * MINUTE),)
    after = judged("RSV-05", _stepped(earlier, sessions=short), START + 136 * MINUTE)
    measured = judged("RSV-05", _stepped(_step(-1.0), sessions=SESSION), START + HOUR)

    assert steps_of(at_its_end) == [(LOW, 135 * MINUTE)]
    assert steps_of(after) == [(LOW, 136 * MINUTE)]
    assert steps_of(measured) == [(HIGH, HOUR)]


@pytest.mark.parametrize(
    ("change_ml", "sensed", "words"),
    [(-1.0, True, ("fell by 1.00 mL", "measured")), (1.0, False, ("rose by 1.00 mL", "computed"))],
)
def test_a_step_is_told_in_words(change_ml: float, sensed: bool, words: tuple[str, str]) -> None:
    """RSV-05: how much, which level, from when to when, and what the program explains."""
    step = _step(change_ml, sensed=sensed, programmed_ml=0.25, after=MINUTE)

    finding = judged("RSV-05", _stepped(step), START + (2 * HOUR + MINUTE if change_ml > 0 else MINUTE))

    assert finding.values == {
        "change": words[0],
        "level": words[1],
        "since": "2026-11-02 00:00 UTC",
        "at": "2026-11-02 00:01 UTC",
        "programmed": "0.25 mL",
    }
