"""A database comes to this version from nothing, once, and never from files that were changed afterwards."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from services.standalone.postgres import PostgresServer
from streams.migrations import MIGRATOR, SCHEMA, MigrationRefused, migrate, migrations
from tests.conftest import PASSWORDS


@pytest.fixture
async def empty(postgres: PostgresServer) -> AsyncIterator[str]:
    """The superuser's DSN of a database with nothing in it."""
    name = f"empty_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(postgres.dsn())
    await admin.execute(f"CREATE DATABASE {name}")
    yield postgres.dsn(name)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    """A copy of the SQL files that a test may change."""
    return Path(shutil.copytree(SCHEMA, tmp_path / "schema"))


async def value(dsn: str, query: str) -> object:
    """The first value of a query."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_migrating_applies_every_file_once(empty: str) -> None:
    """The second time there is nothing to do."""
    first = await migrate(empty, PASSWORDS)
    again = await migrate(empty, PASSWORDS)

    assert first == tuple(migration.name for migration in migrations())
    assert again == ()
    assert await value(empty, "SELECT count(*) FROM schema_migration") == len(first)


async def test_processes_that_start_at_once_take_turns(empty: str) -> None:
    """One applies, the others find it done."""
    outcomes = await asyncio.gather(*(migrate(empty, PASSWORDS) for _ in range(4)))

    assert sorted(len(applied) for applied in outcomes) == [0, 0, 0, len(migrations())]


async def test_an_applied_file_that_changed_is_refused_by_name(empty: str, schema: Path) -> None:
    """Otherwise two databases of the same version would differ."""
    await migrate(empty, PASSWORDS, schema)
    with (schema / "0003_views.sql").open("a") as file:
        file.write("-- harmless\n")

    with pytest.raises(MigrationRefused, match=r"0003_views\.sql has changed"):
        await migrate(empty, PASSWORDS, schema)


async def test_a_database_of_a_newer_version_is_refused(empty: str, schema: Path) -> None:
    """An old version must not write into tables that it does not know."""
    (schema / "0099_future.sql").write_text("CREATE TABLE future ();")
    await migrate(empty, PASSWORDS, schema)

    with pytest.raises(MigrationRefused, match=r"0099_future\.sql, which this version does not know"):
        await migrate(empty, PASSWORDS)


async def test_a_file_that_comes_too_late_is_refused(empty: str, schema: Path) -> None:
    """Its number says that it was meant to be applied before others that are there already."""
    (schema / "0099_late.sql").write_text("SELECT 1;")
    await migrate(empty, PASSWORDS, schema)
    (schema / "0098_later.sql").write_text("SELECT 1;")

    with pytest.raises(MigrationRefused, match=r"0098_later\.sql comes before"):
        await migrate(empty, PASSWORDS, schema)


async def test_a_file_that_fails_leaves_nothing_and_can_be_corrected(empty: str, schema: Path) -> None:
    """Those before it stay applied."""
    broken = schema / "0099_broken.sql"
    broken.write_text("CREATE TABLE half (); SELECT nonsense;")

    with pytest.raises(asyncpg.UndefinedColumnError):
        await migrate(empty, PASSWORDS, schema)
    assert await value(empty, "SELECT to_regclass('half') IS NULL") is True
    broken.write_text("CREATE TABLE whole ();")

    assert await migrate(empty, PASSWORDS, schema) == ("0099_broken.sql",)


@pytest.mark.parametrize("names", [["first.sql"], ["0001_one.sql", "0001_two.sql"]], ids=["no number", "same number"])
def test_files_need_numbers_of_their_own(tmp_path: Path, names: list[str]) -> None:
    """The order would be anybody's guess."""
    for name in names:
        (tmp_path / name).write_text("SELECT 1;")

    with pytest.raises(MigrationRefused, match=r"number|named"):
        migrations(tmp_path)


async def test_passwords_can_be_set_again_and_are_not_kept_by_the_server(postgres: PostgresServer, empty: str) -> None:
    """Only a verifier reaches the server, where a log could show it."""
    name = empty.rsplit("/", 1)[1]
    try:
        await migrate(empty, {**PASSWORDS, "pumpwatch_read": "another"})
        assert await value(postgres.dsn(name, "pumpwatch_read", "another"), "SELECT count(*) FROM v_alert") == 0
    finally:
        await migrate(empty, PASSWORDS)
    stored = await value(empty, "SELECT rolpassword FROM pg_authid WHERE rolname = 'pumpwatch_read'")
    assert str(stored).startswith("SCRAM-SHA-256$4096:")


@pytest.mark.parametrize("password", ["", "pässword"])
async def test_a_password_that_would_not_work_is_refused(empty: str, password: str) -> None:
    """Before anything is made."""
    with pytest.raises(MigrationRefused, match="ASCII"):
        await migrate(empty, {MIGRATOR: password})

    assert await value(empty, "SELECT to_regclass('schema_migration') IS NULL") is True


async def test_another_encoding_is_refused(postgres: PostgresServer, empty: str) -> None:
    """Hash chains are over UTF-8, whatever the database holds."""
    name = f"latin_{uuid.uuid4().hex}"
    await value(empty, "SELECT 1")
    admin = await asyncpg.connect(postgres.dsn())
    try:
        await admin.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        with pytest.raises(MigrationRefused, match="UTF8"):
            await migrate(postgres.dsn(name), PASSWORDS)
    finally:
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.close()
