"""Everything that may come in and must not get through, each with the answer it gets.

One table serves the edge in memory and the real process on a real broker.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

GATEWAY = "home-1"
TOKEN = "pwg_valid"
JSON = {"content-type": "application/json"}
LINES = {"content-type": "application/x-ndjson"}
GZIP = {**JSON, "content-encoding": "gzip"}


@dataclass(frozen=True)
class Case:
    """A request and its answer.

    ``reason`` is the problem's kind, or for status 202 the reason of each rejected report; ``kept`` names the pumps
    whose reports must be on the topic afterwards. ``token`` None sends no ``Authorization``.
    """

    name: str
    body: bytes | list[bytes]
    status: int
    reason: str
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))
    kept: tuple[str, ...] = ()
    authorization: str | None = f"Bearer {TOKEN}"
    pointer: str | None = None
    word: str | None = None
    """The first rejected report's reason."""


def report(moment: datetime, pump_id: str = "pump-1", **fields: Any) -> dict[str, Any]:
    """A valid report as a gateway writes it."""
    document = {
        "schema_version": 1,
        "pump_id": pump_id,
        "boot_id": 1,
        "seq": 1,
        "event_time": moment.isoformat(),
        "gateway_id": GATEWAY,
        "gateway_time": moment.isoformat(),
        "motor": "running",
        **fields,
    }
    return {name: value for name, value in document.items() if value is not ...}


def cases(moment: datetime) -> list[Case]:
    """All of them, for a service whose time is ``moment``."""
    return [*_fields(moment), *_syntax(moment), *_sizes(moment), *_requests(moment), *_partly(moment)]


