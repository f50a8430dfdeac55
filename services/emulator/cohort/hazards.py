"""The hazards: what each does to a pump, which ids of hazards.md it covers, which rules must see it, and by when.

Deadlines are the catalogue's budgets (rules_catalogue.md A.6): lost delivery must be known at half the non-delivery
budget B, too much of a drug within an hour (F-12), all else within what its rule grants. The clock of a rule that waits
starts at what the pump can tell; so one reporting interval, and where a stall is involved the detection latency, come
on top there, and only there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Final

from msgspec.structs import replace

from services.emulator import physics
from services.emulator.cohort.life import DAY, HOUR, MINUTE, Life
from services.emulator.cohort.patients import BOLUS_LOCKOUT, BOLUSES_PER_DAY, Patient
from services.emulator.cohort.plan import Cohort
from services.emulator.cohort.truth import Severity
from services.emulator.physics import constant
from streams.domain.profile import DrugName, Family, WithdrawalClass

FIRST_DAY: Final = 16.0
"""Hazards strike from here on: rules with a learned baseline need 14 valid days."""
BUSY_AT_MOST: Final = timedelta(hours=30)
"""Longer hazards do not keep the routine away: refills go on while a pump drifts."""
OPIOIDS: Final = frozenset({DrugName.MORPHINE, DrugName.HYDROMORPHONE})
VOLUMES: Final = ("REF-02", "REF-03", "REF-04", "RSV-01", "RSV-02", "RSV-03", "RSV-04", "RSV-05", "DLV-08")
"""What a wrong volume in the reservoir may still bring at the next refill."""
STILL: Final = ("DLV-09", "DLV-02", "REF-04", "REF-03", "THR-07", "COM-01")
"""What lost delivery may bring beside the rule that saw it."""

Fits = Callable[[Patient], bool]


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
    inject: Callable[[Life, Moment], None]
    first_day: float = FIRST_DAY


@dataclass(frozen=True, slots=True)
class Moment:
    """A hazard about to be injected: which kind, and when."""

    kind: Kind
    at: datetime

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


KINDS: Final[dict[str, Kind]] = {}


def _anyone(_: Patient) -> bool:
    return True


def _kind(
    covers: str,
    rules: str,
    *,
    also: tuple[str, ...] = (),
    lingers: tuple[str, ...] = (),
    days: float = 4.0,
    fits: Fits = _anyone,
    first_day: float = FIRST_DAY,
) -> Callable[[Callable[[Life, Moment], None]], Callable[[Life, Moment], None]]:
    def register(inject: Callable[[Life, Moment], None]) -> Callable[[Life, Moment], None]:
        name = inject.__name__.strip("_")
        KINDS[name] = Kind(
            name, tuple(covers.split()), tuple(rules.split()), also, lingers, days, fits, inject, first_day
        )
        return inject

    return register


# Who can have what ---------------------------------------------------------------------------------------------------


def _rotor(patient: Patient) -> bool:
    return not patient.build.valve_gated


def _saline(patient: Patient) -> bool:
    return patient.group.drug is DrugName.SALINE


def _harmed_by_loss(patient: Patient) -> bool:
    return patient.therapy.withdrawal is not WithdrawalClass.W1


def _rotor_and_harmed(patient: Patient) -> bool:
    return _rotor(patient) and _harmed_by_loss(patient)


def _senses(patient: Patient) -> bool:
    return patient.build.senses_volume and not _saline(patient)


def _opioid(patient: Patient) -> bool:
    return patient.group.drug in OPIOIDS


def _active(patient: Patient) -> bool:
    return not _saline(patient)


def _cycle_days(patient: Patient) -> float:
    usable = patient.full_ml - patient.therapy.low_reservoir_ml
    return usable / (1.145 * (patient.build.flow_ml_per_day + patient.therapy.max_bolus_ml_per_day))


def _short_cycle(patient: Patient) -> bool:
    return _active(patient) and _cycle_days(patient) <= 38


# Delivery stops ------------------------------------------------------------------------------------------------------


@_kind("HZ-01 HZ-04 HZ-05", "DLV-01", also=STILL, fits=_rotor)
def motor_stall(life: Life, moment: Moment) -> None:
    """The rotor stands still for some hours and then turns again by itself."""
    lasts = timedelta(hours=life.chance.uniform(1.2, 5.5))
    life.body(moment.at, physics.stall)
    life.body(moment.at + lasts, physics.recover)
    moment.strikes(life, life.loss(), within=life.patient.budget / 2, lasts=lasts + HOUR)


@_kind("HZ-01 HZ-05 HZ-22", "DLV-01", also=STILL, fits=_rotor_and_harmed)
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


@_kind("HZ-01 HZ-05 HZ-10", "DLV-01 DLV-02", also=(*STILL, "EMI-01"), days=6, fits=_rotor_and_harmed)
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


@_kind("HZ-01 HZ-06", "DLV-03", also=(*STILL, "DLV-05", "THR-01", "THR-02"), fits=_rotor_and_harmed)
def pump_stopped(life: Life, moment: Moment) -> None:
    """Somebody stops the pump and nobody planned it: HIGH after at most half the budget."""
    due = min(4 * HOUR, life.patient.budget / 2) + life.patient.interval
    lasts = due + timedelta(hours=life.chance.uniform(0.5, 1.5))
    life.body(moment.at, physics.stop)
    life.body(moment.at + lasts, physics.start)
    moment.strikes(life, Severity.HIGH, within=due, lasts=lasts + HOUR)


@_kind("HZ-20", "DLV-03", also=(*STILL, "DLV-05", "THR-01", "THR-02", "PWR-02"), days=6)
def stopped_for_long(life: Life, moment: Moment) -> None:
    """Stopped for more than 48 hours: whatever the drug, the pump itself is at risk; a plan ends at 24 hours."""
    lasts = timedelta(hours=life.chance.uniform(49, 54))
    life.body(moment.at, physics.stop)
    life.body(moment.at + lasts, physics.start)
    moment.strikes(life, Severity.HIGH, within=DAY + life.patient.interval, lasts=lasts + 25 * HOUR)


@_kind("HZ-01 HZ-05 HZ-19", "DLV-04", also=(*STILL, "DLV-05", "THR-01", "THR-02", "PWR-02", "DLV-07"), fits=_active)
def critical_memory_error(life: Life, moment: Moment) -> None:
    """A memory error puts the pump in its safe state: minimum rate until somebody programs it anew (A-11)."""
    program, lasts = life.pump.program, timedelta(hours=life.chance.uniform(2, 5))
    safe = constant(physics.MINIMUM_RATE_ML_PER_DAY, "safe")
    life.body(moment.at, physics.fail, "critical_memory_error", "safe_state")
    life.body(moment.at, physics.reprogram, safe, logged=False)
    _mended_in_session(life, moment.at, lasts, program)
    moment.strikes(life, Severity.HIGH, within=life.patient.budget / 2, lasts=lasts + HOUR)


def _mended_in_session(life: Life, at: datetime, lasts: timedelta, program: physics.Program | None = None) -> None:
    """After ``lasts`` a clinic clears the faults and programs what was prescribed."""
    held = {"program": program}

    def remember(_: datetime) -> None:
        held["program"] = held["program"] or life.pump.program

    def mend(moment: datetime, session_id: str) -> None:
        life.pump = physics.mended(life.pump, moment)
        right = held["program"]
        if right is not None and right != life.pump.program:
            life.pump = physics.reprogram(life.pump, moment, right, session_id)

    life.plan(at - MINUTE, remember)
    life.plan(at + lasts, lambda moment: _discard(life.session(moment + MINUTE, mend)))


def _discard(_: object) -> None:
    """For what only returns something."""


@_kind(
    "HZ-05 HZ-06 HZ-18", "DLV-04 PWR-02", also=(*STILL, "DLV-05", "DLV-07", "THR-01", "THR-02", "COM-02"), fits=_active
)
def battery_reset(life: Life, moment: Moment) -> None:
    """A low battery resets the pump: a new boot with a default program (A-08)."""
    lasts = timedelta(hours=life.chance.uniform(2, 5))
    _mended_in_session(life, moment.at, lasts)
    life.body(moment.at, physics.fail, "battery_reset")
    life.body(moment.at, physics.reset, default_program=True)
    moment.strikes(life, Severity.HIGH, within=life.patient.budget / 2, lasts=lasts + HOUR)


@_kind("HZ-01 HZ-06", "DLV-05", also=(*STILL, "THR-01", "THR-02", "DLV-07"), fits=_active)
def minimum_rate(life: Life, moment: Moment) -> None:
    """The pump runs at its minimum although more is prescribed, and says nothing of it."""
    lasts = timedelta(hours=life.chance.uniform(3, 5))

    def fall(at: datetime) -> None:
        minimum = constant(physics.MINIMUM_RATE_ML_PER_DAY, life.pump.program.checksum)
        life.pump = physics.reprogram(life.pump, at, minimum, logged=False)

    _mended_in_session(life, moment.at, lasts)
    life.plan(moment.at, fall)
    within = life.patient.budget / 2 + life.patient.interval
    moment.strikes(life, life.loss(), within=within, lasts=lasts + HOUR)


@_kind("HZ-01 HZ-23", "DLV-09", also=STILL, fits=_harmed_by_loss)
def motor_unreadable(life: Life, moment: Moment) -> None:
    """The gateway goes on reporting, but not what the motor does."""
    due = life.patient.budget / 2 + life.patient.interval
    lasts = due + timedelta(hours=life.chance.uniform(0.5, 1.0))
    life.plan(moment.at, lambda _: _unreadable(life, on=True))
    life.plan(moment.at + lasts, lambda _: _unreadable(life, on=False))
    moment.strikes(life, Severity.HIGH, within=due, lasts=lasts + HOUR)


def _unreadable(life: Life, *, on: bool) -> None:
    life.pump = replace(life.pump, motor_unreadable=on)


# The reservoir -------------------------------------------------------------------------------------------------------

_NEVER_REFILLED: Final = ("RSV-01", "RSV-02", "RSV-03", "RSV-04", "DLV-09", "REF-03", "REF-04")


@_kind("HZ-03 HZ-04", "RSV-04", also=_NEVER_REFILLED, days=45, fits=_short_cycle)
def refill_missed(life: Life, moment: Moment) -> None:
    """The booked day passes without the patient; the refill comes two days later."""

    def missed(at: datetime) -> None:
        passed = _midnight(at) + DAY
        _strikes_at(moment, passed, life, Severity.MEDIUM, within=26 * HOUR, lasts=46 * HOUR)
        life.plan(passed + 42 * HOUR, life.visit)

    life.plan(moment.at, lambda _: life.instead_of_visit.append(missed))


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def _strikes_at(
    moment: Moment,
    onset: datetime,
    life: Life,
    severity: Severity,
    *,
    within: timedelta,
    lasts: timedelta,
    rules: tuple[str, ...] | None = None,
    name: str = "",
) -> None:
    """As `Moment.strikes`, where only the course of things tells when."""
    later = Moment(moment.kind, onset)
    later.strikes(life, severity, within=within, lasts=lasts, rules=rules, name=name)


def _unsensed_short_cycle(patient: Patient) -> bool:
    return _short_cycle(patient) and not patient.build.senses_volume and patient.build.flow_ml_per_day >= 0.4


@_kind("HZ-01 HZ-03 HZ-04", "RSV-04 RSV-01", also=_NEVER_REFILLED, days=60, fits=_unsensed_short_cycle)
def runs_empty(life: Life, moment: Moment) -> None:
    """Nobody refills the pump until it is empty."""

    def missed(at: datetime) -> None:
        passed = _midnight(at) + DAY
        lasts = timedelta(days=1.3 * life.pump.reservoir_estimated_ml / life.pump.program.mean_ml_per_day + 2)
        _strikes_at(moment, passed, life, Severity.MEDIUM, within=26 * HOUR, lasts=lasts, rules=("RSV-04",))
        low = life.patient.therapy.low_reservoir_ml
        life.below(low, reached)
        life.below(0.5, empty)

    def reached(at: datetime) -> None:
        # Somebody was paged for the missed visit already; the rule must see it, but need not page again.
        lasts = timedelta(days=1.3 * life.pump.reservoir_estimated_ml / life.pump.program.mean_ml_per_day + 2)
        within = max(HOUR, 3 * life.patient.interval)
        _strikes_at(moment, at, life, Severity.LOW, within=within, lasts=lasts, rules=("RSV-01",), name="reservoir_low")

    def empty(at: datetime) -> None:
        late = min(timedelta(hours=4), life.patient.budget / 2)
        within = life.patient.budget / 2
        _strikes_at(
            moment, at, life, life.loss(), within=within, lasts=late + HOUR, rules=("RSV-02",), name="reservoir_empty"
        )
        life.plan(at + late, life.visit)

    life.plan(moment.at, lambda _: life.instead_of_visit.append(missed))


@_kind("HZ-03", "RSV-03", also=_NEVER_REFILLED, days=70, fits=lambda p: _active(p) and 18 <= _cycle_days(p) <= 34)
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
        _strikes_at(moment, at, life, Severity.LOW, within=2 * DAY, lasts=12 * DAY, name="nothing_booked_yet")

    def urgent(at: datetime) -> None:
        # A worst-case day lasts up to 1.35 days where no bolus is asked for.
        _strikes_at(moment, at, life, Severity.MEDIUM, within=2 * DAY, lasts=6 * DAY)

    def book(at: datetime) -> None:
        life.books = True
        life.book(at, after_days=1)

    life.plan(moment.at, lambda _: life.refill_variants.append(forgotten))


@_kind("HZ-07 HZ-09", "RSV-05", also=("DLV-06", "DLV-08"), lingers=VOLUMES, fits=_senses)
def dumped(life: Life, moment: Moment) -> None:
    """A part of the reservoir leaves for the patient at once (air in the reservoir, F-16)."""
    volume = life.chance.uniform(1.0, 1.6)
    life.body(moment.at, physics.dump, volume)
    within = max(HOUR, 2 * life.patient.interval)
    moment.strikes(life, Severity.HIGH, within=within, lasts=26 * HOUR)


@_kind("HZ-13", "RSV-05", also=("RSV-03", "RSV-04"), lingers=VOLUMES, fits=_active)
def filled_elsewhere(life: Life, moment: Moment) -> None:
    """Another clinic fills the pump up, and nobody records it."""
    if life.pump.build.reservoir_ml - life.patient.full_ml < 1.0:
        return
    life.body(moment.at, physics.top_up, 1.9)
    moment.strikes(life, Severity.LOW, within=3 * HOUR + life.patient.interval, lasts=6 * HOUR)


# The refill visit ----------------------------------------------------------------------------------------------------


@_kind(
    "HZ-14 HZ-09",
    "REF-01",
    also=("THR-07", "RSV-05", "RSV-03", "RSV-04", "REF-04", "DLV-06"),
    lingers=VOLUMES,
    days=45,
    fits=lambda patient: _senses(patient) and _short_cycle(patient),
)
def pocket_fill(life: Life, moment: Moment) -> None:
    """A part of the refill misses the reservoir: an overdose in the next hours (F-09, F-10)."""

    def missed(at: datetime, full_ml: float) -> None:
        wrong = (1.0 if life.patient.group.reservoir_ml == 20 else 2.0) + life.chance.uniform(0.6, 3.0)
        life.pump = physics.refill(life.pump, at, full_ml, into_pocket_ml=wrong, chance=life.chance)
        _strikes_at(moment, at, life, Severity.HIGH, within=HOUR, lasts=30 * HOUR)
        told = at + timedelta(minutes=life.chance.uniform(70, 150))
        life.body(told, physics.report_symptoms, "sleepy")
        # The clinic draws it off, and the computer is told what is really in the reservoir.
        life.plan(at + 5 * HOUR, lambda _: _told_the_truth(life))
        Moment(moment.kind, told).strikes(
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


@_kind(
    "HZ-07",
    "REF-02",
    also=("RSV-03", "RSV-04", "RSV-01", "RSV-02", "REF-04", "DLV-08"),
    lingers=VOLUMES,
    days=75,
    fits=lambda patient: _short_cycle(patient) and not patient.build.senses_volume,
)
def over_infusion(life: Life, moment: Moment) -> None:
    """The pump gives a quarter more than its program from one refill to the next; only the syringe shows it (D-01)."""

    def begins(at: datetime, full_ml: float) -> None:
        life.pump = physics.bias(physics.refill(life.pump, at, full_ml, chance=life.chance), at, 1.25)
        life.refill_variants.append(ends)

    def ends(at: datetime, full_ml: float) -> None:
        life.pump = physics.bias(physics.refill(life.pump, at, full_ml, chance=life.chance), at, 1.0)
        _strikes_at(moment, at, life, Severity.HIGH, within=2 * HOUR, lasts=10 * DAY)

    life.plan(moment.at, lambda _: life.refill_variants.append(begins))


@_kind(
    "HZ-08",
    "REF-03",
    also=("RSV-03", "RSV-04", "REF-04", "DLV-08", "THR-07"),
    lingers=VOLUMES,
    days=75,
    fits=lambda patient: _short_cycle(patient) and not patient.build.senses_volume,
)
def under_delivery(life: Life, moment: Moment) -> None:
    """The pump gives a quarter less than its program from one refill to the next."""

    def begins(at: datetime, full_ml: float) -> None:
        life.pump = physics.bias(physics.refill(life.pump, at, full_ml, chance=life.chance), at, 0.75)
        life.refill_variants.append(ends)

    def ends(at: datetime, full_ml: float) -> None:
        life.pump = physics.bias(physics.refill(life.pump, at, full_ml, chance=life.chance), at, 1.0)
        _strikes_at(moment, at, life, Severity.MEDIUM, within=2 * HOUR, lasts=DAY)

    life.plan(moment.at, lambda _: life.refill_variants.append(begins))


# Too much, too little, slowly wrong ----------------------------------------------------------------------------------


def _window(life: Life) -> timedelta:
    """Rule DLV-06's window: the time for 0.05 mL programmed, between one hour and a day."""
    days = 0.05 / max(life.pump.program.mean_ml_per_day, 1e-9)
    return min(max(timedelta(days=days), HOUR), DAY)


