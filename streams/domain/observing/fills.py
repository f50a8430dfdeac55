"""Refills: what was put in, what should have been left, what is measured after (REF-01 to REF-04)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from streams.domain.profile import Therapy
from streams.domain.telemetry import Event, Report

if TYPE_CHECKING:
    from streams.domain.world import PumpState


class FillLog(msgspec.Struct, frozen=True, array_like=True):
    """Nothing yet."""


def measured(log: FillLog, state: PumpState, therapy: Therapy, report: Report) -> FillLog:
    """The log after a report's measurements."""
    return log


def happened(log: FillLog, state: PumpState, therapy: Therapy, event: Event, at: datetime) -> FillLog:
    """The log after an event that happened at ``at``."""
    return log
