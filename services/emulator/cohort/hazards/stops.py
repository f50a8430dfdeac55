"""Hazards by which delivery stops."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from services.emulator import physics
from services.emulator.cohort.hazards.acts import mended_in_session
from services.emulator.cohort.hazards.fits import active, harmed_unseen, rotor, rotor_and_harmed
from services.emulator.cohort.hazards.kinds import STILL, Kinds, Moment
from services.emulator.cohort.life import DAY, HOUR, MINUTE, Life
from services.emulator.cohort.truth import Severity
from services.emulator.physics import constant

KINDS: Final = Kinds()


@KINDS.kind("HZ-01 HZ-04 HZ-05", "DLV-01", also=STILL, fits=rotor)
def motor_stall(life: Life, moment: Moment) -> None:
    """The rotor stands still for some hours and then turns again by itself."""
    lasts = timedelta(hours=life.chance.uniform(1.2, 5.5))
    life.body(moment.at, physics.stall)
    life.body(moment.at + lasts, physics.recover)
    moment.strikes(life, life.loss(), within=life.patient.budget / 2, lasts=lasts + HOUR)


@KINDS.kind("HZ-01 HZ-05 HZ-22", "DLV-01", also=STILL, fits=rotor_and_harmed)
def resumption(life: Life, moment: Moment) -> None:
    """A stall of more than half a day: when it ends, tolerance is lost (F-14); somebody must observe the patient."""
    lasts = timedelta(hours=life.chance.uniform(14, 20))
    life.body(moment.at, physics.stall)
    life.body(moment.at + lasts, physics.recover)
    moment.strikes(life, Severity.HIGH, within=life.patient.budget / 2, lasts=lasts + HOUR)
    seen = HOUR + life.patient.build.detection + life.patient.interval
    moment.strikes(
        life, Severity.HIGH, within=seen, lasts=26 * HOUR, after=lasts, rules=("REF-04",), name="resumption_observed"
    )


@KINDS.kind("HZ-01 HZ-05 HZ-10", "DLV-01 DLV-02", also=(*STILL, "EMI-01"), days=6, fits=rotor_and_harmed)
def stall_burden(life: Life, moment: Moment) -> None:
    """Three stalls, each over before long, none of them alone a catastrophe (F-04)."""
    gap, stalls = timedelta(hours=life.chance.uniform(6, 9)), 3
    short = life.patient.build.detection + life.patient.interval + 10 * MINUTE
    for number in range(stalls):
        life.body(moment.at + number * gap, physics.stall)
        life.body(moment.at + number * gap + short, physics.recover)
    lasts = (stalls - 1) * gap + short + HOUR
    half = life.patient.budget / 2
    moment.strikes(life, Severity.HIGH, within=half, lasts=lasts, rules=("DLV-01",))
    # Drug and length of the stalls decide which of them is one too many: the third one at the latest.
    within = (stalls - 1) * gap + half
    moment.strikes(life, Severity.MEDIUM, within=within, lasts=lasts, rules=("DLV-02",), name="stall_burden_complete")


@KINDS.kind("HZ-01 HZ-06", "DLV-03", also=(*STILL, "DLV-05", "THR-01", "THR-02"), fits=rotor_and_harmed)
def pump_stopped(life: Life, moment: Moment) -> None:
    """Somebody stops the pump and nobody planned it: HIGH after at most half the budget."""
    due = min(4 * HOUR, life.patient.budget / 2) + life.patient.interval
    lasts = due + timedelta(hours=life.chance.uniform(0.5, 1.5))
    life.body(moment.at, physics.stop)
    life.body(moment.at + lasts, physics.start)
    moment.strikes(life, Severity.HIGH, within=due, lasts=lasts + HOUR)


@KINDS.kind("HZ-20", "DLV-03", also=(*STILL, "DLV-05", "THR-01", "THR-02", "PWR-02"), days=6)
def stopped_for_long(life: Life, moment: Moment) -> None:
    """Stopped for more than 48 hours: whatever the drug, the pump itself is at risk; a plan ends at 24 hours."""
    lasts = timedelta(hours=life.chance.uniform(49, 54))
    life.body(moment.at, physics.stop)
    life.body(moment.at + lasts, physics.start)
    moment.strikes(life, Severity.HIGH, within=DAY + life.patient.interval, lasts=lasts + 25 * HOUR)


@KINDS.kind("HZ-01 HZ-05 HZ-19", "DLV-04", also=(*STILL, "DLV-05", "THR-01", "THR-02", "PWR-02", "DLV-07"), fits=active)
def critical_memory_error(life: Life, moment: Moment) -> None:
    """A memory error puts the pump in its safe state: minimum rate until somebody programs it anew (A-11)."""
    program, lasts = life.pump.program, timedelta(hours=life.chance.uniform(2, 5))
    safe = constant(physics.MINIMUM_RATE_ML_PER_DAY, "safe")
    life.body(moment.at, physics.fail, "critical_memory_error", "safe_state")
    life.body(moment.at, physics.reprogram, safe, logged=False)
    mended_in_session(life, moment.at, lasts, program)
    moment.strikes(life, Severity.HIGH, within=life.patient.budget / 2, lasts=lasts + HOUR)


@KINDS.kind(
    "HZ-05 HZ-06 HZ-18", "DLV-04 PWR-02", also=(*STILL, "DLV-05", "DLV-07", "THR-01", "THR-02", "COM-02"), fits=active
)
def battery_reset(life: Life, moment: Moment) -> None:
    """A low battery resets the pump: a new boot with a default program (A-08)."""
    lasts = timedelta(hours=life.chance.uniform(2, 5))
    mended_in_session(life, moment.at, lasts)
    life.body(moment.at, physics.fail, "battery_reset")
    life.body(moment.at, physics.reset, default_program=True)
    moment.strikes(life, Severity.HIGH, within=life.patient.budget / 2, lasts=lasts + HOUR)


@KINDS.kind("HZ-01 HZ-06", "DLV-05", also=(*STILL, "THR-01", "THR-02", "DLV-07"), fits=active)
def minimum_rate(life: Life, moment: Moment) -> None:
    """The pump runs at its minimum although more is prescribed, and says nothing of it."""
    lasts = timedelta(hours=life.chance.uniform(3, 5))

    def fall(at: datetime) -> None:
        minimum = constant(physics.MINIMUM_RATE_ML_PER_DAY, life.pump.program.checksum)
        life.pump = physics.reprogram(life.pump, at, minimum, logged=False)

    mended_in_session(life, moment.at, lasts)
    life.plan(moment.at, fall)
    within = life.patient.budget / 2 + life.patient.interval
    moment.strikes(life, life.loss(), within=within, lasts=lasts + HOUR)


@KINDS.kind("HZ-01 HZ-23", "DLV-09", also=STILL, fits=harmed_unseen)
def motor_unreadable(life: Life, moment: Moment) -> None:
    """The gateway goes on reporting, but not what the motor does."""
    due = life.patient.budget / 2 + life.patient.interval
    lasts = due + timedelta(hours=life.chance.uniform(0.5, 1.0))
    life.plan(moment.at, lambda _: _unreadable(life, on=True))
    life.plan(moment.at + lasts, lambda _: _unreadable(life, on=False))
    moment.strikes(life, Severity.HIGH, within=due, lasts=lasts + HOUR)


def _unreadable(life: Life, *, on: bool) -> None:
    life.pump = replace(life.pump, motor_unreadable=on)
