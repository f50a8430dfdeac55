"""The whole path in two short functions: a report comes in, or time passes, and facts about alerts come out.

Both are pure: the same arguments always give the same step, so history can be replayed, in tests, backtests and anger.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec
from msgspec.structs import replace

from streams.domain.alert import (
    AlertEvent,
    AlertEventKind,
    AlertRecord,
    Episode,
    Judged,
    Reason,
    alert_id_of,
    match,
    publish,
    with_parents,
)
from streams.domain.evaluation import Fold, judge, resolved
from streams.domain.observing import contacts
from streams.domain.observing.contacts import ContactLog, Timing, noticed
from streams.domain.profile import ProfileHistory
from streams.domain.rule import Finding, Presence, Rule, RuleBook, View
from streams.domain.telemetry import PumpId, Received
from streams.domain.world import (
    LATENESS,
    MAX_WINDOW_REPORTS,
    Arrivals,
    Folded,
    Resolution,
    World,
    give_up,
    note_arrival,
)

NON_DELIVERY_RULE: Final = "DLV-09"
DATA_RULE: Final = "COM-02"
"""What it says of the reports that arrived no later report can disprove."""
STALL_RULE: Final = "DLV-01"
TRAP_RULE: Final = "MRI-04"
LOOK_AGAIN: Final = timedelta(seconds=1)
FRESH: Final = timedelta(hours=1)
"""Delivery confirmed less than so long before the newest message leaves the planned deadline of silence in force."""
NEARLY_NEXT: Final = 1.25
"""In expected intervals: when the next message may have come at the latest, in an ordinary case."""
SETTLE: Final = timedelta(milliseconds=500)
"""How long after a report deadlines are told that had passed before it arrived: the rest of its buffer comes first."""


class Disposition(StrEnum):
    """What became of a report; also the outcome label of the metric that counts it."""

    APPLIED = "applied"
    LATE = "late"
    DUPLICATE = "duplicate"
    QUARANTINED_FUTURE = "quarantined_future"


class Step(msgspec.Struct, frozen=True, gc=False):
    """The world afterwards and the facts to publish, oldest first.

    ``released`` are reports that had been quarantined and took effect now, because the clock's offset is known.
    """

    world: World
    events: tuple[AlertEvent, ...]
    disposition: Disposition = Disposition.APPLIED
    released: tuple[Received, ...] = ()


@dataclass(frozen=True, slots=True)
class Hearing:
    """When the service could hear pumps: from ``since`` (its last resume) on, everything accepted up to ``until``.

    Both are service time. Silence counts only what lies between, so the service's own outage is never a pump's silence.
    """

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class ResolveRefused:
    """Why a person cannot close an alert now."""

    reason: str


def new_world(pump_id: str) -> World:
    """A pump that nobody has heard of yet."""
    return World(pump_id=PumpId(pump_id))


def step(world: World, received: Received, profiles: ProfileHistory, rules: RuleBook, now: datetime) -> Step:
    """Take one pump's world through one report.

    Args:
        world: The pump before the report.
        received: A validated report of this pump, with the service time at which an edge took it.
        profiles: The pump's profile versions.
        rules: The rules in force.
        now: Service time, aware UTC; the caller owns the clock.
    """
    report, arrived_at, before = received.report, received.received_at, world
    arrivals, booked = note_arrival(world.arrivals, report.boot_id, report.seq, arrived_at)
    if booked == "seen":
        return Step(world, (), Disposition.DUPLICATE)
    last_at = world.last_received_at
    heard = arrived_at if last_at is None or arrived_at > last_at else last_at
    world = replace(world, arrivals=arrivals, last_received_at=heard)
    if booked == "late":
        world, settled = _found_late(world, received, profiles, rules)
    elif booked == "next" and not world.window:
        world, settled = _appended(world, received, profiles, rules)
    else:
        window = _inserted(world.window, received)
        world, settled = _windowed(replace(world, window=window), received, profiles, rules)
    if arrivals.missed is not before.arrivals.missed:
        world, more = _gaps_noticed(world, before.arrivals, profiles, rules, arrived_at)
        settled = [*settled, *more]
    if world.silence:
        silence, forgotten = _heard(world, rules)
        world, settled = replace(world, silence=silence), [*settled, *forgotten]
    disposition, released, disproved_by = _became(before.head.timing, world, received, booked)
    if _as_published(before, world, settled, now):
        wake_at = _next_wake_at(world, world.head, profiles, rules, now, None)
        return Step(replace(world, next_wake_at=wake_at), (), disposition, released)
    return _published(world, settled, profiles, rules, now, disposition, disproved_by, released=released, settles=True)


def _as_published(before: World, world: World, settled: list[Episode], now: datetime) -> bool:
    """Whether what people were told of the world before is all there is to tell of this one.

    Nothing that goes into the comparison is another object, and no deadline had passed when they were told.
    """
    head, was = world.head, before.head
    return (
        head.tracks is was.tracks
        and not settled
        and (was.wake_at is None or was.wake_at > now)
        and (head.wake_at is None or head.wake_at > now)
        and world.silence is before.silence
        and world.log is before.log
        and world.arrivals.gaps is before.arrivals.gaps
        and head.judged_under == was.judged_under
    )


def _became(
    before: Timing, after: World, received: Received, booked: str
) -> tuple[Disposition, tuple[Received, ...], Reason]:
    """What became of a report, which reports it took out of quarantine, and what kind of evidence it is."""
    timing = after.head.timing
    events = received.report.events
    logged = bool(events) and any(event.at is not None for event in events)
    evidence = Reason.LATE_LOG if logged else Reason.LATE_EVIDENCE
    if booked == "late":
        ahead = contacts.ahead_when_late(after.base.timing, received)
        return Disposition.QUARANTINED_FUTURE if ahead else Disposition.LATE, (), evidence
    if timing.offset_ms != before.offset_ms:
        evidence = Reason.CLOCK_CORRECTED
    held, was_held = timing.held, before.held
    disposition = Disposition.QUARANTINED_FUTURE if held and received in held else Disposition.APPLIED
    return disposition, contacts.released(timing, was_held) if was_held else (), evidence


def tick(world: World, profiles: ProfileHistory, rules: RuleBook, now: datetime, hearing: Hearing) -> Step:
    """Let time pass for one pump: deadlines fire, gaps are given up, and silence is judged.

    Args:
        world: The pump's world.
        profiles: The pump's profile versions.
        rules: The rules in force.
        now: Service time, aware UTC.
        hearing: What the service could hear; see `Hearing`.
    """
    world, settled = _rejudged(world, profiles, rules)
    heard_until = min(now, hearing.until)
    arrivals = give_up(world.arrivals, heard_until)
    if arrivals is not world.arrivals:
        before = world.arrivals
        world, more = _refolded(replace(world, arrivals=arrivals), profiles, rules)
        settled = [*settled, *more]
        world, more = _gaps_noticed(world, before, profiles, rules, heard_until)
        settled = [*settled, *more]
    hearing = Hearing(hearing.since, heard_until)
    world, forgotten = _silence(world, profiles, rules, hearing)
    return _published(world, [*settled, *forgotten], profiles, rules, now, Disposition.APPLIED, hearing=hearing)


def resolve(
    world: World, profiles: ProfileHistory, rules: RuleBook, alert_id: UUID, now: datetime, actor: str
) -> Step | ResolveRefused:
    """Close an alert because a person says so.

    A latched alert closes only when its condition has ended; one that clears by itself may be closed early, and then
    stays quiet unless it worsens. The caller records the person's reason.

    Args:
        world: The pump's world.
        profiles: The pump's profile versions.
        rules: The rules in force.
        alert_id: Which alert.
        now: Service time of the decision, aware UTC.
        actor: The person's id.
    """
    record = next((record for record in world.ledger if record.alert_id == alert_id), None)
    if record is None or not record.open:
        return ResolveRefused("the alert is not open any more")
    rule = rules.get(record.rule_id)
    track = world.head.tracks.get(record.rule_id)
    resolvable = track is not None and track.resolvable(now)
    latched = rule is not None and (record.latched or rule.latches(record.priority))
    if record.active and latched and not resolvable:
        return ResolveRefused("the condition still holds; it can be confirmed, and resolved when it has ended")
    newest = world.arrivals
    resolution = Resolution(record.rule_id, now, actor, newest.boot_id or 0, newest.next_seq - 1)
    silence = {
        rule_id: resolved(track, resolution) if rule_id == record.rule_id and not track.closed else track
        for rule_id, track in world.silence.items()
    }
    world = replace(world, silence=silence)
    if world.window:
        world, settled = _refolded(replace(world, resolutions=(*world.resolutions, resolution)), profiles, rules)
    else:
        fold = Fold(world.base, profiles, rules)
        fold.resolve(resolution)
        world, settled = replace(world, base=fold.folded), fold.log
    return _published(world, settled, profiles, rules, now, Disposition.APPLIED)


def note_conflict(world: World, received: Received, profiles: ProfileHistory, rules: RuleBook, now: datetime) -> Step:
    """Note that a report says something else than the one applied before under its identity (catalogue M.18).

    The report itself takes no effect. Only the store can tell such a report from a repeated one.
    """
    at = received.received_at

    def known(log: ContactLog) -> ContactLog:
        log = replace(log, conflict=noticed(log.conflict, at))
        if contacts.critical(received.report):
            log = replace(log, conflicting_alarm=noticed(log.conflicting_alarm, at))
        return log

    world, settled = _noted(world, known, profiles, rules, at)
    return _published(world, settled, profiles, rules, now, Disposition.DUPLICATE)


def _gaps_noticed(
    world: World, before: Arrivals, profiles: ProfileHistory, rules: RuleBook, at: datetime
) -> tuple[World, list[Episode]]:
    """Note reports that are missing for longer than an hour, or the last of which came after all."""
    were = {gap for gap in before.missed if gap.holds}
    missing = [gap for gap in world.arrivals.missed if gap.holds]
    news = [gap.opened_at + LATENESS for gap in missing if gap not in were]
    known = world.base.state.contacts.gap
    # What is left of a gap that was partly filled is no news.
    news = [since for since in news if known is None or known.end is not None or since > known.last]
    if news:
        first, last = min(news), max(news)
        return _noted(
            world, lambda log: replace(log, gap=noticed(noticed(log.gap, first), last)), profiles, rules, first
        )
    if were and not missing and known is not None and known.end is None:
        over = replace(known, end=max(at, known.start))
        return _noted(world, lambda log: replace(log, gap=over), profiles, rules, at)
    return world, []


def _noted(
    world: World, change: Callable[[ContactLog], ContactLog], profiles: ProfileHistory, rules: RuleBook, at: datetime
) -> tuple[World, list[Episode]]:
    """Put what arrivals show into the base and the tip alike, so that folding again does not lose it."""
    fold = Fold(world.base, profiles, rules)
    fold.note(change(world.base.state.contacts), at)
    world, settled = replace(world, base=fold.folded), fold.log
    if world.tip is not None:
        fold = Fold(world.tip, profiles, rules)
        fold.note(change(world.tip.state.contacts), at)
        world = replace(world, tip=fold.folded, log=(*world.log, *fold.log))
    return world, settled


def _inserted(window: tuple[Received, ...], received: Received) -> tuple[Received, ...]:
    report = received.report
    key = (report.boot_id, report.seq)
    place = bisect_left(window, key, key=lambda other: (other.report.boot_id, other.report.seq))
    return (*window[:place], received, *window[place:])


def _appended(
    world: World, received: Received, profiles: ProfileHistory, rules: RuleBook
) -> tuple[World, list[Episode]]:
    """In order and nothing missing: the report joins the base for good."""
    fold = Fold(world.base, profiles, rules)
    fold.report(received)
    return replace(world, base=fold.folded, tip=None, log=()), fold.log


def _windowed(
    world: World, received: Received, profiles: ProfileHistory, rules: RuleBook
) -> tuple[World, list[Episode]]:
    """A gap is open: the newest report of the window joins its end, any other one is folded in its place."""
    at_end = world.tip is not None and world.window[-1] is received and not _frozen(world.window, world.arrivals)
    if world.tip is None or not at_end:
        return _refolded(world, profiles, rules)
    fold = Fold(world.tip, profiles, rules)
    fold.report(received)
    return replace(world, tip=fold.folded, log=(*world.log, *fold.log)), []


def _found_late(
    world: World, received: Received, profiles: ProfileHistory, rules: RuleBook
) -> tuple[World, list[Episode]]:
    """Too late to change history's order: what it says still counts where nothing newer is known of the same signal."""
    fold = Fold(world.base, profiles, rules)
    fold.report(received, found_late=True)
    world = replace(world, base=fold.folded)
    if not world.window:
        return world, fold.log
    world, settled = _refolded(world, profiles, rules)
    return world, [*fold.log, *settled]


