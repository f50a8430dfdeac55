"""What the HTTP edge promises beside refusing bad input."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from services.ingest.allowance import Allowance, Buckets, Rate
from tests.services.ingest.bad_inputs import GATEWAY, JSON, LINES, TOKEN, report
from tests.services.ingest.edge import NOON, Edge, MemoryPublisher

OLD = NOON - timedelta(minutes=15, seconds=1)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (report(NOON), JSON),
        ([report(NOON)], JSON),
        (json.dumps(report(NOON), indent=2).encode() + b"\n", {"content-type": "application/json; charset=utf-8"}),
        (json.dumps(report(NOON)).encode(), {"content-type": "Application/JSON ; Charset=UTF-8"}),
        (json.dumps(report(NOON)).encode(), LINES),
        (b"\r\n" + json.dumps(report(NOON)).encode() + b"\r\n", {"content-type": "application/jsonl"}),
        (gzip.compress(json.dumps(report(NOON)).encode()), {**JSON, "content-encoding": "gzip"}),
        (gzip.compress(b"[") + gzip.compress(json.dumps(report(NOON)).encode() + b"]"),
         {**JSON, "content-encoding": "GZip"}),
        (json.dumps(report(NOON)).encode(), {**JSON, "content-encoding": "identity"}),
    ],
)  # fmt: skip
async def test_every_documented_form_is_taken(body: Any, headers: dict[str, str]) -> None:
    """One report, an array, lines; plain, gzip, gzip in members."""
    edge = Edge()

    response = await edge.post(body, headers)

    assert (response.status_code, response.json()) == (202, {"accepted": 1, "rejected": []})
    assert edge.publisher.pumps() == ["pump-1"]


async def test_a_thousand_reports_are_taken() -> None:
    """The limit is inclusive."""
    edge = Edge()

    response = await edge.post([report(NOON, f"p{number}", x=...) for number in range(1_000)])

    assert response.json() == {"accepted": 1_000, "rejected": []}
    assert len(edge.publisher.pumps()) == 1_000


async def test_conflicting_duplicates_are_accepted() -> None:
    """Ingest does not compare reports: the worker sees them all, and puts a conflict aside where history is."""
    edge = Edge()

    response = await edge.post([report(NOON), report(NOON, motor="stopped")])

    assert response.json() == {"accepted": 2, "rejected": []}


@pytest.mark.parametrize(("token", "gateway", "clinic"), [(TOKEN, GATEWAY, False), ("pwg_other", "clinic-9", True)])
async def test_reports_say_whether_they_came_from_a_clinic(token: str, gateway: str, clinic: bool) -> None:
    """The token tells, never the report: a programming session from a clinic's gateway is an authorised one."""
    edge = Edge()

    await edge.post(report(NOON, gateway_id=gateway), authorization=f"Bearer {token}")

    assert [one.clinic for record in edge.publisher.records for one in record.reports] == [clinic]


@pytest.mark.parametrize(
    ("fields", "backlog"),
    [
        ({}, True),
        ({"alarms": []}, True),
        ({"motor": "unknown"}, True),
        ({"motor": ..., "temperature_celsius": 36.5}, True),
        ({"events": [{"type": "bolus", "outcome": "delivered", "volume_ml": 0.1}]}, True),
        ({"event_time": (OLD + timedelta(seconds=1)).isoformat()}, False),
        ({"alarms": ["low_reservoir"]}, False),
        ({"motor": "stalled"}, False),
        ({"motor": "stopped"}, False),
        ({"motor": "telemetry_mode"}, False),
        ({"flow_valve": "closed"}, False),
        ({"battery": {"eos": True}}, False),
        ({"events": [{"type": "stall_started"}]}, False),
        ({"events": [{"type": "stall_recovered"}]}, False),
        ({"events": [{"type": "mri_start"}]}, False),
        ({"events": [{"type": "pump_reset"}]}, False),
        ({"events": [{"type": "symptom_report", "codes": ["floppy"]}]}, False),
        ({"events": [{"type": "interrogation", "result": "running"}]}, False),
    ],
)
async def test_only_old_reports_without_an_alarm_wait_in_the_backlog(fields: dict[str, Any], backlog: bool) -> None:
    """15 minutes are inclusive; every doubt counts as an alarm."""
    edge = Edge()

    response = await edge.post(report(NOON, **{"event_time": OLD.isoformat(), **fields}))

    assert response.status_code == 202
    assert edge.publisher.pumps("pump.backlog.v1") == (["pump-1"] if backlog else [])
    assert edge.publisher.pumps("pump.telemetry.v1") == ([] if backlog else ["pump-1"])


