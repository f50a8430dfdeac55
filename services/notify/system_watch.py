"""Watches the whole instead of one pump: alarm storms, and people who cannot be reached (rules SYS-01 and SYS-02).

One notifier at a time looks. While a site's pumps are silent together, their silence is told as that one incident: the
ladders of their silence rest (`escalation.Silence.GROUPED`) and start when the storm is over and they are still silent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg
import structlog

from services.notify.cases import GROUPED
from services.notify.metrics import Metrics
from streams import shifts, system_alerts
from streams.domain.alert import Priority
from streams.domain.rule import RuleBook
from streams.domain.system import Observation, PumpSeen, SiteSeen
from streams.people import WATCHDOG_SITE
from streams.rulebook import system_book
from streams.rules_in_force import RulesInForce

EVERY_SECONDS: Final = 5.0
NEEDED: Final = ("SYS-01", "SYS-02")
"""Rules whose parameters say what to look at."""
STATEMENT_SECONDS: Final = 10.0
MOST_PUMPS: Final = 100
MOST_LEFT: Final = 200

Pool: TypeAlias = "asyncpg.Pool[Any]"

# A site counts once a pump of it has reported. The rate of the last 28 days leaves the last hour out: a storm must not
# become its own measure.
_SITES: Final = """
    WITH pump AS (
        SELECT site, count(*) AS pumps FROM pump_state GROUP BY site
    ), silence AS (
        SELECT site, count(*) AS silent,
               count(*) FILTER (WHERE opened_at > $1::timestamptz - interval '10 minutes') AS newly_silent
        FROM alert WHERE rule_id = 'COM-01' AND active AND resolved_at IS NULL AND NOT retracted GROUP BY site
    ), opening AS (
        SELECT site, count(*) FILTER (WHERE opened_at > $1::timestamptz - interval '10 minutes') AS opened,
               count(*) FILTER (WHERE opened_at <= $1::timestamptz - interval '1 hour') / 4032.0 AS usual
        FROM alert
        WHERE opened_at > $1::timestamptz - interval '28 days' AND pump_id IS NOT NULL AND rule_id <> 'COM-01'
        GROUP BY site
    )
    SELECT pump.site, pumps, coalesce(silent, 0) AS silent, coalesce(newly_silent, 0) AS newly_silent,
           coalesce(opened, 0) AS opened, coalesce(usual, 0)::float8 AS usual
    FROM pump
    LEFT JOIN silence ON silence.site IS NOT DISTINCT FROM pump.site
    LEFT JOIN opening ON opening.site IS NOT DISTINCT FROM pump.site
"""

_PUMPS: Final = """
    SELECT pump_id, min(site) AS site, count(*) AS opened FROM alert
    WHERE opened_at > $1::timestamptz - interval '5 minutes' AND pump_id IS NOT NULL
    GROUP BY pump_id HAVING count(*) >= $2::float8 / 2 ORDER BY count(*) DESC LIMIT $3
"""

_LOST: Final = """
    bool_and(n.state = 'failed'
             OR (n.state IN ('queued', 'sending') AND n.queued_at < $1::timestamptz - CASE a.priority
                 WHEN 'high' THEN make_interval(secs => $2::float8)
                 ELSE make_interval(secs => $3::float8) END))
"""

# Unreached: of an alert that nobody has, the latest step's pages all failed, or none was taken over in time; or so did
# those of a physician's deadline, whoever has it.
_UNREACHED: Final = f"""
    SELECT a.site, max(a.priority)::text AS priority
    FROM alert a
    JOIN ladder l USING (alert_id)
    LEFT JOIN LATERAL (
        SELECT {_LOST} AS lost
        FROM notification n
        WHERE n.alert_id = a.alert_id AND n.channel <> 'worklist' AND n.queued_at >= l.started_at
              AND n.reason <> 'physician_by'
              AND n.step = (SELECT max(step) FROM notification
                            WHERE alert_id = a.alert_id AND channel <> 'worklist' AND queued_at >= l.started_at
                                  AND reason NOT IN ('correction', 'physician_by'))
    ) latest ON true
    LEFT JOIN LATERAL (
        SELECT {_LOST} AS lost
        FROM notification n
        WHERE n.alert_id = a.alert_id AND n.channel <> 'worklist' AND n.queued_at >= a.physician_by
              AND n.reason = 'physician_by'
              AND n.queued_at = (SELECT max(queued_at) FROM notification
                                 WHERE alert_id = a.alert_id AND reason = 'physician_by')
    ) deadline ON true
    WHERE a.resolved_at IS NULL AND NOT a.retracted AND a.rule_id <> 'SYS-02'
          AND ((latest.lost AND a.confirmed_at IS NULL AND (l.ended_at IS NULL OR l.ended_reason = 'steps_done'))
               OR deadline.lost)
    GROUP BY a.site
