"""Typed conditions, leaf by leaf: limits, holds, windows, what is not known, and what memories hold."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from streams.domain import pipeline, window
from streams.domain.alert import Priority, PriorityStep
from streams.domain.evaluation import Fold
from streams.domain.profile import ProfileHistory
from streams.domain.rule import Presence, Rule, RuleBook
from streams.domain.silence import Hearing
from streams.domain.telemetry import Received
from streams.domain.typed import Modifiers
from streams.domain.typed.truth import Truth, all_of, any_of, negation
from streams.domain.world import Folded
from streams.rehearsal import START, profiles_of, received_of, rehearse
from tests.domain.typed import TREES, node, set_for_one, settable, typed_rule, typed_rules

BACLOFEN = profiles_of({})
ZICONOTIDE = profiles_of(
    {"drugs": [{"name": "ziconotide", "concentration_ug_per_ml": 25.0}], "prescribed_ug_per_day": 6.0}
)
Said = Mapping[str, Any]


def at(minutes: float) -> datetime:
    """So many minutes after the start."""
    return START + timedelta(minutes=minutes)


def heard(*reports: tuple[float, Said]) -> list[Received]:
    """Reports with the minutes at which they were made; ``arrives`` in minutes, too."""
    told = []
    for number, (minutes, said) in enumerate(reports):
        entry = {"at": _offset(minutes), **said}
        if "arrives" in said:
            entry["arrives"] = _offset(said["arrives"])
        entry["events"] = [
            {**event, **({"at": _offset(event["at"])} if "at" in event else {})} for event in said.get("events", [])
        ]
        told.append(received_of(entry, number))
    return told


def _offset(minutes: float) -> str:
    return f"PT{round(minutes * 60)}S"


def history(
    rule: Rule | str, *reports: tuple[float, Said], until: float = 0, profiles: ProfileHistory = BACLOFEN
) -> list[tuple[float, str]]:
    """What becomes of a rule's alert: minutes since the start, and what happened then."""
    rule = typed_rule(rule) if isinstance(rule, str) else rule
    end = at(max(until, *(minutes for minutes, _ in reports)))
    _, told = rehearse(heard(*reports), profiles, RuleBook((rule,)), end)
    return [
        ((recorded.event.effective_at - START) / timedelta(minutes=1), recorded.event.kind.value)
        for recorded in told
        if recorded.event.kind != "amended"
    ]


def folded(rule: Rule, *reports: tuple[float, Said]) -> Folded:
    """The state after reports in order."""
    fold = Fold(Folded(), BACLOFEN, RuleBook((rule,)))
    for received in heard(*reports):
        fold.report(received)
    return fold.folded


def warm(celsius: float) -> dict[str, Any]:
    """A report of nothing but a temperature."""
    return {"temperature_celsius": celsius}


def level(millilitres: float) -> dict[str, Any]:
    """A report of nothing but the computed level."""
    return {"reservoir_estimated_ml": millilitres}


def volumes(programmed: float, delivered: float) -> dict[str, Any]:
    """A report of both cumulative volumes."""
    return {"volume_programmed_ml": programmed, "volume_delivered_ml": delivered}


def event(kind: str, **fields: Any) -> dict[str, Any]:
    """A report of one event."""
    return {"events": [{"type": kind, **fields}]}


QUIET: dict[str, Any] = {"motor": "running"}


# Thresholds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "meets", "misses"),
    [("at_least", 39.0, 38.99), ("at_most", 39.0, 39.01), ("above", 39.01, 39.0), ("below", 38.99, 39.0)],
)
def test_limits_include_their_number_or_exclude_it(limit: str, meets: float, misses: float) -> None:
    """``at_least`` and ``at_most`` include it, ``above`` and ``below`` do not."""
    tree = f"threshold: {{signal: temperature_celsius, {limit}: 39.0}}"

    assert history(tree, (0, warm(misses)), (15, warm(meets)), (30, warm(misses))) == [(15, "opened"), (30, "cleared")]


def test_a_hold_is_inclusive() -> None:
    """At exactly the required time it holds, without a further report."""
    tree = "threshold: {signal: temperature_celsius, at_least: 39.0, hold: PT30M}"

    assert history(tree, (0, warm(39)), (15, warm(39)), until=29.99) == []
    assert history(tree, (0, warm(39)), (15, warm(39)), until=30) == [(30, "opened")]


def test_a_sample_that_says_otherwise_begins_a_hold_anew() -> None:
    """Thirty minutes in all are not thirty minutes in a row."""
    tree = "threshold: {signal: temperature_celsius, at_least: 39.0, hold: PT30M}"

    assert history(tree, (0, warm(39)), (20, warm(38)), (25, warm(39)), (50, warm(39)), until=60) == [(55, "opened")]


