"""A care team and its alerts, as the worker and the care-team page write them, for tests of notify."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID, uuid4

import asyncpg
import httpx
import msgspec
from aiosmtpd.smtp import SMTP, Envelope, Session

from streams import alert_history
from streams.alert_history import Fact
from streams.domain.alert import AlertEvent, AlertEventKind, AlertRecord, Priority
from streams.operations import listen
from streams.store import Store
from tests.stack import Stack, eventually

LADDERS = {Priority.HIGH: "H", Priority.MEDIUM: "M", Priority.LOW: "L", Priority.INFO: "none"}
CANARIES = ("CANARY-PUMP", "CanaryName", "baclofen-canary", "canary diagnosis")


def now() -> datetime:
    """Service time."""
    return datetime.now(UTC)


def alert_record(priority: Priority = Priority.HIGH, **changes: Any) -> AlertRecord:
    """An alert that was just opened."""
    fields: dict[str, Any] = {
        "alert_id": uuid4(),
        "rule_id": "DLV-01",
        "rule_hash": "0" * 64,
        "ladder": LADDERS[priority],
        "priority": priority,
        "active": True,
        "latched": False,
        "effective_from": now(),
        "effective_to": None,
        "found_late": False,
        "retracted": False,
        "parent_id": None,
        "physician_by": None,
        "recurrences": 0,
        "reason": "condition_met",
        "message": f"Motor stall, {CANARIES[2]}, {CANARIES[3]}",
        "open": True,
    }
    return AlertRecord(**{**fields, **changes})


@dataclass
class Care:
    """People, alerts, and what became of their notifications."""

    store: Store
    revision: int = 0
    pump_id: str = CANARIES[0]
    records: dict[UUID, AlertRecord] = field(default_factory=dict)

    @property
    def pool(self) -> asyncpg.Pool[Any]:
        """Connections of the application's role."""
        return self.store.pool

    async def person(self, person_id: str, role: str, *, email: bool = True, webhook: str | None = None) -> None:
        """Somebody on the roster of every site."""
        await self.pool.execute(
            """
            INSERT INTO person (person_id, display_name, password_hash, email, webhook_url, webhook_secret, ladder_role)
            VALUES ($1, $2, 'none', $3, $4, $5, $6)
            """,
            person_id,
            f"{person_id} {CANARIES[1]}",
            f"{person_id}@care.example" if email else None,
            webhook,
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" if webhook else None,
            role,
        )

    async def team(self) -> None:
        """One person for each place on the ladders, reached by mail."""
        for person_id, role in (("ada", "primary"), ("ben", "backup"), ("cleo", "physician"), ("dora", "site_lead")):
            await self.person(person_id, role)

    async def open(self, priority: Priority = Priority.HIGH, **changes: Any) -> UUID:
        """An alert opens, as a report that was accepted this moment caused it."""
        record = alert_record(priority, **changes)
        await self.tell(record, AlertEventKind.OPENED, raises=True)
        return record.alert_id

    async def change(self, alert_id: UUID, kind: AlertEventKind, *, raises: bool = False, **changes: Any) -> None:
        """Something else happens to it."""
        await self.tell(msgspec.structs.replace(self.records[alert_id], **changes), kind, raises=raises)

    async def tell(self, record: AlertRecord, kind: AlertEventKind, *, raises: bool = False) -> None:
        """Write a fact as the worker does: history, alert and outbox in one transaction."""
        self.revision += 1
        moment = now()
        event = AlertEvent(kind=kind, effective_at=moment, reason=str(record.reason), alert=record, raises=raises)
        async with self.pool.acquire() as connection, connection.transaction():
            fact = Fact(event, self.pump_id, "north", moment, self.revision, 0)
            await alert_history.write(connection, [fact], moment)
        self.records[record.alert_id] = record

    async def take_over(self, stall_id: UUID, **changes: Any) -> UUID:
        """An MRI is declared that takes the stall back and opens the trap: two facts of one report."""
        self.revision += 1
        moment = now()
        gone = msgspec.structs.replace(
            self.records[stall_id], active=False, latched=False, open=False, retracted=True, reason="mri_declared"
        )
        trap = alert_record(rule_id="MRI-04", latched=True, **changes)
        told = AlertEvent(kind=AlertEventKind.RETRACTED, effective_at=moment, reason=str(gone.reason), alert=gone)
        opened = AlertEvent(
            kind=AlertEventKind.OPENED,
            effective_at=moment,
            reason=str(trap.reason),
            alert=trap,
            raises=True,
            detail={"takes_over": str(stall_id)},
        )
        facts = [
            Fact(event, self.pump_id, "north", moment, self.revision, place)
            for place, event in enumerate((told, opened))
        ]
        async with self.pool.acquire() as connection, connection.transaction():
            await alert_history.write(connection, facts, moment)
        self.records |= {gone.alert_id: gone, trap.alert_id: trap}
        return trap.alert_id

    async def number(self, alert_id: UUID) -> int:
        """By which people know an alert."""
        found: int = await self.pool.fetchval("SELECT number FROM alert WHERE alert_id = $1", alert_id)
        return found

    async def notifications(self, alert_id: UUID | None = None) -> list[asyncpg.Record]:
        """In the order in which they were queued."""
        return await self.pool.fetch(
            "SELECT * FROM notification WHERE $1::uuid IS NULL OR alert_id = $1 ORDER BY queued_at, step, person",
            alert_id,
        )

    async def states(self, alert_id: UUID) -> list[tuple[int, str, str, str]]:
        """Step, person, channel and state of each notification."""
        return [
            (row["step"], row["person"], row["channel"], row["state"]) for row in await self.notifications(alert_id)
        ]

    async def until_states(self, alert_id: UUID, *wanted: tuple[int, str, str, str]) -> None:
        """Wait until its notifications are exactly these, in any order."""

        async def same() -> bool:
            return sorted(await self.states(alert_id)) == sorted(wanted)

        try:
            await eventually(same, timeout=15, what="the notifications")
        except AssertionError:
            assert sorted(await self.states(alert_id)) == sorted(wanted)


