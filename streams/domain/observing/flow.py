"""Delivered against programmed volume, and the programmed rate (DLV-03 to DLV-08)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from streams.domain.profile import Therapy
from streams.domain.telemetry import Event, Report

if TYPE_CHECKING:
    from streams.domain.world import PumpState


class FlowLog(msgspec.Struct, frozen=True, array_like=True):
    """Nothing yet."""


def measured(log: FlowLog, state: PumpState, therapy: Therapy, report: Report) -> FlowLog:
    """The log after a report's measurements."""
    return log


def happened(log: FlowLog, state: PumpState, therapy: Therapy, event: Event, at: datetime) -> FlowLog:
    """The log after an event that happened at ``at``."""
    return log
