"""``python -m services.watchdog``: watches the whole path until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Final

import httpx
import structlog
import uvloop

from services.watchdog.alarm import Alarm
from services.watchdog.canary import Canary
from services.watchdog.metrics import Metrics
from services.watchdog.receiver import Pages, create_app
from services.watchdog.settings import Settings
from services.watchdog.watch import Watch, steady_clock
from streams import rulebook
from streams.domain.deadman import Limits
from streams.operations import (
    STOPPING_SECONDS,
    Operations,
    PortTaken,
    WebServer,
    configure_logging,
    listen,
    until_stopped,
)

UNUSABLE: Final = 2
RULE: Final = "SYS-03"


def main() -> int:
    """Read the settings and the rule and watch; 2 when one of them or a port cannot be used."""
    settings = Settings()
    configure_logging("watchdog", settings.log_level)
    try:
        limits = settings.limits(rulebook.load(settings.rules, needs=(RULE,))[RULE])
        uvloop.run(_watch(settings, limits))
    except (PortTaken, ValueError) as error:
        structlog.get_logger().error("cannot start", reason=str(error))
        return UNUSABLE
    return 0


async def _watch(settings: Settings, limits: Limits) -> None:
    metrics, pages = Metrics(), Pages()
    listener = listen(settings.watchdog_receiver_host, settings.watchdog_receiver_port)
    receiver = create_app(pages, settings.watchdog_webhook_secret.get_secret_value())

    async def ready() -> str | None:
        return None

    host, port = settings.watchdog_metrics_host, settings.watchdog_metrics_port
    async with (
        Operations(metrics.registry, host=host, port=port, live=lambda: None, ready=ready),
        WebServer(receiver, listener) as server,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        structlog.get_logger().info("listening", name="pages", url=server.url)
        canary = Canary(settings, pages, client)
        watch = Watch(settings, limits, canary, Alarm(settings, metrics), metrics, steady_clock())
        tasks = [asyncio.create_task(part) for part in (watch.rounds(), watch.clock(), watch.tell())]
        stopping = asyncio.create_task(until_stopped(STOPPING_SECONDS))
        try:
            await asyncio.wait((stopping, *tasks), return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in (stopping, *tasks):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
    structlog.get_logger().info("stopped")


if __name__ == "__main__":
    sys.exit(main())
