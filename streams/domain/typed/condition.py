"""A rule's typed condition: the tree that opens its alert, the steps it takes, and what must be so to end it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from streams.domain.alert import Priority, PriorityStep
from streams.domain.memory import Operator
from streams.domain.profile import Therapy
from streams.domain.rule import Finding, Presence, Rule, View
from streams.domain.typed.signals import CLOSED, moment
from streams.domain.typed.tree import Part
from streams.domain.typed.truth import earliest

SINCE: Final = "since"
"""The placeholder that every message may use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Modifiers:
    """Another priority for some patients: W3 or at high risk (catalogue ``W3+1``), and W1 (``W1-1``)."""

    __pydantic_config__ = CLOSED

    w3_or_high_risk: Priority | None = None
    w1: Priority | None = None

    def applied(self, priority: Priority, therapy: Therapy) -> Priority:
        """The priority for this patient."""
        if self.w3_or_high_risk is not None and therapy.raises_medium:
            return self.w3_or_high_risk
        if self.w1 is not None and therapy.lowers_high:
            return self.w1
        return priority


NO_MODIFIERS: Final = Modifiers()


@dataclass(frozen=True, slots=True)
class Escalation:
    """A priority that the alert reaches once ``part`` holds too; it never falls again by itself."""

    priority: Priority
    modifiers: Modifiers
    part: Part


class TypedCondition:
    """Judges a tree; it is the rule's condition.

    Args:
        part: What opens the alert, and keeps it open.
        priority: Of the alert when it opens.
        modifiers: For some patients.
        escalations: Further steps.
        clear: What must hold, beside ``part`` being absent, to end the alert; None: nothing.
    """

    def __init__(
        self,
        part: Part,
        priority: Priority,
        modifiers: Modifiers = NO_MODIFIERS,
        escalations: Sequence[Escalation] = (),
        clear: Part | None = None,
    ) -> None:
        self._part, self._clear = part, clear
        self._escalations = (Escalation(priority, modifiers, part), *escalations)
        parts = [part, *(escalation.part for escalation in escalations), *([clear] if clear is not None else [])]
        self.operators: tuple[Operator, ...] = tuple(one for other in parts for one in other.operators)
        self.reads = tuple(sorted(frozenset[str]().union(*(other.reads for other in parts))))
        self.follows = tuple(sorted(frozenset[str]().union(*(other.follows for other in parts))))
        self.names = None if part.names is None else part.names | {SINCE}

    def __call__(self, view: View, rule: Rule) -> Finding:
        """The finding at the moment judged."""
        truth = self._part.judge(view)
        track = view.present_track(rule.id)
        if truth.present and truth.since is not None:
            return self._present(view, truth.since, truth.wake_at)
        if truth.presence is Presence.NOT_EVALUABLE or truth.since is None:
            return Finding(Presence.NOT_EVALUABLE, wake_at=truth.wake_at)
        ended_at, wake_at = truth.since, truth.wake_at
        if track is not None and self._clear is not None:
            cleared = self._clear.judge(view)
            wake_at = earliest((wake_at, cleared.wake_at))
            if not cleared.present or cleared.since is None:
                return self._present(view, track.start, wake_at)
            ended_at = max(ended_at, cleared.since)
        if view.state.reported_at is None or view.at > view.state.reported_at:
            # Time alone has passed since the last report: silence ends nothing (I4), the next report will tell.
            return Finding(Presence.NOT_EVALUABLE, wake_at=wake_at)
        return Finding(Presence.ABSENT, ended_at=ended_at, wake_at=wake_at)

    def _present(self, view: View, since: datetime, wake_at: datetime | None) -> Finding:
        steps: list[PriorityStep] = []
        first, *further = self._escalations
        steps.append(PriorityStep(first.modifiers.applied(first.priority, view.therapy), since))
        for escalation in further:
            truth = escalation.part.judge(view)
            wake_at = earliest((wake_at, truth.wake_at))
            if truth.present and truth.since is not None:
                priority = escalation.modifiers.applied(escalation.priority, view.therapy)
                _reach(steps, PriorityStep(priority, max(since, truth.since)))
        values = {SINCE: moment(since), **self._part.values(view)}
        return Finding(Presence.PRESENT, tuple(steps), wake_at=wake_at, values=values)


def _reach(steps: list[PriorityStep], step: PriorityStep) -> None:
    """Add a step: priorities and times only rise, and a lower priority reached later is none."""
    if any(known.priority.rank >= step.priority.rank and known.at <= step.at for known in steps):
        return
    kept = [known for known in steps if known.at < step.at and known.priority.rank < step.priority.rank]
    later = [known for known in steps if known.priority.rank > step.priority.rank]
    steps[:] = [*kept, step, *later]
