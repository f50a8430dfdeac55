"""The people of the care team: who may sign in, how each is reached, and who stands on the roster of a site.

Passwords are kept as argon2id hashes with the second recommended parameters of RFC 9106 (64 MiB, three passes).
"""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import asyncpg
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from streams.domain.escalation import Channel, Contact, Role

Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any] | asyncpg.Pool[Any]"

WATCHDOG_SITE: Final = "pumpwatch-watchdog"
"""The site of the synthetic pump, and of nothing else."""
STATEMENT_SECONDS: Final = 5.0
PASSWORD_CHARACTERS: Final = (12, 256)
"""Inclusive; NIST SP 800-63B asks for length and against rules of composition."""

_PERSON_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_EMAIL: Final = re.compile(r"[^\s@<>,;]{1,64}@[^\s@<>,;]{1,253}")
_HASHER: Final = PasswordHasher()


class PersonRefused(ValueError):
    """The person cannot be added or changed like this; the message says why and holds no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPerson:
    """Somebody to be added.

    Args:
        person_id: Sign-in name: lower case letters, digits, dot, underscore, hyphen; 1 to 64.
        display_name: What others read in "confirmed by"; 1 to 100 characters on one line.
        email: Where alerts go; None: no e-mail.
        webhook_url: Where alerts go; None: no webhook.
        webhook_secret: ``whsec_`` and base64, needed with a webhook.
        ladder_role: Place on the ladders; None: may sign in, is never told.
        site: Told about this site only; None: about every site.
    """

    person_id: str
    display_name: str
    email: str | None = None
    webhook_url: str | None = None
    webhook_secret: str | None = None
    ladder_role: Role | None = None
    site: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody as stored, without secrets; times are aware UTC."""

    person_id: str
    display_name: str
    email: str | None
    webhook_url: str | None
    ladder_role: Role | None
    site: str | None
    created_at: datetime
    disabled_at: datetime | None


