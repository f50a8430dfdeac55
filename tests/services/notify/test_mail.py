"""The e-mail channel against real mail servers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from services.notify.channels import DeliveryError, DeliveryFailure
from services.notify.mail import Mail
from services.notify.message import Messages
from services.notify.settings import Settings
from services.standalone.child import free_port
from streams.operations import listen
from tests.services.notify.care import MailServer
from tests.services.notify.notices import ALERT, ID, mail_to, notice

ADA = mail_to("ada@care.example")


@asynccontextmanager
async def mail_over(port: int, **settings: Any) -> AsyncIterator[Mail]:
    """The channel with short limits."""
    chosen = Settings(notify_smtp_port=port, **{"notify_send_timeout_seconds": 2, **settings})
    async with Mail(chosen, Messages("https://care.example/")) as mail:
        yield mail


async def failure_of(mail: Mail, address: str | None = "ada@care.example", **changes: Any) -> DeliveryError:
    """How a delivery fails."""
    with pytest.raises(DeliveryError) as caught:
        await mail.send(notice(**changes), mail_to(address))
    return caught.value


async def test_a_message_arrives_with_its_id_priority_and_link() -> None:
    """One conversation; the ids let a mail program and a person recognise a repeat."""
    async with MailServer() as server, mail_over(server.port) as mail:
        await mail.send(notice(), ADA)

    (taken,) = server.taken
    assert server.subjects() == ["[Pumpwatch] HIGH alert 7 at north"]
    assert server.message_ids() == [f"<{ID}@pumpwatch>"]
    for line in (
        f"X-Pumpwatch-Notification-Id: {ID}",
        "Importance: high",
        "To: ada@care.example",
        "Raised:    2026-11-03 12:00:00 UTC",
        "https://care.example/alerts/22222222-2222-4222-8222-222222222222",
    ):
        assert line in taken


async def test_messages_of_a_thread_name_it_whatever_their_alert() -> None:
    """A mail program shows them together; an alert that took over a thread goes on in it."""
    other = UUID("33333333-3333-4333-8333-333333333333")
    async with MailServer() as server, mail_over(server.port) as mail:
        await mail.send(notice(), ADA)
        await mail.send(notice(alert_id=other, continues=5, taken_over=True), ADA)

    for taken in server.taken:
        assert f"In-Reply-To: <thread-{ALERT}@pumpwatch>" in taken
        assert f"References: <thread-{ALERT}@pumpwatch>" in taken


async def test_a_connection_is_kept_and_a_lost_one_is_replaced_unnoticed() -> None:
    """A server that dropped an idle connection costs no failure and no repeat."""
    port = free_port()
    async with mail_over(port) as mail:
        first = MailServer()
        first.port = port
        async with first:
            await mail.send(notice(), ADA)
            await mail.send(notice(), ADA)
            sessions = len(first.sessions)
        second = MailServer()
        second.port = port
        async with second:
            await mail.send(notice(), ADA)

    assert (sessions, len(first.taken), len(second.taken)) == (1, 2, 1)


@pytest.mark.parametrize(
    ("answer", "reason", "retryable"),
    [
        ("550 no such person", DeliveryFailure.REFUSED_ADDRESS, False),
        ("450 mailbox busy", DeliveryFailure.TRY_LATER, True),
    ],
)
async def test_an_address_is_refused_for_good_or_for_now(answer: str, reason: DeliveryFailure, retryable: bool) -> None:
    """5xx is final, 4xx is not; nothing was handed over, so a retry is no repeat."""
    async with MailServer(rcpt=lambda _: answer) as server, mail_over(server.port) as mail:
        failure = await failure_of(mail)

    assert (failure.reason, failure.retryable, failure.unknown) == (reason, retryable, False)


@pytest.mark.parametrize(
    ("answer", "reason", "retryable"),
    [("554 looks like spam", DeliveryFailure.REFUSED, False), ("451 try later", DeliveryFailure.TRY_LATER, True)],
)
async def test_a_message_is_refused_for_good_or_for_now(answer: str, reason: DeliveryFailure, retryable: bool) -> None:
    """The server has said that it did not take it."""
    async with MailServer(data=lambda _: answer) as server, mail_over(server.port) as mail:
        failure = await failure_of(mail)

    assert (failure.reason, failure.retryable, failure.unknown) == (reason, retryable, False)


async def test_silence_after_the_message_leaves_the_outcome_unknown() -> None:
    """The server may have it: the next try must be marked."""
    never = asyncio.Event()
    async with (
        MailServer(data=lambda _: never) as server,
        mail_over(server.port, notify_send_timeout_seconds=0.4) as mail,
    ):
        failure = await failure_of(mail)
        never.set()

    assert (failure.reason, failure.retryable, failure.unknown) == (DeliveryFailure.TIMED_OUT, True, True)


async def test_a_server_that_never_greets_is_given_up() -> None:
    """It accepts connections and says nothing; nobody waits longer than half of the limit."""
    with listen("127.0.0.1", 0) as silent:
        async with mail_over(silent.getsockname()[1], notify_send_timeout_seconds=0.4) as mail:
            failure = await failure_of(mail)

    assert (failure.reason, failure.retryable, failure.unknown) == (DeliveryFailure.UNREACHABLE, True, False)


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    """Refused at once, and worth another try."""
    async with mail_over(free_port()) as mail:
        failure = await failure_of(mail)

    assert (failure.reason, failure.retryable) == (DeliveryFailure.UNREACHABLE, True)


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        "ada",
        "@care.example",
        "ada@",
        "ada@a b",
        "a@b\r\nBcc: eve@x.example",
        "ada@care.example, eve@x.example",
    ],
)
async def test_an_unusable_address_is_a_failure_without_a_conversation(address: str | None) -> None:
    """Nothing that a person typed as an address can add a line or a second receiver."""
    async with MailServer() as server, mail_over(server.port) as mail:
        failure = await failure_of(mail, address)

    assert (failure.reason, failure.retryable) == (DeliveryFailure.NO_ADDRESS, False)
    assert server.taken == []


async def test_a_site_cannot_start_a_header() -> None:
    """Line breaks and other control characters become spaces."""
    async with MailServer() as server, mail_over(server.port) as mail:
        await mail.send(notice(site="north\r\nBcc: eve@x.example\x1b[31m"), ADA)

    headers = server.taken[0].split("\n\n", 1)[0]
    assert "\nBcc:" not in headers
    assert "\x1b" not in server.taken[0]


async def test_the_limit_on_connections_holds() -> None:
    """Twenty messages over two connections."""
    async with MailServer() as server, mail_over(server.port, notify_concurrency=2) as mail:
        await asyncio.gather(*(mail.send(notice(number=number), ADA) for number in range(20)))

    assert len(server.taken) == 20
    assert len(server.sessions) == 2
