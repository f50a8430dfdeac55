"""What all commands share: exit codes, how one fails, and which stack and database they are about."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

from services.standalone.folder import running
from services.standalone.settings import Settings as StackSettings
from streams import rulebook
from streams.domain.rule import RuleBook
from streams.rule_errors import RuleError
from streams.settings import PREFIX, CoreSettings

NO: Final = 1
UNUSABLE: Final = 2
UNREACHABLE: Final = 3


def fail(message: str, code: int = NO) -> NoReturn:
    """End the command with one line on stderr."""
    print(f"pumpwatch: {message}", file=sys.stderr)
    raise SystemExit(code)


def rules_of(folder: Path | None = None) -> RuleBook:
    """The rules in a folder, or those that the settings name; ends the command where one cannot be used."""
    try:
        return rulebook.load(folder or CoreSettings().rules)
    except RuleError as error:
        fail(str(error), UNUSABLE)


def running_stack() -> dict[str, Any] | None:
    """Addresses and secrets of the stack that `make run` started here; None when none runs."""
    return running(StackSettings().var)


def dsn() -> str:
    """Where the application's role connects: by the environment, else of the stack that runs here."""
    if f"{PREFIX}POSTGRES" in os.environ or f"{PREFIX}POSTGRES_FILE" in os.environ:
        return CoreSettings().postgres.get_secret_value()
    found = running_stack()
    if found is None:
        fail(
            "which database? set PUMPWATCH_POSTGRES or PUMPWATCH_POSTGRES_FILE, or start a stack with `make run`",
            UNUSABLE,
        )
    return str(found["postgres"])
