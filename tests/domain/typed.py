"""Typed rules for tests, written as a rule file writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import yaml
from pydantic import TypeAdapter

from streams.domain.alert import Priority
from streams.domain.care import CareKind, CareRecord
from streams.domain.profile import ProfileHistory
from streams.domain.rule import NOT_EVALUABLE, Finding, Rule, Setting, Variant, View
from streams.domain.telemetry import PumpId, Report
from streams.domain.typed import Escalation, Modifiers, Node, TypedCondition, compiled
from streams.domain.typed.condition import NO_MODIFIERS
from streams.rehearsal import START, profiles_of

_NODE: TypeAdapter[Node] = TypeAdapter(Node)


def node(text: str | Mapping[str, Any]) -> Node:
    """The node that a piece of YAML says."""
    return _NODE.validate_python(yaml.safe_load(text) if isinstance(text, str) else text)


def typed_rule(
    text: str,
    *,
    rule_id: str = "TST-01",
    priority: Priority = Priority.LOW,
    modifiers: Modifiers = NO_MODIFIERS,
    escalate: Sequence[tuple[Priority, str]] = (),
    clear: str | None = None,
    **more: Any,
) -> Rule:
    """A rule whose condition is the tree in ``text``; ``more`` are other fields of the rule."""
    rule = Rule(
        id=rule_id,
        title="a typed rule",
        condition=_none,
        parameters={},
        latching=None,
        freezes="never",
        child_of=(),
        message="since {since}",
        evidence=(),
        content_hash=f"{rule_id} {text} {clear} {escalate}",
        judged_by="event_time",
    )
    rule = replace(rule, **more)
    steps = [
        Escalation(step, NO_MODIFIERS, compiled(node(when), rule, f"escalate.{index}"))
        for index, (step, when) in enumerate(escalate)
    ]
    end = compiled(node(clear), rule, "clear") if clear is not None else None
    condition = TypedCondition(compiled(node(text), rule, "condition"), priority, modifiers, steps, end)
    return replace(
        rule,
        condition=condition,
        reads=condition.reads,
        follows=condition.follows,
        operators=condition.operators,
    )


def _none(_: View, __: Rule) -> Finding:
    return NOT_EVALUABLE


TREES: Mapping[str, str] = {
    "hold": "threshold: {signal: reservoir_estimated_ml, at_most: 3.5, hold: PT30M, clear: 5.0, clear_hold: PT15M}",
    "consecutive": "threshold: {signal: temperature_celsius, at_least: 39.0, consecutive: 2}",
    "word": "{says: {signal: motor, one_of: [stalled, stopped]}, hold: PT1H}",
    "rate": "rate: {signal: reservoir_estimated_ml, window: PT1H, per: hour, at_most: -0.5}",
    "ratio": """
        ratio: {of: volume_delivered_ml, to: volume_programmed_ml, window: PT15M, above: 1.5, windows: 2}""",
    "volume": """
        ratio:
          of: volume_delivered_ml
          to: volume_programmed_ml
          volume: {ml: 0.5, least: PT15M, most: PT6H}
          below: 0.9""",
    "count": "count: {emi: [strong, mri], at_least: 2, within: PT6H}",
    "alarms": "count: {alarm: low_reservoir, at_least: 2, within: P1D}",
    "stalls": "count: {event: {type: stall_started}, at_least: 2, within: PT12H}",
    "alarm": "alarm: elective_replacement",
    "event": "event: {type: interrogation, where: {result: failed}, lasts: PT2H, until: {type: refill}}",
    "until": "event: {type: mri_start, until: {type: mri_end}}",
    "absence": "absence: {signal: reservoir_measured_ml, lasts: PT1H}",
    "deadline": "deadline: {after: {type: mri_end}, within: PT30M, unless: {type: interrogation}}",
    "program": "predicted: {signal: reservoir_estimated_ml, reaches: 0.5, within: P10D, by: program, allowance: 1.145}",
    "level": "predicted: {signal: reservoir_estimated_ml, reaches: 0.5, within: P1D, by: level, window: PT1H}",
    "cusum": "cusum: {of: volume_delivered_ml, to: volume_programmed_ml, baseline_days: 3, h: 1.0, least_ml: 0.01}",
    "all": """
        all:
          - any:
              - alarm: low_reservoir
              - named: reservoir.at_most
                parameters: {consecutive_reports: 1, clear_margin_ml: 1.0, urgent_within_hours: 48}
          - not: {event: {type: refill, lasts: PT6H}}""",
    "quiet": "not: {count: {emi: [strong, mri], at_least: 1, within: PT12H}}",
    "neither": "{all: [{not: {says: {signal: motor, one_of: [running]}}}, {not: {alarm: motor_stall}}], hold: PT15M}",
}
"""A tree for each leaf and each combinator, over what the made-up lives say."""


def typed_rules() -> tuple[Rule, ...]:
    """A rule for each of `TREES`, and some that climb, latch, or wait for something to end."""
    plain = [typed_rule(tree, rule_id=f"TYP-{number:02}") for number, tree in enumerate(TREES.values())]
    climbing = typed_rule(
        TREES["word"],
        rule_id="TYP-91",
        priority=Priority.INFO,
        escalate=[(Priority.MEDIUM, TREES["hold"]), (Priority.HIGH, TREES["deadline"])],
        latching=Priority.HIGH,
    )
    waiting = typed_rule(
        TREES["hold"],
        rule_id="TYP-92",
        modifiers=Modifiers(w3_or_high_risk=Priority.MEDIUM),
        clear="event: {type: refill, lasts: P7D}",
    )
    quiet = typed_rule(TREES["count"], rule_id="TYP-93", clear=TREES["quiet"])
    return (*plain, climbing, waiting, quiet, settable())


def settable(celsius: float = 39.0) -> Rule:
    """A rule whose limit is a parameter: 39 °C, 41 with ziconotide, and for one patient anything up to 40."""
    return typed_rule(
        "threshold: {signal: temperature_celsius, at_least: {parameter: celsius}, clear: 37.5}",
        rule_id="TYP-94",
        parameters={"celsius": celsius},
        variants=(Variant({"celsius": 41.0}, drug="ziconotide"),),
        settings={"celsius": Setting("lower", 40.0)},
    )


def set_for_one(value: float, valid_from: datetime, valid_until: datetime | None = None) -> ProfileHistory:
    """What is known of a pump whose patient has a limit of its own in `settable`."""
    record = CareRecord(
        care_id="S-1",
        pump_id="P-1",
        kind=CareKind.SETTING,
        valid_from=valid_from,
        valid_until=valid_until,
        person="ada",
        reason="made up",
        rule_id="TYP-94",
        parameter="celsius",
        value=value,
    )
    return ProfileHistory(profiles_of({}).versions, (record,))


def report_of(at: datetime = START, boot_id: int = 1, **said: Any) -> Report:
    """A report of one pump with these measurements."""
    return Report(
        schema_version=1,
        pump_id=PumpId("EX-1"),
        boot_id=boot_id,
        seq=1,
        event_time=at,
        gateway_id="GW-1",
        gateway_time=at,
        **said,
    )
