"""The system's own alerts: a storm of alarms, and people who cannot be reached (rules SYS-01 and SYS-02).

They are judged where they can be seen, in the process that tells people, on observations of the whole instead of one
pump's reports. Deciding is as pure as everywhere: an observation and what is open go in, findings come out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from streams.domain.alert import Priority
from streams.domain.rule import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSeen:
    """One site at a moment of service time; ``site`` None are the pumps without a known one.

    ``newly_silent`` pumps fell silent within the last 10 minutes, ``silent`` ones are silent now. ``opened`` alerts
    opened in the last 10 minutes, ``usual_opened`` in 10 minutes on the average of the last 28 days. ``unreached`` is
    the highest priority of an unconfirmed alert of which the latest step reached nobody: all its channels failed, or
    none took the message over in time. ``on_call`` is whether anybody can be told, and ``uncovered_in_hours`` how soon
    nobody will be; None: not for as long as the rota was looked at.
    """

    site: str | None
    pumps: int = 0
    newly_silent: int = 0
    silent: int = 0
    opened: int = 0
    usual_opened: float = 0.0
    unreached: Priority | None = None
    on_call: bool = True
    uncovered_in_hours: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PumpSeen:
    """One pump of which many alerts opened: how many in the last 5 minutes."""

    pump_id: str
    site: str | None
    opened: int


@dataclass(frozen=True, slots=True)
class Observation:
    """What the notifier sees of the whole at ``at`` (service time, aware UTC)."""

    at: datetime
    sites: Sequence[SiteSeen] = ()
    pumps: Sequence[PumpSeen] = ()


@dataclass(frozen=True, slots=True)
class SystemFinding:
    """One condition that holds; ``subject`` tells two of one rule apart, and never names a person.

    ``opens``: strong enough to open an alert; otherwise it only keeps an open one from clearing (hysteresis).
    """

    rule_id: str
    subject: str
    site: str | None
    priority: Priority
    message: str
    opens: bool = True


SystemCondition = Callable[[Observation, Rule], Iterable[SystemFinding]]


def alarm_storm(observation: Observation, rule: Rule) -> Iterator[SystemFinding]:
    """SYS-01: far more alerts than a site or a patient can have, or many devices silent at once.

    A site needs ``site_pumps`` at least with ``site_silent`` of them silent, or ``site_opened`` openings in 10 minutes;
    smaller ones are judged pump by pump. Half of each threshold, inclusive, keeps a storm open.
    Source: rules_catalogue.md SYS-01, M.17.
    """
    limits = rule.parameters
    for seen in observation.sites:
        yield from _silence_storm(seen, rule, limits)
        yield from _opening_storm(seen, rule, limits)
    for pump in observation.pumps:
        if pump.opened >= limits["patient_opened"] / 2:
            what = "very many alerts of one pump within 5 minutes"
            opens = pump.opened > limits["patient_opened"]
            yield _storm(rule, f"pump/{pump.pump_id}", pump.site, what, opens=opens)


def _silence_storm(seen: SiteSeen, rule: Rule, limits: Mapping[str, Any]) -> Iterator[SystemFinding]:
    large = seen.pumps >= limits["site_pumps"]
    share = limits["silent_share"] * seen.pumps
    opens = large and seen.newly_silent >= limits["site_silent"] and seen.newly_silent > share
    if opens or (large and seen.silent >= share / 2):
        what = f"{seen.silent} of {seen.pumps} pumps of the site are silent"
        yield _storm(rule, f"silence/{seen.site or ''}", seen.site, what, opens=opens)


def _opening_storm(seen: SiteSeen, rule: Rule, limits: Mapping[str, Any]) -> Iterator[SystemFinding]:
    limit = max(limits["site_opened"] - 1, limits["usual_factor"] * seen.usual_opened)
    if seen.opened >= limit / 2:
        what = f"{seen.opened} alerts opened at the site within 10 minutes"
        yield _storm(rule, f"openings/{seen.site or ''}", seen.site, what, opens=seen.opened > limit)


def _storm(rule: Rule, subject: str, site: str | None, what: str, *, opens: bool) -> SystemFinding:
    return SystemFinding(rule.id, subject, site, Priority.HIGH, rule.message.format(what=what), opens)


def notification_failure(observation: Observation, rule: Rule) -> Iterator[SystemFinding]:
    """SYS-02: a step reached nobody, or nobody can be told at a site, now (HIGH) or within ``ahead_hours`` (MEDIUM).

    Source: rules_catalogue.md SYS-02.
    """
    for seen in observation.sites:
        if not seen.on_call:
            message = rule.message.format(what="nobody is on call for the site")
            yield SystemFinding(rule.id, f"on_call/{seen.site or ''}", seen.site, Priority.HIGH, message)
        elif seen.uncovered_in_hours is not None and seen.uncovered_in_hours <= rule.parameters["ahead_hours"]:
            message = rule.message.format(
                what=f"nobody will be on call for the site in {seen.uncovered_in_hours:.1f} h"
            )
            yield SystemFinding(rule.id, f"rota/{seen.site or ''}", seen.site, Priority.MEDIUM, message)
        if seen.unreached is not None:
            message = rule.message.format(what="a page reached nobody through any channel")
            yield SystemFinding(rule.id, f"unreached/{seen.site or ''}", seen.site, Priority.HIGH, message)


SYSTEM_CONDITIONS: Final[Mapping[str, SystemCondition]] = {
    "system.alarm_storm": alarm_storm,
    "system.notification_failure": notification_failure,
}


@dataclass(frozen=True, slots=True)
class OpenSystemAlert:
    """An alert of the system that is open."""

    rule_id: str
    subject: str
    priority: Priority


@dataclass(frozen=True, slots=True)
class Verdict:
    """What must change: alerts to open, and open ones to close."""

    opens: tuple[SystemFinding, ...]
    closes: tuple[OpenSystemAlert, ...]


class SystemBook:
    """Judges the system's rules; remembers when each condition last held, so that clearing waits.

    A process that starts anew counts the wait from its start: it clears later, never earlier.

    Args:
        rules: The rules that live in this process, each with its condition from `SYSTEM_CONDITIONS`.
        started_at: Service time.
    """

    def __init__(self, rules: Iterable[tuple[Rule, SystemCondition]], started_at: datetime) -> None:
        self._rules = tuple(rules)
        self._started_at = started_at
        self._held_at: dict[tuple[str, str], datetime] = {}

    def judge(self, observation: Observation, known: Sequence[OpenSystemAlert]) -> Verdict:
        """What opens and what closes after an observation.

        Args:
            observation: Not older than the one before.
            known: The open alerts of these rules.
        """
        found = [finding for rule, condition in self._rules for finding in condition(observation, rule)]
        for finding in found:
            self._held_at[finding.rule_id, finding.subject] = observation.at
        is_open = {(alert.rule_id, alert.subject) for alert in known}
        opens = tuple(one for one in found if one.opens and (one.rule_id, one.subject) not in is_open)
        closes = tuple(alert for alert in known if self._calm(alert, observation.at))
        kept = is_open | {(one.rule_id, one.subject) for one in found}
        self._held_at = {key: at for key, at in self._held_at.items() if key in kept}
        return Verdict(opens, closes)

    def _calm(self, alert: OpenSystemAlert, at: datetime) -> bool:
        rule = next((rule for rule, _ in self._rules if rule.id == alert.rule_id), None)
        if rule is None:
            return False
        held_at = self._held_at.get((alert.rule_id, alert.subject), self._started_at)
        hold = timedelta(minutes=rule.parameters["clear_minutes"])
        return at - held_at >= hold and held_at != at
