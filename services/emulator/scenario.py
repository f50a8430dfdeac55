"""What a scenario file may say: gateways, pumps, and what happens to them when.

Offsets are ISO 8601 durations from the start of the run; negative ones lie in the past and reach Pumpwatch as a
gateway's buffered history.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.emulator.physics import MAX_STEPS
from streams.domain.profile import ProfileRejected, PumpProfile, profile_from, therapy_of
from streams.domain.telemetry import Alarm, Symptom

FOLDER: Final = Path(__file__).resolve().parent / "scenarios"
KNOWN_SINCE: Final = "2020-01-01"
"""From when on a profile holds: long before anything a scenario tells, and the same in each run."""
MAX_PUMPS: Final = 10_000


class ScenarioError(ValueError):
    """A scenario cannot be used; the text names the file, the place in it and the reason."""

    def __init__(self, source: str, place: str, reason: str) -> None:
        super().__init__(f"scenario {source}: {f'{place}: ' if place else ''}{reason}")


class ActKind(StrEnum):
    """What can happen to a pump in a story."""

    STALL = "stall"
    RECOVER = "recover"
    STOP = "stop"
    START = "start"
    MRI_ENTER = "mri_enter"
    MRI_LEAVE = "mri_leave"
    INTERROGATE = "interrogate"
    REFILL = "refill"
    BOLUS = "bolus"
    SYMPTOMS = "symptoms"
    FAIL = "fail"
    MEND = "mend"
    BIAS = "bias"
    DUMP = "dump"
    WARM = "warm"
    TRAP = "trap"
    RESET = "reset"
    VALVE_RESET = "valve_reset"
    LEAK = "leak"
    INTERFERE = "interfere"
    SESSION = "session"
    REPROGRAM = "reprogram"
    SCHEDULE_MRI = "schedule_mri"
    REPLACE = "replace"


_OWN_FIELDS: Final[Mapping[ActKind, frozenset[str]]] = {
    ActKind.MRI_ENTER: frozenset({"declared_by"}),
    ActKind.MRI_LEAVE: frozenset({"declared_by", "recovers_after"}),
    ActKind.REFILL: frozenset({"injected_ml", "into_pocket_ml"}),
    ActKind.BOLUS: frozenset({"volume_ml"}),
    ActKind.DUMP: frozenset({"volume_ml"}),
    ActKind.SYMPTOMS: frozenset({"codes"}),
    ActKind.FAIL: frozenset({"codes"}),
    ActKind.BIAS: frozenset({"factor"}),
    ActKind.WARM: frozenset({"celsius", "lasts"}),
    ActKind.LEAK: frozenset({"lost_share"}),
    ActKind.INTERFERE: frozenset({"level", "count"}),
    ActKind.SESSION: frozenset({"session_id", "phase"}),
    ActKind.REPROGRAM: frozenset({"rates", "session_id"}),
    ActKind.SCHEDULE_MRI: frozenset({"due_in"}),
    ActKind.REPLACE: frozenset({"injected_ml"}),
}
_NEEDED_FIELDS: Final[Mapping[ActKind, frozenset[str]]] = {
    **{kind: fields for kind, fields in _OWN_FIELDS.items() if not kind.startswith("mri_")},
    ActKind.REFILL: frozenset({"injected_ml"}),
    ActKind.INTERFERE: frozenset({"level"}),
    ActKind.REPROGRAM: frozenset({"rates"}),
}

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Period = Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=30))]
TimeOfDay = Annotated[timedelta, Field(ge=timedelta(0), lt=timedelta(days=1))]
Rate = Annotated[float, Field(ge=0, le=24)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Act(_Part):
    """Something that happens to a pump; ``declared_by`` empty means that nobody declares the MRI.

    ``codes`` are symptoms, or the alarms of a fault. ``factor`` is what a fault makes of delivered over programmed.
    ``into_pocket_ml`` of a refill misses the reservoir. ``celsius`` warm the pump for as long as it ``lasts``.
    ``lost_share`` of what it delivers leaks from the catheter. ``rates`` in mL/day hold from a time of day (UTC) on,
    the first from ``PT0H``; without ``session_id`` nobody authorised them. ``due_in`` is the time to a planned MRI.
    """

    at: timedelta
    act: ActKind
    declared_by: str | None = None
    recovers_after: timedelta | None = None
    injected_ml: Annotated[float, Field(gt=0, le=40)] | None = None
    into_pocket_ml: Annotated[float, Field(gt=0, le=40)] | None = None
    volume_ml: Annotated[float, Field(gt=0, le=40)] | None = None
    codes: Annotated[tuple[str, ...], Field(min_length=1, max_length=12)] | None = None
    factor: Annotated[float, Field(ge=0, le=20)] | None = None
    celsius: Annotated[float, Field(ge=-5, le=10)] | None = None
    lasts: Period | None = None
    lost_share: Share | None = None
    level: Literal["weak", "strong", "mri"] | None = None
    count: Annotated[int, Field(ge=1, le=1_000)] | None = None
    session_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    phase: Literal["start", "end"] | None = None
    rates: Annotated[Mapping[TimeOfDay, Rate], Field(min_length=1, max_length=MAX_STEPS)] | None = None
    due_in: Period | None = None

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        own = _OWN_FIELDS.get(self.act, frozenset())
        given = {
            name for name in type(self).model_fields if name not in ("at", "act") and getattr(self, name) is not None
        }
        if foreign := given - own:
            raise ValueError(f"{min(foreign)} does not belong to {self.act}")
        if missing := _NEEDED_FIELDS.get(self.act, frozenset()) - given:
            raise ValueError(f"{min(missing)} is required for {self.act}")
        known = {ActKind.SYMPTOMS: Symptom, ActKind.FAIL: Alarm}.get(self.act)
        if known is not None and (unknown := set(self.codes or ()) - {code.value for code in known}):
            raise ValueError(f"{min(unknown)} is no code for {self.act}")
        if self.rates is not None and timedelta(0) not in self.rates:
            raise ValueError("rates need one from PT0H on")
        return self


class Outage(_Part):
    """A gateway without its link, from ``lost`` until ``back`` (for good when left out)."""

    lost: timedelta
    back: timedelta | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.back is not None and self.back <= self.lost:
            raise ValueError("back must come after lost")
        return self


class GatewayPlan(_Part):
    """How a gateway behaves: it sends every ``send_every``, resends and reorders a share of what it has."""

    name: Name
    send_every: Period = timedelta(seconds=1)
    batch: Annotated[int, Field(ge=1, le=1_000)] = 100
    resent_share: Share = 0.0
    reordered_share: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    outages: tuple[Outage, ...] = ()


class History(_Part):
    """What a pump reported before the run began: ``every`` so long, from ``since`` (negative) on."""

    since: Annotated[timedelta, Field(lt=timedelta(0))]
    every: Period


class PumpPlan(_Part):
    """A pump, or ``count`` of them, and their story.

    ``renewed`` gives it a new id in each run, so that the story of an earlier run does not go on in this one.
    ``visits_only_after`` is when its profile stops expecting a gateway: a pump that no later run continues is then not
    reported as silent. ``low_at`` puts the computed level so that it reaches the profile's limit then.
    """

    name: Name
    gateway: Name
    profile: dict[str, Any]
    count: Annotated[int, Field(ge=1, le=MAX_PUMPS)] = 1
    renewed: bool = False
    visits_only_after: timedelta | None = None
    report_every: Period = timedelta(seconds=30)
    history: History | None = None
    flow_ml_per_day: Annotated[float, Field(gt=0, le=24)] = 0.48
    accuracy: Annotated[float, Field(gt=0, le=3)] = 1.0
    detection: Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(minutes=90))] = timedelta(0)
    senses_volume: bool = False
    tells_motor: bool = True
    level_ml: Annotated[float, Field(gt=0, le=40)] | None = None
    low_at: timedelta | None = None
    story: tuple[Act, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.level_ml is not None and self.low_at is not None:
            raise ValueError("level_ml and low_at exclude each other")
        if self.visits_only_after is not None and not self.renewed:
            raise ValueError("visits_only_after is for renewed pumps")
        first = self.history.since if self.history else timedelta(0)
        if any(act.at < first for act in self.story):
            raise ValueError("the story begins before the history does")
        if list(self.story) != sorted(self.story, key=lambda act: act.at):
            raise ValueError("the story is not in order of time")
        return self


class Scenario(_Part):
    """Gateways and pumps, and what happens to them."""

    name: Name
    title: Annotated[str, Field(min_length=1, max_length=200)]
    site: Annotated[str, Field(min_length=1, max_length=64)]
    gateways: Annotated[tuple[GatewayPlan, ...], Field(min_length=1, max_length=50)]
    pumps: Annotated[tuple[PumpPlan, ...], Field(min_length=1, max_length=1_000)]

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        gateways = [gateway.name for gateway in self.gateways]
        names = [pump.name for pump in self.pumps]
        for kind, given in (("gateway", gateways), ("pump", names)):
            if doubled := sorted({name for name in given if given.count(name) > 1}):
                raise ValueError(f"two {kind}s are called {doubled[0]}")
        for pump in self.pumps:
            if pump.gateway not in gateways:
                raise ValueError(f"pump {pump.name}: there is no gateway {pump.gateway}")
        if sum(pump.count for pump in self.pumps) > MAX_PUMPS:
            raise ValueError(f"more than {MAX_PUMPS} pumps")
        for pump in self.pumps:
            profile = profile_from(_document(self, pump, pump.name))
            if isinstance(profile, ProfileRejected):
                raise ValueError(f"pump {pump.name}: profile{profile.pointer}: {profile.reason}")
        return self


def available() -> list[str]:
    """The scenarios that come with Pumpwatch."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Scenario:
    """Read a scenario by its name, or from a file whose path ends in ``.yaml``.

    Raises:
        ScenarioError: If there is none, or it is wrong somewhere.
    """
    path = Path(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ScenarioError(name, "", f"cannot be read; there are {', '.join(available())}") from error
    return parse(text, name)


def parse(text: str, source: str) -> Scenario:
    """Read a scenario from YAML text; ``source`` is its name in errors.

    Raises:
        ScenarioError: With the first thing that is wrong.
    """
    try:
        return Scenario.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}" if mark else ""
        raise ScenarioError(source, place, "is not YAML") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        reason = {"extra_forbidden": "unknown field", "missing": "field is required"}.get(first["type"], first["msg"])
        raise ScenarioError(source, place, reason.removeprefix("Value error, ")) from error


