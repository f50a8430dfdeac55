"""Reservoir and refill rules where one example is not enough: parents, restarts, resolutions, late refills, helpers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from streams.domain.alert import AlertRecord
from streams.domain.conditions.reservoir import outlook
from streams.domain.observing.fills import FillLog, Outcome, over_infused, refill_ratios
from streams.domain.rule import View
from streams.domain.world import World
from streams.rehearsal import Recorded, moment, profiles_of, received_of, rehearse
from tests.shipped import RULES

MORPHINE: Mapping[str, Any] = {
    "drugs": [{"name": "morphine", "concentration_ug_per_ml": 10000.0}],
    "prescribed_ug_per_day": 5000.0,
}


def lives(
    reports: Iterable[Mapping[str, Any]],
    until: str,
    profile: Mapping[str, Any] | None = None,
    care: Iterable[Mapping[str, Any]] = (),
    resolve: Iterable[tuple[str, str]] = (),
) -> tuple[World, list[Recorded]]:
    """A pump's life by the production engine; ``resolve`` are offsets with rule ids."""
    received = [received_of(entry, number) for number, entry in enumerate(reports)]
    resolutions = [(moment(offset), rule_id) for offset, rule_id in resolve]
    return rehearse(received, profiles_of(profile or {}, care=care), RULES, moment(until), resolutions)


def row(world: World, rule_id: str) -> AlertRecord:
    """The rule's newest alert as published."""
    return max(
        (record for record in world.ledger if record.rule_id == rule_id), key=lambda record: record.effective_from
    )


def kinds(told: Iterable[Recorded], rule_id: str) -> list[str]:
    """What was published of a rule, amendments left out."""
    events = [item.event for item in told if item.event.alert.rule_id == rule_id]
    return [event.kind.value for event in events if event.kind != "amended"]


def level(at: str, ml: float, **fields: Any) -> dict[str, Any]:
    """A report of a computed level at half a millilitre a day."""
    return {"at": at, "motor": "running", "reservoir_estimated_ml": ml, "flow_programmed_ml_per_day": 0.5, **fields}


def refill(at: str, aspirated_ml: float, injected_ml: float, **fields: Any) -> dict[str, Any]:
    """A report of a refill."""
    event = {"type": "refill", "aspirated_ml": aspirated_ml, "injected_ml": injected_ml}
    return {"at": at, "events": [event], **fields}


def test_of_a_late_booking_and_a_near_limit_the_higher_priority_is_the_parent() -> None:
    """M.26: RSV-03 HIGH takes RSV-04 MEDIUM as its child while both are open."""
    care = [{"kind": "refill_booked", "from": "PT0H", "booked_on": "2026-11-20"}]

    world, _ = lives([level("PT0H", 2.9), level("PT1H", 2.9)], "PT2H", {"low_reservoir_ml": 2.0}, care)

    assert row(world, "RSV-03").priority == "high"
    assert row(world, "RSV-04").priority == "medium"
    assert row(world, "RSV-04").parent_id == row(world, "RSV-03").alert_id
    assert row(world, "RSV-03").parent_id is None


def test_of_equals_the_booking_is_the_parent() -> None:
    """M.6: both MEDIUM, so the row is RSV-04's."""
    care = [{"kind": "refill_booked", "from": "PT0H", "booked_on": "2026-11-20"}]

    world, _ = lives([level("PT0H", 5.0), level("PT1H", 5.0)], "PT2H", {"low_reservoir_ml": 2.0}, care)

    assert row(world, "RSV-03").priority == row(world, "RSV-04").priority == "medium"
    assert row(world, "RSV-03").parent_id == row(world, "RSV-04").alert_id
    assert row(world, "RSV-04").parent_id is None


def test_a_low_reservoir_is_the_child_of_the_missing_booking_only_while_that_is_high() -> None:
    """Interaction table: nothing booked on W3, so RSV-03 HIGH pages and RSV-01 annotates; on W1 RSV-03 stays MEDIUM."""
    reports = [level("PT0H", 1.9), level("PT15M", 1.9), level("PT1H", 1.88)]
    w1 = {"drugs": [{"name": "ziconotide", "concentration_ug_per_ml": 25.0}], "prescribed_ug_per_day": 12.5}

    on_baclofen, _ = lives(reports, "PT2H", {"low_reservoir_ml": 2.0})
    on_ziconotide, _ = lives(reports, "PT2H", {"low_reservoir_ml": 2.0, **w1})

    assert row(on_baclofen, "RSV-01").parent_id == row(on_baclofen, "RSV-03").alert_id
    assert row(on_ziconotide, "RSV-03").priority == "medium"
    assert row(on_ziconotide, "RSV-01").parent_id is None


