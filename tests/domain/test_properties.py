"""Laws of the core, over made-up lives of a pump (promises G2, G3 and G4; catalogue I4 and I7 to I9)."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streams.domain import pipeline
from streams.domain.alert import AlertEventKind
from streams.domain.observing import contacts
from streams.domain.pipeline import Disposition
from streams.domain.profile import ProfileHistory
from streams.domain.rule import View
from streams.domain.silence import Hearing
from streams.domain.telemetry import NORMAL_LEAD, Received, Report
from streams.domain.world import LATENESS
from tests.domain.laws import HUNDREDS, LIVES, SECOND, TOLD, UNCOUNTED, at_once, judging_all, slots
from tests.domain.lives import PROFILES, START, arrive, arrive_together, deaf
from tests.shipped import RULES

pytestmark = HUNDREDS
THOROUGH = judging_all(RULES)


@UNCOUNTED
@LIVES
@given(told=TOLD, profiles=PROFILES, seed=st.integers(0, 2**32))
def test_the_history_follows_from_the_set_of_reports_alone(
    told: list[Report], profiles: ProfileHistory, seed: int
) -> None:
    """G2 and G3: it does not depend on when the reports came, in which order, how often, and on what is left unjudged.

    Late ones come within the lateness bound: after a gateway was cut off, and sends its buffer.
    """
    chance = random.Random(seed)
    times = slots(told)
    until = times[-1] + 2 * LATENESS
    shuffled = list(zip(times, chance.sample(told, len(told)), strict=True))
    resent = [(at + timedelta(milliseconds=chance.randint(1, 60_000)), report) for at, report in shuffled]

    ordered = arrive(zip(times, told, strict=True), profiles, RULES, until=until)
    live = arrive(at_once(told), profiles, RULES, until=until)
    scrambled = arrive([*shuffled, *resent], profiles, RULES, until=until)
    # A condition that leaves out of ``reads`` what it looks at would be judged too late.
    thorough = arrive(zip(times, told, strict=True), profiles, THOROUGH, until=until)

    assert live.history() == ordered.history()
    assert scrambled.history() == ordered.history()
    assert scrambled.world.head.state == ordered.world.head.state
    assert scrambled.world.head.timing.lags_ms == ordered.world.head.timing.lags_ms
    assert thorough.history() == ordered.history()


@UNCOUNTED
@LIVES
@given(told=TOLD, profiles=PROFILES, seed=st.integers(0, 2**32), minutes=st.sampled_from([0, 20, 61]))
def test_reports_taken_together_end_where_single_steps_end(
    told: list[Report], profiles: ProfileHistory, seed: int, minutes: int
) -> None:
    """G3: how reports are cut into batches is no part of history, not even where gaps are given up on the way."""
    chance = random.Random(seed)
    sent = [*chance.sample(told, len(told)), *chance.choices(told, k=2)]
    times = [slots(told)[-1] + index * SECOND for index in range(len(sent))]
    pauses = [timedelta(minutes=minutes * chance.randrange(3)) for _ in sent]
    arrivals = [
        (at + sum(pauses[:index], timedelta()), one) for index, (at, one) in enumerate(zip(times, sent, strict=True))
    ]
    cuts = sorted({0, len(sent), *chance.choices(range(1, len(sent)), k=chance.randrange(3))})
    until = arrivals[-1][0] + 2 * LATENESS

    single, one_by_one, freed = arrive_together([[arrival] for arrival in arrivals], profiles, RULES, until=until)
    together, outcomes, released = arrive_together(
        [arrivals[start:end] for start, end in pairwise(cuts)], profiles, RULES, until=until
    )

    assert together.history() == single.history()
    assert together.world.head == single.world.head
    assert together.world.arrivals == single.world.arrivals
    became = Counter(outcome.disposition for outcome in outcomes)
    assert became[Disposition.DUPLICATE] == 2
    quarantined = {contacts.place(one.received) for one in outcomes if one.disposition == "quarantined_future"}
    let_go = {contacts.place(one) for one in released}
    assert let_go <= quarantined
    # A report of an older boot that comes later may put back what had taken effect; it did so one by one, too.
    put_back = {contacts.place(one) for one in together.world.head.timing.held} - (quarantined - let_go)
    in_effect = {contacts.place(one.received) for one in one_by_one if one.disposition == "applied"}
    assert put_back <= in_effect | {contacts.place(one) for one in freed}


@UNCOUNTED
@LIVES
@given(told=TOLD, profiles=PROFILES)
def test_a_repeated_report_changes_nothing(told: list[Report], profiles: ProfileHistory) -> None:
    """G2: the same identity again is a duplicate, and the world stays as it was."""
    world = pipeline.new_world("P-1")
    for report in told:
        received = Received(report=report, received_at=report.gateway_time + SECOND)
        world = pipeline.step(world, received, profiles, RULES, received.received_at).world

        again = pipeline.step(world, received, profiles, RULES, received.received_at + SECOND)

        assert again.disposition is Disposition.DUPLICATE
        assert again.world == world
        assert again.events == ()


@LIVES
@given(told=TOLD, profiles=PROFILES)
def test_replay_gives_the_same_events(told: list[Report], profiles: ProfileHistory) -> None:
    """Deciding is deterministic: the same arrivals publish the same facts with the same ids."""
    arrivals = at_once(told)
    until = arrivals[-1][0] + 2 * LATENESS

    first = arrive(arrivals, profiles, RULES, until=until)
    second = arrive(arrivals, profiles, RULES, until=until)

    assert first == second


@UNCOUNTED
@LIVES
@given(told=TOLD, profiles=PROFILES, minutes=st.lists(st.integers(0, 5000), max_size=8))
def test_looking_in_between_changes_no_history(
    told: list[Report], profiles: ProfileHistory, minutes: list[int]
) -> None:
    """A tick publishes what is due, earlier; what is true in the end does not depend on when somebody looked."""
    arrivals = at_once(told)
    until = arrivals[-1][0] + 2 * LATENESS
    ticks = [at for minute in minutes if (at := START + timedelta(minutes=minute)) < until]

    unwatched = arrive(arrivals, profiles, RULES, until=until)
    watched = arrive(arrivals, profiles, RULES, until=until, ticks=ticks)

    assert watched.history() == unwatched.history()


@UNCOUNTED
@LIVES
@given(told=TOLD, profiles=PROFILES, hours=st.lists(st.integers(1, 100), min_size=1, max_size=6))
def test_silence_never_closes_an_alert(told: list[Report], profiles: ProfileHistory, hours: list[int]) -> None:
    """G4: while nothing arrives, alerts may open or worsen, and none clears, resolves, is retracted or lowered."""
    life = arrive(
        at_once(told),
        profiles,
        RULES,
        until=told[-1].gateway_time + SECOND,
    )
    world, at = life.world, told[-1].gateway_time + SECOND
    allowed = {AlertEventKind.OPENED, AlertEventKind.ESCALATED, AlertEventKind.RECURRED, AlertEventKind.AMENDED}
    for hour in hours:
        at += timedelta(hours=hour)
        # Gaps given up are old evidence settling, not silence: they are let go first, and what follows is judged.
        world = pipeline.tick(world, profiles, RULES, at, deaf(at)).world
        before = {record.alert_id: record for record in world.ledger if record.open}

        step = pipeline.tick(world, profiles, RULES, at, Hearing(since=START, until=at))

        assert {event.kind for event in step.events} <= allowed
        after = {record.alert_id: record for record in step.world.ledger if record.open}
        assert before.keys() <= after.keys()
        assert all(after[key].priority.rank >= record.priority.rank for key, record in before.items())
        world = step.world


@UNCOUNTED
@LIVES
@given(told=TOLD, profiles=PROFILES, seed=st.integers(0, 2**32))
def test_the_next_look_is_never_planned_too_late(told: list[Report], profiles: ProfileHistory, seed: int) -> None:
    """Between now and ``next_wake_at`` time alone changes nothing: a tick just before it publishes nothing."""
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


@UNCOUNTED
@LIVES
@given(told=TOLD, profiles=PROFILES)
def test_a_clock_that_is_off_ends_in_the_same_history_where_the_newest_comes_first(
    told: list[Report], profiles: ProfileHistory
) -> None:
    """I9: reports that wait in quarantine while the clock is learned are released wherever they arrived.

    Newest first, each report is judged with as little knowledge of the clock as there can be.
    """
    times = slots(told)
    until = times[-1] + 2 * LATENESS

    backwards = arrive(zip(times, reversed(told), strict=True), profiles, RULES, until=until)
    live = arrive(at_once(told), profiles, RULES, until=until)

    assert backwards.history() == live.history()
    assert backwards.world.head.state == live.world.head.state
    assert backwards.world.head.timing.lags_ms == live.world.head.timing.lags_ms


@UNCOUNTED
@LIVES
@given(told=TOLD, profiles=PROFILES)
def test_no_time_is_later_than_the_moment_at_which_a_gateway_got_it(
    told: list[Report], profiles: ProfileHistory
) -> None:
    """A clock that runs ahead never drives the last confirmed delivery, and no correction moves past the gateway."""
    world = pipeline.new_world("P-1")
    for report in told:
        received = Received(report=report, received_at=report.gateway_time + SECOND)

        step = pipeline.step(world, received, profiles, RULES, received.received_at)

        state = step.world.head.state
        for moment in (state.clock, state.confirmed_at, state.reported_at, state.frozen_at):
            assert moment is None or moment <= report.gateway_time + NORMAL_LEAD
        world = step.world


@UNCOUNTED
@LIVES
@given(told=TOLD, profiles=PROFILES)
def test_each_report_takes_effect_or_waits_in_quarantine(told: list[Report], profiles: ProfileHistory) -> None:
    """G2: a report is applied once, at once or when it is released, and never twice."""
    world, applied, waiting = pipeline.new_world("P-1"), list[int](), set[int]()
    place = {(report.boot_id, report.seq): number for number, report in enumerate(told)}
    for number, report in enumerate(told):
        received = Received(report=report, received_at=report.gateway_time + SECOND)

        step = pipeline.step(world, received, profiles, RULES, received.received_at)

        released = [place[one.report.boot_id, one.report.seq] for one in step.released]
        assert waiting.issuperset(released)
        waiting.difference_update(released)
        applied.extend(released)
        if step.disposition is Disposition.QUARANTINED_FUTURE:
            waiting.add(number)
        else:
            applied.append(number)
        world = step.world
    held = {place[one.report.boot_id, one.report.seq] for one in world.head.timing.held}
    assert held <= waiting
    assert sorted([*applied, *waiting]) == list(range(len(told)))


@UNCOUNTED
@LIVES
@given(told=TOLD, profiles=PROFILES, hours=st.integers(1, 400))
def test_silence_counts_from_the_services_own_return(told: list[Report], profiles: ProfileHistory, hours: int) -> None:
    """I7: after an outage of the service no pump was silent before it could be heard again.

    One that was taken out, and has not reported since, never is.
    """
    arrivals = at_once(told)
    world = arrive(arrivals, profiles, RULES, until=arrivals[-1][0]).world
    back_at = arrivals[-1][0] + timedelta(hours=hours)
    grace = 3 * profiles.therapy(back_at).interval

    early = pipeline.tick(world, profiles, RULES, back_at + grace - SECOND, Hearing(back_at, back_at + grace - SECOND))
    due = pipeline.tick(early.world, profiles, RULES, back_at + grace, Hearing(back_at, back_at + grace))

    assert [event for event in early.events if event.alert.rule_id == "COM-01"] == []
    out = View(world.head.state, profiles.therapy(back_at + grace), {}, back_at + grace).taken_out
    assert ("COM-01" in {event.alert.rule_id for event in due.events}) is (out is None)
