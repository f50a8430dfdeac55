"""The webhook channel: signatures as the reference library checks them, and nothing sent where it must not go."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import standardwebhooks
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from services.notify.channels import DeliveryError, DeliveryFailure
from services.notify.message import Messages
from services.notify.settings import Settings
from services.notify.webhook import Webhook, is_public, sign
from services.standalone.child import free_port
from streams.operations import WebServer, listen
from tests.services.notify.notices import ID, NOON, SECRET, hook_at, notice

Answer = Callable[[Request], Response]
Address4 = tuple[Any, Any, int, str, tuple[str, int]]


class Receiver:
    """Somebody's receiver of webhooks on loopback."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self._answer = answer or (lambda _: Response(status_code=204))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve; gives the address."""

        async def take(request: Request) -> Response:
            self.requests.append((dict(request.headers), await request.body()))
            return self._answer(request)

        app = Starlette(routes=[Route("/{path:path}", take, methods=["GET", "POST"])])
        async with WebServer(app, listen("127.0.0.1", 0), grace_seconds=1) as server:
            yield server.url


@asynccontextmanager
async def hook(
    hosts: str = "", transport: httpx.AsyncBaseTransport | None = None, **other: Any
) -> AsyncIterator[Webhook]:
    """The channel with an allow-list."""
    settings = Settings(notify_webhook_hosts=hosts, **{"notify_send_timeout_seconds": 2, **other})
    async with Webhook(settings, Messages("https://care.example"), transport) as webhook:
        yield webhook


async def failure_of(webhook: Webhook, url: str | None, secret: str | None = SECRET) -> DeliveryError:
    """How a delivery fails."""
    with pytest.raises(DeliveryError) as caught:
        await webhook.send(notice(), hook_at(url, secret))
    return caught.value


async def test_the_reference_library_accepts_what_is_sent() -> None:
    """Id, timestamp, signature and body together; the id is the notification's, so that a repeat can be dropped."""
    receiver = Receiver()
    async with receiver.running() as url, hook("127.0.0.1") as webhook:
        await webhook.send(notice(repeat=True), hook_at(f"{url}/alerts"))

    ((headers, body),) = receiver.requests
    checked = standardwebhooks.Webhook(SECRET).verify(body, headers)
    assert checked == json.loads(body)
    assert headers["webhook-id"] == str(ID)
    assert checked["type"] == "pumpwatch.alert.notification"
    assert checked["data"]["possible_repeat"] is True
    assert set(checked["data"]) == {
        *("notification_id", "alert_id", "number", "priority", "site", "raised_at", "step", "possible_repeat", "link"),
        *("thread_id", "continues_number"),
    }


@pytest.mark.parametrize("part", ["body", "webhook-id", "webhook-timestamp", "webhook-signature"])
async def test_the_reference_library_refuses_any_change(part: str) -> None:
    """One character of any signed part."""
    receiver = Receiver()
    async with receiver.running() as url, hook("127.0.0.1") as webhook:
        await webhook.send(notice(), hook_at(url))
    headers, body = receiver.requests[0]
    given = headers.get(part, "")
    changed = {**headers, part: given[:-3] + ("1" if given[-3:-2] == "0" else "0") + given[-2:]}

    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(body[:-1] if part == "body" else body, changed)


def test_a_signature_is_the_reference_librarys() -> None:
    """Byte for byte."""
    body = b'{"a":1}'

    assert sign(SECRET, "msg_1", NOON, body) == standardwebhooks.Webhook(SECRET).sign("msg_1", NOON, body.decode())


@pytest.mark.parametrize("secret", [None, "", "whsec_", "whsec_not base64!", "short"])
async def test_a_bad_secret_is_a_failure_and_nothing_is_sent(secret: str | None) -> None:
    """An unsigned webhook is worse than none: the ladder goes on by another channel."""
    receiver = Receiver()
    async with receiver.running() as url, hook("127.0.0.1") as webhook:
        failure = await failure_of(webhook, url, secret)

    assert (failure.reason, failure.retryable) == (DeliveryFailure.BAD_SECRET, False)
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("status", "reason", "retryable"),
    [
        (500, DeliveryFailure.TRY_LATER, True),
        (503, DeliveryFailure.TRY_LATER, True),
        (429, DeliveryFailure.TRY_LATER, True),
        (408, DeliveryFailure.TRY_LATER, True),
        (421, DeliveryFailure.TRY_LATER, True),
        (400, DeliveryFailure.REFUSED, False),
        (410, DeliveryFailure.REFUSED, False),
        (302, DeliveryFailure.REFUSED, False),
    ],
)
async def test_an_answer_decides_whether_to_try_again(status: int, reason: DeliveryFailure, retryable: bool) -> None:
    """Only what may pass is tried again."""
    receiver = Receiver(lambda _: Response(status_code=status))
    async with receiver.running() as url, hook("127.0.0.1") as webhook:
        failure = await failure_of(webhook, url)

    assert (failure.reason, failure.retryable) == (reason, retryable)


