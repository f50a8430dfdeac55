"""Program, dose, boluses and symptoms (THR-01 to THR-07)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from streams.domain.profile import Therapy
from streams.domain.telemetry import Event, Report

if TYPE_CHECKING:
    from streams.domain.world import PumpState


class DosingLog(msgspec.Struct, frozen=True, array_like=True):
    """Nothing yet."""


def measured(log: DosingLog, state: PumpState, therapy: Therapy, report: Report) -> DosingLog:
    """The log after a report's measurements."""
    return log


def happened(log: DosingLog, state: PumpState, therapy: Therapy, event: Event, at: datetime) -> DosingLog:
    """The log after an event that happened at ``at``."""
    return log
