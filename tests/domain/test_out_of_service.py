"""A pump that a named person said was taken out: what it said last is no condition of a patient any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from streams.domain import pipeline
from streams.domain.alert import AlertEvent
from streams.domain.explanation import explain
from streams.domain.profile import ProfileHistory
from streams.domain.rule import Presence
from streams.domain.silence import Hearing
from streams.domain.world import PumpState, World
from streams.rehearsal import START, moment, profiles_of, received_of
from tests.domain.views import view_at
from tests.shipped import RULES

AT_RISK = {"risks": ["prior_withdrawal"]}
OUT = {"kind": "replaced", "from": "PT4H"}


def _told(events: tuple[AlertEvent, ...], rule_id: str) -> list[tuple[str, str, timedelta]]:
    return [
        (str(event.kind), str(event.alert.priority), event.effective_at - START)
        for event in events
        if event.alert.rule_id == rule_id
    ]


def _said(at: str, seq: int = 0, **fields: Any) -> pipeline.Step:
    received = received_of({"at": at, "boot_id": 0, **fields}, seq)
    return pipeline.step(pipeline.new_world("EX-1"), received, profiles_of(AT_RISK), RULES, received.received_at)


def _looked(world: World, at: str, known: ProfileHistory) -> pipeline.Step:
    return pipeline.tick(world, known, RULES, moment(at), Hearing(START, moment(at)))


def _known(*care: Mapping[str, Any]) -> ProfileHistory:
    return profiles_of(AT_RISK, care=care)


def test_a_record_of_a_pump_that_says_nothing_more_ends_its_conditions_at_once() -> None:
    """No report has to come for it, and no deadline; what is HIGH waits for a person, who may resolve it now."""
    world = _looked(_said("PT0H", motor="stalled").world, "PT3H", _known()).world

    out = _looked(world, "PT4H1M", _known(OUT))
    later = _looked(out.world, "P40D", _known(OUT))
    [stall] = [record for record in out.world.ledger if record.rule_id == "DLV-01"]
    resolved = pipeline.resolve(later.world, _known(OUT), RULES, stall.alert_id, moment("P40D"), "ada")

    assert _told(out.events, "DLV-01") == [("cleared", "high", timedelta(hours=4))]
    assert {record.rule_id: (record.open, record.active) for record in out.world.ledger} == {
        "DLV-01": (True, False),
        "DLV-02": (True, False),
        "DLV-09": (True, False),
        "COM-01": (False, False),
    }
    assert later.events == ()
    assert isinstance(resolved, pipeline.Step)
    assert _told(resolved.events, "DLV-01") == [("resolved", "high", timedelta(hours=4))]


def test_what_was_told_of_silence_before_it_was_known_stays() -> None:
    """Catalogue M.7: HIGH at six hours was told, and it waits for a person whenever the pump was taken out."""
    world = _looked(_said("PT0H", motor="running").world, "PT7H", _known()).world

    out = _looked(world, "PT7H1M", _known({**OUT, "from": "PT2H"}))

    assert _told(out.events, "DLV-09") == [("cleared", "high", timedelta(hours=6))]
    assert [record.open for record in out.world.ledger if record.rule_id == "DLV-09"] == [True]


def test_a_deadline_after_the_time_at_which_it_was_taken_out_never_was() -> None:
    """What follows from the pump's own word is judged by event time, as when a log comes late."""
    world = _looked(_said("PT0H", motor="unknown").world, "PT2H", _known()).world

    out = _looked(world, "PT2H1M", _known({**OUT, "from": "PT1H"}))

    assert _told(out.events, "DLV-09") == [
        ("cleared", "high", timedelta(hours=1)),
        ("amended", "medium", timedelta(minutes=45)),
    ]


