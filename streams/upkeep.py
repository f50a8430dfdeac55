"""The store's hourly upkeep, run by whichever worker is there: it is idempotent and locks itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

import structlog

from streams.metrics import Metrics
from streams.operations import NO_DATABASE

EVERY_SECONDS: Final = 3_600.0
AGAIN_SECONDS: Final = 60.0
UPKEEP_SECONDS: Final = 600.0


class Upkeep(Protocol):
    """What `streams.store.Store` offers for its own upkeep."""

    async def maintain(self, now: datetime) -> None:
        """Make partitions ahead, and drop those past their retention."""


async def keep_up(store: Upkeep, metrics: Metrics, clock: Callable[[], datetime]) -> None:
    """Maintain now, then every hour, until cancelled; what failed is tried again after a minute."""
    while True:
        try:
            async with asyncio.timeout(UPKEEP_SECONDS):
                await store.maintain(clock())
        except NO_DATABASE as error:
            metrics.maintenance_failures.inc()
            structlog.get_logger().error("upkeep failed", error=type(error).__name__)
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            await asyncio.sleep(EVERY_SECONDS)
