"""What became of alerts, as rows: each fact in ``alert_event``, the alert as it is now, and the outbox for people.

``alert_event`` is the truth and only grows; ``alert`` is what it amounts to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

import asyncpg
import msgspec

from streams.domain.alert import NAMESPACE, AlertEvent, AlertEventKind, AlertRecord
from streams.readings import Connection

OUTBOX_CHANNEL: Final = "pumpwatch_outbox"
"""PostgreSQL notifies here when rows were added to the outbox."""
SYSTEM: Final = "pumpwatch"
"""The actor of what rules decide."""

_COLUMNS: Final = {
    "alert_id": "uuid",
    "pump_id": "text",
    "site": "text",
    "rule_id": "text",
    "rule_hash": "text",
    "ladder": "text",
    "priority": "text",
    "active": "bool",
    "latched": "bool",
    "effective_from": "timestamptz",
    "effective_to": "timestamptz",
    "found_late": "bool",
    "retracted": "bool",
    "parent_id": "uuid",
    "physician_by": "timestamptz",
    "recurrences": "integer",
    "reason": "text",
    "message": "text",
    "is_open": "bool",
    "raised": "bool",
}
_GIVEN: Final = ", ".join(f"${index}::{of_type}[]" for index, of_type in enumerate(_COLUMNS.values(), start=2))
_NEW: Final = f"unnest({_GIVEN}) AS new ({', '.join(_COLUMNS)})"

_UPDATE: Final = f"""
UPDATE alert SET
    site = coalesce(new.site, alert.site), rule_hash = new.rule_hash, ladder = new.ladder,
    priority = new.priority::priority, active = new.active, latched = new.latched,
    effective_from = new.effective_from, effective_to = new.effective_to, found_late = new.found_late,
    retracted = new.retracted, parent_id = new.parent_id, physician_by = new.physician_by,
    recurrences = new.recurrences, reason = new.reason, message = new.message,
    raised_at = CASE WHEN new.raised THEN $1 ELSE alert.raised_at END,
    confirmed_by = CASE WHEN new.raised THEN NULL ELSE alert.confirmed_by END,
    confirmed_at = CASE WHEN new.raised THEN NULL ELSE alert.confirmed_at END,
    cleared_at = CASE WHEN new.active THEN NULL ELSE coalesce(alert.cleared_at, $1) END,
    resolved_at = CASE WHEN new.is_open THEN NULL ELSE coalesce(alert.resolved_at, $1) END,
    revision = alert.revision + 1
FROM {_NEW} WHERE alert.alert_id = new.alert_id
RETURNING alert.alert_id
"""  # noqa: S608 - made of constants

_INSERT: Final = f"""
INSERT INTO alert (
    alert_id, pump_id, site, rule_id, rule_hash, ladder, priority, active, latched, effective_from, effective_to,
    found_late, retracted, parent_id, physician_by, recurrences, reason, message, opened_at, raised_at, cleared_at,
    resolved_at)
SELECT alert_id, pump_id, site, rule_id, rule_hash, ladder, priority::priority, active, latched, effective_from,
    effective_to, found_late, retracted, parent_id, physician_by, recurrences, reason, message, $1::timestamptz, $1,
    CASE WHEN active THEN NULL ELSE $1 END, CASE WHEN is_open THEN NULL ELSE $1 END
FROM {_NEW}
"""  # noqa: S608 - made of constants


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact about one alert; ``pump_id`` None: an alert of the system itself.

    ``revision`` and ``place`` are the pump's revision that the fact belongs to and its place among that revision's
    facts: with them the same decision has the same id when it is written again, and two decisions never share one.
    """

    event: AlertEvent
    pump_id: str | None
    site: str | None
    received_at: datetime | None
    revision: int
    place: int
    actor: str = SYSTEM
    note: str | None = None

    @property
    def event_id(self) -> UUID:
        """Identifies the fact, here and on ``pump.alerts.v1``."""
        event = self.event
        return event_id(event.alert.alert_id, event.kind, event.effective_at, f"{self.revision}.{self.place}")

    @property
    def detail(self) -> str:
        """What else there is to say, as JSON; a person's own words are its ``note``."""
        detail = self.event.detail if self.note is None else {**self.event.detail, "note": self.note}
        return msgspec.json.encode(detail).decode()


def event_id(alert_id: UUID, kind: str, effective_at: datetime, place: str) -> UUID:
    """The id of a fact: the same for the same alert, kind, effective time and place in its history."""
    return uuid5(NAMESPACE, f"{alert_id}|{kind}|{effective_at.timestamp():.6f}|{place}")


