"""A gateway: holds what its pumps say until ingest has it, over real HTTP, and is as untidy as gateways are.

It buffers, retries with backoff, resends what already arrived, changes the order, and loses its link for a while.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from random import Random
from typing import Final

import httpx
import msgspec
import structlog
from pydantic import SecretStr

from services.emulator.metrics import Metrics, Outcome
from services.emulator.physics import Document
from services.emulator.scenario import GatewayPlan
from services.emulator.ward import stamped

REPORTS_PATH: Final = "/v1/reports"
TIMEOUT: Final = httpx.Timeout(10.0, connect=3.0)
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0
LOOK_AGAIN_SECONDS: Final = 0.5
"""How often a gateway without a link looks whether it is back."""
DEFAULT_CAPACITY: Final = 10_000
TRY_AGAIN: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a gateway is to ingest."""

    gateway_id: str
    token: SecretStr


@dataclass(frozen=True, slots=True)
class Held:
    """A report in the buffer: its bytes, and whether it was already put back once or is itself a copy."""

    body: bytes
    delayed: bool = False
    copy: bool = False


class Refused(Exception):
    """Ingest will never take these bytes; ``status`` says why."""

    def __init__(self, status: int) -> None:
        super().__init__(f"ingest refuses the request with status {status}")
        self.status = status


