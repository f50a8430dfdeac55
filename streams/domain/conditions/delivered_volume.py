"""Delivered against programmed volume: too much or too little within hours, and a drift over days or refills."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from statistics import fmean
from typing import Any, Final

from streams.domain.alert import Episode, Priority, PriorityStep
from streams.domain.observing.drift import KEPT_DAYS, Drift, Sums, newest_review
from streams.domain.observing.flow import ROUNDING_ML, Volume, window
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View

ROUNDING: Final = 1e-9
"""Ratios closer than this are equal."""


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
        step = PriorityStep(Priority.HIGH, newest.at)
        return Finding(Presence.PRESENT, (step,), values=_compared(first, newest))
    if start is None:
        return NOT_EVALUABLE
    return Finding(Presence.ABSENT, ended_at=newest.at)


def _window(volumes: tuple[Volume, ...], end: int, parameters: Mapping[str, Any]) -> int | None:
    shortest, longest = _hours(parameters["shortest_hours"]), _hours(parameters["longest_hours"])
    return window(volumes, end, parameters["window_ml"], shortest, longest)


@lru_cache(maxsize=64)
def _hours(hours: float) -> timedelta:
    """Rules ask for the same few lengths at every report."""
    return timedelta(hours=hours)


def _over(first: Volume, last: Volume, parameters: Mapping[str, Any]) -> bool:
    programmed = last.programmed_ml - first.programmed_ml
    delivered = last.delivered_ml - first.delivered_ml
    if delivered - programmed < parameters["excess_ml"] - ROUNDING_ML:
        return False
    return bool(delivered > parameters["ratio"] * programmed + ROUNDING_ML)


def _at_once(view: View, parameters: Mapping[str, Any]) -> bool:
    volumes = view.state.flow.volumes
    newest = volumes[-1]
    since = newest.at - _hours(parameters["at_once_hours"])
    too_much = parameters["at_once_ml"] + view.therapy.max_bolus_ml_per_day - ROUNDING_ML
    allowed = newest.delivered_ml - newest.programmed_ml - too_much
    for volume in reversed(volumes):
        if volume.at < since:
            return False
        if volume.delivered_ml - volume.programmed_ml <= allowed:
            return True
    return False


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
    if middle is None:
        return NOT_EVALUABLE
    below = parameters["below_ratio"] - ROUNDING
    if rule.id not in view.tracks and _share(volumes[middle], volumes[last]) >= below:
        return ABSENT  # One window that is not low settles it for nearly every report.
    first = _window(volumes, middle, parameters)
    if first is None or log.running_since is None or volumes[first].at < log.running_since:
        return NOT_EVALUABLE
    before, between, newest = volumes[first], volumes[middle], volumes[last]
    share = min(_share(before, between), _share(between, newest))
    most = max(_share(before, between), _share(between, newest))
    if share < 0:
        return NOT_EVALUABLE
    track = view.present_track(rule.id)
    if share >= parameters["clear_ratio"] - ROUNDING or (track is None and most >= below):
        return Finding(Presence.ABSENT, ended_at=newest.at)
    since = newest.at if track is None else track.start
    priority = Priority.HIGH if view.therapy.raises_medium else Priority.MEDIUM
    missing = _hours_missing(log.owing or before, newest)
    return Finding(
        Presence.PRESENT,
        (PriorityStep(priority, since),),
        latch=missing >= view.therapy.budget / 2,
        values=_compared(before, newest),
    )


def _share(first: Volume, last: Volume) -> float:
    """What was delivered over what was programmed; -1 where nothing was programmed."""
    programmed = last.programmed_ml - first.programmed_ml
    return (last.delivered_ml - first.delivered_ml) / programmed if programmed > ROUNDING_ML else -1.0


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
    step = PriorityStep(Priority.HIGH if high else Priority.MEDIUM, drift.at)
    return Finding(Presence.PRESENT, (step,), values={"drift": f"{_newest(drift):+.1%} on the newest day"})


def _newest(drift: Drift) -> float:
    return drift.newest[-1] if drift.newest else 0.0


def _alarms(sums: Sums, limit: float, clear_after: float) -> bool:
    up = sums.up > limit and sums.quiet_up < clear_after
    return up or (sums.down > limit and sums.quiet_down < clear_after)


def _over_refills(view: View, rule: Rule) -> Finding:
    """The same over refills, for pumps that do not sense what they deliver: by their counter, or by the schedule."""
    drift, parameters = view.state.flow.refill_drift, view.parameters(rule)
    if drift is None:
        return NOT_EVALUABLE
    if (reviewed := _reviewed(view, rule, drift.at)) is not None:
        return reviewed
    if not _alarms(drift.sums, parameters["refill_limit"], 1):
        return Finding(Presence.ABSENT, ended_at=drift.at)
    step = PriorityStep(Priority.MEDIUM, drift.at)
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