def test_a_sample_at_the_very_end_of_a_hold_comes_after_it() -> None:
    """It held for the whole time; the sample then ends it."""
    tree = "threshold: {signal: temperature_celsius, at_least: 39.0, hold: PT30M}"

    assert history(tree, (0, warm(39)), (30, warm(38))) == [(30, "opened"), (30, "cleared")]


def test_a_hold_ends_only_while_its_sample_still_counts() -> None:
    """After an hour without a word nobody knows; the next sample that says the same shows that it held."""
    tree = "threshold: {signal: temperature_celsius, at_least: 39.0, hold: PT2H}"

    assert history(tree, (0, warm(39)), until=300) == []
    assert history(tree, (0, warm(39)), (200, warm(39))) == [(200, "opened")]
    assert history(tree, (0, warm(39)), (200, warm(38))) == []


def test_keep_says_how_long_a_sample_counts() -> None:
    """A signal that is told once a day may be one that counts for a day."""
    tree = "threshold: {signal: temperature_celsius, at_least: 39.0, hold: PT2H, keep: P1D}"

    assert history(tree, (0, warm(39)), until=300) == [(120, "opened")]


def test_samples_count_in_a_row() -> None:
    """Consecutive samples, whatever lies between them in time."""
    tree = "threshold: {signal: temperature_celsius, at_least: 39.0, consecutive: 3}"
    reports = [(0, warm(39)), (1, warm(39)), (2, warm(38)), (3, warm(39)), (4, QUIET), (300, warm(39)), (301, warm(39))]

    assert history(tree, *reports) == [(301, "opened")]


def test_between_the_limit_and_the_clear_level_nothing_changes() -> None:
    """Hysteresis: a noisy value does not flap; the clear level itself clears."""
    tree = "threshold: {signal: reservoir_estimated_ml, at_most: 2.0, clear: 3.0}"
    reports = [(0, level(2.0)), (15, level(2.9)), (30, level(1.9)), (45, level(2.99)), (60, level(3.0))]

    assert history(tree, *reports) == [(0, "opened"), (60, "cleared")]


def test_a_clear_hold_needs_samples_for_all_of_its_time() -> None:
    """A sample on the way back begins it anew, and silence does not end it."""
    tree = "threshold: {signal: temperature_celsius, at_least: 39.0, clear: 37.5, clear_hold: PT30M}"
    cooling = [(0, warm(39)), (10, warm(37.5)), (25, warm(38)), (30, warm(37)), (59, warm(37))]

    assert history(tree, *cooling, until=500) == [(0, "opened")]
    assert history(tree, *cooling, (60, warm(37.2))) == [(0, "opened"), (60, "cleared")]


def test_words_are_compared_as_they_are() -> None:
    """A motor that does not run, a battery that says so."""
    stopped = "{says: {signal: motor, one_of: [stopped, stalled]}, hold: PT15M}"
    worn = "says: {signal: battery.eri, one_of: [true]}"

    assert history(stopped, (0, {"motor": "stopped"}), (10, {"motor": "stalled"}), (20, QUIET)) == [
        (15, "opened"),
        (20, "cleared"),
    ]
    assert history(worn, (0, {"battery": {"eri": False}}), (5, {"battery": {"eri": True}})) == [(5, "opened")]


def test_an_alarm_opens_on_the_first_message_and_a_report_without_alarms_says_nothing() -> None:
    """``alarms: []`` says that none sounds; a report that leaves them out does not."""
    reports = [(0, {"alarms": ["low_reservoir"]}), (15, QUIET), (30, {"alarms": []})]

    assert history("alarm: low_reservoir", *reports) == [(0, "opened"), (30, "cleared")]


def test_a_limit_that_is_a_parameter_follows_the_drug() -> None:
    """The file's variants fit as they do for a condition in Python."""
    said = [(0, warm(38.9)), (10, warm(39.0)), (20, warm(40.9)), (30, warm(41.0)), (40, warm(37.5))]

    assert history(settable(), *said) == [(10, "opened"), (40, "cleared")]
    assert history(settable(), *said, profiles=ZICONOTIDE) == [(30, "opened"), (40, "cleared")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # Beyond the way back the limit itself ends it; what the setting's time leaves open, the default judges.
        (37.2, [(10, "opened"), (20, "cleared")]),
        (39.9, [(40, "opened"), (60, "cleared")]),
        # Looser than the rule allows: the default stays.
        (40.1, [(30, "opened"), (60, "cleared")]),
    ],
)
def test_a_limit_that_is_a_parameter_follows_the_patient_while_that_is_set(
    value: float, expected: list[tuple[float, str]]
) -> None:
    """From when it is set, until it ends."""
    known = set_for_one(value, at(5), at(50))
    said = [(0, warm(37.3)), (10, warm(37.2)), (20, warm(37.1)), (30, warm(39.0)), (40, warm(39.9)), (60, warm(37.4))]
    if value < 38:
        said[3:] = [(55, warm(37.3)), (60, warm(37.4))]

    assert history(settable(), *said, profiles=known) == expected


