"""The report: what one pump said at one moment, and how bytes from outside become one.

One definition serves both sides: pydantic validates these dataclasses where outside data enters, and msgspec carries
what was validated over Kafka in a compact codec. Everything downstream may rely on the ranges stated here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Annotated, Any, Final, Literal, NewType

import msgspec
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import core_schema

PumpId = NewType("PumpId", str)

MAX_REPORT_BYTES: Final = 64 * 1024
NORMAL_LEAD: Final = timedelta(minutes=5)
"""How far ``event_time`` may run ahead of service time and still be normal; inclusive (catalogue M.21)."""
MAX_LEAD: Final = timedelta(hours=24)
"""Further ahead than this is refused; between the two a report is accepted and quarantined (catalogue M.21)."""
MAX_AGE: Final = timedelta(days=400)
"""Older than this is refused; it is also how long readings are kept."""
FURTHEST_PLAN: Final = timedelta(days=15 * 365)
"""An MRI planned further ahead than this, longer than a pump lasts, is refused, as is one `MAX_AGE` in the past."""


class Motor(StrEnum):
    """What the pump's motor was doing at ``event_time``."""

    RUNNING = "running"
    STALLED = "stalled"
    STOPPED = "stopped"
    TELEMETRY_MODE = "telemetry_mode"
    UNKNOWN = "unknown"


class Alarm(StrEnum):
    """A pump's own alarm codes."""

    MOTOR_STALL = "motor_stall"
    RESERVOIR_EMPTY = "reservoir_empty"
    LOW_RESERVOIR = "low_reservoir"
    END_OF_SERVICE = "end_of_service"
    ELECTIVE_REPLACEMENT = "elective_replacement"
    PUMP_STOPPED_48H = "pump_stopped_48h"
    CRITICAL_MEMORY_ERROR = "critical_memory_error"
    MEMORY_ERROR = "memory_error"
    BATTERY_RESET = "battery_reset"
    SAFE_STATE = "safe_state"
    CATHETER_OCCLUSION = "catheter_occlusion"
    OVER_TEMPERATURE = "over_temperature"


class EventType(StrEnum):
    """What happened, as a pump or its user recorded it."""

    MRI_START = "mri_start"
    MRI_END = "mri_end"
    STALL_STARTED = "stall_started"
    STALL_RECOVERED = "stall_recovered"
    REFILL = "refill"
    PROGRAM_CHANGE = "program_change"
    BOLUS = "bolus"
    INTERROGATION = "interrogation"
    SYMPTOM_REPORT = "symptom_report"
    PUMP_RESET = "pump_reset"
    PUMP_REPLACED = "pump_replaced"
    MRI_SCHEDULED = "mri_scheduled"
    PROGRAMMING_SESSION = "programming_session"
    VALVE_RESET = "valve_reset"


class Symptom(StrEnum):
    """What a patient or caregiver noticed."""

    ITCHING = "itching"
    RIGIDITY = "rigidity"
    FEVER = "fever"
    CONFUSION = "confusion"
    SLEEPY = "sleepy"
    SLOW_BREATHING = "slow_breathing"
    FLOPPY = "floppy"
    COLD = "cold"
    WEAKNESS = "weakness"
    SENSORY_CHANGE = "sensory_change"
    BLADDER_CHANGE = "bladder_change"
    LOSS_OF_EFFECT = "loss_of_effect"
    PAIN_INCREASE = "pain_increase"


class EmiLevel(StrEnum):
    """Electromagnetic interference since the previous report."""

    NONE = "none"
    WEAK = "weak"
    STRONG = "strong"
    MRI = "mri"


class FlowValve(StrEnum):
    """The flow-activated valve of valve-gated pumps (Prometra)."""

    OPEN = "open"
    CLOSED = "closed"


class InterrogationResult(StrEnum):
    """What a programmer found when it asked the pump."""

    RUNNING = "running"
    STOPPED = "stopped"
    STALLED = "stalled"
    TELEMETRY_MODE = "telemetry_mode"
    FAILED = "failed"


_CLOSED: Final = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_RFC3339: Final = r"^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})$"


