"""A mailbox for one machine: ``python -m services.standalone.mailbox`` takes every mail and webhook, and shows them.

It listens on loopback only, keeps the last messages in memory and each one in a folder, and sends nothing on.
"""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import html
import itertools
import json
import logging
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session
from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from streams.operations import STOPPING_SECONDS, PortTaken, WebServer, configure_logging, listen, until_stopped
from streams.settings import CoreSettings

LOOPBACK: Final = "127.0.0.1"
MESSAGE_BYTES: Final = 256 * 1024
CLOSE_SECONDS: Final = 2.0


class Settings(CoreSettings):
    """Ports, and how much is kept. A port of 0 takes a free one."""

    mailbox_port: int = Field(default=8025, ge=0, le=65535)
    mailbox_smtp_port: int = Field(default=1025, ge=0, le=65535)
    mailbox_folder: Path | None = None
    """Each message is also written to a file here, at most `mailbox_kept` of them; None: in memory only."""
    mailbox_kept: int = Field(default=1_000, ge=1, le=100_000)


@dataclass(frozen=True, slots=True)
class Message:
    """What arrived. ``received_at`` is RFC 3339, UTC; of a webhook, ``sender`` is its path and ``text`` its body."""

    id: int
    received_at: str
    sender: str
    to: tuple[str, ...]
    subject: str
    text: str
    headers: Mapping[str, str]

    def document(self) -> dict[str, Any]:
        """As JSON shows it."""
        shown = asdict(self)
        return {"from" if name == "sender" else name: value for name, value in shown.items()}


class Mailbox:
    """The last messages, oldest first.

    Args:
        kept: How many.
        folder: Where each is written too; None: nowhere.
    """

    def __init__(self, kept: int, folder: Path | None = None) -> None:
        self._messages: deque[Message] = deque(maxlen=kept)
        self._ids, self._kept, self._folder = itertools.count(1), kept, folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            numbers = [int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit()]
            self._ids = itertools.count(max(numbers, default=0) + 1)

    def __iter__(self) -> Iterator[Message]:
        return iter(tuple(self._messages))

    def add(self, sender: str, to: Iterable[str], subject: str, text: str, headers: Mapping[str, str]) -> Message:
        """Keep a message; the oldest goes when there are too many."""
        now = datetime.now(UTC).isoformat()
        message = Message(next(self._ids), now, sender, tuple(to), subject, text, dict(headers))
        self._messages.append(message)
        if self._folder is not None:
            content = json.dumps(message.document(), ensure_ascii=False, indent=1)
            (self._folder / f"{message.id:08}.json").write_text(content, encoding="utf-8")
            (self._folder / f"{message.id - self._kept:08}.json").unlink(missing_ok=True)
        return message

    def clear(self) -> None:
        """Forget what is in memory; the folder keeps its files."""
        self._messages.clear()


class Sink:
    """What aiosmtpd asks; every address is fine."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 -- aiosmtpd's
        """Take the message."""
        content = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        mail = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)  # noqa: S101 -- the policy makes it one
        body = mail.get_body(("plain", "html"))
        text = str(body.get_content()) if body else ""
        headers = {name: str(value) for name, value in mail.items()}
        self._mailbox.add(envelope.mail_from or "", envelope.rcpt_tos, str(mail.get("subject", "")), text, headers)
        return "250 Kept"


def pages(mailbox: Mailbox) -> Starlette:
    """The list as HTML and JSON, and a receiver of webhooks."""

    async def show(_: Request) -> Response:
        return HTMLResponse(_page(mailbox), headers={"cache-control": "no-store"})

    async def messages(request: Request) -> Response:
        if request.method == "DELETE":
            mailbox.clear()
            return Response(status_code=204)
        return JSONResponse([message.document() for message in mailbox])

    async def webhook(request: Request) -> Response:
        if int(request.headers.get("content-length") or 0) > MESSAGE_BYTES:
            return PlainTextResponse("too large", 413)
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > MESSAGE_BYTES:
                return PlainTextResponse("too large", 413)
        subject = f"webhook {request.headers.get('webhook-id', '')}".strip()
        mailbox.add(request.url.path, (), subject, body.decode(errors="replace"), dict(request.headers))
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/", show),
            Route("/api/messages", messages, methods=["GET", "DELETE"]),
            Route("/webhook", webhook, methods=["POST"]),
        ]
    )


_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
article{border:1px solid #bbb;border-radius:.4rem;margin:1rem 0;padding:.5rem 1rem}
h2{font-size:1rem;margin:.2rem 0}pre{white-space:pre-wrap;overflow-wrap:anywhere}time,small{color:#555}
@media(prefers-color-scheme:dark){body{background:#111;color:#eee}time,small{color:#aaa}}
"""


def _page(mailbox: Mailbox) -> str:
    shown = "\n".join(_article(message) for message in reversed(list(mailbox)))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Mailbox</title>'
        '<meta http-equiv="refresh" content="5"><meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style></head><body><h1>Mailbox</h1>"
        "<p>Every mail and webhook that people would get. Pumpwatch is not a medical device.</p>"
        f"{shown or '<p>Nothing has arrived yet.</p>'}</body></html>"
    )


def _article(message: Message) -> str:
    to = html.escape(", ".join(message.to) or message.sender)
    return (
        f"<article><h2>{html.escape(message.subject)}</h2><small>to {to}, "
        f"<time>{html.escape(message.received_at)}</time></small><pre>{html.escape(message.text)}</pre></article>"
    )


async def run(settings: Settings) -> None:
    """Take messages until SIGTERM.

    Raises:
        PortTaken: If one of the ports is taken.
    """
    mailbox = Mailbox(settings.mailbox_kept, settings.mailbox_folder)
    server = WebServer(pages(mailbox), listen(LOOPBACK, settings.mailbox_port))
    async with server, _smtp(mailbox, settings.mailbox_smtp_port) as port:
        log = structlog.get_logger()
        log.info("listening", name="http", url=server.url)
        log.info("listening", name="smtp", url=f"smtp://{LOOPBACK}:{port}")
        await until_stopped(STOPPING_SECONDS)


@contextlib.asynccontextmanager
async def _smtp(mailbox: Mailbox, port: int) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    listener = listen(LOOPBACK, port)

    def session() -> SMTP:
        return SMTP(Sink(mailbox), data_size_limit=MESSAGE_BYTES, enable_SMTPUTF8=True, hostname="mailbox", loop=loop)

    smtp = await loop.create_server(session, sock=listener)
    try:
        yield int(listener.getsockname()[1])
    finally:
        smtp.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await smtp.wait_closed()


def main() -> int:
    """Read the settings and run; the exit code."""
    settings = Settings()
    configure_logging("mailbox", settings.log_level)
    # It logs every line of every conversation.
    logging.getLogger("mail.log").setLevel(logging.WARNING)
    try:
        asyncio.run(run(settings))
    except PortTaken as error:
        structlog.get_logger().error("cannot start", reason=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
