"""Who is told next of an alert, through which channel, when and why; and if nobody is, why not.

One function, `plan`, looks at an alert as it stands, at how far its ladder was climbed, and at the clock. Asking again
changes nothing until something is due, so a notifier may be killed and restarted at any point.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import Final

from streams.domain.alert import Priority


class Ladder(StrEnum):
    """How an alert climbs through the people (rules_catalogue.md A.5)."""

    HIGH = "H"
    MEDIUM = "M"
    LOW = "L"
    NONE = "none"


class Role(StrEnum):
    """A person's place on the ladders."""

    PRIMARY = "primary"
    BACKUP = "backup"
    PHYSICIAN = "physician"
    SITE_LEAD = "site_lead"


class Channel(StrEnum):
    """How a person is reached; the worklist is shown on the care-team page and reaches nobody by itself."""

    EMAIL = "email"
    WEBHOOK = "webhook"
    WORKLIST = "worklist"


class Cause(StrEnum):
    """Why somebody is told."""

    STEP_DUE = "step_due"
    STEP_FAILED = "step_failed"
    UNCONFIRMED = "unconfirmed"
    RAISED_AGAIN = "raised_again"
    PHYSICIAN_BY = "physician_by"
    TAKEN_OVER = "taken_over"


class Silence(StrEnum):
    """Why nobody is told now."""

    RETRACTED = "retracted"
    CLOSED = "closed"
    CLEARED = "cleared"
    INFO_ONLY = "info_only"
    NO_LADDER = "no_ladder"
    CONFIRMED = "confirmed"
    CHILD_OF = "child_of"
    GROUPED = "grouped_in_storm"
    STEPS_DONE = "steps_done"


