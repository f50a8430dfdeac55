"""The whole system under load from gateways: every service runs, and a mail server takes the notifications."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from services.standalone.child import free_port
from streams import gateways, topics
from tests.benchmarks import fleet
from tests.benchmarks.fleet import Moment
from tests.benchmarks.ground import Ground, Plot
from tests.benchmarks.openloop import Edge

SERVICES: Final = ("ingest", "worker", "notify", "web")
ON_CALL: Final = ("primary", "backup", "physician", "site_lead")


class _MailServer:
    """Takes every mail in a real SMTP conversation, and keeps none."""

    def __init__(self) -> None:
        self.taken = 0

    async def handle_DATA(self, _: SMTP, __: Session, ___: Envelope) -> str:  # noqa: N802 - the name aiosmtpd asks for
        """Take one mail."""
        self.taken += 1
        return "250 taken"


@dataclass(slots=True)
class System:
    """A running system, its edge, and the pumps that report to it."""

    plot: Plot
    edge: Edge
    mail: _MailServer
    pumps: tuple[str, ...]
    _seqs: dict[str, int] = field(default_factory=dict)
    _turn: int = 0

    def body(self, count: int, due_at: float, stalls: tuple[str, ...] = ()) -> bytes:
        """One request with the next ``count`` reports of the fleet, after one of each newly stalled pump."""
        at, total = datetime.fromtimestamp(due_at, UTC), len(self.pumps)
        chosen = [self.pumps[(self._turn + index) % total] for index in range(count)]
        self._turn = (self._turn + count) % total
        running = [Moment(pump, self.next_seq(pump), at) for pump in chosen]
        stalled = [Moment(pump, self.next_seq(pump), at, stalled=True) for pump in stalls]
        return b"[" + b",".join(map(fleet.as_json, [*stalled, *running])) + b"]"

    def next_seq(self, pump: str) -> int:
        """The number of a pump's next report."""
        seq = self._seqs.get(pump, 0)
        self._seqs[pump] = seq + 1
        return seq

    async def end_records(self) -> int:
        """Records ever written to the telemetry topic."""
        return sum((await self.plot.end_offsets(self.plot.settings.topic(topics.TELEMETRY.name))).values())

    async def lag_records(self) -> int:
        """Records on the telemetry topic that the worker has not applied."""
        ends = await self.plot.end_offsets(self.plot.settings.topic(topics.TELEMETRY.name))
        rows = await self.plot.pool.fetch("SELECT partition, next_offset FROM consumed", timeout=10)
        applied = {row["partition"]: row["next_offset"] for row in rows}
        return sum(end - applied.get(partition, 0) for partition, end in ends.items())

    async def caught_up(self, timeout: float) -> bool:
        """Wait until the worker has applied everything; False when the time is over."""
        deadline = time.monotonic() + timeout
        while await self.lag_records() > 0:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.25)
        return True


@asynccontextmanager
async def system(
    ground: Ground, name: str, pumps: tuple[str, ...], more: tuple[str, ...] = ()
) -> AsyncIterator[System]:
    """Start everything, with a roster on call; ``more`` pumps have profiles but report only when told to."""
    mail, smtp_port = _MailServer(), free_port()
    controller = Controller(mail, hostname="127.0.0.1", port=smtp_port)
    controller.start()
    try:
        async with ground.plot(name) as plot:
            await plot.add_pumps(pumps + more)
            await _add_roster(plot)
            token = await gateways.add(plot.pool, fleet.GATEWAY, "clinic")
            plot.stack.env["PUMPWATCH_NOTIFY_SMTP_PORT"] = str(smtp_port)
            await plot.stack.start(*SERVICES)
            edge = Edge(await plot.stack.services["ingest"].url("http"), token)
            yield System(plot, edge, mail, pumps)
            await edge.close()
    finally:
        controller.stop()


async def _add_roster(plot: Plot) -> None:
    await plot.pool.executemany(
        "INSERT INTO person (person_id, display_name, password_hash, email, ladder_role) VALUES ($1, $1, '', $2, $1)",
        [(role, f"{role}@bench.invalid") for role in ON_CALL],
    )
