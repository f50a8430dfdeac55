"""The HTTP server: bounded connections, and no patience with a request whose head does not arrive."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

import structlog
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.ingest.metrics import Metrics
from streams.operations import url_of

GRACE_SECONDS: Final = 10
KEEP_ALIVE_SECONDS: Final = 75
ANSWER_SECONDS: Final = 2.0
"""Beyond the edge's own patience with a body, so that its answer comes first."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Connections at once, and seconds that a request's head and then its body may take."""

    connections: int
    head_seconds: float
    body_seconds: float


class _Connection(HttpToolsProtocol):
    """A connection that is closed when it is one too many, or when a request's head or body does not end in time.

    A body that was answered before its end, because it is too large or nobody may send it, is read and thrown away: a
    connection closed at once would take the answer with it. The deadline bounds that too.
    """

    def __init__(self, *args: Any, bounds: Bounds, metrics: Metrics, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bounds, self._metrics = bounds, metrics
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._bounds.connections:
            self._metrics.connections_refused.labels("too_many").inc()
            transport.abort()
            return
        self._expect(self._bounds.head_seconds, "slow_head")

    def connection_lost(self, exc: Exception | None) -> None:
        self._came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect(self._bounds.head_seconds, "slow_head")

    def on_headers_complete(self) -> None:
        self._expect(self._bounds.body_seconds + ANSWER_SECONDS, "slow_body")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._came()
        super().on_message_complete()

    def _expect(self, seconds: float, reason: str) -> None:
        self._came()
        self._deadline = self.loop.call_later(seconds, self._too_slow, reason)

    def _came(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self, reason: str) -> None:
        self._deadline = None
        self._metrics.connections_refused.labels(reason).inc()
        self.transport.abort()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the process, which decides the order in which its parts end."""
        yield


class HttpServer:
    """Serves an app on a listening socket; an async context manager.

    On exit it stops accepting and gives open requests `GRACE_SECONDS`.
    """

    def __init__(self, app: Starlette, listener: socket.socket, bounds: Bounds, metrics: Metrics) -> None:
        # uvicorn only ever calls it, but wants a class.
        protocol: Any = partial(_Connection, bounds=bounds, metrics=metrics)
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self._server, self._listener = _Server(config), listener
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start to serve, and say so in the log."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="http server")
        structlog.get_logger().info("listening", name="http", url=url_of(self._listener))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop accepting, let open requests end, and close."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
