"""The dead man's switch behind everything: a synthetic alarm must pass through the whole path again and again (SYS-03).

Time is the watchdog's own. Source: rules_catalogue.md SYS-03; promise G6: people are told within 60 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from streams.domain.alert import Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long without a pass is MEDIUM, how long is HIGH (both inclusive), and how many passes end it.

    Raises:
        ValueError: If HIGH would come before MEDIUM, or MEDIUM at once, or nothing would end it.
    """

    medium_after: timedelta
    high_after: timedelta
    passes_to_clear: int

    def __post_init__(self) -> None:
        """What the switch takes for granted."""
        if not timedelta(0) < self.medium_after <= self.high_after or self.passes_to_clear < 1:
            raise ValueError("a dead man's switch is MEDIUM after some time, HIGH not before that, and ends by a pass")

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """As the parameters of the rule say."""
        return cls(
            medium_after=timedelta(seconds=parameters["medium_seconds"]),
            high_after=timedelta(seconds=parameters["high_seconds"]),
            passes_to_clear=int(parameters["passes"]),
        )


class Turn(StrEnum):
    """What became of the alert."""

    OPENED = "opened"
    ESCALATED = "escalated"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class DeadMan:
    """The switch. ``last_pass_at`` begins as the start: a path that never works is noticed as quickly.

    ``priority`` is that of the open alert, None while all is well; ``passes`` are those since it opened.
    """

    last_pass_at: datetime
    priority: Priority | None = None
    since: datetime | None = None
    passes: int = 0


def passed(man: DeadMan, at: datetime, limits: Limits) -> tuple[DeadMan, Turn | None]:
    """A synthetic alarm came through at ``at``."""
    man = replace(man, last_pass_at=max(at, man.last_pass_at))
    if man.priority is None:
        return man, None
    if man.passes + 1 < limits.passes_to_clear:
        return replace(man, passes=man.passes + 1), None
    return DeadMan(man.last_pass_at), Turn.CLEARED


def look(man: DeadMan, now: datetime, limits: Limits) -> tuple[DeadMan, Turn | None]:
    """Time has passed up to ``now``; at most one turn at a time, so ask again until there is none."""
    medium_at, high_at = man.last_pass_at + limits.medium_after, man.last_pass_at + limits.high_after
    if man.priority is None:
        return (
            (replace(man, priority=Priority.MEDIUM, since=medium_at), Turn.OPENED) if now >= medium_at else (man, None)
        )
    if now >= medium_at and man.passes:
        # It broke again before it had worked often enough.
        man = replace(man, passes=0)
    if man.priority is Priority.MEDIUM and now >= high_at:
        return replace(man, priority=Priority.HIGH), Turn.ESCALATED
    return man, None
