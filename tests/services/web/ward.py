"""A ward for tests of the care-team page: people who can sign in, pumps that report now, and services that beat."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
from argon2 import PasswordHasher

from streams import people
from streams.domain.escalation import Role
from streams.domain.telemetry import Alarm, Motor
from tests.integration.ground import Ground, ground_in, heard
from tests.stack import Database, Service

PASSWORD: Final = "correct horse battery"
PERIOD: Final = timedelta(minutes=15)
SERVICES: Final = ("ingest", "worker", "notify")


@dataclass
class Ward:
    """Pumps and people over one database; `ground` writes what the worker would."""

    ground: Ground
    database: Database

    async def add_people(self) -> None:
        """Nora and Ben, who are on call; Old Ed has no access any more. Their passwords are hashed cheaply."""
        hashed = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
        team = (("nora", "Nora Night", Role.PRIMARY), ("ben", "Ben Backup", Role.BACKUP), ("ed", "Old Ed", None))
        await self.ground.owner.executemany(
            "INSERT INTO person (person_id, display_name, ladder_role, password_hash, email)"
            " VALUES ($1, $2, $3, $4, $5)",
            [(name, shown, role, hashed, f"{name}@ward.test") for name, shown, role in team],
        )
        await people.disable(self.ground.store.pool, "ed", datetime.now(UTC))

    async def beat(self, *services: str, ago: timedelta = timedelta(hours=-1)) -> None:
        """The services' last heartbeat; by default one that does not get old while a test runs."""
        for service in services or SERVICES:
            await self.ground.owner.execute(
                """
                INSERT INTO service_heartbeat (service, instance, beat_at, resumed_at) VALUES ($1, 'test', $2, $2)
                ON CONFLICT (service, instance) DO UPDATE SET beat_at = excluded.beat_at
                """,
                service,
                datetime.now(UTC) - ago,
            )

    async def runs(self, pump_id: str = "P-1", hours: int = 20, *, site: str = "north") -> None:
        """The pump has reported every 15 minutes that all is well, until 15 minutes ago; it has a profile."""
        await self.ground.know(pump_id=pump_id, site=site)
        first = datetime.now(UTC) - hours * timedelta(hours=1)
        count = hours * 4
        for start in range(0, count, 50):
            numbers = range(start, min(start + 50, count))
            await self.ground.hear(*(self._report(pump_id, first, seq) for seq in numbers))
        await self.caught_up()

    def _report(self, pump_id: str, first: datetime, seq: int) -> Any:
        volume = 12.0 - 0.005 * seq
        return heard(
            pump_id,
            seq,
            event_time=first + seq * PERIOD,
            reservoir_estimated_ml=volume,
            reservoir_measured_ml=volume + 0.15 if seq % 4 == 0 else None,
            alarms=(),
        )

    async def stalls(self, pump_id: str = "P-1", *, seq: int = 80, **said: Any) -> UUID:
        """The pump's motor stalls now; the alert's id. The pump has a profile."""
        if not await self.ground.rows("SELECT FROM pump_profile WHERE pump_id = $1", pump_id):
            await self.ground.know(pump_id=pump_id)
        await self._says(pump_id, seq, motor=Motor.STALLED, alarms=(Alarm.MOTOR_STALL,), **said)
        return await self.alert_of(pump_id)

    async def recovers(self, pump_id: str = "P-1", *, seq: int = 81) -> None:
        """The motor turns again."""
        await self._says(pump_id, seq, motor=Motor.RUNNING, alarms=())

    async def alert_of(self, pump_id: str = "P-1") -> UUID:
        """The newest high alert of a pump."""
        rows = await self.ground.rows(
            "SELECT alert_id FROM alert WHERE pump_id = $1 AND priority = 'high' ORDER BY number DESC", pump_id
        )
        alert_id: UUID = rows[0]["alert_id"]
        return alert_id

    async def number_of(self, alert_id: UUID) -> int:
        """What people call the alert."""
        [row] = await self.ground.rows("SELECT number FROM alert WHERE alert_id = $1", alert_id)
        return int(row["number"])

    async def caught_up(self) -> None:
        """As if notify had taken over every outbox row and the worker had met every deadline."""
        await self.ground.owner.execute("UPDATE outbox SET handled_at = now() WHERE handled_at IS NULL")
        await self.ground.owner.execute(
            "UPDATE pump_state SET next_wake_at = now() + interval '1 hour' WHERE next_wake_at < now()"
        )

    async def told(self, alert_id: UUID, person: str, step: int, state: str = "sent", **columns: Any) -> None:
        """A notification as notify would have left it."""
        fields = {"reason": "step_due", "queued_at": datetime.now(UTC), "sent_at": datetime.now(UTC), **columns}
        names = ", ".join(fields)
        places = ", ".join(f"${index}" for index in range(5, 5 + len(fields)))
        await self.ground.owner.execute(
            f"INSERT INTO notification (notification_id, alert_id, channel, person, step, state, {names})"
            f" VALUES (gen_random_uuid(), $1, 'email', $2, $3, $4, {places})",
            alert_id,
            person,
            step,
            state,
            *fields.values(),
        )

    async def _says(self, pump_id: str, seq: int, **said: Any) -> None:
        await self.ground.hear(heard(pump_id, seq, event_time=datetime.now(UTC), **said))
        await self.caught_up()


@asynccontextmanager
async def ward_in(database: Database) -> AsyncIterator[Ward]:
    """A ward with its people, and every service beating."""
    async with ground_in(database.app, database.admin) as ground:
        ward = Ward(ground, database)
        await ward.add_people()
        await ward.beat()
        yield ward


def page_of(database: Database, folder: Path, **env: str) -> Service:
    """The page's own process over that database, not yet started."""
    settings = {
        "PUMPWATCH_POSTGRES": database.app,
        "PUMPWATCH_WEB_PORT": "0",
        "PUMPWATCH_WEB_METRICS_PORT": "0",
        **env,
    }
    return Service("web", settings, folder)


@dataclass
class Browser:
    """Somebody at the page, without JavaScript: cookies, and the token that every page carries."""

    client: httpx.AsyncClient
    token: str = ""

    async def sign_in(self, name: str = "nora", password: str = PASSWORD, target: str = "/") -> httpx.Response:
        """Fill in the form; on success the next page's token is known."""
        answer = await self.post("/sign-in", {"name": name, "password": password, "next": target})
        if answer.status_code == 303:
            await self.get("/")
        return answer

    async def get(self, path: str) -> httpx.Response:
        """Look at a page."""
        answer = await self.client.get(path)
        if found := re.search(r'name="csrf-token" content="([^"]+)"', answer.text):
            self.token = found[1]
        return answer

    async def post(
        self, path: str, fields: Mapping[str, str] | None = None, *, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send a form with the token, from our own page."""
        data = {"csrf": self.token, **(fields or {})}
        origin = {"origin": str(self.client.base_url).rstrip("/")}
        return await self.client.post(path, data=data, headers={**origin, **(headers or {})})

    async def send(self, path: str, document: object) -> httpx.Response:
        """Send JSON with the token in its header."""
        headers = {
            "origin": str(self.client.base_url).rstrip("/"),
            "x-csrf-token": self.token,
            "content-type": "application/json",
        }
        return await self.client.post(path, content=json.dumps(document), headers=headers)
