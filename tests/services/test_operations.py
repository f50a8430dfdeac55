"""What operators see of a process: log lines, health, metrics, stopping."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from streams import operations
from streams.operations import Operations, PortTaken, configure_logging, listen, until_stopped
from streams.settings import CoreSettings


@pytest.fixture
def plain_logging() -> Iterator[None]:
    """Give the root logger back to pytest afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


async def nothing_wrong() -> str | None:
    """A process that is ready."""
    return None


async def database_away() -> str | None:
    """A process that waits for its database."""
    return "no database"


def operations_with(**checks: object) -> Operations:
    """Operations on a port of the OS' choice."""
    checks = {"live": lambda: None, "ready": nothing_wrong, **checks}
    return Operations(CollectorRegistry(), host="127.0.0.1", port=0, **checks)  # type: ignore[arg-type]


async def test_a_healthy_process_answers_on_all_three_addresses() -> None:
    """Metrics carry the build, and both checks say ok."""
    async with operations_with() as served, httpx.AsyncClient(base_url=served.url, trust_env=False) as client:
        metrics, livez, readyz = [await client.get(path) for path in ("/metrics", "/livez", "/readyz")]

    assert 'pumpwatch_build_info{version="' in metrics.text
    assert (livez.status_code, livez.text, readyz.status_code) == (200, "ok", 200)


async def test_a_process_that_is_not_ready_says_why() -> None:
    """The reason is in the body, and liveness is not affected."""
    async with (
        operations_with(ready=database_away) as served,
        httpx.AsyncClient(base_url=served.url, trust_env=False) as client,
    ):
        livez, readyz = await client.get("/livez"), await client.get("/readyz")

    assert (livez.status_code, readyz.status_code, readyz.text) == (200, 503, "no database")


async def test_a_process_that_is_not_live_is_not_ready_either() -> None:
    """A stuck process must not get traffic while it waits to be restarted."""
    async with (
        operations_with(live=lambda: "stuck") as served,
        httpx.AsyncClient(base_url=served.url, trust_env=False) as client,
    ):
        livez, readyz = await client.get("/livez"), await client.get("/readyz")

    assert (livez.status_code, livez.text, readyz.status_code) == (503, "stuck", 503)


def test_a_taken_port_is_named() -> None:
    """The message carries the port, so that a reader knows what to change."""
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]

        with pytest.raises(PortTaken, match=f"port {port} on 127.0.0.1 is taken") as caught:
            listen("127.0.0.1", port)

    assert caught.value.port == port


def test_logs_are_json_lines_with_service_and_utc_time(capsys: pytest.CaptureFixture[str], plain_logging: None) -> None:
    """Our own logs and libraries' have the same shape."""
    configure_logging("ingest")

    structlog.get_logger().info("listening", url="http://127.0.0.1:1")
    logging.getLogger("library").warning("odd %s", "thing")

    own, foreign = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (own["event"], own["level"], own["service"], own["url"]) == (
        "listening",
        "info",
        "ingest",
        "http://127.0.0.1:1",
    )
    assert own["timestamp"].endswith("Z")
    assert (foreign["event"], foreign["level"], foreign["service"]) == ("odd thing", "warning", "ingest")


def test_a_traceback_in_the_log_shows_no_local_variables(
    capsys: pytest.CaptureFixture[str], plain_logging: None
) -> None:
    """Locals hold telemetry, and telemetry is a patient's."""
    configure_logging("worker")
    report = "canary-report"

    try:
        raise ValueError(len(report))
    except ValueError:
        structlog.get_logger().exception("failed")

    line = capsys.readouterr().out
    assert json.loads(line)["exception"][0]["exc_type"] == "ValueError"
    assert "canary" not in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_signal_ends_the_wait(number: signal.Signals) -> None:
    """SIGTERM and SIGINT both stop in order."""
    waiting = asyncio.create_task(until_stopped())
    await asyncio.sleep(0)

    os.kill(os.getpid(), number)

    await asyncio.wait_for(waiting, 5)
    assert waiting.done()


def test_settings_come_from_the_environment_and_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A secret may be mounted as a file, and shows in no representation."""
    (tmp_path / "dsn").write_text("postgresql://hidden\n")
    monkeypatch.setenv("PUMPWATCH_POSTGRES_FILE", str(tmp_path / "dsn"))
    monkeypatch.setenv("PUMPWATCH_TOPIC_PREFIX", "a.")

    settings = CoreSettings()

    assert settings.postgres.get_secret_value() == "postgresql://hidden"
    assert settings.topic("pump.alerts.v1") == "a.pump.alerts.v1"
    assert "hidden" not in repr(settings)


def test_settings_are_frozen_and_checked() -> None:
    """A value out of range stops the start, and nothing changes later."""
    with pytest.raises(ValidationError):
        CoreSettings(partitions=0)
    with pytest.raises(ValidationError):
        CoreSettings().__setattr__("partitions", 3)


def test_the_version_is_never_missing() -> None:
    """Metrics and pages name the code that runs."""
    assert operations.version()
