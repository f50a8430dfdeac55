"""Runs one life through the engine as the worker does: a step for each arrival, a tick for each deadline, and people.

The care team is simple and the same for everybody: on its rounds it resolves what has ended and waits for a person, and
records a review where an alert has stood for a day and no hazard that it knows of goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from services.emulator.cohort.delivery import next_round
from services.emulator.cohort.life import Lived
from services.emulator.cohort.truth import Hazard
from streams.domain import pipeline
from streams.domain.alert import AlertEvent, AlertEventKind, AlertRecord, Priority
from streams.domain.care import CareKind, CareRecord
from streams.domain.pipeline import ResolveRefused
from streams.domain.profile import ProfileHistory
from streams.domain.publishing import DATA_RULE
from streams.domain.rule import RuleBook
from streams.domain.silence import Hearing
from streams.domain.telemetry import Received
from streams.domain.world import World

REVIEWED_AFTER: Final = timedelta(hours=24)
SETTLING: Final = timedelta(hours=2)
"""How long after the last arrival time goes on, so that gaps and deadlines settle."""
FLAP_WITHIN: Final = timedelta(hours=24)
"""A rule that ends and begins again on one pump within this time flaps; inclusive."""
ENDINGS: Final = frozenset({AlertEventKind.CLEARED, AlertEventKind.RESOLVED, AlertEventKind.RETRACTED})
BEGINNINGS: Final = frozenset({AlertEventKind.OPENED, AlertEventKind.RECURRED})


class Notice(msgspec.Struct, frozen=True, array_like=True):
    """An alert that began or got worse. ``page``: a person is told at once, and no parent's page stands for it."""

    alert_id: UUID
    rule_id: str
    priority: Priority
    recorded_at: datetime
    effective_at: datetime
    page: bool


