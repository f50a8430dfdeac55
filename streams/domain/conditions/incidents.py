"""What happened cannot stop being so: its alert stays until a person resolves it, and the next incident tells again.

A refill ratio, a level that fell, a restart: the condition is a fact of the past. An alert opens when the fact becomes
known, and is present until somebody looked into it; a person may resolve it from `Finding.resolvable_from` on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from streams.domain.alert import Episode, Priority, PriorityStep
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


def told_again(
    track: Episode | None, priority: Priority, facts: Iterable[tuple[datetime, datetime]], at: datetime
) -> tuple[datetime, ...]:
    """The reminders of a rule's alert with those for what became known now, while an earlier one keeps it open.

    What happened before may be over and confirmed, and wait for a person: what happens next is news all the same.

    Args:
        track: The rule's open episode; None: opening it tells people anyway.
        priority: What the facts are worth; one that raises the alert speaks for itself.
        facts: Of each when it happened, and when it became known.
        at: The moment judged.
    """
    if track is None or priority.rank > track.priority.rank:
        return track.reminders if track is not None else ()
    known = told(track)
    return (*track.reminders, *sorted({since for since, told_at in facts if told_at >= at and since not in known}))


def latest(track: Episode) -> datetime:
    """Event time of the latest incident of an episode."""
    return max((track.start, track.recurred_at or track.start, *track.reminders))


def reviewed(view: View, rule: Rule, since: datetime) -> CareRecord | None:
    """A person's review of the rule's alert that counts from ``since`` (inclusive) or later."""
    for record in view.therapy.of_kind(CareKind.REVIEW):
        if record.rule_id == rule.id and record.valid_from >= since:
            return record
    return None


def _reminders(track: Episode, fresh: Sequence[Incident]) -> tuple[datetime, ...]:
    """Further incidents that raise an open alert no higher are told again; a higher priority speaks for itself."""
    raised = max((step.priority.rank for incident in fresh for step in incident.steps), default=-1)
    return track.reminders if raised > track.priority.rank else (*track.reminders, *sorted({one.at for one in fresh}))


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
    current, known = None if track is None or track.closed else track, told(track)
    fresh = [incident for incident in incidents if incident.told_at >= view.at and incident.at not in known]
    if not fresh and current is None:
        return Finding(Presence.ABSENT, wake_at=wake_at)
    shown = [item for item in incidents if item in fresh or (current is not None and item.at in known)]
    steps = [step for incident in shown for step in incident.steps]
    times = [incident.at for incident in shown]
    if current is not None:
        steps.extend(current.steps)
        times.append(latest(current))
    resolvable_from = max(times) + resolvable_after
    if current is not None and not fresh and (review := reviewed(view, rule, resolvable_from)) is not None:
        return Finding(Presence.ABSENT, ended_at=review.valid_from, closed_by=review.person, wake_at=wake_at)
    return Finding(
        Presence.PRESENT,
        rising(steps),
        wake_at=wake_at,
        values=max(shown, key=lambda incident: incident.at).values if shown else None,
        reminders=() if current is None else _reminders(current, fresh),
        resolvable_from=resolvable_from,
    )
