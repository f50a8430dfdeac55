"""Who is on call when: shifts, and the moments that none covers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, order=True)
class Shift:
    """Somebody is on call from ``starts_at`` (inclusive) to ``ends_at`` (exclusive); service time, aware UTC."""

    starts_at: datetime
    ends_at: datetime


def uncovered_at(shifts: Iterable[Shift], since: datetime, until: datetime) -> datetime | None:
    """The first moment from ``since`` to ``until``, both inclusive, at which nobody has a shift; None when all have.

    Shifts that touch leave nothing open between them.
    """
    covered_to = since
    for shift in sorted(shifts):
        if shift.starts_at > covered_to:
            break
        covered_to = max(covered_to, shift.ends_at)
    return covered_to if covered_to <= until else None
