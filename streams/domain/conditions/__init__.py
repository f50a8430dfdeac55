"""The named conditions that rule files may use; adding one means adding it here."""

from __future__ import annotations

from typing import Final

from streams.domain.conditions import communication, delivery, mri, reservoir
from streams.domain.rule import Named

CONDITIONS: Final[dict[str, Named]] = {
    **communication.CONDITIONS,
    **delivery.CONDITIONS,
    **mri.CONDITIONS,
    **reservoir.CONDITIONS,
}
