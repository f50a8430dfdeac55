"""Slow drift of delivery: a two-sided CUSUM over the site's days, or over refills where a pump senses no volume.

A sum grows by how far a value lies beyond `SLACK` from the pump's own usual one; what a person resolved or reviewed
starts anew at zero. Source: rules_catalogue.md DLV-08.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from streams.domain.care import CareKind, CareRecord
from streams.domain.observing.fills import LEAST_PROGRAMMED_ML, Outcome
from streams.domain.profile import Therapy

if TYPE_CHECKING:
    from streams.domain.world import PumpState

LEARNING_DAYS: Final = 14
MOST_USUAL_BIAS: Final = 0.05
LEAST_SPREAD: Final = 0.03
REFILL_SPREAD: Final = 0.05
CLIPPED: Final = 3.0
SLACK: Final = 0.5
LEAST_OF_A_DAY_ML: Final = 0.05
ROUNDING_ML: Final = 1e-6
LEAST_OF_A_DAY: Final = timedelta(hours=12)
KEPT_DAYS: Final = 7
DRIFT_RULE: Final = "DLV-08"

Point = tuple[datetime, float, float]
"""Event time, and the cumulative programmed and delivered volume in mL."""


class Sums(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The two sums, and for how many values in a row each side has been quiet."""

    up: float = 0.0
    down: float = 0.0
    quiet_up: int = 0
    quiet_down: int = 0

    def add(self, value: float, usual: float, spread: float) -> Sums:
        """The sums after one more value."""
        z = min(max((value - usual) / spread, -CLIPPED), CLIPPED)
        return Sums(
            max(0.0, self.up + z - SLACK),
            max(0.0, self.down - z - SLACK),
            self.quiet_up + 1 if z <= SLACK else 0,
            self.quiet_down + 1 if -z <= SLACK else 0,
        )


class Drift(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Delivered over programmed volume minus 1, by days of the site.

    ``opened`` is the first volume of the running day, which ends at ``ends_at``; a ``spoiled`` day does not count.
    ``learning`` are the first valid days, until ``usual`` and ``spread`` are known. ``at`` is when the newest valid day
    was complete, ``newest`` its value and those before it. ``reviewed_at`` is the newest review taken into account.
    """

    opened: Point
    ends_at: datetime
    spoiled: bool = False
    learning: tuple[float, ...] = ()
    usual: float | None = None
    spread: float = LEAST_SPREAD
    sums: Sums = Sums()
    newest: tuple[float, ...] = ()
    at: datetime | None = None
    reviewed_at: datetime | None = None


class RefillDrift(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The same over refills; ``at`` is the newest one that counted."""

    at: datetime
    sums: Sums = Sums()
    reviewed_at: datetime | None = None


def measured(drift: Drift | None, therapy: Therapy, point: Point, *, running: bool, continued: bool) -> Drift:
    """The drift after a volume; ``continued`` says that it goes on from the one before."""
    at = point[0]
    if drift is None:
        return Drift(point, _day_ends_at(at, therapy), spoiled=not running)
    if continued and at < drift.ends_at:
        return replace(drift, spoiled=True) if not running and not drift.spoiled else drift
    if continued:
        drift = _day_done(_reviewed(drift, therapy), point)
    return replace(drift, opened=point, ends_at=_day_ends_at(at, therapy), spoiled=not running)


def spoiled(drift: Drift | None, at: datetime) -> Drift | None:
    """The drift when something at ``at`` makes the running day's volumes no measure of accuracy."""
    if drift is None or drift.spoiled or at < drift.opened[0]:
        return drift
    return replace(drift, spoiled=True)


def restarted(drift: Drift | None) -> Drift | None:
    """The drift with its sums at zero."""
    return None if drift is None else replace(drift, sums=Sums())


def refills_restarted(drift: RefillDrift | None) -> RefillDrift | None:
    """The same over refills."""
    return None if drift is None else replace(drift, sums=Sums())


def newest_review(therapy: Therapy) -> CareRecord | None:
    """The newest review of this rule in force: what came before it was looked at by a person."""
    reviews = (record for record in therapy.of_kind(CareKind.REVIEW) if record.rule_id == DRIFT_RULE)
    return max(reviews, key=lambda record: record.valid_from, default=None)


def refilled(drift: RefillDrift | None, state: PumpState, therapy: Therapy, outcome: Outcome) -> RefillDrift | None:
    """The drift over refills after one more refill; the same where it says nothing.

    A stall before it explains a residual, and under 2 mL the syringe's own error is larger than any drift (D-03).
    """
    if outcome.programmed_ml < LEAST_PROGRAMMED_ML or _stalled(state, outcome.at):
        return drift
    drift, review = drift or RefillDrift(outcome.at), newest_review(therapy)
    if review is not None and (drift.reviewed_at is None or review.valid_from > drift.reviewed_at):
        drift = replace(drift, sums=Sums(), reviewed_at=review.valid_from)
    return replace(drift, sums=drift.sums.add(outcome.ratio - 1.0, 0.0, REFILL_SPREAD), at=outcome.at)


def _stalled(state: PumpState, refilled_at: datetime) -> bool:
    """Whether the motor stood still during the filling that ended with the refill at ``refilled_at``."""
    before = max((refill.at for refill in state.refills if refill.at < refilled_at), default=None)
    return any(
        stall.start <= refilled_at and (before is None or stall.end is None or stall.end >= before)
        for stall in state.stalls
    )


def _day_ends_at(at: datetime, therapy: Therapy) -> datetime:
    return therapy.midnight(at.astimezone(therapy.zone).date() + timedelta(days=1))


def _reviewed(drift: Drift, therapy: Therapy) -> Drift:
    review = newest_review(therapy) if therapy.care else None
    if review is None or (drift.reviewed_at is not None and review.valid_from <= drift.reviewed_at):
        return drift
    return replace(drift, sums=Sums(), newest=(), reviewed_at=review.valid_from)


def _day_done(drift: Drift, point: Point) -> Drift:
    """A day is over with the first volume of the next one; if that is days later, nobody knows whose flow it was."""
    at, programmed_ml, delivered_ml = point
    opened_at, programmed_before, delivered_before = drift.opened
    wanted = programmed_ml - programmed_before
    whole = at < drift.ends_at + timedelta(days=1) and at - opened_at >= LEAST_OF_A_DAY
    if drift.spoiled or not whole or wanted < LEAST_OF_A_DAY_ML - ROUNDING_ML:
        return drift
    value = (delivered_ml - delivered_before) / wanted - 1.0
    newest = (*drift.newest, value)[-KEPT_DAYS:]
    if drift.usual is not None:
        return replace(drift, sums=drift.sums.add(value, drift.usual, drift.spread), newest=newest, at=at)
    learning = (*drift.learning, value)
    if len(learning) < LEARNING_DAYS:
        return replace(drift, learning=learning, newest=newest, at=at)
    usual, spread = _learned(learning)
    return replace(drift, learning=(), usual=usual, spread=spread, newest=newest, at=at)


def _learned(values: tuple[float, ...]) -> tuple[float, float]:
    middle = median(values)
    spread = 1.4826 * median(abs(value - middle) for value in values)
    return min(max(middle, -MOST_USUAL_BIAS), MOST_USUAL_BIAS), max(spread, LEAST_SPREAD)
