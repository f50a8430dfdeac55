"""The named conditions that rule files may use; adding one means adding it to its family's ``CONDITIONS``."""

from __future__ import annotations

from typing import Final

from streams.domain.conditions import (
    communication,
    delivery,
    environment,
    interference,
    mri,
    power,
    refill,
    reservoir,
    scan_safety,
    therapy,
)
from streams.domain.rule import Named

CONDITIONS: Final[dict[str, Named]] = {
    **communication.CONDITIONS,
    **delivery.CONDITIONS,
    **environment.CONDITIONS,
    **interference.CONDITIONS,
    **mri.CONDITIONS,
    **power.CONDITIONS,
    **refill.CONDITIONS,
    **reservoir.CONDITIONS,
    **scan_safety.CONDITIONS,
    **therapy.CONDITIONS,
}
