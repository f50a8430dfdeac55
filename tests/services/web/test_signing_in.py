"""Who gets in, for how long, and where they land."""

from __future__ import annotations

from datetime import timedelta

import pytest
from starlette.applications import Starlette

from services.web.access import Desk, local_path
from services.web.settings import Settings
from streams import people
from tests.services.web.conftest import Clock
from tests.services.web.ward import PASSWORD, Browser, Ward


async def test_a_link_from_a_message_leads_to_the_alert_after_signing_in(browser: Browser, ward: Ward) -> None:
    """Mail link, sign-in, alert: the address one came for is not lost."""
    alert_id = await ward.stalls(seq=0)

    sent_away = await browser.get(f"/alerts/{alert_id}")
    form = await browser.get(sent_away.headers["location"])
    signed_in = await browser.sign_in(target=f"/alerts/{alert_id}")

    assert sent_away.status_code == 303
    assert sent_away.headers["location"] == f"/sign-in?next=/alerts/{alert_id}"
    assert f'name="next" value="/alerts/{alert_id}"' in form.text
    assert signed_in.headers["location"] == f"/alerts/{alert_id}"
    assert (await browser.get(f"/alerts/{alert_id}")).headers["location"] == "/alerts/1"


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(browser: Browser) -> None:
    """HttpOnly and SameSite=Lax; without TLS it is not Secure, or it would never come back."""
    answer = await browser.sign_in()

    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("pumpwatch=")
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert "Secure" not in cookie


async def test_sessions_are_stored_as_hashes(nora: Browser, ward: Ward) -> None:
    """Who reads the database cannot take over a session."""
    rows = await ward.ground.rows("SELECT session_hash FROM web_session")

    assert len(rows) == 1
    assert nora.client.cookies["pumpwatch"].encode() not in bytes(rows[0]["session_hash"])


async def test_every_failure_looks_the_same(browser: Browser) -> None:
    """A wrong password, an unknown name and a person without access cannot be told apart."""
    wrong = [("nora", "wrong horse battery"), ("nobody", PASSWORD), ("ed", PASSWORD)]
    unusable = [("", PASSWORD), ("nora", ""), ("nora", "x" * 300), ("no\0ra", PASSWORD)]

    for name, password in (*wrong, *unusable):
        answer = await browser.sign_in(name, password)
        assert answer.status_code == 403
        assert "Name or password is wrong." in answer.text
        assert "set-cookie" not in answer.headers


async def test_guessing_is_slowed_down_for_one_name_at_one_address(browser: Browser, ben: Browser) -> None:
    """After five failures even the right password waits, but not for somebody else, nor for the person elsewhere."""
    for _ in range(5):
        assert (await browser.sign_in("ben", "wrong horse battery")).status_code == 403

    refused = await browser.sign_in("ben")
    elsewhere = await ben.sign_in("ben")
    somebody = await browser.sign_in("nora")

    assert refused.status_code == 429
    assert refused.headers["retry-after"]
    assert elsewhere.status_code == 303
    assert somebody.status_code == 303


async def test_a_name_is_taken_in_any_case(browser: Browser) -> None:
    """A phone's keyboard likes to begin with a capital."""
    assert (await browser.sign_in(" Nora ")).status_code == 303


async def test_a_session_ends_when_its_person_does_nothing_for_15_minutes(nora: Browser, clock: Clock) -> None:
    """Each visit counts from anew; after 15 minutes without one the page asks to sign in."""
    clock.ahead = timedelta(minutes=14)
    assert (await nora.get("/")).status_code == 200
    clock.ahead = timedelta(minutes=28)
    assert (await nora.get("/")).status_code == 200

    clock.ahead = timedelta(minutes=44)

    assert (await nora.get("/")).status_code == 303


async def test_a_page_that_updates_itself_is_not_activity(nora: Browser, clock: Clock) -> None:
    """A screen that was left alone signs out, however often it fetches itself."""
    clock.ahead = timedelta(minutes=14)
    assert (await nora.get("/?auto=1")).status_code == 200

    clock.ahead = timedelta(minutes=16)

    assert (await nora.get("/?auto=1")).status_code == 303


async def test_reading_is_activity(nora: Browser, clock: Clock) -> None:
    """The page says when its reader scrolls or taps."""
    clock.ahead = timedelta(minutes=14)
    assert (await nora.send("/api/session/active", {})).status_code == 204

    clock.ahead = timedelta(minutes=16)

    assert (await nora.get("/")).status_code == 200


async def test_a_session_ends_after_12_hours_in_any_case(nora: Browser, clock: Clock) -> None:
    """A shift is over at some time."""
    for quarter in range(1, 60):
        clock.ahead = timedelta(minutes=12 * quarter)
        assert (await nora.get("/")).status_code == 200

    clock.ahead = timedelta(hours=12, minutes=1)

    assert (await nora.get("/")).status_code == 303


async def test_signing_out_ends_the_session_for_every_copy_of_the_cookie(nora: Browser) -> None:
    """A stolen cookie is worth nothing afterwards."""
    cookie = nora.client.cookies["pumpwatch"]

    answer = await nora.post("/sign-out")
    nora.client.cookies.set("pumpwatch", cookie)

    assert answer.headers["location"] == "/sign-in"
    assert (await nora.get("/")).status_code == 303


async def test_losing_access_ends_the_session(nora: Browser, ward: Ward, clock: Clock) -> None:
    """Disabling somebody works at once."""
    await people.disable(ward.ground.store.pool, "nora", clock())

    assert (await nora.get("/")).status_code == 303


async def test_signing_in_again_gives_another_session(nora: Browser) -> None:
    """The session from before is over, so that nobody can plant one."""
    before = nora.client.cookies["pumpwatch"]

    await nora.sign_in()
    after = nora.client.cookies["pumpwatch"]
    nora.client.cookies.set("pumpwatch", before)

    assert after != before
    assert (await nora.get("/")).status_code == 303


@pytest.mark.parametrize(
    "target", ["//evil.test", "/\\evil.test", "https://evil.test", "evil", "/a\r\nx: y", "/" + "a" * 600, "", None]
)
def test_signing_in_never_leads_to_another_site(target: str | None) -> None:
    """What is not a plain path of ours becomes the list of alerts."""
    assert local_path(target) == "/"


def test_signing_in_leads_to_a_path_of_ours() -> None:
    """With its query."""
    assert local_path("/?show=recent") == "/?show=recent"


class TestOverTls:
    """With a public address that is https."""

    @pytest.fixture
    def settings(self) -> Settings:
        """A page behind TLS."""
        return Settings(web_public_url="https://page.test")

    async def test_the_cookie_is_bound_to_the_host_and_to_tls(self, browser: Browser, desk: Desk) -> None:
        """``__Host-``, Secure and Path=/ belong together."""
        answer = await browser.sign_in()

        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-pumpwatch=")
        assert "Secure" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie
        assert desk.cookie == "__Host-pumpwatch"

    async def test_browsers_are_told_to_stay_with_tls(self, browser: Browser, app: Starlette) -> None:
        """HSTS on every answer."""
        assert "max-age" in (await browser.get("/sign-in")).headers["strict-transport-security"]
