"""Authorised programming sessions: what a clinician does on purpose is no fault of the pump.

A session is authorised when it came from a clinic's gateway or was entered by a named person (catalogue M.23). What it
explains is held back until 15 minutes after its end, and never past half of the patient's non-delivery budget (I3).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from streams.domain.care import CareKind
from streams.domain.rule import View
from streams.domain.world import Session

HOLD_AFTER: Final = timedelta(minutes=15)
LONGEST_SESSION: Final = timedelta(hours=4)
"""A session whose end nobody told has ended by then (our own design: a hard end, catalogue I1)."""


def sessions(view: View) -> Iterator[Session]:
    """All authorised sessions known, those that people entered included, whenever they were."""
    yield from view.state.sessions
    for record in view.therapy.known_care:
        if record.kind is CareKind.SESSION and record.session_id is not None:
            yield Session(record.session_id, record.valid_from, record.ends_at)


def ended_by(session: Session) -> datetime:
    """When a session was over, at the latest where nobody told."""
    return session.end or session.start + LONGEST_SESSION


def known_session(view: View, session_id: str | None, at: datetime, within: timedelta) -> Session | None:
    """The authorised session with this id, any id when None, that was going on within ``within`` of ``at``."""
    for session in sessions(view):
        named = session_id is None or session.session_id == session_id
        if named and session.start - within <= at <= ended_by(session) + within:
            return session
    return None


def held_until(view: View, at: datetime) -> datetime | None:
    """Until when an authorised session holds back what happened at ``at``; None when none was going on."""
    ends = [
        hold_end for session in sessions(view) if session.start <= at <= (hold_end := ended_by(session) + HOLD_AFTER)
    ]
    if not ends:
        return None
    confirmed_at, latest = view.state.confirmed_at, max(ends)
    if view.state.armed_since is None or confirmed_at is None:
        return latest
    return min(latest, confirmed_at + view.therapy.budget / 2)
