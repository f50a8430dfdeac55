"""One rule's episode after each finding: it opens, worsens, ends, comes back, is taken back, or is closed."""

from __future__ import annotations

from dataclasses import replace as with_
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from streams.domain.alert import Episode, Priority, PriorityStep, Reason
from streams.domain.evaluation import Fold, advanced, changed_fields, judge, resolved
from streams.domain.profile import STRICTEST, Therapy, WithdrawalClass
from streams.domain.rule import ABSENT, MERGE_WINDOWS, NOT_EVALUABLE, Finding, Presence, Rule, RuleBook, View
from streams.domain.telemetry import Received
from streams.domain.world import Folded, PumpState, Resolution
from streams.rehearsal import START, moment, profiles_of, received_of
from tests.domain.typed import typed_rule
from tests.shipped import RULES

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
RULE = typed_rule("alarm: memory_error")
LATCHING = with_(RULE, latching=Priority.HIGH)
LOW = PriorityStep(Priority.LOW, START)
HIGH = PriorityStep(Priority.HIGH, START + HOUR)
OPEN = Episode("TST-01", START, (LOW,), message="since unknown")
ENDED = replace(OPEN, present=False, closed=True, ended_at=START + HOUR, reason=Reason.CONDITION_ENDED)
WAITING = replace(ENDED, closed=False, latched=True)
MUTED = replace(OPEN, closed=True, muted=True, ended_at=START + HOUR, resolved_by="ada")
NOW = START + 2 * HOUR


def _present(*steps: PriorityStep, **changes: Any) -> Finding:
    return replace(Finding(Presence.PRESENT, steps or (LOW,)), **changes)


def _absent(hours: float | None = None, **changes: Any) -> Finding:
    ended_at = START + hours * HOUR if hours is not None else None
    return replace(ABSENT, ended_at=ended_at, **changes)


def _again(at: datetime, priority: Priority = Priority.LOW) -> Finding:
    return _present(PriorityStep(priority, at))


@pytest.mark.parametrize("finding", [ABSENT, NOT_EVALUABLE])
def test_what_does_not_hold_opens_nothing(finding: Finding) -> None:
    """Nor does what nobody can tell."""
    assert judge(RULE, None, finding, NOW) == (None, None)


@pytest.mark.parametrize("found_late", [False, True])
def test_what_holds_opens_an_episode_with_all_that_its_finding_says(found_late: bool) -> None:
    """From its first step on."""
    said: dict[str, Any] = {
        "physician_by": NOW,
        "parents": ("DLV-01",),
        "reminders": (NOW,),
        "start_step": 2,
        "resolvable_from": NOW,
    }

    opened, displaced = judge(
        with_(RULE, ladder="M"),
        None,
        _present(LOW, HIGH, values={"since": "noon"}, **said),
        NOW,
        found_late=found_late,
    )

    assert displaced is None
    assert opened == Episode(
        "TST-01", START, (LOW, HIGH), message="since noon", found_late=found_late, ladder="M", **said
    )


@pytest.mark.parametrize(
    ("finding", "latched"), [(_present(LOW), False), (_present(LOW, HIGH), True), (_present(latch=True), True)]
)
def test_an_episode_latches_by_the_priority_it_reached_or_by_its_finding(finding: Finding, latched: bool) -> None:
    """When it opens as when it goes on."""
    opened, _ = judge(LATCHING, None, finding, NOW)
    goes_on, _ = judge(LATCHING, OPEN, finding, NOW)

    assert opened is not None
    assert goes_on is not None
    assert (opened.latched, goes_on.latched) == (latched, latched)


def test_what_goes_on_unchanged_is_the_same_episode() -> None:
    """The very same object, so that nothing is written or told."""
    newest, displaced = judge(RULE, OPEN, _present(), NOW)

    assert newest is OPEN
    assert displaced is None


