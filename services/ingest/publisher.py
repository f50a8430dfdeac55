"""A producer: idempotent, acknowledged by all in-sync replicas, made anew after a failure.

One takes every report of the process; dead letters have another, so that a topic that takes none of them holds up no
report.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from services.ingest.metrics import Failure, Metrics
from streams.topics import MAX_RECORD_BYTES

CLOSE_SECONDS: Final = 2.0
CONNECT_SECONDS: Final = 15.0
PROBE_SECONDS: Final = 2.0
PROBE_TIMEOUT_SECONDS: Final = 4.0
LONGEST_PAUSE_SECONDS: Final = 5.0
HEADERS_BYTES: Final = 1024 * 1024


class NotAcknowledged(Exception):
    """Kafka did not acknowledge a record in time: it may be kept or not, and sending it again does no harm."""

    def __init__(self, topic: str, cause: str) -> None:
        super().__init__(f"record for {topic} is not acknowledged: {cause}")
        self.topic, self.cause = topic, cause


@dataclass(frozen=True, slots=True)
class Position:
    """Where an acknowledged record stands."""

    partition: int
    offset: int


Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class _Record:
    """What was to be published."""

    topic: str
    value: bytes
    partition: int | None
    key: bytes | None
    headers: Headers


class Publisher(Protocol):
    """Puts records on Kafka. When `publish` returns, the record survives the death of any one process."""

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        partition: int | None = None,
        key: bytes | None = None,
        headers: Headers = (),
    ) -> Position:
        """Send a record and wait for all in-sync replicas.

        Raises:
            NotAcknowledged: The outcome is unknown.
        """


class KafkaPublisher:
    """See `Publisher`; an async context manager.

    An idempotent producer never gives up a record by itself, because a record left out would break its numbering. So
    a record that waits for too long is given up together with the whole producer, and a new one takes over.

    A broker may answer and take no record all the same, when too few replicas are in sync. So after a record that was
    not acknowledged Kafka counts as out of reach until one is: that record is sent again, which does no harm, now and
    then.

    Args:
        client: How Kafka is reached, as `CoreSettings.kafka_client` says.
        wait_seconds: How long a record may wait for its acknowledgement.
        metrics: Where it counts.
        make: Makes a producer; for tests.
        shown: Whether the process' metrics show it as the one that reports depend on.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        wait_seconds: float,
        metrics: Metrics,
        make: Callable[..., AIOKafkaProducer] = AIOKafkaProducer,
        *,
        shown: bool = True,
    ) -> None:
        self._shown = shown
        self._client, self._wait_seconds, self._metrics, self._make = client, wait_seconds, metrics, make
        self._producer: AIOKafkaProducer | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._probing: asyncio.Task[None] | None = None
        self._stopped = False
        self._owed: _Record | None = None
        """The record that was not acknowledged last, while none was since."""
        self.reachable = False
        """Whether Kafka answered when last asked, and acknowledged the last record."""

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            KafkaError: If no broker answers.
            TimeoutError: If none answers in time.
        """
        self._producer = await self._connected()
        self._set_reachable(True)
        self._probing = asyncio.create_task(self._probe(), name="kafka probe")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Send what is under way for a short while, and disconnect."""
        self._stopped = True
        tasks = [task for task in (self._probing, self._renewing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._producer is not None:
            await _close(self._producer)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def publish(
        self,
        topic: str,
        value: bytes,
        *,
        partition: int | None = None,
        key: bytes | None = None,
        headers: Headers = (),
    ) -> Position:
        """See `Publisher.publish`."""
        producer, began = self._producer, time.perf_counter()
        if producer is None:
            raise NotAcknowledged(topic, "no connection")
        try:
            async with asyncio.timeout(self._wait_seconds):
                # aiokafka cancels a record's future with its waiter; the shield keeps the sender's own bookkeeping.
                delivery = await self._sent(producer, topic, value, key=key, partition=partition, headers=headers)
                found = await asyncio.shield(delivery)
        except (KafkaError, TimeoutError) as error:
            self._metrics.failures.labels(Failure.PRODUCE).inc()
            self._owed = _Record(topic, value, partition, key, headers)
            self._set_reachable(False)
            self._replace(producer)
            raise NotAcknowledged(topic, type(error).__name__) from error
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise NotAcknowledged(topic, "producer closed") from error
        self._metrics.produce.observe(time.perf_counter() - began)
        if self._owed is not None:
            self._owed = None
            self._set_reachable(True)
        return Position(found.partition, found.offset)

    async def _sent(self, producer: AIOKafkaProducer, topic: str, value: bytes, **how: Any) -> asyncio.Future[Any]:
        """Hand a record over; one that is too large gets no number, so the producer is as good as before."""
        try:
            delivery: asyncio.Future[Any] = await producer.send(topic, value, **how)
        except MessageSizeTooLargeError as error:
            self._metrics.failures.labels(Failure.PRODUCE).inc()
            raise NotAcknowledged(topic, type(error).__name__) from error
        return delivery

    def _replace(self, broken: AIOKafkaProducer) -> None:
        """Give up a producer, once; what others wait for in it fails by their own timeouts at the latest."""
        if self._producer is not broken or self._stopped:
            return
        self._producer = None
        self._set_reachable(False)
        self._metrics.producers_replaced.inc()
        structlog.get_logger().warning("producer replaced")
        closing = asyncio.create_task(_close(broken), name="close producer")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        self._renewing = asyncio.create_task(self._renew(), name="renew producer")

    async def _renew(self) -> None:
        pause = 0.1
        while self._producer is None:
            try:
                self._producer = await self._connected()
                self._set_reachable(self._owed is None)
            except (KafkaError, TimeoutError, OSError) as error:
                structlog.get_logger().warning("kafka not reached", error=type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _connected(self) -> AIOKafkaProducer:
        producer = self._make(
            **self._client,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            request_timeout_ms=int(self._wait_seconds * 1000),
            max_request_size=MAX_RECORD_BYTES + HEADERS_BYTES,
            metadata_max_age_ms=60_000,
        )
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await producer.start()
        except BaseException:
            await _close(producer)
            raise
        return producer

    async def _probe(self) -> None:
        """Ask Kafka for its metadata now and then, so that an idle ingest knows whether it could accept a report."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            if (producer := self._producer) is None:
                continue
            if (owed := self._owed) is not None:
                with contextlib.suppress(NotAcknowledged):
                    await self.publish(
                        owed.topic, owed.value, partition=owed.partition, key=owed.key, headers=owed.headers
                    )
                continue
            answered = False
            with contextlib.suppress(KafkaError, TimeoutError, OSError):
                async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                    answered = bool(await producer.client.force_metadata_update())
            self._set_reachable(answered and self._producer is producer and self._owed is None)

    def _set_reachable(self, reachable: bool) -> None:
        self.reachable = reachable
        if self._shown:
            self._metrics.kafka_reachable.set(reachable)


async def _close(producer: Any) -> None:
    """Stop a producer; one that cannot send what it holds is torn down without it."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await producer.stop()
    except (KafkaError, TimeoutError, OSError):
        # `stop` waits for what is under way without a limit and offers no other way to end the sending task.
        with contextlib.suppress(KafkaError, TimeoutError, OSError, asyncio.CancelledError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await producer._sender.close()
                await producer.client.close()
