"""What must be true after any storm: nothing accepted is lost, nothing took effect twice, everybody was told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import asyncpg

from streams.domain.world import decode_world
from tests.faults.inbox import Mail

Identity = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Break:
    """From when to when the notifier or its database was down or silent for too long: a page may be told again."""

    began: datetime
    ended: datetime

    def touches(self, first: datetime, last: datetime) -> bool:
        """Whether it overlaps with a time; both ends count."""
        return self.began <= last and first <= self.ended


@dataclass(slots=True)
class Verdict:
    """Counts of what went wrong, each with examples; all empty after a storm that was survived."""

    accepted: int = 0
    alerts: int = 0
    mails: int = 0
    repeats: int = 0
    lost: list[Identity] = field(default_factory=list)
    twice: list[Identity] = field(default_factory=list)
    unbooked: list[str] = field(default_factory=list)
    wrong_events: list[str] = field(default_factory=list)
    missing_alerts: list[str] = field(default_factory=list)
    untold: list[int] = field(default_factory=list)
    unmarked_repeats: list[str] = field(default_factory=list)
    too_many_repeats: list[str] = field(default_factory=list)
    unpublished: int = 0

    @property
    def failures(self) -> dict[str, object]:
        """What went wrong, by name."""
        names = ("lost", "twice", "unbooked", "wrong_events", "missing_alerts", "untold", "unmarked_repeats")
        found = {name: getattr(self, name) for name in (*names, "too_many_repeats")}
        return {name: value[:10] for name, value in found.items() if value} | (
            {"unpublished": self.unpublished} if self.unpublished else {}
        )


def read_ledger(path: Path) -> dict[Identity, bool]:
    """Every identity that ingest accepted, and whether it was an alarm."""
    entries = (json.loads(line) for line in path.read_text().splitlines())
    return {(entry["pump_id"], entry["boot_id"], entry["seq"]): entry["alarm"] for entry in entries}


async def judge(
    connection: asyncpg.Connection, ledger: dict[Identity, bool], mails: Sequence[Mail], breaks: Sequence[Break]
) -> Verdict:
    """Compare what was accepted, what is in history, and what people were told.

    ``breaks`` are what may have made the notifier tell something again.
    """
    verdict = Verdict(accepted=len(ledger), mails=len(mails))
    await _history(connection, ledger, verdict)
    await _worlds(connection, verdict)
    await _alerts(connection, ledger, verdict)
    await _notifications(connection, mails, breaks, verdict)
    verdict.unpublished = await connection.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL")
    return verdict


async def _history(connection: asyncpg.Connection, ledger: dict[Identity, bool], verdict: Verdict) -> None:
    rows = await connection.fetch("SELECT pump_id, boot_id, seq, count(*) AS times FROM reading GROUP BY 1, 2, 3")
    stored = {(row["pump_id"], row["boot_id"], row["seq"]): row["times"] for row in rows}
    verdict.lost = sorted(ledger.keys() - stored.keys())
    verdict.twice = sorted(identity for identity, times in stored.items() if times > 1)


async def _worlds(connection: asyncpg.Connection, verdict: Verdict) -> None:
    """Each pump's state has booked exactly the reports that are in history."""
    rows = await connection.fetch("SELECT pump_id, count(*) AS reports FROM reading GROUP BY 1")
    counts: dict[str, int] = {row["pump_id"]: row["reports"] for row in rows}
    for row in await connection.fetch("SELECT pump_id, world FROM pump_state"):
        arrivals = decode_world(row["world"]).arrivals
        missing = sum(
            gap.end_seq - gap.first_seq
            for gap in (*arrivals.gaps, *arrivals.missed)
            if gap.first_boot == gap.end_boot == arrivals.boot_id
        )
        if arrivals.next_seq - missing != counts.pop(row["pump_id"], 0):
            verdict.unbooked.append(row["pump_id"])
    verdict.unbooked.extend(counts)


async def _alerts(connection: asyncpg.Connection, ledger: dict[Identity, bool], verdict: Verdict) -> None:
    """Every accepted stall has exactly one alert, opened exactly once."""
    rows = await connection.fetch(
        "SELECT pump_id, count(*) AS alerts, sum(opened) AS opened FROM ("
        " SELECT alert.pump_id, (SELECT count(*) FROM alert_event WHERE alert_event.alert_id = alert.alert_id"
        "  AND kind = 'opened') AS opened FROM alert WHERE rule_id = 'DLV-01') AS stalls GROUP BY 1"
    )
    stalled = {row["pump_id"] for row in rows}
    alarms = {identity[0] for identity, alarm in ledger.items() if alarm}
    verdict.alerts = len(stalled)
    verdict.missing_alerts = sorted(alarms - stalled)
    verdict.wrong_events = [row["pump_id"] for row in rows if (row["alerts"], row["opened"]) != (1, 1)]


async def _notifications(
    connection: asyncpg.Connection, mails: Sequence[Mail], breaks: Sequence[Break], verdict: Verdict
) -> None:
    rows = await connection.fetch(
        "SELECT alert.number, notification_id, queued_at FROM alert LEFT JOIN notification"
        " ON notification.alert_id = alert.alert_id AND notification.channel = 'email'"
        " WHERE alert.ladder IN ('H', 'M')"
    )
    notified: dict[int, dict[str, datetime]] = {}
    for row in rows:
        queued = notified.setdefault(row["number"], {})
        if row["notification_id"] is not None:
            queued[str(row["notification_id"])] = row["queued_at"]
    for number, queued in notified.items():
        judge_mails(number, queued, [mail for mail in mails if mail.notification_id in queued], breaks, verdict)


def judge_mails(
    number: int, queued: dict[str, datetime], mails: Sequence[Mail], breaks: Sequence[Break], verdict: Verdict
) -> None:
    """One alert's mails: each beyond a notification's first is marked, and has a break of its own to account for it.

    Args:
        number: The alert's.
        queued: Its notifications, and since when each was to be sent.
        mails: What people got of them.
        breaks: Of the whole storm; those count that touch the time in which the alert was told.
        verdict: Where what is wrong is noted.
    """
    if not mails:
        verdict.untold.append(number)
        return
    times = Counter(mail.notification_id for mail in mails)
    marked = Counter(mail.notification_id for mail in mails if mail.repeat)
    verdict.unmarked_repeats += [key for key, count in times.items() if count - 1 > marked[key]]
    repeats = sum(count - 1 for count in times.values())
    verdict.repeats += repeats
    first, last = min(queued.values()), max(mail.at for mail in mails)
    if repeats > sum(one.touches(first, last) for one in breaks):
        verdict.too_many_repeats.append(str(number))
