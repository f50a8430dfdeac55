"""The oracle notices what a storm must not do to people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.faults.inbox import Mail
from tests.faults.oracle import Break, Verdict, judge_mails
from tests.faults.storm import Blow, Cycle, Target, may_repeat

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """So long after the alert's notification was queued."""
    return NOON + timedelta(seconds=seconds)


def told(mails: list[Mail], breaks: list[Break]) -> Verdict:
    """The verdict on one alert with one notification."""
    verdict = Verdict()
    judge_mails(7, {"n": NOON}, mails, breaks, verdict)
    return verdict


def test_one_marked_repeat_is_allowed_for_each_break_while_the_alert_is_told() -> None:
    """A second one without a second break is one too many."""
    mails = [Mail("n", "", repeat=False, at=at(1)), *(Mail("n", "", repeat=True, at=at(9)) for _ in range(2))]
    one, two = Break(at(2), at(2)), Break(at(5), at(8))

    assert told(mails[:2], [one]).failures == {}
    assert told(mails, [one, two]).failures == {}
    assert told(mails, [one]).failures == {"too_many_repeats": ["7"]}


def test_breaks_before_and_after_account_for_nothing() -> None:
    """Only what happened between queueing and the last mail can have caused a repeat."""
    mails = [Mail("n", "", repeat=False, at=at(1)), Mail("n", "", repeat=True, at=at(2))]

    assert told(mails, [Break(at(-9), at(-8)), Break(at(3), at(4))]).failures == {"too_many_repeats": ["7"]}


def test_a_repeat_without_its_mark_and_an_alert_without_mail_are_noticed() -> None:
    """People must be able to tell that it is nothing new; and everybody is told."""
    mails = [Mail("n", "", repeat=False, at=at(1)), Mail("n", "", repeat=False, at=at(2))]

    assert told(mails, [Break(at(1), at(1))]).failures == {"unmarked_repeats": ["n"]}
    assert told([], []).failures == {"untold": [7]}


def test_only_the_notifier_and_its_database_make_repeats() -> None:
    """By a kill, or by a pause that outlasts a page's time."""
    kills = {target for target in Target if may_repeat(Cycle(target, Blow.KILL, 0, 0))}
    short = {target for target in Target if may_repeat(Cycle(target, Blow.PAUSE, 0, 3.0))}
    long = {target for target in Target if may_repeat(Cycle(target, Blow.PAUSE, 0, 13.0))}

    assert kills == long == {Target.NOTIFY, Target.POSTGRES}
    assert short == set()
