"""Batteries, doses and symptoms: what examples in rule files are too short for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain import pipeline
from streams.domain.alert import AlertEvent, Episode, Priority, PriorityStep
from streams.domain.conditions.dose import increase_times
from streams.domain.conditions.symptoms import reported
from streams.domain.evaluation import advanced
from streams.domain.observing.dosing import Complaint, Dose, DosingLog
from streams.domain.observing.schedule import Mean, Schedule, mean, told
from streams.domain.observing.series import Series, added
from streams.domain.rule import Finding, Presence, View
from streams.domain.world import PumpState, World
from streams.rehearsal import START, profiles_of, received_of, rehearse
from tests.shipped import RULES

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
BACLOFEN = profiles_of({})
THERAPY = BACLOFEN.therapy(START)


def _life(reports: Iterable[dict[str, Any]], rule_id: str, **profile: Any) -> tuple[World, list[AlertEvent]]:
    received = [received_of(report, seq) for seq, report in enumerate(reports)]
    world, published = rehearse(received, profiles_of(profile), RULES, received[-1].received_at + HOUR)
    return world, [recorded.event for recorded in published if recorded.event.alert.rule_id == rule_id]


def _battery(day: int, volts: float) -> dict[str, Any]:
    return {"at": f"P{day}D", "motor": "running", "battery": {"voltage_v": round(volts, 4), "eri": False}}


def _falling(after_day: int, mv_per_day: float) -> list[dict[str, Any]]:
    """A battery that falls by 1 mV a day and, from one day on, faster."""
    slow = [_battery(day, 2.90 - 0.001 * day) for day in range(after_day)]
    start = 2.90 - 0.001 * after_day
    return slow + [_battery(after_day + day, start - mv_per_day / 1000 * day) for day in range(16)]


def test_a_battery_that_falls_four_times_as_fast_and_ends_within_a_month_is_medium() -> None:
    """PWR-03: the slope of 14 days against the 60 before, and the projected indicator."""
    _, events = _life(_falling(65, 12.0), "PWR-03")

    assert [(event.kind, event.alert.priority) for event in events] == [("opened", Priority.MEDIUM)]
    assert START + 66 * DAY < events[0].effective_at <= START + 80 * DAY


@pytest.mark.parametrize(
    ("mv_per_day", "why"), [(1.0, "as before"), (2.5, "not three times as fast"), (4.0, "more than a month is left")]
)
def test_a_battery_that_falls_otherwise_is_quiet(mv_per_day: float, why: str) -> None:
    """PWR-03: both must hold, much faster than before and soon at its end."""
    _, events = _life(_falling(65, mv_per_day), "PWR-03")

    assert events == [], why


def test_a_short_history_says_nothing_of_the_battery() -> None:
    """PWR-03: without enough days before there is no slope to compare with."""
    world, events = _life(_falling(10, 12.0), "PWR-03")

    assert events == []
    assert world.head.state.power.trend is None


def test_a_quiet_pump_remembers_little() -> None:
    """Three months of a steady pump: the logs of power, heat and dosing stay small, and the week's median is known."""
    reports = [
        {
            "at": f"PT{hour}H",
            "motor": "running",
            "temperature_celsius": 36.6 + 0.2 * (hour % 3),
            "battery": {"voltage_v": 2.9, "eri": False},
            "flow_programmed_ml_per_day": 0.48,
            "program_checksum": "a",
        }
        for hour in range(0, 90 * 24, 4)
    ]

    world, _ = _life(reports, "TMP-01")

    state = world.head.state
    sizes = {name: len(msgspec.msgpack.encode(getattr(state, name))) for name in ("power", "heat", "dosing")}
    assert state.heat.usual == pytest.approx(3680, abs=20)
    assert state.heat.spells == ()
    assert sizes["power"] < 300
    assert sizes["heat"] < 200
    assert sizes["dosing"] < 200


