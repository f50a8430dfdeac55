"""From what is true to what people are told: each fact of an alert, whole, and which alert is whose child."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from streams.domain.alert import (
    AlertEvent,
    AlertEventKind,
    AlertRecord,
    Episode,
    Judged,
    Priority,
    PriorityStep,
    Reason,
    alert_id_of,
    match,
    publish,
    with_parents,
)
from streams.rehearsal import START

HOUR = timedelta(hours=1)
LOW = PriorityStep(Priority.LOW, START)
HIGH = PriorityStep(Priority.HIGH, START + HOUR)
EPISODE = Episode("DLV-01", START, (LOW,), message="it stands", physician_by=START + 6 * HOUR, start_step=1)
WORSE = replace(EPISODE, steps=(LOW, HIGH), message="it is worse", physician_by=START + 5 * HOUR, start_step=2)
ENDED = replace(
    EPISODE,
    present=False,
    closed=True,
    ended_at=START + 2 * HOUR,
    reason=Reason.CONDITION_ENDED,
    message="it is over",
    physician_by=None,
)


def _publish(
    record: AlertRecord | None,
    episode: Episode | None,
    *,
    holds: bool = False,
    disproved_by: Reason = Reason.LATE_EVIDENCE,
) -> tuple[AlertRecord, list[AlertEvent]]:
    judged = Judged(episode, "hash") if episode is not None else None
    return publish("P-1", record, judged, hold_clearing=holds, disproved_by=disproved_by)


def _opened(episode: Episode = EPISODE, **changes: Any) -> AlertRecord:
    """What was published when the episode opened."""
    return replace(_publish(None, episode)[0], **changes)


def _later(step: PriorityStep) -> Episode:
    return replace(EPISODE, steps=(LOW, step))


def test_an_alert_s_id_is_that_of_its_pump_rule_and_start_for_ever() -> None:
    """History is found by it: it must never change."""
    later, other = replace(EPISODE, start=START + timedelta(microseconds=1)), replace(EPISODE, rule_id="DLV-02")

    assert alert_id_of("P-1", EPISODE) == UUID("c66add9b-bc45-50a6-8092-722c0d174351")
    assert len({alert_id_of("P-1", one) for one in (EPISODE, later, other)} | {alert_id_of("P-2", EPISODE)}) == 4


def test_what_opens_is_told_whole() -> None:
    """With the first priority, and everything that its episode says."""
    record, events = _publish(None, replace(EPISODE, latched=True, found_late=True))

    assert record == AlertRecord(
        alert_id=alert_id_of("P-1", EPISODE),
        rule_id="DLV-01",
        rule_hash="hash",
        ladder="L",
        priority=Priority.LOW,
        active=True,
        latched=True,
        effective_from=START,
        effective_to=None,
        found_late=True,
        retracted=False,
        parent_id=None,
        physician_by=START + 6 * HOUR,
        recurrences=0,
        reason=Reason.CONDITION_MET,
        message="it stands",
        open=True,
        reminders=0,
        start_step=1,
    )
    assert events == [
        AlertEvent(
            kind=AlertEventKind.OPENED, effective_at=START, reason=Reason.CONDITION_MET, alert=record, raises=True
        )
    ]


def test_what_opened_and_worsened_is_told_as_two_facts() -> None:
    """The first step opens, the highest escalates, each at its own time."""
    record, events = _publish(None, WORSE)

    assert [(event.kind, event.effective_at, event.alert.priority) for event in events] == [
        (AlertEventKind.OPENED, START, Priority.LOW),
        (AlertEventKind.ESCALATED, START + HOUR, Priority.HIGH),
    ]
    assert (record.priority, record.ladder) == (Priority.HIGH, "H")


def test_a_ladder_that_the_rule_names_stays_whatever_the_priority() -> None:
    """From the opening on, and when it worsens."""
    record, events = _publish(None, replace(WORSE, ladder="M"))

    assert {event.alert.ladder for event in events} | {record.ladder} == {"M"}
    assert _publish(record, replace(EPISODE, ladder="M"))[0].ladder == "M"


@pytest.mark.parametrize("holds", [False, True])
def test_an_episode_that_is_over_already_opens_and_clears(holds: bool) -> None:
    """While a report is missing its end is not told yet."""
    record, events = _publish(None, ENDED, holds=holds)

    assert [event.kind for event in events] == [AlertEventKind.OPENED, *([] if holds else [AlertEventKind.CLEARED])]
    assert (record.active, record.open) == (holds, holds)


@pytest.mark.parametrize("holds", [False, True])
def test_what_is_still_so_is_no_news(holds: bool) -> None:
    """Other words alone are none."""
    record = _opened()

    assert _publish(record, replace(EPISODE, message="in other words"), holds=holds) == (record, [])


def test_a_worse_priority_is_told_whole() -> None:
    """At the time at which it was reached, with the words and the deadline of now; it asks for attention anew."""
    record = _opened()

    after, events = _publish(record, replace(WORSE, latched=True))

    worse = replace(
        record,
        priority=Priority.HIGH,
        ladder="H",
        latched=True,
        physician_by=START + 5 * HOUR,
        reason=Reason.WORSENED,
        message="it is worse",
        start_step=2,
    )
    assert after == worse
    assert events == [
        AlertEvent(
            kind=AlertEventKind.ESCALATED,
            effective_at=START + HOUR,
            reason=Reason.WORSENED,
            alert=worse,
            raises=True,
            detail={"from_priority": Priority.LOW, "to_priority": Priority.HIGH},
        )
    ]


@pytest.mark.parametrize("was_open", [True, False])
def test_a_recurrence_is_told_whole(was_open: bool) -> None:
    """It asks for attention anew only where the alert was closed."""
    record = _opened(active=False, open=was_open, effective_to=START + HOUR, latched=was_open)
    again = replace(
        EPISODE,
        recurrences=1,
        recurred_at=START + 2 * HOUR,
        latched=True,
        message="it is back",
        physician_by=START + 9 * HOUR,
    )

    after, events = _publish(record, again)

    back = replace(
        record,
        active=True,
        open=True,
        effective_to=None,
        recurrences=1,
        latched=True,
        physician_by=START + 9 * HOUR,
        reason=Reason.RECURRED,
        message="it is back",
    )
    assert after == back
    assert events == [
        AlertEvent(
            kind=AlertEventKind.RECURRED,
            effective_at=START + 2 * HOUR,
            reason=Reason.RECURRED,
            alert=back,
            raises=not was_open,
        )
    ]


def test_a_recurrence_of_what_was_taken_back_makes_it_true_again() -> None:
    """Where nobody says when it came back it is told for its start."""
    record = _opened(active=False, open=False, retracted=True, effective_to=START)

    after, events = _publish(record, replace(EPISODE, recurrences=1))

    assert (after.retracted, after.open) == (False, True)
    assert [(event.kind, event.effective_at) for event in events] == [(AlertEventKind.RECURRED, START)]


def test_a_reminder_is_told_whole_and_once() -> None:
    """For the newest of them; the second is news again."""
    record = _opened()
    reminded = replace(EPISODE, reminders=(START + HOUR, START + 3 * HOUR), message="still so", start_step=2)

    after, events = _publish(record, reminded)

    told = replace(record, reminders=2, message="still so", start_step=2)
    assert (after, _publish(after, reminded)) == (told, (told, []))
    assert events == [
        AlertEvent(
            kind=AlertEventKind.RE_RAISED,
            effective_at=START + 3 * HOUR,
            reason=Reason.REMINDER_DUE,
            alert=told,
            raises=True,
        )
    ]


def test_nobody_is_reminded_of_what_is_over_or_never_was() -> None:
    """The end alone is told."""
    reminders = (START + HOUR,)
    over = replace(ENDED, reminders=reminders)
    never = replace(over, retracted=True, reason=Reason.LATE_LOG)

    assert _kinds(_publish(_opened(), over))[0] is AlertEventKind.CLEARED
    assert _kinds(_publish(_opened(), never)) == [AlertEventKind.RETRACTED]


def _kinds(published: tuple[AlertRecord, list[AlertEvent]]) -> list[AlertEventKind]:
    return [event.kind for event in published[1]]


@pytest.mark.parametrize("latched", [False, True])
def test_an_end_is_told_whole(latched: bool) -> None:
    """A latched alert stays open and waits for a person."""
    record = _opened(latched=latched)

    after, events = _publish(record, replace(ENDED, closed=not latched, latched=latched))

    over = replace(
        record,
        active=False,
        open=latched,
        effective_to=START + 2 * HOUR,
        reason=Reason.CONDITION_ENDED,
        message="it is over",
    )
    assert after == over
    assert events == [
        AlertEvent(
            kind=AlertEventKind.CLEARED, effective_at=START + 2 * HOUR, reason=Reason.CONDITION_ENDED, alert=over
        )
    ]


@pytest.mark.parametrize("goes_on", [False, True])
def test_what_a_person_closes_is_told_whole(goes_on: bool) -> None:
    """The condition may go on; then the alert says so, and is closed all the same."""
    record = _opened(latched=True)
    closed = replace(ENDED, present=goes_on, muted=goes_on, resolved_by="ada", latched=goes_on)

    after, events = _publish(record, closed)

    gone = replace(
        record,
        active=goes_on,
        latched=False,
        open=False,
        effective_to=START + 2 * HOUR,
        reason=Reason.RESOLVED_BY_PERSON,
        message="it is over",
    )
    assert events[0] == AlertEvent(
        kind=AlertEventKind.RESOLVED,
        effective_at=START + 2 * HOUR,
        reason=Reason.RESOLVED_BY_PERSON,
        alert=gone,
        detail={"resolved_by": "ada"},
    )
    assert after == replace(gone, physician_by=None if goes_on else gone.physician_by)
    assert _publish(after, closed) == (after, [])


def test_what_a_person_closed_while_it_went_on_is_cleared_when_it_ends() -> None:
    """That is no second word of the person."""
    record = _opened(open=False, effective_to=START + HOUR)

    after, events = _publish(record, replace(ENDED, resolved_by="ada"))

    assert [(event.kind, event.reason, event.detail) for event in events] == [
        (AlertEventKind.CLEARED, Reason.CONDITION_ENDED, {})
    ]
    assert (after.active, after.open) == (False, False)


def test_what_never_was_is_taken_back_whole_and_once() -> None:
    """Its episode says why; from its start on it was not so."""
    record = _opened(latched=True)
    never = replace(ENDED, retracted=True, ended_at=START, reason=Reason.MRI_DECLARED, recurrences=3)

    after, events = _publish(record, never)

    gone = replace(
        record,
        active=False,
        open=False,
        latched=False,
        retracted=True,
        effective_to=START,
        reason=Reason.MRI_DECLARED,
        message="it is over",
    )
    assert (after, _publish(after, never)) == (gone, (gone, []))
    assert events == [
        AlertEvent(kind=AlertEventKind.RETRACTED, effective_at=START, reason=Reason.MRI_DECLARED, alert=gone)
    ]


def test_what_was_taken_back_neither_worsened_nor_recurred() -> None:
    """Whatever its episode had reached before."""
    never = replace(WORSE, present=False, closed=True, retracted=True, ended_at=START, reason=Reason.LATE_LOG)

    assert _kinds(_publish(_opened(), replace(never, recurrences=2))) == [AlertEventKind.RETRACTED]


@pytest.mark.parametrize("why", [Reason.LATE_EVIDENCE, Reason.CLOCK_CORRECTED])
def test_an_alert_that_no_episode_explains_is_taken_back_whole(why: Reason) -> None:
    """For the evidence that came; once."""
    record = _opened(latched=True)

    after, events = _publish(record, None, disproved_by=why)

    gone = replace(record, active=False, latched=False, retracted=True, open=False, effective_to=START, reason=why)
    assert after == gone
    assert events == [AlertEvent(kind=AlertEventKind.RETRACTED, effective_at=START, reason=why, alert=gone)]
    assert _publish(after, None) == (gone, [])


def test_while_a_report_is_missing_nothing_is_taken_back_or_cleared() -> None:
    """Bad news is told all the same."""
    record = _opened()

    assert _publish(record, None, holds=True) == (record, [])
    assert _publish(record, ENDED, holds=True) == (record, [])
    assert _kinds(_publish(record, WORSE, holds=True)) == [AlertEventKind.ESCALATED]


def test_a_start_that_moved_is_told_whole() -> None:
    """Late evidence: since when it was told before stays readable; it is no new call."""
    record = _opened()
    earlier = replace(EPISODE, start=START - HOUR, steps=(PriorityStep(Priority.LOW, START - HOUR),))

    after, events = _publish(record, earlier, holds=True)

    moved = replace(record, effective_from=START - HOUR)
    assert after == moved
    assert events == [
        AlertEvent(
            kind=AlertEventKind.AMENDED,
            effective_at=START - HOUR,
            reason=Reason.LATE_EVIDENCE,
            alert=moved,
            detail={"was_effective_from": START.isoformat(), "was_priority": Priority.LOW},
        )
    ]


def test_a_priority_that_was_too_high_is_lowered_when_no_report_is_missing() -> None:
    """That is good news, and waits."""
    record = _opened(WORSE)

    held = _publish(record, EPISODE, holds=True)
    after, events = _publish(record, EPISODE)

    assert held == (record, [])
    assert (after.priority, after.ladder) == (Priority.LOW, "L")
    assert [(event.kind, event.reason, event.raises) for event in events] == [
        (AlertEventKind.AMENDED, Reason.LATE_EVIDENCE, False)
    ]
    assert events[0].detail["was_priority"] is Priority.HIGH


@pytest.mark.parametrize(
    ("was_open", "raises"),
    [(False, True), (True, False)],
)
def test_an_end_that_was_told_too_early_is_taken_back(was_open: bool, raises: bool) -> None:
    """Where the alert was closed, people are called again."""
    record = _opened(active=False, open=was_open, effective_to=START + HOUR, latched=was_open)

    after, events = _publish(record, replace(EPISODE, latched=was_open), holds=True)

    assert (after.active, after.open, after.effective_to) == (True, True, None)
    assert [(event.kind, event.reason, event.raises) for event in events] == [
        (AlertEventKind.AMENDED, Reason.LATE_EVIDENCE, raises)
    ]


def test_what_was_taken_back_too_early_is_true_again() -> None:
    """The same episode was found again: people are called."""
    record = _opened(active=False, open=False, retracted=True, effective_to=START)

    after, events = _publish(record, EPISODE)

    assert after == replace(record, active=True, open=True, retracted=False, effective_to=None)
    assert [(event.kind, event.raises) for event in events] == [(AlertEventKind.AMENDED, True)]


def test_an_end_that_moved_is_amended() -> None:
    """It was over earlier than told; what was promised of the physician stays as it was told."""
    record = _opened(active=False, open=False, effective_to=START + 3 * HOUR)

    after, events = _publish(record, ENDED)

    assert after == replace(record, effective_to=START + 2 * HOUR)
    assert [(event.reason, event.raises) for event in events] == [(Reason.LATE_EVIDENCE, False)]


@pytest.mark.parametrize(
    "changes",
    [{"physician_by": START + 2 * HOUR}, {"start_step": 3}, {"latched": True}],
)
def test_what_else_changes_is_amended_for_the_condition_itself(changes: dict[str, Any]) -> None:
    """No late evidence is needed for it."""
    record = _opened()

    after, events = _publish(record, replace(EPISODE, **changes), holds=True)

    assert after == replace(record, **changes)
    assert [(event.kind, event.reason, event.raises) for event in events] == [
        (AlertEventKind.AMENDED, Reason.CONDITION_MET, False)
    ]


def test_a_number_of_recurrences_that_was_too_high_is_amended() -> None:
    """So is one of reminders."""
    record = _opened(recurrences=2, reminders=2)

    after, events = _publish(record, replace(EPISODE, recurrences=1, reminders=(START,)))

    assert (after.recurrences, after.reminders) == (1, 1)
    assert _kinds((after, events)) == [AlertEventKind.AMENDED]


def test_a_latched_alert_that_a_late_report_closes_waits_for_what_is_missing() -> None:
    """It was over, and open; closing it is good news."""
    record = _opened(active=False, latched=True, effective_to=START + 2 * HOUR)

    assert _publish(record, ENDED, holds=True) == (record, [])
    assert not _publish(record, ENDED)[0].open


@pytest.mark.parametrize(("after", "may"), [(-1, False), (0, True), (1, True)])
def test_a_fact_of_the_past_may_be_resolved_from_its_moment_on(after: int, may: bool) -> None:
    """One without such a moment ends by itself, or not at all."""
    fact = replace(EPISODE, resolvable_from=START)

    assert fact.resolvable(START + after * HOUR) is may
    assert not EPISODE.resolvable(START + after * HOUR)


def _judged(at: datetime, rule_id: str = "DLV-01") -> Judged:
    return Judged(replace(EPISODE, rule_id=rule_id, start=at), "hash")


def _record_of(judged: Judged, **changes: Any) -> AlertRecord:
    return _opened(judged.episode, **changes)


def test_an_alert_goes_with_the_episode_that_gave_it_its_id() -> None:
    """Even where its start was moved and another episode lies nearer."""
    first, second = _judged(START), _judged(START + 3 * HOUR)
    moved = _record_of(first, effective_from=START + 3 * HOUR)

    assert match("P-1", [moved], [second, first]) == [(moved, first), (None, second)]


def test_an_alert_whose_episode_is_gone_goes_with_the_next_one_in_time() -> None:
    """Before or after it, and of its own rule alone."""
    gone = _record_of(_judged(START))
    before, after, other = _judged(START - HOUR), _judged(START + 2 * HOUR), _judged(START, "DLV-02")

    assert match("P-1", [gone], [other, after, before]) == [(gone, before), (None, other), (None, after)]
    assert match("P-1", [gone], [other]) == [(gone, None), (None, other)]


def test_of_two_alerts_without_their_episodes_the_earlier_chooses_first() -> None:
    """In whatever order they were published."""
    early, late = _record_of(_judged(START)), _record_of(_judged(START + HOUR))
    left = _judged(START + 2 * HOUR)

    for ledger in ([early, late], [late, early]):
        assert match("P-1", ledger, [left]) == [(early, left), (late, None)]


def test_episodes_of_another_pump_are_other_episodes() -> None:
    """The id says whose it is."""
    judged = _judged(START)
    foreign = replace(_record_of(judged), alert_id=alert_id_of("P-2", judged.episode))
    earlier = _judged(START - timedelta(minutes=1))

    assert match("P-1", [_record_of(earlier), foreign], [judged, earlier]) == [
        (_record_of(earlier), earlier),
        (foreign, judged),
    ]


def _row(rule_id: str, priority: Priority, after: float = 0, **changes: Any) -> AlertRecord:
    record = _record_of(_judged(START + after * HOUR, rule_id), priority=priority)
    return replace(record, **changes)


def _parent_of(child: AlertRecord, parents: tuple[str, ...], *others: AlertRecord) -> UUID | None:
    rows = [(child, parents), *((other, ()) for other in others)]
    placed = {record.alert_id: record.parent_id for record in with_parents(rows)}
    assert placed == {record.alert_id: record.parent_id for record in with_parents(reversed(rows))}
    return placed[child.alert_id]


def test_the_parent_is_the_most_urgent_then_the_earliest_then_the_first_named() -> None:
    """Never the one that was published first."""
    child = _row("DLV-09", Priority.HIGH)
    medium = _row("DLV-02", Priority.MEDIUM)
    early, late = _row("DLV-01", Priority.HIGH, 1), _row("DLV-03", Priority.HIGH, 2)
    same = _row("DLV-04", Priority.HIGH, 1)

    assert _parent_of(child, ("DLV-02", "DLV-03", "DLV-01"), medium, early, late) == early.alert_id
    assert _parent_of(child, ("DLV-04", "DLV-01"), early, same) == same.alert_id
    assert _parent_of(child, ("DLV-01", "DLV-04"), early, same) == early.alert_id
    assert _parent_of(child, ("DLV-02", "DLV-05"), medium, early) == medium.alert_id
    assert _parent_of(child, ("DLV-05",), medium, early) is None


def test_only_an_open_alert_speaks_for_another() -> None:
    """What waits for a person after its end speaks only for what ended too; what was taken back for nothing."""
    child, over = _row("DLV-09", Priority.HIGH), _row("DLV-08", Priority.HIGH, active=False)
    closed = _row("DLV-01", Priority.HIGH, open=False)
    taken_back = _row("DLV-01", Priority.HIGH, retracted=True)
    waiting = _row("DLV-01", Priority.HIGH, active=False)

    assert [_parent_of(child, ("DLV-01",), one) for one in (closed, taken_back, waiting)] == [None, None, None]
    assert _parent_of(over, ("DLV-01",), waiting) == waiting.alert_id


def test_a_closed_alert_keeps_the_parent_that_it_had() -> None:
    """Nothing is told of it any more; an open one whose parent is gone stands alone."""
    parent = _row("DLV-01", Priority.HIGH)
    closed = _row("DLV-09", Priority.HIGH, open=False, parent_id=UUID(int=7))
    orphan = _row("DLV-09", Priority.HIGH, parent_id=UUID(int=7))

    assert _parent_of(closed, ("DLV-01",), parent) == UUID(int=7)
    assert _parent_of(orphan, ("DLV-01",)) is None


@pytest.mark.parametrize(
    ("first", "second", "child"),
    [
        (Priority.MEDIUM, Priority.HIGH, "RSV-03"),
        (Priority.HIGH, Priority.MEDIUM, "RSV-04"),
        (Priority.HIGH, Priority.HIGH, "RSV-03"),
    ],
)
def test_of_two_that_defer_to_each_other_one_is_the_child(first: Priority, second: Priority, child: str) -> None:
    """The lesser one, and of equals the one with the lower id (catalogue M.6 and M.26)."""
    rows = [(_row("RSV-03", first), ("RSV-04",)), (_row("RSV-04", second, -1), ("RSV-03",))]

    placed = with_parents(rows)

    assert [record.rule_id for record in placed if record.parent_id is not None] == [child]
    assert [record.rule_id for record in placed] == ["RSV-03", "RSV-04"]


def test_an_alert_whose_parent_stays_is_the_same_row() -> None:
    """Only what changed is told."""
    parent = _row("DLV-01", Priority.HIGH)
    child = _row("DLV-09", Priority.HIGH, parent_id=parent.alert_id)

    placed = with_parents([(parent, ()), (child, ("DLV-01",))])

    assert [one is other for one, other in zip(placed, (parent, child), strict=True)] == [True, True]
