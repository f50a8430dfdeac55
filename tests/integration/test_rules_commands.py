"""``pumpwatch rules …`` over a real database: history that the store wrote, replayed by the same engine."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from streams import care_records
from streams.deciding import Decided, decide_tick
from streams.domain.care import CareRecord
from streams.domain.silence import Hearing
from streams.domain.telemetry import Alarm, Event, EventType, Motor, Received
from streams.settings import RULES
from streams.store import Work
from tests.integration.ground import NOON, RULEBOOK, Ground, ground_in, heard, minutes
from tests.integration.test_cli import Command, command, with_database
from tests.stack import Database

__all__ = ["command", "with_database"]


async def _live(ground: Ground, arrivals: Sequence[Received], until: datetime) -> None:
    """What a worker writes that looks at pumps exactly when they are due."""
    for received in arrivals:
        await _ticks(ground, received.received_at)
        await ground.hear(received)
    await _ticks(ground, until)


async def _ticks(ground: Ground, until: datetime, since: datetime = NOON) -> None:
    while due := await ground.rows(
        "SELECT pump_id, next_wake_at FROM pump_state WHERE next_wake_at <= $1 ORDER BY next_wake_at LIMIT 1", until
    ):
        [row] = due
        await _tick(ground, row["pump_id"], row["next_wake_at"], since)


async def _tick(ground: Ground, pump_id: str, now: datetime, since: datetime) -> None:
    decided, stored = Decided(), await ground.store.worlds([pump_id])
    decide_tick(decided, stored[pump_id], RULEBOOK, now, Hearing(since, now), 0)
    await ground.store.apply((ground.claim,), Work((), (), decided.changes), now)
    ground.offset += 1


def _arrivals() -> list[Received]:
    """A stall that a person resolves, an empty reservoir found late, an MRI, silence, and a resent report."""
    stalled = [
        heard(seq=0, flow_programmed_ml_per_day=0.5),
        heard(seq=15, motor=Motor.STALLED, alarms=(Alarm.MOTOR_STALL,)),
        heard(seq=30, alarms=()),
    ]
    late = heard("P-2", seq=10, reservoir_estimated_ml=0.3)
    scan = Event(type=EventType.MRI_START, declared_by="radiology")
    others = [
        heard("P-2", seq=0),
        heard("P-2", seq=20),
        Received(report=late.report, received_at=late.received_at + minutes(25)),
        heard("P-3", seq=0, events=(scan,)),
        heard("P-3", seq=5, motor=Motor.STALLED),
        heard("P-3", seq=200, motor=Motor.STALLED),
    ]
    return sorted([*stalled, *others], key=lambda received: received.received_at)


async def _stored(database: Database) -> None:
    async with ground_in(database.app, database.admin) as ground:
        for pump_id in ("P-1", "P-2", "P-3"):
            await ground.know(pump_id=pump_id)
        until = NOON + timedelta(hours=20)
        await _live(ground, _arrivals(), NOON + minutes(300))
        [row] = await ground.rows("SELECT alert_id FROM alert WHERE rule_id = 'DLV-01' AND pump_id = 'P-1'")
        refused = await ground.store.resolve(row["alert_id"], "nora", "seen", NOON + minutes(301), RULEBOOK)
        assert refused is None
        await _ticks(ground, until)


async def _entered_late(database: Database) -> None:
    """A profile two hours after its pump's first report, a record of one taken out hours ago, and one taken back."""
    async with ground_in(database.app, database.admin) as ground:
        pool = ground.store.pool
        await ground.know(pump_id="P-5", risks=["prior_withdrawal"])
        await _live(ground, [heard("P-4"), heard("P-5"), heard("P-4", seq=100)], NOON + minutes(120))
        await ground.know(pump_id="P-4", now=NOON + minutes(120))
        await _live(ground, [heard("P-4", seq=125, motor=Motor.UNKNOWN)], NOON + minutes(480))
        out = {"pump_id": "P-5", "kind": "replaced", "person": "nora", "reason": "taken out"}
        since = NOON + minutes(30)
        record = await care_records.add(
            pool, {**out, "valid_from": since.isoformat()}, "nora", NOON + minutes(480), RULEBOOK
        )
        assert isinstance(record, CareRecord)
        await _ticks(ground, NOON + minutes(720))
        await care_records.withdraw(pool, record.care_id, "nora", "another pump", NOON + minutes(720))
        await _ticks(ground, NOON + timedelta(hours=20))


