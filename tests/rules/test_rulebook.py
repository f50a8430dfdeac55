"""Rule files that cannot be used: every mistake is named with file, line, field and what was expected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streams import rule_file, rulebook
from streams.rehearsal import failures

ROOT = Path(__file__).parents[2]
TREE = """\
id: SIT-01
title: A rule of this site
condition:
  all:
    - threshold: {signal: temperature_celsius, at_least: 38.0}
    - alarm: low_reservoir
priority: low
message: "{temperature_celsius} °C"
evidence: [X]
examples:
  - &one {name: one, reports: [{at: PT0M, motor: running}], until: PT1M, expect: []}
  - *one
  - *one
"""


def folder(tmp_path: Path, *texts: str) -> Path:
    """A folder with one file for each text."""
    (tmp_path / "site").mkdir()
    for number, text in enumerate(texts):
        (tmp_path / "site" / f"rule-{number}.yaml").write_text(text)
    return tmp_path


def told(path: Path) -> list[str]:
    """Every mistake in a folder, each with its file's name in front."""
    return [str(error).removeprefix(f"{path}/site/") for error in rulebook.survey(path).errors]


def test_a_tree_is_a_rule(tmp_path: Path) -> None:
    """No code: what it listens to and what it remembers come from the tree."""
    found = rulebook.survey(folder(tmp_path, TREE))

    assert found.rules is not None
    rule = found.rules["SIT-01"]
    assert {signal for operator in rule.operators for signal in operator.signals} == {"temperature_celsius", "alarms"}
    assert [operator.key.rpartition(":")[0] for operator in rule.operators] == [
        "SIT-01:condition.all.0",
        "SIT-01:condition.all.1",
    ]


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        ("at_least: 38.0", 'at_least: "38"', "5: condition.all.0.threshold.at_least: expected a finite number, or {"),
        (
            "at_least: 38.0",
            "atleast: 38",
            "5: condition.all.0.threshold.atleast: unknown key; expected one of at_least",
        ),
        ("- alarm", "- alarms", "6: condition.all.1.alarms: unknown key; expected one of all, any, not, named"),
        (
            "priority: low",
            "priority: low\nurgency: 1",
            "8: urgency: unknown key; expected one of id, title, lives_in, condition",
        ),
        ("priority: low", "priority: low\npriority: high", "8: priority: the same key again"),
        ("priority: low\n", "", "1: priority: field is required with a tree"),
        ("priority: low", "priority: urgent", "7: priority: Input should be 'info', 'low', 'medium' or 'high'"),
        ("priority: low", "priority: low\nparameters: {a: 1}", "8: parameters.a: no leaf names it"),
        (
            "at_least: 38.0",
            "at_least: {parameter: a}",
            "5: condition.all.0.threshold: unknown parameter a; the file has no parameters",
        ),
        (
            "at_least: 38.0",
            "at_least: {of: a}",
            "5: condition.all.0.threshold.at_least: expected a finite number, or {parameter: NAME}",
        ),
        (
            "priority: low",
            "priority: low\nvariants: [{drug: baclofen, parameters: {a: 1}}]\nparameters: {b: 1}",
            "8: variants.0.parameters.a: unknown parameter; expected one of b",
        ),
        (
            "priority: low",
            "priority: low\nsettings: {a: {tighter: lower, loosest: 1}}",
            "8: settings.a: unknown parameter; the file has no parameters",
        ),
        ("priority: low", "priority: low\njudged_by: both", "8: judged_by: expected event_time"),
        ("priority: low", "priority: high\nescalate: [{priority: low, when: {alarm: memory_error}}]", "8: escalate"),
        ("°C", "°C {flow}", "8: message: {flow} is unknown; expected one of since, temperature_celsius"),
        ("title: A rule of this site", "", "1: title: field is required"),
        ("  all:", "  all: [", "not YAML"),
        ("all:", "either:", "4: condition.either: unknown key; expected one of all, any"),
        ("id: SIT-01", "id: SIT-01\nchild_of: [XXX-01]", "1: child_of: unknown rule XXX-01"),
    ],
)
def test_a_mistake_is_named_with_line_field_and_what_was_expected(
    tmp_path: Path, was: str, now: str, expected: str
) -> None:
    """Inside trees as well."""
    assert was in TREE

    mistakes = told(folder(tmp_path, TREE.replace(was, now, 1)))

    assert any(expected in mistake for mistake in mistakes), mistakes


def test_every_mistake_of_every_file_is_told(tmp_path: Path) -> None:
    """Who mends a folder does not have to ask again after each."""
    first = TREE.replace("low_reservoir", "low").replace("38.0", "true")
    second = TREE.replace("SIT-01", "SIT-1").replace("evidence: [X]\n", "")

    mistakes = told(folder(tmp_path, first, second))

    places = [mistake.split(": ")[:2] for mistake in mistakes]
    assert places == [
        ["rule-0.yaml:5", "condition.all.0.threshold.at_least"],
        ["rule-0.yaml:6", "condition.all.1.alarm"],
        ["rule-1.yaml:1", "id"],
        ["rule-1.yaml:1", "evidence"],
    ]


def test_a_rule_file_that_would_not_be_read_is_a_mistake(tmp_path: Path) -> None:
    """A file beside the families' folders, or with another ending, alerts nobody."""
    path = folder(tmp_path, TREE)
    (path / "stray.yaml").write_text(TREE)
    (path / "site" / "other.yml").write_text(TREE)

    errors = rulebook.survey(path).errors

    assert [error.path.name for error in errors] == ["other.yml", "stray.yaml"]


def test_an_example_that_does_not_hold_says_what_happened(tmp_path: Path) -> None:
    """The first difference, with the example's name."""
    wrong = TREE.replace("expect: []", "expect: [{at: PT0M, event: opened}]", 1)
    rules = rulebook.load(folder(tmp_path, wrong))

    said = [str(failure) for failure in failures(rules)]

    assert said == ["SIT-01: example 'one': expected at PT0S  opened, got nothing more"] * 3


def test_an_example_that_cannot_be_run_says_why(tmp_path: Path) -> None:
    """A report in it that no gateway could send."""
    wrong = TREE.replace("motor: running", "motor: asleep", 1)
    rules = rulebook.load(folder(tmp_path, wrong))

    said = [failure.reason for failure in failures(rules)]

    assert all(reason.startswith("ExampleError: report 0/motor") for reason in said)
    assert len(said) == 3


def test_the_schema_beside_the_rules_is_the_present_one() -> None:
    """Made by ``pumpwatch rules schema > alert_rules/schema.json``."""
    assert (ROOT / "alert_rules" / "schema.json").read_text() == rule_file.schema_text()


def test_the_schema_knows_the_keys_of_rule_files() -> None:
    """Of a file, of a node, and that a node is one thing."""
    schema = rule_file.json_schema()

    assert {"condition", "escalate", "clear", "examples"} <= schema["properties"].keys()
    assert {"required": ["threshold"]} in schema["$defs"]["Node"]["oneOf"]
    assert schema["$defs"]["Node"]["additionalProperties"] is False
    assert json.loads(rule_file.schema_text()) == schema


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ("{a: ", "}"), ("- ", "")])
def test_a_file_that_is_nested_without_end_is_refused(tmp_path: Path, opened: str, closed: str) -> None:
    """The reader in C has no guard of its own, and would take the process with it."""
    (tmp_path / "site").mkdir()
    file = tmp_path / "site" / "deep.yaml"
    file.write_text(opened * 200_000 + "1" + closed * 200_000)

    assert [str(error) for error in rulebook.survey(tmp_path).errors] == [f"{file}:1: nested too deeply"]
