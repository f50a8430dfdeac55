"""The HTTP edge as a process of its own, on a real Kafka and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from services.standalone.kafka import Broker
from streams import gateways, topics
from streams.topics import decode_batch, partition_of
from tests.integration.ingest_ground import fresh, now, standing
from tests.services.ingest.bad_inputs import Case, cases
from tests.stack import Stack, eventually


async def test_bad_input_is_named_and_what_is_usable_beside_it_is_kept(stack: Stack) -> None:
    """Every case of the table over a real connection: no server error, and on the topic exactly what was usable."""
    table, wrong = cases(now()), []

    async with standing(stack) as ground, ground.gateway() as client:
        for case in table:
            chunks = _chunks(case.body) if isinstance(case.body, list) else None
            content_type = case.headers.get("content-type")
            headers = {**case.headers, "authorization": _authorization(case, ground.token)}
            request = client.build_request("POST", "/v1/reports", content=chunks or case.body, headers=headers)
            for name, given in (("content-type", content_type), ("authorization", headers["authorization"])):
                if not given:
                    del request.headers[name]
            response = await client.send(request)
            answer = response.json()
            said = answer.get("type", "").rpartition(":")[2] or answer["rejected"][0]["reason"]
            if (response.status_code, said) != (case.status, case.reason):
                wrong.append((case.name, response.status_code, said))
        kept = await ground.pumps()
        log = ground.ingest.child.log.read_text()

    assert wrong == []
    assert kept == sorted(pump for case in table for pump in case.kept)
    assert "Traceback" not in log
    assert "never-kept" not in log


async def test_every_record_holds_one_partitions_reports(stack: Stack) -> None:
    """However gateways mix pumps, each record is a batch of its own partition, and each report is there once."""
    async with standing(stack) as ground, ground.gateway() as client:
        requests = [[fresh(f"pump-{number}", seq=place) for number in range(place, place + 90)] for place in range(20)]

        answers = await asyncio.gather(*(client.post("/v1/reports", json=request) for request in requests))
        records = await ground.records(topics.TELEMETRY)

    assert [answer.status_code for answer in answers] == [202] * len(requests)
    batches = [(record.partition, decode_batch(record.value).reports) for record in records]
    for partition, reports in batches:
        assert {partition_of(one.report.pump_id, 24) for one in reports} == {partition}
    found = sorted((one.report.pump_id, one.report.seq) for _, reports in batches for one in reports)
    assert found == sorted((one["pump_id"], one["seq"]) for request in requests for one in request)


async def test_accepted_is_said_only_when_kafka_has_it(stack: Stack, kafka_broker: Broker) -> None:
    """While the broker is silent: 503 with Retry-After, nothing claimed; afterwards reports are accepted again."""
    env = {"PUMPWATCH_INGEST_ANSWER_SECONDS": "1", "PUMPWATCH_INGEST_PRODUCE_SECONDS": "3"}
    async with standing(stack, env) as ground, ground.gateway() as client:
        assert (await client.post("/v1/reports", json=fresh("before"))).status_code == 202
        kafka_broker.child.signal(signal.SIGSTOP)
        try:
            silent = await client.post("/v1/reports", json=fresh("meanwhile"))
            second = await client.post("/v1/reports", json=fresh("meanwhile", seq=2))
        finally:
            kafka_broker.child.signal(signal.SIGCONT)
        accepted = await ground.metric("pumpwatch_reports_accepted_total", transport="http")

        async def works_again() -> bool:
            return (await client.post("/v1/reports", json=fresh("after"))).status_code == 202

        await eventually(works_again, timeout=30, what="ingest accepting again")
        kept = await ground.pumps()

    assert (silent.status_code, second.status_code, accepted) == (503, 503, 1)
    assert silent.json()["type"] == "urn:pumpwatch:problem:not_acknowledged"
    assert int(silent.headers["retry-after"]) >= 1
    assert {"before", "after"} <= set(kept)


async def test_a_record_given_up_is_followed_by_a_new_producer(stack: Stack, kafka_broker: Broker) -> None:
    """A broker silent for longer than a record's patience: unready, and ready again by itself."""
    env = {"PUMPWATCH_INGEST_ANSWER_SECONDS": "0.5", "PUMPWATCH_INGEST_PRODUCE_SECONDS": "1"}
    async with standing(stack, env) as ground, ground.gateway() as client:
        kafka_broker.child.signal(signal.SIGSTOP)
        try:
            await client.post("/v1/reports", json=fresh("meanwhile"))

            async def replaced() -> bool:
                return await ground.metric("pumpwatch_producers_replaced_total") >= 1

            await eventually(replaced, what="the producer given up")
            unreachable = await ground.metric("pumpwatch_kafka_reachable")
        finally:
            kafka_broker.child.signal(signal.SIGCONT)
        await ground.ingest.ready()
        buffered = await ground.metric("pumpwatch_buffered_bytes", lane="fresh")
        answer = await client.post("/v1/reports", json=fresh("after"))

    assert (unreachable, buffered, answer.status_code) == (0, 0, 202)


