"""Ground truth: what was done to a pump, from when on, and by when a person must know."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

AFTERMATH: Final = timedelta(hours=24)
"""How long after a hazard's end what it caused is still put down to it: late reports, a recovery noticed late."""


class Severity(StrEnum):
    """How soon a person must act on a hazard: the priority that its page needs at least; low ones need no page."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Hazard(msgspec.Struct, frozen=True, kw_only=True):
    """One injected hazard. All times are true (service) time, whatever the pump's own clock says.

    ``covers`` are the ids of hazards.md, ``rules`` those that must see it, ``also`` those that may (consequences that
    the catalogue asks for). ``know_by`` is inclusive. From ``onset`` to ``until`` plus `AFTERMATH` (both inclusive), a
    page of ``rules`` or ``also`` is put down to it. What only shows at the next refill (``lingers``) is put down to it
    up to ``lingers_until``. ``held_back``: the deadline was moved because no gateway could pass anything on.
    """

    hazard_id: str
    kind: str
    pump_id: str
    covers: tuple[str, ...]
    rules: tuple[str, ...]
    also: tuple[str, ...] = ()
    severity: Severity
    onset: datetime
    know_by: datetime
    until: datetime
    lingers: tuple[str, ...] = ()
    lingers_until: datetime | None = None
    held_back: bool = False

    def explains(self, rule_id: str, at: datetime) -> bool:
        """Whether a page of this rule at this (service) time is put down to the hazard."""
        if at < self.onset:
            return False
        if (rule_id in self.rules or rule_id in self.also) and at <= self.until + AFTERMATH:
            return True
        return rule_id in self.lingers and self.lingers_until is not None and at <= self.lingers_until + AFTERMATH


class Outage(msgspec.Struct, frozen=True, array_like=True):
    """A time in which a pump's gateway could pass nothing on: [lost, back)."""

    lost: datetime
    back: datetime


def fair(hazard: Hazard, outages: tuple[Outage, ...], slack: timedelta) -> Hazard:
    """The hazard with a deadline that could be met.

    Nobody can know what no gateway passes on: where an outage reaches into [onset, know_by], the deadline is at least
    its end plus ``slack``. The outage itself is judged as a hazard of its own when it outlasts the patient's budget.
    """
    know_by = hazard.know_by
    for outage in outages:
        if outage.lost <= know_by and hazard.onset < outage.back:
            know_by = max(know_by, outage.back + slack)
    return msgspec.structs.replace(hazard, know_by=know_by, held_back=know_by > hazard.know_by)
