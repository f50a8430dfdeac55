"""A synthetic alarm through the real path, and what the watchdog says when a part of it stops (SYS-03, promise G6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.standalone import demo
from services.standalone.folder import Folder
from streams import people
from streams.domain.escalation import Role
from tests.services.notify.care import Mails, mailbox_of
from tests.stack import Database, Stack, eventually

QUICK = {
    "PUMPWATCH_WATCHDOG_PERIOD_SECONDS": "1",
    "PUMPWATCH_WATCHDOG_MEDIUM_SECONDS": "10",
    "PUMPWATCH_WATCHDOG_HIGH_SECONDS": "15",
}


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[asyncpg.Pool[Any]]:
    """As the application's role."""
    async with asyncpg.create_pool(database.app, min_size=1, max_size=2) as connections:
        yield connections


async def _watched(stack: Stack, pool: asyncpg.Pool[Any], tmp_path: Path, mails: Mails) -> None:
    """The whole path, with a nurse at every site, and the watchdog over it."""
    stack.env["PUMPWATCH_NOTIFY_WEBHOOK_HOSTS"] = "127.0.0.1"
    nurse = people.NewPerson(person_id="nora", display_name="Nora", email="nora@care.example", ladder_role=Role.PRIMARY)
    await people.add(pool, nurse, "a long enough password")
    folder = Folder(tmp_path / "var")
    folder.take(0, print)
    files = await demo.furnish_watchdog(pool, folder, "http://127.0.0.1:1/pages", datetime.now(UTC))
    folder.leave()
    await stack.start("ingest", "worker", "notify", "web")
    env = {
        "PUMPWATCH_WATCHDOG_INGEST_URL": await stack.services["ingest"].url("http"),
        "PUMPWATCH_WATCHDOG_WEB_URL": await stack.services["web"].url("http"),
        "PUMPWATCH_WATCHDOG_SMTP_PORT": str(mails.smtp_port),
        **{f"PUMPWATCH_WATCHDOG_{name.upper()}_FILE": str(path) for name, path in files.items()},
        **QUICK,
    }
    watchdog = await stack.service("watchdog", env).start()
    await people.set_webhook(pool, demo.WATCHDOG, f"{await watchdog.url('pages')}/pages")


async def _passes(stack: Stack) -> float:
    text = await stack.services["watchdog"].metrics()
    lines = [line for line in text.splitlines() if line.startswith('pumpwatch_canary_rounds_total{outcome="passed"}')]
    return float(lines[0].rsplit(" ", 1)[1]) if lines else 0.0


@pytest.mark.timeout(300)
async def test_a_stopped_worker_is_told_by_another_way_and_its_return_too(
    stack: Stack, pool: asyncpg.Pool[Any], tmp_path: Path
) -> None:
    """Rounds pass and page nobody else; a paused worker brings MEDIUM and HIGH; once it goes on, all is well again."""
    async with mailbox_of(stack) as mails:
        await _watched(stack, pool, tmp_path, mails)

        async def three() -> bool:
            return await _passes(stack) >= 3

        await eventually(three, timeout=100, what="three rounds")
        before = await mails.all()
        stack.services["worker"].pause()
        broken = await _subjects(mails, len(before) + 2)
        stack.services["worker"].resume()
        mended = await _subjects(mails, len(before) + 3)

    assert [mail for mail in before if "nora@care.example" in str(mail)] == []
    assert broken[len(before) :] == [
        "[Pumpwatch watchdog] MEDIUM: monitoring may be degraded",
        "[Pumpwatch watchdog] HIGH: monitoring degraded",
    ]
    assert mended[-1] == "[Pumpwatch watchdog] monitoring works again"
    assert await pool.fetchval("SELECT count(DISTINCT pump_id) FROM v_alert") == 1


async def _subjects(mails: Mails, count: int) -> list[str]:
    return [mail["subject"] for mail in await mails.until(count, timeout=60)]