def test_a_record_that_is_taken_back_puts_the_pump_into_service_again() -> None:
    """Its deadlines were never moved: they count from the last delivery."""
    record = profiles_of({}, care=[OUT]).care[0]
    back = replace(record, withdrawn_at=moment("PT9H"))
    known = ProfileHistory(_known().versions, (back,))
    world = _looked(_said("PT0H", motor="unknown").world, "PT5H", _known(OUT)).world

    again = _looked(world, "PT9H", known)

    assert [one[:2] for one in _told(again.events, "DLV-09")] == [("recurred", "high")]


def test_a_pump_that_speaks_again_is_judged_with_all_that_it_said() -> None:
    """Rules that nothing new concerns are judged again, too."""
    known = _known(OUT)
    world = _looked(_said("PT0H", alarms=["low_reservoir"]).world, "PT5H", known).world
    received = received_of({"at": "PT6H", "boot_id": 0, "motor": "running"}, 1)

    heard = pipeline.step(world, received, known, RULES, received.received_at)

    assert [record.rule_id for record in world.ledger if record.open] == []
    assert [one[:2] for one in _told(heard.events, "RSV-01")] == [("recurred", "medium")]


def test_the_rules_of_its_battery_take_the_record_for_a_person_s_word() -> None:
    """PWR-01: latched until the replacement is recorded."""
    world = _said("PT0H", battery={"eri": True}).world

    out = _looked(world, "PT5H", _known(OUT))

    assert _told(out.events, "PWR-01") == [("resolved", "low", timedelta(hours=4))]


def test_a_silent_pump_follows_a_changed_profile_at_once() -> None:
    """Catalogue M.7: running deadlines are recomputed, although no report comes for it."""
    morphine = {"drugs": [{"name": "morphine", "concentration_ug_per_ml": 10000}], "prescribed_ug_per_day": 1000}
    shortest = {"drugs": [{"name": "baclofen", "concentration_ug_per_ml": 2000.0}], **AT_RISK}
    before = profiles_of(morphine)
    received = received_of({"at": "PT0H", "boot_id": 0, "motor": "unknown"}, 0)
    world = pipeline.step(pipeline.new_world("EX-1"), received, before, RULES, received.received_at).world
    changed = profiles_of(morphine, later=[{"from": "PT30M", **shortest}])

    first = _looked(world, "PT50M", changed)
    second = _looked(first.world, "PT2H", changed)

    assert _told(first.events, "DLV-09") == [("opened", "medium", timedelta(minutes=45))]
    assert _told(second.events, "DLV-09") == [("escalated", "high", timedelta(minutes=90))]


def test_an_explanation_says_the_same() -> None:
    """Nothing holds for a pump that is in nobody, and nothing is due; before, its stall did."""
    world = _said("PT0H", motor="stalled").world

    said = {one.rule_id: one for one in explain(world, _known(OUT), RULES, moment("PT5H"))}
    before = {one.rule_id: one for one in explain(world, _known(OUT), RULES, moment("PT3H59M"))}

    assert before["DLV-01"].presence is Presence.PRESENT
    assert {one.presence for one in said.values()} == {Presence.ABSENT}
    assert {one.changes_at for one in said.values()} == {None}


@pytest.mark.parametrize(("reported", "out"), [(None, True), ("PT3H59M59S", True), ("PT4H", False), ("PT5H", False)])
def test_a_pump_is_out_of_service_until_it_reports_at_that_time_or_later(reported: str | None, out: bool) -> None:
    """A report at that very moment shows that it is still heard."""
    state = PumpState(reported_at=moment(reported) if reported else None)

    assert (view_at("PT6H", state, care=[OUT]).taken_out is not None) is out
    assert view_at("PT3H59M", state, care=[OUT]).taken_out is None
    assert view_at("PT6H", state).taken_out is None


def test_the_newest_record_counts() -> None:
    """A pump that was replaced in March, reported, and was taken out in May."""
    care = [{"kind": "replaced", "from": "PT1H"}, {"kind": "replaced", "from": "PT3H"}]

    assert (
        view_at("PT6H", PumpState(reported_at=moment("PT2H")), care=care).taken_out
        == profiles_of({}, care=care).care[1]
    )
