"""The path of one report, and of time: what is late, what people close, and what the clock alone may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from streams.domain import pipeline
from streams.domain.alert import AlertEvent, AlertEventKind, Priority, Reason, publish
from streams.domain.evaluation import MAX_DEADLINES, Fold
from streams.domain.observing.contacts import Notice
from streams.domain.observing.scans import ScanLog
from streams.domain.pipeline import Disposition, ResolveRefused, Step, Steps
from streams.domain.profile import ProfileHistory
from streams.domain.rule import Finding, Presence, RuleBook, View
from streams.domain.silence import Hearing
from streams.domain.telemetry import Received
from streams.domain.world import LATENESS, MAX_WINDOW_REPORTS, Folded, PumpState, Resolution, World, snapshot
from streams.rehearsal import START, moment, profiles_of, received_of
from tests.shipped import RULES

BACLOFEN = profiles_of({})
MORPHINE = profiles_of(
    {"drugs": [{"name": "morphine", "concentration_ug_per_ml": 10000}], "prescribed_ug_per_day": 1000}
)
MINUTE = timedelta(minutes=1)


class Pump:
    """A pump's world and what was published of it."""

    def __init__(self, profiles: ProfileHistory = BACLOFEN, rules: RuleBook = RULES) -> None:
        self.profiles, self.rules, self.world = profiles, rules, pipeline.new_world("EX-1")
        self.events: list[AlertEvent] = []

    def says(self, seq: int, at: str, *, arrives: str | None = None, boot_id: int = 0, **fields: Any) -> Step:
        """Take a report."""
        received = received_of({"at": at, "arrives": arrives or at, "boot_id": boot_id, **fields}, seq)
        return self._took(
            pipeline.step(self.world, received, self.profiles, self.rules, received.received_at + MINUTE / 60)
        )

    def waits(self, until: str) -> Step:
        """Look at ``until``."""
        now = moment(until)
        return self._took(pipeline.tick(self.world, self.profiles, self.rules, now, Hearing(since=START, until=now)))

    def resolves(self, rule_id: str, at: str) -> Step | ResolveRefused:
        """A person closes the rule's alert."""
        alert_id = next(record.alert_id for record in self.world.ledger if record.rule_id == rule_id)
        done = pipeline.resolve(self.world, self.profiles, self.rules, alert_id, moment(at), "ada")
        return self._took(done) if isinstance(done, Step) else done

    def told(self, rule_id: str) -> list[AlertEventKind]:
        """What was published of a rule."""
        return [event.kind for event in self.events if event.alert.rule_id == rule_id]

    def _took(self, step: Step) -> Step:
        self.world = step.world
        self.events.extend(step.events)
        return step


def _kinds(events: Iterable[AlertEvent]) -> list[AlertEventKind]:
    return [event.kind for event in events]


def _with_a_gap_given_up_and_another() -> Pump:
    """Report 1 was waited for in vain, and 3 is missing since the newest one."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    pump.says(2, "PT30M", reservoir_estimated_ml=12.0)
    pump.waits("PT1H40M")
    pump.says(4, "PT1H40M", reservoir_estimated_ml=11.9)
    return pump


def test_a_report_from_the_future_is_set_aside() -> None:
    """More than five minutes ahead of its arrival it says nothing of the pump; exactly five minutes is normal."""
    pump = Pump()

    ahead = pump.says(0, "PT5M1S", arrives="PT0S", motor="running")
    untouched = pump.world.head.state
    normal = pump.says(1, "PT6M", arrives="PT1M", motor="running")

    assert ahead.disposition is Disposition.QUARANTINED_FUTURE
    assert untouched == PumpState()
    assert normal.disposition is Disposition.APPLIED
    assert pump.world.head.state.confirmed_at == moment("PT6M")


def test_a_stall_that_arrives_after_the_bound_is_found_late() -> None:
    """Too late to change history, but still actionable: an alert opens and says that it was found late."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    pump.says(2, "PT30M", reservoir_estimated_ml=12.0)
    pump.waits("PT1H40M")

    step = pump.says(1, "PT15M", arrives="PT1H41M", alarms=["motor_stall"], motor="stalled")

    assert step.disposition is Disposition.LATE
    opened = next(event for event in step.events if event.alert.rule_id == "DLV-01")
    assert opened.alert.found_late
    assert opened.effective_at == moment("PT15M")


