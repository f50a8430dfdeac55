"""The clinical store: the only writer of pump states, history, alerts and consumed offsets.

What belongs together is written in one transaction: a batch's readings, its pumps' new worlds, the facts about alerts,
their outbox rows, and the offset up to which all of this accounts for the topic. The ordinary batch, without news for
people, is one statement and so one round trip.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Self
from uuid import UUID

import asyncpg
import msgspec
import structlog

from streams import alert_history, profile_histories, readings, system_alerts
from streams.alert_history import Fact
from streams.domain.alert import AlertEvent, AlertEventKind
from streams.domain.pipeline import ResolveRefused, new_world, resolve
from streams.domain.profile import ProfileHistory
from streams.domain.rule import RuleBook
from streams.domain.telemetry import Received
from streams.domain.world import Snapshot, World, decode_world, encode_world, snapshot
from streams.readings import Connection, Identity, Quarantined

__all__ = [
    "Change",
    "Claim",
    "Fenced",
    "Identity",
    "Maintained",
    "Quarantined",
    "ResolveRefused",
    "StaleWorlds",
    "Store",
    "StoredWorld",
    "Work",
    "maintain",
]

KEEP_DAYS: Final = 400
"""How long readings are kept; reports older than that are not accepted either."""
FEW_READINGS: Final = 128
"""Up to so many go into the one statement; COPY's further round trips pay off above (measured)."""
CONFIRMED: Final = "confirmed_by_person"
"""The reason of a confirmation in history."""
CONNECT_SECONDS: Final = 10.0
STATEMENT_SECONDS: Final = 20.0
MAINTENANCE_SECONDS: Final = 300.0

_SERVER_SETTINGS: Final = {
    "application_name": "pumpwatch",
    "timezone": "UTC",
    "statement_timeout": "15s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "30s",
    # Every statement here reads or writes a handful of rows by key; compiling one costs more than running it.
    "jit": "off",
}

_STATE_TYPES: Final = {
    "pump_id": "text",
    "kafka_partition": "smallint",
    "revision": "bigint",
    "next_wake_at": "timestamptz",
    "world": "bytea",
    "site": "text",
    "last_event_time": "timestamptz",
    "last_received_at": "timestamptz",
    "motor": "text",
    "reservoir_estimated_ml": "float8",
    "reservoir_measured_ml": "float8",
    "last_confirmed_delivery_at": "timestamptz",
    "predicted_empty_at": "timestamptz",
}
_FENCED: Final = "PW001"
_STALE: Final = "PW002"


class Fenced(Exception):
    """A stored offset is not the expected one: another worker has the partition. Nothing was written."""

    def __init__(self, claims: Sequence[Claim]) -> None:
        expected = ", ".join(f"partition {claim.partition} at offset {claim.expected}" for claim in claims)
        super().__init__(f"not as expected any more: {expected}")


class StaleWorlds(Exception):
    """A pump was changed by somebody else since it was read. Nothing was written; read again and decide anew."""

    def __init__(self) -> None:
        super().__init__("a pump was changed since it was read")


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write a partition's effects: its offset is ``expected``, and becomes ``next_offset``."""

    topic: str
    partition: int
    expected: int
    next_offset: int


class StoredWorld(msgspec.Struct, frozen=True, gc=False):
    """A pump as it is stored; revision 0 says that it is not stored yet."""

    revision: int
    world: World
    profiles: ProfileHistory


class Change(msgspec.Struct, frozen=True, gc=False):
    """A pump's new world and what there is to say about its alerts.

    Args:
        kafka_partition: Where the pump's telemetry comes from.
        revision: As it was read; it becomes one more.
        received_at: When the report behind the events was accepted; None when time itself is behind them.
    """

    pump_id: str
    kafka_partition: int
    revision: int
    world: World
    snapshot: Snapshot
    events: tuple[AlertEvent, ...]
    received_at: datetime | None


@dataclass(frozen=True, slots=True)
class Work:
    """What a batch amounts to. A pump occurs in at most one change."""

    readings: Sequence[Received] = ()
    quarantined: Sequence[Quarantined] = ()
    changes: Sequence[Change] = ()


