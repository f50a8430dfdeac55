"""Sends what is queued, and records what became of it.

A notification is claimed with a lease before it is sent. Whoever dies between sending and recording leaves a lease
that runs out; the next one sends again, under the same id and marked as a possible repeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg
import structlog

from services.notify.channels import Address, Channel, DeliveryError, DeliveryFailure, Notice
from services.notify.ledger import CORRECTION
from services.notify.metrics import Metrics
from services.notify.rounds import Wakes
from services.notify.settings import Settings
from streams.domain.escalation import Cause

STATEMENT_SECONDS: Final = 5.0
LONGEST_RETRY: Final = timedelta(minutes=5)
RECORD_PAUSE_SECONDS: Final = 0.5
RESERVED: Final = 2
"""Deliveries of each channel that only high alerts may use: they never wait behind less urgent ones."""

Pool: TypeAlias = "asyncpg.Pool[Any]"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A notification that is ours to send until the lease ends."""

    notice: Notice
    address: Address
    attempts: int
    first_latency_seconds: float | None
    wanted: bool


# `wanted` is asked at the last moment: a page that overtakes the confirmation is the one that people remember. A retry
# gives way to a newer page of the same alert to the same person, so that a channel that comes back does not pour.
_CLAIM: Final = """
    WITH due AS (
        SELECT n.notification_id, n.state = 'sending' AS unknown
        FROM notification n JOIN alert a USING (alert_id)
        WHERE n.state IN ('queued', 'sending') AND n.next_try_at <= now() AND n.channel = $1
              AND (a.priority = 'high' OR NOT $3)
        ORDER BY a.priority DESC, n.next_try_at
        LIMIT $2
        FOR UPDATE OF n SKIP LOCKED
    ), claimed AS (
        UPDATE notification n
        SET state = 'sending', attempts = n.attempts + 1, repeat = n.repeat OR due.unknown,
            next_try_at = now() + make_interval(secs => $4),
            first_attempt_at = coalesce(n.first_attempt_at, clock_timestamp())
        FROM due WHERE n.notification_id = due.notification_id
        RETURNING n.*
    )
    SELECT c.notification_id, c.alert_id, c.step, c.repeat, c.reason, c.attempts, a.number, a.priority::text,
           coalesce(a.site, '') AS site, a.raised_at,
           CASE c.attempts WHEN 1 THEN extract(epoch FROM c.first_attempt_at - c.accepted_at)::float8 END AS latency,
           p.email, p.webhook_url, p.webhook_secret,
           coalesce(l.thread_id, c.alert_id) AS thread_id, taken.number AS continues,
           c.reason = 'correction' OR (c.reason = 'taken_over' AND NOT a.retracted) OR (
               a.resolved_at IS NULL AND NOT a.retracted
               AND (c.reason = 'physician_by' OR a.confirmed_at IS NULL)
               AND NOT (c.attempts > 1 AND EXISTS (
                   SELECT FROM notification later
                   WHERE later.alert_id = c.alert_id AND later.person = c.person AND later.channel = c.channel
                         AND later.queued_at > c.queued_at AND later.reason <> 'correction'))) AS wanted
    FROM claimed c JOIN alert a USING (alert_id)
    LEFT JOIN person p ON p.person_id = c.person AND p.disabled_at IS NULL
    LEFT JOIN ladder l ON l.alert_id = c.alert_id
    LEFT JOIN alert taken ON taken.alert_id = l.thread_id
    ORDER BY a.priority DESC
"""

# Whoever sent it may say so, even when its lease is over: the fact is the same.
_SENT: Final = """
    UPDATE notification SET state = 'sent', sent_at = clock_timestamp(), next_try_at = NULL, last_error = NULL
    WHERE notification_id = $1 AND state IN ('queued', 'sending')
"""

_SUPERSEDED: Final = """
    UPDATE notification SET state = 'superseded', next_try_at = NULL
    WHERE notification_id = $1 AND state = 'sending' AND attempts = $2
"""

# A failure is recorded only under its own lease; the ladder looks again at once, also one that had come to its end, or
# any that rests while a physician's deadline is told of.
_FAILED: Final = """
    WITH failed AS (
        UPDATE notification
        SET state = CASE WHEN $4::float8 IS NULL THEN 'failed' ELSE 'queued' END, last_error = $3,
            next_try_at = now() + make_interval(secs => $4), repeat = repeat OR $5
        WHERE notification_id = $1 AND state = 'sending' AND attempts = $2
        RETURNING alert_id, reason
    )
    UPDATE ladder SET next_step_at = now()
    FROM failed
    WHERE ladder.alert_id = failed.alert_id
          AND (ladder.ended_at IS NULL OR ladder.ended_reason = 'steps_done' OR failed.reason = 'physician_by')
          AND (ladder.next_step_at IS NULL OR ladder.next_step_at > now())
"""