def test_a_warm_pump_forgets_its_readings_once_it_has_cooled() -> None:
    """TMP-01: readings are kept while it is or was just warm, and never more than an hour's."""
    calm = [{"at": f"PT{hour}H", "temperature_celsius": 36.6} for hour in range(0, 28, 4)]
    warm = [{"at": f"PT{1680 + second}S", "temperature_celsius": 38.3} for second in range(0, 5400, 30)]
    hot = [{**report, "at": f"PT{28 * 3600 + 30 * index}S"} for index, report in enumerate(warm)]

    at_its_warmest, _ = _life([*calm, *hot], "TMP-01")
    cool = [{"at": f"PT{30 * 60 + 15 * quarter}M", "temperature_celsius": 36.7} for quarter in range(8)]
    cooled, events = _life([*calm, *hot, *cool], "TMP-01")

    assert 25 <= len(at_its_warmest.head.state.heat.spells) <= 32
    assert cooled.head.state.heat.spells == ()
    assert [event.kind for event in events] == ["opened", "cleared"]


def _symptom(view_tracks: dict[str, Episode], codes: Sequence[str], hours: float) -> Finding:
    at = START + timedelta(hours=hours)
    state = PumpState(clock=at, dosing=DosingLog(complaint=Complaint(at, at, tuple(codes))))
    return reported(View(state, THERAPY, view_tracks, at), RULES["THR-07"])


def _watch(rule_id: str, *, retracted: bool = False) -> dict[str, Episode]:
    steps = (PriorityStep(Priority.HIGH, START),)
    return {rule_id: Episode(rule_id, START, steps, closed=retracted, retracted=retracted)}


@pytest.mark.parametrize("rule_id", ["REF-01", "REF-04"])
def test_an_overdose_in_the_watch_after_a_refill_starts_at_the_second_step(rule_id: str) -> None:
    """THR-07: in the 24 hours after REF-01 and REF-04 primary and backup are told at once."""
    finding = _symptom(_watch(rule_id), ["sleepy"], 24.0)

    assert [step.priority for step in finding.steps] == [Priority.HIGH]
    assert finding.start_step == 2


def test_every_report_in_the_watch_is_high() -> None:
    """THR-07: a code of neither set counts too, and climbs its ladder from the start."""
    finding = _symptom(_watch("REF-04"), ["pain_increase"], 1.0)

    assert [step.priority for step in finding.steps] == [Priority.HIGH]
    assert finding.start_step == 0


@pytest.mark.parametrize(("tracks", "hours"), [(_watch("REF-01"), 24.1), (_watch("REF-01", retracted=True), 1.0)])
def test_outside_the_watch_an_overdose_starts_at_the_first_step(tracks: dict[str, Episode], hours: float) -> None:
    """THR-07: the watch ends after 24 hours, and an alert that was taken back opens none."""
    finding = _symptom(tracks, ["sleepy"], hours)

    assert finding.start_step == 0
    assert [step.priority for step in finding.steps] == [Priority.HIGH]


def test_used_up_boluses_and_two_increases_suspect_the_catheter() -> None:
    """THR-06: no symptom is needed where the patient uses all boluses and the dose was raised twice in 60 days."""
    flows = {0: 0.2, 20: 0.22, 21: 0.22, 40: 0.242, 41: 0.242}
    raised: list[dict[str, Any]] = [
        {"at": f"P{day}D", "motor": "running", "flow_programmed_ml_per_day": flow} for day, flow in flows.items()
    ]
    boluses: list[dict[str, Any]] = [
        {"at": f"P{day}DT{hour}H", "motor": "running", "events": [_bolus()]} for day in (42, 43, 44) for hour in (3, 9)
    ]
    profile = {"drugs": [{"name": "morphine", "concentration_ug_per_ml": 10000.0}], "prescribed_ug_per_day": 2000.0}
    setting = {"kind": "setting", "rule_id": "THR-06", "parameter": "refill_ratios", "value": 0.0, "from": "PT0H"}
    received = [received_of(report, seq) for seq, report in enumerate([*raised, *boluses])]
    known = profiles_of({**profile, "bolus_max_per_day": 2}, care=[setting])

    _, published = rehearse(received, known, RULES, received[-1].received_at + HOUR)

    events = [recorded.event for recorded in published if recorded.event.alert.rule_id == "THR-06"]
    assert [(event.kind, event.effective_at - START) for event in events] == [("opened", 44 * DAY + 9 * HOUR)]


