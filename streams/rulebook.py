"""Loads ``alert_rules/`` and checks every file; a bad rule stops the start with the file, the line and the field."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails

from streams.domain.alert import Priority
from streams.domain.conditions import CONDITIONS
from streams.domain.profile import DrugName, Family
from streams.domain.rule import NOT_EVALUABLE, Finding, Named, Rule, RuleBook, Setting, Variant, View
from streams.domain.system import SYSTEM_CONDITIONS, SystemBook
from streams.domain.typed import Escalation, Modifiers, Node, TypedCondition, compiled
from streams.domain.typed.condition import NO_MODIFIERS
from streams.domain.typed.signals import Limit
from streams.domain.typed.tree import DEEPEST, KINDS

HAZARDS: Final = "hazards.yaml"
"""Beside the rules' folders: what rules are for; see `services.tracing`."""


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
    hazards: list[Annotated[str, Field(pattern=r"^HZ-\d{2}$")]] = []
    """Hazards of the rule that this example shows."""
    expect: list[Expectation]


class SystemExpectation(BaseModel):
    """One alert of the system that an example expects to open or clear; ``at`` is service time since its start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str
    event: Literal["opened", "cleared"]
    subject: str
    priority: Priority | None = None


class SystemExample(BaseModel):
    """A test of a rule that watches the system itself: what is observed one after the other, and what must follow."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    hazards: list[Annotated[str, Field(pattern=r"^HZ-\d{2}$")]] = []
    observations: list[dict[str, Any]]
    expect: list[SystemExpectation]


class SwitchExpectation(BaseModel):
    """One turn of the dead man's switch; ``at`` is the watchdog's time since the example's start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: str
    event: Literal["opened", "escalated", "cleared"]


class SwitchExample(BaseModel):
    """A test of the dead man's switch: when synthetic alarms came through, and how it must turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    hazards: list[Annotated[str, Field(pattern=r"^HZ-\d{2}$")]] = []
    passes: list[str]
    until: str
    expect: list[SwitchExpectation]


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


class EscalationEntry(BaseModel):
    """A higher priority, and what must hold beside the condition to reach it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    priority: Priority
    modifiers: Modifiers = NO_MODIFIERS
    when: Node


def _form(condition: object) -> str:
    return "tree" if isinstance(condition, (dict, Node)) else "name"


Name = Annotated[str, WithJsonSchema({"enum": sorted(CONDITIONS)})]
Condition = Annotated[Annotated[Name, Tag("name")] | Annotated[Node, Tag("tree")], Discriminator(_form)]


class RuleFile(BaseModel):
    """The keys of a rule file, in the order in which they are written.

    ``condition`` is the name of a condition in Python with its ``parameters``, or a tree of typed conditions; with a
    tree come ``priority``, ``modifiers``, ``escalate`` and ``clear``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[A-Z]{3}-\d{2}$")]
    title: Annotated[str, Field(min_length=3, max_length=80)]
    lives_in: Literal["worker", "notify", "watchdog"] = "worker"
    condition: Condition
    parameters: dict[str, int | float] = {}
    priority: Priority | None = None
    modifiers: Modifiers = NO_MODIFIERS
    escalate: Annotated[list[EscalationEntry], Field(max_length=4)] = []
    clear: Node | None = None
    variants: list[VariantEntry] = []
    settings: dict[str, SettingEntry] = {}
    judged_by: Literal["event_time", "arrival", "both"] = "event_time"
    latching: Literal[False] | Priority = False
    freezes: Literal["never", "delivery", "until_refill", "until_interrogation"] = "never"
    freezes_from: Priority = Priority.INFO
    child_of: list[str] = []
    ladder: Literal["H", "M", "L", "none"] | None = None
    message: str
    runbook: str = ""
    evidence: list[str]
    hazards: list[Annotated[str, Field(pattern=r"^HZ-\d{2}$")]] = []
    examples: Annotated[list[Example] | list[SystemExample] | list[SwitchExample], Field(min_length=3)]


