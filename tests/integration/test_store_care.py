"""Care records: entered whole or not at all, withdrawn but never changed, audited, and read by the rules at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from streams import audit, care_records, profiles
from streams.audit import Verified
from streams.care_records import WithdrawRefused
from streams.domain.alert import Priority, PriorityStep
from streams.domain.care import CareKind, CareRecord, CareRejected
from streams.domain.rule import (
    ABSENT,
    Finding,
    Presence,
    Rule,
    RuleBook,
    Setting,
    View,
    parameters_in_force,
    setting_refused,
)
from streams.domain.telemetry import Motor
from streams.profiles import Imported, LineError
from streams.store import StaleWorlds
from tests.integration.ground import NOON, RULEBOOK, Ground, ground_in, heard, minutes
from tests.stack import Database

HOUR = timedelta(hours=1)
RSV_01 = RULEBOOK["RSV-01"]
EMPTY = RULEBOOK["RSV-02"]
SETTABLE = RuleBook((replace(RSV_01, settings={"hours": Setting("higher", 24.0)}, parameters={"hours": 48.0}),))
"""A rule whose hours may be more than 48, and down to 24 for a time."""


@pytest.fixture
async def ground(database: Database) -> AsyncIterator[Ground]:
    """A store that knows the profile of P-1."""
    async with ground_in(database.app, database.admin) as ground:
        await ground.know()
        yield ground


def said(**differences: Any) -> dict[str, Any]:
    """A booked refill of P-1 as a JSON object; a field set to None is left out."""
    document = {
        "pump_id": "P-1",
        "kind": "refill_booked",
        "valid_from": NOON.isoformat(),
        "person": "nora",
        "reason": "clinic called",
        "booked_on": (NOON + timedelta(days=3)).date().isoformat(),
        **differences,
    }
    return {name: value for name, value in document.items() if value is not None}


PLAN: dict[str, Any] = {"kind": "stop_plan", "booked_on": None, "reason": "explant, covered by the ward"}


async def added(ground: Ground, rules: RuleBook = RULEBOOK, now: datetime = NOON, **differences: Any) -> CareRecord:
    """Enter a record that can be used."""
    outcome = await care_records.add(ground.store.pool, said(**differences), "nora", now, rules)
    assert isinstance(outcome, CareRecord), outcome
    return outcome


async def refused(ground: Ground, rules: RuleBook = RULEBOOK, **differences: Any) -> tuple[str, str]:
    """Enter a record that cannot be used: its field and the reason."""
    outcome = await care_records.add(ground.store.pool, said(**differences), "nora", NOON, rules)
    assert isinstance(outcome, CareRejected), outcome
    assert await ground.count("care_record") == 0
    return outcome.pointer, outcome.reason


async def test_a_booking_counts_from_its_own_time_at_the_sites_midnight(ground: Ground) -> None:
    """The worker reads it with the profile, and dates in the zone of the site."""
    await profiles.set_time_zone(ground.store.pool, "north", "Europe/Berlin", NOON)

    record = await added(ground)

    history = (await ground.store.worlds(["P-1"]))["P-1"].profiles
    assert history.care == (record,)
    assert history.therapy(NOON - minutes(1)).refill_booked_at is None
    day = NOON.date() + timedelta(days=3)
    at = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
    assert history.therapy(NOON).refill_booked_at == at


async def test_a_withdrawn_record_counted_until_then(ground: Ground) -> None:
    """It stays in the list with who took it back, when and why."""
    record = await added(ground)

    gone = await care_records.withdraw(ground.store.pool, record.care_id, "ben", "rebooked", NOON + HOUR)

    assert gone == replace(record, withdrawn_at=NOON + HOUR)
    history = (await ground.store.worlds(["P-1"]))["P-1"].profiles
    assert [history.therapy(at).care for at in (NOON, NOON + HOUR)] == [(gone,), ()]
    [entry] = await care_records.list_all(ground.store.pool)
    assert (entry.record, entry.recorded_by, entry.withdrawn_by, entry.withdrawal_reason) == (
        *(gone, "nora"),
        *("ben", "rebooked"),
    )
    assert await care_records.list_all(ground.store.pool, "P-1", still_at=NOON + HOUR) == []


async def test_what_cannot_be_withdrawn_is_refused(ground: Ground) -> None:
    """Unknown, withdrawn already, ended by itself, or without a reason."""
    pool = ground.store.pool
    record = await added(ground)
    plan = await added(ground, **PLAN, valid_until=(NOON + HOUR).isoformat())

    with pytest.raises(WithdrawRefused, match="does not exist") as unknown:
        await care_records.withdraw(pool, "care-0", "ben", "rebooked", NOON)
    with pytest.raises(WithdrawRefused, match="has ended by itself"):
        await care_records.withdraw(pool, plan.care_id, "ben", "rebooked", NOON + HOUR)
    for reason in ("", "no", "x" * 501, "line\nbreak"):
        with pytest.raises(WithdrawRefused, match="needs a reason"):
            await care_records.withdraw(pool, record.care_id, "ben", reason, NOON)
    outcomes = await asyncio.gather(
        *(care_records.withdraw(pool, record.care_id, name, "rebooked", NOON) for name in ("ben", "cleo")),
        return_exceptions=True,
    )

    assert unknown.value.unknown
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["CareRecord", "WithdrawRefused"]
    assert await ground.count("care_record") == 3


async def test_records_are_looked_at_before_they_count(ground: Ground) -> None:
    """Each refusal names the field."""
    soon, past = (NOON + HOUR).isoformat(), (NOON - HOUR).isoformat()
    cases: dict[str, dict[str, Any]] = {
        "/kind": {"kind": "party"},
        "/reason": {"reason": "a\tb"},
        "/person": {"person": None},
        "/pump_id": {"pump_id": "P-9"},
        "/booked_on": {"booked_on": (NOON - timedelta(days=1)).date().isoformat()},
        "/valid_until": {**PLAN},
        "/valid_from": {"valid_from": "2206-01-01T00:00:00Z"},
        "/rule_id": {"kind": "review", "booked_on": None, "rule_id": "RSV-99"},
        "/withdrawn_at": {"withdrawn_at": soon},
        "/nonsense": {"nonsense": 1},
        "/care_id": {"care_id": "a/b"},
    }

    found = {pointer: await refused(ground, **differences) for pointer, differences in cases.items()}
    over = await refused(ground, **PLAN, valid_from=(NOON - 2 * HOUR).isoformat(), valid_until=past)

    assert {pointer: refusal[0] for pointer, refusal in found.items()} == {pointer: pointer for pointer in cases}
    assert over == ("/valid_until", "is past: it would never count")
    assert (await refused(ground, valid_from="0001-01-01T00:00:00+14:00"))[0] == "/valid_from"


async def test_a_setting_is_measured_against_the_rule_book(ground: Ground) -> None:
    """The rule exists, the parameter may be set, and a looser value keeps its bound and its end."""
    setting: dict[str, Any] = {"kind": "setting", "booked_on": None, "rule_id": "RSV-01", "parameter": "hours"}
    until: dict[str, Any] = {"valid_until": (NOON + timedelta(days=90)).isoformat()}
    longer: dict[str, Any] = {"valid_until": (NOON + timedelta(days=90, seconds=1)).isoformat()}

    assert await refused(ground, SETTABLE, **{**setting, "parameter": "limit"}, value=1.0) == (
        *("/parameter", "RSV-01 has no such parameter for one patient; hours may be set"),
    )
    assert await refused(ground, SETTABLE, **{**setting, "rule_id": "RSV-99"}, value=1.0) == (
        *("/rule_id", "there is no rule RSV-99"),
    )
    assert await refused(ground, SETTABLE, **setting, value=23.0, **until) == (
        *("/value", "less strict than allowed: must be at least 24 (the default 48)"),
    )
    for end in ({}, longer):
        assert await refused(ground, SETTABLE, **setting, value=36.0, **end) == (
            "/valid_until",
            "a value less strict than the default 48 needs an end, at most 90 days after valid_from",
        )
    looser = await added(ground, SETTABLE, **setting, value=36.0, **until)
    stricter = await added(ground, SETTABLE, **setting, value=72.0)
    assert [setting_refused(SETTABLE, one, (await therapy(ground))) for one in (looser, stricter)] == [None, None]


async def therapy(ground: Ground) -> Any:
    """Of P-1, at noon."""
    return (await ground.store.worlds(["P-1"]))["P-1"].profiles.therapy(NOON)


async def test_one_looser_setting_does_not_excuse_another(ground: Ground) -> None:
    """Each is measured against the default: without an end a value under it is not used, whatever else is set."""
    setting: dict[str, Any] = {"kind": "setting", "booked_on": None, "rule_id": "RSV-01", "parameter": "hours"}
    await added(ground, SETTABLE, **setting, value=30.0, valid_until=(NOON + HOUR).isoformat())

    outcome = await care_records.add(ground.store.pool, said(**setting, value=36.0), "nora", NOON, SETTABLE)

    assert isinstance(outcome, CareRejected)
    assert outcome.pointer == "/valid_until"


async def test_a_setting_counts_in_the_next_report(ground: Ground) -> None:
    """The worker judges this patient by it, and by the rule's own value again once it is withdrawn."""
    ground.rules = RuleBook((replace(EMPTY, settings={"limit_ml": Setting("higher", 0.5)}),))
    setting: dict[str, Any] = {"kind": "setting", "booked_on": None, "rule_id": "RSV-02", "parameter": "limit_ml"}

    await ground.hear(heard(seq=0, reservoir_estimated_ml=0.9))
    before = await ground.count("alert")
    record = await added(ground, ground.rules, now=NOON + minutes(1), **setting, value=1.0)
    await ground.hear(heard(seq=1, reservoir_estimated_ml=0.9))
    [alert] = await ground.rows("SELECT rule_id, active FROM alert")
    await care_records.withdraw(ground.store.pool, record.care_id, "ben", "not needed", NOON + minutes(2))

    history = (await ground.store.worlds(["P-1"]))["P-1"].profiles
    after = (history.therapy(NOON + minutes(at)) for at in (1, 2))
    limits = [parameters_in_force(ground.rules["RSV-02"], therapy)["limit_ml"] for therapy in after]
    assert (before, alert, limits) == (0, {"rule_id": "RSV-02", "active": True}, [1.0, 0.5])


