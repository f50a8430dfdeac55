"""Plain pumps without physics, made for load: a report costs a few microseconds, and its number says all about it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from pydantic import SecretStr

MAX_BATCH: Final = 1_000
OLD_PUMPS: Final = 1_000
OLDEST: Final = timedelta(hours=26)
YOUNGEST_OLD: Final = timedelta(hours=1)
"""Old reports lie between these ages: past the 15 min after which a report without an alarm is backlog."""
OLD_STEP: Final = timedelta(minutes=15)
"""Between two old reports of a pump, or less where there are many."""
PROFILE_SINCE: Final = "2020-01-01"

_TELLING: Final = (
    b'"motor":"running","alarms":[],"reservoir_estimated_ml":%.3f,"flow_programmed_ml_per_day":0.5,'
    b'"volume_programmed_ml":%.4f,"temperature_celsius":36.8,"battery":{"voltage_v":2.91}}'
)
_STALLED: Final = (
    b'"motor":"stalled","alarms":["motor_stall"],"reservoir_estimated_ml":15.0,"temperature_celsius":36.8}'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What to send, where, and how fast.

    ``rate`` is in reports per second; ``alarm_share`` of them are the first word of a pump that has just stalled, each
    a new pump, so each opens an alert. ``old`` reports of further pumps, without an alarm, are handed in beside that
    as fast as ingest takes them. ``seconds`` None means until stopped. ``name`` begins every pump id; choose a new one
    for each run, or the pumps of two runs are the same.
    """

    url: str
    gateway_id: str
    token: SecretStr
    name: str
    pumps: int = 1_000
    rate: float = 100.0
    batch: int = 100
    seconds: float | None = None
    alarm_share: float = 0.0
    old: int = 0
    connections: int = 8
    old_connections: int = 2
    max_waiting: int = 1_000
    """Requests under way or waiting for a connection; beyond it the generator itself falls behind, and says so."""
    settle_seconds: float = 60.0
    """How long after the end requests without an answer are still tried again."""
    site: str = "load"
    boot_id: int = field(default_factory=lambda: int(time.time()))
    ledger: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ValueError: With the field's name.
        """
        checks = {
            "pumps": self.pumps >= 1,
            "rate": self.rate >= 0,
            "batch": 1 <= self.batch <= MAX_BATCH,
            "seconds": self.seconds is None or self.seconds > 0,
            "alarm_share": 0 <= self.alarm_share <= 1,
            "old": self.old >= 0,
            "connections": self.connections >= 1 and self.old_connections >= 1,
        }
        for name, holds in checks.items():
            if not holds:
                raise ValueError(f"{name} is out of range")


@dataclass(frozen=True, slots=True)
class Request:
    """Reports as they are sent, with the identity of each: pump, sequence number, whether it is an alarm."""

    body: bytes
    identities: tuple[tuple[str, int, bool], ...]
    old: bool = False


class Fleet:
    """Turns report numbers into bytes: the same number is always the same report of the same pump.

    Report ``i`` is number ``i // pumps`` of pump ``i % pumps``, so every pump's sequence is without a gap.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        gateway = msgspec.json.encode(plan.gateway_id)
        self._middle = b',"gateway_id":' + gateway + b',"gateway_time":"'
        self._heads = [self._head(pump_id) for pump_id in self._ids("p", plan.pumps)]
        self._names = self._ids("p", plan.pumps)
        self._old_names = self._ids("old", min(plan.old, OLD_PUMPS))
        self._old_heads = [self._head(pump_id) for pump_id in self._old_names]
        self._next, self._alarms = 0, 0

    @property
    def alarms(self) -> int:
        """Alarms made so far."""
        return self._alarms

    def fresh(self, now: datetime) -> Request:
        """The next batch, spoken at ``now``."""
        plan = self._plan
        so_far = self._next + self._alarms + plan.batch
        # The summand is for shares that binary fractions miss by a hair: 3 % of 1,000 are 30.
        alarms = int(so_far * plan.alarm_share + 1e-6) - self._alarms
        said = self._said(now)
        bodies: list[bytes] = []
        identities: list[tuple[str, int, bool]] = []
        for number in range(self._alarms, self._alarms + alarms):
            pump_id = alarm_pump_id(plan, number)
            bodies.append(b"%b0%b%b" % (self._head(pump_id), said, _STALLED))
            identities.append((pump_id, 0, True))
        self._alarms += alarms
        heads, names, pumps = self._heads, self._names, plan.pumps
        for number in range(self._next, self._next + plan.batch - alarms):
            seq, pump = divmod(number, pumps)
            told = _TELLING % (18.0 - seq % 16_000 * 1e-3, seq * 1e-4)
            bodies.append(b"%b%d%b%b" % (heads[pump], seq, said, told))
            identities.append((names[pump], seq, False))
        self._next += plan.batch - alarms
        return Request(_joined(bodies), tuple(identities))

    def history(self, now: datetime) -> Iterator[Request]:
        """All old reports, each pump's in its own order; the longest histories end an hour ago."""
        plan, pumps = self._plan, len(self._old_names)
        per_pump = -(-plan.old // pumps) if pumps else 0
        step = min((OLDEST - YOUNGEST_OLD) / max(per_pump, 1), OLD_STEP)
        begins = now - YOUNGEST_OLD - (per_pump - 1) * step
        for first in range(0, plan.old, plan.batch):
            bodies: list[bytes] = []
            identities: list[tuple[str, int, bool]] = []
            said, said_for = b"", -1
            for number in range(first, min(first + plan.batch, plan.old)):
                seq, pump = divmod(number, pumps)
                if seq != said_for:
                    said, said_for = self._said(begins + seq * step), seq
                told = _TELLING % (18.0 - seq % 16_000 * 1e-3, seq * 1e-4)
                bodies.append(b"%b%d%b%b" % (self._old_heads[pump], seq, said, told))
                identities.append((self._old_names[pump], seq, False))
            yield Request(_joined(bodies), tuple(identities), old=True)

    def _ids(self, kind: str, count: int) -> list[str]:
        return [f"{self._plan.name}-{kind}{number:06d}" for number in range(count)]

    def _head(self, pump_id: str) -> bytes:
        return b'{"schema_version":1,"pump_id":"%b","boot_id":%d,"seq":' % (pump_id.encode(), self._plan.boot_id)

    def _said(self, moment: datetime) -> bytes:
        text = moment.isoformat(timespec="milliseconds").encode()
        return b',"event_time":"' + text + b'"' + self._middle + text + b'",'


def alarm_pump_id(plan: LoadPlan, number: int) -> str:
    """The pump whose stall is alarm ``number`` (from 0)."""
    return f"{plan.name}-alarm{number:06d}"


def profiles(plan: LoadPlan) -> Iterator[dict[str, Any]]:
    """The profiles of all pumps of a plan, as ``pumpwatch pumps import`` reads them; alarms need ``seconds``."""
    alarms = int(plan.rate * plan.alarm_share * (plan.seconds or 0)) + plan.batch
    fleet = [f"{plan.name}-p{number:06d}" for number in range(plan.pumps)]
    fleet.extend(f"{plan.name}-old{number:06d}" for number in range(min(plan.old, OLD_PUMPS)))
    fleet.extend(alarm_pump_id(plan, number) for number in range(alarms if plan.alarm_share else 0))
    for pump_id in fleet:
        yield {
            "pump_id": pump_id,
            "site": plan.site,
            "valid_from": PROFILE_SINCE,
            "family": "synchromed_ii",
            "reservoir_ml": 20,
            "drugs": [{"name": "morphine", "concentration_ug_per_ml": 10_000.0}],
            "prescribed_ug_per_day": 5_000.0,
        }


def write_profiles(plan: LoadPlan, path: Path) -> int:
    """Write `profiles` as JSON Lines; returns how many."""
    lines = [msgspec.json.encode(document) for document in profiles(plan)]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return len(lines)


def _joined(bodies: list[bytes]) -> bytes:
    return b"[" + b",".join(bodies) + b"]"
