"""Which reports may wait: old ones that say nothing a person could still have to act on."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from streams.domain.telemetry import EventType, FlowValve, Motor, Report

QUIET_MOTORS: Final = frozenset({None, Motor.RUNNING, Motor.UNKNOWN})
ROUTINE_EVENTS: Final = frozenset(
    {EventType.BOLUS, EventType.PROGRAM_CHANGE, EventType.PROGRAMMING_SESSION, EventType.MRI_SCHEDULED}
)
"""Events that history needs and that no deadline of non-delivery starts from; every other event is news at any age."""


class Lane(StrEnum):
    """The way of a report to the worker."""

    FRESH = "fresh"
    BACKLOG = "backlog"


def carries_alarm(report: Report) -> bool:
    """Whether a report says that delivery stopped, might have stopped, or will soon stop, or what ended such a stop.

    Every doubt counts as yes: a report taken for urgent costs a place in the fast lane, the opposite mistake costs time
    that a patient may not have.
    """
    return (
        bool(report.alarms)
        or report.motor not in QUIET_MOTORS
        or report.flow_valve is FlowValve.CLOSED
        or (report.battery is not None and bool(report.battery.eos))
        or any(event.type not in ROUTINE_EVENTS for event in report.events)
    )


def lane_of(report: Report, now: datetime, backlog_age: timedelta) -> Lane:
    """The backlog for a report whose ``event_time`` is more than ``backlog_age`` before ``now`` and has no alarm."""
    old = report.event_time < now - backlog_age
    return Lane.BACKLOG if old and not carries_alarm(report) else Lane.FRESH
