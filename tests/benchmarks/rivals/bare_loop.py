"""The ceiling: aiokafka and asyncpg alone store history and offsets in one transaction; no rules, no state, no alerts.

It decodes without validation into the same types, and inserts by ``unnest`` with ``ON CONFLICT DO NOTHING``, up to
5,000 reports at a time, while aiokafka fetches ahead. With ``batches`` set it reads the worker's natural form instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer

from streams.domain.telemetry import Report
from streams.topics import decode_batch
from tests.benchmarks.rivals.measured import Meter, given, meter_of

MAX_REPORTS: Final = 5_000
COLUMNS: Final = {
    "pump_id": "text",
    "event_time": "timestamptz",
    "boot_id": "bigint",
    "seq": "bigint",
    "gateway_id": "text",
    "gateway_time": "timestamptz",
    "motor": "text",
    "reservoir_estimated_ml": "double precision",
    "reservoir_measured_ml": "double precision",
    "flow_programmed_ml_per_day": "double precision",
    "volume_programmed_ml": "double precision",
    "volume_delivered_ml": "double precision",
    "temperature_celsius": "double precision",
}
INSERT: Final = (
    f"INSERT INTO reading ({', '.join(COLUMNS)}, received_at, content_hash) SELECT *, $14::timestamptz, ''::bytea "
    f"FROM unnest({', '.join(f'${n}::{kind}[]' for n, kind in enumerate(COLUMNS.values(), 1))}) ON CONFLICT DO NOTHING"
)
OFFSETS: Final = """
    INSERT INTO consumed (topic, partition, next_offset) SELECT $1, * FROM unnest($2::integer[], $3::bigint[])
    ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset, updated_at = now()
"""
_JSON: Final = msgspec.json.Decoder(Report)


async def run(settings: dict[str, Any], meter: Meter) -> None:
    """Store until the time is over or the topic is empty."""
    connection = await asyncpg.connect(settings["postgres"], timeout=10)
    consumer = AIOKafkaConsumer(
        settings["topic"],
        bootstrap_servers=settings["kafka"],
        group_id=settings["group"],
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 * 1024 * 1024,
        fetch_max_bytes=64 * 1024 * 1024,
    )
    await consumer.start()
    per_poll = MAX_REPORTS // 100 if settings["batches"] else MAX_REPORTS
    try:
        while not meter.over:
            polled = await consumer.getmany(timeout_ms=500, max_records=per_poll)
            records = [record for found in polled.values() for record in found]
            if records:
                reports = _decoded(records, batches=settings["batches"])
                meter.add(len(reports))
                ends = {key.partition: found[-1].offset + 1 for key, found in polled.items() if found}
                await _store(connection, settings["topic"], reports, ends)
                meter.committed()
    finally:
        await consumer.stop()
        await connection.close(timeout=5)


def _decoded(records: Sequence[Any], *, batches: bool) -> list[Report]:
    if batches:
        return [received.report for record in records for received in decode_batch(record.value).reports]
    return [_JSON.decode(record.value) for record in records]


async def _store(
    connection: asyncpg.Connection[Any], topic: str, reports: Sequence[Report], ends: dict[int, int]
) -> None:
    columns = [[getattr(report, name) for report in reports] for name in COLUMNS]
    async with connection.transaction():
        await connection.execute(INSERT, *columns, datetime.now(UTC), timeout=30)
        await connection.execute(OFFSETS, topic, list(ends), list(ends.values()), timeout=30)


if __name__ == "__main__":
    _settings = given()
    _meter = meter_of(_settings)
    asyncio.run(run(_settings, _meter))
    _meter.print()
