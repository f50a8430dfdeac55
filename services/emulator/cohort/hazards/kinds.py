"""What a kind of hazard is, and how one that strikes is entered into the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from services.emulator.cohort.hazards.fits import Fits, anyone
from services.emulator.cohort.life import Life
from services.emulator.cohort.truth import Severity

FIRST_DAY: Final = 16.0
"""Hazards strike from here on: rules with a learned baseline need 14 valid days."""
BUSY_AT_MOST: Final = timedelta(hours=30)
"""Longer hazards do not keep the routine away: refills go on while a pump drifts."""
VOLUMES: Final = ("REF-02", "REF-03", "REF-04", "RSV-01", "RSV-02", "RSV-03", "RSV-04", "RSV-05", "DLV-08")
"""What a wrong volume in the reservoir may still bring at the next refill."""
STILL: Final = ("DLV-09", "DLV-02", "REF-04", "REF-03", "THR-07", "COM-01")
"""What lost delivery may bring beside the rule that saw it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of hazard; ``days`` is how long nothing else may strike the same pump, from its start on."""

    name: str
    covers: tuple[str, ...]
    rules: tuple[str, ...]
    also: tuple[str, ...]
    lingers: tuple[str, ...]
    days: float
    fits: Fits
    inject: Inject
    first_day: float = FIRST_DAY


@dataclass(frozen=True, slots=True)
class Moment:
    """A hazard about to be injected: which kind, and when."""

    kind: Kind
    at: datetime

    def then(self, onset: datetime) -> Moment:
        """The same hazard where only the course of things tells when it begins."""
        return replace(self, at=onset)

    def strikes(
        self,
        life: Life,
        severity: Severity,
        *,
        within: timedelta,
        lasts: timedelta,
        after: timedelta = timedelta(0),
        rules: tuple[str, ...] | None = None,
        name: str = "",
    ) -> None:
        """Enter it into the truth: it begins ``after`` the moment, ``lasts`` so long, and is to be known ``within``."""
        onset = self.at + after
        life.busy(onset, onset + min(lasts, BUSY_AT_MOST))
        life.strike(
            name or self.kind.name,
            self.kind.covers,
            self.kind.rules if rules is None else rules,
            severity,
            onset=onset,
            within=within,
            until=onset + lasts,
            also=(*self.kind.also, *self.kind.rules),
            lingers=self.kind.lingers,
        )


Inject: TypeAlias = Callable[[Life, Moment], None]


class Kinds(dict[str, Kind]):
    """The kinds of one family by name, in the order in which they are written."""

    def kind(
        self,
        covers: str,
        rules: str,
        *,
        also: tuple[str, ...] = (),
        lingers: tuple[str, ...] = (),
        days: float = 4.0,
        fits: Fits = anyone,
        first_day: float = FIRST_DAY,
    ) -> Callable[[Inject], Inject]:
        """Register a function that injects a hazard, under its own name.

        Args:
            covers: Ids of hazards.md, with spaces between them.
            rules: Ids of the rules that must see it, likewise.
            also: Rules that it explains beside those.
            lingers: Rules that it explains until the refill after it, too.
            days: How long nothing else may strike the same pump.
            fits: Whom it can strike.
            first_day: From when on it may strike, in days since the cohort's start.
        """

        def register(inject: Inject) -> Inject:
            name = inject.__name__
            made = Kind(name, tuple(covers.split()), tuple(rules.split()), also, lingers, days, fits, inject, first_day)
            self[name] = made
            return inject

        return register
