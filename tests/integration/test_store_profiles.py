"""Profiles are imported whole or not at all, count from their own time, and leave a trace."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from streams import gateways, profiles
from streams.profiles import Imported, LineError
from tests.integration.ground import NOON, PROFILE, Ground, ground_in, heard
from tests.stack import Database


@pytest.fixture
async def ground(database: Database) -> AsyncIterator[Ground]:
    """A migrated store without profiles."""
    async with ground_in(database.app, database.admin) as ground:
        yield ground


def line(**differences: Any) -> str:
    """A profile as a line of the file; a field set to None is left out."""
    return json.dumps({name: value for name, value in {**PROFILE, **differences}.items() if value is not None})


async def imported(ground: Ground, *lines: str, now: datetime = NOON) -> Imported:
    """Import these lines."""
    return await profiles.import_profiles(ground.store.pool, lines, "ada", now)


async def test_the_same_file_again_changes_nothing(ground: Ground) -> None:
    """Neither a row nor the audit."""
    lines = (line(), "", line(pump_id="P-2"), line())

    first = await imported(ground, *lines)
    before = await ground.rows("SELECT * FROM pump_profile ORDER BY 1"), await ground.count("pump_profile_change")
    again = await imported(ground, *lines, now=NOON + timedelta(days=1))

    assert (first, again) == (Imported(added=2), Imported(unchanged=2))
    assert (
        await ground.rows("SELECT * FROM pump_profile ORDER BY 1"),
        await ground.count("pump_profile_change"),
    ) == before


async def test_a_bad_line_refuses_the_whole_file(ground: Ground) -> None:
    """Every bad line is told with its number, the field and the reason; nothing is half imported."""
    result = await imported(
        ground,
        line(),
        line(pump_id="P-2", family="toaster"),
        "",
        '{"pump_id": ',
        "[1]",
        line(pump_id="P-3", valid_from="yesterday"),
        line(pump_id="P-4", drugs=[{"name": "baclofen", "concentration_ug_per_ml": 9}]),
        line(pump_id="P-5", nonsense=1),
        line(reservoir_ml=40),
    )

    assert [(error.line, error.pointer) for error in result.errors] == [
        (2, "/family"),
        (4, ""),
        (5, ""),
        (6, "/valid_from"),
        (7, "/drugs/0/concentration_ug_per_ml"),
        (8, "/nonsense"),
        (9, ""),
    ]
    assert str(result.errors[3]) == "line 6 /valid_from: must be an RFC 3339 time with an offset, or a date"
    assert "line 1 says something else" in result.errors[-1].reason
    assert (result.added, await ground.count("pump_profile")) == (0, 0)


async def test_errors_and_lines_have_limits(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong file does not fill the screen, a huge one not the memory."""
    monkeypatch.setattr("streams.profiles.MAX_LINES", 150)

    many = await imported(ground, *["nonsense"] * 140)
    too_many = await imported(ground, *["nonsense"] * 160)
    too_long = await imported(ground, line(site="x" * 70_000))

    assert len(many.errors) == 100
    assert too_many.errors == (LineError(151, "", "more than 150 lines; split the file"),)
    assert "longer than" in too_long.errors[0].reason


async def test_a_date_means_midnight_at_the_site(ground: Ground) -> None:
    """Sites have a time zone; those that were not told are on UTC."""
    await profiles.set_time_zone(ground.store.pool, "north", "Europe/Berlin", NOON)
    await imported(ground, line(valid_from="2026-07-01"), line(pump_id="P-2", site="south", valid_from="2026-07-01"))

    [north], [south] = [await profiles.show(ground.store.pool, pump_id) for pump_id in ("P-1", "P-2")]

    assert north.valid_from == datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin"))
    assert south.valid_from == datetime(2026, 7, 1, tzinfo=UTC)


async def test_an_unknown_time_zone_is_refused(ground: Ground) -> None:
    """With its name in the message."""
    with pytest.raises(profiles.UnknownTimeZone, match="Mars/Olympus"):
        await profiles.set_time_zone(ground.store.pool, "north", "Mars/Olympus", NOON)

    assert await profiles.time_zones(ground.store.pool) == {}


async def test_a_report_is_judged_by_the_version_of_its_time(ground: Ground) -> None:
    """Two lines for one pump are two versions."""
    later = NOON + timedelta(hours=1)
    await imported(ground, line(), line(valid_from=later.isoformat(), expected_interval_seconds=60))

    history = (await ground.store.worlds(["P-1"]))["P-1"].profiles

    assert [history.therapy(at).interval.total_seconds() for at in (NOON, later)] == [900, 60]
    assert history.therapy(NOON - timedelta(days=2000)).known is False


