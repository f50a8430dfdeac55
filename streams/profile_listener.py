"""Tells the worker of pumps whose profile changed, so that the next report is judged by the new one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from streams.listening import listen_to
from streams.metrics import Metrics
from streams.operations import NO_DATABASE
from streams.profiles import CHANNEL

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
            await listen_to(
                dsn,
                CHANNEL,
                forget,
                partial(forget, ""),
                connect_seconds=CONNECT_SECONDS,
                check_seconds=PROBE_SECONDS,
            )
        except NO_DATABASE as error:
            metrics.listener_losses.inc()
            log.warning("profile listener lost", error=type(error).__name__)
        await asyncio.sleep(AGAIN_SECONDS)
