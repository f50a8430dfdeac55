"""The process: it plays a scenario against an ingest, says how it goes, and prints what must be known beforehand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.emulator.settings import Settings
from streams.operations import listen
from tests.services.emulator.fake_ingest import FakeIngest
from tests.stack import ROOT, Service, eventually


def ask(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command and return what it said."""
    return subprocess.run(
        [sys.executable, "-m", "services.emulator", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


async def test_the_demo_reaches_ingest_through_its_gateways(tmp_path: Path) -> None:
    """Each gateway under its own id and token where it has one, the others under the common one."""
    async with FakeIngest() as ingest:
        tokens = {"ward": "pwg_ward", "clinic": "pwg_clinic"}
        env = {
            "PUMPWATCH_EMULATOR_INGEST_URL": ingest.url,
            "PUMPWATCH_EMULATOR_METRICS_PORT": "0",
            "PUMPWATCH_EMULATOR_GATEWAY_ID": "home-1",
            "PUMPWATCH_EMULATOR_GATEWAY_TOKEN": "pwg_common",
            "PUMPWATCH_EMULATOR_GATEWAY_TOKENS": json.dumps(tokens),
            "PUMPWATCH_EMULATOR_RUN": "4096",
        }
        service = await Service("emulator", env, tmp_path).start()
        await ingest.until(lambda seen: len({report["gateway_id"] for report in seen.taken}) == 3, 20)
        seen = {(r.authorization, report["gateway_id"]) for r in ingest.requests for report in r.reports}
        sent = {report["pump_id"] for report in ingest.taken}

        async def counted() -> bool:
            return 'pumpwatch_emulator_reports_total{outcome="accepted"}' in await service.metrics()

        await eventually(counted, what="the count of accepted reports")
        metrics = await service.metrics()
        code = await service.stop()

    assert seen == {("Bearer pwg_ward", "ward"), ("Bearer pwg_clinic", "clinic"), ("Bearer pwg_common", "home-1")}
    assert {"demo-stall-1000", "demo-mri-overdue-1000"} <= sent
    assert code == 0
    log = service.child.log.read_text()
    assert "pwg_" not in log + metrics
    assert "demo-stall" not in log + metrics


def test_profiles_are_printed_as_lines_of_json() -> None:
    """Named by the run that the environment or the argument gives."""
    by_argument = ask("profiles", "--scenario", "demo", "--run", "4096")
    by_setting = ask("profiles", env={"PUMPWATCH_EMULATOR_RUN": "4096"})

    documents = [json.loads(line) for line in by_argument.stdout.splitlines()]
    assert by_argument.stdout == by_setting.stdout
    assert "demo-stall-1000" in {document["pump_id"] for document in documents}


def test_gateways_are_printed_by_name() -> None:
    """So that whoever runs the demo can give each a token."""
    assert ask("gateways").stdout.split() == ["ward", "home", "clinic", "valley"]


def test_a_scenario_that_cannot_be_used_is_an_error_in_words() -> None:
    """No traceback."""
    answer = ask("run", "--scenario", "nope")

    assert answer.returncode == 2
    assert answer.stderr == "scenario nope: cannot be read; there are demo, load, quiet\n"


@pytest.mark.parametrize("value", ["{pwg_secret", '["pwg_secret"]', '{"a": "pwg_secret", "b": 1}'])
def test_tokens_must_be_a_map_and_are_never_shown(value: str) -> None:
    """The error names the setting and not its value."""
    secret: dict[str, Any] = {"emulator_gateway_tokens": value}

    with pytest.raises(ValidationError, match="must be a JSON object of strings") as caught:
        Settings(**secret)

    assert "pwg_secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("PUMPWATCH_EMULATOR_METRICS_PORT", "99999", "settings refused: emulator_metrics_port\n"),
        ("PUMPWATCH_EMULATOR_INGEST_URL", "ftp://x", "settings refused: emulator_ingest_url\n"),
        (
            "PUMPWATCH_EMULATOR_GATEWAY_TOKENS",
            "pwg_secret",
            "settings refused: Value error, emulator_gateway_tokens must be a JSON object of strings\n",
        ),
    ],
)
def test_a_wrong_setting_is_an_error_in_words(name: str, value: str, complaint: str) -> None:
    """It names the setting, never the value."""
    answer = ask("run", env={name: value})

    assert (answer.returncode, answer.stderr) == (2, complaint)


def test_a_taken_port_is_named() -> None:
    """Another process listens there."""
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        answer = ask("run", env={"PUMPWATCH_EMULATOR_METRICS_PORT": str(port)})

    assert answer.returncode == 2
    assert f"port {port} on 127.0.0.1 is taken" in answer.stdout
