"""Folding reports: after every fact, and at every deadline between facts, each rule is judged against the state.

The result depends on the reports and on event time alone, so the same reports always tell the same episodes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec.structs import replace

from streams.domain.alert import Episode, PriorityStep, Reason
from streams.domain.observation import expire_motor_value, facts, freeze, motor_expires_at
from streams.domain.profile import ProfileHistory
from streams.domain.rule import MERGE_WINDOWS, Finding, Presence, Rule, RuleBook, View
from streams.domain.telemetry import Report
from streams.domain.world import Folded, PumpState, Resolution

MAX_DEADLINES: Final = 1_000
"""More deadlines than this between two facts cannot come from the rules; it would be an endless loop."""


class Fold:
    """A fold in progress: reports and deadlines go in, in order; `folded` and `log` come out.

    ``log`` collects the closed episodes that a later one of the same rule displaced.
    """

    __slots__ = ("folded", "log", "profiles", "rules")

    def __init__(self, folded: Folded, profiles: ProfileHistory, rules: RuleBook) -> None:
        self.folded, self.profiles, self.rules = folded, profiles, rules
        self.log: list[Episode] = []

    def report(self, report: Report, *, found_late: bool = False) -> None:
        """Fold one report, fact by fact; a found-late one is older than what was already folded."""
        for at, tell in facts(self.folded.state, report):
            if not found_late:
                self.until(at)
            therapy = self.profiles.therapy(at)
            state = tell(self.folded.state, therapy)
            self._judge(state, at, found_late=found_late)

    def until(self, moment: datetime) -> None:
        """Let time pass up to ``moment`` (inclusive), stopping at each deadline on the way."""
        for _ in range(MAX_DEADLINES):
            at = self.folded.wake_at
            if at is None or at > moment:
                return
            state = self.folded.state
            interval = self.profiles.therapy(at).interval
            expires_at = motor_expires_at(state, interval)
            if expires_at is not None and expires_at <= at:
                state = expire_motor_value(state, expires_at, interval)
            self._judge(replace(state, clock=max(at, state.clock or at)), at)
        raise RuntimeError("deadlines do not end")

    def resolve(self, resolution: Resolution) -> None:
        """Close a rule's open episode because a person says so; muted while its condition goes on.

        A latched episode that late evidence shows to go on stays open: nobody would have closed it.
        """
        self.until(resolution.at)
        track = self.folded.tracks.get(resolution.rule_id)
        rule = self.rules.get(resolution.rule_id)
        if track is None or track.closed or (rule is not None and track.present and rule.latches(track.priority)):
            return
        tracks = {**self.folded.tracks, resolution.rule_id: resolved(track, resolution)}
        self.folded = replace(self.folded, tracks=tracks)

    def _judge(self, state: PumpState, at: datetime, *, found_late: bool = False) -> None:
        clock = state.clock
        moment = at if clock is None or at > clock else clock
        therapy = self.profiles.therapy(moment)
        tracks = self.folded.tracks
        view = View(state, therapy, tracks, moment)
        wake_at = motor_expires_at(state, therapy.interval)
        if wake_at is not None and wake_at <= moment:
            state = view.state = expire_motor_value(state, wake_at, therapy.interval)
            wake_at = None
        changes_at = self.profiles.next_change(moment)
        if changes_at is not None and (wake_at is None or changes_at < wake_at):
            wake_at = changes_at
        for rule in self.rules.event_rules:
            finding = rule.condition(view, rule)
            if finding.wake_at is not None and (wake_at is None or finding.wake_at < wake_at):
                wake_at = finding.wake_at
            track = tracks.get(rule.id)
            if track is None and finding.presence is not Presence.PRESENT:
                continue
            newest, displaced = judge(rule, track, finding, moment, found_late=found_late)
            if displaced is not None:
                self.log.append(displaced)
            if newest is track:
                continue
            tracks = {key: value for key, value in tracks.items() if key != rule.id}
            if newest is not None:
                tracks[rule.id] = newest
            view.tracks = tracks
            if rule.freezes != "never" and newest is not None and newest.present and not (track and track.present):
                until_refill = rule.freezes == "until_refill"
                state = view.state = freeze(state, newest.start, therapy.interval, until_refill=until_refill)
        self.folded = Folded(state, tracks, wake_at)


def judge(
    rule: Rule, track: Episode | None, finding: Finding, at: datetime, *, found_late: bool = False
) -> tuple[Episode | None, Episode | None]:
    """One rule's latest episode after a finding, and a closed one that it displaced or that may be forgotten."""
    if finding.presence is Presence.PRESENT:
        return _present(rule, track, finding, found_late=found_late)
    if track is None:
        return None, None
    if track.closed:
        if track.muted and finding.presence is Presence.ABSENT:
            track = replace(track, muted=False, present=False, ended_at=finding.ended_at or at)
        return (None, track) if _forgotten(track, at) else (track, None)
    if finding.presence is Presence.NOT_EVALUABLE:
        return track, None
    return _absent(rule, track, finding, at), None


