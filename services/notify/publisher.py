"""Puts every alert event on Kafka as a CloudEvent, in order for each pump, at least once.

One notifier at a time publishes: a lock in the database, held by a connection of its own, ends with that connection. A
broker that is away leaves rows where they are, and nothing that tells people waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.notify.metrics import Metrics
from services.notify.settings import Settings
from streams import topics

LOCK: Final = 0x70756272
BATCH: Final = 500
REQUEST_MS: Final = 5_000
SEND_SECONDS: Final = 15.0
TIMEOUT_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 15.0
CHECK_SECONDS: Final = 1.0

Connection: TypeAlias = "asyncpg.Connection[Any]"
Record: TypeAlias = asyncpg.Record
Headers: TypeAlias = list[tuple[str, bytes]]

_UNPUBLISHED: Final = """
    SELECT o.outbox_id, o.event_id, o.alert_id, o.pump_id, o.kind, o.created_at,
           e.effective_at, e.recorded_at, e.actor, e.reason, e.detail,
           a.number, a.site, a.rule_id, a.rule_hash, a.ladder, a.priority::text, a.active, a.latched,
           a.resolved_at IS NULL AND NOT a.retracted AS open, a.retracted, a.effective_from, a.effective_to,
           a.confirmed_by, a.confirmed_at, a.parent_id
    FROM outbox o LEFT JOIN alert_event e USING (event_id) LEFT JOIN alert a ON a.alert_id = o.alert_id
    WHERE o.published_at IS NULL
    ORDER BY o.outbox_id
    LIMIT $1
"""

_PUBLISHED: Final = "UPDATE outbox SET published_at = now() WHERE outbox_id = ANY($1)"

_EVENT_FIELDS: Final = ("kind", "effective_at", "recorded_at", "actor", "reason")
_ALERT_FIELDS: Final = (
    *(
        "alert_id",
        "number",
        "pump_id",
        "site",
        "rule_id",
        "rule_hash",
        "ladder",
        "priority",
        "active",
        "latched",
        "open",
    ),
    *("retracted", "effective_from", "effective_to", "confirmed_by", "confirmed_at", "parent_id"),
)


def cloud_event(row: Record) -> tuple[Headers, bytes]:
    """An outbox row as CloudEvents 1.0 in Kafka's binary mode: headers and JSON data.

    ``data.alert`` is the alert when it was published, so it may already be further than the event; ``ce_id`` is the
    event's id, the same however often it is sent.
    """
    at: datetime = row["recorded_at"] or row["created_at"]
    headers = {
        "ce_specversion": "1.0",
        "ce_id": str(row["event_id"]),
        "ce_type": f"pumpwatch.alert.{row['kind']}.v1",
        "ce_source": "pumpwatch",
        "ce_subject": str(row["alert_id"]),
        "ce_time": at.astimezone(UTC).isoformat(),
        "content-type": "application/json",
    }
    data: dict[str, Any] = {name: _plain(row[name]) for name in _EVENT_FIELDS}
    data["detail"] = json.loads(row["detail"] or "{}")
    data["alert"] = {name: _plain(row[name]) for name in _ALERT_FIELDS}
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return [(name, value.encode()) for name, value in headers.items()], body.encode()


def waves(rows: Iterable[Record]) -> Iterable[Sequence[Record]]:
    """Rows in groups with each pump at most once: a group is acknowledged before the next is sent.

    So an event whose sending failed is never overtaken by a later one of its pump.
    """
    left = list(rows)
    while left:
        first: dict[str | None, Record] = {}
        later: list[Record] = []
        for row in left:
            if row["pump_id"] in first:
                later.append(row)
            else:
                first[row["pump_id"]] = row
        yield list(first.values())
        left = later


class Publisher:
    """Publishes while it holds the lock; the others wait for it to end."""

    def __init__(self, settings: Settings, metrics: Metrics, bell: asyncio.Event) -> None:
        self._settings, self._metrics, self._bell = settings, metrics, bell
        self._topic = settings.topic(topics.ALERTS.name)

    async def run(self) -> None:
        """Publish until cancelled; after a fault with a pause that doubles up to 15 s."""
        pause, log = PAUSE_SECONDS, structlog.get_logger()
        while True:
            try:
                async with self._connected() as connection, self._producer() as producer:
                    pause = PAUSE_SECONDS
                    await self._publish_all(connection, producer)
            except Exception as error:  # noqa: BLE001 -- outermost loop of a part; nothing may end it
                self._metrics.scan_failures.labels("publisher").inc()
                log.warning("publishing interrupted", error=type(error).__name__, retry_in_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        dsn = self._settings.postgres.get_secret_value()
        connection: Connection = await asyncpg.connect(dsn, timeout=TIMEOUT_SECONDS, command_timeout=TIMEOUT_SECONDS)
        try:
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
                await asyncio.sleep(CHECK_SECONDS)
            yield connection
        finally:
            connection.terminate()

    @contextlib.asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        producer = AIOKafkaProducer(
            **self._settings.kafka_client(),
            client_id="pumpwatch-notify",
            acks="all",
            enable_idempotence=True,
            request_timeout_ms=REQUEST_MS,
        )
        try:
            await producer.start()
            yield producer
        finally:
            with contextlib.suppress(TimeoutError, KafkaError):
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    await producer.stop()

    async def _publish_all(self, connection: Connection, producer: AIOKafkaProducer) -> None:
        while True:
            self._bell.clear()
            rows = await connection.fetch(_UNPUBLISHED, BATCH)
            for wave in waves(rows):
                await self._send(producer, wave)
                await connection.execute(_PUBLISHED, [row["outbox_id"] for row in wave])
                self._metrics.events.labels("published").inc(len(wave))
            if len(rows) < BATCH:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_SECONDS):
                        await self._bell.wait()

    async def _send(self, producer: AIOKafkaProducer, wave: Sequence[Record]) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                acknowledged = [await self._hand_over(producer, row) for row in wave]
                await asyncio.gather(*acknowledged)
        except (TimeoutError, KafkaError):
            self._metrics.events.labels("failed").inc(len(wave))
            raise

    async def _hand_over(self, producer: AIOKafkaProducer, row: Record) -> asyncio.Future[Any]:
        headers, body = cloud_event(row)
        key = row["pump_id"].encode() if row["pump_id"] else None
        sent: asyncio.Future[Any] = await producer.send(self._topic, value=body, key=key, headers=headers)
        return sent


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value) if isinstance(value, UUID) else value