# Longer than forty lines: it is a table, one case a line.
def _fields(moment: datetime) -> list[Case]:
    """One report with one thing wrong in it."""
    day = timedelta(days=1)
    wrong: list[tuple[str, str, str, dict[str, Any]]] = [
        ("schema version 2", "invalid", "/schema_version", {"schema_version": 2}),
        ("no schema version", "invalid", "/schema_version", {"schema_version": ...}),
        ("no pump", "invalid", "/pump_id", {"pump_id": ...}),
        ("pump is a number", "invalid", "/pump_id", {"pump_id": 7}),
        ("pump with a space", "invalid", "/pump_id", {"pump_id": "pump 1"}),
        ("pump with a newline at its end", "invalid", "/pump_id", {"pump_id": "pump-1\n"}),
        ("pump of 65 characters", "invalid", "/pump_id", {"pump_id": "p" * 65}),
        ("empty pump", "invalid", "/pump_id", {"pump_id": ""}),
        ("boot below zero", "invalid", "/boot_id", {"boot_id": -1}),
        ("seq as text", "invalid", "/seq", {"seq": "1"}),
        ("seq as a fraction", "invalid", "/seq", {"seq": 1.5}),
        ("seq true", "invalid", "/seq", {"seq": True}),
        ("seq of 40 digits", "invalid", "/seq", {"seq": 10**40}),
        ("seq beyond 2 to the 53", "invalid", "/seq", {"seq": 2**53 + 1}),
        ("event time as a number", "invalid", "/event_time", {"event_time": 1_700_000_000}),
        ("event time as digits", "invalid", "/event_time", {"event_time": "1700000000"}),
        ("event time without offset", "invalid", "/event_time", {"event_time": "2026-06-01T12:00:00"}),
        ("event time on no calendar", "invalid", "/event_time", {"event_time": "2026-02-30T12:00:00Z"}),
        ("event time 25 hours ahead", "too_far_ahead", "/event_time",
         {"event_time": (moment + timedelta(hours=25)).isoformat()}),
        ("event time ten years ahead", "too_far_ahead", "/event_time",
         {"event_time": (moment + 3650 * day).isoformat()}),
        ("event time 401 days ago", "too_old", "/event_time", {"event_time": (moment - 401 * day).isoformat()}),
        ("event time in the year 1", "too_old", "/event_time", {"event_time": "0001-01-01T00:00:00Z"}),
        ("event time at the end of time", "too_far_ahead", "/event_time", {"event_time": "9999-12-31T23:59:59Z"}),
        ("gateway time ancient", "too_old", "/gateway_time", {"gateway_time": (moment - 401 * day).isoformat()}),
        ("unknown motor", "invalid", "/motor", {"motor": "spinning"}),
        ("unknown alarm", "invalid", "/alarms/0", {"alarms": ["on_fire"]}),
        ("alarms not a list", "invalid", "/alarms", {"alarms": "motor_stall"}),
        ("13 alarms", "invalid", "/alarms", {"alarms": ["motor_stall"] * 13}),
        ("reservoir below zero", "invalid", "/reservoir_estimated_ml", {"reservoir_estimated_ml": -0.1}),
        ("reservoir above its range", "invalid", "/reservoir_measured_ml", {"reservoir_measured_ml": 60.001}),
        ("reservoir as text", "invalid", "/reservoir_estimated_ml", {"reservoir_estimated_ml": "12"}),
        ("temperature of a furnace", "invalid", "/temperature_celsius", {"temperature_celsius": 1e300}),
        ("battery without fields known", "invalid", "/battery/charge", {"battery": {"charge": 1}}),
        ("emi without level", "invalid", "/emi/level", {"emi": {"count": 1}}),
        ("checksum with NUL", "invalid", "/program_checksum", {"program_checksum": "a\0b"}),
        ("checksum with a newline at its end", "invalid", "/program_checksum", {"program_checksum": "ab\n"}),
        ("session with a C1 control", "invalid", "/events/0/session_id",
         {"events": [{"type": "program_change", "session_id": "a\x9bb"}]}),
        ("name with an escape", "invalid", "/events/0/declared_by",
         {"events": [{"type": "mri_start", "declared_by": "\x1b[2J"}]}),
        ("unknown field", "invalid", "/mood", {"mood": "good"}),
        ("patient's name", "invalid", "/patient_name", {"patient_name": "x"}),
        ("event of no type", "invalid", "/events/0/type", {"events": [{"at": moment.isoformat()}]}),
        ("bolus without volume", "invalid", "/events/0/volume_ml",
         {"events": [{"type": "bolus", "outcome": "denied"}]}),
        ("refill field on a bolus", "invalid", "/events/0/aspirated_ml",
         {"events": [{"type": "bolus", "outcome": "denied", "volume_ml": 1, "aspirated_ml": 1}]}),
        ("101 events", "invalid", "/events", {"events": [{"type": "valve_reset"}] * 101}),
        ("event after its report", "invalid", "/events/0/at",
         {"events": [{"type": "valve_reset", "at": (moment + day).isoformat()}]}),
        ("says nothing", "invalid", "", {"motor": ...}),
    ]  # fmt: skip
    return [
        Case(name, _json(report(moment, **fields)), 400, "nothing_usable", pointer=pointer, word=word)
        for name, word, pointer, fields in wrong
    ]


