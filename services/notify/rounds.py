"""A part of notify does its work in rounds: woken when there is news, and once a second all the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from services.notify.metrics import Metrics

RESCAN_SECONDS: Final = 1.0
ROUND_SECONDS: Final = 30.0
PAUSE_SECONDS: Final = 1.0


class Wakes:
    """Bells of the parts. A bell that rings during a round starts another one."""

    def __init__(self) -> None:
        self.intake, self.ladders = asyncio.Event(), asyncio.Event()
        self.delivery, self.publisher = asyncio.Event(), asyncio.Event()

    def news(self) -> None:
        """There are rows in the outbox."""
        self.intake.set()
        self.publisher.set()


async def go_round(
    part: str,
    work: Callable[[], Awaitable[bool]],
    metrics: Metrics,
    bell: asyncio.Event | None = None,
    every: float = RESCAN_SECONDS,
) -> None:
    """Work until cancelled; ``work`` says whether there is more to do at once.

    A round that fails or takes longer than 30 s is counted, logged and tried again after a second: no fault of one
    part may end another part, and above all not the telling of people.
    """
    bell = bell or asyncio.Event()
    log = structlog.get_logger().bind(part=part)
    while True:
        bell.clear()
        try:
            async with asyncio.timeout(ROUND_SECONDS):
                more = await work()
        except Exception as error:  # noqa: BLE001 -- outermost loop of a part; nothing may end it
            metrics.scan_failures.labels(part).inc()
            # Only its kind: a database's message quotes rows, and rows hold patients' telemetry.
            log.error("round failed", error=type(error).__name__)
            more = False
            await asyncio.sleep(PAUSE_SECONDS)
        if not more:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await bell.wait()
