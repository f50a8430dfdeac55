"""One rule's finding for a state that is put together by hand: for boundaries that no short life reaches."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from streams.domain.alert import Episode, Priority, PriorityStep
from streams.domain.profile import ProfileHistory
from streams.domain.rule import Finding, Presence
from streams.domain.world import PumpState
from streams.rehearsal import START, profiles_of
from tests.domain.views import seen
from tests.shipped import RULES

BACLOFEN: Final = profiles_of({})
SECOND: Final = timedelta(seconds=1)
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)


def judged(
    rule_id: str,
    state: PumpState,
    at: datetime,
    known: ProfileHistory = BACLOFEN,
    tracks: Iterable[Episode] = (),
    heard_at: datetime | None = None,
) -> Finding:
    """What the rule as shipped says at ``at``; ``tracks`` are the latest episodes of rules."""
    rule = RULES[rule_id]
    return rule.condition(seen(state, at, known, tracks, heard_at), rule)


def steps_of(finding: Finding) -> list[tuple[Priority, timedelta]]:
    """The priorities of a finding that is present, each with its time since the start of the example."""
    steps = finding.steps if finding.presence is Presence.PRESENT else ()
    return [(step.priority, step.at - START) for step in steps]


def ended_of(finding: Finding) -> datetime | None:
    """When what is absent ended; None also where it is not absent."""
    return finding.ended_at if finding.presence is Presence.ABSENT else None


def episode(rule_id: str, *steps: tuple[Priority, timedelta], present: bool = True) -> Episode:
    """A rule's open episode; its steps with their times since the start of the example."""
    reached = tuple(PriorityStep(priority, START + after) for priority, after in steps)
    return Episode(rule_id, reached[0].at, reached, present=present)
