"""What each rule says of a pump at a moment, and by which numbers."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from streams.domain.alert import Priority, PriorityStep
from streams.domain.explanation import Explained, explain
from streams.domain.rule import Presence, RuleBook, Variant
from streams.rehearsal import START, moment, profiles_of
from tests.domain.test_pipeline import BACLOFEN, Pump
from tests.domain.typed import typed_rule
from tests.shipped import RULES

HOUR = timedelta(hours=1)


def _explained(pump: Pump, at: datetime, heard_at: datetime | None = None) -> dict[str, Explained]:
    return {one.rule_id: one for one in explain(pump.world, BACLOFEN, RULES, at, heard_at)}


def _stalled() -> Pump:
    pump = Pump()
    pump.says(0, "PT0M", motor="running", reservoir_estimated_ml=12.0)
    pump.says(1, "PT15M", motor="stalled", alarms=["motor_stall"], battery={"eri": False, "voltage_v": 2.9})
    return pump


def test_every_rule_of_the_worker_says_something_in_the_order_of_the_book() -> None:
    """Rules that live in other processes are not asked: they look at more than one pump."""
    said = explain(_stalled().world, BACLOFEN, RULES, START + HOUR)

    assert [one.rule_id for one in said] == [rule.id for rule in RULES if rule.lives_in == "worker"]
    assert 0 < len(said) < len(RULES)


def test_a_rule_that_is_present_says_since_when_and_that_its_alert_is_open() -> None:
    """With the words of its alert, the numbers for this pump, and the fields that it looked at."""
    rule = RULES["DLV-01"]

    stall = _explained(_stalled(), moment("PT16M"))["DLV-01"]

    assert (stall.title, stall.presence, stall.alert) == (rule.title, Presence.PRESENT, Priority.HIGH)
    assert {step.at for step in stall.steps} == {moment("PT15M")}
    assert stall.message.startswith("Motor stall at ")
    assert "unknown" not in stall.message
    assert dict(stall.parameters) == dict(rule.parameters)
    assert stall.looked_at["stalled_since"] == moment("PT15M")
    assert set(stall.looked_at) == set(rule.reads)


def test_a_rule_that_is_not_present_has_no_message_and_no_alert() -> None:
    """An absent rule has nothing to tell anybody."""
    low = _explained(_stalled(), moment("PT16M"))["RSV-02"]

    assert (low.presence, low.alert, low.message, low.steps) == (Presence.ABSENT, None, "", ())


def test_the_delivery_clock_is_judged_by_silence_too() -> None:
    """DLV-09 after a running motor: its alert came from silence, and the last word of the motor opened nothing."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running", reservoir_estimated_ml=12.0)

    before = _explained(pump, moment("PT5H"))["DLV-09"]
    pump.waits("PT7H")
    after = _explained(pump, moment("PT7H"))["DLV-09"]

    assert (before.presence, before.alert, before.changes_at) == (Presence.ABSENT, None, moment("PT6H"))
    assert (after.presence, after.alert) == (Presence.PRESENT, Priority.MEDIUM)
    assert after.steps == (PriorityStep(Priority.MEDIUM, moment("PT6H")),)
    assert after.message == "Delivery not confirmed since 2026-11-02 00:00 UTC."


def test_of_two_words_the_stronger_one_counts_and_the_higher_alert() -> None:
    """An unknown motor: HIGH by what it said, whatever silence would say; nothing changes any more by itself."""
    pump = Pump()
    pump.says(0, "PT0M", motor="unknown")
    pump.waits("PT7H")

    said = _explained(pump, moment("PT7H"))["DLV-09"]

    assert (said.presence, said.alert, said.changes_at) == (Presence.PRESENT, Priority.HIGH, None)


def test_an_alert_that_was_closed_is_not_open() -> None:
    """A person resolved it; the rule may still be asked."""
    pump = _stalled()
    pump.says(2, "PT30M", motor="running", alarms=[], events=[{"type": "interrogation", "result": "running"}])
    before = _explained(pump, moment("PT31M"))["DLV-01"]
    pump.resolves("DLV-01", "PT32M")

    after = _explained(pump, moment("PT33M"))["DLV-01"]

    assert (before.presence, before.alert) == (Presence.ABSENT, Priority.HIGH)
    assert (after.presence, after.alert) == (Presence.ABSENT, None)


