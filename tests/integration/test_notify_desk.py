"""Intake, delivery and audit over a real PostgreSQL, moved on step by step."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from services.notify.auditor import is_overdue
from services.notify.channels import Address, Notice
from services.notify.system_watch import SystemWatch
from streams.domain.alert import AlertEventKind, Priority
from streams.domain.escalation import Policy
from streams.rulebook import load
from streams.rules_in_force import RulesInForce
from streams.settings import RULES
from tests.services.notify.care import HOUR, Care, now
from tests.services.notify.desk import LATER, LOST, REFUSED, Desk, PlayedChannel
from tests.stack import Database, eventually

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


# Intake -----------------------------------------------------------------------------------------------------------


async def test_news_is_taken_once_however_many_notifiers_look(care: Care) -> None:
    """Rows that one notifier holds are passed over, and the ladder is asked one after the other."""
    desks = [Desk(care) for _ in range(3)]
    alerts = [await care.open() for _ in range(5)]

    for _ in range(2):
        await asyncio.gather(*(desk.intake.take_news() for desk in desks), *(desk.intake.climb() for desk in desks))

    rows = await care.notifications()
    assert sorted(row["alert_id"] for row in rows) == sorted(alerts)
    assert await care.pool.fetchval("SELECT count(*) FROM outbox WHERE handled_at IS NULL") == 0


async def test_an_alert_that_cannot_be_planned_keeps_no_other_waiting(care: Care) -> None:
    """A ladder row that this version cannot read is postponed and counted; the alert beside it is told."""
    desk = Desk(care)
    broken, sound = await care.open(), await care.open()
    await care.pool.execute(
        "INSERT INTO ladder (alert_id, ladder, started_at, ended_reason) VALUES ($1, 'H', now(), 'from the future')",
        broken,
    )

    await desk.intake.take_news()
    await desk.intake.climb()

    assert [row["alert_id"] for row in await care.notifications()] == [sound]
    assert desk.count("pumpwatch_escalations_postponed_total") == 1
    await desk.gauges.measure()
    assert desk.count("pumpwatch_outbox_pending") == 1
    assert desk.count("pumpwatch_outbox_oldest_age_seconds") > 0


async def test_an_alert_that_begins_further_up_its_ladder_tells_everybody_at_once(care: Care) -> None:
    """The column carries what the rule says; a later fact moves it, and nobody is told twice."""
    desk = Desk(care)
    alert_id = await care.open(start_step=2)
    await desk.work(2)
    at_once = await care.states(alert_id)

    await care.change(alert_id, AlertEventKind.AMENDED, start_step=3)
    await desk.work(2)

    sent = [(step, person, "email", "sent") for step, person in enumerate(("ada", "ada", "ben", "cleo"))]
    assert (at_once, await care.states(alert_id)) == (sent[:3], sent)
    await care.pool.execute("UPDATE alert SET raised_at = raised_at - interval '29 minutes'")
    await desk.auditor.audit()
    assert desk.count("pumpwatch_alerts_overdue") == 0


async def test_a_reminder_of_a_rule_tells_people_again(care: Care) -> None:
    """It is raised anew: the confirmation no longer counts, and the ladder begins at its start step again."""
    desk = Desk(care)
    alert_id = await care.open(Priority.LOW, start_step=1)
    await desk.work()
    await care.store.confirm(alert_id, "ada", now())
    await desk.work()
    before = await care.states(alert_id)

    await care.change(alert_id, AlertEventKind.RE_RAISED, raises=True, reminders=1, reason="reminder_due")
    await desk.work()

    listed, told = (0, "", "worklist", "sent"), (1, "ada", "email", "sent")
    also = (1, "", "worklist", "sent")
    assert before == [listed, also, (1, "ada", "email", "confirmed")]
    assert sorted(await care.states(alert_id)) == sorted([*before, listed, also, told])
    row = await care.pool.fetchrow("SELECT opened_at, raised_at, confirmed_at FROM alert WHERE alert_id = $1", alert_id)
    assert row is not None
    assert (row["raised_at"] > row["opened_at"], row["confirmed_at"]) == (True, None)


async def test_what_is_raised_again_before_anybody_confirmed_puts_nothing_off(care: Care) -> None:
    """Two more complaints, at 12 and 19 minutes: who was told hears of each, and the physician at 20 minutes."""
    desk = Desk(care)
    alert_id = await care.open()
    await desk.work()

    for wait in (12, 7, 2):
        await desk.age(alert_id, wait * MINUTE)
        await desk.work(2)
        if wait != 2:
            await care.change(alert_id, AlertEventKind.RE_RAISED, raises=True)
            await desk.work(2)

    rows = await care.notifications(alert_id)
    told = [(row["step"], row["person"]) for row in rows if row["reason"] == "step_due"]
    again = [row["person"] for row in rows if row["reason"] == "raised_again"]
    assert told == [(0, "ada"), (1, "ada"), (2, "ben"), (3, "cleo")]
    assert again == ["ada", "ben", "ada", "ben"]
    await desk.auditor.audit()
    assert desk.count("pumpwatch_alerts_overdue") == 0


async def test_a_child_is_told_of_when_its_parent_closes(care: Care) -> None:
    """While the parent is open it speaks for both; afterwards the child has a ladder of its own."""
    desk = Desk(care)
    parent = await care.open()
    child = await care.open(parent_id=parent)
    await desk.work()
    before = [row["alert_id"] for row in await care.notifications()]

    await care.change(parent, AlertEventKind.RESOLVED, active=False, open=False)
    await desk.work()

    assert before == [parent]
    assert await care.states(child) == [(0, "ada", "email", "sent")]


async def test_a_ladder_that_is_due_goes_on_and_a_closed_one_ends(care: Care) -> None:
    """Five minutes later the second step; after the alert is over, nothing, whatever the clock says."""
    desk = Desk(care)
    alert_id = await care.open()
    await desk.work()

    await desk.age(alert_id, 5 * MINUTE)
    await desk.work()
    await care.change(alert_id, AlertEventKind.CLEARED, active=False, open=False)
    await desk.work()
    await desk.age(alert_id, HOUR)
    await desk.work()

    assert await care.states(alert_id) == [(0, "ada", "email", "sent"), (1, "ada", "email", "sent")]
    assert desk.count("pumpwatch_escalation_decisions_total", reason="closed") == 1


async def test_an_info_alert_tells_nobody_and_says_why(care: Care) -> None:
    """The reason is counted and stored."""
    desk = Desk(care)
    alert_id = await care.open(Priority.INFO)

    await desk.work()

    assert await care.notifications() == []
    assert await care.pool.fetchval("SELECT ended_reason FROM ladder WHERE alert_id = $1", alert_id) == "info_only"
    assert desk.count("pumpwatch_escalation_decisions_total", reason="info_only") == 1


async def _saline(care: Care) -> None:
    """The pump gives nothing whose absence does harm."""
    profile = (
        '{"pump_id": "CANARY-PUMP", "site": "north", "valid_from": "2020-01-01", "family": "synchromed_ii",'
        ' "reservoir_ml": 20, "drugs": [{"name": "saline"}]}'
    )
    await care.pool.execute(
        "INSERT INTO pump_profile (pump_id, valid_from, site, profile, recorded_by) VALUES ($1, $2, 'north', $3, 't')",
        care.pump_id,
        now() - HOUR,
        profile,
    )


async def test_a_medium_alert_that_can_wait_is_held_in_the_night(care: Care) -> None:
    """The profile in force says that there is time; the worklist has it at once, a person in the morning."""
    await _saline(care)
    zone = ZoneInfo("Pacific/Apia")
    await care.pool.execute("INSERT INTO site (site, time_zone) VALUES ('north', $1)", zone.key)
    there = now().astimezone(zone)
    begun, over = there - 2 * HOUR, there + 2 * HOUR
    night = Desk(care, notify_quiet_hours=f"{begun:%H:%M}-{over:%H:%M}")
    alert_id = await care.open(Priority.MEDIUM)

    await night.work()

    assert await care.states(alert_id) == [(0, "", "worklist", "sent")]
    next_step_at = await care.pool.fetchval("SELECT next_step_at FROM ladder WHERE alert_id = $1", alert_id)
    assert next_step_at == over.replace(second=0, microsecond=0)


@pytest.mark.parametrize(("rule_id", "waits"), [("PWR-01", True), ("RSV-03", True), ("RSV-01", False), ("X-1", False)])
async def test_what_is_days_away_wakes_nobody(care: Care, rule_id: str, waits: bool) -> None:
    """Even of the strictest patient: their budget is about delivery, and not about a battery with weeks left."""
    there = now()
    night = Desk(care, notify_quiet_hours=f"{there - 2 * HOUR:%H:%M}-{there + 2 * HOUR:%H:%M}")
    alert_id = await care.open(Priority.MEDIUM, rule_id=rule_id)

    await night.work()

    assert ((0, "ada", "email", "sent") not in await care.states(alert_id)) is waits


async def test_a_deadline_that_no_confirmation_moves_reaches_the_physician(care: Care) -> None:
    """A.6: at the end of the patient's budget the physician is told although somebody has the alert."""
    desk = Desk(care)
    alert_id = await care.open(physician_by=now() + HOUR)
    await desk.work()
    await care.store.confirm(alert_id, "ada", now())
    await desk.work()

    await care.change(alert_id, AlertEventKind.AMENDED, physician_by=now() - SECOND)
    await desk.work()

    assert (3, "cleo", "email", "sent") in await care.states(alert_id)


