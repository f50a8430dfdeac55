"""What a person sees of alerts, and what they can do with one."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.web.access import Desk
from services.web.actions import reference
from services.web.words import RESOLUTIONS
from streams.domain.pipeline import ResolveRefused
from streams.domain.telemetry import Motor
from streams.store import Store
from tests.integration.ground import heard
from tests.services.web.ward import Browser, Ward

HOSTILE = "<script>alert('x')</script>\"'&{{7*7}}"


def text_of(page: str) -> str:
    """What a reader sees of a page."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


async def test_open_alerts_stand_in_the_order_in_which_they_need_somebody(nora: Browser, ward: Ward) -> None:
    """High before medium before low, and the one that waits longest first."""
    for pump in ("P-1", "P-2", "P-3"):
        await ward.stalls(pump, seq=0)
    await ward.ground.owner.execute("UPDATE alert SET priority = 'low', raised_at = '2020-01-01' WHERE pump_id = 'P-1'")
    await ward.ground.owner.execute("UPDATE alert SET raised_at = now() - interval '1 hour' WHERE pump_id = 'P-3'")

    page = (await nora.get("/")).text

    assert page.index("Pump P-3") < page.index("Pump P-2") < page.index("Pump P-1")
    assert "(3) Open alerts" in page


async def test_a_row_says_everything_in_words(nora: Browser, ward: Ward) -> None:
    """Priority in word and sign, number, rule, pump, site, who has it, who was told, what comes next."""
    await ward.ground.know(pump_id="P-1", site="north")
    alert_id = await ward.stalls(seq=0)
    await ward.told(alert_id, "nora", 0)
    await ward.told(alert_id, "ben", 1, "failed", sent_at=None)
    await ward.ground.owner.execute(
        "INSERT INTO ladder (alert_id, ladder, started_at, next_step, next_step_at)"
        " VALUES ($1, 'H', now(), 3, now() + interval '5 minutes')",
        alert_id,
    )

    text = text_of((await nora.get("/")).text)

    for words in (
        "▲▲▲ HIGH No. 1",
        "Motor stall",
        "Pump P-1 north",
        "UNCONFIRMED",
        "Last told: Nora Night by e-mail",
        "1 message has not gone out.",
        "Next: physician on call",
    ):
        assert words in text


async def test_no_alerts_are_not_called_good_news(nora: Browser) -> None:
    """A pump that does not report is not known to be well."""
    assert "a pump that does not report is not known to be well" in (await nora.get("/")).text


async def test_more_alerts_than_a_page_holds_are_counted(nora: Browser, ward: Ward) -> None:
    """Nothing is left out silently."""
    await ward.stalls(seq=0)
    columns = "pump_id, rule_id, rule_hash, ladder, priority, active, latched, effective_from, opened_at, raised_at"
    await ward.ground.owner.execute(
        f"INSERT INTO alert (alert_id, {columns}, reason, message) SELECT gen_random_uuid(), {columns}, reason, message"
        " FROM alert, generate_series(1, 320)"
    )

    assert "21 more are not shown." in (await nora.get("/")).text
    assert (await nora.get("/api/alerts")).json()["more"] == 21


async def test_the_last_seven_days_have_closed_alerts_too(nora: Browser, ward: Ward) -> None:
    """And open ones of any age; not closed ones from before."""
    for pump in ("P-1", "P-2", "P-3"):
        await ward.stalls(pump, seq=0)
    await ward.ground.owner.execute("UPDATE alert SET resolved_at = now() WHERE pump_id IN ('P-1', 'P-2')")
    await ward.ground.owner.execute("UPDATE alert SET opened_at = now() - interval '8 days' WHERE pump_id <> 'P-1'")

    shown = [alert["pump_id"] for alert in (await nora.get("/api/alerts?show=recent")).json()["alerts"]]
    page = (await nora.get("/?show=recent")).text

    assert sorted(shown) == ["P-1", "P-3"]
    assert "Pump P-2" not in page
    assert "Closed" in page


