"""Escalation: who is told when, and that no page is lost, repeated or silently ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.domain.alert import Priority
from streams.domain.escalation import (
    NOBODY,
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
    after_start,
    confirm_by,
    plan,
)

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)  # a Tuesday
POLICY = Policy()
BOTH = (Channel.EMAIL, Channel.WEBHOOK)
ROSTER = (
    Contact("ada", Role.PRIMARY, BOTH),
    Contact("ben", Role.BACKUP, BOTH),
    Contact("cleo", Role.PHYSICIAN, (Channel.EMAIL,)),
    Contact("dora", Role.SITE_LEAD, (Channel.WEBHOOK,)),
)
HIGH = Case(Ladder.HIGH, Priority.HIGH, NOON, active=True, latched=True)
MEDIUM = Case(Ladder.MEDIUM, Priority.MEDIUM, NOON, active=True, latched=False)
LOW = Case(Ladder.LOW, Priority.LOW, NOON, active=True, latched=False)


def minutes(count: float) -> timedelta:
    """A duration."""
    return timedelta(minutes=count)


class Notifier:
    """Plays the shell: stores the climb and what was queued, and asks again."""

    def __init__(self, case: Case, roster: Sequence[Contact] = ROSTER, policy: Policy = POLICY) -> None:
        self.case, self.roster, self.policy = case, roster, policy
        self.climb: Climb | None = None
        self.queued: list[tuple[datetime, Due]] = []
        self.broken: set[Channel] = set()
        self.re_raised: list[datetime] = []

    def look(self, now: datetime) -> Decision:
        """Ask once, at a moment."""
        decision = plan(self.case, self.climb, self.roster, self._sent(), self.policy, now)
        self.climb = decision.climb
        self.queued += [(max(now, self.case.raised_at), due) for due in decision.due]
        if decision.re_raise:
            self.re_raised.append(now)
        return decision

    def run(self, until: datetime, every: timedelta = timedelta(seconds=30)) -> None:
        """Look at regular moments, the last one included."""
        now = self.case.raised_at
        while now < until:
            self.look(now)
            now += every
        self.look(until)

    def steps(self) -> list[tuple[timedelta, int]]:
        """When each step was queued, counted from the raising, without its people."""
        return sorted({(at - self.case.raised_at, due.step) for at, due in self.queued})

    def told(self) -> set[str]:
        """Everyone who was told through a channel that works."""
        return {due.person for _, due in self.queued if due.channel not in {*self.broken, Channel.WORKLIST}}

    def _sent(self) -> Sent:
        climb = self.climb
        last = [
            (at, due)
            for at, due in self.queued
            if climb and at >= climb.started_at and due.step == climb.next_step - 1 and due.cause != Cause.PHYSICIAN_BY
        ]
        pages = [due for _, due in last if due.channel is not Channel.WORKLIST]
        physician = [(at, due) for at, due in self.queued if due.cause is Cause.PHYSICIAN_BY]
        told_at = max((at for at, _ in physician), default=None)
        lost = all(due.channel in self.broken for at, due in physician if at == told_at)
        nobody = bool(last) and (self.case.ladder is not Ladder.LOW or last[0][1].step > 0)
        return Sent(
            last_step_at=max((at for at, _ in last), default=None),
            last_step_failed=all(due.channel in self.broken for due in pages) if pages else nobody,
            physician_told_at=told_at,
            physician_lost=len({at for at, _ in physician}) if lost else 0,
        )


def test_an_unconfirmed_high_alert_climbs_by_the_catalogue() -> None:
    """The vector of DLV-01: steps at 0, 5, 10, 20 and 30 minutes, then everyone each 30 minutes."""
    notifier = Notifier(HIGH)

    notifier.run(NOON + minutes(95))

    assert notifier.steps() == [(minutes(at), step) for step, at in enumerate((0, 5, 10, 20, 30, 60, 90))]
    assert {due.cause for at, due in notifier.queued if at > NOON + minutes(30)} == {Cause.UNCONFIRMED}


def test_the_first_page_uses_one_channel_and_its_repeat_adds_the_second() -> None:
    """Step 0 is the primary's first channel; step 1 is every channel of the primary."""
    notifier = Notifier(HIGH)

    notifier.run(NOON + minutes(5))

    assert [(due.step, due.person, due.channel) for _, due in notifier.queued] == [
        (0, "ada", Channel.EMAIL),
        (1, "ada", Channel.EMAIL),
        (1, "ada", Channel.WEBHOOK),
    ]


def test_the_last_step_reaches_everyone_and_asks_for_a_call() -> None:
    """Step 4 tells the whole roster through every channel, and the worklist."""
    notifier = Notifier(HIGH)

    notifier.run(NOON + minutes(30))

    assert {(due.person, due.channel) for _, due in notifier.queued if due.step == 4} == {
        *((contact.person, channel) for contact in ROSTER for channel in contact.channels),
        (NOBODY, Channel.WORKLIST),
    }


def test_a_drill_climbs_the_same_steps_faster() -> None:
    """The pace shortens the times of the steps and changes nothing else."""
    notifier = Notifier(HIGH, policy=replace(POLICY, pace=0.1))

    notifier.run(NOON + minutes(3))

    assert notifier.steps() == [(minutes(at), step) for step, at in enumerate((0, 0.5, 1, 2, 3))]


