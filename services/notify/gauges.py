"""What waits, counted in the database every few seconds, and old outbox rows that are done with."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import asyncpg

from services.notify.metrics import Metrics

EVERY_SECONDS: Final = 2.0
STATEMENT_SECONDS: Final = 5.0
KEEP_DAYS: Final = 30
MOST_DELETED: Final = 1_000

Pool: TypeAlias = "asyncpg.Pool[Any]"

_WAITING: Final = """
    SELECT (SELECT count(*) FROM outbox WHERE handled_at IS NULL) AS pending,
           (SELECT count(*) FROM outbox WHERE published_at IS NULL) AS unpublished,
           (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8
            FROM outbox WHERE handled_at IS NULL) AS oldest_age,
           (SELECT count(*) FROM notification WHERE state IN ('queued', 'sending')) AS notifications
"""

# History is in alert_event; the outbox only has to remember what is still to be done.
_FORGET: Final = """
    DELETE FROM outbox WHERE outbox_id IN (
        SELECT outbox_id FROM outbox ORDER BY outbox_id LIMIT $1
    ) AND handled_at IS NOT NULL AND published_at IS NOT NULL AND created_at < now() - make_interval(days => $2)
"""


class Gauges:
    """Sets the gauges of a process."""

    def __init__(self, pool: Pool, metrics: Metrics) -> None:
        self._pool, self._metrics = pool, metrics

    async def measure(self) -> bool:
        """One round; always done with it."""
        row = await self._pool.fetchrow(_WAITING, timeout=STATEMENT_SECONDS)
        if row is not None:
            self._metrics.outbox_pending.set(row["pending"])
            self._metrics.outbox_unpublished.set(row["unpublished"])
            self._metrics.outbox_oldest_age.set(max(0.0, row["oldest_age"]))
            self._metrics.notifications_waiting.set(row["notifications"])
        await self._pool.execute(_FORGET, MOST_DELETED, KEEP_DAYS, timeout=STATEMENT_SECONDS)
        return False
