"""The ingest process: ``python -m services.ingest``."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
import traceback
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import asyncpg
import structlog
import uvloop
from aiokafka.errors import KafkaError

from services.ingest.allowance import Allowance, Rate
from services.ingest.batching import Batcher
from services.ingest.feeder import Feeder
from services.ingest.kafka_edge import KafkaEdge
from services.ingest.metrics import Failure, Metrics
from services.ingest.publisher import KafkaPublisher
from services.ingest.server import Bounds, HttpServer
from services.ingest.settings import Settings
from services.ingest.tokens import KnownGateways, Tokens
from services.ingest.unpacking import Caps
from services.ingest.web import Limits, ReportsEdge
from streams.dead_letters import PostgresLimits
from streams.operations import (
    HEARTBEAT_SECONDS,
    NO_DATABASE,
    STOPPING_SECONDS,
    Operations,
    PortTaken,
    configure_logging,
    listen,
    patiently,
    record_beat,
    until_stopped,
)
from streams.provision import UnsafeTopic, provision

SERVICE: Final = "ingest"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
CONNECTIONS: Final = 4
UNEXPECTED: Final = 70
TOKENS_STALE_SECONDS: Final = 300.0
"""Tokens read longer ago than this make the process unready; it goes on taking reports."""

Answer = TypeVar("Answer")


def now() -> datetime:
    """Service time."""
    return datetime.now(UTC)


async def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        PortTaken: If another process has the port.
        UnsafeTopic: If a topic could lose accepted reports.
    """
    metrics = Metrics()
    listener = listen(settings.ingest_host, settings.ingest_port)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(listener.close)
        pool = await patiently(lambda: _connect(settings), _STARTING, START_SECONDS)
        stack.push_async_callback(_close_pool, pool)
        await patiently(lambda: provision(settings), _STARTING, START_SECONDS)
        known = KnownGateways()
        tokens = Tokens(pool, known, metrics)
        await patiently(tokens.load, _STARTING, START_SECONDS)
        publisher = KafkaPublisher(settings.kafka_client(), settings.ingest_produce_seconds, metrics)
        await patiently(publisher.__aenter__, _STARTING, START_SECONDS)
        stack.push_async_exit(publisher)
        letters = KafkaPublisher(settings.kafka_client(), settings.ingest_produce_seconds, metrics, shown=False)
        await patiently(letters.__aenter__, _STARTING, START_SECONDS)
        stack.push_async_exit(letters)
        batcher = Batcher(publisher, settings, metrics)
        stack.push_async_callback(batcher.close, STOP_SECONDS)
        kafka_edge = KafkaEdge(settings, batcher, letters, PostgresLimits(pool), known, metrics, now)
        await _serve(settings, metrics, pool, known, tokens, publisher, batcher, kafka_edge, listener)


async def _serve(
    settings: Settings,
    metrics: Metrics,
    pool: asyncpg.Pool,
    known: KnownGateways,
    tokens: Tokens,
    publisher: KafkaPublisher,
    batcher: Batcher,
    kafka_edge: KafkaEdge,
    listener: socket.socket,
) -> None:
    edge = ReportsEdge(known, batcher, _allowance(settings), _limits(settings), metrics, now)
    feeder = Feeder(settings, publisher, pool, metrics)

    async def ready() -> str | None:
        if not publisher.reachable:
            return "kafka does not answer"
        if time.monotonic() - tokens.read_at > TOKENS_STALE_SECONDS:
            return "the gateways' tokens are out of date"
        return kafka_edge.stopped()

    operations = Operations(
        metrics.registry,
        host=settings.ingest_metrics_host,
        port=settings.ingest_metrics_port,
        live=lambda: None,
        ready=ready,
    )
    bounds = Bounds(settings.ingest_connections, settings.ingest_header_seconds, settings.ingest_body_seconds)
    server = HttpServer(edge.app(), listener, bounds, metrics)
    async with operations, server:
        await _work(
            tokens.keep_fresh(),
            kafka_edge.run(),
            feeder.run(),
            beat_while_hearing(pool, settings.instance, publisher, metrics),
        )


async def _work(*works: Coroutine[Any, Any, None]) -> None:
    """Run these until a signal; one that fails in a way it does not know ends the process."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(work) for work in works]
        await until_stopped(STOPPING_SECONDS)
        await _end(running)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel until they end: a driver that is just connecting may swallow a cancellation."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)


async def beat_while_hearing(pool: asyncpg.Pool, instance: str, publisher: KafkaPublisher, metrics: Metrics) -> None:
    """Beat every 5 s while Kafka answers; until cancelled.

    An ingest that cannot accept reports is deaf: without its beats the worker does not take a pump for silent.
    """
    while True:
        if publisher.reachable:
            try:
                await record_beat(pool, SERVICE, instance)
            except NO_DATABASE as error:
                metrics.failures.labels(Failure.HEARTBEAT).inc()
                structlog.get_logger().warning("heartbeat not recorded", error=type(error).__name__)
        await asyncio.sleep(HEARTBEAT_SECONDS)


def _allowance(settings: Settings) -> Allowance:
    burst = settings.ingest_reports_burst
    return Allowance(Rate(settings.ingest_reports_per_second, burst), Rate(settings.ingest_alarms_per_second, burst))


def _limits(settings: Settings) -> Limits:
    return Limits(
        caps=Caps(settings.ingest_body_bytes, settings.ingest_unpacked_bytes),
        body_seconds=settings.ingest_body_seconds,
        answer_seconds=settings.ingest_answer_seconds,
        open_requests=settings.ingest_open_requests,
        receiving_bytes=settings.ingest_receiving_bytes,
        backlog_age=settings.backlog_age,
    )


async def _connect(settings: Settings) -> asyncpg.Pool:
    return await asyncpg.create_pool(
        settings.postgres.get_secret_value(), min_size=1, max_size=CONNECTIONS, timeout=10, command_timeout=10
    )


async def _close_pool(pool: asyncpg.Pool) -> None:
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await pool.close()
    except TimeoutError:
        pool.terminate()


_STARTING: Final = (*NO_DATABASE, KafkaError)


def _causes(error: BaseException) -> list[str]:
    """Of each error only its type and where it was raised."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for inner in error.exceptions for cause in _causes(inner)]
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return [f"{type(error).__name__} in {frame.name}, line {frame.lineno}" for frame in last]


def start() -> None:
    """Entry point."""
    settings = Settings()
    configure_logging(SERVICE, settings.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main(settings))
    except (PortTaken, UnsafeTopic) as error:
        structlog.get_logger().critical("ingest cannot start", reason=str(error))
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the process' outermost loop; the text may quote telemetry
        structlog.get_logger().critical("ingest ended", errors=_causes(error))
        sys.exit(UNEXPECTED)


if __name__ == "__main__":
    start()
