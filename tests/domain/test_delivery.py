"""What the delivery rules promise beyond their own examples: who else is told, what is remembered, and how little."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from streams.domain import pipeline
from streams.domain.alert import AlertEvent, AlertEventKind, AlertRecord
from streams.domain.observing.drift import Sums
from streams.domain.observing.flow import MOST_VOLUMES, FlowLog
from streams.domain.profile import ProfileHistory
from streams.domain.telemetry import Received
from streams.domain.world import World, encode_world
from streams.rehearsal import moment, profiles_of, received_of, rehearse
from tests.shipped import RULES

HIGH_RISK = {"risks": ["sci_t6_or_above"]}


def _life(
    reports: list[dict[str, Any]], until: str, profile: dict[str, Any] | None = None, zone: str = "UTC"
) -> tuple[World, list[AlertEvent]]:
    """A pump's life by its reports, as rule examples write them."""
    told = [received_of(report, number) for number, report in enumerate(reports)]
    world, recorded = rehearse(told, profiles_of(profile or {}, zone=ZoneInfo(zone)), RULES, moment(until))
    return world, [entry.event for entry in recorded]


def _alert(world: World, rule_id: str) -> AlertRecord:
    return next(record for record in world.ledger if record.rule_id == rule_id)


def _opened(events: list[AlertEvent], rule_id: str) -> list[AlertEvent]:
    return [event for event in events if event.alert.rule_id == rule_id and event.kind is AlertEventKind.OPENED]


@pytest.mark.parametrize(
    ("profile", "physician_by"),
    [
        ({}, "PT6H"),
        (HIGH_RISK, "PT3H"),
        (
            {"drugs": [{"name": "ziconotide", "concentration_ug_per_ml": 25.0}], "prescribed_ug_per_day": 6.0},
            "P2D",
        ),
    ],
)
def test_the_physician_is_told_when_the_whole_budget_is_used_up(profile: dict[str, Any], physician_by: str) -> None:
    """DLV-09: whatever was acknowledged, ladder step 3 is due at the budget B."""
    reports = [{"at": f"PT{hour}H", "motor": "unknown"} for hour in range(49)]

    world, _ = _life(reports, "P2DT1H", profile)

    assert _alert(world, "DLV-09").physician_by == moment(physician_by)


def test_the_physician_is_told_of_a_stall_half_an_hour_before_the_budget_ends() -> None:
    """DLV-01: LCD is 0:00, B is six hours."""
    world, _ = _life([{"at": "PT0H", "motor": "stalled"}], "PT1H")

    assert _alert(world, "DLV-01").physician_by == moment("PT5H30M")


def test_non_delivery_is_a_child_of_the_alert_that_tells_its_cause() -> None:
    """A stall is HIGH already when half the budget has passed: no second page, but a row of its own (M.6)."""
    world, _ = _life([{"at": "PT0H", "motor": "stalled"}], "PT4H")

    assert _alert(world, "DLV-09").parent_id == _alert(world, "DLV-01").alert_id


def test_one_long_stall_is_told_once_and_repeated_ones_are_news() -> None:
    """DLV-02 under the stall's own alert after an hour; on its own ladder where the stalls add up."""
    long, _ = _life([{"at": "PT0H", "motor": "stalled"}], "PT2H")
    stalls = [{"at": f"PT{hour}H", "motor": motor} for hour, motor in enumerate(["stalled", "running", "stalled"])]
    repeated, _ = _life(stalls, "PT2H10M")

    assert _alert(long, "DLV-02").parent_id == _alert(long, "DLV-01").alert_id
    assert _alert(repeated, "DLV-02").parent_id is None


def test_an_old_alert_that_waits_for_a_person_does_not_hide_a_new_interruption() -> None:
    """The stall is over and latched; what interrupts delivery now is told on a ladder of its own."""
    reports = [
        {"at": "PT0H", "motor": "stalled"},
        {"at": "PT20M", "motor": "running"},
        {"at": "PT1H", "motor": "unknown"},
        {"at": "PT3H", "motor": "unknown"},
    ]

    world, _ = _life(reports, "PT5H")

    assert _alert(world, "DLV-01").open
    assert _alert(world, "DLV-09").parent_id is None


def test_a_stall_that_recovers_within_a_quarter_of_an_hour_says_so() -> None:
    """The alert stays open, its text changes."""
    world, _ = _life(
        [
            {"at": "PT0H", "motor": "stalled"},
            {"at": "PT15M", "motor": "running", "events": [{"type": "stall_recovered", "at": "PT8M"}]},
        ],
        "PT1H",
    )

    alert = _alert(world, "DLV-01")
    assert (alert.open, alert.active) == (True, False)
    assert alert.message == "Motor stall at 2026-11-02 00:00 UTC: self-recovered after 8 min."


