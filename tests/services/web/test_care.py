"""What people know of a pump: shown where it matters, entered by forms and programs, taken back with a reason."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.web.access import Desk
from services.web.care import document_of
from streams import profiles
from streams.domain.care import CareKind, CareRejected
from streams.domain.rule import RuleBook, Setting
from tests.integration.ground import RULEBOOK
from tests.services.web.test_alerts import HOSTILE, text_of
from tests.services.web.ward import Browser, Ward


@pytest.fixture
def rules() -> RuleBook:
    """The shipped rules, one of which may be set per patient: hours of more than 48, and down to 24 for a time."""
    own: dict[str, Any] = {"settings": {"hours": Setting("higher", 24.0)}, "parameters": {"hours": 48.0}}
    return RuleBook(tuple(replace(rule, **own) if rule.id == "RSV-01" else rule for rule in RULEBOOK))


def now() -> datetime:
    """Service time."""
    return datetime.now(UTC)


def local(moment: datetime) -> str:
    """As a browser's form sends a moment."""
    return moment.strftime("%Y-%m-%dT%H:%M")


@pytest.fixture
async def pump(ward: Ward) -> Ward:
    """P-1 with a profile."""
    await ward.runs(hours=1)
    return ward


PLAN = {"kind": "stop_plan", "reason": "explant, the ward covers"}


async def records(ward: Ward) -> list[dict[str, Any]]:
    """As analysts see them."""
    return await ward.ground.rows("SELECT * FROM v_care_record ORDER BY recorded_at")


async def test_a_plan_is_entered_on_the_alert_and_shown_there(nora: Browser, pump: Ward) -> None:
    """By the person who is signed in, from now until its hard end; the form leads back to the alert."""
    await pump.stalls(seq=4)
    until = now() + timedelta(hours=6)

    page = (await nora.get("/alerts/1")).text
    back = re.search(r'name="back" value="([^"]+)"', page)
    assert back is not None
    done = await nora.post("/pumps/P-1/care", {**PLAN, "valid_until": local(until), "back": back[1]})

    [row] = await records(pump)
    text = text_of((await nora.get("/alerts/1")).text)
    assert (done.status_code, done.headers["location"]) == (303, "/alerts/1")
    assert (row["kind"], row["person"], row["recorded_by"]) == ("stop_plan", "nora", "nora")
    assert row["valid_until"] == until.replace(second=0, microsecond=0)
    for path in ("/alerts/1", "/pumps/P-1", "/pumps/P-1/care"):
        text = text_of((await nora.get(path)).text)
        assert "Planned stop explant, the ward covers counts now since" in text, path
        assert "Nora Night" in text


async def test_times_in_forms_are_the_sites(nora: Browser, pump: Ward) -> None:
    """The form says so."""
    await profiles.set_time_zone(pump.ground.store.pool, "north", "Asia/Tokyo", now())

    page = (await nora.get("/pumps/P-1")).text
    tomorrow = (now() + timedelta(days=1)).date().isoformat()
    await nora.post("/pumps/P-1/care", {**PLAN, "valid_until": f"{tomorrow}T18:00"})

    [row] = await records(pump)
    assert "Hard end (Asia/Tokyo time)" in text_of(page)
    assert row["valid_until"] == datetime.fromisoformat(f"{tomorrow}T09:00:00Z")


async def test_every_form_of_the_page_makes_its_kind_of_record(nora: Browser, pump: Ward) -> None:
    """Filled in as a browser would, with the fields that the form has."""
    page = (await nora.get("/pumps/P-1/care")).text
    filled = {
        "valid_until": local(now() + timedelta(days=2)),
        "booked_on": (now() + timedelta(days=9)).date().isoformat(),
        "rule_id": "RSV-01",
        "choice": "RSV-01/hours",
        "value": "72,5",
        "reason": "as agreed",
    }

    for form in re.findall(r'action="/pumps/P-1/care">(.*?)</form>', page, re.DOTALL):
        names = set(re.findall(r'<(?:input|select)[^>]* name="(\w+)"', form))
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
        answer = await nora.post(
            "/pumps/P-1/care", {**hidden, **{name: filled.get(name, "") for name in names - set(hidden)}}
        )
        assert answer.status_code == 303, text_of(answer.text)

    rows = {row["kind"]: row for row in await records(pump)}
    assert rows.keys() == set(CareKind)
    assert (rows["setting"]["parameter"], rows["setting"]["value"]) == ("hours", 72.5)
    assert rows["session"]["session_id"].startswith("care-")