def test_every_step_of_an_unconfirmed_high_alert_comes_by_the_time_that_the_audit_expects() -> None:
    """The audit's bound and the ladder are told apart in code and agree in fact, with and without failed steps."""
    for start_step, broken in product((0, 2, 3), (set(), {Channel.EMAIL}, set(BOTH))):
        notifier = Notifier(replace(HIGH, start_step=start_step))
        notifier.broken = broken

        notifier.run(NOON + minutes(180))

        at = {step: queued_at for queued_at, step in reversed([(at, due.step) for at, due in notifier.queued])}
        late = [step for step in range(max(at)) if at[step + 1] > confirm_by(NOON, step, at[step], POLICY)]
        assert late == []


@pytest.mark.parametrize(
    ("step", "queued", "pace", "by"),
    [
        (0, 0, 1.0, 5),
        (0, 2, 1.0, 7),
        (1, 0, 1.0, 10),
        (2, 10, 1.0, 20),
        (3, 20, 1.0, 30),
        (3, 25, 1.0, 35),
        (4, 30, 1.0, 60),
        (9, 180, 1.0, 210),
        (1, 1, 0.1, 1.5),
        (2, 0.5, 0.1, 2),
        (4, 3, 0.1, 33),
    ],
)
def test_what_the_audit_expects_of_a_high_alert(step: int, queued: float, pace: float, by: float) -> None:
    """In minutes: neither earlier than the ladder says nor sooner after the step before than it says."""
    policy = replace(POLICY, pace=pace)

    assert confirm_by(NOON, step, NOON + minutes(queued), policy) == NOON + minutes(by)


def test_the_steps_after_a_start_by_the_catalogue() -> None:
    """Past the last one it is the last one's time."""
    medium = (0, 60, 240, 480, 485, 490, 500, 510, 510)

    assert [after_start(HIGH, step) for step in range(7)] == [minutes(at) for at in (0, 5, 10, 20, 30, 30, 30)]
    assert [after_start(MEDIUM, step) for step in range(9)] == [minutes(at) for at in medium]


def test_an_alert_may_begin_further_up_its_ladder() -> None:
    """Everything up to the start step is due at once; what follows keeps its own time."""
    notifier = Notifier(replace(HIGH, start_step=3))

    notifier.run(NOON + minutes(65))

    assert notifier.steps() == [*((minutes(0), step) for step in range(4)), (minutes(30), 4), (minutes(60), 5)]
    assert {due.cause for at, due in notifier.queued if at < NOON + minutes(60)} == {Cause.STEP_DUE}
    assert {due.person for at, due in notifier.queued if at == NOON} == {"ada", "ben", "cleo"}


def test_an_alert_that_begins_further_up_does_not_wait_for_the_morning() -> None:
    """Its rule says that people are needed now."""
    case = replace(MEDIUM, raised_at=NOON + minutes(11 * 60), time_to_harm=timedelta(days=2))
    waits, begins = Notifier(case), Notifier(replace(case, start_step=2))

    waits.look(case.raised_at)
    begins.look(case.raised_at)

    assert (waits.told(), begins.told()) == (set(), {"ada", "ben"})


def test_an_alert_whose_start_step_rises_catches_up_without_starting_anew() -> None:
    """No step is told twice, and a start step beyond the ladder only means all of it."""
    notifier = Notifier(HIGH)
    notifier.look(NOON)
    notifier.case = replace(HIGH, start_step=99)

    notifier.look(NOON + minutes(1))
    notifier.look(NOON + minutes(2))

    assert notifier.steps() == [(minutes(0), 0), *((minutes(1), step) for step in range(1, 5))]


def test_an_alert_raised_again_begins_at_its_start_step_again() -> None:
    """A reminder tells everybody whom the opening told, although somebody had confirmed in between."""
    notifier = Notifier(replace(HIGH, start_step=1))
    notifier.look(NOON)
    notifier.case = replace(notifier.case, confirmed_at=NOON + minutes(1))
    notifier.look(NOON + minutes(1))
    notifier.case = replace(notifier.case, raised_at=NOON + minutes(30), confirmed_at=None)

    notifier.look(NOON + minutes(30))

    again = [(due.step, due.person) for at, due in notifier.queued if at == NOON + minutes(30)]
    assert again == [(0, "ada"), (1, "ada"), (1, "ada")]


def test_a_medium_alert_climbs_to_the_high_ladder_for_a_high_risk_patient() -> None:
    """Steps at 0, 60 min and 4 h; at 8 h the high ladder begins."""
    notifier = Notifier(MEDIUM)

    notifier.run(NOON + minutes(8 * 60 + 30), every=minutes(5))

    offsets = (0, 60, 240, 480, 485, 490, 500, 510)
    assert notifier.steps() == [(minutes(at), step) for step, at in enumerate(offsets)]


def test_a_medium_alert_of_another_patient_ends_with_the_backup_and_says_so() -> None:
    """Without high risk the ladder has no more steps after 4 h."""
    notifier = Notifier(replace(MEDIUM, high_risk=False))

    notifier.run(NOON + minutes(24 * 60), every=minutes(10))

    assert [step for _, step in notifier.steps()] == [0, 1, 2]
    assert notifier.climb is not None
    assert notifier.climb.ended_reason is Silence.STEPS_DONE