def test_what_is_found_late_joins_an_open_window() -> None:
    """A newer gap is still open while the older report comes too late; both count."""
    pump = _with_a_gap_given_up_and_another()

    late = pump.says(1, "PT15M", arrives="PT1H41M", motor="stalled")
    filled = pump.says(3, "PT1H", arrives="PT1H42M", motor="running")

    assert (late.disposition, filled.disposition) == (Disposition.LATE, Disposition.APPLIED)
    assert pump.told("DLV-01") == [AlertEventKind.OPENED, AlertEventKind.CLEARED]


def test_an_old_reading_that_comes_late_clears_nothing() -> None:
    """A genuine reading from before the stall is no evidence of recovery."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    pump.says(2, "PT30M", motor="stalled")
    pump.waits("PT1H40M")

    step = pump.says(1, "PT15M", arrives="PT1H41M", motor="running")

    assert step.disposition is Disposition.LATE
    assert pump.told("DLV-01") == [AlertEventKind.OPENED]


def test_clearing_waits_while_a_report_is_missing() -> None:
    """The alarm fires at once; the good news waits for the hole before it, or for an hour."""
    pump = Pump()
    pump.says(0, "PT0M", motor="stalled")
    pump.says(2, "PT10M", motor="running")

    held = pump.told("DLV-01")
    pump.waits("PT1H10M2S")

    assert held == [AlertEventKind.OPENED]
    assert pump.told("DLV-01") == [AlertEventKind.OPENED, AlertEventKind.CLEARED]


def test_a_latched_alert_closes_by_a_person_after_its_condition_ended() -> None:
    """Until then it is refused, and says why; a second time it is not open any more."""
    pump = Pump()
    pump.says(0, "PT0M", motor="stalled")

    refused = pump.resolves("DLV-01", "PT5M")
    pump.says(1, "PT10M", motor="running")
    done = pump.resolves("DLV-01", "PT15M")
    again = pump.resolves("DLV-01", "PT16M")

    assert isinstance(refused, ResolveRefused)
    assert "still holds" in refused.reason
    assert isinstance(done, Step)
    assert _kinds(done.events) == [AlertEventKind.RESOLVED]
    assert done.events[0].detail == {"resolved_by": "ada"}
    assert isinstance(again, ResolveRefused)
    assert "not open" in again.reason


def test_a_refusal_says_why_in_words() -> None:
    """An alert that nobody knows, one that is closed, and one whose condition holds."""
    pump = Pump()
    pump.says(0, "PT0M", motor="stalled")
    unknown = pipeline.resolve(pump.world, BACLOFEN, RULES, UUID(int=1), moment("PT5M"), "ada")
    holds = pump.resolves("DLV-01", "PT5M")
    pump.says(1, "PT10M", motor="running")
    pump.resolves("DLV-01", "PT15M")

    gone = ResolveRefused("the alert is not open any more")
    assert unknown == gone
    assert pump.resolves("DLV-01", "PT16M") == gone
    assert holds == ResolveRefused("the condition still holds; it can be confirmed, and resolved when it has ended")


@pytest.mark.parametrize("boot_id", [0, 2])
def test_a_person_s_word_stands_after_the_newest_report_that_was_known(boot_id: int) -> None:
    """It waits with the reports while one of them is missing."""
    pump = Pump()
    pump.says(0, "PT0M", motor="stalled", boot_id=boot_id)
    pump.says(1, "PT5M", motor="running", boot_id=boot_id)
    pump.says(3, "PT20M", motor="running", boot_id=boot_id)

    pump.resolves("DLV-01", "PT25M")

    assert pump.world.resolutions == (Resolution("DLV-01", moment("PT25M"), "ada", boot_id, 3),)


def test_what_is_resolved_is_told_at_that_time_with_what_time_brought() -> None:
    """A deadline that passed since the last look is told with it, and the next look is planned."""
    pump = Pump()
    pump.says(0, "PT0M", motor="stalled")
    pump.says(1, "PT1M", motor="running")

    done = pump.resolves("DLV-01", "PT2H")

    assert isinstance(done, Step)
    [resolved] = [event for event in done.events if event.kind is AlertEventKind.RESOLVED]
    assert (resolved.effective_at, resolved.alert.effective_to) == (moment("PT1M"), moment("PT1M"))
    assert (resolved.reason, resolved.alert.reason) == (Reason.RESOLVED_BY_PERSON, Reason.RESOLVED_BY_PERSON)
    assert done.world.next_wake_at is not None
    assert done.world.next_wake_at > moment("PT2H")


def test_what_clears_by_itself_may_be_closed_although_it_holds() -> None:
    """It is closed then, and says that it goes on."""
    pump = Pump()
    for seq in range(3):
        pump.says(seq, f"PT{15 * seq}M", motor="running", reservoir_estimated_ml=3.9)

    done = pump.resolves("RSV-01", "PT31M")

    assert isinstance(done, Step)
    [record] = [record for record in done.world.ledger if record.rule_id == "RSV-01"]
    assert (record.open, record.active, record.latched) == (False, True, False)


def test_an_alert_of_a_rule_that_left_the_book_may_be_closed_by_a_person() -> None:
    """Nobody can say any more whether it holds."""
    pump = Pump()
    pump.says(0, "PT0M", motor="stalled")
    pump.rules = RuleBook(tuple(rule for rule in RULES if rule.id != "DLV-01"))

    assert isinstance(pump.resolves("DLV-01", "PT5M"), Step)


def test_rules_that_changed_judge_a_pump_that_says_nothing_more() -> None:
    """The next look does, for the time at which it was so; once."""
    pump = Pump(rules=RuleBook(tuple(rule for rule in RULES if rule.id != "DLV-01")))
    pump.says(0, "PT0M", motor="stalled")
    without = pump.told("DLV-01")
    pump.rules = RULES

    step = pump.waits("PT10M")

    assert without == []
    [opened] = [event for event in step.events if event.alert.rule_id == "DLV-01"]
    assert (opened.kind, opened.effective_at) == (AlertEventKind.OPENED, START)
    assert step.world.base.judged_under.startswith(RULES.key)
    assert pump.waits("PT11M").events == ()


def test_rules_that_changed_judge_what_waits_in_the_window_too() -> None:
    """The stall lies behind a gap."""
    pump = Pump(rules=RuleBook(tuple(rule for rule in RULES if rule.id != "DLV-01")))
    pump.says(0, "PT0M", motor="running")
    pump.says(2, "PT10M", motor="stalled")
    pump.rules = RULES

    step = pump.waits("PT11M")

    assert [event.effective_at for event in step.events if event.alert.rule_id == "DLV-01"] == [moment("PT10M")]
    assert step.world.head.judged_under.startswith(RULES.key)


def test_a_service_that_lags_behind_gives_up_no_gap_before_it_heard_that_far() -> None:
    """What it has not heard yet may bring the missing report."""
    pump = Pump()
    pump.says(0, "PT0M", motor="stalled")
    pump.says(2, "PT10M", motor="running")
    now = moment("PT3H")

    lags = pipeline.tick(pump.world, BACLOFEN, RULES, now, Hearing(since=START, until=moment("PT1H10M")))
    hears = pipeline.tick(pump.world, BACLOFEN, RULES, now, Hearing(since=START, until=moment("PT1H10M1S")))

    assert lags.world.arrivals.gaps
    assert {event.alert.rule_id for event in lags.events}.isdisjoint({"DLV-01", "COM-02"})
    assert not hears.world.arrivals.gaps
    assert {event.alert.rule_id for event in hears.events} >= {"DLV-01", "COM-02"}


def test_what_could_be_heard_never_lies_in_the_future() -> None:
    """A look judges no silence beyond its own time."""
    pump = Pump(MORPHINE)
    pump.says(0, "PT0M", motor="running")

    step = pipeline.tick(pump.world, MORPHINE, RULES, moment("PT44M"), Hearing(since=START, until=moment("PT9H")))

    assert step.events == ()
    assert step.world.next_wake_at == moment("PT45M")


def test_a_report_handed_in_later_makes_no_pump_heard_earlier() -> None:
    """What counts is the last arrival, in whatever order a worker gets them."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    pump.says(2, "PT30M", motor="running")
    pump.says(1, "PT15M", motor="running")

    assert pump.world.last_received_at == moment("PT30M")