def test_dates_near_the_limit_are_the_catalogue_s() -> None:
    """RSV-03 vector: V 8.0, limit 2.0, q 0.5, b 0.08 give Dw 9.03 d and Dn 12.0 d; both are told."""
    profile = {**MORPHINE, "low_reservoir_ml": 2.0, "max_bolus_ml_per_day": 0.08}

    world, _ = lives([level("PT0H", 8.0), level("PT1H", 8.0)], "PT2H", profile)

    message = row(world, "RSV-03").message
    assert "2026-11-11 01:50 UTC at the earliest" in message  # 1 h + 6.0 / (0.58 * 1.145) d
    assert "2026-11-14 01:00 UTC as programmed" in message  # 1 h + 6.0 / 0.5 d


def test_boluses_taken_since_the_refill_bring_the_nominal_date_nearer() -> None:
    """Dn counts what the patient took: 1.0 mL in two days is half a millilitre a day on top."""
    bolus = {"type": "bolus", "outcome": "delivered", "volume_ml": 1.0}
    reports = [
        refill("PT0H", 2.0, 10.0, motor="running", flow_programmed_ml_per_day=0.5),
        level("P1D", 8.5, events=[bolus]),
        level("P2D", 8.0),
    ]

    profile = {**MORPHINE, "low_reservoir_ml": 2.0, "max_bolus_ml_per_day": 0.5}
    world, _ = lives([*reports, level("P4D", 6.5)], "P5D", profile)

    state, therapy = world.head.state, profiles_of(profile).therapy(moment("P5D"))
    dates = outlook(View(state, therapy, {}, moment("P5D")), accuracy_allowance=1.145)
    assert [forecast.bolus_ml_per_day for forecast in state.levels.forecasts] == [0.5, 0.25]
    assert dates is not None
    assert dates.nominal_threshold_at == moment("P10D")  # the later of P2D + 6.0 / 1.0 d and P4D + 4.5 / 0.75 d
    assert dates.threshold_at == moment("P4D") + timedelta(days=4.5 / 1.145)


def test_a_fall_of_a_noisy_level_needs_two_forecasts() -> None:
    """One low forecast between two high ones opens nothing."""
    reports = [level("PT0H", 12.0), level("PT1H", 12.0), level("PT2H", 7.0), level("PT3H", 12.0), level("PT4H", 12.0)]

    _, told = lives(reports, "PT5H", {**MORPHINE, "low_reservoir_ml": 2.0})

    assert kinds(told, "RSV-03") == []


def test_a_step_down_needs_a_day_beyond_the_boundary() -> None:
    """Dw 14.5 d leaves it open, 15.3 d ends it."""
    q = 0.5 * 1.145
    reports = [level("PT0H", 2 + 13.9 * q), level("PT1H", 2 + 13.9 * q), level("PT2H", 2 + 14.5 * q)]
    profile = {**MORPHINE, "low_reservoir_ml": 2.0}

    _, told = lives(reports, "PT3H", profile)
    _, told_more = lives([*reports, level("PT3H", 2 + 15.3 * q)], "PT4H", profile)

    assert kinds(told, "RSV-03") == ["opened"]
    assert kinds(told_more, "RSV-03") == ["opened", "cleared"]


def test_the_computed_level_is_called_unreliable_after_over_infusion() -> None:
    """Interaction table: 1.6 times as fast as programmed takes the place of 1.145 in the dates."""
    reports = [
        refill("PT0H", 2.0, 20.0, volume_programmed_ml=0.0, flow_programmed_ml_per_day=0.5),
        refill("P20D", 4.0, 10.0, volume_programmed_ml=10.0, flow_programmed_ml_per_day=0.5),
        level("P20DT1H", 10.0),
    ]

    world, _ = lives(reports, "P20DT2H", {**MORPHINE, "low_reservoir_ml": 2.0})

    message = row(world, "RSV-03").message
    assert "unreliable" in message
    assert "2026-12-02 01:00 UTC at the earliest" in message  # P20DT1H + 8.0 / (0.5 * 1.6) d


