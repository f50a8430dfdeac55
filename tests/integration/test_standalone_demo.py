"""What a start of the one-machine stack leaves of the emulated pumps of earlier runs."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from services.standalone.demo import ACTOR, PROFILE, Emulated, furnish
from services.standalone.folder import Folder
from streams.domain.care import CareKind
from tests.integration.ground import NOON, Ground, ground_in, heard, minutes
from tests.stack import Database

HOUR = timedelta(hours=1)


def _run(*pump_ids: str) -> Emulated:
    return Emulated(("demo-phone",), tuple(json.dumps({**PROFILE, "pump_id": pump_id}) for pump_id in pump_ids))


async def _taken_out(ground: Ground) -> list[tuple[str, str]]:
    query = "SELECT pump_id, recorded_by FROM v_care_record WHERE kind = 'replaced' ORDER BY recorded_at"
    rows = await ground.rows(query)
    return [(row["pump_id"], row["recorded_by"]) for row in rows]


async def test_pumps_of_an_earlier_run_are_taken_out_once(database: Database, tmp_path: Path) -> None:
    """Those that go on stay, and so does what other people entered; who reported since is taken out anew."""
    folder = Folder(tmp_path)
    folder.take(1, print)
    async with ground_in(database.app, database.admin) as ground:
        pool = ground.store.pool
        await furnish(pool, folder, _run("demo-1", "demo-stall-1", "demo-quiet-1"), NOON)
        await ground.know(pump_id="P-1")
        await ground.hear(heard("demo-1"), heard("demo-stall-1"), heard("P-1"))

        await furnish(pool, folder, _run("demo-1", "demo-stall-2"), NOON + HOUR)
        await furnish(pool, folder, _run("demo-1", "demo-stall-3"), NOON + 2 * HOUR)
        once = await _taken_out(ground)
        known = (await ground.store.worlds(["demo-stall-1"]))["demo-stall-1"].profiles
        await ground.hear(heard("demo-stall-1", seq=1, event_time=NOON + 3 * HOUR))
        await furnish(pool, folder, _run("demo-1"), NOON + 4 * HOUR)

        record = known.therapy(NOON + HOUR + minutes(1)).newest(CareKind.REPLACED)
        assert once == [("demo-stall-1", ACTOR)]
        assert record is not None
        assert (record.valid_from, record.reason) == (NOON + HOUR, "the emulator's run has ended")
        assert await _taken_out(ground) == [("demo-stall-1", ACTOR)] * 2
    folder.leave()
