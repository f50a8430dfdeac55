"""Who may do what in the database, tried as each role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from streams.domain.telemetry import Motor
from tests.integration.ground import Ground, ground_in, heard
from tests.stack import Database

VIEWS = {
    "v_reading": (
        *("pump_id", "boot_id", "seq", "event_time", "gateway_id", "gateway_time", "received_at", "motor", "alarms"),
        *("reservoir_estimated_ml", "reservoir_measured_ml", "flow_programmed_ml_per_day", "volume_programmed_ml"),
        *("volume_delivered_ml", "temperature_celsius", "battery_voltage_v", "battery_eri", "battery_eos"),
        *("emi_level", "emi_count", "flow_valve", "program_checksum", "events"),
    ),
    "v_alert": (
        *("alert_id", "number", "pump_id", "site", "rule_id", "rule_hash", "priority", "active", "latched"),
        *("effective_from", "effective_to", "opened_at", "cleared_at", "resolved_at", "confirmed_by", "confirmed_at"),
        *("found_late", "retracted", "parent_id", "reason"),
    ),
    "v_alert_event": ("alert_id", "kind", "effective_at", "recorded_at", "actor", "reason", "detail"),
    "v_notification": (
        *("alert_id", "step", "channel", "person", "state", "repeat", "reason", "queued_at", "sent_at"),
        *("delivered_at", "seen_at", "confirmed_at"),
    ),
    "v_care_record": (
        *("care_id", "pump_id", "kind", "valid_from", "valid_until", "person", "reason", "booked_on", "session_id"),
        *("rule_id", "parameter", "value", "recorded_at", "recorded_by", "withdrawn_at", "withdrawn_by"),
        "withdrawal_reason",
    ),
    "v_pump": (
        *("pump_id", "site", "valid_from", "family", "reservoir_ml", "drugs", "prescribed_ug_per_day", "risks"),
        *("expected_interval_seconds", "implanted_on", "titration_until", "refill_booked_on"),
        *("replacement_booked_on", "low_reservoir_ml", "max_bolus_ml_per_day", "bolus_lockout_minutes"),
        *("bolus_max_per_day", "last_fill_ml", "last_event_time", "last_received_at", "motor"),
        *("reservoir_estimated_ml", "reservoir_measured_ml", "last_confirmed_delivery_at", "predicted_empty_at"),
        "open_alerts",
    ),
}


@pytest.fixture
async def ground(database: Database) -> AsyncIterator[Ground]:
    """Some history."""
    async with ground_in(database.app, database.admin) as ground:
        await ground.know()
        await ground.hear(heard(motor=Motor.STALLED))
        yield ground


async def allowed(dsn: str, statements: tuple[str, ...]) -> list[str]:
    """Those of the statements that the role of the DSN may run; they leave nothing behind."""
    connection = await asyncpg.connect(dsn)
    try:
        return [statement for statement in statements if await _may(connection, statement)]
    finally:
        await connection.close()


async def _may(connection: asyncpg.Connection[Any], statement: str) -> bool:
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return False
    finally:
        await transaction.rollback()
    return True


async def test_views_have_exactly_the_columns_of_the_contract(ground: Ground, database: Database) -> None:
    """Grafana and analysts rely on names; they are read with the reader's role."""
    reader = await asyncpg.connect(database.read)
    try:
        statements = {view: await reader.prepare(f"SELECT * FROM {view}") for view in VIEWS}
        columns = {
            view: tuple(column.name for column in statement.get_attributes()) for view, statement in statements.items()
        }
        filled = {view for view, statement in statements.items() if await statement.fetch()}
    finally:
        await reader.close()

    assert columns == VIEWS
    assert filled == VIEWS.keys() - {"v_notification", "v_care_record"}