def test_a_flex_schedule_is_planned_with_its_mean_and_a_new_rate_at_once() -> None:
    """Twelve hours at 0.2 and twelve at 1.0 are 0.6 mL a day; a rate never seen in the last day is another program."""
    flex = [
        level(f"PT{hours}H", 30.0, flow_programmed_ml_per_day=1.0 if hours % 24 >= 12 else 0.2)
        for hours in range(0, 61, 6)
    ]
    profile = {**MORPHINE, "reservoir_ml": 40}

    flexing, _ = lives(flex, "PT61H", profile)
    changed, _ = lives([*flex, level("PT61H", 30.0, flow_programmed_ml_per_day=3.0)], "PT62H", profile)

    assert flexing.head.state.levels.forecasts[-1].flow_ml_per_day == pytest.approx(0.6)
    assert changed.head.state.levels.forecasts[-1].flow_ml_per_day == 3.0


def test_the_physician_is_told_ten_minutes_after_a_suspected_pocket_fill() -> None:
    """REF-01: ladder H with step 3 at +10 min."""
    world, _ = lives([refill("PT10M", 2.0, 18.0, reservoir_measured_ml=16.0)], "PT20M")

    assert row(world, "REF-01").physician_by == moment("PT20M")


def test_a_missing_sensor_value_is_no_pocket_fill() -> None:
    """A computed level far below says that the refill is not confirmed, never that drug went beside the pump."""
    world, told = lives([refill("PT0M", 2.0, 18.0, reservoir_estimated_ml=2.0)], "PT2H")

    assert kinds(told, "REF-01") == ["opened"]
    assert row(world, "REF-01").priority == "medium"


def test_a_second_restart_tells_again_and_is_watched_for_a_day_of_its_own() -> None:
    """REF-04 open from the first restart: the second one is a reminder, and 24 h count from it."""
    stops = [
        {"at": "PT0H", "motor": "stopped"},
        {"at": "PT13H", "motor": "running"},
        {"at": "PT14H", "motor": "stopped"},
        {"at": "PT28H", "motor": "running"},
        {"at": "PT51H", "motor": "running"},
    ]

    _, told = lives(stops, "PT53H", MORPHINE, resolve=[("PT51H59M", "REF-04"), ("PT52H", "REF-04")])

    assert kinds(told, "REF-04") == ["opened", "re_raised", "resolved"]


def test_what_was_resolved_opens_again_with_the_next_incident_only() -> None:
    """A resolved fall is over; further reports leave it alone, and another fall hours later is news."""
    falls = [
        {"at": "PT0M", "reservoir_measured_ml": 12.0},
        {"at": "PT15M", "reservoir_measured_ml": 11.0},
        {"at": "PT30M", "reservoir_measured_ml": 11.0},
        {"at": "PT10H", "reservoir_measured_ml": 11.0},
        {"at": "PT11H", "reservoir_measured_ml": 10.0},
    ]

    world, told = lives(falls, "PT12H", resolve=[("PT20M", "RSV-05")])

    assert kinds(told, "RSV-05") == ["opened", "resolved", "opened"]
    assert row(world, "RSV-05").effective_from == moment("PT11H")


def sensed(at: str, ml: float, programmed_ml: float | None, **fields: Any) -> dict[str, Any]:
    """A report of a measured level and of the program's counter."""
    told = {} if programmed_ml is None else {"volume_programmed_ml": programmed_ml}
    return {"at": at, "motor": "running", "reservoir_measured_ml": ml, **told, **fields}


def test_a_measured_level_that_sinks_slowly_is_told_again_and_again() -> None:
    """Neighbouring samples differ by less than the limit; over four hours 4.8 mL are gone."""
    dump = [sensed(f"PT{15 * number}M", round(18 - 0.3 * number, 2), 0.005 * number) for number in range(17)]

    world, told = lives(dump, "PT4H", MORPHINE)

    assert row(world, "RSV-05").effective_from == moment("PT30M")
    assert kinds(told, "RSV-05") == ["opened", *["re_raised"] * 7]


