"""An open loop over HTTP: requests are due at fixed moments, and latency counts from the moment a request was due.

The client is bare asyncio streams, because client and system share the machine's cores: what the client burns is
missing from the system's figure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

CONNECTIONS: Final = 16
RETRY_SECONDS: Final = 0.2
ANSWER_SECONDS: Final = 30.0
GIVE_UP_SECONDS: Final = 60.0
BUSY: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Answer:
    """One request's fate, in seconds since the epoch; ``refusals`` counts answers that asked to come again."""

    due_at: float
    answered_at: float
    status: int
    refusals: int

    @property
    def latency_seconds(self) -> float:
        """From when it was due to when it was accepted."""
        return self.answered_at - self.due_at


class Edge:
    """Keep-alive connections to ingest, each with one request under way at most."""

    def __init__(self, url: str, token: str) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80
        self._head = (
            f"POST /v1/reports HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._idle: asyncio.LifoQueue[_Connection | None] = asyncio.LifoQueue()
        for _ in range(CONNECTIONS):
            self._idle.put_nowait(None)

    async def post(self, body: bytes, due_at: float) -> Answer:
        """Send until it is accepted or refused for good, as gateways do; a busy system is asked again."""
        refusals = 0
        while True:
            status = await self._once(body)
            if status not in BUSY or time.time() - due_at > GIVE_UP_SECONDS:
                return Answer(due_at, time.time(), status, refusals)
            refusals += 1
            await asyncio.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        """Close every connection."""
        for _ in range(CONNECTIONS):
            connection = await self._idle.get()
            if connection is not None:
                connection.writer.close()

    async def _once(self, body: bytes) -> int:
        connection = await self._idle.get()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if connection is None:
                    connection = _Connection(*await asyncio.open_connection(self._host, self._port))
                connection.writer.write(self._head + str(len(body)).encode() + b"\r\n\r\n" + body)
                return await connection.status()
        except (OSError, EOFError, TimeoutError):
            if connection is not None:
                connection.writer.close()
            connection = None
            return HTTPStatus.SERVICE_UNAVAILABLE
        finally:
            self._idle.put_nowait(connection)


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def status(self) -> int:
        """Read one whole answer; its status."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                await self.reader.readexactly(int(value))
        return int(head.split(b" ", 2)[1])


@dataclass(slots=True)
class Offered:
    """What an open loop offered and what became of it."""

    reports_per_request: int
    answers: list[Answer] = field(default_factory=list)

    @property
    def accepted(self) -> list[Answer]:
        """The requests that were accepted."""
        return [answer for answer in self.answers if answer.status == HTTPStatus.ACCEPTED]

    def accepted_rate(self, seconds: float, started_at: float) -> float:
        """Reports accepted per second within the time of the offer; later answers do not count."""
        inside = sum(1 for answer in self.accepted if answer.answered_at <= started_at + seconds + 1)
        return inside * self.reports_per_request / seconds

    @property
    def refusals(self) -> int:
        """How often the edge asked to come again."""
        return sum(answer.refusals for answer in self.answers)


async def offer(
    edge: Edge, body: Callable[[int, float], bytes], *, per_request: int, rate: float, seconds: float
) -> Offered:
    """Offer ``rate`` reports a second for a time, and wait until each request has its answer.

    Args:
        edge: Where to.
        body: Makes the body of a request from its number and the moment it is due.
        per_request: Reports in a body.
        rate: Reports per second.
        seconds: How long.
    """
    offered, pending = Offered(per_request), set[asyncio.Task[Answer]]()
    every, started = per_request / rate, time.time()
    for number in range(max(1, round(seconds / every))):
        due_at = started + number * every
        if (wait := due_at - time.time()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(edge.post(body(number, due_at), due_at))
        pending.add(task)
        task.add_done_callback(pending.discard)
        task.add_done_callback(lambda done: offered.answers.append(done.result()))
    while pending:
        await asyncio.wait(pending)
    await asyncio.sleep(0)
    return offered
