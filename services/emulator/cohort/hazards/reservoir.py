"""Hazards of the reservoir between refills."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from services.emulator import physics
from services.emulator.cohort.hazards.acts import midnight
from services.emulator.cohort.hazards.fits import active, cycle_days, senses, short_cycle, unsensed_short_cycle
from services.emulator.cohort.hazards.kinds import VOLUMES, Kinds, Moment
from services.emulator.cohort.life import DAY, HOUR, Life
from services.emulator.cohort.patients import Patient
from services.emulator.cohort.truth import Severity

KINDS: Final = Kinds()
_NEVER_REFILLED: Final = ("RSV-01", "RSV-02", "RSV-03", "RSV-04", "DLV-09", "REF-03", "REF-04")


@KINDS.kind("HZ-03 HZ-04", "RSV-04", also=_NEVER_REFILLED, days=45, fits=short_cycle)
def refill_missed(life: Life, moment: Moment) -> None:
    """The booked day passes without the patient; the refill comes two days later."""

    def missed(at: datetime) -> None:
        passed = midnight(at) + DAY
        moment.then(passed).strikes(life, Severity.MEDIUM, within=26 * HOUR, lasts=46 * HOUR)
        life.plan(passed + 42 * HOUR, life.visit)

    life.plan(moment.at, lambda _: life.instead_of_visit.append(missed))


def _soon_empty(patient: Patient) -> bool:
    return unsensed_short_cycle(patient) and patient.build.flow_ml_per_day >= 0.4


def _nearly_empty(life: Life) -> timedelta:
    """How long it may take until the pump is empty, and what follows of that."""
    return timedelta(days=1.3 * life.pump.reservoir_estimated_ml / life.pump.program.mean_ml_per_day + 2)


@KINDS.kind("HZ-01 HZ-03 HZ-04", "RSV-04 RSV-01", also=_NEVER_REFILLED, days=60, fits=_soon_empty)
def runs_empty(life: Life, moment: Moment) -> None:
    """Nobody refills the pump until it is empty."""

    def missed(at: datetime) -> None:
        passed = midnight(at) + DAY
        lasts = _nearly_empty(life)
        moment.then(passed).strikes(life, Severity.MEDIUM, within=26 * HOUR, lasts=lasts, rules=("RSV-04",))
        low = life.patient.therapy.low_reservoir_ml
        life.below(low, reached)
        life.below(0.5, empty)

    def reached(at: datetime) -> None:
        # Somebody was paged for the missed visit already; the rule must see it, but need not page again.
        lasts = _nearly_empty(life)
        within = max(HOUR, 3 * life.patient.interval)
        moment.then(at).strikes(life, Severity.LOW, within=within, lasts=lasts, rules=("RSV-01",), name="reservoir_low")

    def empty(at: datetime) -> None:
        late = min(timedelta(hours=4), life.patient.budget / 2)
        within = life.patient.budget / 2
        moment.then(at).strikes(
            life, life.loss(), within=within, lasts=late + HOUR, rules=("RSV-02",), name="reservoir_empty"
        )
        life.plan(at + late, life.visit)

    life.plan(moment.at, lambda _: life.instead_of_visit.append(missed))


@KINDS.kind("HZ-03", "RSV-03", also=_NEVER_REFILLED, days=70, fits=lambda p: active(p) and 18 <= cycle_days(p) <= 34)
def nothing_booked(life: Life, moment: Moment) -> None:
    """After a refill nobody books the next one until a few days before the limit."""

    def forgotten(at: datetime, full_ml: float) -> None:
        life.pump = physics.refill(life.pump, at, full_ml, chance=life.chance)
        life.books = False
        limit, full = life.patient.therapy.low_reservoir_ml, life.pump.reservoir_estimated_ml
        per_day = (full - limit) / life.worst_case_days()
        life.below(limit + 14.6 * per_day, unplanned)
        life.below(limit + 8.0 * per_day, urgent)
        life.below(limit + 4.0 * per_day, book)

    def unplanned(at: datetime) -> None:
        moment.then(at).strikes(life, Severity.LOW, within=2 * DAY, lasts=12 * DAY, name="nothing_booked_yet")

    def urgent(at: datetime) -> None:
        # A worst-case day lasts up to 1.35 days where no bolus is asked for.
        moment.then(at).strikes(life, Severity.MEDIUM, within=2 * DAY, lasts=6 * DAY)

    def book(at: datetime) -> None:
        life.books = True
        life.book(at, after_days=1)

    life.plan(moment.at, lambda _: life.refill_variants.append(forgotten))


@KINDS.kind("HZ-07 HZ-09", "RSV-05", also=("DLV-06", "DLV-08"), lingers=VOLUMES, fits=senses)
def dumped(life: Life, moment: Moment) -> None:
    """A part of the reservoir leaves for the patient at once (air in the reservoir, F-16)."""
    volume = life.chance.uniform(1.0, 1.6)
    life.body(moment.at, physics.dump, volume)
    within = max(HOUR, 2 * life.patient.interval)
    moment.strikes(life, Severity.HIGH, within=within, lasts=26 * HOUR)


@KINDS.kind("HZ-13", "RSV-05", also=("RSV-03", "RSV-04"), lingers=VOLUMES, fits=active)
def filled_elsewhere(life: Life, moment: Moment) -> None:
    """Another clinic fills the pump up, and nobody records it."""
    if life.pump.build.reservoir_ml - life.patient.full_ml < 1.0:
        return
    life.body(moment.at, physics.top_up, 1.9)
    moment.strikes(life, Severity.LOW, within=3 * HOUR + life.patient.interval, lasts=6 * HOUR)
