"""What people are told: what is true now is compared with what they know, and the next look is planned."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from streams.domain import silence
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
from streams.domain.evaluation import Fold
from streams.domain.profile import ProfileHistory
from streams.domain.rule import RuleBook
from streams.domain.silence import Hearing
from streams.domain.world import LATENESS, Folded, World

DATA_RULE: Final = "COM-02"
"""What it says of the reports that arrived no later report can disprove."""
STALL_RULE: Final = "DLV-01"
TRAP_RULE: Final = "MRI-04"
LOOK_AGAIN: Final = timedelta(seconds=1)
SETTLE: Final = timedelta(milliseconds=500)
"""How long after a report deadlines are told that had passed before it arrived: the rest of its buffer comes first."""


def as_published(before: World, world: World, settled: list[Episode], now: datetime) -> bool:
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


def published(
    world: World,
    settled: list[Episode],
    profiles: ProfileHistory,
    rules: RuleBook,
    now: datetime,
    disproved_by: Reason = Reason.LATE_EVIDENCE,
    *,
    hearing: Hearing | None = None,
    settles: bool = False,
) -> tuple[World, tuple[AlertEvent, ...]]:
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
    wake_at = next_wake_at(world, view, profiles, rules, now, hearing)
    if held_back and (wake_at is None or wake_at > now + SETTLE):
        wake_at = now + SETTLE
    return replace(world, ledger=ledger, next_wake_at=wake_at), events


def next_wake_at(
    world: World, view: Folded, profiles: ProfileHistory, rules: RuleBook, now: datetime, hearing: Hearing | None
) -> datetime | None:
    """When to look again at the latest; may be too early, since a message moves the deadlines of silence away."""
    planned = world.next_wake_at
    if hearing is not None or planned is None or not silence.still_planned(world, profiles, planned, now):
        planned = silence.next_deadline(world, profiles, rules, hearing)
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


def _episodes(view: Folded, log: list[Episode], silences: dict[str, Episode]) -> list[Episode]:
    """All episodes that are true, one per rule and start; silence joins the fold's episode of the same rule."""
    if not silences:
        return [*log, *view.tracks.values()]
    tracks = dict(view.tracks)
    for rule_id, silent in silences.items():
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
        # What is settled no missing report can change any more, and it is told now or never.
        over = truth is not None and (truth.episode.rule_id, truth.episode.start) in done
        holds = hold_clearing and not over
        known, facts = publish(world.pump_id, record, truth, hold_clearing=holds, disproved_by=disproved_by)
        events.extend(facts)
        if not over and (truth is not None or not known.retracted):
            rows.append((known, _parents(known.rule_id, truth, rules)))
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
