"""One transaction for everything a batch means: all of it once, or none of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from streams import audit
from streams.alert_history import Fact
from streams.deciding import Decided, decide_tick
from streams.domain.silence import Hearing
from streams.domain.telemetry import Alarm, Battery, Emi, EmiLevel, Event, EventType, Motor, fingerprint
from streams.store import Claim, Fenced, Quarantined, ResolveRefused, StaleWorlds, Store, Work
from tests.integration.ground import NOON, RULEBOOK, TOPIC, Ground, ground_in, heard, minutes
from tests.stack import Database, eventually

MANY = 200


@pytest.fixture
async def ground(database: Database) -> AsyncIterator[Ground]:
    """A store with partition 0 at offset 0, and P-1 with a profile."""
    async with ground_in(database.app, database.admin) as ground:
        await ground.know()
        yield ground


async def the_alert(ground: Ground) -> UUID:
    """The id of the only alert."""
    [row] = await ground.rows("SELECT alert_id FROM alert")
    alert_id: UUID = row["alert_id"]
    return alert_id


async def waits_for_a_lock(ground: Ground) -> bool:
    """Whether a connection of the store stands behind somebody's lock."""
    rows = await ground.rows(
        "SELECT FROM pg_stat_activity WHERE application_name = 'pumpwatch' AND wait_event_type = 'Lock' "
        "AND datname = current_database()"
    )
    return bool(rows)


async def test_a_batch_writes_readings_worlds_and_offset(ground: Ground) -> None:
    """What was written is read again: the same world, one revision on."""
    work = await ground.hear(heard(seq=0), heard(seq=1), heard("P-2", seq=0))

    stored = await ground.store.worlds(["P-1", "P-2", "P-3"])
    assert await ground.store.next_offset(TOPIC, 0) == 1
    assert await ground.count("reading") == 3
    assert {pump_id: world.revision for pump_id, world in stored.items()} == {"P-1": 1, "P-2": 1, "P-3": 0}
    assert {change.pump_id: change.world for change in work.changes}["P-2"] == stored["P-2"].world
    assert stored["P-1"].profiles.therapy(NOON).site == "north"
    assert stored["P-2"].profiles.versions == ()


