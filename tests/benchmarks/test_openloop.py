"""The open loop counts latency from when a request was due, and asks a busy edge again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streams.operations import WebServer, listen
from tests.benchmarks.openloop import Answer, Edge, Offered, offer


@asynccontextmanager
async def edge(answer: Callable[[], int], gate: asyncio.Event | None = None) -> AsyncIterator[Edge]:
    """An edge that answers with these statuses, once the gate is open."""

    async def reports(request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer word"
        assert (await request.body()).startswith(b"[")
        if gate is not None:
            await gate.wait()
        return Response(status_code=answer())

    app = Starlette(routes=[Route("/v1/reports", reports, methods=["POST"])])
    async with WebServer(app, listen("127.0.0.1", 0)) as server:
        client = Edge(server.url, "word")
        yield client
        await client.close()


async def test_requests_go_out_when_they_are_due_though_nothing_is_answered() -> None:
    """An edge that stalls makes every request late by its own due moment, not only the one that it held."""
    gate = asyncio.Event()
    async with edge(lambda: 202, gate) as client:

        def body(number: int, _: float) -> bytes:
            if number == 9:
                gate.set()
            return b"[]"

        offered = await offer(client, body, per_request=1, rate=100, seconds=0.1)

    latencies = [answer.latency_seconds for answer in sorted(offered.answers, key=lambda answer: answer.due_at)]
    assert len(offered.accepted) == 10
    assert latencies[0] >= 0.09
    assert all(latencies[index] >= 0.01 * (9 - index) for index in range(9))


async def test_a_busy_edge_is_asked_again_and_its_refusals_are_counted() -> None:
    """Two refusals, then accepted; the latency holds all of it."""
    statuses: Iterator[int] = iter([429, 503, 202])
    async with edge(lambda: next(statuses)) as client:
        offered = await offer(client, lambda _, __: b"[]", per_request=10, rate=1000, seconds=0.01)

    assert [(answer.status, answer.refusals) for answer in offered.answers] == [(202, 2)]
    assert offered.refusals == 2
    assert offered.answers[0].latency_seconds >= 0.4


@pytest.mark.parametrize("status", [400, 401])
async def test_what_is_refused_for_good_is_not_accepted(status: int) -> None:
    """It is neither tried again nor counted."""
    async with edge(lambda: status) as client:
        offered = await offer(client, lambda _, __: b"[]", per_request=10, rate=1000, seconds=0.01)

    assert [answer.status for answer in offered.answers] == [status]
    assert offered.accepted == []


def test_only_what_was_accepted_in_time_counts_for_the_rate() -> None:
    """Requests answered long after the offer do not make it sustained."""
    offered = Offered(100, [Answer(float(due), due + 0.1, 202, 0) for due in range(9)] + [Answer(9.0, 60.0, 202, 5)])

    assert offered.accepted_rate(10, started_at=0.0) == 90.0