def _stalled_until_reviewed(view: View, rule: Rule) -> Finding:
    """Present while the motor stalls; a review that somebody enters ends it for good."""
    review = view.therapy.newest(CareKind.REVIEW)
    if review is not None and review.rule_id == rule.id:
        return Finding(Presence.ABSENT, ended_at=review.valid_from, closed_by=review.person)
    motor, at = view.state.motor, view.state.motor_at
    if motor != Motor.STALLED or at is None:
        return ABSENT
    return Finding(Presence.PRESENT, (PriorityStep(Priority.HIGH, at),))


async def test_what_a_record_closes_is_in_history_under_its_persons_name(ground: Ground) -> None:
    """Also a latched alert; nobody has to resolve it once more."""
    rule = replace(RULEBOOK["DLV-01"], condition=_stalled_until_reviewed, reads=("*",), follows=(), child_of=())
    ground.rules = RuleBook((rule,))
    await ground.hear(heard(seq=0, motor=Motor.STALLED))

    await added(ground, kind="review", booked_on=None, rule_id="DLV-01", valid_from=(NOON + minutes(1)).isoformat())
    await ground.hear(heard(seq=1, motor=Motor.STALLED))

    rows = await ground.rows("SELECT kind, actor, reason FROM alert_event ORDER BY chain_position")
    assert [tuple(row.values()) for row in rows] == [
        ("opened", "pumpwatch", "condition_met"),
        ("resolved", "nora", "resolved_by_person"),
    ]
    [alert] = await ground.rows("SELECT resolved_at FROM alert")
    assert alert["resolved_at"] is not None


