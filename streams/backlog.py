"""Which partitions have old reports waiting in the backlog: accepted, but not yet handed to the worker.

Until they are, a pump whose news stand there only seems silent, and nothing may be concluded from its silence.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams import topics
from streams.settings import CoreSettings

LEAVE_SECONDS: Final = 3.0


class Backlog:
    """Compares the backlog's ends with what its feeder has committed; an async context manager."""

    def __init__(self, settings: CoreSettings) -> None:
        self._group = settings.topic(topics.FEEDER_GROUP)
        topic = settings.topic(topics.BACKLOG.name)
        self._partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]
        self._consumer = AIOKafkaConsumer(**settings.kafka_client())
        self._admin = AIOKafkaAdminClient(**settings.kafka_client())

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            KafkaError: If no broker answers.
        """
        await self._consumer.start()
        await self._admin.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect; a broker that is gone is not waited for."""
        for leave in (self._admin.close, self._consumer.stop):
            with contextlib.suppress(TimeoutError, KafkaError):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await leave()

    async def waiting(self) -> set[int]:
        """Partitions with records that the feeder has not moved.

        Raises:
            KafkaError: If the broker does not answer.
        """
        # Ends first: what is moved between the two questions is then taken for moved, as it is.
        ends = await self._consumer.end_offsets(self._partitions)
        starts = await self._consumer.beginning_offsets(self._partitions)
        committed = await self._admin.list_consumer_group_offsets(self._group, partitions=self._partitions)
        moved = {tp: max(starts[tp], committed[tp].offset if tp in committed else 0) for tp in self._partitions}
        return {tp.partition for tp in self._partitions if ends[tp] > moved[tp]}
