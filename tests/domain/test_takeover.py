"""An alert that takes over the notification thread of another one (catalogue M.9)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from streams.domain.alert import Priority
from streams.domain.escalation import (
    Case,
    Cause,
    Channel,
    Climb,
    Contact,
    Decision,
    Due,
    Ladder,
    Policy,
    Role,
    Sent,
    Silence,
    plan,
)
from streams.domain.takeover import Page, Thread, go_on

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
POLICY = Policy()
ROSTER = (
    Contact("ada", Role.PRIMARY, (Channel.EMAIL, Channel.WEBHOOK)),
    Contact("ben", Role.BACKUP, (Channel.EMAIL,)),
    Contact("cleo", Role.PHYSICIAN, (Channel.EMAIL,)),
)
ADA = Page(0, "ada", Channel.EMAIL, Cause.STEP_DUE, told=True)
TOLD_ADA = Due(0, "ada", Channel.EMAIL, Cause.TAKEN_OVER)


def minutes(count: float) -> timedelta:
    """As long as it says."""
    return timedelta(minutes=count)


def trap(at: datetime) -> Case:
    """The alert that takes over, raised at ``at``."""
    return Case(Ladder.HIGH, Priority.HIGH, at, active=True, latched=True)


def stall(next_step: int, *pages: Page, confirmed_at: datetime | None = None) -> Thread:
    """A stall since noon that was climbed up to ``next_step``; each step was queued when it was due."""
    rungs = (0, 5, 10, 20, 30)
    last_at = NOON + minutes(rungs[next_step - 1]) if next_step else None
    return Thread(Climb(Ladder.HIGH, NOON, next_step), Sent(last_at), confirmed_at, pages)


def decided(case: Case, thread: Thread, now: datetime) -> Decision:
    """What follows when the alert is first looked at."""
    return go_on(case, thread, ROSTER, Sent(), POLICY, now)


def test_a_running_ladder_goes_on_at_its_step_and_times() -> None:
    """At 3 minutes the first step was told: no page again, one message, and the second step at 5 minutes."""
    at = NOON + minutes(3)

    decision = decided(trap(at), stall(1, ADA), at)

    assert decision.takes_over
    assert decision.due == (TOLD_ADA,)
    assert (decision.climb.started_at, decision.climb.next_step) == (NOON, 1)
    assert decision.climb.next_step_at == NOON + minutes(5)


def test_what_goes_on_is_not_begun_anew_when_it_is_looked_at_again() -> None:
    """The alert is younger than its ladder, and that is no new raising; a raising later is one."""
    at = NOON + minutes(3)
    case, climb = trap(at), decided(trap(at), stall(1, ADA), at).climb

    again = plan(case, climb, ROSTER, Sent(NOON), POLICY, at + minutes(1))
    fired = plan(case, climb, ROSTER, Sent(NOON), POLICY, NOON + minutes(5))
    raised = plan(replace(case, raised_at=at + minutes(1)), climb, ROSTER, Sent(), POLICY, at + minutes(1))

    assert (again.climb, again.due) == (climb, ())
    assert [(due.step, due.channel) for due in fired.due] == [(1, Channel.EMAIL), (1, Channel.WEBHOOK)]
    assert [(due.step, due.person, due.cause) for due in raised.due] == [(0, "ada", Cause.RAISED_AGAIN)]


def test_a_step_that_is_due_at_that_moment_says_it_all() -> None:
    """Who is paged now gets no second message through the same channel; another person gets the one message."""
    at = NOON + minutes(11)

    decision = decided(trap(at), stall(2, ADA), at)

    assert decision.due == (TOLD_ADA, Due(2, "ben", Channel.EMAIL, Cause.STEP_DUE))


def test_a_page_that_was_not_sent_yet_is_sent_as_one_of_the_new_alert() -> None:
    """Otherwise nobody would get the first page."""
    at = NOON + minutes(1)

    decision = decided(trap(at), stall(1, replace(ADA, told=False)), at)

    assert decision.due == (Due(0, "ada", Channel.EMAIL, Cause.STEP_DUE),)


def test_the_repeats_of_the_last_step_keep_their_times() -> None:
    """Everyone was told at 30 minutes: again at 60, not 30 minutes after the takeover."""
    at = NOON + minutes(50)

    decision = decided(trap(at), stall(5, replace(ADA, step=4)), at)

    assert decision.due == (replace(TOLD_ADA, step=4),)
    assert decision.climb.next_step_at == NOON + minutes(60)


@pytest.mark.parametrize(("next_step", "wait"), [(1, 5), (2, 5), (3, 10), (5, 30)])
def test_a_confirmation_of_the_stall_is_none_of_the_trap(next_step: int, wait: float) -> None:
    """The one message, and the next step as long after it as after the step before; not all that was left out."""
    at = NOON + minutes(120)
    thread = stall(next_step, ADA, confirmed_at=NOON + minutes(31))

    decision = decided(trap(at), thread, at)

    assert decision.silence is None
    assert decision.due == (TOLD_ADA,)
    assert decision.climb.next_step_at == at + minutes(wait)


def test_a_stall_that_was_confirmed_before_anybody_was_told_leaves_nothing_to_go_on_with() -> None:
    """The trap pages from the first step on."""
    at = NOON + minutes(3)

    decision = decided(trap(at), stall(0, confirmed_at=NOON), at)

    assert decision.due == (Due(0, "ada", Channel.EMAIL, Cause.STEP_DUE),)
    assert decision.climb.started_at == at


def test_a_ladder_of_less_urgency_is_not_gone_on_with() -> None:
    """A stall without withdrawal is MEDIUM: the trap is HIGH, so it pages as after any rise in priority."""
    at = NOON + minutes(3)
    medium = Thread(Climb(Ladder.MEDIUM, NOON, 1), Sent(NOON), None, (ADA, replace(ADA, person="ben")))

    decision = decided(trap(at), medium, at)

    assert decision.takes_over
    assert decision.due == (replace(TOLD_ADA, person="ben"), Due(0, "ada", Channel.EMAIL, Cause.STEP_DUE))


@pytest.mark.parametrize("ended", [Silence.CHILD_OF, Silence.CLOSED, Silence.GROUPED])
def test_a_ladder_that_rested_for_another_reason_is_not_gone_on_with(ended: Silence) -> None:
    """There is nothing running to continue."""
    at = NOON + minutes(3)
    thread = stall(1)
    assert thread.climb is not None
    rested = replace(thread, climb=replace(thread.climb, ended_at=NOON, ended_reason=ended))

    assert decided(trap(at), rested, at).climb.started_at == at


def test_being_taken_back_is_what_hands_the_ladder_over() -> None:
    """Whichever of the two was looked at first."""
    at = NOON + minutes(3)
    thread = stall(1, ADA)
    assert thread.climb is not None
    ended = replace(thread, climb=replace(thread.climb, ended_at=at, ended_reason=Silence.RETRACTED))

    assert decided(trap(at), ended, at) == decided(trap(at), thread, at)


def test_a_trap_that_nobody_needs_any_more_takes_nothing_over() -> None:
    """It was taken back before anybody looked: who was told of the stall gets that one's correction."""
    at = NOON + minutes(3)

    decision = decided(replace(trap(at), retracted=True), stall(1, ADA), at)

    assert not decision.takes_over
    assert (decision.silence, decision.due) == (Silence.RETRACTED, ())