async def test_a_deadline_whose_page_is_lost_is_told_to_everyone(care: Care) -> None:
    """The physician's mailbox refuses: SYS-02 opens and everyone is told at once, although somebody has the alert."""

    def refuses(notice: Notice, address: Address) -> Exception | None:
        return REFUSED if notice.step == 3 and (address.email or "").startswith(unreached) else None

    unreached: tuple[str, ...] = ("ada", "ben", "cleo", "dora")
    desk = Desk(care, PlayedChannel(refuses))
    await care.pool.execute(
        "INSERT INTO pump_state (pump_id, kafka_partition, revision, site) VALUES ('P', 0, 1, 'north')"
    )
    alert_id = await care.open(physician_by=now() + HOUR)
    await desk.work()
    await care.store.confirm(alert_id, "ada", now())
    await desk.work()
    await care.change(alert_id, AlertEventKind.AMENDED, physician_by=now() - SECOND)
    await desk.work(rounds=3)
    tried = Counter(row["person"] for row in await care.notifications(alert_id) if row["state"] == "failed")
    watch = SystemWatch(care.pool, RulesInForce(load(RULES)), desk.metrics, desk.intake.look_at, now())
    await watch.look()
    opened = await care.pool.fetchval("SELECT count(*) FROM alert WHERE rule_id = 'SYS-02' AND resolved_at IS NULL")
    unreached = ("cleo",)
    await desk.age(alert_id, 6 * MINUTE)
    await desk.work(rounds=3)
    await watch.look()

    assert tried == {"cleo": 2, "ada": 1, "ben": 1, "dora": 1}
    assert opened == 1
    told = [row["person"] for row in await care.notifications(alert_id) if row["state"] == "sent"]
    assert sorted(told) == ["ada", "ben", "dora"]
    assert await care.pool.fetchval("SELECT count(*) FROM alert WHERE rule_id = 'SYS-02' AND resolved_at IS NULL") == 0


