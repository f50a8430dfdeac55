"""Facts of the past: which is told when, and until when; and the refill rules that tell them (REF-01 to REF-04)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from streams.domain.alert import Episode, Priority, PriorityStep
from streams.domain.conditions.incidents import Incident, latest, reviewed, rising, standing, told, told_again
from streams.domain.observing.fills import Check, FillLog, Outcome, Restart, Shortfall
from streams.domain.profile import ProfileHistory
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Presence, View
from streams.domain.world import PumpState, Session
from streams.rehearsal import START, profiles_of
from tests.domain.judging import BACLOFEN, DAY, HOUR, MINUTE, SECOND, episode, judged, steps_of
from tests.shipped import RULES

LOW, MEDIUM, HIGH = Priority.LOW, Priority.MEDIUM, Priority.HIGH
NOW = timedelta(0)
MORPHINE = profiles_of({"drugs": [{"name": "morphine", "concentration_ug_per_ml": 10000.0}]})
ZICONOTIDE = profiles_of({"drugs": [{"name": "ziconotide", "concentration_ug_per_ml": 25.0}]})


def _incident(at: timedelta, priority: Priority = MEDIUM, told_at: timedelta | None = None) -> Incident:
    """Known at once unless said otherwise; it names its own minute."""
    moment = START + at
    told = moment if told_at is None else START + told_at
    return Incident(moment, told, (PriorityStep(priority, moment),), {"minute": str(at // MINUTE)})


def _standing(
    incidents: Sequence[Incident],
    at: timedelta,
    *tracks: Episode,
    known: ProfileHistory = BACLOFEN,
    **options: Any,
) -> Finding:
    view = View(PumpState(), known.therapy(START + at), {track.rule_id: track for track in tracks}, START + at)
    return standing(view, RULES["REF-04"], incidents, **options)


def _track(*steps: tuple[Priority, timedelta], **fields: Any) -> Episode:
    return replace(episode("REF-04", *(steps or ((MEDIUM, NOW),))), **fields)


def test_steps_that_bring_no_higher_priority_are_left_out() -> None:
    """In order of time; of two at one time the higher counts."""
    steps = [PriorityStep(priority, START + after) for priority, after in ((HIGH, HOUR), (LOW, NOW), (MEDIUM, NOW))]
    later = [PriorityStep(MEDIUM, START + 2 * HOUR), PriorityStep(HIGH, START + 3 * HOUR)]

    assert rising([*later, *steps]) == (PriorityStep(MEDIUM, START), PriorityStep(HIGH, START + HOUR))


def test_an_episode_tells_its_start_its_steps_its_reminders_and_its_recurrence() -> None:
    """And it is as late as the latest of start, reminders and recurrence."""
    track = _track((LOW, NOW), (HIGH, HOUR), reminders=(START + 2 * HOUR,), recurred_at=START + 3 * HOUR)

    assert told(None) == frozenset()
    assert told(track) == {START, START + HOUR, START + 2 * HOUR, START + 3 * HOUR}
    assert told(replace(track, recurred_at=None)) == {START, START + HOUR, START + 2 * HOUR}
    assert latest(track) == START + 3 * HOUR
    assert latest(replace(track, recurred_at=None)) == START + 2 * HOUR
    assert latest(_track()) == START


def test_a_fact_opens_the_alert_at_the_moment_at_which_it_becomes_known() -> None:
    """Once that moment is over it is old, also where no alert was opened."""
    incident = _incident(NOW, told_at=HOUR)

    opened = _standing([incident], HOUR, resolvable_after=DAY)

    assert steps_of(opened) == [(MEDIUM, NOW)]
    assert opened.values == {"minute": "0"}
    assert opened.resolvable_from == START + DAY
    assert opened.reminders == ()
    assert _standing([incident], HOUR + SECOND) == ABSENT
    assert _standing([incident], HOUR + SECOND, wake_at=START + DAY) == Finding(Presence.ABSENT, wake_at=START + DAY)


def test_a_fact_that_a_closed_alert_told_opens_no_other() -> None:
    """The latest episode knows it; another fact is news."""
    closed = _track(closed=True, present=False)

    assert _standing([_incident(NOW)], NOW, closed) == ABSENT
    assert steps_of(_standing([_incident(NOW), _incident(HOUR)], HOUR, closed)) == [(MEDIUM, HOUR)]


def test_an_open_alert_stays_with_the_words_of_its_latest_known_fact() -> None:
    """What it never told is not shown, and what is forgotten leaves it open without words."""
    track = _track(reminders=(START + HOUR,))
    facts = [_incident(NOW), _incident(HOUR), _incident(30 * MINUTE)]

    stays = _standing(facts, 2 * HOUR, track, resolvable_after=DAY, wake_at=START + DAY)
    forgotten = _standing([], 2 * HOUR, track)

    assert steps_of(stays) == steps_of(forgotten) == [(MEDIUM, NOW)]
    assert stays.values == {"minute": "60"}
    assert stays.resolvable_from == START + HOUR + DAY
    assert stays.wake_at == START + DAY
    assert stays.reminders == (START + HOUR,)
    assert forgotten.values is None
    assert forgotten.resolvable_from == START + HOUR


@pytest.mark.parametrize(
    ("priority", "reminders", "steps"),
    [
        (MEDIUM, (MINUTE, HOUR), [(MEDIUM, NOW)]),
        (LOW, (MINUTE, HOUR), [(MEDIUM, NOW)]),
        (HIGH, (MINUTE,), [(MEDIUM, NOW), (HIGH, HOUR)]),
    ],
)
def test_a_further_fact_is_told_again_unless_it_raises_the_alert(
    priority: Priority, reminders: tuple[timedelta, ...], steps: list[tuple[Priority, timedelta]]
) -> None:
    """And a person may resolve it only from then on."""
    finding = _standing([_incident(NOW), _incident(HOUR, priority)], HOUR, _track(reminders=(START + MINUTE,)))

    assert finding.reminders == tuple(START + after for after in reminders)
    assert steps_of(finding) == steps
    assert finding.resolvable_from == START + HOUR


def test_facts_told_together_are_told_in_order_of_time() -> None:
    """Each once."""
    facts = [_incident(3 * MINUTE, told_at=HOUR), _incident(2 * MINUTE, told_at=HOUR)]

    assert _standing([*facts, facts[0]], HOUR, _track()).reminders == (START + 2 * MINUTE, START + 3 * MINUTE)


@pytest.mark.parametrize(("reviewed_at", "ends"), [("P1D", True), ("PT23H59M59S", False)])
def test_a_review_ends_an_alert_from_when_it_may_be_resolved(reviewed_at: str, ends: bool) -> None:
    """Inclusive, in the name of its person; while something new is told it does not."""
    known = profiles_of({}, care=[{"kind": "review", "from": reviewed_at, "rule_id": "REF-04", "person": "ada"}])

    finding = _standing([], 2 * DAY, _track(), known=known, resolvable_after=DAY, wake_at=START + 9 * DAY)
    fresh = _standing([_incident(NOW, HIGH), _incident(2 * DAY)], 2 * DAY, _track(), known=known)

    ended = Finding(Presence.ABSENT, ended_at=START + DAY, closed_by="ada", wake_at=START + 9 * DAY)
    assert (finding == ended) is ends
    assert fresh.presence is Presence.PRESENT


def test_the_first_review_of_the_rule_that_counts_is_the_one() -> None:
    """Of another rule it says nothing."""
    reviews = [("REF-01", "PT2H"), ("REF-04", "PT1H"), ("REF-04", "PT3H"), ("REF-04", "PT4H")]
    known = profiles_of({}, care=[{"kind": "review", "from": at, "rule_id": rule_id} for rule_id, at in reviews])
    view = View(PumpState(), known.therapy(START + DAY), {}, START + DAY)

    found = [reviewed(view, RULES["REF-04"], START + after) for after in (HOUR, HOUR + SECOND, 5 * HOUR)]

    assert [record and record.valid_from for record in found] == [START + HOUR, START + 3 * HOUR, None]


@pytest.mark.parametrize(
    ("track", "priority", "reminders"),
    [
        (None, HIGH, ()),
        (_track((MEDIUM, NOW), reminders=(START + MINUTE,)), HIGH, (MINUTE,)),
        (_track((HIGH, NOW), reminders=(START + MINUTE,)), HIGH, (MINUTE, 2 * MINUTE, 4 * MINUTE)),
        (_track((HIGH, NOW), reminders=(START + MINUTE,)), LOW, (MINUTE, 2 * MINUTE, 4 * MINUTE)),
    ],
)
def test_what_becomes_known_now_is_told_again(
    track: Episode | None, priority: Priority, reminders: tuple[timedelta, ...]
) -> None:
    """In order of time and once, unless it raises the alert; what is known or was told before is not."""
    facts = [(4, 60), (2, 60), (2, 60), (1, 60), (0, 60), (3, 59)]
    times = [(START + since * MINUTE, START + told_at * MINUTE) for since, told_at in facts]

    again = told_again(track, priority, times, START + HOUR)

    assert again == tuple(START + after for after in reminders)


# REF-01 ----------------------------------------------------------------------------------------------------------


def _checked(*missing: tuple[timedelta, float], told_at: timedelta | None = HOUR, **fields: Any) -> PumpState:
    shortfalls = tuple(Shortfall(START + after, ml) for after, ml in missing)
    check = Check(START, 18.0, shortfalls, None if told_at is None else START + told_at, **fields)
    return PumpState(fills=FillLog(check=check))


@pytest.mark.parametrize(
    ("reservoir_ml", "ml", "suspect"),
    [
        (20, 1.0, False),
        (20, 1.0000009, False),
        (20, 1.00001, True),
        (40, 2.0, False),
        (40, 2.0000009, False),
        (40, 2.00001, True),
        (None, 1.0, False),
        (None, 1.00001, True),
    ],
)
def test_what_is_missing_beyond_its_limit_may_be_beside_the_pump(
    reservoir_ml: int | None, ml: float, suspect: bool
) -> None:
    """REF-01: more than 1 mL, with a 40 mL reservoir more than 2; the physician ten minutes later, 24 h of watch."""
    known = profiles_of(None if reservoir_ml is None else {"reservoir_ml": reservoir_ml})
    state = _checked((20 * MINUTE, ml), confirmed_at=START + 10 * MINUTE)

    finding = judged("REF-01", state, START + HOUR, known)

    assert steps_of(finding) == ([(HIGH, 20 * MINUTE)] if suspect else [])
    assert finding.physician_by == (START + 30 * MINUTE if suspect else None)
    assert finding.resolvable_from == (START + 20 * MINUTE + DAY if suspect else None)


def test_the_first_shortfall_beyond_the_limit_counts_and_says_how_much() -> None:
    """REF-01: a larger one later is no news of its own."""
    state = _checked((10 * MINUTE, 0.9), (20 * MINUTE, 1.4), (30 * MINUTE, 1.8))

    finding = judged("REF-01", state, START + HOUR)

    assert steps_of(finding) == [(HIGH, 20 * MINUTE)]
    assert finding.values == {"finding": "1.4 mL less is measured in the reservoir than was put in."}


def test_a_shortfall_is_news_when_it_is_told_and_while_nobody_told_it() -> None:
    """REF-01: later, or where a closed alert told it, only the missing confirmation is left."""
    state = _checked((20 * MINUTE, 1.4), confirmed_at=START + 10 * MINUTE)
    known = episode("REF-01", (HIGH, 20 * MINUTE))
    confirmed = Finding(Presence.ABSENT, ended_at=START + 10 * MINUTE)

    assert judged("REF-01", state, START + HOUR + SECOND) == confirmed
    assert judged("REF-01", state, START + HOUR, tracks=[replace(known, closed=True)]) == confirmed
    assert judged("REF-01", _checked((20 * MINUTE, 1.4), told_at=None, confirmed_at=START), START).steps == ()
    assert steps_of(judged("REF-01", state, START + 2 * HOUR, tracks=[known])) == [(HIGH, 20 * MINUTE)]


def test_a_suspected_pocket_fill_stays_when_the_next_refill_is_checked() -> None:
    """REF-01: also without a check; a person's review a day later ends it, and nobody is called any more."""
    track = episode("REF-01", (MEDIUM, NOW), (HIGH, 20 * MINUTE))
    known = profiles_of({}, care=[{"kind": "review", "from": "P1D", "rule_id": "REF-01"}])

    stays = judged("REF-01", PumpState(), START + HOUR, tracks=[track])
    ended = judged("REF-01", PumpState(), START + 2 * DAY, known, [track])

    assert steps_of(stays) == [(MEDIUM, NOW), (HIGH, 20 * MINUTE)]
    assert stays.physician_by == START + 30 * MINUTE
    assert ended == Finding(Presence.ABSENT, ended_at=START + DAY, closed_by="example")


