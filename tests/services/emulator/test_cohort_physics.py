"""The laws of a simulated pump that a cohort rests on: what it truly gives, what it believes, and what it tells."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.emulator import physics
from services.emulator.cohort.life import report_of
from services.emulator.physics import Build, Program, Pump
from streams.domain.telemetry import EventType, validate

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def a_pump(level_ml: float = 15.0, **build: Any) -> Pump:
    """A pump at noon."""
    given = {"flow_ml_per_day": 0.48, "implanted_at": NOON - 400 * DAY, **build}
    return physics.new_pump(Build(pump_id="P-1", boot_id=1, **given), NOON, level_ml)


def steps() -> st.SearchStrategy[tuple[tuple[float, float], ...]]:
    """Programs of one to thirteen rates."""
    hours = st.lists(st.integers(1, 23), max_size=physics.MAX_STEPS - 1, unique=True).map(sorted)
    return hours.flatmap(
        lambda at: st.lists(st.floats(0.05, 5), min_size=len(at) + 1, max_size=len(at) + 1).map(
            lambda rates: tuple(zip([0.0, *(hour * 3_600.0 for hour in at)], rates, strict=True))
        )
    )


@given(steps=steps(), accuracy=st.floats(0.8, 1.2), hours=st.lists(st.floats(0, 80), min_size=1, max_size=8))
def test_the_true_level_falls_by_what_is_delivered_and_the_computed_one_by_what_is_programmed(
    steps: tuple[tuple[float, float], ...], accuracy: float, hours: list[float]
) -> None:
    """Mass balance under any program with rate steps, however the time is cut."""
    pump, at = a_pump(2_000.0, steps=steps, accuracy=accuracy, reservoir_ml=2_000.0), NOON

    for span in hours:
        at += span * HOUR
        pump = physics.advance(pump, at)

    programmed = Program("p1", steps).volume_ml(NOON, at)
    assert pump.volume_programmed_ml == pytest.approx(programmed)
    assert 2_000.0 - pump.reservoir_estimated_ml == pytest.approx(programmed)
    assert 2_000.0 - pump.reservoir_true_ml == pytest.approx(pump.volume_delivered_ml)
    assert pump.volume_delivered_ml == pytest.approx(programmed * accuracy)


def test_a_program_with_rate_steps_gives_each_rate_its_hours() -> None:
    """From midnight 0.24, from six 2.4, from noon 0.48 mL/day; a step begins at its second."""
    program = Program("p1", ((0.0, 0.24), (21_600.0, 2.4), (43_200.0, 0.48)))

    assert program.rate_at(NOON) == 0.48
    assert program.rate_at(NOON - timedelta(seconds=1)) == 2.4
    assert program.mean_ml_per_day == pytest.approx(0.06 + 0.6 + 0.24)
    assert program.volume_ml(NOON - 8 * HOUR, NOON + 1 * HOUR) == pytest.approx(0.02 + 0.6 + 0.02)


def test_a_bolus_belongs_to_the_program_and_a_denied_one_is_only_told() -> None:
    """Both levels fall by a delivered bolus (D-14)."""
    pump = physics.bolus(a_pump(), NOON, 0.02)
    pump = physics.bolus(pump, NOON, 0.02, "denied")

    assert pump.volume_programmed_ml == pump.volume_delivered_ml == pytest.approx(0.02)
    assert pump.reservoir_true_ml == pump.reservoir_estimated_ml == pytest.approx(14.98)
    assert [event["outcome"] for event in pump.unsaid] == ["delivered", "denied"]


def test_a_pocket_fill_is_recorded_as_a_whole_but_only_a_part_is_in_the_reservoir() -> None:
    """F-09: the computed level believes the syringe."""
    pump = physics.refill(a_pump(2.0), NOON, 18.0, into_pocket_ml=3.0)

    assert (pump.reservoir_true_ml, pump.reservoir_estimated_ml) == (15.0, 18.0)
    assert pump.unsaid[-1]["injected_ml"] == 18.0


def test_a_leaking_catheter_takes_from_the_patient_and_leaves_the_pump_looking_normal() -> None:
    """F-17: reservoir, volumes and motor say nothing."""
    sound = physics.advance(a_pump(), NOON + DAY)
    leaking = physics.advance(physics.leak(a_pump(), NOON, 0.75), NOON + DAY)

    assert leaking.received_ml == pytest.approx(sound.received_ml / 4)
    assert replace(leaking, lost_share=0.0, received_ml=sound.received_ml) == sound


def test_valves_meet_a_field_in_opposite_ways() -> None:
    """M-08 to M-10: one family empties into the patient, the other shuts until somebody opens it."""
    open_valves = physics.enter_mri(a_pump(9.0, family="prometra"), NOON, "radiology")
    assert (open_valves.reservoir_true_ml, open_valves.volume_delivered_ml) == (0.0, 9.0)

    shut = physics.enter_mri(a_pump(9.0, family="prometra_ii"), NOON, "radiology")
    shut = physics.leave_mri(shut, NOON + 30 * MINUTE, "radiology", Random(1))
    later = physics.advance(shut, NOON + DAY)
    assert later.volume_delivered_ml == pytest.approx(physics.VALVE_LEAK_ML)
    assert physics.say(later, Random(1))[1].valve == "closed"
    again = physics.advance(physics.reset_valve(later, NOON + DAY), NOON + 2 * DAY)
    assert again.volume_delivered_ml == pytest.approx(physics.VALVE_LEAK_ML + 0.48)


def test_a_held_log_tells_of_the_recovery_only_at_the_second_interrogation() -> None:
    """M-03: the first one still finds a stall, the second tells when it really ended."""
    pump = replace(physics.enter_mri(a_pump(), NOON, "radiology"), log_held=2)
    pump = physics.leave_mri(pump, NOON + 30 * MINUTE, "radiology", Random(1), 5 * MINUTE)

    pump = physics.interrogate(pump, NOON + HOUR)
    assert pump.unsaid[-1]["result"] == "stalled"
    pump = physics.interrogate(pump, NOON + 2 * HOUR)
    told = {event["type"]: event for event in pump.unsaid}
    assert told["interrogation"]["result"] == "running"
    assert told["stall_recovered"]["at"] == "2026-01-05T12:35:00.000+00:00"


def test_a_reset_starts_a_new_boot_with_counters_at_zero_and_the_minimum_rate() -> None:
    """A-08: cumulative volumes are cumulative within a boot."""
    pump = physics.reset(physics.advance(a_pump(), NOON + DAY), NOON + DAY, default_program=True)

    assert (pump.boot_id, pump.seq, pump.volume_programmed_ml, pump.volume_delivered_ml) == (2, 0, 0.0, 0.0)
    assert pump.program.rate_at(NOON + DAY) == physics.MINIMUM_RATE_ML_PER_DAY


def test_a_fever_rises_and_falls_over_hours_on_top_of_the_daily_rhythm() -> None:
    """At its height three degrees, at both ends none."""
    calm, ill = a_pump(), physics.warm(a_pump(), NOON, 3.0, NOON + DAY)

    def difference(at: datetime) -> float:
        noises = Random(1), Random(1)
        warm, usual = (physics.advance(pump, at) for pump in (ill, calm))
        return physics.temperature(warm, noises[0]) - physics.temperature(usual, noises[1])

    assert difference(NOON + HOUR) == pytest.approx(1.5, abs=0.02)
    assert difference(NOON + 12 * HOUR) == pytest.approx(3.0, abs=0.02)
    assert difference(NOON + 25 * HOUR) == 0.0


def test_a_battery_that_drains_asks_for_replacement_early_and_a_new_pump_has_a_new_one() -> None:
    """The indicator comes with the voltage; replacement starts the pump's life again."""
    old = replace(a_pump(implanted_at=NOON - 6 * 365 * DAY), drained_since=NOON, drained_v_per_day=0.01)
    assert not old.eri
    tired = physics.advance(old, NOON + 10 * DAY)
    assert tired.eri
    assert "elective_replacement" in tired.alarms

    new = physics.replaced(tired, NOON + 10 * DAY, 18.0)
    assert (new.eri, new.boot_id) == (False, 2)
    assert new.voltage == pytest.approx(3.0)
    assert new.program == tired.program


def test_the_wire_form_and_the_direct_form_of_a_report_are_the_same() -> None:
    """A cohort's reports are what an edge would have made of the emulator's JSON."""
    pump = a_pump(family="prometra_ii", senses_volume=True)
    pump = physics.in_session(pump, NOON, "S1", "start")
    pump = physics.report_symptoms(pump, NOON, "sleepy", "cold")
    pump = physics.schedule_mri(pump, NOON, NOON + DAY)
    pump = physics.reprogram(pump, NOON, physics.constant(0.5, "p2"), "S1")
    pump = physics.interrogate(physics.bolus(pump, NOON, 0.01), NOON)
    pump = physics.advance(physics.interfere(pump, NOON, "strong", 2), NOON + HOUR)

    _, document = physics.tell(pump, Random(4))
    _, said = physics.say(pump, Random(4))

    wire = json.dumps({**document, "gateway_id": "G", "gateway_time": document["event_time"]}).encode()
    direct = report_of(said, "P-1", "G", NOON + HOUR)
    assert validate(wire, NOON + HOUR) == direct
    assert [event.type for event in direct.events][:2] == [EventType.PROGRAMMING_SESSION, EventType.SYMPTOM_REPORT]
