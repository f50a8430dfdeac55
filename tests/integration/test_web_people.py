"""Who may sign in, and whom a ladder finds, in the real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from streams import people
from streams.domain.escalation import Channel, Contact, Role
from streams.people import WATCHDOG_SITE, NewPerson, PersonRefused
from tests.stack import Database

NOW = datetime(2026, 11, 24, tzinfo=UTC)
PASSWORD = "correct horse battery"


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[asyncpg.Pool]:
    """As the application's role."""
    async with asyncpg.create_pool(database.app, min_size=1, max_size=2) as pool:
        yield pool


async def test_a_person_signs_in_with_their_own_password_only(pool: asyncpg.Pool) -> None:
    """What is stored is an argon2id hash; a wrong password and an unknown name give nobody."""
    await people.add(pool, NewPerson(person_id="nora", display_name="Nora Night"), PASSWORD)

    stored = await pool.fetchval("SELECT password_hash FROM person")
    found = await people.authenticate(pool, "nora", PASSWORD)

    assert stored.startswith("$argon2id$")
    assert found is not None
    assert found.display_name == "Nora Night"
    assert await people.authenticate(pool, "nora", PASSWORD + " ") is None
    assert await people.authenticate(pool, "nobody", PASSWORD) is None


async def test_a_disabled_person_has_no_access_and_is_not_told(pool: asyncpg.Pool) -> None:
    """Sessions end too, once; the name stays for history."""
    person = NewPerson(person_id="nora", display_name="Nora", email="n@ward.test", ladder_role=Role.PRIMARY)
    await people.add(pool, person, PASSWORD)
    await pool.execute("INSERT INTO web_session (session_hash, person_id, csrf_token) VALUES ('x', 'nora', 't')")

    assert await people.disable(pool, "nora", NOW)
    assert not await people.disable(pool, "nora", NOW)

    assert await people.authenticate(pool, "nora", PASSWORD) is None
    assert await people.roster(pool, None) == []
    assert await pool.fetchval("SELECT ended_at FROM web_session") == NOW
    assert [(found.person_id, found.disabled_at) for found in await people.list_all(pool)] == [("nora", NOW)]


async def test_another_password_ends_sessions(pool: asyncpg.Pool) -> None:
    """Whoever knew the old one is out."""
    await people.add(pool, NewPerson(person_id="nora", display_name="Nora"), PASSWORD)
    await pool.execute("INSERT INTO web_session (session_hash, person_id, csrf_token) VALUES ('x', 'nora', 't')")

    await people.set_password(pool, "nora", "another horse battery", NOW)

    assert await people.authenticate(pool, "nora", PASSWORD) is None
    assert await people.authenticate(pool, "nora", "another horse battery") is not None
    assert await pool.fetchval("SELECT ended_at FROM web_session") == NOW
    with pytest.raises(PersonRefused, match="no person nobody"):
        await people.set_password(pool, "nobody", PASSWORD, NOW)


async def test_the_roster_of_a_site_has_its_own_people_and_those_of_every_site(pool: asyncpg.Pool) -> None:
    """Channels in the order in which they are tried; a pump without a known site concerns everybody."""
    hook = {"webhook_url": "https://hooks.ward.test/x", "webhook_secret": "whsec_c2VjcmV0"}
    team = [
        NewPerson(person_id="a", display_name="A", email="a@w.test", ladder_role=Role.PRIMARY, site="north", **hook),
        NewPerson(person_id="b", display_name="B", email="b@w.test", ladder_role=Role.BACKUP, site="south"),
        NewPerson(person_id="c", display_name="C", ladder_role=Role.PHYSICIAN),
        NewPerson(person_id="d", display_name="D", email="d@w.test"),
    ]
    for person in team:
        await people.add(pool, person, PASSWORD)

    a = Contact("a", Role.PRIMARY, (Channel.EMAIL, Channel.WEBHOOK))
    b = Contact("b", Role.BACKUP, (Channel.EMAIL,))
    c = Contact("c", Role.PHYSICIAN, ())
    assert await people.roster(pool, "north") == [a, c]
    assert await people.roster(pool, "south") == [b, c]
    assert await people.roster(pool, None) == [a, b, c]


