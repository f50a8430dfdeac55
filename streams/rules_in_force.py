"""The rule book in force in a process: loaded at the start, and again whenever its folder changes.

A changed folder is read aside; only a book that loads and whose examples all hold takes the place of the one before, in
one assignment, so that a batch is judged by one book from its first report to its last. A book that is refused changes
nothing but the log and the metric.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from streams import rulebook
from streams.domain.rule import RuleBook
from streams.rehearsal import failures

LOOK_SECONDS: Final = 1.0
"""Pause between two looks at the folder; a change counts once two looks see the same, so that a copy can finish."""
TOLD_REASONS: Final = 10
"""A broken folder may have very many errors; the log names the first ones, `pumpwatch rules check` all."""

Seen = tuple[tuple[str, int, int, int], ...]


class Reload(StrEnum):
    """What became of a changed folder; the metric's label."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    """The files were touched, and say the same."""
    REFUSED = "refused"


class RulesInForce:
    """One process' rule book; `book` is read at each use, never kept.

    Args:
        book: The book to begin with.
        folder: Where it came from; None: it never changes.
        registry: Where what happens to it is counted.
        needs: Ids of rules without which this process cannot go on.
    """

    def __init__(
        self,
        book: RuleBook,
        folder: Path | None = None,
        registry: CollectorRegistry | None = None,
        seen: Seen = (),
        needs: Collection[str] = (),
    ) -> None:
        self.book, self._needs = book, needs
        self._folder, self._settled, self._before = folder, seen, seen
        self._reloads = Counter(
            "pumpwatch_rulebook_reloads_total",
            "Changes of the folder of rules, by what became of them.",
            ["outcome"],
            registry=registry,
        )
        for outcome in Reload:
            self._reloads.labels(outcome)
        self._info = Gauge(
            "pumpwatch_rulebook_info", "1 for the rule book in force, by the hash of its rules.", ["key"],
            registry=registry,
        )  # fmt: skip
        self._info.labels(book.key).set(1)
        self._outdated = Gauge(
            "pumpwatch_rulebook_outdated",
            "1 while the folder holds other rules than those in force, because they cannot be used.",
            registry=registry,
        )
        self._log = structlog.get_logger()

    @classmethod
    def load(cls, folder: Path, registry: CollectorRegistry, needs: Collection[str] = ()) -> RulesInForce:
        """The rules in a folder.

        Raises:
            RuleError: On the first file that cannot be used, or where a rule of ``needs`` is not there.
        """
        # Looked at before it is read: what changes in between is then read again.
        seen = looked_at(folder)
        return cls(rulebook.load(folder, needs=needs), folder, registry, seen, needs)

    async def watch(self) -> None:
        """Look at the folder again and again until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> Reload | None:
        """Take over what changed since the look before the last one; None when nothing did."""
        if self._folder is None:
            return None
        try:
            seen = await asyncio.to_thread(looked_at, self._folder)
        except OSError as error:
            # A file that is gone by the time it is looked at: somebody is writing.
            self._log.info("folder of rules cannot be read now", error=type(error).__name__)
            return None
        stable, self._before = seen == self._before, seen
        if seen == self._settled or not stable:
            return None
        # Aside, in a thread: telemetry goes on meanwhile.
        book, reasons = await asyncio.to_thread(_rehearsed, self._folder, self._needs)
        self._settled = seen
        outcome = self._taken(book, reasons)
        self._reloads.labels(outcome).inc()
        return outcome

    def _taken(self, book: RuleBook | None, reasons: list[str]) -> Reload:
        self._outdated.set(book is None)
        if book is None:
            self._log.error(
                "rule book refused", reasons=reasons[:TOLD_REASONS], count=len(reasons), in_force=self.book.key
            )
            return Reload.REFUSED
        if book.key == self.book.key:
            return Reload.UNCHANGED
        self._log.info("rule book changed", key=book.key, before=self.book.key, rules=len(book))
        self.book = book
        self._info.clear()
        self._info.labels(book.key).set(1)
        return Reload.APPLIED


def looked_at(folder: Path) -> Seen:
    """What shows that a rule file was changed, added or taken away."""
    seen = []
    for file in sorted([*folder.glob("*/*.yaml"), *folder.rglob("*.yml"), *folder.glob("*.yaml")]):
        status = file.stat()
        seen.append((str(file.relative_to(folder)), status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(seen)


def _rehearsed(folder: Path, needs: Collection[str]) -> tuple[RuleBook | None, list[str]]:
    """The book in a folder, or why it cannot be used."""
    found = rulebook.survey(folder, needs=needs)
    if found.rules is None:
        return None, [str(error) for error in found.errors]
    reasons = [str(failure) for failure in failures(found.rules)]
    return (None, reasons) if reasons else (found.rules, [])