@pytest.fixture
async def history(database: Database) -> Database:
    """A database with three pumps' history."""
    await _stored(database)
    return database


def test_a_backtest_tells_exactly_what_was_recorded(history: Database, with_database: Command) -> None:
    """The production engine over stored history: every alert again, with the same ids, priorities and times."""
    said = with_database("rules", "backtest", "--since", "30d", "--json")

    document = json.loads(said.out)
    assert document["differences"] == []
    assert said.code == 0
    assert document["pumps"] == 3
    assert document["recorded"] >= 5
    assert {rule for rule, figures in document["rules"].items() if figures["alerts"]} >= {"DLV-01", "MRI-01", "RSV-02"}


def test_a_backtest_knows_at_each_moment_what_was_known_then(database: Database, with_database: Command) -> None:
    """What people said later had not been said: a profile was asked for, and silence told until a record came."""
    asyncio.run(_entered_late(database))

    said = with_database("rules", "backtest", "--since", "30d", "--json")
    explained = with_database("rules", "explain", "P-5", "--at", f"{NOON + minutes(420):%Y-%m-%dT%H:%M}", "--json")

    document = json.loads(said.out)
    assert document["differences"] == []
    assert said.code == 0
    assert {rule for rule, figures in document["rules"].items() if figures["alerts"]} >= {"COM-01", "COM-02", "DLV-09"}
    [clock] = [one for one in json.loads(explained.out) if one["rule_id"] == "DLV-09"]
    assert clock["alert"] == "high"


async def _deaf(database: Database) -> None:
    """Nothing works from fifty minutes on for an hour; meanwhile a pump is taken out, and later another one silent."""
    back_at, gone_at = NOON + minutes(120), NOON + minutes(400)
    async with ground_in(database.app, database.admin) as ground:
        for pump_id in ("P-1", "P-2", "P-3"):
            await ground.know(pump_id=pump_id, risks=["prior_withdrawal"])
        await _live(ground, [heard(), heard("P-2", motor=Motor.UNKNOWN), heard("P-3")], NOON + minutes(50))
        record = {"pump_id": "P-3", "kind": "replaced", "person": "nora", "reason": "taken out"}
        await care_records.add(ground.store.pool, record, "nora", NOON + minutes(60), RULEBOOK)
        for due in await ground.rows("SELECT pump_id FROM pump_state WHERE next_wake_at <= $1 ORDER BY 1", back_at):
            await _tick(ground, due["pump_id"], back_at, back_at)
        await _ticks(ground, NOON + minutes(130), back_at)
        await ground.hear(heard(seq=1, event_time=NOON + minutes(130)))
        await _ticks(ground, gone_at, back_at)
        await ground.owner.executemany(
            "INSERT INTO service_break VALUES ($1, $2, $3)",
            [
                ("ingest", NOON + minutes(50), NOON + minutes(110)),
                ("worker", NOON + minutes(55), back_at),
                ("notify", NOON + minutes(130), NOON + minutes(300)),
            ],
        )
        await ground.owner.executemany(
            "INSERT INTO service_heartbeat VALUES ($1, 'test', $2, $3)",
            [("ingest", gone_at, NOON + minutes(110)), ("worker", gone_at, back_at)],
        )