# Delivery ---------------------------------------------------------------------------------------------------------


async def test_a_refused_address_hands_on_to_the_next_step_at_once(care: Care) -> None:
    """SYS-02: when every channel of a step fails, nobody waits for the five minutes to pass."""
    refused = PlayedChannel(lambda _, address: REFUSED if address.email and "ada" in address.email else None)
    desk = Desk(care, refused)
    alert_id = await care.open()

    await desk.work(rounds=4)

    assert await care.states(alert_id) == [
        (0, "ada", "email", "failed"),
        (1, "ada", "email", "failed"),
        (2, "ben", "email", "sent"),
    ]
    assert desk.count("pumpwatch_notification_failures_total", channel="email", reason="refused_address") == 2


async def test_a_high_page_that_failed_twice_hands_on_while_its_retries_go_on(care: Care) -> None:
    """One retry, then the next step; a channel that comes back still brings one message, not one per step."""
    away = PlayedChannel(lambda _, address: LATER if address.email and "ada" in address.email else None)
    desk = Desk(care, away)
    alert_id = await care.open()

    async def backup_told() -> bool:
        await desk.work()
        return (2, "ben", "email", "sent") in await care.states(alert_id)

    await eventually(backup_told, what="the backup told")
    away.answer = None

    async def settled() -> bool:
        await desk.work()
        return "queued" not in {state for *_, state in await care.states(alert_id)}

    await eventually(settled, what="no page waiting")
    states = {(step, person): state for step, person, _, state in await care.states(alert_id)}
    assert states[1, "ada"] == "sent"
    assert states[0, "ada"] == "superseded"


