"""A night on call, in a real browser: an alert appears, somebody takes it, looks at the pump and closes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from playwright.async_api import Page, expect

from tests.browser.conftest import PATIENCE_MS, PHONE, Screens
from tests.services.web.ward import Ward
from tests.stack import Service, eventually

PAINTED = """() => {
    const canvas = document.querySelector("#plot canvas");
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const colours = new Set();
    for (let place = 0; place < data.length; place += 4) {
        if (data[place + 3] > 200) colours.add(`${data[place]},${data[place + 1]},${data[place + 2]}`);
    }
    return colours.size;
}"""
SMALL = """() => [...document.querySelectorAll(
        "a:not(.skip), button, select, input:not([type=hidden]), textarea, summary")]
    .filter((part) => part.offsetParent && getComputedStyle(part).display !== "inline")
    .filter((part) => part.getBoundingClientRect().height < 44)
    .map((part) => part.outerHTML.slice(0, 80))"""
WIDER = "() => document.documentElement.scrollWidth - window.innerWidth"


async def colours(page: Page) -> int:
    """How many colours the plot has."""
    return int(await page.evaluate(PAINTED))


async def test_a_night_on_call(screens: Screens, ward: Ward) -> None:
    """From the alert that appears by itself to the one that is closed with a reason."""
    screen = await screens.open()
    page = screen.page
    await screen.sign_in()
    await expect(page.locator("#alerts .card")).to_have_count(0)

    await ward.stalls()
    card = page.locator("#alerts .card")
    await expect(card).to_have_count(1, timeout=PATIENCE_MS)
    await expect(card).to_contain_text("HIGH")
    await expect(card).to_contain_text("UNCONFIRMED")
    await expect(page).to_have_title("(1) Open alerts · Pumpwatch")

    await card.get_by_role("link").click()
    await expect(page.locator("#plot[data-drawn]")).to_be_visible(timeout=PATIENCE_MS)
    assert await colours(page) >= 4

    await page.get_by_role("button", name="I have it").click()
    await expect(page.locator("#head")).to_contain_text("Nora Night has it")
    await expect(page.get_by_role("button", name="I have it")).to_have_count(0)

    await page.get_by_label("Reason").select_option("delivery_restored")
    await page.get_by_label("More, if needed").fill("magnet removed")
    await page.get_by_role("button", name="Resolve and close").click()
    await expect(page.get_by_role("alert").first).to_contain_text("It was not resolved: the condition still holds")
    await expect(page.get_by_label("More, if needed")).to_have_value("magnet removed")

    await ward.recovers()
    await expect(page.locator("#now")).to_contain_text("has ended", timeout=PATIENCE_MS)
    await expect(page.get_by_label("More, if needed")).to_have_value("magnet removed")
    await page.get_by_role("button", name="Resolve and close").click()
    await expect(page.locator("#story")).to_contain_text("Resolved by Nora Night")
    await expect(page.locator("#story")).to_contain_text("Delivery checked and restored: magnet removed")
    await page.get_by_role("link", name="Open", exact=True).click()
    await expect(page.locator("#alerts .card")).to_have_count(0)
    assert [words for words in screen.complaints if "409" not in words] == []


async def test_two_people_see_who_has_it(screens: Screens, ward: Ward) -> None:
    """What one confirms shows on the other's page by itself; the page opened through the mail's link is marked seen."""
    alert_id = await ward.stalls()
    await ward.told(alert_id, "ben", 0)
    nora, ben = await screens.open(), await screens.open()
    await nora.sign_in()
    await ben.sign_in("ben", f"/alerts/{alert_id}")

    async def seen() -> bool:
        rows = await ward.ground.rows("SELECT state FROM notification")
        return bool(rows[0]["state"] == "seen")

    await eventually(seen, what="the notification seen")
    await ben.page.get_by_role("button", name="I have it").click()

    await expect(nora.page.locator("#alerts .card")).to_contain_text("Ben Backup has it", timeout=PATIENCE_MS)
    assert nora.complaints + ben.complaints == []


async def test_on_a_phone_nothing_is_cut_off_or_too_small_to_tap(screens: Screens, ward: Ward) -> None:
    """360 pixels wide, light and dark: no sideways scrolling, and every control is at least 44 pixels high."""
    await ward.stalls()
    await ward.runs("SN-4471.north:02", 1, site="A hospital with quite a long name, house in the north")
    await ward.stalls("SN-4471.north:02", seq=4)
    await ward.beat("notify", ago=timedelta(minutes=5))
    await ward.knows(reason="x" * 300)
    known = ("/pumps/P-1/care", "/care/care-1")

    for dark in (False, True):
        screen = await screens.open(PHONE, dark=dark)
        await screen.sign_in()
        for path in ("/", "/?show=recent", "/alerts/1", "/pumps/SN-4471.north:02", *known, "/nothing"):
            await screen.page.goto(screens.url + path)
            if path in ("/alerts/1", "/pumps/SN-4471.north:02"):
                await expect(screen.page.locator("#plot[data-drawn]")).to_be_visible(timeout=PATIENCE_MS)
            for summary in await screen.page.locator("summary").all():
                await summary.click()
            assert await screen.page.evaluate(WIDER) <= 0, path
            assert await screen.page.evaluate(SMALL) == [], path


async def test_a_plan_is_entered_on_a_phone_and_taken_back(screens: Screens, ward: Ward) -> None:
    """From the alert, where it is then shown on everybody's page, to its withdrawal with a reason."""
    await ward.stalls()
    nora, ben = await screens.open(PHONE), await screens.open()
    await nora.sign_in(path="/alerts/1")
    await ben.sign_in("ben", "/pumps/P-1")
    page = nora.page

    await page.get_by_text("Enter what you know").click()
    await page.get_by_text("Planned stop, signed").click()
    form = page.locator("form", has=page.locator("[value=stop_plan]"))
    end = (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M")
    await form.get_by_label("Hard end").fill(end)
    await form.get_by_label("Why").fill("explant, the ward covers")
    await form.get_by_role("button", name="Enter").click()
    await expect(page.locator("#care")).to_contain_text("Planned stop explant, the ward covers")
    assert page.url.endswith("/alerts/1")
    await expect(ben.page.locator("#care")).to_contain_text("the ward covers", timeout=PATIENCE_MS)

    await page.locator("#care").get_by_role("link").click()
    await page.get_by_label("Why").fill("no surgery today")
    await page.get_by_role("button", name="Withdraw").click()
    await expect(page.locator("#past")).to_contain_text("Planned stop explant, the ward covers withdrawn")
    await expect(ben.page.locator("#care")).to_contain_text("Nothing is entered", timeout=PATIENCE_MS)

    await page.get_by_text("Refill booked").click()
    form = page.locator("form", has=page.locator("[value=refill_booked]"))
    await form.get_by_label("Day").fill("2026-01-01")
    await form.get_by_label("Why").fill("called")
    await form.get_by_role("button", name="Enter").click()
    await expect(page.get_by_role("alert").first).to_contain_text("It was not entered. Day: must be")
    await expect(form.get_by_label("Why")).to_have_value("called")
    await nora.live()
    assert [words for words in [*nora.complaints, *ben.complaints] if "422" not in words] == []


async def test_the_page_says_loudly_when_it_is_not_live(screens: Screens, page: Service, ward: Ward) -> None:
    """Monitoring degraded appears by itself; when the page's own service dies, NOT LIVE does."""
    screen = await screens.open()
    await screen.sign_in()
    banner = screen.page.locator("#not-live")
    await expect(banner).to_be_hidden()

    await ward.beat("worker", ago=timedelta(minutes=2))
    await expect(screen.page.locator("#troubles")).to_contain_text("Monitoring degraded", timeout=PATIENCE_MS)
    await expect(screen.page.locator("#troubles")).to_contain_text("The worker service has been silent for 2 min.")
    await ward.beat()
    await expect(screen.page.locator("#troubles")).to_be_empty(timeout=PATIENCE_MS)

    page.pause()
    await expect(banner).to_be_visible(timeout=2 * PATIENCE_MS)
    await expect(banner).to_contain_text("NOT LIVE")
    page.resume()
    await expect(banner).to_be_hidden(timeout=2 * PATIENCE_MS)


async def test_a_page_whose_session_ended_says_so(screens: Screens, ward: Ward) -> None:
    """It does not go on looking alive."""
    screen = await screens.open()
    await screen.sign_in()

    await ward.ground.owner.execute("UPDATE web_session SET ended_at = now()")

    banner = screen.page.locator("#not-live")
    await expect(banner).to_contain_text("You are signed out", timeout=PATIENCE_MS)
    await banner.get_by_role("link").click()
    await expect(screen.page.get_by_role("button", name="Sign in")).to_be_visible()


async def test_without_scripts_everything_still_works(screens: Screens, ward: Ward) -> None:
    """The list refreshes itself, the numbers stand in a table, and the forms are plain forms."""
    await ward.stalls()
    screen = await screens.open(scripts=False)
    page = screen.page
    await page.goto(screens.url + "/alerts/1")
    await page.get_by_label("Name").fill("nora")
    await page.locator("#password").fill("correct horse battery")
    await page.locator("button.main").click()

    await page.locator(".readings summary").click()
    await expect(page.locator("#readings tbody tr")).not_to_have_count(0)
    await page.locator("button.main").click()
    await expect(page.locator("#head")).to_contain_text("Nora Night has it")
    await page.goto(screens.url + "/")

    assert 'http-equiv="refresh"' in await page.content()
    assert not screen.complaints