def _refolded(world: World, profiles: ProfileHistory, rules: RuleBook) -> tuple[World, list[Episode]]:
    """Freeze what no report can precede any more, and fold the rest of the window on top of it."""
    window, frozen_count = world.window, _frozen(world.window, world.arrivals)
    fold = Fold(world.base, profiles, rules)
    resolutions = _fold_window(fold, window[:frozen_count], world.resolutions)
    rest = window[frozen_count:]
    if not rest:
        for resolution in resolutions:
            fold.resolve(resolution)
        resolutions = ()
    base, settled = fold.folded, fold.log
    fold = Fold(base, profiles, rules)
    for resolution in _fold_window(fold, rest, resolutions):
        fold.resolve(resolution)
    tip = fold.folded if rest else None
    world = replace(world, base=base, window=rest, resolutions=resolutions, tip=tip, log=tuple(fold.log))
    return world, settled


def _fold_window(
    fold: Fold, window: tuple[Received, ...], resolutions: tuple[Resolution, ...]
) -> tuple[Resolution, ...]:
    """Fold reports with the resolutions that lie between them; returns those that come after the last report."""
    waiting = list(resolutions)
    for received in window:
        key = (received.report.boot_id, received.report.seq)
        while waiting and (waiting[0].boot_id, waiting[0].seq) < key:
            fold.resolve(waiting.pop(0))
        fold.report(received)
    return tuple(waiting)