class Delivery:
    """Claims, sends and records, with a bounded number of deliveries per channel.

    Args:
        pool: Connections of the application's role.
        settings: Limits.
        metrics: What is counted.
        wakes: The bell of the ladders is rung when a page failed.
        channels: By the name that notifications carry.
    """

    def __init__(
        self, pool: Pool, settings: Settings, metrics: Metrics, wakes: Wakes, channels: Mapping[str, Channel]
    ) -> None:
        self._pool, self._settings, self._metrics, self._wakes = pool, settings, metrics, wakes
        self._channels = channels
        self._under_way: dict[str, set[asyncio.Task[None]]] = {name: set() for name in channels}
        self._claiming: asyncio.Task[None] | None = None

    async def send_due(self) -> bool:
        """One round: claim as many as may be sent at once. Their ends ring for the next round."""
        self._claiming = asyncio.create_task(self._claim_and_start(), name="claim")
        # A stop in the middle must not leave a claim without its delivery: the lease would hold the page back.
        await asyncio.shield(self._claiming)
        return False

    async def finish(self) -> None:
        """Wait until what is under way has been sent or has failed; a lease limits how long that takes."""
        if self._claiming is not None:
            await asyncio.wait((self._claiming,), timeout=STATEMENT_SECONDS)
        tasks = [task for tasks in self._under_way.values() for task in tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.notify_lease_seconds)

    async def _claim_and_start(self) -> None:
        for name in self._channels:
            for claimed in await self._claim(name):
                self._start(name, claimed)

    async def _claim(self, channel: str) -> list[Claimed]:
        free = self._settings.notify_concurrency - len(self._under_way[channel])
        if free <= 0:
            return []
        reserved = min(RESERVED, self._settings.notify_concurrency - 1)
        only_high = free <= reserved
        rows = await self._pool.fetch(
            _CLAIM,
            channel,
            free if only_high else free - reserved,
            only_high,
            self._settings.notify_lease_seconds,
            timeout=STATEMENT_SECONDS,
        )
        return [_claimed(row) for row in rows]

    def _start(self, channel: str, claimed: Claimed) -> None:
        under_way = self._under_way[channel]
        task = asyncio.create_task(self._deliver(channel, claimed), name=f"delivery by {channel}")
        under_way.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            under_way.discard(task)
            self._wakes.delivery.set()

        task.add_done_callback(ended)

    async def _deliver(self, channel: str, claimed: Claimed) -> None:
        ends_at = asyncio.get_running_loop().time() + self._settings.notify_lease_seconds
        notification_id = claimed.notice.notification_id
        if not claimed.wanted:
            self._metrics.notifications.labels(channel, "superseded").inc()
            await self._record(ends_at, _SUPERSEDED, notification_id, claimed.attempts)
            return
        if claimed.first_latency_seconds is not None:
            self._metrics.alert_latency.labels("first_attempt").observe(claimed.first_latency_seconds)
        if claimed.notice.repeat:
            self._metrics.repeated.inc()
        failure = await self._attempt(channel, claimed)
        if failure is None:
            self._metrics.notifications.labels(channel, "sent").inc()
            await self._record(ends_at, _SENT, notification_id)
            return
        await self._record_failure(channel, claimed, failure, ends_at)

    async def _attempt(self, channel: str, claimed: Claimed) -> DeliveryError | None:
        if claimed.attempts > self._settings.notify_attempts:
            # Every try ended with its notifier, so none of them was recorded.
            return DeliveryError(channel, DeliveryFailure.UNEXPECTED, retryable=False, unknown=True)
        try:
            async with asyncio.timeout(self._settings.notify_send_timeout_seconds):
                await self._channels[channel].send(claimed.notice, claimed.address)
        except DeliveryError as error:
            return error
        except TimeoutError:
            return DeliveryError(channel, DeliveryFailure.TIMED_OUT, retryable=True, unknown=True)
        except Exception as error:  # noqa: BLE001 -- whatever a library does, the page is tried again
            structlog.get_logger().error("channel failed unexpectedly", channel=channel, error=type(error).__name__)
            return DeliveryError(channel, DeliveryFailure.UNEXPECTED, retryable=True, unknown=True)
        return None

    async def _record_failure(self, channel: str, claimed: Claimed, failure: DeliveryError, ends_at: float) -> None:
        retry = failure.retryable and claimed.attempts < self._settings.notify_attempts
        pause = self._pause(claimed.attempts) if retry else None
        self._metrics.failures.labels(channel, failure.reason).inc()
        self._metrics.notifications.labels(channel, "retry" if retry else "failed").inc()
        structlog.get_logger().warning(
            "notification not delivered",
            notification_id=str(claimed.notice.notification_id),
            channel=channel,
            reason=failure.reason,
            attempt=claimed.attempts,
            retry_in_seconds=pause,
        )
        await self._record(
            ends_at, _FAILED, claimed.notice.notification_id, claimed.attempts, failure.reason, pause, failure.unknown
        )
        self._wakes.ladders.set()

    def _pause(self, attempts: int) -> float:
        """Seconds until the next try: doubling, and the same after a restart, since attempts are stored."""
        doubled = self._settings.notify_retry_seconds * float(2 ** (attempts - 1))
        return min(doubled, LONGEST_RETRY.total_seconds())

    async def _record(self, ends_at: float, statement: str, *arguments: object) -> None:
        """Write it down, again and again until the lease is over: what is not recorded is sent a second time."""
        clock = asyncio.get_running_loop().time
        while True:
            try:
                await self._pool.execute(statement, *arguments, timeout=STATEMENT_SECONDS)
            except Exception as error:  # noqa: BLE001 -- a connection that is being cut fails in many ways
                structlog.get_logger().warning("outcome not recorded", error=type(error).__name__)
            else:
                return
            if clock() > ends_at:
                return
            await asyncio.sleep(RECORD_PAUSE_SECONDS)


def _claimed(row: asyncpg.Record) -> Claimed:
    notification_id: UUID = row["notification_id"]
    raised_at: datetime = row["raised_at"]
    notice = Notice(
        notification_id=notification_id,
        alert_id=row["alert_id"],
        number=row["number"],
        priority=row["priority"],
        site=row["site"],
        raised_at=raised_at,
        step=row["step"],
        repeat=row["repeat"],
        thread_id=row["thread_id"],
        correction=row["reason"] == CORRECTION,
        continues=row["continues"],
        taken_over=row["reason"] == Cause.TAKEN_OVER,
    )
    address = Address(row["email"], row["webhook_url"], row["webhook_secret"])
    latency: float | None = row["latency"]
    return Claimed(notice, address, row["attempts"], latency, row["wanted"])
