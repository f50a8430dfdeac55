"""Whose records are settled next, and which of them share a transaction.

A transaction costs far more than a record, and at a thousand small records per second no partition alone has more than
a few. So records that wait are taken over all partitions, those that wait longest first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final, TypeAlias

from streams.partition import Partition, Record

RUN_BYTES: Final = 384 * 1024
RUN_RECORDS: Final = 256
"""At most so much is taken for one transaction; a single record may be larger.

About 2,000 reports: a worker that drains is a fifth faster than with 1,000 (measured).
"""
PACE_SECONDS: Final = 0.015
"""Between two takes, unless enough for a transaction waits: what comes within it shares the next one (measured)."""

Load: TypeAlias = Sequence[tuple[Partition, Sequence[Record]]]
"""Records of one transaction: each partition once, its records in the order in which they came."""


class Turns:
    """Partitions with records that wait; any number of tasks take from them, no two from the same partition at once.

    Args:
        pace_seconds: See `PACE_SECONDS`.
    """

    def __init__(self, pace_seconds: float = PACE_SECONDS) -> None:
        self._pace_seconds = pace_seconds
        self._waiting: dict[int, Partition] = {}
        self._at_work: set[int] = set()
        self._news = asyncio.Event()
        self._taking = asyncio.Lock()
        self._next_at = 0.0

    def put(self, partition: Partition) -> None:
        """A record came into the partition's inbox."""
        self._waiting.setdefault(partition.number, partition)
        self._news.set()

    async def take(self) -> Load:
        """Wait for records, and take what makes one good transaction; give the turn back with `done`."""
        async with self._taking:
            while True:
                while not (ready := self._ready()):
                    self._news.clear()
                    await self._news.wait()
                pause = self._next_at - time.monotonic()
                if pause <= 0 or sum(partition.inbox.size for partition in ready) >= RUN_BYTES:
                    self._next_at = time.monotonic() + self._pace_seconds
                    return self._taken_from(ready)
                await asyncio.sleep(pause)

    def done(self, load: Load) -> None:
        """These records are settled, or given up: their partitions' next ones may be taken."""
        for partition, _ in load:
            self._at_work.discard(partition.number)
            if partition.inbox:
                self.put(partition)

    def _ready(self) -> list[Partition]:
        """Partitions to take from, the longest waiting first; one that is locked would hold up the others."""
        ready = [one for one in self._waiting.values() if one.number not in self._at_work and one.inbox]
        return [partition for partition in ready if not partition.lock.locked()] or ready[:1]

    def _taken_from(self, ready: Sequence[Partition]) -> Load:
        load: list[tuple[Partition, Sequence[Record]]] = []
        records, size = RUN_RECORDS, RUN_BYTES
        for partition in ready:
            if load and (records <= 0 or size < partition.inbox.next_size):
                continue
            taken = partition.inbox.take(records, size)
            records -= len(taken)
            size -= sum(len(record.value) for record in taken)
            load.append((partition, taken))
            del self._waiting[partition.number]
            self._at_work.add(partition.number)
        return load
