"""Clocks, contacts and gaps (COM-02)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from streams.domain.profile import Therapy
from streams.domain.telemetry import Event, Report

if TYPE_CHECKING:
    from streams.domain.world import PumpState


class ContactLog(msgspec.Struct, frozen=True, array_like=True):
    """Nothing yet."""


def measured(log: ContactLog, state: PumpState, therapy: Therapy, report: Report) -> ContactLog:
    """The log after a report's measurements."""
    return log


def happened(log: ContactLog, state: PumpState, therapy: Therapy, event: Event, at: datetime) -> ContactLog:
    """The log after an event that happened at ``at``."""
    return log
