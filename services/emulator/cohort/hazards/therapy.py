"""Hazards of the therapy and of how the pump is used."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from services.emulator import physics
from services.emulator.cohort.hazards.acts import in_session, midnight
from services.emulator.cohort.hazards.fits import active, boluses, cycle_days, opioid, steady
from services.emulator.cohort.hazards.kinds import STILL, Kinds, Moment
from services.emulator.cohort.life import DAY, HOUR, MINUTE, Life
from services.emulator.cohort.patients import BOLUS_LOCKOUT, BOLUSES_PER_DAY
from services.emulator.cohort.truth import Severity
from streams.domain.profile import DrugName

KINDS: Final = Kinds()


_WRONG_DOSE: Final = (
    "THR-01",
    "THR-02",
    "THR-03",
    "DLV-05",
    "DLV-06",
    "RSV-03",
    "RSV-04",
    "RSV-01",
    "REF-04",
    "MRI-06",
)


@KINDS.kind("HZ-06 HZ-25", "THR-01", also=_WRONG_DOSE, fits=steady)
def wrong_dose(life: Life, moment: Moment) -> None:
    """A session programs half as much again as is prescribed."""

    def wrong(at: datetime, session_id: str) -> None:
        life.dose(at, 1.5, session_id, prescribed=False)
        moment.then(at).strikes(life, Severity.HIGH, within=HOUR, lasts=7 * HOUR)

    def right(at: datetime, session_id: str) -> None:
        life.dose(at, 1 / 1.5, session_id, prescribed=False)

    in_session(life, moment.at, wrong)
    in_session(life, moment.at + 5 * HOUR, right)


@KINDS.kind("HZ-06 HZ-13", "THR-02", also=_WRONG_DOSE, fits=active)
def unknown_program(life: Life, moment: Moment) -> None:
    """The program changes outside any known session."""
    before: list[physics.Program] = []

    def change(at: datetime) -> None:
        before.append(life.pump.program)
        steps = tuple((second, round(rate * 1.02, 4)) for second, rate in life.pump.program.steps)
        life.pump = physics.reprogram(life.pump, at, physics.Program(life.new_checksum(), steps))

    def mend(at: datetime, session_id: str) -> None:
        life.pump = physics.reprogram(life.pump, at, before[0], session_id)

    life.plan(moment.at, change)
    in_session(life, moment.at + 6 * HOUR, mend)
    # A session may still become known for half an hour after the change (rule THR-02).
    moment.strikes(life, Severity.HIGH, within=HOUR + life.patient.interval, lasts=8 * HOUR)


@KINDS.kind(
    "HZ-15",
    "THR-03",
    also=("RSV-03", "RSV-04", "THR-06"),
    days=26,
    fits=lambda patient: opioid(patient) or patient.group.drug is DrugName.BACLOFEN,
)
def dose_escalation(life: Life, moment: Moment) -> None:
    """Three rises within three weeks: a mass at the catheter tip looks like that (F-19)."""
    for number in range(3):
        at = moment.at + timedelta(days=10 * number)
        in_session(life, at, lambda at, name: life.dose(at, 1.2, name))
    in_session(life, moment.at + 24 * DAY, lambda at, name: life.dose(at, 0.6, name))
    moment.strikes(life, Severity.LOW, within=22 * DAY, lasts=26 * DAY)


@KINDS.kind("HZ-21", "THR-04", also=("THR-06",), days=9, fits=boluses)
def bolus_overuse(life: Life, moment: Moment) -> None:
    """The patient takes all boluses that the pump allows, day after day."""
    first = midnight(moment.at)
    life.busy(first + DAY, first + 5 * DAY)
    for day in range(1, 5):
        at = first + timedelta(days=day, hours=7)
        for number in range(BOLUSES_PER_DAY):
            life.body(at + number * (BOLUS_LOCKOUT + 20 * MINUTE), physics.bolus, life.patient.bolus_ml)
    moment.then(first + DAY).strikes(life, Severity.LOW, within=4 * DAY, lasts=6 * DAY)


@KINDS.kind("HZ-21 HZ-09", "THR-04", also=("DLV-06",), fits=boluses)
def bolus_in_lockout(life: Life, moment: Moment) -> None:
    """The pump gives a second bolus although its lockout is on."""
    life.busy(moment.at - 2 * HOUR, moment.at + HOUR)
    life.body(moment.at - 20 * MINUTE, physics.bolus, life.patient.bolus_ml)
    life.body(moment.at, physics.bolus, life.patient.bolus_ml)
    moment.strikes(life, Severity.HIGH, within=HOUR + life.patient.interval, lasts=4 * HOUR)


@KINDS.kind(
    "HZ-16",
    "THR-06",
    also=("THR-07",),
    first_day=55,
    fits=lambda patient: active(patient) and cycle_days(patient) <= 16 and not patient.build.valve_gated,
)
def catheter_leak(life: Life, moment: Moment) -> None:
    """The catheter leaks: the pump looks normal, the patient does not (F-17)."""
    life.body(moment.at, physics.leak, 0.8)
    told = moment.at + timedelta(hours=life.chance.uniform(10, 20))
    life.body(told, physics.report_symptoms, "loss_of_effect", clinic=True)
    life.body(told + 3 * DAY, physics.leak, 0.0)
    life.plan(told + 3 * DAY, lambda at: life.enter("review", at, rule_id="THR-06"))
    moment.then(told).strikes(life, Severity.MEDIUM, within=2 * HOUR, lasts=3 * DAY)


@KINDS.kind("HZ-16 HZ-01", "THR-06", also=STILL, fits=active)
def catheter_occluded(life: Life, moment: Moment) -> None:
    """The pump itself feels that its catheter is blocked."""
    lasts = timedelta(hours=life.chance.uniform(3, 8))
    life.body(moment.at, physics.fail, "catheter_occlusion")
    life.body(moment.at, physics.leak, 1.0)
    life.body(moment.at + lasts, physics.mended)
    life.body(moment.at + lasts, physics.leak, 0.0)
    life.plan(moment.at + lasts, lambda at: life.enter("review", at, rule_id="THR-06"))
    moment.strikes(life, Severity.HIGH, within=life.patient.budget / 2, lasts=lasts + HOUR)


@KINDS.kind("HZ-01", "THR-07", also=("THR-06",), fits=active)
def withdrawal_symptoms(life: Life, moment: Moment) -> None:
    """Somebody reports itching and rigidity although the pump says that all is well (F-02)."""
    life.body(moment.at, physics.report_symptoms, "itching", "rigidity", clinic=True)
    moment.strikes(life, Severity.MEDIUM, within=HOUR, lasts=DAY)


@KINDS.kind("HZ-09 HZ-17", "THR-07", fits=active)
def overdose_symptoms(life: Life, moment: Moment) -> None:
    """Somebody reports that the patient cannot be kept awake."""
    life.body(moment.at, physics.report_symptoms, "sleepy", "slow_breathing", clinic=True)
    moment.strikes(life, Severity.HIGH, within=HOUR, lasts=DAY)