@dataclass(frozen=True, slots=True)
class Maintained:
    """What maintenance did: partitions made and dropped, and how many readings lie outside every week."""

    made: int
    dropped: int
    strays: int


@dataclass(frozen=True, slots=True)
class Store:
    """The store of one process; open it with `Store.open`.

    Every statement has a time limit on both sides. `asyncpg.PostgresError`, `asyncpg.InterfaceError`, `OSError` and
    `TimeoutError` mean that the outcome is unknown: look at `next_offset` before trying again.
    """

    pool: asyncpg.Pool[Any]
    _unreadable: set[str] = field(default_factory=set, repr=False)

    @classmethod
    async def open(cls, dsn: str, *, max_size: int = 4) -> Self:
        """Connect as the application's role.

        Args:
            dsn: Where the database is, and as whom to sign in.
            max_size: Connections at most.
        """
        pool = await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=max_size,
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS,
            server_settings=_SERVER_SETTINGS,
            reset=_leave_as_it_is,
        )
        return cls(pool)

    async def close(self) -> None:
        """Close every connection; one that does not come free in time is cut."""
        try:
            async with asyncio.timeout(STATEMENT_SECONDS):
                await self.pool.close()
        except TimeoutError:
            self.pool.terminate()

    # Offsets ----------------------------------------------------------------------------------------------------------

    async def next_offset(self, topic: str, partition: int) -> int | None:
        """The offset of the record to apply next; None when the partition was never started."""
        offset: int | None = await self.pool.fetchval(
            "SELECT next_offset FROM consumed WHERE topic = $1 AND partition = $2", topic, partition
        )
        return offset

    async def start_partition(self, topic: str, partition: int, offset: int, topic_id: str | None = None) -> None:
        """Say where a partition starts; one that was started before stays where it is."""
        await self.pool.execute(
            """
            INSERT INTO consumed (topic, partition, next_offset, topic_id) VALUES ($1, $2, $3, $4)
            ON CONFLICT DO NOTHING
            """,
            topic,
            partition,
            offset,
            topic_id,
        )

    # Pumps ------------------------------------------------------------------------------------------------------------

    async def worlds(self, pump_ids: Sequence[str]) -> dict[str, StoredWorld]:
        """The pumps as they are stored, with what people know of them; one that is not stored is new, at revision 0."""
        async with self.pool.acquire(timeout=CONNECT_SECONDS) as connection:
            return await self._worlds(connection, pump_ids)

    async def _worlds(self, connection: Connection, pump_ids: Sequence[str]) -> dict[str, StoredWorld]:
        # States before profiles: an import moves revisions, so that old states with new profiles come out as stale.
        states = await connection.fetch(
            "SELECT pump_id, revision, next_wake_at, world FROM pump_state WHERE pump_id = ANY($1)", pump_ids
        )
        histories = await profile_histories.read(connection, pump_ids, self._unreadable)
        stored = {row["pump_id"]: row for row in states}
        return {pump_id: _stored_world(pump_id, stored.get(pump_id), history) for pump_id, history in histories.items()}

    async def fingerprints(self, identities: Sequence[Identity]) -> dict[Identity, bytes]:
        """What was stored under these identities; those without a stored reading are left out."""
        if not identities:
            return {}
        async with self.pool.acquire(timeout=CONNECT_SECONDS) as connection:
            return await readings.fingerprints(connection, identities)

    async def silences_of_an_outage(self, alert_ids: Sequence[UUID]) -> set[UUID]:
        """Those of these silences that an outage of their whole site explains, which is noted and not over."""
        async with self.pool.acquire(timeout=CONNECT_SECONDS) as connection:
            return await system_alerts.silences_of_an_outage(connection, alert_ids)

    async def due(self, partitions: Sequence[int], now: datetime, limit: int) -> list[str]:
        """Pumps of these partitions whose time to be looked at has come, the longest overdue first."""
        rows = await self.pool.fetch(
            """
            SELECT pump_id FROM pump_state WHERE kafka_partition = ANY($1::smallint[]) AND next_wake_at <= $2
            ORDER BY next_wake_at LIMIT $3
            """,
            partitions,
            now,
            limit,
        )
        return [row["pump_id"] for row in rows]

    async def pumps_after(self, partition: int, pump_id: str, limit: int) -> list[str]:
        """The first pumps of a partition after ``pump_id`` in the order of the ids; all of them by going on."""
        rows = await self.pool.fetch(
            """
            SELECT pump_id FROM pump_state WHERE kafka_partition = $1 AND pump_id > $2 ORDER BY pump_id LIMIT $3
            """,
            partition,
            pump_id,
            limit,
        )
        return [row["pump_id"] for row in rows]

    # Writing ----------------------------------------------------------------------------------------------------------

    async def apply(self, claims: Sequence[Claim], work: Work, now: datetime) -> None:
        """Write everything in one transaction, or nothing.

        Args:
            claims: The partitions' offsets and where they go, which may be where they are; each partition of one topic
                once. Empty only where no partition is behind the work.
            work: What to write; an empty one only moves the offsets.
            now: Service time, aware UTC.

        Raises:
            Fenced: A stored offset is not its claim's.
            StaleWorlds: A pump's revision is not the change's.
        """
        async with self.pool.acquire(timeout=CONNECT_SECONDS) as connection:
            try:
                await _apply(connection, claims, work, now, may_copy=True)
            except asyncpg.UniqueViolationError:
                # A reading is there already, and COPY has no ON CONFLICT. Rare: pumps know what they have said.
                await _apply(connection, claims, work, now, may_copy=False)

    # People -----------------------------------------------------------------------------------------------------------

    async def confirm(
        self, alert_id: UUID, person_id: str, now: datetime, raised_at: datetime | None = None
    ) -> ResolveRefused | None:
        """A named person takes the alert on; its ladder stops. The first one's name stays.

        Args:
            alert_id: Whichever alert.
            person_id: Who takes it.
            now: Service time; a clock that is behind the raising is taken as that.
            raised_at: The raising that the person saw: one since then is not taken unseen. None: any.

        Returns:
            None when it is confirmed, also by somebody before; else why it cannot be.
        """
        async with self.pool.acquire(timeout=CONNECT_SECONDS) as connection, connection.transaction():
            alert = await _locked_alert(connection, alert_id)
            if alert is None or alert["resolved_at"] is not None or alert["retracted"]:
                return ResolveRefused("the alert is not open any more" if alert else "there is no such alert")
            if alert["confirmed_at"] is not None:
                return None
            if raised_at is not None and raised_at != alert["raised_at"]:
                return ResolveRefused("the alert was raised again")
            await connection.execute(
                """
                UPDATE alert SET confirmed_by = $2, confirmed_at = greatest($3, raised_at), revision = revision + 1
                WHERE alert_id = $1
                """,
                alert_id,
                person_id,
                now,
            )
            await alert_history.note(connection, alert, AlertEventKind.ACKNOWLEDGED, person_id, CONFIRMED, now)
            return None

    async def resolve(
        self, alert_id: UUID, person_id: str, reason: str, now: datetime, rules: RuleBook
    ) -> ResolveRefused | None:
        """A named person closes the alert and says why; workers that have the pump in memory will notice.

        Returns:
            None when it is closed; else why it cannot be.
        """
        async with self.pool.acquire(timeout=CONNECT_SECONDS) as connection, connection.transaction():
            pump_id = await connection.fetchval("SELECT pump_id FROM alert WHERE alert_id = $1", alert_id)
            if pump_id is None:
                return ResolveRefused("there is no such alert")
            partition = await connection.fetchval(
                "SELECT kafka_partition FROM pump_state WHERE pump_id = $1 FOR UPDATE", pump_id
            )
            if partition is None:
                return ResolveRefused("the pump is not known")
            stored = (await self._worlds(connection, [pump_id]))[pump_id]
            outcome = resolve(stored.world, stored.profiles, rules, alert_id, now, person_id)
            if isinstance(outcome, ResolveRefused):
                return outcome
            change = Change(
                pump_id=pump_id,
                kafka_partition=partition,
                revision=stored.revision,
                world=outcome.world,
                snapshot=snapshot(outcome.world, stored.profiles),
                events=outcome.events,
                received_at=None,
            )
            await _write(connection, (), (), [change])
            await alert_history.write(connection, _facts([change], person_id, reason), now)
            return None

    async def re_raise(self, alert_id: UUID, reason: str, now: datetime) -> bool:
        """Ask for attention anew, since a confirmed alert is still true: the earlier confirmation no longer counts.

        Returns:
            Whether it was raised; not when it is closed, or nobody has confirmed it.
        """
        async with self.pool.acquire(timeout=CONNECT_SECONDS) as connection, connection.transaction():
            alert = await _locked_alert(connection, alert_id)
            if alert is None or alert["resolved_at"] is not None or alert["confirmed_at"] is None or alert["retracted"]:
                return False
            await connection.execute(
                """
                UPDATE alert SET confirmed_by = NULL, confirmed_at = NULL, raised_at = $2, revision = revision + 1
                WHERE alert_id = $1
                """,
                alert_id,
                now,
            )
            await alert_history.note(connection, alert, AlertEventKind.RE_RAISED, alert_history.SYSTEM, reason, now)
            return True

    # Upkeep -----------------------------------------------------------------------------------------------------------

    async def maintain(self, now: datetime) -> None:
        """Make the weeks ahead and drop those past their retention; idempotent, and one process at a time."""
        done = await maintain(self.pool, now)
        log = structlog.get_logger()
        log.info("readings maintained", made=done.made, dropped=done.dropped)
        if done.strays:
            log.error("readings outside every partition", count=done.strays)


