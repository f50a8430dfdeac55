"""A service's beats: when it worked, and which breaks are kept for those who replay history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from streams import replay
from streams.operations import record_beat
from tests.integration.ground import Ground, ground_in
from tests.stack import Database

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


@pytest.fixture
async def ground(database: Database) -> AsyncIterator[Ground]:
    """A migrated database."""
    async with ground_in(database.app, database.admin) as made:
        yield made


async def _last_beat(ground: Ground, instance: str, ago: timedelta) -> None:
    await ground.owner.execute(
        "UPDATE service_heartbeat SET beat_at = now() - $2::interval WHERE instance = $1", instance, ago
    )


async def test_a_break_of_more_than_a_minute_is_kept_from_the_last_beat_to_the_next(ground: Ground) -> None:
    """The first beat ends none, and a shorter pause is none."""
    pool = ground.store.pool
    await record_beat(pool, "worker", "w-1")
    await _last_beat(ground, "w-1", 58 * SECOND)
    await record_beat(pool, "worker", "w-1")
    none = await ground.rows("SELECT * FROM service_break")
    await _last_beat(ground, "w-1", 120 * SECOND)
    await record_beat(pool, "worker", "w-2")

    [kept] = await ground.rows("SELECT * FROM service_break")
    [resumed] = await ground.rows("SELECT resumed_at FROM service_heartbeat WHERE instance = 'w-2'")
    assert none == []
    assert (kept["service"], kept["resumed_at"]) == ("worker", resumed["resumed_at"])
    assert kept["resumed_at"] - kept["deaf_from"] == pytest.approx(120 * SECOND, abs=10 * SECOND)


async def test_another_instance_that_went_on_means_that_there_was_no_break(ground: Ground) -> None:
    """Nor was there one of a service that another one beats for."""
    pool = ground.store.pool
    for service, instance in (("worker", "w-1"), ("worker", "w-2"), ("ingest", "i-1")):
        await record_beat(pool, service, instance)
    await _last_beat(ground, "w-1", 300 * SECOND)
    await record_beat(pool, "worker", "w-1")

    assert await ground.rows("SELECT * FROM service_break") == []


async def test_breaks_of_ingest_and_worker_are_joined_where_they_touch(ground: Ground) -> None:
    """Those of other services do not count, and a service that does not beat now is deaf since its last beat."""
    now = datetime.now(UTC)
    at = [now - DAY + number * 100 * SECOND for number in range(12)]
    await ground.owner.executemany(
        "INSERT INTO service_break VALUES ($1, $2, $3)",
        [
            ("ingest", at[0], at[2]),
            ("worker", at[1], at[3]),
            ("worker", at[3], at[4]),
            ("ingest", at[5], at[8]),
            ("worker", at[6], at[7]),
            ("notify", at[8], at[11]),
        ],
    )
    await record_beat(ground.store.pool, "ingest", "i-1")
    await _last_beat(ground, "i-1", 10 * SECOND)
    beating = await replay.heard(ground.store.pool, now)
    await _last_beat(ground, "i-1", 90 * SECOND)
    gone = await replay.heard(ground.store.pool, now)

    assert beating == replay.Heard(now, ((at[0], at[4]), (at[5], at[8])))
    assert gone.breaks[:2] == beating.breaks
    assert [end for _, end in gone.breaks[2:]] == [replay.NOT_YET]


def test_what_was_heard_is_told_for_every_moment() -> None:
    """A break begins with its first moment, and its last one is after it."""
    start = datetime(2026, 3, 1, tzinfo=UTC)
    at = [start + number * SECOND for number in range(10)]
    heard = replay.Heard(at[0], ((at[2], at[4]), (at[6], replay.NOT_YET)))

    hearings = {number: heard.hearing(at[number]) for number in (1, 2, 3, 4, 5, 7)}

    assert {number: (one.since, one.until) for number, one in hearings.items()} == {
        1: (at[0], at[1]),
        2: (at[0], at[2]),
        3: (at[0], at[2]),
        4: (at[4], at[4]),
        5: (at[4], at[5]),
        7: (at[4], at[6]),
    }
    assert [heard.awake(at[number]) for number in (1, 2, 3, 4, 5)] == [at[1], at[4], at[4], at[4], at[5]]
    assert heard.awake(at[6]) == replay.NOT_YET
