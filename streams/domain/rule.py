"""What a rule is: a condition with parameters, and how its alert behaves. Rules are data from ``alert_rules/``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec

from streams.domain.alert import Episode, Priority, PriorityStep, Reason
from streams.domain.profile import Therapy
from streams.domain.world import PumpState


class Presence(StrEnum):
    """Whether an alarm condition holds. Missing data never counts as ``ABSENT``."""

    PRESENT = "present"
    ABSENT = "absent"
    NOT_EVALUABLE = "not evaluable"


class Finding(msgspec.Struct, frozen=True):
    """What a condition says of a state at a moment.

    ``steps`` are the priorities reached so far with their own event times (never after the moment judged), lowest
    first. ``ended_at`` is the event time of the evidence for an absence. ``wake_at`` is when the finding would change
    by the mere passing of time. ``retract`` says that the condition never held, and why.
    """

    presence: Presence
    steps: tuple[PriorityStep, ...] = ()
    ended_at: datetime | None = None
    wake_at: datetime | None = None
    retract: Reason | None = None
    physician_by: datetime | None = None
    parents: tuple[str, ...] = ()
    values: Mapping[str, str] | None = None


ABSENT: Final = Finding(Presence.ABSENT)
NOT_EVALUABLE: Final = Finding(Presence.NOT_EVALUABLE)


class View(msgspec.Struct):
    """What a condition may look at: one pump's state and therapy, its rules' latest episodes, and the moment judged.

    ``heard_at`` is only set when silence may be judged: the service time of the last message, or of the moment from
    which the service could hear the pump again, whichever is later. ``at`` is then service time too.
    """

    state: PumpState
    therapy: Therapy
    tracks: Mapping[str, Episode]
    at: datetime
    heard_at: datetime | None = None

    def open_track(self, rule_id: str) -> Episode | None:
        """The rule's open episode, if any."""
        track = self.tracks.get(rule_id)
        return track if track is not None and not track.closed else None

    def due(self, deadline: datetime) -> datetime:
        """A deadline that lies before the profile version which creates it is due when that version starts (M.29)."""
        earliest = self.therapy.valid_from
        return deadline if earliest is None or deadline >= earliest else earliest


Condition = Callable[[View, "Rule"], Finding]

MERGE_WINDOWS: Final = {
    Priority.HIGH: timedelta(minutes=30),
    Priority.MEDIUM: timedelta(hours=24),
    Priority.LOW: timedelta(hours=72),
    Priority.INFO: timedelta(hours=72),
}
"""A recurrence within this time of its end continues the same alert; inclusive (rules_catalogue.md A.3)."""

Freeze = Literal["never", "delivery", "until_refill"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One alert rule as its file states it; ``content_hash`` is what an alert stores to show what was in force."""

    id: str
    title: str
    condition: Condition
    parameters: Mapping[str, Any]
    latching: Priority | None
    """The lowest priority from which the alert stays open until a person resolves it; None: it clears by itself."""
    freezes: Freeze
    child_of: tuple[str, ...]
    message: str
    evidence: tuple[str, ...]
    content_hash: str
    judged_by: Literal["event_time", "arrival", "both"]
    """Whether time in the reports decides, or the service's own waiting for them (silence)."""
    examples: tuple[Mapping[str, Any], ...] = field(default=())

    def latches(self, priority: Priority) -> bool:
        """Whether an episode that reached ``priority`` waits for a person."""
        return self.latching is not None and priority.rank >= self.latching.rank

    def text(self, finding: Finding) -> str:
        """The alert's message with the finding's values."""
        return self.message.format_map(_Values(finding.values or {}))


class _Values(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "unknown"


class RuleBook:
    """All rules in force, parents before the rules that defer to them."""

    __slots__ = ("_by_id", "arrival_rules", "event_rules", "rules")

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self._by_id = {rule.id: rule for rule in rules}
        self.event_rules = tuple(rule for rule in rules if rule.judged_by != "arrival")
        self.arrival_rules = tuple(rule for rule in rules if rule.judged_by != "event_time")

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)

    def __getitem__(self, rule_id: str) -> Rule:
        return self._by_id[rule_id]

    def get(self, rule_id: str) -> Rule | None:
        """The rule, or None when it is no longer in the book."""
        return self._by_id.get(rule_id)
