"""Why each rule says what it says of a pump at a moment: the question that a clinician asks at three in the morning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from streams.domain.alert import Episode, Priority, PriorityStep
from streams.domain.evaluation import Fold, found
from streams.domain.profile import ProfileHistory
from streams.domain.rule import Presence, Rule, RuleBook, View
from streams.domain.world import PumpState, World

_STRENGTH: Final = {Presence.NOT_EVALUABLE: 0, Presence.ABSENT: 1, Presence.PRESENT: 2}


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
    by_events = View(folded.state, therapy, folded.tracks, at, None, folded.memory)
    by_silence = View(folded.state, therapy, folded.tracks, at, heard_at, folded.memory)
    said = []
    for rule in rules:
        if rule.lives_in != "worker":
            continue
        judged = []
        if rule.judged_by != "arrival":
            judged.append((by_events, folded.tracks.get(rule.id)))
        if rule.judged_by != "event_time":
            judged.append((by_silence, world.silence.get(rule.id)))
        said.append(_explained(rule, judged))
    return tuple(said)


def _explained(rule: Rule, judged: Sequence[tuple[View, Episode | None]]) -> Explained:
    """A rule's word by what the pump said, by what it did not say, or by both: then the stronger one."""
    findings = [found(rule, view, track) for view, track in judged]
    finding = max(findings, key=lambda one: _STRENGTH[one.presence])
    alerts = [track.priority for _, track in judged if track is not None and not track.closed]
    view, _ = judged[0]
    return Explained(
        rule_id=rule.id,
        title=rule.title,
        presence=finding.presence,
        steps=finding.steps,
        changes_at=min((one.wake_at for one in findings if one.wake_at is not None), default=None),
        alert=max(alerts, key=lambda priority: priority.rank, default=None),
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
