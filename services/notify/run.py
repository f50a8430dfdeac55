"""The notify process: its parts, how they are put together, and in which order they end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import asyncpg
import structlog

from services.notify.auditor import Auditor
from services.notify.channels import Channel
from services.notify.delivery import Delivery
from services.notify.gauges import EVERY_SECONDS, Gauges
from services.notify.intake import Intake
from services.notify.listener import Listener
from services.notify.mail import Mail
from services.notify.message import Messages
from services.notify.metrics import Metrics
from services.notify.publisher import Publisher
from services.notify.rounds import Wakes, go_round
from services.notify.settings import Settings
from services.notify.system_watch import EVERY_SECONDS as WATCH_SECONDS
from services.notify.system_watch import NEEDED, SystemWatch
from services.notify.webhook import Webhook
from streams.domain.escalation import Channel as ChannelName
from streams.operations import HEARTBEAT_SECONDS, NO_DATABASE, STOPPING_SECONDS, Operations, record_beat, until_stopped
from streams.rules_in_force import RulesInForce
from streams.store import Store

CONNECTIONS: Final = 8
CONNECT_PAUSE_SECONDS: Final = 1.0

Pool: TypeAlias = "asyncpg.Pool[Any]"


class PartEnded(Exception):
    """A part of the process ended by itself, which none may do."""


async def run(settings: Settings, instance: str) -> None:
    """Tell people until SIGTERM; what is being sent then is sent and recorded first.

    Raises:
        PortTaken: If the operations port is taken.
        RuleError: If a rule cannot be used.
    """
    metrics, wakes = Metrics(), Wakes()
    rules = RulesInForce.load(settings.rules, metrics.registry, NEEDED)
    dsn = settings.postgres.get_secret_value()
    listener = Listener(dsn, wakes)
    store: Store | None = None

    async def ready() -> str | None:
        if store is None or not listener.listening:
            return "not connected to PostgreSQL"
        await store.pool.fetchval("SELECT 1")
        return None

    host, port = settings.notify_metrics_host, settings.notify_metrics_port
    stopping = asyncio.create_task(until_stopped(STOPPING_SECONDS), name="until stopped")
    async with Operations(metrics.registry, host=host, port=port, live=lambda: None, ready=ready):
        store = await _first(stopping, _open(dsn))
        if store is None:
            return
        try:
            async with _channels(settings) as channels:
                intake = Intake(store.pool, settings, metrics, wakes, store.re_raise)
                delivery = Delivery(store.pool, settings, metrics, wakes, channels)
                watch = SystemWatch(store.pool, rules, metrics, intake.look_at, datetime.now(UTC))
                parts = _parts(settings, metrics, wakes, store.pool, intake, delivery, watch)
                await _together([*parts, rules.watch(), listener.run(), _beat(store.pool, instance, metrics)], stopping)
                await delivery.finish()
        finally:
            await store.close()
    structlog.get_logger().info("stopped")


async def _beat(pool: Pool, instance: str, metrics: Metrics) -> None:
    async def once() -> bool:
        await record_beat(pool, "notify", instance)
        return False

    await go_round("heartbeat", once, metrics, every=HEARTBEAT_SECONDS)


async def _open(dsn: str) -> Store:
    """Connect as soon as the database answers: parts of a system start at the same time."""
    while True:
        try:
            return await Store.open(dsn, max_size=CONNECTIONS)
        except NO_DATABASE as error:
            structlog.get_logger().warning("postgresql does not answer yet", error=type(error).__name__)
        await asyncio.sleep(CONNECT_PAUSE_SECONDS)


async def _first(stopping: asyncio.Task[None], opening: Coroutine[Any, Any, Store]) -> Store | None:
    """The store, or None when the process is told to stop before it is there."""
    task = asyncio.create_task(opening, name="open the store")
    await asyncio.wait((stopping, task), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait((task,))
    return None


@contextlib.asynccontextmanager
async def _channels(settings: Settings) -> AsyncIterator[Mapping[str, Channel]]:
    messages = Messages(settings.notify_public_url)
    async with Mail(settings, messages) as mail, Webhook(settings, messages) as webhook:
        yield {ChannelName.EMAIL.value: mail, ChannelName.WEBHOOK.value: webhook}


def _parts(
    settings: Settings,
    metrics: Metrics,
    wakes: Wakes,
    pool: Pool,
    intake: Intake,
    delivery: Delivery,
    watch: SystemWatch,
) -> list[Coroutine[Any, Any, None]]:
    """Everything that goes on beside each other; none waits for another."""
    auditor, gauges = Auditor(pool, settings, metrics, intake.look_at), Gauges(pool, metrics)
    return [
        go_round("intake", intake.take_news, metrics, wakes.intake),
        go_round("ladders", intake.climb, metrics, wakes.ladders),
        go_round("delivery", delivery.send_due, metrics, wakes.delivery),
        go_round("audit", auditor.audit, metrics, every=settings.notify_audit_seconds),
        go_round("gauges", gauges.measure, metrics, every=EVERY_SECONDS),
        go_round("system", watch.look, metrics, every=WATCH_SECONDS),
        Publisher(settings, metrics, wakes.publisher).run(),
    ]


async def _together(parts: Sequence[Coroutine[Any, Any, None]], stopping: asyncio.Task[None]) -> None:
    """Run until the process is told to stop; a part that ends by itself ends the process, to be started anew."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.wait((stopping, *tasks), return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
                raise PartEnded
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
