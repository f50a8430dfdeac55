"""What runbooks tell an operator to look for is what the processes say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.files import RUNBOOKS
from tests.stack import ROOT

LEVELS = {"debug", "info", "warning", "error", "critical"}
FATAL = {"fatal", "_fatal"}
METRICS = {"Counter", "Gauge", "Histogram", "Distribution"}
COMMANDS = ("docker ", "pumpwatch ")
WORD, PHRASE = re.compile(r"[a-z]+(?:_[a-z]+)*"), re.compile(r"[a-z][a-z'; ]* [a-z'; ]+")


def trees() -> Iterator[ast.Module]:
    """Every module of the processes."""
    for name in ("services", "streams"):
        for path in sorted((ROOT / name).rglob("*.py")):
            yield ast.parse(path.read_text(encoding="utf-8"))


def called(node: ast.Call) -> str:
    """The last part of the name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def texts(nodes: list[ast.expr]) -> Iterator[str]:
    """String constants in expressions, however deep."""
    for node in nodes:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                yield inner.value


def log_events() -> set[str]:
    """The event of every log line, also of those that a process ends with."""
    calls = (node for tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args)
    return {text for node in calls if called(node) in LEVELS | FATAL for text in texts(node.args[:1])}


def words() -> set[str]:
    """Values of enums and of constants, names and labels of metrics, names in the database."""
    found = set(re.findall(r"[a-z_]+", "".join(path.read_text() for path in (ROOT / "streams/schema").glob("*.sql"))))
    for tree in trees():
        found |= set(texts([entry.value for entry in tree.body if isinstance(entry, ast.AnnAssign) and entry.value]))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") == "StrEnum" for base in node.bases):
                found |= set(texts([entry.value for entry in node.body if isinstance(entry, ast.Assign)]))
            elif isinstance(node, ast.Call) and called(node) in METRICS:
                found |= set(texts([*node.args, *(keyword.value for keyword in node.keywords)]))
    return found


WORDS, LOG_EVENTS = words(), log_events()


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_what_a_runbook_quotes_exists(page: Path) -> None:
    """One word is a reason, a label, a metric or a table; several are the event of a log line."""
    quoted = [
        text for text in re.findall(r"`([^`]+)`", page.read_text(encoding="utf-8")) if not text.startswith(COMMANDS)
    ]

    wrong = [text for text in quoted if WORD.fullmatch(text) and text not in WORDS]
    wrong += [text for text in quoted if PHRASE.fullmatch(text) and text not in LOG_EVENTS]

    assert wrong == []