def test_a_conflict_is_noted_at_its_arrival_and_changes_nothing_else() -> None:
    """It takes no effect; only a critical alarm in it is noted too."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    before = pump.world
    at = moment("PT20M")
    harmless = received_of({"at": "PT0M", "arrives": "PT20M", "motor": "stalled", "boot_id": 0}, 0)
    critical = received_of({"at": "PT0M", "arrives": "PT20M", "alarms": ["motor_stall"], "boot_id": 0}, 0)

    noted = pipeline.note_conflict(before, harmless, BACLOFEN, RULES, at + MINUTE)
    alarming = pipeline.note_conflict(before, critical, BACLOFEN, RULES, at + MINUTE)

    assert (noted.disposition, alarming.disposition) == (Disposition.DUPLICATE, Disposition.DUPLICATE)
    log, worse = noted.world.head.state.contacts, alarming.world.head.state.contacts
    assert (log.conflict, log.conflicting_alarm) == (Notice(at, at), None)
    assert (worse.conflict, worse.conflicting_alarm) == (Notice(at, at), Notice(at, at))
    state = noted.world.head.state
    assert [name for name in state.__struct_fields__ if getattr(state, name) != getattr(before.head.state, name)] == [
        "contacts"
    ]
    assert (noted.world.last_received_at, noted.world.arrivals) == (before.last_received_at, before.arrivals)
    again = pipeline.note_conflict(
        noted.world, replace(critical, received_at=at + MINUTE), BACLOFEN, RULES, at + MINUTE
    )
    contacts = again.world.head.state.contacts
    assert contacts.conflict == Notice(at, at + MINUTE)
    assert contacts.conflicting_alarm == Notice(at + MINUTE, at + MINUTE)


def test_a_conflict_about_a_silent_pump_is_told_with_what_time_brought() -> None:
    """The deadline that passed meanwhile is told as well, and when to look again."""
    pump = Pump()
    pump.says(0, "PT0M", motor="unknown")
    other = received_of({"at": "PT0M", "arrives": "PT2H", "motor": "stalled", "boot_id": 0}, 0)

    step = pipeline.note_conflict(pump.world, other, BACLOFEN, RULES, moment("PT2H"))

    assert {event.alert.rule_id for event in step.events} == {"COM-02", "DLV-09"}
    assert step.world.next_wake_at is not None
    assert step.world.next_wake_at > moment("PT2H")


def test_an_alert_closed_early_stays_quiet_until_it_worsens() -> None:
    """RSV-01 on W3: closed by a person as MEDIUM, it comes back only as HIGH."""
    pump = Pump()
    for seq in range(3):
        pump.says(seq, f"PT{15 * seq}M", motor="running", reservoir_estimated_ml=3.9, flow_programmed_ml_per_day=0.5)
    pump.resolves("RSV-01", "PT31M")
    pump.says(3, "PT45M", motor="running", reservoir_estimated_ml=3.8, flow_programmed_ml_per_day=0.5)
    quiet = pump.told("RSV-01")

    pump.says(4, "PT1H", motor="running", reservoir_estimated_ml=0.9, flow_programmed_ml_per_day=0.5)

    assert quiet == [AlertEventKind.OPENED, AlertEventKind.RESOLVED]
    assert pump.told("RSV-01")[2:] == [AlertEventKind.RECURRED, AlertEventKind.ESCALATED]


def test_what_a_person_closed_may_open_again_after_it_truly_ended() -> None:
    """The mute ends with the condition."""
    pump = Pump()
    low: dict[str, Any] = {"motor": "running", "reservoir_estimated_ml": 3.9}
    for seq in range(3):
        pump.says(seq, f"PT{15 * seq}M", **low)
    pump.resolves("RSV-01", "PT31M")
    pump.says(3, "PT45M", events=[{"type": "refill", "aspirated_ml": 3.9, "injected_ml": 20}], motor="running")
    for seq in range(4, 8):
        pump.says(seq, f"P{seq}D", **low)

    assert pump.told("RSV-01") == [
        AlertEventKind.OPENED,
        AlertEventKind.RESOLVED,
        AlertEventKind.CLEARED,
        AlertEventKind.OPENED,
    ]


def test_a_resolution_inside_an_open_gap_survives_the_refold() -> None:
    """What a person decided is an input of its own time; a late report neither loses nor repeats it."""
    pump = Pump()
    pump.says(0, "PT0M", motor="stalled")
    pump.says(1, "PT5M", motor="running")
    pump.says(3, "PT20M", motor="running")
    resolved = pump.resolves("DLV-01", "PT25M")

    pump.says(4, "PT30M", motor="running")
    pump.says(2, "PT10M", arrives="PT31M", motor="running")

    assert isinstance(resolved, Step)
    assert pump.told("DLV-01") == [AlertEventKind.OPENED, AlertEventKind.CLEARED, AlertEventKind.RESOLVED]


def test_a_report_from_before_a_resolution_is_folded_before_it() -> None:
    """The pump's old news arrives in order after a person closed the alert: the decision stays the later one."""
    pump = Pump()
    pump.says(0, "PT0M", motor="stalled")
    pump.says(1, "PT5M", motor="running")
    pump.says(3, "PT20M", motor="running")
    pump.resolves("DLV-01", "PT40M")

    pump.says(4, "PT30M", arrives="PT41M", motor="stalled")

    last = [event for event in pump.events if event.alert.rule_id == "DLV-01"][-1]
    assert last.alert.open
    assert last.alert.active


