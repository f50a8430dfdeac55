"""An alert goes on with the notification thread of the one it takes over (catalogue M.9), over a real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from streams.domain.alert import AlertEventKind, Priority
from tests.services.notify.care import QUICK, Care, mailbox_of, now
from tests.services.notify.desk import LATER, Desk, PlayedChannel
from tests.stack import Stack

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


async def climbed(care: Care, minutes: float) -> UUID:
    """A stall that was paged and then stood for that long."""
    stall, desk = await care.open(), Desk(care)
    await desk.work()
    await desk.age(stall, minutes * MINUTE)
    return stall


async def ladder_of(care: Care, alert_id: UUID) -> asyncpg.Record:
    """As it is stored."""
    row: asyncpg.Record | None = await care.pool.fetchrow("SELECT * FROM ladder WHERE alert_id = $1", alert_id)
    assert row is not None
    return row


async def causes(care: Care, alert_id: UUID) -> list[tuple[int, str, str]]:
    """Step, person and reason of each notification that was not given up."""
    rows = await care.notifications(alert_id)
    return [(row["step"], row["person"], row["reason"]) for row in rows if row["state"] != "superseded"]


async def test_the_ladder_goes_on_and_who_was_told_hears_which_alert_goes_on(care: Care) -> None:
    """One message instead of a correction and a new page; the second step comes 5 minutes after the stall opened."""
    stall = await climbed(care, 3)
    began = (await ladder_of(care, stall))["started_at"]

    trap = await care.take_over(stall)
    desk = Desk(care)
    await desk.work(2)

    assert await causes(care, stall) == [(0, "ada", "step_due")]
    assert await causes(care, trap) == [(0, "ada", "taken_over")]
    (told,) = desk.email.sent
    assert (told.taken_over, told.correction) == (True, False)
    assert (told.thread_id, told.continues, told.number) == (stall, await care.number(stall), await care.number(trap))
    ladder = await ladder_of(care, trap)
    assert ladder["started_at"] == began
    assert (ladder["next_step"], ladder["next_step_at"]) == (1, began + 5 * MINUTE)


async def test_it_goes_on_after_a_restart(care: Care) -> None:
    """All of it is in the database: another notifier pages the next step at its time, in the same thread."""
    stall = await climbed(care, 3)
    trap = await care.take_over(stall)
    await Desk(care).work()
    for alert_id in (stall, trap):
        await Desk(care).age(alert_id, 2 * MINUTE)

    another = Desk(care)
    await another.work()

    assert await causes(care, trap) == [(0, "ada", "taken_over"), (1, "ada", "step_due")]
    (page,) = another.email.sent
    assert (page.thread_id, page.continues, page.taken_over) == (stall, await care.number(stall), False)


@pytest.mark.parametrize("first", ["stall", "trap"])
async def test_the_order_in_which_the_news_is_taken_does_not_matter(care: Care, first: str) -> None:
    """Another notifier may hold the outbox row of one of the two: both are decided with the other."""
    stall = await climbed(care, 3)
    trap = await care.take_over(stall)
    held = await care.pool.fetchval(
        "SELECT outbox_id FROM outbox WHERE alert_id = $1 AND handled_at IS NULL", trap if first == "stall" else stall
    )
    desk = Desk(care)

    async with care.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM outbox WHERE outbox_id = $1 FOR UPDATE", held)
        await desk.intake.take_news()
    await desk.work(2)

    assert await causes(care, stall) == [(0, "ada", "step_due")]
    assert await causes(care, trap) == [(0, "ada", "taken_over")]
    assert len(desk.email.sent) == 1


async def test_several_notifiers_take_a_thread_over_once(care: Care) -> None:
    """All of them look at both."""
    stall = await climbed(care, 3)
    trap = await care.take_over(stall)

    await asyncio.gather(*(Desk(care).intake.look_at([stall, trap]) for _ in range(4)))

    assert await causes(care, trap) == [(0, "ada", "taken_over")]


async def test_a_page_that_was_still_waiting_goes_out_as_one_of_the_trap(care: Care) -> None:
    """The mail server was away: nobody was told of the stall, so nothing is taken back, and the page is not lost."""
    away = True
    desk = Desk(care, PlayedChannel(lambda *_: LATER if away else None), notify_retry_seconds=0.01)
    stall = await care.open()
    await desk.work()

    trap = await care.take_over(stall)
    away = False
    await desk.work()

    assert await care.states(stall) == [(0, "ada", "email", "superseded")]
    assert await care.states(trap) == [(0, "ada", "email", "sent")]
    assert [(notice.taken_over, notice.number) for notice in desk.email.sent[1:]] == [(False, await care.number(trap))]


async def test_a_confirmation_of_the_stall_does_not_confirm_the_trap(care: Care) -> None:
    """M.9 hands over the thread alone: the message asks for a confirmation, and the next step is 5 minutes later."""
    stall = await climbed(care, 3)
    await care.store.confirm(stall, "ada", now())
    await Desk(care).work()
    await Desk(care).age(stall, 40 * MINUTE)

    trap = await care.take_over(stall)
    desk = Desk(care)
    await desk.work(2)
    ladder = await ladder_of(care, trap)
    for alert_id in (stall, trap):
        await desk.age(alert_id, 5 * MINUTE)
    await desk.work()

    assert await causes(care, trap) == [(0, "ada", "taken_over"), (1, "ada", "step_due")]
    assert abs(ladder["next_step_at"] - now() - 5 * MINUTE) < 10 * SECOND


async def test_a_confirmation_of_the_trap_ends_the_ladder_that_it_took_over(care: Care) -> None:
    """And the message about the change counts as what the person confirmed."""
    stall = await climbed(care, 3)
    trap = await care.take_over(stall)
    await Desk(care).work()

    await care.store.confirm(trap, "ada", now())
    await Desk(care).work()

    assert await care.states(trap) == [(0, "ada", "email", "confirmed")]
    assert (await ladder_of(care, trap))["ended_reason"] == "confirmed"


async def test_a_trap_that_is_taken_back_too_is_corrected_once(care: Care) -> None:
    """Who heard of the change hears that this one is gone as well; of the stall nothing more is said."""
    stall = await climbed(care, 3)
    trap = await care.take_over(stall)
    desk = Desk(care)
    await desk.work()

    await care.change(trap, AlertEventKind.RETRACTED, active=False, retracted=True, open=False)
    await desk.intake.look_at([stall])
    await desk.work(2)

    assert await causes(care, stall) == [(0, "ada", "step_due")]
    assert await causes(care, trap) == [(0, "ada", "taken_over"), (0, "ada", "correction")]
    assert desk.email.sent[-1].correction
    assert desk.email.sent[-1].continues == await care.number(stall)


async def test_a_trap_taken_back_before_anybody_looked_leaves_the_ordinary_correction(care: Care) -> None:
    """Nothing took the thread over, so the stall's own correction is sent."""
    stall = await climbed(care, 3)
    trap = await care.take_over(stall)
    await care.change(trap, AlertEventKind.RETRACTED, active=False, retracted=True, open=False)

    await Desk(care).work(2)

    assert await causes(care, stall) == [(0, "ada", "step_due"), (0, "ada", "correction")]
    assert await causes(care, trap) == []


