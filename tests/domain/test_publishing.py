"""When to look again, and that time which passed beyond a report is told only by the next look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as with_
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from streams.domain.alert import AlertEventKind, Episode, Priority, PriorityStep, Reason
from streams.domain.pipeline import Step
from streams.domain.publishing import LOOK_AGAIN, SETTLE, as_published, next_wake_at
from streams.domain.rule import ABSENT, Finding, Presence, Rule, RuleBook, View
from streams.domain.silence import Hearing
from streams.domain.world import LATENESS, Arrivals, Folded, Gap, PumpState, World
from streams.rehearsal import START, moment
from tests.domain.test_pipeline import BACLOFEN, Pump
from tests.domain.typed import typed_rule
from tests.shipped import RULES

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
NO_RULES = RuleBook(())
OPEN = Episode("DLV-01", START, (PriorityStep(Priority.HIGH, START),))
GAP = Gap(1, 3, 1, 5, START)


def _world(wake_at: datetime | None = None, **changes: Any) -> World:
    state = PumpState(clock=START, motor="running", confirmed_at=START)
    return replace(World(pump_id="EX-1", base=Folded(state, wake_at=wake_at), last_received_at=START), **changes)


@pytest.mark.parametrize(
    ("was", "now_at", "same"),
    [
        (None, None, True),
        (START + SECOND, START + SECOND, True),
        (START, START + SECOND, False),
        (START + SECOND, START, False),
        (START - SECOND, None, False),
        (None, START - SECOND, False),
        (START + SECOND, None, True),
        (None, START + SECOND, True),
    ],
)
def test_a_deadline_that_has_come_is_to_be_told(was: datetime | None, now_at: datetime | None, same: bool) -> None:
    """Before the report or after it, and at its very moment."""
    before = _world(was)
    after = replace(before, base=replace(before.base, wake_at=now_at))

    assert as_published(before, after, [], START) is same


def test_whatever_is_another_object_is_to_be_told() -> None:
    """Episodes, silences, gaps; or other rules."""
    before = _world()
    others = [
        replace(before, base=replace(before.base, tracks={"DLV-01": OPEN})),
        replace(before, silence={"COM-01": OPEN}),
        replace(before, log=(OPEN,)),
        replace(before, arrivals=Arrivals(gaps=(GAP,))),
        replace(before, base=replace(before.base, judged_under="others/1")),
    ]

    assert as_published(before, before, [], START)
    assert not as_published(before, before, [OPEN], START)
    assert not any(as_published(before, after, [], START) for after in others)


@pytest.mark.parametrize(
    ("view_at", "planned", "gaps", "now", "expected"),
    [
        (None, None, (), START, None),
        (START + HOUR, None, (), START, START + HOUR),
        (START + HOUR, START + 2 * HOUR, (), START, START + HOUR),
        (START + 3 * HOUR, START + 2 * HOUR, (), START, START + 2 * HOUR),
        (None, START + 2 * HOUR, (), START, START + 2 * HOUR),
        (None, None, (GAP,), START, START + LATENESS + SECOND),
        (START + HOUR, None, (GAP,), START, START + HOUR),
        (START + 2 * HOUR, None, (GAP,), START, START + LATENESS + SECOND),
        (None, None, (replace(GAP, opened_at=START + MINUTE), GAP), START, START + LATENESS + SECOND),
        (START + HOUR, None, (), START + HOUR, START + HOUR + LOOK_AGAIN),
        (START + HOUR, None, (), START + 2 * HOUR, START + 2 * HOUR + LOOK_AGAIN),
        (START + HOUR, None, (), START + HOUR - SECOND, START + HOUR),
    ],
)
def test_the_next_look_is_at_the_first_of_all_deadlines(
    view_at: datetime | None,
    planned: datetime | None,
    gaps: tuple[Gap, ...],
    now: datetime,
    expected: datetime | None,
) -> None:
    """Of the rules, of silence, and of what is missing; what is due already is looked at a second later."""
    world = _world(next_wake_at=planned, arrivals=Arrivals(gaps=gaps))

    assert next_wake_at(world, Folded(wake_at=view_at), BACLOFEN, NO_RULES, now, None) == expected


def test_the_deadline_of_silence_is_found_where_none_can_stay() -> None:
    """None was planned, one has passed, or it is known what could be heard."""
    view, heard = Folded(), Hearing(START + MINUTE, START + 2 * MINUTE)

    def looked_at(planned: datetime | None, now: datetime, hearing: Hearing | None = None) -> datetime | None:
        return next_wake_at(_world(next_wake_at=planned), view, BACLOFEN, RULES, now, hearing)

    assert looked_at(None, START) == START + 45 * MINUTE
    assert looked_at(START + MINUTE, START + 2 * MINUTE) == START + 45 * MINUTE
    assert looked_at(START + 30 * MINUTE, START) == START + 30 * MINUTE
    assert looked_at(START + 30 * MINUTE, START + 2 * MINUTE, heard) == START + 46 * MINUTE


def _unknown() -> Pump:
    """Nobody knows whether it runs; on baclofen six hours are its budget."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    pump.says(1, "PT1M", motor="unknown")
    return pump