def test_what_goes_on_says_what_is_so_now() -> None:
    """Priorities once reached stay; the start step never goes back; found late it was from the beginning or not."""
    track = replace(OPEN, steps=(LOW, HIGH), start_step=2, latched=True, parents=("DLV-02",), reminders=(START,))
    finding = _present(
        PriorityStep(Priority.MEDIUM, NOW), physician_by=NOW, start_step=1, reminders=(NOW,), resolvable_from=NOW
    )

    newest, displaced = judge(with_(LATCHING, ladder="H"), track, finding, NOW, found_late=True)

    assert displaced is None
    assert newest == replace(track, physician_by=NOW, parents=(), reminders=(NOW,), resolvable_from=NOW, ladder="H")


def test_only_a_higher_priority_is_added_to_those_reached() -> None:
    """One that was reached before keeps its time."""
    later = PriorityStep(Priority.LOW, START + 2 * HOUR)
    medium = PriorityStep(Priority.MEDIUM, START)

    newest, _ = judge(RULE, replace(OPEN, steps=(LOW, medium)), _present(later, medium, HIGH), NOW)

    assert newest is not None
    assert newest.steps == (LOW, medium, HIGH)


@pytest.mark.parametrize("finding", [_absent(), _absent(1.5)])
def test_what_ends_is_closed_at_the_time_of_the_evidence(finding: Finding) -> None:
    """Or of the judgement, where the evidence has no time of its own."""
    ended, displaced = judge(RULE, OPEN, finding, NOW)

    assert displaced is None
    assert ended == replace(ENDED, ended_at=finding.ended_at or NOW)


def test_what_latches_stays_open_when_it_ends() -> None:
    """It waits for a person; that it does not hold is known from then on, and no later look moves its end."""
    waiting, _ = judge(LATCHING, replace(OPEN, steps=(LOW, HIGH), latched=True), _absent(1.5), NOW)

    assert waiting == replace(WAITING, steps=(LOW, HIGH), ended_at=START + 1.5 * HOUR)
    again, _ = judge(LATCHING, waiting, _absent(1.7), NOW)
    assert again is waiting


def test_what_a_finding_latched_stays_latched_when_it_ends() -> None:
    """Of a rule that does not latch by itself."""
    assert judge(RULE, replace(OPEN, latched=True), _absent(1), NOW) == (WAITING, None)


def test_an_end_may_bring_new_words() -> None:
    """Where it has none the last ones stay."""
    track = replace(OPEN, message="since noon")

    told, _ = judge(RULE, track, _absent(1, values={"since": "one"}), NOW)
    silent, _ = judge(RULE, track, _absent(1), NOW)

    assert told is not None
    assert silent is not None
    assert (told.message, silent.message) == ("since one", "since noon")


def test_an_end_before_it_grew_worse_takes_the_worse_back() -> None:
    """And with it what only the worse one had: the latch."""
    worse = replace(OPEN, steps=(LOW, HIGH), latched=True)

    before, _ = judge(LATCHING, worse, _absent(0.9), NOW)
    at_once, _ = judge(LATCHING, worse, _absent(1), NOW)

    assert before == replace(ENDED, ended_at=START + 0.9 * HOUR)
    assert at_once == replace(WAITING, steps=(LOW, HIGH))


def test_an_end_at_its_start_is_an_end_and_one_before_it_takes_it_back() -> None:
    """It never was, as a log told late."""
    at_once, _ = judge(RULE, OPEN, _absent(0), NOW)
    never, _ = judge(RULE, replace(OPEN, latched=True), _absent(-0.1), NOW)

    assert at_once == replace(ENDED, ended_at=START)
    assert never == replace(ENDED, retracted=True, ended_at=START, reason=Reason.LATE_LOG)


@pytest.mark.parametrize("track", [OPEN, replace(OPEN, latched=True), WAITING])
def test_what_never_held_is_taken_back_for_its_own_reason(track: Episode) -> None:
    """Even where it was over already and waited for a person."""
    taken_back = judge(RULE, track, _absent(3, retract=Reason.MRI_DECLARED), NOW)

    assert taken_back == (replace(ENDED, retracted=True, ended_at=START, reason=Reason.MRI_DECLARED), None)


