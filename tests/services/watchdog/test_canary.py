"""A round of the synthetic alarm over a played system: what it closes, and what a break of the page does to it."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import httpx
import pytest

from services.watchdog import canary
from services.watchdog.canary import Canary, CanaryFailed
from services.watchdog.receiver import Pages
from services.watchdog.settings import Settings


class System:
    """Ingest and the care-team page: an alarm pages unless its alert is open still; ``answers`` are to closing it."""

    def __init__(self, *answers: int | None) -> None:
        self.pages, self.answers = Pages(), list(answers)
        self.open: str | None = None
        self.canary = Canary(Settings(), self.pages, httpx.AsyncClient(transport=httpx.MockTransport(self._answer)))

    async def page(self) -> None:
        """Somebody is paged of a new alert."""
        self.open = str(uuid4())
        await self.pages.arrived({"alert_id": self.open})

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/v1/reports":
            if b"critical" in request.content and self.open is None:
                await self.page()
            return httpx.Response(202, json={"rejected": []})
        if path.endswith("/resolve"):
            return self._resolve(path.split("/")[-2])
        return httpx.Response(200, text='<meta name="csrf-token" content="t">')

    def _resolve(self, alert_id: str) -> httpx.Response:
        status = self.answers.pop(0) if self.answers else 200
        if status is None:
            raise httpx.ConnectError("refused")
        if status == 200 and alert_id == self.open:
            self.open = None
        return httpx.Response(status)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "REQUEST_SECONDS", 0.5)


@pytest.mark.parametrize("answer", [None, 503, 409])
async def test_a_short_break_of_the_page_loses_no_round(answer: int | None) -> None:
    """It is asked again, as while the worker has not yet heard that the alarm is over."""
    system = System(answer, 200)

    await system.canary.round(1)

    assert (system.open, system.pages.left) == (None, ())


async def test_what_a_round_could_not_close_the_next_one_closes_first() -> None:
    """Otherwise no alarm would page until the ladder's next step: minutes of a path that only seems broken."""
    system = System(*[503] * 20)

    with pytest.raises(CanaryFailed, match="answered 503"):
        await system.canary.round(1)
    left = system.open
    system.answers.clear()
    await system.canary.round(1)

    assert left is not None
    assert (system.open, system.pages.left) == (None, ())


async def test_a_page_that_comes_between_two_rounds_is_closed_by_the_next_one() -> None:
    """It was on its way while the path stood still."""
    system = System()
    await system.page()

    await asyncio.wait_for(system.canary.round(1), 5)

    assert (system.open, system.pages.count) == (None, 2)


async def test_an_alert_that_nobody_can_close_stops_no_round() -> None:
    """As one of the system itself: it ends when it ends."""
    system = System(409)
    await system.page()
    system.open = None

    await system.canary.round(1)

    assert (system.open, len(system.pages.left)) == (None, 1)
