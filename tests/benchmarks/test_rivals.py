"""The rivals do the work that they are compared by; a rival that skips some would make the comparison unfair."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer

from streams import topics
from streams.domain.telemetry import Received
from tests.benchmarks import fleet
from tests.benchmarks.rivals import bare_loop
from tests.benchmarks.rivals.measured import Meter
from tests.benchmarks.rivals.quix import validated
from tests.benchmarks.rivals.quix_light import low_reservoir
from tests.benchmarks.rivals.quix_same_work import ClinicalSink
from tests.stack import Database

PUMPS = fleet.pump_ids("R", 3)


def reports(rounds: int) -> list[Received]:
    """A short history of three pumps; the first stalls in the middle, the second runs low."""
    now = datetime.now(UTC)
    return [
        fleet.received(fleet.as_json(moment), moment.at + timedelta(seconds=1))
        for moment in fleet.history(PUMPS, rounds, now - timedelta(seconds=5))
    ]


async def rows(dsn: str, statement: str) -> list[Any]:
    """What the database holds."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close(timeout=5)


class Remembered(dict[str, Any]):
    """What the threshold rule asks of its state."""

    def set(self, key: str, value: Any) -> None:
        """Keep a value."""
        self[key] = value


def test_the_light_rival_has_a_threshold_with_hysteresis() -> None:
    """Opens at the limit, stays open between the limits, and clears above both."""
    state, told = Remembered(), []
    for seq, level in enumerate((5.0, 2.0, 2.5, 1.9, 3.0, 2.5)):
        raw = fleet.as_json(fleet.Moment("R-1", seq, datetime.now(UTC), reservoir_ml=level))
        report = validated(raw)
        assert report is not None
        told.append(low_reservoir(report, state))  # type: ignore[arg-type]

    assert [alert and alert["event"] for alert in told] == [None, "opened", None, None, "cleared", None]


def test_the_rivals_refuse_what_we_refuse() -> None:
    """The validation is the edge's own."""
    assert validated(b'{"schema_version": 1}') is None


async def test_the_same_work_is_history_state_alerts_and_outbox(database: Database) -> None:
    """Two checkpoints; the second goes on where the first left the pumps."""
    sent = reports(6)
    meter = Meter(limit=100, seconds=60)

    def run() -> None:
        sink = ClinicalSink(database.app, meter)
        for half in (sent[:9], sent[9:]):
            for received in half:
                sink.add(received.report, received.report.pump_id, 0)
            sink.flush()
        sink.close()

    await asyncio.to_thread(run)

    assert meter.count == 18
    assert await rows(database.admin, "SELECT count(*) FROM reading") == [(18,)]
    assert await rows(database.admin, "SELECT count(*), min(revision) FROM pump_state") == [(3, 2)]
    assert ("R-00000", "DLV-01") in await rows(database.admin, "SELECT pump_id, rule_id FROM alert")
    assert (await rows(database.admin, "SELECT count(*) FROM outbox"))[0][0] > 0


async def test_the_bare_loop_stores_the_same_history_and_its_offsets(
    kafka: str, topic_prefix: str, database: Database
) -> None:
    """On records of one report and on batches, by inserts and by COPY; the second time nothing is stored twice."""
    sent = reports(4)
    single, batched = topic_prefix + topics.REPORTS.name, topic_prefix + topics.TELEMETRY.name
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all", max_request_size=2**23) as producer:
        for moment in fleet.history(PUMPS, 4, datetime.now(UTC)):
            await producer.send_and_wait(single, fleet.as_json(moment), key=moment.pump_id.encode())
        for partition, _, value in fleet.batches(sent, 24):
            await producer.send_and_wait(batched, value, partition=partition)

    counts = []
    for group, topic, batches in (("one", single, False), ("two", batched, True), ("three", batched, True)):
        settings = {"kafka": kafka, "postgres": database.app, "topic": topic, "batches": batches, "copy": batches}
        meter = Meter(limit=len(sent), seconds=30)
        await bare_loop.run({**settings, "group": topic_prefix + group}, meter)
        counts.append((meter.durable, (await rows(database.admin, "SELECT count(*) FROM reading"))[0][0]))

    assert counts == [(12, 12), (12, 24), (12, 24)]
    offsets = await rows(database.admin, "SELECT topic, sum(next_offset)::int FROM consumed GROUP BY topic")
    assert dict(offsets) == {single: 12, batched: len({topics.partition_of(pump, 24) for pump in PUMPS})}
