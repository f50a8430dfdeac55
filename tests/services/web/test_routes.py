"""Every route, signed in and signed out: who may use it, what it must never do, and what every answer carries."""

from __future__ import annotations

import re

from services.web.access import Access, Desk, Entry, Speech
from services.web.app import ROUTES, STATIC
from tests.services.web.ward import Browser, Ward

GETS = [entry for entry in ROUTES if entry.method == "GET"]
POSTS = [entry for entry in ROUTES if entry.method == "POST"]
ACTIONS = [entry for entry in POSTS if entry.access is Access.SIGNED_IN]
TABLES = (
    *("consumed", "reading", "pump_state", "alert", "alert_event", "outbox", "ladder", "notification", "audit_chain"),
    *("person", "pump_profile", "care_record"),
)


def path_of(entry: Entry) -> str:
    """An address of the route that has something behind it."""
    return entry.path.replace("{reference}", "1").replace("{pump_id}", "P-1").replace("{care_id}", "care-1")


async def contents(ward: Ward) -> dict[str, list[dict[str, object]]]:
    """Every table that matters to patients and people."""
    return {table: await ward.ground.rows(f"SELECT * FROM {table} ORDER BY {table}::text") for table in TABLES}


async def test_a_look_without_signing_in_shows_nothing(browser: Browser, ward: Ward) -> None:
    """Pages lead to the sign-in, the API says 401; only the sign-in itself is open."""
    await ward.stalls(seq=0)
    await ward.knows()

    for entry in GETS:
        answer = await browser.get(path_of(entry))
        if entry.access is Access.ANYBODY:
            assert answer.status_code == 200, entry.name
        elif entry.speech is Speech.JSON:
            assert answer.status_code == 401, entry.name
            assert answer.headers["content-type"] == "application/problem+json"
        else:
            assert answer.status_code == 303, entry.name
            assert answer.headers["location"].startswith("/sign-in?next=")
        assert "P-1" not in answer.text, entry.name


async def test_a_look_changes_nothing(nora: Browser, ward: Ward) -> None:
    """Mail scanners and browsers fetch links by themselves: a GET never confirms, resolves or marks as seen."""
    await ward.told(await ward.stalls(seq=0), "nora", 0)
    await ward.knows()
    before = await contents(ward)

    for entry in GETS:
        if entry.path != "/events":
            assert (await nora.get(path_of(entry))).status_code in (200, 303), entry.name
    assert await contents(ward) == before


async def test_an_action_cannot_be_reached_by_a_link(nora: Browser) -> None:
    """GET on an action is not served, but where a page with its form has the same address."""
    pages = {entry.path for entry in GETS}

    for entry in POSTS:
        answer = await nora.get(path_of(entry))
        assert (answer.status_code == 405) is (entry.path not in pages), entry.name


async def test_without_signing_in_nothing_is_done(browser: Browser, ward: Ward) -> None:
    """The API says 401; a form leads to the sign-in."""
    await ward.stalls(seq=0)
    before = await contents(ward)

    for entry in ACTIONS:
        answer = await browser.post(path_of(entry), {"reason": "technical"})
        assert answer.status_code == (401 if entry.speech is Speech.JSON else 303), entry.name
    assert await contents(ward) == before


async def test_without_its_token_nothing_is_done(nora: Browser, ward: Ward) -> None:
    """A form of another site does not know the token."""
    await ward.stalls(seq=0)
    before = await contents(ward)

    for entry in ACTIONS:
        for token in ("", "é" * 43, nora.token[:-1]):
            assert (await nora.post(path_of(entry), {"csrf": token})).status_code == 403, entry.name
    assert await contents(ward) == before


async def test_from_another_site_nothing_is_done(nora: Browser, ward: Ward) -> None:
    """Not even with the token; and what does not say where it comes from may be anything."""
    await ward.stalls(seq=0)
    before = await contents(ward)

    for entry in POSTS:
        for origin in ("https://evil.test", "null", ""):
            answer = await nora.post(path_of(entry), headers={"origin": origin})
            assert answer.status_code == 403, entry.name
        silent = await nora.client.post(path_of(entry), data={"csrf": nora.token})
        assert silent.status_code == 403, entry.name
    assert await contents(ward) == before


async def test_a_form_that_asks_to_sign_in_first_leads_back_to_its_page(browser: Browser) -> None:
    """The address of an action answers no GET."""
    answer = await browser.post("/alerts/7/confirm")

    assert answer.headers["location"] == "/sign-in?next=/alerts/7"