def test_a_refill_is_confirmed_within_half_an_hour_or_is_medium_until_it_is() -> None:
    """REF-01: to the second; a MEDIUM alert that is open ends with the confirmation."""
    waiting, track = _checked(told_at=None), episode("REF-01", (MEDIUM, 30 * MINUTE))
    confirmed = _checked(told_at=None, confirmed_at=START + HOUR)

    due = judged("REF-01", waiting, START + 30 * MINUTE)

    assert judged("REF-01", PumpState(), START) == ABSENT
    assert judged("REF-01", waiting, START + 30 * MINUTE - SECOND) == Finding(
        Presence.ABSENT, wake_at=START + 30 * MINUTE
    )
    assert steps_of(due) == [(MEDIUM, 30 * MINUTE)]
    assert due.values == {"finding": "The refill is not confirmed: no level and no interrogation since."}
    assert judged("REF-01", confirmed, START + 2 * HOUR, tracks=[track]) == Finding(
        Presence.ABSENT, ended_at=START + HOUR
    )


# REF-02 and REF-03 -----------------------------------------------------------------------------------------------


def _filling(programmed_ml: float, delivered_ml: float, at: timedelta = NOW) -> Outcome:
    return Outcome(START + at, programmed_ml, delivered_ml, START + at)


def _fillings(*outcomes: Outcome) -> PumpState:
    return PumpState(fills=FillLog(outcomes=outcomes))


