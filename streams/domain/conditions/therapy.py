"""Therapy conditions: who changed the program (THR-02); dose, boluses and symptoms have modules of their own."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from streams.domain.alert import Episode, Priority, Reason
from streams.domain.conditions import boluses, dose, symptoms
from streams.domain.conditions.incidents import latest, told_again
from streams.domain.conditions.sessions import held_until, known_session
from streams.domain.conditions.steps import reached
from streams.domain.observing.dosing import EVENT_LAGS, Change
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View


def changed_by_nobody(view: View, rule: Rule) -> Finding:
    """THR-02: the program changed, and no authorised session within ``session_minutes`` explains it.

    HIGH, also a security event; a return to an older program counts like a new one, recorded or only seen as another
    checksum. A change without a session id is explained by any authorised session. While a session goes on it is held
    back until 15 minutes after its end (I3). It holds until the pump reports again ``holds_minutes`` later; then a
    person may resolve it. Each further change is told again. A session that becomes known later takes it back. Child of
    MRI-06. Source: clinical.md S-22.
    """
    program, track = view.state.dosing.program, view.open_track(rule.id)
    if not program.changes:
        return ABSENT if program.checksum is not None else NOT_EVALUABLE
    parameters = view.parameters(rule)
    within = timedelta(minutes=parameters["session_minutes"])
    unknown = [change for change in program.changes if not _explained(view, change, within)]
    if track is not None and _known_by_now(program.changes, unknown, track):
        return Finding(Presence.ABSENT, retract=Reason.LATE_EVIDENCE)
    heard_at, holds = view.state.reported_at, timedelta(minutes=parameters["holds_minutes"])
    facts, changed_at, wakes = [], [], []
    for change in unknown:
        since = max(change.at, held_until(view, change.at) or change.at)
        if since > view.at:
            wakes.append(since)
        elif heard_at is None or heard_at < max(change.told_at, since) + holds:
            facts.append((since, max(change.told_at, since)))
            changed_at.append(change.at)
    wake_at = min(wakes, default=None)
    if facts:
        # A record may move a change that its checksum showed before; that is the same change.
        newer = [fact for fact in facts if track is None or fact[0] > latest(track)]
        return Finding(
            Presence.PRESENT,
            reached(((Priority.HIGH, since) for since, _ in facts), view.at),
            wake_at=wake_at,
            values={"since": f"{max(changed_at):%Y-%m-%d %H:%M UTC}"},
            parents=("MRI-06",),
            reminders=told_again(track, Priority.HIGH, newer, view.at),
        )
    ended_at = heard_at if track is not None and track.present else None
    return Finding(Presence.ABSENT, ended_at=ended_at, wake_at=wake_at)


def _known_by_now(changes: tuple[Change, ...], unknown: list[Change], track: Episode) -> bool:
    """Whether a session explains after all what the alert was about, and nothing else is unexplained."""
    if any(change.at >= track.start - EVENT_LAGS for change in unknown):
        return False
    return any(change.at <= track.start <= change.at + EVENT_LAGS for change in changes)


def _explained(view: View, change: Change, within: timedelta) -> bool:
    return known_session(view, change.session_id, change.at, within) is not None


CONDITIONS: Final[dict[str, Named]] = {
    "therapy.changed_by_nobody": Named(changed_by_nobody, reads=("dosing", "sessions", "armed_since")),
    **dose.CONDITIONS,
    **boluses.CONDITIONS,
    **symptoms.CONDITIONS,
}
