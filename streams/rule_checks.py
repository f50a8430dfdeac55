"""What fits the form of a rule file and still makes no rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from string import Formatter
from typing import Final

from streams.domain.conditions import CONDITIONS
from streams.domain.rule import Rule
from streams.domain.system import SYSTEM_CONDITIONS
from streams.domain.typed import Node, TypedCondition
from streams.domain.typed.signals import Limit
from streams.domain.typed.tree import DEEPEST
from streams.rule_file import RuleFile

Place = tuple[str, ...]
"""Keys and indices, from the file's top down to a field."""
_CONDITIONS: Final[Mapping[str, Iterable[str]]] = {
    "worker": CONDITIONS,
    "notify": SYSTEM_CONDITIONS,
    "watchdog": ("system.no_pass_for",),
}
"""By where a rule lives, the conditions that are judged there."""


def contradictions(content: RuleFile) -> Iterator[tuple[Place, str]]:
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


def bad_message(rule: Rule) -> str | None:
    """What is wrong with the message's placeholders, where the condition says which there are."""
    condition = rule.condition
    if not isinstance(condition, TypedCondition) or condition.names is None:
        return None
    for _, field, _, _ in Formatter().parse(rule.message):
        if field is not None and field not in condition.names:
            return f"{{{field}}} is unknown; expected one of {', '.join(sorted(condition.names))}"
    return None


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
