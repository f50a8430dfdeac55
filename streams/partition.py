"""One telemetry partition as this worker knows it: the next record, the pumps in memory, and whether to go on."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from streams.store import StoredWorld

INBOX_BYTES: Final = 512 * 1024
INBOX_RECORDS: Final = 256
"""Beyond either, the partition is not fetched; what was fetched before (at most 1 MiB) still comes."""


class Stop(StrEnum):
    """Why a partition that the broker gave to us is not worked on; also the metric's label."""

    FENCED = "fenced"
    """Another worker moved the stored offset: ours is the outdated view."""
    DEAD_LETTERS = "dead_letters"
    """Too many records or reports in it cannot be used; a bad deployment must not divert everything."""
    LOG_START = "log_start"
    """The broker no longer has the records that come next: they were deleted unread."""
    LOG_END = "log_end"
    """The stored offset lies beyond the broker's log: it lost records, or the topic was made anew."""
    OTHER_TOPIC = "other_topic"
    """The topic was deleted and made anew: offsets mean other records now."""


class PumpCache:
    """Worlds of the pumps used last; what is in it was committed, as far as this worker knows."""

    __slots__ = ("_limit", "_outdated", "_worlds")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._outdated: set[str] = set()
        self._worlds: OrderedDict[str, StoredWorld] = OrderedDict()

    def __len__(self) -> int:
        return len(self._worlds)

    def get(self, pump_ids: Iterable[str]) -> tuple[dict[str, StoredWorld], list[str]]:
        """The worlds that are known, and the pumps whose are not; work on these pumps begins."""
        self._outdated.clear()
        found: dict[str, StoredWorld] = {}
        missing: list[str] = []
        worlds = self._worlds
        for pump_id in pump_ids:
            stored = worlds.get(pump_id)
            if stored is None:
                missing.append(pump_id)
            else:
                worlds.move_to_end(pump_id)
                found[pump_id] = stored
        return found, missing

    def put(self, pump_id: str, stored: StoredWorld) -> None:
        """Remember a committed world, and forget the one used least recently when there are too many.

        A pump that was dropped since work on it began is not remembered: its profile is an outdated one.
        """
        if pump_id in self._outdated:
            return
        self._worlds[pump_id] = stored
        self._worlds.move_to_end(pump_id)
        if len(self._worlds) > self._limit:
            self._worlds.popitem(last=False)

    def drop(self, pump_id: str) -> None:
        """Forget one pump, also where work on it is under way."""
        self._worlds.pop(pump_id, None)
        self._outdated.add(pump_id)

    def clear(self) -> None:
        """Forget every pump."""
        self._worlds.clear()


@dataclass(frozen=True, slots=True)
class Record:
    """A telemetry record as it came from the broker."""

    partition: int
    offset: int
    value: bytes


def consecutive(records: Sequence[Record]) -> list[Record]:
    """The records from the first on as long as each offset follows the one before."""
    first = records[0].offset
    return [record for place, record in enumerate(records) if record.offset == first + place]


class Inbox:
    """Records that came from the broker and wait for their turn; see `streams.turns.Turns`."""

    __slots__ = ("_bytes", "_records")

    def __init__(self) -> None:
        self._records: deque[Record] = deque()
        self._bytes = 0

    def put(self, record: Record) -> None:
        """Add a record; whoever fetches looks at `full` afterwards."""
        self._records.append(record)
        self._bytes += len(record.value)

    @property
    def full(self) -> bool:
        """Whether fetching should pause."""
        return self._bytes >= INBOX_BYTES or len(self._records) >= INBOX_RECORDS

    @property
    def low(self) -> bool:
        """Whether fetching should go on."""
        return self._bytes <= INBOX_BYTES // 2 and len(self._records) <= INBOX_RECORDS // 2

    def __bool__(self) -> bool:
        """Whether a record waits."""
        return bool(self._records)

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._bytes

    @property
    def next_size(self) -> int:
        """Bytes of the record that comes next; 0: none waits."""
        return len(self._records[0].value) if self._records else 0

    def take(self, records: int, size: int) -> list[Record]:
        """The next of them, as many as fit ``records`` and ``size`` bytes; one that alone is larger than that, too."""
        taken: list[Record] = []
        while self._records and len(taken) < records:
            coming = len(self._records[0].value)
            if taken and coming > size:
                break
            taken.append(self._records.popleft())
            size -= coming
            self._bytes -= coming
        return taken

    def clear(self) -> None:
        """Forget what waits; it is read again by whoever owns the partition."""
        self._records.clear()
        self._bytes = 0


