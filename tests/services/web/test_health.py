"""When the page says that monitoring does not work, and the words for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.web.health import Part, Signs, troubles
from services.web.words import STEPS, duration, next_told, reason
from streams.domain.alert import Priority
from streams.domain.escalation import Case, Channel, Climb, Contact, Ladder, Policy, Role, Sent, plan
from tests.services.web.ward import Browser, Ward

LADDER_WORDS = {
    "the worklist": frozenset[Role](),
    "primary on call": frozenset({Role.PRIMARY}),
    "primary again, every channel": frozenset({Role.PRIMARY}),
    "backup": frozenset({Role.BACKUP}),
    "physician on call": frozenset({Role.PHYSICIAN}),
    "site lead": frozenset({Role.SITE_LEAD}),
    "site lead and everyone": frozenset(Role),
}
"""Whom the words of `STEPS` mean."""

NOW = datetime(2026, 11, 24, 3, tzinfo=UTC)
BEATS = dict.fromkeys(("ingest", "worker", "notify"), NOW)


def test_without_trouble_nothing_is_said() -> None:
    """Beats of 30 s ago, and work that has waited for 30 s, are still good."""
    edge = NOW - timedelta(seconds=30)

    assert troubles(Signs(dict.fromkeys(BEATS, edge), edge, edge, edge), NOW) == []


def test_each_part_has_its_own_words() -> None:
    """What is silent, for how long, and what a person should do instead."""
    old = NOW - timedelta(seconds=31)

    found = troubles(Signs({"ingest": old, "worker": old}, old, old, old), NOW)

    assert [trouble.part for trouble in found] == list(Part)
    assert found[1].words == (
        "New reports are not judged, so new alerts do not appear. The worker service has been silent for 31 s."
    )
    assert "has not started yet" in found[2].words
    assert "call" in found[3].words


async def test_every_page_says_that_monitoring_is_degraded(nora: Browser, ward: Ward) -> None:
    """With the plain reason, as long as it is so."""
    await ward.stalls(seq=0)
    assert "Monitoring degraded" not in (await nora.get("/")).text

    await ward.beat("notify", ago=timedelta(minutes=5))

    for path in ("/", "/?show=recent", "/alerts/1", "/pumps/P-1", "/alerts/99"):
        page = (await nora.get(path)).text
        assert "Monitoring degraded" in page
        assert "The notify service has been silent for 5 min." in page
    await ward.beat()
    assert "Monitoring degraded" not in (await nora.get("/")).text


async def test_alerts_that_wait_to_be_sent_are_said(nora: Browser, ward: Ward) -> None:
    """A notifier that beats but does not work is found by what it leaves undone."""
    await ward.stalls(seq=0)
    await ward.ground.owner.execute("UPDATE outbox SET handled_at = NULL, created_at = now() - interval '2 minutes'")

    assert "Alerts wait to be sent to people" in (await nora.get("/")).text


def test_durations_are_said_as_people_do() -> None:
    """Two units at most; never negative."""
    seconds = (-5, 0, 59, 60, 3599, 3600, 3900, 86_399, 86_400, 100 * 3600)
    said = [duration(timedelta(seconds=count)) for count in seconds]

    assert said == ["0 s", "0 s", "59 s", "1 min", "59 min", "1 h", "1 h 5 min", "23 h 59 min", "1 d", "4 d 4 h"]


def test_an_unknown_code_is_shown_as_it_is() -> None:
    """Never hidden and never guessed."""
    assert reason("something_new") == "something_new"
    assert reason("other: text: more") == "Other, as written below: text: more"
    assert next_told("none", 0) == "nobody"
    assert next_told("H", 9) == "site lead and everyone again"
    assert next_told("L", 3) == "primary on call and site lead again"


def test_the_steps_words_are_those_of_the_ladders() -> None:
    """Every step of every ladder, walked by the ladder itself, tells the people whom the page names."""
    roster = [Contact(role, role, (Channel.EMAIL, Channel.WEBHOOK)) for role in Role]
    priorities = {Ladder.HIGH: Priority.HIGH, Ladder.MEDIUM: Priority.MEDIUM, Ladder.LOW: Priority.LOW}

    for ladder, priority in priorities.items():
        case = Case(ladder, priority, NOW, active=True, latched=False)
        climb: Climb | None = None
        told: dict[int, set[str]] = {}
        at, last = NOW, NOW
        while len(told) < len(STEPS[ladder]):
            decision = plan(case, climb, roster, Sent(last_step_at=last), Policy(quiet=None), at)
            climb = decision.climb
            for due in decision.due:
                told.setdefault(due.step, set()).add(due.person)
            last, at = at, climb.next_step_at or at
        assert [LADDER_WORDS[words] for words in STEPS[ladder]] == [
            frozenset(people - {""}) for _, people in sorted(told.items())
        ]
