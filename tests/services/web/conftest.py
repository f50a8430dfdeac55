"""The page over a real database, in this process and as one of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from services.web.access import Desk
from services.web.app import create_app
from services.web.attempts import Attempts
from services.web.live import Feed
from services.web.metrics import Metrics
from services.web.rendering import Pages
from services.web.sessions import Lifetime
from services.web.settings import Settings
from streams.rules_in_force import RulesInForce
from tests.integration.ground import RULEBOOK
from tests.services.web.ward import Browser, Ward, page_of, ward_in
from tests.stack import Database, Service


class Clock:
    """Service time that a test can move on."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        """The time now."""
        return datetime.now(UTC) + self.ahead


@pytest.fixture
async def ward(database: Database) -> AsyncIterator[Ward]:
    """People and services; pumps where a test wants them."""
    async with ward_in(database) as ward:
        yield ward


@pytest.fixture
def clock() -> Clock:
    """Of the application in this process."""
    return Clock()


@pytest.fixture
def settings() -> Settings:
    """Of the application in this process."""
    return Settings(web_public_url="http://page.test")


@pytest.fixture
def desk(ward: Ward, clock: Clock, settings: Settings) -> Desk:
    """What requests share, over the ward's database."""
    metrics, lifetime = Metrics(), Lifetime(settings.idle, settings.longest)
    return Desk(
        settings=settings,
        store=ward.ground.store,
        in_force=RulesInForce(RULEBOOK, registry=metrics.registry),
        feed=Feed(ward.database.app, lifetime, metrics, clock),
        metrics=metrics,
        attempts=Attempts(),
        hashing=asyncio.Semaphore(2),
        clock=clock,
        pages=Pages(),
    )


@pytest.fixture
def app(desk: Desk) -> Starlette:
    """The application."""
    return create_app(desk)


@pytest.fixture
async def browser(app: Starlette, settings: Settings) -> AsyncIterator[Browser]:
    """Somebody who has not signed in."""
    transport = httpx.ASGITransport(app=app, client=("192.0.2.7", 1234))
    async with httpx.AsyncClient(transport=transport, base_url=settings.web_public_url) as client:
        yield Browser(client)


@pytest.fixture
async def nora(browser: Browser) -> Browser:
    """Nora, signed in."""
    answer = await browser.sign_in()
    assert answer.status_code == 303
    return browser


@pytest.fixture
async def ben(app: Starlette, settings: Settings) -> AsyncIterator[Browser]:
    """Ben, signed in at another machine."""
    transport = httpx.ASGITransport(app=app, client=("192.0.2.8", 1234))
    async with httpx.AsyncClient(transport=transport, base_url=settings.web_public_url) as client:
        other = Browser(client)
        assert (await other.sign_in("ben")).status_code == 303
        yield other


@pytest.fixture
async def page(ward: Ward, tmp_path: Path) -> AsyncIterator[Service]:
    """The page's process."""
    service = page_of(ward.database, tmp_path)
    await service.start()
    yield service
    assert await service.stop() == 0