@_kind("HZ-07 HZ-09", "DLV-06", also=("RSV-05", "DLV-08", "RSV-03", "RSV-04"), lingers=VOLUMES, days=8, fits=_senses)
def fast_over_delivery(life: Life, moment: Moment) -> None:
    """The pump suddenly gives three times its program (F-11)."""
    window = _window(life)
    lasts = window + timedelta(hours=life.chance.uniform(2, 5))
    life.body(moment.at, physics.bias, 3.0)
    life.body(moment.at + lasts, physics.bias, 1.0)
    moment.strikes(life, Severity.HIGH, within=window + 2 * life.patient.interval, lasts=lasts + 2 * DAY)


@_kind("HZ-08 HZ-01", "DLV-07", also=("DLV-08", "DLV-09"), lingers=VOLUMES, days=8, fits=_senses)
def fast_under_delivery(life: Life, moment: Moment) -> None:
    """The motor turns, but a fifth of the drug comes out: two windows of the rule, and one for where they begin."""
    within = 3 * _window(life) + 2 * life.patient.interval
    lasts = within + timedelta(hours=life.chance.uniform(1, 3))
    life.body(moment.at, physics.bias, 0.2)
    life.body(moment.at + lasts, physics.bias, 1.0)
    moment.strikes(life, Severity.MEDIUM, within=within, lasts=lasts + 2 * DAY)