@pytest.mark.parametrize("track", [OPEN, WAITING, MUTED])
def test_what_nobody_can_tell_changes_nothing(track: Episode) -> None:
    """Unknown is not over; and what a person muted is not forgotten for it."""
    newest, displaced = judge(RULE, track, NOT_EVALUABLE, START + 100 * 24 * HOUR)

    assert newest is track
    assert displaced is None


@pytest.mark.parametrize("track", [replace(OPEN, latched=True, steps=(LOW, HIGH)), replace(WAITING, steps=(LOW, HIGH))])
def test_a_person_s_record_closes_even_what_latches(track: Episode) -> None:
    """Ended now, or before: it is the person who is named."""
    closed, displaced = judge(LATCHING, track, _absent(1, closed_by="nora"), NOW)

    assert displaced is None
    assert closed == replace(ENDED, steps=(LOW, HIGH), resolved_by="nora", reason=Reason.RESOLVED_BY_PERSON)


def test_what_closes_by_itself_needs_no_person() -> None:
    """It ended, whoever wrote something down."""
    assert judge(RULE, OPEN, _absent(1, closed_by="nora"), NOW) == (ENDED, None)


@pytest.mark.parametrize("priority", list(Priority))
def test_a_closed_episode_can_be_continued_for_its_merge_window(priority: Priority) -> None:
    """Inclusive; after it the episode is forgotten, or gives way to a new one."""
    track = replace(ENDED, steps=(PriorityStep(priority, START),))
    last = START + HOUR + MERGE_WINDOWS[priority]

    assert judge(RULE, track, ABSENT, last) == (track, None)
    assert judge(RULE, track, ABSENT, last + SECOND) == (None, track)
    continued, none = judge(RULE, track, _again(last, priority), last)
    assert none is None
    assert continued == replace(OPEN, steps=track.steps, recurrences=1, recurred_at=last, reason=track.reason)
    another = replace(OPEN, start=last + SECOND, steps=(PriorityStep(Priority.LOW, last + SECOND),))
    assert judge(RULE, track, _again(last + SECOND), NOW) == (another, track)


def test_an_episode_found_again_from_its_very_start_is_the_same_one() -> None:
    """However long ago it ended: the same start never opens twice."""
    track = replace(ENDED, ended_at=START - 100 * 24 * HOUR)

    newest, displaced = judge(RULE, track, _present(), NOW)

    assert displaced is None
    assert newest == replace(OPEN, recurrences=1, recurred_at=START, reason=Reason.CONDITION_ENDED)


def test_what_was_taken_back_is_forgotten_at_once_unless_it_is_found_again() -> None:
    """Found again it has the steps of now; what starts another time is another episode, however near."""
    track = replace(ENDED, steps=(LOW, HIGH), retracted=True, ended_at=START, reason=Reason.LATE_LOG)

    assert judge(RULE, track, ABSENT, START) == (None, track)
    newest, none = judge(RULE, track, _present(), START)
    assert none is None
    assert newest == replace(OPEN, recurrences=1, recurred_at=START, reason=Reason.LATE_LOG)
    other, displaced = judge(RULE, track, _again(START + SECOND), NOW)
    assert displaced is track
    assert other == replace(OPEN, start=START + SECOND, steps=(PriorityStep(Priority.LOW, START + SECOND),))


def test_what_waits_for_a_person_and_comes_back_is_the_same_alert() -> None:
    """It recurred; while it simply goes on, nothing does."""
    newest, displaced = judge(RULE, WAITING, _again(NOW), NOW)

    assert displaced is None
    assert newest == replace(OPEN, latched=True, recurrences=1, recurred_at=NOW, reason=Reason.CONDITION_ENDED)
    assert judge(RULE, newest, _again(NOW), NOW)[0] is newest


