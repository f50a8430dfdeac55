"""Checks that history is as it was written: every hash chain is computed again from its rows (promise G8).

What is found: a row that was changed, added, moved or taken out, in the middle or at the end, and an alert whose
history is gone. What cannot be found from inside: somebody who owns the database and computes everything anew. Against
that, keep the digest that an inspection ends with somewhere else, and compare it later (`Verified.digest`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import asyncpg

PREFETCH: Final = 2_000
CONNECT_SECONDS: Final = 10.0
STATEMENT_SECONDS: Final = 300.0

Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"


@dataclass(frozen=True, slots=True)
class Broken:
    """The first row that is not as it was written."""

    table: str
    chain_id: str
    position: int
    reason: str

    def __str__(self) -> str:
        return f"{self.table}, chain {self.chain_id}, row {self.position}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Verified:
    """Every chain is whole.

    ``digest`` covers the ends of all chains, in hex: it differs once history was added, and a copy made at the same
    moment has the same.
    """

    chains: int
    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class _Source:
    """A table whose rows form chains, and its columns in the order in which they are hashed."""

    table: str
    columns: tuple[str, ...]


_SOURCES: Final = (
    _Source(
        "alert_event",
        (
            *("chain_id", "chain_position", "event_id", "alert_id", "pump_id", "kind", "effective_at", "recorded_at"),
            *("actor", "reason", "detail"),
        ),
    ),
    _Source(
        "pump_profile_change",
        (
            *("chain_id", "chain_position", "change_id", "pump_id", "site", "valid_from", "profile", "recorded_at"),
            "recorded_by",
        ),
    ),
    _Source(
        "care_record",
        (
            *("chain_id", "chain_position", "entry_id", "care_id", "pump_id", "change", "record", "reason"),
            *("recorded_at", "recorded_by"),
        ),
    ),
)
_CHAINS: Final = (("profile/", "pump_profile_change"), ("care/", "care_record"), ("", "alert_event"))
"""How the ids of each table's chains begin."""
_AS_TEXT: Final = frozenset({"detail", "profile", "record", "event_id", "alert_id"})


async def verify(database: Connection | asyncpg.Pool[Any]) -> Broken | None:
    """The first row of history that is not as it was written, or None when all are; see `inspect`."""
    outcome = await inspect(database)
    return outcome if isinstance(outcome, Broken) else None


async def inspect(database: Connection | asyncpg.Pool[Any]) -> Verified | Broken:
    """Compute every chain again from its rows, and compare it with what is stored.

    Args:
        database: As the application's role or the owner; reads one consistent state, and blocks nobody.

    Returns:
        `Verified`, or the first row that does not fit.
    """
    if isinstance(database, asyncpg.Pool):
        async with database.acquire(timeout=CONNECT_SECONDS) as connection:
            return await _inspect(connection)
    return await _inspect(database)


async def _inspect(connection: Connection) -> Verified | Broken:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        found = await connection.fetch("SELECT chain_id, length, head FROM audit_chain", timeout=STATEMENT_SECONDS)
        heads = {row["chain_id"]: (row["length"], row["head"]) for row in found}
        ends: dict[str, tuple[int, bytes]] = {}
        for source in _SOURCES:
            if broken := await _follow(connection, source, heads, ends):
                return broken
        broken = _shortened(heads, ends) or await _orphan(connection)
    return broken or Verified(len(ends), sum(length for length, _ in ends.values()), _digest(ends))


async def _follow(
    connection: Connection, source: _Source, heads: dict[str, tuple[int, bytes]], ends: dict[str, tuple[int, bytes]]
) -> Broken | None:
    """Walk a table's chains; leaves in ``ends`` how far each one reaches."""
    columns = ", ".join(f"{name}::text" if name in _AS_TEXT else name for name in source.columns)
    query = f"SELECT {columns}, hash FROM {source.table} ORDER BY chain_id, chain_position"  # noqa: S608 - constants
    async for row in connection.cursor(query, prefetch=PREFETCH, timeout=STATEMENT_SECONDS):
        chain_id, position = row["chain_id"], row["chain_position"]
        length, head = ends.get(chain_id, (0, b""))
        if position != length + 1:
            return Broken(source.table, chain_id, length + 1, "the row is missing")
        if chain_id not in heads or position > heads[chain_id][0]:
            return Broken(source.table, chain_id, position, "the row is beyond the chain's end")
        computed = hashlib.sha256(head + canonical(row[name] for name in source.columns)).digest()
        if computed != row["hash"]:
            return Broken(source.table, chain_id, position, "the row is not what was written, or not in its place")
        ends[chain_id] = (position, computed)
    return None


def canonical(values: Iterable[object]) -> bytes:
    """The bytes that are hashed, as in ``schema/0002_append_only_chains.sql``."""
    return b",".join(_canonical(value) for value in values)


def _canonical(value: object) -> bytes:
    if value is None:
        return b"-"
    if isinstance(value, datetime):
        value = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    text = str(value).encode()
    return b"%d:%b" % (len(text), text)


def _shortened(heads: dict[str, tuple[int, bytes]], ends: dict[str, tuple[int, bytes]]) -> Broken | None:
    for chain_id, (length, head) in sorted(heads.items()):
        reached, computed = ends.get(chain_id, (0, b""))
        table = next(table for start, table in _CHAINS if chain_id.startswith(start))
        if reached < length:
            return Broken(table, chain_id, reached + 1, "the row is missing at the chain's end")
        if computed != head:
            return Broken(table, chain_id, reached, "the chain's end was changed")
    return None


async def _orphan(connection: Connection) -> Broken | None:
    """An alert, or a pump's profile, of which history knows nothing: a whole chain was taken out with its end."""
    row = await connection.fetchrow(
        """
        SELECT coalesce(pump_id, 'system') AS chain_id, 'alert_event' AS source FROM alert
        WHERE NOT EXISTS (SELECT FROM alert_event WHERE alert_event.alert_id = alert.alert_id)
        UNION ALL
        SELECT 'profile/' || pump_id, 'pump_profile_change' FROM pump_profile
        WHERE NOT EXISTS (
            SELECT FROM pump_profile_change AS change
            WHERE change.chain_id = 'profile/' || pump_profile.pump_id AND change.valid_from = pump_profile.valid_from)
        ORDER BY chain_id LIMIT 1
        """,
        timeout=STATEMENT_SECONDS,
    )
    return Broken(row["source"], row["chain_id"], 1, "the row is missing with its chain") if row else None


def _digest(ends: dict[str, tuple[int, bytes]]) -> str:
    whole = hashlib.sha256()
    for chain_id, (length, head) in sorted(ends.items()):
        whole.update(canonical((chain_id, length)) + head)
    return whole.hexdigest()
