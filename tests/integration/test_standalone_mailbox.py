"""The mailbox of one machine, as a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import aiosmtplib
import httpx
import pytest

from services.standalone.child import free_port
from streams.operations import listen
from tests.services.notify.notices import ID, notice
from tests.services.notify.test_mail import ADA, mail_over
from tests.stack import Service, eventually

PORTS = {"PUMPWATCH_MAILBOX_PORT": "0", "PUMPWATCH_MAILBOX_SMTP_PORT": "0"}


async def test_mails_and_webhooks_are_shown_kept_and_forgotten(tmp_path: Path) -> None:
    """Both in one list, as JSON and as a page where nothing that was sent becomes markup; the folder keeps a copy."""
    service = Service("mailbox", {**PORTS, "PUMPWATCH_MAILBOX_FOLDER": str(tmp_path / "mails")}, tmp_path)
    await service.start(ready=False)
    try:
        port = int((await service.url("smtp")).rsplit(":", 1)[1])
        async with httpx.AsyncClient(base_url=await service.url("http"), trust_env=False) as client:
            async with mail_over(port) as mail:
                await mail.send(notice(site="nørth"), ADA)
            taken = await client.post("/webhook", content=b"<b>hello</b>", headers={"webhook-id": "w1"})
            mail_shown, hook_shown = (await client.get("/api/messages")).json()
            page = (await client.get("/")).text
            too_large = await client.post("/webhook", content=b"x" * 300_000)
            gone = await client.delete("/api/messages")
            left = (await client.get("/api/messages")).json()
    finally:
        code = await service.stop()

    assert set(mail_shown) == {"id", "received_at", "from", "to", "subject", "text", "headers"}
    assert (mail_shown["from"], mail_shown["to"]) == ("pumpwatch@localhost", ["ada@care.example"])
    assert mail_shown["subject"] == "[Pumpwatch] HIGH alert 7 at nørth"
    assert mail_shown["headers"]["X-Pumpwatch-Notification-Id"] == str(ID)
    assert {"Message-ID", "Date"} <= set(mail_shown["headers"])
    assert "Alert 7 needs a person." in mail_shown["text"]
    assert (hook_shown["from"], hook_shown["text"], hook_shown["headers"]["webhook-id"]) == (
        "/webhook",
        "<b>hello</b>",
        "w1",
    )
    assert "&lt;b&gt;hello" in page
    assert "<b>hello" not in page
    assert (taken.status_code, too_large.status_code, gone.status_code, left, code) == (204, 413, 204, [], 0)
    assert [json.loads(path.read_text())["id"] for path in sorted((tmp_path / "mails").iterdir())] == [1, 2]


async def test_a_new_start_counts_on_and_keeps_no_more_than_it_should(tmp_path: Path) -> None:
    """Numbers of files go on after a restart; the oldest go first."""
    folder = tmp_path / "mails"
    folder.mkdir()
    (folder / "00000007.json").write_text("{}")
    env = {**PORTS, "PUMPWATCH_MAILBOX_FOLDER": str(folder), "PUMPWATCH_MAILBOX_KEPT": "2"}
    service = Service("mailbox", env, tmp_path)
    await service.start(ready=False)
    try:
        async with httpx.AsyncClient(base_url=await service.url("http"), trust_env=False) as client:
            for _ in range(3):
                await client.post("/webhook", content=b"hello")
            shown = (await client.get("/api/messages")).json()
    finally:
        await service.stop()

    assert [message["id"] for message in shown] == [9, 10]
    assert sorted(path.name for path in folder.iterdir()) == ["00000009.json", "00000010.json"]


@pytest.mark.parametrize("taken", ["MAILBOX_PORT", "MAILBOX_SMTP_PORT"])
async def test_a_taken_port_is_named(taken: str, tmp_path: Path) -> None:
    """The process ends and says which."""
    with listen("127.0.0.1", 0) as other:
        port = other.getsockname()[1]
        service = Service("mailbox", {**PORTS, f"PUMPWATCH_{taken}": str(port)}, tmp_path)
        await service.start(ready=False)

        async def ended() -> bool:
            return not service.child.running

        await eventually(ended, what="the end of the process")

    assert service.child.returncode == 1
    assert [entry["reason"] for entry in service.log if entry["event"] == "cannot start"] == [
        f"[Errno 98] port {port} on 127.0.0.1 is taken by another process"
    ]


async def test_a_message_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """The mailbox's memory has a limit."""
    smtp_port = free_port()
    service = Service("mailbox", {**PORTS, "PUMPWATCH_MAILBOX_SMTP_PORT": str(smtp_port)}, tmp_path)
    await service.start(ready=False)
    try:
        await service.url("smtp")
        with pytest.raises(aiosmtplib.SMTPResponseException) as caught:
            await aiosmtplib.send(
                b"Subject: big\r\n\r\n" + b"x" * 400_000,
                sender="a@care.example",
                recipients=["b@care.example"],
                hostname="127.0.0.1",
                port=smtp_port,
            )
    finally:
        await service.stop()

    assert caught.value.code == 552
