"""Which gateways may send: their tokens' hashes in memory, kept as PostgreSQL has them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Final

import asyncpg
import structlog

from services.ingest.metrics import Failure, Metrics
from services.ingest.problems import Kind, Problem
from streams import gateways
from streams.operations import NO_DATABASE, STATEMENT_SECONDS

RESCAN_SECONDS: Final = 1.0
"""A notification may be missed, and a revoked token ends within a second all the same."""
MAX_TOKEN: Final = 256


class KnownGateways:
    """The gateways with a valid token, by the token's hash, and where they stand."""

    def __init__(self, by_hash: Mapping[bytes, str] | None = None, clinics: Iterable[str] = ()) -> None:
        self._by_hash, self._clinics = by_hash or {}, frozenset(clinics)

    def __len__(self) -> int:
        return len(self._by_hash)

    def replace(self, by_hash: Mapping[bytes, str], clinics: Iterable[str] = ()) -> None:
        """From now on these, and no others."""
        self._by_hash, self._clinics = by_hash, frozenset(clinics)

    def in_clinic(self, gateway_id: str) -> bool:
        """Whether the gateway is one of a clinic; one without a valid token is not."""
        return gateway_id in self._clinics

    def speaking(self, authorization: str | None) -> str | Problem:
        """The gateway that an ``Authorization`` header speaks for."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            return Problem(Kind.NO_TOKEN, "send Authorization: Bearer and the gateway's token")
        # The lookup is by hash, so how long it takes says nothing about any token.
        known = self._by_hash.get(gateways.token_hash(token[:MAX_TOKEN]))
        return known or Problem(Kind.UNKNOWN_TOKEN, "ask for a new token")


class Tokens:
    """Keeps `KnownGateways` as PostgreSQL has them.

    While PostgreSQL does not answer, the tokens known last stay valid: refusing what pumps say would harm more than
    taking it for a while from a gateway that was valid a moment ago. The age is a metric.
    """

    def __init__(self, pool: asyncpg.Pool, known: KnownGateways, metrics: Metrics) -> None:
        self._pool, self._known, self._metrics = pool, known, metrics
        self._changed = asyncio.Event()
        self.read_at = 0.0
        """Monotonic seconds when they were last read."""

    async def load(self) -> None:
        """Read them all.

        Raises:
            NO_DATABASE: PostgreSQL does not answer.
        """
        async with asyncio.timeout(STATEMENT_SECONDS):
            active = await gateways.load_active(self._pool)
        self._known.replace(active.by_hash, active.clinics)
        self.read_at = time.monotonic()
        self._metrics.gateways.set(len(self._known))
        self._metrics.gateways_read.set(time.time())

    async def keep_fresh(self) -> None:
        """Read them again whenever PostgreSQL says that they changed, and every second; until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._rescan())

    async def _rescan(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RESCAN_SECONDS):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self.load()
            except NO_DATABASE as error:
                self._failed(error)
                await asyncio.sleep(RESCAN_SECONDS)

    async def _listen(self) -> None:
        """Listen on a connection of the pool's that is kept for nothing else."""
        while True:
            try:
                async with self._pool.acquire(timeout=STATEMENT_SECONDS) as connection:
                    await connection.add_listener(gateways.CHANNEL, self._heard)
                    self._changed.set()
                    while not connection.is_closed():
                        await asyncio.sleep(RESCAN_SECONDS)
            except NO_DATABASE as error:
                self._failed(error)
            await asyncio.sleep(RESCAN_SECONDS)

    def _heard(self, *_: object) -> None:
        self._changed.set()

    def _failed(self, error: BaseException) -> None:
        self._metrics.failures.labels(Failure.GATEWAYS).inc()
        structlog.get_logger().warning("gateways not read", error=type(error).__name__)