async def test_nothing_is_claimed_before_kafka_has_it() -> None:
    """The answer comes after the acknowledgement, never before."""
    publisher = MemoryPublisher(gate=asyncio.Event())
    assert publisher.gate is not None
    edge = Edge(publisher)

    waiting = asyncio.create_task(edge.post(report(NOON)))
    _, pending = await asyncio.wait([waiting], timeout=0.1)
    publisher.gate.set()

    assert pending == {waiting}
    assert (await waiting).status_code == 202


@pytest.mark.parametrize("publisher", [MemoryPublisher(broken=True), MemoryPublisher(gate=asyncio.Event())])
async def test_without_an_acknowledgement_the_sender_is_told_to_come_back(publisher: MemoryPublisher) -> None:
    """Refused or silent: 503 with Retry-After, and nothing counted as accepted."""
    edge = Edge(publisher, ingest_answer_seconds=0.05)

    response = await edge.post(report(NOON))

    assert (response.status_code, response.json()["type"]) == (503, "urn:pumpwatch:problem:not_acknowledged")
    assert int(response.headers["retry-after"]) >= 1
    assert edge.value("pumpwatch_reports_accepted_total", transport="http", lane="fresh") == 0
    await edge.batcher.close(0)


async def test_one_gateway_cannot_take_the_allowance_of_another() -> None:
    """Above its allowance a gateway gets 429 with Retry-After; others go on."""
    edge = Edge(ingest_reports_burst=1_000, ingest_reports_per_second=0.001)
    full = [report(NOON, f"p{number}") for number in range(1_000)]

    first, second = await edge.post(full), await edge.post(report(NOON))
    other = await edge.post(report(NOON, gateway_id="clinic-9"), JSON, "Bearer pwg_other")

    assert (first.status_code, second.status_code, other.status_code) == (202, 429, 202)
    assert int(second.headers["retry-after"]) >= 1
    assert edge.value("pumpwatch_requests_total", transport="http", outcome="rate_limited") == 1


async def test_an_alarm_passes_its_own_gateways_flood() -> None:
    """The allowance for requests with an alarm is apart."""
    edge = Edge(ingest_reports_burst=1_000, ingest_reports_per_second=0.001)
    await edge.post([report(NOON, f"p{number}") for number in range(1_000)])

    ordinary = await edge.post(report(NOON))
    alarm = await edge.post(report(NOON, "stalled-1", motor="stalled", alarms=["motor_stall"]))

    assert (ordinary.status_code, alarm.status_code) == (429, 202)
    assert "stalled-1" in edge.publisher.pumps()


async def test_full_buffers_are_said_and_counted() -> None:
    """503 with Retry-After while Kafka takes less than arrives."""
    publisher = MemoryPublisher(gate=asyncio.Event())
    assert publisher.gate is not None
    edge = Edge(publisher, ingest_fresh_bytes=1024 * 1024, ingest_receiving_bytes=4 * 1024 * 1024)
    big = [report(NOON, f"p{number}", program_checksum="c" * 64) for number in range(1_000)]
    waiting = [asyncio.create_task(edge.post(big)) for _ in range(6)]

    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    publisher.gate.set()
    answers = [(await one).status_code for one in waiting]

    assert done.pop().result().json()["type"] == "urn:pumpwatch:problem:buffers_full"
    assert set(answers) == {202, 503}
    assert edge.value("pumpwatch_buffer_full_total", buffer="fresh") > 0
    assert edge.value("pumpwatch_buffered_bytes", lane="fresh") == 0
    assert edge.value("pumpwatch_receiving_bytes") == 0


