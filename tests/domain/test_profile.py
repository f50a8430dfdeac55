"""A pump's profile: what is refused, what rules read from it, and from when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from streams.domain.care import CareRecord, care_from
from streams.domain.profile import (
    STRICTEST,
    Family,
    ProfileHistory,
    ProfileRejected,
    PumpProfile,
    Therapy,
    WithdrawalClass,
    profile_from,
    therapy_of,
)

DOCUMENT: dict[str, Any] = {
    "pump_id": "P-1",
    "site": "north",
    "valid_from": "2026-01-01T00:00:00Z",
    "family": "synchromed_ii",
    "reservoir_ml": 20,
    "drugs": [{"name": "baclofen", "concentration_ug_per_ml": 500}],
    "prescribed_ug_per_day": 100,
}


def _profile(**changes: Any) -> PumpProfile:
    profile = profile_from({**DOCUMENT, **changes})
    assert isinstance(profile, PumpProfile), profile
    return profile


@pytest.mark.parametrize(
    ("changes", "pointer", "word"),
    [
        ({"valid_from": None}, "/valid_from", "RFC 3339"),
        ({"valid_from": "2026-01-01T00:00:00"}, "/valid_from", "offset"),
        ({"valid_from": "yesterday"}, "/valid_from", "RFC 3339"),
        ({"valid_from": "2026-13-01"}, "/valid_from", "RFC 3339"),
        ({"family": "other"}, "/family", "synchromed_ii"),
        ({"name": "Ada"}, "/name", "unknown field"),
        ({"site": None}, "/site", "string"),
        ({"site": "north\0"}, "/site", "pattern"),
        ({"drugs": []}, "/drugs", "at least 1"),
        ({"drugs": [{"name": "baclofen"}]}, "/drugs/0/concentration_ug_per_ml", "required for baclofen"),
        (
            {"drugs": [{"name": "baclofen", "concentration_ug_per_ml": 5000}]},
            "/drugs/0/concentration_ug_per_ml",
            "50 to 4000",
        ),
        ({"prescribed_ug_per_day": None}, "/prescribed_ug_per_day", "required"),
        ({"expected_interval_seconds": 4}, "/expected_interval_seconds", "5"),
    ],
)
def test_a_profile_that_cannot_be_used_is_refused_by_name(changes: dict[str, Any], pointer: str, word: str) -> None:
    """The first bad field and the reason."""
    rejected = profile_from({**DOCUMENT, **changes})

    assert isinstance(rejected, ProfileRejected)
    assert rejected.pointer == pointer
    assert word in rejected.reason


def test_a_date_is_midnight_at_the_site() -> None:
    """``valid_from`` as a date counts in the site's time zone."""
    profile = profile_from({**DOCUMENT, "valid_from": "2026-07-01"}, ZoneInfo("Europe/Berlin"))

    assert isinstance(profile, PumpProfile)
    assert profile.valid_from == datetime(2026, 6, 30, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("drug", "risks", "withdrawal", "hours"),
    [
        ({"name": "baclofen", "concentration_ug_per_ml": 500}, [], WithdrawalClass.W3, 6),
        ({"name": "clonidine", "concentration_ug_per_ml": 500}, ["child"], WithdrawalClass.W3, 3),
        ({"name": "morphine", "concentration_ug_per_ml": 10_000}, [], WithdrawalClass.W2, 12),
        ({"name": "hydromorphone", "concentration_ug_per_ml": 10_000}, ["lives_alone"], WithdrawalClass.W2, 8),
        ({"name": "ziconotide", "concentration_ug_per_ml": 25}, ["child"], WithdrawalClass.W1, 48),
    ],
)
def test_drug_and_risk_set_the_non_delivery_budget(
    drug: dict[str, Any], risks: list[str], withdrawal: WithdrawalClass, hours: int
) -> None:
    """The table of rules_catalogue.md A.6; on W1 risks change nothing."""
    therapy = therapy_of(_profile(drugs=[drug], risks=risks))

    assert therapy.withdrawal is withdrawal
    assert therapy.budget == timedelta(hours=hours)


def test_saline_needs_neither_concentration_nor_dose() -> None:
    """A pump kept open with saline has no prescribed flow to derive."""
    therapy = therapy_of(_profile(drugs=[{"name": "saline"}], prescribed_ug_per_day=None))

    assert therapy.prescribed_ml_per_day is None
    assert therapy.withdrawal is WithdrawalClass.W1