def test_only_the_high_step_of_a_lost_program_freezes_the_delivery_clock() -> None:
    """A memory error that is not critical leaves delivery confirmed; a critical one does not (DLV-04)."""
    mild, _ = _life([{"at": "PT0H", "motor": "running", "alarms": ["memory_error"]}], "PT1M")
    grave, _ = _life([{"at": "PT0H", "motor": "running", "alarms": ["critical_memory_error"]}], "PT1M")

    assert mild.head.state.frozen_at is None
    assert grave.head.state.frozen_at == moment("PT0H")


def test_a_reset_that_freezes_the_clock_again_does_so_at_its_own_time() -> None:
    """The second reset continues the first alert, and freezes at the second reset."""
    reset = {"type": "pump_reset", "default_program": True}
    world, _ = _life(
        [
            {"at": "PT0M", "motor": "running", "events": [reset]},
            {"at": "PT15M", "motor": "running"},
            {"at": "PT30M", "events": [reset]},
        ],
        "PT31M",
    )

    assert _alert(world, "DLV-04").recurrences == 1
    assert world.head.state.frozen_at == moment("PT30M")


def test_a_reset_that_is_told_late_opens_at_its_own_time() -> None:
    """The motor was already seen running since, which says nothing of the program that it runs."""
    _, events = _life(
        [
            {"at": "PT0M", "motor": "running"},
            {"at": "PT1H", "motor": "running"},
            {
                "at": "PT1H15M",
                "motor": "running",
                "events": [{"type": "pump_reset", "at": "PT30M", "default_program": True}],
            },
        ],
        "PT2H",
    )

    assert [event.effective_at for event in _opened(events, "DLV-04")] == [moment("PT30M")]


def test_a_late_recovery_record_makes_a_stall_as_short_as_it_was() -> None:
    """The first running sample is an upper bound; the pump's own record is the truth (DLV-02 counts minutes)."""
    world, _ = _life(
        [
            {"at": "PT0M", "motor": "stalled"},
            {"at": "PT30M", "motor": "running"},
            {"at": "PT45M", "motor": "running", "events": [{"type": "stall_recovered", "at": "PT12M"}]},
        ],
        "PT1H",
    )

    (stall,) = world.head.state.stalls
    assert (stall.start, stall.end) == (moment("PT0M"), moment("PT12M"))


def test_a_stall_told_with_its_recovery_is_no_longer_than_that() -> None:
    """Both come from the pump's log, after newer running samples."""
    events = [{"type": "stall_started", "at": "PT10M"}, {"type": "stall_recovered", "at": "PT20M"}]
    world, _ = _life(
        [
            {"at": "PT0M", "motor": "running"},
            {"at": "PT2H", "motor": "running"},
            {"at": "PT2H15M", "motor": "running", "events": events},
        ],
        "PT3H",
    )

    (stall,) = world.head.state.stalls
    assert (stall.start, stall.end) == (moment("PT10M"), moment("PT20M"))


def _sensed(minutes: int, count: int, ml_per_day: float, accuracy: float = 1.0) -> list[dict[str, Any]]:
    volumes = [index * minutes * ml_per_day / 1440 for index in range(count)]
    return [
        {
            "at": f"PT{index * minutes}M",
            "motor": "running",
            "volume_programmed_ml": round(volume, 6),
            "volume_delivered_ml": round(volume * accuracy, 6),
        }
        for index, volume in enumerate(volumes)
    ]


@pytest.mark.parametrize(("minutes", "ml_per_day"), [(1, 2.4), (15, 0.24), (15, 0.05), (60, 24.0)])
def test_what_is_remembered_of_the_flow_stays_small(minutes: int, ml_per_day: float) -> None:
    """However often a pump reports and however slow its program is; a kilobyte at most."""
    world, _ = _life(_sensed(minutes, 700, ml_per_day), f"PT{700 * minutes}M")

    log = world.head.state.flow
    assert len(log.volumes) <= MOST_VOLUMES
    assert len(msgspec.msgpack.encode(log)) < 1024


def test_a_pump_that_senses_nothing_and_runs_as_programmed_remembers_nothing_of_its_flow() -> None:
    """The log of a quiet pump stays the same object, so that no rule is judged for it."""
    reports = [
        {"at": f"PT{15 * index}M", "motor": "running", "flow_programmed_ml_per_day": 0.5, "volume_programmed_ml": index}
        for index in range(20)
    ]

    world, _ = _life(reports, "PT5H")

    assert world.head.state.flow == FlowLog()