def test_a_leaf_begins_anew_where_its_parameter_changes_in_the_file() -> None:
    """As where its own number changes; the drug's and the patient's numbers share the memory."""
    same, other = settable(), settable(38.0)
    [key], [new] = [operator.key for operator in same.operators], [operator.key for operator in other.operators]

    assert key != new
    assert key == settable().operators[0].key


def test_a_leaf_is_never_judged_without_its_number() -> None:
    """It would be a mistake in the code, and it says so."""
    threshold = node("threshold: {signal: temperature_celsius, below: {parameter: celsius}}").threshold
    assert threshold is not None

    with pytest.raises(TypeError, match="celsius"):
        threshold.met(38.0)
    assert threshold.given({"celsius": 38.0}).met(37.9)


# Trends -------------------------------------------------------------------------------------------------------------


def test_a_rate_needs_a_window_that_is_covered_whole() -> None:
    """Half an hour of falling is no hour; at exactly an hour it is one."""
    tree = "rate: {signal: reservoir_estimated_ml, window: PT1H, per: hour, at_most: -0.5}"

    assert history(tree, (0, level(10)), (30, level(9.7)), (59, level(9.4))) == []
    assert history(tree, (0, level(10)), (30, level(9.7)), (60, level(9.5))) == [(60, "opened")]
    assert history(tree, (0, level(10)), (30, level(9.7)), (60, level(9.51))) == []


def test_a_rate_is_per_hour_or_per_day() -> None:
    """The same fall, in other words."""
    tree = "rate: {signal: reservoir_estimated_ml, window: PT1H, per: day, at_most: -12.0}"

    assert history(tree, (0, level(10)), (60, level(9.5))) == [(60, "opened")]


def test_samples_too_far_apart_say_nothing_of_a_window() -> None:
    """A day's silence between two samples: how fast it fell in any hour nobody knows."""
    tree = "rate: {signal: reservoir_estimated_ml, window: PT1H, per: hour, at_most: -0.1}"

    assert history(tree, (0, level(18)), (1440, level(2))) == []


def test_a_ratio_of_volumes_over_a_window() -> None:
    """Both are differences over the same hour."""
    tree = "ratio: {of: volume_delivered_ml, to: volume_programmed_ml, window: PT1H, above: 1.5}"

    assert history(tree, (0, volumes(1.0, 1.0)), (60, volumes(1.1, 1.15))) == []
    assert history(tree, (0, volumes(1.0, 1.0)), (60, volumes(1.1, 1.17))) == [(60, "opened")]


def test_consecutive_windows_are_back_to_back() -> None:
    """Under-delivery in one hour is not yet under-delivery in two."""
    tree = "ratio: {of: volume_delivered_ml, to: volume_programmed_ml, window: PT1H, below: 0.5, windows: 2}"
    first = [(0, volumes(0.0, 0.0)), (60, volumes(0.1, 0.03))]

    assert history(tree, *first, (90, volumes(0.15, 0.05))) == []
    assert history(tree, *first, (120, volumes(0.2, 0.07))) == [(120, "opened")]
    assert history(tree, *first, (120, volumes(0.2, 0.13))) == []


def test_a_volume_window_is_long_at_low_flow() -> None:
    """0.01 mL/h: five hours for 0.05 mL, so that the sensor's steps are no fault."""
    tree = """
        ratio:
          of: volume_delivered_ml
          to: volume_programmed_ml
          volume: {ml: 0.05, least: PT1H, most: P1D}
          above: 1.5"""
    hours = [(60 * hour, volumes(0.01 * hour, 0.02 * hour)) for hour in range(5)]

    assert history(tree, *hours) == []
    assert history(tree, *hours, (300, volumes(0.05, 0.10))) == [(300, "opened")]


def test_a_small_difference_is_within_a_sensors_resolution() -> None:
    """The ratio alone would call 0.01 mL too much."""
    tree = """
        ratio:
          of: volume_delivered_ml
          to: volume_programmed_ml
          window: PT1H
          above: 1.5
          least_difference_ml: 0.02"""

    assert history(tree, (0, volumes(0.0, 0.0)), (60, volumes(0.01, 0.02))) == []
    assert history(tree, (0, volumes(0.0, 0.0)), (60, volumes(0.02, 0.04))) == [(60, "opened")]


