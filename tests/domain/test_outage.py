"""Why a silence ended: by itself, or because an outage of the whole site was over (SYS-01)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from msgspec.structs import replace

from streams.deciding import Decided, decide_pump, decide_tick, explain_silences
from streams.domain.alert import AlertEventKind, Reason
from streams.domain.outage import explained, silences_ended
from streams.domain.pipeline import new_world
from streams.domain.silence import Hearing
from streams.domain.telemetry import Motor
from streams.rehearsal import profiles_of
from streams.store import StoredWorld
from tests.services.worker.bench import NOON, RULEBOOK, received

HOUR = timedelta(hours=1)


@dataclass
class Pump:
    """A pump that fell silent after one report and is heard again two hours later."""

    stored: StoredWorld = field(default_factory=lambda: StoredWorld(0, new_world("P-1"), profiles_of({})))

    def heard(self, seq: int, at: datetime, motor: Motor = Motor.RUNNING) -> Decided:
        """It says something."""
        decided = Decided()
        decide_pump(decided, self.stored, [received(seq, at=at, motor=motor)], RULEBOOK, at, 0)
        self.stored = decided.after[0]
        return decided

    def silent(self, now: datetime) -> None:
        """Time passes."""
        decided = Decided()
        decide_tick(decided, self.stored, RULEBOOK, now, Hearing(NOON - 100 * HOUR, now), 0)
        self.stored = decided.after[0]


def _heard_again(motor: Motor = Motor.RUNNING) -> Decided:
    pump = Pump()
    pump.heard(0, NOON)
    pump.silent(NOON + 2 * HOUR)
    return pump.heard(1, NOON + 2 * HOUR + timedelta(seconds=5), motor)


def test_only_a_silence_that_ends_is_asked_about() -> None:
    """A first report ends none; the report after a silence does, whatever else it opens."""
    assert silences_ended(Pump().heard(0, NOON).changes[0].events) == []
    (change,) = _heard_again(Motor.STALLED).changes
    assert len(silences_ended(change.events)) == 1
    assert len(change.events) > 1


def test_no_other_end_and_no_beginning_of_a_silence_is_asked_about() -> None:
    """A stall that ends beside it has its own cause, and a silence that begins has not ended."""
    (change,) = _heard_again().changes
    [ended] = [event for event in change.events if event.kind is AlertEventKind.CLEARED]
    begun = replace(ended, kind=AlertEventKind.OPENED)
    other = replace(ended, alert=replace(ended.alert, rule_id="DLV-01"))

    assert silences_ended((begun, other)) == []
    assert silences_ended((begun, other, ended)) == [ended.alert.alert_id]


def test_the_outage_is_the_cause_in_the_fact_and_in_the_world_and_nothing_else_changes() -> None:
    """A stall in the same report keeps its own reason."""
    (change,) = _heard_again(Motor.STALLED).changes
    ended = set(silences_ended(change.events))

    world, events = explained(change.world, change.events, ended)

    told = {event.alert.rule_id: (event.reason, event.alert.reason) for event in events}
    assert told.pop("COM-01") == (Reason.SERVICE_OUTAGE, Reason.SERVICE_OUTAGE)
    assert told == {
        event.alert.rule_id: (event.reason, event.alert.reason)
        for event in change.events
        if event.alert.rule_id != "COM-01"
    }
    assert [record.alert_id for record in world.ledger] == [record.alert_id for record in change.world.ledger]
    before = {record.alert_id: record for record in change.world.ledger}
    changed = {record.alert_id for record in world.ledger if record != before[record.alert_id]}
    assert changed == ended
    assert {record.reason for record in world.ledger if record.alert_id in ended} == {Reason.SERVICE_OUTAGE}


def test_an_outage_explains_only_silences_that_end() -> None:
    """Whatever other ids it names; and a silence that has begun anew is not over."""
    (change,) = _heard_again(Motor.STALLED).changes
    every = {event.alert.alert_id for event in change.events}
    (ended,) = silences_ended(change.events)
    anew = replace(
        change.world,
        ledger=tuple(replace(row, active=row.active or row.alert_id == ended) for row in change.world.ledger),
    )

    assert explained(change.world, change.events, every) == explained(change.world, change.events, {ended})
    assert explained(change.world, change.events, every - {ended}) == (change.world, change.events)
    assert explained(anew, change.events, {ended})[0] == anew


def test_a_silence_that_no_outage_explains_ends_as_before() -> None:
    """What is written and what is remembered stay as they were decided."""
    decided = _heard_again()
    before = decided.changes[0], decided.after[0]

    explain_silences(decided, {UUID(int=1)})

    assert (decided.changes[0], decided.after[0]) == before


def test_what_is_written_is_what_is_remembered() -> None:
    """The next report is judged on the world that was committed."""
    decided = _heard_again()

    explain_silences(decided, set(silences_ended(decided.changes[0].events)))

    assert decided.after[0].world is decided.changes[0].world
    assert [event.reason for event in decided.changes[0].events] == [Reason.SERVICE_OUTAGE]
