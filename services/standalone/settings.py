"""What the one-machine stack needs to know: where its data goes, and a port for every part."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from services.standalone.child import check_free
from streams.operations import listen
from streams.settings import PREFIX, CoreSettings

LOOPBACK: Final = "127.0.0.1"
PortNumber = Annotated[int, Field(ge=0, le=65535)]

PARTS: Final = {
    "standalone_postgres_port": "PostgreSQL",
    "standalone_kafka_port": "Kafka",
    "web_port": "the care-team page",
    "ingest_port": "ingest",
    "mailbox_port": "the mailbox",
    "mailbox_smtp_port": "the mailbox's mail server",
    "ingest_metrics_port": "ingest's metrics",
    "worker_metrics_port": "the worker's metrics",
    "notify_metrics_port": "notify's metrics",
    "web_metrics_port": "web's metrics",
    "emulator_metrics_port": "the emulator's metrics",
    "watchdog_metrics_port": "the watchdog's metrics",
    "watchdog_receiver_port": "the watchdog's receiver",
}


class Settings(CoreSettings):
    """Everything listens on loopback. A port of 0 takes a free one, anew at each start."""

    var: Path = Path("var")
    """Folder of all data, secrets and logs; kept between starts."""
    development: bool = True
    replication_factor: int = Field(default=1, ge=1, le=1)
    """One broker can keep only one copy."""
    standalone_emulator: bool = True
    """Whether the emulator's pumps run; without them only what gateways send is seen."""
    standalone_watchdog: bool = True
    """Whether a synthetic alarm goes through the path every 15 seconds."""
    standalone_disk_free_mb: int = Field(default=2_000, ge=0)
    """Free space in MB that a start asks for."""
    standalone_public_url: str = ""
    """Address of the care-team page as people reach it, for links in messages; empty: on loopback."""
    standalone_jars: Path | None = None
    """Folder that keeps Kafka's jars; None: ``pumpwatch/jars`` in the user's cache, shared by every checkout."""

    standalone_postgres_port: PortNumber = 15432
    standalone_kafka_port: PortNumber = 19092
    web_port: PortNumber = 8080
    ingest_port: PortNumber = 8081
    mailbox_port: PortNumber = 8025
    mailbox_smtp_port: PortNumber = 1025
    ingest_metrics_port: PortNumber = 9101
    worker_metrics_port: PortNumber = 9102
    notify_metrics_port: PortNumber = 9103
    web_metrics_port: PortNumber = 9104
    emulator_metrics_port: PortNumber = 9105
    watchdog_metrics_port: PortNumber = 9106
    watchdog_receiver_port: PortNumber = 9116


def claim_ports(settings: Settings) -> dict[str, int]:
    """A port for every part by the name of its setting, each free at this moment and none twice.

    Raises:
        StartFailed: If a port is taken; the message names it, the part, and the setting that changes it.
    """
    wanted = {name: int(getattr(settings, name)) for name in PARTS}
    for name, port in wanted.items():
        if port:
            check_free(port, PARTS[name], f"{PREFIX}{name.upper()}")
    with ExitStack() as held:
        # Held together, so that the OS gives each part another one.
        return {name: port or _port_of(held.enter_context(listen(LOOPBACK, 0))) for name, port in wanted.items()}


def _port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port
