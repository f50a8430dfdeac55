"""One real Kafka broker and one real PostgreSQL server for the whole run; topics and a database for each test."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from services.standalone.kafka import Broker
from services.standalone.postgres import PostgresServer
from streams import topics
from streams.migrations import migrate
from streams.provision import provision
from streams.settings import CoreSettings
from tests.stack import Database, Stack

TEMPLATE = "pumpwatch_template"
PASSWORDS = {role: f"{role}-test" for role in ("pumpwatch_migrator", "pumpwatch_app", "pumpwatch_read")}

COUNTED = {Path(__file__).parent / name for name in ("domain", "rules")}
"""Where the lines of the core are counted: in its own tests. Counting them in the others would only take time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count no lines in tests of anything but the core."""
    for item in items:
        if COUNTED.isdisjoint(item.path.parents):
            item.add_marker(pytest.mark.no_cover)


@pytest.hookimpl(hookwrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Really count no lines: in the processes of a distributed run pytest-cov pauses only one of its two tracers."""
    tracer = sys.gettrace() if item.get_closest_marker("no_cover") else None
    if tracer is None:
        yield
        return
    sys.settrace(None)
    yield
    sys.settrace(tracer)


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder for the servers' data; not pytest's own, which only its owner may enter."""
    folder = Path(tempfile.mkdtemp(prefix="pumpwatch-test-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def kafka_broker(server_folder: Path) -> Iterator[Broker]:
    """The broker itself, for tests that stop or kill it."""
    broker = Broker(server_folder / "kafka", overrides={"log.segment.delete.delay.ms": "1000"})
    asyncio.run(broker.start())
    yield broker
    asyncio.run(broker.stop())


@pytest.fixture(scope="session")
def kafka(kafka_broker: Broker) -> str:
    """Bootstrap address of a real Kafka broker."""
    return kafka_broker.bootstrap


@pytest.fixture(scope="session")
def postgres(server_folder: Path) -> Iterator[PostgresServer]:
    """The server itself, for tests that stop or kill it."""
    server = PostgresServer(server_folder / "postgres", "admin-test", durable=False)
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture(scope="session")
def migrated_template(postgres: PostgresServer) -> str:
    """Name of a migrated database that tests copy, which is quicker than to migrate each time."""

    async def make() -> None:
        await _run(postgres.dsn(), f"CREATE DATABASE {TEMPLATE}")
        await migrate(postgres.dsn(TEMPLATE), PASSWORDS)

    asyncio.run(make())
    return TEMPLATE


@pytest.fixture
async def database(postgres: PostgresServer, migrated_template: str) -> AsyncIterator[Database]:
    """A freshly migrated database of the test's own."""
    name = f"test_{uuid.uuid4().hex}"
    await _run(postgres.dsn(), f"CREATE DATABASE {name} TEMPLATE {migrated_template}")
    yield Database(postgres.dsn(name), *(postgres.dsn(name, role, word) for role, word in PASSWORDS.items()))
    await _run(postgres.dsn(), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def topic_prefix(kafka: str) -> AsyncIterator[str]:
    """A prefix of the test's own, under which every topic exists."""
    prefix = f"t{uuid.uuid4().hex[:12]}."
    settings = CoreSettings(kafka=kafka, topic_prefix=prefix, replication_factor=1, development=True)
    await provision(settings)
    yield prefix
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_topics([settings.topic(topic.name) for topic in topics.ALL])
    finally:
        await admin.close()


@pytest.fixture
async def stack(kafka: str, database: Database, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Stack]:
    """Services as processes, over the test's own topics and database; stopped at the end."""
    async with Stack(kafka, database, topic_prefix, tmp_path) as running:
        yield running


async def _run(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        await connection.execute(statement, timeout=30)
    finally:
        await connection.close(timeout=5)