def test_silence_that_a_person_closed_worsens_as_news() -> None:
    """COM-01 closed as INFO is quiet until the silence is long enough for LOW."""
    pump = Pump(MORPHINE)
    pump.says(0, "PT0M", motor="running", boot_id=0)
    pump.waits("PT46M")
    pump.resolves("COM-01", "PT47M")
    pump.waits("PT2H")
    quiet = pump.told("COM-01")

    pump.waits("PT4H1M")
    pump.says(1, "PT4H2M", motor="running")

    assert quiet == [AlertEventKind.OPENED, AlertEventKind.RESOLVED]
    assert pump.told("COM-01")[-1] is AlertEventKind.CLEARED


def test_a_window_over_its_cap_is_folded_and_goes_on() -> None:
    """Memory per pump is bounded: what lies under the cap joins the base although a gap is open."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    for seq in range(2, MAX_WINDOW_REPORTS + 5):
        pump.says(seq, f"PT{seq}S", reservoir_estimated_ml=12.0)

    assert len(pump.world.window) <= MAX_WINDOW_REPORTS
    assert pump.world.arrivals.gaps


def test_a_first_contact_keeps_the_door_open_for_an_hour() -> None:
    """What a pump said before the first report we saw may still be on its way."""
    pump = Pump()
    pump.says(5, "PT0M", motor="running", boot_id=2)
    waiting = len(pump.world.window)

    pump.says(6, "PT1H1M", motor="running", boot_id=2)

    assert waiting == 1
    assert pump.world.window == ()
    assert pump.world.head.state.boot_id == 2


def test_a_tick_before_the_first_report_does_nothing() -> None:
    """A pump that was never heard cannot fall silent."""
    pump = Pump()

    step = pump.waits("P1D")

    assert step.events == ()
    assert step.world.next_wake_at is None


def test_an_outage_of_ours_is_nobody_s_silence() -> None:
    """I7: silence counts only from when we could hear again."""
    pump = Pump(MORPHINE)
    pump.says(0, "PT0M", motor="running")
    now = moment("PT2H")

    deaf = pipeline.tick(pump.world, MORPHINE, RULES, now, Hearing(since=now - 44 * MINUTE, until=now))
    heard = pipeline.tick(pump.world, MORPHINE, RULES, now, Hearing(since=now - 45 * MINUTE, until=now))

    assert deaf.events == ()
    assert deaf.world.next_wake_at == now + MINUTE
    assert _kinds(heard.events) == [AlertEventKind.OPENED]


def test_a_rule_that_left_the_book_keeps_its_alert_as_told() -> None:
    """Nobody is told that a condition ended because its rule is gone."""
    pump = Pump()
    pump.says(0, "PT0M", motor="stalled")
    pump.waits("PT50M")
    pump.rules = RuleBook(tuple(rule for rule in RULES if rule.id not in ("DLV-01", "COM-01")))

    step = pump.says(1, "PT55M", motor="stalled")

    assert {event.alert.rule_id for event in step.events} <= {"DLV-09"}
    assert any(record.rule_id == "DLV-01" and record.open for record in pump.world.ledger)
    assert pump.rules.get("DLV-01") is None


def test_an_alert_changes_its_parent_as_a_fact_of_its_own() -> None:
    """DLV-09 opens under the stall; once the stall is closed by a person it stands alone again."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    pump.says(1, "PT1M", motor="stalled")
    pump.waits("PT3H1M")
    parent = next(record.parent_id for record in pump.world.ledger if record.rule_id == "DLV-09")
    stall = next(record.alert_id for record in pump.world.ledger if record.rule_id == "DLV-01")

    assert parent == stall


