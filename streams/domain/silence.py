"""Silence: the rules that judge on service time what a pump did not say (COM-01, DLV-09)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from streams.domain import evaluation
from streams.domain.alert import Episode
from streams.domain.profile import ProfileHistory
from streams.domain.rule import Finding, Presence, Rule, RuleBook, View
from streams.domain.world import Resolution, World

NON_DELIVERY_RULE: Final = "DLV-09"
FRESH: Final = timedelta(hours=1)
"""Delivery confirmed less than so long before the newest message leaves the planned deadline of silence in force."""
NEARLY_NEXT: Final = 1.25
"""In expected intervals: when the next message may have come at the latest, in an ordinary case."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """When the service could hear pumps: from ``since`` (its last resume) on, everything accepted up to ``until``.

    Both are service time. Silence counts only what lies between, so the service's own outage is never a pump's silence.
    """

    since: datetime
    until: datetime


def ended(world: World, rules: RuleBook, heard_first: datetime | None = None) -> tuple[World, list[Episode]]:
    """End the silences that a message ends: COM-01 by the message itself, DLV-09 only by confirmed delivery.

    ``heard_first`` is when the first of several messages came.
    """
    heard_at = heard_first or world.last_received_at
    if heard_at is None:
        return world, []
    state = world.head.state
    tracks, forgotten = dict(world.silence), []
    for rule_id, track in world.silence.items():
        finding = Finding(Presence.ABSENT, ended_at=heard_at)
        if rule_id == NON_DELIVERY_RULE:
            confirmed_at, before = state.confirmed_at, track.silent_since
            moved = state.frozen_at is None and confirmed_at and before and confirmed_at > before
            finding = Finding(Presence.ABSENT if moved else Presence.NOT_EVALUABLE, ended_at=confirmed_at)
        if (rule := rules.get(rule_id)) is not None:
            forgotten.extend(_judged_silence(tracks, rule, finding, heard_at))
    return replace(world, silence=tracks), forgotten


def judged(world: World, profiles: ProfileHistory, rules: RuleBook, hearing: Hearing) -> tuple[World, list[Episode]]:
    """Judge silence on service time, as far as the service could hear."""
    if world.last_received_at is None:
        return world, []
    state, tracks = world.head.state, dict(world.silence)
    heard_at = max(world.last_received_at, hearing.since)
    view = View(state, profiles.therapy(hearing.until), world.head.tracks, hearing.until, heard_at)
    forgotten: list[Episode] = []
    for rule in rules.arrival_rules:
        before = tracks.get(rule.id)
        finding = evaluation.advanced(rule, evaluation.found(rule, view, before), view)
        forgotten.extend(_judged_silence(tracks, rule, finding, hearing.until))
        after = tracks.get(rule.id)
        if after is not None and after is not before and after.silent_since is None:
            tracks[rule.id] = replace(after, silent_since=state.confirmed_at)
    return (replace(world, silence=tracks) if tracks != world.silence else world), forgotten


def resolved(world: World, resolution: Resolution) -> World:
    """Close the rule's silence, if there is one, as a person said."""
    tracks = {
        rule_id: evaluation.resolved(track, resolution) if rule_id == resolution.rule_id and not track.closed else track
        for rule_id, track in world.silence.items()
    }
    return replace(world, silence=tracks)


def next_deadline(world: World, profiles: ProfileHistory, rules: RuleBook, hearing: Hearing | None) -> datetime | None:
    """The next silence deadline; without ``hearing`` as if the service heard everything since the last message."""
    if world.last_received_at is None:
        return None
    heard_at = at = world.last_received_at
    if hearing is not None:
        heard_at, at = max(heard_at, hearing.since), hearing.until
    head = world.head
    view = View(head.state, profiles.therapy(at), head.tracks, at, heard_at, head.memory)
    wakes = (evaluation.found(rule, view, None).wake_at for rule in rules.arrival_rules)
    return min((wake_at for wake_at in wakes if wake_at is not None), default=None)


def still_planned(world: World, profiles: ProfileHistory, planned: datetime, now: datetime) -> bool:
    """Whether the first deadline of silence, planned after an earlier message, can stay as it is.

    It can have come nearer after silence that was already told (the next one starts with its first step again), and
    where the last message brought old news: delivery then is long unconfirmed. Budgets are never shorter than three
    hours. One that would come before the next message, or soon after, is planned anew: a needless look costs far more.
    """
    confirmed_at, heard_at = world.head.state.confirmed_at, world.last_received_at
    if world.silence or planned <= now or confirmed_at is None or heard_at is None:
        return False
    fresh = heard_at - confirmed_at < FRESH
    return fresh and planned - heard_at > NEARLY_NEXT * profiles.therapy(now).interval


def _judged_silence(tracks: dict[str, Episode], rule: Rule, finding: Finding, at: datetime) -> list[Episode]:
    """Put the rule's newest episode of silence into ``tracks``; returns what it displaced."""
    newest, displaced = evaluation.judge(rule, tracks.pop(rule.id, None), finding, at)
    if newest is not None:
        tracks[rule.id] = newest
    return [displaced] if displaced is not None else []