"""  # noqa: S608 - a constant

# Asked in each round, not when a storm closes: a notifier may have died then, or a decision been stored a moment later.
_LEFT_ALONE: Final = f"""
    SELECT a.alert_id
    FROM alert a
    JOIN ladder l ON l.alert_id = a.alert_id AND l.ended_reason = 'grouped_in_storm'
    WHERE a.resolved_at IS NULL AND NOT a.retracted AND NOT ({GROUPED})
    ORDER BY a.priority DESC, a.raised_at LIMIT $1
"""  # noqa: S608 - a constant


class SystemWatch:
    """Looks at the whole every few seconds.

    Args:
        pool: Connections of the application's role.
        rules: The rules in force; those of the system are judged here.
        metrics: What is counted.
        look_at: Asks escalation about alerts now.
        now: Service time of the start, aware UTC.
    """

    def __init__(
        self,
        pool: Pool,
        rules: RulesInForce,
        metrics: Metrics,
        look_at: Callable[[Sequence[UUID]], Awaitable[None]],
        now: datetime,
    ) -> None:
        self._pool, self._rules, self._metrics, self._look_at = pool, rules, metrics, look_at
        self._judged, self._book = rules.book, system_book(rules.book, now)

    async def look(self) -> bool:
        """One round; whether there may be more silences that a storm has left alone."""
        async with self._pool.acquire() as connection, connection.transaction():
            await system_alerts.lock(connection)
            now: datetime = await connection.fetchval("SELECT clock_timestamp()")
            rules = self._taken_over(now)
            observation = await self._observe(connection, rules, now)
            mine = [rule.id for rule in rules if rule.lives_in == "notify"]
            known = await system_alerts.open_alerts(connection, mine)
            verdict = self._book.judge(observation, list(known))
            opened = await system_alerts.open_all(connection, verdict.opens, rules, now)
            await system_alerts.close_all(connection, [known[alert] for alert in verdict.closes], now)
        if opened or verdict.closes:
            log = structlog.get_logger()
            log.warning("system alerts changed", opened=len(opened), closed=len(verdict.closes))
        left = await self._pool.fetch(_LEFT_ALONE, MOST_LEFT, timeout=STATEMENT_SECONDS)
        await self._look_at([row["alert_id"] for row in left])
        return len(left) == MOST_LEFT

    def _taken_over(self, now: datetime) -> RuleBook:
        """The rules in force; changed ones begin to judge now: what is open may clear later by that, never earlier."""
        if self._rules.book is not self._judged:
            self._judged, self._book = self._rules.book, system_book(self._rules.book, now)
        return self._judged

    async def _observe(self, connection: system_alerts.Connection, rules: RuleBook, now: datetime) -> Observation:
        sites = await connection.fetch(_SITES, now, timeout=STATEMENT_SECONDS)
        self._metrics.pumps_silent.set(sum(row["silent"] for row in sites if row["site"] != WATCHDOG_SITE))
        storm, silent = (rules[rule_id].parameters for rule_id in NEEDED)
        pumps = await connection.fetch(
            _PUMPS, now, float(storm["patient_opened"]), MOST_PUMPS, timeout=STATEMENT_SECONDS
        )
        receipts = float(silent["receipt_seconds_high"]), float(silent["receipt_seconds_other"])
        lost = await connection.fetch(_UNREACHED, now, *receipts, timeout=STATEMENT_SECONDS)
        unreached = {row["site"]: Priority(row["priority"]) for row in lost}
        ahead = timedelta(hours=silent["ahead_hours"])
        holes = await shifts.uncovered(connection, [row["site"] for row in sites], now, ahead)
        uncovered_in = {site: at - now for site, at in holes.items()}
        seen = [_site(row, unreached, uncovered_in) for row in sites]
        named = {site.site for site in seen}
        seen.extend(
            SiteSeen(site=site, unreached=priority) for site, priority in unreached.items() if site not in named
        )
        return Observation(now, seen, [PumpSeen(**dict(row)) for row in pumps])


def _site(
    row: asyncpg.Record, unreached: Mapping[str | None, Priority], uncovered_in: Mapping[str | None, timedelta]
) -> SiteSeen:
    left = uncovered_in.get(row["site"])
    return SiteSeen(
        site=row["site"],
        pumps=row["pumps"],
        newly_silent=row["newly_silent"],
        silent=row["silent"],
        opened=row["opened"],
        usual_opened=row["usual"],
        unreached=unreached.get(row["site"]),
        on_call=left is None or left > timedelta(0),
        uncovered_in_hours=left / timedelta(hours=1) if left is not None else None,
    )
