"""What rules must know about a pump beside its telemetry, effective-dated so that a report is judged by what was so."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

DEFAULT_INTERVAL: Final = timedelta(minutes=15)
ACCURACY_ALLOWANCE: Final = 1.145
"""Labelled over-infusion bound: a pump may deliver up to 14.5 % above its program (clinical.md D-02)."""


class Family(StrEnum):
    """Device families; they fail in opposite directions in MRI (clinical.md M-08)."""

    SYNCHROMED_II = "synchromed_ii"
    SYNCHROMED_III = "synchromed_iii"
    PROMETRA = "prometra"
    PROMETRA_II = "prometra_ii"


class DrugName(StrEnum):
    """Drugs a pump may hold."""

    BACLOFEN = "baclofen"
    MORPHINE = "morphine"
    HYDROMORPHONE = "hydromorphone"
    ZICONOTIDE = "ziconotide"
    CLONIDINE = "clonidine"
    BUPIVACAINE = "bupivacaine"
    SALINE = "saline"


class Risk(StrEnum):
    """What makes a stop of delivery more dangerous for this patient."""

    SCI_T6_OR_ABOVE = "sci_t6_or_above"
    COMMUNICATION_DIFFICULTY = "communication_difficulty"
    PRIOR_WITHDRAWAL = "prior_withdrawal"
    CHILD = "child"
    LIVES_ALONE = "lives_alone"
    FAR_FROM_CENTRE = "far_from_centre"
    RECALL_LOT = "recall_lot"
    OFF_LABEL_DRUG = "off_label_drug"


class WithdrawalClass(IntEnum):
    """How bad an abrupt stop is (rules_catalogue.md A.6)."""

    W1 = 1
    W2 = 2
    W3 = 3


_WITHDRAWAL: Final = {
    DrugName.BACLOFEN: WithdrawalClass.W3,
    DrugName.CLONIDINE: WithdrawalClass.W3,
    DrugName.MORPHINE: WithdrawalClass.W2,
    DrugName.HYDROMORPHONE: WithdrawalClass.W2,
    DrugName.ZICONOTIDE: WithdrawalClass.W1,
    DrugName.BUPIVACAINE: WithdrawalClass.W1,
    DrugName.SALINE: WithdrawalClass.W1,
}
_BUDGET: Final = {
    (WithdrawalClass.W3, False): timedelta(hours=6),
    (WithdrawalClass.W3, True): timedelta(hours=3),
    (WithdrawalClass.W2, False): timedelta(hours=12),
    (WithdrawalClass.W2, True): timedelta(hours=8),
    (WithdrawalClass.W1, False): timedelta(hours=48),
}
_CONCENTRATION_UG_PER_ML: Final = {
    DrugName.BACLOFEN: (50.0, 4_000.0),
    DrugName.MORPHINE: (500.0, 50_000.0),
    DrugName.HYDROMORPHONE: (100.0, 100_000.0),
    DrugName.ZICONOTIDE: (0.5, 100.0),
    DrugName.CLONIDINE: (10.0, 2_000.0),
    DrugName.BUPIVACAINE: (500.0, 40_000.0),
}
"""Plausible concentrations (inclusive; domain knowledge, not labelling): outside them a profile is refused (HZ-25)."""

_CLOSED: Final = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_Positive = Annotated[float, Field(gt=0, le=1_000_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drug:
    """A drug in the reservoir; the concentration in micrograms per millilitre may be left out for saline only."""

    __pydantic_config__ = _CLOSED

    name: DrugName
    concentration_ug_per_ml: _Positive | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PumpProfile:
    """One version of a pump's profile, in force from ``valid_from`` (inclusive) until the next version's."""

    __pydantic_config__ = _CLOSED

    pump_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
    site: Annotated[str, Field(min_length=1, max_length=64)]
    valid_from: datetime
    family: Family
    reservoir_ml: Literal[20, 40]
    drugs: Annotated[tuple[Drug, ...], Field(min_length=1, max_length=5)]
    prescribed_ug_per_day: _Positive | None = None
    risks: tuple[Risk, ...] = ()
    expected_interval_seconds: Annotated[int, Field(ge=5, le=30 * 86_400)] = 900
    implanted_on: date | None = None
    titration_until: date | None = None
    refill_booked_on: date | None = None
    replacement_booked_on: date | None = None
    low_reservoir_ml: Annotated[float, Field(ge=1, le=8)] | None = None
    max_bolus_ml_per_day: Annotated[float, Field(ge=0, le=24)] | None = None
    bolus_lockout_minutes: Annotated[int, Field(ge=0, le=1_440)] | None = None
    bolus_max_per_day: Annotated[int, Field(ge=0, le=288)] | None = None
    last_fill_ml: Annotated[float, Field(ge=0, le=60)] | None = None


@dataclass(frozen=True, slots=True)
class ProfileRejected:
    """Why a document is not a usable profile: ``pointer`` is the RFC 6901 path of the first offending field."""

    pointer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Therapy:
    """What rules read from the profile in force; without a profile the strictest defaults (catalogue M.22)."""

    known: bool
    valid_from: datetime | None
    family: Family
    withdrawal: WithdrawalClass
    high_risk: bool
    budget: timedelta
    interval: timedelta
    low_reservoir_ml: float
    prescribed_ml_per_day: float | None
    max_bolus_ml_per_day: float
    site: str | None

    @property
    def raises_medium(self) -> bool:
        """``W3+1`` of the catalogue: a MEDIUM of this patient counts as HIGH where a rule says so."""
        return self.withdrawal is WithdrawalClass.W3 or self.high_risk

    @property
    def valve_gated(self) -> bool:
        """Whether the pump's valves, not a rotor, meet the MRI field."""
        return self.family in (Family.PROMETRA, Family.PROMETRA_II)


