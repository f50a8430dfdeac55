"""Looks, by a path of its own, for high alerts that nobody has and nobody is being told of (promise G5).

It reads alerts and notifications, never the ladders: a lost wake-up, a lost outbox row and a wrong ladder all look the
same from here. What it finds is counted, logged, and asked about again at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg
import structlog

from services.notify.metrics import Metrics
from services.notify.settings import Settings
from streams.domain.escalation import Policy, confirm_by

STATEMENT_SECONDS: Final = 5.0
MOST: Final = 1_000

Pool: TypeAlias = "asyncpg.Pool[Any]"

_UNCONFIRMED: Final = """
    SELECT a.alert_id, a.number, coalesce(taken.raised_at, a.raised_at) AS raised_at, now() AS now,
           last.step, last.queued_at, coalesce(last.untried, false) AS untried
    FROM alert a
    LEFT JOIN alert parent ON parent.alert_id = a.parent_id AND parent.resolved_at IS NULL AND NOT parent.retracted
    -- Until it is raised anew, an alert that took over a running ladder has that ladder's times.
    LEFT JOIN alert_event opened ON opened.alert_id = a.alert_id AND opened.kind = 'opened'
                                    AND opened.detail ? 'takes_over' AND a.raised_at = a.opened_at
    LEFT JOIN alert taken ON taken.alert_id = (opened.detail->>'takes_over')::uuid
                             AND taken.ladder = a.ladder AND taken.confirmed_at IS NULL
    LEFT JOIN LATERAL (
        SELECT step, queued_at,
               bool_or(state = 'queued' AND attempts = 0 AND next_try_at < now() - $1::interval) OVER () AS untried
        FROM notification
        WHERE alert_id = a.alert_id AND queued_at >= a.raised_at AND reason NOT IN ('physician_by', 'correction')
        ORDER BY queued_at DESC, step DESC LIMIT 1
    ) last ON true
    WHERE a.resolved_at IS NULL AND NOT a.retracted AND (a.active OR a.latched)
          AND a.priority = 'high' AND a.ladder = 'H' AND a.raised_at < now() - $1::interval
          AND a.confirmed_at IS NULL
          AND (parent.priority IS NULL OR parent.priority < a.priority)
          -- What the intake has only just been given is not late.
          AND NOT EXISTS (SELECT FROM outbox
                          WHERE alert_id = a.alert_id AND handled_at IS NULL AND created_at > now() - $1::interval)
    ORDER BY a.raised_at
    LIMIT $2
"""


def is_overdue(
    now: datetime, raised_at: datetime, step: int | None, queued_at: datetime | None, policy: Policy, grace: timedelta
) -> bool:
    """Whether an unconfirmed high alert lacks its next step; ``step`` is the last one queued since it was raised."""
    if step is None or queued_at is None:
        return now > raised_at + grace
    return now > confirm_by(raised_at, step, queued_at, policy) + grace


class Auditor:
    """Counts what is overdue and asks about it again.

    Args:
        pool: Connections of the application's role.
        settings: How late is too late.
        metrics: ``pumpwatch_alerts_overdue``.
        look_at: Asks escalation about alerts now.
    """

    def __init__(
        self, pool: Pool, settings: Settings, metrics: Metrics, look_at: Callable[[Sequence[UUID]], Awaitable[None]]
    ) -> None:
        self._pool, self._metrics, self._look_at = pool, metrics, look_at
        self._policy, self._grace = settings.policy, timedelta(seconds=settings.notify_audit_seconds)

    async def audit(self) -> bool:
        """One round; whether there may be more than it looked at."""
        rows = await self._pool.fetch(_UNCONFIRMED, self._grace, MOST, timeout=STATEMENT_SECONDS)
        stalled = [row for row in rows if self._lacks_a_step(row)]
        untried = sum(row["untried"] for row in rows)
        self._metrics.overdue.set(len({row["alert_id"] for row in rows if row["untried"]} | _ids(stalled)))
        if stalled or untried:
            structlog.get_logger().error("high alerts overdue", without_step=len(stalled), page_not_tried=untried)
        if stalled:
            await self._look_at([row["alert_id"] for row in stalled])
            self._metrics.requeued.inc(len(stalled))
        return False

    def _lacks_a_step(self, row: asyncpg.Record) -> bool:
        now, raised_at, step, queued_at = row["now"], row["raised_at"], row["step"], row["queued_at"]
        return is_overdue(now, raised_at, step, queued_at, self._policy, self._grace)


def _ids(rows: Sequence[asyncpg.Record]) -> set[UUID]:
    return {row["alert_id"] for row in rows}
