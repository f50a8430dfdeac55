"""The history of what pumps said: reports as rows of ``reading``, and what is accepted but never applied.

Rows are written in two ways: few of them as one JSON parameter of the statement that also writes everything else (half
the time that arrays of 24 columns take), many of them by COPY, which is twice as quick again per row but fails as a
whole where a row is there already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, TypeAlias

import asyncpg
import msgspec

from streams.domain.telemetry import Event, Received, fingerprint

Identity = tuple[str, int, int]
"""What makes a report the same report: pump, boot and sequence number."""
Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"
Row = tuple[Any, ...]

COLUMNS: Final = (
    *("pump_id", "event_time", "boot_id", "seq", "gateway_id", "gateway_time", "received_at", "content_hash", "motor"),
    *("alarms", "reservoir_estimated_ml", "reservoir_measured_ml", "flow_programmed_ml_per_day"),
    *("volume_programmed_ml", "volume_delivered_ml", "temperature_celsius", "battery_voltage_v", "battery_eri"),
    *("battery_eos", "emi_level", "emi_count", "flow_valve", "program_checksum", "events", "clinic"),
)
_CONTENT_HASH, _EVENTS = COLUMNS.index("content_hash"), COLUMNS.index("events")
_JSON: Final = msgspec.json.Encoder()
_MSGPACK: Final = msgspec.msgpack.Encoder()
_EVENT_FIELDS: Final = tuple(
    (field.name, {"scheduled_for": "for"}.get(field.name, field.name)) for field in fields(Event)
)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A report that is kept but takes no effect, and why: ``future`` or ``conflict``."""

    received: Received
    reason: str


def row_of(received: Received) -> Row:
    """A report's row of ``reading``, in the order of `COLUMNS`."""
    report = received.report
    battery, emi = report.battery, report.emi
    return (
        report.pump_id,
        report.event_time,
        report.boot_id,
        report.seq,
        report.gateway_id,
        report.gateway_time,
        received.received_at,
        fingerprint(report),
        report.motor,
        report.alarms,
        report.reservoir_estimated_ml,
        report.reservoir_measured_ml,
        report.flow_programmed_ml_per_day,
        report.volume_programmed_ml,
        report.volume_delivered_ml,
        report.temperature_celsius,
        battery.voltage_v if battery else None,
        battery.eri if battery else None,
        battery.eos if battery else None,
        emi.level if emi else None,
        emi.count if emi else None,
        report.flow_valve,
        report.program_checksum,
        _events_json(report.events) if report.events else None,
        received.clinic,
    )


def _events_json(events: Iterable[Event]) -> str:
    """Events as they came over the wire: without what was not said."""
    documents = [
        {wire: value for name, wire in _EVENT_FIELDS if (value := getattr(event, name)) is not None} for event in events
    ]
    return _JSON.encode(documents).decode()


def insert_from_json(parameter: int, guard: str = "") -> str:
    """SQL that inserts the rows in a statement's parameter (`rows_json`); rows that are there already stay as they are.

    Args:
        parameter: Its number.
        guard: An SQL condition without which nothing is inserted.
    """
    names = ", ".join(COLUMNS)
    return (
        f"INSERT INTO reading ({names}) SELECT {names} "  # noqa: S608 - constants
        f"FROM json_populate_recordset(NULL::reading, ${parameter}::json) "
        f"{f'WHERE {guard} ' if guard else ''}ON CONFLICT DO NOTHING"
    )


def rows_json(readings: Iterable[Received]) -> str:
    """The reports' rows as one JSON array of objects by column."""
    return _JSON.encode([_document(row_of(received)) for received in readings]).decode()


def _document(row: Row) -> dict[str, Any]:
    document = dict(zip(COLUMNS, row, strict=True))
    document["content_hash"] = f"\\x{row[_CONTENT_HASH].hex()}"
    if row[_EVENTS] is not None:
        document["events"] = msgspec.Raw(row[_EVENTS].encode())
    return document


async def copy(connection: Connection, readings: Iterable[Received]) -> None:
    """Add the reports by COPY.

    Raises:
        asyncpg.UniqueViolationError: If one of them is there already; the transaction is then lost.
    """
    await connection.copy_records_to_table("reading", records=map(row_of, readings), columns=COLUMNS)


async def quarantine(connection: Connection, quarantined: Sequence[Quarantined], now: datetime) -> None:
    """Keep reports that take no effect; the same one again changes nothing."""
    reports = [one.received.report for one in quarantined]
    await connection.execute(
        """
        INSERT INTO quarantine (pump_id, boot_id, seq, reason, report, received_at, recorded_at)
        SELECT *, $7 FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bytea[], $6::timestamptz[])
        ON CONFLICT DO NOTHING
        """,
        [report.pump_id for report in reports],
        [report.boot_id for report in reports],
        [report.seq for report in reports],
        [one.reason for one in quarantined],
        [_MSGPACK.encode(one.received) for one in quarantined],
        [one.received.received_at for one in quarantined],
        now,
    )


_STORED: Final = """
SELECT reading.pump_id, reading.boot_id, reading.seq, content_hash
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS asked (pump_id, boot_id, seq)
CROSS JOIN LATERAL (
    SELECT * FROM reading
    WHERE (reading.pump_id, reading.boot_id, reading.seq) = (asked.pump_id, asked.boot_id, asked.seq) {recently}
    ORDER BY received_at LIMIT 1
) AS reading
"""
_STORED_RECENTLY: Final = _STORED.format(recently="AND event_time > now() - interval '15 days'")
_STORED_EVER: Final = _STORED.format(recently="")


async def fingerprints(connection: Connection, identities: Sequence[Identity]) -> dict[Identity, bytes]:
    """What was stored under these identities (`streams.domain.telemetry.fingerprint`); unknown ones are left out."""
    found: dict[Identity, bytes] = {}
    # What comes again is nearly always recent, and three weeks are searched in a tenth of the time of sixty.
    for query in (_STORED_RECENTLY, _STORED_EVER):
        missing = [identity for identity in identities if identity not in found]
        if missing:
            rows = await connection.fetch(query, *zip(*missing, strict=True))
            found.update(((row["pump_id"], row["boot_id"], row["seq"]), row["content_hash"]) for row in rows)
    return found
