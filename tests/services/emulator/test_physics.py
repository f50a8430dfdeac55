"""A pump's body keeps its books: what leaves the reservoir was delivered, what it says follows from its program."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.emulator import physics
from services.emulator.physics import Build, Pump
from streams.domain.telemetry import Report, validate

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def a_pump(level_ml: float = 15.0, **build: Any) -> Pump:
    """A baclofen pump at noon."""
    given = {"flow_ml_per_day": 0.48, "implanted_at": NOON - timedelta(days=400), **build}
    return physics.new_pump(Build(pump_id="P-1", boot_id=1, **given), NOON, level_ml)


def happens(pump: Pump, act: str, at: datetime, chance: Random) -> Pump:
    """One act by name."""
    match act:
        case "stall":
            return physics.stall(pump, at)
        case "recover":
            return physics.recover(pump, at)
        case "stop":
            return physics.stop(pump, at)
        case "start":
            return physics.start(pump, at)
        case "enter":
            return physics.enter_mri(pump, at, chance.choice((None, "radiology")))
        case "leave":
            return physics.leave_mri(pump, at, chance.choice((None, "radiology")), chance)
        case "interrogate":
            return physics.interrogate(pump, at)
        case _:
            return physics.advance(pump, at)


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["stall", "recover", "stop", "start", "enter", "leave", "interrogate", "wait"]),
        st.floats(min_value=0, max_value=3_000),
    ),
    max_size=25,
)


@given(acts=ACTS, level=st.floats(0.05, 20), accuracy=st.floats(0.8, 1.3), seed=st.integers(0, 2**32))
def test_volume_is_conserved_whatever_happens(
    acts: list[tuple[str, float]], level: float, accuracy: float, seed: int
) -> None:
    """What is gone from the reservoir was delivered; the computed level never rises, and nothing is negative."""
    pump, at, chance = a_pump(level, accuracy=accuracy, detection=20 * MINUTE), NOON, Random(seed)

    for act, minutes in acts:
        before, at = pump, at + minutes * MINUTE
        pump = happens(pump, act, at, chance)

        assert pump.clock == max(at, before.clock)
        assert pump.reservoir_true_ml + pump.volume_delivered_ml == pytest.approx(level)
        assert 0 <= pump.reservoir_true_ml <= before.reservoir_true_ml
        assert 0 <= pump.reservoir_estimated_ml <= before.reservoir_estimated_ml
        assert pump.volume_programmed_ml >= before.volume_programmed_ml


@given(acts=ACTS, seed=st.integers(0, 2**32))
def test_everything_a_pump_says_is_a_valid_report(acts: list[tuple[str, float]], seed: int) -> None:
    """Every report has the wire form that the edges demand, numbered without a gap, and two plays of it are equal."""
    told: list[list[bytes]] = []
    for _ in range(2):
        pump, at, chance = a_pump(3.0, senses_volume=True, detection=7 * MINUTE), NOON, Random(seed)
        lines = []
        for act, minutes in acts:
            at += minutes * MINUTE
            pump, document = physics.tell(happens(pump, act, at, chance), chance)
            lines.append(json.dumps({**document, "gateway_id": "GW", "gateway_time": document["event_time"]}).encode())
        told.append(lines)

    reports = [validate(line, at) for line in told[0]]
    assert all(isinstance(report, Report) for report in reports), reports
    assert [report.seq for report in reports if isinstance(report, Report)] == list(range(len(reports)))
    assert told[0] == told[1]


def test_a_stalled_pump_delivers_nothing_while_its_program_runs_on() -> None:
    """The computed level goes on falling although no drug leaves the reservoir (D-01)."""
    stalled = physics.stall(a_pump(), NOON)

    later = physics.advance(stalled, NOON + 24 * HOUR)

    assert later.reservoir_true_ml == 15.0
    assert later.reservoir_estimated_ml == pytest.approx(15.0 - 0.48)
    assert (later.motor, later.alarms) == ("stalled", ("motor_stall",))


def test_a_stopped_pump_has_no_program() -> None:
    """A commanded stop ends both levels' fall; after 48 hours it sounds, and a start ends that."""
    stopped = physics.advance(physics.stop(a_pump(), NOON), NOON + 48 * HOUR)

    assert stopped.reservoir_estimated_ml == stopped.reservoir_true_ml == 15.0
    assert (stopped.motor, stopped.alarms) == ("stopped", ("pump_stopped_48h",))
    assert physics.start(stopped, NOON + 49 * HOUR).motor == "running"


def test_a_stall_and_its_end_are_noticed_late_and_logged_with_their_true_times() -> None:
    """A-10: within its detection time the pump says that all is well; the log tells when it really was."""
    pump = physics.stall(a_pump(detection=20 * MINUTE), NOON)
    assert physics.advance(pump, NOON + 19 * MINUTE).motor == "running"

    pump = physics.advance(pump, NOON + 20 * MINUTE)
    assert pump.motor == "stalled"
    pump = physics.recover(pump, NOON + 30 * MINUTE)
    assert (pump.motor, pump.turning) == ("stalled", True)

    pump = physics.advance(pump, NOON + 50 * MINUTE)
    assert pump.motor == "running"
    assert [(event["type"], event["at"]) for event in pump.unsaid] == [
        ("stall_started", "2026-11-02T12:00:00.000+00:00"),
        ("stall_recovered", "2026-11-02T12:30:00.000+00:00"),
    ]


