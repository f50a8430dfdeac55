"""The HTTP server: bounded connections, and no patience with a request whose head does not arrive."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
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


class _Connection(HttpToolsProtocol):
    """A connection that is closed when it is one too many, or does not finish a request's head in time."""

    def __init__(self, *args: Any, most: int, head_seconds: float, metrics: Metrics, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._most, self._head_seconds, self._metrics = most, head_seconds, metrics
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._most:
            self._metrics.connections_refused.labels("too_many").inc()
            transport.abort()
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._head_seconds, self._too_slow)

    def _head_came(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        self._metrics.connections_refused.labels("slow_head").inc()
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

    def __init__(
        self, app: Starlette, listener: socket.socket, *, connections: int, head_seconds: float, metrics: Metrics
    ) -> None:
        # uvicorn only ever calls it, but wants a class.
        protocol: Any = partial(_Connection, most=connections, head_seconds=head_seconds, metrics=metrics)
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
