"""Brings a database to the schema of this version: roles first, then every SQL file that was not applied yet.

The files in ``schema`` are applied in the order of their numbers, each in a transaction of its own, and never change
once released: the database remembers what each contained. Several processes may migrate at once; they take turns.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import asyncpg

SCHEMA: Final = Path(__file__).resolve().parent / "schema"
MIGRATOR: Final = "pumpwatch_migrator"
APPLICATION: Final = "pumpwatch_app"
READER: Final = "pumpwatch_read"
ROLES: Final = (MIGRATOR, APPLICATION, READER)
LOCK: Final = 0x70756D70
TIMEOUT_SECONDS: Final = 60.0
SCRAM_ITERATIONS: Final = 4096

Connection: TypeAlias = "asyncpg.Connection[Any]"


class MigrationRefused(Exception):
    """The database does not fit this version, and nothing was changed."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file: its number, name and content."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the content, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(folder: Path = SCHEMA) -> tuple[Migration, ...]:
    """The SQL files of a folder in the order in which they are applied.

    Raises:
        MigrationRefused: If a file's name does not start with a number of its own.
    """
    found = []
    for path in sorted(folder.glob("*.sql")):
        if not re.fullmatch(r"\d{4}_\w+\.sql", path.name):
            raise MigrationRefused(f"migration {path.name} is not named like 0001_what_it_makes.sql")
        found.append(Migration(int(path.name[:4]), path.name, path.read_text(encoding="utf-8")))
    if len({migration.number for migration in found}) < len(found):
        raise MigrationRefused("two migrations have the same number")
    return tuple(found)


async def migrate(admin_dsn: str, passwords: Mapping[str, str], folder: Path = SCHEMA) -> tuple[str, ...]:
    """Make the roles and apply what is missing; safe to run again and at the same time.

    Args:
        admin_dsn: Of a superuser, or of the database's owner with CREATEROLE.
        passwords: By role; ASCII. A role without one is made, or keeps the one it has.
        folder: Where the SQL files are.

    Returns:
        The names of the files applied now.

    Raises:
        MigrationRefused: If an applied file has changed or is unknown here, or a password cannot be used.
        asyncpg.PostgresError: If PostgreSQL refuses; the file that failed left nothing behind.
    """
    wanted = migrations(folder)
    connection = await asyncpg.connect(admin_dsn, timeout=10, command_timeout=TIMEOUT_SECONDS)
    try:
        # Held until the connection ends.
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        await _make_roles(connection, passwords)
        await connection.execute(f"SET ROLE {MIGRATOR}")
        missing = _missing(wanted, await _applied(connection))
        for migration in missing:
            await _apply(connection, migration)
    finally:
        await connection.close(timeout=5)
    return tuple(migration.name for migration in missing)


async def _make_roles(connection: Connection, passwords: Mapping[str, str]) -> None:
    if await connection.fetchval("SHOW server_encoding") != "UTF8":
        raise MigrationRefused("the database's encoding is not UTF8; make it anew with ENCODING 'UTF8'")
    async with connection.transaction():
        existing = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
        for role in ROLES:
            if role not in existing:
                await connection.execute(f"CREATE ROLE {role} LOGIN NOINHERIT")
            if (password := passwords.get(role)) is not None:
                await connection.execute(f"ALTER ROLE {role} PASSWORD '{_verifier(password)}'")
        database = await connection.fetchval("SELECT quote_ident(current_database())")
        for statement in (
            f"GRANT {MIGRATOR} TO CURRENT_USER",
            f"REVOKE ALL ON DATABASE {database} FROM PUBLIC",
            f"GRANT CONNECT ON DATABASE {database} TO {', '.join(ROLES)}",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC",
            f"GRANT USAGE ON SCHEMA public TO {', '.join(ROLES)}",
            f"GRANT CREATE ON SCHEMA public TO {MIGRATOR}",
        ):
            await connection.execute(statement)


def _verifier(password: str) -> str:
    """What PostgreSQL keeps instead of the password (RFC 5803), so that no log of the server can show the password."""
    if not password.isascii() or not password:
        raise MigrationRefused("a role's password must be ASCII and not empty")
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{text[0]}${text[1]}:{text[2]}"


async def _applied(connection: Connection) -> dict[int, tuple[str, str]]:
    await connection.execute(
        """
        CREATE TABLE IF NOT EXISTS schema_migration (
            number     integer PRIMARY KEY,
            name       text NOT NULL,
            checksum   text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    rows = await connection.fetch("SELECT number, name, checksum FROM schema_migration")
    return {row["number"]: (row["name"], row["checksum"]) for row in rows}


def _missing(wanted: Sequence[Migration], applied: Mapping[int, tuple[str, str]]) -> list[Migration]:
    known = {migration.number: migration for migration in wanted}
    for number, (name, checksum) in sorted(applied.items()):
        if number not in known:
            raise MigrationRefused(f"the database has {name}, which this version does not know: run a newer version")
        if known[number].checksum != checksum:
            raise MigrationRefused(
                f"migration {name} has changed since it was applied; put the old file back and add a new one instead"
            )
    missing = [migration for migration in wanted if migration.number not in applied]
    if missing and applied and missing[0].number < max(applied):
        raise MigrationRefused(f"migration {missing[0].name} comes before one that is already applied")
    return missing


async def _apply(connection: Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO schema_migration (number, name, checksum) VALUES ($1, $2, $3)",
            migration.number,
            migration.name,
            migration.checksum,
        )
