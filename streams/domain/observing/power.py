"""Battery and device life (PWR-01 to PWR-03)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from streams.domain.profile import Therapy
from streams.domain.telemetry import Event, Report

if TYPE_CHECKING:
    from streams.domain.world import PumpState


class PowerLog(msgspec.Struct, frozen=True, array_like=True):
    """Nothing yet."""


def measured(log: PowerLog, state: PumpState, therapy: Therapy, report: Report) -> PowerLog:
    """The log after a report's measurements."""
    return log


def happened(log: PowerLog, state: PumpState, therapy: Therapy, event: Event, at: datetime) -> PowerLog:
    """The log after an event that happened at ``at``."""
    return log