@pytest.mark.parametrize(
    ("zone", "raised", "first_page"),
    [
        ("UTC", datetime(2026, 11, 3, 23, tzinfo=UTC), datetime(2026, 11, 4, 7, tzinfo=UTC)),
        ("UTC", datetime(2026, 11, 4, 6, 59, tzinfo=UTC), datetime(2026, 11, 4, 7, tzinfo=UTC)),
        ("UTC", datetime(2026, 11, 4, 7, tzinfo=UTC), datetime(2026, 11, 4, 7, tzinfo=UTC)),
        ("Europe/Berlin", datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 3, 29, 5, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 11, 1, 5, 30, tzinfo=UTC), datetime(2026, 11, 1, 12, tzinfo=UTC)),
    ],
)
def test_a_medium_page_that_can_wait_comes_in_the_morning(zone: str, raised: datetime, first_page: datetime) -> None:
    """At night only the worklist has it; 07:00 is site time, on the day the clocks change too."""
    case = replace(MEDIUM, raised_at=raised, zone=ZoneInfo(zone), high_risk=False, time_to_harm=timedelta(hours=12))
    notifier = Notifier(case)

    notifier.run(raised + minutes(11 * 60), every=minutes(1))

    assert (raised, Due(0, NOBODY, Channel.WORKLIST, Cause.STEP_DUE)) in notifier.queued
    assert min(at for at, due in notifier.queued if due.channel is Channel.EMAIL) == first_page
    assert len({due for _, due in notifier.queued}) == len(notifier.queued)


@pytest.mark.parametrize(
    "urgent",
    [{"time_to_harm": timedelta(hours=6)}, {"time_to_harm": None}, {"physician_by": NOON + timedelta(hours=20)}],
    ids=["soon", "unknown", "physician deadline"],
)
def test_a_medium_page_with_little_time_to_harm_never_waits(urgent: dict[str, Any]) -> None:
    """Less than 12 h, or not known, pages at night as well."""
    at_night = NOON + timedelta(hours=11)
    case = replace(replace(MEDIUM, raised_at=at_night, time_to_harm=timedelta(hours=12)), **urgent)
    notifier = Notifier(case)

    notifier.look(at_night)

    assert Due(0, "ada", Channel.EMAIL, Cause.STEP_DUE) in [due for _, due in notifier.queued]


def test_a_night_inside_one_day_and_no_night_at_all() -> None:
    """Quiet hours need not cross midnight, and can be switched off."""
    case = replace(MEDIUM, time_to_harm=timedelta(days=2))
    siesta = Notifier(case, policy=replace(POLICY, quiet=(time(11), time(14))))
    awake = Notifier(case, policy=replace(POLICY, quiet=None))

    siesta.look(NOON)
    awake.look(NOON)

    assert siesta.climb is not None
    assert siesta.climb.next_step_at == NOON + timedelta(hours=2)
    assert awake.told() == {"ada"}


@pytest.mark.parametrize(
    ("at", "quiet", "waits_until"),
    [
        (time(21, 59, 59), (time(22), time(7)), None),
        (time(22), (time(22), time(7)), timedelta(hours=31)),
        (time(10, 59, 59), (time(11), time(14)), None),
        (time(11), (time(11), time(14)), timedelta(hours=14)),
        (time(14), (time(11), time(14)), None),
        (time(12), (time(12), time(12)), None),
    ],
)
def test_quiet_hours_count_from_their_first_second(
    at: time, quiet: tuple[time, time], waits_until: timedelta | None
) -> None:
    """The end is no part of them, and a night of no length is none."""
    midnight = datetime(2026, 11, 3, tzinfo=UTC)
    raised = datetime.combine(midnight, at, UTC)
    case = replace(MEDIUM, raised_at=raised, time_to_harm=timedelta(days=2))

    decision = plan(case, None, ROSTER, Sent(), replace(POLICY, quiet=quiet), raised)

    if waits_until is None:
        assert decision.climb.next_step_at == raised + minutes(60)
    else:
        assert decision.climb.next_step_at == midnight + waits_until


@pytest.mark.parametrize(("within", "waits"), [(timedelta(hours=12), True), (timedelta(hours=11.99), False)])
def test_a_deadline_of_the_physician_twelve_hours_away_can_wait(within: timedelta, waits: bool) -> None:
    """Less than that cannot."""
    at_night = NOON + timedelta(hours=11)
    case = replace(MEDIUM, raised_at=at_night, time_to_harm=timedelta(days=2), physician_by=at_night + within)

    decision = plan(case, None, ROSTER, Sent(), POLICY, at_night)

    assert (decision.due == (Due(0, NOBODY, Channel.WORKLIST, Cause.STEP_DUE),)) is waits


def test_what_waited_for_the_morning_is_not_put_on_the_worklist_again() -> None:
    """Its first step then is the page alone; by day the two come together."""
    at_night = NOON + timedelta(hours=11)
    by_day = Notifier(replace(MEDIUM, time_to_harm=timedelta(days=2)))
    by_night = Notifier(replace(by_day.case, raised_at=at_night))

    first = by_night.look(at_night)
    morning = by_night.look(NOON + timedelta(hours=19))

    listed, page = Due(0, NOBODY, Channel.WORKLIST, Cause.STEP_DUE), Due(0, "ada", Channel.EMAIL, Cause.STEP_DUE)
    assert by_day.look(NOON).due == (page, listed)
    assert (first.due, morning.due) == ((listed,), (page,))
    assert first.climb.next_step_at is not None
    assert first.climb.next_step_at.tzinfo is UTC


def test_a_notifier_that_slept_through_a_whole_ladder_fires_all_of_it_in_order() -> None:
    """The physician's deadline first, then what did not wait for the morning, then each step."""
    at_night, late = NOON + timedelta(hours=11), NOON + timedelta(hours=36)
    case = replace(MEDIUM, raised_at=at_night, high_risk=False, time_to_harm=timedelta(days=2))
    case = replace(case, physician_by=at_night + timedelta(hours=24))

    decision = plan(case, None, ROSTER, Sent(), POLICY, late)

    assert [(due.step, due.person) for due in decision.due] == [
        (3, "cleo"),
        (0, NOBODY),
        (0, "ada"),
        (1, "ada"),
        (1, "ada"),
        (2, "ben"),
        (2, "ben"),
    ]
    assert decision.silence is Silence.STEPS_DONE
    assert (decision.climb.started_at, decision.climb.ended_at) == (at_night, late)


