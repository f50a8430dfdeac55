"""The book of rules: which rule is judged where and for what, and by which numbers."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace as changed

from streams.domain.alert import Episode, Priority, PriorityStep
from streams.domain.care import CareKind, CareRecord
from streams.domain.profile import STRICTEST, ProfileHistory
from streams.domain.rule import (
    Finding,
    Presence,
    RuleBook,
    Setting,
    Variant,
    View,
    default_parameters,
    parameters_in_force,
    parameters_of,
)
from streams.domain.world import PumpState
from streams.rehearsal import START, moment, profiles_of
from tests.domain.typed import TREES, settable, typed_rule

HOUR = timedelta(hours=1)
ALARM = typed_rule(TREES["alarms"], rule_id="TST-01", content_hash="one")
MOTOR = replace(typed_rule(TREES["word"], rule_id="TST-02", content_hash="two"), reads=("motor",), follows=("TST-01",))
SILENT = replace(MOTOR, id="TST-03", judged_by="arrival", content_hash="three", follows=("TST-02",))
SYSTEM = replace(MOTOR, id="TST-04", lives_in="notify", content_hash="four")
BOTH = replace(MOTOR, id="TST-05", judged_by="both", reads=("*",), operators=(), follows=("TST-01", "TST-03"))
TRACK = Episode("TST-01", START, (PriorityStep(Priority.LOW, START),))


def _book() -> RuleBook:
    return RuleBook((ALARM, MOTOR, SILENT, SYSTEM, BOTH))


def test_each_rule_is_judged_where_it_lives_and_by_what_it_counts() -> None:
    """Silence by arrivals, the rest by reports, some by both; those of other processes by neither."""
    book = _book()
    assert book.event_rules == (ALARM, MOTOR, BOTH)
    assert book.arrival_rules == (SILENT, BOTH)
    assert (list(book), len(book)) == ([ALARM, MOTOR, SILENT, SYSTEM, BOTH], 5)
    assert book.place == {"TST-01": 0, "TST-02": 1, "TST-05": 2}
    assert (book["TST-04"], book.get("TST-04"), book.get("TST-99")) == (SYSTEM, SYSTEM, None)


def test_a_change_concerns_those_that_read_or_follow_it() -> None:
    """One bit for each rule that reports are judged by, in the order of the book; a star reads everything."""
    book = _book()
    reads = dict(zip(PumpState.__struct_fields__, book.masks, strict=True))

    assert (reads["motor"], reads["boot_id"]) == (0b110, 0b100)
    assert book.followers == {"TST-01": 0b110, "TST-02": 0, "TST-03": 0b100, "TST-04": 0, "TST-05": 0}


def test_what_remembers_is_found_by_what_it_listens_to() -> None:
    """With the bit of its rule."""
    book = _book()
    (alarms,), (word,) = ALARM.operators, MOTOR.operators

    assert book.operators == {"alarms": [(alarms, 0b001)], "motor": [(word, 0b010)]}
    assert book.operator_keys == {alarms.key, word.key}


def test_a_book_has_the_key_of_what_its_rules_say() -> None:
    """It is kept with each pump's state: it changes whenever a rule or their order does, and never else."""
    said = hashlib.blake2b(b"onetwo", digest_size=6).hexdigest()

    assert RuleBook((ALARM, MOTOR)).key == said
    assert RuleBook((MOTOR, ALARM)).key != said


@pytest.mark.parametrize(
    ("track", "is_open", "is_present"),
    [
        (TRACK, True, True),
        (changed(TRACK, present=False, latched=True), True, False),
        (changed(TRACK, closed=True, muted=True), False, False),
        (changed(TRACK, present=False, closed=True), False, False),
    ],
)
def test_a_condition_sees_which_episodes_are_open_and_which_hold(
    track: Episode, is_open: bool, is_present: bool
) -> None:
    """One that was closed by a person is neither, whatever goes on."""
    view = View(PumpState(), STRICTEST, {"TST-01": track}, START)

    assert view.open_track("TST-01") == (track if is_open else None)
    assert view.present_track("TST-01") == (track if is_present else None)
    assert (view.open_track("TST-02"), view.present_track("TST-02")) == (None, None)


