"""Whether monitoring works, in words for the people who rely on it: what the page says when a part is down."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeAlias

import asyncpg

from services.web.words import duration

Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.Pool[Any]"

SILENT: Final = timedelta(seconds=30)
LATE: Final = timedelta(seconds=30)
STATEMENT_SECONDS: Final = 5.0


class Part(StrEnum):
    """A part of the path from a pump to a person."""

    INGEST = "ingest"
    WORKER = "worker"
    NOTIFY = "notify"
    OUTBOX = "outbox"
    LADDERS = "ladders"
    DEADLINES = "deadlines"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A part that does not work, and what that means for the reader."""

    part: Part
    words: str


@dataclass(frozen=True, slots=True)
class Signs:
    """What the database knows of the path: the last beat of each service, and what waits too long for it."""

    beats: dict[str, datetime]
    oldest_outbox_at: datetime | None
    oldest_step_at: datetime | None
    oldest_deadline_at: datetime | None


_MEANS: Final = {
    Part.INGEST: "New reports from pumps may not be accepted",
    Part.WORKER: "New reports are not judged, so new alerts do not appear",
    Part.NOTIFY: "Nobody is told of alerts by e-mail or webhook: watch this page and call people",
    Part.OUTBOX: "Alerts wait to be sent to people: call them yourself",
    Part.LADDERS: "Alerts nobody confirmed are not escalated on time: call the next person yourself",
    Part.DEADLINES: "Silent pumps and deadlines are judged late",
}


def troubles(signs: Signs, now: datetime) -> list[Trouble]:
    """What does not work now, worst consequence for a patient first.

    A service that has never beaten counts as down: on this page, nothing known is never good news.
    """
    found = []
    for part in (Part.INGEST, Part.WORKER, Part.NOTIFY):
        beat = signs.beats.get(part)
        if beat is None:
            found.append(Trouble(part, f"{_MEANS[part]}. The {part} service has not started yet."))
        elif now - beat > SILENT:
            age = duration(now - beat)
            found.append(Trouble(part, f"{_MEANS[part]}. The {part} service has been silent for {age}."))
    waits = (
        (Part.OUTBOX, signs.oldest_outbox_at),
        (Part.LADDERS, signs.oldest_step_at),
        (Part.DEADLINES, signs.oldest_deadline_at),
    )
    found.extend(
        Trouble(part, f"{_MEANS[part]}. The oldest is {duration(now - since)} late.")
        for part, since in waits
        if since is not None and now - since > LATE
    )
    return found


async def signs(database: Connection) -> tuple[Signs, datetime]:
    """What the database knows, and its clock: the services beat by that one too."""
    (row,) = await database.fetch(
        """
        SELECT clock_timestamp() AS now,
               (SELECT min(created_at) FROM outbox WHERE handled_at IS NULL) AS outbox,
               (SELECT min(next_step_at) FROM ladder WHERE next_step_at IS NOT NULL) AS step,
               (SELECT min(next_wake_at) FROM pump_state WHERE next_wake_at IS NOT NULL) AS deadline
        """,
        timeout=STATEMENT_SECONDS,
    )
    beats = await database.fetch(
        "SELECT service, max(beat_at) AS beat_at FROM service_heartbeat GROUP BY service", timeout=STATEMENT_SECONDS
    )
    by_service = {beat["service"]: beat["beat_at"] for beat in beats}
    return Signs(by_service, row["outbox"], row["step"], row["deadline"]), row["now"]


async def look(database: Connection) -> list[Trouble]:
    """What does not work now."""
    found, now = await signs(database)
    return troubles(found, now)
