"""Hazards of the environment and of the way that reports take."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from msgspec.structs import replace

from services.emulator import physics
from services.emulator.cohort.hazards.fits import harmed_by_loss
from services.emulator.cohort.hazards.kinds import Kinds, Moment
from services.emulator.cohort.life import DAY, HOUR, MINUTE, Life
from services.emulator.cohort.truth import Severity

KINDS: Final = Kinds()


@KINDS.kind("HZ-12 HZ-01", "TMP-01", first_day=10)
def fever(life: Life, moment: Moment) -> None:
    """A fever of a day and a half."""
    lasts = timedelta(hours=life.chance.uniform(24, 40))
    life.body(moment.at, physics.warm, life.chance.uniform(2.7, 3.3), moment.at + lasts)
    moment.strikes(life, Severity.MEDIUM, within=5 * HOUR + 2 * life.patient.interval, lasts=lasts)


@KINDS.kind("HZ-12 HZ-10", "TMP-01", first_day=10)
def heating(life: Life, moment: Moment) -> None:
    """The pump heats up to more than 41 °C (M-12)."""
    lasts = 8 * max(life.patient.interval, 30 * MINUTE)
    life.body(moment.at, physics.warm, 6.0, moment.at + lasts)
    # The ramp takes a quarter of the time; 41 °C are reached in the latest case at 4.6 of 6 degrees.
    within = lasts / 4 + HOUR + life.patient.interval
    moment.strikes(life, Severity.HIGH, within=within, lasts=lasts + HOUR)


@KINDS.kind("HZ-23", "COM-01 DLV-09", days=6)
def silence(life: Life, moment: Moment) -> None:
    """A gateway without its link for longer than delivery may stay unconfirmed."""
    patient, interval = life.patient, life.patient.interval
    limit = max(12 * HOUR, 24 * interval)
    rules: tuple[str, ...] = ("COM-01",)
    if harmed_by_loss(patient) and interval <= patient.budget / 8:
        limit, rules = min(limit, patient.budget), ("DLV-09", "COM-01")
    elif patient.budget < limit and interval <= patient.budget / 8:
        limit = patient.budget
    lasts = limit + interval + timedelta(hours=life.chance.uniform(0.5, 1.5))
    life.silence(moment.at, moment.at + lasts)
    moment.strikes(life, Severity.MEDIUM, within=limit + MINUTE, lasts=lasts + HOUR, rules=rules[:1])


@KINDS.kind("HZ-23 HZ-13", "COM-02", also=("MRI-02", "MRI-03"), days=5)
def clock_behind(life: Life, moment: Moment) -> None:
    """The pump's clock jumps back by a quarter of an hour to half an hour."""
    _clock_jumps(life, moment, -timedelta(minutes=life.chance.uniform(14, 28)))


@KINDS.kind("HZ-23", "COM-02", also=("COM-01", "DLV-09"), days=5)
def clock_ahead(life: Life, moment: Moment) -> None:
    """The pump's clock jumps ahead by a quarter of an hour."""
    _clock_jumps(life, moment, timedelta(minutes=life.chance.uniform(12, 18)))


def _clock_jumps(life: Life, moment: Moment, by: timedelta) -> None:
    """And back three days later; the offset is learned from 20 contacts."""
    life.shift_clock(moment.at, by)
    life.shift_clock(moment.at + 3 * DAY, -by)
    moment.strikes(life, Severity.MEDIUM, within=22 * life.patient.interval, lasts=4 * DAY)


@KINDS.kind("HZ-23", "COM-02", also=("COM-01", "DLV-09"), days=3)
def reports_lost(life: Life, moment: Moment) -> None:
    """A gateway loses some reports for good; the numbers tell."""
    life.plan(moment.at, lambda _: _lose(life, 4))
    moment.strikes(life, Severity.LOW, within=2 * HOUR + 6 * life.patient.interval, lasts=6 * HOUR)


def _lose(life: Life, count: int) -> None:
    life.pump = replace(life.pump, seq=life.pump.seq + count)