@dataclass(frozen=True, slots=True)
class Survey:
    """What a folder of rule files holds: all its rules and no error, or no book and every error."""

    rules: RuleBook | None
    errors: tuple[RuleError, ...]


def load(path: Path, extra: Path | None = None) -> RuleBook:
    """Read every ``*.yaml`` in a folder of ``path`` into a rule book, parents before their children.

    Args:
        path: The folder with a folder for each family.
        extra: One more rule file, which takes the place of the rule with its id.

    Raises:
        RuleError: On the first file that cannot be used: bad YAML, an unknown field or condition, a second use of an
            id, an unknown parent, or parents in a circle.
    """
    found = survey(path, extra)
    if found.rules is None:
        raise found.errors[0]
    return found.rules


def survey(path: Path, extra: Path | None = None) -> Survey:
    """Read every ``*.yaml`` in a folder of ``path``, and find all that is wrong with any of them.

    Args:
        path: The folder with a folder for each family.
        extra: One more rule file, which takes the place of the rule with its id.
    """
    rules: dict[str, Rule] = {}
    files: dict[str, Path] = {}
    errors: list[RuleError] = [
        RuleError(file, 1, "", "a rule is a .yaml file in its family's folder") for file in _astray(path)
    ]
    for file in sorted(path.glob("*/*.yaml")):
        rule, wrong = _examined(file)
        errors.extend(wrong)
        if rule is None:
            continue
        if rule.id in rules:
            errors.append(RuleError(file, 1, "id", f"{rule.id} is already used by {files[rule.id]}"))
            continue
        rules[rule.id], files[rule.id] = rule, file
    if extra is not None:
        rule, wrong = _examined(extra)
        errors.extend(wrong)
        if rule is not None:
            rules[rule.id], files[rule.id] = rule, extra
    if not rules and not errors:
        errors.append(RuleError(path, 1, "", "no rule file found"))
    if not errors:
        errors.extend(_strangers(rules, files))
    if errors:
        return Survey(None, tuple(errors))
    try:
        # A rule is judged after those that it looks at, so that one round of judging is enough.
        before = {rule.id: sorted({*rule.child_of, *rule.follows} & rules.keys()) for rule in rules.values()}
        order = tuple(TopologicalSorter(before).static_order())
    except CycleError as error:
        return Survey(None, (RuleError(path, 1, "child_of", f"rules wait for each other: {error.args[1]}"),))
    return Survey(RuleBook(tuple(rules[rule_id] for rule_id in order)), ())