def test_no_window_reaches_over_a_reset() -> None:
    """Cumulative volumes begin anew with a boot; the first hour after it is measured from its own start."""
    tree = "ratio: {of: volume_delivered_ml, to: volume_programmed_ml, window: PT1H, above: 1.5}"
    boot = {"boot_id": 2}
    reports = [(0, volumes(5.0, 5.0)), (60, {**volumes(5.1, 5.1)}), (90, {**volumes(0.1, 5.0), **boot, "seq": 0})]

    assert history(tree, *reports, (120, {**volumes(0.2, 9.0), **boot, "seq": 1})) == []
    assert history(tree, *reports, (150, {**volumes(0.2, 9.0), **boot, "seq": 1})) == [(150, "opened")]


def test_a_level_is_predicted_by_the_program() -> None:
    """6 mL at 2 mL a day: three days, and two of them are left after one; no report is needed then."""
    tree = "predicted: {signal: reservoir_estimated_ml, reaches: 0.0, within: P2D, by: program}"
    said = {**level(6.0), "flow_programmed_ml_per_day": 2.0}
    hourly = [(60.0 * hour, said | level(6.0 - hour / 12)) for hour in range(24)]

    assert history(tree, *hourly, until=1439) == []
    assert history(tree, *hourly, until=1441) == [(1440, "opened")]
    assert history(tree, (0, said), until=2000) == []


def test_a_level_is_predicted_by_how_it_fell() -> None:
    """1 mL an hour, with 8 mL left: eight hours."""
    tree = "predicted: {{signal: reservoir_measured_ml, reaches: 0.0, within: {}, by: level, window: PT1H}}"
    falling = [(0, {"reservoir_measured_ml": 9.0}), (60, {"reservoir_measured_ml": 8.0})]

    assert history(tree.format("PT8H"), *falling) == [(60, "opened")]
    assert history(tree.format("PT7H59M"), *falling) == []
    assert history(tree.format("P30D"), *reversed([(60 - m, said) for m, said in falling])) == []


def test_drift_needs_days_and_a_baseline_of_its_own() -> None:
    """Catalogue DLV-08: with centre 0 and sigma 0.03, +0.08 a day alarms on the third day, a single +0.20 never."""
    tree = "cusum: {of: volume_delivered_ml, to: volume_programmed_ml}"

    assert _drifts(tree, [0.0] * 14 + [0.08] * 3) == 14 + 3
    assert _drifts(tree, [0.0] * 14 + [-0.06] * 4) == 14 + 4
    assert _drifts(tree, [0.0] * 14 + [0.20] + [0.0] * 10) is None
    assert _drifts(tree, [0.02] * 40) is None


def _drifts(tree: str, days: list[float]) -> int | None:
    """On which day the alert opens; each day 1 mL is programmed."""
    delivered, reports = 0.0, [(0.0, volumes(0.0, 0.0)), (1440.0, volumes(1.0, 1.0))]
    for number, x in enumerate(days, start=2):
        delivered += 1.0 + x
        reports.append((1440.0 * number, volumes(float(number), 1.0 + delivered)))
    told = history(tree, *reports)
    return round(told[0][0] / 1440) - 1 if told else None


def test_a_day_with_a_refill_or_a_stall_says_nothing_of_drift() -> None:
    """What a refill does to volumes is not the pump's drift."""
    tree = "cusum: {of: volume_delivered_ml, to: volume_programmed_ml, baseline_days: 3, h: 2.0}"
    calm = [(1440.0 * day, volumes(day, day)) for day in range(5)]
    refill = event("refill", aspirated_ml=0.0, injected_ml=18.0)

    spoiled = [*calm, (6000.0, refill), (7200.0, volumes(5.0, 9.0))]
    whole = [*calm, (7200.0, volumes(5.0, 9.0))]

    assert history(tree, *spoiled) == []
    assert history(tree, *whole) == [(7200, "opened")]


# Occurrences --------------------------------------------------------------------------------------------------------


def test_an_event_counts_from_its_own_time_for_as_long_as_said() -> None:
    """Its end is inclusive, and only told by the next report."""
    tree = "event: {type: interrogation, where: {result: failed}, lasts: PT1H}"
    failed = event("interrogation", result="failed", at=20)

    assert history(tree, (30, failed), until=600) == [(20, "opened")]
    assert history(tree, (30, failed), (100, QUIET)) == [(20, "opened"), (80, "cleared")]
    assert history(tree, (30, event("interrogation", result="running")), (100, QUIET)) == []