STRICTEST: Final = Therapy(
    known=False,
    valid_from=None,
    family=Family.SYNCHROMED_II,
    withdrawal=WithdrawalClass.W3,
    high_risk=True,
    budget=_BUDGET[WithdrawalClass.W3, True],
    interval=DEFAULT_INTERVAL,
    low_reservoir_ml=4.0,
    prescribed_ml_per_day=None,
    max_bolus_ml_per_day=0.0,
    site=None,
)


def therapy_of(profile: PumpProfile) -> Therapy:
    """Derive withdrawal class, risk and non-delivery budget (rules_catalogue.md A.6) from a profile."""
    withdrawal = max(_WITHDRAWAL[drug.name] for drug in profile.drugs)
    high_risk = bool(profile.risks) and withdrawal is not WithdrawalClass.W1
    low_reservoir = profile.low_reservoir_ml or (4.0 if withdrawal is WithdrawalClass.W3 else 2.0)
    concentration, prescribed = profile.drugs[0].concentration_ug_per_ml, profile.prescribed_ug_per_day
    return Therapy(
        known=True,
        valid_from=profile.valid_from,
        family=profile.family,
        withdrawal=withdrawal,
        high_risk=high_risk,
        budget=_BUDGET[withdrawal, high_risk],
        interval=timedelta(seconds=profile.expected_interval_seconds),
        low_reservoir_ml=low_reservoir,
        prescribed_ml_per_day=prescribed / concentration if prescribed and concentration else None,
        max_bolus_ml_per_day=profile.max_bolus_ml_per_day or 0.0,
        site=profile.site,
    )


class ProfileHistory:
    """All versions of one pump's profile; immutable once built."""

    __slots__ = ("_last_start", "_starts", "_therapies", "versions")

    def __init__(self, versions: tuple[PumpProfile, ...] = ()) -> None:
        self.versions = tuple(sorted(versions, key=lambda version: version.valid_from))
        self._starts = [version.valid_from for version in self.versions]
        self._therapies = [therapy_of(version) for version in self.versions]
        self._last_start = self._starts[-1] if self._starts else None

    def at(self, moment: datetime) -> PumpProfile | None:
        """The version in force at ``moment``, or None before the first one."""
        index = bisect_right(self._starts, moment)
        return self.versions[index - 1] if index else None

    def therapy(self, moment: datetime) -> Therapy:
        """What rules read at ``moment``; `STRICTEST` where no version is in force."""
        last_start = self._last_start
        if last_start is None:
            return STRICTEST
        if moment >= last_start:
            return self._therapies[-1]
        index = bisect_right(self._starts, moment)
        return self._therapies[index - 1] if index else STRICTEST

    def next_change(self, moment: datetime) -> datetime | None:
        """When the next version comes into force after ``moment`` (exclusive)."""
        last_start = self._last_start
        if last_start is None or moment >= last_start:
            return None
        return self._starts[bisect_right(self._starts, moment)]


_DOCUMENT: Final = TypeAdapter(PumpProfile)


def profile_from(document: Mapping[str, Any], zone: tzinfo = UTC) -> PumpProfile | ProfileRejected:
    """Read a profile from a JSON object.

    Args:
        document: As in ``design.md`` section 4; ``valid_from`` is an RFC 3339 time with offset, or a date.
        zone: The site's time zone, for a ``valid_from`` given as a date (midnight there).
    """
    valid_from = _moment(document.get("valid_from"), zone)
    if valid_from is None:
        return ProfileRejected("/valid_from", "must be an RFC 3339 time with an offset, or a date")
    try:
        profile = _DOCUMENT.validate_json(msgspec.json.encode({**document, "valid_from": valid_from.isoformat()}))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        reason = {"unexpected_keyword_argument": "unknown field", "missing": "field is required"}
        pointer = "".join(f"/{part}" for part in first["loc"])
        return ProfileRejected(pointer, reason.get(first["type"], first["msg"]))
    return _implausible(profile) or profile


def _moment(value: object, zone: tzinfo) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        if len(value) == len("2026-01-01"):
            return datetime.combine(date.fromisoformat(value), time.min, zone).astimezone(UTC)
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else None


def _implausible(profile: PumpProfile) -> ProfileRejected | None:
    for index, drug in enumerate(profile.drugs):
        pointer = f"/drugs/{index}/concentration_ug_per_ml"
        if drug.name is DrugName.SALINE:
            continue
        if drug.concentration_ug_per_ml is None:
            return ProfileRejected(pointer, f"field is required for {drug.name}")
        low, high = _CONCENTRATION_UG_PER_ML[drug.name]
        if not low <= drug.concentration_ug_per_ml <= high:
            return ProfileRejected(pointer, f"outside the range {low:g} to {high:g} for {drug.name}")
    if profile.prescribed_ug_per_day is None and profile.drugs[0].name is not DrugName.SALINE:
        return ProfileRejected("/prescribed_ug_per_day", "field is required unless the first drug is saline")
    return None
