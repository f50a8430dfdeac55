"""What a part of a condition finds at a moment, and how parts are joined: Kleene's three-valued logic with times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from streams.domain.rule import Presence

INSTANT: Final = timedelta(microseconds=1)
"""The step from a time that still counts to the first that does not."""


class Truth(msgspec.Struct, frozen=True):
    """Whether something holds at the moment judged.

    ``since`` is the event time from which it has been so without a break, never after the moment judged; None where it
    is not evaluable. ``wake_at`` is the first later moment at which time alone changes it.
    """

    presence: Presence
    since: datetime | None = None
    wake_at: datetime | None = None

    @property
    def present(self) -> bool:
        """Whether it certainly holds."""
        return self.presence is Presence.PRESENT

    @property
    def ended_at(self) -> datetime | None:
        """Since when it does not hold; None unless it is known to be absent."""
        return self.since if self.presence is Presence.ABSENT else None


UNKNOWN: Final = Truth(Presence.NOT_EVALUABLE)


def earliest(times: Iterable[datetime | None]) -> datetime | None:
    """The first of the times that are known."""
    return min((at for at in times if at is not None), default=None)


def latest(times: Iterable[datetime | None]) -> datetime | None:
    """The last of the times that are known."""
    return max((at for at in times if at is not None), default=None)


def all_of(found: Sequence[Truth]) -> Truth:
    """Present when all are, since the latest of them; absent when one is, since the earliest of the absent ones."""
    wake_at = earliest(truth.wake_at for truth in found)
    absent = [truth.since for truth in found if truth.presence is Presence.ABSENT]
    if absent:
        return Truth(Presence.ABSENT, earliest(absent), wake_at)
    if all(truth.present for truth in found):
        return Truth(Presence.PRESENT, latest(truth.since for truth in found), wake_at)
    return Truth(Presence.NOT_EVALUABLE, None, wake_at)


def any_of(found: Sequence[Truth]) -> Truth:
    """Present when one is, since the earliest of the present ones; absent when all are, since the latest of them."""
    return negation(all_of([negation(truth) for truth in found]))


def negation(truth: Truth) -> Truth:
    """Present where it is absent and the other way round; what is not evaluable stays so."""
    if truth.presence is Presence.PRESENT:
        return Truth(Presence.ABSENT, truth.since, truth.wake_at)
    if truth.presence is Presence.ABSENT:
        return Truth(Presence.PRESENT, truth.since, truth.wake_at)
    return truth


def held(truth: Truth, hold: timedelta, at: datetime) -> Truth:
    """Present once it has been so for ``hold`` without a break; inclusive."""
    if not truth.present or truth.since is None:
        return truth
    due = truth.since + hold
    if due <= at:
        return Truth(Presence.PRESENT, due, truth.wake_at)
    return Truth(Presence.ABSENT, truth.since, earliest((truth.wake_at, due)))
