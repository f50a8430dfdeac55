"""Pump profiles in the database: imported as a whole or not at all, effective-dated, every change audited.

An import also moves the revision of the pumps it changes: a worker that decided with the old profile cannot commit, and
looks at those pumps again at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import asyncpg
import msgspec

from streams.domain.profile import ProfileRejected, PumpProfile, profile_from

CHANNEL: Final = "pumpwatch_profiles"
"""PostgreSQL notifies here with the id of a pump whose profile changed."""
MAX_ERRORS: Final = 100
MAX_LINE_CHARACTERS: Final = 64 * 1024
MAX_LINES: Final = 200_000
STATEMENT_SECONDS: Final = 120.0

Pool: TypeAlias = "asyncpg.Pool[Any]"
Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"
_JSON: Final = msgspec.json.Encoder()
_PROFILE: Final = msgspec.json.Decoder(PumpProfile)


class UnknownTimeZone(ValueError):
    """There is no time zone of this name."""

    def __init__(self, zone: str) -> None:
        super().__init__(f"unknown time zone {zone!r}; use a name like Europe/Berlin")


@dataclass(frozen=True, slots=True)
class LineError:
    """Why a line cannot be used: its number from 1, the RFC 6901 path of the first bad field, and the reason."""

    line: int
    pointer: str
    reason: str

    def __str__(self) -> str:
        where = f" {self.pointer}" if self.pointer else ""
        return f"line {self.line}{where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did; with any error it did nothing. At most `MAX_ERRORS` errors are told."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    errors: tuple[LineError, ...] = ()


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a pump's profile as it was written, by whom, and when."""

    valid_from: datetime
    recorded_at: datetime
    recorded_by: str
    profile: dict[str, Any]


async def import_profiles(pool: Pool, lines: Iterable[str], actor: str, now: datetime) -> Imported:
    """Take over profiles, one JSON object per line; empty lines are skipped. The same lines again change nothing.

    A version with the pump and ``valid_from`` of a stored one replaces it; the audit keeps both.

    Args:
        pool: As the application's role.
        lines: As in ``design.md`` section 4; a ``valid_from`` that is a date means midnight at the pump's site.
        actor: Who imports.
        now: Service time of the import.
    """
    zones = await time_zones(pool)
    versions, errors = read_lines(lines, zones)
    if errors:
        return Imported(errors=tuple(errors[:MAX_ERRORS]))
    async with pool.acquire(timeout=STATEMENT_SECONDS) as connection, connection.transaction():
        rows = await connection.fetch(_IMPORT, *_columns(versions), now, actor, timeout=STATEMENT_SECONDS)
        await reconsider(connection, {row["pump_id"] for row in rows}, now)
    added = sum(1 for row in rows if row["added"])
    return Imported(added, len(rows) - added, len(versions) - len(rows))


async def reconsider(connection: Connection, pump_ids: Iterable[str], now: datetime) -> None:
    """Have workers look at these pumps again at once; what they decided before this commits cannot be written after."""
    pumps = sorted(pump_ids)
    # In the order in which workers lock them.
    await connection.execute("SELECT FROM pump_state WHERE pump_id = ANY($1) ORDER BY pump_id FOR UPDATE", pumps)
    await connection.execute(
        """
        UPDATE pump_state SET revision = revision + 1, next_wake_at = least(next_wake_at, $2)
        WHERE pump_id = ANY($1)
        """,
        pumps,
        now,
    )


_IMPORT: Final = """
WITH written AS (
    INSERT INTO pump_profile AS stored (pump_id, valid_from, site, profile, recorded_at, recorded_by)
    SELECT *, $5, $6 FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::jsonb[])
    ON CONFLICT (pump_id, valid_from) DO UPDATE
        SET site = excluded.site, profile = excluded.profile, recorded_at = $5, recorded_by = $6
        WHERE stored.profile <> excluded.profile
    RETURNING pump_id, valid_from, site, profile, xmax = 0 AS added
), audited AS (
    INSERT INTO pump_profile_change (pump_id, valid_from, site, profile, recorded_at, recorded_by)
    SELECT pump_id, valid_from, site, profile, $5, $6 FROM written ORDER BY pump_id, valid_from
)
SELECT pump_id, added FROM written
"""


def _columns(versions: Sequence[PumpProfile]) -> tuple[list[Any], ...]:
    return (
        [version.pump_id for version in versions],
        [version.valid_from for version in versions],
        [version.site for version in versions],
        [encode(version) for version in versions],
    )


def encode(profile: PumpProfile) -> str:
    """A profile as it is stored: JSON without what was not given."""
    document = msgspec.to_builtins(profile)
    document["drugs"] = [_without_none(drug) for drug in document["drugs"]]
    return _JSON.encode(_without_none(document)).decode()


def _without_none(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value is not None}


