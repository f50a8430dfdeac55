"""Hazards of the refill visit."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from services.emulator import physics
from services.emulator.cohort.hazards.fits import senses, short_cycle, unsensed_short_cycle
from services.emulator.cohort.hazards.kinds import VOLUMES, Kinds, Moment
from services.emulator.cohort.life import DAY, HOUR, Life
from services.emulator.cohort.truth import Severity

KINDS: Final = Kinds()


@KINDS.kind(
    "HZ-14 HZ-09",
    "REF-01",
    also=("THR-07", "RSV-05", "RSV-03", "RSV-04", "REF-04", "DLV-06"),
    lingers=VOLUMES,
    days=45,
    fits=lambda patient: senses(patient) and short_cycle(patient),
)
def pocket_fill(life: Life, moment: Moment) -> None:
    """A part of the refill misses the reservoir: an overdose in the next hours (F-09, F-10)."""

    def missed(at: datetime, full_ml: float) -> None:
        wrong = (1.0 if life.patient.group.reservoir_ml == 20 else 2.0) + life.chance.uniform(0.6, 3.0)
        life.pump = physics.refill(life.pump, at, full_ml, into_pocket_ml=wrong, chance=life.chance)
        moment.then(at).strikes(life, Severity.HIGH, within=HOUR, lasts=30 * HOUR)
        told = at + timedelta(minutes=life.chance.uniform(70, 150))
        life.body(told, physics.report_symptoms, "sleepy")
        # The clinic draws it off, and the computer is told what is really in the reservoir.
        life.plan(at + 5 * HOUR, lambda _: _told_the_truth(life))
        moment.then(told).strikes(
            life,
            Severity.HIGH,
            within=HOUR + life.patient.interval,
            lasts=28 * HOUR,
            rules=("THR-07",),
            name="pocket_fill_symptom",
        )

    life.plan(moment.at, lambda _: life.refill_variants.append(missed))


def _told_the_truth(life: Life) -> None:
    life.pump = replace(life.pump, reservoir_estimated_ml=life.pump.reservoir_true_ml)


@KINDS.kind(
    "HZ-07",
    "REF-02",
    also=("RSV-03", "RSV-04", "RSV-01", "RSV-02", "REF-04", "DLV-08"),
    lingers=VOLUMES,
    days=75,
    fits=unsensed_short_cycle,
)
def over_infusion(life: Life, moment: Moment) -> None:
    """The pump gives a quarter more than its program from one refill to the next; only the syringe shows it (D-01)."""
    _wrong_between_refills(life, moment, 1.25, Severity.HIGH, 10 * DAY)


@KINDS.kind(
    "HZ-08",
    "REF-03",
    also=("RSV-03", "RSV-04", "REF-04", "DLV-08", "THR-07"),
    lingers=VOLUMES,
    days=75,
    fits=unsensed_short_cycle,
)
def under_delivery(life: Life, moment: Moment) -> None:
    """The pump gives a quarter less than its program from one refill to the next."""
    _wrong_between_refills(life, moment, 0.75, Severity.MEDIUM, DAY)


def _wrong_between_refills(life: Life, moment: Moment, ratio: float, severity: Severity, lasts: timedelta) -> None:
    """It gives ``ratio`` times its program; the second refill shows it."""

    def begins(at: datetime, full_ml: float) -> None:
        life.pump = physics.bias(physics.refill(life.pump, at, full_ml, chance=life.chance), at, ratio)
        life.refill_variants.append(ends)

    def ends(at: datetime, full_ml: float) -> None:
        life.pump = physics.bias(physics.refill(life.pump, at, full_ml, chance=life.chance), at, 1.0)
        moment.then(at).strikes(life, severity, within=2 * HOUR, lasts=lasts)

    life.plan(moment.at, lambda _: life.refill_variants.append(begins))
