"""The two loops of the watchdog: rounds of the synthetic alarm, and the clock that misses them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from services.watchdog.alarm import Alarm
from services.watchdog.canary import Canary, CanaryFailed
from services.watchdog.metrics import Metrics
from services.watchdog.settings import Settings
from streams.domain.alert import Priority
from streams.domain.deadman import DeadMan, Turn, look, passed

LOOK_SECONDS: Final = 0.5
_LEVELS: Final = {None: 0, Priority.MEDIUM: 1, Priority.HIGH: 2}


class Watch:
    """Puts canary, dead man's switch and alarm together.

    Args:
        clock: Service time, aware UTC.
    """

    def __init__(
        self, settings: Settings, canary: Canary, alarm: Alarm, metrics: Metrics, clock: Callable[[], datetime]
    ) -> None:
        self._settings, self._limits = settings, settings.limits
        self._canary, self._alarm, self._metrics, self._clock = canary, alarm, metrics, clock
        self.man = DeadMan(clock())
        self._reason, self._told_at = "no round has come through yet", clock()

    async def rounds(self) -> None:
        """Round after round, each at its fixed moment; one that takes longer delays the next."""
        period = self._settings.watchdog_period_seconds
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = max(due + period, loop.time())
            await self._round(period)

    async def _round(self, limit_seconds: float) -> None:
        try:
            took = await self._canary.round(limit_seconds)
        except CanaryFailed as failure:
            self._reason = f"{failure.where} ({failure.detail})"
            self._metrics.rounds.labels("failed").inc()
            structlog.get_logger().warning("synthetic alarm lost", station=failure.where, detail=failure.detail)
            return
        now = self._clock()
        self._metrics.rounds.labels("passed").inc()
        self._metrics.round_seconds.observe(took)
        self._metrics.last_pass.set(now.timestamp())
        self.man, turn = passed(self.man, now, self._limits)
        if turn is not None:
            self._reason = ""
            await self._tell(turn)

    async def clock(self) -> None:
        """Look at the clock twice a second, whatever the rounds are doing."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """One look."""
        now = self._clock()
        self.man, turn = look(self.man, now, self._limits)
        self._metrics.degraded.set(_LEVELS[self.man.priority])
        repeat = timedelta(minutes=self._settings.watchdog_repeat_minutes)
        if turn is not None or (self.man.priority is Priority.HIGH and now - self._told_at >= repeat):
            await self._tell(turn)

    async def _tell(self, turn: Turn | None) -> None:
        log = structlog.get_logger()
        log.warning("dead man's switch", turn=turn.value if turn else "still", priority=self.man.priority)
        if await self._alarm.tell(self.man, turn, self._reason):
            self._told_at = self._clock()