async def test_tries_end_at_the_limit(care: Care) -> None:
    """A medium page is tried as often as the setting says, with doubling pauses, and then it failed."""
    desk = Desk(care, PlayedChannel(lambda *_: LATER), notify_attempts=3)
    alert_id = await care.open(Priority.MEDIUM)

    async def failed() -> bool:
        await desk.work()
        return (0, "ada", "email", "failed") in await care.states(alert_id)

    await eventually(failed, what="the page failed")
    attempts = await care.pool.fetchval(
        "SELECT attempts FROM notification WHERE alert_id = $1 AND step = 0 AND channel = 'email'", alert_id
    )
    assert attempts == 3


async def test_a_ladder_that_was_used_up_while_the_mail_was_away_goes_on(care: Care) -> None:
    """Each failed step hands on at once, so a short break takes them all: SYS-02 opens, and whoever is back is told."""
    away = PlayedChannel(lambda *_: REFUSED)
    desk = Desk(care, away)
    await _saline(care)
    alert_id = await care.open(Priority.MEDIUM)

    await desk.work(rounds=6)
    used_up = await care.states(alert_id)
    await SystemWatch(care.pool, RulesInForce(load(RULES)), desk.metrics, desk.intake.look_at, now()).look()
    away.answer = None
    await desk.age(alert_id, 5 * MINUTE)
    await desk.work(rounds=3)

    assert [state for *_, channel, state in used_up if channel == "email"] == ["failed"] * 3
    unreached = "SELECT count(*) FROM alert WHERE rule_id = 'SYS-02' AND site = 'north'"
    assert await care.pool.fetchval(unreached) == 1
    assert (await care.states(alert_id))[-2:] == [(3, "ada", "email", "sent"), (3, "ben", "email", "sent")]
    assert await care.pool.fetchval("SELECT ended_reason FROM ladder WHERE alert_id = $1", alert_id) == "steps_done"


@pytest.mark.parametrize(("failure", "marked"), [(LATER, False), (LOST, True)])
async def test_a_retry_is_a_possible_repeat_only_when_the_outcome_was_unknown(
    care: Care, failure: Exception, marked: bool
) -> None:
    """A server that said no did not take the message; one that fell silent may have."""
    answers: list[Exception | None] = [failure, None]
    desk = Desk(care, PlayedChannel(lambda *_: answers.pop(0)))
    await care.open()

    async def twice() -> bool:
        await desk.work()
        return len(desk.email.sent) == 2

    await eventually(twice, what="the second try")
    first, second = desk.email.sent
    assert (first.repeat, second.repeat) == (False, marked)
    assert first.notification_id == second.notification_id


async def test_a_channel_that_hangs_is_cut_off(care: Care) -> None:
    """The limit on a delivery holds whatever the channel does, and the page is tried again as a possible repeat."""
    never = asyncio.Event()
    desk = Desk(care, PlayedChannel(lambda notice, _: None if notice.repeat else never))
    alert_id = await care.open()

    await desk.work()

    async def sent() -> bool:
        await desk.work()
        return (0, "ada", "email", "sent") in await care.states(alert_id)

    await eventually(sent, what="the page sent")
    assert desk.count("pumpwatch_notification_failures_total", channel="email", reason="timed_out") == 1


async def test_a_channel_that_breaks_in_an_unknown_way_is_tried_again(care: Care) -> None:
    """Whatever a library raises, the page is not lost."""
    answers: list[Exception | None] = [RuntimeError("a fault of a library"), None]
    desk = Desk(care, PlayedChannel(lambda *_: answers.pop(0)))
    alert_id = await care.open()

    async def sent() -> bool:
        await desk.work()
        return (0, "ada", "email", "sent") in await care.states(alert_id)

    await eventually(sent, what="the page sent")
    assert desk.email.sent[1].repeat


async def test_notifiers_claim_a_page_once(care: Care) -> None:
    """Three deliveries beside each other send each of many pages once."""
    channel = PlayedChannel()
    desks = [Desk(care, channel) for _ in range(3)]
    for _ in range(30):
        await care.open()
    await desks[0].intake.take_news()

    async def all_sent() -> bool:
        await asyncio.gather(*(desk.deliver() for desk in desks))
        return {row["state"] for row in await care.notifications()} == {"sent"}

    await eventually(all_sent, what="every page sent")
    ids = [notice.notification_id for notice in channel.sent]
    assert len(ids) == len(set(ids)) == 30


async def test_a_high_page_never_waits_behind_less_urgent_ones(care: Care) -> None:
    """Every delivery that medium pages may use hangs; the high one has a place kept for it."""
    never = asyncio.Event()
    channel = PlayedChannel(lambda notice, _: None if notice.priority == "high" else never)
    desk = Desk(care, channel, notify_concurrency=4, notify_send_timeout_seconds=20, notify_lease_seconds=30)
    for _ in range(10):
        await care.open(Priority.MEDIUM)
    await desk.intake.take_news()
    for _ in range(3):
        await desk.delivery.send_due()
    high = await care.open()
    await desk.intake.take_news()

    await desk.delivery.send_due()

    async def sent() -> bool:
        return await care.states(high) == [(0, "ada", "email", "sent")]

    await eventually(sent, what="the high page sent")
    never.set()
    await desk.delivery.finish()


async def test_a_page_overtaken_by_its_confirmation_is_not_sent(care: Care) -> None:
    """Queued, then confirmed, then claimed: the person who has it is not asked again."""
    desk = Desk(care)
    alert_id = await care.open()
    await desk.intake.take_news()
    await care.store.confirm(alert_id, "ada", now())

    await desk.deliver()

    assert desk.email.sent == []
    assert await care.states(alert_id) == [(0, "ada", "email", "superseded")]


async def test_a_confirmation_by_a_clock_that_is_behind_still_counts(care: Care) -> None:
    """The page's clock may be slower than the worker's."""
    desk = Desk(care)
    alert_id = await care.open()
    await desk.work()

    await care.store.confirm(alert_id, "ada", now() - MINUTE)
    await desk.work()

    assert await care.pool.fetchval("SELECT ended_reason FROM ladder WHERE alert_id = $1", alert_id) == "confirmed"


async def test_an_outcome_is_recorded_although_the_database_was_away(care: Care, database: Database) -> None:
    """Between sending and recording the database lets nobody in: it is asked again until it does."""
    sent = asyncio.Event()
    desk = Desk(care, PlayedChannel(lambda *_: sent), notify_send_timeout_seconds=5, notify_lease_seconds=10)
    alert_id = await care.open()
    await desk.intake.take_news()
    await desk.delivery.send_due()
    admin = await asyncpg.connect(database.admin)
    try:
        name = await admin.fetchval("SELECT quote_ident(current_database())")
        await admin.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
        await admin.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'pumpwatch_app' AND datname = current_database()"
        )
        sent.set()
        finishing = asyncio.create_task(desk.delivery.finish())
        await asyncio.wait((finishing,), timeout=0.2)
        await admin.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
        await finishing
    finally:
        await admin.close()

    assert await care.states(alert_id) == [(0, "ada", "email", "sent")]
    assert len(desk.email.sent) == 1


async def test_a_page_whose_every_try_was_cut_off_counts_as_failed(care: Care) -> None:
    """A page that ends its notifier each time must not go on doing so: the ladder hands on instead."""
    desk = Desk(care)
    alert_id = await care.open()
    await desk.intake.take_news()
    await care.pool.execute(
        "UPDATE notification SET state = 'sending', attempts = $1, next_try_at = now()", desk.settings.notify_attempts
    )

    await desk.deliver()
    await desk.work()

    assert [(notice.step, notice.repeat) for notice in desk.email.sent] == [(1, False)]
    assert await care.states(alert_id) == [(0, "ada", "email", "failed"), (1, "ada", "email", "sent")]


