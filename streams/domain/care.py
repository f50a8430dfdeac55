"""What people know beside telemetry: plans, bookings, absences, reviews, sessions and per-patient settings.

Each is entered by a named person with a reason, effective-dated like the profile, and judged by its own time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from streams.domain.telemetry import NO_CONTROLS, Text

LONGEST_LOOSENING: Final = timedelta(days=90)
"""A setting that makes a rule less strict ends by itself after so long at the latest, whatever its record says."""


class CareKind(StrEnum):
    """What kind of knowledge it is."""

    STOP_PLAN = "stop_plan"
    REFILL_BOOKED = "refill_booked"
    REPLACEMENT_BOOKED = "replacement_booked"
    REPLACED = "replaced"
    ABSENCE = "absence"
    REVIEW = "review"
    SESSION = "session"
    SETTING = "setting"


_CLOSED: Final = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class CareRecord:
    """One thing that a named person knows about a pump, in force over [``valid_from``, ``valid_until``).

    ``valid_until`` None: until it is withdrawn or another record of its kind follows. A stop plan, an absence and a
    setting that loosens a rule must have a hard end. ``booked_on`` is a date at the pump's site. ``withdrawn_at`` is
    when somebody took it back: from then on it counts no more, and before it did.
    """

    __pydantic_config__ = _CLOSED

    care_id: _Id
    pump_id: _Id
    kind: CareKind
    valid_from: datetime
    valid_until: datetime | None = None
    person: Text
    reason: Annotated[str, Field(min_length=3, max_length=500, pattern=NO_CONTROLS)]
    booked_on: date | None = None
    session_id: Text | None = None
    rule_id: Annotated[str, Field(pattern=r"^[A-Z]{3}-\d{2}$")] | None = None
    parameter: Text | None = None
    value: float | None = None
    withdrawn_at: datetime | None = None

    @property
    def ends_at(self) -> datetime | None:
        """When it stops counting; exclusive."""
        ends = [at for at in (self.valid_until, self.withdrawn_at) if at is not None]
        return min(ends, default=None)

    def in_force(self, moment: datetime) -> bool:
        """Whether it counts at ``moment``."""
        ends_at = self.ends_at
        return self.valid_from <= moment and (ends_at is None or moment < ends_at)


@dataclass(frozen=True, slots=True)
class CareRejected:
    """Why a document is not a usable care record: ``pointer`` is the RFC 6901 path of the first offending field."""

    pointer: str
    reason: str


_NEEDS: Final[Mapping[CareKind, tuple[str, ...]]] = {
    CareKind.STOP_PLAN: ("valid_until",),
    CareKind.REFILL_BOOKED: ("booked_on",),
    CareKind.REPLACEMENT_BOOKED: ("booked_on",),
    CareKind.REPLACED: (),
    CareKind.ABSENCE: ("valid_until",),
    CareKind.REVIEW: ("rule_id",),
    CareKind.SESSION: ("session_id",),
    CareKind.SETTING: ("rule_id", "parameter", "value"),
}
"""What each kind must say beside who, when and why."""
_MAY: Final[Mapping[CareKind, tuple[str, ...]]] = {
    CareKind.SESSION: ("valid_until",),
    CareKind.SETTING: ("valid_until",),
}
_MOMENTS: Final = ("valid_from", "valid_until", "withdrawn_at")
_DATED: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_DETAILS: Final = ("valid_until", "booked_on", "session_id", "rule_id", "parameter", "value")
_DOCUMENT: Final = TypeAdapter(CareRecord)


def care_from(document: Mapping[str, Any]) -> CareRecord | CareRejected:
    """Read a care record from a JSON object; times are RFC 3339 with an offset, dates ISO 8601."""
    try:
        encoded = msgspec.json.encode(dict(document))
    except (ValueError, OverflowError, TypeError, RecursionError):
        return CareRejected("", "has a number or a text that JSON cannot carry")
    for name in _MOMENTS:
        said = document.get(name)
        if isinstance(said, str) and not _DATED.match(said):
            # The validator would take 20261103 for seconds since 1970.
            return CareRejected(f"/{name}", "must be an RFC 3339 time with an offset")
    try:
        record = _DOCUMENT.validate_json(encoded)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        reason = {"unexpected_keyword_argument": "unknown field", "missing": "field is required"}
        pointer = "".join(f"/{part}" for part in first["loc"])
        return CareRejected(pointer, reason.get(first["type"], first["msg"]))
    return _implausible(record) or record


def _implausible(record: CareRecord) -> CareRejected | None:
    given = {name for name in _DETAILS if getattr(record, name) is not None}
    needs = set(_NEEDS[record.kind])
    if missing := needs - given:
        return CareRejected(f"/{min(missing)}", f"field is required for {record.kind}")
    if foreign := given - needs - set(_MAY.get(record.kind, ())):
        return CareRejected(f"/{min(foreign)}", f"unknown field for {record.kind}")
    for name in _MOMENTS:
        moment = getattr(record, name)
        if moment is not None and moment.tzinfo is None:
            return CareRejected(f"/{name}", "must have an offset")
    if record.valid_until is not None and record.valid_until <= record.valid_from:
        return CareRejected("/valid_until", "must be later than valid_from")
    return None


def care_document(record: CareRecord) -> dict[str, Any]:
    """The record as a JSON object, without what was not said."""
    values = ((field.name, getattr(record, field.name)) for field in fields(record))
    document: dict[str, Any] = msgspec.to_builtins({name: value for name, value in values if value is not None})
    return document
