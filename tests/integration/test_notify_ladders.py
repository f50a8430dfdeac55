"""Real notify processes over PostgreSQL, Kafka and SMTP: ladders to their end, confirmation, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import standardwebhooks

from services.standalone.child import free_port
from streams.domain.alert import AlertEventKind, Priority
from tests.services.notify.care import CANARIES, QUICK, Care, Mails, MailServer, mailbox_of
from tests.services.notify.notices import SECRET
from tests.stack import Database, Stack, eventually

DRILL = {**QUICK, "PUMPWATCH_NOTIFY_LADDER_PACE": "0.000125"}
"""An hour of a ladder in 0.45 seconds."""


@pytest.fixture
async def mails(stack: Stack) -> AsyncIterator[Mails]:
    """The mailbox of this test."""
    async with mailbox_of(stack) as mails:
        yield mails


async def test_both_ladders_climb_to_their_end_in_messages_that_say_nothing_of_the_patient(
    stack: Stack, care: Care, mails: Mails
) -> None:
    """H tells four places in order and then everyone; M of an unknown, so high-risk, patient goes on to H at 8 h."""
    notify = await stack.service("notify", {**DRILL, "PUMPWATCH_NOTIFY_REPEAT_MINUTES": "60"}).start()

    high, medium = await care.open(Priority.HIGH), await care.open(Priority.MEDIUM)

    team = ("ada", "ben", "cleo", "dora")
    steps_of_high = [(0, "ada"), (1, "ada"), (2, "ben"), (3, "cleo"), *((4, person) for person in team)]
    await care.until_states(
        high, *((step, person, "email", "sent") for step, person in steps_of_high), (4, "", "worklist", "sent")
    )
    steps_of_medium = [(0, "ada"), (1, "ada"), (2, "ben")]
    then_high = [(3, "ada"), (4, "ada"), (5, "ben"), (6, "cleo"), *((7, person) for person in team)]
    await care.until_states(
        medium,
        *((step, person, "email", "sent") for step, person in steps_of_medium + then_high),
        (0, "", "worklist", "sent"),
        (7, "", "worklist", "sent"),
    )
    found = await mails.until(19)
    ids = [message["headers"]["X-Pumpwatch-Notification-Id"] for message in found]
    assert len(set(ids)) == len(found) == 19
    metrics = await notify.metrics()
    assert 'pumpwatch_alert_latency_seconds_count{stage="first_attempt"} 2.0' in metrics
    assert "pumpwatch_alerts_overdue 0.0" in metrics
    said = [str(found), metrics, str(notify.log)]
    assert not [canary for canary in CANARIES for text in said if canary in text]


async def test_a_confirmation_stops_the_ladder(stack: Stack, care: Care, mails: Mails) -> None:
    """Nobody else is told once a named person has it, and the notification of that person says so."""
    await stack.service("notify", {**QUICK, "PUMPWATCH_NOTIFY_LADDER_PACE": "0.01"}).start()
    alert_id = await care.open()
    await mails.until(1)

    await care.store.confirm(alert_id, "ada", datetime.now(UTC))

    await care.until_states(alert_id, (0, "ada", "email", "confirmed"))
    ladder = await care.pool.fetchrow("SELECT * FROM ladder WHERE alert_id = $1", alert_id)
    assert ladder is not None
    assert ladder["ended_reason"] == "confirmed"


async def test_a_confirmation_that_is_held_too_long_raises_the_alert_again(
    stack: Stack, care: Care, mails: Mails
) -> None:
    """At the end of the hold the alert is still true: a new ladder begins, and history has the fact."""
    await stack.service("notify", {**QUICK, "PUMPWATCH_NOTIFY_HOLD_HIGH_MINUTES": "0.01"}).start()
    alert_id = await care.open()
    await mails.until(1)

    await care.store.confirm(alert_id, "ada", datetime.now(UTC))

    await care.until_states(alert_id, (0, "ada", "email", "confirmed"), (0, "ada", "email", "sent"))
    kinds = await care.pool.fetch("SELECT kind FROM alert_event WHERE alert_id = $1 ORDER BY recorded_at", alert_id)
    assert [row["kind"] for row in kinds] == ["opened", "acknowledged", "re_raised"]


async def test_who_was_told_hears_that_an_alert_was_taken_back(stack: Stack, care: Care, mails: Mails) -> None:
    """Only those who were told, and once."""
    await stack.service("notify", QUICK).start()
    alert_id = await care.open()
    await mails.until(1)

    await care.change(alert_id, AlertEventKind.RETRACTED, active=False, retracted=True, open=False)

    await care.until_states(alert_id, (0, "ada", "email", "sent"), (0, "ada", "email", "sent"))
    found = await mails.until(2)
    assert "Taken back" in found[1]["subject"]


async def test_a_notifier_killed_between_sending_and_recording_sends_a_marked_repeat(stack: Stack, care: Care) -> None:
    """The mail server has the message, the process dies before it hears so: the same id again, marked, once."""
    never = asyncio.Event()
    async with MailServer(data=lambda number: never if number == 1 else "250 OK") as server:
        # Long enough that only the kill can be the reason for the repeat.
        env = {**QUICK, "PUMPWATCH_NOTIFY_SEND_TIMEOUT_SECONDS": "2", "PUMPWATCH_NOTIFY_LEASE_SECONDS": "2.5"}
        stack.env["PUMPWATCH_NOTIFY_SMTP_PORT"] = str(server.port)
        first = await stack.service("notify", env).start()
        alert_id = await care.open()
        await server.until(1)

        first.kill()
        second = await stack.service("notify-2", env).start()
        await care.until_states(alert_id, (0, "ada", "email", "sent"))

        assert len(server.taken) == 2
        assert len(set(server.message_ids())) == 1
        assert ["possible repeat" in subject for subject in server.subjects()] == [False, True]
        assert "pumpwatch_notifications_repeated_total 1.0" in await second.metrics()
        never.set()


async def test_two_notifiers_and_a_kill_lose_nothing_and_repeat_nothing_unmarked(
    stack: Stack, care: Care, mails: Mails
) -> None:
    """Forty alerts, one of two notifiers killed on the way: each page arrives, and each repeat says that it is one."""
    env = {**QUICK, "PUMPWATCH_NOTIFY_CONCURRENCY": "4"}
    services = [stack.service(name, env) for name in ("notify", "notify-2")]
    await asyncio.gather(*(service.start() for service in services))

    alerts = [await care.open() for _ in range(20)]
    await mails.until(5)
    services[0].kill()
    alerts += [await care.open() for _ in range(20)]

    async def all_sent() -> bool:
        rows = await care.notifications()
        return len(rows) == len(alerts) and {row["state"] for row in rows} == {"sent"}

    await eventually(all_sent, timeout=15, what="every page sent")
    found = await mails.all()
    unmarked = [mail["headers"]["Message-ID"] for mail in found if "possible repeat" not in mail["subject"]]
    assert len(set(unmarked)) == len(unmarked)
    assert len({mail["headers"]["Message-ID"] for mail in found}) == len(alerts)


async def test_a_stop_ends_in_order_and_the_next_start_goes_on(stack: Stack, care: Care, mails: Mails) -> None:
    """SIGTERM is exit code 0; what came while nobody was there is told at the next start."""
    first = await stack.service("notify", QUICK).start()

    assert await first.stop() == 0
    alert_id = await care.open()
    await stack.service("notify-2", QUICK).start()

    await care.until_states(alert_id, (0, "ada", "email", "sent"))
    assert len(await mails.until(1)) == 1

    async def both_beat() -> bool:
        return len(await care.pool.fetch("SELECT FROM service_heartbeat WHERE service = 'notify'")) == 2

    await eventually(both_beat, what="a heartbeat of each")


async def test_a_notifier_whose_connections_are_cut_comes_back(
    stack: Stack, care: Care, mails: Mails, database: Database
) -> None:
    """Every session ended by the database, the listener's too: the next alert is told all the same."""
    notify = await stack.service("notify", QUICK).start()

    await care.pool.fetch(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = current_user
        """
    )
    alert_id = await care.open()

    await care.until_states(alert_id, (0, "ada", "email", "sent"))
    await notify.ready()
    assert len(await mails.until(1)) == 1


async def test_a_dead_mail_server_leaves_the_second_channel_and_the_next_person(
    stack: Stack, care: Care, mails: Mails
) -> None:
    """Two tries by mail, then both channels of the primary at once; the webhook is signed and says little."""
    await care.pool.execute(
        "UPDATE person SET webhook_url = $1, webhook_secret = $2 WHERE person_id = 'ada'",
        f"{mails.url}/webhook",
        SECRET,
    )
    env = {
        **QUICK,
        "PUMPWATCH_NOTIFY_SMTP_PORT": str(free_port()),
        "PUMPWATCH_NOTIFY_WEBHOOK_HOSTS": "127.0.0.1",
        "PUMPWATCH_NOTIFY_ATTEMPTS": "2",
    }
    notify = await stack.service("notify", env).start()

    alert_id = await care.open()

    await care.until_states(
        alert_id, (0, "ada", "email", "failed"), (1, "ada", "email", "failed"), (1, "ada", "webhook", "sent")
    )
    (hook,) = await mails.until(1)
    checked = standardwebhooks.Webhook(SECRET).verify(hook["text"], hook["headers"])
    assert checked["data"]["alert_id"] == str(alert_id)
    said = [str(hook), await notify.metrics(), str(notify.log)]
    # The path of a webhook is often a secret, so no log has it.
    assert "/webhook" not in said[2]
    assert not [canary for canary in (*CANARIES, SECRET) for text in said if canary in text]


async def test_a_mail_server_that_comes_back_gets_the_page(stack: Stack, care: Care) -> None:
    """Refused for now twice, taken the third time: no repeat, since the server said that it had not taken it."""
    async with MailServer(data=lambda number: "451 later" if number < 3 else "250 OK") as server:
        stack.env["PUMPWATCH_NOTIFY_SMTP_PORT"] = str(server.port)
        await stack.service("notify", QUICK).start()
        alert_id = await care.open(Priority.MEDIUM)

        await care.until_states(alert_id, (0, "", "worklist", "sent"), (0, "ada", "email", "sent"))

    assert len(server.taken) == 3
    assert len(set(server.message_ids())) == 1
    assert not [subject for subject in server.subjects() if "possible repeat" in subject]