@dataclass(frozen=True, slots=True)
class Contact:
    """A person on the roster of the alert's site; ``channels`` in the order in which they are tried."""

    person: str
    role: Role
    channels: tuple[Channel, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """An alert as escalation sees it. All times are service time, aware UTC.

    ``parent_priority`` is that of its parent while the parent is open. ``grouped``: an open alert about a storm at the
    site tells of this silence too (SYS-01). ``time_to_harm`` is the patient's non-delivery budget; None means unknown,
    which counts as urgent. ``start_step`` is the ladder's step that is due as soon as the alert is raised, with every
    one before it; 0 is how ladders begin anyway.
    """

    ladder: Ladder
    priority: Priority
    raised_at: datetime
    active: bool
    latched: bool
    open: bool = True
    retracted: bool = False
    confirmed_at: datetime | None = None
    physician_by: datetime | None = None
    start_step: int = 0
    parent_priority: Priority | None = None
    grouped: bool = False
    high_risk: bool = True
    time_to_harm: timedelta | None = None
    zone: tzinfo = UTC

    @property
    def confirmed(self) -> bool:
        """Whether a person took it since it was last raised; an older confirmation is void."""
        return self.confirmed_at is not None and self.confirmed_at >= self.raised_at


@dataclass(frozen=True, slots=True)
class Climb:
    """How far an alert has climbed. ``next_step_at`` is when to look again: None means when the alert changes.

    ``took_over_at``: when the alert took over another one's climb (`takeover`), which may have started before it.
    ``raised_at`` is the raising that it answers, where that is not the start: one that nobody confirmed goes on.
    """

    ladder: Ladder
    started_at: datetime
    next_step: int = 0
    next_step_at: datetime | None = None
    ended_at: datetime | None = None
    ended_reason: Silence | None = None
    took_over_at: datetime | None = None
    raised_at: datetime | None = None

    def answers(self, raised_at: datetime) -> bool:
        """Whether it is a climb for this raising of the alert, not for an earlier one."""
        return raised_at <= max(self.started_at, self.raised_at or self.started_at)


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of earlier notifications.

    ``last_step_at``: when the step before ``next_step`` was queued. ``last_step_failed``: all its channels failed.
    ``physician_told_at``: when notifications by `Cause.PHYSICIAN_BY` were last queued. ``physician_lost``: how often
    they were since the deadline, if all of the last ones failed; else 0.
    """

    last_step_at: datetime | None = None
    last_step_failed: bool = False
    physician_told_at: datetime | None = None
    physician_lost: int = 0


@dataclass(frozen=True, slots=True)
class Due:
    """One notification to queue."""

    step: int
    person: str
    channel: Channel
    cause: Cause


@dataclass(frozen=True, slots=True)
class Policy:
    """The organisation's choices. ``quiet`` is the night (start, end) in site time; None: there is none.

    ``pace`` multiplies the times of the steps: below 1 for a drill that shows a whole ladder in minutes, never above.
    """

    quiet: tuple[time, time] | None = (time(22), time(7))
    urgent_within: timedelta = timedelta(hours=12)
    hold_high: timedelta = timedelta(minutes=60)
    hold_medium: timedelta = timedelta(hours=8)
    hold_low_working_days: int = 3
    repeat_every: timedelta = timedelta(minutes=30)
    repeat_after_failure: timedelta = timedelta(minutes=5)
    pace: float = 1.0


@dataclass(frozen=True, slots=True)
class Decision:
    """The climb to store, the notifications to queue with it, and whether the alert must be raised again.

    ``silence`` is set when nobody is being told, and says why. ``takes_over``: another alert's thread goes on.
    """

    climb: Climb
    due: tuple[Due, ...] = ()
    silence: Silence | None = None
    re_raise: bool = False
    takes_over: bool = False


@dataclass(frozen=True, slots=True)
class _Rung:
    after: timedelta
    roles: tuple[Role, ...]
    every_channel: bool = True
    worklist: bool = False
    working_days: int = 0


NOBODY: Final = ""
"""The person of a worklist entry: it is for everyone who works the list."""
PHYSICIAN_STEP: Final = 3
RE_RAISE_RETRY: Final = timedelta(minutes=1)

_HIGH: Final = (
    _Rung(timedelta(0), (Role.PRIMARY,), every_channel=False),
    _Rung(timedelta(minutes=5), (Role.PRIMARY,)),
    _Rung(timedelta(minutes=10), (Role.BACKUP,)),
    _Rung(timedelta(minutes=20), (Role.PHYSICIAN,)),
    _Rung(timedelta(minutes=30), tuple(Role), worklist=True),
)
_MEDIUM: Final = (
    _Rung(timedelta(0), (Role.PRIMARY,), every_channel=False, worklist=True),
    _Rung(timedelta(minutes=60), (Role.PRIMARY,)),
    _Rung(timedelta(hours=4), (Role.BACKUP,)),
)
_MEDIUM_HIGH_RISK: Final = _MEDIUM + tuple(replace(rung, after=timedelta(hours=8) + rung.after) for rung in _HIGH)
_LOW: Final = (
    _Rung(timedelta(0), (), worklist=True),
    _Rung(timedelta(0), (Role.PRIMARY,), every_channel=False, worklist=True, working_days=3),
    _Rung(timedelta(0), (Role.SITE_LEAD,), every_channel=False, working_days=5),
)


def plan(
    case: Case, climb: Climb | None, roster: Sequence[Contact], sent: Sent, policy: Policy, now: datetime
) -> Decision:
    """Decide who is told now and when to look again.

    Deterministic, and idempotent once the returned climb and notifications are stored together. Steps that became due
    while nobody looked all fire now: none is skipped, and none fires twice.

    Args:
        case: The alert as it stands.
        climb: As last stored, or None for an alert that is news.
        roster: Everyone who may be told about alerts of this site.
        sent: What became of the last step's notifications.
        policy: Holds, quiet hours and repeats.
        now: Service time, aware UTC. A clock behind ``case.raised_at`` is taken as that.
    """
    now = max(now, case.raised_at)
    physician_at = _physician_at(case, sent, policy)
    told = _physician(roster, sent) if physician_at is not None and physician_at <= now else ()
    wake = physician_at if physician_at is not None and physician_at > now else None
    if silence := _silence(case):
        return _rest(case, climb, silence, told, wake, policy, now)
    if climb is None or not _continues(case, climb):
        climb, begun = _start(case, climb, policy, now)
        sent = Sent()
    elif climb.ended_reason is Silence.STEPS_DONE and not sent.last_step_failed:
        return _rest(case, climb, Silence.STEPS_DONE, told, wake, policy, now)
    else:
        climb, begun, sent = _gone_on(case, climb, roster, sent, now)
    climb, due = _advance(case, climb, roster, sent, policy, now)
    if climb.next_step_at is None:
        return _rest(case, climb, Silence.STEPS_DONE, (*told, *begun, *due), wake, policy, now)
    looks = (climb.next_step_at, wake)
    return Decision(replace(climb, next_step_at=min(at for at in looks if at)), (*told, *begun, *due))


def confirm_by(raised_at: datetime, step: int, queued_at: datetime, policy: Policy) -> datetime:
    """When a high alert must be confirmed, or its next step be queued, after a step was queued at ``queued_at``.

    It rests on no stored climb, so that an audit can hold the climbs against it. A step that came early, because the
    one before it failed, does not make the next one early.
    """
    if step + 1 >= len(_HIGH):
        return queued_at + policy.repeat_every
    here, after = _HIGH[step].after, _HIGH[step + 1].after
    return max(raised_at + after * policy.pace, queued_at + (after - here) * policy.pace)


def _silence(case: Case) -> Silence | None:
    """The first reason, strongest first, why the ladder must not be climbed."""
    reasons = (
        (case.retracted, Silence.RETRACTED),
        (not case.open, Silence.CLOSED),
        (not case.active and not case.latched, Silence.CLEARED),
        (case.priority is Priority.INFO, Silence.INFO_ONLY),
        (case.ladder is Ladder.NONE, Silence.NO_LADDER),
        (case.confirmed, Silence.CONFIRMED),
        (case.parent_priority is not None and case.parent_priority.rank >= case.priority.rank, Silence.CHILD_OF),
        (case.grouped and case.priority is not Priority.HIGH, Silence.GROUPED),
    )
    return next((silence for holds, silence in reasons if holds), None)


def _rest(
    case: Case,
    climb: Climb | None,
    silence: Silence,
    due: tuple[Due, ...],
    physician_at: datetime | None,
    policy: Policy,
    now: datetime,
) -> Decision:
    """Nobody climbs; still watch the two deadlines that a confirmation does not stop."""
    climb = climb or Climb(case.ladder, case.raised_at)
    same = climb.ended_reason is silence and climb.ended_at is not None
    held_until = _hold_ends(case, policy) if silence is Silence.CONFIRMED and case.active else None
    re_raise = held_until is not None and held_until <= now
    wakes = [now + RE_RAISE_RETRY if re_raise else held_until, physician_at]
    rested = replace(
        climb,
        next_step_at=min((wake for wake in wakes if wake), default=None),
        ended_at=climb.ended_at if same else now,
        ended_reason=silence,
    )
    return Decision(rested, due, silence, re_raise)


def _hold_ends(case: Case, policy: Policy) -> datetime | None:
    """When a confirmation has been held long enough without the condition ending (rules_catalogue.md A.3)."""
    if case.confirmed_at is None:
        return None
    if case.priority is Priority.HIGH:
        return case.confirmed_at + policy.hold_high
    if case.priority is Priority.MEDIUM:
        return case.confirmed_at + policy.hold_medium
    return _working_days_after(case.confirmed_at, policy.hold_low_working_days, case.zone)


def _physician_at(case: Case, sent: Sent, policy: Policy) -> datetime | None:
    """When the deadline that no confirmation moves is told of next; None: it is not, or somebody was told.

    A page that failed is none. The first one hands on at once, as a step does; while everyone fails, everyone is tried
    again and again. What has ended and only waits for a person runs no time of the patient out.
    """
    deadline, told_at = case.physician_by, sent.physician_told_at
    if deadline is None or not case.active or _silence(case) in (Silence.RETRACTED, Silence.CLOSED):
        return None
    if told_at is None or told_at < deadline:
        return deadline
    if not sent.physician_lost:
        return None
    return told_at if sent.physician_lost == 1 else told_at + policy.repeat_after_failure


def _physician(roster: Sequence[Contact], sent: Sent) -> tuple[Due, ...]:
    """The physician on call; everyone if there is none, or none that can be reached."""
    everyone = tuple(Role)
    for roles in (everyone,) if sent.physician_lost else ((Role.PHYSICIAN,), everyone):
        if due := tuple(_pages(PHYSICIAN_STEP, roles, roster, Cause.PHYSICIAN_BY, every_channel=True)):
            return due
    return (Due(PHYSICIAN_STEP, NOBODY, Channel.WORKLIST, Cause.PHYSICIAN_BY),)


def _continues(case: Case, climb: Climb) -> bool:
    """Whether the stored climb goes on: no person ended it, and it is on the same ladder.

    An alert that is raised again before anybody confirmed it does not begin anew: what comes again and again would
    never reach the physician.
    """
    if case.ladder is not climb.ladder:
        return False
    return climb.ended_at is None or (climb.ended_reason is Silence.STEPS_DONE and climb.answers(case.raised_at))


def _gone_on(
    case: Case, climb: Climb, roster: Sequence[Contact], sent: Sent, now: datetime
) -> tuple[Climb, tuple[Due, ...], Sent]:
    """The climb as it goes on; where the alert was raised again, everyone who was told so far is told of that."""
    answered = climb.answers(case.raised_at)
    climb = replace(climb, ended_at=None, ended_reason=None, raised_at=climb.raised_at if answered else case.raised_at)
    if answered or not climb.next_step:
        return climb, (), sent
    rungs, _ = _rungs(case)
    reached = rungs[: climb.next_step]
    roles, step = (role for rung in reached for role in rung.roles), climb.next_step - 1
    pages = tuple(_pages(step, roles, roster, Cause.RAISED_AGAIN, every_channel=reached[-1].every_channel))
    return climb, pages, replace(sent, last_step_at=now) if pages else sent


def _start(case: Case, climb: Climb | None, policy: Policy, now: datetime) -> tuple[Climb, tuple[Due, ...]]:
    """A fresh climb, and the worklist entry that does not wait for the morning.

    It counts from the raising, or from now when an alert that was silent for another reason (its parent closed, its
    condition came back) needs people again.
    """
    news = climb is None or not climb.answers(case.raised_at)
    started_at = case.raised_at if news else now
    first_at = _base(case, started_at, policy)
    begun = (Due(0, NOBODY, Channel.WORKLIST, Cause.STEP_DUE),) if first_at > started_at else ()
    return Climb(case.ladder, started_at, 0, first_at), begun


def _base(case: Case, started_at: datetime, policy: Policy) -> datetime:
    """When step 0 is due: at once, or in the morning for a MEDIUM that can wait."""
    can_wait = case.start_step == 0 and case.time_to_harm is not None and case.time_to_harm >= policy.urgent_within
    soon = case.physician_by is not None and case.physician_by - started_at < policy.urgent_within
    if case.ladder is not Ladder.MEDIUM or policy.quiet is None or not can_wait or soon:
        return started_at
    night, morning = policy.quiet
    local = started_at.astimezone(case.zone)
    at = local.time()
    if not (night <= at or at < morning if night > morning else night <= at < morning):
        return started_at
    day = local.date() + timedelta(days=1 if at >= morning else 0)
    return datetime.combine(day, morning, case.zone).astimezone(UTC)


def _rungs(case: Case) -> tuple[tuple[_Rung, ...], bool]:
    """The ladder's rungs, and whether its last one repeats until a person confirms."""
    if case.ladder is Ladder.HIGH:
        return _HIGH, True
    if case.ladder is Ladder.MEDIUM:
        return (_MEDIUM_HIGH_RISK, True) if case.high_risk else (_MEDIUM, False)
    return _LOW, False


def _again(case: Case) -> _Rung:
    """What follows the last rung: that one again, or, where it is none that repeats, everyone whom the ladder knows.

    The latter comes only after a last step that reached nobody: whoever can be reached by now has to hear of it.
    """
    rungs, repeats = _rungs(case)
    known = (role for rung in rungs for role in rung.roles)
    return rungs[-1] if repeats else _Rung(timedelta(0), tuple(dict.fromkeys(known)))


def after_start(case: Case, step: int) -> timedelta:
    """How long after a ladder's start a step is due, at its ordinary pace; past the last step, the last one's time."""
    rungs, _ = _rungs(case)
    return rungs[min(step, len(rungs) - 1)].after


def _advance(
    case: Case, climb: Climb, roster: Sequence[Contact], sent: Sent, policy: Policy, now: datetime
) -> tuple[Climb, list[Due]]:
    """Fire every step that is due; a step that failed or finds nobody hands on to the next at once (SYS-02)."""
    rungs, _ = _rungs(case)
    listed = _base(case, climb.started_at, policy) > climb.started_at
    due: list[Due] = []
    while (at := _step_at(case, climb, sent, policy, now)) is not None and at <= now:
        step, failed = climb.next_step, sent.last_step_failed
        rung = rungs[step] if step < len(rungs) else _again(case)
        cause = Cause.UNCONFIRMED if step >= len(rungs) else Cause.STEP_FAILED if failed else Cause.STEP_DUE
        fired = list(_pages(step, rung.roles, roster, cause, every_channel=rung.every_channel))
        sent = Sent(last_step_at=now, last_step_failed=bool(rung.roles) and not fired)
        due.extend(fired)
        # A last step that finds nobody is noted, so that the next look knows that it was tried.
        noted = rung.worklist or (step + 1 >= len(rungs) and not fired)
        if noted and not (step == 0 and listed):
            due.append(Due(step, NOBODY, Channel.WORKLIST, cause))
        climb = replace(climb, next_step=step + 1)
    return replace(climb, next_step_at=at), due


def _step_at(case: Case, climb: Climb, sent: Sent, policy: Policy, now: datetime) -> datetime | None:
    """When the next step is due; None when the ladder has no more. It never rests on ``climb.next_step_at``.

    No ladder ends with a step that reached nobody.
    """
    rungs, repeats = _rungs(case)
    if climb.next_step >= len(rungs):
        wait = policy.repeat_after_failure if sent.last_step_failed else policy.repeat_every
        return (sent.last_step_at or now - wait) + wait if repeats or sent.last_step_failed else None
    if sent.last_step_failed:
        return now
    if climb.next_step <= case.start_step > 0:
        return climb.started_at
    rung = rungs[climb.next_step]
    base = _base(case, climb.started_at, policy)
    return _working_days_after(base, rung.working_days, case.zone) + rung.after * policy.pace


def _pages(
    step: int, roles: Iterable[Role], roster: Sequence[Contact], cause: Cause, *, every_channel: bool
) -> Iterator[Due]:
    wanted = frozenset(roles)
    for contact in roster:
        if contact.role in wanted:
            for channel in contact.channels if every_channel else contact.channels[:1]:
                yield Due(step, contact.person, channel, cause)


def _working_days_after(moment: datetime, days: int, zone: tzinfo) -> datetime:
    """The same local time ``days`` working days (Monday to Friday) later; 0 is the moment itself."""
    local = moment.astimezone(zone)
    while days > 0:
        local += timedelta(days=1)
        days -= local.weekday() < 5
    return local.astimezone(UTC)
