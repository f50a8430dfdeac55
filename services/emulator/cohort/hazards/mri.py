"""Hazards of MRI and of interference."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from services.emulator import physics
from services.emulator.cohort.hazards.acts import in_session
from services.emulator.cohort.hazards.fits import active, family, rotor, rotor_and_harmed, valves
from services.emulator.cohort.hazards.kinds import STILL, VOLUMES, Kinds, Moment
from services.emulator.cohort.life import DAY, HOUR, MINUTE, Life
from services.emulator.cohort.truth import Severity
from streams.domain.profile import Family

KINDS: Final = Kinds()


_AFTER_MRI: Final = ("MRI-01", "MRI-02", "MRI-03", "MRI-04", "MRI-06", "DLV-01", "TMP-01", *STILL)


def _scanned(life: Life, at: datetime, minutes: float, back: timedelta, *, declared: bool = True) -> datetime:
    """An MRI of so many minutes after which the rotor follows after ``back``; returns when the patient left it."""
    left = at + timedelta(minutes=minutes)
    by = "radiology" if declared else None
    life.body(at, physics.enter_mri, by, clinic=declared)
    life.body(left, physics.leave_mri, by, life.chance, back, clinic=declared)
    return left


@KINDS.kind("HZ-11 HZ-01", "MRI-02", also=_AFTER_MRI, fits=rotor_and_harmed)
def mri_recovery_overdue(life: Life, moment: Moment) -> None:
    """The rotor stays bound for hours after the scan (M-02)."""
    minutes = life.chance.uniform(20, 50)
    half, latency = life.patient.budget / 2, life.patient.interval + life.patient.build.detection
    due = min(timedelta(minutes=minutes) + 2 * HOUR, half) + latency
    back = due + timedelta(hours=life.chance.uniform(0.5, 1.5))
    left = _scanned(life, moment.at, minutes, back)
    life.body(left + 25 * MINUTE, physics.interrogate, clinic=True)
    life.body(left + back + 40 * MINUTE, physics.interrogate, clinic=True)
    moment.strikes(life, Severity.HIGH, within=due, lasts=timedelta(minutes=minutes) + back + 2 * HOUR)


@KINDS.kind("HZ-11", "MRI-02", also=_AFTER_MRI, fits=rotor_and_harmed)
def mri_log_late(life: Life, moment: Moment) -> None:
    """The rotor recovers, but only a second interrogation shows it (M-03): somebody must be asked for one."""
    left = _scanned(life, moment.at, 30, 8 * MINUTE)
    life.body(moment.at, lambda pump, _: replace(pump, log_held=2))
    life.body(left + 22 * MINUTE, physics.interrogate, clinic=True)
    life.body(left + 55 * MINUTE, physics.interrogate, clinic=True)
    moment.strikes(life, Severity.MEDIUM, within=65 * MINUTE + life.patient.interval, lasts=3 * HOUR)


@KINDS.kind("HZ-11 HZ-19", "MRI-03", also=_AFTER_MRI, fits=rotor)
def mri_not_interrogated(life: Life, moment: Moment) -> None:
    """The rotor recovers, and nobody interrogates the pump for most of an hour."""
    left = _scanned(life, moment.at, 25, 5 * MINUTE)
    life.body(left + 75 * MINUTE, physics.interrogate, clinic=True)
    moment.strikes(life, Severity.MEDIUM, within=60 * MINUTE + life.patient.interval, lasts=3 * HOUR)


@KINDS.kind(
    "HZ-11 HZ-01 HZ-13",
    "MRI-04",
    also=(*_AFTER_MRI, "DLV-04", "DLV-03"),
    fits=lambda patient: rotor(patient) and patient.profile.family is Family.SYNCHROMED_II and active(patient),
)
def mri_trap(life: Life, moment: Moment) -> None:
    """An alarm sounds when the patient enters the scanner: delivery stays off until somebody interrogates (M-05)."""
    life.body(moment.at - HOUR, physics.fail, "memory_error")
    left = _scanned(life, moment.at, 30, 10 * MINUTE)
    freed = left + timedelta(hours=life.chance.uniform(2, 4))
    life.body(freed, physics.interrogate, clinic=True)
    life.body(freed, physics.mended)
    life.strike(
        "memory_error",
        ("HZ-05",),
        ("DLV-04",),
        Severity.LOW,
        onset=moment.at - HOUR,
        within=2 * life.patient.interval,
        until=freed,
        also=_AFTER_MRI,
    )
    moment.strikes(life, Severity.HIGH, within=life.patient.budget / 2, lasts=freed - moment.at + 2 * HOUR)


@KINDS.kind("HZ-13 HZ-01 HZ-10", "MRI-04", also=(*_AFTER_MRI, "DLV-03", "EMI-01"), fits=rotor_and_harmed)
def telemetry_mode(life: Life, moment: Moment) -> None:
    """Interference traps the pump in telemetry mode far from any scanner and any programmer."""
    lasts = timedelta(hours=life.chance.uniform(2, 5))
    life.body(moment.at, physics.trap)
    life.body(moment.at, physics.interfere, "strong")
    life.body(moment.at + lasts, physics.interrogate, clinic=True)
    moment.strikes(life, Severity.HIGH, within=life.patient.budget / 2, lasts=lasts + HOUR)


@KINDS.kind("HZ-11 HZ-10 HZ-01", "DLV-01", also=(*_AFTER_MRI, "EMI-01"), fits=rotor_and_harmed)
def mri_undeclared(life: Life, moment: Moment) -> None:
    """A scan that nobody declares, and a rotor that takes two hours."""
    left = _scanned(life, moment.at, 40, 2 * HOUR, declared=False)
    life.body(left + 3 * HOUR, physics.interrogate, clinic=True)
    moment.strikes(life, Severity.HIGH, within=life.patient.budget / 2, lasts=5 * HOUR)


@KINDS.kind(
    "HZ-11 HZ-09",
    "MRI-05",
    also=("RSV-05", "RSV-01", "RSV-02", "DLV-06", "DLV-07", "DLV-09", "REF-01", "REF-04", "RSV-03", "RSV-04"),
    lingers=VOLUMES,
    days=6,
    fits=valves,
)
def prometra_not_emptied(life: Life, moment: Moment) -> None:
    """A valve-gated pump enters the scanner full (M-08)."""
    life.body(moment.at, physics.enter_mri, "radiology", clinic=True)
    life.body(moment.at + 30 * MINUTE, physics.leave_mri, "radiology", life.chance, clinic=True)
    life.body(moment.at + 50 * MINUTE, physics.reset_valve, clinic=True)
    in_session(life, moment.at + 3 * HOUR, lambda at, _: _fill(life, at), delay=MINUTE)
    moment.strikes(life, Severity.HIGH, within=30 * MINUTE, lasts=28 * HOUR)


def _fill(life: Life, at: datetime) -> None:
    life.pump = physics.refill(life.pump, at, life.patient.full_ml)


@KINDS.kind(
    "HZ-11 HZ-01",
    "MRI-05",
    also=("RSV-01", "RSV-02", "RSV-03", "RSV-04", "RSV-05", "DLV-07", "DLV-09", "REF-01", "REF-04", "DLV-03"),
    lingers=VOLUMES,
    days=6,
    fits=family(Family.PROMETRA_II),
)
def prometra_not_reset(life: Life, moment: Moment) -> None:
    """Emptied as it should be, but after the scan nobody opens the valve again (M-10)."""
    empty = moment.at - 20 * MINUTE

    def drain(at: datetime) -> None:
        life.pump = physics.refill(life.pump, at, 0.0)

    life.plan(empty, drain, clinic=True)
    life.body(moment.at, physics.enter_mri, "radiology", clinic=True)
    left = moment.at + 30 * MINUTE
    life.body(left, physics.leave_mri, "radiology", life.chance, clinic=True)
    life.plan(left + 10 * MINUTE, lambda at: _fill(life, at), clinic=True)
    reset = left + timedelta(hours=life.chance.uniform(2, 4))
    life.body(reset, physics.reset_valve, clinic=True)
    life.strike(
        "prometra_emptied",
        ("HZ-11",),
        (),
        Severity.LOW,
        onset=empty,
        within=DAY,
        until=left + HOUR,
        also=("RSV-02", "RSV-01", "RSV-03", "RSV-04", "DLV-09", "MRI-05"),
    )
    within = 30 * MINUTE + 2 * life.patient.interval
    moment.strikes(life, Severity.HIGH, within=within, after=30 * MINUTE, lasts=reset - left + 26 * HOUR)


@KINDS.kind("HZ-11 HZ-06 HZ-10", "MRI-06", also=(*_AFTER_MRI, "THR-01", "THR-02", "DLV-05"), fits=rotor_and_harmed)
def mri_changed_settings(life: Life, moment: Moment) -> None:
    """After a scan the pump runs another program than before, and no session changed it (M-04)."""
    program = {"before": life.pump.program}

    def change(at: datetime) -> None:
        program["before"] = life.pump.program
        steps = tuple((second, round(rate * 1.3, 4)) for second, rate in life.pump.program.steps)
        life.pump = physics.reprogram(life.pump, at, physics.Program("altered", steps), logged=False)

    def mend(at: datetime, session_id: str) -> None:
        life.pump = physics.reprogram(life.pump, at, program["before"], session_id)

    left = _scanned(life, moment.at, 30, 8 * MINUTE)
    life.plan(left, change)
    life.body(left + 24 * MINUTE, physics.interrogate, clinic=True)
    in_session(life, left + 4 * HOUR, mend, delay=MINUTE)
    moment.strikes(life, Severity.HIGH, within=HOUR + life.patient.interval, after=30 * MINUTE, lasts=6 * HOUR)


@KINDS.kind("HZ-10", "EMI-01", also=STILL, days=9)
def interference(life: Life, moment: Moment) -> None:
    """Strong interference again and again, with nothing to show for it yet."""
    for hours in (0.0, 3.1, 6.2, 9.3):
        life.body(moment.at + timedelta(hours=hours), physics.interfere, "strong")
    moment.strikes(life, Severity.LOW, within=10 * HOUR, lasts=10 * HOUR)


@KINDS.kind("HZ-10 HZ-01 HZ-05", "DLV-01 EMI-01", also=(*STILL, "MRI-02", "MRI-03"), days=9, fits=rotor_and_harmed)
def magnet(life: Life, moment: Moment) -> None:
    """A household magnet: interference, and then a stall beside it (M-13, F-05)."""
    for hours in (0.0, 3.1, 6.2):
        life.body(moment.at + timedelta(hours=hours), physics.interfere, "strong")
    stalled = moment.at + timedelta(hours=6.3)
    life.body(stalled, physics.stall)
    life.body(stalled + timedelta(hours=1.5), physics.recover)
    life.strike(
        "magnet_seen", ("HZ-10",), ("EMI-01",), Severity.LOW, onset=moment.at, within=8 * HOUR, until=stalled, also=()
    )
    moment.strikes(life, Severity.HIGH, within=life.patient.budget / 2, after=timedelta(hours=6.3), lasts=4 * HOUR)
