"""Alerts of the system itself: opened and closed by the process that watches, in the same history as all others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid5

import asyncpg
from msgspec.structs import replace

from streams import alert_history
from streams.alert_history import Fact
from streams.domain.alert import LADDERS, NAMESPACE, AlertEvent, AlertEventKind, AlertRecord, Priority, Reason
from streams.domain.rule import RuleBook
from streams.domain.system import OpenSystemAlert, SystemFinding

STATEMENT_SECONDS: Final = 5.0

Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"

_OPEN: Final = """
    SELECT a.alert_id, a.site, a.rule_id, a.rule_hash, a.priority::text, a.effective_from, a.message,
           e.detail->>'subject' AS subject
    FROM alert a
    JOIN LATERAL (SELECT detail FROM alert_event WHERE alert_id = a.alert_id AND kind = 'opened' LIMIT 1) e ON true
    WHERE a.pump_id IS NULL AND a.rule_id = ANY($1) AND a.resolved_at IS NULL AND NOT a.retracted
"""

# A pump that had been silent for long when the site fell silent is not explained by that, nor is one that fell silent
# otherwise. The storm counts silences of the last ten minutes, so those began it.
OUTAGE: Final = """
    SELECT FROM alert storm
    JOIN alert_event e ON e.alert_id = storm.alert_id AND e.kind = 'opened' AND e.detail->>'subject' LIKE 'silence/%'
    WHERE storm.rule_id = 'SYS-01' AND storm.pump_id IS NULL AND storm.site IS NOT DISTINCT FROM silence.site
          AND storm.resolved_at IS NULL AND NOT storm.retracted
          AND silence.opened_at > storm.opened_at - interval '10 minutes'
"""
"""SQL: the open incident of a site's silence that the alert ``silence`` is part of."""

_BY_OUTAGE: Final = f"SELECT alert_id FROM alert silence WHERE alert_id = ANY($1) AND EXISTS ({OUTAGE})"  # noqa: S608 - a constant


async def silences_of_an_outage(connection: Connection, alert_ids: Sequence[UUID]) -> set[UUID]:
    """Which of these silences are part of a site's silence that is noted as one incident and not over (SYS-01).

    It is over 15 minutes after most of the site was heard again: a pump that stays silent after that is a case of its
    own. Source: rules_catalogue.md SYS-01.
    """
    rows = await connection.fetch(_BY_OUTAGE, list(alert_ids), timeout=STATEMENT_SECONDS)
    return {row["alert_id"] for row in rows}


async def lock(connection: Connection) -> None:
    """Let one process at a time judge the system's rules; held until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('system alerts', 0))")


async def open_alerts(
    connection: Connection, rule_ids: Sequence[str]
) -> dict[OpenSystemAlert, tuple[AlertRecord, str | None]]:
    """The open alerts of these rules, each with its record and its site."""
    rows = await connection.fetch(_OPEN, list(rule_ids), timeout=STATEMENT_SECONDS)
    found = {}
    for row in rows:
        alert = OpenSystemAlert(row["rule_id"], row["subject"] or "", Priority(row["priority"]))
        record = _record(
            row["alert_id"], row["rule_id"], row["rule_hash"], alert.priority, row["effective_from"], row["message"]
        )
        found[alert] = (record, row["site"])
    return found


def _record(
    alert_id: UUID, rule_id: str, rule_hash: str, priority: Priority, effective_from: datetime, message: str
) -> AlertRecord:
    """An open alert of the system: it has no pump, so nothing latches, recurs or has a parent."""
    return AlertRecord(
        alert_id=alert_id,
        rule_id=rule_id,
        rule_hash=rule_hash,
        ladder=LADDERS[priority],
        priority=priority,
        active=True,
        latched=False,
        effective_from=effective_from,
        effective_to=None,
        found_late=False,
        retracted=False,
        parent_id=None,
        physician_by=None,
        recurrences=0,
        reason=Reason.CONDITION_MET,
        message=message,
        open=True,
    )


async def open_all(
    connection: Connection, findings: Iterable[SystemFinding], rules: RuleBook, now: datetime
) -> list[UUID]:
    """Open an alert for each finding; people are told as of any other alert."""
    facts = [
        _opened(finding, rules[finding.rule_id].content_hash, now, place) for place, finding in enumerate(findings)
    ]
    if facts:
        await alert_history.write(connection, facts, now)
    return [fact.event.alert.alert_id for fact in facts]


def _opened(finding: SystemFinding, rule_hash: str, now: datetime, place: int) -> Fact:
    identity = f"system|{finding.rule_id}|{finding.subject}|{now.timestamp():.6f}"
    alert_id = uuid5(NAMESPACE, identity)
    record = _record(alert_id, finding.rule_id, rule_hash, finding.priority, now, finding.message)
    event = AlertEvent(
        kind=AlertEventKind.OPENED,
        effective_at=now,
        reason=Reason.CONDITION_MET,
        alert=record,
        raises=True,
        detail={"subject": finding.subject},
    )
    return Fact(event, None, finding.site, None, _revision(now), place)


async def close_all(connection: Connection, alerts: Iterable[tuple[AlertRecord, str | None]], now: datetime) -> None:
    """Clear these alerts, given with their sites: what they told of is over."""
    facts = []
    for place, (record, site) in enumerate(alerts):
        ended = replace(record, active=False, open=False, effective_to=now, reason=Reason.CONDITION_ENDED)
        event = AlertEvent(
            kind=AlertEventKind.CLEARED, effective_at=now, reason=Reason.CONDITION_ENDED, alert=ended, detail={}
        )
        facts.append(Fact(event, None, site, None, _revision(now), place))
    if facts:
        await alert_history.write(connection, facts, now)


def _revision(now: datetime) -> int:
    """Facts about the system have no pump whose revision they could belong to; their time tells them apart."""
    return int(now.timestamp() * 1_000_000)
