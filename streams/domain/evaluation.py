"""Folding reports: after every fact, and at every deadline between facts, each rule is judged against the state.

The result depends on the reports and on event time alone, so the same reports always tell the same episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from itertools import compress
from operator import is_not
from typing import Final

from msgspec.structs import astuple, replace

from streams.domain.alert import Episode, Priority, PriorityStep, Reason
from streams.domain.care import CareRecord
from streams.domain.memory import EMPTY, Fact
from streams.domain.observation import (
    expire_motor_value,
    facts,
    freeze,
    let_go,
    motor_expires_at,
    observe,
    signals,
    told,
)
from streams.domain.observing import contacts
from streams.domain.observing.contacts import ContactLog
from streams.domain.profile import ProfileHistory, Therapy, WithdrawalClass
from streams.domain.rule import FEVER_RULE, MERGE_WINDOWS, Finding, Presence, Rule, RuleBook, View
from streams.domain.telemetry import Event, Received, Report
from streams.domain.world import Folded, PumpState, Resolution

MAX_DEADLINES: Final = 1_000
"""More deadlines than this between two facts cannot come from the rules; it would be an endless loop."""
INSTANT: Final = timedelta(microseconds=1)
Waiting = dict[tuple[int, int], Received]
"""Reports in quarantine, by boot and sequence number."""


class Fold:
    """A fold in progress: reports and deadlines go in, in order; `folded` and `log` come out.

    ``log`` collects the closed episodes that a later one of the same rule displaced. ``waiting`` is kept up to date
    where it is given: the reports that took no effect, by boot and sequence number.
    """

    __slots__ = ("folded", "log", "profiles", "rules", "timing", "waiting")

    def __init__(
        self, folded: Folded, profiles: ProfileHistory, rules: RuleBook, waiting: Waiting | None = None
    ) -> None:
        self.folded, self.profiles, self.rules = folded, profiles, rules
        self.log: list[Episode] = []
        self.timing, self.waiting = folded.timing, waiting

    def report(self, received: Received, *, found_late: bool = False) -> None:
        """Fold one report in the pump's corrected time; a found-late one is older than what was already folded.

        One whose time cannot be true is held back, and folded before the report that explains it.
        """
        take = contacts.found_late if found_late else contacts.timed
        held = self.timing.held
        self.timing, ready = take(self.timing, received)
        if self.waiting is not None:
            self._wait(self.waiting, held, received)
        for one in ready:
            self._tell(one, found_late=found_late)
        log = self.folded.state.contacts
        if not self.timing.plain or log.drift is not None or log.alarm_at is not None or self.timing.twins:
            self.note(contacts.told(log, self.timing, received), contacts.heard(received))

    def _wait(self, waiting: Waiting, held_before: tuple[Received, ...], received: Received) -> None:
        held = self.timing.held
        if held and held[-1] is received:
            waiting[contacts.place(received)] = received
        else:
            waiting.pop(contacts.place(received), None)
        for one in contacts.released(self.timing, held_before):
            waiting.pop(contacts.place(one), None)

    def note(self, log: ContactLog, at: datetime) -> None:
        """Judge what became known of the pump's contacts, without letting time pass; ``at`` where no report was yet.

        Where all reports so far are in quarantine, the pump's time is when a gateway got the last of them.
        """
        state = self.folded.state
        self.folded = replace(self.folded, timing=self.timing)
        if log is not state.contacts:
            self._judge(replace(state, contacts=log), state.clock or self.timing.heard_at or at)

    def _tell(self, received: Received, *, found_late: bool) -> None:
        """Fold a report fact by fact."""
        report = received.report
        if report.events:
            for told in facts(self.folded.state, received):
                self._fact(told.at, report, told.event, told.tell, found_late=found_late)
        else:
            self._fact(report.event_time, report, None, partial(observe, report=report), found_late=found_late)

    def _fact(
        self,
        at: datetime,
        report: Report,
        event: Event | None,
        tell: Callable[[PumpState, Therapy], PumpState],
        *,
        found_late: bool,
    ) -> None:
        """Fold one fact, after the deadlines before it."""
        if not found_late:
            self.until(at)
        therapy = self.profiles.therapy(at)
        before = self.folded.state
        state = tell(before, therapy)
        remembered = 0
        if self.rules.operators and (event is not None or before.clock is None or at >= before.clock):
            remembered = self._observe(Fact(at, report, event, therapy))
        self._judge(state, at, remembered, found_late=found_late, therapy=therapy)

    def rejudge(self) -> None:
        """Judge the state as it is under the rules in force now, which are others than those it was judged under."""
        state = self.folded.state
        if state.clock is not None:
            self._judge(state, state.clock)

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
        if track is None or track.closed:
            return
        held = rule is not None and track.present and (track.latched or rule.latches(track.priority))
        if held and not track.resolvable(resolution.at):
            return
        tracks = {**self.folded.tracks, resolution.rule_id: resolved(track, resolution)}
        state = let_go(self.folded.state, resolution.rule_id)
        self.folded = replace(self.folded, tracks=tracks, state=state)

    def _observe(self, fact: Fact) -> int:
        """Tell a fact to the operators that listen to it; returns the bits of the rules whose memory changed."""
        memory, changed = self.folded.memory, 0
        for signal in signals(fact):
            for operator, bit in self.rules.operators.get(signal, ()):
                before = memory.get(operator.key, EMPTY)
                after = operator.observe(before, fact)
                if after is not before:
                    if memory is self.folded.memory:
                        memory = dict(memory)
                    memory[operator.key] = after
                    changed |= bit
        if changed:
            self.folded = replace(self.folded, memory=memory)
        return changed

    def _judge(
        self,
        state: PumpState,
        at: datetime,
        remembered: int = 0,
        *,
        found_late: bool = False,
        therapy: Therapy | None = None,
    ) -> None:
        """Judge the rules that something changed for since the last judgement; the others would find the same again.

        ``therapy`` is the one in force at ``at``, where it is known.
        """
        folded, clock = self.folded, state.clock
        moment = at if clock is None or at > clock else clock
        if therapy is None or moment is not at:
            therapy = self.profiles.therapy(moment)
        wakes_at = motor_expires_at(state, therapy.interval)
        if wakes_at is not None and wakes_at <= moment:
            state = expire_motor_value(state, wakes_at, therapy.interval)
            wakes_at = None
        round_ = _Round(self, state, therapy, moment, found_late=found_late)
        round_.due |= remembered
        round_.run()
        wake_at = min(round_.wakes.values()) if round_.wakes else None
        if wakes_at is not None and (wake_at is None or wakes_at < wake_at):
            wake_at = wakes_at
        changes_at = self.profiles.next_change(moment)
        if changes_at is not None and (wake_at is None or changes_at < wake_at):
            wake_at = changes_at
        memory = folded.memory
        if memory and folded.judged_under != round_.judged_under:
            # What a rule remembered that is gone, or means something else now, must not stay for ever.
            memory = {key: value for key, value in memory.items() if key in self.rules.operator_keys}
        self.folded = Folded(
            round_.view.state, round_.tracks, wake_at, round_.wakes, memory, round_.judged_under, self.timing
        )


class _Round:
    """One judgement of those rules that are due: ``due`` has a bit for each, by their places in the book."""

    __slots__ = ("due", "fold", "found_late", "judged_under", "moment", "taken_out", "tracks", "view", "wakes")

    def __init__(self, fold: Fold, state: PumpState, therapy: Therapy, moment: datetime, *, found_late: bool) -> None:
        folded, rules = fold.folded, fold.rules
        self.fold, self.moment, self.found_late = fold, moment, found_late
        self.tracks, self.wakes = folded.tracks, folded.wakes
        self.view = View(state, therapy, folded.tracks, moment, None, folded.memory, rules)
        self.taken_out = self.view.taken_out
        self.judged_under = f"{rules.key}/{therapy.key}{'/out' if self.taken_out else ''}"
        if folded.judged_under != self.judged_under:
            # Rules that are gone want nothing any more.
            self.wakes = {rule_id: at for rule_id, at in folded.wakes.items() if rule_id in rules.place}
            self.due = -1
            return
        self.due = changed_fields(rules.masks, folded.state, state)
        if self.tracks or self.wakes:
            self._waiting()

    def _waiting(self) -> None:
        """Rules are due whose alert is open, and those that asked for this moment."""
        place = self.fold.rules.place
        for rule_id, track in self.tracks.items():
            if not track.closed or track.muted:
                self.due |= 1 << place.get(rule_id, 0)
        for rule_id, at in self.wakes.items():
            if at <= self.moment:
                self.due |= 1 << place[rule_id]

    def run(self) -> None:
        """Judge the due rules in the book's order; what one changes makes later ones due."""
        rules, place = self.fold.rules.event_rules, 0
        while waiting := self.due >> place:
            # The lowest bit that is set: of forty rules a report concerns a handful.
            place += (waiting & -waiting).bit_length()
            if place > len(rules):
                return
            self._one(rules[place - 1])

    def _one(self, rule: Rule) -> None:
        view, tracks = self.view, self.tracks
        finding = rule.condition(view, rule)
        track = tracks.get(rule.id)
        if self.taken_out is not None:
            finding = out_of_service(finding, self.taken_out, track)
        wake_at = finding.wake_at
        if track is not None or finding.presence is Presence.PRESENT:
            if FEVER_RULE in tracks:
                finding = advanced(rule, finding, view)
            newest, displaced = judge(rule, track, finding, self.moment, found_late=self.found_late)
            if displaced is not None:
                self.fold.log.append(displaced)
            if newest is not track:
                self._changed(rule, track, newest, finding)
                if track is not None and track.present and (newest is None or not newest.present):
                    # It may have ended long ago: what came since may be the next one, and starts when it did.
                    self._one(rule)
                    return
            if newest is not None and newest.closed and newest.ended_at is not None and not newest.muted:
                # Until then a recurrence continues the same alert.
                forgotten_at = newest.ended_at + MERGE_WINDOWS[newest.priority] + INSTANT
                if forgotten_at > self.moment and (wake_at is None or forgotten_at < wake_at):
                    wake_at = forgotten_at
        if (wake_at is not None or self.wakes) and wake_at != self.wakes.get(rule.id):
            self._wants(rule.id, wake_at)

    def _wants(self, wanting: str, wake_at: datetime | None) -> None:
        """Note when a rule wants to be judged again; None: it does not."""
        self.wakes = {rule_id: at for rule_id, at in self.wakes.items() if rule_id != wanting}
        if wake_at is not None:
            self.wakes[wanting] = wake_at

    def _changed(self, rule: Rule, track: Episode | None, newest: Episode | None, finding: Finding) -> None:
        view = self.view
        tracks = {key: value for key, value in self.tracks.items() if key != rule.id}
        if newest is not None:
            tracks[rule.id] = newest
        view.tracks = self.tracks = tracks
        self.due |= self.fold.rules.followers[rule.id]
        if newest is None or not newest.present:
            return
        before, frozen_at = view.state, _freezes_at(rule, track, finding)
        view.state = told(before, newest)
        if frozen_at is not None:
            view.state = freeze(view.state, frozen_at, view.therapy.interval, rule.freezes)
        self.due |= changed_fields(self.fold.rules.masks, before, view.state)


