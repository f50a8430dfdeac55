"""Every example in every rule file is a test of the production engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from streams.domain.rule import Rule
from streams.rehearsal import Recorded, moment, profiles_of, received_of, rehearse
from streams.rulebook import examples, load

RULES = load(Path(__file__).parents[2] / "alert_rules")


@pytest.mark.parametrize(
    ("rule", "example"),
    [pytest.param(rule, example, id=f"{rule.id}: {example['name']}") for rule, example in examples(RULES)],
)
def test_rule_example(rule: Rule, example: Mapping[str, Any]) -> None:
    """The rule does what its file says it does."""
    reports = [received_of(entry, number) for number, entry in enumerate(example["reports"])]
    resolutions = [(moment(offset), rule.id) for offset in example["resolve"]]
    known = profiles_of(example["profile"], example["profiles"], example["care"], ZoneInfo(example["time_zone"]))

    _, told = rehearse(reports, known, RULES, moment(example["until"]), resolutions)

    got = [recorded for recorded in told if recorded.event.alert.rule_id == rule.id]
    expected = example["expect"]
    if not any(fact["event"] == "amended" for fact in expected):
        got = [recorded for recorded in got if recorded.event.kind != "amended"]
    assert [_as_expected(recorded, fact) for recorded, fact in zip(got, expected, strict=False)] == expected
    assert len(got) == len(expected), got[len(expected) :]


def _as_expected(recorded: Recorded, fact: Mapping[str, Any]) -> dict[str, Any]:
    """What happened, told with the words that the expectation uses."""
    event = recorded.event
    at = fact["at"] if moment(fact["at"]) == event.effective_at else event.effective_at.isoformat()
    known = fact["recorded"]
    return {
        "at": at,
        "event": event.kind.value,
        "priority": event.alert.priority if fact["priority"] is not None else None,
        "reason": str(event.reason) if fact["reason"] is not None else None,
        "recorded": known
        if known is None or moment(known) == recorded.recorded_at
        else recorded.recorded_at.isoformat(),
    }