SALINE = profiles_of({"drugs": [{"name": "saline"}]})


@pytest.mark.parametrize(
    ("programmed_ml", "delivered_ml", "over"),
    [
        (20.0, 22.9, False),  # 1.145 times as fast
        (20.0, 22.91, True),
        (2.0, 3.0, True),
        (1.99, 3.0, False),
        (1.9999995, 3.0, True),
        (3.0, 3.9999995, True),
        (3.0, 3.999, False),
    ],
)
def test_a_filling_left_too_fast_beyond_the_ratio_and_both_floors(
    programmed_ml: float, delivered_ml: float, over: bool
) -> None:
    """REF-02: above 1.145, at least 1.0 mL too much, at least 2 mL programmed; volumes are not exact."""
    finding = judged("REF-02", _fillings(_filling(programmed_ml, delivered_ml)), START)

    assert steps_of(finding) == ([(HIGH, NOW)] if over else [])


@pytest.mark.parametrize(
    ("known", "before", "delivered_ml", "priority"),
    [
        (SALINE, [], 12.4, MEDIUM),
        (SALINE, [], 12.5, HIGH),
        (SALINE, [_filling(10.0, 10.0, -DAY)], 12.4, MEDIUM),
        (SALINE, [_filling(10.0, 12.0, -DAY)], 12.4, HIGH),
        (BACLOFEN, [], 12.4, HIGH),
        (ZICONOTIDE, [], 12.4, HIGH),
    ],
)
def test_with_saline_a_first_mild_excess_is_medium(
    known: ProfileHistory, before: list[Outcome], delivered_ml: float, priority: Priority
) -> None:
    """REF-02: less than a quarter, exclusive; every active drug is HIGH at once."""
    finding = judged("REF-02", _fillings(*before, _filling(10.0, delivered_ml)), START, known)

    advice = "Repeat at the next refill." if priority is MEDIUM else "Check the patient now."
    assert steps_of(finding) == [(priority, NOW)]
    assert finding.values is not None
    assert finding.values["advice"] == advice