def new_webhook_secret() -> str:
    """A secret of 256 random bits in the form of Standard Webhooks."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


async def add(connection: Connection, person: NewPerson, password: str) -> None:
    """Add somebody who may sign in with ``password``.

    Raises:
        PersonRefused: If the name is taken, or a field or the password cannot be used.
    """
    _check(person)
    hashed = await hash_password(password)
    added = await connection.fetchval(
        """
        INSERT INTO person
            (person_id, display_name, password_hash, email, webhook_url, webhook_secret, ladder_role, site)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (person_id) DO NOTHING RETURNING person_id
        """,
        person.person_id,
        person.display_name,
        hashed,
        person.email,
        person.webhook_url,
        person.webhook_secret,
        person.ladder_role,
        person.site,
        timeout=STATEMENT_SECONDS,
    )
    if added is None:
        raise PersonRefused(f"there is already a person {person.person_id}")


async def doubts(connection: Connection, person: NewPerson) -> list[str]:
    """What about somebody is allowed and yet looks like a slip: each one a line to be read by whoever adds them."""
    found = []
    if person.ladder_role is not None and person.email is None and person.webhook_url is None:
        found.append(f"{person.person_id} has a place on the ladders and no address: nobody can tell them of an alert")
    known = person.site in (None, WATCHDOG_SITE) or await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pump_profile WHERE site = $1) OR EXISTS (SELECT FROM site WHERE site = $1)",
        person.site,
        timeout=STATEMENT_SECONDS,
    )
    if not known:
        found.append(f"no pump is at the site {person.site} so far: {person.person_id} is told of nothing until one is")
    return found


async def set_webhook(connection: Connection, person_id: str, url: str) -> None:
    """Give somebody another webhook address; its secret stays.

    Raises:
        PersonRefused: If there is no such person.
    """
    changed = await connection.fetchval(
        "UPDATE person SET webhook_url = $2 WHERE person_id = $1 RETURNING person_id",
        person_id,
        url,
        timeout=STATEMENT_SECONDS,
    )
    if changed is None:
        raise PersonRefused(f"there is no person {person_id}")


async def list_all(connection: Connection) -> list[Person]:
    """Everybody, disabled ones too, by sign-in name."""
    rows = await connection.fetch(
        """
        SELECT person_id, display_name, email, webhook_url, ladder_role, site, created_at, disabled_at
        FROM person ORDER BY person_id
        """,
        timeout=STATEMENT_SECONDS,
    )
    return [_person(row) for row in rows]


async def disable(connection: Connection, person_id: str, now: datetime) -> bool:
    """End somebody's sessions and access, and take them off the roster; history keeps the name.

    Returns:
        Whether there was such a person with access.
    """
    disabled = await connection.fetchval(
        """
        WITH disabled AS (
            UPDATE person SET disabled_at = $2 WHERE person_id = $1 AND disabled_at IS NULL RETURNING person_id
        ), ended AS (
            UPDATE web_session SET ended_at = $2
            WHERE ended_at IS NULL AND person_id IN (SELECT person_id FROM disabled)
        )
        SELECT person_id FROM disabled
        """,
        person_id,
        now,
        timeout=STATEMENT_SECONDS,
    )
    return disabled is not None


async def set_password(connection: Connection, person_id: str, password: str, now: datetime) -> None:
    """Give somebody another password and end their sessions.

    Raises:
        PersonRefused: If there is no such person, or the password cannot be used.
    """
    hashed = await hash_password(password)
    changed = await connection.fetchval(
        """
        WITH changed AS (
            UPDATE person SET password_hash = $2 WHERE person_id = $1 RETURNING person_id
        ), ended AS (
            UPDATE web_session SET ended_at = $3
            WHERE ended_at IS NULL AND person_id IN (SELECT person_id FROM changed)
        )
        SELECT person_id FROM changed
        """,
        person_id,
        hashed,
        now,
        timeout=STATEMENT_SECONDS,
    )
    if changed is None:
        raise PersonRefused(f"there is no person {person_id}")


async def roster(connection: Connection, site: str | None) -> list[Contact]:
    """Who may be told about alerts of a site, by sign-in name.

    A pump without a known site concerns everybody on call: better one too many than nobody. One at a site of whose
    people nobody is on call with an address concerns everybody there is (rule SYS-02 tells of that too). The watchdog
    is told of the synthetic pump's alarms, nobody else is, and of no other: it is a machine that would take them for
    its own. Who has shifts is on call in them only; see `streams.shifts`.
    """
    rows = await connection.fetch(
        """
        WITH candidate AS (
            SELECT person_id, ladder_role, email IS NOT NULL AS email, webhook_url IS NOT NULL AS webhook,
                   coalesce(site = $1, true) AND coalesce(
                       (SELECT bool_or(starts_at <= clock_timestamp() AND ends_at > clock_timestamp()) FROM shift
                        WHERE shift.person_id = person.person_id AND withdrawn_at IS NULL), true) AS here
            FROM person
            WHERE ladder_role IS NOT NULL AND disabled_at IS NULL
                  AND (site IS NOT DISTINCT FROM $2) = ($1::text IS NOT DISTINCT FROM $2)
        )
        SELECT person_id, ladder_role, email, webhook FROM candidate
        WHERE here OR NOT EXISTS (SELECT FROM candidate WHERE here AND (email OR webhook))
        ORDER BY person_id
        """,
        site,
        WATCHDOG_SITE,
        timeout=STATEMENT_SECONDS,
    )
    return [
        Contact(
            row["person_id"],
            Role(row["ladder_role"]),
            tuple(channel for channel in (Channel.EMAIL, Channel.WEBHOOK) if row[channel]),
        )
        for row in rows
    ]


async def authenticate(connection: Connection, person_id: str, password: str) -> Person | None:
    """The person whose password this is, or None.

    It takes as long for somebody who does not exist or has no access, so that the answer's time names nobody.
    """
    row = await connection.fetchrow(
        """
        SELECT person_id, display_name, email, webhook_url, ladder_role, site, created_at, disabled_at, password_hash
        FROM person WHERE person_id = $1 AND disabled_at IS NULL
        """,
        person_id if _PERSON_ID.fullmatch(person_id) else "",  # PostgreSQL refuses some of what may be typed in.
        timeout=STATEMENT_SECONDS,
    )
    right = await asyncio.to_thread(_matches, row["password_hash"] if row else None, password)
    return _person(row) if row and right else None


async def hash_password(password: str) -> str:
    """The argon2id hash to store.

    Raises:
        PersonRefused: If the password is shorter than 12 or longer than 256 characters.
    """
    shortest, longest = PASSWORD_CHARACTERS
    if not shortest <= len(password) <= longest:
        raise PersonRefused(f"a password has {shortest} to {longest} characters")
    return await asyncio.to_thread(_HASHER.hash, password)


@cache
def _nobodys_hash() -> str:
    return _HASHER.hash("a password that nobody has")


def _matches(stored: str | None, password: str) -> bool:
    try:
        _HASHER.verify(stored or _nobodys_hash(), password)
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


def _person(row: asyncpg.Record) -> Person:
    return Person(
        person_id=row["person_id"],
        display_name=row["display_name"],
        email=row["email"],
        webhook_url=row["webhook_url"],
        ladder_role=Role(row["ladder_role"]) if row["ladder_role"] else None,
        site=row["site"],
        created_at=row["created_at"],
        disabled_at=row["disabled_at"],
    )


def _check(person: NewPerson) -> None:
    if not _PERSON_ID.fullmatch(person.person_id):
        raise PersonRefused("a sign-in name has 1 to 64 lower case letters, digits, dots, underscores or hyphens")
    if not 1 <= len(person.display_name.strip()) <= 100 or not person.display_name.isprintable():
        raise PersonRefused("a name has 1 to 100 printable characters")
    if person.email is not None and not (_EMAIL.fullmatch(person.email) and person.email.isprintable()):
        raise PersonRefused("that is not an e-mail address")
    if person.webhook_url is not None and not _is_web_address(person.webhook_url):
        raise PersonRefused("a webhook's address starts with http:// or https:// and names a host")
    if (person.webhook_url is None) != (person.webhook_secret is None):
        raise PersonRefused("a webhook needs both its address and its secret")
    if person.site is not None and not (1 <= len(person.site) <= 64 and person.site.isprintable()):
        raise PersonRefused("a site has 1 to 64 printable characters")


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and text.isprintable() and " " not in text
