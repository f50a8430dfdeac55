"""What the watchdog tells, and when, over a canary and a mail server that do what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from services.watchdog import watch as watching
from services.watchdog.alarm import Alarm
from services.watchdog.canary import Canary
from services.watchdog.metrics import Metrics
from services.watchdog.settings import Settings
from services.watchdog.watch import Watch, steady_clock
from streams.domain.alert import Priority
from streams.domain.deadman import Limits, Turn
from tests.stack import eventually

START = datetime(2026, 11, 2, tzinfo=UTC)


class MailServer:
    """Takes what it is told, unless it hangs or refuses."""

    def __init__(self) -> None:
        self.taken: list[tuple[Turn | None, Priority | None]] = []
        self.asked: list[tuple[Turn | None, Priority | None]] = []
        self.refuses = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def tell(self, priority: Priority | None, turn: Turn | None, _reason: str, _since_pass: timedelta) -> bool:
        """As `services.watchdog.alarm.Alarm`."""
        self.asked.append((turn, priority))
        await self.answers.wait()
        if not self.refuses:
            self.taken.append((turn, priority))
        return not self.refuses


class Bench:
    """A watch whose clock a test moves."""

    def __init__(self) -> None:
        self.now, self.mail = START, MailServer()
        self.watch = Watch(
            Settings(watchdog_repeat_minutes=15),
            Limits(medium_after=timedelta(seconds=30), high_after=timedelta(seconds=45), passes_to_clear=3),
            cast("Canary", None),
            cast("Alarm", self.mail),
            Metrics(),
            lambda: self.now,
        )

    def look(self, seconds: float) -> None:
        """Look so many seconds after the start."""
        self.now = START + timedelta(seconds=seconds)
        self.watch.look()

    async def told(self, *wanted: tuple[Turn | None, Priority | None]) -> None:
        """Wait until exactly this was taken."""

        async def same() -> bool:
            return self.mail.taken == list(wanted)

        await eventually(same, timeout=5, what="the mails")


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """With its telling under way."""
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.01)
    bench = Bench()
    task = asyncio.create_task(bench.watch.tell())
    yield bench
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_mail_that_was_not_taken_is_told_again(bench: Bench) -> None:
    """Each turn is one moment; the server that was away then hears of it as soon as it is back."""
    bench.mail.refuses = True
    bench.look(30)
    await eventually(_asked(bench, 3), timeout=5, what="three tries")

    bench.mail.refuses = False

    await bench.told((Turn.OPENED, Priority.MEDIUM))


async def test_a_mail_server_that_hangs_keeps_the_clock_from_nothing(bench: Bench) -> None:
    """Looks go on, and the newest turn is told once the server answers."""
    bench.mail.answers.clear()
    bench.look(30)
    await eventually(_asked(bench, 1), timeout=5, what="the first try")
    bench.look(45)
    assert bench.watch.man.priority is Priority.HIGH

    bench.mail.answers.set()

    await bench.told((Turn.OPENED, Priority.MEDIUM), (Turn.ESCALATED, Priority.HIGH))
    bench.look(45 + 14 * 60)
    await asyncio.sleep(0.05)
    assert len(bench.mail.taken) == 2
    bench.look(46 + 15 * 60)
    await bench.told((Turn.OPENED, Priority.MEDIUM), (Turn.ESCALATED, Priority.HIGH), (None, Priority.HIGH))


def _asked(bench: Bench, count: int) -> Callable[[], Awaitable[bool]]:
    async def enough() -> bool:
        return len(bench.mail.asked) >= count

    return enough


def test_the_watchdogs_clock_never_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes of the wall clock: it measures a silence."""
    clock = steady_clock()
    before = clock()
    later = time.monotonic() + 30
    monkeypatch.setattr(time, "monotonic", lambda: later)

    class SetBack(datetime):
        """An hour earlier."""

        @classmethod
        def now(cls, _zone: object = None) -> datetime:  # type: ignore[override]
            """The wall clock."""
            return START

    monkeypatch.setattr(watching, "datetime", SetBack)

    assert timedelta(seconds=29) < clock() - before <= timedelta(seconds=31)
