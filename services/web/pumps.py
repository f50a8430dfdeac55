"""A pump as the page shows it: what it last said, what rules know of it, and its last hours as columns for a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import asyncpg
import msgspec

STATEMENT_SECONDS: Final = 5.0
LONGEST: Final = timedelta(days=7)
POINTS: Final = 1_440
MOST: Final = 5_000

Pool: TypeAlias = "asyncpg.Pool[Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pump:
    """The profile in force (None where there is none) and what the pump last said. Times are aware UTC."""

    pump_id: str
    site: str | None
    valid_from: datetime | None
    family: str | None
    reservoir_ml: int | None
    drugs: Sequence[Mapping[str, Any]]
    prescribed_ug_per_day: float | None
    risks: Sequence[str]
    expected_interval_seconds: int | None
    refill_booked_on: object
    last_event_time: datetime | None
    last_received_at: datetime | None
    motor: str | None
    reservoir_estimated_ml: float | None
    reservoir_measured_ml: float | None
    last_confirmed_delivery_at: datetime | None
    predicted_empty_at: datetime | None
    open_alerts: int


@dataclass(frozen=True, slots=True)
class Reading:
    """One report's measurements; None where it did not say."""

    event_time: datetime
    motor: str | None
    alarms: Sequence[str] | None
    reservoir_estimated_ml: float | None
    reservoir_measured_ml: float | None
    temperature_celsius: float | None


async def find(pool: Pool, pump_id: str) -> Pump | None:
    """A pump that has reported or has a profile."""
    row = await pool.fetchrow(
        """
        SELECT pump_id, site, valid_from, family, reservoir_ml, drugs, prescribed_ug_per_day, risks,
               expected_interval_seconds, refill_booked_on, last_event_time, last_received_at, motor,
               reservoir_estimated_ml, reservoir_measured_ml, last_confirmed_delivery_at, predicted_empty_at,
               open_alerts
        FROM v_pump WHERE pump_id = $1
        """,
        pump_id,
        timeout=STATEMENT_SECONDS,
    )
    return Pump(**{**row, "drugs": _json(row["drugs"]), "risks": _json(row["risks"])}) if row else None


async def readings(pool: Pool, pump_id: str, since: datetime, until: datetime, points: int = POINTS) -> list[Reading]:
    """The pump's reports by event time, thinned to about ``points`` in all.

    Of each slice of time the last report of every motor state and set of alarms stays, so that thinning hides no stall;
    and the last with a measured volume, which pumps say more rarely than an estimated one.
    """
    seconds = max((until - since).total_seconds() / points, 1.0)
    rows = await pool.fetch(
        """
        SELECT event_time, motor, alarms, reservoir_estimated_ml, reservoir_measured_ml, temperature_celsius FROM (
            SELECT DISTINCT ON (
                       floor(extract(epoch FROM event_time) / $4), motor, alarms, reservoir_measured_ml IS NULL)
                   event_time, motor, alarms, reservoir_estimated_ml, reservoir_measured_ml, temperature_celsius
            FROM reading WHERE pump_id = $1 AND event_time > $2 AND event_time <= $3
            ORDER BY floor(extract(epoch FROM event_time) / $4), motor, alarms, reservoir_measured_ml IS NULL,
                     event_time DESC
        ) AS thinned ORDER BY event_time DESC LIMIT $5
        """,
        pump_id,
        since,
        until,
        seconds,
        MOST,
        timeout=STATEMENT_SECONDS,
    )
    return [Reading(*row.values()) for row in reversed(rows)]


def columns(pump_id: str, found: Sequence[Reading], since: datetime, until: datetime) -> dict[str, Any]:
    """Readings as the page's plot takes them: a list per measurement, times in seconds since 1970."""
    return {
        "pump_id": pump_id,
        "since": since.isoformat(),
        "until": until.isoformat(),
        "truncated": len(found) >= MOST,
        "event_time": [reading.event_time.timestamp() for reading in found],
        "motor": [reading.motor for reading in found],
        "alarms": [list(reading.alarms or ()) for reading in found],
        "reservoir_estimated_ml": [reading.reservoir_estimated_ml for reading in found],
        "reservoir_measured_ml": [reading.reservoir_measured_ml for reading in found],
        "temperature_celsius": [reading.temperature_celsius for reading in found],
    }


def _json(text: str | None) -> Any:
    return msgspec.json.decode(text) if text else []
