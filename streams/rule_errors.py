"""What is wrong with a rule file, told with the file, the line, the field and what was expected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from streams.rule_file import json_schema


class RuleError(ValueError):
    """A rule file cannot be used."""

    def __init__(self, path: Path, line: int, field: str, reason: str) -> None:
        super().__init__(f"{path}:{line}: {field}: {reason}" if field else f"{path}:{line}: {reason}")
        self.path, self.line, self.field, self.reason = path, line, field, reason


def refused(file: Path, node: yaml.Node | None, error: ValidationError) -> list[RuleError]:
    """What pydantic found, in the words of a rule file."""
    told = error.errors(include_url=False)
    # A list that lacks an element which cannot be used looks too short: only the element is wrong.
    causes = {entry["loc"][:length] for entry in told for length in range(1, len(entry["loc"]))}
    wrong = [entry for entry in told if not (entry["type"] == "too_short" and entry["loc"] in causes)]
    return _alternatives([_told(file, node, entry) for entry in wrong])


def repeated(node: yaml.Node | None) -> Iterator[tuple[int, str]]:
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


def line_of(node: yaml.Node | None, path: Sequence[int | str]) -> int:
    """The line on which the innermost known part of ``path`` stands."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in path:
        node, found = _child(node, part)
        if found is None:
            break
        line = found
    return line


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
    return RuleError(file, line_of(node, path), ".".join(map(str, path)), reason)


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


def _child(node: yaml.Node | None, part: int | str) -> tuple[yaml.Node | None, int | None]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and str(part).isdigit() and int(part) < len(node.value):
        return node.value[int(part)], node.value[int(part)].start_mark.line + 1
    return None, None
