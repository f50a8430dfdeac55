"""Loads ``alert_rules/`` and checks every file; a bad rule stops the start with the file, the line and the field."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streams.domain.alert import Priority
from streams.domain.conditions import CONDITIONS
from streams.domain.profile import DrugName, Family
from streams.domain.rule import Rule, RuleBook, Setting, Variant


class RuleError(ValueError):
    """A rule file cannot be used."""

    def __init__(self, path: Path, line: int, field: str, reason: str) -> None:
        super().__init__(f"{path}:{line}: {field}: {reason}" if field else f"{path}:{line}: {reason}")
        self.path, self.line, self.field, self.reason = path, line, field, reason


class Expectation(BaseModel):
    """One alert event that an example expects of its rule; ``at`` is its effective time since the example's start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str
    event: Literal["opened", "escalated", "recurred", "re_raised", "cleared", "resolved", "amended", "retracted"]
    priority: Priority | None = None
    reason: str | None = None
    recorded: str | None = None


class Example(BaseModel):
    """A rule's own test: what pumps and people do, and what the rule must make of it. Durations are ISO 8601."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    profile: dict[str, Any] | None = {}
    profiles: list[dict[str, Any]] = []
    """Later versions: changed keys, and ``from``, the offset from which they count."""
    care: list[dict[str, Any]] = []
    """Care records; ``from`` and ``until`` are offsets."""
    time_zone: str = "UTC"
    reports: list[dict[str, Any]]
    resolve: list[str] = []
    until: str
    expect: list[Expectation]


class VariantEntry(BaseModel):
    """Other parameters for some pumps: all that is given must fit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    drug: DrugName | None = None
    family: Family | None = None
    withdrawal: Literal["w1", "w2", "w3"] | None = None
    high_risk: bool | None = None
    parameters: Annotated[dict[str, int | float], Field(min_length=1)]


class SettingEntry(BaseModel):
    """How far a patient's own value of a parameter may go; see `streams.domain.rule.Setting`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tighter: Literal["higher", "lower"]
    loosest: float


class RuleFile(BaseModel):
    """The keys of a rule file, in the order in which they are written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[A-Z]{3}-\d{2}$")]
    title: Annotated[str, Field(min_length=3, max_length=80)]
    condition: str
    parameters: dict[str, int | float]
    variants: list[VariantEntry] = []
    settings: dict[str, SettingEntry] = {}
    judged_by: Literal["event_time", "arrival", "both"] = "event_time"
    latching: Literal[False] | Priority = False
    freezes: Literal["never", "delivery", "until_refill"] = "never"
    freezes_from: Priority = Priority.INFO
    child_of: list[str] = []
    message: str
    runbook: str = ""
    evidence: list[str]
    hazards: list[Annotated[str, Field(pattern=r"^HZ-\d{2}$")]] = []
    examples: Annotated[list[Example], Field(min_length=3)]


def load(path: Path) -> RuleBook:
    """Read every ``*.yaml`` below ``path`` into a rule book, parents before their children.

    Raises:
        RuleError: On the first file that cannot be used: bad YAML, an unknown field or condition, a second use of an
            id, an unknown parent, or parents in a circle.
    """
    rules: dict[str, Rule] = {}
    files: dict[str, Path] = {}
    for file in sorted(path.glob("*/*.yaml")):
        rule = read(file)
        if rule.id in rules:
            raise RuleError(file, 1, "id", f"{rule.id} is already used by {files[rule.id]}")
        rules[rule.id], files[rule.id] = rule, file
    if not rules:
        raise RuleError(path, 1, "", "no rule file found")
    for rule in rules.values():
        if unknown := set(rule.child_of) - set(rules):
            raise RuleError(files[rule.id], 1, "child_of", f"unknown rule {min(unknown)}")
    try:
        # A rule is judged after those that it looks at, so that one round of judging is enough.
        before = {rule.id: sorted({*rule.child_of, *rule.follows} & rules.keys()) for rule in rules.values()}
        order = TopologicalSorter(before).static_order()
        return RuleBook(tuple(rules[rule_id] for rule_id in order))
    except CycleError as error:
        raise RuleError(path, 1, "child_of", f"rules wait for each other: {error.args[1]}") from error


def read(file: Path) -> Rule:
    """Read one rule file.

    Raises:
        RuleError: If the file cannot be used.
    """
    text = file.read_text(encoding="utf-8")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise RuleError(file, line, "", f"not YAML: {getattr(error, 'problem', error)}") from error
    try:
        content = RuleFile.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RuleError(file, _line(node, first["loc"]), ".".join(map(str, first["loc"])), first["msg"]) from error
    if content.condition not in CONDITIONS:
        known = ", ".join(sorted(CONDITIONS))
        raise RuleError(file, _line(node, ("condition",)), "condition", f"unknown; expected one of {known}")
    _check_message(file, node, content.message)
    return _rule(content, hashlib.sha256(text.encode()).hexdigest()[:16])


def _rule(content: RuleFile, content_hash: str) -> Rule:
    named = CONDITIONS[content.condition]
    return Rule(
        id=content.id,
        title=content.title,
        condition=named.judge,
        reads=named.reads,
        follows=named.follows,
        parameters=content.parameters,
        latching=content.latching or None,
        freezes=content.freezes,
        freezes_from=content.freezes_from,
        child_of=tuple(content.child_of),
        message=content.message,
        evidence=tuple(content.evidence),
        content_hash=content_hash,
        judged_by=content.judged_by,
        variants=tuple(_variant(entry) for entry in content.variants),
        settings={name: Setting(entry.tighter, entry.loosest) for name, entry in content.settings.items()},
        hazards=tuple(content.hazards),
        runbook=content.runbook,
        examples=tuple(example.model_dump() for example in content.examples),
    )


def _variant(entry: VariantEntry) -> Variant:
    withdrawal = int(entry.withdrawal[1:]) if entry.withdrawal is not None else None
    return Variant(entry.parameters, entry.drug, entry.family, withdrawal, entry.high_risk)


def _check_message(file: Path, node: yaml.Node | None, message: str) -> None:
    try:
        fields = [field for _, field, _, _ in Formatter().parse(message) if field is not None]
    except ValueError as error:
        raise RuleError(file, _line(node, ("message",)), "message", str(error)) from error
    if bad := [field for field in fields if not field.isidentifier()]:
        raise RuleError(file, _line(node, ("message",)), "message", f"{{{bad[0]}}} is not a plain name")


def _line(node: yaml.Node | None, path: Sequence[int | str]) -> int:
    """The line on which the innermost known part of ``path`` stands."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in path:
        node, found = _child(node, part)
        if found is None:
            break
        line = found
    return line


def _child(node: yaml.Node | None, part: int | str) -> tuple[yaml.Node | None, int | None]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None, None


def examples(rules: RuleBook) -> Iterator[tuple[Rule, Mapping[str, Any]]]:
    """Every example of every rule."""
    for rule in rules:
        for example in rule.examples:
            yield rule, example
