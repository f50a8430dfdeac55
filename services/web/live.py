"""News for open pages: one listener for all of them, woken by PostgreSQL and looking by itself every two seconds.

A page is told only that something changed and then fetches itself anew, so it never shows half of a change.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from itertools import product
from typing import Any, Final

import asyncpg
import structlog
from sse_starlette import ServerSentEvent

from services.web import alerts, health, sessions
from services.web.health import Part, Trouble
from services.web.metrics import Metrics
from services.web.sessions import Lifetime
from streams.alert_history import OUTBOX_CHANNEL
from streams.domain.alert import Priority
from streams.operations import NO_DATABASE

LOOK_SECONDS: Final = 2.0
GATHER_SECONDS: Final = 0.1
"""News that comes in a burst is told once."""
BEAT_SECONDS: Final = 4.0
STALE_SECONDS: Final = 10.0
STATEMENT_SECONDS: Final = 5.0

_FINGERPRINT: Final = """
    SELECT md5(concat_ws('|',
        (SELECT max(outbox_id) FROM outbox),
        (SELECT max(entry_id) FROM care_record),
        (SELECT count(*) || ',' || coalesce(sum(revision), 0) FROM alert WHERE resolved_at IS NULL AND NOT retracted),
        (SELECT count(*) || ',' || coalesce(sum(next_step), 0) FROM ladder WHERE next_step_at IS NOT NULL),
        (SELECT count(*) || ',' || coalesce(max(greatest(queued_at, sent_at, delivered_at, seen_at))::text, '')
         FROM notification JOIN alert USING (alert_id) WHERE alert.resolved_at IS NULL AND NOT alert.retracted)))
"""


class Feed:
    """What is new, for every open page of this process.

    Args:
        dsn: For a connection of its own, which listens.
        lifetime: Of sessions, to count them.
        clock: Service time, aware UTC.
    """

    def __init__(self, dsn: str, lifetime: Lifetime, metrics: Metrics, clock: Callable[[], datetime]) -> None:
        self._dsn, self._lifetime, self._metrics, self._clock = dsn, lifetime, metrics, clock
        self._version, self._known = 0, ""
        self._news, self._notice = asyncio.Event(), asyncio.Event()
        self._looked_at: float | None = None
        self._closed = False
        self._pages = 0
        self._log = structlog.get_logger()

    @property
    def fresh(self) -> bool:
        """Whether the database was looked at within the last ten seconds."""
        now = asyncio.get_running_loop().time()
        return self._looked_at is not None and now - self._looked_at < STALE_SECONDS

    @property
    def pages(self) -> int:
        """How many pages are open."""
        return self._pages

    async def run(self) -> None:
        """Look for news until cancelled; a database that does not answer is asked again every second."""
        while True:
            try:
                await self._follow()
            except NO_DATABASE as error:
                self._metrics.watch_failures.inc()
                self._log.warning("no news from the database", error=type(error).__name__)
                await asyncio.sleep(1)

    def close(self) -> None:
        """Let every open page's stream end, so that the process can stop."""
        self._closed = True
        self._publish()

    async def stream(self, signed_in: Callable[[], Awaitable[bool]]) -> AsyncIterator[ServerSentEvent]:
        """What one open page is told: at once, at every change, and every four seconds that all is well.

        It ends when the person's session does: a page left alone says so and does not go on showing alerts.
        """
        self._pages += 1
        self._metrics.live_pages.set(self._pages)
        try:
            while not self._closed:
                news = self._news
                if not await signed_in():
                    yield ServerSentEvent(event="signed-out", data="{}")
                    return
                state = {"version": self._version, "fresh": self.fresh}
                yield ServerSentEvent(event="state", data=json.dumps(state), retry=2000)
                await _wait(news, BEAT_SECONDS)
        finally:
            self._pages -= 1
            self._metrics.live_pages.set(self._pages)

    async def _follow(self) -> None:
        connection = await asyncpg.connect(self._dsn, timeout=STATEMENT_SECONDS, command_timeout=STATEMENT_SECONDS)
        try:
            await connection.add_listener(OUTBOX_CHANNEL, lambda *_: self._notice.set())
            while True:
                self._notice.clear()
                await self._look(connection)
                if await _wait(self._notice, LOOK_SECONDS):
                    await asyncio.sleep(GATHER_SECONDS)
        finally:
            connection.terminate()

    async def _look(self, connection: asyncpg.Connection[Any]) -> None:
        fingerprint = await connection.fetchval(_FINGERPRINT)
        found = await health.look(connection)
        await self._measure(connection, found)
        known = f"{fingerprint} {sorted(trouble.part for trouble in found)}"
        self._looked_at = asyncio.get_running_loop().time()
        if known != self._known:
            self._known = known
            self._publish()

    async def _measure(self, connection: asyncpg.Connection[Any], found: list[Trouble]) -> None:
        counts = await alerts.count_open(connection)
        for priority, confirmed in product(Priority, (False, True)):
            number = counts.get((priority, confirmed), 0)
            self._metrics.alerts_open.labels(priority, str(confirmed).lower()).set(number)
        self._metrics.sessions.set(await sessions.count(connection, self._lifetime, self._clock()))
        broken = {trouble.part for trouble in found}
        for part in Part:
            self._metrics.degraded.labels(part).set(part in broken)

    def _publish(self) -> None:
        self._version += 1
        news, self._news = self._news, asyncio.Event()
        news.set()


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Whether it happened in time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
