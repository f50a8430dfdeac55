"""The rules as shipped, read once for all tests of a process."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from streams.rulebook import load

FOLDER: Final = Path(__file__).parents[1] / "alert_rules"
RULES: Final = load(FOLDER)
