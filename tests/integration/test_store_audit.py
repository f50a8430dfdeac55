"""History is append-only for everybody, and what an owner of the database does to it all the same is found (G8)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from streams import audit
from streams.audit import Broken, Verified
from streams.domain.telemetry import Motor
from tests.integration.ground import NOON, Ground, ground_in, heard, minutes
from tests.stack import Database

EVENTS, CHANGES = "alert_event", "pump_profile_change"


@pytest.fixture
async def ground(database: Database) -> AsyncIterator[Ground]:
    """Two pumps with three facts about their alerts each, and two profiles, one of which was corrected once."""
    async with ground_in(database.app, database.admin) as ground:
        await ground.know()
        await ground.know(risks=["child"])
        await ground.know(pump_id="P-2")
        for pump_id in ("P-1", "P-2"):
            await ground.hear(heard(pump_id, seq=0, motor=Motor.STALLED))
            [row] = await ground.rows("SELECT alert_id FROM alert WHERE pump_id = $1", pump_id)
            await ground.store.confirm(row["alert_id"], "nora", NOON + minutes(1))
            await ground.hear(heard(pump_id, seq=1))
        yield ground


async def tamper(ground: Ground, statements: str) -> None:
    """What somebody can do who owns the database: without triggers."""
    for table in (EVENTS, CHANGES):
        await ground.owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    await ground.owner.execute(statements)
    for table in (EVENTS, CHANGES):
        await ground.owner.execute(f"ALTER TABLE {table} ENABLE TRIGGER ALL")


async def test_untouched_history_is_whole(ground: Ground) -> None:
    """Both kinds of chains; the same history always has the same digest."""
    first = await audit.inspect(ground.store.pool)
    again = await audit.inspect(ground.owner)

    assert isinstance(first, Verified)
    assert (first.chains, first.rows) == (4, 9)
    assert first == again
    assert await audit.verify(ground.store.pool) is None


async def test_an_empty_history_is_whole(database: Database) -> None:
    """Nothing was written yet."""
    async with ground_in(database.app, database.admin) as ground:
        assert await audit.verify(ground.owner) is None


async def test_history_that_grows_has_another_digest(ground: Ground) -> None:
    """So that a digest kept elsewhere shows what was there."""
    before = await audit.inspect(ground.owner)
    await ground.hear(heard("P-3", motor=Motor.STALLED))
    after = await audit.inspect(ground.owner)

    assert isinstance(before, Verified)
    assert isinstance(after, Verified)
    assert after.digest != before.digest


CASES = {
    "a changed word": ("UPDATE alert_event SET actor = 'ben' WHERE {P-2} = 2", "P-2", 2),
    "a changed time": (
        "UPDATE alert_event SET recorded_at = recorded_at + interval '1 microsecond' WHERE {P-1} = 1",
        *("P-1", 1),
    ),
    "a changed detail": ("UPDATE alert_event SET detail = '[1]' WHERE {P-1} = 3", "P-1", 3),
    "a pump taken from its alert": ("UPDATE alert_event SET pump_id = NULL WHERE {P-1} = 1", "P-1", 1),
    "a row taken out": ("DELETE FROM alert_event WHERE {P-1} = 2", "P-1", 2),
    "a row taken out and the rest moved up": (
        """
        DELETE FROM alert_event WHERE {P-1} = 2;
        UPDATE alert_event SET chain_position = 2 WHERE {P-1} = 3;
        UPDATE audit_chain SET length = 2 WHERE chain_id = 'P-1'
        """,
        *("P-1", 2),
    ),
    "two rows in each other's place": (
        """
        UPDATE alert_event SET chain_position = -chain_position WHERE {P-1} < 3;
        UPDATE alert_event SET chain_position = 3 + chain_position WHERE {P-1} < 0
        """,
        *("P-1", 1),
    ),
    "the last row taken out": ("DELETE FROM alert_event WHERE {P-2} = 3", "P-2", 3),
    "the last row taken out, and the length changed": (
        "DELETE FROM alert_event WHERE {P-2} = 3; UPDATE audit_chain SET length = 2 WHERE chain_id = 'P-2'",
        *("P-2", 2),
    ),
    "the end changed": ("UPDATE audit_chain SET head = '\\x00' WHERE chain_id = 'P-2'", "P-2", 3),
    "the end taken out": ("DELETE FROM audit_chain WHERE chain_id = 'P-1'", "P-1", 1),
    "all rows taken out": ("TRUNCATE alert_event", "P-1", 1),
    "a pump's whole chain taken out with its end": (
        "DELETE FROM alert_event WHERE {P-2} > 0; DELETE FROM audit_chain WHERE chain_id = 'P-2'",
        *("P-2", 1),
    ),
    "a row added without its hash": (
        """
        INSERT INTO alert_event
        SELECT gen_random_uuid(), alert_id, pump_id, kind, effective_at, recorded_at, actor, reason, detail, chain_id,
            4, hash
        FROM alert_event WHERE {P-1} = 3
        """,
        *("P-1", 4),
    ),
    "a profile of the past changed": (
        "UPDATE pump_profile_change SET profile = profile - 'site' WHERE chain_position = 1",
        *("profile/P-1", 1),
    ),
    "a profile change taken out": ("DELETE FROM pump_profile_change WHERE chain_position = 1", "profile/P-1", 1),
    "a profile put in behind the audit's back": (
        """
        INSERT INTO pump_profile
        SELECT 'P-9', valid_from, site, profile, recorded_at, recorded_by FROM pump_profile WHERE pump_id = 'P-1'
        """,
        *("profile/P-9", 1),
    ),
}
"""What is done, and the chain and position of the first row that does not fit; ``{P-1}`` is a place in P-1's chain."""