async def test_what_pumps_and_people_write_is_only_text(nora: Browser, ward: Ward) -> None:
    """Messages, sites, names and reasons never become a part of the page."""
    await ward.ground.know(pump_id="P-1", site=HOSTILE)
    alert_id = await ward.stalls(seq=0)
    await ward.ground.owner.execute("UPDATE alert SET message = $1, rule_id = $1, site = $1, reason = $1", HOSTILE)
    await ward.ground.owner.execute("UPDATE person SET display_name = $1 WHERE person_id = 'nora'", HOSTILE)
    await ward.told(alert_id, HOSTILE, 0, last_error=HOSTILE)
    await nora.post("/alerts/1/confirm")

    for path in ("/", "/?show=recent", "/alerts/1", "/pumps/P-1", f"/sign-in?next=/{HOSTILE}", f"/alerts/{HOSTILE}"):
        page = (await nora.get(path)).text
        assert "<script>alert" not in page
    assert "{{7*7}}" in (await nora.get("/")).text
    refused = await nora.post("/alerts/1/resolve", {"reason": HOSTILE, "text": f"</textarea>{HOSTILE}"})
    assert refused.status_code == 422
    assert "<script>alert" not in refused.text
    assert "</textarea>&lt;" not in refused.text


async def test_the_story_has_everything_in_the_order_in_which_it_became_known(nora: Browser, ward: Ward) -> None:
    """Opened, told, confirmed, condition ended: with event time, recorded time, who and why."""
    await ward.stalls(seq=0)
    await ward.told(await ward.alert_of(), "nora", 0)
    await nora.post("/alerts/1/confirm")
    await ward.recovers(seq=1)

    text = text_of((await nora.get("/alerts/1")).text)
    story = text[text.index("What happened") :]
    api = (await nora.get("/api/alerts/1")).json()

    assert [item.get("kind", "told") for item in api["story"]] == ["opened", "told", "acknowledged", "cleared"]
    places = [story.index(words) for words in ("Opened", "Nora Night told by e-mail", "Confirmed by Nora", "ended")]
    assert places == sorted(places)
    assert story.count("recorded") == 3
    assert "a person has taken it" in story


async def test_an_alert_shows_its_family_and_its_pump(nora: Browser, ward: Ward) -> None:
    """Children under it, other alerts of the pump beside it, the pump's last values and profile."""
    await ward.runs(hours=2)
    alert_id = await ward.stalls(seq=8)
    for number in (2, 3):
        await ward.ground.owner.execute(
            "INSERT INTO alert (alert_id, pump_id, rule_id, rule_hash, ladder, priority, active, latched,"
            " effective_from, opened_at, raised_at, parent_id, reason, message)"
            " SELECT gen_random_uuid(), pump_id, 'RSV-01', rule_hash, 'L', 'low', true, false,"
            " now(), now(), now(), $2, reason, 'other' FROM alert WHERE alert_id = $1",
            alert_id,
            alert_id if number == 2 else None,
        )

    text = text_of((await nora.get("/alerts/1")).text)
    child = text_of((await nora.get("/alerts/2")).text)
    pump = text_of((await nora.get("/pumps/P-1")).text)

    under, beside = text.index("Alerts under this one"), text.index("Other alerts of this pump")
    assert under < text.index("No. 2") < beside < text.index("No. 3")
    assert "under No. 1" in child
    assert "Motor stalled" in text
    assert "Reservoir, estimated 11.96 mL" in pump
    assert "baclofen 500.0 µg/mL" in pump
    assert "No. 3" in pump


async def test_a_pump_without_a_profile_says_so(nora: Browser, ward: Ward) -> None:
    """It is judged by the strictest defaults."""
    await ward.ground.hear(heard())

    assert "This pump has no profile." in (await nora.get("/pumps/P-1")).text


async def test_what_does_not_exist_is_said_kindly(nora: Browser) -> None:
    """With a way back, and 404 for machines."""
    long = "9" * 30
    for path in ("/alerts/1", "/alerts/x", f"/alerts/{long}", "/alerts/²", "/pumps/none", "/pumps/%00", "/nothing"):
        answer = await nora.get(path)
        assert answer.status_code == 404, path
        assert 'href="/"' in answer.text
    for path in ("/api/alerts/1", "/api/pumps/none/readings", "/api/pumps/%00/readings", "/api/nothing"):
        answer = await nora.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await nora.post("/alerts/1/confirm")).status_code == 404
    assert (await nora.send("/api/alerts/1/resolve", {"reason": "technical"})).status_code == 404
    assert (await nora.send("/api/alerts/1/seen", {})).status_code == 404


def test_an_alert_is_named_by_its_number_or_its_id() -> None:
    """Anything else names none."""
    assert reference("12") == 12
    assert str(reference("6f1c2a52-0a58-5d0e-9d8e-3f6f0f6c9a11")) == "6f1c2a52-0a58-5d0e-9d8e-3f6f0f6c9a11"
    assert reference("-1") is None


