"""What a typed condition finds of its parts: steps, the way back, and the moment at which it must look again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from streams.domain.alert import Episode, Priority, PriorityStep
from streams.domain.memory import Operator
from streams.domain.profile import STRICTEST, Therapy, therapy_of
from streams.domain.rule import NOT_EVALUABLE, Finding, Presence, Rule, View
from streams.domain.typed import Escalation, Modifiers, TypedCondition
from streams.domain.typed.condition import NO_MODIFIERS
from streams.domain.typed.truth import UNKNOWN, Truth
from streams.domain.world import PumpState
from streams.rehearsal import START, profiles_of
from tests.domain.typed import typed_rule

LOW, MEDIUM, HIGH = Priority.LOW, Priority.MEDIUM, Priority.HIGH
RULE: Rule = typed_rule("alarm: memory_error")
[MORPHINE] = profiles_of(
    {"drugs": [{"name": "morphine", "concentration_ug_per_ml": 10_000.0}], "prescribed_ug_per_day": 1_000.0}
).versions
[ZICONOTIDE] = profiles_of(
    {"drugs": [{"name": "ziconotide", "concentration_ug_per_ml": 25.0}], "prescribed_ug_per_day": 6.0}
).versions


@dataclass
class Known:
    """A part that finds what it was made with."""

    truth: Truth
    said: Mapping[str, str] = field(default_factory=dict)
    operators: tuple[Operator, ...] = ()
    reads: frozenset[str] = frozenset()
    follows: frozenset[str] = frozenset()
    names: frozenset[str] | None = frozenset()

    def judge(self, _: View) -> Truth:
        """Always the same."""
        return self.truth

    def values(self, _: View) -> Mapping[str, str]:
        """Always the same."""
        return self.said


def at(minutes: float) -> datetime:
    """So many minutes after the start."""
    return START + timedelta(minutes=minutes)


def present(since: float, wake_at: float | None = None) -> Known:
    """A part that holds."""
    return Known(Truth(Presence.PRESENT, at(since), None if wake_at is None else at(wake_at)))


def absent(since: float, wake_at: float | None = None) -> Known:
    """A part that does not hold."""
    return Known(Truth(Presence.ABSENT, at(since), None if wake_at is None else at(wake_at)))


def unknown(wake_at: float) -> Known:
    """A part of which nobody knows, until then."""
    return Known(Truth(Presence.NOT_EVALUABLE, None, at(wake_at)))


def view(
    minutes: float = 60,
    *,
    reported: float | None = 60,
    opened: float | None = None,
    rule_id: str = RULE.id,
    therapy: Therapy = STRICTEST,
) -> View:
    """The pump at a moment: when it reported last, and since when the rule's alert is open."""
    tracks = {} if opened is None else {rule_id: Episode(rule_id, at(opened), (PriorityStep(LOW, at(opened)),))}
    state = PumpState(reported_at=None if reported is None else at(reported))
    return View(state, therapy, tracks, at(minutes))


def steps(part: Known, *escalations: tuple[Priority, Known], priority: Priority = LOW) -> Sequence[PriorityStep]:
    """The steps that are reached."""
    climbing = [Escalation(step, NO_MODIFIERS, when) for step, when in escalations]
    return TypedCondition(part, priority, escalations=climbing)(view(), RULE).steps


def test_what_holds_opens_with_its_own_time_and_words() -> None:
    """``since`` may be said by every message, beside what the part says."""
    part = Known(Truth(Presence.PRESENT, at(5), at(90)), {"rate": "0.5"})

    found = TypedCondition(part, MEDIUM)(view(), RULE)

    assert found == Finding(
        Presence.PRESENT,
        (PriorityStep(MEDIUM, at(5)),),
        wake_at=at(90),
        values={"since": "2026-11-02 00:05 UTC", "rate": "0.5"},
    )


def test_what_ended_ended_when_it_did() -> None:
    """Judged at the very time of the report that shows it."""
    assert TypedCondition(absent(40, 90), LOW)(view(60, reported=60), RULE) == Finding(
        Presence.ABSENT, ended_at=at(40), wake_at=at(90)
    )


@pytest.mark.parametrize("reported", [None, 59.9])
def test_after_the_last_report_nothing_ends(reported: float | None) -> None:
    """Time alone shows no end, but it is known when to look again."""
    assert TypedCondition(absent(40, 90), LOW)(view(60, reported=reported), RULE) == Finding(
        Presence.NOT_EVALUABLE, wake_at=at(90)
    )


def test_what_nobody_knows_is_looked_at_again() -> None:
    """When time alone may tell."""
    condition = TypedCondition(unknown(90), LOW)

    assert condition(view(), RULE) == Finding(Presence.NOT_EVALUABLE, wake_at=at(90))
    assert condition(view(opened=10), RULE) == Finding(Presence.NOT_EVALUABLE, wake_at=at(90))
    assert TypedCondition(Known(UNKNOWN), LOW)(view(), RULE) == NOT_EVALUABLE
    # Neither an end nor a beginning of which nobody knows the time is one.
    assert TypedCondition(Known(Truth(Presence.ABSENT)), LOW)(view(), RULE) == NOT_EVALUABLE
    assert TypedCondition(Known(Truth(Presence.PRESENT)), LOW)(view(), RULE) == NOT_EVALUABLE


@pytest.mark.parametrize("clear", [absent(50, 80), unknown(80)])
def test_an_open_alert_that_waits_for_its_end_stays_from_its_start(clear: Known) -> None:
    """Whatever the part itself says; the next look is when either changes."""
    condition = TypedCondition(absent(40, 90), LOW, clear=clear)

    found = condition(view(opened=10), RULE)

    assert (found.presence, found.steps, found.wake_at) == (Presence.PRESENT, (PriorityStep(LOW, at(10)),), at(80))
    assert condition(view(), RULE) == Finding(Presence.ABSENT, ended_at=at(40), wake_at=at(90))