def _frozen(window: tuple[Received, ...], arrivals: Arrivals) -> int:
    """How many reports at the start of the window come before the first open gap, or overflow it."""
    overflow = max(0, len(window) - MAX_WINDOW_REPORTS)
    if not arrivals.gaps:
        return len(window)
    first = arrivals.gaps[0]
    place = bisect_left(
        window, (first.first_boot, first.first_seq), key=lambda other: (other.report.boot_id, other.report.seq)
    )
    return max(place, overflow)


def outdated(world: World, rules: RuleBook) -> bool:
    """Whether the pump's state was last judged under other rules; its next report or tick judges it under these."""
    head = world.head
    return head.state.clock is not None and head.judged_under.partition("/")[0] != rules.key


def _rejudged(world: World, profiles: ProfileHistory, rules: RuleBook) -> tuple[World, list[Episode]]:
    """Under rules that changed since the last report: a pump that says nothing more has new alerts, too."""
    if not outdated(world, rules):
        return world, []
    if world.window:
        return _refolded(world, profiles, rules)
    fold = Fold(world.base, profiles, rules)
    fold.rejudge()
    return replace(world, base=fold.folded), fold.log


def _heard(world: World, rules: RuleBook) -> tuple[dict[str, Episode], list[Episode]]:
    """End the silences that a message ends: COM-01 by the message itself, DLV-09 only by confirmed delivery."""
    if world.last_received_at is None:
        return world.silence, []
    state, heard_at = world.head.state, world.last_received_at
    tracks, forgotten = dict(world.silence), []
    for rule_id, track in world.silence.items():
        finding = Finding(Presence.ABSENT, ended_at=heard_at)
        if rule_id == NON_DELIVERY_RULE:
            confirmed_at, before = state.confirmed_at, track.silent_since
            moved = state.armed_since is None and confirmed_at and before and confirmed_at > before
            finding = Finding(Presence.ABSENT if moved else Presence.NOT_EVALUABLE, ended_at=confirmed_at)
        if (rule := rules.get(rule_id)) is not None:
            forgotten.extend(_judged_silence(tracks, rule, finding, heard_at))
    return tracks, forgotten