def test_a_first_look_that_comes_late_counts_from_the_raising() -> None:
    """After seven minutes two steps are due at once, and the third keeps its time."""
    decision = plan(HIGH, None, ROSTER, Sent(), POLICY, NOON + minutes(7))

    assert [due.step for due in decision.due] == [0, 1, 1]
    assert decision.climb == Climb(Ladder.HIGH, NOON, 2, NOON + minutes(10))


@pytest.mark.parametrize(
    ("zone", "raised", "reminded"),
    [
        ("Pacific/Auckland", datetime(2026, 11, 6, 23, tzinfo=UTC), datetime(2026, 11, 10, 23, tzinfo=UTC)),
        ("Europe/Berlin", datetime(2026, 10, 23, 10, tzinfo=UTC), datetime(2026, 10, 28, 11, tzinfo=UTC)),
    ],
)
def test_working_days_are_those_of_the_site(zone: str, raised: datetime, reminded: datetime) -> None:
    """Friday in UTC may be Saturday there; and the reminder comes at the same local time after a change of clocks."""
    decision = plan(replace(LOW, raised_at=raised, zone=ZoneInfo(zone)), None, ROSTER, Sent(), POLICY, raised)

    assert decision.climb.next_step_at == reminded
    assert reminded.astimezone(ZoneInfo(zone)).weekday() < 5
    assert decision.climb.next_step_at is not None
    assert decision.climb.next_step_at.tzinfo is UTC


def test_a_low_alert_is_reminded_of_after_working_days() -> None:
    """Worklist now, a reminder after 3 working days and the lead after 5: the weekend does not count."""
    notifier = Notifier(LOW)

    notifier.run(NOON + timedelta(days=10), every=timedelta(hours=1))

    assert notifier.steps() == [(timedelta(0), 0), (timedelta(days=3), 1), (timedelta(days=7), 2)]


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (replace(HIGH, retracted=True, open=False), Silence.RETRACTED),
        (replace(HIGH, open=False), Silence.CLOSED),
        (replace(HIGH, active=False, latched=False), Silence.CLEARED),
        (replace(HIGH, priority=Priority.INFO, ladder=Ladder.NONE), Silence.INFO_ONLY),
        (replace(HIGH, ladder=Ladder.NONE), Silence.NO_LADDER),
        (replace(HIGH, confirmed_at=NOON), Silence.CONFIRMED),
        (replace(HIGH, parent_priority=Priority.HIGH), Silence.CHILD_OF),
        (replace(MEDIUM, parent_priority=Priority.HIGH), Silence.CHILD_OF),
        (replace(MEDIUM, grouped=True), Silence.GROUPED),
    ],
)
def test_silence_has_a_reason(case: Case, why: Silence) -> None:
    """Nobody is told, and the climb says why and since when."""
    decision = plan(case, None, ROSTER, Sent(), POLICY, NOON)

    assert decision.silence is why
    assert decision.due == ()
    assert decision.climb == Climb(
        case.ladder,
        NOON,
        next_step_at=NOON + POLICY.hold_high if why is Silence.CONFIRMED else None,
        ended_at=NOON,
        ended_reason=why,
    )


def test_a_rest_keeps_its_first_moment_until_its_reason_changes() -> None:
    """Who reads the climb sees since when nobody is told, and why."""
    notifier = Notifier(replace(HIGH, confirmed_at=NOON))
    ended = [notifier.look(NOON + minutes(at)).climb.ended_at for at in (1, 2)]
    notifier.case = replace(HIGH, confirmed_at=NOON, open=False)
    ended += [notifier.look(NOON + minutes(at)).climb.ended_at for at in (3, 4)]

    assert ended == [NOON + minutes(at) for at in (1, 1, 3, 3)]


def test_a_high_alert_in_a_storm_pages_itself() -> None:
    """Only lesser ones are told together."""
    assert plan(replace(HIGH, grouped=True), None, ROSTER, Sent(), POLICY, NOON).silence is None


def test_a_child_of_a_lesser_alert_pages_itself() -> None:
    """Only a parent of at least the same priority speaks for its child."""
    decision = plan(replace(HIGH, parent_priority=Priority.MEDIUM), None, ROSTER, Sent(), POLICY, NOON)

    assert [due.person for due in decision.due] == ["ada"]


def test_a_child_climbs_from_the_moment_its_parent_closes() -> None:
    """Its steps count from then: nobody gets all of them at once."""
    notifier = Notifier(replace(HIGH, parent_priority=Priority.HIGH))
    notifier.look(NOON)
    notifier.case = HIGH

    notifier.look(NOON + minutes(45))
    notifier.look(NOON + minutes(50))

    assert notifier.steps() == [(minutes(45), 0), (minutes(50), 1)]


def test_a_confirmation_older_than_the_raising_is_void() -> None:
    """Who took the alert before it grew worse has not taken what it is now."""
    decision = plan(replace(HIGH, confirmed_at=NOON - minutes(1)), None, ROSTER, Sent(), POLICY, NOON)

    assert decision.silence is None


