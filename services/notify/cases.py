"""What escalation asks about an alert, read from the database at one moment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg

from streams import people
from streams.domain.alert import Priority
from streams.domain.escalation import (
    Case,
    Cause,
    Channel,
    Climb,
    Contact,
    Decision,
    Ladder,
    Policy,
    Sent,
    Silence,
    plan,
)
from streams.domain.profile import STRICTEST, PumpProfile, Therapy, profile_from, therapy_of
from streams.domain.silence import NON_DELIVERY_RULE
from streams.domain.takeover import Page, Thread, go_on
from streams.domain.telemetry import Motor
from streams.system_alerts import OUTAGE

Connection: TypeAlias = "asyncpg.Connection[Any]"

HIGH_TRIES: Final = 2
"""Failed tries after which a page of a high alert, or of a physician's deadline, counts as failed (SYS-02); its retries
go on."""


DAYS_AHEAD: Final = frozenset({"COM-02", "PWR-01", "PWR-03", "RSV-03", "RSV-04"})
"""A pump's clock, its battery, its next refill: a MEDIUM of these comes days before anything can do harm. RSV-01 is not
one of them: a reservoir may be low hours before it is empty."""
FAR_OFF: Final = timedelta(days=1)
"""At least so long until harm; more than any night."""


@dataclass(frozen=True, slots=True)
class Look:
    """One alert, as `escalation.plan` wants it, at a moment of the database's clock: the same for every notifier.

    ``takes_over`` is the alert whose ``thread`` it has still to take over (catalogue M.9).
    """

    alert_id: UUID
    now: datetime
    case: Case
    climb: Climb | None
    sent: Sent
    roster: tuple[Contact, ...]
    takes_over: UUID | None = None
    thread: Thread | None = None

    def decide(self, policy: Policy) -> Decision:
        """Who is told now, and when to look again."""
        if self.thread is not None:
            return go_on(self.case, self.thread, self.roster, self.sent, policy, self.now)
        return plan(self.case, self.climb, self.roster, self.sent, policy, self.now)


# Who takes over a thread and who gives it are asked about together, whichever of them is the news: both facts are of
# one transaction, so the one's opening and the other's end have the same time.
_LOCK: Final = """
    WITH handover AS (
        SELECT e.alert_id, e.detail->>'takes_over' AS taken_id
        FROM alert_event e
        WHERE e.kind = 'opened' AND e.detail ? 'takes_over'
              AND (e.alert_id = ANY($1) OR e.alert_id IN (
                  SELECT taker.alert_id FROM alert taken
                  JOIN alert taker ON taker.opened_at = taken.resolved_at AND taker.pump_id = taken.pump_id
                  WHERE taken.alert_id = ANY($1) AND taken.retracted))
              AND NOT EXISTS (SELECT FROM ladder WHERE ladder.alert_id = e.alert_id)
    ), wanted AS (
        SELECT id, max(taken_id) AS taken_id
        FROM (SELECT unnest($1::uuid[])::text AS id, NULL AS taken_id
              UNION ALL SELECT alert_id::text, taken_id FROM handover
              UNION ALL SELECT taken_id, NULL FROM handover) AS each
        GROUP BY id ORDER BY id
    )
    SELECT id::uuid, taken_id::uuid, pg_advisory_xact_lock(hashtextextended('ladder ' || id, 0)) FROM wanted
"""

GROUPED: Final = f"""
    a.rule_id IN ('COM-01', 'DLV-09') AND EXISTS (
        SELECT FROM alert silence
        WHERE silence.pump_id = a.pump_id AND silence.rule_id = 'COM-01'
              AND silence.resolved_at IS NULL AND NOT silence.retracted
              AND (silence.alert_id = a.alert_id OR a.rule_id = 'DLV-09')
              AND EXISTS ({OUTAGE}))
"""
"""SQL: whether the open incident of a site's silence tells of the pump of the alert ``a`` too (SYS-01)."""

