"""The named conditions that rule files may use; adding one means adding it here."""

from __future__ import annotations

from typing import Final

from streams.domain.conditions import communication, delivery, mri, reservoir
from streams.domain.rule import Condition

CONDITIONS: Final[dict[str, Condition]] = {
    "communication.silent_for": communication.silent_for,
    "delivery.motor_stalled": delivery.motor_stalled,
    "delivery.not_confirmed": delivery.not_confirmed,
    "mri.recovery_overdue": mri.recovery_overdue,
    "mri.stall_expected": mri.stall_expected,
    "reservoir.at_most": reservoir.at_most,
    "reservoir.empty": reservoir.empty,
}
