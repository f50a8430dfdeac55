"""A gateway against an ingest on a real socket that fails, limits, drops and hangs: nothing is lost, however untidy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.emulator.gateway import Gateway, Identity, rejected_indexes, retry_after_seconds
from services.emulator.metrics import Metrics, Outcome
from services.emulator.scenario import GatewayPlan
from streams.domain.telemetry import Report, validate
from tests.services.emulator.fake_ingest import FakeIngest, Mood, Say

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def words(seq: int) -> dict[str, Any]:
    """What a pump says, without the gateway's part."""
    return {
        "schema_version": 1,
        "pump_id": "P-1",
        "boot_id": 7,
        "seq": seq,
        "event_time": NOON.isoformat(),
        "motor": "running",
    }


@dataclass
class Rig:
    """A gateway whose waiting takes no time: each wait is written down instead."""

    gateway: Gateway
    metrics: Metrics
    waits: list[float] = field(default_factory=list)
    now: datetime = NOON

    def count(self, outcome: Outcome) -> float:
        """Reports counted under an outcome."""
        return (
            self.metrics.registry.get_sample_value("pumpwatch_emulator_reports_total", {"outcome": outcome.value})
            or 0.0
        )

    @property
    def buffered(self) -> float | None:
        """The gauge of what gateways hold."""
        return self.metrics.registry.get_sample_value("pumpwatch_emulator_buffered_reports")


@contextlib.asynccontextmanager
async def rig(url: str, *, timeout: float = 5.0, capacity: int = 10_000, **habits: Any) -> AsyncIterator[Rig]:
    """A gateway that is not running yet."""
    metrics = Metrics()

    async def pass_time(seconds: float) -> None:
        made.waits.append(seconds)
        await asyncio.sleep(0)

    async with httpx.AsyncClient(base_url=url, timeout=timeout, trust_env=False) as client:
        gateway = Gateway(
            GatewayPlan.model_validate({"name": "one", "batch": 10, **habits}),
            Identity("GW-1", SecretStr("pwg_secret")),
            client,
            metrics,
            Random(1),
            started_at=NOON,
            clock=lambda: made.now,
            sleep=pass_time,
            capacity=capacity,
        )
        made = Rig(gateway, metrics)
        yield made


