"""Takes news of alerts out of the outbox and looks at the ladders whose time has come.

Both end in the same question, asked of `escalation.plan` or `takeover.go_on`, and its answer is stored in one
transaction with the fact that it was asked. So a notifier may die anywhere: the next one asks again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

import asyncpg
import structlog

from services.notify import ledger
from services.notify.cases import Connection, looks
from services.notify.ledger import Verdict
from services.notify.metrics import Metrics
from services.notify.rounds import Wakes
from services.notify.settings import Settings
from streams.domain.alert import AlertEventKind
from streams.domain.escalation import Decision

BATCH: Final = 100
POSTPONE_SECONDS: Final = 10.0
HOLD_ENDED: Final = "hold_ended"
CHANGES_NO_CHILD: Final = frozenset({AlertEventKind.OPENED, AlertEventKind.ACKNOWLEDGED})
POISON: Final = (ValueError, LookupError, TypeError, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
"""Faults of one alert's rows, which trying all of them again would not mend."""

ReRaise: TypeAlias = Callable[[UUID, str, datetime], Awaitable[object]]
Pool: TypeAlias = "asyncpg.Pool[Any]"

# The most urgent first: after a break, people hear of what can still do harm.
_TAKE: Final = """
    SELECT o.outbox_id, o.alert_id, o.received_at, o.kind
    FROM outbox o LEFT JOIN alert a USING (alert_id)
    WHERE o.handled_at IS NULL AND o.alert_id <> ALL($2) AND ($3::uuid IS NULL OR o.alert_id = $3)
    ORDER BY a.priority DESC NULLS LAST, o.outbox_id
    LIMIT $1
    FOR UPDATE OF o SKIP LOCKED
"""

# A parent that ends or loses rank leaves its children to their own ladders.
_CHILDREN: Final = """
    SELECT child.alert_id FROM alert parent
    JOIN alert child ON child.pump_id = parent.pump_id AND child.parent_id = parent.alert_id
    WHERE parent.alert_id = ANY($1) AND child.resolved_at IS NULL AND NOT child.retracted
"""

_DUE: Final = """
    SELECT alert_id FROM ladder WHERE next_step_at <= now() AND alert_id <> ALL($2) ORDER BY next_step_at LIMIT $1
"""


class Intake:
    """Looks at alerts and stores what follows.

    Args:
        pool: Connections of the application's role.
        settings: The organisation's choices.
        metrics: What is counted.
        wakes: Rung when there is something to deliver.
        re_raise: Raises an alert anew whose confirmation was held for too long (alert id, reason, now).
    """

    def __init__(self, pool: Pool, settings: Settings, metrics: Metrics, wakes: Wakes, re_raise: ReRaise) -> None:
        self._pool, self._metrics, self._wakes = pool, metrics, wakes
        self._policy, self._re_raise = settings.policy, re_raise
        self._postponed: dict[UUID, float] = {}

    async def take_news(self) -> bool:
        """One round over the outbox; whether there may be more."""
        try:
            return await self._take()
        except POISON:
            # One alert that cannot be handled must not keep the others waiting.
            return await self._take_one_by_one()

    async def climb(self) -> bool:
        """One round over the ladders that are due; whether there may be more."""
        due = await self._pool.fetch(_DUE, BATCH, self._skipped())
        await self.look_at([row["alert_id"] for row in due])
        return len(due) == BATCH

    async def look_at(self, alert_ids: Iterable[UUID]) -> None:
        """Ask about these alerts now, each in a transaction of its own."""
        for alert_id in alert_ids:
            try:
                async with self._transaction() as connection:
                    verdicts = await self._decide(connection, [alert_id], {})
                await self._follow(verdicts)
            except POISON as error:
                self._postpone(alert_id, error)

    async def _take(self, only: UUID | None = None) -> bool:
        async with self._transaction() as connection:
            rows = await connection.fetch(_TAKE, BATCH, self._skipped(), only)
            if not rows:
                return False
            accepted = _accepted(rows)
            asked = {*accepted, *await self._children(connection, rows)}
            verdicts = await self._decide(connection, list(asked), accepted, [row["outbox_id"] for row in rows])
        await self._follow(verdicts)
        return len(rows) == BATCH

    async def _take_one_by_one(self) -> bool:
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(_TAKE, BATCH, self._skipped(), None)
        for alert_id in dict.fromkeys(row["alert_id"] for row in rows):
            try:
                await self._take(alert_id)
            except POISON as error:
                self._postpone(alert_id, error)
        return len(rows) == BATCH

    async def _children(self, connection: Connection, rows: Sequence[asyncpg.Record]) -> list[UUID]:
        """Alerts that may have to speak for themselves now; a new one has none yet, and a confirmed one keeps them."""
        changed = [row["alert_id"] for row in rows if row["kind"] not in CHANGES_NO_CHILD]
        return [row["alert_id"] for row in await connection.fetch(_CHILDREN, changed)] if changed else []

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with self._pool.acquire() as connection, connection.transaction():
            yield cast("Connection", connection)

    async def _decide(
        self,
        connection: Connection,
        alert_ids: Sequence[UUID],
        accepted: Mapping[UUID, datetime | None],
        handled: Sequence[int] = (),
    ) -> list[Verdict]:
        verdicts = [
            Verdict(look, look.decide(self._policy), accepted.get(look.alert_id))
            for look in await looks(connection, alert_ids)
        ]
        await ledger.write(connection, verdicts, handled)
        return verdicts

    async def _follow(self, verdicts: Sequence[Verdict]) -> None:
        """After the commit: ring for delivery, count, and raise anew what nobody has ended in time."""
        self._wakes.delivery.set()
        for verdict in verdicts:
            self._count(verdict.decision)
            if verdict.decision.re_raise:
                await self._re_raise(verdict.look.alert_id, HOLD_ENDED, verdict.look.now)

    def _count(self, decision: Decision) -> None:
        for cause in {due.cause for due in decision.due}:
            self._metrics.decisions.labels(cause).inc()
        if decision.silence:
            self._metrics.decisions.labels(decision.silence).inc()

    def _postpone(self, alert_id: UUID, error: Exception) -> None:
        self._postponed[alert_id] = asyncio.get_running_loop().time() + POSTPONE_SECONDS
        self._metrics.postponed.inc()
        structlog.get_logger().error("alert postponed", alert_id=str(alert_id), error=type(error).__name__)

    def _skipped(self) -> list[UUID]:
        now = asyncio.get_running_loop().time()
        self._postponed = {alert_id: until for alert_id, until in self._postponed.items() if until > now}
        return list(self._postponed)


def _accepted(rows: Sequence[asyncpg.Record]) -> dict[UUID, datetime | None]:
    """Per alert, when the first report of this news was accepted."""
    accepted: dict[UUID, datetime | None] = {}
    for row in rows:
        received, known = row["received_at"], accepted.get(row["alert_id"])
        accepted[row["alert_id"]] = min(filter(None, (received, known)), default=None)
    return accepted
