"""Communication conditions: silence, which runs on service time and is judged by ticks only."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from streams.domain.alert import Priority, PriorityStep
from streams.domain.profile import WithdrawalClass
from streams.domain.rule import NOT_EVALUABLE, Finding, Named, Presence, Rule, View
from streams.domain.telemetry import Motor


def silent_for(view: View, rule: Rule) -> Finding:
    """COM-01: no message for 3, 8, 24 expected intervals I (INFO, LOW, MEDIUM), LOW and MEDIUM not before 4 h and 12 h.

    On W3 whose last state was not running MEDIUM comes at 3 I. Only a message ends it.
    Parameters: ``info_intervals``, ``low_intervals``, ``low_hours``, ``medium_intervals``, ``medium_hours``.
    """
    heard_at, therapy, parameters = view.heard_at, view.therapy, view.parameters(rule)
    if heard_at is None:
        return NOT_EVALUABLE
    interval = therapy.interval
    info_at = heard_at + parameters["info_intervals"] * interval
    low_at = heard_at + max(timedelta(hours=parameters["low_hours"]), parameters["low_intervals"] * interval)
    medium_at = heard_at + max(timedelta(hours=parameters["medium_hours"]), parameters["medium_intervals"] * interval)
    deadlines = [(Priority.INFO, info_at), (Priority.LOW, low_at), (Priority.MEDIUM, medium_at)]
    if therapy.withdrawal is WithdrawalClass.W3 and view.state.motor != Motor.RUNNING:
        deadlines = [(Priority.MEDIUM, info_at)]
    steps = tuple(PriorityStep(priority, at) for priority, at in deadlines if at <= view.at)
    wake_at = min((at for _, at in deadlines if at > view.at), default=None)
    if not steps:
        return Finding(Presence.NOT_EVALUABLE, wake_at=wake_at)
    values = {"since": heard_at.strftime("%Y-%m-%d %H:%M UTC")}
    return Finding(Presence.PRESENT, steps, wake_at=wake_at, values=values)


CONDITIONS: Final = {"communication.silent_for": Named(silent_for, reads=())}
