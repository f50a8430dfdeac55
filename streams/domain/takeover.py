"""How an alert goes on with the notification thread of another one, instead of beginning a ladder of its own.

Catalogue M.9 says of a stall in the 15 minutes before a declared MRI: "DLV-01 retracted, MRI-04 HIGH holds and takes
over its notification thread (no second page)". Who was paged is told that the alert was taken back and which one goes
on; the ladder goes on at its step and times.

Neither M.9 nor MRI-04 passes on a confirmation, and A.3 gives it to one alert: "a named person took it". So the stall's
does not count for the alert that takes over, which asks for something else (the delivery stays off until the pump is
interrogated) and has, like every high alert, to be confirmed or to escalate. But a ladder that a confirmation had
stopped has no times of its own left: its next step comes as long after the message about the change as it would have
come after its last step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from streams.domain.escalation import (
    Case,
    Cause,
    Channel,
    Climb,
    Contact,
    Decision,
    Due,
    Policy,
    Sent,
    Silence,
    after_start,
    plan,
)

NOT_TAKEN: Final = frozenset({Silence.RETRACTED, Silence.CLOSED, Silence.CLEARED, Silence.INFO_ONLY, Silence.NO_LADDER})
"""An alert that nobody needs any more, or that calls nobody, takes over no thread."""
RUNNING: Final = frozenset({None, Silence.RETRACTED, Silence.CONFIRMED, Silence.STEPS_DONE})
"""How a climb may have ended that goes on: being taken back is what hands it over."""


@dataclass(frozen=True, slots=True)
class Page:
    """The latest page of one person through one channel; ``told`` unless it was still waiting to be sent."""

    step: int
    person: str
    channel: Channel
    cause: Cause
    told: bool


@dataclass(frozen=True, slots=True)
class Thread:
    """What the alert that is taken back leaves behind. All times are service time, aware UTC."""

    climb: Climb | None
    sent: Sent
    confirmed_at: datetime | None
    pages: tuple[Page, ...]


def go_on(case: Case, thread: Thread, roster: Sequence[Contact], sent: Sent, policy: Policy, now: datetime) -> Decision:
    """Decide like `plan` about an alert that is news and takes over a thread.

    Whoever was told gets one message (`Cause.TAKEN_OVER`), unless a page of this alert goes the same way at once. What
    was not yet sent is sent as a page of this alert.
    """
    now = max(now, case.raised_at)
    resumed = _resumed(case, thread, policy, now)
    climb, left = resumed or (None, sent)
    decision = plan(case, climb, roster, left, policy, now)
    if decision.silence in NOT_TAKEN:
        return plan(case, None, roster, sent, policy, now)
    pages = _carried(thread, decision, goes_on=resumed is not None)
    return replace(
        decision,
        climb=replace(decision.climb, took_over_at=now, raised_at=case.raised_at),
        due=(*pages, *decision.due),
        takes_over=True,
    )


def _resumed(case: Case, thread: Thread, policy: Policy, now: datetime) -> tuple[Climb, Sent] | None:
    """The climb that goes on and what became of its last step; None: there is none, or not on this ladder."""
    taken = thread.climb
    if taken is None or taken.ladder is not case.ladder or taken.ended_reason not in RUNNING:
        return None
    climb = replace(taken, ended_at=None, ended_reason=None, took_over_at=now, raised_at=case.raised_at)
    if thread.confirmed_at is None:
        return climb, thread.sent
    if not climb.next_step:
        return None
    started_at = now - after_start(case, climb.next_step - 1) * policy.pace
    return replace(climb, started_at=started_at), replace(thread.sent, last_step_at=now, last_step_failed=False)


def _carried(thread: Thread, decision: Decision, *, goes_on: bool) -> Iterator[Due]:
    paged = {(due.person, due.channel) for due in decision.due}
    last_step = max(decision.climb.next_step - 1, 0)
    for page in thread.pages:
        cause = Cause.TAKEN_OVER if page.told else page.cause
        wanted = page.told or (goes_on and decision.silence is None)
        if wanted and (page.person, page.channel) not in paged:
            yield Due(min(page.step, last_step), page.person, page.channel, cause)
