"""Loads ``alert_rules/`` and checks every file; a bad rule stops the start with the file, the line and the field."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from streams import rule_checks, rule_errors
from streams.domain.alert import Priority
from streams.domain.conditions import CONDITIONS
from streams.domain.rule import FEVER_RULE, NOT_EVALUABLE, Finding, Named, Rule, RuleBook, Setting, Variant, View
from streams.domain.system import SYSTEM_CONDITIONS, SystemBook
from streams.domain.typed import Escalation, Node, TypedCondition, compiled
from streams.rule_errors import RuleError
from streams.rule_file import RuleFile, VariantEntry

_YAML: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader in C where the platform's wheel has it: rules are read at each start, ten times as fast."""
_DEEPEST: Final = 100
"""Mappings and lists within each other; rules need a dozen."""
HAZARDS: Final = "hazards.yaml"
"""Beside the rules' folders: what rules are for; see `services.tracing`."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a folder of rule files holds: all its rules and no error, or no book and every error."""

    rules: RuleBook | None
    errors: tuple[RuleError, ...]


def load(path: Path, extra: Path | None = None, needs: Collection[str] = ()) -> RuleBook:
    """Read every ``*.yaml`` in a folder of ``path`` into a rule book, parents before their children.

    Args:
        path: The folder with a folder for each family.
        extra: One more rule file, which takes the place of the rule with its id.
        needs: Ids of rules that have to be there.

    Raises:
        RuleError: On the first file that cannot be used: bad YAML, an unknown field or condition, a second use of an
            id, an unknown parent, or parents in a circle; and where a rule of ``needs`` is not there.
    """
    found = survey(path, extra, needs)
    if found.rules is None:
        raise found.errors[0]
    return found.rules


def survey(path: Path, extra: Path | None = None, needs: Collection[str] = ()) -> Survey:
    """Read every ``*.yaml`` in a folder of ``path``, and find all that is wrong with any of them.

    Args:
        path: The folder with a folder for each family.
        extra: One more rule file, which takes the place of the rule with its id.
        needs: Ids of rules that have to be there.
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
        lacking = sorted(set(needs) - rules.keys())
        errors.extend(RuleError(path, 1, "id", f"no file has {rule_id}, which has to be there") for rule_id in lacking)
    return Survey(None, tuple(errors)) if errors else _ordered(rules, path)


def _ordered(rules: Mapping[str, Rule], path: Path) -> Survey:
    """A rule is judged after those that it looks at, so that one round of judging is enough."""
    try:
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


def _check_depth(text: str) -> None:
    """Composing goes as deep as the text, in C without a guard of its own: a file too deep would end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_YAML):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                raise RecursionError
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _examined(file: Path) -> tuple[Rule | None, list[RuleError]]:
    """The rule in a file, or everything that is wrong with it."""
    try:
        text = file.read_text(encoding="utf-8")
        _check_depth(text)
        node = yaml.compose(text, Loader=_YAML)
        document = yaml.load(text, Loader=_YAML)  # noqa: S506 - both are safe loaders
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        return None, [RuleError(file, line, "", f"not YAML: {getattr(error, 'problem', error)}")]
    except (OSError, UnicodeDecodeError) as error:
        return None, [RuleError(file, 1, "", f"cannot be read: {error}")]
    except RecursionError:
        return None, [RuleError(file, 1, "", "nested too deeply")]
    errors = [RuleError(file, line, key, "the same key again") for line, key in rule_errors.repeated(node)]
    try:
        content = RuleFile.model_validate(document)
    except ValidationError as error:
        return None, [*errors, *rule_errors.refused(file, node, error)]
    except RecursionError:
        return None, [*errors, RuleError(file, 1, "", "nested too deeply")]
    errors.extend(
        RuleError(file, rule_errors.line_of(node, field), ".".join(field), reason)
        for field, reason in rule_checks.contradictions(content)
    )
    if errors:
        return None, errors
    rule = _rule(content, hashlib.sha256(text.encode()).hexdigest()[:16])
    if reason := rule_checks.bad_message(rule):
        return None, [RuleError(file, rule_errors.line_of(node, ("message",)), "message", reason)]
    return rule, []


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
    warned = (FEVER_RULE,) if rule.advanced_by_fever else ()
    if isinstance(content.condition, str):
        named = CONDITIONS[content.condition] if content.lives_in == "worker" else _ELSEWHERE
        return replace(
            rule,
            condition=named.judge,
            condition_name=content.condition,
            reads=named.reads,
            follows=(*named.follows, *warned),
        )
    condition = _typed(content, content.condition, rule)
    return replace(
        rule,
        condition=condition,
        reads=condition.reads,
        follows=(*condition.follows, *warned),
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


def examples(rules: RuleBook) -> Iterator[tuple[Rule, Mapping[str, Any]]]:
    """Every example of every rule."""
    for rule in rules:
        for example in rule.examples:
            yield rule, example


def system_book(rules: RuleBook, now: datetime) -> SystemBook:
    """The rules that live in notify, ready to judge from ``now`` on (service time, aware UTC)."""
    here = [rule for rule in rules if rule.lives_in == "notify"]
    return SystemBook([(rule, SYSTEM_CONDITIONS[rule.condition_name]) for rule in here], now)
