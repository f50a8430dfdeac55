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


@pytest.mark.parametrize(
    ("raw", "code", "word"),
    [
        (b"\xff", RejectReason.NOT_JSON, "expected value"),
        (b'{"pump_id": "utf-8"', RejectReason.NOT_JSON, "EOF"),
        (b'{"pump_id": "\xc3("}', RejectReason.NOT_UTF8, "unicode"),
        (b'{"\xff": 1}', RejectReason.NOT_UTF8, "unicode"),
        (b'{"\xc3\xa9": ' + b"[" * 60_000, RejectReason.TOO_DEEP, "recursion"),
        (b"[]", RejectReason.INVALID, "object"),
    ],
)
def test_bytes_that_are_no_report_are_told_apart(raw: bytes, code: RejectReason, word: str) -> None:
    """No JSON at all, text that is no UTF-8, endless nesting, JSON that is no object."""
    rejected = validate(raw, NOW)

    assert isinstance(rejected, Rejected)
    assert (rejected.code, rejected.pointer) == (code, "")
    assert word in rejected.reason


@pytest.mark.parametrize(
    ("raw", "pointer", "reason"),
    [
        (
            json.dumps({name: DOCUMENT[name] for name in DOCUMENT if name != "seq"}).encode(),
            "/seq",
            "field is required",
        ),
        (_raw(**{"a/b~c": 1}), "/a~1b~0c", "unknown field"),
        (_raw(**{"~1": 1}), "/~01", "unknown field"),
        (_raw(battery={"eri": 1}), "/battery/eri", "Input should be a valid boolean"),
        (
            _raw(events=[{"type": "mri_end"}, {"type": "bolus"}]),
            "/events/1/outcome",
            "field is required for an event of type bolus",
        ),
        (
            _raw(events=[{"type": "programming_session"}]),
            "/events/0/phase",
            "field is required for an event of type programming_session",
        ),
        (
            _raw(events=[{"type": "mri_end", "result": "failed", "codes": ["pain_increase"]}]),
            "/events/0/codes",
            "unknown field for an event of type mri_end",
        ),
        (
            _raw(events=[{"type": "mri_end", "for": "2026-03-02T08:00:00Z"}]),
            "/events/0/for",
            "unknown field for an event of type mri_end",
        ),
        (_raw(motor=None), "", "a report must say at least one thing"),
    ],
)
def test_the_first_bad_field_is_named_as_the_wire_names_it(raw: bytes, pointer: str, reason: str) -> None:
    """The pointer escapes as RFC 6901 says; of several bad fields of an event the first by name is told."""
    assert validate(raw, NOW) == Rejected(RejectReason.INVALID, pointer, reason)


@pytest.mark.parametrize(
    "said",
    [
        {"alarms": []},
        {"program_checksum": "A"},
        {"temperature_celsius": 0},
        {"battery": {}},
        {"events": [{"type": "mri_end"}]},
    ],
)
def test_one_thing_said_makes_a_report(said: dict[str, Any]) -> None:
    """That no alarm sounds is something, and so is a zero."""
    assert _report(motor=None, **said).motor is None


def test_as_many_bytes_as_allowed_are_read_and_no_more() -> None:
    """The limit is inclusive."""
    full = _raw() + b" " * (MAX_REPORT_BYTES - len(_raw()))

    assert isinstance(validate(full, NOW), Report)
    assert validate(full + b" ", NOW) == Rejected(
        RejectReason.TOO_LARGE, "", f"report has {MAX_REPORT_BYTES + 1} bytes, at most 65536 are allowed"
    )


def test_an_event_is_no_later_than_its_report_and_at_most_400_days_older() -> None:
    """Both bounds are inclusive, and measured from the report's own time."""
    event_time, second = NOW - timedelta(minutes=1), timedelta(seconds=1)

    def told(at: datetime) -> Report | Rejected:
        return validate(_raw(events=[{"type": "mri_end", "at": at.isoformat()}]), NOW)

    assert isinstance(told(event_time), Report)
    assert isinstance(told(event_time - MAX_AGE), Report)
    assert told(event_time + second) == Rejected(
        RejectReason.INVALID, "/events/0/at", "an event cannot be later than the report's event_time"
    )
    assert told(event_time - MAX_AGE - second) == Rejected(RejectReason.INVALID, "/events/0/at", "older than 400 days")