async def test_a_stop_in_the_middle_of_a_claim_leaves_nothing_unsent(care: Care) -> None:
    """Whoever is told to stop while it claims still sends what it claimed."""
    desk = Desk(care)
    alert_id = await care.open()
    await desk.intake.take_news()

    sending = asyncio.create_task(desk.delivery.send_due())
    await asyncio.sleep(0)
    sending.cancel()
    await asyncio.wait((sending,))
    await desk.delivery.finish()

    assert await care.states(alert_id) == [(0, "ada", "email", "sent")]


async def test_latency_is_counted_once_per_alert_from_the_report(care: Care) -> None:
    """The first attempt of the first page; later steps and retries answer no report."""
    answers: list[Exception | None] = [LATER, None, None]
    desk = Desk(care, PlayedChannel(lambda *_: answers.pop(0)))
    alert_id = await care.open()

    async def sent() -> bool:
        await desk.work()
        return (0, "ada", "email", "sent") in await care.states(alert_id)

    await eventually(sent, what="the page sent")
    await desk.age(alert_id, 5 * MINUTE)
    await desk.work()

    assert len(desk.email.sent) == 3
    assert desk.count("pumpwatch_alert_latency_seconds_count", stage="first_attempt") == 1


# Audit ------------------------------------------------------------------------------------------------------------


async def test_the_audit_finds_an_alert_whose_news_was_lost(care: Care) -> None:
    """Handled, it says, but nobody was told: the audit counts it and starts its ladder."""
    desk = Desk(care)
    alert_id = await care.open()
    await care.pool.execute("UPDATE outbox SET handled_at = now()")
    await desk.age(alert_id, MINUTE)

    await desk.auditor.audit()
    overdue = desk.count("pumpwatch_alerts_overdue")
    await desk.deliver()
    await desk.auditor.audit()

    assert overdue == 1
    assert desk.count("pumpwatch_alerts_overdue") == 0
    assert desk.count("pumpwatch_escalations_recovered_total") == 1
    assert await care.states(alert_id) == [(0, "ada", "email", "sent")]


async def test_the_audit_finds_a_ladder_that_stands_still(care: Care) -> None:
    """The ladder says that there is nothing to do; the alert says that nobody has it."""
    desk = Desk(care)
    alert_id = await care.open()
    await desk.work()
    await care.pool.execute("UPDATE ladder SET next_step_at = NULL")
    await desk.age(alert_id, 6 * MINUTE)

    await desk.auditor.audit()
    await desk.deliver()

    assert [step for step, *_ in await care.states(alert_id)] == [0, 1]


async def test_the_audit_counts_a_page_that_nobody_tries_to_send(care: Care) -> None:
    """Queued is not told."""
    desk = Desk(care)
    alert_id = await care.open()
    await desk.intake.take_news()
    await desk.age(alert_id, MINUTE)

    await desk.auditor.audit()

    assert desk.count("pumpwatch_alerts_overdue") == 1


async def test_the_audit_is_silent_about_what_is_in_order(care: Care) -> None:
    """Confirmed, closed, child of an open alert, just told, not high."""
    desk = Desk(care)
    told, confirmed, closed = await care.open(), await care.open(), await care.open()
    child, medium = await care.open(parent_id=told), await care.open(Priority.MEDIUM)
    await care.store.confirm(confirmed, "ada", now())
    await care.change(closed, AlertEventKind.CLEARED, active=False, open=False)
    await desk.work()
    for alert_id in (confirmed, closed, child, medium):
        await desk.age(alert_id, HOUR)

    await desk.auditor.audit()

    assert desk.count("pumpwatch_alerts_overdue") == 0


@pytest.mark.parametrize(
    ("step", "queued_minute", "due_minute"),
    [(None, 0, 0), (0, 0, 5), (1, 5, 10), (1, 0.5, 10), (3, 20, 30), (4, 30, 60)],
)
def test_a_step_is_overdue_only_after_its_time_and_the_grace(
    step: int | None, queued_minute: float, due_minute: float
) -> None:
    """The bound itself is in time; a step that came early does not make the next one early."""
    raised_at = datetime.fromisoformat("2026-11-03T12:00:00+00:00")
    queued_at = None if step is None else raised_at + queued_minute * MINUTE
    due = raised_at + due_minute * MINUTE + 5 * SECOND

    verdicts = [
        is_overdue(moment, raised_at, step, queued_at, Policy(), 5 * SECOND)
        for moment in (due, due + timedelta(microseconds=1))
    ]

    assert verdicts == [False, True]