@contextlib.asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator[None]:
    """The gateway at work."""
    task = asyncio.create_task(gateway.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def delivered(ingest: FakeIngest, made: Rig, count: int) -> None:
    """Offer ``count`` reports and wait until ingest took them all and the gateway knows."""
    for seq in range(count):
        made.gateway.offer(words(seq), NOON)
    async with running(made.gateway):
        await ingest.until(lambda seen: len(set(seen.identities)) == count)
        async with asyncio.timeout(10):
            while made.gateway.held:
                await asyncio.sleep(0)


async def test_a_report_arrives_in_its_wire_form() -> None:
    """With the gateway's id, time and token, and valid to the edge."""
    async with FakeIngest() as ingest, rig(ingest.url) as made:
        await delivered(ingest, made, 3)

    (request,) = ingest.requests
    assert (request.authorization, request.content_type) == ("Bearer pwg_secret", "application/json")
    assert request.reports[0] == {
        **words(0),
        "gateway_id": "GW-1",
        "gateway_time": "2026-11-02T12:00:00.000+00:00",
    }
    assert isinstance(validate(httpx.Request("POST", "http://x", json=request.reports[0]).content, NOON), Report)
    assert made.count(Outcome.ACCEPTED) == 3
    assert made.buffered == 0


async def test_nothing_is_lost_whatever_ingest_does() -> None:
    """Limits, failures, lost connections before and after taking, no answer, an answer that says nothing."""
    trouble: list[Mood | Say] = [
        Say(429, (("retry-after", "7"),)),
        Mood.DROP_UNREAD,
        Mood.DROP_TAKEN,
        Say(503),
        Mood.HANG,
        Say(500),
        Say(202, body=b"<html>"),
        Say(408),
    ]
    async with FakeIngest.moody(trouble) as ingest, rig(ingest.url, timeout=0.2) as made:
        await delivered(ingest, made, 45)

    assert set(ingest.identities) == {("P-1", 7, seq) for seq in range(45)}
    assert len(ingest.identities) == 55, "the batch that was taken without an answer came again"
    assert made.count(Outcome.ACCEPTED) == 45
    assert made.count(Outcome.RETRIED) == 10 * len(trouble)
    assert made.waits[0] == 7


async def test_waits_grow_up_to_half_a_minute() -> None:
    """Backoff is exponential with jitter, and bounded."""
    async with FakeIngest.moody([Say(503)] * 12) as ingest, rig(ingest.url) as made:
        await delivered(ingest, made, 1)

    waits = made.waits[:12]
    assert 0.25 <= waits[0] <= 0.5
    assert all(15 <= wait <= 30 for wait in waits[7:])


async def test_resent_reports_arrive_twice_and_others_late() -> None:
    """The habits of a restless gateway: copies, and an order of its own, but each report at least once."""
    async with FakeIngest() as ingest, rig(ingest.url, resent_share=0.3, reordered_share=0.5) as made:
        await delivered(ingest, made, 200)

    numbers = [seq for _, _, seq in ingest.identities]
    assert set(numbers) == set(range(200))
    assert 230 < len(numbers) < 290
    assert numbers != sorted(numbers)
    assert made.count(Outcome.RESENT) == len(numbers) - 200


async def test_a_tidy_gateway_keeps_the_order() -> None:
    """Without such habits reports come once and in order."""
    async with FakeIngest() as ingest, rig(ingest.url) as made:
        await delivered(ingest, made, 100)

    assert [seq for _, _, seq in ingest.identities] == list(range(100))


async def test_a_lost_link_fills_the_buffer_and_its_return_empties_it() -> None:
    """Nothing is sent in between, and nothing is lost."""
    outage = {"lost": timedelta(seconds=10), "back": timedelta(seconds=60)}
    async with FakeIngest() as ingest, rig(ingest.url, outages=[outage]) as made:
        made.now = NOON + timedelta(seconds=59)
        for seq in range(30):
            made.gateway.offer(words(seq), NOON)
        async with running(made.gateway):
            while len(made.waits) < 20:
                await asyncio.sleep(0)
            assert (made.gateway.linked(), made.buffered, ingest.requests) == (False, 30, [])
            made.now = NOON + timedelta(seconds=60)
            await ingest.until(lambda seen: len(seen.identities) == 30)


async def test_a_full_buffer_drops_the_oldest_and_counts_it() -> None:
    """A gateway's memory is small; what is newest matters most."""
    async with FakeIngest() as ingest, rig(ingest.url, capacity=20) as made:
        for seq in range(50):
            made.gateway.offer(words(seq), NOON)
        assert (made.gateway.held, made.buffered, made.count(Outcome.DROPPED)) == (20, 20, 30)
        async with running(made.gateway):
            await ingest.until(lambda seen: len(seen.identities) == 20)

    assert [seq for _, _, seq in ingest.identities] == list(range(30, 50))


async def test_what_ingest_rejects_is_counted_and_not_sent_again() -> None:
    """A 202 with rejected entries settles all of them."""
    choosy = [Say(refuses=lambda report: report["seq"] in (2, 5))]
    async with FakeIngest.moody(choosy) as ingest, rig(ingest.url) as made:
        for seq in range(10):
            made.gateway.offer(words(seq), NOON)
        async with running(made.gateway), asyncio.timeout(10):
            while made.gateway.held:
                await asyncio.sleep(0)

    assert (made.count(Outcome.ACCEPTED), made.count(Outcome.REJECTED)) == (8, 2)
    assert len(ingest.requests) == 1


async def test_a_refused_batch_is_taken_apart_until_the_culprit_is_alone() -> None:
    """One unusable report does not keep others from arriving."""
    async with PickyIngest(7) as ingest, rig(ingest.url) as made:
        for seq in range(10):
            made.gateway.offer(words(seq), NOON)
        async with running(made.gateway), asyncio.timeout(10):
            while made.gateway.held:
                await asyncio.sleep(0)

    assert sorted(seq for _, _, seq in ingest.identities) == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert made.count(Outcome.REJECTED) == 1


class PickyIngest(FakeIngest):
    """Refuses any request that has a certain report in it, as a whole."""

    def __init__(self, seq: int) -> None:
        super().__init__()
        self._seq = seq

    def mood_for(self, reports: list[dict[str, Any]]) -> Mood | Say:
        """413 or all right."""
        return Say(413) if any(report["seq"] == self._seq for report in reports) else Say()


async def test_a_refused_token_keeps_everything_and_is_tried_seldom() -> None:
    """Somebody may give the gateway its rights back."""
    async with FakeIngest.moody([Say(401), Say(403)]) as ingest, rig(ingest.url) as made:
        await delivered(ingest, made, 5)

    assert made.waits[:2] == [30.0, 30.0]
    assert len(ingest.identities) == 5


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0.0),
        ("5", 5.0),
        ("0", 0.0),
        ("86400", 30.0),
        ("Mon, 02 Nov 2026 12:00:09 GMT", 9.0),
        ("Mon, 02 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", 0.0),
        ("-3", 0.0),
        ("¹", 0.0),
        ("Mon, 02 Nov 99999999999999999999 11:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str | None, seconds: float) -> None:
    """RFC 9110, with a limit of our own."""
    assert retry_after_seconds(value, NOON) == seconds


@given(st.text())
def test_no_retry_after_can_break_a_gateway(value: str) -> None:
    """Whatever a proxy says."""
    assert 0 <= retry_after_seconds(value, NOON) <= 30


@pytest.mark.parametrize(
    ("content", "indexes"),
    [
        (b'{"accepted":1,"rejected":[]}', set()),
        (b'{"accepted":1,"rejected":[{"index":3,"pointer":"","reason":"x"}]}', {3}),
        (b'{"accepted":1}', set()),
        (b"", None),
        (b"[]", None),
        (b'{"rejected":[{}]}', None),
    ],
)
def test_an_answer_says_which_were_rejected_or_nothing(content: bytes, indexes: set[int] | None) -> None:
    """An answer that cannot be read is no acceptance."""
    assert rejected_indexes(content) == indexes


def test_an_identity_never_shows_its_token() -> None:
    """Its text may end up in a log."""
    assert "pwg_secret" not in repr(Identity("GW-1", SecretStr("pwg_secret")))
