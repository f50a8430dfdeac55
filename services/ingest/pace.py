"""How far the worker is behind, judged from outside it: the broker's ends against PostgreSQL's offsets."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Final

MOST_SAMPLES: Final = 512


class Pace:
    """Remembers when each end of a partition was first seen, and so knows the age of what is not applied.

    The age is never overstated, and understated by the pause between two looks at most; no clock but the caller's
    counts, so it does not matter who produced the records and what their timestamps say.
    """

    def __init__(self) -> None:
        self._ends: dict[int, deque[tuple[float, int]]] = {}

    def observe(self, at: float, ends: Mapping[int, int], applied: Mapping[int, int]) -> float:
        """Seconds since the oldest record that is not applied was first seen; 0 when all is applied.

        Args:
            at: Monotonic seconds; never earlier than at the last look.
            ends: Each partition's end offset.
            applied: Each partition's next offset to apply. A partition without one that holds records has a worker
                that never came: infinitely far behind.
        """
        return max((self._age(at, number, end, applied.get(number)) for number, end in ends.items()), default=0.0)

    def _age(self, at: float, number: int, end: int, applied: int | None) -> float:
        if applied is None:
            return math.inf if end else 0.0
        seen = self._ends.setdefault(number, deque())
        if seen and end < seen[-1][1]:
            # The topic was made anew, or its log lost records: what was seen is not to be applied any more.
            seen.clear()
        if not seen or end > seen[-1][1]:
            # Full: the newest entry stands for all that came after it, so that the oldest keeps its age.
            if len(seen) >= MOST_SAMPLES:
                seen.pop()
            seen.append((at, end))
        while seen and seen[0][1] <= applied:
            seen.popleft()
        return at - seen[0][0] if seen else 0.0


class Window:
    """How many old reports may be under way to the worker: it grows while the worker keeps up, and halves when not.

    Args:
        most: It never grows beyond this.
        lag_seconds: The worker's lag that old reports must not cause; nothing may move at or above it.
    """

    def __init__(self, most: int, lag_seconds: float, least: int = 100) -> None:
        self._most, self._least, self._lag_seconds = most, least, lag_seconds
        self.size = 4 * least

    def adjust(self, lag_seconds: float, *, used: bool) -> bool:
        """Learn from a look at the worker; whether more may move now.

        Args:
            lag_seconds: The worker's lag.
            used: Whether the window held anything back since the last look; one that does not should not grow.
        """
        if lag_seconds >= self._lag_seconds:
            self.size = max(self._least, self.size // 2)
            return False
        if used and lag_seconds < self._lag_seconds / 2:
            self.size = min(self._most, self.size + self._least)
        return True