def test_a_version_is_in_force_from_its_start_inclusive() -> None:
    """Before the first version the strictest defaults hold; versions may be given in any order."""
    first, second = _profile(), _profile(valid_from="2026-02-01T00:00:00Z", site="south")
    history, moment = ProfileHistory((second, first)), second.valid_from

    assert history.at(first.valid_from - timedelta(microseconds=1)) is None
    assert replace(history.therapy(first.valid_from - timedelta(microseconds=1)), key="") == STRICTEST
    assert history.at(moment - timedelta(microseconds=1)) == first
    assert history.at(moment) == second
    assert history.next_change(first.valid_from) == moment
    assert history.next_change(moment) is None


@pytest.mark.parametrize(
    ("changes", "pointer", "reason"),
    [
        ({"valid_from": "2026-01-01T00:00:00"}, "/valid_from", "must be an RFC 3339 time with an offset, or a date"),
        ({"valid_from": 20260101}, "/valid_from", "must be an RFC 3339 time with an offset, or a date"),
        ({"valid_from": "2026-02-30"}, "/valid_from", "must be an RFC 3339 time with an offset, or a date"),
        ({"valid_from": "20260101"}, "/valid_from", "must be an RFC 3339 time with an offset, or a date"),
        ({"name": "Ada"}, "/name", "unknown field"),
        ({"drugs": [{"concentration_ug_per_ml": 500}]}, "/drugs/0/name", "field is required"),
        (
            {"drugs": [{"name": "saline"}, {"name": "morphine"}]},
            "/drugs/1/concentration_ug_per_ml",
            "field is required for morphine",
        ),
        (
            {"drugs": [*DOCUMENT["drugs"], {"name": "clonidine", "concentration_ug_per_ml": 2000.5}]},
            "/drugs/1/concentration_ug_per_ml",
            "outside the range 10 to 2000 for clonidine",
        ),
        (
            {"prescribed_ug_per_day": None},
            "/prescribed_ug_per_day",
            "field is required unless the first drug is saline",
        ),
        (
            {"drugs": [*DOCUMENT["drugs"], {"name": "saline"}], "prescribed_ug_per_day": None},
            "/prescribed_ug_per_day",
            "field is required unless the first drug is saline",
        ),
    ],
)
def test_a_refused_profile_says_what_is_wrong_to_the_letter(changes: dict[str, Any], pointer: str, reason: str) -> None:
    """Somebody who enters a profile reads it."""
    assert profile_from({**DOCUMENT, **changes}) == ProfileRejected(pointer, reason)


@pytest.mark.parametrize("valid_from", ["0001-01-01", "0001-01-01T00:00:00+02:00", "9999-12-31T23:00:00-05:00"])
def test_a_start_at_the_end_of_the_calendar_is_refused(valid_from: str) -> None:
    """It has no time in UTC; one bad line of a file must not stop the others from being read."""
    rejected = profile_from({**DOCUMENT, "valid_from": valid_from}, ZoneInfo("Europe/Berlin"))

    assert rejected == ProfileRejected("/valid_from", "must be an RFC 3339 time with an offset, or a date")


def test_a_profile_without_its_start_is_refused_before_anything_else() -> None:
    """Nothing can be judged by a profile of which nobody knows since when it is so."""
    document = {name: DOCUMENT[name] for name in DOCUMENT if name != "valid_from"}

    assert profile_from({**document, "name": "Ada"}) == ProfileRejected(
        "/valid_from", "must be an RFC 3339 time with an offset, or a date"
    )


def test_a_start_with_another_offset_is_kept_in_utc() -> None:
    """Times are compared in one zone; the document is left as it was."""
    document = {**DOCUMENT, "valid_from": "2026-01-01T01:30:00+02:00"}

    profile = profile_from(document, ZoneInfo("Europe/Berlin"))

    assert isinstance(profile, PumpProfile)
    assert profile.valid_from == datetime(2025, 12, 31, 23, 30, tzinfo=UTC)
    assert profile.valid_from.tzinfo is UTC
    assert document["valid_from"] == "2026-01-01T01:30:00+02:00"
    assert _profile(valid_from="2026-01-01").valid_from.tzinfo is UTC


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("baclofen", 50.0, 4_000.0),
        ("morphine", 500.0, 50_000.0),
        ("hydromorphone", 100.0, 100_000.0),
        ("ziconotide", 0.5, 100.0),
        ("clonidine", 10.0, 2_000.0),
        ("bupivacaine", 500.0, 40_000.0),
    ],
)
def test_plausible_concentrations_include_their_bounds(name: str, low: float, high: float) -> None:
    """A little beyond either is refused."""

    def taken(concentration: float) -> bool:
        drugs = [{"name": name, "concentration_ug_per_ml": concentration}]
        return isinstance(profile_from({**DOCUMENT, "drugs": drugs}), PumpProfile)

    assert [taken(low * 0.99), taken(low), taken(high), taken(high * 1.01)] == [False, True, True, False]