async def test_a_correction_replaces_a_version_and_leaves_a_trace(ground: Ground) -> None:
    """The audit has both, who wrote them and when."""
    await imported(ground, line())

    result = await imported(ground, line(reservoir_ml=40), now=NOON + timedelta(hours=1))

    assert result == Imported(changed=1)
    assert [one.profile["reservoir_ml"] for one in await profiles.show(ground.store.pool, "P-1")] == [40]
    trace = await profiles.audit(ground.store.pool, "P-1")
    assert [(one.profile["reservoir_ml"], one.recorded_by, one.recorded_at) for one in trace] == [
        (20, "ada", NOON),
        (40, "ada", NOON + timedelta(hours=1)),
    ]


async def test_the_list_shows_what_is_in_force(ground: Ground) -> None:
    """Neither past nor coming versions."""
    await imported(
        ground,
        line(),
        line(valid_from="2026-02-01", reservoir_ml=40),
        line(valid_from="2999-01-01"),
        line(pump_id="P-2", valid_from="2999-01-01"),
    )

    found = await profiles.list_all(ground.store.pool, NOON)

    assert [(profile.pump_id, profile.reservoir_ml) for profile in found] == [("P-1", 40)]


async def test_workers_hear_of_every_changed_pump(ground: Ground) -> None:
    """Once it is committed, and not of those that stay as they are."""
    await imported(ground, line())
    told: asyncio.Queue[str] = asyncio.Queue()
    await ground.owner.add_listener(profiles.CHANNEL, lambda *given: told.put_nowait(given[3]))

    await imported(ground, line(), line(pump_id="P-2"), line(pump_id="P-3"))

    assert {await asyncio.wait_for(told.get(), 5) for _ in range(2)} == {"P-2", "P-3"}
    assert told.empty()


async def test_an_import_leaves_pumps_alone_that_it_does_not_change(ground: Ground) -> None:
    """A worker's decisions about them stay valid."""
    await imported(ground, line())
    work = await ground.decide([heard()])

    await imported(ground, line(), line(pump_id="P-2"))
    await ground.store.apply((ground.claim,), work, NOON)

    assert (await ground.store.worlds(["P-1"]))["P-1"].revision == 1


async def test_a_gateways_token_works_until_it_is_revoked(ground: Ground) -> None:
    """Only its hash is stored; ingest hears of every change."""
    pool = ground.store.pool
    told: asyncio.Queue[str] = asyncio.Queue()
    await ground.owner.add_listener(gateways.CHANNEL, lambda *given: told.put_nowait(given[2]))

    token = await gateways.add(pool, "G-1", "home")
    active = await gateways.load_active(pool)
    revoked = await gateways.revoke(pool, "G-1"), await gateways.revoke(pool, "G-1"), await gateways.revoke(pool, "G-2")

    assert token.startswith("pwg_")
    assert len(token) >= 47
    assert active == gateways.Active({gateways.token_hash(token): "G-1"}, frozenset())
    assert revoked == (True, False, False)
    assert await gateways.load_active(pool) == gateways.Active({}, frozenset())
    [listed] = await gateways.list_all(pool)
    assert listed.revoked_at is not None
    assert [await asyncio.wait_for(told.get(), 5) for _ in range(2)] == [gateways.CHANNEL] * 2
    assert token.encode() not in b"".join(row["token_hash"] for row in await ground.rows("SELECT * FROM gateway"))


async def test_a_new_token_replaces_the_old_one(ground: Ground) -> None:
    """One token per gateway; adding it again is how a lost one is replaced, also after a revocation."""
    pool = ground.store.pool
    old = await gateways.add(pool, "G-1", "home")
    await gateways.revoke(pool, "G-1")

    new = await gateways.add(pool, "G-1", "clinic")

    assert old != new
    assert await gateways.load_active(pool) == gateways.Active({gateways.token_hash(new): "G-1"}, frozenset({"G-1"}))


async def test_an_id_that_no_report_can_carry_is_refused(ground: Ground) -> None:
    """Nobody could ever report as it."""
    for gateway_id in ("", "a b", "x" * 65, "ü", "a\n"):
        with pytest.raises(gateways.GatewayRefused, match="1 to 64"):
            await gateways.add(ground.store.pool, gateway_id, "home")

    assert await gateways.list_all(ground.store.pool) == []


async def test_a_gateway_is_at_home_or_in_a_clinic(ground: Ground) -> None:
    """There is no third place."""
    with pytest.raises(gateways.GatewayRefused, match="home or clinic"):
        await gateways.add(ground.store.pool, "G-1", "moon")  # type: ignore[arg-type]
