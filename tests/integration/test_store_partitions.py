"""Readings are kept in weeks that are made ahead and dropped when their time is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import asyncpg
import pytest

from streams.store import Maintained, Work, maintain
from tests.integration.ground import NOON, Ground, ground_in, heard
from tests.stack import Database

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture
async def ground(database: Database) -> AsyncIterator[Ground]:
    """A migrated store."""
    async with ground_in(database.app, database.admin) as ground:
        yield ground


async def weeks(ground: Ground) -> list[str]:
    """Names of the weeks' tables, the oldest first."""
    rows = await ground.rows("SELECT relname FROM pg_class WHERE relname ~ '^reading_[0-9]{8}$' ORDER BY 1")
    return [row["relname"] for row in rows]


async def test_everything_that_is_accepted_has_a_week_from_the_start(ground: Ground) -> None:
    """The oldest report that may come in, the newest, and those of the next two weeks."""
    moments = [NOW - 399 * DAY, NOW - 200 * DAY, NOW, NOW + DAY, NOW + 14 * DAY]
    reports = [heard(seq=seq, event_time=moment) for seq, moment in enumerate(moments)]

    await ground.store.apply((), Work(readings=reports), NOW)

    assert await ground.count("reading") == len(moments)
    assert await ground.count("reading_default") == 0


async def test_maintaining_again_changes_nothing(ground: Ground) -> None:
    """It runs every hour in every worker."""
    before = await weeks(ground)

    assert await maintain(ground.store.pool, NOW) == Maintained(0, 0, 0)

    assert await weeks(ground) == before


async def test_weeks_are_made_ahead_as_time_passes(ground: Ground) -> None:
    """Always two weeks before they are needed; each adjoins the one before."""
    done = await maintain(ground.store.pool, NOW + 28 * DAY)

    names = await weeks(ground)
    days = [datetime.strptime(name[-8:], "%Y%m%d").replace(tzinfo=UTC) for name in names]
    assert (done.made, done.dropped) == (4, 0)
    assert days[-1] + 7 * DAY > NOW + 42 * DAY
    assert {later - earlier for earlier, later in pairwise(days)} == {7 * DAY}
    assert {day.weekday() for day in days} == {0}


async def test_weeks_past_their_retention_are_dropped_with_their_readings(ground: Ground) -> None:
    """A week goes when its last moment is older than the retention."""
    old, kept = heard(seq=0, event_time=NOW - 200 * DAY), heard(seq=1, event_time=NOW - 80 * DAY)
    await ground.store.apply((), Work(readings=[old, kept]), NOW)

    done = await maintain(ground.store.pool, NOW, keep_days=90)

    assert done.dropped > 40
    assert await ground.rows("SELECT seq FROM reading") == [{"seq": 1}]
    oldest = datetime.strptime((await weeks(ground))[0][-8:], "%Y%m%d").replace(tzinfo=UTC)
    assert oldest <= NOW - 90 * DAY < oldest + 7 * DAY + DAY


async def test_a_clock_that_runs_ahead_drops_nothing(ground: Ground) -> None:
    """What is young by the database's own clock stays, whatever a worker believes."""
    await ground.store.apply((), Work(readings=[heard()]), NOON)
    before = set(await weeks(ground))

    done = await maintain(ground.store.pool, NOW + 500 * DAY)

    assert done.dropped == 0
    assert before <= set(await weeks(ground))
    assert await ground.count("reading") == 1


async def test_a_retention_below_a_month_is_refused(ground: Ground) -> None:
    """A slip of the finger must not empty history."""
    with pytest.raises(asyncpg.InvalidParameterValueError, match="at least 30 days"):
        await maintain(ground.store.pool, NOW, keep_days=3)


async def test_two_at_once_do_not_meet(ground: Ground) -> None:
    """One does the work; the other finds the lock taken, or nothing left to do."""
    later = NOW + 28 * DAY

    done = await asyncio.gather(*(maintain(ground.store.pool, later) for _ in range(4)))

    assert sum(one.made for one in done) == 4


async def test_a_reader_that_stays_delays_maintenance_and_does_not_break_it(ground: Ground) -> None:
    """Writers would queue behind a waiting drop: it gives up soon, and the next hour does it."""
    async with ground.owner.transaction():
        await ground.owner.execute("SELECT count(*) FROM reading")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await maintain(ground.store.pool, NOW, keep_days=90)

    assert (await maintain(ground.store.pool, NOW, keep_days=90)).dropped > 40


async def test_readings_outside_every_week_are_kept_and_counted(ground: Ground) -> None:
    """Maintenance that did not run for long loses nothing, and says so when it runs again."""
    await ground.store.apply((), Work(readings=[heard(event_time=NOW - 500 * DAY)]), NOW)

    assert (await maintain(ground.store.pool, NOW)).strays == 1
    await ground.store.maintain(NOW)
    assert await ground.count("reading") == 1


async def test_readings_that_came_before_their_week_move_into_it(ground: Ground) -> None:
    """So that maintenance which stood still for weeks can go on."""
    await ground.store.apply((), Work(readings=[heard(event_time=NOW + 30 * DAY)]), NOW)
    assert await ground.count("reading_default") == 1

    done = await maintain(ground.store.pool, NOW + 21 * DAY)

    assert (done.made, done.strays) == (3, 0)
    assert await ground.rows("SELECT event_time FROM reading") == [{"event_time": NOW + 30 * DAY}]
    assert await ground.count("reading_default") == 0
