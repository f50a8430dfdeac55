"""The Kafka edge: what is usable goes on, what is not is kept with its bytes, and a restart loses nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from streams import topics
from tests.integration.ingest_ground import Ground, encoded, fresh, now, standing
from tests.stack import Stack, eventually

BAD: list[tuple[str, Callable[[], tuple[bytes | None, bytes | None]]]] = [
    ("no_value", lambda: (b"pump-1", None)),
    ("not_json", lambda: (b"pump-1", b"")),
    ("not_json", lambda: (b"pump-1", b'{"schema_version":1')),
    ("not_json", lambda: (b"pump-1", bytes(range(256)))),
    ("not_utf8", lambda: (b"pump-1", encoded(fresh()).replace(b"running", b"\xff\xfe"))),
    ("too_deep", lambda: (b"pump-1", b"[" * 60_000)),
    ("too_large", lambda: (b"pump-1", b" " * 65_537)),
    ("invalid", lambda: (b"pump-1", encoded([fresh()]))),
    ("invalid", lambda: (b"pump-1", encoded(fresh(mood="good")))),
    ("invalid", lambda: (b"pump-1", encoded(fresh()).replace(b'"running"', b'"running","temperature_celsius":NaN'))),
    ("too_old", lambda: (b"pump-1", encoded(fresh(event_time="2001-01-01T00:00:00Z")))),
    ("too_far_ahead", lambda: (b"pump-1", encoded(fresh(event_time="2999-01-01T00:00:00Z")))),
    ("duplicate_name", lambda: (b"pump-1", encoded(fresh())[:-1] + b',"motor":"stalled"}')),
    ("key_mismatch", lambda: (b"pump-2", encoded(fresh()))),
    ("key_mismatch", lambda: (None, encoded(fresh()))),
    ("key_mismatch", lambda: (b"\xff", encoded(fresh()))),
]


async def test_unusable_records_are_kept_with_their_bytes_and_usable_ones_go_on(stack: Stack) -> None:
    """Each bad record is a dead letter with origin and reason; usable records between them are not held up."""
    async with standing(stack) as ground, ground.producer() as producer:
        sent = [(reason, *make()) for reason, make in BAD]
        for number, (_, key, value) in enumerate(sent):
            await producer.send_and_wait(ground.topic(topics.REPORTS), value, key=key, partition=3)
            good = f"good-{number}"
            await producer.send_and_wait(
                ground.topic(topics.REPORTS), encoded(fresh(good)), key=good.encode(), partition=3
            )
        letters = await _all(ground, topics.DEAD_LETTERS, len(sent))
        pumps = await _pumps(ground, len(sent))

    by_offset = {int(dict(letter.headers)["origin_offset"]): letter for letter in letters}
    for number, (reason, key, value) in enumerate(sent):
        letter = by_offset[2 * number]
        headers = {name: value.decode() for name, value in letter.headers}
        assert (letter.key, letter.value) == (key, value or b"")
        assert headers["reason"] == reason
        assert headers["origin_topic"] == ground.topic(topics.REPORTS)
        assert (headers["origin_partition"], headers["edge"]) == ("3", "kafka")
        assert {"error", "schema_version", "app_version", "recorded_at"} <= headers.keys()
        assert "pump-1" not in "".join(headers.values())
    assert pumps == sorted(f"good-{number}" for number in range(len(sent)))


async def test_compressed_records_are_read_whatever_the_codec(stack: Stack) -> None:
    """Who writes chooses; one record that cannot be unpacked would end every session of the edge."""
    codecs = ["gzip", "lz4", "snappy", "zstd"]
    async with standing(stack) as ground:
        for codec in codecs:
            async with ground.producer(codec) as producer:
                value = encoded(fresh(codec))
                await producer.send_and_wait(ground.topic(topics.REPORTS), value, key=codec.encode(), partition=3)
        pumps = await _pumps(ground, len(codecs))

    assert pumps == codecs


async def test_a_record_larger_than_a_dead_letter_can_be_is_cut_and_says_so(stack: Stack) -> None:
    """Compressed it fits the topic. What follows it goes on, and no producer is given up for it."""
    value, key = b" " * (12 * 1024 * 1024), b"k" * 5_000
    async with standing(stack) as ground:
        producer = AIOKafkaProducer(
            bootstrap_servers=stack.kafka, acks="all", compression_type="gzip", max_request_size=16 * 1024 * 1024
        )
        async with producer:
            await producer.send_and_wait(ground.topic(topics.REPORTS), value, key=key, partition=3)
        async with ground.producer() as small:
            await small.send_and_wait(ground.topic(topics.REPORTS), encoded(fresh("next")), key=b"next", partition=3)
        [letter] = await _all(ground, topics.DEAD_LETTERS, 1)
        pumps = await _pumps(ground, 1)
        replaced = await ground.metric("pumpwatch_producers_replaced_total")

    headers = {name: text.decode() for name, text in letter.headers}
    assert (pumps, replaced) == (["next"], 0)
    assert value.startswith(letter.value)
    assert len(letter.value) == topics.MAX_RECORD_BYTES
    assert (headers["reason"], headers["full_value_bytes"]) == ("too_large", str(len(value)))
    assert headers["full_value_sha256"] == hashlib.sha256(value).hexdigest()
    assert headers["full_key_bytes"] == str(len(key))


async def test_a_restart_loses_no_report(stack: Stack) -> None:
    """A kill while records stream in: each usable report reaches the telemetry topic, each bad one the dead letters."""
    async with standing(stack) as ground, ground.producer() as producer:
        name = ground.topic(topics.REPORTS)
        for number in range(400):
            pump = f"pump-{number}"
            value = encoded(fresh(pump)) if number % 20 else b"bad %d" % number
            await producer.send(name, value, key=pump.encode(), partition=number % 5)
            if number == 200:
                await producer.flush()
                await eventually(lambda: _some(ground), what="the edge at work")
                ground.ingest.kill()
                await ground.ingest.start()
        await producer.flush()
        expected = {f"pump-{number}" for number in range(400) if number % 20}
        found = await eventually(lambda: _superset(ground, expected), timeout=60, every=0.5, what="every report")
        letters = await ground.records(topics.DEAD_LETTERS)

    assert set(found or ()) == expected
    assert {letter.value for letter in letters} == {b"bad %d" % number for number in range(0, 400, 20)}


@pytest.mark.parametrize("at_once", [True, False], ids=["read with others", "read alone"])
async def test_too_much_that_is_unusable_stops_the_partition_and_says_so(stack: Stack, at_once: bool) -> None:
    """Over the limit the edge stops where it is, unready; other partitions and the HTTP edge go on."""
    async with (
        standing(stack, {"PUMPWATCH_INGEST_DEAD_LETTERS_IN_A_ROW": "5"}) as ground,
        ground.producer() as producer,
        ground.gateway() as client,
    ):
        name = ground.topic(topics.REPORTS)
        for number in range(8):
            await producer.send_and_wait(name, b"bad %d" % number, key=b"x", partition=0)
            if number == 4 and not at_once:
                await _all(ground, topics.DEAD_LETTERS, 5)

        await eventually(lambda: _stopped(ground), what="the partition stopped")
        await producer.send_and_wait(name, encoded(fresh("other")), key=b"other", partition=1)
        await eventually(lambda: _superset(ground, {"other"}), what="the other partition")
        http = await client.post("/v1/reports", json=fresh("http"))
        async with httpx.AsyncClient(trust_env=False) as plain:
            ready = await plain.get(await ground.ingest.url() + "/readyz")
        letters = sorted(letter.value for letter in await ground.records(topics.DEAD_LETTERS))
        stored = await ground.pool.fetchval("SELECT consecutive FROM dead_letter_limit WHERE partition = 0")

    assert letters == [b"bad %d" % number for number in range(5)]
    assert (http.status_code, ready.status_code, stored) == (202, 503, 5)
    assert "unusable" in ready.text


@pytest.mark.parametrize("restart", [False, True], ids=["running on", "restarted"])
async def test_old_reports_take_the_backlog_here_too(stack: Stack, restart: bool) -> None:
    """The edge does not matter: old reports without an alarm wait, fresh ones do not."""
    async with standing(stack) as ground, ground.producer() as producer:
        if restart:
            assert await ground.ingest.stop() == 0
            await ground.ingest.start()
        name = ground.topic(topics.REPORTS)
        old = fresh("old", event_time=(now() - timedelta(hours=1)).isoformat())
        await producer.send_and_wait(name, encoded(fresh("fresh")), key=b"fresh")
        await producer.send_and_wait(name, encoded(old), key=b"old")

        waiting = await _all(ground, topics.BACKLOG, 1)
        pumps = await _pumps(ground, 1)

    assert len(waiting) == 1
    assert pumps == ["fresh"]


async def _all(ground: Ground, topic: topics.Topic, count: int) -> list[Any]:
    async def there() -> list[Any] | None:
        found = await ground.records(topic)
        return found if len(found) >= count else None

    found = await eventually(there, timeout=30, every=0.3, what=f"{count} records on {topic.name}")
    assert found is not None
    return found


async def _pumps(ground: Ground, count: int) -> list[str]:
    async def there() -> list[str] | None:
        found = await ground.pumps()
        return found if len(found) >= count else None

    found = await eventually(there, timeout=30, every=0.3, what=f"{count} reports")
    assert found is not None
    return found


async def _superset(ground: Ground, expected: set[str]) -> list[str] | None:
    found = await ground.pumps()
    return found if expected <= set(found) else None


async def _some(ground: Ground) -> bool:
    return await ground.metric("pumpwatch_reports_accepted_total", transport="kafka") > 0


async def _stopped(ground: Ground) -> bool:
    return await ground.metric("pumpwatch_kafka_edge_partitions_stopped") == 1