async def test_a_form_sent_twice_makes_one_record(nora: Browser, ben: Browser, pump: Ward) -> None:
    """A tap on a slow phone is repeated; another person's form is another record."""
    fields = {
        "kind": "absence",
        "care_id": "care-9",
        "reason": "travels",
        "valid_until": local(now() + timedelta(days=2)),
    }

    answers = [await nora.post("/pumps/P-1/care", fields) for _ in range(2)]
    other = await ben.post("/pumps/P-1/care", fields)

    assert [answer.status_code for answer in answers] == [303, 303]
    assert (other.status_code, len(await records(pump))) == (422, 1)


async def test_a_refusal_names_the_field_and_keeps_what_was_written(nora: Browser, pump: Ward) -> None:
    """The form stands open with it."""
    past = await nora.post(
        "/pumps/P-1/care", {**PLAN, "valid_until": "2026-01-01T10:00", "valid_from": "2026-01-01T09:00"}
    )
    nothing = await nora.post("/pumps/P-1/care", {**PLAN, "back": "//evil.test"})
    nonsense = await nora.post("/pumps/P-1/care", {**PLAN, "valid_until": "soon"})

    assert [answer.status_code for answer in (past, nothing, nonsense)] == [422, 422, 422]
    assert "It was not entered. Until: is past: it would never count." in past.text
    assert "It was not entered. Until: field is required for stop_plan." in nothing.text
    assert "It was not entered. Until: is not a day and a time of day." in nonsense.text
    assert re.search(r'name="reason"[^>]* value="explant, the ward covers"', nothing.text)
    assert nothing.text.count('<details class="enter" open') == 1
    assert "evil" not in nothing.text
    assert await records(pump) == []


async def test_a_setting_is_refused_with_its_bound(nora: Browser, pump: Ward) -> None:
    """The form shows the value in force; a looser one without an end is refused."""
    page = text_of((await nora.get("/pumps/P-1")).text)
    fields = {"kind": "setting", "choice": "RSV-01/hours", "reason": "as agreed"}

    endless = await nora.post("/pumps/P-1/care", {**fields, "value": "36"})
    loose = await nora.post("/pumps/P-1/care", {**fields, "value": "12"})
    words = await nora.post("/pumps/P-1/care", {**fields, "value": "many"})

    assert "RSV-01 hours: 48, at least 24" in page
    assert (
        "Until: a value less strict than the default 48 needs an end, at most 90 days after valid_from." in endless.text
    )
    assert "Value: less strict than allowed: must be at least 24 (the default 48)." in loose.text
    assert "Value: is not a number." in words.text


async def test_a_record_is_withdrawn_with_a_reason_and_stays_to_be_seen(
    nora: Browser, ben: Browser, pump: Ward
) -> None:
    """On its own page; afterwards it stands under what counts no more, with who and why."""
    await pump.knows()

    short = await nora.post("/care/care-1/withdraw", {"reason": " no "})
    done = await nora.post("/care/care-1/withdraw", {"reason": "rebooked \n by phone"})
    again = await ben.post("/care/care-1/withdraw", {"reason": "rebooked"})

    page = text_of((await nora.get("/pumps/P-1/care")).text)
    record = text_of((await nora.get("/care/care-1")).text)
    assert (short.status_code, "it needs a reason of 3 to 500" in short.text) == (422, True)
    assert (done.status_code, done.headers["location"]) == (303, "/pumps/P-1/care")
    assert (again.status_code, "it was withdrawn already, by nora" in again.text) == (409, True)
    assert page.index("Counts no more") < page.index("Refill booked for")
    assert "by Nora Night Withdrawn because rebooked by phone" in record
    assert "Known to Ben Backup" in record
    assert 'action="/care/care-1/withdraw"' not in (await nora.get("/care/care-1")).text


async def test_only_the_latest_booking_counts(nora: Browser, pump: Ward) -> None:
    """The earlier one is shown as overtaken, and one whose day has passed as such."""
    await pump.knows()
    await pump.knows(care_id="care-2", booked_on=(now() + timedelta(days=5)).date().isoformat())
    yesterday = now() - timedelta(days=3)
    await pump.knows(
        care_id="care-3",
        kind="replacement_booked",
        valid_from=yesterday.isoformat(),
        booked_on=(yesterday + timedelta(days=1)).date().isoformat(),
    )

    found = {item["care_id"]: item["state"] for item in (await nora.get("/api/pumps/P-1/care?show=all")).json()["care"]}
    counting = [item["care_id"] for item in (await nora.get("/api/pumps/P-1/care")).json()["care"]]

    assert found == {"care-1": "overtaken by a later one", "care-2": "counts now", "care-3": "its day has passed"}
    assert counting == ["care-2"]