def test_an_event_counts_until_another() -> None:
    """However long that takes."""
    tree = "event: {type: mri_start, until: {type: mri_end}}"

    assert history(tree, (0, event("mri_start")), (600, QUIET), (700, event("mri_end", at=650))) == [
        (0, "opened"),
        (650, "cleared"),
    ]


def test_an_event_that_was_told_late_is_put_in_its_place() -> None:
    """Both ends of it are known when the first is told: the alert is history."""
    tree = "event: {type: mri_start, until: {type: mri_end}}"
    late = {"events": [{"type": "mri_start", "at": 10}, {"type": "mri_end", "at": 50}]}

    assert history(tree, (60, late), (70, QUIET)) == [(10, "opened"), (50, "cleared")]


def test_a_count_includes_both_ends_of_its_time() -> None:
    """Three within two hours: the first exactly two hours before the third."""
    tree = "count: {event: {type: bolus, where: {outcome: denied}}, at_least: 3, within: PT2H}"
    denied, given_ = event("bolus", outcome="denied", volume_ml=0.1), event("bolus", outcome="delivered", volume_ml=0.1)

    assert history(tree, (0, denied), (60, denied), (90, given_), (120, denied)) == [(120, "opened")]
    assert history(tree, (0, denied), (60, denied), (121, denied)) == []


def test_a_count_ends_by_time_and_with_a_report() -> None:
    """Two hours after the first of the three, when a report shows that no more came."""
    tree = "count: {event: {type: bolus}, at_least: 2, within: PT2H}"
    bolus = event("bolus", outcome="denied", volume_ml=0.1)

    assert history(tree, (0, bolus), (60, bolus), until=1000) == [(60, "opened")]
    assert history(tree, (0, bolus), (60, bolus), (130, QUIET)) == [(60, "opened"), (120, "cleared")]


def test_interference_counts_as_often_as_its_report_says() -> None:
    """Weak interference does not count, strong counts its count."""
    tree = "count: {emi: [strong, mri], at_least: 3, within: P1D}"

    assert (
        history(tree, (0, {"emi": {"level": "strong", "count": 2}}), (60, {"emi": {"level": "weak", "count": 9}})) == []
    )
    assert history(tree, (0, {"emi": {"level": "strong", "count": 2}}), (60, {"emi": {"level": "mri"}})) == [
        (60, "opened")
    ]


def test_an_alarm_is_counted_when_it_begins() -> None:
    """An alarm that goes on over many reports is one."""
    tree = "count: {alarm: low_reservoir, at_least: 2, within: P1D}"
    on: Said = {"alarms": ["low_reservoir"]}
    off: Said = {"alarms": []}

    assert history(tree, (0, on), (15, on), (30, on)) == []
    assert history(tree, (0, on), (15, on), (30, off), (45, on)) == [(45, "opened")]


def test_a_deadline_passes_without_a_report() -> None:
    """Thirty minutes after the end of an MRI nobody has interrogated the pump."""
    tree = "deadline: {after: {type: mri_end}, within: PT30M, unless: {type: interrogation}}"

    assert history(tree, (0, event("mri_end")), until=29) == []
    assert history(tree, (0, event("mri_end")), until=31) == [(30, "opened")]
    assert history(tree, (0, event("mri_end")), (20, event("interrogation", result="running")), until=60) == []
    assert history(tree, (0, event("mri_end")), (45, event("interrogation", result="running"))) == [
        (30, "opened"),
        (45, "cleared"),
    ]


def test_a_deadline_that_was_met_unheard_is_taken_back() -> None:
    """The interrogation was in time, its report was not."""
    tree = "deadline: {after: {type: mri_end}, within: PT30M, unless: {type: interrogation}}"

    assert history(tree, (0, event("mri_end")), (60, event("interrogation", result="running", at=20))) == [
        (30, "opened"),
        (30, "retracted"),
    ]


def test_a_signal_is_absent_only_while_others_go_on() -> None:
    """Silence says nothing of one signal; reports without it do, from its last one on."""
    tree = "absence: {signal: temperature_celsius, lasts: PT1H}"
    cold = [(minutes, QUIET) for minutes in (15, 30, 45, 60)]

    assert history(tree, (0, warm(37)), until=600) == []
    assert history(tree, (0, warm(37)), *cold[:-1]) == []
    assert history(tree, (0, warm(37)), *cold, (75, warm(37))) == [(60, "opened"), (75, "cleared")]
    assert history(tree, (0, warm(37)), (600, QUIET)) == []
    assert history(tree, *cold, (120, QUIET)) == []


# Trees --------------------------------------------------------------------------------------------------------------