def _freezes_at(rule: Rule, track: Episode | None, finding: Finding) -> datetime | None:
    """When an alert that opens, comes back or worsens freezes the delivery clock; None when it does not, or has."""
    if rule.freezes == "never" or (track is not None and track.present and _freezing(rule, track.steps)):
        return None
    step = _freezing(rule, finding.steps)
    return step.at if step is not None else None


def _freezing(rule: Rule, steps: tuple[PriorityStep, ...]) -> PriorityStep | None:
    return next((step for step in steps if step.priority.rank >= rule.freezes_from.rank), None)


def found(rule: Rule, view: View, track: Episode | None) -> Finding:
    """What a rule says of a pump, and of one that was taken out of service; ``track`` is the rule's latest episode."""
    finding, record = rule.condition(view, rule), view.taken_out
    return finding if record is None else out_of_service(finding, record, track)


def out_of_service(finding: Finding, record: CareRecord, track: Episode | None) -> Finding:
    """A pump that was taken out has no condition any more; what was reached before that was known stays (M.7).

    What waits for a person goes on waiting, unless the rule itself takes the record for that person's word.
    """
    if finding.closed_by is not None:
        return finding
    reached = track.steps[-1].at if track is not None else record.valid_from
    return Finding(Presence.ABSENT, ended_at=max(record.valid_from, reached))


