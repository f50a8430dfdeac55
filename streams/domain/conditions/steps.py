"""Priorities by deadline: which are reached, and when the next one is."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from streams.domain.alert import Priority, PriorityStep


def reached(candidates: Iterable[tuple[Priority, datetime]], at: datetime) -> tuple[PriorityStep, ...]:
    """The priorities reached at ``at``, lowest first; one that comes no earlier than a higher one is left out."""
    steps: list[PriorityStep] = []
    due = [pair for pair in candidates if pair[1] <= at]
    for priority, since in sorted(due, key=lambda pair: (pair[1], -pair[0].rank)):
        if not steps or priority.rank > steps[-1].priority.rank:
            steps.append(PriorityStep(priority, since))
    return tuple(steps)


def next_after(moments: Iterable[datetime | None], at: datetime) -> datetime | None:
    """The first of the moments after ``at``."""
    return min((moment for moment in moments if moment is not None and moment > at), default=None)
