"""How much one gateway may send: a token bucket each, and a second one for what carries an alarm."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

MAX_GATEWAYS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Rate:
    """Reports per second in the long run, and at once after a rest."""

    per_second: float
    burst: float


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float


class Buckets:
    """A token bucket per name; a name not asked for longest is forgotten when there are too many, and starts full."""

    def __init__(self, rate: Rate, most: int = MAX_GATEWAYS) -> None:
        self._rate, self._most = rate, most
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_seconds(self, name: str, count: int, at: float) -> float:
        """Take ``count`` and return 0, or take nothing and return the seconds until they are there.

        Args:
            name: Whose bucket.
            count: At most the burst, else they never fit.
            at: Monotonic seconds.
        """
        bucket = self._filled(name, at)
        if bucket.level >= count:
            bucket.level -= count
            return 0.0
        return (count - bucket.level) / self._rate.per_second

    def _filled(self, name: str, at: float) -> _Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(self._rate.burst, at)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
        bucket.level = min(self._rate.burst, bucket.level + max(0.0, at - bucket.at) * self._rate.per_second)
        bucket.at = at
        return bucket


class Allowance:
    """What each gateway may send; an alarm passes a gateway's own flood of ordinary reports."""

    def __init__(self, ordinary: Rate, alarms: Rate) -> None:
        self._ordinary, self._alarms = Buckets(ordinary), Buckets(alarms)

    def retry_after(self, gateway_id: str, count: int, at: float, *, alarm: bool) -> int | None:
        """None when the reports may pass, else the whole seconds until they may.

        Args:
            gateway_id: Who sends.
            count: Reports in the request.
            at: Monotonic seconds.
            alarm: Whether one of them carries an alarm.
        """
        wait = self._ordinary.wait_seconds(gateway_id, count, at)
        if wait and alarm:
            wait = self._alarms.wait_seconds(gateway_id, count, at)
        return max(1, math.ceil(wait)) if wait else None
