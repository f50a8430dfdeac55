"""What messages say, and what the settings of notify refuse."""

from __future__ import annotations

from datetime import time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.notify.channels import Notice
from services.notify.message import SITE_LENGTH, Messages, one_line
from services.notify.settings import Settings
from streams.domain.escalation import Policy
from tests.services.notify.notices import NOON, notice

MESSAGES = Messages("https://care.example/")
ALLOWED = {
    *("notification_id", "alert_id", "number", "priority", "site", "raised_at", "step", "repeat"),
    *("thread_id", "correction", "continues", "taken_over"),
}


def test_a_notice_has_no_place_for_a_patient() -> None:
    """What is not in it cannot get out: no name, pump, drug, rule or text of the alert."""
    assert set(Notice.__slots__) == ALLOWED


def test_a_repeat_is_marked_in_every_form() -> None:
    """Subject, body and document."""
    again = notice(repeat=True)

    assert MESSAGES.subject(again).endswith("(possible repeat)")
    assert "Possible repeat" in MESSAGES.body(again)
    assert MESSAGES.document(again, NOON)["data"] == {
        **MESSAGES.document(notice(), NOON)["data"],  # type: ignore[dict-item]
        "possible_repeat": True,
    }


def test_a_correction_asks_nobody_to_confirm() -> None:
    """It says that the alert was taken back, and where to read why."""
    taken_back = notice(correction=True)

    body = MESSAGES.body(taken_back)
    assert MESSAGES.subject(taken_back) == "[Pumpwatch] Taken back: HIGH alert 7 at north"
    assert "was taken back" in body
    assert "confirm" not in body
    assert MESSAGES.document(taken_back, NOON)["type"] == "pumpwatch.alert.correction"


def test_a_takeover_names_both_alerts_and_asks_for_a_confirmation() -> None:
    """Who was told of the one hears that it was taken back and which one goes on; why is on the page."""
    takes_over = notice(continues=5, taken_over=True)

    body = MESSAGES.body(takes_over)
    document = MESSAGES.document(takes_over, NOON)
    assert MESSAGES.subject(takes_over) == "[Pumpwatch] Taken back: alert 5, goes on as HIGH alert 7 at north"
    assert "Alert 5 was taken back. Alert 7 goes on in its place" in body
    assert "Read and confirm it" in body
    assert document["type"] == "pumpwatch.alert.takeover"
    assert document["data"] == {
        **MESSAGES.document(notice(), NOON)["data"],  # type: ignore[dict-item]
        "continues_number": 5,
    }


def test_a_page_and_a_correction_of_an_alert_that_took_over_name_the_one_before() -> None:
    """Somebody may know only that number."""
    page, taken_back = notice(continues=5), notice(continues=5, correction=True)

    assert MESSAGES.subject(page) == "[Pumpwatch] HIGH alert 7 at north"
    assert "Alert 7 goes on in its place" in MESSAGES.body(page)
    assert "the place of alert 5" in MESSAGES.body(taken_back)


def test_an_alert_without_a_site_says_so() -> None:
    """A system alert may have none."""
    assert MESSAGES.subject(notice(site="")) == "[Pumpwatch] HIGH alert 7"
    assert "Site:      not known" in MESSAGES.body(notice(site=""))


@given(st.text(max_size=300))
def test_a_site_is_one_printable_line(text: str) -> None:
    """Whatever was typed."""
    line = one_line(text)

    assert len(line) <= SITE_LENGTH
    assert line == "" or line.isprintable()
    assert len(MESSAGES.subject(notice(site=text)).splitlines()) == 1


def test_the_settings_are_the_policy() -> None:
    """By default the catalogue's numbers."""
    assert Settings().policy == Policy()
    assert Settings(notify_quiet_hours="").policy.quiet is None
    assert Settings(notify_quiet_hours="23:30-06:00").policy.quiet == (time(23, 30), time(6))
    assert Settings(notify_hold_high_minutes=15).policy.hold_high == timedelta(minutes=15)


@pytest.mark.parametrize(
    "wrong",
    [
        {"notify_lease_seconds": 10, "notify_send_timeout_seconds": 10},
        {"notify_quiet_hours": "25:00-07:00"},
        {"notify_quiet_hours": "night"},
        {"notify_ladder_pace": 2},
        {"notify_attempts": 0},
        {"notify_sender": "a@b\r\nBcc: c@d"},
        {"notify_public_url": "javascript:alert(1)"},
    ],
)
def test_settings_that_could_lose_a_page_are_refused(wrong: dict[str, Any]) -> None:
    """At the start, not at night."""
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_the_allow_list_is_read_without_case_and_blanks() -> None:
    """As people write lists."""
    assert Settings(notify_webhook_hosts=" Hooks.Example ,, 10.0.0.1 ").webhook_hosts == {"hooks.example", "10.0.0.1"}