async def _leave_as_it_is(connection: Connection) -> None:
    """Nothing here changes a session, and asyncpg's default costs a round trip each time a connection goes back.

    Open transactions are rolled back before this is called.
    """


async def maintain(pool: asyncpg.Pool[Any], now: datetime, keep_days: int = KEEP_DAYS) -> Maintained:
    """Make partitions of ``reading`` for [now - keep_days, now + 14 days], and drop older ones.

    Args:
        pool: As the application's role, or the migrator's.
        now: Service time; nothing that is younger by the database's own clock is dropped.
        keep_days: At least 30.
    """
    async with pool.acquire(timeout=CONNECT_SECONDS) as connection, connection.transaction():
        await connection.execute(f"SET LOCAL statement_timeout = '{MAINTENANCE_SECONDS:g}s'")
        [done] = await connection.fetch(
            "SELECT made, dropped FROM maintain_readings($1, $2)", now, keep_days, timeout=MAINTENANCE_SECONDS
        )
        strays = await connection.fetchval("SELECT stray_readings()")
    return Maintained(done["made"], done["dropped"], strays)


def _stored_world(pump_id: str, row: Mapping[str, Any] | None, profiles: ProfileHistory) -> StoredWorld:
    if row is None:
        return StoredWorld(0, new_world(pump_id), profiles)
    world = decode_world(row["world"])
    if world.next_wake_at != row["next_wake_at"]:
        # A changed profile or care record asks for an earlier look without touching the world.
        world = msgspec.structs.replace(world, next_wake_at=row["next_wake_at"])
    return StoredWorld(row["revision"], world, profiles)


