"""The Kafka consumer whose position after every assignment is PostgreSQL's, never the one committed to Kafka."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, MutableMapping
from typing import Any, Protocol, cast

import structlog
from aiokafka.cluster import ClusterMetadata
from faust.assignor import PartitionAssignor
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.partition import LogRange
from streams.topic_identity import topic_id


class Positions(Protocol):
    """Knows from which offset each partition goes on."""

    def assigned(self, logs: Mapping[int, LogRange]) -> Awaitable[dict[int, int]]:
        """Take over these partitions; the offset to read each from."""


class TopicUnknown(Exception):
    """The broker does not know a topic, or not yet: it has only just started."""

    def __init__(self, topics: Iterable[str]) -> None:
        super().__init__(f"the broker does not know {', '.join(sorted(topics))}")


class Assignor(PartitionAssignor):
    """Faust's assignor, which as the group's leader gives out no assignment before it knows every topic.

    Faust would leave an unknown topic out, so that nobody gets a partition. Members with a stable name come back to
    what they were given, however often they are started: nothing would be worked on until all of them have left.
    """

    def assign(self, cluster: ClusterMetadata, member_metadata: MutableMapping[str, Any]) -> Any:
        """Who gets which partitions.

        Raises:
            TopicUnknown: The join fails, and is tried again.
        """
        topics = {topic for member in member_metadata.values() for topic in member.subscription}
        unknown = {topic for topic in topics if not cluster.partitions_for_topic(topic)}
        if unknown:
            raise TopicUnknown(unknown)
        return super().assign(cluster, member_metadata)


class _NothingRead(dict[TP, int | None]):
    """Never says that an offset was read.

    Faust drops records below the last one it delivered, and notes that one after a seek too: records read again would
    then be dropped. PostgreSQL's offset tells what was applied.
    """

    def __getitem__(self, tp: TP) -> int | None:
        return None

    def __setitem__(self, tp: TP, offset: int | None) -> None:
        pass

    def update(self, *_: Any, **__: Any) -> None:
        pass


class Consumer(driver.Consumer):
    """Faust's aiokafka consumer, asking `Positions` where Faust asks Kafka for committed offsets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset = _NothingRead()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned partition to the offset in PostgreSQL; called after each assignment."""
        ours: set[TP] = self.assignment()
        if not ours:
            return {}
        try:
            return await self._seek_all(ours)
        except Exception as error:
            if self.assignment() != ours:
                # The next assignment is on its way and seeks again.
                structlog.get_logger().info("assignment changed while seeking", error=type(error).__name__)
                return {}
            raise

    async def _seek_all(self, ours: set[TP]) -> Mapping[TP, int]:
        transport = cast("PostgresTransport", self.transport)
        starts = await self.earliest_offsets(*ours)
        ends = await self.highwaters(*ours)
        identity = await self.topic_id()
        logs = {tp.partition: LogRange(starts[tp], ends[tp], identity) for tp in ours}
        positions = await transport.positions.assigned(logs)
        targets = {tp: positions[tp.partition] for tp in ours}
        await self.seek_wait(targets)
        return targets

    async def topic_id(self) -> str | None:
        """The id of the topic that is consumed, as the broker says it now; None where it does not say."""
        transport = cast("PostgresTransport", self.transport)
        client = self._thread._ensure_consumer()._client
        found: str | None = await self._thread.call_thread(topic_id, client, transport.topic)
        return found

    async def seek_back(self, partition: int, offset: int) -> None:
        """Read a partition again from ``offset``."""
        transport = cast("PostgresTransport", self.transport)
        await self.seek_wait({TP(transport.topic, partition): offset})


class PostgresTransport(driver.Transport):
    """Faust's aiokafka transport with `Consumer`.

    Args:
        topic: The one topic that is consumed.
        positions: Where its partitions go on.
    """

    Consumer = Consumer

    def __init__(self, url: Any, app: Any, topic: str, positions: Positions) -> None:
        super().__init__(url, app)
        self.topic, self.positions = topic, positions
