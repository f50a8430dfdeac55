"""The loops of the watchdog: rounds of the synthetic alarm, the clock that misses them, and the telling of people.

None waits for another: neither a path nor a mail server that hangs may stop the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from services.watchdog.alarm import Alarm
from services.watchdog.canary import Canary, CanaryFailed
from services.watchdog.metrics import Metrics
from services.watchdog.settings import Settings
from streams.domain.alert import Priority
from streams.domain.deadman import DeadMan, Limits, Turn, look, passed

LOOK_SECONDS: Final = 0.5
_LEVELS: Final = {None: 0, Priority.MEDIUM: 1, Priority.HIGH: 2}


def steady_clock() -> Callable[[], datetime]:
    """A clock that is right at its start and never steps: a wall clock that is set back would hide a broken path."""
    started_at, started = datetime.now(UTC), time.monotonic()
    return lambda: started_at + timedelta(seconds=time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class _News:
    """What people are to be told; ``turn`` None: it is told again."""

    man: DeadMan
    turn: Turn | None
    reason: str


class Watch:
    """Puts canary, dead man's switch and alarm together.

    Args:
        limits: Of the dead man's switch.
        clock: Service time, aware UTC, that never steps.
    """

    def __init__(
        self,
        settings: Settings,
        limits: Limits,
        canary: Canary,
        alarm: Alarm,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings, self._limits = settings, limits
        self._canary, self._alarm, self._metrics, self._clock = canary, alarm, metrics, clock
        self.man = DeadMan(clock())
        self._reason, self._told_at = "no round has come through yet", clock()
        self._untold: _News | None = None
        self._bell = asyncio.Event()

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
        self._metrics.last_pass.set_to_current_time()
        self.man, turn = passed(self.man, now, self._limits)
        if turn is not None:
            self._reason = ""
            self._tell(turn)

    async def clock(self) -> None:
        """Look at the clock twice a second, whatever the rounds are doing."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """One look."""
        now = self._clock()
        self.man, turn = look(self.man, now, self._limits)
        self._metrics.degraded.set(_LEVELS[self.man.priority])
        repeat = timedelta(minutes=self._settings.watchdog_repeat_minutes)
        if turn is not None:
            self._tell(turn)
        elif self.man.priority is Priority.HIGH and self._untold is None and now - self._told_at >= repeat:
            self._tell(None)

    async def tell(self) -> None:
        """Tell people what is new, again and again until the mail server takes it or something newer is true."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            while (news := self._untold) is not None:
                age = self._clock() - news.man.last_pass_at
                if not await self._alarm.tell(news.man.priority, news.turn, news.reason, age):
                    await asyncio.sleep(LOOK_SECONDS)
                    continue
                self._told_at = self._clock()
                if self._untold is news:
                    self._untold = None

    def _tell(self, turn: Turn | None) -> None:
        log = structlog.get_logger()
        log.warning("dead man's switch", turn=turn.value if turn else "still", priority=self.man.priority)
        self._untold = _News(self.man, turn, self._reason)
        self._bell.set()
