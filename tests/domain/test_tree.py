"""How a tree becomes parts: keys of memories, what each part listens to, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest
from pydantic import ValidationError

from streams.domain.alert import Priority, PriorityStep
from streams.domain.conditions import CONDITIONS
from streams.domain.memory import Fact, Memory, Point
from streams.domain.profile import STRICTEST, Therapy
from streams.domain.rule import NO_MEMORY, Finding, Named, Presence, Rule, Variant, View
from streams.domain.telemetry import Alarm, Report
from streams.domain.typed import Part, compiled
from streams.domain.typed.tree import NamedPart, known_condition
from streams.domain.typed.truth import UNKNOWN, Truth
from streams.domain.world import PumpState, Sample
from streams.rehearsal import START, profiles_of
from tests.domain.typed import node, report_of, set_for_one, settable, typed_rule

RULE: Rule = typed_rule("alarm: memory_error")
LOW_LEVEL = """
    named: reservoir.at_most
    parameters: {{consecutive_reports: {}, clear_margin_ml: 1.0, urgent_within_hours: 1}}"""
WARM = "{threshold: {signal: temperature_celsius, at_least: 39.0}}"
MEASURED = "{threshold: {signal: reservoir_measured_ml, at_most: 2.0}}"


def at(minutes: float) -> datetime:
    """So many minutes after the start."""
    return START + timedelta(minutes=minutes)


def part(text: str, rule: Rule = RULE) -> Part:
    """What a piece of YAML becomes in a rule."""
    return compiled(node(text), rule, "condition")


def view(
    minutes: float = 0,
    memory: Mapping[str, Memory] = NO_MEMORY,
    *,
    state: PumpState | None = None,
    therapy: Therapy = STRICTEST,
) -> View:
    """A pump at a moment."""
    return View(state or PumpState(), therapy, {}, at(minutes), memory=memory)


def said(minutes: float, *, alarms: tuple[Alarm, ...] | None = None, celsius: float | None = None) -> Report:
    """A report of alarms or of a temperature."""
    return report_of(at(minutes), alarms=alarms, temperature_celsius=celsius)


def remembered(what: Part, *reports: Report, therapy: Therapy = STRICTEST) -> dict[str, Memory]:
    """What all leaves of a part remember after reports in order."""
    memory: dict[str, Memory] = {}
    for report in reports:
        for operator in what.operators:
            known = memory.get(operator.key, Memory())
            memory[operator.key] = operator.observe(known, Fact(report.event_time, report, None, therapy))
    return memory


def test_a_memory_lies_under_the_leafs_place_and_meaning() -> None:
    """The same in every release in which it means the same: another key and every pump forgets what it waits for."""
    tree = "{all: [{any: [{alarm: memory_error}, {not: {alarm: low_reservoir}}]}, {alarm: memory_error}], hold: PT5M}"

    assert [operator.key for operator in part(tree).operators] == [
        "TST-01:condition.all.0.any.0:b957c61f",
        "TST-01:condition.all.0.any.1.not:2af3a7aa",
        "TST-01:condition.all.1:b957c61f",
    ]
    assert [operator.key for operator in settable().operators] == ["TYP-94:condition:3e71cc66"]


def test_a_limit_by_name_is_another_leaf_with_other_variants_but_not_with_other_names_beside_it() -> None:
    """What the file says of its own parameters counts, whatever else the rule has."""
    tree = "threshold: {signal: temperature_celsius, at_least: {parameter: celsius}}"

    def key(*variants: Variant, **parameters: float) -> str:
        return typed_rule(tree, parameters=parameters, variants=variants).operators[0].key

    assert key(celsius=39.0) == key(celsius=39.0, hours=4.0)
    assert key(celsius=39.0) != key(Variant({"celsius": 41.0}, drug="ziconotide"), celsius=39.0)


def test_a_leaf_listens_and_names_as_it_says() -> None:
    """Also below a hold."""
    [leaf] = part(f"{{all: [{WARM}, {WARM}], hold: PT5M}}").operators[:1]
    event = part("event: {type: interrogation, lasts: PT1H}")

    assert leaf.signals == {"temperature_celsius"}
    assert event.operators[0].signals == {"report", "event:interrogation"}
    assert (event.reads, event.follows, event.names) == (frozenset({"reported_at"}), frozenset(), frozenset())
    assert part(WARM).names == frozenset({"temperature_celsius"})
    assert (part(WARM).reads, part(WARM).follows) == (frozenset(), frozenset())


def test_what_joins_parts_is_all_that_they_are() -> None:
    """Its leaves in order, what they read and follow; with a condition in Python nobody knows what it names."""
    joined = part(f"any: [{WARM}, {MEASURED}]")
    with_name = part(f"any:\n  - {LOW_LEVEL.format(1).strip()}\n  - {WARM}\n  - event: {{type: bolus, lasts: PT1H}}")

    assert [operator.signals for operator in joined.operators] == [{"temperature_celsius"}, {"reservoir_measured_ml"}]
    assert joined.names == frozenset({"temperature_celsius", "reservoir_measured_ml"})
    assert with_name.names is None
    assert with_name.reads == {*CONDITIONS["reservoir.at_most"].reads, "reported_at"}
    assert with_name.follows == {"RSV-03"}
    assert len(with_name.operators) == 2


def test_the_first_part_that_says_something_is_heard() -> None:
    """Two limits of one signal: the message shows what the first of them saw."""
    both = part(f"any: [{WARM}, {{threshold: {{signal: temperature_celsius, at_least: 40.0}}}}, {MEASURED}]")
    first, second = (operator.key for operator in both.operators[:2])
    memory = {
        key: Memory(None, at(60), (Point(at(0), 1.0),), (value, 0.0)) for key, value in ((first, 39.5), (second, 40.5))
    }

    assert both.values(view(memory=memory)) == {"temperature_celsius": "39.5"}
    assert both.values(view(memory={second: memory[second]})) == {"temperature_celsius": "40.5"}
    assert both.values(view()) == {}


def test_a_leaf_that_was_never_told_anything_finds_nothing() -> None:
    """It has no memory yet."""
    assert part(WARM).judge(view()) == UNKNOWN
    assert part(f"not: {WARM}").judge(view()) == UNKNOWN


def test_a_leaf_is_judged_by_its_own_memory() -> None:
    """Not by that of its neighbour."""
    both = part("any: [{alarm: memory_error}, {alarm: low_reservoir}]")
    memory = remembered(both, said(0, alarms=(Alarm.LOW_RESERVOIR,)))

    assert both.judge(view(memory=memory)) == Truth(Presence.PRESENT, at(0))
    assert part("all: [{alarm: memory_error}, {alarm: low_reservoir}]").judge(view()) == UNKNOWN


def test_a_hold_on_a_node_counts_from_when_its_part_holds() -> None:
    """Inclusive, and it says when it will be over."""
    held = part("{alarm: memory_error, hold: PT5M}")
    memory = remembered(held, said(0, alarms=(Alarm.MEMORY_ERROR,)))

    assert held.judge(view(4, memory)) == Truth(Presence.ABSENT, at(0), at(5))
    assert held.judge(view(5, memory)) == Truth(Presence.PRESENT, at(5))


def test_a_limit_by_name_is_each_pumps_own() -> None:
    """One part judges pumps with different limits in turn; each is observed and judged with its own."""
    limit = part(
        "threshold: {signal: temperature_celsius, at_least: {parameter: celsius}}",
        settable(),
    )
    ours = set_for_one(38.0, at(0)).therapy(at(0))
    theirs = profiles_of({}).therapy(at(0))

    def found(therapy: Therapy) -> Presence:
        memory = remembered(limit, said(0, celsius=38.5), therapy=therapy)
        return limit.judge(view(0, memory, therapy=therapy)).presence

    assert [found(therapy) for therapy in (ours, theirs, ours)] == [Presence.PRESENT, Presence.ABSENT, Presence.PRESENT]


def test_a_limit_by_name_shows_its_value_all_the_same() -> None:
    """And has the signals and names of its leaf."""
    limit = part("threshold: {signal: temperature_celsius, at_least: {parameter: celsius}}", settable())
    memory = remembered(limit, said(0, celsius=38.5))

    assert limit.values(view(0, memory)) == {"temperature_celsius": "38.5"}
    assert limit.names == frozenset({"temperature_celsius"})
    assert limit.operators[0].signals == {"temperature_celsius"}


# Conditions in Python -----------------------------------------------------------------------------------------------


def told(finding: Finding) -> NamedPart:
    """A part around a condition that finds this."""
    return NamedPart(Named(lambda _, __: finding, ("motor", "alarms"), ("DLV-01",)), RULE)


@pytest.mark.parametrize(
    ("finding", "expected"),
    [
        (
            Finding(
                Presence.PRESENT,
                (PriorityStep(Priority.LOW, at(5)), PriorityStep(Priority.HIGH, at(9))),
                wake_at=at(90),
            ),
            Truth(Presence.PRESENT, at(5), at(90)),
        ),
        (Finding(Presence.PRESENT), Truth(Presence.PRESENT, at(30))),
        (Finding(Presence.ABSENT, ended_at=at(20), wake_at=at(90)), Truth(Presence.ABSENT, at(20), at(90))),
        (Finding(Presence.ABSENT), Truth(Presence.ABSENT, at(30))),
        (Finding(Presence.NOT_EVALUABLE, wake_at=at(90)), Truth(Presence.NOT_EVALUABLE, None, at(90))),
        (Finding(Presence.NOT_EVALUABLE, ended_at=at(20)), UNKNOWN),
    ],
)
def test_what_a_condition_in_python_finds_is_a_truth(finding: Finding, expected: Truth) -> None:
    """Since its first step, or since its evidence; where it says neither, since the moment judged."""
    assert told(finding).judge(view(30)) == expected


def test_a_condition_in_python_says_and_reads_what_it_does() -> None:
    """It has no leaves, and messages may use whatever it says."""
    found = told(Finding(Presence.PRESENT, values={"rate": "0.5"}))

    assert found.values(view()) == {"rate": "0.5"}
    assert told(Finding(Presence.ABSENT)).values(view()) == {}
    assert (found.reads, found.follows) == (frozenset({"motor", "alarms"}), frozenset({"DLV-01"}))
    assert (found.operators, found.names) == ((), None)


def test_a_condition_in_python_is_handed_the_moment_and_the_rule() -> None:
    """Both of them, for what it finds and for what it says."""
    seen = Named(lambda view, rule: Finding(Presence.ABSENT, ended_at=view.at, values={"id": rule.id}), ("motor",), ())

    assert NamedPart(seen, RULE).judge(view(7)) == Truth(Presence.ABSENT, at(7))
    assert NamedPart(seen, RULE).values(view(7)) == {"id": "TST-01"}


def test_conditions_in_python_at_one_place_do_not_share_their_parameters() -> None:
    """What is remembered of a pump's parameters is told apart by what the file says."""
    therapy = profiles_of({}).therapy(at(0))
    state = PumpState(estimated=(Sample(3.0, at(0)),))
    once, twice = (part(LOW_LEVEL.format(number)) for number in (1, 2))

    assert once.judge(view(0, state=state, therapy=therapy)).presence is Presence.PRESENT
    assert twice.judge(view(0, state=state, therapy=therapy)).presence is Presence.ABSENT


def test_only_conditions_that_telemetry_decides_have_a_place_in_a_tree() -> None:
    """The refusal lists them by name; that a pump is silent is none of them."""
    usable = sorted(name for name in CONDITIONS if name != "communication.silent_for")
    expected = f"expected one of {', '.join(usable)}"

    assert [known_condition(name) for name in usable] == usable
    for name in ("communication.silent_for", "no.such", 5, None):
        with pytest.raises(ValueError, match="expected one of") as error:
            known_condition(name)
        assert str(error.value) == expected
    with pytest.raises(ValidationError, match="expected one of"):
        node("named: communication.silent_for")