def _statement(*, fenced: bool, with_readings: bool) -> str:
    """The one statement that writes offsets, pump states and, where they are few, readings.

    Its parameters: topic; arrays of partitions, expected and next offsets; an array per column of ``pump_state``; the
    readings as JSON. A fence or a revision that does not fit raises, which takes everything back.
    """
    number = 5 if fenced else 1
    names = ", ".join(_STATE_TYPES)
    given = ", ".join(f"${index}::{of_type}[]" for index, of_type in enumerate(_STATE_TYPES.values(), start=number))
    updates = ", ".join(f"{name} = excluded.{name}" for name in _STATE_TYPES if name != "pump_id")
    parts = []
    if fenced:
        parts.append(
            "fence AS (UPDATE consumed SET next_offset = claimed.next_offset, updated_at = now() "
            "FROM unnest($2::smallint[], $3::bigint[], $4::bigint[]) AS claimed (partition, expected, next_offset) "
            "WHERE consumed.topic = $1 AND consumed.partition = claimed.partition "
            "AND consumed.next_offset = claimed.expected RETURNING 1)"
        )
    guard = "EXISTS (SELECT FROM fence)" if fenced else "true"
    parts.append(
        f"changed AS (INSERT INTO pump_state AS old ({names}) SELECT * FROM unnest({given}) WHERE {guard} "  # noqa: S608
        f"ON CONFLICT (pump_id) DO UPDATE SET {updates} WHERE old.revision = excluded.revision - 1 RETURNING 1)"
    )
    if with_readings:
        sql = readings.insert_from_json(number + len(_STATE_TYPES), guard)
        parts.append(f"said AS ({sql})")
    fence_holds = "(SELECT count(*) FROM fence) = cardinality($2)" if fenced else "true"
    worlds_fit = f"(SELECT count(*) FROM changed) = cardinality(${number}::text[])"  # noqa: S608
    return f"WITH {', '.join(parts)} SELECT check_written({fence_holds}, {worlds_fit})"


