"""Reservoir levels: what predicted dates and unexplained steps are judged by (RSV-03 to RSV-05)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from streams.domain.profile import Therapy
from streams.domain.telemetry import Event, Report

if TYPE_CHECKING:
    from streams.domain.world import PumpState


class LevelLog(msgspec.Struct, frozen=True, array_like=True):
    """Nothing yet."""


def measured(log: LevelLog, state: PumpState, therapy: Therapy, report: Report) -> LevelLog:
    """The log after a report's measurements."""
    return log


def happened(log: LevelLog, state: PumpState, therapy: Therapy, event: Event, at: datetime) -> LevelLog:
    """The log after an event that happened at ``at``."""
    return log
