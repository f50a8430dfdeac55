"""Where everything is measured: one real broker and one durable PostgreSQL; topics and a database for each part."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from services.standalone.child import Child, tail
from services.standalone.kafka import Broker
from services.standalone.postgres import PostgresServer
from streams.migrations import migrate
from streams.profiles import import_profiles
from streams.provision import provision
from streams.settings import CoreSettings
from tests.benchmarks.fleet import profile_lines
from tests.stack import ROOT, Database, Stack, eventually

PARTITIONS: Final = 24
PASSWORDS: Final = {role: f"{role}-bench" for role in ("pumpwatch_migrator", "pumpwatch_app", "pumpwatch_read")}
CHILD_SECONDS: Final = 180.0


@dataclass(frozen=True, slots=True)
class Ground:
    """The servers of the run. Both keep what they acknowledge: PostgreSQL with fsync, for every side alike."""

    folder: Path
    broker: Broker
    postgres: PostgresServer

    @property
    def kafka(self) -> str:
        """Bootstrap address."""
        return self.broker.bootstrap

    @asynccontextmanager
    async def plot(self, name: str) -> AsyncIterator[Plot]:
        """Topics and a migrated database of a part's own; its services are stopped at the end."""
        prefix, database = f"{name}.", f"bench_{name.replace('-', '_')}"
        settings = CoreSettings(kafka=self.kafka, topic_prefix=prefix, replication_factor=1, development=True)
        await provision(settings)
        await self._execute(f"CREATE DATABASE {database}")
        await migrate(self.postgres.dsn(database), PASSWORDS)
        roles = Database(
            self.postgres.dsn(database), *(self.postgres.dsn(database, role, word) for role, word in PASSWORDS.items())
        )
        folder = self.folder / name
        folder.mkdir()
        async with (
            asyncpg.create_pool(roles.admin, min_size=1, max_size=4, timeout=30) as pool,
            AIOKafkaConsumer(bootstrap_servers=self.kafka) as observer,
            Stack(self.kafka, roles, prefix, folder) as stack,
        ):
            yield Plot(self, settings, roles, pool, stack, folder, observer)
        # The next part must not share the disk with this one's vacuum and log cleaning.
        await self._execute(f"DROP DATABASE {database} WITH (FORCE)")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.postgres.dsn(), timeout=10)
        try:
            await connection.execute(statement, timeout=60)
        finally:
            await connection.close(timeout=5)


@dataclass(frozen=True, slots=True)
class Plot:
    """What one part of the run works on."""

    ground: Ground
    settings: CoreSettings
    database: Database
    pool: asyncpg.Pool
    stack: Stack
    folder: Path
    observer: AIOKafkaConsumer

    async def add_pumps(self, pumps: tuple[str, ...], valid_from: datetime | None = None) -> None:
        """Give pumps profiles, in force for a month unless said otherwise."""
        now = datetime.now(UTC)
        lines = profile_lines(pumps, valid_from or now - timedelta(days=30))
        await import_profiles(self.pool, lines, "bench", now)

    async def add_topic(self, name: str, partitions: int = PARTITIONS) -> str:
        """Make a topic that only this part knows; its full name."""
        full = self.settings.topic(name)
        admin = AIOKafkaAdminClient(bootstrap_servers=self.ground.kafka)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(full, partitions, 1)])
        finally:
            await admin.close()
        return full

    async def count(self, query: str, *arguments: Any) -> int:
        """One number from the database."""
        return int(await self.pool.fetchval(query, *arguments, timeout=60) or 0)

    async def produce(self, topic: str, records: list[tuple[int, bytes | None, bytes]]) -> None:
        """Put records (partition, key, value) on a topic."""
        async with producer(self.ground.kafka) as out:
            for partition, key, value in records:
                await out.send(topic, value, key=key, partition=partition)

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """Offset after the last record of each partition."""
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        return {key.partition: end for key, end in (await self.observer.end_offsets(partitions)).items()}


@asynccontextmanager
async def producer(kafka: str) -> AsyncIterator[AIOKafkaProducer]:
    """A producer for preparing topics: large batches, everything acknowledged when it closes."""
    out = AIOKafkaProducer(
        bootstrap_servers=kafka, acks="all", linger_ms=20, max_batch_size=1_000_000, max_request_size=9_000_000
    )
    await out.start()
    try:
        yield out
        await out.flush()
    finally:
        await out.stop()


@asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    """Start the servers, and remove everything they kept at the end."""
    folder = Path(tempfile.mkdtemp(prefix="pumpwatch-bench-"))
    broker = Broker(folder / "kafka")
    postgres = PostgresServer(folder / "postgres", "admin-bench", durable=True)
    try:
        await broker.start()
        await postgres.start()
        yield Ground(folder, broker, postgres)
    finally:
        await broker.stop()
        await postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def run_module(module: str, settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Run a rival in a process of its own; what it printed as its last line.

    Raises:
        AssertionError: If it fails or takes longer than `CHILD_SECONDS`; with the end of its log.
    """
    name = module.rsplit(".", 1)[-1]
    arguments = [sys.executable, "-W", "ignore", "-m", module, json.dumps(dict(settings))]
    child = Child(name, arguments, env={**inherited(), "PYTHONPATH": str(ROOT)}, log=folder / f"{name}.log")
    child.start()
    try:

        async def ended() -> bool:
            return not child.running

        await eventually(ended, timeout=CHILD_SECONDS, every=0.2, what=f"the end of {name}")
    finally:
        child.kill()
    lines = child.log.read_text(errors="replace").splitlines()
    if child.returncode or not lines:
        raise AssertionError(f"{name} ended with code {child.returncode}:\n{tail(child.log, 30)}")
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def inherited() -> dict[str, str]:
    """The part of the environment that every process needs."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") if name in os.environ}


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, in user and kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