def test_deadlines_that_never_end_are_a_loud_error() -> None:
    """A condition that wakes itself at the same moment for ever would hang a worker."""

    def restless(view: View, _: object) -> Finding:
        return Finding(Presence.ABSENT, wake_at=view.at)

    rule = replace(RULES["MRI-01"], condition=restless)
    fold = Fold(Folded(), BACLOFEN, RuleBook((rule,)))
    fold.report(received_of({"at": "PT0M", "motor": "running"}, 0))

    with pytest.raises(RuntimeError, match="do not end"):
        fold.until(START + MINUTE)
    assert MAX_DEADLINES >= 100


def test_resolving_what_has_no_open_episode_changes_nothing() -> None:
    """A decision about an alert that late evidence took away has nothing to act on."""
    fold = Fold(Folded(), BACLOFEN, RULES)

    fold.resolve(Resolution("DLV-01", START, "ada"))

    assert fold.folded == Folded()


def test_publishing_nothing_about_nothing_is_refused() -> None:
    """One of the two must be there."""
    with pytest.raises(ValueError, match="neither"):
        publish("EX-1", None, None, hold_clearing=False, disproved_by=Reason.LATE_EVIDENCE)


def test_the_summary_shows_what_is_known() -> None:
    """Lists read the summary, not the world."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running", reservoir_estimated_ml=10.0, reservoir_measured_ml=9.5)

    summary = snapshot(pump.world, BACLOFEN)

    assert summary.motor == "running"
    assert summary.reservoir_estimated_ml == 10.0
    assert summary.reservoir_measured_ml == 9.5
    assert summary.last_confirmed_delivery_at == START
    assert summary.predicted_empty_at is not None
    assert summary.predicted_empty_at > START


def test_a_motor_value_left_out_expires_into_unknown() -> None:
    """M.2: other telemetry goes on without a motor value, and after an hour nobody knows."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    pump.says(1, "PT30M", reservoir_estimated_ml=12.0)
    pump.says(2, "PT1H30M", reservoir_estimated_ml=12.0)

    assert pump.world.head.state.motor == "unknown"
    assert pump.world.head.state.armed_since == moment("PT1H")