async def test_the_same_file_again_changes_nothing(ground: Ground) -> None:
    """Also lines without an id: theirs rests on what they say."""
    lines = [json.dumps(said(care_id="B-1")), "", json.dumps(said(reason="by phone")), json.dumps(said(care_id="B-1"))]

    first = await care_records.import_records(ground.store.pool, lines, "ada", NOON, RULEBOOK)
    again = await care_records.import_records(ground.store.pool, lines, "ada", NOON + HOUR, RULEBOOK)

    assert (first, again) == (Imported(added=2), Imported(unchanged=2))
    assert [change.recorded_at for change in await care_records.audit(ground.store.pool, "P-1")] == [NOON, NOON]


async def test_a_bad_line_refuses_the_whole_file(ground: Ground) -> None:
    """Every bad line is told with its number, the field and the reason."""
    await added(ground, care_id="B-0")
    lines = [
        json.dumps(said()),
        "nonsense",
        "[1]",
        json.dumps(said(kind="absence", booked_on=None)),
        json.dumps(said(care_id="B-1")),
        json.dumps(said(care_id="B-1", reason="something else")),
    ]
    other = [json.dumps(said()), json.dumps(said(care_id="B-0", reason="other")), json.dumps(said(pump_id="P-9"))]

    unreadable = await care_records.import_records(ground.store.pool, lines, "ada", NOON, RULEBOOK)
    unusable = await care_records.import_records(ground.store.pool, other, "ada", NOON, RULEBOOK)

    assert [(error.line, error.pointer) for error in unreadable.errors] == [
        (2, ""),
        (3, ""),
        (4, "/valid_until"),
        (6, "/care_id"),
    ]
    assert unusable.errors == (
        LineError(2, "/care_id", "another record has this id; records never change"),
        LineError(3, "/pump_id", "no pump with this id has reported or has a profile"),
    )
    assert await ground.count("care_record") == 1


