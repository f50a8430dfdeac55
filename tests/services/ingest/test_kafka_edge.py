"""The Kafka edge over a consumer and a publisher in memory."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiokafka.errors import UnsupportedCodecError

from services.ingest.batching import Batcher
from services.ingest.kafka_edge import KafkaEdge
from services.ingest.metrics import Metrics
from services.ingest.settings import Settings
from services.ingest.tokens import KnownGateways
from streams.dead_letters import PostgresLimits
from tests.services.ingest.edge import NOON, MemoryPublisher
from tests.stack import eventually


class Consumer:
    """Fails each poll, like one that meets a record whose codec it does not know."""

    def __init__(self, **_: Any) -> None:
        """Takes what the real one takes."""

    def subscribe(self, topics: list[str], listener: Any) -> None:
        """Nothing to do."""

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Disconnect."""

    async def getmany(self, **_: Any) -> dict[Any, Any]:
        """Fail."""
        raise UnsupportedCodecError


def made(**how: Any) -> tuple[KafkaEdge, Metrics]:
    """An edge, and what it counts."""
    settings, publisher, metrics = Settings(), MemoryPublisher(), Metrics()
    batcher = Batcher(publisher, settings, metrics)
    limits = cast(PostgresLimits, None)
    return KafkaEdge(settings, batcher, publisher, limits, KnownGateways(), metrics, lambda: NOON, **how), metrics


@pytest.mark.parametrize(("patience", "reason"), [(0.0, "cannot be read: UnsupportedCodecError"), (60.0, None)])
async def test_an_edge_that_fails_again_and_again_says_so(patience: float, reason: str | None) -> None:
    """A record that cannot be read ends each session; a short failure is no reason to be unready."""
    edge, metrics = made(make=Consumer, failing_seconds=patience)
    running = asyncio.create_task(edge.run())

    async def failed() -> bool:
        return (metrics.registry.get_sample_value("pumpwatch_ingest_failures_total", {"part": "kafka_edge"}) or 0) > 0

    await eventually(failed, what="a failed session")
    said = edge.stopped()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert said == (None if reason is None else f"pump.reports.v1 {reason}")
