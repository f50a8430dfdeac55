"""Silences that a site's outage explains end with that cause (SYS-01), from reports to PostgreSQL and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from services.notify.system_watch import SystemWatch
from streams.applying import Applier
from streams.deciding import Decided, decide_tick
from streams.domain.silence import Hearing
from streams.metrics import Metrics
from streams.partition import Partition, Record
from streams.rules_in_force import RulesInForce
from streams.store import Work
from streams.topics import encode_batch
from tests.integration.ground import RULEBOOK, TOPIC, Ground, ground_in, heard
from tests.services.notify.care import Care
from tests.services.notify.desk import Desk
from tests.services.worker.bench import quick_settings
from tests.services.worker.memory import MemoryDeadLetters, MemoryLimits
from tests.stack import Database

PUMPS = [f"P-{number}" for number in range(24)]
HOUR = timedelta(hours=1)


@dataclass
class Site:
    """Pumps of one site, the part of the worker that applies their reports, and the watch over the whole."""

    ground: Ground
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        metrics = Metrics()
        self.applier = Applier(
            quick_settings(),
            TOPIC,
            self.ground.store,
            RulesInForce(RULEBOOK, registry=metrics.registry),
            MemoryDeadLetters(),
            MemoryLimits(),
            metrics,
            lambda: self.now,
        )
        self.partition = Partition(0, 100)
        self.said: Counter[str] = Counter()

    async def report(self, pump_ids: Sequence[str], ago: timedelta = timedelta(0)) -> None:
        """A report of each pump is accepted and applied."""
        self.now = datetime.now(UTC) - ago
        reports = tuple(heard(pump_id, self.said[pump_id], event_time=self.now) for pump_id in pump_ids)
        self.said.update(pump_ids)
        value = encode_batch(reports)
        self.ground.offset = await self.applier.apply(self.partition, [Record(0, self.ground.offset, value)])

    async def tick(self, pump_ids: Sequence[str], ago: timedelta = timedelta(0)) -> None:
        """Time passes for pumps that say nothing."""
        now, decided = datetime.now(UTC) - ago, Decided()
        for stored in (await self.ground.store.worlds(pump_ids)).values():
            decide_tick(decided, stored, RULEBOOK, now, Hearing(now - 100 * HOUR, now), 0)
        await self.ground.store.apply((self.ground.claim,), Work((), (), decided.changes), now)
        self.ground.offset += 1
        self.partition.cache.clear()

    async def watch(self, started_ago: timedelta = timedelta(0)) -> None:
        """One look at the whole."""
        desk = Desk(Care(self.ground.store))
        pool, started_at = self.ground.store.pool, datetime.now(UTC) - started_ago
        await SystemWatch(pool, RulesInForce(RULEBOOK), desk.metrics, desk.intake.look_at, started_at).look()

    async def causes(self) -> dict[str, tuple[str, str]]:
        """Per pump that was heard again, why its silence ended: as the alert says it, and as history does."""
        rows = await self.ground.rows(
            """
            SELECT a.pump_id, a.reason AS now, e.reason AS told FROM v_alert a JOIN v_alert_event e USING (alert_id)
            WHERE a.rule_id = 'COM-01' AND e.kind = 'cleared'
            """
        )
        return {row["pump_id"]: (row["now"], row["told"]) for row in rows}

    async def storms(self) -> list[str]:
        """The storms that are open."""
        rows = await self.ground.rows(
            "SELECT e.detail->>'subject' AS subject FROM alert a JOIN alert_event e USING (alert_id) "
            "WHERE a.rule_id = 'SYS-01' AND a.resolved_at IS NULL AND e.kind = 'opened'"
        )
        return [row["subject"] for row in rows if row["subject"].startswith("silence/")]


@pytest.fixture
async def site(database: Database) -> AsyncIterator[Site]:
    """24 pumps that were heard two hours ago, and one that was heard long before."""
    async with ground_in(database.app, database.admin) as ground:
        site = Site(ground)
        await site.report(["P-old"], 40 * HOUR)
        await site.tick(["P-old"], 39 * HOUR)
        await site.report(PUMPS, 2 * HOUR)
        yield site


async def test_silences_of_an_outage_end_with_that_cause(site: Site) -> None:
    """Traffic is back: all silences that began the storm end by it; one that was there long before ends by itself."""
    await site.tick(PUMPS)
    await site.watch()
    assert await site.storms() == ["silence/"]

    await site.report([*PUMPS, "P-old"])

    causes = await site.causes()
    assert causes.pop("P-old") == ("condition_ended", "condition_ended")
    assert causes == dict.fromkeys(PUMPS, ("service_outage", "service_outage"))
    worlds = await site.ground.store.worlds(PUMPS)
    remembered = [one for stored in worlds.values() for one in stored.world.ledger if one.rule_id == "COM-01"]
    assert [one.reason for one in remembered] == ["service_outage"] * len(PUMPS)


async def test_a_silence_that_is_nobody_elses_ends_by_itself(site: Site) -> None:
    """Two silent pumps are no storm."""
    await site.tick(PUMPS[:2])
    await site.watch()
    assert await site.storms() == []

    await site.report(PUMPS[:2])

    assert await site.causes() == dict.fromkeys(PUMPS[:2], ("condition_ended", "condition_ended"))


async def test_a_pump_that_stays_silent_after_the_outage_is_a_case_of_its_own(site: Site) -> None:
    """The storm is over; what is heard later ends for its own reason."""
    await site.tick(PUMPS)
    await site.watch()
    await site.report(PUMPS[1:])
    await site.ground.owner.execute("UPDATE alert SET opened_at = opened_at - interval '20 minutes'")
    await site.watch(timedelta(minutes=16))
    assert await site.storms() == []

    await site.report(PUMPS[:1])

    assert (await site.causes())[PUMPS[0]] == ("condition_ended", "condition_ended")
