"""The whole system by one command: it starts, says what to open, keeps itself up, keeps its data, and stops."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from shutil import rmtree

import asyncpg
import httpx
import pytest

from streams.operations import listen
from tests.stack import eventually
from tests.standalone import Standalone

KEYS = {"web", "ingest", "kafka", "postgres", "gateway_id", "gateway_token", "mailbox", "metrics"}


@pytest.fixture
async def place() -> AsyncIterator[Path]:
    """A folder that the database's own user may reach; not pytest's, which only its owner may enter."""
    folder = Path(tempfile.mkdtemp(prefix="pumpwatch-standalone-"))
    yield folder
    rmtree(folder)


@pytest.fixture
async def standalone(place: Path) -> AsyncIterator[Standalone]:
    """A stack, not yet started, and stopped at the end."""
    stack = Standalone(place)
    yield stack
    await stack.stop()


async def alerts(dsn: str) -> dict[int, str]:
    """The rule of every alert by its number."""
    connection = await asyncpg.connect(dsn)
    try:
        return {row["number"]: row["rule_id"] for row in await connection.fetch("SELECT number, rule_id FROM v_alert")}
    finally:
        await connection.close()


@pytest.mark.timeout(300)
async def test_the_stack_from_its_first_start_to_its_second(standalone: Standalone) -> None:
    """It comes up, alerts, refuses a second one beside it, stops, and goes on with the same data."""
    await standalone.start()
    status = await standalone.status()
    await _everything_answers(status)
    # Which number it has is the database's affair: a transaction that is tried again takes another one.
    await standalone.until("/alerts/", timeout=120)
    opened = await alerts(str(status["postgres"]))
    beside = Standalone(standalone.var.parent, {"PUMPWATCH_VAR": str(standalone.var)})
    beside.child.log = beside.child.log.with_name("beside.txt")
    beside.child.start()
    assert await beside.child.ended() == 1
    assert f"a stack already runs in {standalone.var}" in beside.said

    load = await standalone.command("emulate", "--pumps", "20", "--rate", "200", "--seconds", "1", "--json")
    assert json.loads(load.out)["accepted"] == 200

    assert await standalone.stop() == 0
    assert (await standalone.command("status")).code == 1
    await standalone.start()

    again = await standalone.status()
    assert (again["gateway_token"], again["people"]) == (status["gateway_token"], status["people"])
    assert opened
    assert opened.items() <= (await alerts(again["postgres"])).items()
    assert await standalone.stop() == 0


async def _everything_answers(status: dict[str, object]) -> None:
    assert status.keys() >= KEYS
    metrics = status["metrics"]
    assert isinstance(metrics, dict)
    assert metrics.keys() == {"ingest", "worker", "notify", "web", "emulator", "watchdog"}
    async with httpx.AsyncClient(timeout=10, trust_env=False, follow_redirects=True) as client:
        for address in metrics.values():
            assert "pumpwatch_build_info" in (await client.get(address)).text
        for name in ("web", "mailbox"):
            assert (await client.get(str(status[name]))).status_code == 200


@pytest.mark.timeout(300)
async def test_what_dies_is_started_again_and_a_killed_stack_can_be_started_again(standalone: Standalone) -> None:
    """A service, the broker and the database come back by themselves; after kill -9 nothing is in the way."""
    await standalone.start()
    for module, name in (("streams", "worker"), ("kafka.Kafka", "Kafka"), ("-D", "PostgreSQL")):
        os.kill(standalone.pid_of(module), signal.SIGKILL)
        await standalone.until(f"{name} ended with code -9")
        await standalone.until(f"{name} is up again")
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        ready = (await standalone.status())["metrics"]["worker"].replace("/metrics", "/readyz")

        async def flows() -> bool:
            try:
                return (await client.get(ready)).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(flows, timeout=60, what="the worker ready after its broker and database died")

    standalone.child.kill()
    await standalone.start()

    assert await standalone.stop() == 0


async def test_a_taken_port_is_named_and_nothing_is_started(place: Path) -> None:
    """The message is enough to go on, and no part is left behind."""
    with listen("127.0.0.1", 0) as other:
        port = other.getsockname()[1]
        stack = Standalone(place, {"PUMPWATCH_WEB_PORT": str(port)})
        stack.child.start()

        assert await stack.child.ended() == 1

    assert f"port {port} for the care-team page is taken" in stack.said
    assert "PUMPWATCH_WEB_PORT" in stack.said
    assert "Traceback" not in stack.said
    assert not (place / "var" / "kafka").exists()


async def test_without_network_and_without_jars_it_says_so(place: Path) -> None:
    """A first start needs the network once; the message says for what."""
    nowhere = "http://127.0.0.1:9"
    env = {"PUMPWATCH_STANDALONE_JARS": str(place / "jars"), "HTTPS_PROXY": nowhere, "https_proxy": nowhere}
    stack = Standalone(place, env)
    stack.child.start()

    assert await stack.child.ended() == 1

    assert "for Kafka: no network" in stack.said
    assert "Traceback" not in stack.said


async def test_a_wrong_setting_is_named(place: Path) -> None:
    """Exit code 2, one line, no traceback."""
    stack = Standalone(place, {"PUMPWATCH_WEB_PORT": "eighty"})
    stack.child.start()

    assert await stack.child.ended() == 2

    assert "wrong setting PUMPWATCH_WEB_PORT" in stack.said
    assert "Traceback" not in stack.said
