"""Tells the worker of pumps whose profile changed, so that the next report is judged by the new one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import asyncpg
import structlog

from streams.metrics import Metrics
from streams.operations import NO_DATABASE, STATEMENT_SECONDS

CHANNEL: Final = "pumpwatch_profiles"
PROBE_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 10.0
AGAIN_SECONDS: Final = 1.0


async def listen_for_profiles(dsn: str, forget: Callable[[str], None], metrics: Metrics) -> None:
    """Listen until cancelled, on a connection of its own.

    Args:
        dsn: Where to connect.
        forget: Called with a pump's id; with ``""`` (every pump) after a time without a connection, when messages may
            have been missed.
        metrics: Counts lost connections.
    """
    log = structlog.get_logger()
    while True:
        try:
            await _listen(dsn, forget)
        except NO_DATABASE as error:
            metrics.listener_losses.inc()
            log.warning("profile listener lost", error=type(error).__name__)
        await asyncio.sleep(AGAIN_SECONDS)


async def _listen(dsn: str, forget: Callable[[str], None]) -> None:
    def told(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        forget(str(payload))

    connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, command_timeout=STATEMENT_SECONDS)
    try:
        await connection.add_listener(CHANNEL, told)
        forget("")
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            await connection.execute("SELECT 1")  # A half-open connection never says that it is dead.
    finally:
        connection.terminate()