def test_after_a_slow_fall_was_resolved_only_what_falls_on_is_told() -> None:
    """What people were told of is over, also while it is not a day old."""
    falls = [
        *(sensed(f"PT{number}H", round(18 - 0.2 * number, 2), 0.0) for number in range(3)),
        *(sensed(f"PT{number}H", 17.6, 0.0) for number in range(3, 12)),
        *(sensed(f"PT{number}H", round(17.6 - 0.2 * (number - 11), 2), 0.0) for number in range(12, 14)),
    ]

    world, told = lives(falls, "P1D", resolve=[("PT3H30M", "RSV-05")])

    assert kinds(told, "RSV-05") == ["opened", "resolved", "opened"]
    assert row(world, "RSV-05").effective_from == moment("PT13H")


@pytest.mark.parametrize(
    "levels",
    [
        [("PT0H", 18.0, 0.0), ("PT8H", 17.73, 0.1), ("PT16H", 17.471, 0.2)],
        [("PT0H", 18.0, 0.0), ("PT12H", 17.8, 0.0), ("P1D", 17.6, 0.0)],
        [("PT0H", 18.0, None), ("PT12H", 17.8, None), ("PT18H", 17.6, None)],
    ],
    ids=["up to the limit", "24 hours apart", "program not known"],
)
def test_a_slow_fall_is_none(levels: list[tuple[str, float, float | None]]) -> None:
    """The limit is exclusive, samples a day apart say nothing, and what nobody programmed is not what nobody told."""
    world, _ = lives([sensed(*level) for level in levels], "P2D")

    assert "RSV-05" not in {record.rule_id for record in world.ledger}


def test_a_level_that_settles_after_a_refill_is_no_slow_fall() -> None:
    """Levels of the two hours after a refill are compared with their neighbours alone."""
    filled = sensed("PT0H", 18.0, 0.0, events=[{"type": "refill", "aspirated_ml": 0.0, "injected_ml": 18.0}])
    settling = [filled, sensed("PT1H", 17.8, 0.0), sensed("PT2H", 17.6, 0.0), sensed("PT3H", 17.4, 0.0)]

    world, _ = lives(settling, "PT4H")
    falling, _ = lives([*settling, sensed("PT4H", 17.2, 0.0)], "PT4H")

    assert "RSV-05" not in {record.rule_id for record in world.ledger}
    assert row(falling, "RSV-05").effective_from == moment("PT4H")


def test_a_sensing_pump_remembers_few_levels() -> None:
    """However slowly and long a level sinks, no more than one for each three hours of a day is kept."""
    sinking = [sensed(f"PT{number}M", 18 - 0.0001 * number, 0.0) for number in range(0, 2880, 10)]

    world, _ = lives(sinking, "P2D")

    assert 7 <= len(world.head.state.volumes.higher) <= 8


@pytest.mark.parametrize(("at", "priority"), [("PT37H", "high"), ("PT37H1S", "medium")])
def test_every_symptom_is_urgent_for_a_day_after_a_restart(at: str, priority: str) -> None:
    """THR-07 on an opioid, where itching alone is MEDIUM: the watch of REF-04 includes its end."""
    reports: list[dict[str, Any]] = [
        {"at": "PT0H", "motor": "stopped"},
        {"at": "PT13H", "motor": "running"},
        {"at": at, "motor": "running", "events": [{"type": "symptom_report", "codes": ["itching"]}]},
    ]

    world, _ = lives(reports, "PT38H", MORPHINE)

    assert row(world, "THR-07").priority == priority


@pytest.mark.parametrize(("at", "priority"), [("PT52H", "high"), ("PT52H1S", "medium")])
def test_a_second_restart_makes_symptoms_urgent_for_a_day_of_its_own(at: str, priority: str) -> None:
    """It is told by a reminder of the alert that is open from the first, and watched all the same."""
    reports: list[dict[str, Any]] = [
        {"at": "PT0H", "motor": "stopped"},
        {"at": "PT13H", "motor": "running"},
        {"at": "PT14H", "motor": "stopped"},
        {"at": "PT28H", "motor": "running"},
        {"at": at, "motor": "running", "events": [{"type": "symptom_report", "codes": ["itching"]}]},
    ]

    world, told = lives(reports, "PT53H", MORPHINE)

    assert kinds(told, "REF-04") == ["opened", "re_raised"]
    assert row(world, "THR-07").priority == priority


