"""One of our services as a part of the stack: its process, and how it says that it is ready."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import httpx

from services.standalone.child import Child, StartFailed, accepts

ROOT: Final = Path(__file__).resolve().parents[2]
READY_SECONDS: Final = 60.0
ASK_SECONDS: Final = 0.2
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
TRIM_SECONDS: Final = 30.0


class Part(Protocol):
    """Something that runs as a process of its own."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def child(self) -> Child:
        """Its present process."""

    async def start(self) -> None:
        """Start it and wait until it does its job; `StartFailed` if it does not come up."""

    async def stop(self) -> None:
        """End it in order."""


class Service:
    """A service of this repository.

    Args:
        name: What people call it, and the name of its log.
        arguments: Of Python: ``-m`` and the module.
        env: Its whole environment.
        logs: Folder for its output.
        ready_url: Answers 200 when it is ready; of a part that has none, `ready_port` takes connections.
        keep_open: Open files that it inherits.
    """

    def __init__(
        self,
        name: str,
        *arguments: str,
        env: Mapping[str, str],
        logs: Path,
        ready_url: str | None = None,
        ready_port: int = 0,
        keep_open: tuple[int, ...] = (),
    ) -> None:
        self.name, self._ready_url, self._ready_port = name, ready_url, ready_port
        environment = {**env, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        argv = [sys.executable, *arguments]
        self.child = Child(name, argv, env=environment, log=logs / f"{name}.log", keep_open=keep_open)

    async def start(self) -> None:
        """Start it, and wait until it is ready.

        Raises:
            StartFailed: If it ends or is not ready within a minute; the message has the end of its log.
        """
        self.child.start()
        try:
            async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient(timeout=5, trust_env=False) as client:
                while not await self._is_ready(client):
                    self.child.check_alive()
                    await asyncio.sleep(ASK_SECONDS)
        except TimeoutError:
            raise StartFailed(f"{self.name} was not ready within {READY_SECONDS:g} s; see {self.child.log}") from None

    async def stop(self) -> None:
        """Ask it to end, and kill it if it does not."""
        await self.child.stop()

    async def _is_ready(self, client: httpx.AsyncClient) -> bool:
        if self._ready_url is None:
            return accepts(self._ready_port)
        try:
            return (await client.get(self._ready_url)).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


async def keep_up(part: Part, say: Callable[[str], None]) -> None:
    """Start a part again whenever it ends, after a pause that doubles up to 30 s; until cancelled.

    The stack stays useful meanwhile: what was accepted waits in Kafka and PostgreSQL.
    """
    clock, pause = asyncio.get_running_loop().time, FIRST_PAUSE_SECONDS
    while True:
        up_since = clock()
        code = await _ended(part.child)
        pause = FIRST_PAUSE_SECONDS if clock() - up_since > STEADY_SECONDS else pause
        say(f"{part.name} ended with code {code}; it starts again in {pause:g} s (its last words: {part.child.log}.1)")
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        try:
            await part.start()
        except StartFailed as failed:
            say(f"{part.name} did not come up: {failed}")
        else:
            say(f"{part.name} is up again")


async def _ended(child: Child) -> int:
    while True:
        try:
            async with asyncio.timeout(TRIM_SECONDS):
                return await child.ended()
        except TimeoutError:
            child.trim_log()
