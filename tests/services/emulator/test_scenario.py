"""Scenario files: what comes with Pumpwatch can be used, and what is wrong in one is named."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.emulator.scenario import ScenarioError, available, load, parse, profile_documents
from services.emulator.ward import play
from streams.domain.profile import PumpProfile, profile_from

GOOD = """
name: small
title: One pump
site: north
gateways: [{name: one}]
pumps:
  - name: lone
    gateway: one
    renewed: true
    history: {since: -PT1H, every: PT15M}
    profile: &p
      family: synchromed_ii
      reservoir_ml: 20
      drugs: [{name: baclofen, concentration_ug_per_ml: 500.0}]
      prescribed_ug_per_day: 240.0
    story:
      - {at: PT10S, act: stall}
"""


@pytest.mark.parametrize("name", available())
def test_every_shipped_scenario_can_be_used(name: str) -> None:
    """Its profiles pass the check of the import."""
    documents = profile_documents(load(name), run=1_790_000_000)

    assert {"demo", "load", "quiet"} <= set(available())
    assert documents
    assert all(isinstance(profile_from(document), PumpProfile) for document in documents)


def test_runs_share_the_lasting_pumps_and_renew_the_others() -> None:
    """So the story of an earlier run does not go on in a later one."""
    first, second = (
        {d["pump_id"] for d in profile_documents(load("demo"), run)} for run in (1_790_000_000, 1_790_000_060)
    )

    assert len(first & second) == 7
    assert len(first - second) == len(second - first) == 6
    assert all(pump_id.endswith(f"-{1_790_000_000:x}") for pump_id in first - second)


def test_a_lasting_pumps_profile_is_the_same_in_each_run() -> None:
    """Importing it again changes nothing."""
    first, second = (
        {d["pump_id"]: d for d in profile_documents(load("quiet"), run)} for run in (1_790_000_000, 1_790_000_060)
    )

    assert first == second


def test_a_scenario_can_be_read_from_a_path(tmp_path: Path) -> None:
    """Anybody may write their own."""
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)

    assert load(str(path)).pumps[0].name == "lone"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("act: stall", "act: dance", r"pumps\[0\].story\[0\].act: Input should be"),
        ("act: stall", "act: stall, injected_ml: 3", "injected_ml does not belong to stall"),
        ("act: stall", "act: refill", "injected_ml is required for refill"),
        ("act: stall", "act: warm, celsius: 3", "lasts is required for warm"),
        ("act: stall", "act: interfere, count: 2", "level is required for interfere"),
        ("act: stall", "act: reprogram, rates: {PT8H: 0.4}", "rates need one from PT0H on"),
        ("act: stall", "act: symptoms, codes: [sneezing]", "sneezing is no code for symptoms"),
        ("{at: PT10S", "{at: soon", r"pumps\[0\].story\[0\].at"),
        ("{at: PT10S", "{at: -PT2H", "the story begins before the history does"),
        ("act: stall}", "act: stall}\n      - {at: PT1S, act: recover}", "the story is not in order of time"),
        ("gateway: one", "gateway: two", "pump lone: there is no gateway two"),
        ("gateways: [{name: one}]", "gateways: [{name: one}, {name: one}]", "two gateways are called one"),
        ("gateways: [{name: one}]", "gateways: []", "gateways: Tuple should have at least 1 item"),
        (
            "[{name: one}]",
            "[{name: one, outages: [{lost: PT1M, back: PT1M}]}]",
            r"gateways\[0\].outages\[0\]: back must come after lost",
        ),
        ("reservoir_ml: 20", "reservoir_ml: 30", "pump lone: profile/reservoir_ml: Input should be 20 or 40"),
        ("500.0", "5.0", "pump lone: profile/drugs/0/concentration_ug_per_ml: outside the range"),
        ("renewed: true", "renewed: false\n    visits_only_after: PT1M", "visits_only_after is for renewed pumps"),
        ("renewed: true", "level_ml: 9\n    low_at: PT1M", "level_ml and low_at exclude each other"),
        ("renewed: true", "colour: red", r"pumps\[0\].colour: unknown field"),
        ("renewed: true", "count: 10001", r"pumps\[0\].count"),
        ("site: north\n", "", "site: field is required"),
        ("title: One pump", "title: [", "line 5: is not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(old: str, new: str, complaint: str) -> None:
    """The message has the scenario, the place in it, and the reason."""
    assert old in GOOD

    with pytest.raises(ScenarioError, match=complaint) as caught:
        parse(GOOD.replace(old, new), "mine")

    assert str(caught.value).startswith("scenario mine: ")


def test_a_missing_scenario_says_which_there_are() -> None:
    """A typing error is answered with the choices."""
    with pytest.raises(ScenarioError, match="scenario dmeo: cannot be read; there are demo, load, quiet"):
        load("dmeo")


def test_a_story_may_tell_what_users_and_faults_do_to_a_pump() -> None:
    """Each act reaches the pump, and its events the next report."""
    story = """
      - {at: PT1S, act: bolus, volume_ml: 0.02}
      - {at: PT2S, act: symptoms, codes: [itching, rigidity]}
      - {at: PT3S, act: fail, codes: [memory_error]}
      - {at: PT4S, act: bias, factor: 2}
      - {at: PT5S, act: dump, volume_ml: 1}
      - {at: PT6S, act: warm, celsius: 3, lasts: PT2H}
      - {at: PT7S, act: trap}
      - {at: PT40S, act: mend}
      - {at: PT41S, act: interrogate}
      - {at: PT42S, act: refill, injected_ml: 18, into_pocket_ml: 3}
      - {at: PT43S, act: valve_reset}
      - {at: PT44S, act: reset}