@_kind("HZ-07 HZ-08", "DLV-08", also=("REF-02", "REF-03"), lingers=VOLUMES, days=18, fits=_senses, first_day=20)
def slow_drift(life: Life, moment: Moment) -> None:
    """The pump begins to give a tenth more, or less: neither a refill nor a fast window shows it soon."""
    life.body(moment.at, physics.bias, life.chance.choice((0.89, 1.11)))
    life.body(moment.at + 14 * DAY, physics.bias, 1.0)
    moment.strikes(life, Severity.MEDIUM, within=9 * DAY, lasts=17 * DAY)


# MRI and interference ------------------------------------------------------------------------------------------------

_AFTER_MRI: Final = ("MRI-01", "MRI-02", "MRI-03", "MRI-04", "MRI-06", "DLV-01", "TMP-01", *STILL)


def _scanned(life: Life, at: datetime, minutes: float, back: timedelta, *, declared: bool = True) -> datetime:
    """An MRI of so many minutes after which the rotor follows after ``back``; returns when the patient left it."""
    left = at + timedelta(minutes=minutes)
    by = "radiology" if declared else None
    life.body(at, physics.enter_mri, by, clinic=declared)
    life.body(left, physics.leave_mri, by, life.chance, back, clinic=declared)
    return left


@_kind("HZ-11 HZ-01", "MRI-02", also=_AFTER_MRI, fits=_rotor_and_harmed)
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


