"""What is a report and what is not: every refusal names the field and the reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from streams.domain.telemetry import (
    MAX_AGE,
    MAX_LEAD,
    MAX_REPORT_BYTES,
    Event,
    EventType,
    Received,
    Rejected,
    RejectReason,
    Report,
    fingerprint,
    json_schema,
    validate,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DOCUMENT: dict[str, Any] = {
    "schema_version": 1,
    "pump_id": "P-1",
    "boot_id": 1,
    "seq": 7,
    "event_time": "2026-03-01T11:59:00Z",
    "gateway_id": "GW-1",
    "gateway_time": "2026-03-01T11:59:30+00:00",
    "motor": "running",
}


def _raw(**changes: Any) -> bytes:
    return json.dumps({**DOCUMENT, **changes}).encode()


def _report(**changes: Any) -> Report:
    report = validate(_raw(**changes), NOW)
    assert isinstance(report, Report), report
    return report


def test_a_report_of_every_field_is_read_and_survives_the_codec() -> None:
    """What was validated travels unchanged."""
    report = _report(
        alarms=["motor_stall"],
        reservoir_estimated_ml=12.5,
        reservoir_measured_ml=60,
        flow_programmed_ml_per_day=0.4,
        volume_programmed_ml=3,
        volume_delivered_ml=2.5,
        temperature_celsius=37.2,
        battery={"voltage_v": 2.9, "eri": False, "eos": False},
        emi={"level": "weak"},
        flow_valve="open",
        program_checksum="abc",
        events=[
            {"type": "mri_scheduled", "for": "2026-03-02T08:00:00Z"},
            {"type": "bolus", "outcome": "denied", "volume_ml": 0.1, "at": "2026-03-01T11:00:00+02:00"},
        ],
    )
    received = Received(report=report, received_at=NOW)

    again = msgspec.msgpack.decode(msgspec.msgpack.encode(received), type=Received)

    assert again == received
    assert again.report.events[1].at == datetime(2026, 3, 1, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "code", "pointer", "word"),
    [
        (b"x" * (MAX_REPORT_BYTES + 1), RejectReason.TOO_LARGE, "", "at most 65536"),
        (b'{"schema_version": 1', RejectReason.NOT_JSON, "", "EOF"),
        (b"[" * 100_000, RejectReason.TOO_LARGE, "", "bytes"),
        (b'{"schema_version":' + b"[" * 60_000, RejectReason.TOO_DEEP, "", "recursion"),
        (b'{"pump_id": "\xff"}', RejectReason.NOT_UTF8, "", "unicode"),
        (_raw(seq=-1), RejectReason.INVALID, "/seq", "greater than or equal to 0"),
        (_raw(seq="7"), RejectReason.INVALID, "/seq", "valid integer"),
        (_raw(seq=2**53 + 1), RejectReason.INVALID, "/seq", "less than or equal"),
        (_raw(motor="spinning"), RejectReason.INVALID, "/motor", "running"),
        (_raw(reservoir_estimated_ml=60.01), RejectReason.INVALID, "/reservoir_estimated_ml", "60"),
        (_raw(temperature_celsius=float("nan")), RejectReason.INVALID, "/temperature_celsius", "finite"),
        (_raw(patient="Ada"), RejectReason.INVALID, "/patient", "unknown field"),
        (_raw(event_time="2026-03-01T11:59:00"), RejectReason.INVALID, "/event_time", "pattern"),
        (_raw(event_time=1_700_000_000), RejectReason.INVALID, "/event_time", "string"),
        (_raw(motor=None), RejectReason.INVALID, "", "at least one thing"),
        (
            _raw(events=[{"type": "refill", "aspirated_ml": 1}]),
            RejectReason.INVALID,
            "/events/0/injected_ml",
            "required",
        ),
        (
            _raw(events=[{"type": "mri_end", "codes": ["pain_increase"]}]),
            RejectReason.INVALID,
            "/events/0/codes",
            "unknown",
        ),
        (_raw(events=[{"type": "mri_scheduled"}]), RejectReason.INVALID, "/events/0/for", "required"),
        (
            _raw(events=[{"type": "mri_end", "at": "2026-03-01T11:59:01Z"}]),
            RejectReason.INVALID,
            "/events/0/at",
            "later than",
        ),
        (
            _raw(events=[{"type": "mri_end", "at": "2020-03-01T11:59:01Z"}]),
            RejectReason.INVALID,
            "/events/0/at",
            "400 days",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(raw: bytes, code: RejectReason, pointer: str, word: str) -> None:
    """The answer has a code, the first bad field's pointer, and a reason."""
    rejected = validate(raw, NOW)

    assert isinstance(rejected, Rejected)
    assert (rejected.code, rejected.pointer) == (code, pointer)
    assert word in rejected.reason


@pytest.mark.parametrize("name", ["event_time", "gateway_time"])
def test_the_time_bounds_are_inclusive(name: str) -> None:
    """Exactly 24 h ahead and exactly 400 days old are taken; one second beyond is not."""
    ahead, old, second = NOW + MAX_LEAD, NOW - MAX_AGE, timedelta(seconds=1)

    assert isinstance(validate(_raw(**{name: ahead.isoformat()}), NOW), Report)
    assert isinstance(validate(_raw(**{name: old.isoformat()}), NOW), Report)
    too_far, too_old = (validate(_raw(**{name: at.isoformat()}), NOW) for at in (ahead + second, old - second))
    assert isinstance(too_far, Rejected)
    assert isinstance(too_old, Rejected)
    assert (too_far.code, too_old.code) == (RejectReason.TOO_FAR_AHEAD, RejectReason.TOO_OLD)


def test_a_fingerprint_is_of_what_the_pump_said_only() -> None:
    """Another gateway, another gateway time and another way to write the same moment make no difference."""
    said = fingerprint(_report())

    assert fingerprint(_report(gateway_id="GW-2", gateway_time="2026-03-01T12:00:00Z")) == said
    assert fingerprint(_report(event_time="2026-03-01T13:59:00+02:00")) == said
    assert fingerprint(_report(motor="stalled")) != said
    assert fingerprint(_report(seq=8)) != said


def test_the_published_schema_spells_out_each_event() -> None:
    """An event's own fields are allowed, required ones are required, and nothing else is."""
    schema = json_schema()
    events = {branch["title"]: branch for branch in schema["$defs"]["Event"]["oneOf"]}

    assert set(events) == set(EventType)
    assert set(events["refill"]["properties"]) == {"type", "at", "aspirated_ml", "injected_ml", "residual_ml"}
    assert events["mri_scheduled"]["required"] == ["type", "for"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["event_time"]["format"] == "date-time"


def test_times_are_told_apart_by_moment_not_by_zone() -> None:
    """Two zones' names of one moment are equal."""
    zone = timezone(timedelta(hours=2))

    assert Event(type=EventType.MRI_END, at=NOW.astimezone(zone)) == Event(type=EventType.MRI_END, at=NOW)
