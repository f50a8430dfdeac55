"""The dead man's switch: when it opens, when it closes, and what a page must carry to count."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notify.webhook import sign
from services.watchdog.receiver import Pages, create_app
from services.watchdog.settings import Settings
from streams.domain.alert import Priority
from streams.domain.deadman import DeadMan, Limits, Turn, look, passed
from streams.people import WATCHDOG_SITE
from streams.rulebook import load
from streams.settings import RULES

START = datetime(2026, 11, 2, tzinfo=UTC)
RULE = load(RULES)["SYS-03"]
LIMITS = Limits.of(RULE.parameters)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def seconds(count: float) -> timedelta:
    """So many seconds."""
    return timedelta(seconds=count)


def test_it_opens_exactly_at_thirty_seconds_and_is_high_at_forty_five() -> None:
    """Both inclusive: people hear within 60 s (promise G6)."""
    man = DeadMan(START)

    before, quiet = look(man, START + seconds(29.999), LIMITS)
    opened, first = look(man, START + seconds(30), LIMITS)
    high, second = look(opened, START + seconds(45), LIMITS)

    assert (quiet, before.priority) == (None, None)
    assert (first, opened.priority, opened.since) == (Turn.OPENED, Priority.MEDIUM, START + seconds(30))
    assert (second, high.priority) == (Turn.ESCALATED, Priority.HIGH)


def test_the_rule_says_the_times_and_a_setting_may_say_others() -> None:
    """So an edited rule changes what the watchdog does, and a drill needs no other rule."""
    edited = replace(RULE, parameters={"medium_seconds": 20, "high_seconds": 40, "passes": 5})

    assert Limits(medium_after=seconds(30), high_after=seconds(45), passes_to_clear=3) == LIMITS
    assert Settings().limits(edited) == Limits(medium_after=seconds(20), high_after=seconds(40), passes_to_clear=5)
    assert Settings(watchdog_medium_seconds=10).limits(edited).medium_after == seconds(10)
    with pytest.raises(ValueError, match="not before"):
        Settings(watchdog_high_seconds=10).limits(edited)


@given(gaps=st.lists(st.integers(1, 29), min_size=1, max_size=50))
def test_a_path_that_passes_in_time_never_opens(gaps: list[int]) -> None:
    """Whatever the rhythm, as long as no gap reaches 30 s."""
    man, now = DeadMan(START), START
    for gap in gaps:
        now += seconds(gap)
        man, turn = look(man, now, LIMITS)
        assert turn is None
        man, turn = passed(man, now, LIMITS)
        assert turn is None


@pytest.fixture
async def client() -> AsyncIterator[tuple[httpx.AsyncClient, Pages]]:
    """A receiver, and a client of it."""
    pages = Pages()
    transport = httpx.ASGITransport(app=create_app(pages, SECRET))
    async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as found:
        yield found, pages


def _headers(body: bytes, secret: str = SECRET) -> dict[str, str]:
    moment, message_id = datetime.now(UTC), str(uuid4())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": sign(secret, message_id, moment, body),
    }


def _body(site: str | None) -> bytes:
    return json.dumps({"data": {"alert_id": str(uuid4()), "site": site}}).encode()


async def test_only_a_signed_page_counts(client: tuple[httpx.AsyncClient, Pages]) -> None:
    """Somebody else's request must not make a broken path look sound."""
    http, pages = client
    body = _body(WATCHDOG_SITE)
    foreign = "whsec_" + "A" * 32

    unsigned = await http.post("/pages", content=body)
    forged = await http.post("/pages", content=body, headers=_headers(body, foreign))
    empty = await http.post("/pages", content=b"{}", headers=_headers(b"{}"))
    counted = pages.count
    sound = await http.post("/pages", content=body, headers=_headers(body))

    assert [answer.status_code for answer in (unsigned, forged, empty, sound)] == [401, 401, 401, 204]
    assert (counted, pages.count) == (0, 1)


@pytest.mark.parametrize("site", ["north", "", None])
async def test_a_page_about_a_patient_is_refused(client: tuple[httpx.AsyncClient, Pages], site: str | None) -> None:
    """The watchdog would close its alert; refused, it goes on to the next step and a person."""
    http, pages = client
    body = _body(site)

    answer = await http.post("/pages", content=body, headers=_headers(body))

    assert (answer.status_code, pages.count) == (403, 0)
