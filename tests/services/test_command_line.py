"""What every command says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from services.cli import app

READING = {"list", "show", "status", "verify", "check", "test", "explain", "backtest", "diff", "trace", "run"}


def commands(command: Any, *words: str) -> Iterator[tuple[str, ...]]:
    """The words of every command below one."""
    if not hasattr(command, "commands"):
        yield words
        return
    for name, inner in command.commands.items():
        yield from commands(inner, *words, name)


COMMANDS = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_says_its_exit_codes(words: tuple[str, ...]) -> None:
    """In its help, where whoever writes a script looks; and a command that reads has a form for programs."""
    said = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "120", "TERM": "dumb"})

    assert said.exit_code == 0
    assert "Exit codes: 0 " in said.stdout
    assert words[-1] not in READING or "--json" in said.stdout


@pytest.mark.parametrize("group", ["rules", "cohort"])
def test_a_group_says_them_too(group: str) -> None:
    """For all of its commands."""
    said = CliRunner().invoke(app, [group, "--help"], env={"COLUMNS": "120", "TERM": "dumb"})

    assert "Exit codes: 0 " in said.stdout


def test_cohorts_are_listed_for_programs() -> None:
    """As every list is."""
    said = CliRunner().invoke(app, ["cohort", "list", "--json"])

    assert (said.exit_code, json.loads(said.stdout)) == (0, ["standard"])
