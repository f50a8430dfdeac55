"""The table ``consumed`` as the worker's assignment uses it, beside what the store reads and moves."""

from __future__ import annotations

from streams.operations import STATEMENT_SECONDS
from streams.store import Store


class PostgresOffsets:
    """First rows and topic ids of one topic's partitions."""

    def __init__(self, store: Store, topic: str) -> None:
        self._store, self._topic = store, topic

    async def begin(self, partition: int, offset: int, topic_id: str | None) -> None:
        """Make the row of a partition never seen before; the first of two workers wins."""
        await self._store.start_partition(self._topic, partition, offset, topic_id)

    async def topic_id(self, partition: int) -> str | None:
        """The id of the topic whose offset is stored; None: not known."""
        known: str | None = await self._store.pool.fetchval(
            "SELECT topic_id FROM consumed WHERE topic = $1 AND partition = $2",
            self._topic,
            partition,
            timeout=STATEMENT_SECONDS,
        )
        return known
