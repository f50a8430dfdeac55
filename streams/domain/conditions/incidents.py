"""What happened cannot stop being so: its alert stays until a person resolves it, and the next incident tells again.

A refill ratio, a level that fell, a restart: the condition is a fact of the past. An alert opens when the fact becomes
known, and is present until somebody looked into it; a person may resolve it from `Finding.resolvable_from` on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from streams.domain.alert import Episode, PriorityStep
from streams.domain.care import CareKind, CareRecord
from streams.domain.rule import Finding, Presence, Rule, View


class Incident(msgspec.Struct, frozen=True):
    """One thing that happened: ``at`` is its event time, ``told_at`` the moment judged when it became known.

    ``steps`` are the priorities reached by the moment judged, lowest first, the first one at ``at``.
    """

    at: datetime
    told_at: datetime
    steps: tuple[PriorityStep, ...]
    values: Mapping[str, str]


def rising(steps: Iterable[PriorityStep]) -> tuple[PriorityStep, ...]:
    """The steps in order of time, without those that bring no higher priority than one at the same time or before."""
    kept: list[PriorityStep] = []
    for step in sorted(steps, key=lambda step: (step.at, -step.priority.rank)):
        if not kept or step.priority.rank > kept[-1].priority.rank:
            kept.append(step)
    return tuple(kept)


def told(track: Episode | None) -> frozenset[datetime]:
    """Event times of the incidents that a rule's latest episode already tells."""
    if track is None:
        return frozenset()
    times = {track.start, *track.reminders, *(step.at for step in track.steps)}
    return frozenset(times if track.recurred_at is None else {*times, track.recurred_at})


def latest(track: Episode) -> datetime:
    """Event time of the latest incident of an episode."""
    return max((track.start, track.recurred_at or track.start, *track.reminders))


def reviewed(view: View, rule: Rule, since: datetime) -> CareRecord | None:
    """A person's review of the rule's alert that counts from ``since`` (inclusive) or later."""
    for record in view.therapy.of_kind(CareKind.REVIEW):
        if record.rule_id == rule.id and record.valid_from >= since:
            return record
    return None


def standing(
    view: View,
    rule: Rule,
    incidents: Sequence[Incident],
    *,
    resolvable_after: timedelta = timedelta(0),
    wake_at: datetime | None = None,
) -> Finding:
    """A rule's finding from its incidents: a new one opens or tells again, an open one stays until a person ends it.

    Args:
        view: The pump and the moment judged.
        rule: The rule.
        incidents: What is remembered of the rule's incidents, oldest first.
        resolvable_after: How long after the latest incident a person may resolve the alert; inclusive.
        wake_at: When another incident is due.
    """
    track = view.tracks.get(rule.id)
    is_open = track is not None and not track.closed
    known = told(track)
    fresh = [incident for incident in incidents if incident.told_at >= view.at and incident.at not in known]
    if not fresh and not is_open:
        return Finding(Presence.ABSENT, wake_at=wake_at)
    shown = fresh if track is None or not is_open else [item for item in incidents if item.at in known or item in fresh]
    steps = [step for incident in shown for step in incident.steps]
    reminders: tuple[datetime, ...] = ()
    last_at = max((incident.at for incident in shown), default=view.at)
    if track is not None and is_open:
        raised = max((step.priority.rank for incident in fresh for step in incident.steps), default=-1)
        again = sorted({item.at for item in fresh}) if raised <= track.priority.rank else []
        steps.extend(track.steps)
        reminders = (*track.reminders, *again)
        last_at = max([latest(track), *(item.at for item in fresh)])
    resolvable_from = last_at + resolvable_after
    review = reviewed(view, rule, resolvable_from)
    if review is not None and is_open and not fresh:
        return Finding(Presence.ABSENT, ended_at=review.valid_from, closed_by=review.person, wake_at=wake_at)
    return Finding(
        Presence.PRESENT,
        rising(steps),
        wake_at=wake_at,
        values=max(shown, key=lambda incident: incident.at).values if shown else None,
        reminders=reminders,
        resolvable_from=resolvable_from,
    )
