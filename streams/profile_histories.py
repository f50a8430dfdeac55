"""All that people know of pumps, as rules read it: profiles, care records and the time zone of the site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, TypeAlias, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import asyncpg
import msgspec
import structlog

from streams.domain.care import CareRecord
from streams.domain.profile import ProfileHistory, PumpProfile

MOST_UNREADABLE: Final = 1_000
STATEMENT_SECONDS: Final = 20.0

Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any] | asyncpg.Pool[Any]"
Known = TypeVar("Known")

_PROFILE: Final = msgspec.json.Decoder(PumpProfile)
_CARE: Final = msgspec.json.Decoder(CareRecord)

# One round trip: it stands between a pump that the worker does not have in memory and its report.
_READ: Final = """
    SELECT known.pump_id, known.is_care, known.document, known.withdrawn_at, site.time_zone
    FROM (
        SELECT pump_id, false AS is_care, valid_from, site, profile::text AS document, NULL::timestamptz AS withdrawn_at
        FROM pump_profile WHERE pump_id = ANY($1)
        UNION ALL
        SELECT added.pump_id, true, NULL, NULL, added.record::text, withdrawn.recorded_at
        FROM care_record AS added
        LEFT JOIN care_record AS withdrawn ON withdrawn.care_id = added.care_id AND withdrawn.change = 'withdrawn'
        WHERE added.pump_id = ANY($1) AND added.change = 'added'
    ) AS known
    LEFT JOIN site ON site.site = known.site
    ORDER BY known.pump_id, known.valid_from
"""


async def read(
    connection: Connection, pump_ids: Sequence[str], unreadable: set[str] | None = None
) -> dict[str, ProfileHistory]:
    """The history of each of these pumps; of one that nobody knows anything about it is empty.

    Args:
        connection: As the application's role.
        pump_ids: Whose.
        unreadable: Documents that were complained about before; a new one is added, and logged.
    """
    known: dict[str, tuple[list[PumpProfile], list[CareRecord]]] = {pump_id: ([], []) for pump_id in pump_ids}
    zones: dict[str, tzinfo] = {}
    complaints = unreadable if unreadable is not None else set()
    for row in await connection.fetch(_READ, pump_ids, timeout=STATEMENT_SECONDS):
        pump_id, document = row["pump_id"], row["document"]
        versions, care = known[pump_id]
        if row["is_care"]:
            if (record := _decoded(_CARE, document, complaints)) is not None:
                care.append(withdrawn(record, row["withdrawn_at"]))
        elif (version := _decoded(_PROFILE, document, complaints)) is not None:
            versions.append(version)
            # In order of time, so that a pump that has moved is at its newest site.
            zones[pump_id] = _zone(row["time_zone"])
    return {
        pump_id: ProfileHistory(tuple(versions), tuple(care), zones.get(pump_id, UTC))
        for pump_id, (versions, care) in known.items()
    }


def decode_care(document: str, withdrawn_at: datetime | None) -> CareRecord:
    """A record as it is stored.

    Raises:
        msgspec.DecodeError: If this version cannot read it.
    """
    return withdrawn(_CARE.decode(document), withdrawn_at)


def withdrawn(record: CareRecord, at: datetime | None) -> CareRecord:
    """The record, taken back from then on."""
    return record if at is None else replace(record, withdrawn_at=at)


def _decoded(decoder: msgspec.json.Decoder[Known], document: str, complaints: set[str]) -> Known | None:
    try:
        return decoder.decode(document)
    except msgspec.DecodeError:
        # The pump is then judged without it, which beats stopping all pumps of its partition.
        if document not in complaints and len(complaints) < MOST_UNREADABLE:
            complaints.add(document)
            structlog.get_logger().error("stored profile or care record is unreadable")
        return None


def _zone(name: str | None) -> tzinfo:
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC
