"""The system's own alerts over a real PostgreSQL: storms, and people who cannot be reached (SYS-01, SYS-02)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from services.notify.system_watch import SystemWatch
from streams import audit, shifts
from streams.domain.alert import AlertEventKind, Priority
from streams.domain.rule import RuleBook
from streams.domain.system import SystemFinding
from streams.people import WATCHDOG_SITE
from streams.rulebook import load
from streams.rules_in_force import RulesInForce
from streams.settings import RULES
from streams.system_alerts import open_all
from tests.services.notify.care import Care, care_of
from tests.services.notify.desk import REFUSED, Desk, PlayedChannel
from tests.stack import Database

RULEBOOK = load(RULES)
LONG_AGO = timedelta(minutes=16)
"""Longer than a storm must be over before its alert closes."""


@pytest.fixture
async def care(database: Database) -> AsyncIterator[Care]:
    """A care team, and 200 pumps at its site."""
    async with care_of(database.app) as care:
        await care.team()
        await care.pool.execute(
            "INSERT INTO pump_state (pump_id, kafka_partition, revision, site) "
            "SELECT 'P-' || n, 0, 1, 'north' FROM generate_series(1, 200) AS n"
        )
        yield care


def _watch(desk: Desk, started_ago: timedelta = timedelta(0), rules: RulesInForce | None = None) -> SystemWatch:
    started_at = datetime.now(UTC) - started_ago
    return SystemWatch(desk.care.pool, rules or RulesInForce(RULEBOOK), desk.metrics, desk.intake.look_at, started_at)


async def _silent(care: Care, count: int) -> list[UUID]:
    """So many pumps fall silent."""
    alerts = []
    for number in range(count):
        care.pump_id = f"P-{number + 1}"
        alerts.append(await care.open(Priority.INFO, rule_id="COM-01"))
    return alerts


async def _open(care: Care, rule_id: str) -> list[tuple[str, str]]:
    rows = await care.pool.fetch(
        "SELECT priority::text, site FROM alert WHERE rule_id = $1 AND resolved_at IS NULL", rule_id
    )
    return [(row["priority"], row["site"]) for row in rows]


async def test_a_site_that_falls_silent_is_one_incident(care: Care) -> None:
    """198 of 200 pumps silent and two stalled: one storm and two stalls are told, and no silence (SYS-01)."""
    email = PlayedChannel()
    desk = Desk(care, email)
    silent = await _silent(care, 198)
    stalls = [await care.open() for _ in range(2)]

    await _watch(desk).look()
    await _raise(care, silent)
    await desk.work(rounds=6)

    assert await _open(care, "SYS-01") == [("high", "north")]
    assert desk.count("pumpwatch_pumps_silent") == 198
    told = Counter(notice.priority for notice in email.sent)
    assert told == {"high": 3}
    assert {notice.alert_id for notice in email.sent} >= set(stalls)
    resting = "SELECT count(*) FROM ladder WHERE ended_reason = 'grouped_in_storm'"
    assert await care.pool.fetchval(resting) == 198
    assert not isinstance(await audit.inspect(care.pool), audit.Broken)


async def test_what_is_still_silent_after_a_storm_is_told(care: Care) -> None:
    """The storm's alert closes once the site is heard again; the one pump that stays silent gets its own page."""
    desk = Desk(care)
    silent = await _silent(care, 70)
    await _watch(desk).look()
    alone, others = silent[0], silent[1:]
    await care.change(alone, AlertEventKind.ESCALATED, raises=True, priority=Priority.MEDIUM, ladder="M")
    await desk.work()
    before = await care.states(alone)
    for alert_id in others:
        await care.change(alert_id, AlertEventKind.CLEARED, active=False, open=False)
    await care.pool.execute("UPDATE alert SET opened_at = opened_at - interval '20 minutes'")

    await _watch(desk, LONG_AGO).look()
    await desk.work()

    assert before == []
    assert await _open(care, "SYS-01") == []
    assert (0, "ada", "email", "sent") in await care.states(alone)


async def test_a_silence_that_was_grouped_as_its_storm_closed_is_told_in_the_next_round(care: Care) -> None:
    """The notifier that closed the storm died before it looked, or another one stored its decision a moment later."""
    desk = Desk(care)
    await _silent(care, 70)
    await _watch(desk).look()
    care.pump_id = "P-71"
    late = await care.open(Priority.MEDIUM, rule_id="COM-01")
    await desk.work()
    await care.pool.execute("UPDATE alert SET resolved_at = now() WHERE alert_id <> $1", late)
    assert await care.states(late) == []

    await _watch(desk).look()
    await desk.work()

    assert (0, "ada", "email", "sent") in await care.states(late)


@pytest.mark.parametrize("subject", ["pump/P-1", "openings/north"])
async def test_only_the_silence_of_the_site_tells_of_a_silence(care: Care, subject: str) -> None:
    """A pump that chatters, or a busy site, is no reason why another pump cannot be heard."""
    desk = Desk(care)
    storm = SystemFinding("SYS-01", subject, "north", Priority.HIGH, "storm")
    async with care.pool.acquire() as connection, connection.transaction():
        await open_all(connection, [storm], RULEBOOK, datetime.now(UTC))
    care.pump_id = "P-80"
    alone = await care.open(Priority.MEDIUM, rule_id="COM-01")
    await desk.work()

    assert (0, "ada", "email", "sent") in await care.states(alone)


async def test_a_pump_that_was_silent_long_before_its_site_is_told_of_by_itself(care: Care) -> None:
    """The outage does not explain it."""
    desk = Desk(care)
    alone, *_ = await _silent(care, 70)
    await _watch(desk).look()
    await care.pool.execute("UPDATE alert SET opened_at = opened_at - interval '11 minutes' WHERE alert_id = $1", alone)

    await _raise(care, [alone])
    await desk.work()

    assert (0, "ada", "email", "sent") in await care.states(alone)


async def _raise(care: Care, alerts: Sequence[UUID]) -> None:
    for alert_id in alerts:
        await care.change(alert_id, AlertEventKind.ESCALATED, raises=True, priority=Priority.MEDIUM, ladder="M")


@pytest.mark.parametrize(
    ("motor", "hours", "grouped"), [("running", 6, True), ("running", 1.5, False), ("unknown", 6, False)]
)
async def test_a_delivery_that_silence_leaves_unconfirmed_is_told_with_the_silence(
    care: Care, motor: str, hours: float, grouped: bool
) -> None:
    """An outage longer than the budget is still one incident; what was in doubt before it is a case of its own."""
    desk = Desk(care)
    await _silent(care, 70)
    await _watch(desk).look()
    confirmed_at = datetime.now(UTC) - timedelta(hours=6)
    await care.pool.execute(
        "UPDATE pump_state SET motor = $1, last_confirmed_delivery_at = $2, last_event_time = $2", motor, confirmed_at
    )
    care.pump_id = "P-1"
    medium = await care.open(
        Priority.MEDIUM, rule_id="DLV-09", effective_from=confirmed_at + timedelta(hours=hours), latched=False
    )
    await desk.work()
    told = await care.states(medium)
    await care.change(medium, AlertEventKind.ESCALATED, raises=True, priority=Priority.HIGH, ladder="H")
    await desk.work()

    assert ((0, "ada", "email", "sent") in told) is not grouped
    assert (0, "ada", "email", "sent") in await care.states(medium)


async def test_half_a_storm_keeps_it_open_and_opens_none(care: Care) -> None:
    """Hysteresis: 40 of 200 silent pumps are more than half of the threshold and less than all of it."""
    desk = Desk(care)
    await _silent(care, 40)

    await _watch(desk, LONG_AGO).look()
    never = await _open(care, "SYS-01")
    await _silent_more(care, 41, 100)
    watch = _watch(desk, LONG_AGO)
    await watch.look()
    await care.pool.execute(
        "UPDATE alert SET active = false, resolved_at = now() WHERE rule_id = 'COM-01' AND pump_id > 'P-5'"
    )
    await watch.look()

    assert never == []
    assert await _open(care, "SYS-01") == [("high", "north")]


async def _silent_more(care: Care, first: int, last: int) -> None:
    for number in range(first, last + 1):
        care.pump_id = f"P-{number}"
        await care.open(Priority.INFO, rule_id="COM-01")


async def test_a_page_that_reaches_nobody_is_an_alert_until_one_does(care: Care) -> None:
    """All channels of a step fail: SYS-02 opens, and a receipt of a later step closes it."""
    email = PlayedChannel(lambda *_: REFUSED)
    desk = Desk(care, email)
    await care.open()
    await desk.work()
    watch = _watch(desk)

    await watch.look()
    opened = await _open(care, "SYS-02")
    email.answer = None
    await desk.work(rounds=3)
    await watch.look()

    assert opened == [("high", "north")]
    assert await _open(care, "SYS-02") == []


async def test_that_nobody_is_on_call_is_told_to_those_of_other_sites(care: Care) -> None:
    """The site's own roster is empty, and the alert is about that."""
    desk = Desk(care)
    await care.pool.execute("UPDATE person SET site = 'south'")

    await _watch(desk).look()
    await desk.work()

    assert await _open(care, "SYS-02") == [("high", "north")]
    assert [row["person"] for row in await care.notifications()] == ["ada"]


async def test_a_site_without_anybody_on_call_is_an_alert(care: Care) -> None:
    """Nobody with an address and a place on the ladder."""
    desk = Desk(care)
    await care.pool.execute("UPDATE person SET disabled_at = now()")

    await _watch(desk).look()
    empty = await _open(care, "SYS-02")
    await care.pool.execute("UPDATE person SET disabled_at = NULL")
    await _watch(desk, timedelta(seconds=1)).look()

    assert empty == [("high", "north")]
    assert await _open(care, "SYS-02") == []


async def test_who_has_shifts_is_on_call_in_them_only(care: Care) -> None:
    """Ada's shift is over and Ben's goes on for seven hours: Ben is told, and of the hole after it."""
    email, now = PlayedChannel(), datetime.now(UTC)
    desk = Desk(care, email)
    await care.pool.execute("UPDATE person SET disabled_at = now() WHERE person_id IN ('cleo', 'dora')")
    over = await shifts.add(care.pool, "ada", now - timedelta(hours=8), now + timedelta(seconds=60), now)
    await care.pool.execute("UPDATE shift SET ends_at = $2 WHERE shift_id = $1", over, now - timedelta(seconds=1))
    await shifts.add(care.pool, "ben", now - timedelta(hours=1), now + timedelta(hours=7), now)

    await _watch(desk).look()
    await care.open()
    await desk.work()
    hole = await _open(care, "SYS-02")
    await shifts.add(care.pool, "ada", now + timedelta(hours=7), now + timedelta(hours=15), now)
    await _watch(desk, timedelta(seconds=1)).look()

    assert hole == [("medium", "north")]
    assert {row["person"] for row in await care.notifications() if row["channel"] != "worklist"} == {"ben"}
    assert await _open(care, "SYS-02") == []


async def test_a_rota_that_nobody_is_in_now_tells_everybody(care: Care) -> None:
    """The hole is a HIGH alert, and a stall meanwhile concerns whoever there is."""
    desk, now = Desk(care), datetime.now(UTC)
    for person_id in ("ada", "ben", "cleo", "dora"):
        await shifts.add(care.pool, person_id, now + timedelta(hours=3), now + timedelta(hours=15), now)

    await _watch(desk).look()
    await desk.work()

    assert await _open(care, "SYS-02") == [("high", "north")]
    assert [row["person"] for row in await care.notifications()] == ["ada"]


async def test_the_watchdog_is_on_call_for_nobody(care: Care) -> None:
    """Neither for a site nor for pumps without a known one: it reads no pages of patients."""
    await care.pool.execute("UPDATE person SET disabled_at = now()")
    await care.person("robot", "primary", webhook="https://robot.example/pages")
    await care.pool.execute("UPDATE person SET site = $1 WHERE person_id = 'robot'", WATCHDOG_SITE)
    await care.pool.execute(
        "INSERT INTO pump_state (pump_id, kafka_partition, revision, site) VALUES ('P-x', 0, 1, NULL), ('C', 0, 1, $1)",
        WATCHDOG_SITE,
    )

    await _watch(Desk(care)).look()

    assert sorted(await _open(care, "SYS-02"), key=str) == [("high", "north"), ("high", None)]


async def test_changed_rules_are_judged_by_from_the_next_round_on(care: Care) -> None:
    """Without a restart, as everywhere."""
    rules = RulesInForce(RULEBOOK)
    watch = _watch(Desk(care), rules=rules)
    await _silent(care, 40)
    await watch.look()
    before = await _open(care, "SYS-01")

    parameters = {**RULEBOOK["SYS-01"].parameters, "silent_share": 0.1}
    rules.book = RuleBook(
        tuple(replace(rule, parameters=parameters) if rule.id == "SYS-01" else rule for rule in RULEBOOK)
    )
    await watch.look()

    assert (before, await _open(care, "SYS-01")) == ([], [("high", "north")])


async def test_many_alerts_of_one_pump_are_a_storm(care: Care) -> None:
    """Eleven within five minutes; the alerts themselves are still told."""
    desk = Desk(care)
    for _ in range(11):
        await care.open(Priority.MEDIUM)

    await _watch(desk).look()

    rows = await care.pool.fetch("SELECT detail->>'subject' AS subject FROM alert_event WHERE pump_id IS NULL")
    assert f"pump/{care.pump_id}" in {row["subject"] for row in rows}
