"""The alert's life cycle: what the rules find, compared with what people were told, as facts to publish.

The fold (``evaluation.py``) says what is true of the reports known so far. The ledger says what was published. This
module is the difference, so a late report that changes the truth becomes an amended or retracted fact, and history
never depends on the order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final
from uuid import UUID, uuid5

import msgspec

NAMESPACE: Final = UUID("6f1c2a52-0a58-5d0e-9d8e-3f6f0f6c9a11")

Detail = str | int | float | bool | None


class Priority(StrEnum):
    """How soon a person must act, in the sense of IEC 60601-1-8."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """0 for info to 3 for high."""
        return _RANKS[self]


_RANKS: Final = {Priority.INFO: 0, Priority.LOW: 1, Priority.MEDIUM: 2, Priority.HIGH: 3}
LADDERS: Final = {Priority.INFO: "none", Priority.LOW: "L", Priority.MEDIUM: "M", Priority.HIGH: "H"}


class AlertEventKind(StrEnum):
    """What can happen to an alert; each is a separate fact in history."""

    OPENED = "opened"
    ESCALATED = "escalated"
    RECURRED = "recurred"
    RE_RAISED = "re_raised"
    ACKNOWLEDGED = "acknowledged"
    CLEARED = "cleared"
    RESOLVED = "resolved"
    AMENDED = "amended"
    RETRACTED = "retracted"


class Reason(StrEnum):
    """Why a decision fell as it did; the same word reaches log, metric label, history and screen."""

    CONDITION_MET = "condition_met"
    CONDITION_ENDED = "condition_ended"
    SERVICE_OUTAGE = "service_outage"
    RESOLVED_BY_PERSON = "resolved_by_person"
    MRI_DECLARED = "mri_declared"
    LATE_LOG = "late_log"
    LATE_EVIDENCE = "late_evidence"
    CLOCK_CORRECTED = "clock_corrected"
    WORSENED = "worsened"
    REMINDER_DUE = "reminder_due"
    RECURRED = "recurred"


class PriorityStep(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A priority that an episode reached, and since when (event time)."""

    priority: Priority
    at: datetime


