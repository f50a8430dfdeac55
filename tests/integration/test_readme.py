"""The README's own example, as it stands there: a stall report is an alert and a mail, and a person ends the ladder."""

from __future__ import annotations

import asyncio
import html
import json
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from shutil import rmtree
from typing import Any

import asyncpg
import httpx
import pytest

from tests.stack import ROOT, eventually
from tests.standalone import Standalone

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROMISED = timedelta(seconds=2)


def commands(heading: str) -> str:
    """The first block of shell commands under a heading."""
    found = re.search(rf"^## {heading}\n.*?^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


@pytest.fixture
async def standalone() -> AsyncIterator[Standalone]:
    """A running stack without the emulator's pumps."""
    folder = Path(tempfile.mkdtemp(prefix="pumpwatch-readme-"))
    stack = Standalone(folder, {"PUMPWATCH_STANDALONE_EMULATOR": "false"})
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()
        rmtree(folder)


async def one(dsn: str, query: str, *arguments: object) -> asyncpg.Record | None:
    """The first row."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchrow(query, *arguments)
    finally:
        await connection.close()


async def test_the_example_opens_an_alert_mails_it_and_a_person_ends_its_ladder(standalone: Standalone) -> None:
    """Alert and mail are there two seconds after the report, by the system's own record of when it did what."""
    status = await standalone.status()

    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-eu", "-c", commands("One report in, one alert out")],
        env=standalone.env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"accepted": 1, "rejected": []}
    alert = await _opened(status)
    mail = await _mailed(status, alert["number"])
    assert mail["to"] == ["nurse@demo.example"]
    assert status["pump_id"] not in json.dumps(mail)
    await _confirmed_on_the_page(status, alert["number"])
    await _ladder_ended(status, alert["alert_id"])


async def _opened(status: dict[str, Any]) -> asyncpg.Record:
    query = """
        SELECT alert_id, number, priority, opened_at - received_at AS after FROM v_alert JOIN v_reading USING (pump_id)
        WHERE pump_id = $1 AND rule_id = 'DLV-01'
    """
    alert = await eventually(lambda: one(status["postgres"], query, status["pump_id"]), what="the stall in v_alert")
    assert alert is not None
    assert alert["priority"] == "high"
    assert alert["after"] < PROMISED
    return alert


async def _mailed(status: dict[str, Any], number: int) -> dict[str, Any]:
    query = """
        SELECT sent_at - received_at AS after
        FROM v_notification JOIN v_alert USING (alert_id) JOIN v_reading USING (pump_id)
        WHERE number = $1 AND channel = 'email' AND sent_at IS NOT NULL ORDER BY sent_at
    """
    sent = await eventually(lambda: one(status["postgres"], query, number), what="the mail on record")
    assert sent is not None
    assert sent["after"] < PROMISED
    async with httpx.AsyncClient(base_url=status["mailbox"], timeout=10, trust_env=False) as client:
        messages: list[dict[str, Any]] = (await client.get("/api/messages")).json()
    found = [message for message in messages if f"HIGH alert {number} " in message["subject"]]
    assert len(found) == 1
    return found[0]


async def _confirmed_on_the_page(status: dict[str, Any], number: int) -> None:
    origin = {"origin": status["web"]}
    async with httpx.AsyncClient(
        base_url=status["web"], timeout=10, trust_env=False, follow_redirects=True, headers=origin
    ) as client:
        answer = await client.post("/sign-in", data={"name": "nurse", "password": status["people"]["nurse"]})
        assert answer.status_code == 200
        page = (await client.get(f"/alerts/{number}")).text
        form = page[page.index(f'action="/alerts/{number}/confirm"') :]
        fields = {
            name: html.unescape(found[1])
            for name in ("csrf", "raised_at")
            if (found := re.search(rf'name="{name}" value="([^"]*)"', form))
        }
        answer = await client.post(f"/alerts/{number}/confirm", data=fields)
        assert answer.status_code == 200
        assert "Nora Nurse" in answer.text


async def _ladder_ended(status: dict[str, Any], alert_id: object) -> None:
    confirmed = await one(status["postgres"], "SELECT confirmed_by FROM v_alert WHERE alert_id = $1", alert_id)
    assert confirmed is not None
    assert confirmed["confirmed_by"] == "nurse"

    async def ended() -> bool:
        row = await one(status["postgres"], "SELECT ended_at, next_step_at FROM ladder WHERE alert_id = $1", alert_id)
        return row is not None and row["ended_at"] is not None

    await eventually(ended, what="the end of the ladder")


def test_every_file_that_the_readme_links_to_is_there() -> None:
    """A promise whose test has gone is no promise."""
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`make ([a-z]+)`", README))))
def test_every_target_that_the_readme_names_is_there(name: str) -> None:
    """What the README tells people to type works."""
    assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"PUMPWATCH_[A-Z_]+[A-Z]", README))))
async def test_every_setting_that_the_readme_names_exists(name: str) -> None:
    """A setting that nothing reads misleads; any may be given by a file, and some are a file."""
    settings = [*ROOT.glob("services/**/*.py"), *ROOT.glob("streams/**/*.py")]
    field = name.removeprefix("PUMPWATCH_").lower()
    fields = f"{field}|{field.removesuffix('_file')}"

    assert any(re.search(rf"^    ({fields}): ", path.read_text(encoding="utf-8"), re.MULTILINE) for path in settings)