class _Aware:
    """Marks a datetime as RFC 3339 text with an offset for pydantic, while msgspec still sees a plain ``datetime``."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        # The pattern comes first: pydantic alone would also read "1700000000" and dates without an offset.
        text = core_schema.str_schema(pattern=_RFC3339, strict=True)
        moment = core_schema.datetime_schema(tz_constraint="aware", microseconds_precision="truncate", strict=False)
        return core_schema.chain_schema([text, moment])

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}


Instant = Annotated[datetime, _Aware()]
Count = Annotated[int, Field(ge=0, le=2**53)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
NO_CONTROLS: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""No control characters: nobody means them, PostgreSQL stores no NUL, and a terminal would obey the others."""
Text = Annotated[str, Field(min_length=1, max_length=64, pattern=NO_CONTROLS)]
ReservoirVolume = Annotated[float, Field(ge=0, le=60)]
Volume = Annotated[float, Field(ge=0, le=1_000_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """Battery telemetry: voltage in volts, elective replacement indicator, end of service."""

    __pydantic_config__ = _CLOSED

    voltage_v: Annotated[float, Field(ge=0, le=10)] | None = None
    eri: bool | None = None
    eos: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Emi:
    """Strongest interference since the previous report, and how often; ``count`` defaults to 1."""

    __pydantic_config__ = _CLOSED

    level: EmiLevel
    count: Count = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at ``at`` (pump's clock; the report's ``event_time`` when left out).

    Which other fields an event carries depends on its type; see `_EVENT_OWN_FIELDS`.
    """

    __pydantic_config__ = _CLOSED

    type: EventType
    at: Instant | None = None
    declared_by: Text | None = None
    aspirated_ml: ReservoirVolume | None = None
    injected_ml: ReservoirVolume | None = None
    residual_ml: ReservoirVolume | None = None
    old_checksum: Text | None = None
    new_checksum: Text | None = None
    session_id: Text | None = None
    outcome: Literal["requested", "delivered", "denied"] | None = None
    volume_ml: ReservoirVolume | None = None
    result: InterrogationResult | None = None
    codes: Annotated[tuple[Symptom, ...], Field(min_length=1, max_length=13)] | None = None
    default_program: bool | None = None
    scheduled_for: Annotated[Instant | None, Field(alias="for")] = None
    phase: Literal["start", "end"] | None = None


_EVENT_OWN_FIELDS: Final[dict[EventType, frozenset[str]]] = {
    EventType.MRI_START: frozenset({"declared_by"}),
    EventType.MRI_END: frozenset({"declared_by"}),
    EventType.STALL_STARTED: frozenset(),
    EventType.STALL_RECOVERED: frozenset(),
    EventType.REFILL: frozenset({"aspirated_ml", "injected_ml", "residual_ml"}),
    EventType.PROGRAM_CHANGE: frozenset({"old_checksum", "new_checksum", "session_id"}),
    EventType.BOLUS: frozenset({"outcome", "volume_ml"}),
    EventType.INTERROGATION: frozenset({"result"}),
    EventType.SYMPTOM_REPORT: frozenset({"codes"}),
    EventType.PUMP_RESET: frozenset({"default_program"}),
    EventType.PUMP_REPLACED: frozenset(),
    EventType.MRI_SCHEDULED: frozenset({"scheduled_for"}),
    EventType.PROGRAMMING_SESSION: frozenset({"session_id", "phase"}),
    EventType.VALVE_RESET: frozenset(),
}
"""Which fields each event may carry beside ``type`` and ``at``."""

_EVENT_REQUIRED_FIELDS: Final[dict[EventType, frozenset[str]]] = {
    EventType.REFILL: frozenset({"aspirated_ml", "injected_ml"}),
    EventType.BOLUS: frozenset({"outcome", "volume_ml"}),
    EventType.INTERROGATION: frozenset({"result"}),
    EventType.SYMPTOM_REPORT: frozenset({"codes"}),
    EventType.MRI_SCHEDULED: frozenset({"scheduled_for"}),
    EventType.PROGRAMMING_SESSION: frozenset({"session_id", "phase"}),
}

_WIRE_NAMES: Final = {"scheduled_for": "for"}


def event_fields(event_type: EventType) -> frozenset[str]:
    """What events of a type may say beside ``type`` and ``at``."""
    return _EVENT_OWN_FIELDS[event_type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one pump said at one moment; field meanings and units are those of ``design.md`` section 4.

    Absent fields say nothing; ``alarms=()`` says that no alarm sounds. ``event_time`` is the pump's clock,
    ``gateway_time`` the gateway's, ``received_at`` the service's (set at the edge, never by a gateway).
    """

    __pydantic_config__ = _CLOSED

    schema_version: Literal[1]
    pump_id: Identifier
    boot_id: Count
    seq: Count
    event_time: Instant
    gateway_id: Identifier
    gateway_time: Instant
    motor: Motor | None = None
    alarms: Annotated[tuple[Alarm, ...], Field(max_length=12)] | None = None
    reservoir_estimated_ml: ReservoirVolume | None = None
    reservoir_measured_ml: ReservoirVolume | None = None
    flow_programmed_ml_per_day: Annotated[float, Field(ge=0, le=24)] | None = None
    volume_programmed_ml: Volume | None = None
    volume_delivered_ml: Volume | None = None
    temperature_celsius: Annotated[float, Field(ge=0, le=60)] | None = None
    battery: Battery | None = None
    emi: Emi | None = None
    flow_valve: FlowValve | None = None
    program_checksum: Text | None = None
    events: Annotated[tuple[Event, ...], Field(max_length=100)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A report with the service time at which an edge took it (aware UTC).

    ``clinic``: it came from a gateway of kind ``clinic``, so that a programming session in it is an authorised one
    (catalogue M.23).
    """

    report: Report
    received_at: datetime
    clinic: bool = False


class RejectReason(StrEnum):
    """Why an edge refused a report: the metric label and the dead letter's reason."""

    TOO_LARGE = "too_large"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    TOO_DEEP = "too_deep"
    INVALID = "invalid"
    TOO_OLD = "too_old"
    TOO_FAR_AHEAD = "too_far_ahead"
    FOREIGN_GATEWAY = "foreign_gateway"


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why bytes are not a usable report: ``pointer`` is the RFC 6901 path of the first offending field."""

    code: RejectReason
    pointer: str
    reason: str


_DOCUMENT: Final = TypeAdapter(Report)


def validate(raw: bytes, now: datetime) -> Report | Rejected:
    """Turn bytes from outside into a report, or say what is wrong with the first bad field.

    Args:
        raw: One JSON object in UTF-8.
        now: Service time, aware UTC; ``event_time`` and ``gateway_time`` must lie within
            [now - `MAX_AGE`, now + `MAX_LEAD`], both inclusive.
    """
    if len(raw) > MAX_REPORT_BYTES:
        reason = f"report has {len(raw)} bytes, at most {MAX_REPORT_BYTES} are allowed"
        return Rejected(RejectReason.TOO_LARGE, "", reason)
    try:
        report = _DOCUMENT.validate_json(raw)
    except ValidationError as error:
        return _rejection(error)
    return _implausible(report, now) or report


def _rejection(error: ValidationError) -> Rejected:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in first["loc"])
    reason = {"unexpected_keyword_argument": "unknown field", "missing": "field is required"}.get(
        first["type"], first["msg"]
    )
    if first["type"] != "json_invalid":
        return Rejected(RejectReason.INVALID, pointer, reason)
    if "recursion" in reason:
        return Rejected(RejectReason.TOO_DEEP, "", reason)
    if "unicode" in reason:
        return Rejected(RejectReason.NOT_UTF8, "", reason)
    return Rejected(RejectReason.NOT_JSON, "", reason)


def _implausible(report: Report, now: datetime) -> Rejected | None:
    for name, moment in (("event_time", report.event_time), ("gateway_time", report.gateway_time)):
        if moment > now + MAX_LEAD:
            return Rejected(RejectReason.TOO_FAR_AHEAD, f"/{name}", "more than 24 hours ahead of service time")
        if moment < now - MAX_AGE:
            return Rejected(RejectReason.TOO_OLD, f"/{name}", "older than 400 days")
    for index, event in enumerate(report.events):
        if problem := _misplaced_field(event, report):
            name, reason = problem
            return Rejected(RejectReason.INVALID, f"/events/{index}/{_WIRE_NAMES.get(name, name)}", reason)
    if not any(getattr(report, name) is not None for name in _SAYING_FIELDS) and not report.events:
        return Rejected(RejectReason.INVALID, "", "a report must say at least one thing")
    return None


def _misplaced_field(event: Event, report: Report) -> tuple[str, str] | None:
    if event.at is not None and event.at > report.event_time:
        return "at", "an event cannot be later than the report's event_time"
    if event.at is not None and event.at < report.event_time - MAX_AGE:
        return "at", "older than 400 days"
    planned = event.scheduled_for
    if planned is not None and not -MAX_AGE <= planned - report.event_time <= FURTHEST_PLAN:
        return "scheduled_for", "more than 400 days before the report's event_time, or 15 years after it"
    given = {name for name in _EVENT_DETAILS if getattr(event, name) is not None}
    if foreign := given - _EVENT_OWN_FIELDS[event.type]:
        return min(foreign), f"unknown field for an event of type {event.type}"
    if missing := _EVENT_REQUIRED_FIELDS.get(event.type, frozenset()) - given:
        return min(missing), f"field is required for an event of type {event.type}"
    return None


_EVENT_DETAILS: Final = tuple(f.name for f in fields(Event) if f.name not in ("type", "at"))
_SAYING_FIELDS: Final = tuple(f.name for f in fields(Report)[7:] if f.name != "events")
_SPOKEN: Final = attrgetter(*(f.name for f in fields(Report) if f.name not in ("gateway_id", "gateway_time")))
_CODEC: Final = msgspec.msgpack.Encoder()


def fingerprint(report: Report) -> bytes:
    """Eight bytes that identify what the pump said, whichever gateway passed it on and whenever (catalogue M.18)."""
    return hashlib.blake2b(_CODEC.encode(_SPOKEN(report)), digest_size=8).digest()


def json_schema() -> dict[str, Any]:
    """The published JSON Schema (draft 2020-12) of a report, with each event's own fields spelled out."""
    schema = _DOCUMENT.json_schema()
    definitions = schema["$defs"]
    event = definitions.pop("Event")
    definitions["Event"] = {"oneOf": [_event_schema(event, event_type) for event_type in EventType]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _event_schema(flat: dict[str, Any], event_type: EventType) -> dict[str, Any]:
    names = {_WIRE_NAMES.get(name, name) for name in _EVENT_OWN_FIELDS[event_type]}
    required = {_WIRE_NAMES.get(name, name) for name in _EVENT_REQUIRED_FIELDS.get(event_type, frozenset())}
    properties = {name: flat["properties"][name] for name in flat["properties"] if name in names or name == "at"}
    return {
        "title": event_type.value,
        "type": "object",
        "properties": {"type": {"const": event_type.value}, **properties},
        "required": ["type", *sorted(required)],
        "additionalProperties": False,
    }