def test_an_alert_that_time_alone_opens_is_told_half_a_second_after_a_report() -> None:
    """The rest of the buffer, which is on its way, may bring the delivery that was missed."""
    pump = _unknown()
    quiet = {row.rule_id for row in pump.world.ledger}

    step = pump.says(2, "PT2M", arrives="PT5H", motor="unknown")
    after_report = {event.alert.rule_id for event in step.events}
    now = moment("PT5H") + SECOND
    later = pump.waits("PT5H1.5S")

    assert "DLV-09" not in quiet | after_report
    assert step.world.next_wake_at == now + SETTLE
    assert "DLV-09" in {event.alert.rule_id for event in later.events}


def test_an_alert_that_time_alone_worsens_stays_as_it_was_told() -> None:
    """For the half second: it is neither closed nor raised."""
    pump = _unknown()
    pump.waits("PT2H")
    [medium] = [row for row in pump.world.ledger if row.rule_id == "DLV-09"]

    step = pump.says(2, "PT2M", arrives="PT5H", motor="unknown")
    [still] = [row for row in step.world.ledger if row.rule_id == "DLV-09"]
    later = pump.waits("PT5H1.5S")

    assert medium.priority is Priority.MEDIUM
    assert (still.priority, still.active, still.message) == (medium.priority, True, medium.message)
    assert step.world.next_wake_at == moment("PT5H") + SECOND + SETTLE
    told = [(event.kind, event.alert.priority) for event in later.events if event.alert.rule_id == "DLV-09"]
    assert told == [(AlertEventKind.ESCALATED, Priority.HIGH)]


def _climbing(rule_id: str, **hours: int) -> Rule:
    """A rule whose alert reaches each priority so many hours after the start, whatever is reported."""
    deadlines = [(Priority[name.upper()], START + after * HOUR) for name, after in hours.items()]

    def condition(view: View, _: Rule) -> Finding:
        steps = tuple(PriorityStep(priority, at) for priority, at in deadlines if at <= view.at)
        wake_at = min((at for _, at in deadlines if at > view.at), default=None)
        return Finding(Presence.PRESENT if steps else Presence.ABSENT, steps, wake_at=wake_at)

    rule = typed_rule("alarm: memory_error", rule_id=rule_id)
    return with_(rule, condition=condition, operators=(), reads=(), follows=())


def _reported(rules: Sequence[Rule], told_at: str | None, arrives: str) -> tuple[Step, list[tuple[str, Priority]]]:
    """A pump that reported at the start, was looked at, and whose next report comes late; and what it knows then."""
    pump = Pump(rules=RuleBook(tuple(rules)))
    pump.says(0, "PT0M", motor="running")
    if told_at is not None:
        pump.waits(told_at)
    step = pump.says(1, "PT1M", arrives=arrives, motor="running")
    return step, [(row.rule_id, row.priority) for row in step.world.ledger]


@pytest.mark.parametrize(
    ("told_at", "arrives", "known"),
    [
        (None, "PT1H30M", []),
        (None, "PT2H30M", []),
        ("PT1H", "PT2H30M", [("TST-01", Priority.INFO)]),
        ("PT1H", "PT3H30M", [("TST-01", Priority.INFO)]),
        ("PT2H", "PT3H30M", [("TST-01", Priority.LOW)]),
    ],
)
def test_whatever_passed_since_the_report_waits_half_a_second(
    told_at: str | None, arrives: str, known: list[tuple[str, Priority]]
) -> None:
    """What people know they go on knowing, and no more."""
    step, knows = _reported([_climbing("TST-01", info=1, low=2, medium=3)], told_at, arrives)

    assert (step.events, knows) == ((), known)
    assert step.world.next_wake_at == moment(arrives) + SECOND + SETTLE


def test_a_deadline_that_was_told_already_holds_nothing_back() -> None:
    """The next look is at the next deadline."""
    step, knows = _reported([_climbing("TST-01", info=1, low=2, medium=3)], "PT2H", "PT2H30M")

    assert (step.events, knows) == ((), [("TST-01", Priority.LOW)])
    assert step.world.next_wake_at == moment("PT3H")


def test_a_deadline_sooner_than_half_a_second_is_looked_at_in_time() -> None:
    """Waiting for the buffer puts nothing off."""
    rules = [_climbing("TST-01", low=1), _climbing("TST-02", low=2)]

    step, _ = _reported(rules, None, "PT1H59M58.7S")

    assert step.world.next_wake_at == moment("PT2H")


