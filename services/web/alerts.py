"""Alerts as the page shows them: one query per question, and the story of one alert as it became known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from streams.people import WATCHDOG_SITE

STATEMENT_SECONDS: Final = 5.0
MOST: Final = 300
"""Alerts shown on one page; how many more there are is said."""
MOST_FACTS: Final = 1_000

Pool: TypeAlias = "asyncpg.Pool[Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert as it stands, with who was told last and what its ladder does next. All times are aware UTC."""

    alert_id: UUID
    number: int
    pump_id: str | None
    site: str | None
    rule_id: str
    rule_hash: str
    ladder: str
    priority: str
    active: bool
    latched: bool
    effective_from: datetime
    effective_to: datetime | None
    opened_at: datetime
    raised_at: datetime
    cleared_at: datetime | None
    resolved_at: datetime | None
    confirmed_by: str | None
    confirmed_at: datetime | None
    confirmed_name: str | None
    found_late: bool
    retracted: bool
    parent_number: int | None
    recurrences: int
    reason: str
    message: str
    next_step: int | None
    next_step_at: datetime | None
    ladder_ended: str | None
    told_person: str | None
    told_channel: str | None
    told_state: str | None
    told_at: datetime | None
    unreached: int

    @property
    def open(self) -> bool:
        """Whether it still needs somebody."""
        return self.resolved_at is None and not self.retracted

    @property
    def confirmed(self) -> bool:
        """Whether a person has it; one who took it before it was raised again no longer counts."""
        return self.confirmed_at is not None and self.confirmed_at >= self.raised_at


@dataclass(frozen=True, slots=True)
class Listing:
    """Some alerts, and how many more there are than are shown."""

    alerts: list[Alert]
    more: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One event of an alert's history. ``effective_at`` is when it was so, ``recorded_at`` when it was known."""

    kind: str
    effective_at: datetime
    recorded_at: datetime
    actor: str
    actor_name: str | None
    reason: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One notification of an alert: who, how, why, and how far it got."""

    step: int
    channel: str
    person: str
    person_name: str | None
    state: str
    repeat: bool
    reason: str
    attempts: int
    queued_at: datetime
    sent_at: datetime | None
    delivered_at: datetime | None
    seen_at: datetime | None
    confirmed_at: datetime | None
    last_error: str | None

    @property
    def recorded_at(self) -> datetime:
        """Its place in the story."""
        return self.queued_at


_ALERT: Final = """
    SELECT alert.alert_id, alert.number, alert.pump_id, alert.site, alert.rule_id, alert.rule_hash, alert.ladder,
           alert.priority::text, alert.active, alert.latched, alert.effective_from, alert.effective_to,
           alert.opened_at, alert.raised_at, alert.cleared_at, alert.resolved_at, alert.confirmed_by,
           alert.confirmed_at, confirmer.display_name AS confirmed_name, alert.found_late, alert.retracted,
           parent.number AS parent_number, alert.recurrences, alert.reason, alert.message,
           ladder.next_step, ladder.next_step_at, ladder.ended_reason AS ladder_ended,
           coalesce(told_person.display_name, told.person) AS told_person, told.channel AS told_channel,
           told.state AS told_state, told.at AS told_at, unreached.number AS unreached
    FROM alert
    LEFT JOIN person AS confirmer ON confirmer.person_id = alert.confirmed_by
    LEFT JOIN alert AS parent ON parent.alert_id = alert.parent_id
    LEFT JOIN ladder ON ladder.alert_id = alert.alert_id
    LEFT JOIN LATERAL (
        SELECT person, channel, state, coalesce(sent_at, queued_at) AS at FROM notification
        WHERE notification.alert_id = alert.alert_id AND channel <> 'worklist'
          AND state IN ('sent', 'delivered', 'seen', 'confirmed')
        ORDER BY 4 DESC LIMIT 1
    ) AS told ON true
    LEFT JOIN person AS told_person ON told_person.person_id = told.person
    LEFT JOIN LATERAL (
        SELECT count(*) AS number FROM notification
        WHERE notification.alert_id = alert.alert_id AND channel <> 'worklist'
          AND state IN ('queued', 'sending', 'failed') AND queued_at >= alert.raised_at
    ) AS unreached ON true