class Gateway:
    """One gateway with its buffer.

    Args:
        plan: Its habits.
        identity: Its id and token.
        client: Shared HTTP client whose base URL is ingest's, with a timeout; the caller closes it.
        metrics: Where it counts.
        chance: Decides what is resent and reordered.
        started_at: Offset zero of the plan's outages.
        clock: Service time, aware UTC.
        sleep: Waits that many seconds.
        capacity: Reports the buffer holds; beyond it the oldest is dropped and counted.
    """

    def __init__(
        self,
        plan: GatewayPlan,
        identity: Identity,
        client: httpx.AsyncClient,
        metrics: Metrics,
        chance: Random,
        *,
        started_at: datetime,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        capacity: int = DEFAULT_CAPACITY,
    ) -> None:
        self._plan, self._identity, self._client, self._metrics, self._chance = plan, identity, client, metrics, chance
        self._started_at, self._clock, self._sleep, self._capacity = started_at, clock, sleep, capacity
        self._buffer: deque[Held] = deque()
        self._sending: list[Held] = []
        self._log = structlog.get_logger()

    @property
    def held(self) -> int:
        """Reports that ingest has not accepted yet, those under way included."""
        return len(self._buffer) + len(self._sending)

    def offer(self, document: Document, heard_at: datetime) -> None:
        """Take a report from a pump, as heard at ``heard_at``."""
        self._put(Held(msgspec.json.encode(stamped(document, self._identity.gateway_id, heard_at))))

    def linked(self) -> bool:
        """Whether the gateway reaches the network now."""
        since = self._clock() - self._started_at
        return not any(
            outage.lost <= since and (outage.back is None or since < outage.back) for outage in self._plan.outages
        )

    async def run(self) -> None:
        """Send until cancelled: every ``send_every`` all that is there, batch by batch."""
        while True:
            while self.linked() and self._buffer:
                await self._send_next()
            await self._sleep(self._plan.send_every.total_seconds())

    def _put(self, held: Held) -> None:
        if self.held >= self._capacity:
            if not self._buffer:
                self._metrics.reports[Outcome.DROPPED].inc()
                return
            self._buffer.popleft()
            self._metrics.reports[Outcome.DROPPED].inc()
            self._metrics.buffered.dec()
        self._buffer.append(held)
        self._metrics.buffered.inc()

    def _take(self) -> list[Held]:
        """The next batch; sometimes a part is put back behind the rest, and sometimes the batch is shuffled."""
        taken: list[Held] = []
        for _ in range(min(self._plan.batch, len(self._buffer))):
            held = self._buffer.popleft()
            if not held.delayed and self._chance.random() < self._plan.reordered_share:
                self._buffer.append(Held(held.body, delayed=True, copy=held.copy))
            else:
                taken.append(held)
        if self._chance.random() < self._plan.reordered_share:
            self._chance.shuffle(taken)
        return taken

    async def _send_next(self) -> None:
        self._sending = self._take()
        if not self._sending:
            return
        await self._deliver(self._sending)
        for held in self._sending:
            if not held.copy and self._chance.random() < self._plan.resent_share:
                self._metrics.reports[Outcome.RESENT].inc()
                self._put(Held(held.body, delayed=True, copy=True))
        self._metrics.buffered.dec(len(self._sending))
        self._sending = []

    async def _deliver(self, batch: list[Held]) -> None:
        """Send until ingest has answered for every report; a refused batch is halved until the culprit is alone."""
        try:
            await self._persist(batch)
        except Refused as refused:
            if len(batch) == 1:
                self._metrics.reports[Outcome.REJECTED].inc()
                self._log.warning("report refused", status=refused.status)
                return
            half = len(batch) // 2
            await self._deliver(batch[:half])
            await self._deliver(batch[half:])

    async def _persist(self, batch: list[Held]) -> None:
        body, pause = b"[" + b",".join(held.body for held in batch) + b"]", FIRST_PAUSE_SECONDS
        while True:
            wait = await self._try(body, len(batch))
            if wait is None:
                return
            self._metrics.reports[Outcome.RETRIED].inc(len(batch))
            await self._sleep(max(wait, pause * self._chance.uniform(0.5, 1.0)))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            while not self.linked():
                await self._sleep(LOOK_AGAIN_SECONDS)

    async def _try(self, body: bytes, count: int) -> float | None:
        """One request: None when ingest answered for every report, else the seconds to wait at least.

        Raises:
            Refused: If the same bytes would be refused again.
        """
        headers = {
            "authorization": f"Bearer {self._identity.token.get_secret_value()}",
            "content-type": "application/json",
        }
        try:
            response = await self._client.post(REPORTS_PATH, content=body, headers=headers)
        except httpx.TransportError as error:
            self._metrics.requests.labels("network_error").inc()
            self._log.info("ingest not reached", error=type(error).__name__)
            return 0.0
        self._metrics.requests.labels(str(response.status_code)).inc()
        if response.status_code == HTTPStatus.ACCEPTED:
            rejected = rejected_indexes(response.content)
            if rejected is None:
                return 0.0
            self._metrics.reports[Outcome.REJECTED].inc(len(rejected))
            self._metrics.reports[Outcome.ACCEPTED].inc(count - len(rejected))
            return None
        if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            # Somebody may give the token its rights (back); what the pumps said is kept for that.
            self._log.warning("token refused", status=response.status_code)
            return LONGEST_PAUSE_SECONDS
        if response.is_server_error or response.status_code in TRY_AGAIN:
            return retry_after_seconds(response.headers.get("retry-after"), self._clock())
        raise Refused(response.status_code)


class _Rejection(msgspec.Struct):
    index: int


class _Accepted(msgspec.Struct):
    rejected: list[_Rejection] = []


_ACCEPTED: Final = msgspec.json.Decoder(_Accepted)


def rejected_indexes(content: bytes) -> set[int] | None:
    """Which reports of a request ingest did not take, by their place in it; None when the answer does not say."""
    try:
        return {rejection.index for rejection in _ACCEPTED.decode(content).rejected}
    except msgspec.DecodeError:
        return None


def retry_after_seconds(value: str | None, now: datetime) -> float:
    """Seconds that ``Retry-After`` asks for (a number or a date; RFC 9110), at most 30; 0 without a usable one."""
    if value is None:
        return 0.0
    if value.isascii() and value.strip().isdigit():
        return min(float(value), LONGEST_PAUSE_SECONDS)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    if moment.tzinfo is None:
        return 0.0
    return min(max((moment - now) / timedelta(seconds=1), 0.0), LONGEST_PAUSE_SECONDS)
