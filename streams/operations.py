"""What operators see of every process: its log, its metrics and health addresses, its heartbeat, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib.metadata
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Final, Self, TypeVar

import asyncpg
import stamina
import structlog
import uvicorn
from prometheus_client import CollectorRegistry, Info, ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

Answer = TypeVar("Answer")

HEARTBEAT_SECONDS: Final = 5.0
BREAK_SECONDS: Final = 60.0
STATEMENT_SECONDS: Final = 5.0
STOPPING_SECONDS: Final = 30.0
"""How long a service may take to stop: longer than any of its own limits."""
NOT_STOPPED: Final = 75
"""EX_TEMPFAIL: stopped, but not in order."""
NO_DATABASE: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""PostgreSQL did not answer; the last of them is how asyncpg meets a connection that is cut in the middle."""


class PortTaken(OSError):
    """Another process listens on a port that this one was told to use."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(errno.EADDRINUSE, f"port {port} on {host} is taken by another process")
        self.host, self.port = host, port


def version() -> str:
    """The installed version of Pumpwatch."""
    try:
        return importlib.metadata.version("pumpwatch")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def configure_logging(service: str, level: str = "info") -> None:
    """Send every log, our own and libraries', to stdout as JSON lines.

    Each has ``event``, ``level``, ``service`` and ``timestamp`` (UTC, ISO 8601).

    Tracebacks carry no local variables, because those hold patients' telemetry.
    """

    def add_service(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {**event, "service": service}

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        add_service,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
    ]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 lets the OS choose.

    Raises:
        PortTaken: If another process has the port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host, port) from error
        raise
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket) -> str:
    """The http address of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class WebServer:
    """Serves an ASGI app inside a process that owns its own signals.

    An async context manager: listening on entry, closed on exit with `grace_seconds` for open requests.
    """

    def __init__(self, app: Starlette, listener: socket.socket, *, grace_seconds: int = 5) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=grace_seconds,
        )
        self._server = _QuietServer(config)
        self._listener = listener
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The http address."""
        return url_of(self._listener)

    async def __aenter__(self) -> Self:
        """Start to serve; connections made before this wait in the listener's backlog."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="web server")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop accepting, let open requests end, and close."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving


class _QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave SIGTERM and SIGINT to `until_stopped`: the process decides the order in which its parts end."""
        yield


class Operations:
    """``/metrics``, ``/livez`` and ``/readyz`` of a process, on a port of their own.

    Args:
        registry: The process' metrics; build and process metrics are added to it.
        host: Address to listen on.
        port: 0 lets the OS choose; the address is in `url` and in a log line ``listening``.
        live: None while the process works, else why it should be restarted.
        ready: None while it can do its job, else the reason; asked with a timeout of 5 s.

    Raises:
        PortTaken: If another process has the port.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        host: str,
        port: int,
        live: Callable[[], str | None],
        ready: Callable[[], Awaitable[str | None]],
    ) -> None:
        self._registry, self._live, self._ready = registry, live, ready
        Info("pumpwatch_build", "Version of the running code.", registry=registry).info({"version": version()})
        ProcessCollector(registry=registry)
        routes = [Route("/metrics", self._metrics), Route("/livez", self._livez), Route("/readyz", self._readyz)]
        self._server = WebServer(Starlette(routes=routes), listen(host, port), grace_seconds=1)
        self.url = self._server.url

    async def __aenter__(self) -> Self:
        """Listen, and say so in the log."""
        await self._server.__aenter__()
        structlog.get_logger().info("listening", name="operations", url=self.url)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the port."""
        await self._server.__aexit__(kind, error, traceback)

    async def _metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), headers={"content-type": content_type})

    async def _livez(self, _: Request) -> Response:
        return _health(self._live())

    async def _readyz(self, _: Request) -> Response:
        try:
            async with asyncio.timeout(STATEMENT_SECONDS):
                return _health(self._live() or await self._ready())
        except TimeoutError:
            return _health(f"no answer within {STATEMENT_SECONDS:g} s")


def _health(reason: str | None) -> Response:
    return PlainTextResponse("ok" if reason is None else reason, 200 if reason is None else 503)


async def patiently(call: Callable[[], Awaitable[Answer]], on: tuple[type[Exception], ...], seconds: float) -> Answer:
    """Call it until it works or the patience of a start is over: parts of a system start at the same time.

    Args:
        call: What to try.
        on: Errors after which trying again can help.
        seconds: After so long the last error is raised.
    """
    async for attempt in stamina.retry_context(on=on, attempts=None, timeout=seconds):
        with attempt:
            return await call()
    raise AssertionError("a retry either returns or raises")


async def until_stopped(patience: float | None = None) -> None:
    """Return at the first SIGTERM or SIGINT; a second one then ends the process at once.

    Args:
        patience: Seconds from then until the process ends whatever it still waits for; None: no limit. Drivers may
            swallow a cancellation, and without an end a process whose supervisor is gone would stay for ever.
    """
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stopped.set)
    try:
        await stopped.wait()
        if patience is not None:
            last = threading.Timer(patience, _give_up)
            last.daemon = True
            last.start()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _give_up() -> None:
    structlog.get_logger().critical("does not stop by itself")
    sys.stdout.flush()
    os._exit(NOT_STOPPED)


async def record_beat(connection: asyncpg.Connection | asyncpg.Pool, service: str, instance: str) -> None:
    """Say that this instance works now; a first beat after a break of more than 60 s moves ``resumed_at``.

    The break is the service's: another instance that went on beating means there was none. It is kept, for replays.
    """
    await connection.execute(
        """
        WITH broken AS (
            INSERT INTO service_break (service, deaf_from, resumed_at)
            SELECT $1, max(beat_at), now() FROM service_heartbeat WHERE service = $1
            HAVING max(beat_at) < now() - make_interval(secs => $3)
            ON CONFLICT DO NOTHING
        )
        INSERT INTO service_heartbeat AS mine (service, instance, beat_at, resumed_at)
        SELECT $1, $2, now(), coalesce(
            (SELECT resumed_at FROM service_heartbeat
             WHERE service = $1 AND beat_at >= now() - make_interval(secs => $3) ORDER BY beat_at DESC LIMIT 1),
            now())
        ON CONFLICT (service, instance) DO UPDATE SET beat_at = excluded.beat_at, resumed_at = excluded.resumed_at
        """,
        service,
        instance,
        BREAK_SECONDS,
        timeout=STATEMENT_SECONDS,
    )


async def beat(pool: asyncpg.Pool, service: str, instance: str) -> None:
    """Beat every 5 s until cancelled; a database that does not answer is logged and tried again."""
    log = structlog.get_logger()
    while True:
        try:
            await record_beat(pool, service, instance)
        except NO_DATABASE as error:
            log.warning("heartbeat not recorded", error=type(error).__name__)
        await asyncio.sleep(HEARTBEAT_SECONDS)