@_kind("HZ-11", "MRI-02", also=_AFTER_MRI, fits=_rotor_and_harmed)
def mri_log_late(life: Life, moment: Moment) -> None:
    """The rotor recovers, but only a second interrogation shows it (M-03): somebody must be asked for one."""
    left = _scanned(life, moment.at, 30, 8 * MINUTE)
    life.body(moment.at, lambda pump, _: replace(pump, log_held=2))
    life.body(left + 22 * MINUTE, physics.interrogate, clinic=True)
    life.body(left + 55 * MINUTE, physics.interrogate, clinic=True)
    moment.strikes(life, Severity.MEDIUM, within=65 * MINUTE + life.patient.interval, lasts=3 * HOUR)


@_kind("HZ-11 HZ-19", "MRI-03", also=_AFTER_MRI, fits=_rotor)
def mri_not_interrogated(life: Life, moment: Moment) -> None:
    """The rotor recovers, and nobody interrogates the pump for most of an hour."""
    left = _scanned(life, moment.at, 25, 5 * MINUTE)
    life.body(left + 75 * MINUTE, physics.interrogate, clinic=True)
    moment.strikes(life, Severity.MEDIUM, within=60 * MINUTE + life.patient.interval, lasts=3 * HOUR)


@_kind(
    "HZ-11 HZ-01 HZ-13",
    "MRI-04",
    also=(*_AFTER_MRI, "DLV-04", "DLV-03"),
    fits=lambda patient: _rotor(patient) and patient.profile.family is Family.SYNCHROMED_II and _active(patient),
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


@_kind("HZ-13 HZ-01 HZ-10", "MRI-04", also=(*_AFTER_MRI, "DLV-03", "EMI-01"), fits=_rotor_and_harmed)
def telemetry_mode(life: Life, moment: Moment) -> None:
    """Interference traps the pump in telemetry mode far from any scanner and any programmer."""
    lasts = timedelta(hours=life.chance.uniform(2, 5))
    life.body(moment.at, physics.trap)
    life.body(moment.at, physics.interfere, "strong")
    life.body(moment.at + lasts, physics.interrogate, clinic=True)
    moment.strikes(life, Severity.HIGH, within=life.patient.budget / 2, lasts=lasts + HOUR)


@_kind("HZ-11 HZ-10 HZ-01", "DLV-01", also=(*_AFTER_MRI, "EMI-01"), fits=_rotor_and_harmed)
def mri_undeclared(life: Life, moment: Moment) -> None:
    """A scan that nobody declares, and a rotor that takes two hours."""
    left = _scanned(life, moment.at, 40, 2 * HOUR, declared=False)
    life.body(left + 3 * HOUR, physics.interrogate, clinic=True)
    moment.strikes(life, Severity.HIGH, within=life.patient.budget / 2, lasts=5 * HOUR)


def _valves(patient: Patient) -> bool:
    return patient.build.valve_gated


@_kind(
    "HZ-11 HZ-09",
    "MRI-05",
    also=("RSV-05", "RSV-01", "RSV-02", "DLV-06", "DLV-07", "DLV-09", "REF-01", "REF-04", "RSV-03", "RSV-04"),
    lingers=VOLUMES,
    days=6,
    fits=_valves,
)
def prometra_not_emptied(life: Life, moment: Moment) -> None:
    """A valve-gated pump enters the scanner full (M-08)."""
    level = {"ml": 0.0}

    def enter(at: datetime) -> None:
        level["ml"] = life.pump.reservoir_true_ml
        life.pump = physics.enter_mri(life.pump, at, "radiology")

    life.plan(moment.at, enter, clinic=True)
    life.body(moment.at + 30 * MINUTE, physics.leave_mri, "radiology", life.chance, clinic=True)
    life.body(moment.at + 50 * MINUTE, physics.reset_valve, clinic=True)
    life.plan(moment.at + 3 * HOUR, lambda at: _discard(life.session(at + MINUTE, _filled_again(life))))
    moment.strikes(life, Severity.HIGH, within=30 * MINUTE, lasts=28 * HOUR)


def _filled_again(life: Life) -> Callable[[datetime, str], None]:
    def fill(at: datetime, _: str) -> None:
        life.pump = physics.refill(life.pump, at, life.patient.full_ml)

    return fill


@_kind(
    "HZ-11 HZ-01",
    "MRI-05",
    also=("RSV-01", "RSV-02", "RSV-03", "RSV-04", "RSV-05", "DLV-07", "DLV-09", "REF-01", "REF-04", "DLV-03"),
    lingers=VOLUMES,
    days=6,
    fits=lambda patient: patient.profile.family is Family.PROMETRA_II,
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
    life.plan(left + 10 * MINUTE, lambda at: _filled_again(life)(at, ""), clinic=True)
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


@_kind("HZ-11 HZ-06 HZ-10", "MRI-06", also=(*_AFTER_MRI, "THR-01", "THR-02", "DLV-05"), fits=_rotor_and_harmed)
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
    life.plan(left + 4 * HOUR, lambda at: _discard(life.session(at + MINUTE, mend)))
    moment.strikes(life, Severity.HIGH, within=HOUR + life.patient.interval, after=30 * MINUTE, lasts=6 * HOUR)


@_kind("HZ-10", "EMI-01", also=STILL, days=9)
def interference(life: Life, moment: Moment) -> None:
    """Strong interference again and again, with nothing to show for it yet."""
    for hours in (0.0, 3.1, 6.2, 9.3):
        life.body(moment.at + timedelta(hours=hours), physics.interfere, "strong")
    moment.strikes(life, Severity.LOW, within=10 * HOUR, lasts=10 * HOUR)


@_kind("HZ-10 HZ-01 HZ-05", "DLV-01 EMI-01", also=(*STILL, "MRI-02", "MRI-03"), days=9, fits=_rotor_and_harmed)
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


# Power and device life -----------------------------------------------------------------------------------------------

_OLD: Final = ("PWR-01", "PWR-02", "PWR-03", "REF-04", "DLV-09", "COM-02")


@_kind("HZ-18 HZ-04", "PWR-01", also=_OLD, days=44, first_day=2)
def elective_replacement(life: Life, moment: Moment) -> None:
    """The battery asks to be replaced, and for a month nobody books it (A-07)."""
    life.body(moment.at, lambda pump, at: replace(physics.advance(pump, at), eri_forced=True))
    moment.strikes(life, Severity.LOW, within=DAY, lasts=42 * DAY, name="eri")
    moment.strikes(life, Severity.MEDIUM, within=DAY, after=30 * DAY, lasts=12 * DAY)
    _replaced(life, moment.at + 40 * DAY)


def _replaced(life: Life, at: datetime) -> None:
    """A surgeon implants a new pump, and somebody records it."""

    def implant(moment: datetime) -> None:
        life.pump = physics.replaced(life.pump, moment, max(life.pump.reservoir_true_ml, 0.0))
        life.pump = physics.mended(replace(life.pump, eri_forced=False), moment)
        life.enter("replaced", moment)
        life.prescribe(moment, implanted_on=moment.date().isoformat())
        life.plan(moment + 10 * MINUTE, lambda _: None, clinic=True)

    life.plan(at, implant, clinic=True)


@_kind("HZ-18 HZ-01", "PWR-02", also=(*_OLD, *STILL, "DLV-03", "DLV-05", "THR-01", "THR-02", "THR-07"), days=6)
def end_of_service(life: Life, moment: Moment) -> None:
    """The pump has reached the end of its life and stops delivering."""
    life.body(moment.at, physics.fail, "end_of_service")
    life.body(moment.at, physics.stop)
    lasts = timedelta(hours=life.chance.uniform(8, 20))
    moment.strikes(life, Severity.HIGH, within=life.patient.budget / 2, lasts=lasts + 26 * HOUR)
    _replaced(life, moment.at + lasts)


@_kind("HZ-18", "PWR-03", also=_OLD, days=2, first_day=4)
def old_pump(life: Life, moment: Moment) -> None:
    """The pump turns six and a half years old."""
    born = (moment.at - timedelta(days=6.5 * 365.25)).date()
    life.documents[0] = {**life.documents[0], "implanted_on": born.isoformat()}
    Moment(moment.kind, _midnight(moment.at) - 2 * DAY).strikes(
        life, Severity.LOW, within=6 * DAY, lasts=life.end - moment.at
    )


@_kind("HZ-18 HZ-05", "PWR-03", also=(*_OLD, "PWR-01"), days=28, first_day=62)
def battery_drain(life: Life, moment: Moment) -> None:
    """The battery falls ten times as fast as before (A-08)."""

    def drain(pump: physics.Pump, at: datetime) -> physics.Pump:
        return replace(physics.advance(pump, at), drained_since=at, drained_v_per_day=0.008)

    life.body(moment.at, drain)
    moment.strikes(life, Severity.MEDIUM, within=20 * DAY, lasts=26 * DAY)


# Therapy and use -----------------------------------------------------------------------------------------------------

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


@_kind("HZ-06 HZ-25", "THR-01", also=_WRONG_DOSE, fits=_active)
def wrong_dose(life: Life, moment: Moment) -> None:
    """A session programs half as much again as is prescribed."""

    def wrong(at: datetime, session_id: str) -> None:
        life.dose(at, 1.5, session_id, prescribed=False)
        _strikes_at(moment, at, life, Severity.HIGH, within=HOUR, lasts=7 * HOUR)

    def right(at: datetime, session_id: str) -> None:
        life.dose(at, 1 / 1.5, session_id, prescribed=False)

    life.plan(moment.at, lambda at: _discard(life.session(at, wrong)))
    life.plan(moment.at + 5 * HOUR, lambda at: _discard(life.session(at, right)))


@_kind("HZ-06 HZ-13", "THR-02", also=_WRONG_DOSE, fits=_active)
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
    life.plan(moment.at + 6 * HOUR, lambda at: _discard(life.session(at, mend)))
    # A session may still become known for half an hour after the change (rule THR-02).
    moment.strikes(life, Severity.HIGH, within=HOUR + life.patient.interval, lasts=8 * HOUR)


@_kind(
    "HZ-15",
    "THR-03",
    also=("RSV-03", "RSV-04", "THR-06"),
    days=26,
    fits=lambda patient: _opioid(patient) or patient.group.drug is DrugName.BACLOFEN,
)
def dose_escalation(life: Life, moment: Moment) -> None:
    """Three rises within three weeks: a mass at the catheter tip looks like that (F-19)."""
    for number in range(3):
        at = moment.at + timedelta(days=10 * number)
        life.plan(at, lambda at: _discard(life.session(at, lambda at, name: life.dose(at, 1.2, name))))
    life.plan(moment.at + 24 * DAY, lambda at: _discard(life.session(at, lambda at, name: life.dose(at, 0.6, name))))
    moment.strikes(life, Severity.LOW, within=22 * DAY, lasts=26 * DAY)


@_kind("HZ-21", "THR-04", also=("THR-06",), days=9, fits=lambda patient: patient.group.boluses)
def bolus_overuse(life: Life, moment: Moment) -> None:
    """The patient takes all boluses that the pump allows, day after day."""
    first = _midnight(moment.at)
    life.busy(first + DAY, first + 5 * DAY)
    for day in range(1, 5):
        at = first + timedelta(days=day, hours=7)
        for number in range(BOLUSES_PER_DAY):
            life.body(at + number * (BOLUS_LOCKOUT + 20 * MINUTE), physics.bolus, life.patient.bolus_ml)
    Moment(moment.kind, first + DAY).strikes(life, Severity.LOW, within=4 * DAY, lasts=6 * DAY)


@_kind("HZ-21 HZ-09", "THR-04", also=("DLV-06",), fits=lambda patient: patient.group.boluses)
def bolus_in_lockout(life: Life, moment: Moment) -> None:
    """The pump gives a second bolus although its lockout is on."""
    life.busy(moment.at - 2 * HOUR, moment.at + HOUR)
    life.body(moment.at - 20 * MINUTE, physics.bolus, life.patient.bolus_ml)
    life.body(moment.at, physics.bolus, life.patient.bolus_ml)
    moment.strikes(life, Severity.HIGH, within=HOUR + life.patient.interval, lasts=4 * HOUR)


@_kind(
    "HZ-16",
    "THR-06",
    also=("THR-07",),
    first_day=55,
    fits=lambda patient: _active(patient) and _cycle_days(patient) <= 16 and not patient.build.valve_gated,
)
def catheter_leak(life: Life, moment: Moment) -> None:
    """The catheter leaks: the pump looks normal, the patient does not (F-17)."""
    life.body(moment.at, physics.leak, 0.8)
    told = moment.at + timedelta(hours=life.chance.uniform(10, 20))
    life.body(told, physics.report_symptoms, "loss_of_effect", clinic=True)
    life.body(told + 3 * DAY, physics.leak, 0.0)
    life.plan(told + 3 * DAY, lambda at: life.enter("review", at, rule_id="THR-06"))
    Moment(moment.kind, told).strikes(life, Severity.MEDIUM, within=2 * HOUR, lasts=3 * DAY)


@_kind("HZ-16 HZ-01", "THR-06", also=STILL, fits=_active)
def catheter_occluded(life: Life, moment: Moment) -> None:
    """The pump itself feels that its catheter is blocked."""
    lasts = timedelta(hours=life.chance.uniform(3, 8))
    life.body(moment.at, physics.fail, "catheter_occlusion")
    life.body(moment.at, physics.leak, 1.0)
    life.body(moment.at + lasts, physics.mended)
    life.body(moment.at + lasts, physics.leak, 0.0)
    life.plan(moment.at + lasts, lambda at: life.enter("review", at, rule_id="THR-06"))
    moment.strikes(life, Severity.HIGH, within=life.patient.budget / 2, lasts=lasts + HOUR)


@_kind("HZ-01", "THR-07", also=("THR-06",), fits=_active)
def withdrawal_symptoms(life: Life, moment: Moment) -> None:
    """Somebody reports itching and rigidity although the pump says that all is well (F-02)."""
    life.body(moment.at, physics.report_symptoms, "itching", "rigidity", clinic=True)
    moment.strikes(life, Severity.MEDIUM, within=HOUR, lasts=DAY)


@_kind("HZ-09 HZ-17", "THR-07", fits=_active)
def overdose_symptoms(life: Life, moment: Moment) -> None:
    """Somebody reports that the patient cannot be kept awake."""
    life.body(moment.at, physics.report_symptoms, "sleepy", "slow_breathing", clinic=True)
    moment.strikes(life, Severity.HIGH, within=HOUR, lasts=DAY)


# Environment and communication ---------------------------------------------------------------------------------------


@_kind("HZ-12 HZ-01", "TMP-01", first_day=10)
def fever(life: Life, moment: Moment) -> None:
    """A fever of a day and a half."""
    lasts = timedelta(hours=life.chance.uniform(24, 40))
    life.body(moment.at, physics.warm, life.chance.uniform(2.7, 3.3), moment.at + lasts)
    moment.strikes(life, Severity.MEDIUM, within=5 * HOUR + 2 * life.patient.interval, lasts=lasts)


@_kind("HZ-12 HZ-10", "TMP-01", first_day=10)
def heating(life: Life, moment: Moment) -> None:
    """The pump heats up to more than 41 °C (M-12)."""
    lasts = 8 * max(life.patient.interval, 30 * MINUTE)
    life.body(moment.at, physics.warm, 6.0, moment.at + lasts)
    # The ramp takes a quarter of the time; 41 °C are reached in the latest case at 4.6 of 6 degrees.
    within = lasts / 4 + HOUR + life.patient.interval
    moment.strikes(life, Severity.HIGH, within=within, lasts=lasts + HOUR)


@_kind("HZ-23", "COM-01 DLV-09", days=6)
def silence(life: Life, moment: Moment) -> None:
    """A gateway without its link for longer than delivery may stay unconfirmed."""
    patient, interval = life.patient, life.patient.interval
    limit = max(12 * HOUR, 24 * interval)
    rules: tuple[str, ...] = ("COM-01",)
    if _harmed_by_loss(patient) and interval <= patient.budget / 8:
        limit, rules = min(limit, patient.budget), ("DLV-09", "COM-01")
    elif patient.budget < limit and interval <= patient.budget / 8:
        limit = patient.budget
    lasts = limit + interval + timedelta(hours=life.chance.uniform(0.5, 1.5))
    life.silence(moment.at, moment.at + lasts)
    moment.strikes(life, Severity.MEDIUM, within=limit + MINUTE, lasts=lasts + HOUR, rules=rules[:1])


@_kind("HZ-23 HZ-13", "COM-02", also=("MRI-02", "MRI-03"), days=5)
def clock_behind(life: Life, moment: Moment) -> None:
    """The pump's clock jumps back by a quarter of an hour to half an hour."""
    by = timedelta(minutes=life.chance.uniform(14, 28))
    life.shift_clock(moment.at, -by)
    life.shift_clock(moment.at + 3 * DAY, by)
    moment.strikes(life, Severity.MEDIUM, within=22 * life.patient.interval, lasts=4 * DAY)


@_kind("HZ-23", "COM-02", also=("COM-01", "DLV-09"), days=5)
def clock_ahead(life: Life, moment: Moment) -> None:
    """The pump's clock jumps ahead by a quarter of an hour."""
    by = timedelta(minutes=life.chance.uniform(12, 18))
    life.shift_clock(moment.at, by)
    life.shift_clock(moment.at + 3 * DAY, -by)
    moment.strikes(life, Severity.MEDIUM, within=22 * life.patient.interval, lasts=4 * DAY)


@_kind("HZ-23", "COM-02", also=("COM-01", "DLV-09"), days=3)
def reports_lost(life: Life, moment: Moment) -> None:
    """A gateway loses some reports for good; the numbers tell."""
    life.plan(moment.at, lambda _: _lose(life, 4))
    moment.strikes(life, Severity.LOW, within=2 * HOUR + 6 * life.patient.interval, lasts=6 * HOUR)


def _lose(life: Life, count: int) -> None:
    life.pump = replace(life.pump, seq=life.pump.seq + count)


def covered_by(cohort: Cohort) -> dict[str, tuple[str, ...]]:
    """The ids of hazards.md that each kind in a cohort brings about; HZ-02 where patients at risk meet HZ-01."""
    at_risk = any(group.risk_share > 0 for group in cohort.groups)
    return {
        name: (*KINDS[name].covers, "HZ-02") if at_risk and "HZ-01" in KINDS[name].covers else KINDS[name].covers
        for name, count in sorted(cohort.hazards.items())
        if count
    }


# Who is struck when --------------------------------------------------------------------------------------------------


def assign(cohort: Cohort, everyone: list[Patient]) -> dict[int, list[tuple[datetime, str]]]:
    """When which hazard strikes which patient: as often as the cohort says, where they fit, and never two at once.

    A hazard for which nobody has room any more is left out; what was injected is in the truth, not in the file.
    """
    chance = Random(f"{cohort.seed}/{cohort.name}/hazards")
    taken: dict[int, list[tuple[float, float]]] = {patient.number: [] for patient in everyone}
    found: dict[int, list[tuple[datetime, str]]] = {patient.number: [] for patient in everyone}
    # Those that need the longest time choose first.
    for kind in sorted((KINDS[name] for name in cohort.hazards), key=lambda kind: (-kind.days, kind.name)):
        fitting = [patient for patient in everyone if kind.fits(patient)]
        for _ in range(cohort.hazards[kind.name]):
            chance.shuffle(fitting)
            fitting.sort(key=lambda patient: len(taken[patient.number]))
            for patient in fitting:
                day = _free_day(taken[patient.number], kind, cohort.days, chance)
                if day is not None:
                    taken[patient.number].append((day, day + kind.days))
                    found[patient.number].append((cohort.start + timedelta(days=day), kind.name))
                    break
    return {number: sorted(strikes) for number, strikes in found.items()}


def _free_day(taken: list[tuple[float, float]], kind: Kind, days: int, chance: Random) -> float | None:
    """A day, with its fraction, from which the kind has room; None when a dozen tries find none."""
    last = days - kind.days
    if kind.days > days / 2:
        # Too long to fit beside others anyway: it may be cut off by the end.
        last = max(last, days * 0.4)
    first = min(kind.first_day, 0.7 * last)
    if last <= 0:
        return None
    for _ in range(12):
        day = chance.uniform(first, last)
        if all(day >= end + 0.5 or day + kind.days + 0.5 <= begin for begin, end in taken):
            return day
    return None