def test_what_waits_hides_nothing_that_is_known() -> None:
    """One rule's alert waits; another's, which grew worse after it, stays as it was told."""
    step, knows = _reported([_climbing("TST-01", low=1), _climbing("TST-02", low=0, high=2)], None, "PT2H30M")

    assert (step.events, knows) == ((), [("TST-02", Priority.LOW)])


def test_a_report_that_is_on_time_changes_no_plan() -> None:
    """Nothing is held back: the next look is at the first deadline."""
    pump = _unknown()

    assert pump.world.next_wake_at is not None
    assert pump.world.next_wake_at > moment("PT30M")


def test_reports_missing_for_an_hour_are_told_at_once() -> None:
    """No later report can disprove that."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    pump.says(2, "PT1M", motor="running")

    step = pump.says(3, "PT2M", arrives="PT1H2M", motor="running")

    assert [event.alert.rule_id for event in step.events] == ["COM-02"]


def test_a_changed_parent_is_told_as_a_fact_of_its_own() -> None:
    """The stall is closed by a person: what it spoke for stands alone, and nothing else about it changed."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    pump.says(1, "PT1M", motor="stalled")
    pump.waits("PT3H1M")
    children = {row.rule_id: row for row in pump.world.ledger if row.parent_id is not None}
    pump.says(2, "PT3H2M", motor="unknown", events=[{"type": "stall_recovered", "at": "PT3H1M"}])
    step = pump.resolves("DLV-01", "PT3H3M")

    told = [event for event in step.events if event.reason == "parent_changed"] if isinstance(step, Step) else []
    assert [event.alert.rule_id for event in told] == ["DLV-09"]
    for event in told:
        child = children[event.alert.rule_id]
        assert (event.kind, event.effective_at) == (AlertEventKind.AMENDED, child.effective_from)
        assert (event.raises, event.detail, event.alert.parent_id) == (False, {"parent_id": None}, None)


def test_what_late_evidence_disproves_is_taken_back_when_nothing_is_missing_any_more() -> None:
    """Until then it stays as it was told: another report may prove it after all."""

    def condition(view: View, _: Rule) -> Finding:
        if view.state.motor == "stalled" and view.state.checksum != "fine" and view.state.motor_at is not None:
            return Finding(Presence.PRESENT, (PriorityStep(Priority.LOW, view.state.motor_at),))
        return ABSENT

    rule = with_(_climbing("TST-01"), condition=condition, reads=("motor", "motor_at", "checksum"))
    pump = Pump(rules=RuleBook((rule,)))
    pump.says(0, "PT0M", motor="running")
    pump.says(5, "PT5M", motor="stalled")
    known = pump.world.ledger
    held = [pump.says(3, "PT3M", arrives="PT6M", program_checksum="fine")]
    held += [pump.says(seq, f"PT{seq}M", arrives="PT7M", motor="running") for seq in (1, 2)]
    kept = pump.world.ledger
    done = pump.says(4, "PT4M", arrives="PT8M", motor="running")

    assert [event for step in held for event in step.events] == []
    assert kept == known
    assert [(event.kind, event.reason) for event in done.events] == [(AlertEventKind.RETRACTED, Reason.LATE_EVIDENCE)]
    assert pump.world.ledger == ()


def test_a_silence_takes_nothing_back_of_what_reports_told_before() -> None:
    """DLV-09 by an unknown motor, over when it runs; six hours of silence later it is another alert."""
    pump = Pump()
    pump.says(0, "PT0M", motor="unknown")
    pump.waits("PT1H45M")
    pump.says(1, "PT2H", motor="running")
    pump.waits("PT9H")

    told = [(event.kind, event.effective_at - START) for event in pump.events if event.alert.rule_id == "DLV-09"]
    assert told == [
        (AlertEventKind.OPENED, 1.5 * HOUR),
        (AlertEventKind.CLEARED, 2 * HOUR),
        (AlertEventKind.OPENED, 8 * HOUR),
    ]


def test_a_silence_that_reports_confirm_goes_on_as_the_same_alert() -> None:
    """DLV-09 by silence at six hours; at seven the pump says that nobody knows whether it runs: worse, not new."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    pump.waits("PT7H")

    step = pump.says(1, "PT7H", motor="unknown")

    told = [(event.kind, event.alert.effective_from) for event in step.events if event.alert.rule_id == "DLV-09"]
    assert told == [(AlertEventKind.ESCALATED, moment("PT6H"))]
    assert [row.effective_from for row in step.world.ledger if row.rule_id == "DLV-09"] == [moment("PT6H")]
    assert pump.waits("PT7H1M").events == ()
