"""What a first look needs: people to sign in as, gateways with tokens, and the profiles of the emulator's pumps."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import asyncpg

from services.standalone.child import StartFailed
from services.standalone.folder import Folder
from services.standalone.postgres import new_password
from services.standalone.service import ROOT
from streams import care_records, gateways, people, profiles
from streams.domain.care import CareKind, CareRejected
from streams.domain.escalation import Role
from streams.domain.rule import RuleBook

ACTOR: Final = "standalone"
GATEWAY: Final = "demo-gateway"
PUMP: Final = "demo-pump"
MAIL_DOMAIN: Final = "demo.example"
EMULATOR_SECONDS: Final = 60.0

PROFILE: Final = {
    "pump_id": PUMP,
    "site": "demo",
    "valid_from": "2026-01-01",
    "family": "synchromed_ii",
    "reservoir_ml": 20,
    "drugs": [{"name": "baclofen", "concentration_ug_per_ml": 500.0}],
    "prescribed_ug_per_day": 240.0,
}


WATCHDOG: Final = "watchdog"
CANARY_PROFILE: Final = {
    **PROFILE,
    "pump_id": "pumpwatch-canary",
    "site": people.WATCHDOG_SITE,
    "expected_interval_seconds": 15,
}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of the demo's care team; at every site."""

    person_id: str
    display_name: str
    ladder_role: Role


TEAM: Final = (
    Person("nurse", "Nora Nurse", Role.PRIMARY),
    Person("backup", "Ben Backup", Role.BACKUP),
    Person("physician", "Dr Paula Physician", Role.PHYSICIAN),
    Person("lead", "Lee Lead", Role.SITE_LEAD),
)


@dataclass(frozen=True, slots=True)
class Emulated:
    """The names of a scenario's gateways, and its pumps' profiles as lines of JSON."""

    gateways: tuple[str, ...]
    profiles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo was given: passwords by person, tokens by gateway."""

    passwords: dict[str, str]
    tokens: dict[str, str]


async def furnish(pool: asyncpg.Pool, folder: Folder, emulated: Emulated, now: datetime) -> Demo:
    """Make what is missing of the demo's people, gateways and profiles; what is there stays.

    Pumps of earlier runs that are not among the profiles are said to be taken out.

    Args:
        pool: As the application's role.
        folder: Keeps the passwords and tokens.
        emulated: What the emulator's scenario needs.
        now: Service time.
    """
    passwords = await _team(pool, folder, now)
    tokens = await _tokens(pool, folder, (GATEWAY, *emulated.gateways))
    lines = [json.dumps(PROFILE), *emulated.profiles]
    result = await profiles.import_profiles(pool, lines, ACTOR, now)
    if result.errors:
        raise StartFailed(f"a profile of the emulator cannot be used: {result.errors[0]}")
    await _take_out(pool, {str(json.loads(line)["pump_id"]) for line in lines}, now)
    return Demo(passwords, tokens)


async def _take_out(pool: asyncpg.Pool, running: Collection[str], now: datetime) -> None:
    """Say of the pumps of earlier runs that they are gone: nobody is to be paged for their silence."""
    rows = await pool.fetch(_GONE, ACTOR, [*running, CANARY_PROFILE["pump_id"]], timeout=profiles.STATEMENT_SECONDS)
    ended = {"kind": CareKind.REPLACED, "person": ACTOR, "reason": "the emulator's run has ended"}
    for row in rows:
        entered = await care_records.add(pool, {**ended, "pump_id": row["pump_id"]}, ACTOR, now, RuleBook(()))
        if isinstance(entered, CareRejected):
            raise StartFailed(f"the record of an emulated pump cannot be used: {entered.pointer} {entered.reason}")


_GONE: Final = """
SELECT pump_id FROM pump_state
WHERE pump_id IN (SELECT pump_id FROM pump_profile WHERE recorded_by = $1) AND pump_id <> ALL($2::text[])
  AND NOT EXISTS (SELECT FROM v_care_record AS known
                  WHERE known.pump_id = pump_state.pump_id AND known.kind = 'replaced' AND known.withdrawn_at IS NULL
                    AND known.valid_from > pump_state.last_event_time)
ORDER BY pump_id
"""


async def furnish_watchdog(pool: asyncpg.Pool, folder: Folder, pages: str, now: datetime) -> dict[str, Path]:
    """Make the watchdog's gateway, synthetic pump and person; what is there stays.

    Args:
        pool: As the application's role.
        folder: Keeps the secrets.
        pages: Where the watchdog takes pages; it may be another address at each start.
        now: Service time.

    Returns:
        The files with its secrets, by the end of the setting's name.
    """
    await _tokens(pool, folder, (WATCHDOG,))
    password = folder.secret("watchdog-password", new_password)
    secret = folder.secret("watchdog-webhook", people.new_webhook_secret)
    known = {person.person_id for person in await people.list_all(pool)}
    if WATCHDOG not in known:
        newcomer = people.NewPerson(
            person_id=WATCHDOG,
            display_name="Watchdog",
            webhook_url=pages,
            webhook_secret=secret,
            ladder_role=Role.PRIMARY,
            site=people.WATCHDOG_SITE,
        )
        await people.add(pool, newcomer, password)
    await people.set_webhook(pool, WATCHDOG, pages)
    await profiles.import_profiles(pool, [json.dumps(CANARY_PROFILE)], ACTOR, now)
    return {
        "gateway_token": folder.secret_path(f"gateway-{WATCHDOG}"),
        "password": folder.secret_path("watchdog-password"),
        "webhook_secret": folder.secret_path("watchdog-webhook"),
    }


async def _team(pool: asyncpg.Pool, folder: Folder, now: datetime) -> dict[str, str]:
    known = {person.person_id for person in await people.list_all(pool)}
    passwords = {}
    for person in TEAM:
        name = f"person-{person.person_id}"
        lost = folder.kept(name) is None
        password = passwords[person.person_id] = folder.secret(name, new_password)
        if person.person_id not in known:
            await people.add(pool, _newcomer(person), password)
        elif lost:
            await people.set_password(pool, person.person_id, password, now)
    return passwords


def _newcomer(person: Person) -> people.NewPerson:
    return people.NewPerson(
        person_id=person.person_id,
        display_name=person.display_name,
        email=f"{person.person_id}@{MAIL_DOMAIN}",
        ladder_role=person.ladder_role,
    )


async def _tokens(pool: asyncpg.Pool, folder: Folder, names: Iterable[str]) -> dict[str, str]:
    active = (await gateways.load_active(pool)).by_hash
    tokens: dict[str, str] = {}
    for name in names:
        kept = folder.kept(f"gateway-{name}")
        if kept is None or active.get(gateways.token_hash(kept)) != name:
            kept = folder.keep(f"gateway-{name}", await gateways.add(pool, name, "home"))
        tokens[name] = kept
    return tokens


async def ask_emulator(env: dict[str, str], run: int) -> Emulated:
    """What the emulator's scenario needs beforehand, from the emulator itself.

    Raises:
        StartFailed: If it cannot say; the message has its words.
    """
    names, lines = await asyncio.gather(
        asyncio.to_thread(_lines, env, "gateways"),
        asyncio.to_thread(_lines, env, "profiles", "--run", str(run)),
    )
    return Emulated(tuple(names), tuple(lines))


def _lines(env: dict[str, str], *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "services.emulator", *arguments],
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=EMULATOR_SECONDS,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise StartFailed(f"the emulator's scenario cannot be used: {last}")
    return done.stdout.splitlines()
