"""The page as a process of its own: news, readiness, metrics, and an end in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.services.web.ward import Browser, Ward, page_of
from tests.stack import Service, eventually

Event = tuple[str, dict[str, Any]]


@asynccontextmanager
async def browser_at(page: Service) -> AsyncIterator[Browser]:
    """Nora, signed in at the process."""
    async with httpx.AsyncClient(base_url=await page.url("http"), timeout=20, trust_env=False) as client:
        nora = Browser(client)
        assert (await nora.sign_in()).status_code == 303
        yield nora


async def events_of(answer: httpx.Response) -> AsyncIterator[Event]:
    """The stream's events with their data."""
    name = ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


async def next_change(events: AsyncIterator[Event], version: int) -> int:
    """The next version that the stream tells."""
    async for name, data in events:
        assert name == "state"
        if data["version"] != version:
            return int(data["version"])
    raise AssertionError("the stream ended")


async def test_news_come_by_themselves_until_the_session_ends(page: Service, ward: Ward) -> None:
    """A stream begins with where things stand, tells every change, and ends when the person is signed out."""
    async with browser_at(page) as nora, nora.client.stream("GET", "/events") as answer:
        events = events_of(answer)
        name, first = await anext(events)
        alert_id = await ward.stalls(seq=0)
        second = await next_change(events, first["version"])
        await ward.told(alert_id, "nora", 0)
        third = await next_change(events, second)
        await ward.ground.owner.execute("UPDATE web_session SET ended_at = now()")
        rest = [name async for name, _ in events]

    assert name == "state"
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert first["version"] < second < third
    assert rest[-1] == "signed-out"


async def test_too_many_open_pages_are_refused_aloud(ward: Ward, tmp_path: Path) -> None:
    """A page over the limit is told that it is not live, and counted; the others go on."""
    page = page_of(ward.database, tmp_path, PUMPWATCH_WEB_LIVE_PAGES="1")
    await page.start()

    async with browser_at(page) as nora, nora.client.stream("GET", "/events") as first:
        events = events_of(first)
        await anext(events)
        async with asyncio.timeout(15), nora.client.stream("GET", "/events") as refused:
            assert "does not update itself" in (await refused.aread()).decode()
        assert (await anext(events))[0] == "state"

    assert refused.status_code == 503
    assert "pumpwatch_web_live_refused_total 1.0" in await page.metrics()
    assert await page.stop() == 0


async def test_operators_see_open_alerts_and_what_is_degraded(page: Service, ward: Ward) -> None:
    """Counts by priority, never by pump or person; the page beats like every service."""
    await ward.stalls(seq=0)

    async def counted() -> str:
        text = await page.metrics()
        return text if 'pumpwatch_alerts_open{confirmed="false",priority="high"} 1.0' in text else ""

    text = await eventually(counted, what="the open alert in metrics")

    assert 'pumpwatch_monitoring_degraded{part="notify"} 0.0' in text
    assert "pumpwatch_build_info" in text
    assert "P-1" not in text
    assert "nora" not in text
    assert await ward.ground.rows("SELECT FROM service_heartbeat WHERE service = 'web'")


async def test_without_its_database_the_page_says_that_it_knows_nothing(page: Service, ward: Ward) -> None:
    """503 with plain words, readiness fails, nothing of the cause is shown; it recovers by itself."""
    name = ward.database.app.rsplit("/", 1)[1]
    admin, end = ward.ground.owner, "pg_terminate_backend(pid)"
    async with browser_at(page) as nora, httpx.AsyncClient(base_url=await page.url(), trust_env=False) as operator:

        async def unready() -> bool:
            return (await operator.get("/readyz")).status_code == 503

        async def ready() -> bool:
            return (await operator.get("/readyz")).status_code == 200

        await admin.execute("ALTER ROLE pumpwatch_app NOLOGIN")
        try:
            await admin.execute(
                f"SELECT {end} FROM pg_stat_activity WHERE usename = 'pumpwatch_app' AND datname = $1", name
            )
            lost = await nora.get("/")
            as_json = await nora.get("/api/alerts")
            await eventually(unready, timeout=30, what="readiness failing")
        finally:
            await admin.execute("ALTER ROLE pumpwatch_app LOGIN")
        await eventually(ready, timeout=30, what="readiness again")
        back = await nora.get("/")

    assert lost.status_code == as_json.status_code == 503
    assert "cannot say which alerts are open" in lost.text
    assert "pumpwatch_app" not in lost.text
    assert as_json.headers["retry-after"] == "5"
    assert back.status_code == 200


async def test_a_taken_port_is_named(page: Service, ward: Ward, tmp_path: Path) -> None:
    """The process ends with 2 and says which port it was."""
    port = (await page.url("http")).rsplit(":", 1)[1]
    second = page_of(ward.database, tmp_path / "second", PUMPWATCH_WEB_PORT=port)
    (tmp_path / "second").mkdir()

    await second.start(ready=False)

    async def ended() -> bool:
        return not second.child.running

    await eventually(ended, what="the second process ended")
    assert second.child.returncode == 2
    assert any(f"port {port}" in str(entry.get("reason")) for entry in second.log)