async def test_confirming_stops_the_search_and_shows_the_name(nora: Browser, ben: Browser, ward: Ward) -> None:
    """The first person has it; tapping again changes nothing; another one is told who has it since when."""
    await ward.stalls(seq=0)

    first = await nora.post("/alerts/1/confirm")
    again = await nora.post("/alerts/1/confirm")
    other = await ben.post("/alerts/1/confirm")
    by_api = await ben.send("/api/alerts/1/confirm", {})

    [row] = await ward.ground.rows("SELECT confirmed_by FROM alert")
    facts = await ward.ground.rows("SELECT actor FROM alert_event WHERE kind = 'acknowledged'")
    assert [first.status_code, again.status_code] == [303, 303]
    assert first.headers["location"] == "/alerts/1"
    assert (other.status_code, by_api.status_code) == (409, 409)
    assert re.search(r"Already confirmed by Nora Night at \d\d:\d\d:\d\d UTC", other.text)
    assert by_api.json()["alert"]["confirmed_name"] == "Nora Night"
    assert row["confirmed_by"] == "nora"
    assert [fact["actor"] for fact in facts] == ["nora"]
    assert "Nora Night has it" in text_of((await ben.get("/")).text)


async def test_of_two_people_at_once_one_has_it(nora: Browser, ben: Browser, ward: Ward, desk: Desk) -> None:
    """And the other one is told so."""
    await ward.stalls(seq=0)

    answers = await asyncio.gather(nora.send("/api/alerts/1/confirm", {}), ben.send("/api/alerts/1/confirm", {}))

    assert sorted(answer.status_code for answer in answers) == [200, 409]
    counted = desk.metrics.registry.get_sample_value
    assert counted("pumpwatch_web_actions_total", {"action": "confirm", "outcome": "done"}) == 1
    assert counted("pumpwatch_web_actions_total", {"action": "confirm", "outcome": "conflict"}) == 1


async def test_an_alert_that_was_raised_again_is_not_taken_unseen(nora: Browser, ward: Ward) -> None:
    """The form knows which raising its reader saw."""
    alert_id = await ward.stalls(seq=0)
    page = (await nora.get("/alerts/1")).text
    seen = re.search(r'name="raised_at" value="([^"]+)"', page)
    assert seen is not None
    await ward.ground.store.confirm(alert_id, "ben", datetime.now(UTC))
    await ward.ground.store.re_raise(alert_id, "hold_ended", datetime.now(UTC))

    stale = await nora.post("/alerts/1/confirm", {"raised_at": seen[1]})
    shown = (await nora.get("/api/alerts/1")).json()["raised_at"]
    nonsense = await nora.send("/api/alerts/1/confirm", {"raised_at": "just now"})

    assert stale.status_code == 409
    assert "raised again since you opened it" in stale.text
    assert "UNCONFIRMED" in stale.text
    assert nonsense.status_code == 409
    assert (await nora.send("/api/alerts/1/confirm", {"raised_at": shown})).status_code == 200


