"""What the alerts of the rules' examples say to people; ``python -m tests.rules.wording`` writes it down anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from streams.domain.alert import AlertEvent
from streams.domain.rule import Rule, RuleBook
from streams.rehearsal import moment, offset_of, profiles_of, received_of, rehearse
from tests.shipped import RULES

FILE: Final = Path(__file__).with_name("wording.txt")
TOLD: Final = tuple(rule for rule in RULES if rule.lives_in == "worker")
"""The rules whose examples tell a pump's story; those of the system itself tell none."""


def section(rule: Rule, rules: RuleBook) -> str:
    """What a rule's alerts say in each of its examples."""
    return "\n".join([rule.id, *(line for example in rule.examples for line in _lines(rule, example, rules))])


def _lines(rule: Rule, example: Mapping[str, Any], rules: RuleBook) -> Iterator[str]:
    reports = [received_of(entry, number) for number, entry in enumerate(example["reports"])]
    resolutions = [(moment(offset), rule.id) for offset in example["resolve"]]
    known = profiles_of(example["profile"], example["profiles"], example["care"], ZoneInfo(example["time_zone"]))
    world, told = rehearse(reports, known, rules, moment(example["until"]), resolutions)
    parents = {record.alert_id: record.rule_id for record in world.ledger}
    yield f"  {example['name']}"
    for one in told:
        if one.event.alert.rule_id == rule.id:
            yield f"    {_said(one.event, parents)}"


def _said(event: AlertEvent, parents: Mapping[UUID, str]) -> str:
    """When and what; then only what is not as usual."""
    alert = event.alert
    words = [f"{offset_of(event.effective_at)} {event.kind} {alert.priority}"]
    if alert.latched:
        words.append("waits for a person")
    if alert.parent_id is not None:
        words.append(f"under {parents[alert.parent_id]}")
    if alert.physician_by is not None:
        words.append(f"physician by {offset_of(alert.physician_by)}")
    if alert.start_step:
        words.append(f"from step {alert.start_step}")
    return f"{', '.join(words)}: {alert.message}"


if __name__ == "__main__":
    FILE.write_text("\n\n".join(section(rule, RULES) for rule in TOLD) + "\n", "utf-8")