_READ: Final = f"""
    SELECT a.alert_id, a.pump_id, a.site, a.ladder AS wanted, a.priority::text, a.active, a.latched, a.raised_at,
           a.resolved_at IS NULL AS open, a.retracted, a.confirmed_at, a.confirmed_by, a.physician_by, a.start_step,
           parent.priority::text AS parent_priority,
           l.ladder, l.started_at, l.next_step, l.next_step_at, l.ended_at, l.ended_reason, l.raised_at AS answered_at,
           l.took_over_at, step.last_at, step.failed, told.physician_at, told.physician_lost, p.profile, s.time_zone,
           {GROUPED} AS grouped, a.rule_id, a.effective_from, pump.motor, pump.last_confirmed_delivery_at,
           clock_timestamp() AS now
    FROM alert a
    LEFT JOIN alert parent ON parent.alert_id = a.parent_id AND parent.resolved_at IS NULL AND NOT parent.retracted
    LEFT JOIN ladder l ON l.alert_id = a.alert_id
    LEFT JOIN site s ON s.site = a.site
    LEFT JOIN pump_state pump ON pump.pump_id = a.pump_id
    LEFT JOIN LATERAL (
        -- A message about a takeover is no step, unless there is none since the ladder started.
        SELECT coalesce(max(queued_at) FILTER (WHERE reason <> 'taken_over'), max(queued_at)) AS last_at,
               -- A step that had nobody to page failed too, unless it is one that pages nobody.
               count(*) > 0 AND coalesce(
                   bool_and(state = 'failed' OR (a.priority = 'high' AND state = 'queued' AND attempts >= $2))
                       FILTER (WHERE channel <> 'worklist' AND state <> 'superseded'),
                   a.ladder <> 'L' OR l.next_step > 1) AS failed
        FROM notification
        WHERE alert_id IN (a.alert_id, l.thread_id) AND queued_at >= l.started_at AND step = l.next_step - 1
              AND reason NOT IN ('physician_by', 'correction')
    ) step ON true
    LEFT JOIN LATERAL (
        SELECT max(queued_at) AS physician_at,
               CASE WHEN bool_and(lost) FILTER (WHERE newest) THEN count(DISTINCT queued_at) ELSE 0 END
                   AS physician_lost
        FROM (SELECT queued_at, queued_at = max(queued_at) OVER () AS newest,
                     state = 'failed' OR (state = 'queued' AND attempts >= $2) AS lost
              FROM notification
              WHERE alert_id IN (a.alert_id, l.thread_id) AND reason = 'physician_by' AND queued_at >= a.physician_by
        ) page
    ) told ON true
    LEFT JOIN LATERAL (
        SELECT profile FROM pump_profile WHERE pump_id = a.pump_id AND valid_from <= now()
        ORDER BY valid_from DESC LIMIT 1
    ) p ON true
    WHERE a.alert_id = ANY($1)
"""  # noqa: S608 - a constant

TOLD: Final = "state IN ('sending', 'sent', 'delivered', 'seen', 'confirmed')"
"""SQL: whether a notification told somebody, as far as anybody knows."""

# Who was told, ever; and what the running climb had still to send.
_PAGES: Final = f"""
    SELECT DISTINCT ON (person, channel) step, person, channel, reason, told
    FROM (
        SELECT n.*, n.{TOLD} AS told, l.started_at
        FROM notification n LEFT JOIN ladder l USING (alert_id)
        WHERE n.alert_id = $1 AND n.state <> 'failed' AND n.reason <> 'correction'
    ) page
    WHERE told OR queued_at >= started_at
    ORDER BY person, channel, told DESC, queued_at DESC
"""  # noqa: S608 - a constant