def test_found_late_news_can_expire_the_motor_value_at_once() -> None:
    """A late report moves no clock; what it says of the motor is as old as it is."""
    pump = Pump()
    pump.says(1, "PT3H", reservoir_estimated_ml=12.0, boot_id=0)
    pump.waits("PT4H1M")

    step = pump.says(0, "PT0M", arrives="PT4H2M", motor="running")

    assert step.disposition is Disposition.LATE
    assert pump.world.head.state.motor == "unknown"


def test_the_gap_wakes_the_pump_when_it_is_given_up() -> None:
    """The next look is planned for the end of the lateness bound."""
    pump = Pump()
    pump.says(0, "PT0M", motor="stalled")
    step = pump.says(2, "PT10M", motor="running")

    assert step.world.next_wake_at is not None
    assert step.world.next_wake_at <= moment("PT10M") + LATENESS + timedelta(seconds=1)


def test_priorities_have_an_order() -> None:
    """IEC 60601-1-8: information, low, medium, high."""
    assert [priority.rank for priority in (Priority.INFO, Priority.LOW, Priority.MEDIUM, Priority.HIGH)] == [0, 1, 2, 3]
    assert isinstance(Pump().world, World)


def test_an_alert_taken_back_and_found_true_again_goes_on_as_the_same_row() -> None:
    """The declared MRI that explained the stall gives way to later interference: the stall is told once, not twice."""
    pump = Pump()
    pump.says(0, "PT0S", motor="stalled", boot_id=1)
    pump.says(0, "PT1M", events=[{"type": "mri_start", "at": "PT0S"}, {"type": "stall_started"}], boot_id=2)
    pump.waits("PT1H2M")
    pump.waits("PT2H30M")
    pump.says(1, "PT3H1M", emi={"level": "mri"}, boot_id=2)

    later = pump.waits("PT3H30M")

    assert [event.kind for event in later.events if event.alert.rule_id == "DLV-01"] == []


