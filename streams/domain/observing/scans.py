"""MRI and interference: alarms and program at the start, interrogations after the end (MRI-03 to MRI-06, EMI-01)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from streams.domain.profile import Therapy
from streams.domain.telemetry import Event, Report

if TYPE_CHECKING:
    from streams.domain.world import PumpState


class ScanLog(msgspec.Struct, frozen=True, array_like=True):
    """Nothing yet."""


def measured(log: ScanLog, state: PumpState, therapy: Therapy, report: Report) -> ScanLog:
    """The log after a report's measurements."""
    return log


def happened(log: ScanLog, state: PumpState, therapy: Therapy, event: Event, at: datetime) -> ScanLog:
    """The log after an event that happened at ``at``."""
    return log
