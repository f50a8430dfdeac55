"""The whole system on one machine: starts every part in order, keeps it up, and stops it in order."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg

from services.standalone import demo, jars
from services.standalone.demo import Demo, Emulated
from services.standalone.folder import Folder
from services.standalone.kafka import Broker
from services.standalone.postgres import PostgresServer, new_password
from services.standalone.service import Part, Service, keep_up
from services.standalone.settings import LOOPBACK, Settings, claim_ports
from streams.migrations import migrate
from streams.provision import provision

DATABASE: Final = "pumpwatch"
ROLES: Final = ("pumpwatch_migrator", "pumpwatch_app", "pumpwatch_read")
MODULES: Final = {
    "mailbox": "services.standalone.mailbox",
    "ingest": "services.ingest",
    "worker": "streams",
    "notify": "services.notify",
    "web": "services.web",
    "emulator": "services.emulator",
    "watchdog": "services.watchdog",
}
STATEMENT_SECONDS: Final = 30.0


class Stack:
    """Every part, as processes of their own on loopback.

    Args:
        settings: Ports and the folder of the data.
        folder: The data's folder, taken by this process.
        say: Tells the person who started it what happens.
    """

    def __init__(self, settings: Settings, folder: Folder, say: Callable[[str], None]) -> None:
        self._settings, self._folder, self._say = settings, folder, say
        self.ports = claim_ports(settings)
        keep_open = (folder.lock,)
        self.postgres = PostgresServer(
            folder.path / "postgres",
            folder.secret("postgres", new_password),
            port=self.ports["standalone_postgres_port"],
            keep_open=keep_open,
        )
        self.broker = Broker(
            folder.path / "kafka",
            port=self.ports["standalone_kafka_port"],
            jar_cache=settings.standalone_jars,
            keep_open=keep_open,
        )
        self._passwords = {role: folder.secret(role, new_password) for role in ROLES}
        self._run = int(time.time())
        self._services: dict[str, Service] = {}
        self._demo = Demo({}, {})
        self._watchdog: dict[str, Path] = {}

    @property
    def settings(self) -> Settings:
        """The settings with the ports and addresses of this start."""
        return self._settings.model_copy(update={**self.ports, "kafka": self.broker.bootstrap})

    @property
    def web(self) -> str:
        """Address of the care-team page."""
        return self._url("web_port")

    @property
    def mailbox(self) -> str:
        """Address of the mailbox's page."""
        return self._url("mailbox_port")

    def dsn(self, role: str) -> str:
        """Where a role connects."""
        return self.postgres.dsn(DATABASE, role, self._passwords[role])

    async def start(self) -> None:
        """Start everything that people and gateways need, without the emulator.

        Raises:
            StartFailed: If a part does not come up; `stop` then ends those that did.
        """
        self._folder.keep("dsn", self.dsn("pumpwatch_app"))
        self._folder.secret("gateway_tokens", lambda: "{}")
        _, _, emulated = await _together(self._start_postgres(), self._start_kafka(), self._ask_emulator())
        self._say("adding the people, gateways and pumps of the demo")
        async with asyncpg.create_pool(self.dsn("pumpwatch_app"), min_size=1, max_size=2) as pool:
            self._demo = await demo.furnish(pool, self._folder, emulated, datetime.now(UTC))
            if self._settings.standalone_watchdog:
                pages = f"{self._url('watchdog_receiver_port')}/pages"
                self._watchdog = await demo.furnish_watchdog(pool, self._folder, pages, datetime.now(UTC))
        self._folder.keep("gateway_tokens", json.dumps(self._demo.tokens))
        self._say("starting mailbox, ingest, worker, notify and web")
        await _together(*(self._service(name).start() for name in ("mailbox", "ingest", "worker", "notify", "web")))
        if self._settings.standalone_watchdog:
            self._say("starting the watchdog")
            await self._service("watchdog").start()
        self._folder.announce(self.status())

    async def start_emulator(self) -> None:
        """Let the emulator's pumps report.

        Raises:
            StartFailed: If it does not come up.
        """
        self._say("starting the emulator")
        await self._service("emulator").start()

    async def keep(self) -> None:
        """Start again whatever ends, until cancelled."""
        parts: list[Part] = [self.postgres, self.broker, *self._services.values()]
        await _together(*(keep_up(part, self._say) for part in parts))

    async def stop(self) -> None:
        """End everything in order: first who sends, last who stores."""
        self._folder.leave()
        for group in (("watchdog", "emulator"), ("ingest",), ("worker", "notify", "web"), ("mailbox",)):
            await asyncio.gather(*(self._services[name].stop() for name in group if name in self._services))
        await asyncio.gather(self.broker.stop(), self.postgres.stop())

    def status(self) -> dict[str, Any]:
        """What `pumpwatch status` shows; holds secrets."""
        metrics = {
            name: f"{self._url(f'{name}_metrics_port')}/metrics"
            for name in MODULES
            if name not in self._without_metrics
        }
        return {
            "web": self.web,
            "ingest": self._url("ingest_port"),
            "kafka": self.broker.bootstrap,
            "postgres": self.dsn("pumpwatch_app"),
            "gateway_id": demo.GATEWAY,
            "gateway_token": self._demo.tokens[demo.GATEWAY],
            "pump_id": demo.PUMP,
            "mailbox": self.mailbox,
            "people": self._demo.passwords,
            "metrics": metrics,
            "var": str(self._folder.path),
            "pid": os.getpid(),
        }

    @property
    def _without_metrics(self) -> frozenset[str]:
        settings = self._settings
        absent = {"emulator": settings.standalone_emulator, "watchdog": settings.standalone_watchdog}
        return frozenset({"mailbox", *(name for name, there in absent.items() if not there)})

    def _url(self, port: str) -> str:
        return f"http://{LOOPBACK}:{self.ports[port]}"

    async def _start_postgres(self) -> None:
        self._say("starting PostgreSQL")
        await self.postgres.start()
        connection = await asyncpg.connect(self.postgres.dsn(), timeout=10)
        try:
            if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}", timeout=STATEMENT_SECONDS)
        finally:
            await connection.close(timeout=5)
        await migrate(self.postgres.dsn(DATABASE), self._passwords)
        self._say(f"PostgreSQL is up on port {self.postgres.port}, its tables are made")

    async def _start_kafka(self) -> None:
        cache = self._settings.standalone_jars or jars.default_cache()
        if missing := jars.missing(cache):
            self._say(f"Kafka: fetching {missing} jars (43 MB in all, once) to {cache}")
            await asyncio.to_thread(jars.fetch, cache)
        self._say("starting Kafka")
        await self.broker.start()
        await provision(self.settings)
        self._say(f"Kafka is up on port {self.broker.port}, its topics are made")

    async def _ask_emulator(self) -> Emulated:
        if not self._settings.standalone_emulator:
            return Emulated((), ())
        return await demo.ask_emulator(self._environment(), self._run)

    def _service(self, name: str) -> Service:
        port = self.ports.get(f"{name}_metrics_port")
        self._services[name] = Service(
            name,
            "-m",
            MODULES[name],
            env=self._environment(),
            logs=self._folder.logs,
            ready_url=f"http://{LOOPBACK}:{port}/readyz" if port else None,
            ready_port=self.ports["mailbox_port"],
            keep_open=(self._folder.lock,),
        )
        return self._services[name]

    def _environment(self) -> dict[str, str]:
        """What every service gets: the settings of this process' own environment, and on top the stack's."""
        kept = {name: value for name, value in os.environ.items() if name.startswith("PUMPWATCH_") or name in _SYSTEM}
        kept.pop("PUMPWATCH_POSTGRES", None)
        ports = {name: port for name, port in self.ports.items() if not name.startswith("standalone_")}
        ours = {
            **ports,
            "kafka": self.broker.bootstrap,
            "postgres_file": self._folder.secret_path("dsn"),
            "replication_factor": 1,
            "development": "true",
            "notify_public_url": self._settings.standalone_public_url or self.web,
            "web_public_url": self._settings.standalone_public_url or self.web,
            "notify_smtp_port": self.ports["mailbox_smtp_port"],
            "mailbox_folder": self._folder.path / "mail",
            "emulator_run": self._run,
            "emulator_ingest_url": self._url("ingest_port"),
            "emulator_gateway_tokens_file": self._folder.secret_path("gateway_tokens"),
            "notify_webhook_hosts": LOOPBACK,
            "watchdog_ingest_url": self._url("ingest_port"),
            "watchdog_web_url": self.web,
            "watchdog_smtp_port": self.ports["mailbox_smtp_port"],
            **{f"watchdog_{name}_file": path for name, path in self._watchdog.items()},
        }
        return {**kept, **{f"PUMPWATCH_{name.upper()}": str(value) for name, value in ours.items()}}


_SYSTEM: Final = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"})


async def _together(*steps: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run steps at once; the first that fails ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step) for step in steps]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