def test_a_backtest_takes_no_break_of_the_service_for_silence(database: Database, with_database: Command) -> None:
    """I7: silence counts from the return on, and not after the last beat; the delivery clock went on all the time."""
    asyncio.run(_deaf(database))

    said = with_database("rules", "backtest", "--since", "30d", "--json")

    document = json.loads(said.out)
    assert document["differences"] == []
    assert said.code == 0
    assert {rule: figures["alerts"] for rule, figures in document["rules"].items() if figures["alerts"]} == {
        "COM-01": 3,
        "DLV-09": 2,
    }


async def _forge(database: Database) -> None:
    connection = await asyncpg.connect(database.admin)
    try:
        await connection.execute("UPDATE alert SET priority = 'low' WHERE rule_id = 'RSV-02'")
    finally:
        await connection.close()


def test_a_backtest_names_what_is_not_as_recorded(history: Database, with_database: Command) -> None:
    """An alert that the rules do not tell so is found, and ends with 1."""
    asyncio.run(_forge(history))

    said = with_database("rules", "backtest", "--since", "30d")

    assert said.code == 1
    assert "P-2 RSV-02" in said.out


@pytest.fixture
def other_rules(tmp_path: Path) -> Path:
    """The same rules, but a reservoir counts as empty only below 0.2 mL."""
    folder = tmp_path / "rules"
    shutil.copytree(RULES, folder)
    file = folder / "reservoir" / "empty_reservoir.yaml"
    file.write_text(file.read_text().replace("limit_ml: 0.5", "limit_ml: 0.2"))
    return folder


def test_a_diff_says_what_other_rules_would_change(
    history: Database, with_database: Command, other_rules: Path
) -> None:
    """Episodes that would be lost are named, and pages are counted per patient-year."""
    said = with_database("rules", "diff", str(RULES), str(other_rules), "--json")

    document: dict[str, Any] = json.loads(said.out)
    lost = [one["before"] for one in document["differences"] if one["change"] == "lost"]
    assert said.code == 0
    assert [(alert[0], alert[2]) for alert in lost] == [("P-2", "RSV-02")]
    # Without RSV-02 the silence and the clock of the same pump have no parent that pages for them.
    assert {one["after"][2] for one in document["differences"] if one["change"] == "gained"} <= {"RSV-02", "DLV-09"}
    assert document["pages_per_patient_year_before"] > 0


def test_explain_says_why_now_and_why_then(history: Database, with_database: Command) -> None:
    """At 12:20 the motor of P-1 stood still; ten minutes later it ran."""
    then = f"{NOON + minutes(20):%Y-%m-%dT%H:%M}"
    stalled = json.loads(with_database("rules", "explain", "P-1", "--at", then, "--json").out)
    now = json.loads(with_database("rules", "explain", "P-1", "--json").out)
    unknown = with_database("rules", "explain", "P-9")

    by_rule = {one["rule_id"]: one for one in stalled}
    assert by_rule["DLV-01"]["presence"] == "present"
    assert by_rule["DLV-01"]["alert"] == "high"
    assert by_rule["RSV-02"]["presence"] == "absent"
    assert {one["rule_id"]: one["presence"] for one in now}["DLV-01"] == "absent"
    assert (unknown.code, "P-9" in unknown.err) == (1, True)


def test_examples_are_run_and_a_wrong_one_is_shown(command: Command, tmp_path: Path) -> None:
    """Expected and got, line against line; the exit code tells a script."""
    folder = tmp_path / "rules"
    shutil.copytree(RULES, folder)
    file = folder / "delivery" / "motor_stall.yaml"
    file.write_text(file.read_text().replace("{at: PT40M, event: cleared}", "{at: PT41M, event: cleared}", 1))

    good = command("rules", "test", str(RULES / "delivery" / "motor_stall.yaml"))
    bad = command("rules", "test", str(file))

    assert (good.code, " 0 failed" in good.out) == (0, True)
    assert bad.code == 1
    assert "-at PT41M  cleared" in bad.out
    assert "+at PT40M  cleared" in bad.out