def _forgotten(track: Episode, at: datetime) -> bool:
    """Whether a closed episode is too old to be continued by a recurrence."""
    if track.muted or track.ended_at is None:
        return False
    return track.retracted or at - track.ended_at > MERGE_WINDOWS[track.priority]


def _present(
    rule: Rule, track: Episode | None, finding: Finding, *, found_late: bool
) -> tuple[Episode, Episode | None]:
    reached = finding.steps
    if track is None:
        return _opened(rule, reached, finding, found_late), None
    start = reached[0].at
    if track.closed:
        if track.muted and max(step.priority.rank for step in reached) <= track.priority.rank:
            return track, None
        same = start == track.start
        if not same and (track.retracted or _too_long_after(track, start)):
            return _opened(rule, reached, finding, found_late), track
    steps = _joined(track.steps, reached)
    if track.retracted:
        steps = reached
    again = track.closed or not track.present
    latest = replace(
        track,
        steps=steps,
        present=True,
        closed=False,
        retracted=False,
        muted=False,
        resolved_by=None,
        ended_at=None,
        recurrences=track.recurrences + again,
        recurred_at=start if again else track.recurred_at,
        physician_by=finding.physician_by,
        parents=finding.parents,
        latched=rule.latches(max((step.priority for step in steps), key=lambda priority: priority.rank)),
        message=rule.text(finding),
    )
    return (track if latest == track else latest), None


def _opened(rule: Rule, steps: tuple[PriorityStep, ...], finding: Finding, found_late: bool) -> Episode:
    return Episode(
        rule_id=rule.id,
        start=steps[0].at,
        steps=steps,
        latched=rule.latches(steps[-1].priority),
        physician_by=finding.physician_by,
        found_late=found_late,
        parents=finding.parents,
        message=rule.text(finding),
    )


def _too_long_after(track: Episode, start: datetime) -> bool:
    return track.ended_at is not None and start - track.ended_at > MERGE_WINDOWS[track.priority]


def _joined(known: tuple[PriorityStep, ...], reached: tuple[PriorityStep, ...]) -> tuple[PriorityStep, ...]:
    """Priorities once reached stay; only higher ones are added."""
    highest = max((step.priority.rank for step in known), default=-1)
    added = tuple(step for step in reached if step.priority.rank > highest)
    return known + added if added else known


def _absent(rule: Rule, track: Episode, finding: Finding, at: datetime) -> Episode:
    if finding.retract is not None:
        return _retracted(track, finding.retract)
    if not track.present:
        return track
    ended_at = finding.ended_at or at
    steps = tuple(step for step in track.steps if step.at <= ended_at)
    if not steps or ended_at < track.start:
        return _retracted(track, Reason.LATE_LOG)
    latched = rule.latches(max((step.priority for step in steps), key=lambda priority: priority.rank))
    return replace(
        track,
        steps=steps,
        present=False,
        latched=latched,
        closed=not latched,
        ended_at=ended_at,
        reason=Reason.CONDITION_ENDED,
    )


def _retracted(track: Episode, reason: Reason) -> Episode:
    return replace(
        track, present=False, latched=False, closed=True, retracted=True, ended_at=track.start, reason=reason
    )


def resolved(track: Episode, resolution: Resolution) -> Episode:
    """The episode after a person closed it; while its condition goes on, it stays muted unless it worsens."""
    return replace(
        track,
        closed=True,
        latched=False,
        muted=track.present,
        ended_at=track.ended_at or resolution.at,
        resolved_by=resolution.actor,
        reason=Reason.RESOLVED_BY_PERSON,
    )
