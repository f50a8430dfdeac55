"""Every Kafka topic: its name, its key, what a record holds, and how long it is kept."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import msgspec

from streams.domain.telemetry import Received

DEFAULT_PARTITIONS: Final = 24
MAX_BATCH_REPORTS: Final = 1_000
MAX_RECORD_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is provisioned; ``partitions=None`` means the setting for telemetry, 24 by default."""

    name: str
    retention: timedelta
    partitions: int | None = None


TELEMETRY: Final = Topic("pump.telemetry.v1", timedelta(days=7))
"""Batches of validated reports of one partition; key absent, partition chosen by `partition_of`."""
BACKLOG: Final = Topic("pump.backlog.v1", timedelta(days=7))
"""The same batches, of old reports without an alarm, waiting for the feeder."""
REPORTS: Final = Topic("pump.reports.v1", timedelta(days=7))
"""The Kafka-in edge: one report as JSON per record, key ``pump_id``."""
DEAD_LETTERS: Final = Topic("pump.dead-letters.v1", timedelta(days=90), 6)
"""Original bytes (at most `MAX_RECORD_BYTES` of them) of what could not be used, origin and reason in headers."""
ALERTS: Final = Topic("pump.alerts.v1", timedelta(days=90), 6)
"""Alert events as CloudEvents in binary mode, key ``pump_id``."""

FEEDER_GROUP: Final = "pumpwatch-feeder"
"""The consumer group that moves `BACKLOG` to `TELEMETRY`; what it has committed is moved."""

ALL: Final = (TELEMETRY, BACKLOG, REPORTS, DEAD_LETTERS, ALERTS)


def partition_of(pump_id: str, partitions: int) -> int:
    """The telemetry partition of a pump; changing ``partitions`` moves pumps and needs a drained topic."""
    return zlib.crc32(pump_id.encode()) % partitions


class Batch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One record on `TELEMETRY` or `BACKLOG`: 1 to 1,000 reports whose pumps all hash to the record's partition."""

    version: int
    reports: tuple[Received, ...]


class MalformedBatch(ValueError):
    """A telemetry record is not a batch this version understands."""


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Batch)


def encode_batch(reports: tuple[Received, ...]) -> bytes:
    """The bytes of a telemetry record."""
    return _ENCODER.encode(Batch(1, reports))


def decode_batch(value: bytes) -> Batch:
    """The batch in a telemetry record.

    Raises:
        MalformedBatch: If the bytes are not a batch of version 1.
    """
    try:
        batch = _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBatch(f"telemetry record is not a batch: {error}") from error
    if batch.version != 1 or not batch.reports:
        raise MalformedBatch(f"telemetry record has batch version {batch.version} and {len(batch.reports)} reports")
    return batch
