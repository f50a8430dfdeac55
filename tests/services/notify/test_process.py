"""The notify process before it can do anything: wrong settings, a taken port, a database that is not there."""

from __future__ import annotations

from pathlib import Path

import httpx

from services.standalone.child import free_port
from streams.operations import listen
from tests.stack import Service, eventually

NOWHERE = {"PUMPWATCH_NOTIFY_METRICS_PORT": "0", "PUMPWATCH_KAFKA": "127.0.0.1:1"}


async def ended(service: Service) -> int | None:
    """Wait for its end; the exit code."""

    async def over() -> bool:
        return not service.child.running

    await eventually(over, what="the end of the process")
    return service.child.returncode


async def test_wrong_settings_are_named_without_their_values(tmp_path: Path) -> None:
    """Exit code 2, before anything is connected."""
    env = {**NOWHERE, "PUMPWATCH_NOTIFY_SMTP_PORT": "canary"}
    service = await Service("notify", env, tmp_path).start(ready=False)

    assert await ended(service) == 2
    assert [entry["fields"] for entry in service.log] == [["notify_smtp_port"]]
    assert "canary" not in str(service.log)


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """Exit code 1."""
    with listen("127.0.0.1", 0) as other:
        port = other.getsockname()[1]
        env = {**NOWHERE, "PUMPWATCH_NOTIFY_METRICS_PORT": str(port)}
        service = await Service("notify", env, tmp_path).start(ready=False)

        assert await ended(service) == 1
        assert str(port) in str(service.log)


async def test_without_a_database_it_is_alive_not_ready_and_stops_when_told(tmp_path: Path) -> None:
    """It waits for the database, says so, and SIGTERM still ends it in order."""
    env = {**NOWHERE, "PUMPWATCH_POSTGRES": f"postgresql://app:canary@127.0.0.1:{free_port()}/x"}
    service = await Service("notify", env, tmp_path).start(ready=False)
    async with httpx.AsyncClient(base_url=await service.url(), trust_env=False) as client:
        alive, ready = await client.get("/livez"), await client.get("/readyz")

    assert await service.stop() == 0
    assert (alive.status_code, ready.status_code, ready.text) == (200, 503, "not connected to PostgreSQL")
    assert "canary" not in service.child.log.read_text()