def test_a_reservoir_that_runs_low_by_and_by_does_not_take_a_suspected_catheter_back() -> None:
    """THR-06: what rose to MEDIUM later says nothing of the pump when the patient missed the effect."""
    refills = [(0, 0.0, 18.0), (30, 3.456, 18.0), (60, 3.744, 18.0), (90, 3.312, 9.6)]
    filled: list[dict[str, Any]] = [
        _at_rate(f"P{day}D", events=[{"type": "refill", "aspirated_ml": out, "injected_ml": into}])
        for day, out, into in refills
    ]
    reports = [
        *filled,
        _at_rate("P90DT2H", reservoir_estimated_ml=9.6),
        _at_rate("P91D", reservoir_estimated_ml=9.1, events=[_told("loss_of_effect")]),
        _at_rate("P91DT6H", events=[_told("itching", "fever")]),
        *(_at_rate(f"P{day}D", reservoir_estimated_ml=9.1 - 0.5 * (day - 91)) for day in (92, 93, 94, 95)),
    ]

    world, events = _life(reports, "THR-06")

    planned = next(record for record in world.ledger if record.rule_id == "RSV-03")
    assert planned.effective_from < START + 91 * DAY
    assert planned.priority is Priority.MEDIUM
    assert [(event.kind, event.alert.priority) for event in events] == [("opened", "medium"), ("escalated", "high")]


def _at_rate(at: str, **fields: Any) -> dict[str, Any]:
    return {"at": at, "motor": "running", "flow_programmed_ml_per_day": 0.48, **fields}


def _told(*codes: str) -> dict[str, Any]:
    return {"type": "symptom_report", "codes": list(codes)}


def _bolus() -> dict[str, Any]:
    return {"type": "bolus", "outcome": "delivered", "volume_ml": 0.01}


def test_rises_on_following_days_are_one_increase() -> None:
    """THR-03: the mean of 24 hours shows a change at noon in two parts."""
    doses = [
        Dose(START + day * DAY, ug) for day, ug in ((0, 100.0), (10, 104.0), (11, 110.0), (30, 120.0), (40, 115.0))
    ]

    assert list(increase_times(doses, 0.05)) == [START + 11 * DAY, START + 30 * DAY]


def test_a_fast_escalation_is_reviewed_and_pages_nobody() -> None:
    """THR-03: with a new symptom it is MEDIUM, and still waits on the worklist."""
    flows = [(0, 0.2), (10, 0.2), (19, 0.27), (20, 0.27)]
    reports: list[dict[str, Any]] = [
        {"at": f"P{day}D", "motor": "running", "flow_programmed_ml_per_day": flow} for day, flow in flows
    ]
    reports.append({"at": "P21D", "events": [{"type": "symptom_report", "codes": ["weakness"]}]})

    morphine = {"drugs": [{"name": "morphine", "concentration_ug_per_ml": 10000.0}], "prescribed_ug_per_day": 2000.0}
    _, events = _life(reports, "THR-03", **morphine)

    told = [(event.alert.priority, event.alert.ladder) for event in events]
    assert told == [(Priority.LOW, "L"), (Priority.MEDIUM, "L")]


@given(steps=st.lists(st.tuples(st.integers(15, 300), st.sampled_from([0.2, 0.4, 0.8])), min_size=1, max_size=60))
def test_the_mean_rate_is_never_outside_what_was_programmed(steps: list[tuple[int, float]]) -> None:
    """A mean lies between the lowest and the highest rate of its day, and is steady where the rate was."""
    schedule, at = Schedule(), START
    for minutes, rate in steps:
        at += timedelta(minutes=minutes)
        schedule = told(schedule, THERAPY, at, rate)

    found = mean(schedule, THERAPY, at)

    rates = [rate for _, rate in steps]
    if found is not None:
        assert min(rates) - 1e-9 <= found.ml_per_day <= max(rates) + 1e-9
    if len(set(rates)) == 1:
        assert found == Mean(rates[0], schedule.rates[0].at)