def test_a_deadline_is_due_no_earlier_than_the_profile_that_makes_it() -> None:
    """M.29; where there is no profile it keeps its time."""
    late = View(PumpState(), profiles_of({"valid_from": START.isoformat()}).therapy(START), {}, START)
    none = View(PumpState(), STRICTEST, {}, START)

    assert [late.due(START + at * HOUR) for at in (-1, 0, 1)] == [START, START, START + HOUR]
    assert none.due(START - HOUR) == START - HOUR


def test_what_a_message_does_not_know_is_unknown() -> None:
    """It never fails for a missing value."""
    rule = replace(ALARM, message="{a} and {b}")

    assert rule.text(Finding(Presence.PRESENT, values={"a": "one"})) == "one and unknown"
    assert rule.text(Finding(Presence.PRESENT)) == "unknown and unknown"


def test_of_variants_that_fit_the_later_wins() -> None:
    """Those that do not fit count for nothing."""
    variants = (
        Variant({"a": 1, "b": 1, "c": 1}),
        Variant({"b": 2, "c": 2}, drug="baclofen"),
        Variant({"c": 3}, drug="morphine"),
    )
    rule = replace(ALARM, parameters={"a": 0, "d": 0}, variants=variants)

    assert default_parameters(rule, profiles_of({}).therapy(START)) == {"a": 1, "b": 2, "c": 2, "d": 0}
    assert rule.parameters == {"a": 0, "d": 0}


def _set(value: float | None, number: int = 0, **changes: Any) -> CareRecord:
    record = CareRecord(
        care_id=f"S-{number}",
        pump_id="P-1",
        kind=CareKind.SETTING,
        valid_from=START,
        person="ada",
        reason="made up",
        rule_id="TYP-94",
        parameter="celsius",
        value=value,
    )
    return replace(record, **changes)


@pytest.mark.parametrize(
    ("records", "celsius"),
    [
        ([], 39.0),
        ([_set(38.0)], 38.0),
        ([_set(38.0), _set(38.5, 1)], 38.5),
        ([_set(38.0), _set(40.5, 1)], 38.0),
        ([_set(40.0, valid_until=START + 24 * HOUR)], 40.0),
        ([_set(40.0)], 39.0),
        ([_set(38.0, rule_id="TYP-93")], 39.0),
        ([_set(38.0, parameter=None)], 39.0),
        ([_set(38.0, parameter="kelvin")], 39.0),
        ([_set(None)], 39.0),
    ],
)
def test_a_patient_s_setting_counts_where_it_can_be_used(records: list[CareRecord], celsius: float) -> None:
    """Of several the last that can; whatever cannot leaves the stricter default."""
    therapy = ProfileHistory(profiles_of({}).versions, tuple(records)).therapy(moment("PT1H"))

    assert parameters_in_force(settable(), therapy) == {"celsius": celsius}
    assert parameters_of(settable(), therapy) == {"celsius": celsius}


def test_each_rule_has_its_own_numbers_for_a_pump_and_they_are_found_once() -> None:
    """Another version of a rule is another rule."""
    therapy = profiles_of({}).therapy(START)
    first = replace(ALARM, parameters={"a": 1}, content_hash="numbers 1")
    second = replace(ALARM, parameters={"a": 2}, content_hash="numbers 2")

    assert (parameters_of(first, therapy), parameters_of(second, therapy)) == ({"a": 1}, {"a": 2})
    assert parameters_of(first, therapy) is parameters_of(first, therapy)


@pytest.mark.parametrize("tighter", ["higher", "lower"])
def test_a_setting_as_strict_as_the_default_needs_no_end(tighter: Any) -> None:
    """Equal is no looser, and the bound itself is within it."""
    setting = Setting(tighter, 20.0)

    assert setting.allows(30.0, 30.0, _set(30.0))
    assert setting.stricter(20.0, 20.0)
    assert setting.stricter(21.0, 20.0) is (tighter == "higher")