def read_lines(lines: Iterable[str], zones: Mapping[str, tzinfo]) -> tuple[list[PumpProfile], list[LineError]]:
    """The profiles in the lines, and what is wrong with the other lines; equal lines count once.

    Args:
        lines: One JSON object each, or empty.
        zones: Time zones of sites; UTC for all others.
    """
    found: dict[tuple[str, datetime], tuple[int, PumpProfile]] = {}
    errors = []
    for number, line in enumerate(lines, start=1):
        if number > MAX_LINES:
            return [], [LineError(number, "", f"more than {MAX_LINES} lines; split the file")]
        if not line.strip():
            continue
        outcome = _read_line(line, zones)
        if isinstance(outcome, ProfileRejected):
            errors.append(LineError(number, outcome.pointer, outcome.reason))
            continue
        first, known = found.setdefault((outcome.pump_id, outcome.valid_from), (number, outcome))
        if known != outcome:
            reason = f"line {first} says something else of the same pump from the same time on"
            errors.append(LineError(number, "", reason))
    return [version for _, version in sorted(found.values(), key=_by_pump)], errors


def _by_pump(numbered: tuple[int, PumpProfile]) -> tuple[str, datetime]:
    return numbered[1].pump_id, numbered[1].valid_from


def _read_line(line: str, zones: Mapping[str, tzinfo]) -> PumpProfile | ProfileRejected:
    if len(line) > MAX_LINE_CHARACTERS:
        return ProfileRejected("", f"longer than {MAX_LINE_CHARACTERS} characters")
    try:
        document = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return ProfileRejected("", f"not JSON: {error}")
    if not isinstance(document, dict):
        return ProfileRejected("", "not a JSON object")
    site = document.get("site")
    return profile_from(document, zones.get(site, UTC) if isinstance(site, str) else UTC)


async def list_all(pool: Pool, at: datetime) -> list[PumpProfile]:
    """Each pump's profile that is in force at ``at``, by pump; pumps whose first one comes later are left out."""
    rows = await pool.fetch(
        """
        SELECT DISTINCT ON (pump_id) profile::text FROM pump_profile WHERE valid_from <= $1
        ORDER BY pump_id, valid_from DESC
        """,
        at,
        timeout=STATEMENT_SECONDS,
    )
    return [_PROFILE.decode(row["profile"]) for row in rows]


async def show(pool: Pool, pump_id: str) -> list[Version]:
    """The versions that count now, the oldest ``valid_from`` first; empty when there is none."""
    return await _versions(pool, f"{_VERSIONS} FROM pump_profile WHERE pump_id = $1 ORDER BY valid_from", pump_id)


async def audit(pool: Pool, pump_id: str) -> list[Version]:
    """Every version that was ever written for a pump, replaced ones too, in the order of writing."""
    return await _versions(
        pool, f"{_VERSIONS} FROM pump_profile_change WHERE pump_id = $1 ORDER BY chain_position", pump_id
    )


_VERSIONS: Final = "SELECT valid_from, recorded_at, recorded_by, profile::text"


async def _versions(pool: Pool, query: str, pump_id: str) -> list[Version]:
    rows = await pool.fetch(query, pump_id, timeout=STATEMENT_SECONDS)
    return [
        Version(row["valid_from"], row["recorded_at"], row["recorded_by"], msgspec.json.decode(row["profile"]))
        for row in rows
    ]


async def time_zones(pool: Pool) -> dict[str, ZoneInfo]:
    """Time zones by site; a site that is not there is on UTC."""
    rows = await pool.fetch("SELECT site, time_zone FROM site", timeout=STATEMENT_SECONDS)
    return {row["site"]: ZoneInfo(row["time_zone"]) for row in rows}


async def set_time_zone(pool: Pool, site: str, zone: str, now: datetime) -> None:
    """Say which time zone a site is in; its pumps are looked at again, with what is booked on days of this zone.

    What was imported with a date as ``valid_from`` stays at the moment that it then meant.

    Raises:
        UnknownTimeZone: If there is no such zone.
    """
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UnknownTimeZone(zone) from error
    async with pool.acquire(timeout=STATEMENT_SECONDS) as connection, connection.transaction():
        await connection.execute(
            """
            INSERT INTO site (site, time_zone) VALUES ($1, $2)
            ON CONFLICT (site) DO UPDATE SET time_zone = excluded.time_zone
            """,
            site,
            zone,
            timeout=STATEMENT_SECONDS,
        )
        rows = await connection.fetch(
            """
            SELECT pump_id, pg_notify($2, pump_id)
            FROM (SELECT DISTINCT pump_id FROM pump_profile WHERE site = $1) AS there
            """,
            site,
            CHANNEL,
            timeout=STATEMENT_SECONDS,
        )
        await reconsider(connection, [row["pump_id"] for row in rows], now)