def test_what_a_person_closed_is_quiet_until_it_is_worse() -> None:
    """Then it is back, and nobody's any more."""
    same, none = judge(RULE, MUTED, _present(LOW), NOW)
    worse, displaced = judge(RULE, MUTED, _present(LOW, HIGH), NOW)

    assert same is MUTED
    assert (none, displaced) == (None, None)
    assert worse == replace(OPEN, steps=(LOW, HIGH), recurrences=1, recurred_at=START)


@pytest.mark.parametrize("finding", [_absent(), _absent(1.5)])
def test_what_a_person_closed_ends_in_the_end(finding: Finding) -> None:
    """Whoever closed it stays named; from then on it counts as any other that is over."""
    over = replace(MUTED, muted=False, present=False, ended_at=finding.ended_at or NOW)

    assert judge(RULE, MUTED, finding, NOW) == (over, None)
    assert judge(RULE, over, ABSENT, START + 80 * HOUR) == (None, over)


def test_what_a_person_closes_while_it_holds_is_muted() -> None:
    """One that had ended keeps its end; a fact of the past is over."""
    word = Resolution("TST-01", NOW, "ada")
    closed = replace(OPEN, closed=True, resolved_by="ada", reason=Reason.RESOLVED_BY_PERSON)

    assert resolved(replace(OPEN, latched=True), word) == replace(closed, muted=True, ended_at=NOW)
    assert resolved(WAITING, word) == replace(closed, present=False, ended_at=START + HOUR)
    fact = replace(OPEN, resolvable_from=START)
    assert resolved(fact, word) == replace(closed, resolvable_from=START, present=False, ended_at=NOW)


FEVER = Episode("TMP-01", START, (LOW,))
MEDIUM_STEPS = (LOW, PriorityStep(Priority.MEDIUM, START))


def _view(therapy: Therapy = STRICTEST, **tracks: Episode) -> View:
    return View(PumpState(), therapy, {track.rule_id: track for track in tracks.values()}, NOW)


@pytest.mark.parametrize(("rule_id", "start_step"), [("DLV-01", 1), ("MRI-01", 1), ("RSV-01", 0)])
def test_a_fever_puts_alerts_of_delivery_a_step_further_up(rule_id: str, start_step: int) -> None:
    """And no others."""
    found = advanced(RULES[rule_id], _present(*MEDIUM_STEPS), _view(fever=FEVER))

    assert found == _present(*MEDIUM_STEPS, start_step=start_step)


@pytest.mark.parametrize(
    ("finding", "fever"),
    [
        (_present(LOW), FEVER),
        (_present(*MEDIUM_STEPS, start_step=2), FEVER),
        (_present(*MEDIUM_STEPS), replace(FEVER, closed=True)),
        (_present(*MEDIUM_STEPS), replace(FEVER, present=False)),
        (_present(*MEDIUM_STEPS), replace(FEVER, rule_id="TMP-02")),
        (replace(ABSENT, steps=MEDIUM_STEPS), FEVER),
    ],
    ids=["low", "further up already", "fever closed", "fever over", "no fever", "absent"],
)
def test_what_a_fever_does_not_hurry(finding: Finding, fever: Episode) -> None:
    """It stays as it was found."""
    assert advanced(RULES["DLV-01"], finding, _view(fever=fever)) is finding


def test_a_fever_hurries_nothing_where_there_is_no_withdrawal_to_fear() -> None:
    """Warmth is then no early sign of it."""
    morphine = profiles_of(
        {"drugs": [{"name": "morphine", "concentration_ug_per_ml": 10000}], "prescribed_ug_per_day": 1000}
    ).therapy(moment("PT1H"))
    finding = _present(*MEDIUM_STEPS)

    assert morphine.withdrawal is not WithdrawalClass.W3
    assert advanced(RULES["DLV-01"], finding, _view(morphine, fever=FEVER)) is finding


def test_the_rules_that_a_field_concerns_are_those_that_read_it() -> None:
    """By the object, not by its value: a rule that reads nothing that is new finds what it found."""
    fields = PumpState.__struct_fields__
    masks = tuple(1 << fields.index(name) for name in fields)
    before = PumpState(clock=START)
    after = replace(before, boot_id=4, checksum="A")

    assert changed_fields(masks, before, before) == 0
    assert changed_fields(masks, before, after) == 1 << fields.index("boot_id") | 1 << fields.index("checksum")