def _syntax(moment: datetime) -> list[Case]:
    whole = _json(report(moment))
    good = _json(report(moment, "never-kept"))
    return [
        Case("empty body", b"", 400, "empty"),
        Case("only blanks", b" \r\n\t", 400, "empty"),
        Case("empty array", b"[]", 400, "empty"),
        Case("empty lines", b"\n\n", 400, "empty", headers=LINES),
        Case("truncated object", whole[:-1], 400, "not_json"),
        Case("truncated string", whole[: whole.index(b"pump-1") + 2], 400, "not_json"),
        Case("truncated array", b"[" + whole, 400, "not_json"),
        Case("array with a comma too many", b"[" + good + b",]", 400, "not_json"),
        Case("array with one broken element", b"[" + good + b',{"pump_id":}]', 400, "not_json"),
        Case("something after the array", b"[" + good + b"] x", 400, "not_json"),
        Case("two objects in a row", good + good, 400, "not_json"),
        Case("random bytes", bytes(range(1, 32)) * 8, 400, "not_json"),
        Case("byte order mark", b"\xef\xbb\xbf" + whole, 400, "not_json"),
        Case("UTF-16", whole.decode().encode("utf-16"), 400, "not_json"),
        Case("NaN", _with(moment, b"NaN"), 400, "not_json"),
        Case("Infinity", _with(moment, b"-Infinity"), 400, "not_json"),
        Case("number too large for a float", _with(moment, b"1e999"), 400, "nothing_usable", word="invalid"),
        Case("number of 5,000 digits", _with(moment, b"9" * 5_000), 400, "not_json", word="not_json"),
        Case("number with a leading zero", _with(moment, b"012"), 400, "not_json"),
        Case("invalid UTF-8 in a string", whole.replace(b"pump-1", b"pump-\xff"), 400, "not_utf8", word="not_utf8"),
        Case("lone surrogate", whole.replace(b"running", b"\\ud800"), 400, "not_json"),
        Case("100,000 arrays deep", b"[" * 100_000 + b"]" * 100_000, 400, "too_deep"),
        Case("100,000 objects deep", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "too_deep"),
        Case("500 deep in one field", _with(moment, b"[" * 500 + b"]" * 500), 400, "too_deep", word="too_deep"),
        Case("100,000 open brackets", b"[" * 100_000, 400, "too_deep"),
        Case("a number instead of a report", b"42", 400, "nothing_usable", word="invalid"),
        Case("null instead of a report", b"null", 400, "nothing_usable", word="invalid"),
        Case("a string instead of a report", b'"motor_stall"', 400, "nothing_usable", word="invalid"),
        Case("array of nulls", b"[null,null]", 400, "nothing_usable", word="invalid"),
        Case("array in an array", b"[[" + whole + b"]]", 400, "nothing_usable", word="invalid"),
        Case("field given twice", whole[:-1] + b',"motor":"stalled"}', 400, "nothing_usable", word="duplicate_name"),
        Case("field given twice within a part",
             _json(report(moment, battery={"eos": True})).replace(b'"eos":true', b'"eos":true,"eos":false'),
             400, "nothing_usable", word="duplicate_name"),
    ]  # fmt: skip


def _sizes(moment: datetime) -> list[Case]:
    whole = _json(report(moment))
    mebibyte = 1024 * 1024
    bomb = gzip.compress(b" " * (64 * mebibyte), 9)
    layered = gzip.compress(whole + b" " * (9 * mebibyte), 9)
    packed = gzip.compress(_json(report(moment, "never-kept")))
    chunk = b" " * 65_536
    return [
        Case("more than 1 MiB", b" " * (mebibyte + 1), 413, "body_too_large"),
        Case("more than 1 MiB in chunks", [chunk] * 17, 413, "body_too_large"),
        Case(
            "report of more than 64 KiB", whole[:-1] + b" " * 65_536 + b"}", 413, "report_too_large", word="too_large"
        ),
        Case("1,001 reports", b"[" + b",".join([whole] * 1_001) + b"]", 413, "too_many_reports"),
        Case("1,001 lines", b"\n".join([whole] * 1_001), 413, "too_many_reports", headers=LINES),
        Case("gzip bomb", bomb, 413, "unpacked_too_large", headers=GZIP),
        Case("gzip of a little more than 8 MiB", layered, 413, "unpacked_too_large", headers=GZIP),
        Case("gzip bomb in many members", gzip.compress(b" " * mebibyte) * 9, 413, "unpacked_too_large", headers=GZIP),
        Case("truncated gzip", packed[:-9], 400, "bad_gzip", headers=GZIP),
        Case("gzip without its last byte", packed[:-1], 400, "bad_gzip", headers=GZIP),
        Case("gzip with a wrong checksum", packed[:-8] + bytes(8), 400, "bad_gzip", headers=GZIP),
        Case("gzip followed by something else", packed + b"tail", 400, "bad_gzip", headers=GZIP),
        Case("no gzip at all", whole, 400, "bad_gzip", headers=GZIP),
        Case("empty gzip member", gzip.compress(b""), 400, "empty", headers=GZIP),
    ]


