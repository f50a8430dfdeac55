"""Temperature at the pump (TMP-01)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from streams.domain.profile import Therapy
from streams.domain.telemetry import Event, Report

if TYPE_CHECKING:
    from streams.domain.world import PumpState


class HeatLog(msgspec.Struct, frozen=True, array_like=True):
    """Nothing yet."""


def measured(log: HeatLog, state: PumpState, therapy: Therapy, report: Report) -> HeatLog:
    """The log after a report's measurements."""
    return log


def happened(log: HeatLog, state: PumpState, therapy: Therapy, event: Event, at: datetime) -> HeatLog:
    """The log after an event that happened at ``at``."""
    return log
