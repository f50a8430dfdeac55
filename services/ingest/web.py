"""The HTTP edge: ``POST /v1/reports``, and the contract it keeps."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Final, Self

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from services.ingest import contract
from services.ingest.allowance import Allowance
from services.ingest.batching import Batcher, Taken
from services.ingest.intake import form_of, split
from services.ingest.judging import Reason, judge, reason_of
from services.ingest.metrics import Metrics, RequestOutcome, Transport
from services.ingest.problems import Kind, Problem, Rejection
from services.ingest.room import Room
from services.ingest.tokens import KnownGateways
from services.ingest.unpacking import Caps, coding_of, read_body
from services.ingest.urgency import carries_alarm, lane_of
from streams.domain.telemetry import Received, Rejected

JUDGED_AT_ONCE: Final = 50
"""Reports judged before other requests get their turn."""
RETRY_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, and all requests together, may take; durations in seconds."""

    caps: Caps
    body_seconds: float
    answer_seconds: float
    open_requests: int
    receiving_bytes: int
    backlog_age: timedelta


@dataclass(frozen=True, slots=True)
class _Judged:
    taken: tuple[Taken, ...]
    rejected: tuple[Rejection, ...]
    alarm: bool


class _Held:
    """The bytes that one request holds; an async context manager that gives them back."""

    def __init__(self, room: Room, metrics: Metrics) -> None:
        self._room, self._metrics, self._size = room, metrics, 0

    def more(self, size: int) -> bool:
        """Hold so many bytes more; False when there is no room."""
        if not self._room.take(size):
            self._metrics.refused_full.labels("receiving").inc()
            return False
        self._size += size
        self._metrics.receiving_bytes.inc(size)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._room.give(self._size)
        self._metrics.receiving_bytes.dec(self._size)