def test_a_refill_ratio_is_told_with_its_volumes() -> None:
    """REF-02 and REF-03."""
    over = judged("REF-02", _fillings(_filling(10.0, 13.04)), START)
    under = judged("REF-03", _fillings(_filling(10.0, 5.96)), START)

    assert over.values == {
        "delivered": "13.0 mL",
        "programmed": "10.0 mL",
        "ratio": "1.30",
        "advice": "Check the patient now.",
    }
    assert under.values == {"delivered": "6.0 mL", "programmed": "10.0 mL", "ratio": "0.60"}


@pytest.mark.parametrize(
    ("programmed_ml", "delivered_ml", "on_baclofen", "on_morphine"),
    [
        (10.0, 8.55, None, None),
        (10.0, 8.54, HIGH, MEDIUM),
        (10.0, 5.0, HIGH, MEDIUM),
        (10.0, 4.99, HIGH, HIGH),
        (2.0, 1.0000005, HIGH, MEDIUM),
        (2.0, 1.001, None, None),
    ],
)
def test_a_filling_was_delivered_too_little_below_the_ratio_and_its_floor(
    programmed_ml: float, delivered_ml: float, on_baclofen: Priority | None, on_morphine: Priority | None
) -> None:
    """REF-03: below 0.855 and at least 1.0 mL less; HIGH on ``W3+1``, and for all below half."""
    state = _fillings(_filling(programmed_ml, delivered_ml))

    found = [steps_of(judged("REF-03", state, START, known)) for known in (BACLOFEN, MORPHINE)]

    assert found == [[] if one is None else [(one, NOW)] for one in (on_baclofen, on_morphine)]