def pump_id(scenario: Scenario, plan: PumpPlan, number: int, run: int) -> str:
    """The id of a plan's pump ``number`` (from 0); ``run`` tells the runs of renewed pumps apart."""
    parts = [scenario.name, plan.name]
    if plan.count > 1:
        parts.append(f"{number + 1:03d}")
    if plan.renewed:
        parts.append(f"{run:x}")
    return "-".join(parts)


def profile_documents(scenario: Scenario, run: int) -> list[dict[str, Any]]:
    """The profiles of all pumps of a run, as ``pumpwatch pumps import`` reads them, one per line.

    Args:
        scenario: Which pumps.
        run: The run's start in seconds since 1970; it also names the renewed pumps.
    """
    documents = []
    started = datetime.fromtimestamp(run, UTC)
    for plan in scenario.pumps:
        for number in range(plan.count):
            document = _document(scenario, plan, pump_id(scenario, plan, number, run))
            documents.append(document)
            if plan.visits_only_after is not None:
                month = int(timedelta(days=30).total_seconds())
                since = (started + plan.visits_only_after).isoformat()
                documents.append({**document, "valid_from": since, "expected_interval_seconds": month})
    return documents


def profile_of(scenario: Scenario, plan: PumpPlan) -> PumpProfile:
    """The profile of a plan's pumps at the start of a run."""
    profile = profile_from(_document(scenario, plan, plan.name))
    if isinstance(profile, ProfileRejected):
        raise ScenarioError(scenario.name, plan.name, profile.reason)
    return profile


def low_limit_ml(scenario: Scenario, plan: PumpPlan) -> float:
    """The level at which a plan's pumps count as low."""
    return therapy_of(profile_of(scenario, plan)).low_reservoir_ml


def _document(scenario: Scenario, plan: PumpPlan, identity: str) -> dict[str, Any]:
    return {"pump_id": identity, "site": scenario.site, "valid_from": KNOWN_SINCE, **plan.profile}