def test_a_stall_that_ends_before_it_is_noticed_is_never_told() -> None:
    """What the pump did not notice is in no log."""
    pump = physics.recover(physics.stall(a_pump(detection=20 * MINUTE), NOON), NOON + 10 * MINUTE)

    later = physics.advance(pump, NOON + 2 * HOUR)

    assert (later.motor, later.unsaid) == ("running", ())
    assert later.volume_delivered_ml == pytest.approx(0.48 / 24 * 110 / 60)


def test_a_pump_recovers_from_an_mri_by_itself() -> None:
    """M-01: the rotor stands for the scan and turns again some time after it."""
    pump = physics.enter_mri(a_pump(), NOON, "radiology")
    pump = physics.leave_mri(pump, NOON + 30 * MINUTE, "radiology", Random(1), 10 * MINUTE)

    assert physics.advance(pump, NOON + 39 * MINUTE).motor == "stalled"
    after = physics.advance(pump, NOON + 40 * MINUTE)
    assert after.motor == "running"
    assert [event["type"] for event in after.unsaid] == ["mri_start", "stall_started", "mri_end", "stall_recovered"]


def test_an_mri_while_an_alarm_sounds_traps_the_pump_until_it_is_interrogated() -> None:
    """M-05: the end of the scan does not bring infusion back, and neither does an interrogation inside the field."""
    pump = physics.enter_mri(a_pump(1.5), NOON, None)
    assert physics.interrogate(pump, NOON + 10 * MINUTE).motor == "telemetry_mode"
    pump = physics.leave_mri(pump, NOON + 30 * MINUTE, None, Random(1), timedelta(0))

    later = physics.advance(pump, NOON + 24 * HOUR)
    assert (later.motor, later.volume_delivered_ml) == ("telemetry_mode", 0.0)
    freed = physics.interrogate(later, NOON + 25 * HOUR)
    assert (freed.motor, freed.unsaid[-1]["result"]) == ("running", "running")


def test_recovery_takes_minutes_and_seldom_hours() -> None:
    """M-02, M-14: 5 to 40 minutes, in a few of a hundred cases 2 to 24 hours."""
    chance = Random(3)

    delays = [physics.recovery_delay(chance) for _ in range(2_000)]

    long = [delay for delay in delays if delay > HOUR]
    assert all(5 * MINUTE <= delay <= 40 * MINUTE or 2 * HOUR <= delay <= 24 * HOUR for delay in delays)
    assert 0.01 < len(long) / len(delays) < 0.06


def test_an_over_infusing_pump_runs_dry_with_no_low_reservoir_alarm() -> None:
    """D-01: the alarm is computed from the program, so it stays silent although nothing is left."""
    pump = physics.advance(a_pump(5.0, accuracy=2.0), NOON + timedelta(days=6))

    assert pump.reservoir_true_ml == 0.0
    assert pump.reservoir_estimated_ml == pytest.approx(5.0 - 6 * 0.48)
    assert pump.alarms == ()
    assert pump.volume_delivered_ml == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("days", "alarms"), [(0, ()), (1, ("low_reservoir",)), (6, ("reservoir_empty", "low_reservoir"))]
)
def test_the_pump_sounds_when_its_computed_level_is_low_and_when_it_is_empty(
    days: int, alarms: tuple[str, ...]
) -> None:
    """Two alarms, both from the computed level."""
    assert physics.advance(a_pump(2.4), NOON + timedelta(days=days)).alarms == alarms


def test_a_refill_makes_the_computed_level_true_again_and_says_what_was_found() -> None:
    """The aspirated volume is the true one: that is how over-infusion shows."""
    pump = physics.advance(a_pump(10.0, accuracy=1.2), NOON + timedelta(days=10))

    filled = physics.refill(pump, NOON + timedelta(days=10), 18.0)

    assert filled.reservoir_true_ml == filled.reservoir_estimated_ml == 18.0
    assert filled.unsaid[-1]["aspirated_ml"] == pytest.approx(10 - 4.8 * 1.2)
    assert filled.unsaid[-1]["injected_ml"] == 18.0


def test_a_battery_asks_for_replacement_and_then_ends() -> None:
    """A-07: seven years, then 90 days of warning."""
    old = a_pump(implanted_at=NOON - physics.LIFETIME)

    assert old.alarms == ("elective_replacement",)
    assert physics.tell(old, Random(1))[1]["battery"]["eri"] is True
    later = replace(old, clock=NOON + timedelta(days=90))
    assert later.alarms == ("elective_replacement", "end_of_service")


def test_temperature_follows_the_day() -> None:
    """Coldest before dawn, warmest in the afternoon, never far from a body's."""
    chance, pump = Random(5), a_pump()

    day = [physics.temperature(replace(pump, clock=NOON + hour * HOUR), chance) for hour in range(24)]

    assert all(36.1 < value < 37.5 for value in day)
    assert max(day[2:8]) > min(day[13:20]) + 0.5


def test_a_usual_level_goes_on_where_it_was() -> None:
    """Between two runs the level falls as the program says, and a refill comes in time."""
    moments = [NOON + timedelta(days=days) for days in range(60)]

    levels = [physics.usual_level(moment, 18.0, 5.0, 0.48, 0.3) for moment in moments]

    steps = [after - before for before, after in itertools.pairwise(levels)]
    assert all(5.0 <= level <= 18.0 for level in levels)
    assert sum(step > 0 for step in steps) == 2
    assert all(step == pytest.approx(-0.48) for step in steps if step < 0)
