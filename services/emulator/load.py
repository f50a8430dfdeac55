"""A load generator: many plain pumps at a fixed rate, cheap enough not to be what is measured.

Open loop: when each request is due is fixed in advance, and latency counts from then, so a slow answer does not thin
out the load that follows it (coordinated omission). What ingest accepted can be written down for an oracle: an identity
is in the ledger only after a 202, and what is uncertain is sent again until it is certain.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from array import array
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from random import Random
from typing import BinaryIO, Final

import httpx

from services.emulator.fleet import Fleet, LoadPlan, Request, profiles, write_profiles
from services.emulator.gateway import REPORTS_PATH, TRY_AGAIN, rejected_indexes, retry_after_seconds

__all__ = ["LoadPlan", "LoadResult", "generate", "profiles", "write_profiles"]

REQUEST_SECONDS: Final = 30.0
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 2.0


@dataclass(slots=True, kw_only=True)
class LoadResult:
    """What happened; latencies in seconds from when a request was due to its 202, those of old reports left out."""

    accepted: int = 0
    accepted_old: int = 0
    accepted_alarms: int = 0
    rejected: int = 0
    retried: int = 0
    """Requests sent again, because ingest asked for that or did not answer."""
    unconfirmed: int = 0
    """Reports of which nobody knows whether ingest has them: neither in the ledger nor surely absent."""
    seconds: float = 0.0
    behind_seconds: float = 0.0
    """How far the generator itself fell behind its schedule; above a few milliseconds it was the bottleneck."""
    old_seconds: float = 0.0
    latencies: array[float] = field(default_factory=lambda: array("d"))

    def quantile(self, share: float) -> float:
        """The latency that ``share`` of the requests did not exceed; NaN without requests."""
        if not self.latencies:
            return float("nan")
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def summary(self) -> dict[str, float]:
        """The figures worth printing, by name with unit."""
        quantiles = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}
        return {
            "accepted": self.accepted,
            "accepted_alarms": self.accepted_alarms,
            "accepted_old": self.accepted_old,
            "rejected": self.rejected,
            "retried_requests": self.retried,
            "unconfirmed": self.unconfirmed,
            "seconds": round(self.seconds, 3),
            "reports_per_second": round(self.accepted / self.seconds, 1) if self.seconds else 0.0,
            "behind_seconds": round(self.behind_seconds, 3),
            **{f"latency_{name}_ms": round(self.quantile(share) * 1e3, 2) for name, share in quantiles.items()},
        }


async def generate(
    plan: LoadPlan, *, stop: asyncio.Event | None = None, progress: Callable[[LoadResult], None] | None = None
) -> LoadResult:
    """Send a plan's load and return what came of it.

    Args:
        plan: What to send.
        stop: Ends the load early; requests under way still get their answer.
        progress: Called about once a second with the figures so far.
    """
    result, stop = LoadResult(), stop or asyncio.Event()
    fleet = Fleet(plan)
    async with _sender(plan, result) as sender, asyncio.TaskGroup() as tasks:
        reporting = tasks.create_task(_report(result, progress)) if progress else None
        handing_in = tasks.create_task(_hand_in(plan, fleet, sender, stop, result)) if plan.old else None
        if plan.rate:
            await _pace(plan, fleet, sender, stop, result)
        if handing_in is not None:
            await handing_in
        if reporting is not None:
            reporting.cancel()
    return result


async def _report(result: LoadResult, progress: Callable[[LoadResult], None]) -> None:
    while True:
        await asyncio.sleep(1.0)
        progress(result)


async def _pace(plan: LoadPlan, fleet: Fleet, sender: _Sender, stop: asyncio.Event, result: LoadResult) -> None:
    """Start each request when it is due, whatever became of those before it."""
    clock, began = time.perf_counter, time.perf_counter()
    every = plan.batch / plan.rate
    places = asyncio.Semaphore(plan.max_waiting)
    number = 0
    async with asyncio.TaskGroup() as requests:
        while not stop.is_set() and (plan.seconds is None or number * every < plan.seconds):
            due = began + number * every
            ahead = due - clock()
            # Sleeping no time at all still lets answers be read.
            await asyncio.sleep(max(0.0, ahead))
            await places.acquire()
            result.behind_seconds = max(result.behind_seconds, clock() - due)
            task = requests.create_task(sender.deliver(fleet.fresh(datetime.now(UTC)), due))
            task.add_done_callback(lambda _: places.release())
            number += 1
        result.seconds = max(clock() - began, number * every)


async def _hand_in(plan: LoadPlan, fleet: Fleet, sender: _Sender, stop: asyncio.Event, result: LoadResult) -> None:
    """Hand in the history over a few connections, each waiting for its answer."""
    began, history = time.perf_counter(), fleet.history(datetime.now(UTC))

    async def take() -> None:
        for request in history:
            if stop.is_set():
                return
            await sender.deliver(request, time.perf_counter())

    async with asyncio.TaskGroup() as takers:
        for _ in range(plan.old_connections):
            takers.create_task(take())
    result.old_seconds = time.perf_counter() - began


class _Sender:
    """Sends requests until they are certain, and writes down what is."""

    def __init__(self, client: httpx.AsyncClient, plan: LoadPlan, result: LoadResult, ledger: BinaryIO | None) -> None:
        self._client, self._plan, self._result, self._ledger = client, plan, result, ledger
        self._chance = Random(plan.boot_id)
        self._headers = {
            "authorization": f"Bearer {plan.token.get_secret_value()}",
            "content-type": "application/json",
        }

    async def deliver(self, request: Request, due: float) -> None:
        """Send a request that was ``due`` at that reading of ``time.perf_counter`` until ingest has answered for it."""
        result, pause = self._result, FIRST_PAUSE_SECONDS
        give_up = time.perf_counter() + self._plan.settle_seconds
        uncertain = False
        while True:
            status, wait, rejected = await self._post(request.body)
            if rejected is not None:
                if not request.old:
                    result.latencies.append(time.perf_counter() - due)
                self._accepted(request, rejected)
                return
            uncertain = uncertain or status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR
            final = status is not None and status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in TRY_AGAIN
            if final or time.perf_counter() > give_up:
                result.unconfirmed += len(request.identities) if uncertain else 0
                result.rejected += 0 if uncertain else len(request.identities)
                return
            result.retried += 1
            await asyncio.sleep(max(wait, pause * self._chance.uniform(0.5, 1.0)))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _post(self, body: bytes) -> tuple[int | None, float, set[int] | None]:
        """Status (None: no answer), seconds to wait at least, and once ingest took the rest which it rejected."""
        try:
            response = await self._client.post(REPORTS_PATH, content=body, headers=self._headers)
        except httpx.TransportError:
            return None, 0.0, None
        status = response.status_code
        if status == HTTPStatus.ACCEPTED:
            rejected = rejected_indexes(response.content)
            return (status, 0.0, rejected) if rejected is not None else (None, 0.0, None)
        return status, retry_after_seconds(response.headers.get("retry-after"), datetime.now(UTC)), None

    def _accepted(self, request: Request, rejected: set[int]) -> None:
        result, taken = self._result, request.identities
        if rejected:
            taken = tuple(one for index, one in enumerate(taken) if index not in rejected)
            result.rejected += len(rejected)
        if request.old:
            result.accepted_old += len(taken)
        else:
            result.accepted += len(taken)
        result.accepted_alarms += sum(alarm for _, _, alarm in taken)
        if self._ledger is not None:
            self._write(self._ledger, taken)

    def _write(self, ledger: BinaryIO, taken: tuple[tuple[str, int, bool], ...]) -> None:
        at = datetime.now(UTC).isoformat().encode()
        tail = b',"accepted_at":"' + at + b'","alarm":%b}\n'
        endings = (tail % b"false", tail % b"true")
        boot = self._plan.boot_id
        ledger.write(
            b"".join(
                b'{"pump_id":"%b","boot_id":%d,"seq":%d%b' % (pump_id.encode(), boot, seq, endings[alarm])
                for pump_id, seq, alarm in taken
            )
        )
        # An oracle may read while this still runs, or after this was killed.
        ledger.flush()


@contextlib.asynccontextmanager
async def _sender(plan: LoadPlan, result: LoadResult) -> AsyncIterator[_Sender]:
    connections = plan.connections + (plan.old_connections if plan.old else 0)
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    timeout = httpx.Timeout(REQUEST_SECONDS, connect=3.0)
    with contextlib.ExitStack() as files:
        ledger = files.enter_context(plan.ledger.open("ab")) if plan.ledger is not None else None
        async with httpx.AsyncClient(base_url=plan.url, limits=limits, timeout=timeout, trust_env=False) as client:
            yield _Sender(client, plan, result, ledger)
