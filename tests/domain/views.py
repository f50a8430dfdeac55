"""What one condition says of a state that a test writes down, without the engine around it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

from streams.domain.alert import Episode, Priority, PriorityStep
from streams.domain.profile import ProfileHistory
from streams.domain.rule import Finding, View
from streams.domain.world import PumpState
from streams.rehearsal import moment, profiles_of
from tests.shipped import RULES

MORPHINE = {"drugs": [{"name": "morphine", "concentration_ug_per_ml": 10000.0}], "prescribed_ug_per_day": 4800.0}
ZICONOTIDE = {"drugs": [{"name": "ziconotide", "concentration_ug_per_ml": 25.0}], "prescribed_ug_per_day": 12.0}
PROMETRA = {"family": "prometra"}


def view_at(
    at: str,
    state: PumpState,
    *tracks: Episode,
    heard_at: str | None = None,
    profile: Mapping[str, Any] | None = {},
    later: Iterable[Mapping[str, Any]] = (),
    care: Iterable[Mapping[str, Any]] = (),
    zone: tzinfo = UTC,
) -> View:
    """What a condition sees at an offset; profile, later versions and care as in `profiles_of`."""
    heard = moment(heard_at) if heard_at is not None else None
    return seen(state, moment(at), profiles_of(profile, later, care, zone), tracks, heard)


def seen(
    state: PumpState,
    at: datetime,
    known: ProfileHistory,
    tracks: Iterable[Episode] = (),
    heard_at: datetime | None = None,
) -> View:
    """What a condition sees at a moment; ``tracks`` are the latest episodes of rules."""
    latest = {track.rule_id: track for track in tracks}
    return View(state, known.therapy(at), latest, at, heard_at, book=RULES)


def judged(rule_id: str, at: str, state: PumpState, *tracks: Episode, **known: Any) -> Finding:
    """What the shipped rule's condition says; the rest as for `view_at`."""
    rule = RULES[rule_id]
    return rule.condition(view_at(at, state, *tracks, **known), rule)


def track(rule_id: str, start: str, priority: Priority = Priority.HIGH, **more: Any) -> Episode:
    """An episode that reached one priority at its start."""
    return Episode(rule_id, moment(start), (PriorityStep(priority, moment(start)),), **more)


def step(priority: Priority, at: str) -> PriorityStep:
    """A step at an offset."""
    return PriorityStep(priority, moment(at))