# Longer than forty lines: every field of a report is named once.
async def test_every_measurement_has_its_column(ground: Ground) -> None:
    """A report that says everything comes out of the view as it went in, few or many at a time."""
    full = heard(
        seq=0,
        motor=Motor.STALLED,
        alarms=(Alarm.MOTOR_STALL, Alarm.LOW_RESERVOIR),
        reservoir_estimated_ml=1.5,
        reservoir_measured_ml=1.25,
        flow_programmed_ml_per_day=0.5,
        volume_programmed_ml=3.0,
        volume_delivered_ml=2.0,
        temperature_celsius=36.5,
        battery=Battery(voltage_v=2.75, eri=True, eos=False),
        emi=Emi(level=EmiLevel.WEAK, count=3),
        program_checksum='quoted "and, odd',
        events=(
            Event(type=EventType.MRI_SCHEDULED, scheduled_for=NOON),
            Event(type=EventType.REFILL, at=NOON - minutes(5), aspirated_ml=1.0, injected_ml=18.0),
        ),
    )
    others = [heard("P-2", seq=number) for number in range(MANY)]

    await ground.store.apply((), Work(readings=[full]), NOON)
    copied = [heard("P-9", **{name: getattr(full.report, name) for name in ("events", "alarms", "battery", "emi")})]
    await ground.store.apply((), Work(readings=[*copied, *others]), NOON)

    [row] = await ground.rows("SELECT * FROM v_reading WHERE pump_id = 'P-1'")
    assert row == {
        "pump_id": "P-1",
        "boot_id": 0,
        "seq": 0,
        "event_time": NOON,
        "gateway_id": "G-1",
        "gateway_time": NOON,
        "received_at": NOON,
        "motor": "stalled",
        "alarms": ["motor_stall", "low_reservoir"],
        "reservoir_estimated_ml": 1.5,
        "reservoir_measured_ml": 1.25,
        "flow_programmed_ml_per_day": 0.5,
        "volume_programmed_ml": 3.0,
        "volume_delivered_ml": 2.0,
        "temperature_celsius": 36.5,
        "battery_voltage_v": 2.75,
        "battery_eri": True,
        "battery_eos": False,
        "emi_level": "weak",
        "emi_count": 3,
        "flow_valve": None,
        "program_checksum": 'quoted "and, odd',
        "events": row["events"],
    }
    assert json.loads(row["events"]) == [
        {"type": "mri_scheduled", "for": NOON.strftime("%Y-%m-%dT%H:%M:%SZ")},
        {
            "type": "refill",
            "at": (NOON - minutes(5)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "aspirated_ml": 1.0,
            "injected_ml": 18.0,
        },
    ]
    same = "alarms, events, battery_voltage_v, battery_eri, battery_eos, emi_level, emi_count"
    assert await ground.rows(f"SELECT {same} FROM v_reading WHERE pump_id = 'P-9'") == await ground.rows(
        f"SELECT {same} FROM v_reading WHERE pump_id = 'P-1'"
    )


async def test_a_record_applied_again_is_fenced_and_changes_nothing(ground: Ground) -> None:
    """Exactly once: the offset has moved on, so the same record cannot be written a second time."""
    claim = ground.claim
    work = await ground.hear(heard(seq=0, motor=Motor.STALLED))
    before = await ground.contents()

    with pytest.raises(Fenced):
        await ground.store.apply((claim,), work, NOON)

    assert await ground.contents() == before


@pytest.mark.parametrize("claim", [Claim(TOPIC, 0, 5, 6), Claim(TOPIC, 7, 0, 1), Claim("other", 0, 0, 1)])
async def test_a_worker_without_the_partition_writes_nothing(ground: Ground, claim: Claim) -> None:
    """Another offset, another partition, another topic: all the same."""
    work = await ground.decide([heard(seq=number) for number in range(MANY)])
    before = await ground.contents()

    with pytest.raises(Fenced):
        await ground.store.apply((claim,), work, NOON)

    assert await ground.contents() == before


async def test_the_offsets_of_several_partitions_move_together(ground: Ground) -> None:
    """All of them, or, where one of them is not as expected, none."""
    await ground.store.start_partition(TOPIC, 1, 40)
    first, second = Claim(TOPIC, 0, 0, 2), Claim(TOPIC, 1, 40, 43)
    work = await ground.decide([heard("P-3"), heard("P-4")])

    await ground.store.apply((first, second), work, NOON)
    moved = await ground.contents()
    for claims in ((Claim(TOPIC, 0, 2, 3), second), (first, Claim(TOPIC, 1, 43, 44)), (Claim(TOPIC, 0, 2, 3), first)):
        with pytest.raises(Fenced):
            await ground.store.apply(claims, await ground.decide([heard("P-5")]), NOON)

    assert await ground.contents() == moved
    assert [await ground.store.next_offset(TOPIC, partition) for partition in (0, 1)] == [2, 43]
    assert await ground.count("reading") == 2


async def test_of_two_workers_with_the_same_claim_one_writes(ground: Ground) -> None:
    """They wait for each other's row, and the second finds it moved."""
    first, second = await ground.decide([heard("P-3")]), await ground.decide([heard("P-4")])

    outcomes = await asyncio.gather(
        ground.store.apply((ground.claim,), first, NOON),
        ground.store.apply((ground.claim,), second, NOON),
        return_exceptions=True,
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Fenced", "NoneType"]
    assert await ground.count("reading") == 1


@pytest.mark.parametrize("motor", [Motor.RUNNING, Motor.STALLED])
async def test_a_pump_that_was_changed_since_is_stale(ground: Ground, motor: Motor) -> None:
    """Nothing of the batch is written, not even what concerns other pumps, with and without news for people."""
    work = await ground.decide([heard(seq=0, motor=motor), heard("P-2")])
    await ground.store.apply((), await ground.decide([heard("P-2")]), NOON)
    before = await ground.contents()

    with pytest.raises(StaleWorlds):
        await ground.store.apply((ground.claim,), work, NOON)

    assert await ground.contents() == before


async def test_an_import_of_profiles_makes_earlier_decisions_stale(ground: Ground) -> None:
    """A report is not judged by a profile that was replaced meanwhile, and the pump is looked at again at once."""
    await ground.hear(heard(seq=0))
    work = await ground.decide([heard(seq=1)])
    await ground.know(risks=["child"])

    with pytest.raises(StaleWorlds):
        await ground.store.apply((ground.claim,), work, NOON)

    assert await ground.store.due([0], NOON, 10) == ["P-1"]
    assert (await ground.store.worlds(["P-1"]))["P-1"].world.next_wake_at == NOON


async def test_readings_that_are_there_already_stay_as_they_are(ground: Ground) -> None:
    """COPY meets one of them: the rest is written all the same, once."""
    await ground.store.apply((), Work(readings=[heard(seq=3)]), NOON)
    batch = [heard(seq=number) for number in range(MANY)]

    await ground.store.apply((ground.claim,), Work(readings=batch), NOON)

    assert await ground.count("reading") == MANY
    assert await ground.store.next_offset(TOPIC, 0) == 1


async def test_a_transaction_that_is_cut_leaves_nothing(ground: Ground) -> None:
    """The connection dies between the first row and the commit; the same work applies afterwards."""
    work = await ground.decide([heard(seq=number, motor=Motor.STALLED) for number in range(MANY)])
    before = await ground.contents()
    async with ground.owner.transaction():
        await ground.owner.execute("LOCK TABLE outbox")
        writing = asyncio.create_task(ground.store.apply((ground.claim,), work, NOON))
        await eventually(lambda: waits_for_a_lock(ground), what="the store at the outbox")
        await ground.owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pumpwatch' "
            "AND wait_event_type = 'Lock' AND datname = current_database()"
        )
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await writing
    assert await ground.contents() == before

    await ground.store.apply((ground.claim,), work, NOON)

    assert await ground.count("reading") == MANY
    assert await ground.count("alert_event") == sum(len(change.events) for change in work.changes) > 0


async def test_fingerprints_tell_what_is_stored(ground: Ground) -> None:
    """A conflict is noticed by what the pump said, under whatever time it says it now."""
    report = heard(seq=4, reservoir_estimated_ml=3.0)
    await ground.store.apply((), Work(readings=[report]), NOON)

    old = heard("P-2", seq=4, event_time=NOON - timedelta(days=300))
    await ground.store.apply((), Work(readings=[old]), NOON)

    found = await ground.store.fingerprints([("P-1", 0, 4), ("P-1", 0, 5), ("P-2", 0, 4)])

    assert found == {("P-1", 0, 4): fingerprint(report.report), ("P-2", 0, 4): fingerprint(old.report)}
    assert await ground.store.fingerprints([]) == {}


async def test_a_reading_keeps_whether_it_came_from_a_clinic(ground: Ground) -> None:
    """By both ways of writing, so that its history can be judged again; analysts see what the pump said."""
    clinic = replace(heard(seq=0), clinic=True)
    many = [replace(heard(seq=seq), clinic=seq == MANY) for seq in range(1, MANY + 1)]

    await ground.store.apply((ground.claim,), Work(readings=[clinic, heard("P-2")]), NOON)
    await ground.store.apply((), Work(readings=many), NOON)

    found = await ground.rows("SELECT pump_id, seq FROM reading WHERE clinic ORDER BY seq")
    assert found == [{"pump_id": "P-1", "seq": 0}, {"pump_id": "P-1", "seq": MANY}]


async def test_quarantine_keeps_a_report_once(ground: Ground) -> None:
    """A report in quarantine is no reading; another report under the same identity is kept beside it."""
    future, conflict = Quarantined(heard(seq=1), "future"), Quarantined(heard(seq=1), "conflict")
    await ground.store.apply((ground.claim,), Work(quarantined=[future, future]), NOON)
    await ground.store.apply((), Work(quarantined=[future, conflict]), NOON)

    assert await ground.rows("SELECT pump_id, seq, reason FROM quarantine ORDER BY reason") == [
        {"pump_id": "P-1", "seq": 1, "reason": "conflict"},
        {"pump_id": "P-1", "seq": 1, "reason": "future"},
    ]
    assert await ground.store.fingerprints([("P-1", 0, 1)]) == {}


async def test_an_empty_work_moves_the_offset_and_only_that(ground: Ground) -> None:
    """A record that went to the dead letters is accounted for."""
    before = await ground.contents()

    await ground.store.apply((ground.claim,), Work(), NOON)

    after = await ground.contents()
    assert await ground.store.next_offset(TOPIC, 0) == 1
    assert {**after, "consumed": None} == {**before, "consumed": None}


async def test_a_partition_is_started_once(ground: Ground) -> None:
    """Two workers may both find it new."""
    assert await ground.store.next_offset(TOPIC, 1) is None

    await ground.store.start_partition(TOPIC, 1, 40, "id")
    await ground.store.start_partition(TOPIC, 1, 0)

    assert await ground.store.next_offset(TOPIC, 1) == 40


async def test_due_pumps_are_those_of_our_partitions_whose_time_has_come(ground: Ground) -> None:
    """The longest overdue first, and not more than asked for."""
    await ground.hear(heard("P-2", seq=0))
    await ground.hear(heard("P-1", seq=0), heard("P-3", seq=3))
    days = timedelta(days=30)

    assert await ground.store.due([0], NOON, 10) == []
    assert set(await ground.store.due([0, 1], NOON + days, 10)) == {"P-1", "P-2", "P-3"}
    assert len(await ground.store.due([0], NOON + days, 2)) == 2
    assert await ground.store.due([1], NOON + days, 10) == []


async def test_an_alert_is_written_with_its_fact_and_its_outbox_row(ground: Ground) -> None:
    """What people are told is in the transaction of what it is about, and listeners hear of it at commit."""
    told: asyncio.Queue[str] = asyncio.Queue()
    await ground.owner.add_listener("pumpwatch_outbox", lambda *given: told.put_nowait(given[2]))

    await ground.hear(heard(seq=0, motor=Motor.STALLED))

    assert await asyncio.wait_for(told.get(), 5) == "pumpwatch_outbox"
    [alert] = await ground.rows("SELECT * FROM v_alert")
    [event] = await ground.rows("SELECT * FROM v_alert_event")
    [outbox] = await ground.rows("SELECT alert_id, kind, received_at, event_id FROM outbox")
    assert (alert["rule_id"], alert["priority"], alert["active"], alert["site"]) == ("DLV-01", "high", True, "north")
    assert (alert["opened_at"], alert["resolved_at"], alert["confirmed_by"]) == (NOON, None, None)
    assert (event["kind"], event["actor"], event["effective_at"]) == ("opened", "pumpwatch", NOON)
    assert (outbox["alert_id"], outbox["kind"], outbox["received_at"]) == (alert["alert_id"], "opened", NOON)
    assert await ground.rows("SELECT open_alerts FROM v_pump") == [{"open_alerts": 1}]


async def test_the_same_decision_has_the_same_ids_when_it_is_made_again(ground: Ground) -> None:
    """A batch that is decided twice, since nothing was committed, tells of the same facts; another one does not."""
    report = heard(seq=0, motor=Motor.STALLED)
    [first], [again] = [(await ground.decide([report])).changes for _ in range(2)]
    facts = [Fact(change.events[0], "P-1", None, None, change.revision, 0) for change in (first, again)]
    other = Fact(first.events[0], "P-1", None, None, first.revision + 1, 0)

    assert facts[0].event_id == facts[1].event_id
    assert other.event_id != facts[0].event_id


async def test_confirming_stops_at_the_first_name(ground: Ground) -> None:
    """The second person changes nothing; a worker's decisions stay valid meanwhile."""
    await ground.hear(heard(seq=0, motor=Motor.STALLED))
    alert_id = await the_alert(ground)
    work = await ground.decide([heard(seq=1, motor=Motor.STALLED)])

    assert await ground.store.confirm(alert_id, "nora", NOON + minutes(1)) is None
    assert await ground.store.confirm(alert_id, "ben", NOON + minutes(2)) is None
    await ground.store.apply((ground.claim,), work, NOON + minutes(1))

    [alert] = await ground.rows("SELECT confirmed_by, confirmed_at FROM v_alert")
    assert alert == {"confirmed_by": "nora", "confirmed_at": NOON + minutes(1)}
    facts = await ground.rows("SELECT kind, actor FROM alert_event ORDER BY chain_position")
    assert facts == [{"kind": "opened", "actor": "pumpwatch"}, {"kind": "acknowledged", "actor": "nora"}]
    assert [row["kind"] for row in await ground.rows("SELECT kind FROM outbox ORDER BY 1")] == [
        "acknowledged",
        "opened",
    ]


async def test_a_raising_that_nobody_saw_is_not_confirmed(ground: Ground) -> None:
    """Whoever confirms names the raising; a clock that is behind it confirms as of that."""
    await ground.hear(heard(seq=0, motor=Motor.STALLED))
    alert_id = await the_alert(ground)
    await ground.store.confirm(alert_id, "nora", NOON + minutes(1))
    [before] = await ground.rows("SELECT raised_at FROM alert")
    await ground.store.re_raise(alert_id, "confirmation_ran_out", NOON + minutes(61))

    refused = await ground.store.confirm(alert_id, "ben", NOON + minutes(61), before["raised_at"])
    [unseen] = await ground.rows("SELECT confirmed_by FROM alert")
    taken = await ground.store.confirm(alert_id, "ben", NOON + minutes(60), NOON + minutes(61))

    assert (refused, unseen["confirmed_by"], taken) == (ResolveRefused("the alert was raised again"), None, None)
    [alert] = await ground.rows("SELECT confirmed_by, confirmed_at FROM alert")
    assert alert == {"confirmed_by": "ben", "confirmed_at": NOON + minutes(61)}


async def test_raising_again_takes_the_confirmation_away(ground: Ground) -> None:
    """Once per confirmation: an alert that nobody has is with the ladder already."""
    await ground.hear(heard(seq=0, motor=Motor.STALLED))
    alert_id = await the_alert(ground)

    assert await ground.store.re_raise(alert_id, "confirmation_ran_out", NOON) is False
    await ground.store.confirm(alert_id, "nora", NOON + minutes(1))
    assert await ground.store.re_raise(alert_id, "confirmation_ran_out", NOON + minutes(61)) is True
    assert await ground.store.re_raise(alert_id, "confirmation_ran_out", NOON + minutes(62)) is False
    await ground.store.confirm(alert_id, "nora", NOON + minutes(63))

    [alert] = await ground.rows("SELECT confirmed_by, raised_at FROM alert")
    assert alert == {"confirmed_by": "nora", "raised_at": NOON + minutes(61)}
    kinds = [row["kind"] for row in await ground.rows("SELECT kind FROM alert_event ORDER BY chain_position")]
    assert kinds == ["opened", "acknowledged", "re_raised", "acknowledged"]


async def test_a_worse_alert_needs_a_new_confirmation(ground: Ground) -> None:
    """A raise of priority voids what was confirmed before it: unknown delivery is HIGH at half the budget."""
    for hour in range(3):
        await ground.hear(heard(seq=hour, motor=Motor.UNKNOWN, event_time=NOON + minutes(60 * hour)))
    alert_id = await the_alert(ground)
    await ground.store.confirm(alert_id, "nora", NOON + minutes(121))

    await ground.hear(heard(seq=3, motor=Motor.UNKNOWN, event_time=NOON + minutes(240)))

    [alert] = await ground.rows("SELECT confirmed_by, priority, raised_at, opened_at FROM alert")
    assert (alert["confirmed_by"], alert["priority"]) == (None, "high")
    assert (alert["opened_at"], alert["raised_at"]) == (NOON + minutes(120), NOON + minutes(240))


async def test_a_person_closes_an_alert_that_has_ended(ground: Ground) -> None:
    """With a name and a reason in history; the pump's revision moves, so that workers notice."""
    await ground.hear(heard(seq=0, motor=Motor.STALLED))
    alert_id = await the_alert(ground)
    refused = await ground.store.resolve(alert_id, "nora", "seen", NOON, RULEBOOK)
    await ground.hear(heard(seq=1))

    assert isinstance(refused, ResolveRefused)
    assert await ground.store.resolve(alert_id, "nora", "pump checked", NOON + minutes(2), RULEBOOK) is None

    [alert] = await ground.rows("SELECT active, resolved_at, cleared_at FROM v_alert")
    assert alert == {"active": False, "resolved_at": NOON + minutes(2), "cleared_at": NOON + minutes(1)}
    [fact] = await ground.rows("SELECT actor, reason, detail->>'note' AS note FROM alert_event WHERE kind = 'resolved'")
    assert fact == {"actor": "nora", "reason": "resolved_by_person", "note": "pump checked"}
    assert (await ground.store.worlds(["P-1"]))["P-1"].revision == 3
    assert isinstance(await ground.store.resolve(alert_id, "nora", "again", NOON, RULEBOOK), ResolveRefused)
    assert isinstance(await ground.store.confirm(alert_id, "nora", NOON), ResolveRefused)


async def test_what_is_not_there_can_be_neither_confirmed_nor_closed(ground: Ground) -> None:
    """A refusal, not an error: the page may be old."""
    nothing = UUID(int=1)

    assert await ground.store.confirm(nothing, "nora", NOON) == ResolveRefused("there is no such alert")
    assert await ground.store.resolve(nothing, "nora", "x", NOON, RULEBOOK) == ResolveRefused("there is no such alert")
    assert await ground.store.re_raise(nothing, "x", NOON) is False


async def test_a_batch_and_a_person_at_the_same_pump_lose_nothing(ground: Ground) -> None:
    """Both wait for the pump; whoever comes second decides anew, and both effects are there."""
    await ground.hear(heard(seq=0, motor=Motor.STALLED), heard(seq=1))
    alert_id = await the_alert(ground)
    work = await ground.decide([heard(seq=2)])
    async with ground.owner.transaction():
        await ground.owner.execute("SELECT FROM pump_state FOR UPDATE")
        resolving = asyncio.create_task(ground.store.resolve(alert_id, "nora", "done", NOON + minutes(3), RULEBOOK))
        await eventually(lambda: waits_for_a_lock(ground), what="the person at the pump")
        applying = asyncio.create_task(ground.store.apply((ground.claim,), work, NOON + minutes(2)))
    assert await resolving is None
    with pytest.raises(StaleWorlds):
        await applying

    await ground.hear(heard(seq=2))

    world = (await ground.store.worlds(["P-1"]))["P-1"]
    assert (world.revision, world.world.arrivals.next_seq) == (3, 3)
    assert await ground.rows("SELECT resolved_at IS NOT NULL AS closed FROM alert") == [{"closed": True}]


async def test_many_hands_at_one_pump_leave_one_chain(ground: Ground) -> None:
    """Facts that are written at the same time have one order, and none is lost."""
    await ground.hear(heard(seq=0, motor=Motor.STALLED))
    alert_id = await the_alert(ground)
    await ground.store.confirm(alert_id, "nora", NOON)

    outcomes = await asyncio.gather(
        *(ground.store.re_raise(alert_id, "confirmation_ran_out", NOON + minutes(number)) for number in range(8)),
        *(ground.store.confirm(alert_id, f"person-{number}", NOON + minutes(number)) for number in range(8)),
    )

    facts = await ground.rows("SELECT kind, chain_position FROM alert_event ORDER BY chain_position")
    assert [fact["chain_position"] for fact in facts] == list(range(1, len(facts) + 1))
    assert sum(fact["kind"] == "re_raised" for fact in facts) == sum(outcome is True for outcome in outcomes)
    assert await audit.verify(ground.owner) is None


async def test_a_tick_writes_under_the_fence_without_moving_it(ground: Ground) -> None:
    """Silence is told by the partition's owner only."""
    await ground.hear(heard(seq=0))
    later, standing = NOON + timedelta(days=3), Claim(TOPIC, 0, 1, 1)
    decided = Decided()
    stored = (await ground.store.worlds(["P-1"]))["P-1"]
    decide_tick(decided, stored, RULEBOOK, later, Hearing(NOON, later), 0)

    await ground.store.apply((standing,), Work(changes=decided.changes), later)

    assert await ground.store.next_offset(TOPIC, 0) == 1
    silent = await ground.rows("SELECT received_at FROM outbox")
    assert silent
    assert all(row["received_at"] is None for row in silent)
    with pytest.raises(Fenced):
        await ground.store.apply((Claim(TOPIC, 0, 0, 0),), Work(changes=decided.changes), later)


async def test_an_unreadable_profile_leaves_the_strictest_defaults(ground: Ground) -> None:
    """One bad row must not stop every pump of its partition."""
    await ground.owner.execute("UPDATE pump_profile SET profile = '{\"family\": 1}'")

    stored = (await ground.store.worlds(["P-1"]))["P-1"]

    assert stored.profiles.therapy(NOON).known is False


async def test_every_statement_has_limits_at_the_server(ground: Ground) -> None:
    """A store that hangs would hang its partitions."""
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")

    limits = [await ground.store.pool.fetchval(f"SHOW {name}") for name in names]

    assert limits == ["15s", "5s", "30s"]


async def test_a_store_closes_with_a_connection_still_in_use(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that stops does not wait for ever."""
    monkeypatch.setattr("streams.store.STATEMENT_SECONDS", 0.1)
    store = await Store.open(database.app)
    await store.pool.acquire()

    await store.close()

    assert store.pool.get_size() == 0
