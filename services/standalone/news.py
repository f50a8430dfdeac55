"""Tells the person in front of the terminal of the first alerts that open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import asyncpg

from streams.operations import NO_DATABASE

ASK_SECONDS: Final = 0.5
STATEMENT_SECONDS: Final = 10.0

_LAST = "SELECT coalesce(max(number), 0) FROM v_alert"
# A number may become visible after a higher one, so a few below the last are looked at again.
_OPENED = (
    "SELECT number, alert_id, priority::text, rule_id, pump_id FROM v_alert WHERE number > $1 ORDER BY number LIMIT 200"
)


class News:
    """Alerts that open from now on; entered before anything can open one.

    Args:
        dsn: Of a role that may read the views.
        web: Address of the care-team page.
    """

    def __init__(self, dsn: str, web: str) -> None:
        self._dsn, self._web, self._after = dsn, web, 0

    async def begin(self) -> None:
        """Remember which alerts are old."""
        connection = await asyncpg.connect(self._dsn, timeout=10)
        try:
            self._after = await connection.fetchval(_LAST, timeout=STATEMENT_SECONDS)
        finally:
            await connection.close(timeout=5)

    async def lines(self, limit: int) -> AsyncIterator[str]:
        """A line for each of the first alerts, as it opens; ends after ``limit`` lines."""
        told: set[int] = set()
        while len(told) < limit:
            for row in await self._opened():
                if row["number"] not in told and len(told) < limit:
                    told.add(row["number"])
                    yield self._line(row)
            await asyncio.sleep(ASK_SECONDS)

    def _line(self, alert: asyncpg.Record) -> str:
        link = f"{self._web}/alerts/{alert['alert_id']}"
        return f"alert {alert['number']}: {alert['priority'].upper()} {alert['rule_id']} at {alert['pump_id']}  {link}"

    async def _opened(self) -> list[asyncpg.Record]:
        try:
            connection = await asyncpg.connect(self._dsn, timeout=10)
        except NO_DATABASE:
            return []  # It is being started again; the supervisor says so.
        try:
            rows: list[asyncpg.Record] = await connection.fetch(_OPENED, self._after, timeout=STATEMENT_SECONDS)
        except NO_DATABASE:
            return []
        else:
            return rows
        finally:
            await connection.close(timeout=5)