def changed_fields(masks: tuple[int, ...], before: PumpState, after: PumpState) -> int:
    """The bits of all rules that read a field which is another object now."""
    due = 0
    if before is not after:
        for mask in compress(masks, map(is_not, astuple(before), astuple(after))):
            due |= mask
    return due


def advanced(rule: Rule, finding: Finding, view: View) -> Finding:
    """The finding, one ladder step further where it tells of delivery or an MRI and the patient may have a fever.

    From MEDIUM on, and on W3 only: there warmth at the pump may be withdrawal (rule TMP-01; clinical.md F-01).
    """
    if not rule.advanced_by_fever or finding.presence is not Presence.PRESENT or finding.start_step:
        return finding
    warm = view.therapy.withdrawal is WithdrawalClass.W3 and view.present_track(FEVER_RULE) is not None
    urgent = finding.steps[-1].priority.rank >= Priority.MEDIUM.rank
    return replace(finding, start_step=1) if warm and urgent else finding


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
    ended = _absent(rule, track, finding, at)
    if finding.closed_by is not None and not ended.closed:
        reason = Reason.RESOLVED_BY_PERSON
        ended = replace(ended, closed=True, latched=False, resolved_by=finding.closed_by, reason=reason)
    return ended, None


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
        latched=_latched(rule, steps, track) or finding.latch,
        message=rule.text(finding),
        reminders=finding.reminders,
        start_step=max(track.start_step, finding.start_step),
        resolvable_from=finding.resolvable_from,
        ladder=rule.ladder,
    )
    return (track if latest == track else latest), None


