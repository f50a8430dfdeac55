"""An ingest on a real socket that answers, refuses, drops connections and hangs as told, and remembers what it took."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Any, Self


class Mood(Enum):
    """What to do with a request beside answering it."""

    DROP_UNREAD = auto()
    """Close the connection; nothing was taken."""
    DROP_TAKEN = auto()
    """Take the reports and close the connection without an answer."""
    HANG = auto()
    """Take nothing and never answer."""


@dataclass(frozen=True, slots=True)
class Say:
    """Answer with this status and these headers; 202 takes the reports, save those that ``refuses`` picks."""

    status: int = 202
    headers: tuple[tuple[str, str], ...] = ()
    refuses: Callable[[dict[str, Any]], bool] = lambda _: False
    body: bytes | None = None


OK = Say()


@dataclass(slots=True)
class Seen:
    """One request as it came."""

    authorization: str
    content_type: str
    reports: list[dict[str, Any]]


@dataclass
class FakeIngest:
    """An async context manager; ``moods`` are used up one per request, then every request is accepted."""

    moods: deque[Mood | Say] = field(default_factory=deque)
    requests: list[Seen] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    wait_for: Callable[[FakeIngest], bool] = lambda _: True
    _server: asyncio.Server | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _talking: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    def moody(cls, moods: Iterable[Mood | Say]) -> FakeIngest:
        """One that first behaves as listed."""
        return cls(moods=deque(moods))

    def mood_for(self, reports: list[dict[str, Any]]) -> Mood | Say:
        """What to do when no mood is left; subclasses may look at the reports."""
        return OK

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def identities(self) -> list[tuple[str, int, int]]:
        """Pump, boot and number of every report taken, in order of arrival."""
        return [(report["pump_id"], report["boot_id"], report["seq"]) for report in self.taken]

    async def until(self, holds: Callable[[FakeIngest], bool], timeout: float = 10.0) -> None:
        """Wait until something is true of what was seen."""
        async with asyncio.timeout(timeout):
            while not holds(self):
                self._changed.clear()
                await self._changed.wait()

    async def __aenter__(self) -> Self:
        """Listen on a port that the OS chooses."""
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", 0, limit=2**24)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        assert self._server is not None
        self._server.close()
        for task in self._talking:
            task.cancel()
        await asyncio.gather(*self._talking, return_exceptions=True)
        await self._server.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talking.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self._talking.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
        reports = json.loads(await reader.readexactly(int(headers["content-length"])))
        mood = self.moods.popleft() if self.moods else self.mood_for(reports)
        self.requests.append(Seen(headers["authorization"], headers["content-type"], reports))
        self._changed.set()
        if isinstance(mood, Mood):
            if mood is Mood.DROP_TAKEN:
                self._take(reports)
            if mood is Mood.HANG:
                await reader.read()
            return False
        await self.until(self.wait_for, 30)
        await _respond(writer, mood, self._decided(mood, reports))
        return True

    def _decided(self, say: Say, reports: list[dict[str, Any]]) -> bytes:
        if say.body is not None or say.status != 202:
            return say.body or b"{}"
        refused = [index for index, report in enumerate(reports) if say.refuses(report)]
        self._take([report for index, report in enumerate(reports) if index not in refused])
        rejected = [{"index": index, "pointer": "/motor", "reason": "no"} for index in refused]
        return json.dumps({"accepted": len(reports) - len(refused), "rejected": rejected}).encode()

    def _take(self, reports: list[dict[str, Any]]) -> None:
        self.taken.extend(reports)
        self._changed.set()


async def _respond(writer: asyncio.StreamWriter, say: Say, body: bytes) -> None:
    lines = [f"HTTP/1.1 {say.status} Said", f"content-length: {len(body)}"]
    lines.extend(f"{name}: {value}" for name, value in say.headers)
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()
