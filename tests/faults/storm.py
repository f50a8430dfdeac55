"""A whole system under load whose processes are killed and paused at random, and started again by a supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

import asyncpg
from aiosmtpd.controller import Controller
from pydantic import SecretStr

from services.emulator.load import LoadPlan, LoadResult, generate
from services.standalone.child import Child, StartFailed, free_port
from services.standalone.kafka import Broker
from services.standalone.postgres import PostgresServer
from streams import gateways, people
from streams.domain.escalation import Role
from streams.migrations import migrate
from streams.provision import provision
from streams.settings import CoreSettings
from tests.faults.inbox import Inbox, serve
from tests.faults.oracle import Break
from tests.stack import Database, Service, Stack, eventually

PASSWORDS: Final = {role: f"{role}-storm" for role in ("pumpwatch_migrator", "pumpwatch_app", "pumpwatch_read")}
GATEWAY: Final = "GW-STORM"
SERVICES: Final = ("ingest", "worker-1", "worker-2", "notify")
WATCH_SECONDS: Final = 0.2
SEND_SECONDS: Final = 10
"""How long a page may take; its lease lasts a second longer. A short pause on a busy machine must fit in."""
LONGEST_SECONDS: Final = 400.0
"""Longer than the longest pause of a notification before its next try, so that only what is lost fails."""


class Target(StrEnum):
    """What is hit."""

    INGEST = "ingest"
    WORKER_1 = "worker-1"
    WORKER_2 = "worker-2"
    NOTIFY = "notify"
    KAFKA = "kafka"
    POSTGRES = "postgres"


class Blow(StrEnum):
    """How: killed without warning, or silent for a while and then going on as if nothing had been."""

    KILL = "kill"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class Cycle:
    """One blow, with the calm before it and how long a pause lasts, in seconds."""

    target: Target
    blow: Blow
    calm: float
    pause: float


def cycles(count: int, seed: int) -> list[Cycle]:
    """Random blows; every pair of target and blow comes up before any of them comes again."""
    chance = random.Random(seed)
    pairs = [(target, blow) for target in Target for blow in Blow]
    told: list[Cycle] = []
    while len(told) < count:
        chance.shuffle(pairs)
        # Now and then a pause outlasts the broker's patience with a worker: it comes back as a zombie.
        told.extend(
            Cycle(target, blow, chance.uniform(0.2, 1.5), 13.0 if chance.random() < 0.15 else chance.uniform(0.3, 3))
            for target, blow in pairs
        )
    return told[:count]


def may_repeat(cycle: Cycle) -> bool:
    """Whether a page under way may be told again: what was handed over is not recorded, or only after its lease.

    A shorter pause, and whatever happens to ingest, the workers or Kafka, repeats nothing.
    """
    if cycle.target not in (Target.NOTIFY, Target.POSTGRES):
        return False
    return cycle.blow is Blow.KILL or cycle.pause >= SEND_SECONDS


@dataclass(frozen=True, slots=True)
class Settled:
    """Whether nothing is left to do, with what is: reports accepted but not applied, outbox rows, notifications."""

    unapplied: int
    outbox: int
    notifications: int

    def __bool__(self) -> bool:
        return self.unapplied <= 0 and self.outbox == self.notifications == 0


class Storm:
    """The system: broker, database, services, a mail server, and load from a gateway that never gives up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = Broker(folder / "kafka")
        self.database = PostgresServer(folder / "postgres", "admin-storm", durable=False)
        self.inbox = Inbox()
        self.ledger = folder / "ledger.jsonl"
        self.disruptions = 0
        self.breaks: list[Break] = []
        """After which the notifier may tell something again."""
        self._controller: Controller | None = None
        self._stack: Stack | None = None
        self._stop_load = asyncio.Event()

    @contextlib.asynccontextmanager
    async def raging(self, *, rate: float, alarm_share: float) -> AsyncIterator[asyncio.Task[LoadResult]]:
        """The system up and under load; at the end everything is stopped."""
        async with contextlib.AsyncExitStack() as stack:
            await asyncio.gather(self.broker.start(), self.database.start())
            stack.push_async_callback(self.broker.stop)
            stack.push_async_callback(self.database.stop)
            token = await self._prepare()
            port = free_port()
            self._controller = serve(self.inbox, port)
            self._controller.start()
            stack.callback(self._controller.stop)
            ingest_port = free_port()
            services = await stack.enter_async_context(self._services(ingest_port, port))
            plan = LoadPlan(
                url=f"http://127.0.0.1:{ingest_port}", gateway_id=GATEWAY, token=SecretStr(token), name="storm",
                pumps=200, rate=rate, batch=20, alarm_share=alarm_share, settle_seconds=180, boot_id=0,
                ledger=self.ledger,
            )  # fmt: skip
            watching = asyncio.create_task(self._keep_up(services))
            stack.push_async_callback(_cancel, watching)
            load = asyncio.create_task(generate(plan, stop=self._stop_load))
            stack.push_async_callback(_cancel, load)
            yield load

    def dsn(self) -> str:
        """The superuser's, in the system's database."""
        return self.database.dsn("storm")

    async def strike(self, cycle: Cycle) -> None:
        """Wait, hit, and see to it that what was hit runs again."""
        await asyncio.sleep(cycle.calm)
        self.disruptions += 1
        began = datetime.now(UTC)
        await self._hit(cycle)
        if may_repeat(cycle):
            self.breaks.append(Break(began, datetime.now(UTC)))

    async def _hit(self, cycle: Cycle) -> None:
        child = self._child(cycle.target)
        if cycle.blow is Blow.KILL:
            _signal(child, signal.SIGKILL)
            child.kill()
            if cycle.target is Target.KAFKA:
                await _started(self.broker)
            elif cycle.target is Target.POSTGRES:
                await _started(self.database)
            return
        _signal(child, signal.SIGSTOP)
        try:
            await asyncio.sleep(cycle.pause)
        finally:
            _signal(child, signal.SIGCONT)

    async def settle(self, load: asyncio.Task[LoadResult]) -> LoadResult:
        """End the load, and wait until everything accepted is applied, told and published."""
        self._stop_load.set()
        result = await load
        await eventually(
            self._settled, timeout=LONGEST_SECONDS, every=0.5, what="everything applied, told and published"
        )
        return result

    async def _settled(self) -> Settled | None:
        """None while the database does not answer."""
        try:
            connection = await asyncpg.connect(self.dsn(), timeout=5)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return None
        try:
            accepted = len(self.ledger.read_text().splitlines())
            row = await connection.fetchrow(
                "SELECT (SELECT count(*) FROM reading),"
                " (SELECT count(*) FROM outbox WHERE handled_at IS NULL OR published_at IS NULL),"
                " (SELECT count(*) FROM notification WHERE state IN ('queued', 'sending'))"
            )
            assert row is not None
            applied, outbox, notifications = row
            return Settled(accepted - applied, outbox, notifications)
        finally:
            await connection.close(timeout=5)

    async def _prepare(self) -> str:
        """Database, topics, a gateway and the people who are told; returns the gateway's token."""
        connection = await asyncpg.connect(self.database.dsn(), timeout=10)
        await connection.execute("CREATE DATABASE storm", timeout=30)
        await connection.close(timeout=5)
        await migrate(self.dsn(), PASSWORDS)
        await provision(CoreSettings(kafka=self.broker.bootstrap, replication_factor=1, development=True))
        pool = await asyncpg.create_pool(self.dsn(), min_size=1, max_size=1, timeout=10)
        try:
            for role in Role:
                person = people.NewPerson(
                    person_id=role.value.replace("_", "-"), display_name=role.value, ladder_role=role,
                    email=f"{role.value}@example.org",
                )  # fmt: skip
                await people.add(pool, person, "correct horse battery")
            return await gateways.add(pool, GATEWAY, "home")
        finally:
            await pool.close()

    @contextlib.asynccontextmanager
    async def _services(self, ingest_port: int, smtp_port: int) -> AsyncIterator[list[Service]]:
        roles = {role: self.database.dsn("storm", role, word) for role, word in PASSWORDS.items()}
        database = Database(self.dsn(), roles["pumpwatch_migrator"], roles["pumpwatch_app"], roles["pumpwatch_read"])
        env = {
            "PUMPWATCH_INGEST_PORT": str(ingest_port),
            "PUMPWATCH_NOTIFY_SMTP_PORT": str(smtp_port),
            "PUMPWATCH_NOTIFY_SEND_TIMEOUT_SECONDS": str(SEND_SECONDS),
            "PUMPWATCH_NOTIFY_LEASE_SECONDS": str(SEND_SECONDS + 1),
            "PUMPWATCH_NOTIFY_RETRY_SECONDS": "1",
            # What can wait for the morning would not be told in a storm at night.
            "PUMPWATCH_NOTIFY_QUIET_HOURS": "",
            "PUMPWATCH_NOTIFY_ATTEMPTS": "20",
        }
        async with Stack(self.broker.bootstrap, database, "", self.folder, env) as stack:
            self._stack = stack
            made = [stack.service(name, {"PUMPWATCH_WORKER_NAME": name}) for name in SERVICES]
            await asyncio.gather(*(service.start() for service in made))
            yield made

    async def _keep_up(self, services: Iterable[Service]) -> None:
        """Start again what ended, by a kill or by its own decision, as a supervisor does."""
        while True:
            for service in services:
                if not service.child.running:
                    service.child.start()
            await asyncio.sleep(WATCH_SECONDS)

    def _child(self, target: Target) -> Child:
        if target is Target.KAFKA:
            return self.broker.child
        if target is Target.POSTGRES:
            return self.database.child
        assert self._stack is not None
        return self._stack.services[target.value].child


def _signal(child: Child, number: signal.Signals) -> None:
    """To the process and its children: PostgreSQL is many, each in a session of its own."""
    if not child.running or child.pid is None:
        return
    family = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    for pid in (child.pid, *map(int, family)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


async def _started(server: Broker | PostgresServer) -> None:
    """Start it as a supervisor does: again, when what is left of the run before is still in the way."""

    async def up() -> bool:
        try:
            await server.start()
        except StartFailed:
            return False
        return True

    await eventually(up, timeout=60, every=0.5, what=f"{type(server).__name__} up again")


async def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.wait([task])