def test_a_refill_that_is_told_late_takes_its_place() -> None:
    """The newest level and the newest refill stay the newest, and the older measured one is no level any more."""
    reports = [
        level("PT0H", 3.0, reservoir_measured_ml=3.1),
        level("PT5H", 17.9),
        {"at": "PT6H", "events": [{"type": "refill", "at": "PT2H", "aspirated_ml": 3.0, "injected_ml": 18.0}]},
    ]

    world, _ = lives(reports, "PT7H")

    state = world.head.state
    assert [sample.value for sample in state.estimated] == [3.0, 18.0, 17.9]
    assert state.refilled_at == moment("PT2H")
    known = state.level(moment("PT6H"))
    assert known is not None
    assert known.value == 17.9


def test_before_the_first_refill_the_computed_level_tells_what_was_programmed() -> None:
    """20 mL filled, 8.0 mL computed: 12 mL were programmed, whatever the counter of this boot says."""
    reports = [
        level("PT0H", 8.0, volume_programmed_ml=2.0),
        refill("PT10M", 5.5, 20.0, volume_programmed_ml=2.0),
    ]

    world, _ = lives(reports, "PT1H", {"last_fill_ml": 20.0})

    (outcome,) = world.head.state.fills.outcomes
    assert outcome.programmed_ml == pytest.approx(12.0)
    assert outcome.ratio == pytest.approx(14.5 / 12.0)


def test_without_a_counter_the_schedule_and_the_boluses_tell_what_was_programmed() -> None:
    """Twelve days at half a millilitre and a bolus of one."""
    reports = [
        refill("PT0H", 2.0, 20.0, flow_programmed_ml_per_day=0.5),
        {"at": "P6D", "events": [{"type": "bolus", "outcome": "delivered", "volume_ml": 1.0}]},
        refill("P12D", 13.0, 20.0, flow_programmed_ml_per_day=0.5),
    ]

    world, _ = lives(reports, "P13D")

    (outcome,) = world.head.state.fills.outcomes
    assert outcome.programmed_ml == pytest.approx(7.0)


def test_two_refills_of_one_report_follow_each_other() -> None:
    """A filling that was taken out again at once delivered nothing and programmed nothing."""
    second = {"type": "refill", "at": "P20D", "aspirated_ml": 20.0, "injected_ml": 18.0}
    first = {"type": "refill", "at": "P20D", "aspirated_ml": 10.0, "injected_ml": 20.0}
    reports = [
        refill("PT0H", 2.0, 20.0, volume_programmed_ml=0.0),
        {"at": "P20D", "volume_programmed_ml": 10.0, "events": [first, second]},
    ]

    world, _ = lives(reports, "P21D")

    fills = world.head.state.fills
    assert [outcome.ratio for outcome in fills.outcomes] == [1.0, 1.0]
    assert refill_ratios(fills) == (1.0,)


def test_a_replaced_pump_begins_its_books_anew() -> None:
    """What the old pump was filled with says nothing of the new one."""
    reports = [
        refill("PT0H", 2.0, 20.0, volume_programmed_ml=0.0),
        {"at": "P10D", "events": [{"type": "pump_replaced"}]},
        refill("P10DT1H", 0.0, 20.0, volume_programmed_ml=0.0),
    ]

    world, told = lives(reports, "P10DT2H")

    assert world.head.state.fills.outcomes == ()
    assert kinds(told, "REF-03") == []


@pytest.mark.parametrize(
    ("programmed_ml", "delivered_ml", "over"),
    [(10.0, 11.46, True), (10.0, 11.45, False), (6.0, 7.0, True), (6.0, 6.99, False), (1.9, 3.9, False)],
)
def test_over_infusion_needs_the_ratio_and_both_floors(programmed_ml: float, delivered_ml: float, over: bool) -> None:
    """REF-02: above 1.145, at least 1.0 mL too much, at least 2 mL programmed."""
    outcome = Outcome(moment("PT0H"), programmed_ml, delivered_ml, moment("PT0H"))

    assert over_infused(outcome) is over


def test_the_last_three_ratios_are_the_last_three_that_mean_something() -> None:
    """A refill soon after another one is syringe noise."""
    at = moment("PT0H")
    outcomes = tuple(Outcome(at, programmed, 10.0, at) for programmed in (5.0, 10.0, 8.0, 0.5, 20.0))

    assert refill_ratios(FillLog(outcomes=outcomes)) == (1.0, 1.25, 0.5)