async def test_an_alert_that_is_raised_again_at_the_last_moment_is_not_taken_unseen(
    nora: Browser, ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the alert and the confirmation of it somebody had it, and lost it again."""
    alert_id = await ward.stalls(seq=0)
    confirm = Store.confirm

    async def raised_meanwhile(store: Store, *arguments: Any) -> ResolveRefused | None:
        await confirm(store, alert_id, "ben", datetime.now(UTC))
        await store.re_raise(alert_id, "hold_ended", datetime.now(UTC))
        return await confirm(store, *arguments)

    seen = (await nora.get("/api/alerts/1")).json()["raised_at"]
    monkeypatch.setattr(Store, "confirm", raised_meanwhile)
    answer = await nora.send("/api/alerts/1/confirm", {"raised_at": seen})

    assert answer.status_code == 409
    assert "raised again since you opened it" in answer.text
    assert (await nora.get("/api/alerts/1")).json()["confirmed"] is False


async def test_a_condition_that_still_holds_cannot_be_resolved(nora: Browser, ward: Ward) -> None:
    """The refusal is shown plainly, and what was written is not lost."""
    await ward.stalls(seq=0)

    refused = await nora.post("/alerts/1/resolve", {"reason": "technical", "text": "the phone was off"})

    assert refused.status_code == 409
    assert "It was not resolved: the condition still holds" in refused.text
    assert "the phone was off" in refused.text
    assert re.search(r'value="technical"\s+selected', refused.text)


async def test_resolving_keeps_the_reason_and_the_name(nora: Browser, ward: Ward) -> None:
    """From the closed list, with the person's own words; doing it again changes nothing."""
    await ward.stalls(seq=0)
    await ward.recovers(seq=1)
    await nora.post("/alerts/1/confirm")

    done = await nora.post("/alerts/1/resolve", {"reason": "delivery_restored", "text": " magnet \n removed "})
    again = await nora.post("/alerts/1/resolve", {"reason": "technical"})

    facts = await ward.ground.rows("SELECT actor, detail::text AS detail FROM alert_event WHERE kind = 'resolved'")
    page = text_of((await nora.get("/alerts/1")).text)
    assert (done.status_code, again.status_code) == (303, 303)
    assert [fact["actor"] for fact in facts] == ["nora"]
    assert "delivery_restored: magnet removed" in facts[0]["detail"]
    assert "Resolved by Nora Night" in page
    assert "Delivery checked and restored: magnet removed" in page
    assert "I have it" not in page
    assert (await nora.get("/api/alerts")).json() == {"alerts": [], "more": 0}
    assert (await nora.post("/alerts/1/confirm")).status_code == 409


async def test_a_reason_must_be_usable(nora: Browser, ward: Ward) -> None:
    """One of the list; words where the list does not say enough; not a novel."""
    await ward.stalls(seq=0)
    await ward.recovers(seq=1)
    unusable = [{}, {"reason": "because"}, {"reason": "other"}, {"reason": "technical", "text": "x" * 501}]

    for fields in [*unusable, {"reason": "technical", "text": "a\0b"}]:
        assert (await nora.send("/api/alerts/1/resolve", fields)).status_code == 422
    done = await nora.send("/api/alerts/1/resolve", {"reason": "other", "text": "x" * 500})

    assert done.json()["outcome"] == "done"
    assert set(RESOLUTIONS) > {"refilled", "nuisance", "technical"}


async def test_looking_at_an_alert_marks_only_ones_own_messages_as_seen(nora: Browser, ward: Ward) -> None:
    """Seen is a step of the notification's ladder, said by the open page and not by a mail scanner."""
    alert_id = await ward.stalls(seq=0)
    await ward.told(alert_id, "nora", 0)
    await ward.told(alert_id, "nora", 1, "failed")
    await ward.told(alert_id, "ben", 2)

    await nora.get("/alerts/1")
    answer = await nora.send("/api/alerts/1/seen", {})

    rows = await ward.ground.rows("SELECT state, seen_at IS NOT NULL AS seen FROM notification ORDER BY step")
    assert answer.status_code == 204
    assert [(row["state"], row["seen"]) for row in rows] == [("seen", True), ("failed", False), ("sent", False)]


async def test_readings_are_columns_of_the_last_day(nora: Browser, ward: Ward) -> None:
    """Missing is null and never zero; ``since`` reaches back at most seven days."""
    await ward.runs(hours=3)
    await ward.stalls(seq=12)

    found = (await nora.get("/api/pumps/P-1/readings")).json()
    later = datetime.now(UTC) - timedelta(hours=1)
    since = (await nora.client.get("/api/pumps/P-1/readings", params={"since": later.isoformat()})).json()

    assert len(found["event_time"]) == 13
    assert found["event_time"] == sorted(found["event_time"])
    assert found["motor"][-1] == "stalled"
    assert found["alarms"][-1] == ["motor_stall"]
    assert found["reservoir_measured_ml"][1] is None
    assert found["temperature_celsius"] == [None] * 13
    assert 0 < len(since["event_time"]) < 13
    for text in ("yesterday", "0001-01-01T00:00:00+23:59"):
        refused = await nora.client.get("/api/pumps/P-1/readings", params={"since": text})
        assert refused.status_code == 400


async def test_thinning_hides_no_stall(nora: Browser, ward: Ward) -> None:
    """Of many reports the last of each state stays, so that one stalled report among thousands is drawn."""
    start = datetime.now(UTC) - timedelta(hours=1)
    reports = [
        heard(
            "P-1",
            seq,
            event_time=start + seq * timedelta(seconds=5),
            motor=Motor.STALLED if seq == 301 else Motor.RUNNING,
            alarms=(),
            reservoir_measured_ml=9.5 if seq == 100 else None,
        )
        for seq in range(600)
    ]
    await ward.ground.hear(*reports)

    found = (await nora.get("/api/pumps/P-1/readings")).json()
    table = (await nora.get("/pumps/P-1")).text

    assert len(found["event_time"]) < 100
    assert found["motor"].count("stalled") == 1
    assert found["reservoir_measured_ml"].count(9.5) == 1
    assert "<td>stalled</td>" in table
    assert "<td>9.50 mL</td>" in table
