"""The hazards: what each does to a pump, which ids of hazards.md it covers, which rules must see it, and by when.

One module per family. Deadlines are the catalogue's budgets (rules_catalogue.md A.6): lost delivery must be known at
half the non-delivery budget B, too much of a drug within an hour (F-12), all else within what its rule grants. The
clock of a rule that waits starts at what the pump can tell; so one reporting interval, and where a stall is involved
the detection latency, come on top there, and only there.
"""

from __future__ import annotations

from typing import Final

from services.emulator.cohort.hazards import flow, mri, power, refills, reservoir, stops, surroundings, therapy
from services.emulator.cohort.hazards.kinds import Kind

FAMILIES: Final = (stops, reservoir, refills, flow, mri, power, therapy, surroundings)
KINDS: Final[dict[str, Kind]] = {name: kind for family in FAMILIES for name, kind in family.KINDS.items()}
