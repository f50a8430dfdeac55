"""Pumps that report as real ones do: profiles, reports of about 300 bytes, and batches as ingest makes them.

Every pump is in its first boot, known from its first report on, so nothing is missing: the steady state. A pump that is
heard for the first time in the middle of its life costs more for an hour, while its earlier reports may still come.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from streams.domain.telemetry import Received, Rejected, Report, validate
from streams.topics import MAX_BATCH_REPORTS, encode_batch, partition_of

GATEWAY: Final = "bench-gateway"
SITE: Final = "bench"
MEAN_BATCH: Final = 100
STALL_EVERY: Final = 200
"""One pump in so many stalls during a prepared history, and one reports a reservoir that runs low."""

_REPORT: Final = (
    b'{"schema_version":1,"pump_id":"%b","boot_id":0,"seq":%d,"event_time":"%b","gateway_id":"%b","gateway_time":"%b",'
    b'"motor":"%b","alarms":[%b],"reservoir_estimated_ml":%.3f,"flow_programmed_ml_per_day":0.48,'
    b'"temperature_celsius":36.9,"battery":{"voltage_v":2.94}}'
)


@dataclass(frozen=True, slots=True)
class Moment:
    """One report of one pump before it is written as JSON; ``at`` is the pump's and the gateway's clock."""

    pump_id: str
    seq: int
    at: datetime
    stalled: bool = False
    reservoir_ml: float = 18.0


def as_json(moment: Moment) -> bytes:
    """The report as a gateway sends it, about 300 bytes."""
    at = moment.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
    motor, alarms = (b"stalled", b'"motor_stall"') if moment.stalled else (b"running", b"")
    gateway = GATEWAY.encode()
    return _REPORT % (moment.pump_id.encode(), moment.seq, at, gateway, at, motor, alarms, moment.reservoir_ml)


def pump_ids(prefix: str, count: int) -> tuple[str, ...]:
    """Names of pumps; their hash spreads them over the partitions."""
    return tuple(f"{prefix}-{index:05d}" for index in range(count))


def profile_lines(pumps: tuple[str, ...], valid_from: datetime) -> list[str]:
    """Profiles as JSON lines: intrathecal baclofen, the drug whose loss is most dangerous."""
    profile = {
        "site": SITE,
        "valid_from": valid_from.isoformat(),
        "family": "synchromed_ii",
        "reservoir_ml": 20,
        "drugs": [{"name": "baclofen", "concentration_ug_per_ml": 500.0}],
        "prescribed_ug_per_day": 240.0,
    }
    return [json.dumps({"pump_id": pump, **profile}) for pump in pumps]


def history(pumps: tuple[str, ...], rounds: int, end: datetime) -> Iterator[Moment]:
    """Every pump's reports, one a minute, up to ``end``, in the order in which they would arrive.

    One in `STALL_EVERY` pumps stalls for good in the middle, and one runs below its reservoir's limit.
    """
    minute, start = timedelta(minutes=1), end - timedelta(minutes=rounds)
    for turn in range(rounds):
        for index, pump in enumerate(pumps):
            at = start + turn * minute + index * minute / len(pumps)
            stalled = index % STALL_EVERY == 0 and turn >= rounds // 2
            low = index % STALL_EVERY == 1 and turn >= rounds // 2
            yield Moment(pump, turn, at, stalled, 1.5 if low else 18.0 - 0.0003 * turn)


def received(raw: bytes, at: datetime) -> Received:
    """A report as ingest passes it on.

    Raises:
        ValueError: If it is not valid, which would be a mistake in this module.
    """
    report: Report | Rejected = validate(raw, at)
    if isinstance(report, Rejected):
        raise ValueError(f"prepared report is not valid at {report.pointer}: {report.reason}")
    return Received(report=report, received_at=at)


def batches(reports: list[Received], partitions: int, seed: int = 1) -> Iterator[tuple[int, int, bytes]]:
    """Records as ingest makes them of reports in order of arrival: partition, number of reports, bytes.

    Sizes vary as they do when a linger closes them: exponential around `MEAN_BATCH`, at most 1,000.
    """
    chance = random.Random(seed)
    waiting: dict[int, list[Received]] = {partition: [] for partition in range(partitions)}
    limit = dict.fromkeys(waiting, MEAN_BATCH)
    for report in reports:
        partition = partition_of(report.report.pump_id, partitions)
        batch = waiting[partition]
        batch.append(report)
        if len(batch) >= limit[partition]:
            yield partition, len(batch), encode_batch(tuple(batch))
            batch.clear()
            limit[partition] = min(MAX_BATCH_REPORTS, 1 + int(chance.expovariate(1 / MEAN_BATCH)))
    for partition, batch in waiting.items():
        if batch:
            yield partition, len(batch), encode_batch(tuple(batch))