def _on_motor(rule_id: str, *values: str, follows: tuple[str, ...] = (), **fields: Any) -> Rule:
    """A rule that holds while the motor is one of these, or while one that it follows is open."""

    def condition(view: View, _: Rule) -> Finding:
        if view.state.motor in values or any(view.open_track(one) for one in follows):
            return _present(PriorityStep(Priority.LOW, view.state.motor_at or START))
        return ABSENT

    fields = {"reads": ("motor", "motor_at"), "content_hash": rule_id, **fields}
    return with_(RULE, id=rule_id, condition=condition, operators=(), follows=follows, **fields)


def _fold(*rules: Rule, folded: Folded | None = None) -> Fold:
    return Fold(folded or Folded(), profiles_of({}), RuleBook(rules))


def _said(at: str, seq: int = 0, **fields: Any) -> Received:
    return received_of({"at": at, **fields}, seq)


def test_every_rule_that_a_change_concerns_is_judged_and_what_follows_from_them_too() -> None:
    """The first of the book and the last; one that only follows another; in one round."""
    fold = _fold(
        _on_motor("TST-01", "stalled"),
        _on_motor("TST-02", follows=("TST-01",), reads=()),
        _on_motor("TST-03", "stalled"),
        _on_motor("TST-04", "running"),
        _on_motor("TST-05", "stalled", "running"),
    )

    fold.report(_said("PT0M", motor="stalled"))

    assert list(fold.folded.tracks) == ["TST-01", "TST-02", "TST-03", "TST-05"]


def test_a_single_rule_is_judged_too() -> None:
    """By the first report, and under other rules by none."""
    fold = _fold(_on_motor("TST-01", "stalled"))
    fold.report(_said("PT0M", motor="stalled"))
    later = _fold(_on_motor("TST-02", "stalled"), folded=fold.folded)
    later.rejudge()
    nothing = _fold(_on_motor("TST-01", "stalled"))
    nothing.rejudge()

    assert list(fold.folded.tracks) == ["TST-01"]
    assert later.folded.tracks["TST-02"].start == START
    assert later.folded.state == fold.folded.state
    assert nothing.folded == Folded()


def test_all_rules_that_remember_something_new_are_judged() -> None:
    """Two listen to the same alarm."""
    book = [
        typed_rule(f"count: {{alarm: low_reservoir, at_least: {least}, within: P1D}}", rule_id=f"TST-0{least}")
        for least in (1, 2, 3)
    ]
    fold = _fold(*book)

    for seq, alarms in enumerate((["low_reservoir"], [], ["low_reservoir"])):
        fold.report(_said(f"PT{15 * seq}M", seq, alarms=alarms))

    starts = {rule_id: track.start for rule_id, track in fold.folded.tracks.items()}
    assert starts == {"TST-01": START, "TST-02": moment("PT30M")}
    assert len(fold.folded.memory) == 3


def test_what_was_folded_before_stays_as_it_was() -> None:
    """A world is a value: a report makes another one."""
    rule = typed_rule("count: {alarm: low_reservoir, at_least: 2, within: P1D}")
    fold = _fold(rule)
    fold.report(_said("PT0M", alarms=["low_reservoir"]))
    before = fold.folded
    remembered = dict(before.memory)

    fold.report(_said("PT15M", 1, alarms=[]))
    fold.report(_said("PT30M", 2, alarms=["low_reservoir"]))

    assert before.memory == remembered
    assert fold.folded.memory != remembered