async def test_workers_hear_of_it_and_cannot_commit_what_they_decided_before(ground: Ground) -> None:
    """As after an import of profiles: the pump is due at once, and a stale decision is refused."""
    await ground.hear(heard())
    told: asyncio.Queue[str] = asyncio.Queue()
    await ground.owner.add_listener(profiles.CHANNEL, lambda *given: told.put_nowait(given[3]))
    work = await ground.decide([heard(seq=1)])

    record = await added(ground, now=NOON + minutes(1))
    with pytest.raises(StaleWorlds):
        await ground.store.apply((ground.claim,), work, NOON + minutes(1))
    await care_records.withdraw(ground.store.pool, record.care_id, "ben", "rebooked", NOON + minutes(2))

    assert [await asyncio.wait_for(told.get(), 5) for _ in range(2)] == ["P-1", "P-1"]
    assert await ground.store.due([0], NOON + minutes(1), 10) == ["P-1"]
    assert (await ground.store.worlds(["P-1"]))["P-1"].revision == 3


async def test_the_audit_covers_care_records(ground: Ground) -> None:
    """A record and its withdrawal are a chain of their own; a changed word is found."""
    record = await added(ground)
    await care_records.withdraw(ground.store.pool, record.care_id, "ben", "rebooked", NOON + HOUR)
    intact = await audit.inspect(ground.store.pool)

    await ground.owner.execute("ALTER TABLE care_record DISABLE TRIGGER ALL")
    await ground.owner.execute("UPDATE care_record SET reason = 'never mind' WHERE change = 'withdrawn'")
    changed = await audit.verify(ground.store.pool)
    await ground.owner.execute("DELETE FROM care_record")
    gone = await audit.verify(ground.store.pool)

    assert isinstance(intact, Verified)
    assert (intact.chains, intact.rows) == (2, 3)
    assert str(changed).startswith("care_record, chain care/P-1, row 2: the row is not what was written")
    assert str(gone) == "care_record, chain care/P-1, row 1: the row is missing at the chain's end"


async def test_a_record_is_there_for_analysts(ground: Ground) -> None:
    """With its fields under their own names."""
    record = await added(ground)
    await care_records.withdraw(ground.store.pool, record.care_id, "ben", "rebooked", NOON + HOUR)

    [row] = await ground.rows("SELECT * FROM v_care_record")

    assert (row["care_id"], row["kind"], row["valid_from"]) == (record.care_id, CareKind.REFILL_BOOKED, NOON)
    assert (row["booked_on"], row["person"], row["reason"]) == (record.booked_on, "nora", "clinic called")
    assert (row["withdrawn_at"], row["withdrawn_by"], row["withdrawal_reason"]) == (NOON + HOUR, "ben", "rebooked")
    assert isinstance(row["booked_on"], date)


async def test_a_plan_counts_up_to_its_hard_end(ground: Ground) -> None:
    """A plan counts up to its hard end, and the pump is due for another look then."""
    await ground.hear(heard(motor=Motor.RUNNING))
    plan = await added(ground, **PLAN, valid_until=(NOON + HOUR).isoformat())

    judged = (await ground.store.worlds(["P-1"]))["P-1"].profiles

    assert judged.therapy(NOON + minutes(59)).newest(CareKind.STOP_PLAN) == plan
    assert judged.therapy(NOON + HOUR).newest(CareKind.STOP_PLAN) is None
    assert judged.next_change(NOON) == NOON + HOUR