def test_rules_read_from_a_profile_what_it_says() -> None:
    """The mixture's worst withdrawal counts, the dose is that of the first drug."""
    profile = _profile(
        family="prometra",
        drugs=[
            {"name": "bupivacaine", "concentration_ug_per_ml": 500},
            {"name": "morphine", "concentration_ug_per_ml": 1000},
        ],
        prescribed_ug_per_day=250,
        risks=["child"],
        expected_interval_seconds=60,
        max_bolus_ml_per_day=1.5,
    )

    assert therapy_of(profile) == Therapy(
        known=True,
        valid_from=profile.valid_from,
        family=Family.PROMETRA,
        withdrawal=WithdrawalClass.W2,
        high_risk=True,
        budget=timedelta(hours=8),
        interval=timedelta(minutes=1),
        low_reservoir_ml=2.0,
        prescribed_ml_per_day=0.5,
        max_bolus_ml_per_day=1.5,
        site="north",
        profile=profile,
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 4.0),
        ({"low_reservoir_ml": 1.0}, 1.0),
        ({"drugs": [{"name": "morphine", "concentration_ug_per_ml": 1000}]}, 2.0),
        ({"drugs": [{"name": "morphine", "concentration_ug_per_ml": 1000}], "low_reservoir_ml": 3.0}, 3.0),
        ({"drugs": [{"name": "ziconotide", "concentration_ug_per_ml": 25}]}, 2.0),
    ],
)
def test_a_low_reservoir_is_the_profiles_else_the_withdrawals(changes: dict[str, Any], expected: float) -> None:
    """4 mL on W3 and 2 mL otherwise (catalogue M.12)."""
    assert therapy_of(_profile(**changes)).low_reservoir_ml == expected


def test_what_a_profile_leaves_out_is_unknown_or_nothing() -> None:
    """A dose with no concentration is no flow, and no bolus is planned; a risk on W1 is none."""
    saline = therapy_of(_profile(drugs=[{"name": "saline"}], risks=["child"]))

    assert (saline.prescribed_ml_per_day, saline.max_bolus_ml_per_day) == (None, 0.0)
    assert not saline.high_risk
    assert saline.saline_only
    assert not therapy_of(_profile()).high_risk


# What is known over time --------------------------------------------------------------------------------------------

SECOND = timedelta(seconds=1)


def _care(care_id: str, valid_from: str, **fields: Any) -> CareRecord:
    said = {"pump_id": "P-1", "kind": "session", "person": "ada", "reason": "made up", "session_id": "S", **fields}
    record = care_from({"care_id": care_id, "valid_from": valid_from, **said})
    assert isinstance(record, CareRecord), record
    return record


FIRST, SECOND_VERSION = _profile(), _profile(valid_from="2026-02-01T00:00:00Z", site="south")
EARLY = _care("C-9", "2026-01-10T00:00:00Z", valid_until="2026-01-20T00:00:00Z")
TWIN_A, TWIN_B = _care("C-1", "2026-03-01T00:00:00Z"), _care("C-2", "2026-03-01T00:00:00Z")
HISTORY = ProfileHistory((SECOND_VERSION, FIRST), (TWIN_B, TWIN_A, EARLY), ZoneInfo("Europe/Berlin"))
CHANGES = (
    FIRST.valid_from,
    EARLY.valid_from,
    datetime(2026, 1, 20, tzinfo=UTC),
    SECOND_VERSION.valid_from,
    TWIN_A.valid_from,
)


def test_versions_and_records_are_kept_in_order_of_time() -> None:
    """Of the same time in order of their ids, however they were given."""
    assert HISTORY.versions == (FIRST, SECOND_VERSION)
    assert HISTORY.care == (EARLY, TWIN_A, TWIN_B)
    assert HISTORY.zone == ZoneInfo("Europe/Berlin")
    assert ProfileHistory().zone is UTC


def test_each_start_and_each_end_is_a_change() -> None:
    """Of the profile and of what people know; the moment itself is not after itself."""
    moment, found = datetime(2025, 1, 1, tzinfo=UTC), []
    while (change := HISTORY.next_change(moment)) is not None:
        found.append(change)
        assert HISTORY.next_change(change - SECOND) == change
        moment = change

    assert tuple(found) == CHANGES
    assert ProfileHistory().next_change(moment) is None