@pytest.mark.parametrize("rule_id", ["REF-02", "REF-03"])
def test_without_a_filling_that_ended_nobody_can_say(rule_id: str) -> None:
    """REF-02 and REF-03: an alert that is open stays so, and a normal filling opens none."""
    stays = judged(rule_id, PumpState(), START, tracks=[episode(rule_id, (HIGH, NOW))])

    assert judged(rule_id, PumpState(), START) == NOT_EVALUABLE
    assert steps_of(stays) == [(HIGH, NOW)]
    assert judged(rule_id, _fillings(_filling(10.0, 10.0)), START) == ABSENT


def test_every_filling_that_is_told_counts_and_normal_ones_are_left_out() -> None:
    """REF-02 and REF-03: also one behind a normal one."""
    outcomes = (_filling(10.0, 10.0), _filling(10.0, 14.0), _filling(10.0, 4.0))

    assert steps_of(judged("REF-02", _fillings(*outcomes), START)) == [(HIGH, NOW)]
    assert steps_of(judged("REF-03", _fillings(*outcomes), START)) == [(HIGH, NOW)]


# REF-04 ----------------------------------------------------------------------------------------------------------


def _restarted(kind: str, hours: float | None, **fields: Any) -> PumpState:
    not_since = None if hours is None else START - hours * HOUR
    return PumpState(fills=FillLog(restarts=(Restart(START, kind, START, not_since),)), **fields)