def _buffer(*said: dict[str, Any], arrives: str) -> list[Received]:
    """Reports that a gateway hands in together; ``seq`` and ``at`` of each, and what else it says."""
    told = []
    for entry in said:
        fields = {"boot_id": 0, "arrives": arrives, **entry}
        told.append(received_of(fields, fields.pop("seq")))
    return told


def _together(pump: Pump, buffer: list[Received]) -> Steps:
    """Decide a buffer at once, as a worker does with the reports of one record."""
    now = buffer[-1].received_at + MINUTE / 60
    done = pipeline.steps(pump.world, buffer, pump.profiles, pump.rules, now)
    pump.world = done.world
    pump.events.extend(done.events)
    return done


def _told(pump: Pump) -> set[tuple[str, Any, Priority, bool]]:
    return {(row.rule_id, row.effective_from, row.priority, row.active) for row in pump.world.ledger}


def test_a_buffer_sent_newest_first_is_told_once_and_ends_as_any_other() -> None:
    """The stall in its middle opens one alert, which its recovery ends; a repeated report is none of its own."""
    together, single = Pump(), Pump()
    motors = {5: "running", 4: "running", 3: "stalled", 2: "running", 1: "running"}
    said = [{"seq": seq, "at": f"PT{15 * seq}M", "motor": motor} for seq, motor in motors.items()]
    for pump in (together, single):
        pump.says(0, "PT0M", motor="running")
    buffer = _buffer(*said, said[2], arrives="PT1H20M")

    done = _together(together, buffer)
    for received in buffer[:5]:
        single._took(pipeline.step(single.world, received, single.profiles, RULES, received.received_at))
    for pump in (together, single):
        pump.waits("PT3H")

    assert [outcome.disposition for outcome in done.outcomes] == [*[Disposition.APPLIED] * 5, Disposition.DUPLICATE]
    assert together.told("DLV-01") == [AlertEventKind.OPENED, AlertEventKind.CLEARED]
    assert _told(together) == _told(single)
    assert together.world.head == single.world.head


def test_a_buffer_brings_what_is_too_late_with_what_is_not() -> None:
    """One report of it comes after its gap was given up, one fills a gap, and one was there before."""
    pump = _with_a_gap_given_up_and_another()

    done = _together(
        pump,
        _buffer(
            {"seq": 1, "at": "PT15M", "motor": "stalled"},
            {"seq": 3, "at": "PT1H", "events": [{"type": "interrogation", "at": "PT50M", "result": "stalled"}]},
            {"seq": 2, "at": "PT30M", "reservoir_estimated_ml": 12.0},
            {"seq": 1, "at": "PT15M", "motor": "stalled"},
            arrives="PT1H41M",
        ),
    )

    dispositions = [Disposition.LATE, Disposition.APPLIED, Disposition.DUPLICATE, Disposition.DUPLICATE]
    assert [outcome.disposition for outcome in done.outcomes] == dispositions
    assert done.caused_at == moment("PT1H41M")
    assert next(row for row in pump.world.ledger if row.rule_id == "DLV-01").found_late


def test_a_buffer_of_repeats_alone_changes_nothing() -> None:
    """The gateway sends again what it had sent."""
    pump = Pump()
    said = [{"seq": seq, "at": f"PT{15 * seq}M", "motor": "running"} for seq in (0, 2, 3)]
    _together(pump, _buffer(*said, arrives="PT50M"))
    before = pump.world

    done = _together(pump, _buffer(*reversed(said), arrives="PT55M"))

    assert {outcome.disposition for outcome in done.outcomes} == {Disposition.DUPLICATE}
    assert (pump.world, done.events, done.caused_at) == (before, (), None)


def test_a_buffer_releases_what_waited_for_the_clock_to_be_known() -> None:
    """A clock three hours ahead: what was set aside takes effect, once, when enough contacts explain it."""
    pump, waiting, released = Pump(), set[int](), list[int]()
    contacts = [(7, 0), (6, 20), (5, 40), (4, 60), (3, 80), (2, 100), (1, 120), (0, 140)]

    for seq, minutes in contacts:
        buffer = _buffer(
            {"seq": 100 + seq, "at": f"PT{180 + minutes}M", "motor": "running"},
            {"seq": seq, "at": f"PT{180 + minutes - 1}M", "motor": "running"},
            arrives=f"PT{minutes}M",
        )
        done = _together(pump, buffer)
        released.extend(one.report.seq for one in done.released)
        quarantined = [one for one in done.outcomes if one.disposition is Disposition.QUARANTINED_FUTURE]
        waiting.update(one.received.report.seq for one in quarantined)

    assert released
    assert len(set(released)) == len(released)
    assert set(released) <= waiting
    assert {one.report.seq for one in pump.world.head.timing.held} == waiting - set(released)