def test_what_a_rule_remembered_goes_with_the_rule() -> None:
    """And stays where only what is known of the pump changed."""
    kept = typed_rule("count: {alarm: low_reservoir, at_least: 2, within: P1D}", rule_id="TST-01")
    gone = typed_rule("count: {alarm: low_reservoir, at_least: 3, within: P1D}", rule_id="TST-02")
    fold = _fold(kept, gone)
    fold.report(_said("PT0M", alarms=["low_reservoir"]))
    (key,) = (operator.key for operator in kept.operators)

    other = Fold(fold.folded, profiles_of({"valid_from": "2021-01-01"}), fold.rules)
    other.report(_said("PT15M", 1, motor="running"))
    less = _fold(kept, folded=fold.folded)
    less.report(_said("PT15M", 1, motor="running"))

    assert other.folded.judged_under != fold.folded.judged_under
    assert other.folded.memory == fold.folded.memory
    assert less.folded.memory == {key: fold.folded.memory[key]}


def test_a_rule_that_is_gone_wants_no_look_any_more() -> None:
    """What the others want stays."""

    def waiting(rule_id: str, hours: int) -> Rule:
        wake_at = START + hours * HOUR
        return with_(
            _on_motor(rule_id),
            condition=lambda view, _: replace(ABSENT, wake_at=wake_at if view.at < wake_at else None),
        )

    first, second = waiting("TST-01", 5), waiting("TST-02", 9)
    fold = _fold(first, second)
    fold.report(_said("PT0M", reservoir_estimated_ml=9.0))
    less = _fold(second, folded=fold.folded)
    less.report(_said("PT1M", 1, reservoir_estimated_ml=9.0))

    assert (fold.folded.wakes, fold.folded.wake_at) == (
        {"TST-01": START + 5 * HOUR, "TST-02": START + 9 * HOUR},
        START + 5 * HOUR,
    )
    assert (less.folded.wakes, less.folded.wake_at) == ({"TST-02": START + 9 * HOUR}, START + 9 * HOUR)
    fold.until(START + 5 * HOUR - SECOND)
    early = fold.folded.state.clock
    fold.until(START + 5 * HOUR)
    assert (early, fold.folded.state.clock) == (START, START + 5 * HOUR)
    assert fold.folded.wakes == {"TST-02": START + 9 * HOUR}


def test_a_resolution_lets_time_pass_first() -> None:
    """What it closes is what the rules say by then; one of another rule's alert, or a second one, closes nothing."""

    def due(view: View, _: Rule) -> Finding:
        return _again(START + HOUR) if view.at >= START + HOUR else replace(ABSENT, wake_at=START + HOUR)

    fold = _fold(with_(_on_motor("TST-01"), condition=due))
    fold.report(_said("PT0M", motor="running"))
    fold.resolve(Resolution("TST-02", START + 2 * HOUR, "ada"))
    by_time = fold.folded.tracks["TST-01"]
    fold.resolve(Resolution("TST-01", START + 3 * HOUR, "ada"))
    closed = fold.folded.tracks["TST-01"]
    fold.resolve(Resolution("TST-01", START + 4 * HOUR, "ben"))

    assert (by_time.closed, closed.closed, closed.muted) == (False, True, True)
    assert (closed.resolved_by, closed.ended_at) == ("ada", START + 3 * HOUR)
    assert fold.folded.tracks["TST-01"] == closed


@pytest.mark.parametrize(
    ("fields", "closes"),
    [({"latching": None}, True), ({"latching": Priority.MEDIUM}, True), ({"latching": Priority.LOW}, False)],
)
def test_a_latched_episode_that_goes_on_stays_open_whoever_closed_it(fields: dict[str, Any], closes: bool) -> None:
    """It would not have been closed, had it been known; where it is a fact of the past it is closed."""
    fold = _fold(_on_motor("TST-01", "stalled", **fields))
    fold.report(_said("PT0M", motor="stalled"))
    word = Resolution("TST-01", START + HOUR, "ada")
    fact = replace(fold.folded.tracks["TST-01"], resolvable_from=START + HOUR)
    past = _fold(*fold.rules, folded=replace(fold.folded, tracks={"TST-01": fact}))

    fold.resolve(word)
    past.resolve(word)

    assert fold.folded.tracks["TST-01"].closed is closes
    assert past.folded.tracks["TST-01"].closed
