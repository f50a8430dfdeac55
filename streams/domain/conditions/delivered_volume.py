"""Delivered against programmed volume: too much or too little within hours, and a drift over days or refills."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from statistics import fmean
from typing import Any, Final

from streams.domain.alert import Episode, Priority, PriorityStep
from streams.domain.observing.drift import KEPT_DAYS, Drift, Sums, newest_review
from streams.domain.observing.flow import ROUNDING_ML, Volume, short_of, window
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View


def too_fast(view: View, rule: Rule) -> Finding:
    """DLV-06: more was delivered than programmed. HIGH whatever the drug; no session or plan holds it back.

    More than ``ratio`` times the program and ``excess_ml`` more, over a full window (as long as ``window_ml`` takes, at
    least ``shortest_hours``, at most ``longest_hours``); or at once ``at_once_ml`` above the program and the boluses
    that the profile allows, within ``at_once_hours``. The programmed volume holds the boluses that were delivered.
    Source: rules_catalogue.md DLV-06, M.15.
    """
    volumes = view.state.flow.volumes
    if not volumes:
        return NOT_EVALUABLE
    parameters = view.parameters(rule)
    newest = volumes[-1]
    start = _window(volumes, len(volumes) - 1, parameters)
    if _at_once(view, parameters) or (start is not None and _over(volumes[start], newest, parameters)):
        first = volumes[start] if start is not None else volumes[0]
        step = PriorityStep(Priority.HIGH, view.due(newest.at))
        return Finding(Presence.PRESENT, (step,), values=_compared(first, newest))
    if start is None:
        return NOT_EVALUABLE
    return Finding(Presence.ABSENT, ended_at=newest.at)


def _window(volumes: tuple[Volume, ...], end: int, parameters: Mapping[str, Any]) -> int | None:
    shortest, longest = timedelta(hours=parameters["shortest_hours"]), timedelta(hours=parameters["longest_hours"])
    return window(volumes, end, parameters["window_ml"], shortest, longest)


def _over(first: Volume, last: Volume, parameters: Mapping[str, Any]) -> bool:
    programmed = last.programmed_ml - first.programmed_ml
    delivered = last.delivered_ml - first.delivered_ml
    if delivered - programmed < parameters["excess_ml"] - ROUNDING_ML:
        return False
    return bool(delivered > parameters["ratio"] * programmed + ROUNDING_ML)


def _at_once(view: View, parameters: Mapping[str, Any]) -> bool:
    volumes = view.state.flow.volumes
    newest, within = volumes[-1], timedelta(hours=parameters["at_once_hours"])
    before = [volume.delivered_ml - volume.programmed_ml for volume in volumes if newest.at - volume.at <= within]
    excess = newest.delivered_ml - newest.programmed_ml - min(before)
    return bool(excess >= parameters["at_once_ml"] + view.therapy.max_bolus_ml_per_day - ROUNDING_ML)


def _compared(first: Volume, last: Volume) -> dict[str, str]:
    return {
        "delivered": f"{last.delivered_ml - first.delivered_ml:.3f}",
        "programmed": f"{last.programmed_ml - first.programmed_ml:.3f}",
        "hours": f"{(last.at - first.at) / timedelta(hours=1):.1f}",
    }


def too_slow(view: View, rule: Rule) -> Finding:
    """DLV-07: two windows in a row got less than ``below_ratio`` of the program while the motor ran.

    MEDIUM, HIGH on W3 or for a patient at high risk. Ends when two windows in a row got ``clear_ratio`` of it; waits
    for a person once what is missing is worth half of the non-delivery budget. Source: rules_catalogue.md DLV-07, M.15.
    """
    log, parameters = view.state.flow, view.parameters(rule)
    volumes = log.volumes
    last = len(volumes) - 1
    middle = _window(volumes, last, parameters) if volumes else None
    first = _window(volumes, middle, parameters) if middle is not None else None
    if middle is None or first is None or log.running_since is None or volumes[first].at < log.running_since:
        return NOT_EVALUABLE
    windows = ((volumes[first], volumes[middle]), (volumes[middle], volumes[last]))
    if any(after.programmed_ml - before.programmed_ml < ROUNDING_ML for before, after in windows):
        return NOT_EVALUABLE
    newest, track = volumes[last], view.present_track(rule.id)
    low = all(short_of(before, after, parameters["below_ratio"]) for before, after in windows)
    enough = not any(short_of(before, after, parameters["clear_ratio"]) for before, after in windows)
    if enough or (track is None and not low):
        return Finding(Presence.ABSENT, ended_at=newest.at)
    since = view.due(newest.at if track is None else track.start)
    priority = Priority.HIGH if view.therapy.raises_medium else Priority.MEDIUM
    missing = _hours_missing(log.owing or volumes[first], newest)
    return Finding(
        Presence.PRESENT,
        (PriorityStep(priority, since),),
        latch=missing >= view.therapy.budget / 2,
        values=_compared(volumes[first], newest),
    )


def _hours_missing(first: Volume, last: Volume) -> timedelta:
    """How long the program takes for what it missed."""
    programmed = last.programmed_ml - first.programmed_ml
    if programmed < ROUNDING_ML:
        return timedelta(0)
    return (last.at - first.at) * ((programmed - (last.delivered_ml - first.delivered_ml)) / programmed)


def drifting(view: View, rule: Rule) -> Finding:
    """DLV-08: delivery drifts away from the pump's own usual accuracy, day by day, or refill by refill.

    MEDIUM when a sum passes ``limit`` (``refill_limit`` over refills), until ``clear_days`` values in a row lie near
    the usual again. HIGH while the mean of seven valid days is more than ``mean_limit`` off; on W1 MEDIUM where too
    little is delivered. Source: rules_catalogue.md DLV-08.
    """
    log = view.state.flow
    if log.drift is None:
        return _over_refills(view, rule)
    drift = log.drift
    if drift.at is None:
        return NOT_EVALUABLE
    if (reviewed := _reviewed(view, rule, drift.at)) is not None:
        return reviewed
    parameters = view.parameters(rule)
    mean = fmean(drift.newest) if len(drift.newest) == KEPT_DAYS else 0.0
    high = abs(mean) > parameters["mean_limit"] and not (mean < 0 and view.therapy.lowers_high)
    beyond = abs(mean) > parameters["mean_limit"] or _alarms(drift.sums, parameters["limit"], parameters["clear_days"])
    if not beyond:
        return Finding(Presence.ABSENT, ended_at=drift.at)
    step = PriorityStep(Priority.HIGH if high else Priority.MEDIUM, view.due(drift.at))
    return Finding(Presence.PRESENT, (step,), values={"drift": f"{_newest(drift):+.1%} on the newest day"})


def _newest(drift: Drift) -> float:
    return drift.newest[-1] if drift.newest else 0.0


def _alarms(sums: Sums, limit: float, clear_after: float) -> bool:
    up = sums.up > limit and sums.quiet_up < clear_after
    return up or (sums.down > limit and sums.quiet_down < clear_after)


def _over_refills(view: View, rule: Rule) -> Finding:
    """The same over refills, for pumps that do not sense what they deliver."""
    drift, parameters = view.state.flow.refill_drift, view.parameters(rule)
    if drift is None or drift.at is None:
        return NOT_EVALUABLE
    if (reviewed := _reviewed(view, rule, drift.at)) is not None:
        return reviewed
    if not _alarms(drift.sums, parameters["refill_limit"], 1):
        return Finding(Presence.ABSENT, ended_at=drift.at)
    step = PriorityStep(Priority.MEDIUM, view.due(drift.at))
    return Finding(Presence.PRESENT, (step,), values={"drift": "over several refills"})


def _reviewed(view: View, rule: Rule, at: datetime) -> Finding | None:
    """A person's review since the newest value ends what was found before it."""
    review = newest_review(view.therapy)
    if review is None or review.valid_from <= at:
        return None
    track: Episode | None = view.open_track(rule.id)
    if track is None or review.valid_from < track.start:
        return ABSENT
    return Finding(Presence.ABSENT, ended_at=review.valid_from, closed_by=review.person)


CONDITIONS: Final = {
    "delivery.too_fast": Named(too_fast, reads=("flow",)),
    "delivery.too_slow": Named(too_slow, reads=("flow",)),
    "delivery.drifting": Named(drifting, reads=("flow",)),
}
