"""What share of the mutants the tests notice, how sure that is, and which survivors are known and why."""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.mutation.mutants import Fate, Mutant, by_module

REQUIRED: Final = 0.85
"""The least share of mutants that the tests must notice."""
_SURE: Final = 1.96
"""Standard errors on either side of an interval of 95 %."""


class Kind(StrEnum):
    """Why a survivor may live."""

    EQUIVALENT = "equivalent"
    """No input gives another result."""
    UNREACHABLE = "unreachable"
    """It differs only for what callers or validation never let through."""
    WORDING = "wording"
    """It differs only in words that a person reads and no decision depends on."""
    COST = "cost"
    """It differs only in how much is computed or kept."""


@dataclass(frozen=True, slots=True)
class Survivor:
    """A survivor that was judged: found again by its function and its change, whatever number mutmut gives it.

    Args:
        function: Dotted name.
        was: The lines that it changes, as one.
        now: What it makes of them.
        kind: Why it may live.
        reason: The same for this one, in words.
    """

    function: str
    was: str
    now: str
    kind: Kind
    reason: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is found by."""
        return self.function, self.was, self.now


def judged(path: Path) -> dict[tuple[str, str, str], Survivor]:
    """The survivors that a file lists."""
    listed = tomllib.loads(path.read_text("utf-8"))["survivor"]
    found = (Survivor(**{**entry, "kind": Kind(entry["kind"])}) for entry in listed)
    return {survivor.key: survivor for survivor in found}


def interval(noticed: int, of: int) -> tuple[float, float]:
    """Wilson's interval of 95 % for a share, which stays within 0 and 1 and needs no large numbers."""
    share, square = noticed / of, _SURE**2 / of
    middle = share + square / 2
    reach = _SURE * math.sqrt(share * (1 - share) / of + square / of / 4)
    return (middle - reach) / (1 + square), (middle + reach) / (1 + square)


@dataclass(frozen=True, slots=True)
class Score:
    """How many of some mutants the tests noticed."""

    noticed: int
    of: int

    @property
    def share(self) -> float:
        """Of 1; a score of no mutants is a full one."""
        return self.noticed / self.of if self.of else 1.0

    def __str__(self) -> str:
        if not self.of:
            return "no mutants"
        low, high = interval(self.noticed, self.of)
        return f"{self.share:.1%} ({self.noticed} of {self.of}; 95 % interval {low:.1%} to {high:.1%})"


def score(mutants: Iterable[Mutant]) -> Score:
    """Every survivor counts, judged or not; what was not tried does not."""
    fates = Counter(mutant.fate for mutant in mutants)
    noticed = fates[Fate.KILLED] + fates[Fate.TIMED_OUT]
    return Score(noticed, noticed + fates[Fate.SURVIVED] + fates[Fate.UNTESTED])


def table(mutants: Sequence[Mutant], known: Mapping[Path, Sequence[Mutant]]) -> str:
    """The score of each module, and how many mutants there are of it."""
    lines = [f"{'module':<52} {'all':>6} {'tried':>6} {'noticed':>8} {'score':>7}"]
    for path, ours in by_module(mutants).items():
        found = score(ours)
        lines.append(f"{path!s:<52} {len(known[path]):>6} {found.of:>6} {found.noticed:>8} {found.share:>7.0%}")
    return "\n".join(lines)