@pytest.mark.parametrize(("part", "clear", "ended"), [(40, 50, 50), (50, 40, 50)])
def test_an_open_alert_ends_when_the_later_of_both_is_so(part: float, clear: float, ended: float) -> None:
    """It is gone, and what was waited for came."""
    condition = TypedCondition(absent(part, 90), LOW, clear=present(clear, 95))

    assert condition(view(opened=10), RULE) == Finding(Presence.ABSENT, ended_at=at(ended), wake_at=at(90))


def test_an_alert_of_another_rule_waits_for_nothing_here() -> None:
    """The open episode must be this rule's own."""
    condition = TypedCondition(absent(40), LOW, clear=absent(50))

    assert condition(view(opened=10, rule_id="TST-99"), RULE).presence is Presence.ABSENT
    assert condition(view(opened=10), RULE).presence is Presence.PRESENT


@pytest.mark.parametrize(
    ("escalations", "expected"),
    [
        ([(HIGH, present(20))], [(LOW, 10), (HIGH, 20)]),
        # A step's own condition held before the alert's did.
        ([(HIGH, present(5))], [(HIGH, 10)]),
        ([(HIGH, present(10))], [(HIGH, 10)]),
        ([(HIGH, absent(20)), (MEDIUM, unknown(90))], [(LOW, 10)]),
        ([(MEDIUM, present(20)), (HIGH, present(30))], [(LOW, 10), (MEDIUM, 20), (HIGH, 30)]),
        # The lower one comes later: it is none.
        ([(HIGH, present(20)), (MEDIUM, present(30))], [(LOW, 10), (HIGH, 20)]),
        ([(HIGH, present(20)), (MEDIUM, present(20))], [(LOW, 10), (HIGH, 20)]),
        # The lower one comes first although it is listed last.
        ([(HIGH, present(30)), (MEDIUM, present(20))], [(LOW, 10), (MEDIUM, 20), (HIGH, 30)]),
        ([(MEDIUM, present(30)), (HIGH, present(20))], [(LOW, 10), (HIGH, 20)]),
        ([(MEDIUM, present(20)), (HIGH, present(20))], [(LOW, 10), (HIGH, 20)]),
        # The same priority twice is reached when it is reached first.
        ([(MEDIUM, present(20)), (MEDIUM, present(30))], [(LOW, 10), (MEDIUM, 20)]),
        ([(MEDIUM, present(30)), (MEDIUM, present(20))], [(LOW, 10), (MEDIUM, 20)]),
        ([(LOW, present(30))], [(LOW, 10)]),
    ],
)
def test_priorities_and_times_of_steps_only_rise(
    escalations: list[tuple[Priority, Known]], expected: list[tuple[Priority, float]]
) -> None:
    """In whatever order a file lists them."""
    assert list(steps(present(10), *escalations)) == [PriorityStep(priority, at(since)) for priority, since in expected]


def test_a_step_that_time_will_bring_is_looked_at_in_time() -> None:
    """Its own next change is one of the alert's."""
    condition = TypedCondition(present(10, 90), LOW, escalations=[Escalation(HIGH, NO_MODIFIERS, unknown(70))])

    assert condition(view(), RULE).wake_at == at(70)


@pytest.mark.parametrize(
    ("therapy", "expected"),
    [(STRICTEST, MEDIUM), (therapy_of(MORPHINE), LOW), (therapy_of(ZICONOTIDE), Priority.INFO)],
)
def test_each_step_has_priorities_for_some_patients(therapy: Therapy, expected: Priority) -> None:
    """``w3_or_high_risk`` and ``w1`` for the first step as for the others; those between keep the rule's own."""
    some = Modifiers(w3_or_high_risk=MEDIUM, w1=Priority.INFO)
    first = TypedCondition(present(10), LOW, some)
    # Lower than its own priority a step can only be where the first one is lower still.
    later = TypedCondition(present(10), Priority.INFO, escalations=[Escalation(LOW, some, present(20))])

    assert [step.priority for step in first(view(therapy=therapy), RULE).steps] == [expected]
    assert later(view(therapy=therapy), RULE).steps[-1].priority == expected


def test_a_modifier_that_is_left_out_changes_nothing() -> None:
    """Each of the two may be."""
    strict, mild = STRICTEST, therapy_of(ZICONOTIDE)

    assert Modifiers(w1=Priority.INFO).applied(LOW, strict) == LOW
    assert Modifiers(w3_or_high_risk=HIGH).applied(LOW, mild) == LOW
    assert NO_MODIFIERS.applied(LOW, strict) == LOW


def test_a_condition_listens_to_all_of_its_parts() -> None:
    """What opens it, what raises it and what ends it; names are those of what opens it."""
    leaves = [
        leaf
        for tree in ("alarm: memory_error", "alarm: low_reservoir", "alarm: battery_reset")
        for leaf in typed_rule(tree).operators
    ]
    opens, raises, ends = (
        Known(UNKNOWN, operators=(leaf,), reads=frozenset({name}), follows=frozenset({name.upper()}))
        for leaf, name in zip(leaves, ("b", "c", "a"), strict=True)
    )
    opens.names = frozenset({"rate"})

    condition = TypedCondition(opens, LOW, NO_MODIFIERS, [Escalation(HIGH, NO_MODIFIERS, raises)], ends)

    assert condition.operators == tuple(leaves)
    assert condition.reads == ("a", "b", "c")
    assert condition.follows == ("A", "B", "C")
    assert condition.names == frozenset({"rate", "since"})
    assert TypedCondition(Known(UNKNOWN, names=None), LOW).names is None
