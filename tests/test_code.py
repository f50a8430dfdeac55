"""What no linter checks of our own code."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

from streams.domain.alert import Reason

ROOT: Final = Path(__file__).parents[1]
MOST_LINES: Final = 40
REASON: Final = "# Longer than forty lines: "


def _functions(path: Path) -> list[tuple[str, int, str]]:
    """Name, number of lines and the line above, of every function in a file."""
    source = path.read_text("utf-8")
    lines = source.splitlines()
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            above = lines[first - 2].strip() if first > 1 else ""
            found.append((f"{path.relative_to(ROOT)}: {node.name}", (node.end_lineno or 0) - node.lineno + 1, above))
    return found


def test_a_long_function_says_why_it_is_long() -> None:
    """Whatever needs more than forty lines is a table, or gives its reason in the comment above it."""
    files = [path for folder in ("services", "streams", "tests") for path in (ROOT / folder).rglob("*.py")]
    functions = [function for path in files for function in _functions(path)]

    assert len(functions) > 1_000
    assert [name for name, lines, above in functions if lines > MOST_LINES and not above.startswith(REASON)] == []


def test_a_constant_and_a_reason_are_used() -> None:
    """What nothing reads looks as if it were in force."""
    trees = [
        ast.parse(path.read_text("utf-8")) for name in ("services", "streams") for path in (ROOT / name).rglob("*.py")
    ]
    constants = {
        node.target.id
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    nodes = [node for tree in trees for node in ast.walk(tree)]
    read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    read |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "services").rglob("*.html"))
    read |= set(re.findall(r"words\.([A-Z_]+)", pages))

    assert constants - read == set()
    assert {reason.name for reason in Reason} - read == set()