def _astray(path: Path) -> list[Path]:
    """Files that look like rules and would not be read; what is hidden (a mounted volume's versions) is not meant."""
    found = (file for ending in ("yaml", "yml") for file in path.rglob(f"*.{ending}"))
    shown = [
        file
        for file in found
        if file != path / HAZARDS and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    return sorted(file for file in shown if file.suffix == ".yml" or len(file.relative_to(path).parts) != 2)


def _strangers(rules: Mapping[str, Rule], files: Mapping[str, Path]) -> Iterator[RuleError]:
    for rule in rules.values():
        if unknown := set(rule.child_of) - set(rules):
            yield RuleError(files[rule.id], 1, "child_of", f"unknown rule {min(unknown)}")


def read(file: Path) -> Rule:
    """Read one rule file.

    Raises:
        RuleError: If the file cannot be used; the first thing that is wrong with it.
    """
    rule, errors = _examined(file)
    if rule is None:
        raise errors[0]
    return rule


def _examined(file: Path) -> tuple[Rule | None, list[RuleError]]:
    """The rule in a file, or everything that is wrong with it."""
    try:
        text = file.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        return None, [RuleError(file, line, "", f"not YAML: {getattr(error, 'problem', error)}")]
    except (OSError, UnicodeDecodeError) as error:
        return None, [RuleError(file, 1, "", f"cannot be read: {error}")]
    except RecursionError:
        return None, [RuleError(file, 1, "", "nested too deeply")]
    errors = [RuleError(file, line, key, "the same key again") for line, key in _repeated(node)]
    try:
        content = RuleFile.model_validate(document)
    except ValidationError as error:
        told = error.errors(include_url=False)
        # A list that lacks an element which cannot be used looks too short: only the element is wrong.
        causes = {entry["loc"][:length] for entry in told for length in range(1, len(entry["loc"]))}
        wrong = [entry for entry in told if not (entry["type"] == "too_short" and entry["loc"] in causes)]
        errors.extend(_alternatives([_told(file, node, entry) for entry in wrong]))
        return None, errors
    except RecursionError:
        return None, [*errors, RuleError(file, 1, "", "nested too deeply")]
    errors.extend(
        RuleError(file, _line(node, field), ".".join(field), reason) for field, reason in _contradictions(content)
    )
    if errors:
        return None, errors
    rule = _rule(content, hashlib.sha256(text.encode()).hexdigest()[:16])
    if reason := _bad_message(rule):
        return None, [RuleError(file, _line(node, ("message",)), "message", reason)]
    return rule, []


def _repeated(node: yaml.Node | None) -> Iterator[tuple[int, str]]:
    """Keys that stand twice in the same mapping: YAML would silently take the last one."""
    waiting, seen = [node], set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                waiting.append(value)
                if isinstance(key, yaml.ScalarNode):
                    if key.value in keys:
                        yield key.start_mark.line + 1, key.value
                    keys.add(key.value)


def _told(file: Path, node: yaml.Node | None, error: ErrorDetails) -> RuleError:
    """One of pydantic's errors in the words of a rule file."""
    # The tags say which of the two forms of a condition was meant; they stand in no file.
    path = [part for place, part in enumerate(error["loc"]) if not (place == 1 and part in ("tree", "name"))]
    if path and path[-1] in ("bool", "str", "int", "float"):
        path.pop()
    kind, found = error["type"], error["input"]
    reason = error["msg"].removeprefix("Value error, ")
    if kind == "missing":
        reason = "field is required"
    elif kind in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _known_keys(json_schema(), path[:-1])
        reason = f"unknown key; expected one of {', '.join(known)}" if known else "unknown key"
    elif isinstance(found, (str, int, float)):
        reason = f"{reason}, not {found!r:.60}"
    return RuleError(file, _line(node, path), ".".join(map(str, path)), reason)


def _alternatives(errors: Sequence[RuleError]) -> list[RuleError]:
    """One error for a field that may be of several types and is of none of them."""
    joined: list[RuleError] = []
    for error in errors:
        before = joined[-1] if joined else None
        if before is not None and (before.line, before.field) == (error.line, error.field):
            either = before.reason.partition(", not ")[0]
            reason = f"{either} or {error.reason.removeprefix('Input should be ')}"
            joined[-1] = RuleError(error.path, error.line, error.field, reason)
        else:
            joined.append(error)
    return joined


def _known_keys(schema: Mapping[str, Any], path: Sequence[int | str]) -> list[str]:
    """The keys that a mapping at ``path`` may have, by the schema."""
    places = [schema]
    for part in [*path, None]:
        open_places = [*places]
        places = []
        while open_places:
            place = open_places.pop()
            if "$ref" in place:
                open_places.append(schema["$defs"][place["$ref"].rpartition("/")[2]])
            open_places.extend(place.get("anyOf", ()))
            open_places.extend(place.get("oneOf", ()) if "properties" not in place else ())
            if part is None:
                places.append(place)
            elif isinstance(part, int):
                places.extend([place["items"]] if "items" in place else [])
            elif part in place.get("properties", {}):
                places.append(place["properties"][part])
    return [name for place in places for name in place.get("properties", {})]


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a rule file."""
    schema = RuleFile.model_json_schema()
    schema["$defs"]["Node"]["oneOf"] = [{"required": [kind]} for kind in KINDS]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Pumpwatch alert rule"}


def schema_text() -> str:
    """The schema as it is kept beside the rules."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


Place = tuple[str, ...]


def _contradictions(content: RuleFile) -> Iterator[tuple[Place, str]]:
    """What fits the schema and still makes no rule."""
    if isinstance(content.condition, str):
        yield from _about_named(content, content.condition)
    else:
        yield from _about_tree(content, content.condition)
    try:
        fields = [field for _, field, _, _ in Formatter().parse(content.message) if field is not None]
    except ValueError as error:
        yield ("message",), str(error)
        return
    for field in fields:
        if not field.isidentifier():
            yield ("message",), f"{{{field}}} is not a plain name"


def _about_named(content: RuleFile, name: str) -> Iterator[tuple[Place, str]]:
    conditions = _CONDITIONS[content.lives_in]
    if name not in conditions:
        yield ("condition",), f"unknown; expected a tree or one of {', '.join(sorted(conditions))}"
    if "parameters" not in content.model_fields_set:
        yield ("parameters",), "field is required with a named condition; {} where it has none"
    for key in ("priority", "modifiers", "escalate", "clear"):
        if key in content.model_fields_set:
            yield (key,), "only with a tree of typed conditions: a named condition has steps of its own"


def _about_tree(content: RuleFile, tree: Node) -> Iterator[tuple[Place, str]]:
    yield from _about_parameters(content, tree)
    for key, needed in (("lives_in", "worker"), ("judged_by", "event_time")):
        if getattr(content, key) != needed:
            yield (key,), f"expected {needed}: a tree is judged by what pumps report"
    if content.priority is None:
        yield ("priority",), "field is required with a tree of typed conditions"
    for index, entry in enumerate(content.escalate):
        if content.priority is not None and entry.priority.rank <= content.priority.rank:
            yield ("escalate", str(index), "priority"), f"expected a priority above {content.priority}"
    for key, one in _trees(content, tree):
        if one.depth > DEEPEST:
            yield (key,), f"expected at most {DEEPEST} nodes above each other"


def _about_parameters(content: RuleFile, tree: Node) -> Iterator[tuple[Place, str]]:
    """Whether leaves, variants and settings name the parameters that there are, and numbers that fit."""
    names = content.parameters.keys()
    expected = f"expected one of {', '.join(sorted(names))}" if names else "the file has no parameters"
    for index, variant in enumerate(content.variants):
        for name in sorted(variant.parameters.keys() - names):
            yield ("variants", str(index), "parameters", name), f"unknown parameter; {expected}"
    for name in sorted(content.settings.keys() - names):
        yield ("settings", name), f"unknown parameter; {expected}"
    used: set[str] = set()
    for place, leaf in _limits(content, tree):
        used.update(leaf.parameters)
        if unknown := sorted(set(leaf.parameters) - names):
            yield place, f"unknown parameter {unknown[0]}; {expected}"
            continue
        for numbers in (content.parameters, *(content.parameters | variant.parameters for variant in content.variants)):
            try:
                Limit.given(leaf, numbers)
            except ValueError as error:
                yield place, str(error)
    for name in sorted(names - used):
        yield ("parameters", name), "no leaf names it"


def _limits(content: RuleFile, tree: Node) -> Iterator[tuple[Place, Limit]]:
    """Every leaf with a limit, and its place in the file."""
    yield from _limits_below(("condition",), tree)
    for index, entry in enumerate(content.escalate):
        yield from _limits_below(("escalate", str(index), "when"), entry.when)
    if content.clear is not None:
        yield from _limits_below(("clear",), content.clear)


def _limits_below(place: Place, node: Node) -> Iterator[tuple[Place, Limit]]:
    leaf = node.of_kind(node.kind)
    if isinstance(leaf, Limit):
        yield (*place, node.kind), leaf
    for index, child in enumerate(node.children):
        step = (node.kind,) if node.kind == "not" else (node.kind, str(index))
        yield from _limits_below((*place, *step), child)


def _trees(content: RuleFile, tree: Node) -> Iterator[tuple[str, Node]]:
    yield "condition", tree
    for entry in content.escalate:
        yield "escalate", entry.when
    if content.clear is not None:
        yield "clear", content.clear


def _bad_message(rule: Rule) -> str | None:
    """What is wrong with the message's placeholders, where the condition says which there are."""
    condition = rule.condition
    if not isinstance(condition, TypedCondition) or condition.names is None:
        return None
    for _, field, _, _ in Formatter().parse(rule.message):
        if field is not None and field not in condition.names:
            return f"{{{field}}} is unknown; expected one of {', '.join(sorted(condition.names))}"
    return None


_CONDITIONS: Final[Mapping[str, Iterable[str]]] = {
    "worker": CONDITIONS,
    "notify": SYSTEM_CONDITIONS,
    "watchdog": ("system.no_pass_for",),
}
"""By where a rule lives, the conditions that are judged there."""


def _not_judged_here(_: View, __: Rule) -> Finding:
    return NOT_EVALUABLE


_ELSEWHERE: Final = Named(_not_judged_here, reads=())


def _rule(content: RuleFile, content_hash: str) -> Rule:
    rule = Rule(
        id=content.id,
        title=content.title,
        condition=_not_judged_here,
        parameters=content.parameters,
        latching=content.latching or None,
        freezes=content.freezes,
        freezes_from=content.freezes_from,
        child_of=tuple(content.child_of),
        ladder=content.ladder,
        message=content.message,
        evidence=tuple(content.evidence),
        content_hash=content_hash,
        judged_by=content.judged_by,
        variants=tuple(_variant(entry) for entry in content.variants),
        settings={name: Setting(entry.tighter, entry.loosest) for name, entry in content.settings.items()},
        hazards=tuple(content.hazards),
        runbook=content.runbook,
        lives_in=content.lives_in,
        examples=tuple(example.model_dump() for example in content.examples),
    )
    if isinstance(content.condition, str):
        named = CONDITIONS[content.condition] if content.lives_in == "worker" else _ELSEWHERE
        return replace(
            rule,
            condition=named.judge,
            condition_name=content.condition,
            reads=named.reads,
            follows=named.follows,
        )
    condition = _typed(content, content.condition, rule)
    return replace(
        rule,
        condition=condition,
        reads=condition.reads,
        follows=condition.follows,
        operators=condition.operators,
    )


def _typed(content: RuleFile, tree: Node, rule: Rule) -> TypedCondition:
    """The condition that a tree describes."""
    return TypedCondition(
        compiled(tree, rule, "condition"),
        content.priority or Priority.HIGH,
        content.modifiers,
        [
            Escalation(entry.priority, entry.modifiers, compiled(entry.when, rule, f"escalate.{index}"))
            for index, entry in enumerate(content.escalate)
        ],
        compiled(content.clear, rule, "clear") if content.clear is not None else None,
    )


def _variant(entry: VariantEntry) -> Variant:
    withdrawal = int(entry.withdrawal[1:]) if entry.withdrawal is not None else None
    return Variant(entry.parameters, entry.drug, entry.family, withdrawal, entry.high_risk)


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
    if isinstance(node, yaml.SequenceNode) and str(part).isdigit() and int(part) < len(node.value):
        return node.value[int(part)], node.value[int(part)].start_mark.line + 1
    return None, None


def examples(rules: RuleBook) -> Iterator[tuple[Rule, Mapping[str, Any]]]:
    """Every example of every rule."""
    for rule in rules:
        for example in rule.examples:
            yield rule, example


def system_book(rules: RuleBook, now: datetime) -> SystemBook:
    """The rules that live in notify, ready to judge from ``now`` on (service time, aware UTC)."""
    here = [rule for rule in rules if rule.lives_in == "notify"]
    return SystemBook([(rule, SYSTEM_CONDITIONS[rule.condition_name]) for rule in here], now)