async def write(connection: Connection, facts: Sequence[Fact], now: datetime) -> None:
    """Add the facts, bring their alerts up to date and put all of it into the outbox; the caller has a transaction."""
    await _project(connection, facts, now)
    await _append(connection, facts, now)
    await _announce(connection, facts, now)


async def _project(connection: Connection, facts: Iterable[Fact], now: datetime) -> None:
    latest: dict[UUID, Fact] = {}
    raised: set[UUID] = set()
    for fact in facts:
        alert_id = fact.event.alert.alert_id
        latest[alert_id] = fact
        if fact.event.raises:
            raised.add(alert_id)
    rows = {
        alert_id: _row(fact.event.alert, fact, raised=alert_id in raised) for alert_id, fact in sorted(latest.items())
    }
    known = await connection.fetch(_UPDATE, now, *zip(*rows.values(), strict=True))
    for row in known:
        del rows[row["alert_id"]]
    if rows:
        await connection.execute(_INSERT, now, *zip(*rows.values(), strict=True))


def _row(alert: AlertRecord, fact: Fact, *, raised: bool) -> tuple[Any, ...]:
    return (
        alert.alert_id,
        fact.pump_id,
        fact.site,
        alert.rule_id,
        alert.rule_hash,
        alert.ladder,
        alert.priority,
        alert.active,
        alert.latched,
        alert.effective_from,
        alert.effective_to,
        alert.found_late,
        alert.retracted,
        alert.parent_id,
        alert.physician_by,
        alert.recurrences,
        alert.reason,
        alert.message,
        alert.open,
        raised,
    )


async def _append(connection: Connection, facts: Sequence[Fact], now: datetime) -> None:
    await connection.execute(
        """
        INSERT INTO alert_event (event_id, alert_id, pump_id, kind, effective_at, recorded_at, actor, reason, detail)
        SELECT event_id, alert_id, pump_id, kind, effective_at, $1, actor, reason, detail
        FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::text[], $8::text[],
                    $9::jsonb[]) WITH ORDINALITY
            AS new (event_id, alert_id, pump_id, kind, effective_at, actor, reason, detail, place)
        ORDER BY place
        """,
        now,
        [fact.event_id for fact in facts],
        [fact.event.alert.alert_id for fact in facts],
        [fact.pump_id for fact in facts],
        [fact.event.kind for fact in facts],
        [fact.event.effective_at for fact in facts],
        [fact.actor for fact in facts],
        [fact.event.reason for fact in facts],
        [fact.detail for fact in facts],
    )


async def _announce(connection: Connection, facts: Sequence[Fact], now: datetime) -> None:
    await connection.execute(
        """
        INSERT INTO outbox (alert_id, pump_id, event_id, kind, received_at, created_at)
        SELECT alert_id, pump_id, event_id, kind, received_at, $1
        FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::timestamptz[]) WITH ORDINALITY
            AS new (alert_id, pump_id, event_id, kind, received_at, place)
        ORDER BY place
        """,
        now,
        [fact.event.alert.alert_id for fact in facts],
        [fact.pump_id for fact in facts],
        [fact.event_id for fact in facts],
        [fact.event.kind for fact in facts],
        [fact.received_at for fact in facts],
    )


async def note(
    connection: Connection, alert: asyncpg.Record, kind: AlertEventKind, actor: str, reason: str, now: datetime
) -> None:
    """Add a fact that no rule decides: somebody confirmed, or a confirmation has run out.

    Args:
        connection: In a transaction that has the alert's row locked.
        alert: Its ``alert_id``, ``pump_id`` and ``revision`` as they were before.
        kind: What happened, at ``now``.
        actor: A person's id, or `SYSTEM`.
        reason: From the closed list of reasons.
        now: Service time.
    """
    alert_id, pump_id = alert["alert_id"], alert["pump_id"]
    identity = event_id(alert_id, kind, now, f"alert.{alert['revision']}")
    await connection.execute(
        """
        INSERT INTO alert_event (event_id, alert_id, pump_id, kind, effective_at, recorded_at, actor, reason)
        VALUES ($1, $2, $3, $4, $5, $5, $6, $7)
        """,
        identity,
        alert_id,
        pump_id,
        kind,
        now,
        actor,
        reason,
    )
    await connection.execute(
        "INSERT INTO outbox (alert_id, pump_id, event_id, kind, created_at) VALUES ($1, $2, $3, $4, $5)",
        alert_id,
        pump_id,
        identity,
        kind,
        now,
    )
