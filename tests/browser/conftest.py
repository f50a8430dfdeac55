"""A real browser at the real page: its own process, over a database of the test's own."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Browser, Page, ViewportSize, async_playwright, expect

from tests.services.web.ward import PASSWORD, Ward, page_of, ward_in
from tests.stack import Database, Service

SWITCHES: Final = (
    "--no-sandbox",
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE: Final = ViewportSize(width=360, height=740)
DESK: Final = ViewportSize(width=1100, height=900)
PATIENCE_MS: Final = 15_000


@dataclass
class Screen:
    """A browser window at the page; `complaints` has what its console said and what was not found."""

    page: Page
    url: str
    complaints: list[str]

    async def sign_in(self, name: str = "nora", path: str = "/") -> None:
        """Fill in the form and wait for the page one came for."""
        await self.page.goto(self.url + path)
        await self.page.get_by_label("Name").fill(name)
        await self.page.get_by_label("Password").fill(PASSWORD)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.live()

    async def live(self) -> None:
        """Wait until the page says that it is live."""
        await expect(self.page.locator("#live-words")).to_contain_text("Live.", timeout=PATIENCE_MS)


class Screens:
    """Opens windows in one browser, each with cookies of its own."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser, self.url = browser, url

    async def open(self, size: ViewportSize = DESK, *, scripts: bool = True, dark: bool = False) -> Screen:
        """A fresh window."""
        context = await self._browser.new_context(
            viewport=size, java_script_enabled=scripts, color_scheme="dark" if dark else "light"
        )
        context.set_default_timeout(PATIENCE_MS)
        page = await context.new_page()
        screen = Screen(page, self.url, [])
        page.on("console", lambda message: screen.complaints.append(message.text))
        page.on("pageerror", lambda error: screen.complaints.append(str(error)))
        return screen


@pytest.fixture
async def ward(database: Database) -> AsyncIterator[Ward]:
    """People, and a pump that has run for 20 hours."""
    async with ward_in(database) as ward:
        await ward.runs()
        yield ward


@pytest.fixture
async def page(ward: Ward, tmp_path: Path) -> AsyncIterator[Service]:
    """The page's process; it ends in order although browsers still listen for news."""
    service = page_of(ward.database, tmp_path)
    await service.start()
    yield service
    assert await service.stop() == 0


@pytest.fixture
async def screens(page: Service) -> AsyncIterator[Screens]:
    """Chromium."""
    program = shutil.which("chromium")
    assert program is not None, "the browser tests need chromium"
    url = await page.url("http")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(SWITCHES))
        yield Screens(browser, url)
        await browser.close()
