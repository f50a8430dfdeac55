"""What cannot be used is kept with its original bytes, and a partition that produces too much of it is stopped.

A dead letter is awaited (acks=all) before the offset moves in PostgreSQL: a crash between the two repeats it, never
loses it. Origin topic, partition, offset and index identify a repeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol, Self

import asyncpg
from aiokafka import AIOKafkaProducer

from streams.operations import STATEMENT_SECONDS, version
from streams.topics import MAX_RECORD_BYTES

SEND_SECONDS: Final = 15.0
START_SECONDS: Final = 30.0
SCHEMA_VERSION: Final = "1"
RATIO_HALF_LIFE_SECONDS: Final = 600.0
RATIO_MINIMUM_REPORTS: Final = 1_000
"""Below this many recent reports a ratio says nothing; the limit of dead letters in a row applies all the same."""


class DeadLetterReason(StrEnum):
    """Why the worker put something aside; also the metric's label."""

    UNDECODABLE = "undecodable"
    """The record is no batch of reports; the whole record is kept."""
    WRONG_PARTITION = "wrong_partition"
    """The record holds a pump of another partition; the whole record is kept."""
    UNDECIDABLE = "undecidable"
    """No step of the pump could be computed from this report."""
    REFUSED = "refused"
    """PostgreSQL does not accept what follows from this report."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Original bytes and where they came from; ``index`` counts reports within the record, None is the whole record.

    ``error`` names a class, never a message: messages may quote telemetry.
    """

    value: bytes
    topic: str
    partition: int
    offset: int
    index: int | None
    reason: DeadLetterReason
    error: str

    def headers(self, now: datetime) -> list[tuple[str, bytes]]:
        """Kafka headers, all text in UTF-8."""
        fields = {
            "origin_topic": self.topic,
            "origin_partition": str(self.partition),
            "origin_offset": str(self.offset),
            **({} if self.index is None else {"origin_index": str(self.index)}),
            "reason": self.reason.value,
            "error": self.error,
            "schema_version": SCHEMA_VERSION,
            "app_version": version(),
            "recorded_at": now.isoformat(),
        }
        return [(name, text.encode()) for name, text in fields.items()]


class DeadLetters(Protocol):
    """Where dead letters go. When `put` returns, the letter survives the death of any one process."""

    async def put(self, letter: DeadLetter, now: datetime) -> None:
        """Keep one letter.

        Raises:
            KafkaError: Not kept; trying again may help.
            TimeoutError: Perhaps kept; trying again may repeat it.
        """


class KafkaDeadLetters:
    """Dead letters on a topic of their own; an async context manager.

    Args:
        client: How Kafka is reached, as `CoreSettings.kafka_client` says.
        topic: Their topic.
    """

    def __init__(self, client: Mapping[str, Any], topic: str) -> None:
        self._topic = topic
        self._producer = AIOKafkaProducer(
            **client,
            acks="all",
            enable_idempotence=True,
            request_timeout_ms=int(SEND_SECONDS * 1000),
            max_request_size=MAX_RECORD_BYTES + 1024 * 1024,
        )

    async def __aenter__(self) -> Self:
        """Connect."""
        async with asyncio.timeout(START_SECONDS):
            await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        async with asyncio.timeout(START_SECONDS):
            await self._producer.stop()

    async def put(self, letter: DeadLetter, now: datetime) -> None:
        """See `DeadLetters.put`."""
        async with asyncio.timeout(SEND_SECONDS):
            await self._producer.send_and_wait(self._topic, letter.value, headers=letter.headers(now))


class DeadLetterLimit:
    """Whether a partition may go on diverting: a count in a row, and a share of what was seen lately.

    The share is weighed by age (half-life 10 min) and needs `RATIO_MINIMUM_REPORTS`; while nothing usable was seen it
    does not apply, since then everything is broken and only the count tells.

    Args:
        in_a_row: Highest allowed count with nothing usable in between.
        ratio: Highest allowed share, 0 to 1.
        consecutive: The count where the last run left it.
    """

    def __init__(self, in_a_row: int, ratio: float, consecutive: int = 0) -> None:
        self._in_a_row, self._ratio = in_a_row, ratio
        self.consecutive = consecutive
        self._usable = self._diverted = 0.0
        self._weighed_at: float | None = None

    def usable(self, count: int, at: float) -> None:
        """Reports were applied; ``at`` is monotonic seconds."""
        if count:
            self._weigh(at)
            self._usable += count
            self.consecutive = 0

    def divert(self, at: float) -> bool:
        """Count one dead letter; False when it would be one too many, and is not counted."""
        self._weigh(at)
        if self.consecutive >= self._in_a_row or self._too_large_a_share():
            return False
        self.consecutive += 1
        self._diverted += 1
        return True

    def _too_large_a_share(self) -> bool:
        total = self._usable + self._diverted + 1
        return self._usable > 0 and total >= RATIO_MINIMUM_REPORTS and (self._diverted + 1) / total > self._ratio

    def _weigh(self, at: float) -> None:
        if self._weighed_at is not None:
            weight = 0.5 ** ((at - self._weighed_at) / RATIO_HALF_LIFE_SECONDS)
            self._usable, self._diverted = self._usable * weight, self._diverted * weight
        self._weighed_at = at


class Limits(Protocol):
    """Remembers each partition's count in a row across restarts."""

    async def load(self, topic: str, partition: int) -> int:
        """The count when the partition was last worked on; 0 for a new one."""

    async def save(self, topic: str, partition: int, consecutive: int) -> None:
        """Remember the count."""


class PostgresLimits:
    """The table ``dead_letter_limit``."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def load(self, topic: str, partition: int) -> int:
        """See `Limits.load`."""
        count = await self._pool.fetchval(
            "SELECT consecutive FROM dead_letter_limit WHERE topic = $1 AND partition = $2",
            topic,
            partition,
            timeout=STATEMENT_SECONDS,
        )
        return int(count or 0)

    async def save(self, topic: str, partition: int, consecutive: int) -> None:
        """See `Limits.save`."""
        await self._pool.execute(
            """
            INSERT INTO dead_letter_limit (topic, partition, consecutive) VALUES ($1, $2, $3)
            ON CONFLICT (topic, partition) DO UPDATE SET consecutive = excluded.consecutive
            """,
            topic,
            partition,
            consecutive,
            timeout=STATEMENT_SECONDS,
        )