TRUTHS = st.builds(
    lambda presence, minutes: Truth(presence, at(minutes) if presence is not Presence.NOT_EVALUABLE else None),
    st.sampled_from(list(Presence)),
    st.integers(0, 100),
)
_KLEENE = {Presence.ABSENT: 0, Presence.NOT_EVALUABLE: 1, Presence.PRESENT: 2}


@given(found=st.lists(TRUTHS, min_size=1, max_size=5))
def test_logic_has_three_values(found: list[Truth]) -> None:
    """Kleene: ``all`` is the least of them, ``any`` the greatest, ``not`` the mirror; and De Morgan holds."""
    ranks = [_KLEENE[truth.presence] for truth in found]

    assert _KLEENE[all_of(found).presence] == min(ranks)
    assert _KLEENE[any_of(found).presence] == max(ranks)
    assert any_of(found) == negation(all_of([negation(truth) for truth in found]))


@given(found=st.lists(TRUTHS, min_size=1, max_size=5))
def test_all_hold_since_the_latest_and_any_since_the_earliest(found: list[Truth]) -> None:
    """When all of them hold; what ended, ended when the first (all) or the last (any) did."""
    present = [truth.since for truth in found if truth.present]
    absent = [truth.ended_at for truth in found if truth.ended_at is not None]

    if len(present) == len(found):
        assert all_of(found).since == max(since for since in present if since)
    if present:
        assert any_of(found).since == min(since for since in present if since)
    if absent:
        assert all_of(found).ended_at == min(absent)
    if len(absent) == len(found):
        assert any_of(found).ended_at == max(absent)


def test_not_of_what_nobody_knows_is_not_known() -> None:
    """A pump that never said its temperature is not a pump that is not warm."""
    tree = "not: {threshold: {signal: temperature_celsius, at_least: 38.0}}"

    assert history(tree, (0, QUIET), (15, QUIET)) == []
    assert history(tree, (0, QUIET), (15, warm(37))) == [(15, "opened")]


def test_any_node_may_be_held() -> None:
    """Both for half an hour, without a break of either."""
    tree = """
        all:
          - threshold: {signal: temperature_celsius, at_least: 38.0}
          - says: {signal: motor, one_of: [stopped]}
        hold: PT30M"""
    both = {"motor": "stopped", "temperature_celsius": 38.5}

    assert history(tree, (0, both), (20, both | {"motor": "running"}), (25, both), (50, both), until=60) == [
        (55, "opened")
    ]


def test_a_named_condition_in_a_tree_has_parameters_of_its_own() -> None:
    """One low report is enough here, and the motor must run."""
    tree = """
        all:
          - named: reservoir.at_most
            parameters: {consecutive_reports: 1, clear_margin_ml: 1.0, urgent_within_hours: 48}
          - says: {signal: motor, one_of: [running]}"""

    assert history(tree, (0, level(3.9) | {"motor": "stopped"}), (15, level(3.9) | QUIET), (30, level(5.0))) == [
        (15, "opened"),
        (30, "cleared"),
    ]


def test_an_alert_climbs_when_its_further_conditions_hold() -> None:
    """Each step at its own event time; priorities do not fall again."""
    rule = typed_rule(
        "threshold: {signal: temperature_celsius, at_least: 38.0}",
        escalate=[(Priority.HIGH, "threshold: {signal: temperature_celsius, at_least: 39.0, hold: PT30M}")],
    )

    state = folded(rule, (0, warm(38)), (10, warm(39)), (30, warm(39)), (50, warm(38)))

    low, high = state.tracks[rule.id].steps
    assert (low, high) == (PriorityStep(Priority.LOW, at(0)), PriorityStep(Priority.HIGH, at(40)))


def test_patients_at_risk_get_another_priority() -> None:
    """``w3_or_high_risk`` on baclofen, ``w1`` on ziconotide."""
    rule = typed_rule("alarm: memory_error", modifiers=Modifiers(w3_or_high_risk=Priority.MEDIUM, w1=Priority.INFO))
    reports = heard((0, {"alarms": ["memory_error"]}))

    given_ = [
        rehearse(reports, profiles, RuleBook((rule,)), at(1))[1][0].event.alert.priority
        for profiles in (BACLOFEN, ZICONOTIDE)
    ]

    assert given_ == [Priority.MEDIUM, Priority.INFO]


def test_a_rule_may_climb_another_ladder_than_its_priority() -> None:
    """A high alert for the worklist, because the rule says so."""
    rule = typed_rule("alarm: memory_error", priority=Priority.HIGH, ladder="L")

    _, told = rehearse(heard((0, {"alarms": ["memory_error"]})), BACLOFEN, RuleBook((rule,)), at(1))

    assert told[0].event.alert.ladder == "L"


