"""Silence at its edges: what ends it and when, since when it counts, and when it is looked at next."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from streams.domain import silence
from streams.domain.alert import Episode, Priority, PriorityStep, Reason
from streams.domain.profile import ProfileHistory
from streams.domain.rule import RuleBook
from streams.domain.silence import FRESH, Hearing
from streams.domain.world import Folded, PumpState, Resolution, World
from streams.rehearsal import START, moment, profiles_of
from tests.shipped import RULES

BACLOFEN = profiles_of({})
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
QUIET = Episode("COM-01", START + 45 * MINUTE, (PriorityStep(Priority.INFO, START + 45 * MINUTE),))
STILL = Episode("DLV-09", START + 3 * HOUR, (PriorityStep(Priority.MEDIUM, START + 3 * HOUR),), silent_since=START)


def _world(heard_at: datetime | None = START, *silences: Episode, **state: Any) -> World:
    """A running pump that was last heard at ``heard_at``, and what is known of its silence."""
    seen: dict[str, Any] = {"clock": START, "motor": "running", "confirmed_at": START, **state}
    return World(
        pump_id="EX-1",
        base=Folded(PumpState(**seen)),
        last_received_at=heard_at,
        silence={track.rule_id: track for track in silences},
    )


def test_a_message_ends_a_silence_at_its_arrival() -> None:
    """The first of several does."""
    world = _world(START + 5 * HOUR, QUIET)

    last, _ = silence.ended(world, RULES)
    first, forgotten = silence.ended(world, RULES, START + 4 * HOUR)

    over = replace(QUIET, present=False, closed=True, ended_at=START + 5 * HOUR, reason=Reason.CONDITION_ENDED)
    assert last.silence == {"COM-01": over}
    assert first.silence == {"COM-01": replace(over, ended_at=START + 4 * HOUR)}
    assert forgotten == []


def test_a_message_alone_is_no_delivery() -> None:
    """Only confirmed delivery that is newer than what was known when it fell silent ends DLV-09, at its own time."""
    heard_at = START + 5 * HOUR
    moved = START + 4 * HOUR

    ended = silence.ended(_world(heard_at, STILL, confirmed_at=moved), RULES)[0].silence["DLV-09"]

    assert (ended.present, ended.ended_at) == (False, moved)


@pytest.mark.parametrize(
    "state",
    [
        {"confirmed_at": START},
        {"confirmed_at": None},
        {"confirmed_at": START + 4 * HOUR, "frozen_at": START + 4 * HOUR},
    ],
    ids=["no newer than before", "never", "frozen"],
)
def test_what_is_no_new_delivery_ends_no_silence_of_it(state: dict[str, Any]) -> None:
    """The pump speaks, and says nothing that helps."""
    world = _world(START + 5 * HOUR, STILL, **state)

    assert silence.ended(world, RULES) == (world, [])


def test_a_silence_of_which_nobody_knows_since_when_is_not_ended_by_delivery() -> None:
    """There is nothing to compare it with."""
    world = _world(START + 5 * HOUR, replace(STILL, silent_since=None), confirmed_at=START + 4 * HOUR)

    assert silence.ended(world, RULES)[0] == world


def test_a_silence_whose_rule_is_gone_stays_and_hides_no_other() -> None:
    """Nobody says that it ended."""
    book = RuleBook(tuple(rule for rule in RULES if rule.id != "DLV-09"))
    world = _world(START + 5 * HOUR, STILL, QUIET, confirmed_at=START + 4 * HOUR)

    ended, _ = silence.ended(world, book)

    assert ended.silence["DLV-09"] == STILL
    assert ended.silence["COM-01"].closed


def test_a_silence_long_over_is_forgotten_by_the_next_message() -> None:
    """It is handed on once, so that its alert is told to the end."""
    old = replace(QUIET, present=False, closed=True, ended_at=START + HOUR)

    world, forgotten = silence.ended(_world(START + 74 * HOUR, old), RULES)

    assert (world.silence, forgotten) == ({}, [old])


def test_a_pump_that_was_never_heard_is_not_silent() -> None:
    """Nothing is judged, ended or planned."""
    world = _world(None)
    hearing = Hearing(START, START + 10 * HOUR)

    assert silence.ended(world, RULES) == (world, [])
    assert silence.judged(world, BACLOFEN, RULES, hearing) == (world, [])
    assert silence.next_deadline(world, BACLOFEN, RULES, hearing) is None


def _opened(world: World, since: datetime, until: datetime) -> dict[str, datetime]:
    judged, _ = silence.judged(world, BACLOFEN, RULES, Hearing(since, until))
    return {rule_id: track.start for rule_id, track in judged.silence.items()}


def test_silence_counts_to_the_second_from_the_last_message_or_from_when_we_could_hear() -> None:
    """Three intervals of a quarter of an hour, whichever of the two is later."""
    due = START + 45 * MINUTE

    assert _opened(_world(), START - HOUR, due - SECOND) == {}
    assert _opened(_world(), START - HOUR, due) == {"COM-01": due}
    assert _opened(_world(), START + MINUTE, due) == {}
    assert _opened(_world(), START + MINUTE, due + MINUTE) == {"COM-01": due + MINUTE}


def test_nothing_new_about_silence_is_the_same_world() -> None:
    """So nothing is written."""
    world = _world()
    hearing = Hearing(START, START + 46 * MINUTE)
    silent, _ = silence.judged(world, BACLOFEN, RULES, hearing)

    assert silence.judged(world, BACLOFEN, RULES, Hearing(START, START + MINUTE))[0] is world
    assert silence.judged(silent, BACLOFEN, RULES, hearing)[0] is silent


def test_a_silence_remembers_the_delivery_that_was_known_when_it_began() -> None:
    """And not what became known during it."""
    silent, _ = silence.judged(_world(), BACLOFEN, RULES, Hearing(START, START + 4 * HOUR))
    base = replace(silent.base, state=replace(silent.base.state, confirmed_at=START + 2 * HOUR))

    later, _ = silence.judged(replace(silent, base=base), BACLOFEN, RULES, Hearing(START, START + 7 * HOUR))

    assert {track.silent_since for track in silent.silence.values()} == {START}
    assert later.silence["COM-01"].silent_since == START


def test_a_fever_hurries_a_silence_of_delivery() -> None:
    """As any other alert about delivery."""
    fever = Episode("TMP-01", START, (PriorityStep(Priority.LOW, START),))
    world = _world()
    world = replace(world, base=replace(world.base, tracks={"TMP-01": fever}))

    silent, _ = silence.judged(world, BACLOFEN, RULES, Hearing(START, START + 7 * HOUR))

    assert {rule_id: track.start_step for rule_id, track in silent.silence.items()} == {"COM-01": 0, "DLV-09": 1}


def test_a_silence_is_judged_by_what_is_known_of_the_pump_then() -> None:
    """From the third hour on it reports once a day: nobody waits for it."""
    slow = profiles_of({}, [{"from": "PT3H", "expected_interval_seconds": 86400}])
    hearing = Hearing(START, START + 3 * HOUR)

    assert "COM-01" not in silence.judged(_world(), slow, RULES, hearing)[0].silence
    early = silence.judged(_world(), slow, RULES, Hearing(START, START + 3 * HOUR - SECOND))[0]
    assert "COM-01" in early.silence


def test_a_silence_forgotten_by_time_is_handed_on() -> None:
    """As by a message."""
    old = replace(QUIET, present=False, closed=True, ended_at=START - 80 * HOUR)
    world = _world(START, old)

    assert silence.judged(world, BACLOFEN, RULES, Hearing(START, START + MINUTE)) == (_world(START), [old])


def test_a_person_closes_one_silence_and_no_other() -> None:
    """One that is closed keeps who closed it."""
    word = Resolution("COM-01", START + HOUR, "ada")
    closed = replace(
        QUIET,
        closed=True,
        muted=True,
        ended_at=START + HOUR,
        resolved_by="ada",
        reason=Reason.RESOLVED_BY_PERSON,
    )

    once = silence.resolved(_world(START, QUIET, STILL), word)

    assert once.silence == {"COM-01": closed, "DLV-09": STILL}
    assert silence.resolved(once, replace(word, actor="ben", at=START + 2 * HOUR)) == once


SLOW_LATER = profiles_of({}, [{"from": "PT1M", "expected_interval_seconds": 86400}])


@pytest.mark.parametrize(
    ("profiles", "hearing", "at"),
    [
        (BACLOFEN, None, 45 * MINUTE),
        (BACLOFEN, Hearing(START - HOUR, START + MINUTE), 45 * MINUTE),
        (BACLOFEN, Hearing(START + MINUTE, START + 2 * MINUTE), 46 * MINUTE),
        (BACLOFEN, Hearing(START, START + 45 * MINUTE), 4 * HOUR),
        (SLOW_LATER, None, 45 * MINUTE),
        (SLOW_LATER, Hearing(START, START + MINUTE), 72 * HOUR),
    ],
)
def test_the_next_deadline_of_silence_counts_from_when_it_could_be_heard(
    profiles: ProfileHistory, hearing: Hearing | None, at: timedelta
) -> None:
    """One that has passed is none; how often the pump reports is what is known at the moment judged."""
    assert silence.next_deadline(_world(), profiles, RULES, hearing) == START + at


def test_the_next_deadline_of_silence_is_the_first_of_all_rules() -> None:
    """Delivery was last confirmed long before the message: that is overdue before the next message is."""
    world = _world(confirmed_at=START - 5.75 * HOUR)

    assert silence.next_deadline(world, BACLOFEN, RULES, None) == START + 15 * MINUTE


@pytest.mark.parametrize(
    ("confirmed", "planned", "now", "stays"),
    [
        (timedelta(0), 3 * HOUR, timedelta(0), True),
        (SECOND - FRESH, 3 * HOUR, timedelta(0), True),
        (-FRESH, 3 * HOUR, timedelta(0), False),
        (timedelta(0), timedelta(seconds=18 * 60 + 45), timedelta(0), False),
        (timedelta(0), timedelta(seconds=18 * 60 + 46), timedelta(0), True),
        (timedelta(0), 3 * HOUR, 3 * HOUR, False),
        (timedelta(0), 3 * HOUR, 3 * HOUR - SECOND, True),
    ],
)
def test_a_planned_look_stays_while_delivery_is_fresh_and_the_next_message_comes_first(
    confirmed: timedelta, planned: timedelta, now: timedelta, stays: bool
) -> None:
    """Confirmed within the hour before the message, and more than an interval and a quarter away."""
    world = _world(confirmed_at=START + confirmed)

    assert silence.still_planned(world, BACLOFEN, START + planned, START + now) is stays


def test_a_look_planned_under_other_circumstances_is_planned_anew() -> None:
    """After a silence that was told, without any confirmed delivery or message, or where the next one comes later."""
    planned = START + HOUR
    slow = profiles_of({}, [{"from": "PT1M", "expected_interval_seconds": 3600}])

    for world in (_world(START, QUIET), _world(confirmed_at=None), _world(None)):
        assert not silence.still_planned(world, BACLOFEN, planned, START)
    assert silence.still_planned(_world(), slow, planned, START)
    assert not silence.still_planned(_world(), slow, planned, moment("PT1M"))
