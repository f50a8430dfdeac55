"""``python -m services.web``: serves the care-team page until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from datetime import UTC, datetime
from typing import Final

import structlog
import uvloop

from services.web.access import Desk
from services.web.app import create_app
from services.web.attempts import Attempts
from services.web.live import Feed
from services.web.metrics import Metrics
from services.web.rendering import Pages
from services.web.sessions import Lifetime
from services.web.settings import Settings
from streams.operations import (
    STOPPING_SECONDS,
    Operations,
    PortTaken,
    WebServer,
    beat,
    configure_logging,
    listen,
    until_stopped,
)
from streams.rule_errors import RuleError
from streams.rules_in_force import RulesInForce
from streams.store import Store

HASHING_AT_ONCE: Final = 2


def main() -> int:
    """Read the settings and serve; 2 when a port or a rule cannot be used."""
    settings = Settings()
    configure_logging("web", settings.log_level)
    try:
        uvloop.run(_serve(settings))
    except (PortTaken, RuleError) as error:
        structlog.get_logger().error("cannot start", reason=str(error))
        return 2
    return 0


def _now() -> datetime:
    return datetime.now(UTC)


async def _serve(settings: Settings) -> None:
    metrics = Metrics()
    rules = RulesInForce.load(settings.rules, metrics.registry)
    dsn = settings.postgres.get_secret_value()
    listener = listen(settings.web_host, settings.web_port)
    store = await Store.open(dsn, max_size=settings.web_connections)
    lifetime = Lifetime(settings.idle, settings.longest)
    feed = Feed(dsn, lifetime, metrics, _now)
    desk = Desk(
        settings=settings,
        store=store,
        in_force=rules,
        feed=feed,
        metrics=metrics,
        attempts=Attempts(),
        hashing=asyncio.Semaphore(HASHING_AT_ONCE),
        clock=_now,
        pages=Pages(),
    )
    try:
        await _until_stopped(desk, listener)
    finally:
        await store.close()


async def _until_stopped(desk: Desk, listener: socket.socket) -> None:
    settings, log = desk.settings, structlog.get_logger()

    async def ready() -> str | None:
        return None if desk.feed.fresh else "the database does not answer"

    operations = Operations(
        desk.metrics.registry,
        host=settings.web_metrics_host,
        port=settings.web_metrics_port,
        live=lambda: None,
        ready=ready,
    )
    tasks = [
        asyncio.create_task(desk.feed.run(), name="feed"),
        asyncio.create_task(desk.in_force.watch(), name="rules"),
        asyncio.create_task(beat(desk.store.pool, "web", socket.gethostname()), name="heartbeat"),
    ]
    server = WebServer(create_app(desk), listener)
    async with operations, server:
        log.info("listening", name="http", url=server.url)
        await until_stopped(STOPPING_SECONDS)
        # Streams never end by themselves, and the server waits for open requests.
        desk.feed.close()
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    log.info("stopped")


if __name__ == "__main__":
    sys.exit(main())
