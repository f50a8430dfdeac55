"""Which hazard strikes whom, and when."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

from services.emulator.cohort.hazards import KINDS
from services.emulator.cohort.hazards.kinds import Kind
from services.emulator.cohort.patients import Patient
from services.emulator.cohort.plan import Cohort


def covered_by(cohort: Cohort) -> dict[str, tuple[str, ...]]:
    """The ids of hazards.md that each kind in a cohort brings about; HZ-02 where patients at risk meet HZ-01."""
    at_risk = any(group.risk_share > 0 for group in cohort.groups)
    return {
        name: (*KINDS[name].covers, "HZ-02") if at_risk and "HZ-01" in KINDS[name].covers else KINDS[name].covers
        for name, count in sorted(cohort.hazards.items())
        if count
    }


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
