"""Priorities by deadline: which are reached, when the next one is, and which ladder step is due at once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from streams.domain.alert import Priority, PriorityStep
from streams.domain.profile import WithdrawalClass
from streams.domain.rule import View


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


def advanced_by_fever(view: View) -> int:
    """The ladder step from which a delivery or MRI alert starts: the next one where the patient may have a fever.

    On W3 warmth at the pump may be an early sign of withdrawal (rule TMP-01; clinical.md F-01). A condition that uses
    this follows TMP-01.
    """
    warm = view.therapy.withdrawal is WithdrawalClass.W3 and view.present_track("TMP-01") is not None
    return 1 if warm else 0
