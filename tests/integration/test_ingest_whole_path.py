"""Ingest and the worker together: nothing fresh waits behind what is old, and conflicts end where history is."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from tests.integration.ingest_ground import Ground, fresh, now, standing
from tests.stack import Stack, eventually

OLD_REPORTS = 8_000
PUMPS = 500


async def test_a_fresh_alarm_does_not_wait_behind_a_backlog(stack: Stack) -> None:
    """Alerts of fresh alarms open while old reports still wait, and every old report is applied in the end (G7)."""
    async with standing(stack) as ground, ground.gateway() as client:
        await stack.start("worker")
        begin = now() - timedelta(days=3)
        for place in range(OLD_REPORTS // PUMPS):
            at = (begin + timedelta(minutes=15 * place)).isoformat()
            old = [fresh(f"old-{number}", seq=place, event_time=at, gateway_time=at) for number in range(PUMPS)]
            assert (await client.post("/v1/reports", json=old)).status_code == 202
        waiting = []
        for number in range(5):
            alarm = fresh(f"alarm-{number}", motor="stalled", alarms=["motor_stall"])
            assert (await client.post("/v1/reports", json=alarm)).status_code == 202
            await eventually(partial(_alerts, ground, f"alarm-{number}"), every=0.02, what="the alert")
            waiting.append(OLD_REPORTS - await _applied(ground))

        async def all_applied() -> bool:
            return await _applied(ground) == OLD_REPORTS

        await eventually(all_applied, timeout=90, every=0.2, what="the whole backlog applied")

    assert waiting[0] > 0
    assert waiting == sorted(waiting, reverse=True)


async def test_conflicting_reports_are_accepted_and_quarantined_by_the_worker(stack: Stack) -> None:
    """Two different reports under one identity: one takes effect, the other is kept apart, neither is lost."""
    async with standing(stack) as ground, ground.gateway() as client:
        await stack.start("worker")

        answer = await client.post("/v1/reports", json=[fresh(), fresh(motor="stopped")])

        async def kept_apart() -> str | None:
            found: str | None = await ground.pool.fetchval("SELECT reason FROM quarantine WHERE pump_id = 'pump-1'")
            return found

        reason = await eventually(kept_apart, what="the conflict in quarantine")
        motors = [row["motor"] for row in await ground.pool.fetch("SELECT motor FROM reading WHERE pump_id = 'pump-1'")]

    assert (answer.status_code, answer.json()) == (202, {"accepted": 2, "rejected": []})
    assert (reason, motors) == ("conflict", ["running"])


async def _alerts(ground: Ground, pump_id: str) -> bool:
    return bool(await ground.pool.fetchval("SELECT count(*) FROM alert WHERE pump_id = $1", pump_id))


async def _applied(ground: Ground) -> int:
    count: int = await ground.pool.fetchval("SELECT count(*) FROM reading WHERE pump_id LIKE 'old-%'")
    return count
