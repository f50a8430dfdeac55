"""All that people know of pumps, as rules read it: profiles, care records and the time zone of the site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from itertools import groupby
from operator import itemgetter
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
Document = TypeVar("Document")

_PROFILE: Final = msgspec.json.Decoder(PumpProfile)
_CARE: Final = msgspec.json.Decoder(CareRecord)

# One round trip: it stands between a pump that the worker does not have in memory and its report.
_READ: Final = """
    SELECT known.pump_id, known.care_id, known.document, known.withdrawn_at, site.time_zone
    FROM (
        SELECT pump_id, NULL AS care_id, valid_from, site, profile::text AS document,
               NULL::timestamptz AS withdrawn_at
        FROM pump_profile WHERE pump_id = ANY($1)
        UNION ALL
        SELECT added.pump_id, added.care_id, NULL, NULL, added.record::text, withdrawn.recorded_at
        FROM care_record AS added
        LEFT JOIN care_record AS withdrawn ON withdrawn.care_id = added.care_id AND withdrawn.change = 'withdrawn'
        WHERE added.pump_id = ANY($1) AND added.change = 'added'
    ) AS known
    LEFT JOIN site ON site.site = known.site
    ORDER BY known.pump_id, known.valid_from
"""

# What people said, in the order in which they said it: the audited changes, from which nothing is ever removed.
_TOLD: Final = """
    SELECT told.pump_id, told.recorded_at, told.care_id, told.document, told.withdrawn_at, site.time_zone
    FROM (
        SELECT pump_id, recorded_at, chain_position, NULL AS care_id, site, profile::text AS document,
               NULL::timestamptz AS withdrawn_at
        FROM pump_profile_change
        WHERE chain_id IN (SELECT 'profile/' || pump_id FROM unnest($1::text[]) AS pump_id) AND recorded_at <= $2
        UNION ALL
        SELECT pump_id, recorded_at, chain_position, care_id, NULL, record::text,
               CASE change WHEN 'withdrawn' THEN recorded_at END
        FROM care_record WHERE pump_id = ANY($1) AND recorded_at <= $2
    ) AS told
    LEFT JOIN site ON site.site = told.site
    ORDER BY told.pump_id, told.recorded_at, told.care_id IS NOT NULL, told.chain_position
"""


@dataclass(frozen=True, slots=True)
class Known:
    """All that people had said of a pump from ``since`` on: service time, inclusive, until they said something else."""

    since: datetime
    history: ProfileHistory


@dataclass(slots=True)
class _Knowledge:
    """What was said of a pump so far: profile versions with their sites' time zones, by ``valid_from``, and records."""

    versions: dict[datetime, tuple[PumpProfile, tzinfo]] = field(default_factory=dict)
    care: dict[str, CareRecord] = field(default_factory=dict)

    def add(self, row: asyncpg.Record, complaints: set[str]) -> None:
        """Take in a row of `_READ` or `_TOLD`; one without a document takes back a record that was added before."""
        care_id, document, withdrawn_at = row["care_id"], row["document"], row["withdrawn_at"]
        if document is None:
            if (known := self.care.get(care_id)) is not None:
                self.care[care_id] = withdrawn(known, withdrawn_at)
        elif care_id is None:
            if (version := _decoded(_PROFILE, document, complaints)) is not None:
                self.versions[version.valid_from] = version, _zone(row["time_zone"])
        elif (record := _decoded(_CARE, document, complaints)) is not None:
            self.care[care_id] = withdrawn(record, withdrawn_at)

    def history(self) -> ProfileHistory:
        """A pump that has moved is at its newest site."""
        zone = self.versions[max(self.versions)][1] if self.versions else UTC
        return ProfileHistory(tuple(version for version, _ in self.versions.values()), tuple(self.care.values()), zone)


async def read(
    connection: Connection, pump_ids: Sequence[str], unreadable: set[str] | None = None
) -> dict[str, ProfileHistory]:
    """The history of each of these pumps; of one that nobody knows anything about it is empty.

    Args:
        connection: As the application's role.
        pump_ids: Whose.
        unreadable: Documents that were complained about before; a new one is added, and logged.
    """
    known = {pump_id: _Knowledge() for pump_id in pump_ids}
    complaints = unreadable if unreadable is not None else set()
    for row in await connection.fetch(_READ, pump_ids, timeout=STATEMENT_SECONDS):
        known[row["pump_id"]].add(row, complaints)
    return {pump_id: of_pump.history() for pump_id, of_pump in known.items()}


async def as_it_was_told(
    connection: Connection, pump_ids: Sequence[str], until: datetime
) -> dict[str, tuple[Known, ...]]:
    """What was known of these pumps at each time up to ``until`` (service time, inclusive), oldest first.

    A pump is judged by what is known when it is judged, and somebody may say later what has been so for long.
    """
    told: dict[str, list[Known]] = {pump_id: [] for pump_id in pump_ids}
    knowledge = {pump_id: _Knowledge() for pump_id in pump_ids}
    rows = await connection.fetch(_TOLD, pump_ids, until, timeout=STATEMENT_SECONDS)
    complaints: set[str] = set()
    for (pump_id, recorded_at), together in groupby(rows, key=itemgetter("pump_id", "recorded_at")):
        of_pump = knowledge[pump_id]
        for row in together:
            of_pump.add(row, complaints)
        told[pump_id].append(Known(recorded_at, of_pump.history()))
    return {pump_id: tuple(known) for pump_id, known in told.items()}


def decode_care(document: str, withdrawn_at: datetime | None) -> CareRecord:
    """A record as it is stored.

    Raises:
        msgspec.DecodeError: If this version cannot read it.
    """
    return withdrawn(_CARE.decode(document), withdrawn_at)


def withdrawn(record: CareRecord, at: datetime | None) -> CareRecord:
    """The record, taken back from then on."""
    return record if at is None else replace(record, withdrawn_at=at)


def _decoded(decoder: msgspec.json.Decoder[Document], document: str, complaints: set[str]) -> Document | None:
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