def _judged_silence(tracks: dict[str, Episode], rule: Rule, finding: Finding, at: datetime) -> list[Episode]:
    """Put the rule's newest episode of silence into ``tracks``; returns what it displaced."""
    newest, displaced = judge(rule, tracks.pop(rule.id, None), finding, at)
    if newest is not None:
        tracks[rule.id] = newest
    return [displaced] if displaced is not None else []


def _silence(world: World, profiles: ProfileHistory, rules: RuleBook, hearing: Hearing) -> tuple[World, list[Episode]]:
    """Judge silence on service time, as far as the service could hear."""
    if world.last_received_at is None:
        return world, []
    state, tracks = world.head.state, dict(world.silence)
    heard_at = max(world.last_received_at, hearing.since)
    view = View(state, profiles.therapy(hearing.until), world.head.tracks, hearing.until, heard_at)
    forgotten: list[Episode] = []
    for rule in rules.arrival_rules:
        before = tracks.get(rule.id)
        forgotten.extend(_judged_silence(tracks, rule, rule.condition(view, rule), hearing.until))
        after = tracks.get(rule.id)
        if after is not None and after is not before and after.silent_since is None:
            tracks[rule.id] = replace(after, silent_since=state.confirmed_at)
    return (replace(world, silence=tracks) if tracks != world.silence else world), forgotten