def test_a_latched_alert_goes_on_until_confirmed_and_a_cleared_one_ends() -> None:
    """The end of the condition stops the ladder only where it also closes the alert."""
    latched, passing = Notifier(HIGH), Notifier(replace(HIGH, latched=False))
    latched.look(NOON)
    passing.look(NOON)

    latched.case, passing.case = replace(HIGH, active=False), replace(HIGH, active=False, latched=False)
    latched.run(NOON + minutes(10))
    passing.run(NOON + minutes(10))

    assert [step for _, step in latched.steps()] == [0, 1, 2]
    assert [step for _, step in passing.steps()] == [0]


def test_an_alert_that_comes_back_climbs_anew() -> None:
    """A cleared alert whose condition returns starts again at step 0."""
    notifier = Notifier(replace(HIGH, active=False, latched=False))
    notifier.look(NOON)
    notifier.case = replace(HIGH, latched=False)

    notifier.look(NOON + minutes(25))

    assert notifier.steps() == [(minutes(25), 0)]


@pytest.mark.parametrize(
    ("case", "held_for"),
    [(HIGH, minutes(60)), (MEDIUM, timedelta(hours=8)), (LOW, timedelta(days=3))],
    ids=["high", "medium", "low"],
)
def test_a_confirmed_alert_that_stays_true_is_raised_again(case: Case, held_for: timedelta) -> None:
    """At the end of the hold exactly, and not before."""
    notifier = Notifier(replace(case, confirmed_at=NOON))

    early = notifier.look(NOON + held_for - timedelta(seconds=1))
    late = notifier.look(NOON + held_for)

    assert not early.re_raise
    assert early.climb.next_step_at == NOON + held_for
    assert late.re_raise
    assert late.climb.next_step_at == NOON + held_for + minutes(1)


def test_a_confirmed_alert_that_is_no_longer_true_rests() -> None:
    """Latched and taken by a person: nothing more to say until it changes."""
    decision = plan(replace(HIGH, active=False, confirmed_at=NOON), None, ROSTER, Sent(), POLICY, NOON + minutes(300))

    assert not decision.re_raise
    assert decision.climb.next_step_at is None


def test_a_raise_after_a_confirmation_restarts_the_ladder() -> None:
    """Escalation, recurrence and re-raise begin at step 0."""
    notifier = Notifier(HIGH)
    notifier.run(NOON + minutes(10))
    notifier.case = replace(HIGH, confirmed_at=NOON + minutes(11))
    notifier.look(NOON + minutes(11))
    raised = NOON + minutes(71)

    notifier.case = replace(notifier.case, raised_at=raised)
    decision = notifier.look(raised)

    assert [due.step for due in decision.due] == [0]
    assert decision.climb == Climb(Ladder.HIGH, raised, 1, raised + minutes(5))


