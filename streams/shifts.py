"""The rota: when people are on call. Somebody without any shift always is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from streams.domain.rota import Shift, uncovered_at
from streams.people import STATEMENT_SECONDS, WATCHDOG_SITE, Connection

LONGEST: Final = timedelta(days=31)
"""A longer shift is taken for a mistake."""

# A person by the rota has a row for each shift that has not ended, or one without times: then they are not on call.
_WATCHES: Final = """
    SELECT person.site, shift.starts_at, shift.ends_at,
           EXISTS (SELECT FROM shift own WHERE own.person_id = person.person_id AND own.withdrawn_at IS NULL) AS by_rota
    FROM person
    LEFT JOIN shift ON shift.person_id = person.person_id AND shift.withdrawn_at IS NULL AND shift.ends_at > $1
                       AND shift.starts_at <= $2
    WHERE ladder_role IS NOT NULL AND disabled_at IS NULL AND (email IS NOT NULL OR webhook_url IS NOT NULL)
"""


class ShiftRefused(ValueError):
    """A shift cannot be entered like this; the message names the field and the reason."""


@dataclass(frozen=True, slots=True)
class Entered:
    """A shift as stored; times are aware UTC."""

    shift_id: int
    person_id: str
    starts_at: datetime
    ends_at: datetime


async def add(connection: Connection, person_id: str, starts_at: datetime, ends_at: datetime, now: datetime) -> int:
    """Put somebody on call from ``starts_at`` (inclusive) to ``ends_at`` (exclusive); returns the shift's id.

    Raises:
        ShiftRefused: If there is no such person with access, the end is not after start and now, or it is too long.
    """
    if not starts_at < ends_at <= starts_at + LONGEST:
        raise ShiftRefused(f"until: expected a time after from, and at most {LONGEST.days} days after it")
    if ends_at <= now:
        raise ShiftRefused("until: expected a time that has not passed")
    shift_id: int | None = await connection.fetchval(
        """
        INSERT INTO shift (person_id, starts_at, ends_at)
        SELECT person_id, $2, $3 FROM person WHERE person_id = $1 AND disabled_at IS NULL RETURNING shift_id
        """,
        person_id,
        starts_at,
        ends_at,
        timeout=STATEMENT_SECONDS,
    )
    if shift_id is None:
        raise ShiftRefused(f"person: nobody with access is called {person_id}")
    return shift_id


async def list_all(connection: Connection, still_at: datetime) -> list[Entered]:
    """The shifts that are on at ``still_at`` or come later, by their start."""
    rows = await connection.fetch(
        """
        SELECT shift_id, person_id, starts_at, ends_at FROM shift
        WHERE withdrawn_at IS NULL AND ends_at > $1 ORDER BY starts_at, shift_id
        """,
        still_at,
        timeout=STATEMENT_SECONDS,
    )
    return [Entered(**row) for row in rows]


async def withdraw(connection: Connection, shift_id: int, now: datetime) -> bool:
    """Take a shift out of the rota; returns whether it was in it."""
    found = await connection.fetchval(
        "UPDATE shift SET withdrawn_at = $2 WHERE shift_id = $1 AND withdrawn_at IS NULL RETURNING shift_id",
        shift_id,
        now,
        timeout=STATEMENT_SECONDS,
    )
    return found is not None


async def uncovered(
    connection: Connection, sites: Iterable[str | None], now: datetime, ahead: timedelta
) -> dict[str | None, datetime]:
    """For each site that nobody covers at some time until ``ahead`` from now (inclusive), the first such moment.

    Whoever is told of every site covers each but the watchdog's; a pump without a known site concerns everybody.
    """
    until = now + ahead
    rows = await connection.fetch(_WATCHES, now, until, timeout=STATEMENT_SECONDS)
    watches: dict[str | None, list[Shift]] = defaultdict(list)
    for row in rows:
        if not row["by_rota"]:
            watches[row["site"]].append(Shift(now, until + timedelta(microseconds=1)))
        elif row["starts_at"] is not None:
            watches[row["site"]].append(Shift(row["starts_at"], row["ends_at"]))
    robots = watches.pop(WATCHDOG_SITE, [])
    everybody = [shift for shifts in watches.values() for shift in shifts]
    holes = {}
    for site in sites:
        ours = everybody if site is None else [*watches[site], *watches[None]]
        holes[site] = uncovered_at(robots if site == WATCHDOG_SITE else ours, now, until)
    return {site: at for site, at in holes.items() if at is not None}
