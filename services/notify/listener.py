"""Hears of new outbox rows at the moment of their commit, over a connection of its own."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from services.notify.rounds import Wakes
from streams.alert_history import OUTBOX_CHANNEL
from streams.listening import listen_to

CHECK_SECONDS: Final = 2.0
TIMEOUT_SECONDS: Final = 5.0


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
        try:
            await listen_to(
                self._dsn,
                OUTBOX_CHANNEL,
                lambda _: self._wakes.news(),
                self._connected,
                connect_seconds=TIMEOUT_SECONDS,
                check_seconds=CHECK_SECONDS,
            )
        finally:
            self.listening = False

    def _connected(self) -> None:
        self.listening = True
        self._wakes.news()