@contextlib.asynccontextmanager
async def care_of(dsn: str) -> AsyncIterator[Care]:
    """A care team without people, over a database of its own."""
    store = await Store.open(dsn)
    try:
        yield Care(store)
    finally:
        await store.close()


@dataclass
class Mails:
    """The mailbox of a stack."""

    http: httpx.AsyncClient
    smtp_port: int
    url: str

    async def all(self) -> list[dict[str, Any]]:
        """Every message, oldest first."""
        answer: list[dict[str, Any]] = (await self.http.get("/api/messages")).raise_for_status().json()
        return answer

    async def until(self, count: int, timeout: float = 15) -> list[dict[str, Any]]:
        """Wait until there are that many."""

        async def enough() -> list[dict[str, Any]] | None:
            found = await self.all()
            return found if len(found) >= count else None

        found = await eventually(enough, timeout=timeout, what=f"{count} messages")
        assert found is not None
        return found


@contextlib.asynccontextmanager
async def mailbox_of(stack: Stack) -> AsyncIterator[Mails]:
    """A mailbox process, to which the stack's notifiers send from now on."""
    service = stack.service("mailbox", {"PUMPWATCH_MAILBOX_PORT": "0", "PUMPWATCH_MAILBOX_SMTP_PORT": "0"})
    await service.start(ready=False)
    url = await service.url("http")
    port = int((await service.url("smtp")).rsplit(":", 1)[1])
    stack.env["PUMPWATCH_NOTIFY_SMTP_PORT"] = str(port)
    async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as client:
        yield Mails(client, port, url)


class MailServer:
    """A mail server that does what a test says; an async context manager.

    Args:
        rcpt: Answers RCPT, by the address.
        data: Answers DATA, by the number of the message counted from 1.
    """

    def __init__(
        self, rcpt: Callable[[str], str] | None = None, data: Callable[[int], str | asyncio.Event] | None = None
    ) -> None:
        self._rcpt, self._data = rcpt, data
        self.taken: list[str] = []
        self._server: asyncio.Server | None = None
        self.sessions: list[SMTP] = []
        self.port = 0

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Aiosmtpd asks."""
        answer = self._rcpt(address) if self._rcpt else "250 OK"
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Aiosmtpd asks."""
        assert isinstance(envelope.content, bytes)
        self.taken.append(envelope.content.decode())
        answer = self._data(len(self.taken)) if self._data else "250 OK"
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            return "250 OK"
        return answer

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        listener = listen("127.0.0.1", self.port)
        self.port = listener.getsockname()[1]

        def session() -> SMTP:
            made = SMTP(self, enable_SMTPUTF8=True, hostname="test", loop=loop)
            self.sessions.append(made)
            return made

        self._server = await loop.create_server(session, sock=listener)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for session in self.sessions:
            if session.transport is not None:
                session.transport.close()
        await self._server.wait_closed()

    async def until(self, count: int) -> None:
        """Wait until it was given that many messages."""

        async def enough() -> bool:
            return len(self.taken) >= count

        await eventually(enough, what=f"{count} messages at the mail server")

    def message_ids(self) -> list[str]:
        """Of the messages taken, in order."""
        return [
            line.split(": ", 1)[1].strip() for mail in self.taken for line in mail.splitlines() if "Message-ID" in line
        ]

    def subjects(self) -> list[str]:
        """Of the messages taken, in order."""
        lines = (line for mail in self.taken for line in mail.splitlines())
        return [line.split(": ", 1)[1].strip() for line in lines if line.startswith("Subject")]


QUICK: Mapping[str, str] = {
    "PUMPWATCH_NOTIFY_SEND_TIMEOUT_SECONDS": "1.0",
    "PUMPWATCH_NOTIFY_LEASE_SECONDS": "2.0",
    "PUMPWATCH_NOTIFY_RETRY_SECONDS": "0.2",
    "PUMPWATCH_NOTIFY_AUDIT_SECONDS": "0.5",
    "PUMPWATCH_NOTIFY_QUIET_HOURS": "",
}
"""Limits of real time, shortened so that a test sees each of them."""

HOUR = timedelta(hours=1)