def _published(
    world: World,
    settled: list[Episode],
    profiles: ProfileHistory,
    rules: RuleBook,
    now: datetime,
    disposition: Disposition,
    disproved_by: Reason = Reason.LATE_EVIDENCE,
    hearing: Hearing | None = None,
    released: tuple[Received, ...] = (),
    *,
    settles: bool = False,
) -> Step:
    """Compare what is true now with what people were told, and say when to look again.

    After a report (``settles``) nothing opens or worsens by time that passed beyond it: the next one of a buffer may
    bring the evidence without which a deadline would seem to have passed. A look `SETTLE` later tells what has.
    """
    view, log = _view(world, profiles, rules, now)
    told = _episodes(view, [*settled, *world.log, *log], world.silence)
    ledger: tuple[AlertRecord, ...] = world.ledger
    events: tuple[AlertEvent, ...] = ()
    held_back = False
    if settles and view is not world.head:
        told, held_back = _without_deadlines(world, told)
    if told or ledger:
        ledger, events = _reconciled(world, told, settled, rules, disproved_by)
    wake_at = _next_wake_at(world, view, profiles, rules, now, hearing)
    if held_back and (wake_at is None or wake_at > now + SETTLE):
        wake_at = now + SETTLE
    return Step(replace(world, ledger=ledger, next_wake_at=wake_at), events, disposition, released)