async def test_a_form_from_our_page_may_leave_out_the_origin_where_the_browser_says_so(nora: Browser) -> None:
    """``Sec-Fetch-Site`` cannot be set by scripts."""
    answer = await nora.client.post(
        "/api/session/active", data={"csrf": nora.token}, headers={"sec-fetch-site": "same-origin"}
    )

    assert answer.status_code == 204


async def test_unreadable_bodies_are_refused(nora: Browser) -> None:
    """With the status that says why."""
    bodies = [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"[" * 10_000, "application/json", 400),
        (b"\xff\xfe", "application/x-www-form-urlencoded", 400),
        (b"a=1", "text/plain", 415),
        (b"a" * 20_000, "application/json", 413),
    ]

    for body, content_type, status in bodies:
        headers = {"origin": "http://page.test", "content-type": content_type, "x-csrf-token": nora.token}
        answer = await nora.client.post("/api/session/active", content=body, headers=headers)
        assert answer.status_code == status, body[:10]


async def test_every_answer_carries_the_headers_of_safety(nora: Browser) -> None:
    """Nothing from elsewhere runs, nobody frames the page, and no browser keeps what is of patients."""
    for path in ("/", "/sign-in", "/alerts/1", "/nothing", "/api/alerts", "/static/page.css"):
        headers = (await nora.get(path)).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == ("public, max-age=3600" if "static" in path else "no-store"), path


async def test_pages_have_no_script_or_style_of_their_own(nora: Browser, ward: Ward) -> None:
    """Otherwise the policy would break them."""
    await ward.stalls(seq=0)
    await ward.knows()

    for path in ("/", "/alerts/1", "/pumps/P-1", "/pumps/P-1/care", "/care/care-1", "/nothing"):
        text = (await nora.get(path)).text
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", text)


async def test_every_page_says_what_it_is_not(nora: Browser, ward: Ward) -> None:
    """Also the one that says that there is nothing."""
    await ward.stalls(seq=0)

    for path in ("/", "/?show=recent", "/alerts/1", "/pumps/P-1", "/alerts/99", "/nothing"):
        assert "not a certified medical device" in (await nora.get(path)).text


async def test_a_static_file_outside_its_folder_is_not_served(nora: Browser) -> None:
    """Neither by dots nor by encoded ones."""
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py"):
        assert (await nora.client.get(path)).status_code == 404


def test_no_file_of_the_page_names_another_host() -> None:
    """The page needs nothing from the network; the name space of SVG is no address to fetch."""
    for file in (*STATIC.rglob("*"), *(STATIC.parent / "templates").iterdir()):
        if file.is_file():
            found = set(re.findall(r"https?://[\w.-]+", file.read_text(encoding="utf-8")))
            assert found <= {"http://www.w3.org"}, file


def test_what_is_vendored_keeps_its_licence() -> None:
    """Beside it."""
    folder = STATIC / "vendor"

    assert "MIT" in (folder / "uPlot.LICENSE").read_text()
    assert {file.name for file in folder.iterdir()} == {"uPlot.LICENSE", "uPlot.iife.min.js", "uPlot.min.css"}


async def test_requests_are_counted_by_route_and_never_by_address(nora: Browser, ward: Ward, desk: Desk) -> None:
    """Labels come from the table of routes, so numbers and pump ids stay out of metrics."""
    await ward.stalls(seq=0)
    await nora.get("/alerts/1")
    await nora.get("/pumps/P-1")
    await nora.get("/made/up")

    count = desk.metrics.registry.get_sample_value
    name = "pumpwatch_web_requests_total"
    routes = {sample.labels["route"] for family in desk.metrics.requests.collect() for sample in family.samples}
    assert count(name, {"route": "GET /alerts/{reference}", "status": "200"}) == 1
    assert count(name, {"route": "unmatched", "status": "404"}) == 1
    assert routes <= {entry.name for entry in ROUTES} | {"unmatched", "GET /static"}


async def test_static_files_are_for_everybody(browser: Browser) -> None:
    """Scripts and styles hold nothing of patients."""
    for path in ("page.css", "live.js", "plot.js", "times.js", "icon.svg", "vendor/uPlot.iife.min.js"):
        assert (await browser.get(f"/static/{path}")).status_code == 200, path