async def test_too_many_open_requests_are_asked_to_come_back() -> None:
    """Work at once is bounded."""
    publisher = MemoryPublisher(gate=asyncio.Event())
    assert publisher.gate is not None
    edge = Edge(publisher, ingest_open_requests=2)

    waiting = [asyncio.create_task(edge.post(report(NOON, f"p{number}"))) for number in range(3)]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    publisher.gate.set()
    await asyncio.gather(*waiting)

    assert done.pop().result().json()["type"] == "urn:pumpwatch:problem:too_many_requests_open"


async def test_a_body_that_does_not_end_is_given_up() -> None:
    """408, and the bytes held for it are given back."""
    edge = Edge(ingest_body_seconds=0.05)

    async def endless() -> AsyncIterator[bytes]:
        yield b"[" * 100
        await asyncio.Event().wait()

    headers = {**JSON, "authorization": f"Bearer {TOKEN}"}
    response = await edge.client.post("/v1/reports", content=endless(), headers=headers)

    assert (response.status_code, response.json()["type"]) == (408, "urn:pumpwatch:problem:slow_body")
    assert edge.value("pumpwatch_receiving_bytes") == 0


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [("GET", "/v1/reports", 405, "method_not_allowed"), ("POST", "/v2/reports", 404, "not_found")],
)
async def test_wrong_paths_and_methods_are_problems_too(method: str, path: str, status: int, kind: str) -> None:
    """Every refusal has the same shape."""
    response = await Edge().client.request(method, path)

    assert (response.status_code, response.json()["type"]) == (status, f"urn:pumpwatch:problem:{kind}")


async def test_a_revoked_token_ends_with_the_next_request() -> None:
    """What `KnownGateways` forgets is refused at once."""
    edge = Edge()

    before = await edge.post(report(NOON))
    edge.gateways.replace({})
    after = await edge.post(report(NOON))

    assert (before.status_code, after.status_code) == (202, 401)
    assert after.headers["www-authenticate"].startswith("Bearer")


def test_buckets_fill_with_time_up_to_the_burst() -> None:
    """Inclusive: exactly as many tokens as are there may go."""
    buckets = Buckets(Rate(10, 100))

    assert buckets.wait_seconds("g", 100, at=0.0) == 0.0
    assert buckets.wait_seconds("g", 10, at=0.5) == pytest.approx(0.5)
    assert buckets.wait_seconds("g", 10, at=1.0) == 0.0
    assert buckets.wait_seconds("g", 101, at=1_000.0) > 0.0


def test_forgotten_gateways_start_full() -> None:
    """Memory is bounded; who was not heard of for longest is forgotten first."""
    buckets = Buckets(Rate(1, 10), most=2)
    for name in ("a", "b", "c"):
        buckets.wait_seconds(name, 10, at=0.0)

    assert buckets.wait_seconds("c", 10, at=0.0) > 0.0
    assert buckets.wait_seconds("a", 10, at=0.0) == 0.0


def test_retry_after_is_at_least_a_second() -> None:
    """``Retry-After`` knows whole seconds only."""
    allowance = Allowance(Rate(1_000, 1), Rate(1_000, 1))
    allowance.retry_after("g", 1, 0.0, alarm=False)

    assert allowance.retry_after("g", 1, 0.0, alarm=False) == 1
    assert allowance.retry_after("g", 1, 0.0, alarm=True) is None
    assert allowance.retry_after("g", 1, 0.0, alarm=True) == 1