_STATEMENTS: Final = {
    (fenced, with_readings): _statement(fenced=fenced, with_readings=with_readings)
    for fenced in (False, True)
    for with_readings in (False, True)
}


async def _apply(connection: Connection, claims: Sequence[Claim], work: Work, now: datetime, *, may_copy: bool) -> None:
    copies = may_copy and len(work.readings) > FEW_READINGS
    facts = _facts(work.changes)
    together = () if copies else work.readings
    if not (copies or facts or work.quarantined):
        await _write(connection, claims, together, work.changes)
        return
    async with connection.transaction():
        await _write(connection, claims, together, work.changes)
        if copies:
            await readings.copy(connection, work.readings)
        if work.quarantined:
            await readings.quarantine(connection, work.quarantined, now)
        if facts:
            await alert_history.write(connection, facts, now)


async def _write(
    connection: Connection, claims: Sequence[Claim], few: Sequence[Received], changes: Sequence[Change]
) -> None:
    """Offsets, pump states and few readings: all or nothing."""
    said = (readings.rows_json(few),) if few else ()
    statement = _STATEMENTS[bool(claims), bool(few)]
    try:
        await connection.fetchval(statement, *_fence(claims), *_state_arrays(changes), *said)
    except asyncpg.PostgresError as error:
        if error.sqlstate == _FENCED and claims:
            raise Fenced(claims) from None
        if error.sqlstate == _STALE:
            raise StaleWorlds from None
        raise


def _fence(claims: Sequence[Claim]) -> tuple[Any, ...]:
    if not claims:
        return ()
    return (
        claims[0].topic,
        [claim.partition for claim in claims],
        [claim.expected for claim in claims],
        [claim.next_offset for claim in claims],
    )


def _state_arrays(changes: Sequence[Change]) -> list[Sequence[Any]]:
    if not changes:
        return [()] * len(_STATE_TYPES)
    rows = []
    for change in changes:
        world, shown = change.world, change.snapshot
        rows.append(
            (
                change.pump_id,
                change.kafka_partition,
                change.revision + 1,
                world.next_wake_at,
                encode_world(world),
                shown.site,
                shown.last_event_time,
                shown.last_received_at,
                shown.motor,
                shown.reservoir_estimated_ml,
                shown.reservoir_measured_ml,
                shown.last_confirmed_delivery_at,
                shown.predicted_empty_at,
            )
        )
    return list(zip(*rows, strict=True))


def _facts(changes: Sequence[Change], actor: str = alert_history.SYSTEM, note: str | None = None) -> list[Fact]:
    """The changes' events: what a person closed, by resolving it or by a care record, is that person's fact."""
    facts = []
    for change in changes:
        for place, event in enumerate(change.events):
            by = event.detail.get("resolved_by") if event.kind is AlertEventKind.RESOLVED else None
            facts.append(
                Fact(
                    event=event,
                    pump_id=change.pump_id,
                    site=change.snapshot.site,
                    received_at=change.received_at,
                    revision=change.revision + 1,
                    place=place,
                    actor=str(by) if by else alert_history.SYSTEM,
                    note=note if by and by == actor else None,
                )
            )
    return facts


async def _locked_alert(connection: Connection, alert_id: UUID) -> asyncpg.Record | None:
    return await connection.fetchrow(
        """
        SELECT alert_id, pump_id, revision, raised_at, resolved_at, retracted, confirmed_at FROM alert
        WHERE alert_id = $1 FOR UPDATE
        """,
        alert_id,
    )