def test_an_alert_that_waits_for_something_ends_only_with_it() -> None:
    """The level alone does not end it, and neither does the refill while the level is still low."""
    rule = typed_rule(
        "threshold: {signal: reservoir_estimated_ml, at_most: 2.0}", clear="event: {type: refill, lasts: P1D}"
    )
    refill = event("refill", aspirated_ml=0.0, injected_ml=18.0)

    assert history(rule, (0, level(2.0)), (15, level(5.0)), until=60) == [(0, "opened")]
    assert history(rule, (0, level(2.0)), (15, refill), (30, level(2.0)), (45, level(18.0))) == [
        (0, "opened"),
        (45, "cleared"),
    ]


# Memories -----------------------------------------------------------------------------------------------------------


def test_a_changed_leaf_begins_with_an_empty_memory_and_an_unchanged_one_goes_on() -> None:
    """Half of the hold was seen by the rule before: it does not count for another limit, nor for another text."""
    same, other = (f"threshold: {{signal: temperature_celsius, at_least: {limit}, hold: PT30M}}" for limit in (39, 38))
    first = typed_rule(same)
    reports = heard((0, warm(39)), (20, warm(39)), (40, warm(39)))

    def judged(second: Rule) -> Folded:
        fold = Fold(Folded(), BACLOFEN, RuleBook((first,)))
        fold.report(reports[0])
        fold = Fold(fold.folded, BACLOFEN, RuleBook((second,)))
        fold.report(reports[1])
        fold.report(reports[2])
        return fold.folded

    unchanged, changed = judged(typed_rule(same, message="another")), judged(typed_rule(other))

    assert [track.start for track in unchanged.tracks.values()] == [at(30)]
    assert changed.tracks == {}
    assert len(changed.memory) == 1


def test_what_rules_remembered_that_are_gone_is_forgotten() -> None:
    """A pump's state does not grow with every rule that ever was."""
    reports = heard((0, warm(39)), (20, warm(39)))
    fold = Fold(Folded(), BACLOFEN, RuleBook((typed_rule(TREES["consecutive"]),)))
    fold.report(reports[0])

    fold = Fold(fold.folded, BACLOFEN, RuleBook(()))
    fold.report(reports[1])

    assert fold.folded.memory == {}


def test_a_report_found_late_changes_no_sample_and_places_its_event() -> None:
    """Its temperature is older than what is known; its event is news, and the alert says that it was found late."""
    rules = RuleBook(
        (
            typed_rule("threshold: {signal: temperature_celsius, at_least: 39.0}"),
            typed_rule("event: {type: interrogation, lasts: PT12H}", rule_id="TST-02"),
        )
    )
    fold = Fold(Folded(), BACLOFEN, rules)
    late, newest = heard((60, warm(39) | event("interrogation", result="failed")), (240, warm(37)))
    fold.report(newest)

    fold.report(late, found_late=True)

    [track] = fold.folded.tracks.values()
    assert (track.rule_id, track.start, track.found_late) == ("TST-02", at(60), True)


def test_time_alone_ends_nothing() -> None:
    """An event's time is over in silence: the alert stays until a report comes, and then ended when it was over."""
    rule = typed_rule("event: {type: interrogation, lasts: PT1H}")
    rules = RuleBook((rule,))
    failed = heard((0, event("interrogation", result="failed")), (600, QUIET))
    world = pipeline.step(pipeline.new_world("EX-1"), failed[0], BACLOFEN, rules, at(0)).world

    silent = pipeline.tick(world, BACLOFEN, rules, at(300), Hearing(START, at(300)))
    ended = pipeline.step(silent.world, failed[1], BACLOFEN, rules, at(600))

    assert silent.events == ()
    assert [(event.kind, event.effective_at) for event in ended.events] == [("cleared", at(60))]


def test_a_silent_pump_is_judged_under_changed_rules() -> None:
    """Its last report already says what the new rule looks for; no further one is needed, and it is told once."""
    empty, rules = RuleBook(()), RuleBook((_low_by_name(),))
    world = pipeline.step(pipeline.new_world("EX-1"), heard((0, level(1.0)))[0], BACLOFEN, empty, at(0)).world

    first = pipeline.tick(world, BACLOFEN, rules, at(30), Hearing(START, at(30)))
    second = pipeline.tick(first.world, BACLOFEN, rules, at(60), Hearing(START, at(60)))

    assert window.outdated(world, BACLOFEN, rules)
    assert not window.outdated(first.world, BACLOFEN, rules)
    assert [(event.kind, event.effective_at) for event in first.events] == [("opened", at(0))]
    assert second.events == ()


