"""What a cohort file may say: which patients, how untidy delivery is, which hazards, and what must be met."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from streams.domain.profile import DrugName, Family, Risk

FOLDER: Final = Path(__file__).resolve().parents[1] / "cohorts"
MAX_PUMPS: Final = 5_000
MAX_DAYS: Final = 366

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Span = Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(days=7))]


class CohortError(ValueError):
    """A cohort file cannot be used; the text names the file, the place in it and the reason."""

    def __init__(self, source: str, place: str, reason: str) -> None:
        super().__init__(f"cohort {source}: {f'{place}: ' if place else ''}{reason}")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Group(_Part):
    """Patients of one kind; pairs are the ends of an even distribution.

    ``flexible_share`` of them have a program with rate steps, ``risk_share`` one of ``risks``. ``boluses``: they may
    ask for boluses of their own. ``detection`` is the pump's stall detection latency (A-10).
    """

    name: Name
    share: Annotated[float, Field(gt=0, le=1)]
    family: Family
    reservoir_ml: Literal[20, 40] = 20
    drug: DrugName
    concentration_ug_per_ml: Annotated[float, Field(gt=0)] | None = None
    flow_ml_per_day: tuple[Annotated[float, Field(gt=0, le=24)], Annotated[float, Field(gt=0, le=24)]]
    interval: Annotated[timedelta, Field(ge=timedelta(seconds=60), le=timedelta(days=1))] = timedelta(minutes=15)
    detection: tuple[Span, Span] = (timedelta(minutes=5), timedelta(minutes=25))
    senses_volume: bool = False
    boluses: bool = False
    flexible_share: Share = 0.0
    risk_share: Share = 0.0
    risks: tuple[Risk, ...] = (Risk.SCI_T6_OR_ABOVE, Risk.COMMUNICATION_DIFFICULTY, Risk.PRIOR_WITHDRAWAL)


class Dirt(_Part):
    """How untidy delivery is, beside the hazards.

    ``outages_per_month`` strike a gateway, whose pumps they silence together. A delayed report arrives after up to
    ``delayed_by`` although later ones do not: that is what reorders. ``drifting_share`` of the pumps have a clock that
    runs wrong by up to ``drift_seconds_per_day`` in either direction.
    """

    pumps_per_gateway: Annotated[int, Field(ge=1, le=50)] = 4
    outages_per_month: Annotated[float, Field(ge=0, le=100)] = 0.0
    outage: tuple[Span, Span] = (timedelta(minutes=10), timedelta(hours=2))
    duplicated_share: Share = 0.0
    delayed_share: Share = 0.0
    delayed_by: Annotated[timedelta, Field(gt=timedelta(0), lt=timedelta(hours=1))] = timedelta(minutes=10)
    drifting_share: Share = 0.0
    drift_seconds_per_day: Annotated[float, Field(ge=0, le=60)] = 1.0
    omitted_motor_share: Share = 0.0
    accuracy_sd: Annotated[float, Field(ge=0, le=0.05)] = 0.015
    wobble_sd: Annotated[float, Field(ge=0, le=0.03)] = 0.01
    syringe_noise_ml: Annotated[float, Field(ge=0, le=0.5)] = 0.15
    level_noise_ml: Annotated[float, Field(ge=0, le=0.2)] = 0.02


class Routine(_Part):
    """What happens to patients although nothing is wrong; nobody needs to be paged for it."""

    mris_per_year: Annotated[float, Field(ge=0, le=12)] = 0.5
    dose_change_share: Share = 0.2
    weak_interference_per_month: Annotated[float, Field(ge=0, le=100)] = 1.0


class Acceptance(_Part):
    """What the cohort must meet; rates per patient-year, shares in [0, 1]. All limits are inclusive."""

    sensitivity_high: Share = 1.0
    false_high_per_patient_year: Annotated[float, Field(ge=0)] = 0.1
    false_per_patient_year: Annotated[float, Field(ge=0)] = 1.0
    high_share: Share = 0.05


class Cohort(_Part):
    """A cohort; ``hazards`` says how often each kind strikes among ``pumps`` pumps in ``days`` days."""

    name: Name
    title: Annotated[str, Field(min_length=1, max_length=200)]
    start: AwareDatetime = datetime(2026, 1, 5, tzinfo=UTC)
    pumps: Annotated[int, Field(ge=1, le=MAX_PUMPS)]
    days: Annotated[int, Field(ge=1, le=MAX_DAYS)]
    seed: int = 1
    groups: Annotated[tuple[Group, ...], Field(min_length=1)]
    dirt: Dirt = Dirt()
    routine: Routine = Routine()
    hazards: dict[str, Annotated[int, Field(ge=0, le=10_000)]] = {}
    acceptance: Acceptance = Acceptance()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if abs(sum(group.share for group in self.groups) - 1.0) > 1e-6:
            raise ValueError("the groups' shares must add up to 1")
        from services.emulator.cohort.hazards import KINDS  # noqa: PLC0415 - hazards need lives, and lives need plans.

        if unknown := sorted(self.hazards.keys() - KINDS.keys()):
            raise ValueError(f"there is no hazard {unknown[0]}; there are {', '.join(sorted(KINDS))}")
        return self

    def resized(self, pumps: int | None, days: int | None, seed: int | None) -> Cohort:
        """The same cohort with other numbers of pumps and days: hazards keep their rate, at least one of each kind."""
        changed = {"pumps": pumps or self.pumps, "days": days or self.days}
        ratio = changed["pumps"] * changed["days"] / (self.pumps * self.days)
        hazards = {kind: max(1, round(count * ratio)) if count else 0 for kind, count in self.hazards.items()}
        return self.model_copy(
            update={**changed, "hazards": hazards, "seed": self.seed if seed is None else seed},
        )


def available() -> list[str]:
    """The cohorts that come with Pumpwatch."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Cohort:
    """Read a cohort from a file whose path ends in ``.yaml``; a bare name such as ``standard`` comes with Pumpwatch.

    Raises:
        CohortError: If there is none, or it is wrong somewhere.
    """
    path = Path(name)
    if not name.endswith(".yaml"):
        path = FOLDER / f"{name}.yaml"
    elif not path.exists() and path.name == name:
        path = FOLDER / name
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CohortError(name, "", f"cannot be read; there are {', '.join(available())}") from error
    return parse(text, name)


def parse(text: str, source: str) -> Cohort:
    """Read a cohort from YAML text; ``source`` is its name in errors.

    Raises:
        CohortError: With the first thing that is wrong.
    """
    try:
        return Cohort.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise CohortError(source, f"line {mark.line + 1}" if mark else "", "is not YAML") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        reason = {"extra_forbidden": "unknown field", "missing": "field is required"}.get(first["type"], first["msg"])
        raise CohortError(source, place, reason.removeprefix("Value error, ")) from error