def _requests(moment: datetime) -> list[Case]:
    whole = _json(report(moment))
    foreign = report(moment, "never-kept", gateway_id="clinic-9")
    return [
        Case("no token", whole, 401, "no_token", authorization=None),
        Case("another scheme", whole, 401, "no_token", authorization=f"Basic {TOKEN}"),
        Case("token without scheme", whole, 401, "no_token", authorization=TOKEN),
        Case("empty token", whole, 401, "no_token", authorization="Bearer"),
        Case("unknown token", whole, 401, "unknown_token", authorization="Bearer pwg_unknown"),
        Case("revoked token", whole, 401, "unknown_token", authorization="Bearer pwg_revoked"),
        Case("token of 8 kB", whole, 401, "unknown_token", authorization="Bearer " + "x" * 8_000),
        Case("token and a bit more", whole, 401, "unknown_token", authorization=f"Bearer {TOKEN}x"),
        Case("unknown token with a bad body", b"{", 401, "unknown_token", authorization="Bearer pwg_unknown"),
        Case("another gateway", _json(foreign), 403, "foreign_gateway", pointer="/gateway_id", word="foreign_gateway"),
        Case("all of another gateway", _json([foreign, foreign]), 403, "foreign_gateway", pointer="/0/gateway_id"),
        Case("another gateway and a broken report", _json([foreign, {}]), 400, "nothing_usable"),
        Case("no media type", whole, 415, "media_type", headers={}),
        Case("form", whole, 415, "media_type", headers={"content-type": "application/x-www-form-urlencoded"}),
        Case("text", whole, 415, "media_type", headers={"content-type": "text/plain"}),
        Case("latin-1", whole, 415, "charset", headers={"content-type": "application/json; charset=iso-8859-1"}),
        Case("UTF-16 announced", whole, 415, "charset", headers={"content-type": 'application/json;charset="utf-16"'}),
        Case("brotli", whole, 415, "content_encoding", headers={**JSON, "content-encoding": "br"}),
        Case("gzip in gzip", whole, 415, "content_encoding", headers={**JSON, "content-encoding": "gzip, gzip"}),
    ]


def _partly(moment: datetime) -> list[Case]:
    """A usable report beside one that is not: it is kept, and the answer says which one was not."""

    def mixed(name: str, word: str, spoil: Callable[[dict[str, Any]], None]) -> Case:
        bad = report(moment, "never-kept")
        spoil(bad)
        kept = "kept-" + name.replace(" ", "-")
        return Case(name, _json([bad, report(moment, kept)]), 202, word, kept=(kept,), word=word)

    def line(name: str, word: str, bad: bytes) -> Case:
        kept = ("kept-1-" + name.replace(" ", "-"), "kept-2-" + name.replace(" ", "-"))
        body = b"\n".join([_json(report(moment, kept[0])), bad, b"", _json(report(moment, kept[1]))])
        return Case(name, body, 202, word, headers=LINES, kept=kept, word=word)

    whole = _json(report(moment, "never-kept"))
    return [
        mixed("one with a wrong type", "invalid", lambda bad: bad.update(seq="x")),
        mixed("one with an unknown field", "invalid", lambda bad: bad.update(extra=1)),
        mixed("one of another gateway", "foreign_gateway", lambda bad: bad.update(gateway_id="clinic-9")),
        mixed("one too old", "too_old", lambda bad: bad.update(event_time="2001-01-01T00:00:00Z")),
        mixed("one too far ahead", "too_far_ahead", lambda bad: bad.update(event_time="2999-01-01T00:00:00Z")),
        mixed("one too large", "too_large", lambda bad: bad.update(program_checksum="x" * 70_000)),
        mixed("one empty object", "invalid", lambda bad: bad.clear()),
        line("line cut off", "not_json", whole[:-5]),
        line("line that is no JSON", "not_json", b"hello"),
        line("line with invalid UTF-8", "not_utf8", whole.replace(b"never-kept", b"never-\xff")),
        line("line nested deeply", "too_deep", b'{"a":' * 1_000),
        line("line with NaN", "invalid", whole.replace(b'"running"', b'"running","flow_programmed_ml_per_day":NaN')),
        line("line with two reports", "not_json", whole + whole),
        line("line with an array", "invalid", b"[" + whole + b"]"),
    ]


def _with(moment: datetime, number: bytes) -> bytes:
    """A report whose reservoir is these bytes."""
    return _json(report(moment, reservoir_estimated_ml="?")).replace(b'"?"', number)


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
