"""Why each rule says what it says of a pump at a moment: the question that a clinician asks at three in the morning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from streams.domain.alert import Priority, PriorityStep
from streams.domain.evaluation import Fold, found
from streams.domain.profile import ProfileHistory
from streams.domain.rule import Finding, Presence, Rule, RuleBook, View
from streams.domain.world import PumpState, World


@dataclass(frozen=True, slots=True)
class Explained:
    """One rule's word on one pump.

    ``steps`` are the priorities reached, each with its event time; ``changes_at`` is when time alone would change the
    word. ``parameters`` are the rule's numbers for this pump, ``looked_at`` what it read, by field. ``alert`` is the
    priority of its open alert, None when none is open.
    """

    rule_id: str
    title: str
    presence: Presence
    steps: tuple[PriorityStep, ...]
    changes_at: datetime | None
    alert: Priority | None
    message: str
    parameters: Mapping[str, Any]
    looked_at: Mapping[str, Any]


def explain(
    world: World, profiles: ProfileHistory, rules: RuleBook, at: datetime, heard_at: datetime | None = None
) -> tuple[Explained, ...]:
    """Every rule's word on a pump, in the order of the book.

    Args:
        world: The pump after all reports that arrived up to ``at``.
        profiles: What is known of it beside its telemetry.
        rules: The rules to ask.
        at: The moment judged, aware UTC: service time for rules of silence, and for deadlines that have passed by then.
        heard_at: Since when silence counts; the last message when left out.
    """
    fold = Fold(world.head, profiles, rules)
    fold.until(at)
    folded, therapy = fold.folded, profiles.therapy(at)
    heard_at = heard_at or world.last_received_at
    said = []
    for rule in rules:
        if rule.lives_in != "worker":
            continue
        silent = rule.judged_by == "arrival"
        view = View(folded.state, therapy, folded.tracks, at, heard_at if silent else None, folded.memory)
        tracks = world.silence if silent else folded.tracks
        track = tracks.get(rule.id)
        open_priority = track.priority if track is not None and not track.closed else None
        said.append(_explained(rule, view, found(rule, view, track), open_priority))
    return tuple(said)


def _explained(rule: Rule, view: View, finding: Finding, alert: Priority | None) -> Explained:
    return Explained(
        rule_id=rule.id,
        title=rule.title,
        presence=finding.presence,
        steps=finding.steps,
        changes_at=finding.wake_at,
        alert=alert,
        message=rule.text(finding) if finding.presence is Presence.PRESENT else "",
        parameters=view.parameters(rule),
        looked_at=_looked_at(view.state, rule),
    )


def _looked_at(state: PumpState, rule: Rule) -> dict[str, Any]:
    names = PumpState.__struct_fields__ if "*" in rule.reads else rule.reads
    return {name: _plain(getattr(state, name)) for name in names}


def _plain(value: Any) -> Any:
    """A value by the names of its parts; states are stored as arrays, which says little to people."""
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value