async def test_a_revoked_token_is_refused_within_a_second(stack: Stack) -> None:
    """Revoked, renewed and added tokens reach a running ingest by themselves."""
    async with standing(stack) as ground, ground.gateway() as client:
        assert (await client.post("/v1/reports", json=fresh())).status_code == 202

        async def refused() -> bool:
            return (await client.post("/v1/reports", json=fresh())).status_code == 401

        await gateways.revoke(ground.pool, "home-1")
        await eventually(refused, timeout=1.5, what="the revoked token refused")
        renewed = await gateways.add(ground.pool, "home-1", "home")
        async with ground.gateway(renewed) as other:

            async def taken() -> bool:
                return (await other.post("/v1/reports", json=fresh())).status_code == 202

            await eventually(taken, timeout=1.5, what="the new token accepted")


async def test_slow_heads_and_bodies_end(stack: Stack) -> None:
    """Connections that trickle are closed; one that waits between requests is not."""
    env = {"PUMPWATCH_INGEST_HEADER_SECONDS": "0.5", "PUMPWATCH_INGEST_BODY_SECONDS": "0.5"}
    async with standing(stack, env) as ground, ground.gateway() as client:
        assert (await client.post("/v1/reports", json=fresh())).status_code == 202
        address = urlsplit(await ground.ingest.url("http"))
        head = b"POST /v1/reports HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n"

        silent = await _told(address.hostname, address.port, b"")
        trickling = await _told(address.hostname, address.port, head[:-4])
        body = await _told(
            address.hostname, address.port, head + f"authorization: Bearer {ground.token}\r\n\r\n[".encode()
        )
        refused = await ground.metric("pumpwatch_connections_refused_total", reason="slow_head")
        again = await client.post("/v1/reports", json=fresh())

    assert (silent, trickling, refused) == (b"", b"", 2)
    assert body.startswith(b"HTTP/1.1 408 ")
    assert again.status_code == 202


async def test_connections_are_bounded(stack: Stack) -> None:
    """One connection too many is closed; the others go on."""
    async with standing(stack, {"PUMPWATCH_INGEST_CONNECTIONS": "3"}) as ground, ground.gateway() as client:
        address = urlsplit(await ground.ingest.url("http"))
        assert (await client.post("/v1/reports", json=fresh())).status_code == 202
        open_ones = [await asyncio.open_connection(address.hostname, address.port) for _ in range(2)]

        refused = await _told(address.hostname, address.port, b"")
        still = await client.post("/v1/reports", json=fresh())
        for _, writer in open_ones:
            writer.close()
            await writer.wait_closed()

    assert (refused, still.status_code) == (b"", 202)


async def test_a_stop_in_order_answers_what_is_under_way(stack: Stack) -> None:
    """SIGTERM: exit code 0, and what was accepted is on the topic."""
    async with standing(stack) as ground, ground.gateway() as client:
        answers = await asyncio.gather(*(client.post("/v1/reports", json=fresh(f"p{n}")) for n in range(20)))
        code = await ground.ingest.stop()
        kept = await ground.pumps()

    assert code == 0
    assert kept == sorted(f"p{n}" for n in range(20))
    assert {answer.status_code for answer in answers} == {202}


async def test_ingest_beats_while_it_hears(stack: Stack) -> None:
    """The worker's judgement of silence needs to know since when ingest hears."""
    async with standing(stack) as ground:

        async def beating() -> str | None:
            found: str | None = await ground.pool.fetchval("SELECT service FROM service_heartbeat")
            return found

        assert await eventually(beating, what="a heartbeat") == "ingest"


def _authorization(case: Case, token: str) -> str:
    return (case.authorization or "").replace("pwg_valid", token)


async def _chunks(body: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in body:
        yield chunk


async def _told(host: str | None, port: int | None, sent: bytes) -> bytes:
    """Send this, and read until the other side closes."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(sent)
        await writer.drain()
        async with asyncio.timeout(15):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()