def _without_deadlines(world: World, told: list[Episode]) -> tuple[list[Episode], bool]:
    """Episodes as far as the reports themselves tell them, or people know them already; and whether any was cut."""
    known = {alert_id_of(world.pump_id, track): track.priority.rank for track in world.head.tracks.values()}
    for record in world.ledger:
        known[record.alert_id] = max(known.get(record.alert_id, -1), record.priority.rank)
    by_reports = {(track.rule_id, track.start) for track in (*world.log, *world.silence.values())}
    kept, cut = [], False
    for episode in told:
        limit = known.get(alert_id_of(world.pump_id, episode), -1)
        certain = episode.rule_id == DATA_RULE or (episode.rule_id, episode.start) in by_reports
        if certain or episode.closed or episode.priority.rank <= limit:
            kept.append(episode)
            continue
        cut = True
        if limit >= 0:
            steps = tuple(step for step in episode.steps if step.priority.rank <= limit)
            kept.append(replace(episode, steps=steps or episode.steps[:1]))
    return kept, cut


def _view(world: World, profiles: ProfileHistory, rules: RuleBook, now: datetime) -> tuple[Folded, list[Episode]]:
    """The head with the deadlines that have passed by now; it is shown and published, but never becomes history."""
    head = world.head
    if head.wake_at is None or head.wake_at > now:
        return head, []
    fold = Fold(head, profiles, rules)
    fold.until(now)
    return fold.folded, fold.log


def _next_wake_at(
    world: World, view: Folded, profiles: ProfileHistory, rules: RuleBook, now: datetime, hearing: Hearing | None
) -> datetime | None:
    """When to look again at the latest; may be too early, since a message moves the deadlines of silence away."""
    planned = world.next_wake_at
    if hearing is not None or planned is None or not _planned_holds(world, profiles, planned, now):
        planned = _silence_wake_at(world, profiles, rules, hearing)
    gaps = world.arrivals.gaps
    gap_at = min(gap.opened_at for gap in gaps) + LATENESS + timedelta(seconds=1) if gaps else None
    wake_at = view.wake_at
    if planned is not None and (wake_at is None or planned < wake_at):
        wake_at = planned
    if gap_at is not None and (wake_at is None or gap_at < wake_at):
        wake_at = gap_at
    if wake_at is not None and wake_at <= now:
        # A deadline that stays due (silence behind a lag) is looked at again soon, not in a busy loop.
        return now + LOOK_AGAIN
    return wake_at


def _planned_holds(world: World, profiles: ProfileHistory, planned: datetime, now: datetime) -> bool:
    """Whether the first deadline of silence, planned after an earlier message, can stay as it is.

    It can have come nearer after silence that was already told (the next one starts with its first step again), and
    where the last message brought old news: delivery then is long unconfirmed. Budgets are never shorter than three
    hours. One that would come before the next message, or soon after, is planned anew: a needless look costs far more.
    """
    confirmed_at, heard_at = world.head.state.confirmed_at, world.last_received_at
    if world.silence or planned <= now or confirmed_at is None or heard_at is None:
        return False
    fresh = heard_at - confirmed_at < FRESH
    return fresh and planned - heard_at > NEARLY_NEXT * profiles.therapy(now).interval


def _silence_wake_at(
    world: World, profiles: ProfileHistory, rules: RuleBook, hearing: Hearing | None
) -> datetime | None:
    """The next silence deadline; without ``hearing`` as if the service heard everything since the last message."""
    if world.last_received_at is None:
        return None
    heard_at = at = world.last_received_at
    if hearing is not None:
        heard_at, at = max(heard_at, hearing.since), hearing.until
    head = world.head
    view = View(head.state, profiles.therapy(at), head.tracks, at, heard_at, head.memory)
    wakes = (rule.condition(view, rule).wake_at for rule in rules.arrival_rules)
    return min((wake_at for wake_at in wakes if wake_at is not None), default=None)