"""


async def open_alerts(pool: Pool) -> Listing:
    """Every alert that still needs somebody: high before low, and the one that waits longest first.

    The synthetic pump's are left out: the watchdog looks after them itself.
    """
    rows = await pool.fetch(
        f"{_ALERT} WHERE alert.resolved_at IS NULL AND NOT alert.retracted AND alert.site IS DISTINCT FROM $2"
        " ORDER BY alert.priority DESC, alert.raised_at, alert.number LIMIT $1",
        MOST,
        WATCHDOG_SITE,
        timeout=STATEMENT_SECONDS,
    )
    total = len(rows)
    if total == MOST:
        total = await pool.fetchval(
            "SELECT count(*) FROM alert WHERE resolved_at IS NULL AND NOT retracted", timeout=STATEMENT_SECONDS
        )
    return Listing([Alert(**row) for row in rows], total - len(rows))


async def recent_alerts(pool: Pool, since: datetime) -> Listing:
    """Every alert opened since then, and those still open, the newest first."""
    rows = await pool.fetch(
        f"{_ALERT} WHERE (alert.opened_at >= $2 OR (alert.resolved_at IS NULL AND NOT alert.retracted))"
        " AND alert.site IS DISTINCT FROM $3"
        " ORDER BY alert.opened_at DESC, alert.number DESC LIMIT $1",
        MOST,
        since,
        WATCHDOG_SITE,
        timeout=STATEMENT_SECONDS,
    )
    total = len(rows)
    if total == MOST:
        total = await pool.fetchval(
            "SELECT count(*) FROM alert WHERE opened_at >= $1 OR (resolved_at IS NULL AND NOT retracted)",
            since,
            timeout=STATEMENT_SECONDS,
        )
    return Listing([Alert(**row) for row in rows], total - len(rows))


async def find(pool: Pool, reference: int | UUID) -> Alert | None:
    """An alert by its number or id."""
    column = "alert_id" if isinstance(reference, UUID) else "number"
    row = await pool.fetchrow(f"{_ALERT} WHERE alert.{column} = $1", reference, timeout=STATEMENT_SECONDS)
    return Alert(**row) if row else None


async def of_pump(pool: Pool, pump_id: str) -> list[Alert]:
    """The pump's newest 50 alerts, open ones first."""
    rows = await pool.fetch(
        f"{_ALERT} WHERE alert.pump_id = $1"
        " ORDER BY (alert.resolved_at IS NULL AND NOT alert.retracted) DESC, alert.opened_at DESC LIMIT 50",
        pump_id,
        timeout=STATEMENT_SECONDS,
    )
    return [Alert(**row) for row in rows]


async def children(pool: Pool, alert_id: UUID) -> list[Alert]:
    """Alerts that this one stands for, oldest first."""
    rows = await pool.fetch(
        f"{_ALERT} WHERE alert.parent_id = $1 ORDER BY alert.opened_at LIMIT 50", alert_id, timeout=STATEMENT_SECONDS
    )
    return [Alert(**row) for row in rows]


async def story(pool: Pool, alert_id: UUID) -> list[Fact | Told]:
    """Everything that happened to an alert and everybody who was told, in the order in which it was recorded."""
    told = [Told(**row) for row in await _notifications(pool, alert_id)]
    known: list[Fact | Told] = [*await _facts(pool, alert_id), *told]
    return sorted(known, key=lambda item: (item.recorded_at, isinstance(item, Told)))


async def _facts(pool: Pool, alert_id: UUID) -> list[Fact]:
    rows = await pool.fetch(
        """
        SELECT kind, effective_at, recorded_at, actor, display_name AS actor_name, reason, detail
        FROM alert_event LEFT JOIN person ON person_id = actor
        WHERE alert_id = $1 ORDER BY chain_position LIMIT $2
        """,
        alert_id,
        MOST_FACTS,
        timeout=STATEMENT_SECONDS,
    )
    return [Fact(**{**row, "detail": msgspec.json.decode(row["detail"])}) for row in rows]


async def _notifications(pool: Pool, alert_id: UUID) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = await pool.fetch(
        """
        SELECT step, channel, person, display_name AS person_name, state, repeat, reason, attempts, queued_at, sent_at,
               delivered_at, seen_at, confirmed_at, last_error
        FROM notification LEFT JOIN person ON person_id = person
        WHERE alert_id = $1 ORDER BY queued_at LIMIT $2
        """,
        alert_id,
        MOST_FACTS,
        timeout=STATEMENT_SECONDS,
    )
    return rows


async def seen_by(pool: Pool, alert_id: UUID, person_id: str, now: datetime) -> None:
    """Note that a person looks at the alert that they were told about; a step of the notification's own ladder."""
    await pool.execute(
        """
        UPDATE notification SET state = 'seen', seen_at = $3
        WHERE alert_id = $1 AND person = $2 AND state IN ('sent', 'delivered')
        """,
        alert_id,
        person_id,
        now,
        timeout=STATEMENT_SECONDS,
    )


async def count_open(pool: Pool | asyncpg.Connection[Any]) -> Mapping[tuple[str, bool], int]:
    """How many alerts are open, by priority and by whether a person has them."""
    rows = await pool.fetch(
        """
        SELECT priority::text, coalesce(confirmed_at >= raised_at, false) AS confirmed, count(*) AS number
        FROM alert WHERE resolved_at IS NULL AND NOT retracted GROUP BY 1, 2
        """,
        timeout=STATEMENT_SECONDS,
    )
    return {(row["priority"], row["confirmed"]): row["number"] for row in rows}