async def test_a_pump_without_profile_and_one_without_reports_are_both_seen(ground: Ground) -> None:
    """Neither is ignored; versions of the future do not count yet."""
    await ground.hear(heard("P-2"))
    await ground.know(pump_id="P-3")
    await ground.know(pump_id="P-3", valid_from="2999-01-01", reservoir_ml=40)

    rows = await ground.rows("SELECT pump_id, reservoir_ml, motor, open_alerts FROM v_pump ORDER BY pump_id")

    assert rows == [
        {"pump_id": "P-1", "reservoir_ml": 20, "motor": "stalled", "open_alerts": 1},
        {"pump_id": "P-2", "reservoir_ml": None, "motor": "running", "open_alerts": 0},
        {"pump_id": "P-3", "reservoir_ml": 20, "motor": None, "open_alerts": 0},
    ]


READER_MAY_NOT = (
    "SELECT * FROM reading",
    "SELECT * FROM person",
    "SELECT * FROM gateway",
    "SELECT * FROM pump_state",
    "SELECT * FROM audit_chain",
    "SELECT * FROM schema_migration",
    "DELETE FROM v_alert",
    "UPDATE v_alert SET confirmed_by = 'me'",
    "INSERT INTO v_alert_event (alert_id) VALUES (gen_random_uuid())",
    "SELECT maintain_readings(now(), 400)",
    "SELECT stray_readings()",
    "CREATE TABLE mine ()",
    "SET ROLE pumpwatch_app",
)


async def test_the_reader_sees_views_and_nothing_else(ground: Ground, database: Database) -> None:
    """Passwords, tokens and worlds are out of reach, and nothing can be written."""
    assert await allowed(database.read, READER_MAY_NOT) == []
    assert await allowed(database.read, ("SELECT * FROM v_alert",)) == ["SELECT * FROM v_alert"]


APPLICATION_MAY_NOT = (
    "UPDATE alert_event SET actor = 'nobody'",
    "DELETE FROM alert_event",
    "TRUNCATE alert_event",
    "ALTER TABLE alert_event DISABLE TRIGGER ALL",
    "UPDATE pump_profile_change SET recorded_by = 'nobody'",
    "DELETE FROM pump_profile_change",
    "UPDATE care_record SET recorded_by = 'nobody'",
    "DELETE FROM care_record",
    "TRUNCATE care_record",
    "UPDATE audit_chain SET length = 0",
    "INSERT INTO audit_chain VALUES ('P-9', 0, '')",
    "DELETE FROM reading",
    "UPDATE reading SET motor = 'running'",
    "TRUNCATE reading",
    "DELETE FROM reading_default",
    "DELETE FROM quarantine",
    "DELETE FROM alert",
    "DELETE FROM pump_state",
    "DELETE FROM pump_profile",
    "UPDATE schema_migration SET checksum = ''",
    "UPDATE v_alert SET confirmed_by = 'me'",
    "CREATE TABLE mine ()",
    "CREATE SCHEMA mine",
    "DROP TABLE reading_default",
    "DROP VIEW v_alert",
    "SET ROLE pumpwatch_migrator",
    "SET session_replication_role = replica",
)


async def test_the_application_changes_neither_tables_nor_history(ground: Ground, database: Database) -> None:
    """Whoever takes over a process still cannot rewrite what happened."""
    assert await allowed(database.app, APPLICATION_MAY_NOT) == []


async def test_the_migrator_owns_everything_and_is_no_superuser(database: Database) -> None:
    """No table, view or function of ours belongs to anybody else."""
    owner = await asyncpg.connect(database.migrator)
    try:
        others = await owner.fetch(
            """
            SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
                AND relowner <> 'pumpwatch_migrator'::regrole
            UNION ALL
            SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
                AND proowner <> 'pumpwatch_migrator'::regrole
            """
        )
        powers = await owner.fetch(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'pumpwatch%' "
            "AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication)"
        )
    finally:
        await owner.close()

    assert others == []
    assert powers == []


async def test_the_application_can_insert_into_every_table_it_works_with(database: Database) -> None:
    """The grants are not only tight."""
    app = await asyncpg.connect(database.app)
    try:
        missing = await app.fetch(
            """
            SELECT relname FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
                AND relname NOT IN ('audit_chain', 'schema_migration')
                AND NOT has_table_privilege(oid, 'SELECT, INSERT')
            """
        )
    finally:
        await app.close()

    assert missing == []
