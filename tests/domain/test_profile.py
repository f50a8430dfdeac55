"""A pump's profile: what is refused, what rules read from it, and from when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from streams.domain.profile import (
    STRICTEST,
    ProfileHistory,
    ProfileRejected,
    PumpProfile,
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
