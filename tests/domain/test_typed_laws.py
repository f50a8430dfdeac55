"""The laws of the core (`tests.domain.test_properties`) over typed rules: a book with every leaf and combinator."""

from __future__ import annotations

import random
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from streams.domain import pipeline
from streams.domain.alert import AlertEventKind
from streams.domain.profile import ProfileHistory
from streams.domain.rule import RuleBook
from streams.domain.silence import Hearing
from streams.domain.telemetry import Received, Report
from streams.domain.world import LATENESS
from tests.domain.laws import HUNDREDS, LIVES, SECOND, TOLD, UNCOUNTED, at_once, judging_all, slots
from tests.domain.lives import PROFILES, START, arrive
from tests.domain.typed import set_for_one, typed_rules

pytestmark = HUNDREDS
RULES = RuleBook(typed_rules())
THOROUGH = judging_all(RULES)
KNOWN = PROFILES | st.just(set_for_one(37.2, START + timedelta(hours=1), START + timedelta(hours=30)))


@UNCOUNTED
@LIVES
@given(told=TOLD, profiles=KNOWN, seed=st.integers(0, 2**32))
def test_history_and_memories_follow_from_the_set_of_reports_alone(
    told: list[Report], profiles: ProfileHistory, seed: int
) -> None:
    """G3: what leaves remember does not depend on order and delay; a tree listens to and reads all that it looks at."""
    times = slots(told)
    shuffled = list(zip(times, random.Random(seed).sample(told, len(told)), strict=True))
    until = times[-1] + 2 * LATENESS

    ordered = arrive(zip(times, told, strict=True), profiles, RULES, until=until)
    scrambled = arrive(shuffled, profiles, RULES, until=until)
    live = arrive(at_once(told), profiles, RULES, until=until)
    thorough = arrive(zip(times, told, strict=True), profiles, THOROUGH, until=until)

    assert scrambled.history() == ordered.history() == live.history() == thorough.history()
    assert scrambled.world.head.memory == ordered.world.head.memory == live.world.head.memory


@UNCOUNTED
@LIVES
@given(told=TOLD, profiles=KNOWN, hours=st.lists(st.integers(1, 100), min_size=1, max_size=4))
def test_looking_closes_nothing_and_changes_no_history(
    told: list[Report], profiles: ProfileHistory, hours: list[int]
) -> None:
    """G4: in silence alerts may open or worsen, and none ends; what is true later does not depend on who looked."""
    first, last = told[:-1], told[-1]
    world = pipeline.new_world("P-1")
    for report in first:
        at = report.gateway_time + SECOND
        world = pipeline.step(world, Received(report=report, received_at=at), profiles, RULES, at).world
    at, allowed = first[-1].gateway_time + SECOND, {AlertEventKind.OPENED, AlertEventKind.ESCALATED}
    allowed |= {AlertEventKind.RECURRED, AlertEventKind.AMENDED}
    for hour in hours:
        at += timedelta(hours=hour)
        # Gaps given up are old evidence settling, not silence: they are let go first, and what follows is judged.
        world = pipeline.tick(world, profiles, RULES, at, Hearing(since=START, until=at)).world
        step = pipeline.tick(world, profiles, RULES, at + SECOND, Hearing(since=START, until=at + SECOND))
        world = step.world

        assert {event.kind for event in step.events} <= allowed

    arrivals = at_once(told)
    until = last.gateway_time + 4 * LATENESS
    ticks = [at for hour in hours if (at := START + timedelta(hours=hour)) < until]
    unwatched = arrive(arrivals, profiles, RULES, until=until)
    assert arrive(arrivals, profiles, RULES, until=until, ticks=ticks).history() == unwatched.history()


@UNCOUNTED
@LIVES
@given(told=TOLD, profiles=KNOWN, seed=st.integers(0, 2**32))
def test_the_next_look_is_never_planned_too_late(told: list[Report], profiles: ProfileHistory, seed: int) -> None:
    """Every hold and deadline says when time alone changes it."""
    world = pipeline.new_world("P-1")
    for report in told:
        at = report.gateway_time + SECOND
        while world.next_wake_at is not None and world.next_wake_at <= at:
            now = world.next_wake_at
            world = pipeline.tick(world, profiles, RULES, now, Hearing(since=START, until=now)).world
        world = pipeline.step(world, Received(report=report, received_at=at), profiles, RULES, at).world
        if world.next_wake_at is None or world.next_wake_at - at < SECOND:
            continue
        before = at + random.Random(seed).random() * (world.next_wake_at - at - timedelta(microseconds=1))

        step = pipeline.tick(world, profiles, RULES, before, Hearing(since=START, until=before))

        assert step.events == ()


@LIVES
@given(told=TOLD, profiles=KNOWN, hours=st.lists(st.integers(1, 100), max_size=4))
def test_the_same_arrivals_and_looks_end_in_the_same_world(
    told: list[Report], profiles: ProfileHistory, hours: list[int]
) -> None:
    """Leaves decide by what they are told, and by nothing else; the lines that they take are counted here."""
    arrivals = at_once(told)
    until = arrivals[-1][0] + 4 * LATENESS
    ticks = [at for hour in hours if (at := START + timedelta(hours=hour)) < until]

    first = arrive(arrivals, profiles, RULES, until=until, ticks=ticks)

    assert arrive(arrivals, profiles, RULES, until=until, ticks=ticks) == first