async def test_a_program_enters_and_withdraws_for_its_person(nora: Browser, pump: Ward, desk: Desk) -> None:
    """With the record's own fields; the same again changes nothing."""
    document = {
        "care_id": "B-1",
        "kind": "session",
        "session_id": "S-7",
        "reason": "planned",
        "valid_from": now().isoformat(),
    }

    first = await nora.send("/api/pumps/P-1/care", document)
    again = await nora.send("/api/pumps/P-1/care", document)
    [listed] = (await nora.get("/api/pumps/P-1/care")).json()["care"]
    gone = await nora.send("/api/care/B-1/withdraw", {"reason": "not today"})
    twice = await nora.send("/api/care/B-1/withdraw", {"reason": "not today"})

    assert (first.status_code, again.status_code) == (201, 201)
    assert (first.json()["person"], first.json()["session_id"]) == ("nora", "S-7")
    assert (listed["person_name"], listed["recorded_by"], listed["state"]) == ("Nora Night", "nora", "counts now")
    assert (gone.status_code, gone.json()["withdrawn_at"] is not None) == (200, True)
    assert (twice.status_code, twice.json()["detail"]) == (409, "it was withdrawn already, by nora")
    counted = desk.metrics.registry.get_sample_value
    assert counted("pumpwatch_web_actions_total", {"action": "care_withdraw", "outcome": "done"}) == 1


async def test_a_program_is_told_which_field_cannot_be_used(nora: Browser, pump: Ward) -> None:
    """A problem document with the field's path; nobody enters anything in another person's name."""
    good = {"kind": "refill_booked", "reason": "planned", "booked_on": (now() + timedelta(days=2)).date().isoformat()}
    cases: dict[str, dict[str, Any]] = {
        "/booked_on": {**good, "booked_on": "soon"},
        "/person": {**good, "person": "ben"},
        "/pump_id": {**good, "pump_id": "P-2"},
        "/value": {**good, "value": 1},
        "/kind": {**good, "kind": ["refill_booked"]},
        "/nonsense": {**good, "nonsense": {}},
        "": {**good, "reason": "\ud800"},
    }

    answers = {pointer: await nora.send("/api/pumps/P-1/care", document) for pointer, document in cases.items()}
    unknown = await nora.send("/api/pumps/P-9/care", good)
    nowhere = await nora.send("/api/care/care-7/withdraw", {"reason": "not today"})
    await pump.knows()
    unsaid = await nora.send("/api/care/care-1/withdraw", {})

    assert {pointer: (answer.status_code, answer.json()["pointer"]) for pointer, answer in answers.items()} == {
        pointer: (422, pointer) for pointer in cases
    }
    assert answers["/kind"].headers["content-type"] == "application/problem+json"
    assert (unknown.status_code, nowhere.status_code) == (404, 404)
    assert (unsaid.status_code, unsaid.json()["pointer"]) == (422, "/reason")


async def test_what_is_not_there_is_said_kindly(nora: Browser, pump: Ward) -> None:
    """An unknown pump and an unknown record, also where the id cannot be one."""
    for path in ("/pumps/P-9/care", "/pumps/%00/care", "/care/care-9", "/care/%00"):
        assert (await nora.get(path)).status_code == 404, path
    for path in ("/pumps/P-9/care", "/pumps/%00/care", "/care/care-9/withdraw"):
        assert (await nora.post(path, {**PLAN, "care_id": "\0"})).status_code == 404, path
    refused = await nora.post("/pumps/P-1/care", {**PLAN, "care_id": "\0", "valid_until": local(now() + timedelta(1))})
    assert refused.status_code == 422


async def test_what_people_enter_is_only_text(nora: Browser, pump: Ward) -> None:
    """Reasons and session numbers never become a part of the page."""
    await pump.knows(kind="session", booked_on=None, session_id=HOSTILE[:60], reason=HOSTILE)
    await pump.stalls(seq=4)

    for path in ("/alerts/1", "/pumps/P-1", "/pumps/P-1/care", "/care/care-1"):
        assert "<script>alert" not in (await nora.get(path)).text, path
    refused = await nora.post(
        "/pumps/P-1/care", {"kind": HOSTILE, "reason": HOSTILE, "valid_until": HOSTILE, "value": HOSTILE}
    )
    assert (refused.status_code, "<script>alert" in refused.text) == (422, False)


def test_a_form_leaves_out_what_was_left_empty() -> None:
    """Choices name rule and parameter; times without an offset are the zone's."""
    document = document_of(
        {"kind": "setting", "choice": "RSV-01/hours", "value": "1", "valid_until": "", "reason": " a  b "}, UTC
    )

    assert document == {"kind": "setting", "rule_id": "RSV-01", "parameter": "hours", "value": 1.0, "reason": "a b"}
    assert document_of({"valid_from": "0001-01-01T00:00+14:00"}, UTC) == CareRejected(
        "/valid_from", "is not a day and a time of day"
    )
