"""The HTTP edge in memory: real code up to the publisher, which records what it was given."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from services.ingest.allowance import Allowance, Rate
from services.ingest.batching import Batcher
from services.ingest.metrics import Metrics
from services.ingest.publisher import NotAcknowledged, Position
from services.ingest.settings import Settings
from services.ingest.tokens import KnownGateways
from services.ingest.unpacking import Caps
from services.ingest.web import Limits, ReportsEdge
from streams.domain.telemetry import Received
from streams.gateways import token_hash
from streams.topics import decode_batch
from tests.services.ingest.bad_inputs import GATEWAY, TOKEN

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Published:
    """A record as it was handed over."""

    topic: str
    partition: int | None
    value: bytes
    headers: dict[str, bytes]

    @property
    def reports(self) -> tuple[Received, ...]:
        """The batch in it."""
        return decode_batch(self.value).reports


@dataclass
class MemoryPublisher:
    """Acknowledges at once, after `gate` opens, or never."""

    records: list[Published] = field(default_factory=list)
    gate: asyncio.Event | None = None
    broken: bool = False

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        partition: int | None = None,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> Position:
        """See `services.ingest.publisher.Publisher`."""
        if self.gate is not None:
            await self.gate.wait()
        if self.broken:
            raise NotAcknowledged(topic, "broken on purpose")
        self.records.append(Published(topic, partition, value, dict(headers)))
        return Position(partition or 0, len(self.records))

    def pumps(self, topic: str = "pump.telemetry.v1") -> list[str]:
        """Pumps of every report on a topic, in order."""
        return [one.report.pump_id for record in self.records if record.topic == topic for one in record.reports]


class Edge:
    """The edge and a client to it; time stands still at `NOON`."""

    def __init__(self, publisher: MemoryPublisher | None = None, **settings: Any) -> None:
        self.settings = Settings(**{"ingest_linger_ms": 0, **settings})
        self.publisher = publisher or MemoryPublisher()
        self.metrics = Metrics()
        self.gateways = KnownGateways({token_hash(TOKEN): GATEWAY, token_hash("pwg_other"): "clinic-9"}, {"clinic-9"})
        self.batcher = Batcher(self.publisher, self.settings, self.metrics)
        edge = ReportsEdge(self.gateways, self.batcher, self._allowance(), self._limits(), self.metrics, lambda: NOON)
        transport = httpx.ASGITransport(edge.app(), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://ingest", timeout=20)

    async def post(
        self,
        body: bytes | Sequence[bytes] | Any,
        headers: dict[str, str] | None = None,
        authorization: str | None = f"Bearer {TOKEN}",
    ) -> httpx.Response:
        """Hand in a body: bytes, chunks of bytes, or something to write as JSON."""
        sent = dict(headers if headers is not None else {"content-type": "application/json"})
        if authorization is not None:
            sent["authorization"] = authorization
        content: Any = body
        if isinstance(body, list) and body and isinstance(body[0], bytes):
            content = _chunks(body)
        elif not isinstance(body, bytes):
            content = json.dumps(body).encode()
        return await self.client.post("/v1/reports", content=content, headers=sent)

    def value(self, name: str, **labels: str) -> float:
        """A metric's value, 0 when it was never touched."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def _allowance(self) -> Allowance:
        chosen = self.settings
        return Allowance(
            Rate(chosen.ingest_reports_per_second, chosen.ingest_reports_burst),
            Rate(chosen.ingest_alarms_per_second, chosen.ingest_reports_burst),
        )

    def _limits(self) -> Limits:
        chosen = self.settings
        return Limits(
            caps=Caps(chosen.ingest_body_bytes, chosen.ingest_unpacked_bytes),
            body_seconds=chosen.ingest_body_seconds,
            answer_seconds=chosen.ingest_answer_seconds,
            open_requests=chosen.ingest_open_requests,
            receiving_bytes=chosen.ingest_receiving_bytes,
            backlog_age=chosen.backlog_age,
        )


async def _chunks(body: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in body:
        yield chunk
