"""How often and how long the motor stalls: short stalls that each recover add up to a failing pump (F-04)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from streams.domain.alert import Episode, Priority, PriorityStep, Reason
from streams.domain.care import CareKind, CareRecord
from streams.domain.observing.scans import in_window
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View
from streams.domain.world import KEPT, Stall

TOLD_ALREADY: Final = ("DLV-01", "MRI-02", "MRI-04")
Span = tuple[datetime, datetime]
"""From, until; both inclusive."""


def burden(view: View, rule: Rule) -> Finding:
    """DLV-02: stalls are too many or too long together; MEDIUM, HIGH on W3 or for a patient at high risk.

    ``episodes`` within ``episodes_hours``; a pair within ``pair_hours`` (0: a pair does not count); or a total of
    ``total_minutes`` within ``total_hours``. Of a stall in a declared MRI window the first ``mri_allowance_minutes``
    do not count: one that ends by then is no episode. A review by a person ends it: earlier stalls count no more. One
    single long stall is a child of the alert that tells it already; repeated ones are news of their own.
    Source: rules_catalogue.md DLV-02.
    """
    state, at = view.state, view.at
    if not state.stalls:
        return NOT_EVALUABLE if state.motor is None else ABSENT
    parameters = view.parameters(rule)
    review = _review(view, rule)
    counted = _counted(view, review, timedelta(minutes=parameters["mri_allowance_minutes"]))
    spans = _spans(counted, parameters, at)
    track = view.present_track(rule.id)
    wake_at = min((start for start, _ in spans if start > at), default=None)
    holding = next((span for span in spans if span[0] <= at <= span[1]), None)
    if holding is None:
        return _over(view, rule, track, spans, review, wake_at)
    since = holding[0] if track is None else track.start
    priority = Priority.HIGH if view.therapy.raises_medium else Priority.MEDIUM
    told_since = at - timedelta(hours=parameters["episodes_hours"])
    recent = sum(1 for start, _ in counted if told_since <= start <= at)
    values = {"stalls": str(recent), "hours": f"{parameters['episodes_hours']:g}"}
    parents = TOLD_ALREADY if len(counted) == 1 else ()
    return Finding(Presence.PRESENT, (PriorityStep(priority, since),), wake_at=wake_at, parents=parents, values=values)


def _over(
    view: View,
    rule: Rule,
    track: Episode | None,
    spans: list[Span],
    review: CareRecord | None,
    wake_at: datetime | None,
) -> Finding:
    """The burden is below every limit: it never was above, a person ended it, or delivery was confirmed since."""
    state = view.state
    if track is None:
        return Finding(Presence.ABSENT, wake_at=wake_at)
    if review is not None and review.valid_from >= track.start:
        return Finding(Presence.ABSENT, ended_at=review.valid_from, closed_by=review.person, wake_at=wake_at)
    if (reason := _never_was(view, rule, track, spans)) is not None:
        return Finding(Presence.ABSENT, retract=reason, wake_at=wake_at)
    ended_at = max((end for _, end in spans if end <= view.at), default=track.start)
    if state.armed_since is None and state.confirmed_at is not None and state.confirmed_at > ended_at:
        return Finding(Presence.ABSENT, ended_at=state.confirmed_at, wake_at=wake_at)
    # The mere passing of time shows nothing: silence never ends it.
    return Finding(Presence.NOT_EVALUABLE, wake_at=wake_at)


def _never_was(view: View, rule: Rule, track: Episode, spans: list[Span]) -> Reason | None:
    """Why the burden at the alert's start is disproved: an MRI declared later, or a recovery told later."""
    stalls, start = view.state.stalls, track.start
    parameters = view.parameters(rule)
    remembered = timedelta(hours=max(parameters["episodes_hours"], parameters["total_hours"]))
    forgotten = len(stalls) == KEPT and min(stall.start for stall in stalls) > start - remembered
    other_terms = view.therapy.since is not None and view.therapy.since > start
    if forgotten or any(since <= start <= until for since, until in spans):
        return None
    whole = _spans(_counted(view, None, None), parameters, start)
    if any(since <= start <= until for since, until in whole):
        return Reason.MRI_DECLARED
    return None if other_terms else Reason.LATE_LOG


def _review(view: View, rule: Rule) -> CareRecord | None:
    reviews = (record for record in view.therapy.of_kind(CareKind.REVIEW) if record.rule_id == rule.id)
    return max(reviews, key=lambda record: record.valid_from, default=None)


def _counted(
    view: View, review: CareRecord | None, allowance: timedelta | None
) -> list[tuple[datetime, datetime | None]]:
    """What counts of each stall, oldest first; without ``allowance`` MRI explains nothing."""
    spared = allowance if view.therapy.known and not view.therapy.valve_gated else None
    counted = []
    for stall in sorted(view.state.stalls, key=lambda stall: stall.start):
        if review is not None and stall.start <= review.valid_from:
            continue
        start = stall.start
        if spared is not None and _during_mri(view, stall):
            start += spared
            if stall.end is not None and stall.end <= start:
                continue
        counted.append((start, stall.end))
    return counted


def _during_mri(view: View, stall: Stall) -> bool:
    return any(in_window(scan, stall.start) for scan in view.state.flow.scans)


def _spans(counted: list[tuple[datetime, datetime | None]], parameters: Mapping[str, Any], at: datetime) -> list[Span]:
    """When any limit is reached, if a stall that goes on at ``at`` were never to end; oldest first, joined."""
    starts = [start for start, _ in counted]
    window = timedelta(hours=parameters["total_hours"])
    spans = [
        *_close_together(starts, int(parameters["episodes"]), timedelta(hours=parameters["episodes_hours"])),
        *_close_together(starts, 2, timedelta(hours=parameters["pair_hours"])),
        *_long_together(counted, timedelta(minutes=parameters["total_minutes"]), window, at),
    ]
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _close_together(starts: list[datetime], episodes: int, within: timedelta) -> list[Span]:
    """From the start of the last of so many episodes until the first of them is too long ago."""
    if not within:
        return []
    pairs = zip(starts, starts[episodes - 1 :], strict=False)
    return [(last, first + within) for first, last in pairs if last - first <= within]


def _long_together(
    counted: list[tuple[datetime, datetime | None]], limit: timedelta, window: timedelta, at: datetime
) -> list[Span]:
    """When the time stalled within a sliding window is at least ``limit``."""
    bends: list[tuple[datetime, int]] = []
    for start, told_end in counted:
        end = told_end if told_end is not None else max(at, start) + 2 * window
        bends += [(start, 1), (end, -1), (start + window, -1), (end + window, 1)]
    bends.sort()
    spans: list[Span] = []
    total, slope, before = timedelta(0), 0, bends[0][0] if bends else at
    above_since: datetime | None = None
    for moment, bend in bends:
        after = total + slope * (moment - before)
        if above_since is None and after >= limit and slope > 0:
            above_since = before + (limit - total) / slope
        elif above_since is not None and after < limit:
            spans.append((above_since, before + (total - limit) / -slope))
            above_since = None
        total, slope, before = after, slope + bend, moment
    return spans


CONDITIONS: Final = {"delivery.stall_burden": Named(burden, reads=("stalls", "mri"))}
