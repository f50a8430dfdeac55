"""One telemetry partition as this worker knows it: the next record, the pumps in memory, and whether to go on."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from streams.store import StoredWorld


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

    @property
    def needs_operator(self) -> bool:
        """Whether a restart or another worker cannot help."""
        return self is not Stop.FENCED


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
        self.assigned = False
        self.stopped: Stop | None = None
        self.next_offset = 0
        self.unsure = True
        """The stored offset or a pump's row may differ from what is known here: read before the next write."""
        self.heard_until: datetime | None = None
        """Service time up to which everything accepted has been applied; None: not known yet."""
        self.progress_at = 0.0
        self.seek_at: float | None = None

    @property
    def open(self) -> bool:
        """Whether records and ticks of it may be applied."""
        return self.assigned and self.stopped is None

    def take_over(self, next_offset: int, stopped: Stop | None, at: float) -> None:
        """The broker gave it to us, and PostgreSQL says what comes next; ``at`` is monotonic seconds."""
        self.cache.clear()
        self.assigned, self.stopped = True, stopped
        self.next_offset, self.unsure = next_offset, False
        self.progress_at, self.seek_at = at, None

    def let_go(self) -> None:
        """The broker took it away: nothing in memory is ours any more."""
        self.assigned, self.stopped = False, None
        self.forget()
        self.heard_until = None

    def forget(self) -> None:
        """Trust nothing in memory: a write failed, or its outcome is unknown."""
        self.cache.clear()
        self.unsure = True

    def stop(self, reason: Stop) -> None:
        """Work on it no longer."""
        self.stopped = reason
        self.forget()

    def moved_to(self, next_offset: int, at: float) -> None:
        """A record was committed; ``at`` is monotonic seconds."""
        self.next_offset, self.progress_at, self.seek_at = next_offset, at, None

    def heard(self, until: datetime) -> None:
        """Everything accepted up to ``until`` is applied; it never moves back."""
        if self.heard_until is None or until > self.heard_until:
            self.heard_until = until
