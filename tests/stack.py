"""Starts real services as processes of their own against a real broker and a real database, as operators do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx

from services.standalone.child import Child, tail

ROOT: Final = Path(__file__).resolve().parent.parent
Value = TypeVar("Value")
READY_SECONDS: Final = 40.0
MODULES: Final = {
    "ingest": "services.ingest",
    "worker": "streams",
    "notify": "services.notify",
    "web": "services.web",
    "emulator": "services.emulator",
    "mailbox": "services.standalone.mailbox",
    "watchdog": "services.watchdog",
}


@dataclass(frozen=True, slots=True)
class Database:
    """One database of a test: where each role connects."""

    admin: str
    migrator: str
    app: str
    read: str


async def eventually(
    probe: Callable[[], Awaitable[Value]], *, timeout: float = 20.0, every: float = 0.05, what: str = "the condition"
) -> Value:
    """Ask until the answer is true-like, and return it.

    Raises:
        AssertionError: With the last answer, when the time is over.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = await probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout:g} s; last answer: {answer!r}")
        await asyncio.sleep(every)


class Service:
    """One service's process.

    Args:
        name: A key of `MODULES`, and the name of its log file.
        env: Settings, ``PUMPWATCH_...``.
        folder: For its log.
        arguments: Program arguments after the module.
    """

    def __init__(self, name: str, env: Mapping[str, str], folder: Path, arguments: Iterable[str] = ()) -> None:
        kind = name.partition("-")[0]
        self.name = name
        self.child = Child(
            name,
            [sys.executable, "-m", MODULES[kind], *arguments],
            env={**_inherited(), **env, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            log=folder / f"{name}.log",
        )

    @property
    def log(self) -> list[dict[str, Any]]:
        """The JSON lines of the process' present run."""
        lines = self.child.log.read_text(errors="replace").splitlines() if self.child.log.exists() else []
        return [entry for line in lines if (entry := _entry(line)) is not None]

    async def start(self, *, ready: bool = True) -> Self:
        """Start it, and wait until it says that it is ready."""
        self.child.start()
        if ready:
            await self.ready()
        return self

    async def url(self, name: str = "operations", timeout: float = READY_SECONDS) -> str:
        """The address under which the process says it listens, by the ``name`` in its log line ``listening``."""

        async def said() -> str | None:
            self._check()
            found = (entry for entry in self.log if entry.get("event") == "listening" and entry.get("name") == name)
            return next((str(entry["url"]) for entry in found), None)

        address = await eventually(said, timeout=timeout, what=f"{self.name} listening as {name}")
        assert address is not None
        return address

    async def ready(self, timeout: float = READY_SECONDS) -> None:
        """Wait until ``/readyz`` answers 200."""
        address = await self.url(timeout=timeout)
        async with httpx.AsyncClient(base_url=address, timeout=10, trust_env=False) as client:

            async def answers() -> bool:
                self._check()
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(answers, timeout=timeout, what=f"{self.name} ready")

    async def metrics(self) -> str:
        """The metrics it exports now, in the text format."""
        async with httpx.AsyncClient(base_url=await self.url(), timeout=10, trust_env=False) as client:
            return (await client.get("/metrics")).raise_for_status().text

    async def stop(self) -> int | None:
        """SIGTERM, and wait; its exit code."""
        self.child.signal(signal.SIGCONT)
        await self.child.stop(grace_seconds=20)
        return self.child.returncode

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()

    def pause(self) -> None:
        """SIGSTOP: alive, but silent."""
        self.child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.child.signal(signal.SIGCONT)

    def _check(self) -> None:
        if not self.child.running:
            log = tail(self.child.log, 30)
            raise AssertionError(f"{self.name} ended with code {self.child.returncode}; its log:\n{log}")


@dataclass
class Stack:
    """Services over one broker and one database; an async context manager that stops what it started.

    Ports are chosen by the OS. ``env`` overrides the settings of every service.
    """

    kafka: str
    database: Database
    topic_prefix: str
    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)

    def settings(self) -> dict[str, str]:
        """The environment that every service gets."""
        ports = {
            **{f"PUMPWATCH_{name}_PORT": "0" for name in ("INGEST", "WEB")},
            **{
                f"PUMPWATCH_{name}_METRICS_PORT": "0"
                for name in ("INGEST", "WORKER", "NOTIFY", "WEB", "EMULATOR", "WATCHDOG")
            },
            "PUMPWATCH_WATCHDOG_RECEIVER_PORT": "0",
        }
        return {
            **ports,
            "PUMPWATCH_KAFKA": self.kafka,
            "PUMPWATCH_POSTGRES": self.database.app,
            "PUMPWATCH_TOPIC_PREFIX": self.topic_prefix,
            "PUMPWATCH_REPLICATION_FACTOR": "1",
            "PUMPWATCH_DEVELOPMENT": "true",
            **self.env,
        }

    def service(self, name: str, env: Mapping[str, str] | None = None, arguments: Iterable[str] = ()) -> Service:
        """A service, not yet started; ``worker-2`` is a second worker."""
        self.services[name] = Service(name, {**self.settings(), **(env or {})}, self.folder, arguments)
        return self.services[name]

    async def start(self, *names: str) -> None:
        """Start services with the stack's settings, all at once, and wait until they are ready."""
        await asyncio.gather(*(self.service(name).start() for name in names))

    async def __aenter__(self) -> Self:
        """Nothing runs yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop every service."""
        await asyncio.gather(*(service.stop() for service in self.services.values()))


def _inherited() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") if name in os.environ}


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