def test_a_trap_that_is_confirmed_already_still_says_that_the_stall_is_gone() -> None:
    """Nobody is paged, but who was told hears which alert goes on; what was not sent stays unsent."""
    at = NOON + minutes(3)
    waiting = Page(1, "ben", Channel.EMAIL, Cause.STEP_DUE, told=False)

    decision = decided(replace(trap(at), confirmed_at=at), stall(2, ADA, waiting), at)

    assert (decision.silence, decision.due) == (Silence.CONFIRMED, (TOLD_ADA,))


def test_a_clock_behind_the_raising_is_taken_as_the_raising() -> None:
    """As `plan` does; the thread is taken over then."""
    at = NOON + minutes(3)

    decision = decided(trap(at), stall(1, ADA, confirmed_at=NOON + minutes(1)), at - minutes(1))

    assert decision.climb == Climb(Ladder.HIGH, at, 1, at + minutes(5), took_over_at=at, raised_at=at)


def test_a_thread_without_a_climb_only_tells_who_was_told() -> None:
    """The ladder begins; whoever waits for a page of the stall gets none."""
    at = NOON + minutes(3)
    untold = Page(0, "ben", Channel.EMAIL, Cause.STEP_DUE, told=False)

    decision = decided(trap(at), Thread(None, Sent(), None, (replace(ADA, person="cleo", step=4), untold)), at)

    assert decision.due == (replace(TOLD_ADA, person="cleo"), Due(0, "ada", Channel.EMAIL, Cause.STEP_DUE))
    assert decision.climb == Climb(Ladder.HIGH, at, 1, at + minutes(5), took_over_at=at, raised_at=at)