def test_what_is_settled_is_taken_back_while_a_gap_holds_back_the_rest() -> None:
    """A session explains the change of program two minutes before it; no missing report can change that any more."""
    pump = Pump()
    pump.says(0, "PT0M", program_checksum="A")
    pump.says(5, "PT7M", motor="running")
    pump.says(
        3,
        "PT3M",
        arrives="PT20M",
        clinic=True,
        events=[{"type": "programming_session", "session_id": "S", "phase": "start"}],
    )
    pump.says(1, "PT1M", arrives="PT50M", program_checksum="A")

    pump.says(2, "PT2M", arrives="PT51M", program_checksum="B")

    assert pump.told("THR-02") == [AlertEventKind.OPENED, AlertEventKind.RETRACTED]


def test_what_arrivals_show_ends_no_alert_that_the_next_report_continues() -> None:
    """The clock is three hours ahead: by the pump's time the offset is known minutes after the alarm, not hours."""
    pump = Pump()

    def says(boot_id: int, seq: int, minute: int, arrives: str, **fields: Any) -> None:
        got_at = moment(f"PT{minute}M").isoformat()
        pump.says(
            seq,
            f"PT{180 + minute}M",
            arrives=arrives,
            boot_id=boot_id,
            gateway_time=got_at,
            temperature_celsius=37.0,
            **fields,
        )

    for boot_id in (1, 2):
        says(boot_id, 0, boot_id, "PT3H20M")
    says(5, 0, 5, "PT3H20M", alarms=["motor_stall"])
    says(5, 2, 7, "PT3H20M")
    pump.waits("PT5H")
    says(7, 0, 10, "PT5H5M")

    says(5, 1, 6, "PT5H45M", alarms=[])
    says(4, 0, 4, "PT5H46M")

    assert pump.told("COM-02") == [AlertEventKind.OPENED, AlertEventKind.RECURRED]
    [row] = [row for row in pump.world.ledger if row.rule_id == "COM-02"]
    assert (row.effective_from, row.priority) == (moment("PT5M"), Priority.HIGH)


def test_a_replacement_that_is_told_late_ends_nothing_that_the_new_pump_met() -> None:
    """The new pump stalled, and was scanned while its alarm sounded: it is trapped whoever replaced the old one."""
    pump = Pump()
    pump.says(0, "PT4M", emi={"level": "strong", "count": 1}, program_checksum="A")
    pump.says(1, "PT20M", alarms=["motor_stall"])
    pump.says(2, "PT21M", motor="running", events=[{"type": "mri_start"}])

    pump.says(3, "PT22M", motor="running", events=[{"type": "pump_replaced", "at": "PT2M"}])

    log = pump.world.head.state.scans
    assert log.trapped_at == moment("PT21M")
    assert log.exposure is not None
    assert (log.exposure.start, log.exposure.checksum) == (moment("PT21M"), "A")
    assert log.told_emi
    assert [one.at for one in log.interference] == [moment("PT4M")]
    assert pump.told("DLV-01") == [AlertEventKind.OPENED, AlertEventKind.RETRACTED]
    assert pump.told("MRI-04") == [AlertEventKind.OPENED]


def test_what_the_old_pump_met_says_nothing_of_the_new_one() -> None:
    """Its scan, its program and what sounded were before the replacement, whenever that is told."""
    pump = Pump()
    pump.says(0, "PT20M", alarms=["over_temperature"], emi={"level": "strong", "count": 1}, program_checksum="A")
    pump.says(1, "PT21M", events=[{"type": "mri_start"}, {"type": "mri_scheduled", "for": "P2D"}])
    pump.says(2, "PT22M", motor="running", flow_valve="open")

    pump.says(3, "PT30M", events=[{"type": "pump_replaced", "at": "PT25M"}])

    assert pump.world.head.state.scans == ScanLog()
