"""Hears of new outbox rows at the moment of their commit, over a connection of its own."""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeAlias

import asyncpg
import structlog

from services.notify.rounds import Wakes

NEWS: Final = "pumpwatch_outbox"
CHECK_SECONDS: Final = 2.0
TIMEOUT_SECONDS: Final = 5.0

Connection: TypeAlias = "asyncpg.Connection[Any]"


class Listener:
    """Rings the bells on NOTIFY. It connects again when it must; what it missed meanwhile, the rescans find."""

    def __init__(self, dsn: str, wakes: Wakes) -> None:
        self._dsn, self._wakes = dsn, wakes
        self.listening = False

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001 -- outermost loop of a part; the rescans go on without it
                structlog.get_logger().warning("not listening", error=type(error).__name__)
            self.listening = False
            await asyncio.sleep(1)

    async def _listen(self) -> None:
        """Listen on one connection until it fails; one that is silently dead is noticed by asking it."""
        connection: Connection = await asyncpg.connect(
            self._dsn, timeout=TIMEOUT_SECONDS, command_timeout=TIMEOUT_SECONDS
        )
        try:
            await connection.add_listener(NEWS, self._heard)
            self.listening = True
            self._wakes.news()
            while True:
                await asyncio.sleep(CHECK_SECONDS)
                await connection.fetchval("SELECT 1")
        finally:
            self.listening = False
            connection.terminate()

    def _heard(self, *_: object) -> None:
        self._wakes.news()
