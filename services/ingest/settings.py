"""What ingest needs to know beside the shared settings."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import Final, Self

from pydantic import Field, model_validator

from streams.settings import CoreSettings

MIB: Final = 1024 * 1024


class Settings(CoreSettings):
    """Addresses, limits and patience of ingest; every field is read from ``PUMPWATCH_INGEST_…``."""

    ingest_host: str = "127.0.0.1"
    ingest_port: int = Field(default=8081, ge=0, le=65535)
    ingest_metrics_host: str = "127.0.0.1"
    ingest_metrics_port: int = Field(default=9101, ge=0, le=65535)
    ingest_name: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,64}$")
    """Stable and unique name of this process; host and process id when left empty."""

    ingest_body_bytes: int = Field(default=MIB, ge=1024, le=16 * MIB)
    """Largest body as sent."""
    ingest_unpacked_bytes: int = Field(default=8 * MIB, ge=1024, le=64 * MIB)
    """Largest body after unpacking."""
    ingest_header_seconds: float = Field(default=10, gt=0, le=120)
    """How long a connection may take to send a request's head."""
    ingest_body_seconds: float = Field(default=15, gt=0, le=120)
    """How long a request's body may take to arrive."""
    ingest_connections: int = Field(default=1024, ge=1, le=65536)
    """Connections open at once; one more is closed unanswered."""
    ingest_open_requests: int = Field(default=512, ge=1, le=65536)
    """Requests worked on at once; one more is asked to come back."""
    ingest_receiving_bytes: int = Field(default=128 * MIB, ge=MIB)
    """Bytes of bodies held at once, as sent and unpacked, over all requests."""

    ingest_reports_per_second: float = Field(default=20_000, gt=0)
    """Reports of one gateway that are taken per second in the long run."""
    ingest_reports_burst: int = Field(default=50_000, ge=1_000)
    """Reports of one gateway that are taken at once after a rest; a request has up to 1,000."""
    ingest_alarms_per_second: float = Field(default=2_000, gt=0)
    """The same for requests that carry an alarm and found the gateway's ordinary allowance used up."""

    ingest_linger_ms: float = Field(default=5, ge=0, le=100)
    """How long a batch waits for more reports of its partition while none of that partition is under way."""
    ingest_fresh_bytes: int = Field(default=64 * MIB, ge=MIB)
    """Accepted bytes of fresh reports that Kafka has not acknowledged."""
    ingest_alarm_bytes: int = Field(default=16 * MIB, ge=MIB)
    """Room beside that for requests that carry an alarm."""
    ingest_backlog_bytes: int = Field(default=32 * MIB, ge=MIB)
    """Accepted bytes of old reports that Kafka has not acknowledged."""
    ingest_answer_seconds: float = Field(default=8, gt=0, le=120)
    """How long a request waits for Kafka's acknowledgement before it is told to come back."""
    ingest_produce_seconds: float = Field(default=30, gt=0, le=120)
    """How long one record may wait for its acknowledgement before it is given up and the producer is made anew."""

    ingest_backlog_minutes: float = Field(default=15, gt=0)
    """A report older than this that carries no alarm waits in the backlog."""
    ingest_feeder_lag_ms: float = Field(default=200, gt=0)
    """The feeder moves reports only while the worker's lag is below this."""
    ingest_feeder_reports: int = Field(default=4_000, ge=200)
    """Reports moved and not yet applied, at most."""
    ingest_feeder_pause_ms: float = Field(default=25, ge=1, le=1_000)
    """Pause between two looks at the worker's progress while there is a backlog."""

    ingest_session_seconds: float = Field(default=10, ge=6, le=40)
    """How long the broker waits for a silent consumer of ours before its partitions move."""
    ingest_dead_letters_in_a_row: int = Field(default=1_000, ge=0)
    """More dead letters of one partition than this, with nothing usable between them, stop that partition's edge."""
    ingest_dead_letter_ratio: float = Field(default=0.01, ge=0, le=1)
    """A larger share of dead letters than this among a partition's recent reports stops that partition's edge."""

    @model_validator(mode="after")
    def _answers_before_giving_up(self) -> Self:
        if self.ingest_answer_seconds > self.ingest_produce_seconds:
            raise ValueError("ingest_answer_seconds must not exceed ingest_produce_seconds")
        return self

    @property
    def instance(self) -> str:
        """The name under which this process beats."""
        return self.ingest_name or f"{socket.gethostname()}-{os.getpid()}"

    @property
    def backlog_age(self) -> timedelta:
        """Older than this, a report without an alarm waits in the backlog."""
        return timedelta(minutes=self.ingest_backlog_minutes)
