"""What time alone does to pumps, over a store in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import asyncpg
import pytest

from streams.domain.rule import Finding, Rule, RuleBook, View
from streams.domain.silence import Hearing
from streams.store import StoredWorld
from streams.ticks import Ticks
from tests.services.worker.bench import NOON, RULEBOOK, Bench, received, record
from tests.services.worker.memory import MemoryStore

LONG_AGO = NOON - timedelta(days=30)


def ticks(bench: Bench, since: datetime = LONG_AGO) -> Ticks:
    """Ticks of the bench's present process, in a service that heard everything since then."""

    async def hearing(now: datetime) -> Hearing:
        return Hearing(since, now)

    return Ticks(
        bench.settings, bench.worker, bench.store, bench.applier, bench.in_force, hearing, bench.metrics, bench.clock
    )


async def silent_pump(bench: Bench, hours: float) -> None:
    """A pump whose last report was applied so many hours ago; nothing is waiting."""
    await bench.start()
    await bench.worker.handle(record(bench.store.offsets[0], received(0)))
    bench.clock.now = received(0).received_at + timedelta(hours=hours)
    bench.partition.heard(bench.clock.now)


async def test_silence_is_told_once_also_across_a_restart() -> None:
    """A deadline that passed is told by the first tick after it, and by no later one of any process."""
    bench = Bench()
    await silent_pump(bench, hours=1)

    await ticks(bench).once()
    told = list(bench.store.events)
    await bench.start()
    bench.partition.heard(bench.clock.now)
    bench.clock.now += timedelta(minutes=1)
    await ticks(bench).once()

    assert [kind for kind, _ in told] == ["opened"]
    assert bench.store.events == told
    assert bench.store.offsets[0] == 1


@pytest.mark.parametrize("outage", [True, False])
async def test_a_silence_of_an_outage_ends_with_that_cause_when_its_gap_is_given_up(outage: bool) -> None:
    """The pump was heard again an hour ago, but not all that it had said before."""
    bench = Bench()
    await silent_pump(bench, hours=1)
    await ticks(bench).once()
    (silence,) = bench.store.facts
    bench.store.outage = {silence.alert.alert_id} if outage else set()
    await bench.worker.handle(record(1, received(9, at=bench.clock.now)))
    bench.clock.now += timedelta(minutes=40)
    await bench.worker.handle(record(2, received(10, at=bench.clock.now)))
    still_open = len(bench.store.facts)

    bench.clock.now += timedelta(minutes=22)
    bench.partition.heard(bench.clock.now)
    await ticks(bench).once()

    ended = [fact for fact in bench.store.facts if fact.alert.rule_id == "COM-01" and not fact.alert.active]
    assert still_open == 1
    assert [fact.reason for fact in ended] == ["service_outage" if outage else "condition_ended"]


async def test_silence_behind_a_lag_is_not_a_pumps_silence() -> None:
    """What the worker has not applied yet may hold the pump's message."""
    bench = Bench()
    await silent_pump(bench, hours=1)
    bench.partition.heard_until = received(0).received_at + timedelta(minutes=1)

    await ticks(bench).once()

    assert bench.store.events == []


async def test_the_services_own_silence_is_not_a_pumps() -> None:
    """Ingest resumed a minute ago: nobody could be heard before."""
    bench = Bench()
    await silent_pump(bench, hours=1)

    await ticks(bench, since=bench.clock.now - timedelta(minutes=1)).once()

    assert bench.store.events == []


async def test_ticks_leave_partitions_that_are_not_ours_alone() -> None:
    """After a revocation another worker ticks them."""
    bench = Bench()
    await silent_pump(bench, hours=1)
    bench.worker.revoked([0])

    await ticks(bench).once()

    assert bench.store.commits == 1


async def test_a_fenced_tick_writes_nothing() -> None:
    """The fence is taken although the offset does not move: an outdated owner decides nothing."""
    bench = Bench()
    await silent_pump(bench, hours=1)
    bench.store.offsets[0] = 9

    await ticks(bench).once()

    assert bench.partition.unsure
    assert bench.count("pumpwatch_transaction_failures_total", reason="fenced") == 1
    assert bench.store.events == []


async def test_a_tick_of_a_pump_changed_elsewhere_is_made_up() -> None:
    """The first look finds a stale world and drops it; the next one reads and decides."""
    bench = Bench()
    await silent_pump(bench, hours=1)
    stored = bench.store.pumps["P-1"]
    bench.store.pumps["P-1"] = StoredWorld(stored.revision + 1, stored.world, stored.profiles)
    due = ticks(bench)

    await due.once()
    await due.once()

    assert [kind for kind, _ in bench.store.events] == ["opened"]
    assert bench.count("pumpwatch_transaction_failures_total", reason="stale") == 1


async def test_a_lost_connection_does_not_end_ticking() -> None:
    """Memory is not trusted afterwards, and the next look goes on."""
    bench = Bench()
    await silent_pump(bench, hours=1)
    bench.store.after = [None]
    bench.store.before = [ConnectionResetError()]
    due = ticks(bench)

    try:
        await due.once()
    except ConnectionResetError:
        unsure = bench.partition.unsure
    await due.once()

    assert unsure
    assert [kind for kind, _ in bench.store.events] == ["opened"]


async def test_a_pump_that_postgresql_refuses_does_not_stop_the_others() -> None:
    """Refused as a group, they are written one by one; the offender is looked at again in a minute."""
    bench = Bench(MemoryStore(before=[None, asyncpg.DataError(), asyncpg.DataError()]))
    await bench.start()
    await bench.worker.handle(record(0, received(0), received(0, "P-2")))
    bench.clock.now = received(0).received_at + timedelta(hours=1)
    bench.partition.heard(bench.clock.now)
    due = ticks(bench)

    await due.once()
    first = list(bench.store.events)
    await due.once()
    bench.clock.now += timedelta(seconds=61)
    await due.once()

    assert len(first) == 1
    assert len(bench.store.events) == 2
    assert bench.count("pumpwatch_ticks_total", outcome="failed") == 1


async def test_a_pump_that_no_rule_can_judge_does_not_stop_the_others() -> None:
    """A mistake in a rule for one pump is counted; the others' deadlines still fire."""
    unbearable: set[datetime | None] = set()

    def broken(view: View, rule: Rule) -> Finding:
        if view.state.reported_at in unbearable:
            raise ZeroDivisionError
        return RULEBOOK["COM-01"].condition(view, rule)

    bench = Bench(rules=RuleBook((replace(RULEBOOK["COM-01"], condition=broken),)))
    await bench.start()
    await bench.worker.handle(record(0, received(0), received(1, "P-0")))
    unbearable.add(received(1).report.event_time)
    bench.clock.now = received(1).received_at + timedelta(hours=1)
    bench.partition.heard(bench.clock.now)

    await ticks(bench).once()

    assert [kind for kind, _ in bench.store.events] == ["opened"]
    assert bench.count("pumpwatch_ticks_total", outcome="failed") == 1