"""
    scenario = parse(GOOD.replace("\n      - {at: PT10S, act: stall}\n", story), "mine")
    start = datetime(2026, 11, 2, tzinfo=UTC)

    fresh = (emission for emission in play(scenario, start, seed=1) if emission.at >= start)
    documents = [emission.document for emission in itertools.islice(fresh, 3)]

    told = [[event["type"] for event in document.get("events", [])] for document in documents]
    expected = ["interrogation", "refill", "valve_reset", "pump_reset"]
    assert told == [[], ["bolus", "symptom_report"], expected]
    assert (documents[1]["motor"], documents[1]["alarms"]) == ("telemetry_mode", ["memory_error"])
    assert (documents[2]["motor"], documents[2]["alarms"], documents[2]["boot_id"] - documents[1]["boot_id"]) == (
        "running",
        [],
        1,
    )


def test_a_story_may_tell_what_a_clinic_does_to_a_pump() -> None:
    """Sessions, programs with rates by the time of day, plans, interference, a leak, and a new pump."""
    story = """
      - {at: PT1S, act: session, session_id: S-1, phase: start}
      - {at: PT2S, act: reprogram, rates: {PT0H: 0.24, PT8H: 0.96}, session_id: S-1}
      - {at: PT3S, act: session, session_id: S-1, phase: end}
      - {at: PT4S, act: schedule_mri, due_in: PT26H}
      - {at: PT5S, act: interfere, level: strong, count: 3}
      - {at: PT6S, act: leak, lost_share: 0.8}
      - {at: PT40S, act: reprogram, rates: {PT0H: 0.24, PT8H: 0.96}}
      - {at: PT41S, act: replace, injected_ml: 19}
"""
    scenario = parse(GOOD.replace("\n      - {at: PT10S, act: stall}\n", story), "mine")
    start = datetime(2026, 11, 2, 9, tzinfo=UTC)

    fresh = (emission for emission in play(scenario, start, seed=1) if emission.at >= start)
    _, second, third = (emission.document for emission in itertools.islice(fresh, 3))

    kinds = ["programming_session", "program_change", "programming_session", "mri_scheduled"]
    assert [event["type"] for event in second["events"]] == kinds
    assert second["events"][1]["session_id"] == "S-1"
    assert second["events"][3]["for"] == "2026-11-03T11:00:04.000+00:00"
    assert second["flow_programmed_ml_per_day"] == 0.96
    assert second["emi"] == {"level": "strong", "count": 3}
    assert third["program_checksum"] == second["program_checksum"] == second["events"][1]["new_checksum"]
    assert [event["type"] for event in third["events"]] == ["pump_replaced"]
    assert third["boot_id"] == second["boot_id"] + 1
    assert third["reservoir_estimated_ml"] == pytest.approx(19, abs=0.1)