def _planned(text: str) -> Report | Rejected:
    return validate(_raw(events=[{"type": "mri_scheduled", "for": text}]), NOW)


@pytest.mark.parametrize(
    "text",
    ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+02:00", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-02:00"],
)
def test_an_mri_at_the_end_of_the_calendar_is_refused(text: str) -> None:
    """A programmer's zero time is no plan, and nothing can be counted from it."""
    assert _planned(text) == Rejected(
        RejectReason.INVALID,
        "/events/0/for",
        "more than 400 days before the report's event_time, or 15 years after it",
    )


def test_an_mri_is_planned_from_400_days_ago_to_15_years_ahead() -> None:
    """Both inclusive."""
    event_time, second = NOW - timedelta(minutes=1), timedelta(seconds=1)
    first, last = event_time - MAX_AGE, event_time + timedelta(days=15 * 365)

    assert isinstance(_planned(first.isoformat()), Report)
    assert isinstance(_planned(last.isoformat()), Report)
    assert isinstance(_planned((first - second).isoformat()), Rejected)
    assert isinstance(_planned((last + second).isoformat()), Rejected)


@pytest.mark.parametrize("name", ["event_time", "gateway_time"])
def test_a_clock_that_is_far_off_is_refused_by_its_name(name: str) -> None:
    """The gateway's as well as the pump's."""
    second = timedelta(seconds=1)

    assert validate(_raw(**{name: (NOW + MAX_LEAD + second).isoformat()}), NOW) == Rejected(
        RejectReason.TOO_FAR_AHEAD, f"/{name}", "more than 24 hours ahead of service time"
    )
    assert validate(_raw(**{name: (NOW - MAX_AGE - second).isoformat()}), NOW) == Rejected(
        RejectReason.TOO_OLD, f"/{name}", "older than 400 days"
    )


def test_times_finer_than_a_microsecond_are_cut() -> None:
    """A gateway may write nanoseconds; none of them becomes a later moment."""
    report = _report(event_time="2026-03-01T11:59:00.123456999Z")

    assert report.event_time == datetime(2026, 3, 1, 11, 59, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-03-01", "2026-03-01T11:59Z", "2026-03-01 11:59:00Z", "1772366340"])
def test_a_time_is_rfc_3339_and_nothing_else(text: str) -> None:
    """Neither a date alone, nor without seconds, nor seconds since 1970."""
    rejected = validate(_raw(event_time=text), NOW)

    assert isinstance(rejected, Rejected)
    assert rejected.pointer == "/event_time"
    assert rejected.reason.startswith("String should match pattern")


def test_a_fingerprint_is_of_what_the_pump_said_only() -> None:
    """Another gateway, another gateway time and another way to write the same moment make no difference."""
    said = fingerprint(_report())

    assert len(said) == 8
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


def test_the_schema_of_an_event_is_closed_and_names_fields_as_the_wire_does() -> None:
    """``type`` is fixed, ``at`` may always be said, and nobody reads ``scheduled_for``."""
    schema = json_schema()
    definitions = schema["$defs"]
    events = {branch["title"]: branch for branch in definitions["Event"]["oneOf"]}
    instant = {"type": "string", "format": "date-time"}

    session, planned, bare = events["programming_session"], events["mri_scheduled"], events["stall_started"]

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert list(definitions["Event"]) == ["oneOf"]
    assert set(definitions) >= {"Motor", "Alarm", "Battery", "Emi", "Event"}
    assert schema["properties"]["event_time"] == instant | {"title": "Event Time"}
    assert schema["properties"]["events"]["items"] == {"$ref": "#/$defs/Event"}
    assert session["required"] == ["type", "phase", "session_id"]
    assert session["properties"]["phase"]["anyOf"][0]["enum"] == ["start", "end"]
    assert planned["properties"]["for"]["anyOf"][0] == instant
    assert (bare["title"], bare["type"], bare["required"]) == ("stall_started", "object", ["type"])
    assert bare["additionalProperties"] is False
    assert list(bare["properties"]) == ["type", "at"]
    assert bare["properties"]["type"] == {"const": "stall_started"}
    assert bare["properties"]["at"]["anyOf"][0] == instant


def test_times_are_told_apart_by_moment_not_by_zone() -> None:
    """Two zones' names of one moment are equal."""
    zone = timezone(timedelta(hours=2))

    assert Event(type=EventType.MRI_END, at=NOW.astimezone(zone)) == Event(type=EventType.MRI_END, at=NOW)
