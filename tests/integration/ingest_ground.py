"""A running ingest, a client as a gateway, and a look at every topic: what the tests of ingest stand on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams import gateways, topics
from streams.domain.telemetry import Received
from streams.topics import decode_batch
from tests.services.ingest.bad_inputs import report
from tests.stack import Service, Stack


def now() -> datetime:
    """Service time."""
    return datetime.now(UTC)


def told(text: str, name: str, **labels: str) -> float:
    """A metric's value in the text format; 0 when it is not there."""
    for line in text.splitlines():
        if line.startswith((name + "{", name + " ")) and all(
            f'{key}="{value}"' in line for key, value in labels.items()
        ):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


@dataclass
class Ground:
    """One ingest with its database, gateway and topics."""

    stack: Stack
    pool: asyncpg.Pool
    token: str

    @property
    def ingest(self) -> Service:
        """The process."""
        return self.stack.services["ingest"]

    def topic(self, topic: topics.Topic) -> str:
        """Its name on the broker."""
        return self.stack.topic_prefix + topic.name

    @asynccontextmanager
    async def gateway(self, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """A client that speaks for the gateway."""
        headers = {"authorization": f"Bearer {token or self.token}", "content-type": "application/json"}
        url = await self.ingest.url("http")
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
            yield client

    async def records(self, topic: topics.Topic) -> list[Any]:
        """Every record on a topic now, partition by partition."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.stack.kafka, enable_auto_commit=False)
        await consumer.start()
        try:
            name = self.topic(topic)
            numbers = await _partitions(consumer, name)
            ends = {tp: end for tp, end in (await consumer.end_offsets(numbers)).items() if end}
            consumer.assign(list(ends))
            await asyncio.gather(*(consumer.seek_to_beginning(tp) for tp in ends))
            found: list[Any] = []
            async with asyncio.timeout(20):
                while len(found) < sum(ends.values()):
                    batches = await consumer.getmany(timeout_ms=200)
                    found += [record for records in batches.values() for record in records]
            return found
        finally:
            await consumer.stop()

    async def reports(self, topic: topics.Topic = topics.TELEMETRY) -> list[Received]:
        """Every report on a topic of batches."""
        return [one for record in await self.records(topic) for one in decode_batch(record.value).reports]

    async def pumps(self, topic: topics.Topic = topics.TELEMETRY) -> list[str]:
        """The pumps of these reports, sorted."""
        return sorted(str(one.report.pump_id) for one in await self.reports(topic))

    async def metric(self, name: str, **labels: str) -> float:
        """What ingest says of itself."""
        return told(await self.ingest.metrics(), name, **labels)

    async def apply_all(self) -> None:
        """Do as if the worker had applied all that is on the telemetry topic."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.stack.kafka)
        await consumer.start()
        try:
            name = self.topic(topics.TELEMETRY)
            ends = await consumer.end_offsets(await _partitions(consumer, name))
        finally:
            await consumer.stop()
        await self.pool.executemany(
            """
            INSERT INTO consumed (topic, partition, next_offset) VALUES ($1, $2, $3)
            ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset
            """,
            [(name, tp.partition, end) for tp, end in ends.items()],
        )

    @asynccontextmanager
    async def producer(self, compression: str | None = None) -> AsyncIterator[AIOKafkaProducer]:
        """A producer for the Kafka edge."""
        producer = AIOKafkaProducer(bootstrap_servers=self.stack.kafka, acks="all", compression_type=compression)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()


async def _partitions(consumer: AIOKafkaConsumer, name: str) -> list[TopicPartition]:
    cluster = await consumer._client.fetch_all_metadata()
    return [TopicPartition(name, number) for number in cluster.partitions_for_topic(name) or ()]


@asynccontextmanager
async def standing(stack: Stack, env: Mapping[str, str] | None = None, *, start: bool = True) -> AsyncIterator[Ground]:
    """Ingest over the stack's topics and database, and the gateway ``home-1``."""
    async with asyncpg.create_pool(stack.database.app, min_size=1, max_size=2) as pool:
        ground = Ground(stack, pool, await gateways.add(pool, "home-1", "home"))
        service = stack.service("ingest", {"PUMPWATCH_INGEST_SESSION_SECONDS": "6", **(env or {})})
        if start:
            await service.start()
        yield ground


def fresh(pump_id: str = "pump-1", **fields: Any) -> dict[str, Any]:
    """A valid report of this moment."""
    return report(now(), pump_id, **fields)


def encoded(document: Any) -> bytes:
    """As JSON."""
    return json.dumps(document).encode()