@pytest.mark.parametrize(
    ("kind", "hours", "on_morphine", "on_ziconotide", "cause"),
    [
        ("refill", 12.0, HIGH, None, "Refilled after 12 h without confirmed delivery."),
        ("refill", 11.999, None, None, ""),
        ("valve_reset", 13.4, HIGH, None, "The flow valve was reset after 13 h without confirmed delivery."),
        ("delivery", 20.0, HIGH, None, "Delivery is back after 20 h without."),
        ("replaced", None, MEDIUM, None, "The pump was replaced."),
        ("concentration", None, HIGH, HIGH, "The concentration in the reservoir has changed."),
        ("concentration", 1.0, HIGH, HIGH, "The concentration in the reservoir has changed."),
    ],
)
def test_each_restart_is_a_task_in_its_own_words(
    kind: str, hours: float | None, on_morphine: Priority | None, on_ziconotide: Priority | None, cause: str
) -> None:
    """REF-04: after at least twelve hours without delivery, on W1 only by its concentration; 24 h of observation."""
    findings = [judged("REF-04", _restarted(kind, hours), START, known) for known in (MORPHINE, ZICONOTIDE)]

    for finding, priority in zip(findings, (on_morphine, on_ziconotide), strict=True):
        assert steps_of(finding) == ([] if priority is None else [(priority, NOW)])
        assert finding.values == (None if priority is None else {"cause": cause})
        assert finding.resolvable_from == (None if priority is None else START + DAY)


@pytest.mark.parametrize(("delivered_ml", "on_morphine"), [(4.99, [(HIGH, NOW)]), (5.0, [])])
def test_a_filling_of_which_less_than_half_was_delivered_is_a_restart(
    delivered_ml: float, on_morphine: list[tuple[Priority, timedelta]]
) -> None:
    """REF-04 by REF-03: below half, by at least a millilitre; not on W1."""
    finding = judged("REF-04", _fillings(_filling(10.0, delivered_ml)), START, MORPHINE)

    assert steps_of(finding) == on_morphine
    assert finding.values == (
        {"cause": "Only 50% of the program was delivered before the refill."} if on_morphine else None
    )
    assert judged("REF-04", _fillings(_filling(10.0, delivered_ml)), START, ZICONOTIDE) == ABSENT
    assert judged("REF-04", _fillings(_filling(1.5, 0.6)), START, MORPHINE) == ABSENT


@pytest.mark.parametrize(
    ("state", "outside"),
    [
        (_restarted("delivery", 20.0), HIGH),
        (_restarted("concentration", None), HIGH),
        (_restarted("replaced", None), MEDIUM),
        (_fillings(_filling(10.0, 1.0)), HIGH),
    ],
)
def test_a_restart_inside_an_authorised_session_is_medium(state: PumpState, outside: Priority) -> None:
    """REF-04: from the session's start to fifteen minutes after its end, inclusive."""
    sessions = [
        (Session("S", START, START + HOUR), MEDIUM),
        (Session("S", START - HOUR, START - 15 * MINUTE), MEDIUM),
        (Session("S", START - HOUR, START - 15 * MINUTE - SECOND), outside),
        (Session("S", START + SECOND), outside),
    ]

    for session, priority in sessions:
        finding = judged("REF-04", replace(state, sessions=(session,)), START, MORPHINE)
        assert steps_of(finding) == [(priority, NOW)]


def test_of_a_restart_and_a_filling_the_later_is_shown() -> None:
    """REF-04: whatever the order in which they were found; people may resolve it a day after the latest."""
    restart = Restart(START + HOUR, "delivery", START + 3 * HOUR, START - DAY)
    filling = replace(_filling(10.0, 1.0, 2 * HOUR), told_at=START + 3 * HOUR)
    fills = FillLog(restarts=(restart,), outcomes=(filling,))

    finding = judged("REF-04", PumpState(fills=fills), START + 3 * HOUR, MORPHINE)

    assert finding.values == {"cause": "Only 10% of the program was delivered before the refill."}
    assert finding.resolvable_from == START + 2 * HOUR + DAY
