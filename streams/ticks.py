"""Time passes for pumps that say nothing: deadlines fire, gaps are given up, silence is judged, rules change.

Each look takes the partitions that are ours, their pumps that are due, and writes what follows under the partition's
fence. A tick that is lost is made up by the next one; nothing depends on its moment.

Pumps that were judged under other rules than those in force are judged again, also those that say nothing: after a
change of rules and after each assignment, all pumps of a partition are looked at once, `SWEEP` at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import asyncpg
import structlog

from streams.applying import REFUSALS, Applier, ClinicalStore, remember
from streams.deciding import Decided, decide_tick
from streams.domain.silence import Hearing
from streams.domain.window import outdated
from streams.metrics import Failure, Metrics
from streams.operations import STATEMENT_SECONDS
from streams.partition import Partition, Sweep
from streams.rules_in_force import RulesInForce
from streams.store import Claim, Fenced, StaleWorlds, Work
from streams.topics import partition_of
from streams.worker import TRANSIENT, Worker
from streams.worker_settings import Settings

DUE_LIMIT: Final = 2_000
CHUNK: Final = 200
SWEEP: Final = 200
"""At most so many pumps are looked at per round because rules may have changed: with half a second between rounds, a
fleet of 24,000 within a minute or two, and never so many at once that telemetry waits for them."""
SET_ASIDE: Final = timedelta(seconds=60)
SET_ASIDE_LIMIT: Final = 1_000
DEAF_AFTER: Final = timedelta(seconds=15)


async def hearing_of_service(pool: asyncpg.Pool, now: datetime) -> Hearing:
    """Since when ingest and worker both hear, and until when: a service that stopped beating is deaf from then on.

    An ingest that never beat has heard nothing yet.
    """
    rows = await pool.fetch(
        """
        SELECT DISTINCT ON (service) service, beat_at, resumed_at FROM service_heartbeat
        WHERE service IN ('ingest', 'worker') ORDER BY service, beat_at DESC
        """,
        timeout=STATEMENT_SECONDS,
    )
    beats = {row["service"]: row for row in rows}
    ingest = beats.get("ingest")
    if ingest is None:
        return Hearing(now, now)
    deaf = ingest["beat_at"] < now - DEAF_AFTER
    return Hearing(max(row["resumed_at"] for row in rows), ingest["beat_at"] if deaf else now)


class Ticks:
    """Looks at due pumps again and again; `run` until cancelled.

    Args:
        hearing: What the service as a whole could hear; see `hearing_of_service`.
        clock: Service time, aware UTC.
    """

    def __init__(
        self,
        settings: Settings,
        worker: Worker,
        store: ClinicalStore,
        applier: Applier,
        rules: RulesInForce,
        hearing: Callable[[datetime], Awaitable[Hearing]],
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings, self._worker, self._store = settings, worker, store
        self._applier, self._rules, self._hearing = applier, rules, hearing
        self._metrics, self._clock = metrics, clock
        self._set_aside: dict[str, datetime] = {}
        self._log = structlog.get_logger()

    async def run(self) -> None:
        """Look, pause, and look again; a round that PostgreSQL fails is made up by the next."""
        while True:
            started = time.perf_counter()
            try:
                async with asyncio.timeout(self._settings.worker_transaction_seconds):
                    await self.once()
            except TRANSIENT as error:
                self._metrics.failures.labels(Failure.TRANSIENT).inc()
                self._log.warning("tick failed", error=type(error).__name__)
            self._metrics.tick_seconds.observe(time.perf_counter() - started)
            await asyncio.sleep(self._settings.worker_tick_seconds)

    async def once(self) -> None:
        """One look at the pumps that are due now."""
        now = self._clock()
        numbers = [partition.number for partition in self._worker.partitions if partition.open]
        if not numbers:
            return
        self._set_aside = {pump_id: until for pump_id, until in self._set_aside.items() if until > now}
        found = await self._store.due(numbers, now, DUE_LIMIT + len(self._set_aside))
        groups: dict[int, list[str]] = {}
        for pump_id in sorted(set(found) - self._set_aside.keys()):
            groups.setdefault(partition_of(pump_id, self._settings.partitions), []).append(pump_id)
        fine = True
        if groups:
            service = await self._hearing(now)
            for partition in self._worker.partitions:
                due = groups.get(partition.number, [])
                for first in range(0, len(due), CHUNK):
                    fine = await self._tick(partition, due[first : first + CHUNK], now, service) and fine
        if fine:
            await self._sweep(now)

    async def _sweep(self, now: datetime) -> None:
        """Look at the next pumps that may have been judged under other rules than those in force."""
        key, left = self._rules.book.key, SWEEP
        for partition in self._worker.partitions:
            sweep = partition.sweep
            if sweep.key != key:
                sweep = partition.sweep = Sweep(key)
            if sweep.done or not partition.open or not left:
                continue
            pump_ids = await self._store.pumps_after(partition.number, sweep.after, left)
            if pump_ids:
                ours = [pump_id for pump_id in pump_ids if pump_id not in self._set_aside]
                if not await self._tick(partition, ours, now, await self._hearing(now), only_outdated=True):
                    continue
                sweep.after = pump_ids[-1]
            sweep.done = len(pump_ids) < left
            left -= len(pump_ids)

    async def _tick(
        self,
        partition: Partition,
        due: Sequence[str],
        now: datetime,
        service: Hearing,
        *,
        only_outdated: bool = False,
    ) -> bool:
        """Let time pass for these pumps; False: nothing was written, and the next round must look at them again."""
        async with partition.lock:
            if not partition.open:
                return False
            await self._worker.make_sure(partition)
            heard_until = partition.heard_until or service.since
            hearing = Hearing(service.since, min(service.until, heard_until))
            try:
                await self._write(partition, due, now, hearing, only_outdated=only_outdated)
            except Fenced:
                self._worker.fenced(partition)
                return False
            except StaleWorlds:
                self._metrics.failures.labels(Failure.STALE).inc()
                partition.cache.clear()
                return False
            except REFUSALS as error:
                partition.cache.clear()
                await self._one_by_one(partition, due, now, hearing, error)
            except BaseException:
                partition.forget()
                raise
            return True

    async def _write(
        self, partition: Partition, due: Sequence[str], now: datetime, hearing: Hearing, *, only_outdated: bool = False
    ) -> None:
        worlds, rules = await self._applier.worlds([(partition, due)]), self._rules.book
        decided = Decided()
        for pump_id in due:
            stored = worlds[pump_id]
            if only_outdated and not outdated(stored.world, stored.profiles, rules):
                continue
            try:
                decide_tick(decided, stored, rules, now, hearing, partition.number)
            except Exception as error:  # noqa: BLE001 - one pump that cannot be judged must not stop the others
                self._put_aside(pump_id, now, error)
        if not decided.changes:
            return
        # A pump that was heard again but left a gap is silent no more when the gap is given up.
        await self._applier.find_outages(decided)
        claim = Claim(self._worker.topic, partition.number, partition.next_offset, partition.next_offset)
        await self._store.apply((claim,), Work((), (), decided.changes), now)
        remember({partition.number: partition}, decided)
        self._metrics.ticks.labels("applied").inc(len(decided.changes))
        for change in decided.changes:
            for event in change.events:
                self._metrics.alert_events.labels(event.kind, event.alert.priority).inc()

    async def _one_by_one(
        self, partition: Partition, due: Sequence[str], now: datetime, hearing: Hearing, error: Exception
    ) -> None:
        """PostgreSQL refuses what follows for one of these pumps: find it, and write the others."""
        if len(due) == 1:
            self._put_aside(due[0], now, error)
            return
        for pump_id in due:
            try:
                await self._write(partition, [pump_id], now, hearing)
            except REFUSALS as refusal:
                partition.cache.clear()
                self._put_aside(pump_id, now, refusal)

    def _put_aside(self, pump_id: str, now: datetime, error: Exception) -> None:
        """Look at this pump again in a minute; its deadline stays due, and the metric's alert stays on."""
        self._metrics.ticks.labels("failed").inc()
        self._log.error("tick of a pump failed", error=type(error).__name__)
        if len(self._set_aside) < SET_ASIDE_LIMIT:
            self._set_aside[pump_id] = now + SET_ASIDE