@pytest.mark.parametrize(
    ("number", "site", "care"),
    [
        (0, None, ()),
        (1, "north", ()),
        (2, "north", (EARLY,)),
        (3, "north", ()),
        (4, "south", ()),
        (5, "south", (TWIN_A, TWIN_B)),
    ],
)
def test_what_is_known_changes_with_each_of_them(number: int, site: str | None, care: tuple[CareRecord, ...]) -> None:
    """From the moment itself on and until the next one, with a key of its own."""
    since = CHANGES[number - 1] if number else None
    begins = since or FIRST.valid_from - timedelta(days=9)
    ends = CHANGES[number] - SECOND if number < len(CHANGES) else begins + timedelta(days=99)

    therapy = HISTORY.therapy(begins)

    assert (therapy.site, therapy.care, therapy.since) == (site, care, since)
    assert (therapy.known, therapy.known_care) == (number > 0, HISTORY.care)
    assert therapy.zone == ZoneInfo("Europe/Berlin")
    assert therapy.key == f"{HISTORY.key}/{number}"
    assert HISTORY.therapy(ends) is therapy


def test_a_record_before_the_first_profile_counts_with_the_strictest_defaults() -> None:
    """What people know is not lost for want of a profile."""
    history = ProfileHistory((SECOND_VERSION,), (EARLY,))
    therapy = history.therapy(EARLY.valid_from)

    assert (therapy.known, therapy.care, therapy.since) == (False, (EARLY,), EARLY.valid_from)
    assert history.at(EARLY.valid_from) is None
    assert ProfileHistory().therapy(EARLY.valid_from) is STRICTEST


def test_what_is_known_has_a_key_that_tells_it_apart() -> None:
    """By versions, by records and by zone; what says nothing at all has none."""
    known = [
        ProfileHistory((FIRST,)),
        ProfileHistory((SECOND_VERSION,)),
        ProfileHistory((FIRST,), (EARLY,)),
        ProfileHistory((FIRST,), (), ZoneInfo("Europe/Berlin")),
        ProfileHistory((), (EARLY,)),
    ]

    assert len({history.key for history in known}) == len(known)
    assert [len(history.key) for history in known] == [12] * len(known)
    assert ProfileHistory((FIRST,)).key == known[0].key
    assert ProfileHistory().key == ""


def test_pumps_that_rules_cannot_tell_apart_share_their_parameters() -> None:
    """By drugs, family, withdrawal class and risk; a patient with a setting has parameters of their own."""
    setting = _care("C-3", "2026-01-10T00:00:00Z", kind="setting", session_id=None, rule_id="RSV-01",
                    parameter="hours", value=72.0)  # fmt: skip
    moment = setting.valid_from

    def shared(history: ProfileHistory) -> dict[str, Any]:
        return history.therapy(moment).parameters

    ours = shared(ProfileHistory((FIRST,)))

    assert shared(ProfileHistory((_profile(site="east", pump_id="P-2"),), (EARLY,))) is ours
    assert shared(ProfileHistory((_profile(risks=["child"]),))) is not ours
    assert shared(ProfileHistory((_profile(family="prometra"),))) is not ours
    assert shared(ProfileHistory((_profile(drugs=[*DOCUMENT["drugs"], {"name": "saline"}]),))) is not ours
    assert shared(ProfileHistory((FIRST,), (setting,))) is not ours
    assert shared(ProfileHistory((FIRST,), (setting,))) is not shared(ProfileHistory((FIRST,), (setting,)))
    assert shared(ProfileHistory((SECOND_VERSION,))) is shared(ProfileHistory((), (EARLY,)))


@pytest.mark.parametrize(
    ("by_profile", "by_record", "expected"),
    [
        (None, None, None),
        ("2026-07-01", None, datetime(2026, 6, 30, 22, tzinfo=UTC)),
        (None, "2026-07-02", datetime(2026, 7, 1, 22, tzinfo=UTC)),
        ("2026-07-01", "2026-07-02", datetime(2026, 7, 1, 22, tzinfo=UTC)),
    ],
)
def test_a_booked_day_begins_at_midnight_at_the_site(
    by_profile: str | None, by_record: str | None, expected: datetime | None
) -> None:
    """A record counts before a profile that is no younger."""
    versions = (_profile(refill_booked_on=by_profile),)
    same_moment = DOCUMENT["valid_from"]
    care = [] if by_record is None else [
        _care("C-4", same_moment, kind="refill_booked", session_id=None, booked_on=by_record)
    ]  # fmt: skip
    therapy = ProfileHistory(versions, tuple(care), ZoneInfo("Europe/Berlin")).therapy(FIRST.valid_from)
    later = ProfileHistory(
        (*versions, _profile(valid_from="2026-01-02", refill_booked_on="2026-07-09")), tuple(care), UTC
    )

    assert therapy.refill_booked_at == expected
    assert therapy.replacement_booked_at is None
    assert later.therapy(FIRST.valid_from + timedelta(days=1)).refill_booked_at == datetime(2026, 7, 9, tzinfo=UTC)
