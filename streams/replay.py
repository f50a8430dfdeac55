"""Stored history through the production engine once more.

With the same rules it must tell the same alerts, and with other rules it tells what they would have meant. What arrived
is replayed as it arrived: readings by the time at which an edge took them, ticks at every deadline, what people said of
a pump and what they resolved at their own time. While the service itself was deaf, nobody was silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from streams import profile_histories
from streams.domain import pipeline
from streams.domain.alert import AlertEvent, AlertRecord, Priority
from streams.domain.pipeline import ResolveRefused
from streams.domain.profile import ProfileHistory
from streams.domain.rule import RuleBook
from streams.domain.silence import Hearing
from streams.domain.telemetry import Alarm, Battery, Emi, EmiLevel, Event, FlowValve, Motor, PumpId, Received, Report
from streams.domain.world import World
from streams.operations import BREAK_SECONDS
from streams.profile_histories import Known
from streams.readings import COLUMNS

STATEMENT_SECONDS: Final = 300.0
NOT_YET: Final = datetime.max.replace(tzinfo=UTC)
"""The end of a break that has not ended."""


@dataclass(frozen=True, slots=True)
class Heard:
    """When the service could hear pumps, in service time.

    From ``since`` on, but for ``breaks``: each from its first moment (inclusive) to its last (exclusive), oldest first,
    none touching another.
    """

    since: datetime
    breaks: tuple[tuple[datetime, datetime], ...] = ()

    def hearing(self, now: datetime) -> Hearing:
        """What a worker knew of it at ``now``."""
        since, until = self.since, now
        for deaf_from, resumed_at in self.breaks:
            if resumed_at <= now:
                since = max(since, resumed_at)
            elif deaf_from <= now:
                until = deaf_from
        return Hearing(since, until)

    def awake(self, moment: datetime) -> datetime:
        """The moment, or the end of the break that it lies in."""
        return next((end for start, end in self.breaks if start <= moment < end), moment)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A person closed an alert of this rule that was effective from ``effective_from``."""

    at: datetime
    rule_id: str
    effective_from: datetime
    actor: str


@dataclass(frozen=True, slots=True)
class Life:
    """Everything that happened to one pump, by arrival; ``known`` is what people said of it, oldest first."""

    pump_id: str
    known: Sequence[Known]
    readings: Sequence[Received]
    resolutions: Sequence[Resolved] = ()

    @property
    def profiles(self) -> ProfileHistory:
        """What is known of it in the end."""
        return self.known[-1].history if self.known else ProfileHistory()


