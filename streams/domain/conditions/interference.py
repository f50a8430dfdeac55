"""Interference without an MRI: a magnet, a machine, a place that keeps disturbing the pump (clinical.md M-12, M-13)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from streams.domain.alert import Priority, PriorityStep, Reason
from streams.domain.observing.scans import ScanLog
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View
from streams.domain.world import PumpState


def repeated(view: View, rule: Rule) -> Finding:
    """EMI-01: strong interference again and again, that no declared MRI explains.

    LOW from ``per_day`` times in 24 h (inclusive) or ``per_week`` in 7 d; MEDIUM, on ``W3+1`` HIGH, once a stall lies
    within ``stall_within_minutes`` of any of it. Ends after seven days that each had a report telling of none. Source:
    rules_catalogue.md EMI-01, M.16.
    """
    log, parameters = view.state.scans, view.parameters(rule)
    if not log.told_emi:
        return NOT_EVALUABLE
    track = view.present_track(rule.id)
    if track is not None:
        if not log.interference and log.quiet_at is not None and log.quiet_at >= track.start:
            return Finding(Presence.ABSENT, ended_at=log.quiet_at)
        if not log.interference or log.interference[-1].at < track.start:
            # An MRI that was declared since explains what made it frequent.
            return Finding(Presence.ABSENT, ended_at=track.start, retract=Reason.MRI_DECLARED)
        since: datetime | None = track.start
    else:
        since = _repeated_since(log, parameters["per_day"], parameters["per_week"])
    if since is None:
        return ABSENT
    steps: tuple[PriorityStep, ...] = (PriorityStep(Priority.LOW, since),)
    stalled_at = _stalled_at(view.state, since, timedelta(minutes=parameters["stall_within_minutes"]))
    if stalled_at is not None:
        worse = PriorityStep(Priority.HIGH if view.therapy.raises_medium else Priority.MEDIUM, stalled_at)
        steps = (worse,) if stalled_at == since else (*steps, worse)
    told = "with a stall" if stalled_at is not None else "no stall so far"
    return Finding(Presence.PRESENT, steps, values={"stall": told})


def _repeated_since(log: ScanLog, per_day: float, per_week: float) -> datetime | None:
    """When interference first was frequent, as far back as it is remembered."""
    for newest in log.interference:
        for limit, window in ((per_day, timedelta(hours=24)), (per_week, timedelta(days=7))):
            counted = sum(one.count for one in log.interference if newest.at - window <= one.at <= newest.at)
            if counted >= limit:
                return newest.at
    return None


def _stalled_at(state: PumpState, since: datetime, within: timedelta) -> datetime | None:
    """From when on, ``since`` at the earliest, a stall is known to lie near remembered interference."""
    known = [
        max(one.at, stall.start)
        for one in state.scans.interference
        for stall in state.stalls
        if stall.start <= one.at + within and (stall.end is None or stall.end >= one.at - within)
    ]
    return max(since, min(known)) if known else None


CONDITIONS: Final = {"interference.repeated": Named(repeated, reads=("scans", "stalls"))}