class ReportsEdge:
    """Takes reports, and says 202 only once Kafka has every accepted one of them.

    Args:
        gateways: Who may send.
        batcher: Where accepted reports go.
        allowance: How much each gateway may send.
        limits: What requests may take.
        metrics: Where it counts.
        clock: Service time, aware UTC.
    """

    def __init__(
        self,
        gateways: KnownGateways,
        batcher: Batcher,
        allowance: Allowance,
        limits: Limits,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._gateways, self._batcher, self._allowance = gateways, batcher, allowance
        self._limits, self._metrics, self._clock = limits, metrics, clock
        self._receiving = Room(limits.receiving_bytes)
        self._open = 0

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/reports", self.receive, methods=["POST"]),
                Route("/v1/openapi.json", _served(contract.OPENAPI, "application/json")),
                Route("/v1/schema/report.json", _served(contract.REPORT_SCHEMA, "application/schema+json")),
            ],
            exception_handlers={HTTPException: _refuse, Exception: self._unexpected},
        )

    async def receive(self, request: Request) -> Response:
        """``POST /v1/reports``."""
        began = time.perf_counter()
        self._open += 1
        self._metrics.open_requests.inc()
        try:
            answer = await self._answer(request)
        except ClientDisconnect:
            self._count(RequestOutcome.DISCONNECTED)
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        finally:
            self._open -= 1
            self._metrics.open_requests.dec()
            self._metrics.duration.labels(Transport.HTTP).observe(time.perf_counter() - began)
        if isinstance(answer, Problem):
            self._count(answer.outcome)
            return answer.response()
        return self._accepted(answer)

    async def _answer(self, request: Request) -> _Judged | Problem:
        gateway_id = self._gateways.speaking(request.headers.get("authorization"))
        if isinstance(gateway_id, Problem):
            return gateway_id
        if self._open > self._limits.open_requests:
            return Problem(Kind.TOO_MANY_REQUESTS_OPEN, "come back in a moment", retry_after_seconds=1)
        with _Held(self._receiving, self._metrics) as held:
            parts = await self._parts(request, held)
            if isinstance(parts, Problem):
                return parts
            judged = await self._judge(parts, gateway_id)
        if isinstance(judged, Problem):
            return judged
        return await self._pass_on(judged, gateway_id)

    async def _parts(self, request: Request, held: _Held) -> Sequence[bytes] | Problem:
        headers = request.headers
        form, coding = form_of(headers.get("content-type")), coding_of(headers.get("content-encoding"))
        if isinstance(form, Problem):
            return form
        if isinstance(coding, Problem):
            return coding
        announced = headers.get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced) > self._limits.caps.sent:
            return Problem(Kind.BODY_TOO_LARGE, f"at most {self._limits.caps.sent} bytes are taken as sent")
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                body = await read_body(_chunks(request), coding, self._limits.caps, held.more)
        except TimeoutError:
            return Problem(Kind.SLOW_BODY, f"send it within {self._limits.body_seconds:g} s", retry_after_seconds=1)
        return body if isinstance(body, Problem) else split(body, form)

    async def _judge(self, parts: Sequence[bytes], gateway_id: str) -> _Judged | Problem:
        """Judge each report; a syntax error in JSON was found before, and here spoils only its own line."""
        now, taken, rejected, alarm = self._clock(), [], [], False
        clinic = self._gateways.in_clinic(gateway_id)
        for index, raw in enumerate(parts):
            if index % JUDGED_AT_ONCE == JUDGED_AT_ONCE - 1:
                await asyncio.sleep(0)
            report = judge(raw, now)
            if isinstance(report, Rejected):
                rejected.append(Rejection(index, report.pointer, reason_of(report).value, report.reason))
            elif report.gateway_id != gateway_id:
                rejected.append(Rejection(index, "/gateway_id", Reason.FOREIGN_GATEWAY.value, _FOREIGN))
            else:
                alarm = alarm or carries_alarm(report)
                lane = lane_of(report, now, self._limits.backlog_age)
                received = Received(report=report, received_at=now, clinic=clinic)
                taken.append(Taken(received, lane, len(raw)))
        for one in rejected:
            self._metrics.rejected.labels(Transport.HTTP, one.reason).inc()
        return _Judged(tuple(taken), tuple(rejected), alarm) if taken else _nothing_usable(tuple(rejected))

    async def _pass_on(self, judged: _Judged, gateway_id: str) -> _Judged | Problem:
        count = len(judged.taken)
        wait = self._allowance.retry_after(gateway_id, count, time.monotonic(), alarm=judged.alarm)
        if wait is not None:
            return Problem(Kind.RATE_LIMITED, f"come back in {wait} s", retry_after_seconds=wait)
        acceptance = self._batcher.offer(judged.taken, alarm=judged.alarm)
        if acceptance is None:
            return Problem(Kind.BUFFERS_FULL, "Kafka takes less than arrives", retry_after_seconds=1)
        if not await acceptance.acknowledged(self._limits.answer_seconds):
            detail = "whether they are kept is not known; send them again"
            return Problem(Kind.NOT_ACKNOWLEDGED, detail, retry_after_seconds=RETRY_SECONDS)
        return judged

    def _accepted(self, judged: _Judged) -> Response:
        for lane, count in Counter(one.lane for one in judged.taken).items():
            self._metrics.accepted.labels(Transport.HTTP, lane).inc(count)
        self._count(RequestOutcome.PARTLY_ACCEPTED if judged.rejected else RequestOutcome.ACCEPTED)
        body = _ENCODER.encode({"accepted": len(judged.taken), "rejected": judged.rejected})
        return Response(body, HTTPStatus.ACCEPTED, media_type="application/json")

    async def _unexpected(self, _: Request, __: Exception) -> Response:
        self._count(RequestOutcome.FAILED)
        return Problem(Kind.INTERNAL, "try again, and tell the operator").response()

    def _count(self, outcome: RequestOutcome) -> None:
        self._metrics.requests.labels(Transport.HTTP, outcome).inc()


_ENCODER: Final = msgspec.json.Encoder()
_FOREIGN: Final = "the token belongs to another gateway"
_WHOLE: Final = {
    Reason.NOT_JSON.value: Kind.NOT_JSON,
    Reason.NOT_UTF8.value: Kind.NOT_UTF8,
    Reason.TOO_DEEP.value: Kind.TOO_DEEP,
    Reason.TOO_LARGE.value: Kind.REPORT_TOO_LARGE,
    Reason.FOREIGN_GATEWAY.value: Kind.FOREIGN_GATEWAY,
}
"""What a request is when all its reports were rejected for the same reason; else `Kind.NOTHING_USABLE`."""


def _nothing_usable(rejected: tuple[Rejection, ...]) -> Problem:
    first, reasons = rejected[0], {one.reason for one in rejected}
    kind = _WHOLE.get(first.reason, Kind.NOTHING_USABLE) if len(reasons) == 1 else Kind.NOTHING_USABLE
    pointer = first.pointer if len(rejected) == 1 else f"/{first.index}{first.pointer}"
    return Problem(kind, first.detail, pointer, rejected)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk


async def _refuse(_: Request, error: Exception) -> Response:
    missing = isinstance(error, HTTPException) and error.status_code == HTTPStatus.NOT_FOUND
    if missing:
        return Problem(Kind.NOT_FOUND, "see /v1/openapi.json").response()
    return Problem(Kind.METHOD_NOT_ALLOWED, "see /v1/openapi.json").response()


def _served(path: Path, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = path.read_bytes()

    async def serve(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return serve
