"""What tests of the store stand on: reports, decisions as the worker makes them, and a look at the tables."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from streams import profiles
from streams.deciding import Decided, by_pump, decide_pump
from streams.domain.rule import RuleBook
from streams.domain.telemetry import Motor, Received, Report
from streams.rulebook import load
from streams.settings import RULES
from streams.store import Claim, Store, Work

TOPIC: Final = "telemetry"
NOON: Final = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
"""A recent day, since readings are kept in weeks around the present."""
RULEBOOK: Final[RuleBook] = load(RULES)
PROFILE: Final = {
    "pump_id": "P-1",
    "site": "north",
    "valid_from": "2026-01-01T00:00:00Z",
    "family": "synchromed_ii",
    "reservoir_ml": 20,
    "drugs": [{"name": "baclofen", "concentration_ug_per_ml": 500.0}],
    "prescribed_ug_per_day": 240.0,
}


def minutes(count: float) -> timedelta:
    """So many minutes."""
    return timedelta(minutes=count)


def heard(pump_id: str = "P-1", seq: int = 0, *, motor: Motor = Motor.RUNNING, **said: Any) -> Received:
    """A report that says one thing each minute from noon on, received at once."""
    at = said.pop("event_time", NOON + minutes(seq))
    report = Report(
        schema_version=1,
        pump_id=pump_id,
        boot_id=0,
        seq=seq,
        event_time=at,
        gateway_id="G-1",
        gateway_time=at,
        motor=motor,
        **said,
    )
    return Received(report=report, received_at=at)


@dataclass(slots=True)
class Ground:
    """A store with one started partition, and connections to look at what it wrote.

    ``offset`` is where the partition stands as far as the test's own writes go.
    """

    store: Store
    owner: asyncpg.Connection[Any]
    offset: int = 0
    claim_partition: int = 0
    rules: RuleBook = RULEBOOK

    @property
    def claim(self) -> Claim:
        """The right to write the next record."""
        return Claim(TOPIC, self.claim_partition, self.offset, self.offset + 1)

    async def decide(self, reports: Iterable[Received], now: datetime | None = None) -> Work:
        """What the worker would write for these reports."""
        groups = by_pump(reports)
        worlds = await self.store.worlds(list(groups))
        decided = Decided()
        for pump_id, group in groups.items():
            at = now or group[-1].received_at
            decide_pump(decided, worlds[pump_id], group, self.rules, at, self.claim_partition)
        return Work([*decided.readings, *decided.released], decided.quarantined, decided.changes)

    async def hear(self, *reports: Received, now: datetime | None = None) -> Work:
        """Decide and write one record with these reports."""
        work = await self.decide(reports, now)
        await self.store.apply((self.claim,), work, now or reports[-1].received_at)
        self.offset += 1
        return work

    async def know(self, *, now: datetime = NOON, **differences: Any) -> None:
        """Give P-1, or another pump, a profile; ``now`` is when it is entered."""
        line = json.dumps({**PROFILE, **differences})
        result = await profiles.import_profiles(self.store.pool, [line], "tester", now)
        assert result.errors == ()

    async def rows(self, query: str, *arguments: Any) -> list[dict[str, Any]]:
        """What the owner of the database sees."""
        return [dict(row) for row in await self.owner.fetch(query, *arguments)]

    async def count(self, table: str) -> int:
        """How many rows a table has."""
        found: int = await self.owner.fetchval(f"SELECT count(*) FROM {table}")
        return found

    async def contents(self) -> Mapping[str, list[dict[str, Any]]]:
        """Every row that clinical work writes, for comparison."""
        tables = ("consumed", "reading", "pump_state", "alert", "alert_event", "outbox", "quarantine", "audit_chain")
        return {table: await self.rows(f"SELECT * FROM {table} ORDER BY {table}::text") for table in tables}


@asynccontextmanager
async def ground_in(app: str, admin: str) -> AsyncIterator[Ground]:
    """A `Ground` over a migrated database."""
    store = await Store.open(app)
    owner = await asyncpg.connect(admin)
    try:
        await store.start_partition(TOPIC, 0, 0)
        yield Ground(store, owner)
    finally:
        await owner.close()
        await store.close()