def test_nobody_knows_the_mean_over_a_gap_with_steps() -> None:
    """While nothing was told the rate may have been any; a day after the gap the mean is known again."""
    schedule, at = Schedule(), START
    moments = [*(START + hour * HOUR for hour in range(30)), *(START + hour * HOUR for hour in range(40, 70))]
    known: dict[datetime, bool] = {}
    for at in moments:
        schedule = told(schedule, THERAPY, at, 0.2 if at.hour < 12 else 0.4)
        known[at] = mean(schedule, THERAPY, at) is not None

    assert known[START + 26 * HOUR]
    assert not known[START + 50 * HOUR]
    assert known[START + 65 * HOUR]


@given(places=st.lists(st.integers(1, 200), max_size=60), kept=st.integers(1, 50))
def test_a_series_keeps_the_first_number_of_each_of_its_newest_places(places: list[int], kept: int) -> None:
    """Whatever comes, at most ``kept`` places are remembered and none is invented."""
    series, first = Series(), dict[int, int]()
    newest = 0
    for number, place in enumerate(places, 1):
        series = added(series, place, number, kept)
        if place > newest:
            first[place], newest = number, place

    assert dict(series.told()) == {place: number for place, number in first.items() if newest - place < kept}
    assert len(series.values) <= kept


def test_a_program_change_outside_any_session_goes_under_an_alert_of_changed_settings_after_an_mri() -> None:
    """THR-02 is the child of MRI-06 (catalogue J): its alert names that rule as its parent."""
    reports: list[dict[str, Any]] = [
        {"at": "PT0H", "motor": "running", "program_checksum": "a"},
        {"at": "PT1H", "motor": "running", "program_checksum": "b"},
    ]

    world, events = _life(reports, "THR-02")

    assert [event.kind for event in events] == ["opened"]
    assert world.head.tracks["THR-02"].parents == ("MRI-06",)
    assert "changed at 2026-11-02 01:00 UTC" in events[0].alert.message


def test_a_pump_without_a_profile_is_judged_by_what_needs_none() -> None:
    """M.22: nobody knows its prescription, yet a rate that no pump can keep is told."""
    world = pipeline.new_world("EX-1")
    received = received_of({"at": "PT0H", "motor": "running", "flow_programmed_ml_per_day": 0.01}, 0)

    step = pipeline.step(world, received, profiles_of(None), RULES, received.received_at)

    assert "THR-01" in {event.alert.rule_id for event in step.events}


@pytest.mark.parametrize(("drug", "prescribed", "step"), [("baclofen", 240.0, 1), ("morphine", 1000.0, 0)])
@pytest.mark.parametrize(
    ("rule_id", "priority", "advances"),
    [
        ("DLV-01", Priority.HIGH, True),
        ("DLV-03", Priority.MEDIUM, True),
        ("MRI-04", Priority.HIGH, True),
        ("DLV-03", Priority.INFO, False),
        ("RSV-02", Priority.HIGH, False),
    ],
)
def test_warmth_advances_alerts_of_delivery_where_it_may_be_withdrawal(
    drug: str, prescribed: float, step: int, rule_id: str, priority: Priority, advances: bool
) -> None:
    """TMP-01: on W3 an open delivery or MRI alert of MEDIUM or above goes one step up its ladder."""
    profile = {"drugs": [{"name": drug, "concentration_ug_per_ml": 1000.0}], "prescribed_ug_per_day": prescribed}
    therapy = profiles_of(profile).therapy(START)
    warm = {"TMP-01": Episode("TMP-01", START, (PriorityStep(Priority.MEDIUM, START),))}
    finding = Finding(Presence.PRESENT, (PriorityStep(priority, START),))

    in_fever = advanced(RULES[rule_id], finding, View(PumpState(), therapy, warm, START))
    without = advanced(RULES[rule_id], finding, View(PumpState(), therapy, {}, START))

    assert (in_fever.start_step, without.start_step) == (step if advances else 0, 0)


def test_every_rule_of_delivery_is_judged_after_the_fever_that_advances_it() -> None:
    """One round of judging is enough, in whichever order things become known."""
    place = RULES.place

    assert all(place["TMP-01"] < place[rule.id] for rule in RULES.event_rules if rule.id[:4] in ("DLV-", "MRI-"))
