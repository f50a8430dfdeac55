"""Care records: what is refused and by which name, when one counts, and what may be set for one patient."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from streams.domain.care import CareKind, CareRecord, CareRejected, care_document, care_from
from streams.domain.profile import STRICTEST, ProfileHistory
from streams.domain.rule import RuleBook, Setting, Variant, setting_refused
from streams.domain.telemetry import NO_CONTROLS
from streams.rehearsal import profiles_of
from tests.shipped import RULES

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
DAYS_90 = timedelta(days=90)
SECOND = timedelta(seconds=1)
SETTABLE = RuleBook(
    (
        replace(
            RULES["RSV-01"],
            settings={"hours": Setting("higher", 24.0), "count": Setting("lower", 4.0)},
            parameters={"hours": 48.0, "count": 2.0, "fixed": 1.0},
        ),
    )
)
"""A rule whose hours may be more than 48 or down to 24, and whose count less than 2 or up to 4."""
BOOKED: dict[str, Any] = {
    "care_id": "C-1",
    "pump_id": "P-1",
    "kind": "refill_booked",
    "valid_from": "2026-11-03T12:00:00Z",
    "person": "nora",
    "reason": "by phone",
    "booked_on": "2026-11-20",
}
SETTING: dict[str, Any] = {**BOOKED, "kind": "setting", "booked_on": None, "rule_id": "RSV-01", "parameter": "hours"}


def _record(**changes: Any) -> CareRecord:
    record = care_from({**BOOKED, **changes})
    assert isinstance(record, CareRecord), record
    return record


def _set(value: float, until: datetime | None = None, parameter: str = "hours") -> CareRecord:
    return replace(_record(**SETTING, value=value), valid_until=until, parameter=parameter)


@pytest.mark.parametrize(
    ("changes", "pointer", "reason"),
    [
        ({"nonsense": 1}, "/nonsense", "unknown field"),
        ({"reason": "no"}, "/reason", "String should have at least 3 characters"),
        ({"person": "ada\0"}, "/person", rf"String should match pattern '{NO_CONTROLS}'"),
        ({"reason": "two\nlines"}, "/reason", rf"String should match pattern '{NO_CONTROLS}'"),
        ({"kind": "review", "booked_on": None}, "/rule_id", "field is required for review"),
        ({"kind": "setting", "booked_on": None}, "/parameter", "field is required for setting"),
        ({"session_id": "S", "valid_until": "2026-11-04T12:00:00Z"}, "/session_id", "unknown field for refill_booked"),
        ({"valid_from": "2026-11-03T12:00:00"}, "/valid_from", "must have an offset"),
        ({"withdrawn_at": "2026-11-03T12:00:00"}, "/withdrawn_at", "must have an offset"),
        (
            {"kind": "absence", "booked_on": None, "valid_until": "2026-11-03T12:00:00Z"},
            "/valid_until",
            "must be later than valid_from",
        ),
        ({"reason": "\ud800"}, "", "has a number or a text that JSON cannot carry"),
    ],
)
def test_a_record_that_cannot_be_used_is_refused_by_name(changes: dict[str, Any], pointer: str, reason: str) -> None:
    """The first bad field and the reason."""
    assert care_from({**BOOKED, **changes}) == CareRejected(pointer, reason)


def test_a_field_that_is_left_out_is_named() -> None:
    """In the words of this document, not of a library."""
    unsigned = {name: value for name, value in BOOKED.items() if name != "person"}

    assert care_from(unsigned) == CareRejected("/person", "field is required")


def test_a_record_is_written_as_it_was_said() -> None:
    """What was not said is left out, and reading it again gives the same record."""
    record = _record()

    assert care_document(record) == {name: value for name, value in BOOKED.items() if value is not None}
    assert care_from(care_document(record)) == record
    assert record.booked_on == date(2026, 11, 20)


def test_a_record_counts_from_its_start_up_to_its_end() -> None:
    """The start belongs to it, the end does not; whichever of end and withdrawal comes first ends it."""
    plan = _record(kind="stop_plan", booked_on=None, valid_until=(NOON + 2 * SECOND).isoformat())
    withdrawn = replace(plan, withdrawn_at=NOON + SECOND)

    assert [plan.in_force(NOON + at * SECOND) for at in (-1, 0, 1, 2)] == [False, True, True, False]
    assert [withdrawn.in_force(NOON + at * SECOND) for at in (0, 1)] == [True, False]
    assert _record().in_force(NOON + DAYS_90)
    assert _record().ends_at is None


def test_a_setting_of_an_unknown_rule_or_parameter_is_refused() -> None:
    """The refusal says what may be set."""
    may = "RSV-01 has no such parameter for one patient; count, hours may be set"
    closed = RuleBook((replace(SETTABLE["RSV-01"], settings={}),))
    only_listed = RuleBook((replace(SETTABLE["RSV-01"], parameters={"hours": 48.0}),))

    assert setting_refused(SETTABLE, replace(_set(72), rule_id="RSV-99"), STRICTEST) == CareRejected(
        "/rule_id", "there is no rule RSV-99"
    )
    assert setting_refused(SETTABLE, _set(1, parameter="fixed"), STRICTEST) == CareRejected("/parameter", may)
    assert setting_refused(only_listed, _set(1, parameter="count"), STRICTEST) == CareRejected("/parameter", may)
    assert setting_refused(SETTABLE, replace(_set(72), value=None), STRICTEST) == CareRejected("/parameter", may)
    assert setting_refused(closed, _set(72), STRICTEST) == CareRejected(
        "/parameter", "RSV-01 has no such parameter for one patient; nothing may be set"
    )


def test_a_setting_that_is_not_strict_enough_is_refused_whatever_its_end() -> None:
    """Either way round, with the bound and the default."""
    low, high = _set(23.9, NOON + SECOND), _set(4.1, NOON + SECOND, "count")

    assert setting_refused(SETTABLE, low, STRICTEST) == CareRejected(
        "/value", "less strict than allowed: must be at least 24 (the default 48)"
    )
    assert setting_refused(SETTABLE, high, STRICTEST) == CareRejected(
        "/value", "less strict than allowed: must be at most 4 (the default 2)"
    )


@pytest.mark.parametrize("until", [None, NOON + DAYS_90 + SECOND])
def test_a_looser_setting_needs_an_end_within_ninety_days(until: datetime | None) -> None:
    """Without one a rule would stay loose for as long as nobody thinks of it."""
    reason = "a value less strict than the default 48 needs an end, at most 90 days after valid_from"

    assert setting_refused(SETTABLE, _set(24, until), STRICTEST) == CareRejected("/valid_until", reason)


def test_a_setting_within_its_bounds_is_taken() -> None:
    """A stricter one without any end, a looser one up to its bound and for ninety days."""
    taken = [_set(48), _set(72), _set(24, NOON + DAYS_90), _set(1, None, "count"), _set(4, NOON + DAYS_90, "count")]

    assert [setting_refused(SETTABLE, record, STRICTEST) for record in taken] == [None] * len(taken)
    assert all(SETTABLE.accepts(record, STRICTEST) for record in taken)


def test_a_rule_book_takes_no_setting_that_it_refuses() -> None:
    """The same answer for those who enter a record and for the worker that uses it."""
    refused = [
        replace(_set(72), rule_id="RSV-99"),
        replace(_set(72), rule_id=None),
        replace(_set(72), parameter=None),
        _set(1, parameter="fixed"),
        _set(1, parameter="unknown"),
        _set(23.9, NOON + SECOND),
        _set(24),
    ]

    assert not any(SETTABLE.accepts(record, STRICTEST) for record in refused)


def test_of_several_settings_the_last_that_can_be_used_counts() -> None:
    """One that cannot be used leaves what was set before it, and never excuses another."""
    records = (_set(72), replace(_set(12), care_id="C-2", valid_from=NOON + SECOND))
    history = ProfileHistory(profiles_of({}).versions, records)
    therapy = history.therapy(NOON + 2 * SECOND)

    assert [record.value for record in therapy.of_kind(CareKind.SETTING)] == [72, 12]
    assert SETTABLE.accepts(records[0], therapy)
    assert not SETTABLE.accepts(records[1], therapy)


NEEDED: dict[str, dict[str, Any]] = {
    "stop_plan": {"valid_until": "2026-11-04T12:00:00Z"},
    "refill_booked": {"booked_on": "2026-11-20"},
    "replacement_booked": {"booked_on": "2026-11-20"},
    "replaced": {},
    "absence": {"valid_until": "2026-11-04T12:00:00Z"},
    "review": {"rule_id": "RSV-01"},
    "session": {"session_id": "S"},
    "setting": {"rule_id": "RSV-01", "parameter": "hours", "value": 72.0},
}
"""What each kind must say."""
DETAILS: dict[str, Any] = {name: value for needed in NEEDED.values() for name, value in needed.items()}
MAY_END = ("session", "setting")


def _said(kind: str, **details: Any) -> dict[str, Any]:
    return {**{name: value for name, value in BOOKED.items() if name != "booked_on"}, "kind": kind, **details}


@pytest.mark.parametrize("kind", list(CareKind))
def test_each_kind_needs_its_own_and_takes_nothing_else(kind: str) -> None:
    """Of several missing or foreign fields the first by name is told."""
    needed = NEEDED[kind]
    missing = min(needed, default=None)

    assert isinstance(care_from(_said(kind, **needed)), CareRecord)
    if missing is not None:
        assert care_from(_said(kind)) == CareRejected(f"/{missing}", f"field is required for {kind}")
    for name, value in DETAILS.items():
        found = care_from(_said(kind, **needed, **{name: value} if name not in needed else {}))
        if name in needed or (name == "valid_until" and kind in MAY_END):
            assert isinstance(found, CareRecord)
        else:
            assert found == CareRejected(f"/{name}", f"unknown field for {kind}")


def test_of_several_foreign_fields_the_first_by_name_is_told() -> None:
    """Whatever order they are given in."""
    assert care_from(_said("replaced", value=1.0, rule_id="RSV-01")) == CareRejected(
        "/rule_id", "unknown field for replaced"
    )


@pytest.mark.parametrize("name", ["valid_from", "valid_until", "withdrawn_at"])
def test_each_moment_needs_an_offset(name: str) -> None:
    """Whose clock would it be?"""
    said = _said("absence", **NEEDED["absence"])

    assert care_from({**said, name: "2026-11-04T12:00:00"}) == CareRejected(f"/{name}", "must have an offset")


@pytest.mark.parametrize("name", ["valid_from", "valid_until", "withdrawn_at"])
@pytest.mark.parametrize("text", ["20261103", "1793707200", "-1.5", "noon", ""])
def test_a_moment_is_a_date_with_a_time_and_no_number(name: str, text: str) -> None:
    """20261103 is no second of August 1970: the record would have been in force for half a century."""
    said = _said("absence", **NEEDED["absence"])

    assert care_from({**said, name: text}) == CareRejected(f"/{name}", "must be an RFC 3339 time with an offset")


def test_a_record_ends_after_it_begins() -> None:
    """At least a moment later, in whichever zone each is written."""
    later, same = (_said("absence", valid_until=at) for at in ("2026-11-03T12:00:01Z", "2026-11-03T13:00:00+01:00"))

    assert isinstance(care_from(later), CareRecord)
    assert care_from(same) == CareRejected("/valid_until", "must be later than valid_from")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pump_id": "P 1"}, CareRejected("/pump_id", "String should match pattern '^[A-Za-z0-9._:-]{1,64}$'")),
        ({"a": 1, "b": 2}, CareRejected("/a", "unknown field")),
        ({"value": 10**400}, CareRejected("/value", "Input should be a finite number")),
        ({"value": object()}, CareRejected("", "has a number or a text that JSON cannot carry")),
    ],
)
def test_the_first_mistake_of_a_record_is_told(changes: dict[str, Any], expected: CareRejected) -> None:
    """Also where it cannot even be written as JSON."""
    assert care_from({**BOOKED, **changes}) == expected


def test_a_record_is_written_without_what_nobody_said() -> None:
    """A number stays one, and a moment keeps its offset."""
    said = _said("setting", **NEEDED["setting"], valid_until="2026-11-04T12:00:00+01:00")
    record = care_from(said)
    assert isinstance(record, CareRecord)

    assert care_document(record) == said
    assert list(care_document(record)) == [
        "care_id", "pump_id", "kind", "valid_from", "valid_until", "person", "reason", "rule_id", "parameter", "value"
    ]  # fmt: skip


def test_a_setting_is_held_against_the_default_of_its_own_pump() -> None:
    """What is looser than the default of most is no looser than that of a variant, and then needs no end."""
    book = RuleBook((replace(SETTABLE["RSV-01"], variants=(Variant({"hours": 24.0}, drug="baclofen"),)),))

    assert book.accepts(_set(24), profiles_of({}).therapy(NOON))
    assert not book.accepts(_set(24), STRICTEST)