class Past(msgspec.Struct, frozen=True, array_like=True):
    """What history says of one alert when everything is known; the order of learning is left out."""

    rule_id: str
    effective_from: datetime
    effective_to: datetime | None
    priority: str
    active: bool
    latched: bool
    open: bool


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine made of one life. ``alerts`` are those never retracted, by rule and highest priority."""

    pump_id: str
    days: float
    reports: int
    notices: tuple[Notice, ...]
    alerts: tuple[tuple[str, Priority, datetime], ...]
    flaps: dict[str, int]
    history: tuple[Past, ...]
    hazards: tuple[Hazard, ...]


class _Ward:
    """The engine and the care team around one pump."""

    def __init__(self, lived: Lived, rules: RuleBook, since: datetime) -> None:
        self.lived, self.rules, self.since = lived, rules, since
        self.care: list[CareRecord] = list(lived.care)
        self.profiles = ProfileHistory(lived.profiles, lived.care)
        self.world = pipeline.new_world(lived.patient.pump_id)
        self.notices: list[Notice] = []
        self.last: dict[UUID, AlertRecord] = {}
        self.flaps: dict[str, int] = {}
        self._ended: dict[str, datetime] = {}
        self._reviewed: set[UUID] = set()

    def arrive(self, received: Received) -> None:
        at = received.received_at
        self.until(at)
        step = pipeline.step(self.world, received, self.profiles, self.rules, at)
        self.world = step.world
        if step.events:
            self._note(step.events, at)

    def until(self, moment: datetime) -> None:
        while (at := self.world.next_wake_at) is not None and at <= moment:
            step = pipeline.tick(self.world, self.profiles, self.rules, at, Hearing(since=self.since, until=at))
            self.world = step.world
            if step.events:
                self._note(step.events, at)

    def round(self, at: datetime) -> None:
        """Resolve what has ended; review what stands although nothing is known to go on."""
        self.until(at)
        for record in self.world.ledger:
            if not record.open:
                continue
            if not record.active:
                self._resolve(record, at)
            elif at - record.effective_from >= REVIEWED_AFTER and record.alert_id not in self._reviewed:
                self._review(record, at)

    def _resolve(self, record: AlertRecord, at: datetime) -> None:
        step = pipeline.resolve(self.world, self.profiles, self.rules, record.alert_id, at, "care-team")
        if not isinstance(step, ResolveRefused):
            self.world = step.world
            self._note(step.events, at)

    def _review(self, record: AlertRecord, at: datetime) -> None:
        rule_id = record.rule_id
        going_on = (
            hazard.onset <= at <= hazard.until and rule_id in (*hazard.rules, *hazard.also)
            for hazard in self.lived.hazards
        )
        if any(going_on):
            return
        self._reviewed.add(record.alert_id)
        review = CareRecord(
            care_id=f"review:{record.alert_id}",
            pump_id=self.lived.patient.pump_id,
            kind=CareKind.REVIEW,
            valid_from=at,
            person="care-team",
            reason="nothing goes on any more",
            rule_id=rule_id,
        )
        self.care.append(review)
        self.profiles = ProfileHistory(self.lived.profiles, tuple(self.care))

    def _note(self, events: Iterable[AlertEvent], at: datetime) -> None:
        for event in events:
            record = event.alert
            self.last[record.alert_id] = record
            if event.kind in BEGINNINGS:
                ended = self._ended.pop(record.rule_id, None)
                if ended is not None and event.effective_at - ended <= FLAP_WITHIN:
                    self.flaps[record.rule_id] = self.flaps.get(record.rule_id, 0) + 1
            elif event.kind in ENDINGS:
                self._ended[record.rule_id] = event.effective_at
            if event.raises:
                page = record.parent_id is None and record.priority.rank >= Priority.MEDIUM.rank
                self.notices.append(
                    Notice(record.alert_id, record.rule_id, record.priority, at, event.effective_at, page)
                )


def judge(lived: Lived, arrivals: Iterable[Received], rules: RuleBook, since: datetime, until: datetime) -> Judgement:
    """Run a life's arrivals through the engine.

    Args:
        lived: The life, for its profiles, care records and truth.
        arrivals: By time of arrival.
        rules: The rules in force.
        since: From when on the service listens.
        until: The life's end, in service time; deadlines up to `SETTLING` after it still fire.
    """
    ward, next_at, count = _Ward(lived, rules, since), next_round(since), 0
    for received in arrivals:
        while next_at < received.received_at:
            ward.round(next_at)
            next_at = next_round(next_at)
        ward.arrive(received)
        count += 1
    ward.until(until + SETTLING)
    kept = [record for record in ward.last.values() if not record.retracted]
    return Judgement(
        pump_id=lived.patient.pump_id,
        days=(until - since) / timedelta(days=1),
        reports=count,
        notices=tuple(ward.notices),
        alerts=tuple((record.rule_id, record.priority, record.effective_from) for record in kept),
        flaps=ward.flaps,
        history=_history(ward.world, kept, rules),
        hazards=lived.hazards,
    )


def _history(world: World, kept: Iterable[AlertRecord], rules: RuleBook) -> tuple[Past, ...]:
    """The effective history, in a fixed order, without what tells of the delivery itself: silence, and missing reports.

    COM-02 says since when a report is missing, which another delivery changes; that the clock's part of it does not
    depend on order is a law of the core (I9).
    """
    by_arrival = {DATA_RULE, *(rule.id for rule in rules if rule.judged_by == "arrival")}
    now = {record.alert_id: record for record in world.ledger}
    found = []
    for told in kept:
        record = now.get(told.alert_id, told)
        if record.rule_id not in by_arrival:
            found.append(
                Past(
                    record.rule_id,
                    record.effective_from,
                    record.effective_to,
                    record.priority.value,
                    record.active,
                    record.latched,
                    record.open,
                )
            )
    return tuple(sorted(found, key=lambda past: (past.effective_from, past.rule_id, past.priority)))
