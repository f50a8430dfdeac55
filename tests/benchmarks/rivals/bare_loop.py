"""The ceiling: aiokafka and asyncpg alone store history and offsets in one transaction; no rules, no state, no alerts.

It decodes without validation into the same types and stores the same rows, up to 5,000 reports at a time, by the
store's ``INSERT ... ON CONFLICT DO NOTHING``, while aiokafka fetches ahead. With ``copy`` set it tries COPY first,
which is quicker and fails where a row is there already; with ``batches`` it reads the worker's natural form.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer

from streams import readings
from streams.domain.telemetry import Received, Report
from streams.topics import decode_batch
from tests.benchmarks.fleet import MEAN_BATCH
from tests.benchmarks.rivals.measured import Meter, given, meter_of

MAX_REPORTS: Final = 5_000
OFFSETS: Final = """
    INSERT INTO consumed (topic, partition, next_offset) SELECT $1, * FROM unnest($2::integer[], $3::bigint[])
    ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset, updated_at = now()
"""
_JSON: Final = msgspec.json.Decoder(Report)
_INSERT: Final = readings.insert_from_json(1)


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
    per_poll = MAX_REPORTS // MEAN_BATCH if settings["batches"] else MAX_REPORTS
    try:
        while not meter.over:
            polled = await consumer.getmany(timeout_ms=500, max_records=per_poll)
            records = [record for found in polled.values() for record in found]
            if records:
                reports = _decoded(records, batches=settings["batches"])
                meter.add(len(reports))
                ends = {key.partition: found[-1].offset + 1 for key, found in polled.items() if found}
                await _store(connection, settings, reports, ends)
                meter.committed()
    finally:
        await consumer.stop()
        await connection.close(timeout=5)


def _decoded(records: Sequence[Any], *, batches: bool) -> list[Received]:
    if batches:
        return [received for record in records for received in decode_batch(record.value).reports]
    now = datetime.now(UTC)
    return [Received(report=_JSON.decode(record.value), received_at=now) for record in records]


async def _store(
    connection: asyncpg.Connection[Any], settings: dict[str, Any], reports: Sequence[Received], ends: dict[int, int]
) -> None:
    async with connection.transaction():
        if not settings["copy"] or not await _copied(connection, reports):
            await connection.execute(_INSERT, readings.rows_json(reports), timeout=30)
        await connection.execute(OFFSETS, settings["topic"], list(ends), list(ends.values()), timeout=30)


async def _copied(connection: asyncpg.Connection[Any], reports: Sequence[Received]) -> bool:
    try:
        async with connection.transaction():
            await readings.copy(connection, reports)
    except asyncpg.UniqueViolationError:
        return False
    return True


if __name__ == "__main__":
    _settings = given()
    _meter = meter_of(_settings)
    asyncio.run(run(_settings, _meter))
    _meter.print()
