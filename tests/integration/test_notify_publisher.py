"""Alert events on a real Kafka: CloudEvents in order for each pump, and people told while the broker is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from pydantic import SecretStr

from services.notify.metrics import Metrics
from services.notify.publisher import Publisher
from services.notify.settings import Settings
from services.standalone.child import free_port
from streams import topics
from streams.domain.alert import AlertEventKind, Priority
from tests.services.notify.care import QUICK, Care, mailbox_of, now
from tests.stack import Database, Stack, eventually


@contextlib.asynccontextmanager
async def publishing(database: Database, kafka: str, prefix: str, count: int = 1) -> AsyncIterator[list[Metrics]]:
    """Publishers in the test's own process."""
    settings = Settings(postgres=SecretStr(database.app), kafka=kafka, topic_prefix=prefix)
    metrics = [Metrics() for _ in range(count)]
    bell = asyncio.Event()
    tasks = [asyncio.create_task(Publisher(settings, each, bell).run()) for each in metrics]
    try:
        yield metrics
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read(kafka: str, prefix: str, count: int) -> list[ConsumerRecord[bytes, bytes]]:
    """The first records of the topic."""
    consumer = AIOKafkaConsumer(
        prefix + topics.ALERTS.name, bootstrap_servers=kafka, auto_offset_reset="earliest", group_id=None
    )
    found: list[ConsumerRecord[bytes, bytes]] = []
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            while len(found) < count:
                batches = await consumer.getmany(timeout_ms=200)
                found += [record for records in batches.values() for record in records]
    finally:
        await consumer.stop()
    return found


async def unpublished(care: Care) -> int:
    """Rows that are not on Kafka yet."""
    count: int = await care.pool.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL")
    return count


def headers_of(record: ConsumerRecord[bytes, bytes]) -> dict[str, str]:
    """As text."""
    return {name: value.decode() for name, value in record.headers}


async def test_an_event_is_a_cloud_event_in_binary_mode(
    care: Care, database: Database, kafka: str, topic_prefix: str
) -> None:
    """Required attributes in headers, the pump as key, and data that says what happened; no words about a patient."""
    alert_id = await care.open()

    async with publishing(database, kafka, topic_prefix):
        (record,) = await read(kafka, topic_prefix, 1)

    event = await care.pool.fetchrow("SELECT * FROM alert_event WHERE alert_id = $1", alert_id)
    assert event is not None
    headers = headers_of(record)
    assert datetime.fromisoformat(headers.pop("ce_time")) == event["recorded_at"]
    assert headers == {
        "ce_specversion": "1.0",
        "ce_id": str(event["event_id"]),
        "ce_type": "pumpwatch.alert.opened.v1",
        "ce_source": "pumpwatch",
        "ce_subject": str(alert_id),
        "content-type": "application/json",
    }
    assert record.key == care.pump_id.encode()
    data = json.loads(record.value or b"")
    assert (data["kind"], data["alert"]["priority"], data["alert"]["rule_id"]) == ("opened", "high", "DLV-01")
    assert "baclofen-canary" not in (record.value or b"").decode()


async def test_each_pumps_events_come_in_their_order_and_once(
    care: Care, database: Database, kafka: str, topic_prefix: str
) -> None:
    """Two publishers, several pumps, several events of each: one of them publishes, and nothing is overtaken."""
    for pump in range(4):
        care.pump_id = f"pump-{pump}"
        alert_id = await care.open()
        await care.change(alert_id, AlertEventKind.ESCALATED, raises=True)
        await care.store.confirm(alert_id, "ada", now())
        await care.change(alert_id, AlertEventKind.CLEARED, active=False, open=False)

    async with publishing(database, kafka, topic_prefix, count=2) as metrics:
        records = await read(kafka, topic_prefix, 16)

        async def done() -> bool:
            return await unpublished(care) == 0

        await eventually(done, what="every row published")

    kinds: dict[Any, list[str]] = {}
    for record in records:
        kinds.setdefault(record.key, []).append(headers_of(record)["ce_type"].split(".")[2])
    assert kinds == {f"pump-{pump}".encode(): ["opened", "escalated", "acknowledged", "cleared"] for pump in range(4)}
    assert len({headers_of(record)["ce_id"] for record in records}) == 16
    counts = [
        each.registry.get_sample_value("pumpwatch_alert_events_published_total", {"outcome": "published"})
        for each in metrics
    ]
    assert sorted(counts, key=lambda count: count or 0) == [None, 16.0]


async def test_people_are_told_while_the_broker_is_away_and_the_rows_wait(stack: Stack, care: Care) -> None:
    """Nothing that tells people depends on Kafka: the notifier is even ready without it."""
    async with mailbox_of(stack) as mails:
        env = {**QUICK, "PUMPWATCH_KAFKA": f"127.0.0.1:{free_port()}"}
        notify = await stack.service("notify", env).start()
        alert_id = await care.open(Priority.HIGH)

        await care.until_states(alert_id, (0, "ada", "email", "sent"))
        assert len(await mails.until(1)) == 1
        assert await unpublished(care) == 1

        async def counted() -> bool:
            return "pumpwatch_outbox_unpublished 1.0" in await notify.metrics()

        await eventually(counted, what="the gauge")
        await notify.stop()
        await stack.service("notify-2", QUICK).start()

        async def published() -> bool:
            return await unpublished(care) == 0

        await eventually(published, what="the rows published once the broker is there")