def test_silence_counts_from_the_last_message_or_from_when_the_service_listens_again() -> None:
    """Only rules of silence look at it."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")

    quiet = _explained(pump, START + 3 * HOUR)
    listening = _explained(pump, START + 3 * HOUR, heard_at=START + 3 * HOUR)
    pump.waits("PT3H")
    opened = _explained(pump, START + 3 * HOUR)

    assert (quiet["COM-01"].presence, quiet["COM-01"].alert) == (Presence.PRESENT, None)
    assert listening["COM-01"].presence is not Presence.PRESENT
    assert opened["COM-01"].alert is not None
    assert quiet["DLV-01"] == listening["DLV-01"]


def test_a_deadline_that_passed_since_the_last_report_has_passed() -> None:
    """The rule is asked about the moment, not about the last report; before it, it says when that will be."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running", events=[{"type": "mri_start"}])
    rule_id = "MRI-02"

    early = _explained(pump, moment("PT1M"))[rule_id]
    assert early.changes_at is not None
    late = _explained(pump, early.changes_at)[rule_id]

    assert early.presence is Presence.ABSENT
    assert late.presence is Presence.PRESENT
    assert late.alert is late.steps[-1].priority


def test_what_was_looked_at_is_told_by_the_names_of_its_parts() -> None:
    """A rule that reads everything lists every field; parts of parts have names too."""
    everything = RuleBook((replace(RULES["DLV-01"], reads=("*",)),))
    pump = _stalled()
    pump.says(2, "PT30M", motor="running", events=[{"type": "refill", "aspirated_ml": 1.0, "injected_ml": 18.0}])

    (said,) = explain(pump.world, BACLOFEN, everything, moment("PT31M"))

    assert list(said.looked_at) == list(pump.world.head.state.__struct_fields__)
    assert said.looked_at["stalls"][0]["start"] == moment("PT15M")


def test_rules_that_live_elsewhere_are_left_out_wherever_they_stand() -> None:
    """Those after them are asked."""
    book = RuleBook((RULES["SYS-01"], RULES["DLV-01"], RULES["SYS-02"], RULES["COM-01"]))

    assert [one.rule_id for one in explain(_stalled().world, BACLOFEN, book, START + HOUR)] == ["DLV-01", "COM-01"]


def test_a_rule_that_remembers_says_what_it_remembers() -> None:
    """Two alarms within a day are what it was told, not what the newest report says."""
    rule = typed_rule("count: {alarm: low_reservoir, at_least: 2, within: P1D}", title="Two alarms")
    pump = Pump(rules=RuleBook((rule,)))
    for seq, alarms in enumerate((["low_reservoir"], [], ["low_reservoir"])):
        pump.says(seq, f"PT{15 * seq}M", alarms=alarms)

    (said,) = explain(pump.world, BACLOFEN, pump.rules, moment("PT31M"))

    assert said == Explained(
        rule_id="TST-01",
        title="Two alarms",
        presence=Presence.PRESENT,
        steps=(PriorityStep(Priority.LOW, moment("PT30M")),),
        changes_at=said.changes_at,
        alert=Priority.LOW,
        message=said.message,
        parameters={},
        looked_at=said.looked_at,
    )


def test_the_numbers_are_those_for_the_pump_at_that_moment() -> None:
    """Another drug from the third hour on has other limits."""
    morphine = {"name": "morphine", "concentration_ug_per_ml": 10000.0}
    later = [{"from": "PT3H", "drugs": [morphine], "prescribed_ug_per_day": 1000}]
    pump = Pump(profiles_of({}, later))
    pump.says(0, "PT0M", motor="running")
    varied = replace(
        RULES["DLV-01"], content_hash="varied", parameters={"a": 1}, variants=(Variant({"a": 2}, drug="morphine"),)
    )

    said = [explain(pump.world, pump.profiles, RuleBook((varied,)), START + at * HOUR)[0].parameters for at in (2, 3)]

    assert said == [{"a": 1}, {"a": 2}]


def test_a_silence_that_a_person_closed_is_not_open() -> None:
    """It may go on all the same."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    pump.waits("PT3H")
    pump.resolves("COM-01", "PT3H1M")

    silence = _explained(pump, START + 3 * HOUR)["COM-01"]

    assert (silence.presence, silence.alert) == (Presence.PRESENT, None)
