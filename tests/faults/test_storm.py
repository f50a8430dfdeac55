"""Promises G1, G2 and G5 while processes die: kill -9 and SIGSTOP of every part, at random moments, under load."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from streams import audit
from tests.faults.oracle import judge, read_ledger
from tests.faults.storm import Storm, cycles

COUNT = int(os.environ.get("PUMPWATCH_FAULT_CYCLES", "30"))
SEED = int(os.environ.get("PUMPWATCH_FAULT_SEED", "20261124"))
RATE = 300.0
ALARM_SHARE = 0.01


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own, which the database's user may not enter."""
    path = Path(tempfile.mkdtemp(prefix="pumpwatch-storm-"))
    yield path
    shutil.rmtree(path)


@pytest.mark.timeout(60 + 30 * COUNT)
async def test_nothing_accepted_is_lost_or_applied_twice_and_everybody_is_told(
    folder: Path, record_property: pytest.FixtureRequest
) -> None:
    """The oracle compares what was accepted, what is in history, and what people were told."""
    storm = Storm(folder)
    async with storm.raging(rate=RATE, alarm_share=ALARM_SHARE) as load:
        for cycle in cycles(COUNT, SEED):
            await storm.strike(cycle)
            assert not load.done(), "the load ended by itself"
        result = await storm.settle(load)
        connection = await asyncpg.connect(storm.dsn(), timeout=10)
        try:
            ledger = read_ledger(storm.ledger)
            verdict = await judge(connection, ledger, storm.inbox.mails, storm.breaks)
            chains = await audit.verify(connection)
        finally:
            await connection.close(timeout=5)

    figures = {
        "seed": SEED,
        "cycles": storm.disruptions,
        "breaks": len(storm.breaks),
        "accepted": verdict.accepted,
        "alerts": verdict.alerts,
    }
    print(f"storm: {figures | {'mails': verdict.mails, 'repeats': verdict.repeats}}")  # noqa: T201 - the run's figures
    assert verdict.failures == {}
    assert chains is None, chains
    assert result.unconfirmed == 0
    assert result.rejected == 0
    assert storm.disruptions == COUNT
    assert verdict.alerts > 0