class Told(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An alert as it stood in the end, and how often people were paged for it.

    A page is an opening, escalation, recurrence or reminder at MEDIUM or HIGH while no open alert is its parent.
    """

    pump_id: str
    alert_id: UUID
    rule_id: str
    priority: Priority
    effective_from: datetime
    effective_to: datetime | None
    retracted: bool
    found_late: bool
    pages: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay came to: the alerts, oldest first, the world at the end, and how much was replayed."""

    told: tuple[Told, ...]
    world: World
    reports: int


def replay(life: Life, rules: RuleBook, until: datetime, heard: Heard) -> Replayed:
    """Take a pump through its life again.

    Args:
        life: What arrived.
        rules: The rules to judge by.
        until: Service time up to which deadlines pass; aware UTC.
        heard: When the service could hear; other silence does not count.
    """
    world, profiles = pipeline.new_world(life.pump_id), ProfileHistory()
    told: dict[UUID, AlertRecord] = {}
    pages: dict[UUID, int] = {}
    for at, happened in _inputs(life):
        if world.next_wake_at is not None and world.next_wake_at <= at:
            world = _time_passed(world, profiles, rules, at, heard, told, pages)
        if isinstance(happened, Known):
            profiles, world = happened.history, _reconsidered(world, at)
            continue
        if isinstance(happened, Received):
            step = pipeline.step(world, happened, profiles, rules, at)
        else:
            step = _resolve(world, profiles, rules, happened)
        world = step.world
        if step.events:
            _note(step.events, told, pages)
    world = _time_passed(world, profiles, rules, until, heard, told, pages)
    if world.next_wake_at is not None and world.next_wake_at <= until:
        # In a break that has not ended: what the pumps themselves said goes on.
        step = pipeline.tick(world, profiles, rules, until, heard.hearing(until))
        _note(step.events, told, pages)
        world = step.world
    alerts = sorted(told.values(), key=lambda record: (record.effective_from, record.rule_id))
    return Replayed(
        tuple(_told(life.pump_id, record, pages.get(record.alert_id, 0)) for record in alerts),
        world,
        len(life.readings),
    )


def _inputs(life: Life) -> list[tuple[datetime, Known | Received | Resolved]]:
    """Everything by its time; what people said counts for what arrived at the same moment."""
    inputs: list[tuple[datetime, Known | Received | Resolved]] = [(known.since, known) for known in life.known]
    inputs.extend((one.received_at, one) for one in life.readings)
    inputs.extend((resolved.at, resolved) for resolved in life.resolutions)
    return sorted(inputs, key=lambda pair: pair[0])


def _reconsidered(world: World, at: datetime) -> World:
    """Workers look at a pump that has reported as soon as they can, when something else is known of it."""
    if world.last_received_at is None:
        return world
    planned = world.next_wake_at
    return msgspec.structs.replace(world, next_wake_at=at if planned is None else min(planned, at))


def _time_passed(
    world: World,
    profiles: ProfileHistory,
    rules: RuleBook,
    until: datetime,
    heard: Heard,
    told: dict[UUID, AlertRecord],
    pages: dict[UUID, int],
) -> World:
    while world.next_wake_at is not None and (now := heard.awake(world.next_wake_at)) <= until:
        step = pipeline.tick(world, profiles, rules, now, heard.hearing(now))
        _note(step.events, told, pages)
        world = step.world
    return world


def _resolve(world: World, profiles: ProfileHistory, rules: RuleBook, resolved: Resolved) -> pipeline.Step:
    same = [record for record in world.ledger if record.rule_id == resolved.rule_id and record.open]
    if not same:
        return pipeline.Step(world, ())
    nearest = min(same, key=lambda record: abs(record.effective_from - resolved.effective_from))
    step = pipeline.resolve(world, profiles, rules, nearest.alert_id, resolved.at, resolved.actor)
    return pipeline.Step(world, ()) if isinstance(step, ResolveRefused) else step


def _note(events: Iterable[AlertEvent], told: dict[UUID, AlertRecord], pages: dict[UUID, int]) -> None:
    for event in events:
        alert = event.alert
        told[alert.alert_id] = alert
        if event.raises and alert.priority.rank >= Priority.MEDIUM.rank and alert.parent_id is None:
            pages[alert.alert_id] = pages.get(alert.alert_id, 0) + 1


def _told(pump_id: str, record: AlertRecord, pages: int) -> Told:
    return Told(
        pump_id,
        record.alert_id,
        record.rule_id,
        record.priority,
        record.effective_from,
        record.effective_to,
        record.retracted,
        record.found_late,
        pages,
    )


# Stored history ---------------------------------------------------------------------------------------------------


async def stored_pumps(pool: asyncpg.Pool[Any]) -> list[str]:
    """All pumps that ever reported, sorted."""
    rows = await pool.fetch("SELECT pump_id FROM pump_state ORDER BY pump_id", timeout=STATEMENT_SECONDS)
    return [row["pump_id"] for row in rows]


async def heard(pool: asyncpg.Pool[Any], now: datetime) -> Heard:
    """When ingest and worker could hear: since the first report that is stored, or since now when there is none.

    A service that does not beat at ``now`` is deaf since its last beat.
    """
    first: datetime | None = await pool.fetchval("SELECT min(received_at) FROM reading", timeout=STATEMENT_SECONDS)
    rows = await pool.fetch(_BREAKS, now, timedelta(seconds=BREAK_SECONDS), timeout=STATEMENT_SECONDS)
    apart: list[tuple[datetime, datetime]] = []
    for row in rows:
        start, end = row["deaf_from"], row["resumed_at"] or NOT_YET
        if apart and start <= apart[-1][1]:
            start, end = apart[-1][0], max(end, apart[-1][1])
            apart.pop()
        apart.append((start, end))
    return Heard(first or now, tuple(apart))


_BREAKS: Final = """
SELECT deaf_from, resumed_at FROM (
    SELECT deaf_from, resumed_at FROM service_break WHERE service IN ('ingest', 'worker') AND resumed_at <= $1
    UNION ALL
    SELECT max(beat_at), NULL FROM service_heartbeat WHERE service IN ('ingest', 'worker')
    GROUP BY service HAVING max(beat_at) < $1 - $2::interval
) AS breaks
ORDER BY deaf_from
"""


async def lives(pool: asyncpg.Pool[Any], pump_ids: Sequence[str], until: datetime) -> list[Life]:
    """The stored lives of these pumps: everything that arrived up to ``until`` (service time, inclusive)."""
    known = await profile_histories.as_it_was_told(pool, pump_ids, until)
    readings: dict[str, list[Received]] = {pump_id: [] for pump_id in pump_ids}
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        query = f"SELECT {', '.join(_SELECTED)} FROM reading WHERE pump_id = ANY($1) AND received_at <= $2"  # noqa: S608
        async for row in connection.cursor(query, pump_ids, until, prefetch=5_000, timeout=STATEMENT_SECONDS):
            readings[row["pump_id"]].append(received_from(row))
    resolutions: dict[str, list[Resolved]] = {pump_id: [] for pump_id in pump_ids}
    for row in await pool.fetch(_RESOLUTIONS, pump_ids, until, timeout=STATEMENT_SECONDS):
        resolved = Resolved(row["recorded_at"], row["rule_id"], row["effective_from"], row["actor"])
        resolutions[row["pump_id"]].append(resolved)
    for arrived in readings.values():
        arrived.sort(key=lambda one: (one.received_at, one.report.boot_id, one.report.seq))
    return [Life(pump_id, known[pump_id], readings[pump_id], resolutions[pump_id]) for pump_id in pump_ids]


_SELECTED: Final = tuple(name for name in COLUMNS if name != "content_hash")
_RESOLUTIONS: Final = """
SELECT alert_event.pump_id, alert_event.recorded_at, alert_event.actor, alert.rule_id, alert.effective_from
FROM alert_event JOIN alert USING (alert_id)
WHERE alert_event.pump_id = ANY($1) AND alert_event.kind = 'resolved' AND alert_event.actor <> 'pumpwatch'
  -- Without a person's own words a care record closed it, and does so in the replay too.
  AND alert_event.detail ? 'note' AND alert_event.recorded_at <= $2
ORDER BY alert_event.recorded_at
"""


_MOTORS: Final = {motor.value: motor for motor in Motor}
_ALARMS: Final = {alarm.value: alarm for alarm in Alarm}
_VALVES: Final = {valve.value: valve for valve in FlowValve}


def received_from(row: Mapping[str, Any]) -> Received:
    """A report from its row of ``reading``; the inverse of `streams.readings.row_of`."""
    alarms, events, motor, valve = row["alarms"], row["events"], row["motor"], row["flow_valve"]
    report = Report(
        schema_version=1,
        pump_id=PumpId(row["pump_id"]),
        boot_id=row["boot_id"],
        seq=row["seq"],
        event_time=row["event_time"],
        gateway_id=row["gateway_id"],
        gateway_time=row["gateway_time"],
        motor=_MOTORS[motor] if motor is not None else None,
        alarms=tuple(_ALARMS[alarm] for alarm in alarms) if alarms is not None else None,
        reservoir_estimated_ml=row["reservoir_estimated_ml"],
        reservoir_measured_ml=row["reservoir_measured_ml"],
        flow_programmed_ml_per_day=row["flow_programmed_ml_per_day"],
        volume_programmed_ml=row["volume_programmed_ml"],
        volume_delivered_ml=row["volume_delivered_ml"],
        temperature_celsius=row["temperature_celsius"],
        battery=_battery(row),
        emi=Emi(level=EmiLevel(row["emi_level"]), count=row["emi_count"]) if row["emi_level"] is not None else None,
        flow_valve=_VALVES[valve] if valve is not None else None,
        program_checksum=row["program_checksum"],
        events=_events(events) if events is not None else (),
    )
    return Received(report=report, received_at=row["received_at"], clinic=bool(row.get("clinic")))


def _battery(row: Mapping[str, Any]) -> Battery | None:
    voltage_v, eri, eos = row["battery_voltage_v"], row["battery_eri"], row["battery_eos"]
    if voltage_v is None and eri is None and eos is None:
        return None
    return Battery(voltage_v=voltage_v, eri=eri, eos=eos)


def _events(text: str) -> tuple[Event, ...]:
    documents = msgspec.json.decode(text, type=list[dict[str, Any]])
    renamed = [{{"for": "scheduled_for"}.get(key, key): value for key, value in one.items()} for one in documents]
    return tuple(msgspec.convert(document, Event) for document in renamed)


# Comparing --------------------------------------------------------------------------------------------------------


async def recorded(pool: asyncpg.Pool[Any], pump_ids: Sequence[str]) -> list[Told]:
    """The alerts that the live system recorded for these pumps; their pages are not counted."""
    rows = await pool.fetch(
        """
        SELECT pump_id, alert_id, rule_id, priority::text, effective_from, effective_to, retracted, found_late
        FROM alert WHERE pump_id = ANY($1) ORDER BY effective_from, rule_id
        """,
        pump_ids,
        timeout=STATEMENT_SECONDS,
    )
    return [
        Told(
            row["pump_id"],
            row["alert_id"],
            row["rule_id"],
            Priority(row["priority"]),
            row["effective_from"],
            row["effective_to"],
            row["retracted"],
            row["found_late"],
            0,
        )
        for row in rows
    ]


class Change(StrEnum):
    """How an episode differs between two replays, or between a replay and what was recorded."""

    GAINED = "gained"
    LOST = "lost"
    EARLIER = "earlier"
    LATER = "later"
    PRIORITY = "priority"


@dataclass(frozen=True, slots=True)
class Difference:
    """One episode that is not the same on both sides; None on the side that has none."""

    change: Change
    before: Told | None
    after: Told | None


def differences(before: Iterable[Told], after: Iterable[Told]) -> list[Difference]:
    """What changed from one set of alerts to another, per pump and rule; retracted alerts count as none.

    Episodes are the same when their ids are; the rest of a rule's episodes on a pump are paired in order of time, as
    long as they overlap or start within a day of each other.
    """
    left, right = _by_rule(before), _by_rule(after)
    found = []
    for key in sorted(left.keys() | right.keys()):
        found.extend(_paired(left.get(key, []), right.get(key, [])))
    return found


def _by_rule(told: Iterable[Told]) -> dict[tuple[str, str], list[Told]]:
    groups: dict[tuple[str, str], list[Told]] = {}
    for one in told:
        if not one.retracted:
            groups.setdefault((one.pump_id, one.rule_id), []).append(one)
    return groups


def _paired(before: list[Told], after: list[Told]) -> list[Difference]:
    found = []
    waiting = {one.alert_id: one for one in after}
    alone = []
    for one in before:
        twin = waiting.pop(one.alert_id, None)
        if twin is None:
            alone.append(one)
        elif twin.priority is not one.priority:
            found.append(Difference(Change.PRIORITY, one, twin))
    for one in alone:
        near = [twin for twin in waiting.values() if abs(twin.effective_from - one.effective_from) <= _NEAR]
        twin = min(near, key=lambda other: abs(other.effective_from - one.effective_from), default=None)
        if twin is None:
            found.append(Difference(Change.LOST, one, None))
            continue
        del waiting[twin.alert_id]
        change = Change.EARLIER if twin.effective_from < one.effective_from else Change.LATER
        found.append(Difference(change, one, twin))
    found.extend(Difference(Change.GAINED, None, one) for one in waiting.values())
    return found


_NEAR: Final = timedelta(days=1)


def same_history(recorded_alerts: Iterable[Told], replayed: Iterable[Told]) -> list[Difference]:
    """Where the effective history of a replay is not the recorded one: also ends and retractions must agree."""
    keyed = {one.alert_id: one for one in recorded_alerts}
    found = []
    for one in replayed:
        twin = keyed.pop(one.alert_id, None)
        if twin is None:
            if not one.retracted:
                found.append(Difference(Change.GAINED, None, one))
        elif msgspec.structs.replace(one, pages=0) != msgspec.structs.replace(twin, pages=0):
            change = Change.PRIORITY if twin.priority is not one.priority else Change.LATER
            found.append(Difference(change, twin, one))
    found.extend(Difference(Change.LOST, one, None) for one in keyed.values() if not one.retracted)
    return found
