"""The producer that is made anew when a record of its is given up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from services.ingest.metrics import Metrics
from services.ingest.publisher import KafkaPublisher, NotAcknowledged, Position
from tests.stack import eventually

TOO_LARGE = b"as if it were larger than a request may be"


class Producer:
    """Answers at once, fails, or stays silent, like the one it stands for."""

    made: list[Producer]

    all_silent = False

    def __init__(self, **settings: Any) -> None:
        self.settings, self.stopped, self.silent, self.failing = settings, False, self.all_silent, False
        self.client = SimpleNamespace(force_metadata_update=self._metadata, close=self._metadata)
        Producer.made.append(self)

    async def _metadata(self) -> bool:
        return True

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Disconnect."""
        self.stopped = True

    async def send(self, topic: str, value: bytes, **_: Any) -> asyncio.Future[Any]:
        """Hand over a record."""
        if self.failing:
            raise KafkaConnectionError
        if value == TOO_LARGE:
            raise MessageSizeTooLargeError
        delivery: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self.silent:
            delivery.set_result(SimpleNamespace(partition=4, offset=7))
        return delivery


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Producer]:
    """Every producer made in the test."""
    found: list[Producer] = []
    monkeypatch.setattr(Producer, "made", found, raising=False)
    return found


async def test_a_record_is_where_kafka_says(made: list[Producer]) -> None:
    """All in-sync replicas, idempotent, without further linger: the settings that acceptance rests on."""
    async with KafkaPublisher({"bootstrap_servers": "kafka:1"}, 30, Metrics(), Producer) as publisher:
        assert await publisher.publish("t", b"v", partition=4) == Position(4, 7)

    assert len(made) == 1
    assert made[0].stopped
    assert made[0].settings["acks"] == "all"
    assert made[0].settings["enable_idempotence"] is True
    assert made[0].settings["request_timeout_ms"] == 30_000


@pytest.mark.parametrize("fault", ["silent", "failing"])
async def test_a_producer_that_fails_a_record_is_replaced_once(made: list[Producer], fault: str) -> None:
    """However many records it holds, one new producer takes over, and the old one is stopped."""
    metrics = Metrics()
    async with KafkaPublisher({"bootstrap_servers": "kafka:1"}, 0.05, metrics, Producer) as publisher:
        setattr(made[0], fault, True)
        results = await asyncio.gather(*(publisher.publish("t", b"v") for _ in range(5)), return_exceptions=True)

        async def works() -> bool:
            return publisher.reachable

        await eventually(works, what="a new producer")
        assert await publisher.publish("t", b"v") == Position(4, 7)

    assert all(isinstance(result, NotAcknowledged) for result in results)
    assert (len(made), made[0].stopped) == (2, True)
    assert metrics.registry.get_sample_value("pumpwatch_producers_replaced_total") == 1


async def test_a_broker_that_answers_and_takes_no_record_is_out_of_reach(
    made: list[Producer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too few replicas in sync nothing can be accepted: silence of pumps must not be judged meanwhile."""
    metrics = Metrics()
    async with KafkaPublisher({"bootstrap_servers": "kafka:1"}, 0.05, metrics, Producer) as publisher:
        monkeypatch.setattr(Producer, "all_silent", True)
        made[0].silent = True
        with pytest.raises(NotAcknowledged):
            await publisher.publish("t", b"v")

        async def tried_again() -> bool:
            return len(made) > 2 and not made[-1].stopped

        await eventually(tried_again, what="the record sent again to a new producer")
        meanwhile = publisher.reachable
        monkeypatch.setattr(Producer, "all_silent", False)
        made[-1].silent = False

        async def reached() -> bool:
            return publisher.reachable

        await eventually(reached, what="the record acknowledged, without another one to publish")

    assert not meanwhile
    assert metrics.registry.get_sample_value("pumpwatch_kafka_reachable") == 1


async def test_a_record_that_is_too_large_costs_no_producer(made: list[Producer]) -> None:
    """It was never numbered: what others wait for goes on."""
    async with KafkaPublisher({"bootstrap_servers": "kafka:1"}, 30, Metrics(), Producer) as publisher:
        with pytest.raises(NotAcknowledged, match="MessageSizeTooLarge"):
            await publisher.publish("t", TOO_LARGE)

        assert publisher.reachable
        assert await publisher.publish("t", b"v") == Position(4, 7)

    assert len(made) == 1


async def test_between_producers_nothing_is_acknowledged(made: list[Producer]) -> None:
    """Without a connection a record is refused at once: nobody waits for what cannot come."""
    publisher = KafkaPublisher({"bootstrap_servers": "kafka:1"}, 30, Metrics(), Producer)

    with pytest.raises(NotAcknowledged, match="no connection"):
        await publisher.publish("t", b"v")

    assert made == []