def _low_by_name() -> Rule:
    return typed_rule(
        """
        named: reservoir.at_most
        parameters: {consecutive_reports: 1, clear_margin_ml: 1.0, urgent_within_hours: 48}"""
    )


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32), seconds=st.sampled_from([5, 60, 900]))
def test_memories_are_bounded(seed: int, seconds: int) -> None:
    """However much a pump says: all typed rules together remember at most a few kilobytes."""
    rules = RuleBook(typed_rules())
    fold = Fold(Folded(), BACLOFEN, rules)
    for number, received in enumerate(_chatter(seed, seconds)):
        fold.report(received)
        if number % 50 == 0:
            sizes = {key: len(msgspec.msgpack.encode(memory)) for key, memory in fold.folded.memory.items()}
            assert max(sizes.values()) < 4_096
    assert set(fold.folded.memory) <= rules.operator_keys


def _chatter(seed: int, seconds: int) -> list[Received]:
    """Three hundred reports that say everything, with events each."""
    told = []
    for number in range(300):
        noise = (seed * 31 + number * 7919) % 97
        said: dict[str, Any] = {
            "motor": "stalled" if noise % 5 == 0 else "running",
            "alarms": ["low_reservoir"] if noise % 3 == 0 else [],
            **level(float(noise % 18)),
            **warm(36.0 + noise % 5),
            **volumes(number * 0.01, number * 0.011),
            "emi": {"level": "strong", "count": 1 + noise % 3},
            "events": [
                {"type": "interrogation", "result": "failed"},
                {"type": ("mri_start", "mri_end", "stall_started")[noise % 3]},
            ],
        }
        told.append((number * seconds / 60, said))
    return heard(*told)


# Files --------------------------------------------------------------------------------------------------------------


def test_what_lapses_by_time_inside_a_tree_is_judged_when_it_lapses() -> None:
    """Also where all of it held before, and nobody reports at that moment."""
    tree = "not: {all: [{event: {type: mri_start, lasts: PT1H}}, {event: {type: bolus, lasts: PT2H}}]}"
    both = [{"type": "mri_start"}, {"type": "bolus", "outcome": "delivered", "volume_ml": 0.1}]

    assert history(tree, (0, {"events": both}), (50, QUIET), until=70) == [(60, "opened")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("threshold: {signal: temperature_celsius}", "exactly one of at_least, at_most, above, below"),
        ("threshold: {signal: temperature_celsius, above: 1, below: 2}", "exactly one of at_least"),
        ("threshold: {signal: temperature_celsius, above: 38, clear: 39}", "clear: expected at most 38"),
        ("threshold: {signal: temperature_celsius, above: 38, hold: PT5M, consecutive: 2}", "hold or consecutive"),
        ("threshold: {signal: temperature_celsius, above: true}", "expected a finite number"),
        ("threshold: {signal: temperature_celsius, above: .nan}", "finite number"),
        ("threshold: {signal: motor, above: 1}", "'temperature_celsius'"),
        ("threshold: {signal: temperature_celsius, above: 1, hold: 5m}", "ISO 8601 duration"),
        ("threshold: {signal: temperature_celsius, above: 1, hold: PT0S}", "above zero"),
        ("says: {signal: motor, one_of: [running, asleep]}", "'asleep' is not said by motor"),
        ("says: {signal: battery.eri, one_of: [1]}", "valid boolean"),
        ("event: {type: bolus}", "expected lasts, until, or both"),
        ("event: {type: bolus, lasts: PT1H, where: {result: failed}}", "events of type bolus have outcome, volume_ml"),
        ("count: {at_least: 1, within: P1D}", "exactly one of event, alarm, emi"),
        ("ratio: {of: volume_delivered_ml, to: volume_delivered_ml, window: PT1H, above: 1}", "two different volumes"),
        ("ratio: {of: volume_delivered_ml, to: volume_programmed_ml, above: 1}", "exactly one of window, volume"),
        ("predicted: {signal: reservoir_measured_ml, reaches: 0, within: P1D, by: level}", "window with by: level"),
        ("named: communication.silent_for", "expected one of "),
        ("{alarm: memory_error, parameters: {a: 1}}", "parameters: expected only beside named"),
        ("{alarm: memory_error, named: reservoir.empty}", "found named and alarm"),
        ("{hold: PT5M}", "found none"),
        ("all: [alarm: memory_error]", "at least 2 items"),
    ],
)
def test_a_tree_that_means_nothing_says_what_was_expected(text: str, expected: str) -> None:
    """The person who writes a rule reads it."""
    with pytest.raises(ValidationError) as error:
        node(text)

    assert expected in str(error.value)
