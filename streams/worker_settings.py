"""What the worker needs to know beside the shared settings."""

from __future__ import annotations

import os
import socket

from pydantic import Field

from streams.settings import CoreSettings


class Settings(CoreSettings):
    """Addresses, limits and patience of the worker; every field is read from ``PUMPWATCH_WORKER_…``."""

    worker_metrics_host: str = "127.0.0.1"
    worker_metrics_port: int = Field(default=9102, ge=0, le=65535)
    worker_name: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,64}$")
    """Stable and unique name of this worker: with one, a restart within the session timeout moves no partitions.

    Two workers must never share a name. Left empty, the worker joins as a new member at every start.
    """
    worker_connections: int = Field(default=4, ge=2, le=32)
    """Connections to PostgreSQL; partitions that wait for their commit share them."""
    worker_cache_pumps: int = Field(default=24_000, ge=1)
    """How many pumps' worlds are kept in memory, over all partitions; the rest is read when needed."""
    worker_session_seconds: float = Field(default=10, ge=6, le=40)
    """How long the broker waits for a silent worker before its partitions move."""
    worker_transaction_seconds: float = Field(default=20, gt=0, le=120)
    """How long one try to read and write a record may take."""
    worker_retry_seconds: float = Field(default=30, ge=0, le=240)
    """How long a record is tried again while PostgreSQL or the dead letters fail; then the process exits."""
    worker_tick_seconds: float = Field(default=0.5, ge=0.05, le=5)
    """Pause between two looks at the pumps whose deadline has passed."""
    worker_stall_seconds: float = Field(default=60, ge=5, le=3600)
    """Records waiting and none applied for so long: the process is not live any more, and exits."""
    worker_dead_letters_in_a_row: int = Field(default=200, ge=0)
    """More dead letters of one partition than this, with nothing usable between them, stop the partition."""
    worker_dead_letter_ratio: float = Field(default=0.01, ge=0, le=1)
    """A larger share of dead letters than this among a partition's recent reports stops the partition."""

    @property
    def instance(self) -> str:
        """The name under which this process beats: the worker's name, or host and process id."""
        return self.worker_name or f"{socket.gethostname()}-{os.getpid()}"
