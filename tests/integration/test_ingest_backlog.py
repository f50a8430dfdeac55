"""Old reports wait, and reach the worker only as fast as it keeps up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from streams import topics
from tests.integration.ingest_ground import Ground, fresh, now, standing
from tests.stack import Stack, eventually

NAME = "pumpwatch_backlog_reports_moved_total"


def old(pump_id: str, **fields: Any) -> dict[str, Any]:
    """A valid report of two hours ago."""
    return fresh(pump_id, event_time=(now() - timedelta(hours=2)).isoformat(), **fields)


async def test_old_reports_reach_the_worker_once_it_keeps_up(stack: Stack) -> None:
    """Reports and their time of receipt arrive on the telemetry topic unchanged, each in its pump's partition."""
    async with standing(stack) as ground, ground.gateway() as client:
        await ground.apply_all()
        requests = [[old(f"pump-{number}", seq=place) for number in range(40)] for place in range(5)]
        for request in requests:
            assert (await client.post("/v1/reports", json=request)).status_code == 202

        async def moved() -> bool:
            await ground.apply_all()
            return await ground.metric(NAME) == 200

        await eventually(moved, what="the backlog moved")
        waiting, telemetry = await ground.reports(topics.BACKLOG), await ground.reports()

    assert len(telemetry) == 200
    assert _content(telemetry) == _content(waiting)


async def test_nothing_moves_while_the_worker_is_away_and_fresh_reports_pass(stack: Stack) -> None:
    """A worker that never came gets no old report; fresh ones and alarms of any age are on its topic at once."""
    async with standing(stack) as ground, ground.gateway() as client:
        assert (await client.post("/v1/reports", json=fresh("fresh"))).status_code == 202
        assert (await client.post("/v1/reports", json=[old(f"p{n}") for n in range(300)])).status_code == 202

        await eventually(lambda: _state(ground, "waiting"), what="the feeder waiting")
        assert (await client.post("/v1/reports", json=old("stalled", motor="stalled"))).status_code == 202
        before = await ground.pumps()
        moved_before = await ground.metric(NAME)

        async def moved() -> bool:
            await ground.apply_all()
            return await ground.metric(NAME) == 300

        await eventually(moved, what="the backlog moved")

    assert (before, moved_before) == (["fresh", "stalled"], 0)


async def test_the_queue_in_front_of_a_worker_that_stopped_stays_small(stack: Stack) -> None:
    """However much waits, at most the window is under way to a worker that applies nothing any more."""
    async with standing(stack, {"PUMPWATCH_INGEST_FEEDER_REPORTS": "400"}) as ground, ground.gateway() as client:
        await ground.apply_all()
        for place in range(6):
            request = [old(f"p{number}", seq=place) for number in range(1_000)]
            assert (await client.post("/v1/reports", json=request)).status_code == 202

        await eventually(lambda: _state(ground, "waiting"), what="the feeder waiting")
        under_way = await ground.metric(NAME)

    # A round may end with one record beyond what fits, never more.
    assert 0 < under_way <= 600


async def test_what_was_not_committed_is_moved_again_after_a_kill(stack: Stack) -> None:
    """Kill -9 in the middle: each old report is on the telemetry topic at least once."""
    async with standing(stack, {"PUMPWATCH_INGEST_FEEDER_REPORTS": "200"}) as ground:
        await ground.apply_all()
        async with ground.gateway() as client:
            for place in range(4):
                request = [old(f"p{number}", seq=place) for number in range(250)]
                assert (await client.post("/v1/reports", json=request)).status_code == 202
        await eventually(lambda: _some(ground), what="some of it moved")
        ground.ingest.kill()
        await ground.ingest.start()

        async def all_there() -> bool:
            await ground.apply_all()
            return len(set(_content(await ground.reports()))) == 1_000

        await eventually(all_there, timeout=40, every=0.3, what="all of it moved")
        waiting = await ground.reports(topics.BACKLOG)
        telemetry = await ground.reports()

    assert set(_content(telemetry)) == set(_content(waiting))


async def test_two_feeders_share_the_backlog(stack: Stack) -> None:
    """Another ingest takes its part, and none is moved twice while nothing fails."""
    async with standing(stack) as ground, ground.gateway() as client:
        await ground.apply_all()
        await stack.service("ingest-2").start()
        request = [old(f"p{number}") for number in range(1_000)]
        assert (await client.post("/v1/reports", json=request)).status_code == 202

        async def all_there() -> bool:
            await ground.apply_all()
            return len(await ground.reports()) >= 1_000

        await eventually(all_there, timeout=40, every=0.3, what="all of it moved")
        telemetry = await ground.reports()

    assert len(set(_content(telemetry))) == 1_000


def _content(reports: list[Any]) -> list[tuple[str, int, object]]:
    return sorted((one.report.pump_id, one.report.seq, one.received_at) for one in reports)


async def _state(ground: Ground, state: str) -> bool:
    return await ground.metric("pumpwatch_feeder_state", state=state) == 1


async def _some(ground: Ground) -> bool:
    return await ground.metric(NAME) > 0