def _episodes(view: Folded, log: list[Episode], silence: dict[str, Episode]) -> list[Episode]:
    """All episodes that are true, one per rule and start; silence joins the fold's episode of the same rule."""
    if not silence:
        return [*log, *view.tracks.values()]
    tracks = dict(view.tracks)
    for rule_id, silent in silence.items():
        known = tracks.get(rule_id)
        if known is None or known.closed:
            if known is not None:
                log = [*log, known]
            tracks[rule_id] = silent
        elif not silent.closed:
            tracks[rule_id] = replace(known, start=min(known.start, silent.start))
    return [*log, *tracks.values()]


def _reconciled(
    world: World, told: list[Episode], settled: list[Episode], rules: RuleBook, disproved_by: Reason
) -> tuple[tuple[AlertRecord, ...], tuple[AlertEvent, ...]]:
    hold_clearing = any(gap.holds for gap in world.arrivals.gaps)
    judged = [Judged(episode, _hash_of(episode.rule_id, rules)) for episode in told]
    # An episode that was forgotten as retracted may have been found again with the same start: then it goes on.
    live = {(episode.rule_id, episode.start) for episode in told[len(settled) :]}
    done = {(episode.rule_id, episode.start) for episode in settled} - live
    rows: list[tuple[AlertRecord, tuple[str, ...]]] = []
    events: list[AlertEvent] = []
    for record, truth in match(world.pump_id, world.ledger, judged):
        published, facts = publish(world.pump_id, record, truth, hold_clearing=hold_clearing, disproved_by=disproved_by)
        events.extend(facts)
        if truth is None and published.retracted:
            continue
        if truth is not None and (truth.episode.rule_id, truth.episode.start) in done:
            continue
        rows.append((published, _parents(published.rule_id, truth, rules)))
    placed = with_parents(rows)
    events = _with_parent_changes(_with_takeover(events), [row for row, _ in rows], placed)
    return tuple(placed), tuple(events)


def _with_takeover(events: list[AlertEvent]) -> list[AlertEvent]:
    """Name the stall's alert that an MRI takes back at the moment at which the trap takes over its thread (M.9)."""
    stalls = (event for event in events if event.alert.rule_id == STALL_RULE and event.reason == Reason.MRI_DECLARED)
    taken = next(stalls, None)
    if taken is None:
        return events
    said = {"takes_over": str(taken.alert.alert_id)}
    return [
        replace(event, detail={**event.detail, **said})
        if event.kind is AlertEventKind.OPENED and event.alert.rule_id == TRAP_RULE
        else event
        for event in events
    ]


def _hash_of(rule_id: str, rules: RuleBook) -> str:
    rule = rules.get(rule_id)
    return rule.content_hash if rule else ""


def _parents(rule_id: str, truth: Judged | None, rules: RuleBook) -> tuple[str, ...]:
    rule = rules.get(rule_id)
    return (rule.child_of if rule else ()) + (truth.episode.parents if truth else ())


def _with_parent_changes(
    events: list[AlertEvent], before: list[AlertRecord], after: list[AlertRecord]
) -> list[AlertEvent]:
    """Put new parents into the facts, and tell a changed parent as a fact of its own where nothing else changed."""
    changed = {new.alert_id: new for old, new in zip(before, after, strict=True) if old is not new}
    if not changed:
        return events
    told = []
    last = {event.alert.alert_id: index for index, event in enumerate(events)}
    for index, event in enumerate(events):
        new = changed.get(event.alert.alert_id)
        told.append(replace(event, alert=new) if new is not None and last[new.alert_id] == index else event)
    for alert_id, new in changed.items():
        if alert_id not in last:
            told.append(
                AlertEvent(
                    kind=AlertEventKind.AMENDED,
                    effective_at=new.effective_from,
                    reason="parent_changed",
                    alert=new,
                    detail={"parent_id": str(new.parent_id) if new.parent_id else None},
                )
            )
    return told