async def test_no_connection_serves_two_pages() -> None:
    """Two hosts may share an address: each page's receiver has to prove itself anew."""
    ports: list[int] = []

    def note(request: Request) -> Response:
        assert request.client is not None
        ports.append(request.client.port)
        return Response(status_code=204)

    async with Receiver(note).running() as url, hook("127.0.0.1") as webhook:
        for _ in range(3):
            await webhook.send(notice(), hook_at(url))

    assert len(set(ports)) == 3


async def test_a_redirect_is_not_followed() -> None:
    """Not even to a host that is allowed."""
    receiver = Receiver(lambda request: RedirectResponse(f"{request.url}/other", 307))
    async with receiver.running() as url, hook("127.0.0.1") as webhook:
        failure = await failure_of(webhook, url)

    assert failure.reason is DeliveryFailure.REFUSED
    assert len(receiver.requests) == 1


async def test_an_endless_answer_is_not_read() -> None:
    """The status is enough; a bounded piece of the body is read and the rest left."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536
            await asyncio.sleep(0)

    receiver = Receiver(lambda _: StreamingResponse(endless()))
    async with receiver.running() as url, hook("127.0.0.1") as webhook:
        async with asyncio.timeout(5):
            await webhook.send(notice(), hook_at(url))

    assert len(receiver.requests) == 1


async def test_a_receiver_that_is_not_there_is_unreachable() -> None:
    """Nothing was sent, so a retry is no repeat."""
    async with hook("127.0.0.1") as webhook:
        failure = await failure_of(webhook, f"http://127.0.0.1:{free_port()}/")

    assert (failure.reason, failure.retryable, failure.unknown) == (DeliveryFailure.UNREACHABLE, True, False)


async def test_silence_after_the_request_leaves_the_outcome_unknown() -> None:
    """The receiver may have it: the next try must be marked."""
    with listen("127.0.0.1", 0) as silent:
        async with hook("127.0.0.1", notify_send_timeout_seconds=0.4) as webhook:
            failure = await failure_of(webhook, f"http://127.0.0.1:{silent.getsockname()[1]}/")

    assert (failure.reason, failure.retryable, failure.unknown) == (DeliveryFailure.TIMED_OUT, True, True)


HOSTILE = [
    "http://hooks.example/",
    "http://127.0.0.1/",
    "https://127.0.0.1/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://0.0.0.0/",
    "https://localhost/",
    "https://localhost./",
    "https://10.0.0.1/",
    "https://10.255.255.255/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://192.168.1.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://100.64.0.1/",
    "https://100.127.255.255/",
    "https://192.0.0.192/",
    "https://192.0.2.1/",
    "https://198.18.0.1/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://[::]/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b:1::a00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:a00:1::]/",
    "https://[fc00::1]/",
    "https://[fd12:3456::1]/",
    "https://[fe80::1]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://[2001:db8::1]/",
    "https://user:password@203.0.114.1/",
    "https://hooks.example@127.0.0.1/",
]


@pytest.mark.parametrize("url", HOSTILE)
async def test_a_hostile_address_is_never_connected_to(url: str) -> None:
    """Conventions, section 4: https only, and every address of the host on the public internet."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"sent to {request.url}")

    async with hook(transport=httpx.MockTransport(refuse)) as webhook:
        failure = await failure_of(webhook, url)

    reasons = (DeliveryFailure.FORBIDDEN_ADDRESS, DeliveryFailure.NO_ADDRESS, DeliveryFailure.UNREACHABLE)
    assert failure.reason in reasons


@pytest.mark.parametrize(
    "url", [None, "", "hooks", "ftp://hooks.example/", "file:///etc/passwd", "https://", "gopher://x"]
)
async def test_what_is_no_web_address_is_a_failure(url: str | None) -> None:
    """And is not tried again."""
    async with hook() as webhook:
        failure = await failure_of(webhook, url)

    assert (failure.reason, failure.retryable) == (DeliveryFailure.NO_ADDRESS, False)


async def test_the_checked_address_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is looked up once; a name that means another address a moment later changes nothing."""
    answers = [["93.184.216.34"], ["127.0.0.1"]]
    seen: list[httpx.Request] = []
    _resolve_to(monkeypatch, lambda: answers.pop(0))

    def take(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=_streamed(b"ok"))

    async with hook(transport=httpx.MockTransport(take)) as webhook:
        await webhook.send(notice(), hook_at("https://hooks.example:8443/in"))

    (request,) = seen
    assert (request.url.host, request.url.port, request.url.path) == ("93.184.216.34", 8443, "/in")
    assert request.headers["host"] == "hooks.example:8443"
    assert request.extensions["sni_hostname"] == "hooks.example"


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["2606:2800:21f::1", "::1"]])
async def test_one_private_address_of_a_name_forbids_it(addresses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are checked, not only the first."""
    _resolve_to(monkeypatch, lambda: addresses)
    async with hook() as webhook:
        failure = await failure_of(webhook, "https://hooks.example/")

    assert (failure.reason, failure.retryable) == (DeliveryFailure.FORBIDDEN_ADDRESS, False)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111"])
def test_the_public_internet_is_public(address: str) -> None:
    """The rules do not shut out everybody."""
    assert is_public(address)


async def _streamed(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _resolve_to(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], list[str]]) -> None:
    def getaddrinfo(_host: str, port: int, *_: object, **__: object) -> list[Address4]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer()]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