@pytest.mark.parametrize("ended", [Silence.STEPS_DONE, Silence.CONFIRMED])
def test_a_ladder_that_was_done_or_confirmed_goes_on(ended: Silence) -> None:
    """It is not ended any more."""
    at = NOON + minutes(50)
    thread = stall(5, replace(ADA, step=4))
    assert thread.climb is not None
    rested = replace(thread, climb=replace(thread.climb, ended_at=NOON + minutes(31), ended_reason=ended))

    assert decided(trap(at), rested, at) == decided(trap(at), thread, at)


def test_a_drill_goes_on_at_its_own_pace_after_a_confirmation() -> None:
    """The next step comes as long after the message as it would have come after the one before."""
    at, policy = NOON + minutes(2), replace(POLICY, pace=0.1)

    decision = go_on(trap(at), stall(3, ADA, confirmed_at=NOON + minutes(1.5)), ROSTER, Sent(), policy, at)

    assert decision.climb.started_at == at - minutes(1)
    assert decision.climb.next_step_at == at + minutes(1)


def test_a_step_that_failed_before_the_confirmation_hurries_nothing() -> None:
    """Somebody had it; without a confirmation the next step comes at once."""
    at = NOON + minutes(7)
    thread = replace(stall(2, ADA), sent=Sent(NOON + minutes(5), last_step_failed=True))

    taken = decided(trap(at), replace(thread, confirmed_at=NOON + minutes(6)), at)
    lost = decided(trap(at), thread, at)

    assert (taken.due, taken.climb.next_step_at) == ((TOLD_ADA,), at + minutes(5))
    assert lost.due == (TOLD_ADA, Due(2, "ben", Channel.EMAIL, Cause.STEP_FAILED))


def test_whoever_was_told_at_a_later_step_is_told_at_the_step_reached() -> None:
    """The trap is confirmed and has no step of its own yet; or it pages the same person another way."""
    at = NOON + minutes(3)
    medium = Thread(Climb(Ladder.MEDIUM, NOON, 3), Sent(NOON), None, (replace(ADA, step=2, channel=Channel.WEBHOOK),))
    told = replace(TOLD_ADA, channel=Channel.WEBHOOK)

    confirmed = decided(replace(trap(at), confirmed_at=at), medium, at)
    paged = decided(trap(at), medium, at)

    assert confirmed.due == (told,)
    assert paged.due == (told, Due(0, "ada", Channel.EMAIL, Cause.STEP_DUE))


def test_a_trap_that_takes_nothing_over_is_decided_as_any_alert() -> None:
    """Nothing of the thread stays."""
    at = NOON + minutes(3)
    case = replace(trap(at), active=False, latched=False)

    assert decided(case, stall(2, ADA), at) == plan(case, None, ROSTER, Sent(), POLICY, at)
