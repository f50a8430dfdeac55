"""Hears what PostgreSQL notifies, over a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg

from streams.operations import STATEMENT_SECONDS


async def listen_to(
    dsn: str,
    channel: str,
    heard: Callable[[str], None],
    connected: Callable[[], None],
    *,
    connect_seconds: float,
    check_seconds: float,
) -> None:
    """Listen on one connection until it fails; what was notified before it stood has to be found another way.

    Args:
        dsn: Where to connect.
        channel: What to listen to.
        heard: Called with each notification's payload.
        connected: Called once it listens.
        connect_seconds: How long connecting may take.
        check_seconds: Pause between two questions, since a half-open connection never says that it is dead.

    Raises:
        OSError, TimeoutError, PostgresError, InterfaceError, InternalClientError: The connection failed.
    """

    def told(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        heard(str(payload))

    connection = await asyncpg.connect(dsn, timeout=connect_seconds, command_timeout=STATEMENT_SECONDS)
    try:
        await connection.add_listener(channel, told)
        connected()
        while True:
            await asyncio.sleep(check_seconds)
            await connection.execute("SELECT 1")
    finally:
        connection.terminate()
