"""The broker and the database of the one-machine stack: they keep their data, and they let in only who should."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from services.standalone import jars
from services.standalone.child import StartFailed, check_free
from services.standalone.kafka import Broker
from services.standalone.postgres import PostgresServer, new_password
from streams import topics
from streams.operations import listen
from streams.provision import UnsafeTopic, provision
from streams.settings import CoreSettings


def development(kafka: str, prefix: str, partitions: int = topics.DEFAULT_PARTITIONS) -> CoreSettings:
    """Settings for one broker."""
    return CoreSettings(kafka=kafka, topic_prefix=prefix, development=True, replication_factor=1, partitions=partitions)


async def send(bootstrap: str, topic: str, value: bytes) -> None:
    """Write one record, acknowledged."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=9 * 1024 * 1024) as producer:
        await producer.send_and_wait(topic, value, partition=0)


async def first(bootstrap: str, topic: str) -> bytes:
    """Read the first record."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        value: bytes = (await consumer.getone()).value
        return value


async def test_a_broker_keeps_its_records_when_it_is_killed_and_started_again(server_folder: Path) -> None:
    """The second start finds the data of the first, on another port."""
    settings = {"overrides": {"offsets.topic.num.partitions": "1"}}
    broker = Broker(server_folder / "another-kafka", **settings)  # type: ignore[arg-type]
    await broker.start()
    await provision(development(broker.bootstrap, "", partitions=1))
    await send(broker.bootstrap, topics.TELEMETRY.name, b"kept")
    broker.child.kill()

    again = Broker(server_folder / "another-kafka", **settings)  # type: ignore[arg-type]
    await again.start()
    try:
        assert await first(again.bootstrap, topics.TELEMETRY.name) == b"kept"
    finally:
        await again.stop()


async def test_a_record_of_the_largest_batch_is_accepted(kafka: str, topic_prefix: str) -> None:
    """Broker and topics take what ingest may send."""
    largest = b"\xc1" * topics.MAX_RECORD_BYTES

    await send(kafka, topic_prefix + topics.TELEMETRY.name, largest)

    assert await first(kafka, topic_prefix + topics.TELEMETRY.name) == largest


async def test_provisioning_again_changes_nothing(kafka: str, topic_prefix: str) -> None:
    """Every process may ask for the topics at its start."""
    assert await provision(development(kafka, topic_prefix)) == ()


async def test_another_number_of_partitions_is_refused(kafka: str, topic_prefix: str) -> None:
    """Pumps would silently move between partitions."""
    with pytest.raises(UnsafeTopic, match="24 partitions where 6 are set"):
        await provision(development(kafka, topic_prefix, partitions=6))


async def test_one_copy_is_refused_outside_development(kafka: str) -> None:
    """One lost disk would lose accepted reports."""
    with pytest.raises(UnsafeTopic, match="replication factor 1"):
        await provision(CoreSettings(kafka=kafka, replication_factor=1))


async def test_a_compacted_topic_is_refused(kafka: str) -> None:
    """Compaction makes holes in the offsets, and a hole means a lost record here."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics(
        [NewTopic(f"compacted.{topics.TELEMETRY.name}", 24, 1, topic_configs={"cleanup.policy": "compact"})]
    )
    await admin.close()

    with pytest.raises(UnsafeTopic, match="compacted"):
        await provision(development(kafka, "compacted."))


async def test_a_database_keeps_its_rows_when_it_is_killed_and_started_again(server_folder: Path) -> None:
    """A killed server recovers, on another port, with the password it was made with."""
    password = new_password()
    server = PostgresServer(server_folder / "another-postgres", password, durable=False)
    await server.start()
    connection = await asyncpg.connect(server.dsn())
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    server.child.kill()

    again = PostgresServer(server_folder / "another-postgres", password, durable=False)
    await again.start()
    try:
        connection = await asyncpg.connect(again.dsn())
        assert await connection.fetchval("SELECT answer FROM kept") == 42
        await connection.close()
    finally:
        await again.stop()


async def test_nobody_enters_the_database_without_the_password(postgres: PostgresServer) -> None:
    """A process of another user on this machine can reach the port; that must not be enough."""
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.dsn(password="guessed"))


async def test_the_data_of_the_database_is_closed_to_other_users(postgres: PostgresServer, server_folder: Path) -> None:
    """Patients' telemetry and the password's hash are in these files."""
    assert postgres.child.running
    assert stat.S_IMODE((server_folder / "postgres" / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((server_folder / "postgres" / "postgres.log").stat().st_mode) == 0o600


def test_a_taken_port_names_port_part_and_setting() -> None:
    """The message alone is enough to go on."""
    with listen("127.0.0.1", 0) as other:
        port = other.getsockname()[1]

        with pytest.raises(StartFailed, match=f"port {port} for the page is taken.*PUMPWATCH_WEB_PORT"):
            check_free(port, "the page", "PUMPWATCH_WEB_PORT")


def test_a_jar_that_is_not_the_listed_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed file in the cache is fetched again; one that stays wrong stops the start."""
    jar = min(jars.listed(), key=lambda jar: jar.artifact == "kafka_2.13")
    kept = tmp_path.joinpath(*jar.group.split("."), jar.artifact, jar.version, f"{jar.artifact}-{jar.version}.jar")
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"tampered")
    for proxy in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")

    with pytest.raises(StartFailed, match="no network"):
        jars.fetch(tmp_path)

    assert not kept.exists()


def test_the_list_of_jars_names_each_once_with_a_full_sum() -> None:
    """Sums are SHA-256, and no file is listed twice."""
    listed = jars.listed()

    assert all(len(jar.sha256) == hashlib.sha256().digest_size * 2 for jar in listed)
    assert len({(jar.group, jar.artifact) for jar in listed}) == len(listed) > 40
