"""What rules must know about a pump beside its telemetry, effective-dated so that a report is judged by what was so."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from streams.domain.care import CareKind, CareRecord
from streams.domain.telemetry import Text

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
    site: Text
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
    """What rules read from the profile and the care records in force from ``since`` on, until the next change.

    Without a profile the strictest defaults hold (catalogue M.22). ``valid_from`` is that of the profile version.
    ``care`` are the records in force, oldest ``valid_from`` first; ``known_care`` are all records of the pump, whenever
    they count. ``key`` differs wherever anything here differs.
    """

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
    profile: PumpProfile | None = None
    care: tuple[CareRecord, ...] = ()
    known_care: tuple[CareRecord, ...] = ()
    since: datetime | None = None
    zone: tzinfo = UTC
    key: str = ""
    parameters: dict[str, Mapping[str, Any]] = field(default_factory=dict, compare=False, repr=False)
    """Memo of `streams.domain.rule.parameters_in_force`, by the rule's hash."""

    @property
    def raises_medium(self) -> bool:
        """``W3+1`` of the catalogue: a MEDIUM of this patient counts as HIGH where a rule says so."""
        return self.withdrawal is WithdrawalClass.W3 or self.high_risk

    @property
    def lowers_high(self) -> bool:
        """``W1-1`` of the catalogue: a HIGH for lost delivery counts as MEDIUM where a rule says so."""
        return self.withdrawal is WithdrawalClass.W1

    @property
    def valve_gated(self) -> bool:
        """Whether the pump's valves, not a rotor, meet the MRI field."""
        return self.family in (Family.PROMETRA, Family.PROMETRA_II)

    @property
    def saline_only(self) -> bool:
        """Whether the pump holds nothing but saline."""
        return self.profile is not None and all(drug.name is DrugName.SALINE for drug in self.profile.drugs)

    def newest(self, kind: CareKind) -> CareRecord | None:
        """The record of this kind in force that counts since the latest time."""
        return next((record for record in reversed(self.care) if record.kind is kind), None)

    def of_kind(self, kind: CareKind) -> tuple[CareRecord, ...]:
        """All records of this kind in force, oldest first."""
        return tuple(record for record in self.care if record.kind is kind)

    @property
    def refill_booked_at(self) -> datetime | None:
        """Start (00:00 at the site) of the day for which a refill is booked: the later record, else the profile's."""
        return self._booked(CareKind.REFILL_BOOKED, self.profile.refill_booked_on if self.profile else None)

    @property
    def replacement_booked_at(self) -> datetime | None:
        """Start (00:00 at the site) of the day for which a replacement is booked."""
        return self._booked(CareKind.REPLACEMENT_BOOKED, self.profile.replacement_booked_on if self.profile else None)

    def midnight(self, day: date) -> datetime:
        """When a day begins at the pump's site, in UTC."""
        return datetime.combine(day, time.min, self.zone).astimezone(UTC)

    def _booked(self, kind: CareKind, by_profile: date | None) -> datetime | None:
        record = self.newest(kind)
        profile_from = self.valid_from
        if record is not None and by_profile is not None and profile_from is not None:
            day = record.booked_on if record.valid_from >= profile_from else by_profile
        else:
            day = record.booked_on if record is not None else by_profile
        return self.midnight(day) if day is not None else None


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
        profile=profile,
    )


class ProfileHistory:
    """All versions of one pump's profile and all its care records; immutable once built.

    Args:
        versions: The profile's versions.
        care: Care records of the same pump.
        zone: Time zone of the pump's site, for booked dates and days.
    """

    __slots__ = ("_bounds", "_starts", "_therapies", "care", "key", "versions", "zone")

    def __init__(
        self, versions: tuple[PumpProfile, ...] = (), care: tuple[CareRecord, ...] = (), zone: tzinfo = UTC
    ) -> None:
        self.versions = tuple(sorted(versions, key=lambda version: version.valid_from))
        self.care = tuple(sorted(care, key=lambda record: (record.valid_from, record.care_id)))
        self.zone = zone
        self._starts = [version.valid_from for version in self.versions]
        ends = (record.ends_at for record in self.care)
        bounds = {*self._starts, *(record.valid_from for record in self.care), *(end for end in ends if end)}
        self._bounds = sorted(bounds)
        self._therapies: dict[int, Therapy] = {}
        said = repr((self.versions, self.care, str(zone))).encode()
        self.key = hashlib.blake2b(said, digest_size=6).hexdigest() if bounds else ""

    def at(self, moment: datetime) -> PumpProfile | None:
        """The version in force at ``moment``, or None before the first one."""
        index = bisect_right(self._starts, moment)
        return self.versions[index - 1] if index else None

    def therapy(self, moment: datetime) -> Therapy:
        """What rules read at ``moment``; `STRICTEST` where no version and no care record is in force."""
        bounds = self._bounds
        if not bounds:
            return STRICTEST
        index = len(bounds) if moment >= bounds[-1] else bisect_right(bounds, moment)
        therapy = self._therapies.get(index)
        if therapy is None:
            therapy = self._therapies[index] = self._between(index)
        return therapy

    def next_change(self, moment: datetime) -> datetime | None:
        """When something next comes into force or ends after ``moment`` (exclusive)."""
        bounds = self._bounds
        if not bounds or moment >= bounds[-1]:
            return None
        return bounds[bisect_right(bounds, moment)]

    def _between(self, index: int) -> Therapy:
        since = self._bounds[index - 1] if index else None
        profile = self.at(since) if since is not None else None
        care = tuple(record for record in self.care if since is not None and record.in_force(since))
        therapy = therapy_of(profile) if profile is not None else STRICTEST
        return replace(
            therapy,
            care=care,
            known_care=self.care,
            since=since,
            zone=self.zone,
            key=f"{self.key}/{index}",
            parameters=_memo(therapy, care),
        )


def _memo(therapy: Therapy, care: tuple[CareRecord, ...]) -> dict[str, Mapping[str, Any]]:
    """Where rules' parameters are remembered; pumps without settings of their own share it with all that are alike.

    Alike is what `streams.domain.rule.Variant.fits` cannot tell apart.
    """
    if any(record.kind is CareKind.SETTING for record in care):
        return {}
    drugs = frozenset(drug.name for drug in therapy.profile.drugs) if therapy.profile is not None else frozenset()
    return _SHARED.setdefault((drugs, therapy.family, therapy.withdrawal, therapy.high_risk), {})


_Alike = tuple[frozenset[DrugName], Family, WithdrawalClass, bool]
_SHARED: Final[dict[_Alike, dict[str, Mapping[str, Any]]]] = {}


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
    # The validator's own time zone object makes each comparison with another time several times as slow.
    return _implausible(profile) or replace(profile, valid_from=valid_from)


def _moment(value: object, zone: tzinfo) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        if len(value) == len("2026-01-01"):
            return datetime.combine(date.fromisoformat(value), time.min, zone).astimezone(UTC)
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


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