async def test_a_site_of_whose_people_none_can_be_told_concerns_everybody(pool: asyncpg.Pool) -> None:
    """Or "nobody is on call" would be told to nobody; the watchdog is nobody."""
    hook = {"webhook_url": "https://hooks.ward.test/x", "webhook_secret": "whsec_c2VjcmV0"}
    team = [
        NewPerson(person_id="a", display_name="A", ladder_role=Role.PRIMARY, site="north"),
        NewPerson(person_id="b", display_name="B", email="b@w.test", ladder_role=Role.BACKUP, site="south"),
        NewPerson(person_id="robot", display_name="R", ladder_role=Role.PRIMARY, site=WATCHDOG_SITE, **hook),
    ]
    for person in team:
        await people.add(pool, person, PASSWORD)

    told = {site: [found.person for found in await people.roster(pool, site)] for site in ("north", "nowhere", "south")}
    await people.disable(pool, "robot", NOW)

    assert told == {"north": ["a", "b"], "nowhere": ["a", "b"], "south": ["b"]}
    assert await people.roster(pool, WATCHDOG_SITE) == []


async def test_what_looks_like_a_slip_is_said(pool: asyncpg.Pool) -> None:
    """A site that no pump is at, and a place on the ladders without an address."""
    lost = NewPerson(person_id="nora", display_name="Nora", ladder_role=Role.PRIMARY, site="nroth")
    sound = NewPerson(person_id="ben", display_name="Ben", email="b@w.test", ladder_role=Role.BACKUP, site="north")
    before = await people.doubts(pool, sound)
    await pool.execute("INSERT INTO site (site, time_zone) VALUES ('north', 'Europe/Berlin')")

    address, place = await people.doubts(pool, lost)

    assert ("no address" in address, "nroth" in place, len(before)) == (True, True, 1)
    assert await people.doubts(pool, sound) == []
    assert await people.doubts(pool, NewPerson(person_id="eve", display_name="Eve")) == []


async def test_the_watchdog_is_told_of_its_own_site_only(pool: asyncpg.Pool) -> None:
    """It would close what it is paged for, so a pump without a known site is no matter of its."""
    hook = {"webhook_url": "https://hooks.ward.test/x", "webhook_secret": "whsec_c2VjcmV0"}
    nurse = NewPerson(person_id="nora", display_name="Nora", email="n@ward.test", ladder_role=Role.BACKUP)
    robot = NewPerson(person_id="robot", display_name="R", ladder_role=Role.PRIMARY, site=WATCHDOG_SITE, **hook)
    for person in (nurse, robot):
        await people.add(pool, person, PASSWORD)

    told = {site: [found.person for found in await people.roster(pool, site)] for site in (None, "a", WATCHDOG_SITE)}

    assert told == {None: ["nora"], "a": ["nora"], WATCHDOG_SITE: ["robot"]}


async def test_nobody_takes_anothers_name(pool: asyncpg.Pool) -> None:
    """And the first one's password stays."""
    await people.add(pool, NewPerson(person_id="nora", display_name="Nora"), PASSWORD)

    with pytest.raises(PersonRefused, match="already"):
        await people.add(pool, NewPerson(person_id="nora", display_name="Other"), "another horse battery")

    assert await people.authenticate(pool, "nora", PASSWORD) is not None


async def test_what_cannot_be_used_is_refused(pool: asyncpg.Pool) -> None:
    """With the reason, and without a row."""
    usable: dict[str, Any] = {"person_id": "nora", "display_name": "Nora"}
    refused: list[tuple[dict[str, Any], str]] = [
        ({"person_id": "Nora"}, "sign-in name"),
        ({"person_id": ""}, "sign-in name"),
        ({"display_name": " "}, "name has"),
        ({"display_name": "a\nb"}, "name has"),
        ({"email": "nora"}, "e-mail"),
        ({"email": "a@b\r\nBcc: c@d"}, "e-mail"),
        ({"webhook_url": "ftp://x", "webhook_secret": "s"}, "webhook"),
        ({"webhook_url": "https://[", "webhook_secret": "s"}, "webhook"),
        ({"webhook_url": "https://x"}, "secret"),
        ({"email": "a\0@b"}, "e-mail"),
        ({"site": ""}, "site"),
        ({"site": "north\0"}, "site"),
    ]

    for fields, words in refused:
        with pytest.raises(PersonRefused, match=words):
            await people.add(pool, NewPerson(**{**usable, **fields}), PASSWORD)
    assert await people.authenticate(pool, "nora\0", PASSWORD) is None
    for password in ("x" * 11, "x" * 257):
        with pytest.raises(PersonRefused, match="12 to 256"):
            await people.add(pool, NewPerson(**usable), password)
    assert await people.list_all(pool) == []