async def test_a_message_about_a_change_that_was_overtaken_is_not_sent(care: Care) -> None:
    """The trap is taken back while the message waits: who was told of the stall hears that both are gone."""
    stall = await climbed(care, 3)
    trap = await care.take_over(stall)
    desk = Desk(care)
    await desk.intake.take_news()

    await care.change(trap, AlertEventKind.RETRACTED, active=False, retracted=True, open=False)
    await desk.work(2)

    assert [notice.correction for notice in desk.email.sent] == [True]
    assert desk.email.sent[0].continues == await care.number(stall)


async def test_a_raise_of_the_trap_goes_on_in_the_same_thread(care: Care) -> None:
    """Nobody confirmed, so the times of the stall still count, and whoever was told hears of it."""
    stall = await climbed(care, 3)
    trap = await care.take_over(stall)
    desk = Desk(care)
    await desk.work()

    await care.change(trap, AlertEventKind.RE_RAISED, raises=True)
    await desk.work()

    assert await causes(care, trap) == [(0, "ada", "taken_over"), (0, "ada", "raised_again")]
    assert desk.email.sent[-1].thread_id == stall
    assert (await ladder_of(care, trap))["started_at"] == (await ladder_of(care, stall))["started_at"]


async def test_a_stall_of_less_urgency_hands_over_its_thread_but_not_its_ladder(care: Care) -> None:
    """MEDIUM without withdrawal: the trap is HIGH, and its first page says in one message what else there is to say."""
    stall, desk = await care.open(Priority.MEDIUM), Desk(care)
    await desk.work()

    trap = await care.take_over(stall)
    await desk.work()

    assert await causes(care, stall) == [(0, "", "step_due"), (0, "ada", "step_due")]
    assert await causes(care, trap) == [(0, "", "taken_over"), (0, "ada", "step_due")]
    assert desk.email.sent[-1].continues == await care.number(stall)


async def test_the_audit_expects_the_next_step_by_the_times_of_the_thread(care: Care) -> None:
    """A ladder that stands still after a takeover is found, although its alert is young."""
    stall = await climbed(care, 9)
    desk = Desk(care)
    await desk.intake.climb()
    await desk.deliver()
    trap = await care.take_over(stall)
    await desk.work()
    await care.pool.execute("UPDATE ladder SET next_step_at = NULL")
    await desk.auditor.audit()
    in_order = desk.count("pumpwatch_alerts_overdue")

    for alert_id in (stall, trap):
        await desk.age(alert_id, 6 * MINUTE)
    await desk.auditor.audit()

    assert in_order == 0
    assert desk.count("pumpwatch_alerts_overdue") == 1
    assert (2, "ben", "step_due") in await causes(care, trap)


async def test_real_notifiers_go_on_in_one_thread_over_a_kill(care: Care, stack: Stack) -> None:
    """The page of the stall, the message about the change, and the second step by the next process: one thread."""
    async with mailbox_of(stack) as mails:
        env = {**QUICK, "PUMPWATCH_NOTIFY_LADDER_PACE": "0.02"}
        first = await stack.service("notify", env).start()
        stall = await care.open()
        await mails.until(1)
        trap = await care.take_over(stall)
        await mails.until(2)
        first.kill()

        await stack.service("notify-2", env).start()
        found = await mails.until(3)

    numbers = await care.number(stall), await care.number(trap)
    assert [mail["subject"] for mail in found[:3]] == [
        f"[Pumpwatch] HIGH alert {numbers[0]} at north",
        f"[Pumpwatch] Taken back: alert {numbers[0]}, goes on as HIGH alert {numbers[1]} at north",
        f"[Pumpwatch] HIGH alert {numbers[1]} at north",
    ]
    assert {mail["headers"]["References"] for mail in found} == {f"<thread-{stall}@pumpwatch>"}
