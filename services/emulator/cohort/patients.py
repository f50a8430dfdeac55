"""Who is in a cohort: each patient with pump, drug, dose, risk, habits and gateway, drawn from the cohort's groups."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

from services.emulator import physics
from services.emulator.cohort.plan import Cohort, CohortError, Group
from services.emulator.physics import Build
from streams.domain.profile import ProfileRejected, PumpProfile, Therapy, profile_from, therapy_of

KNOWN_BEFORE: Final = timedelta(days=400)
"""How long before the cohort's start profiles hold."""
FILLED_SHARE: Final = 0.9
"""Of the reservoir's size, what a refill puts in."""
BOLUSES_PER_DAY: Final = 6
BOLUS_SHARE: Final = 0.03
"""Volume of one bolus, as a share of the daily volume."""
BOLUS_LOCKOUT: Final = timedelta(minutes=60)


@dataclass(frozen=True, slots=True)
class Patient:
    """One patient; ``document`` is the first version of the profile as it would be imported."""

    number: int
    group: Group
    document: dict[str, Any]
    profile: PumpProfile
    therapy: Therapy
    build: Build
    gateway: str
    drift_seconds_per_day: float

    @property
    def pump_id(self) -> str:
        """The pump's id."""
        return self.build.pump_id

    @property
    def interval(self) -> timedelta:
        """How often the pump reports."""
        return self.group.interval

    @property
    def budget(self) -> timedelta:
        """The non-delivery budget B (rules_catalogue.md A.6)."""
        return self.therapy.budget

    @property
    def full_ml(self) -> float:
        """What is in the reservoir after a refill."""
        return FILLED_SHARE * self.group.reservoir_ml

    @property
    def bolus_ml(self) -> float:
        """Volume of one patient bolus; 0 where none may be asked for."""
        return BOLUS_SHARE * self.build.flow_ml_per_day if self.group.boluses else 0.0


def patients(cohort: Cohort) -> list[Patient]:
    """All patients of a cohort, in the order of its groups; the same cohort and seed always give the same."""
    counts = _counts(cohort)
    groups = [group for group, count in zip(cohort.groups, counts, strict=True) for _ in range(count)]
    return [_patient(cohort, group, number) for number, group in enumerate(groups)]


def _counts(cohort: Cohort) -> list[int]:
    """How many patients each group has: shares of the whole, what is left over to the largest fractions."""
    exact = [group.share * cohort.pumps for group in cohort.groups]
    counts = [int(share) for share in exact]
    by_fraction = sorted(range(len(exact)), key=lambda index: (counts[index] - exact[index], index))
    for index in by_fraction[: cohort.pumps - sum(counts)]:
        counts[index] += 1
    return counts


def _patient(cohort: Cohort, group: Group, number: int) -> Patient:
    chance = Random(f"{cohort.seed}/{cohort.name}/patient/{number}")
    dirt = cohort.dirt
    flow = round(chance.uniform(*group.flow_ml_per_day), 3)
    implanted_at = cohort.start - timedelta(days=chance.randint(200, 1_500))
    document = _document(cohort, group, number, flow, implanted_at, chance)
    profile = profile_from(document)
    if isinstance(profile, ProfileRejected):
        raise CohortError(cohort.name, f"group {group.name}: profile{profile.pointer}", profile.reason)
    therapy = therapy_of(profile)
    fast, slow = group.detection
    build = Build(
        pump_id=profile.pump_id,
        boot_id=1,
        flow_ml_per_day=flow,
        reservoir_ml=group.reservoir_ml,
        accuracy=1.0 + max(-0.04, min(0.04, chance.gauss(0.005, dirt.accuracy_sd))),
        low_alarm_ml=min(2.0, therapy.low_reservoir_ml),
        detection=fast + (slow - fast) * chance.random(),
        senses_volume=group.senses_volume,
        implanted_at=implanted_at,
        rhythm_hours=chance.uniform(-1.5, 1.5),
        steps=_steps(flow, chance) if chance.random() < group.flexible_share else (),
        family=group.family.value,
        level_noise_ml=dirt.level_noise_ml,
        syringe_noise_ml=dirt.syringe_noise_ml,
    )
    drift = chance.uniform(-1.0, 1.0) * dirt.drift_seconds_per_day if chance.random() < dirt.drifting_share else 0.0
    gateway = f"home-{number // dirt.pumps_per_gateway}"
    return Patient(number, group, document, profile, therapy, build, gateway, drift)


def _document(
    cohort: Cohort, group: Group, number: int, flow: float, implanted_at: datetime, chance: Random
) -> dict[str, Any]:
    """The profile as a clinic would import it."""
    document: dict[str, Any] = {
        "pump_id": f"{cohort.name}-{number:04d}",
        "site": f"site-{number // 50}",
        "valid_from": (cohort.start - KNOWN_BEFORE).isoformat(),
        "family": group.family.value,
        "reservoir_ml": group.reservoir_ml,
        "drugs": [{"name": group.drug.value}],
        "expected_interval_seconds": int(group.interval.total_seconds()),
        "implanted_on": implanted_at.date().isoformat(),
        "last_fill_ml": FILLED_SHARE * group.reservoir_ml,
    }
    if group.concentration_ug_per_ml is not None:
        document["drugs"] = [{"name": group.drug.value, "concentration_ug_per_ml": group.concentration_ug_per_ml}]
        document["prescribed_ug_per_day"] = round(flow * group.concentration_ug_per_ml, 3)
    if chance.random() < group.risk_share:
        document["risks"] = [chance.choice(group.risks).value]
    if group.boluses:
        document["bolus_max_per_day"] = BOLUSES_PER_DAY
        document["bolus_lockout_minutes"] = int(BOLUS_LOCKOUT / timedelta(minutes=1))
        document["max_bolus_ml_per_day"] = round(BOLUSES_PER_DAY * BOLUS_SHARE * flow, 4)
    return document


def _steps(mean_ml_per_day: float, chance: Random) -> tuple[tuple[float, float], ...]:
    """Two to `physics.MAX_STEPS` rates on whole hours with the given mean, none far from it."""
    count = chance.choice((2, 2, 3, 4, 6, physics.MAX_STEPS))
    hours = [0, *sorted(chance.sample(range(1, 24), count - 1))]
    rates = [chance.uniform(0.8, 1.2) for _ in hours]
    lengths = [end - begin for begin, end in zip(hours, [*hours[1:], 24], strict=True)]
    mean = sum(rate * length for rate, length in zip(rates, lengths, strict=True)) / 24
    return tuple(
        (hour * 3_600.0, round(rate / mean * mean_ml_per_day, 4)) for hour, rate in zip(hours, rates, strict=True)
    )