@dataclass(slots=True)
class Sweep:
    """How far a partition's pumps were looked at under a rule book: up to ``after``, or all of them when ``done``."""

    key: str = ""
    after: str = ""
    done: bool = False


@dataclass(frozen=True, slots=True)
class LogRange:
    """Offsets the broker has of a partition: ``start`` inclusive, ``end`` exclusive; and the topic's id, if known."""

    start: int
    end: int
    topic_id: str | None = None


class Partition:
    """What is known of one partition, for as long as the process lives.

    ``lock`` serialises everything that writes pumps of this partition: records and ticks.
    """

    def __init__(self, number: int, cache_limit: int) -> None:
        self.number = number
        self.lock = asyncio.Lock()
        self.cache = PumpCache(cache_limit)
        self.inbox = Inbox()
        self.fences = 0
        """How often the fence did not hold since the partition was assigned."""
        self.assigned = False
        self.stopped: Stop | None = None
        self.topic_id: str | None = None
        """Of the topic that `next_offset` belongs to; None: not known."""
        self.next_offset = 0
        self.tried_until = 0
        """Records up to this offset were tried, and whether they were committed is not known; 0: nothing is unknown."""
        self.unsure = True
        """The stored offset or a pump's row may differ from what is known here: read before the next write."""
        self.backlogged = True
        """Whether reports of its pumps may wait in the backlog: they are accepted, and cannot be applied yet."""
        self.heard_until: datetime | None = None
        """Service time up to which everything accepted has been applied; None: not known yet."""
        self.sweep = Sweep()
        self.progress_at = 0.0
        self.seek_at: float | None = None

    @property
    def open(self) -> bool:
        """Whether records and ticks of it may be applied."""
        return self.assigned and self.stopped is None

    def expects(self, records: Sequence[Record]) -> bool:
        """Whether these are its next records, as far as is known."""
        return (
            self.open
            and not self.unsure
            and records[0].offset == self.next_offset
            and len(consecutive(records)) == len(records)
        )

    def take_over(self, next_offset: int, stopped: Stop | None, at: float, topic_id: str | None = None) -> None:
        """The broker gave it to us, and PostgreSQL says what comes next; ``at`` is monotonic seconds."""
        self.topic_id = topic_id
        # Whatever waited when it was ours before: nobody said since.
        self.backlogged = True
        self.cache.clear()
        self.inbox.clear()
        self.assigned, self.stopped = True, stopped
        self.next_offset, self.tried_until, self.unsure = next_offset, 0, False
        self.progress_at, self.seek_at, self.fences = at, None, 0
        self.sweep = Sweep()

    def let_go(self) -> None:
        """The broker took it away: nothing in memory is ours any more."""
        self.assigned, self.stopped = False, None
        self.inbox.clear()
        self.forget()
        self.heard_until = None

    def forget(self) -> None:
        """Trust no world or offset in memory: a write failed, or its outcome is unknown."""
        self.cache.clear()
        self.unsure = True

    def stop(self, reason: Stop) -> None:
        """Work on it no longer."""
        self.stopped = reason
        self.inbox.clear()
        self.forget()

    def moved_to(self, next_offset: int, at: float) -> None:
        """A record was committed; ``at`` is monotonic seconds."""
        self.next_offset, self.progress_at, self.seek_at = next_offset, at, None

    def heard(self, until: datetime) -> None:
        """Everything accepted up to ``until`` is applied; it never moves back, nor while old reports wait."""
        if not self.backlogged and (self.heard_until is None or until > self.heard_until):
            self.heard_until = until