@pytest.mark.parametrize("case", CASES)
async def test_tampering_is_found_and_its_first_row_named(ground: Ground, case: str) -> None:
    """Whatever the owner of the database does to rows, the first one that does not fit is told."""
    statements, chain_id, position = CASES[case]
    for pump_id in ("P-1", "P-2"):
        statements = statements.replace(f"{{{pump_id}}}", f"chain_id = '{pump_id}' AND chain_position")
    await tamper(ground, statements)

    broken = await audit.verify(ground.owner)

    assert isinstance(broken, Broken)
    assert (broken.chain_id, broken.position) == (chain_id, position)
    assert chain_id in str(broken)


@pytest.mark.parametrize("table", [EVENTS, CHANGES])
@pytest.mark.parametrize(
    "statement",
    ["UPDATE {} SET recorded_at = now()", "DELETE FROM {}", "TRUNCATE {}"],
    ids=["update", "delete", "truncate"],
)
async def test_history_refuses_changes_even_by_its_owner(ground: Ground, table: str, statement: str) -> None:
    """Also where ordinary triggers are switched off, as replication does."""
    await ground.owner.execute("SET session_replication_role = replica")

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await ground.owner.execute(statement.format(table))

    assert await audit.verify(ground.owner) is None


async def test_a_fact_that_is_there_already_is_refused_and_the_chain_stays(ground: Ground) -> None:
    """ON CONFLICT DO NOTHING would move the chain's end without a row."""
    columns = "event_id, alert_id, pump_id, kind, effective_at, recorded_at, actor, reason"

    with pytest.raises(asyncpg.UniqueViolationError, match="already in history"):
        await ground.owner.execute(
            f"INSERT INTO alert_event ({columns}) SELECT {columns} FROM alert_event ON CONFLICT DO NOTHING"
        )

    assert await audit.verify(ground.owner) is None


async def test_a_writer_cannot_choose_its_place_in_the_chain(ground: Ground) -> None:
    """Whatever position and hash a row claims, the trigger sets them."""
    await ground.store.pool.execute(
        """
        INSERT INTO alert_event (event_id, alert_id, pump_id, kind, effective_at, recorded_at, actor, reason, chain_id,
                                 chain_position, hash)
        SELECT gen_random_uuid(), alert_id, NULL, kind, effective_at, recorded_at, actor, reason, 'P-1', 1, 'forged'
        FROM alert_event LIMIT 1
        """
    )

    assert await ground.rows("SELECT chain_position FROM alert_event WHERE chain_id = 'system'") == [
        {"chain_position": 1}
    ]
    assert await audit.verify(ground.owner) is None


async def test_python_and_postgresql_hash_the_same_text(ground: Ground) -> None:
    """Whatever a field holds, it cannot be mistaken for another field."""
    for text in (None, "", "-", "0:", "ö,7:x", "a\nb"):
        assert await ground.owner.fetchval("SELECT chain_text($1, 'end')", text) == audit.canonical([text, "end"])