class Episode(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One episode of one rule on one pump, as the reports known so far tell it (event time throughout)."""

    rule_id: str
    start: datetime
    steps: tuple[PriorityStep, ...]
    present: bool = True
    latched: bool = False
    closed: bool = False
    retracted: bool = False
    ended_at: datetime | None = None
    reason: Reason = Reason.CONDITION_MET
    recurrences: int = 0
    recurred_at: datetime | None = None
    physician_by: datetime | None = None
    found_late: bool = False
    resolved_by: str | None = None
    muted: bool = False
    silent_since: datetime | None = None
    parents: tuple[str, ...] = ()
    message: str = ""
    reminders: tuple[datetime, ...] = ()
    start_step: int = 0
    resolvable_from: datetime | None = None
    ladder: str | None = None

    @property
    def priority(self) -> Priority:
        """The highest priority reached."""
        return max((step.priority for step in self.steps), key=_RANKS.__getitem__)

    def resolvable(self, at: datetime) -> bool:
        """Whether a person may resolve it at ``at`` although its condition holds: it is a fact that cannot end."""
        return self.resolvable_from is not None and at >= self.resolvable_from


class AlertRecord(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """An alert as it was last published; the row in history after its latest event."""

    alert_id: UUID
    rule_id: str
    rule_hash: str
    ladder: str
    priority: Priority
    active: bool
    latched: bool
    effective_from: datetime
    effective_to: datetime | None
    found_late: bool
    retracted: bool
    parent_id: UUID | None
    physician_by: datetime | None
    recurrences: int
    reason: str
    message: str
    open: bool
    reminders: int = 0
    start_step: int = 0


class AlertEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A fact about an alert; ``raises`` asks for attention anew, so an earlier confirmation no longer counts."""

    kind: AlertEventKind
    effective_at: datetime
    reason: str
    alert: AlertRecord
    raises: bool = False
    detail: dict[str, Detail] = msgspec.field(default_factory=dict)


class Judged(msgspec.Struct, frozen=True):
    """An episode with the identity of the rule version that told it."""

    episode: Episode
    rule_hash: str


def alert_id_of(pump_id: str, episode: Episode) -> UUID:
    """The same episode always has the same id: pump, rule and event time of its start."""
    return _id_of(pump_id, episode.rule_id, episode.start)


@lru_cache(maxsize=4096)
def _id_of(pump_id: str, rule_id: str, start: datetime) -> UUID:
    return uuid5(NAMESPACE, f"{pump_id}|{rule_id}|{start.timestamp():.6f}")


def match(
    pump_id: str, ledger: Sequence[AlertRecord], episodes: Sequence[Judged]
) -> list[tuple[AlertRecord | None, Judged | None]]:
    """Pair what was published with what is true: the episode that gave an alert its id, else the rule's next in time.

    The id comes first, so that an alert whose start was moved gives way when its own episode turns up again.
    """
    unmatched = {alert_id_of(pump_id, judged.episode): judged for judged in episodes}
    pairs: list[tuple[AlertRecord | None, Judged | None]] = []
    left: list[AlertRecord] = []
    for record in ledger:
        if judged := unmatched.pop(record.alert_id, None):
            pairs.append((record, judged))
        else:
            left.append(record)
    for record in sorted(left, key=lambda record: record.effective_from):
        same_rule = [key for key, judged in unmatched.items() if judged.episode.rule_id == record.rule_id]
        nearest = min(same_rule, key=lambda key: _distance(unmatched[key], record), default=None)
        pairs.append((record, unmatched.pop(nearest) if nearest else None))
    pairs.extend((None, judged) for judged in unmatched.values())
    return pairs


def _distance(judged: Judged, record: AlertRecord) -> timedelta:
    return abs(judged.episode.start - record.effective_from)


def publish(
    pump_id: str, record: AlertRecord | None, judged: Judged | None, *, hold_clearing: bool, disproved_by: Reason
) -> tuple[AlertRecord, list[AlertEvent]]:
    """The facts that take one published alert to what is now known to be true.

    Args:
        pump_id: Whose alert it is.
        record: As published, or None when the episode is news.
        judged: What is true now, or None when late evidence shows that there was no such episode.
        hold_clearing: Whether a gap in the pump's reports is open: then nothing is taken back or cleared yet.
        disproved_by: What kind of evidence an episode that never was is taken back for.
    """
    if record is not None:
        if judged is None:
            return _withdrawn(record, hold_clearing, disproved_by)
        return _changed(record, judged, hold_clearing)
    if judged is None:
        raise ValueError("neither a published alert nor an episode is given")
    return _opened(pump_id, judged, hold_clearing)


def _withdrawn(record: AlertRecord, hold_clearing: bool, reason: Reason) -> tuple[AlertRecord, list[AlertEvent]]:
    if record.retracted or hold_clearing:
        return record, []
    gone = msgspec.structs.replace(
        record,
        active=False,
        latched=False,
        retracted=True,
        open=False,
        effective_to=record.effective_from,
        reason=reason,
    )
    event = AlertEvent(kind=AlertEventKind.RETRACTED, effective_at=record.effective_from, reason=reason, alert=gone)
    return gone, [event]


def _opened(pump_id: str, judged: Judged, hold_clearing: bool) -> tuple[AlertRecord, list[AlertEvent]]:
    episode = judged.episode
    first = episode.steps[0]
    record = AlertRecord(
        alert_id=alert_id_of(pump_id, episode),
        rule_id=episode.rule_id,
        rule_hash=judged.rule_hash,
        ladder=episode.ladder or LADDERS[first.priority],
        priority=first.priority,
        active=True,
        latched=episode.latched,
        effective_from=episode.start,
        effective_to=None,
        found_late=episode.found_late,
        retracted=False,
        parent_id=None,
        physician_by=episode.physician_by,
        recurrences=0,
        reason=Reason.CONDITION_MET,
        message=episode.message,
        open=True,
        start_step=episode.start_step,
    )
    opened = AlertEvent(
        kind=AlertEventKind.OPENED, effective_at=episode.start, reason=Reason.CONDITION_MET, alert=record, raises=True
    )
    record, more = _changed(record, judged, hold_clearing)
    return record, [opened, *more]


def _changed(record: AlertRecord, judged: Judged, hold_clearing: bool) -> tuple[AlertRecord, list[AlertEvent]]:
    """Compare field by field; each difference is its own fact, in the order in which people need to hear it."""
    episode = judged.episode
    events: list[AlertEvent] = []
    if hold_clearing and record.active and not episode.present:
        return record, events
    for fact in (_recurrence, _escalation, _reminder, _ending):
        if event := fact(record, episode):
            events.append(event)
            record = event.alert
    if event := _amendment(record, episode, hold_clearing):
        events.append(event)
        record = event.alert
    return record, events


def _amendment(record: AlertRecord, episode: Episode, hold_clearing: bool) -> AlertEvent | None:
    """What else is no longer so: late evidence moved a start, an end or a priority, or an ending was premature."""
    if episode.retracted:
        return None
    true = msgspec.structs.replace(
        record,
        effective_from=episode.start,
        effective_to=episode.ended_at if episode.closed or not episode.present else None,
        priority=episode.priority,
        ladder=episode.ladder or LADDERS[episode.priority],
        active=episode.present,
        latched=episode.latched and not episode.closed,
        open=not episode.closed,
        retracted=False,
        physician_by=episode.physician_by if episode.present else record.physician_by,
        recurrences=episode.recurrences,
        reminders=len(episode.reminders),
        start_step=episode.start_step,
    )
    lowered = true.priority.rank < record.priority.rank or true.open < record.open
    if true == record or (hold_clearing and lowered):
        return None
    late = any(getattr(true, name) != getattr(record, name) for name in ("effective_from", "effective_to", "priority"))
    return AlertEvent(
        kind=AlertEventKind.AMENDED,
        effective_at=episode.start,
        reason=Reason.LATE_EVIDENCE if late else Reason.CONDITION_MET,
        alert=true,
        raises=true.active and not record.active and not record.open,
        detail={"was_effective_from": record.effective_from.isoformat(), "was_priority": record.priority},
    )


def _recurrence(record: AlertRecord, episode: Episode) -> AlertEvent | None:
    if episode.recurrences <= record.recurrences or episode.retracted:
        return None
    recurred = msgspec.structs.replace(
        record,
        recurrences=episode.recurrences,
        active=True,
        open=True,
        retracted=False,
        effective_to=None,
        latched=episode.latched,
        physician_by=episode.physician_by,
        reason=Reason.RECURRED,
        message=episode.message,
    )
    return AlertEvent(
        kind=AlertEventKind.RECURRED,
        effective_at=episode.recurred_at or episode.start,
        reason=Reason.RECURRED,
        alert=recurred,
        raises=not record.open,
    )


def _escalation(record: AlertRecord, episode: Episode) -> AlertEvent | None:
    if episode.priority.rank <= record.priority.rank or episode.retracted:
        return None
    step = next(step for step in episode.steps if step.priority is episode.priority)
    escalated = msgspec.structs.replace(
        record,
        priority=episode.priority,
        ladder=episode.ladder or LADDERS[episode.priority],
        latched=episode.latched,
        physician_by=episode.physician_by,
        reason=Reason.WORSENED,
        message=episode.message,
        start_step=episode.start_step,
    )
    return AlertEvent(
        kind=AlertEventKind.ESCALATED,
        effective_at=step.at,
        reason=Reason.WORSENED,
        alert=escalated,
        raises=True,
        detail={"from_priority": record.priority, "to_priority": episode.priority},
    )


def _reminder(record: AlertRecord, episode: Episode) -> AlertEvent | None:
    """People are told again although nothing got worse, because the rule says so (PWR-01 at 30 days left)."""
    if len(episode.reminders) <= record.reminders or episode.retracted or not episode.present:
        return None
    reminded = msgspec.structs.replace(
        record, reminders=len(episode.reminders), message=episode.message, start_step=episode.start_step
    )
    return AlertEvent(
        kind=AlertEventKind.RE_RAISED,
        effective_at=episode.reminders[-1],
        reason=Reason.REMINDER_DUE,
        alert=reminded,
        raises=True,
    )


def _ending(record: AlertRecord, episode: Episode) -> AlertEvent | None:
    if episode.retracted:
        kind, reason = AlertEventKind.RETRACTED, episode.reason
    elif episode.resolved_by and episode.closed and record.open:
        kind, reason = AlertEventKind.RESOLVED, Reason.RESOLVED_BY_PERSON
    elif record.active and not episode.present:
        kind, reason = AlertEventKind.CLEARED, episode.reason
    else:
        return None
    if episode.retracted and record.retracted:
        return None
    ended = msgspec.structs.replace(
        record,
        active=False if kind is not AlertEventKind.RESOLVED else episode.present,
        open=not episode.closed,
        latched=episode.latched and not episode.closed,
        retracted=episode.retracted,
        effective_to=record.effective_from if episode.retracted else episode.ended_at,
        reason=reason,
        message=episode.message,
    )
    return AlertEvent(
        kind=kind,
        effective_at=episode.ended_at or episode.start,
        reason=reason,
        alert=ended,
        detail={"resolved_by": episode.resolved_by} if kind is AlertEventKind.RESOLVED else {},
    )


def with_parents(
    ledger: Iterable[tuple[AlertRecord, tuple[str, ...]]],
) -> list[AlertRecord]:
    """Set each open alert's parent: of the open alerts its rule defers to, the highest priority, then the earliest.

    Of two that defer to each other the one of lower priority is the child, at equal priority the one whose rule has the
    lower id (catalogue M.6 and M.26: RSV-03 under RSV-04). Of equals it is the one that its rule names first: never
    does it depend on the order in which alerts were published.
    What waits for a person although its condition ended speaks for no alert whose condition holds.
    """
    rows = list(ledger)
    open_rows = [(record, parents) for record, parents in rows if record.open and not record.retracted]
    placed = []
    for record, parents in rows:
        candidates = [
            other
            for other, theirs in open_rows
            if other.rule_id in parents
            and (other.active or not record.active)
            and not (record.rule_id in theirs and _weight(record) > _weight(other))
        ]
        ranks = [(-other.priority.rank, other.effective_from, parents.index(other.rule_id)) for other in candidates]
        best = candidates[ranks.index(min(ranks))] if candidates else None
        parent_id = best.alert_id if best and record.open else record.parent_id if not record.open else None
        placed.append(record if parent_id == record.parent_id else msgspec.structs.replace(record, parent_id=parent_id))
    return placed


def _weight(record: AlertRecord) -> tuple[int, str]:
    return record.priority.rank, record.rule_id
