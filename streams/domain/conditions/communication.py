"""Communication conditions: silence, which runs on service time and is judged by ticks only, and untrustworthy data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from streams.domain.alert import Priority, PriorityStep
from streams.domain.care import CareKind
from streams.domain.observing.contacts import Drift, Notice
from streams.domain.profile import Therapy, WithdrawalClass
from streams.domain.rule import NOT_EVALUABLE, Finding, Named, Presence, Rule, View
from streams.domain.telemetry import Motor


def silent_for(view: View, rule: Rule) -> Finding:
    """COM-01: no message for 3, 8, 24 expected intervals I (INFO, LOW, MEDIUM), LOW and MEDIUM not before 4 h and 12 h.

    On W3 whose last state was not running MEDIUM comes at 3 I. A declared absence puts LOW off to its end, and nothing
    else. Only a message ends it.
    Parameters: ``info_intervals``, ``low_intervals``, ``low_hours``, ``medium_intervals``, ``medium_hours``.
    """
    heard_at, therapy, parameters = view.heard_at, view.therapy, view.parameters(rule)
    if heard_at is None:
        return NOT_EVALUABLE
    interval = therapy.interval
    info_at = heard_at + parameters["info_intervals"] * interval
    low_at = heard_at + max(timedelta(hours=parameters["low_hours"]), parameters["low_intervals"] * interval)
    medium_at = heard_at + max(timedelta(hours=parameters["medium_hours"]), parameters["medium_intervals"] * interval)
    low_at = _after_absences(therapy, low_at)
    deadlines = [(Priority.INFO, info_at), (Priority.LOW, low_at), (Priority.MEDIUM, medium_at)]
    if therapy.withdrawal is WithdrawalClass.W3 and view.state.motor != Motor.RUNNING:
        deadlines = [(Priority.MEDIUM, info_at)]
    steps = _rising((priority, at) for priority, at in deadlines if at <= view.at)
    wake_at = min((at for _, at in deadlines if at > view.at), default=None)
    if not steps:
        return Finding(Presence.NOT_EVALUABLE, wake_at=wake_at)
    values = {"since": heard_at.strftime("%Y-%m-%d %H:%M UTC")}
    return Finding(Presence.PRESENT, steps, wake_at=wake_at, values=values)


def _after_absences(therapy: Therapy, at: datetime) -> datetime:
    """When a deadline comes that no declared absence may hide longer than until its own end (I1)."""
    for record in therapy.known_care:
        # Oldest first, so that absences which follow each other add up.
        ends_at = record.ends_at
        if record.kind is CareKind.ABSENCE and ends_at is not None and record.valid_from <= at < ends_at:
            at = ends_at
    return at


def _rising(reached: Iterator[tuple[Priority, datetime]]) -> tuple[PriorityStep, ...]:
    """Steps in the order of time, each of a higher priority than all before it."""
    steps: list[PriorityStep] = []
    for priority, at in sorted(reached, key=lambda pair: (pair[1], -pair[0].rank)):
        if not steps or priority.rank > steps[-1].priority.rank:
            steps.append(PriorityStep(priority, at))
    return tuple(steps)


class _Cause(msgspec.Struct, frozen=True):
    """Why a pump's data need a check, from ``start`` (inclusive) to ``end`` (exclusive; None while it goes on)."""

    priority: Priority
    start: datetime
    text: str
    end: datetime | None = None


def untrustworthy(view: View, rule: Rule) -> Finding:
    """COM-02: a pump's clock, reports or master data are wrong; one episode, at the priority of the worst cause.

    What has no end of its own (a conflict, a gap that was given up, two pumps under one id) ends when telemetry went on
    for ``quiet_hours`` without it. Silence ends nothing.
    Parameters: ``low_offset_minutes`` and ``medium_offset_minutes`` (exclusive, at least 2), ``quiet_hours``.
    """
    parameters = view.parameters(rule)
    causes = [*_of_reports(view, parameters), *_of_master_data(view)]
    if not causes:
        return Finding(Presence.ABSENT)
    at = view.at
    bounds = [bound for cause in causes for bound in (cause.start, cause.end) if bound is not None and bound > at]
    wake_at = min(bounds, default=None)
    active = [cause for cause in causes if cause.start <= at and (cause.end is None or cause.end > at)]
    if not active:
        ended_at = max((cause.end for cause in causes if cause.end is not None and cause.end <= at), default=None)
        return Finding(Presence.ABSENT, wake_at=wake_at, ended_at=ended_at)
    worst = min(active, key=lambda cause: (-cause.priority.rank, cause.start))
    steps = _rising((cause.priority, cause.start) for cause in active)
    return Finding(Presence.PRESENT, steps, wake_at=wake_at, values={"cause": worst.text})


def _of_reports(view: View, parameters: Mapping[str, Any]) -> Iterator[_Cause]:
    """What the pump's reports and their arrivals show."""
    log = view.state.contacts
    if log.drift is not None:
        yield from _of_clock(log.drift, parameters)
    if log.alarm_at is not None:
        yield _Cause(Priority.HIGH, log.alarm_at, "a report with an impossible time carries a critical pump alarm")
    reported_at, quiet = view.state.reported_at, timedelta(hours=parameters["quiet_hours"])
    for notice, priority, text in (
        (log.gap, Priority.LOW, "reports are missing and did not come within an hour"),
        (log.conflict, Priority.MEDIUM, "two different reports came under one number"),
        (log.conflicting_alarm, Priority.HIGH, "a report that was set aside carries a critical pump alarm"),
        (log.twins, Priority.MEDIUM, "two pumps seem to report under one id"),
    ):
        if notice is not None and not _past(notice, reported_at, quiet):
            yield _Cause(priority, notice.start, text, notice.end)


def _of_clock(drift: Drift, parameters: Mapping[str, Any]) -> Iterator[_Cause]:
    way = "behind" if drift.behind else "ahead"
    text = f"the pump's clock is more than {drift.peaks[-1].minutes} min {way}"
    for priority, name in ((Priority.LOW, "low_offset_minutes"), (Priority.MEDIUM, "medium_offset_minutes")):
        peak = next((peak for peak in drift.peaks if peak.minutes >= parameters[name]), None)
        if peak is not None:
            yield _Cause(priority, peak.at, text)


def _past(notice: Notice, reported_at: datetime | None, quiet: timedelta) -> bool:
    """Whether telemetry went on long enough without it."""
    return reported_at is not None and reported_at - notice.last >= quiet


def _of_master_data(view: View) -> Iterator[_Cause]:
    """What people have to enter or to correct."""
    therapy, since = view.therapy, view.state.contacts.unknown_since
    if not therapy.known and since is not None:
        yield _Cause(Priority.MEDIUM, since, "the pump has no profile; it is judged by the strictest limits")
    for record in therapy.of_kind(CareKind.SETTING):
        if view.book is not None and not view.book.accepts(record, therapy):
            yield _Cause(Priority.LOW, record.valid_from, "a setting of this patient cannot be used")


CONDITIONS: Final = {
    "communication.silent_for": Named(silent_for, reads=()),
    "communication.untrustworthy": Named(untrustworthy, reads=("contacts",)),
}
