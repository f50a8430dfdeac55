"""The worker process: ``python -m streams``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NoReturn, cast

import faust
import structlog
from faust.types import TP

from streams import topics
from streams.app import create_app
from streams.applying import Applier
from streams.backlog import Backlog
from streams.consumer import Consumer
from streams.dead_letters import KafkaDeadLetters, PostgresLimits
from streams.metrics import Metrics
from streams.offsets import PostgresOffsets
from streams.operations import (
    STOPPING_SECONDS,
    Operations,
    beat,
    configure_logging,
    patiently,
    record_beat,
    until_stopped,
)
from streams.profile_listener import listen_for_profiles
from streams.progress import Log, Progress
from streams.provision import provision
from streams.rules_in_force import RulesInForce
from streams.store import Store
from streams.ticks import Ticks, hearing_of_service
from streams.upkeep import keep_up
from streams.worker import TRANSIENT, Worker
from streams.worker_settings import Settings

SERVICE: Final = "worker"
COLLECT_AFTER: Final = (50_000, 20, 100)
UNEXPECTED: Final = 70
"""EX_SOFTWARE: something happened that this code does not know how to go on from."""
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 15.0
"""Longer than the longest batch; with the broker gone there is nobody to take leave of: PostgreSQL has the offsets."""


def now() -> datetime:
    """Service time."""
    return datetime.now(UTC)


def fatal(event: str, error: BaseException | None = None, **fields: object) -> NoReturn:
    """End the process without unwinding: nothing may acknowledge what was not done."""
    # Of the exception only where it was raised: its text may quote telemetry.
    shown = {} if error is None else {"error": type(error).__name__, "at": _origin(error)}
    structlog.get_logger().critical(event, **shown, **fields)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(UNEXPECTED)


def _origin(error: BaseException) -> list[str]:
    frames, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{os.path.basename(code.co_filename)}:{trace.tb_lineno} {code.co_name}")  # noqa: PTH119 - no file
        trace = trace.tb_next
    return frames[-8:]


async def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, also while still starting; what is under way ends first."""
    work, stopped = asyncio.create_task(_work(settings)), asyncio.create_task(until_stopped(STOPPING_SECONDS))
    await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
    work.cancel()
    stopped.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _work(settings: Settings) -> None:
    metrics = Metrics()
    rules = RulesInForce.load(settings.rules, metrics.registry)
    async with contextlib.AsyncExitStack() as stack:
        dsn = settings.postgres.get_secret_value()
        opening = partial(Store.open, dsn, max_size=settings.worker_connections)
        store = await patiently(opening, TRANSIENT, START_SECONDS)
        stack.push_async_callback(store.close)
        await patiently(partial(provision, settings), TRANSIENT, START_SECONDS)
        topic = settings.topic(topics.TELEMETRY.name)
        letters = await stack.enter_async_context(
            KafkaDeadLetters(settings.kafka_client(), settings.topic(topics.DEAD_LETTERS.name))
        )
        applier = Applier(settings, topic, store, rules, letters, PostgresLimits(store.pool), metrics, now)
        worker = Worker(settings, topic, store, PostgresOffsets(store, topic), applier, metrics, fatal)
        await record_beat(store.pool, SERVICE, settings.instance)
        app = create_app(settings, worker)
        await _serve(settings, app, worker, applier, store, rules, metrics)


async def _log_ends(app: faust.App, topic: str, numbers: Sequence[int]) -> Mapping[int, int]:
    ends = await app.consumer.highwaters(*(TP(topic, number) for number in numbers))
    return {tp.partition: end for tp, end in ends.items()}


async def _topic_id(app: faust.App) -> str | None:
    return await cast(Consumer, app.consumer).topic_id()


async def _serve(
    settings: Settings,
    app: faust.App,
    worker: Worker,
    applier: Applier,
    store: Store,
    rules: RulesInForce,
    metrics: Metrics,
) -> None:
    joined = asyncio.Event()

    async def ready() -> str | None:
        if not joined.is_set() or app.rebalancing:
            return "partitions are not assigned yet"
        await store.pool.execute("SELECT 1")
        return progress.stopped()

    backlog = Backlog(settings)
    log = Log(partial(_log_ends, app, worker.topic), partial(_topic_id, app), backlog.waiting)
    progress = Progress(settings, worker, log, lambda: app.rebalancing, metrics, now, fatal)
    ticks = Ticks(settings, worker, store, applier, rules, partial(hearing_of_service, store.pool), metrics, now)
    operations = Operations(
        metrics.registry,
        host=settings.worker_metrics_host,
        port=settings.worker_metrics_port,
        live=progress.stalled,
        ready=ready,
    )
    dsn = settings.postgres.get_secret_value()
    background = _background(
        ticks.run(),
        progress.run(),
        beat(store.pool, SERVICE, settings.instance),
        listen_for_profiles(dsn, worker.forget_pump, metrics),
        keep_up(store, metrics, now),
        rules.watch(),
    )
    async with backlog, operations, _running(app, worker), background:
        joined.set()
        await _until_broken(app)


@contextlib.asynccontextmanager
async def _running(app: faust.App, worker: Worker) -> AsyncIterator[None]:
    """The app, from joining the consumer group to having left it."""

    async def revoked(*received: Any, **_: Any) -> None:
        tps: set[TP] = received[1]
        await worker.release([tp.partition for tp in tps])

    app.on_partitions_revoked.connect(revoked)
    async with asyncio.timeout(START_SECONDS):
        await app.start()
    try:
        yield
    finally:
        async with asyncio.timeout(STOP_SECONDS):
            await app.stop()
            await worker.close()


@contextlib.asynccontextmanager
async def _background(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run these beside the app; one that ends by itself is a mistake that must not go unnoticed."""
    tasks = [asyncio.create_task(work) for work in works]
    for task in tasks:
        task.add_done_callback(_must_not_end)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _must_not_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        fatal("a background task ended", task.exception())


async def _until_broken(app: faust.App) -> NoReturn:
    await app.wait_until_stopped()
    fatal("the stream processor stopped by itself", app.crash_reason)


def start() -> None:
    """Entry point."""
    settings = Settings()
    configure_logging(SERVICE, settings.log_level)
    # Worlds are immutable and without cycles: to look for some in tens of thousands of them costs more than to decide.
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    # Closing the runner would wait for tasks of the stream processor that ignore their cancellation.
    with asyncio.Runner() as runner:
        try:
            runner.run(main(settings))
        except Exception as error:  # noqa: BLE001 - the process' outermost loop
            fatal("worker ended", error)
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    start()