@pytest.mark.parametrize("minutes", [1, 5, 15, 60])
def test_over_delivery_is_found_however_often_a_pump_reports(minutes: int) -> None:
    """Thinned volumes still make whole windows: 1.6 times a program of 0.24 mL/day is found after five to six hours."""
    world, events = _life(_sensed(minutes, 600 // minutes, 0.24, 1.6), "PT10H")

    (opened,) = _opened(events, "DLV-06")
    assert moment("PT5H") <= opened.effective_at <= moment("PT6H")
    assert _alert(world, "DLV-06").priority == "high"


@pytest.mark.parametrize("minutes", [5, 15, 60])
def test_under_delivery_is_found_after_two_windows_however_often_a_pump_reports(minutes: int) -> None:
    """Two windows of five hours each, back to back."""
    _, events = _life(_sensed(minutes, 900 // minutes, 0.24, 0.4), "PT15H")

    (opened,) = _opened(events, "DLV-07")
    assert moment("PT10H") <= opened.effective_at <= moment("PT12H")


@pytest.mark.parametrize("minutes", [1, 15, 60])
def test_a_pump_within_its_specification_opens_nothing(minutes: int) -> None:
    """Plus or minus 14 percent is no fast deviation."""
    for accuracy in (0.86, 1.0, 1.14):
        _, events = _life(_sensed(minutes, 400, 0.5, accuracy), f"PT{400 * minutes}M")

        assert not _opened(events, "DLV-06")
        assert not _opened(events, "DLV-07")


def test_drift_is_counted_in_the_days_of_the_site() -> None:
    """A day in Auckland ends at 11:00 UTC; that is when the third bad one is complete."""
    reports, programmed, delivered = [], 0.0, 0.0
    for hours in range(0, 24 * 19, 6):
        day = (hours - 11) // 24
        reports.append(
            {
                "at": f"PT{hours - 1}H" if hours else "PT0H",
                "motor": "running",
                "volume_programmed_ml": round(programmed, 6),
                "volume_delivered_ml": round(delivered, 6),
            }
        )
        programmed += 0.125
        delivered += 0.125 * (1.08 if day >= 14 else 1.0)

    _, events = _life(reports, "P19D", zone="Pacific/Auckland")

    (opened,) = _opened(events, "DLV-08")
    assert (opened.effective_at - moment("PT11H")) % timedelta(days=1) == timedelta(0)


def test_the_sums_of_a_drift_follow_the_catalogue() -> None:
    """Mean 0, spread 0.03: eight percent over, six percent under, and one single day of twenty."""
    over, under, single = Sums(), Sums(), Sums().add(0.2, 0.0, 0.03)
    for _ in range(3):
        over = over.add(0.08, 0.0, 0.03)
    for _ in range(4):
        under = under.add(-0.06, 0.0, 0.03)

    assert over.up == pytest.approx(6.5)
    assert under.down == pytest.approx(6.0)
    assert single.up == 2.5
    assert single.add(0.0, 0.0, 0.03).up == 2.0


def test_a_latch_that_a_finding_set_is_refused_to_a_person_while_the_condition_holds() -> None:
    """DLV-07 closes by itself until half a budget is missing; from then on it waits."""
    reports = [
        {"at": f"PT{hour}H", "motor": "running", "volume_programmed_ml": 0.1 * hour, "volume_delivered_ml": 0.0}
        for hour in range(5)
    ]
    profiles: ProfileHistory = profiles_of({})
    world, _ = _life(reports, "PT4H")

    refused = pipeline.resolve(world, profiles, RULES, _alert(world, "DLV-07").alert_id, moment("PT4H"), "ada")

    assert _alert(world, "DLV-07").latched
    assert isinstance(refused, pipeline.ResolveRefused)


def test_a_gap_in_the_reports_changes_nothing_in_the_end() -> None:
    """Volumes that arrive late are folded in their place; the world is the same as in order."""
    told = [received_of(report, number) for number, report in enumerate(_sensed(15, 40, 2.4, 1.7))]
    in_order, late = pipeline.new_world("EX-1"), pipeline.new_world("EX-1")
    profiles, now = profiles_of({}), moment("PT11H")
    for received in told:
        in_order = pipeline.step(in_order, _arrived(received, "PT11H"), profiles, RULES, now).world
    for received in (*told[:5], *told[10:], *told[5:10]):
        late = pipeline.step(late, _arrived(received, "PT11H"), profiles, RULES, now).world

    assert late.head.state == in_order.head.state
    assert encode_world(late) == encode_world(in_order)


def _arrived(received: Received, at: str) -> Received:
    return Received(report=received.report, received_at=moment(at))


def test_an_alarm_that_the_pump_says_again_counts_again() -> None:
    """In the same words, even as the same object in memory: after a minute of running it sounds anew."""
    said: list[dict[str, Any]] = [
        {"at": "PT0M", "motor": "telemetry_mode"},
        {"at": "PT20M", "alarms": ["pump_stopped_48h"]},
        {"at": "PT21M", "motor": "running"},
        {"at": "PT22M", "motor": "running"},
    ]
    told = [received_of({"boot_id": number, **entry}, 0) for number, entry in enumerate(said)]
    told[3] = replace(told[3], report=replace(told[3].report, alarms=told[1].report.alarms))
    world, profiles = pipeline.new_world("EX-1"), profiles_of({})

    for received in told:
        world = pipeline.step(world, received, profiles, RULES, received.received_at).world

    assert _alert(world, "DLV-03").active