def test_what_is_raised_again_and_again_reaches_the_physician_in_time() -> None:
    """A complaint every seven minutes (THR-07), confirmed by nobody: each is told, and puts nothing off."""
    notifier = Notifier(HIGH)
    for minute in range(22):
        if minute and not minute % 7:
            notifier.case = replace(notifier.case, raised_at=NOON + minutes(minute))
        notifier.look(NOON + minutes(minute))

    mails = [(at, due) for at, due in notifier.queued if due.channel is Channel.EMAIL]
    again = [((at - NOON) // minutes(1), due.person) for at, due in mails if due.cause is Cause.RAISED_AGAIN]
    assert again == [(7, "ada"), (14, "ada"), (14, "ben"), (21, "ada"), (21, "ben"), (21, "cleo")]
    steps = {due.step: at for at, due in reversed(mails) if due.cause is Cause.STEP_DUE}
    assert steps == {step: NOON + minutes(at) for step, at in enumerate((0, 5, 10, 20))}


def test_everyone_is_told_again_half_an_hour_after_the_raising_that_told_everyone() -> None:
    """Past the last step the pages of a raising are a repeat."""
    raised = NOON + minutes(45)
    climb, sent = Climb(Ladder.HIGH, NOON, 5), Sent(last_step_at=NOON + minutes(30))

    decision = plan(replace(HIGH, raised_at=raised), climb, ROSTER, sent, POLICY, raised)

    assert {due.cause for due in decision.due} == {Cause.RAISED_AGAIN}
    assert {(due.step, due.person) for due in decision.due} == {(4, contact.person) for contact in ROSTER}
    assert decision.climb == Climb(Ladder.HIGH, NOON, 5, raised + minutes(30), raised_at=raised)


def test_with_nobody_on_the_roster_a_raising_moves_no_repeat() -> None:
    """The try that found nobody counts, not the raising."""
    raised = NOON + minutes(33)
    climb, sent = Climb(Ladder.HIGH, NOON, 5), Sent(last_step_at=NOON + minutes(30), last_step_failed=True)

    decision = plan(replace(HIGH, raised_at=raised), climb, (), sent, POLICY, raised)

    assert decision.due == ()
    assert decision.climb.next_step_at == NOON + minutes(35)


def test_what_waits_for_the_morning_is_raised_again_without_a_page() -> None:
    """Nobody was told yet; in the morning the page tells all of it."""
    at_night = NOON + minutes(11 * 60)
    notifier = Notifier(replace(MEDIUM, raised_at=at_night, time_to_harm=timedelta(days=2)))
    notifier.look(at_night)
    first_at = notifier.climb and notifier.climb.next_step_at
    notifier.case = replace(notifier.case, raised_at=at_night + minutes(30))

    decision = notifier.look(at_night + minutes(30))

    assert decision.due == ()
    assert decision.climb.next_step_at == first_at


def test_who_cannot_be_told_of_a_raising_hands_on_to_the_next_step() -> None:
    """Her pages fail: the next step comes at once, not at its time."""
    notifier = Notifier(HIGH)
    notifier.look(NOON)
    notifier.case = replace(notifier.case, raised_at=NOON + minutes(1))
    notifier.look(NOON + minutes(1))
    notifier.broken = set(Channel)

    decision = notifier.look(NOON + minutes(2))

    assert [(due.step, due.cause) for due in decision.due][:2] == [(1, Cause.STEP_FAILED)] * 2


@pytest.mark.parametrize("confirmed", [True, False])
def test_the_physician_is_told_at_the_deadline_even_if_confirmed(confirmed: bool) -> None:
    """Once, through every channel of the physician on call."""
    case = replace(HIGH, physician_by=NOON + minutes(7), confirmed_at=NOON if confirmed else None)
    notifier = Notifier(case)

    notifier.run(NOON + minutes(19))

    assert [(at, due) for at, due in notifier.queued if due.cause is Cause.PHYSICIAN_BY] == [
        (NOON + minutes(7), Due(3, "cleo", Channel.EMAIL, Cause.PHYSICIAN_BY))
    ]


def test_the_climb_wakes_for_the_physician_deadline() -> None:
    """The stored time to look again is never later than any deadline."""
    case = replace(HIGH, physician_by=NOON + minutes(2))

    assert plan(case, None, ROSTER, Sent(), POLICY, NOON).climb.next_step_at == NOON + minutes(2)
    confirmed = replace(case, confirmed_at=NOON)
    assert plan(confirmed, None, ROSTER, Sent(), POLICY, NOON).climb.next_step_at == NOON + minutes(2)


def test_a_closed_alert_no_longer_needs_its_physician() -> None:
    """The deadline ends with the alert."""
    case = replace(HIGH, open=False, physician_by=NOON + minutes(2))

    decision = plan(case, None, ROSTER, Sent(), POLICY, NOON + minutes(5))

    assert decision.due == ()
    assert decision.climb.next_step_at is None


def test_what_has_ended_and_waits_for_a_person_climbs_on_without_the_physician_s_deadline() -> None:
    """Delivery is confirmed again: somebody has to look, but the patient's time without drug does not run out."""
    case = replace(HIGH, active=False, latched=True, physician_by=NOON + minutes(7))
    taken = replace(case, confirmed_at=NOON)

    climbing = plan(case, None, ROSTER, Sent(), POLICY, NOON + minutes(8))
    resting = plan(taken, None, ROSTER, Sent(), POLICY, NOON + minutes(8))

    assert {due.cause for due in climbing.due} == {Cause.STEP_DUE}
    assert (resting.due, resting.climb.next_step_at) == ((), None)


@pytest.mark.parametrize(
    "over", [{"retracted": True}, {"active": False, "latched": False}], ids=["taken back", "cleared"]
)
def test_an_alert_that_is_over_no_longer_needs_its_physician(over: dict[str, Any]) -> None:
    """Whatever else is still written of it."""
    decision = plan(replace(HIGH, physician_by=NOON, **over), None, ROSTER, Sent(), POLICY, NOON)

    assert (decision.due, decision.climb.next_step_at) == ((), None)


def test_at_the_deadline_every_channel_of_the_physician_is_used_and_the_hold_is_watched_further() -> None:
    """The deadline has come: what is looked at next is the end of the confirmation."""
    case = replace(HIGH, physician_by=NOON + minutes(7), confirmed_at=NOON)
    roster = (*ROSTER[:2], replace(ROSTER[2], channels=BOTH))

    decision = plan(case, None, roster, Sent(), POLICY, NOON + minutes(7))

    assert decision.due == tuple(Due(3, "cleo", channel, Cause.PHYSICIAN_BY) for channel in BOTH)
    assert decision.climb.next_step_at == NOON + POLICY.hold_high


def test_everyone_told_at_a_deadline_without_a_physician_is_told_through_every_channel() -> None:
    """As the physician would have been."""
    decision = plan(replace(HIGH, physician_by=NOON, confirmed_at=NOON), None, ROSTER[:1], Sent(), POLICY, NOON)

    assert decision.due == tuple(Due(3, "ada", channel, Cause.PHYSICIAN_BY) for channel in BOTH)


def test_a_deadline_outlives_the_ladder() -> None:
    """The last step was at four hours: the physician is told at five, and the ladder stays done since four."""
    notifier = Notifier(replace(MEDIUM, high_risk=False, physician_by=NOON + timedelta(hours=5)))
    notifier.run(NOON + timedelta(hours=3), every=minutes(60))
    done = notifier.look(NOON + timedelta(hours=4))
    waits = notifier.look(NOON + timedelta(hours=4.5))
    told = notifier.look(NOON + timedelta(hours=5))

    assert [due.person for due in done.due] == ["ben", "ben"]
    assert (waits.due, [due.person for due in told.due]) == ((), ["cleo"])
    assert {decision.silence for decision in (done, waits, told)} == {Silence.STEPS_DONE}
    assert [decision.climb.next_step_at for decision in (done, waits)] == [NOON + timedelta(hours=5)] * 2
    assert {decision.climb.ended_at for decision in (done, waits, told)} == {NOON + timedelta(hours=4)}
    assert told.climb.next_step_at is None


def test_without_a_physician_everyone_is_told_at_the_deadline() -> None:
    """An empty place on the roster never swallows a page; an empty roster leaves it on the worklist."""
    case = replace(HIGH, physician_by=NOON, confirmed_at=NOON)

    others = plan(case, None, ROSTER[:2], Sent(), POLICY, NOON)
    nobody = plan(case, None, (), Sent(), POLICY, NOON)

    assert {due.person for due in others.due} == {"ada", "ben"}
    assert nobody.due == (Due(3, NOBODY, Channel.WORKLIST, Cause.PHYSICIAN_BY),)


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_deadline_whose_page_failed_is_told_to_everyone_at_once_and_again(confirmed: bool) -> None:
    """Whoever has the alert has it; the physician has to hear, and while nobody is reached, everyone is tried."""
    taken = NOON + minutes(55) if confirmed else None
    notifier = Notifier(replace(HIGH, physician_by=NOON + minutes(60), confirmed_at=taken))
    notifier.broken = {Channel.EMAIL, Channel.WEBHOOK}

    def deadline_pages(now: datetime) -> set[str]:
        return {due.person for due in notifier.look(now).due if due.cause is Cause.PHYSICIAN_BY}

    notifier.look(NOON + minutes(56))
    told = [deadline_pages(NOON + minutes(60 + count)) for count in (0, 0.1, 0.2, 5)]
    waits_until = notifier.climb.next_step_at if notifier.climb else None
    again = deadline_pages(NOON + minutes(60.1) + minutes(5))
    notifier.broken = set()
    reached = deadline_pages(NOON + minutes(90))

    everyone = {"ada", "ben", "cleo", "dora"}
    assert told == [{"cleo"}, everyone, set(), set()]
    assert waits_until is not None
    assert waits_until <= NOON + minutes(65.1)
    assert (again, reached) == (everyone, set())


def test_a_failed_step_hands_on_at_once() -> None:
    """When every channel of a step fails, the next one does not wait for its time."""
    notifier = Notifier(HIGH, roster=(replace(ROSTER[0], channels=(Channel.EMAIL,)), *ROSTER[1:]))
    notifier.broken = {Channel.EMAIL}
    notifier.look(NOON)

    notifier.look(NOON + minutes(1))
    decision = notifier.look(NOON + minutes(2))

    assert [(due.step, due.cause) for due in decision.due] == [(2, Cause.STEP_FAILED)] * 2
    assert notifier.told() == {"ben"}
    assert notifier.look(NOON + minutes(3)).due == ()


def test_an_empty_place_on_the_roster_hands_on_at_once() -> None:
    """Nobody to tell counts as every channel failing."""
    decision = plan(HIGH, None, ROSTER[2:], Sent(), POLICY, NOON)

    assert [(due.step, due.person) for due in decision.due] == [(3, "cleo")]
    assert decision.climb.next_step_at == NOON + minutes(30)


def test_while_everything_fails_everyone_is_tried_each_five_minutes() -> None:
    """An outage of the mail server ends in pages soon after it, not half an hour later."""
    notifier = Notifier(HIGH)
    notifier.broken = set(BOTH)

    notifier.run(NOON + minutes(15), every=minutes(1))

    assert [at for at, _ in notifier.steps()] == [minutes(at) for at in (0, 1, 2, 3, 4, 9, 14)]


@pytest.mark.parametrize(
    ("case", "known"), [(replace(MEDIUM, high_risk=False), {"ada", "ben"}), (LOW, {"ada", "dora"})]
)
def test_a_ladder_whose_every_step_failed_does_not_end(case: Case, known: set[str]) -> None:
    """While nobody is reached, everyone whom it knows is tried each 5 minutes; once somebody is, it is over."""
    notifier = Notifier(case)
    notifier.broken = {Channel.EMAIL, Channel.WEBHOOK}
    back = NOON + timedelta(days=10)
    for now in (NOON, NOON + timedelta(days=7), *(back + minutes(5 * count) for count in range(-2, 0))):
        notifier.look(now)
        notifier.look(now)  # Everything queued has failed by now.
    tried = len(notifier.queued)

    again = notifier.look(back)
    early = notifier.look(back + minutes(4))
    notifier.broken = set()
    reached = notifier.look(back + minutes(5))

    assert ({due.person for due in again.due}, early.due) == (known, ())
    assert tried > 0
    assert reached.silence is Silence.STEPS_DONE
    assert notifier.look(back + minutes(60)).due == ()


def test_a_ladder_whose_last_place_is_empty_tells_those_before_once_more() -> None:
    """Nobody is the backup: the primary hears of it again instead of nobody."""
    notifier = Notifier(replace(MEDIUM, high_risk=False), roster=ROSTER[:1])

    notifier.run(NOON + timedelta(hours=6))

    pages = [(at - NOON, due.step) for at, due in notifier.queued if due.person == "ada"]
    assert pages[-1] == (timedelta(hours=4, minutes=5), 3)
    assert notifier.climb is not None
    assert notifier.climb.ended_reason is Silence.STEPS_DONE


def test_with_nobody_at_all_the_first_and_the_last_step_are_on_the_worklist_and_so_is_every_further_try() -> None:
    """What is between them has nobody to tell and nothing to list."""
    notifier = Notifier(replace(MEDIUM, high_risk=False), roster=())
    notifier.look(NOON)

    notifier.run(NOON + minutes(10), every=minutes(1))

    assert [(at - NOON, due.step) for at, due in notifier.queued] == [
        (minutes(0), 0),
        (minutes(0), 2),
        (minutes(5), 3),
        (minutes(10), 4),
    ]
    assert {due.person for _, due in notifier.queued} == {NOBODY}
    assert notifier.climb is not None
    assert (notifier.climb.ended_at, notifier.climb.ended_reason) == (None, None)


def test_a_ladder_that_was_done_goes_on_when_its_last_page_turns_out_to_be_lost() -> None:
    """It is not done any more, until somebody is reached."""
    done = Climb(Ladder.MEDIUM, NOON, 3, None, NOON + minutes(240), Silence.STEPS_DONE)
    lost = Sent(last_step_at=NOON + minutes(240), last_step_failed=True)
    case = replace(MEDIUM, high_risk=False)

    waits = plan(case, done, ROSTER, lost, POLICY, NOON + minutes(241))
    again = plan(case, waits.climb, ROSTER, lost, POLICY, NOON + minutes(245))

    assert (waits.due, waits.silence) == ((), None)
    assert waits.climb == Climb(Ladder.MEDIUM, NOON, 3, NOON + minutes(245))
    assert {(due.step, due.person, due.cause) for due in again.due} == {
        (3, "ada", Cause.UNCONFIRMED),
        (3, "ben", Cause.UNCONFIRMED),
    }
    assert again.climb.ended_at == NOON + minutes(245)


def test_a_repeat_whose_last_one_nobody_remembers_comes_at_once() -> None:
    """Rather once too often than not at all; the next one then keeps its distance."""
    decision = plan(HIGH, Climb(Ladder.HIGH, NOON, 5), ROSTER, Sent(), POLICY, NOON + minutes(33))

    assert {due.step for due in decision.due} == {5}
    assert decision.climb.next_step_at == NOON + minutes(63)


def test_what_failed_before_an_alert_was_raised_again_hurries_nothing() -> None:
    """The failed step was one of the climb before."""
    case = replace(HIGH, raised_at=NOON + minutes(30))
    failed = Sent(last_step_at=NOON + minutes(20), last_step_failed=True)
    climb = Climb(Ladder.HIGH, NOON, 4, ended_at=NOON + minutes(25), ended_reason=Silence.CONFIRMED)

    decision = plan(case, climb, ROSTER, failed, POLICY, NOON + minutes(30))

    assert decision.due == (Due(0, "ada", Channel.EMAIL, Cause.STEP_DUE),)
    assert decision.climb.next_step_at == NOON + minutes(35)


def test_a_lowered_priority_takes_the_lower_ladder() -> None:
    """Late evidence that lowers an alert starts the gentler ladder from then."""
    notifier = Notifier(HIGH)
    notifier.run(NOON + minutes(10))
    notifier.case = replace(HIGH, ladder=Ladder.MEDIUM, priority=Priority.MEDIUM)

    decision = notifier.look(NOON + minutes(12))

    assert decision.climb.ladder is Ladder.MEDIUM
    assert decision.climb.next_step_at == NOON + minutes(72)


MOMENTS = st.lists(st.integers(min_value=0, max_value=4 * 3600), max_size=30).map(sorted)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(moments=MOMENTS, start_step=st.integers(min_value=0, max_value=6))
def test_however_often_it_is_looked_at_every_step_fires_once_and_none_is_skipped(
    moments: list[int], start_step: int
) -> None:
    """A notifier that was dead for any stretches of time fires the same first five steps."""
    case = replace(HIGH, start_step=start_step)
    notifier = Notifier(case)
    for seconds in [*moments, 4 * 3600]:
        notifier.look(NOON + timedelta(seconds=seconds))

    first = [due for _, due in notifier.queued if due.step <= 4]
    steady = Notifier(case)
    steady.run(NOON + minutes(29 if start_step >= 4 else 30))
    assert first == [due for _, due in steady.queued]
    steps = [due.step for _, due in notifier.queued]
    assert steps == sorted(steps)
    assert sorted(set(steps)) == list(range(max(steps) + 1))


@settings(derandomize=True, deadline=None, max_examples=150)
@given(moments=MOMENTS, roster=st.sets(st.sampled_from(ROSTER)).map(tuple))
def test_a_high_alert_unconfirmed_for_30_minutes_has_reached_everyone(
    moments: list[int], roster: tuple[Contact, ...]
) -> None:
    """Whatever the roster and whenever the notifier was alive before."""
    notifier = Notifier(HIGH, roster=roster)
    for seconds in moments:
        if seconds < 30 * 60:
            notifier.look(NOON + timedelta(seconds=seconds))

    notifier.look(NOON + minutes(30))

    assert notifier.told() == {contact.person for contact in roster}


@settings(derandomize=True, deadline=None, max_examples=150)
@given(confirmed_after=st.integers(min_value=0, max_value=7200), moments=MOMENTS)
def test_nobody_is_told_after_a_confirmation(confirmed_after: int, moments: list[int]) -> None:
    """From the confirmation until the hold ends the ladder is still, and then the alert is raised again."""
    notifier = Notifier(HIGH)
    confirmed_at = NOON + timedelta(seconds=confirmed_after)
    for seconds in moments:
        now = NOON + timedelta(seconds=seconds)
        notifier.case = replace(HIGH, confirmed_at=confirmed_at if now >= confirmed_at else None)
        notifier.look(now)

    assert all(at < confirmed_at for at, _ in notifier.queued)
    assert all(at >= confirmed_at + minutes(60) for at in notifier.re_raised)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(moments=MOMENTS)
def test_an_open_unconfirmed_high_alert_always_has_a_next_moment(moments: list[int]) -> None:
    """The high ladder never silently ends: the time to look again is set and never more than 30 minutes away."""
    notifier = Notifier(HIGH)

    for seconds in moments:
        now = NOON + timedelta(seconds=seconds)
        climb = notifier.look(now).climb

        assert climb.ended_at is None
        assert climb.next_step_at is not None
        assert now < climb.next_step_at <= now + minutes(30)


def test_a_clock_behind_the_raising_is_taken_as_the_raising() -> None:
    """The worker's clock may be a little ahead of the notifier's."""
    decision = plan(HIGH, None, ROSTER, Sent(), POLICY, NOON - minutes(1))

    assert decision.climb.next_step == 1
