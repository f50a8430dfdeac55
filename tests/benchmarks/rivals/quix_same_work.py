"""quixstreams doing the same work: validate, all our rules by our ``step``, history, state, alerts and outbox.

What the worker writes to PostgreSQL, this writes through the same store, in one transaction per checkpoint of up to
10,000 reports; pumps' worlds are cached in memory as in the worker. Left out is what makes the worker exact: offsets in
the same transaction, the fence against a second writer, and due times.
"""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime
from typing import Any

from quixstreams.sinks.base.sink import BaseSink

from streams.domain import pipeline
from streams.domain.alert import AlertEvent
from streams.domain.telemetry import Received, Report
from streams.domain.world import snapshot
from streams.rulebook import load
from streams.settings import RULES
from streams.store import Change, Store, StoredWorld, Work
from streams.topics import DEFAULT_PARTITIONS, partition_of
from tests.benchmarks.rivals.measured import Meter, given, meter_of
from tests.benchmarks.rivals.quix import application, validated


def main() -> None:
    """Run until the time is over or the topic is empty."""
    # As our own worker does: both keep the same worlds in memory.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    settings = given()
    meter = meter_of(settings)
    app = application(settings, meter)
    reports = app.topic(settings["topic"], value_deserializer="bytes", key_deserializer="str")
    frame = app.dataframe(reports).apply(validated).filter(lambda report: report is not None)
    sink = ClinicalSink(settings["postgres"], meter)
    frame.sink(sink)
    app.run()
    sink.close()
    meter.print()


class ClinicalSink(BaseSink):
    """Decides and stores everything of a checkpoint at once."""

    def __init__(self, dsn: str, meter: Meter) -> None:
        super().__init__()
        self._dsn, self._meter, self._rules = dsn, meter, load(RULES)
        self._waiting: list[Received] = []
        self._known: dict[str, StoredWorld] = {}
        self._runner = asyncio.Runner()
        self._store: Store | None = None

    def add(self, value: Report, key: Any, timestamp: int, *_: Any, **__: Any) -> None:
        """Keep a report until the checkpoint."""
        self._meter.add()
        self._waiting.append(Received(report=value, received_at=datetime.now(UTC)))

    def flush(self) -> None:
        """Decide and write what is waiting."""
        if self._waiting:
            self._runner.run(self._write(self._waiting))
            self._waiting = []

    def close(self) -> None:
        """Leave the database."""
        if self._store is not None:
            self._runner.run(self._store.close())
        self._runner.close()

    async def _write(self, reports: list[Received]) -> None:
        if self._store is None:
            self._store = await Store.open(self._dsn)
        missing = {received.report.pump_id for received in reports} - self._known.keys()
        if missing:
            self._known.update(await self._store.worlds(sorted(missing)))
        now = datetime.now(UTC)
        work, decided = self._decide(reports, now)
        await self._store.apply((), work, now)
        self._known.update(decided)

    def _decide(self, reports: list[Received], now: datetime) -> tuple[Work, dict[str, StoredWorld]]:
        worlds: dict[str, StoredWorld] = {}
        events: dict[str, list[AlertEvent]] = {}
        for received in reports:
            pump = received.report.pump_id
            stored = worlds.get(pump) or self._known[pump]
            step = pipeline.step(stored.world, received, stored.profiles, self._rules, now)
            worlds[pump] = StoredWorld(stored.revision, step.world, stored.profiles)
            events.setdefault(pump, []).extend(step.events)
        changes = [
            Change(
                pump_id=pump,
                kafka_partition=partition_of(pump, DEFAULT_PARTITIONS),
                revision=stored.revision,
                world=stored.world,
                snapshot=snapshot(stored.world, stored.profiles),
                events=tuple(events[pump]),
                received_at=stored.world.last_received_at,
            )
            for pump, stored in sorted(worlds.items())
        ]
        after = {
            pump: StoredWorld(stored.revision + 1, stored.world, stored.profiles) for pump, stored in worlds.items()
        }
        return Work(readings=reports, quarantined=(), changes=changes), after


if __name__ == "__main__":
    main()
