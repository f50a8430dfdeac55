"""Hazards by which a pump that runs gives too much or too little."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from services.emulator import physics
from services.emulator.cohort.hazards.fits import senses
from services.emulator.cohort.hazards.kinds import VOLUMES, Kinds, Moment
from services.emulator.cohort.life import DAY, HOUR, Life
from services.emulator.cohort.truth import Severity

KINDS: Final = Kinds()


def _window(life: Life) -> timedelta:
    """Rule DLV-06's window: the time for 0.05 mL programmed, between one hour and a day."""
    days = 0.05 / max(life.pump.program.mean_ml_per_day, 1e-9)
    return min(max(timedelta(days=days), HOUR), DAY)


@KINDS.kind(
    "HZ-07 HZ-09", "DLV-06", also=("RSV-05", "DLV-08", "RSV-03", "RSV-04"), lingers=VOLUMES, days=8, fits=senses
)
def fast_over_delivery(life: Life, moment: Moment) -> None:
    """The pump suddenly gives three times its program (F-11)."""
    window = _window(life)
    lasts = window + timedelta(hours=life.chance.uniform(2, 5))
    life.body(moment.at, physics.bias, 3.0)
    life.body(moment.at + lasts, physics.bias, 1.0)
    moment.strikes(life, Severity.HIGH, within=window + 2 * life.patient.interval, lasts=lasts + 2 * DAY)


@KINDS.kind("HZ-08 HZ-01", "DLV-07", also=("DLV-08", "DLV-09"), lingers=VOLUMES, days=8, fits=senses)
def fast_under_delivery(life: Life, moment: Moment) -> None:
    """The motor turns, but a fifth of the drug comes out: two windows of the rule, and one for where they begin."""
    within = 3 * _window(life) + 2 * life.patient.interval
    lasts = within + timedelta(hours=life.chance.uniform(1, 3))
    life.body(moment.at, physics.bias, 0.2)
    life.body(moment.at + lasts, physics.bias, 1.0)
    moment.strikes(life, Severity.MEDIUM, within=within, lasts=lasts + 2 * DAY)


@KINDS.kind("HZ-07 HZ-08", "DLV-08", also=("REF-02", "REF-03"), lingers=VOLUMES, days=18, fits=senses, first_day=20)
def slow_drift(life: Life, moment: Moment) -> None:
    """The pump begins to give a tenth more, or less: neither a refill nor a fast window shows it soon."""
    life.body(moment.at, physics.bias, life.chance.choice((0.89, 1.11)))
    life.body(moment.at + 14 * DAY, physics.bias, 1.0)
    moment.strikes(life, Severity.MEDIUM, within=9 * DAY, lasts=17 * DAY)