def _opened(rule: Rule, steps: tuple[PriorityStep, ...], finding: Finding, found_late: bool) -> Episode:
    return Episode(
        rule_id=rule.id,
        start=steps[0].at,
        steps=steps,
        latched=rule.latches(steps[-1].priority) or finding.latch,
        physician_by=finding.physician_by,
        found_late=found_late,
        parents=finding.parents,
        message=rule.text(finding),
        reminders=finding.reminders,
        start_step=finding.start_step,
        resolvable_from=finding.resolvable_from,
        ladder=rule.ladder,
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
    latched = _latched(rule, steps, track)
    return replace(
        track,
        steps=steps,
        present=False,
        latched=latched,
        closed=not latched,
        ended_at=ended_at,
        reason=Reason.CONDITION_ENDED,
        message=rule.text(finding) if finding.values is not None else track.message,
    )


def _latched(rule: Rule, steps: tuple[PriorityStep, ...], track: Episode) -> bool:
    """By the priority reached, or because a finding latched an alert of a rule that by itself does not latch."""
    reached = max((step.priority for step in steps), key=lambda priority: priority.rank)
    return rule.latches(reached) or (rule.latching is None and track.latched and not track.closed)


def _retracted(track: Episode, reason: Reason) -> Episode:
    return replace(
        track, present=False, latched=False, closed=True, retracted=True, ended_at=track.start, reason=reason
    )


def resolved(track: Episode, resolution: Resolution) -> Episode:
    """The episode after a person closed it; while its condition goes on, it stays muted unless it worsens.

    A fact of the past does not go on: once resolved it is over.
    """
    goes_on = track.present and track.resolvable_from is None
    return replace(
        track,
        present=goes_on,
        closed=True,
        latched=False,
        muted=goes_on,
        ended_at=track.ended_at or resolution.at,
        resolved_by=resolution.actor,
        reason=Reason.RESOLVED_BY_PERSON,
    )
