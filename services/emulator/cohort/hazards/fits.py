"""Whom a hazard can strike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from services.emulator.cohort.patients import Patient
from streams.domain.profile import DrugName, Family, WithdrawalClass

OPIOIDS: Final = frozenset({DrugName.MORPHINE, DrugName.HYDROMORPHONE})

Fits: TypeAlias = Callable[[Patient], bool]


def anyone(_: Patient) -> bool:
    """Every patient."""
    return True


def rotor(patient: Patient) -> bool:
    """The pump has a rotor, which can stall and which an MRI stops."""
    return not patient.build.valve_gated


def valves(patient: Patient) -> bool:
    """The pump is gated by valves."""
    return patient.build.valve_gated


def family(*families: Family) -> Fits:
    """The pump is of one of these families."""
    return lambda patient: patient.profile.family in families


def saline(patient: Patient) -> bool:
    """There is no drug in the pump."""
    return patient.group.drug is DrugName.SALINE


def active(patient: Patient) -> bool:
    """There is a drug in the pump."""
    return not saline(patient)


def opioid(patient: Patient) -> bool:
    """The drug is an opioid."""
    return patient.group.drug in OPIOIDS


def boluses(patient: Patient) -> bool:
    """The patient may ask for boluses."""
    return patient.group.boluses


def steady(patient: Patient) -> bool:
    """A drug at one rate all day: of a schedule with steps a day has to pass before its dose is known."""
    return active(patient) and not patient.build.steps


def harmed_by_loss(patient: Patient) -> bool:
    """Lost delivery brings withdrawal."""
    return patient.therapy.withdrawal is not WithdrawalClass.W1


def harmed_unseen(patient: Patient) -> bool:
    """Lost delivery brings withdrawal, and only the motor tells of delivery: a sensed flow would confirm it."""
    return harmed_by_loss(patient) and not patient.build.senses_volume


def rotor_and_harmed(patient: Patient) -> bool:
    """Lost delivery by a rotor brings withdrawal."""
    return rotor(patient) and harmed_by_loss(patient)


def senses(patient: Patient) -> bool:
    """The pump senses the volume of a drug."""
    return patient.build.senses_volume and not saline(patient)


def cycle_days(patient: Patient) -> float:
    """Days from a refill to the patient's limit in the worst case, with all boluses that may be asked for."""
    usable = patient.full_ml - patient.therapy.low_reservoir_ml
    return usable / (1.145 * (patient.build.flow_ml_per_day + patient.therapy.max_bolus_ml_per_day))


def short_cycle(patient: Patient) -> bool:
    """The pump is refilled at least twice in the 90 days of a cohort."""
    return active(patient) and cycle_days(patient) <= 38


def unsensed_short_cycle(patient: Patient) -> bool:
    """Refilled twice, and only the syringe tells what was in it."""
    return short_cycle(patient) and not patient.build.senses_volume
