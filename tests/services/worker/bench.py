"""A worker over memory, and the reports to feed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from prometheus_client import CollectorRegistry

from streams import rulebook
from streams.applying import Applier
from streams.domain.rule import RuleBook
from streams.domain.telemetry import Motor, Received, Report
from streams.metrics import Metrics
from streams.partition import LogRange, Partition, Record
from streams.rules_in_force import RulesInForce
from streams.settings import RULES
from streams.topics import encode_batch
from streams.worker import Worker
from streams.worker_settings import Settings
from tests.services.worker.memory import MemoryDeadLetters, MemoryLimits, MemoryStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOPIC = "pump.telemetry.v1"
QUICK: dict[str, Any] = {"partitions": 1, "worker_retry_seconds": 3.0}
RULEBOOK = rulebook.load(RULES)


class Ended(BaseException):
    """The process would have ended here."""

    def __init__(self, event: str, error: BaseException | None) -> None:
        super().__init__(event)
        self.event, self.error = event, error


def fatal(event: str, error: BaseException | None = None, **fields: object) -> NoReturn:
    """Ends the test's worker instead of the process."""
    raise Ended(event, error)


@dataclass
class Clock:
    """Service time that moves when told."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        """The time it is."""
        return self.now


@dataclass
class Bench:
    """One partition of one worker process after another over the same rows."""

    store: MemoryStore = field(default_factory=MemoryStore)
    letters: MemoryDeadLetters = field(default_factory=MemoryDeadLetters)
    limits: MemoryLimits = field(default_factory=MemoryLimits)
    settings: Settings = field(default_factory=lambda: Settings(**QUICK))
    rules: RuleBook = RULEBOOK
    clock: Clock = field(default_factory=Clock)
    sought: list[tuple[int, int]] = field(default_factory=list)

    async def start(
        self, end: int = 1_000, start: int = 0, topic_id: str | None = "one", *, backlog_known: bool = True
    ) -> Worker:
        """A new process that is given partition 0, with no old reports in the backlog, as is known or not."""
        worker = self.make()
        worker.seek_back = self._seek_back
        await worker.assigned({0: LogRange(start, end, topic_id)})
        self.partition.backlogged = not backlog_known
        return worker

    def make(self, topic: str = TOPIC) -> Worker:
        """A new process without partitions."""
        self.metrics = Metrics()
        self.in_force = RulesInForce(self.rules, registry=self.metrics.registry)
        self.applier = Applier(
            self.settings, topic, self.store, self.in_force, self.letters, self.limits, self.metrics, self.clock
        )
        self.worker = Worker(
            self.settings,
            topic,
            self.store,
            self.store,
            self.applier,
            self.metrics,
            fatal,
            first_wait_seconds=0.001,
        )
        return self.worker

    async def _seek_back(self, partition: int, offset: int) -> None:
        self.sought.append((partition, offset))

    @property
    def partition(self) -> Partition:
        """The partition of the present process."""
        return self.worker.partitions[0]

    def count(self, name: str, **labels: str) -> float:
        """A metric's present value; 0 where it was never counted."""
        return sample(self.metrics.registry, name, **labels)


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """A metric's present value; 0 where it was never counted."""
    return registry.get_sample_value(name, labels) or 0.0


def quick_settings(**fields: Any) -> Settings:
    """Settings of a test: one partition and little patience."""
    return Settings(**{**QUICK, **fields})


def received(seq: int, pump_id: str = "P-1", at: datetime | None = None, **fields: Any) -> Received:
    """One report of a running pump; ``seq`` minutes after noon an hour ago."""
    at = at or NOON - timedelta(hours=1) + timedelta(minutes=seq)
    said = {"motor": Motor.RUNNING, "alarms": (), **fields}
    report = Report(
        schema_version=1, pump_id=pump_id, boot_id=1, seq=seq, event_time=at, gateway_id="G", gateway_time=at, **said
    )
    return Received(report=report, received_at=at + timedelta(seconds=1))


def record(offset: int, *reports: Received) -> Record:
    """A record of partition 0 with these reports."""
    return Record(0, offset, encode_batch(reports))