async def looks(connection: Connection, alert_ids: Sequence[UUID]) -> list[Look]:
    """The alerts of these ids, each held against other notifiers until the transaction ends.

    An alert that takes over another one's thread, or hands its own over, comes with that other one.

    The alerts' own rows stay free: nobody who confirms or decides waits for a notifier.
    """
    found = await connection.fetch(_LOCK, list(alert_ids))
    ids, handovers = [row["id"] for row in found], {row["id"]: row["taken_id"] for row in found if row["taken_id"]}
    rows = await connection.fetch(_READ, ids, HIGH_TRIES)
    rosters = {site: tuple(await people.roster(connection, site)) for site in {row["site"] for row in rows}}
    by_id = {
        row["alert_id"]: Look(row["alert_id"], row["now"], _case(row), _climb(row), _sent(row), rosters[row["site"]])
        for row in rows
    }
    for alert_id, taken_id in handovers.items():
        taker, taken = by_id.get(alert_id), by_id.get(taken_id)
        # Another notifier may have taken the thread over while this one waited for the lock.
        if taker is not None and taken is not None and taker.climb is None:
            thread = Thread(taken.climb, taken.sent, taken.case.confirmed_at, await _pages(connection, taken_id))
            by_id[alert_id] = replace(taker, takes_over=taken_id, thread=thread)
    return list(by_id.values())


async def _pages(connection: Connection, alert_id: UUID) -> tuple[Page, ...]:
    rows = await connection.fetch(_PAGES, alert_id)
    return tuple(
        Page(row["step"], row["person"], Channel(row["channel"]), Cause(row["reason"]), row["told"]) for row in rows
    )


def _case(row: asyncpg.Record) -> Case:
    therapy = therapy_in_force(row["profile"])
    return Case(
        ladder=Ladder(row["wanted"]),
        priority=Priority(row["priority"]),
        raised_at=row["raised_at"],
        active=row["active"],
        latched=row["latched"],
        open=row["open"],
        retracted=row["retracted"],
        # Raising an alert takes its confirmation away, so whatever stands is valid: the clock of the page that took it
        # may be behind the clock that raised the alert.
        confirmed_at=max(row["confirmed_at"], row["raised_at"]) if row["confirmed_at"] else None,
        physician_by=row["physician_by"],
        start_step=row["start_step"],
        parent_priority=Priority(row["parent_priority"]) if row["parent_priority"] else None,
        grouped=row["grouped"] and _by_silence(row, therapy),
        high_risk=therapy.high_risk,
        time_to_harm=time_to_harm(row["rule_id"], therapy),
        zone=ZoneInfo(row["time_zone"]) if row["time_zone"] else UTC,
    )


def _by_silence(row: asyncpg.Record, therapy: Therapy) -> bool:
    """Whether silence alone raised it, so that whatever tells of the silence tells of it.

    Delivery that nothing confirms for the whole budget after a running motor is such a one. In any other doubt MEDIUM
    comes before half the budget is over. Source: rules_catalogue.md DLV-09, SYS-01.
    """
    if row["rule_id"] != NON_DELIVERY_RULE:
        return True
    confirmed_at: datetime | None = row["last_confirmed_delivery_at"]
    if row["motor"] != Motor.RUNNING or confirmed_at is None:
        return False
    return bool(row["effective_from"] >= confirmed_at + therapy.budget)


def therapy_in_force(profile: str | None) -> Therapy:
    """What the stored profile says; the strictest where there is none, or none that this version can read."""
    document: Mapping[str, Any] | None = json.loads(profile) if profile else None
    found = profile_from(document) if document else None
    return therapy_of(found) if isinstance(found, PumpProfile) else STRICTEST


def time_to_harm(rule_id: str, therapy: Therapy) -> timedelta | None:
    """The non-delivery budget; None, which counts as urgent, where nothing is known of the therapy.

    A few rules tell of what is days away by their own condition, whoever the patient is; of any other, delivery may
    have ended.
    """
    if rule_id in DAYS_AHEAD:
        return FAR_OFF
    return therapy.budget if therapy.known else None


def _climb(row: asyncpg.Record) -> Climb | None:
    if row["started_at"] is None:
        return None
    reason: str | None = row["ended_reason"]
    return Climb(
        Ladder(row["ladder"]),
        row["started_at"],
        row["next_step"],
        row["next_step_at"],
        row["ended_at"],
        Silence(reason) if reason else None,
        row["took_over_at"],
        row["answered_at"],
    )


def _sent(row: asyncpg.Record) -> Sent:
    last_at: datetime | None = row["last_at"]
    return Sent(last_at, bool(row["failed"]), row["physician_at"], row["physician_lost"])
