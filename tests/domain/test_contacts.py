"""A pump's clock as its contacts tell it: what is corrected, what waits in quarantine, and what people are told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from streams.domain import pipeline
from streams.domain.alert import AlertEventKind, Priority
from streams.domain.observing.contacts import MAX_HELD, Timing, corrected, noticed, timed
from streams.domain.pipeline import Disposition
from streams.domain.world import encode_world
from streams.rehearsal import START, moment, received_of
from tests.domain.test_pipeline import BACLOFEN, Pump
from tests.shipped import RULES

SECOND = timedelta(seconds=1)


def at_minutes(count: float) -> str:
    """An offset as examples write it."""
    return f"{'-' if count < 0 else ''}PT{abs(count) * 60:.0f}S"


def contact(pump: Pump, seq: int, minute: float, ahead: float, **said: Any) -> pipeline.Step:
    """The gateway gets a report at ``minute`` from a pump whose clock is so many minutes ahead."""
    fields: dict[str, Any] = {"motor": "running", **said}
    return pump.says(seq, at_minutes(minute + ahead), arrives=at_minutes(minute), **fields)


def timings(lags: Iterable[float], every: float = 15, **said: object) -> Iterator[Timing]:
    """After each of the contacts, which are so many minutes behind."""
    timing = Timing()
    for number, lag in enumerate(lags):
        minute = 10_000 + number * every
        entry = {"at": at_minutes(minute - lag), "arrives": at_minutes(minute), "motor": "running", **said}
        timing, _ = timed(timing, received_of(entry, number))
        yield timing


def last(lags: Iterable[float], every: float = 15, **said: object) -> Timing:
    """After the last of them."""
    return list(timings(lags, every, **said))[-1]


def test_the_offset_is_the_median_of_the_last_twenty_contacts_from_five_on() -> None:
    """Exactly two minutes are transport; the corrected time is the gateway's."""
    four, five = last([12] * 4), last([12] * 5)
    exact, over = last([2] * 5), last([2 + 1 / 60] * 5)
    many = last([5] * 10 + [9] * 20)

    assert (four.offset_ms, five.offset_ms) == (0, 12 * 60_000)
    assert (exact.offset_ms, over.offset_ms) == (0, 121_000)
    assert (len(many.lags_ms), many.offset_ms) == (20, 9 * 60_000)


def test_a_pump_that_reports_every_five_seconds_has_one_contact_a_minute() -> None:
    """A contact is what one gateway got within a minute, however often a pump reports."""
    timing = last([3] * 60, every=5 / 60)

    assert len(timing.lags_ms) == 5


def test_a_buffer_that_takes_minutes_to_read_is_one_contact() -> None:
    """Twenty reports, one every ten seconds, each five minutes younger than the one before."""
    timing = last([100 - 5 * number for number in range(20)], every=1 / 6)

    assert timing.lags_ms == (5 * 60_000,)


def test_a_clock_that_a_reset_set_right_is_no_news_after_five_contacts() -> None:
    """The contacts before tell nothing of it any more; until then nobody knows."""
    pump = Pump()
    for seq in range(6):
        contact(pump, seq, 15 * seq, -12)
    drifted = pump.told("COM-02")
    for seq in range(4):
        contact(pump, seq, 90 + 15 * seq, 0, boot_id=1)
    unsure = pump.told("COM-02")
    contact(pump, 4, 150, 0, boot_id=1)
    pump.waits("PT3H45M")

    assert drifted == unsure == [AlertEventKind.OPENED]
    assert pump.told("COM-02") == [AlertEventKind.OPENED, AlertEventKind.CLEARED]


def test_another_gateway_is_another_contact() -> None:
    """Two phones that get reports in the same minute are two witnesses."""
    one, _ = timed(Timing(), received_of({"at": "PT1H", "motor": "running"}, 0))
    two, _ = timed(one, received_of({"at": "PT1H10S", "motor": "running", "gateway_id": "GW-2"}, 1))

    assert len(two.lags_ms) == 2


def test_contacts_that_still_agree_outlive_a_reboot() -> None:
    """A reset that keeps the clock keeps what is known of it; one that loses it starts anew."""
    kept = received_of({"at": at_minutes(10_000), "arrives": at_minutes(10_012), "motor": "running", "boot_id": 2}, 0)
    lost = received_of({"at": at_minutes(9_970), "arrives": at_minutes(10_000), "motor": "running", "boot_id": 2}, 0)
    before = last([12] * 6)

    assert timed(before, kept)[0].offset_ms == 12 * 60_000
    assert timed(before, lost)[0].lags_ms == (30 * 60_000,)


def test_after_a_jump_backwards_a_stall_is_no_old_news() -> None:
    """The clock is set back by three hours: the second contact's alarm opens its alert, hours before five are known."""
    pump = Pump()
    for seq in range(6):
        contact(pump, seq, 15 * seq, 0, alarms=[])

    contact(pump, 6, 90, -180, alarms=[])
    step = contact(pump, 7, 105, -180, motor="stalled", alarms=["motor_stall"])

    opened = next(event for event in step.events if event.alert.rule_id == "DLV-01")
    assert opened.effective_at == moment("PT1H45M")


def test_an_alarm_in_the_first_report_after_a_jump_is_told_although_its_time_is_not_known() -> None:
    """By its own time it is older than what the pump said before; people hear of it all the same."""
    pump = Pump()
    for seq in range(6):
        contact(pump, seq, 15 * seq, 0, alarms=[])

    step = contact(pump, 6, 90, -180, motor="stalled", alarms=["motor_stall"])

    told = [(event.alert.rule_id, event.alert.priority) for event in step.events]
    assert ("COM-02", Priority.HIGH) in told


def test_a_clock_that_runs_ahead_is_learned_and_its_reports_are_released() -> None:
    """Four reports wait; the fifth brings the offset, and all take effect at their corrected times, in order."""
    pump = Pump()
    held = [contact(pump, seq, 15 * seq, 180, reservoir_estimated_ml=10.0 - seq) for seq in range(4)]
    untouched = pump.world.head.state.clock

    step = contact(pump, 4, 60, 180, reservoir_estimated_ml=6.0)

    state = pump.world.head.state
    assert [one.disposition for one in held] == [Disposition.QUARANTINED_FUTURE] * 4
    assert untouched is None
    assert step.disposition is Disposition.APPLIED
    assert [one.report.seq for one in step.released] == [0, 1, 2, 3]
    assert step.released[0].report.event_time == moment("PT3H")
    assert state.confirmed_at == state.reported_at == moment("PT1H")
    assert [sample.at for sample in state.estimated] == [moment(at_minutes(15 * seq)) for seq in range(5)]
    assert pump.world.head.timing.held == ()


def test_a_report_that_older_ones_explain_leaves_quarantine_although_it_is_never_held_again() -> None:
    """The buffer comes newest first: in its place behind four contacts the newest report is taken at once."""
    pump = Pump()

    def sent(seq: int) -> pipeline.Step:
        got = moment(at_minutes(15 * seq)).isoformat()
        return pump.says(seq, at_minutes(15 * seq + 180), arrives="PT80M", gateway_time=got, motor="running")

    held = [sent(seq) for seq in (4, 0, 1, 2)]
    step = sent(3)

    assert [(one.disposition, one.released) for one in held] == [(Disposition.QUARANTINED_FUTURE, ())] * 4
    assert step.disposition is Disposition.APPLIED
    assert sorted(one.report.seq for one in step.released) == [0, 1, 2, 4]
    assert pump.world.head.timing.held == ()


def test_one_impossible_time_leaves_the_last_confirmed_delivery_alone() -> None:
    """It is never released: nothing explains it, and after a day it is not waited for any more."""
    pump = Pump()
    contact(pump, 0, 0, 0)

    ahead = contact(pump, 1, 15, 180)
    confirmed_at = pump.world.head.state.confirmed_at
    waiting = len(pump.world.head.timing.held)
    contact(pump, 2, 30, 0)
    contact(pump, 3, 25 * 60, 0)

    assert ahead.disposition is Disposition.QUARANTINED_FUTURE
    assert (confirmed_at, waiting) == (START, 1)
    assert pump.world.head.timing.held == ()
    assert pump.told("COM-02") == []


def test_quarantine_is_bounded() -> None:
    """A pump whose clock is beyond all sense keeps its newest reports; the store has all of them."""
    timing = last([-60 - 30 * (number % 7) for number in range(70)], every=2)

    assert len(timing.held) == MAX_HELD


def test_a_gateway_whose_clock_is_ahead_does_not_make_the_future_normal() -> None:
    """Pump and gateway agree on a time that the service has not reached: the report is from the future."""
    pump = Pump()

    step = pump.says(0, "PT3H", arrives="PT0S", motor="running", gateway_time=moment("PT3H").isoformat())

    assert step.disposition is Disposition.QUARANTINED_FUTURE


def test_what_came_too_late_stays_in_quarantine_when_it_is_from_the_future() -> None:
    """Its place in history is gone, and so is what could explain its time."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    pump.says(2, "PT30M", motor="running")
    pump.waits("PT1H40M")

    step = pump.says(1, "PT9H", arrives="PT1H41M", motor="stalled")

    assert step.disposition is Disposition.QUARANTINED_FUTURE
    assert pump.told("DLV-01") == []


def test_an_event_is_corrected_with_its_report_and_never_past_the_gateway() -> None:
    """``at`` is the pump's time as well."""
    entry = {"at": "PT1H", "arrives": "PT1H10M", "events": [{"type": "stall_started", "at": "PT50M"}]}

    moved = corrected(received_of(entry, 0), 12 * 60_000).report

    assert moved.event_time == moment("PT1H10M")
    assert moved.events[0].at == moment("PT1H2M")


def test_the_readings_keep_the_pumps_own_time() -> None:
    """Only what is folded is corrected."""
    received = received_of({"at": "PT1H", "arrives": "PT1H12M", "motor": "running"}, 6)
    before = last([12] * 5, boot_id=1)

    _, ready = timed(before, received)

    assert ready[0].report.event_time == moment("PT1H12M")
    assert received.report.event_time == moment("PT1H")


def test_a_conflict_opens_medium_and_clears_after_a_quiet_day_of_telemetry() -> None:
    """M.18: the first one applied stands; the message says what is wrong."""
    pump = Pump()
    contact(pump, 0, 0, 0)
    other = received_of({"at": "PT0S", "motor": "running", "reservoir_estimated_ml": 3.0}, 0)

    step = pipeline.note_conflict(pump.world, other, BACLOFEN, RULES, START + SECOND)
    pump.world = step.world
    pump.events.extend(step.events)
    contact(pump, 1, 23 * 60, 0)
    still = pump.told("COM-02")
    contact(pump, 2, 24 * 60, 0)

    [opened] = step.events
    assert (opened.alert.rule_id, opened.alert.priority) == ("COM-02", Priority.MEDIUM)
    assert "two different reports came under one number" in opened.alert.message
    assert still == [AlertEventKind.OPENED]
    assert pump.told("COM-02") == [AlertEventKind.OPENED, AlertEventKind.CLEARED]


def test_a_conflict_with_a_critical_alarm_is_high_also_in_an_open_window() -> None:
    """It survives folding again: a report that fills the gap does not take it back."""
    pump = Pump()
    contact(pump, 0, 0, 0, boot_id=1)
    contact(pump, 2, 30, 0, boot_id=1)
    other = received_of({"at": "PT0S", "arrives": "PT31M", "alarms": ["battery_reset"]}, 0)

    step = pipeline.note_conflict(pump.world, other, BACLOFEN, RULES, moment("PT31M"))
    pump.world = step.world
    contact(pump, 1, 32, -17, boot_id=1)

    assert [(event.alert.rule_id, event.alert.priority) for event in step.events][-1] == ("COM-02", Priority.HIGH)
    assert [(one.rule_id, one.priority, one.active) for one in pump.world.ledger] == [("COM-02", Priority.HIGH, True)]


def test_a_conflict_seen_again_within_a_day_is_the_same_one() -> None:
    """And after a day without it another begins."""
    first = noticed(None, START)

    again = noticed(first, START + timedelta(hours=24))
    later = noticed(again, START + timedelta(hours=48, seconds=1))

    assert (again.start, again.last) == (START, START + timedelta(hours=24))
    assert later.start == START + timedelta(hours=48, seconds=1)


def test_an_older_boot_that_speaks_again_is_a_second_pump() -> None:
    """Hours later, when the place of its reports is long gone: each is found late, and says that two take turns."""
    pump = Pump()
    contact(pump, 0, 0, 0, boot_id=7)
    contact(pump, 1, 120, 0, boot_id=7)
    pump.waits("PT3H")

    step = contact(pump, 40, 181, 0, boot_id=3)

    assert step.disposition is Disposition.LATE
    [opened] = [event for event in step.events if event.alert.rule_id == "COM-02"]
    assert opened.alert.priority is Priority.MEDIUM
    assert "two pumps" in opened.alert.message


def test_a_buffer_of_an_older_boot_is_no_second_pump() -> None:
    """A gateway may get old reports late: their own times are old as well."""
    pump = Pump()
    contact(pump, 5, 0, 0, boot_id=3)
    contact(pump, 0, 30, 0, boot_id=7)

    contact(pump, 6, 40, -20, boot_id=3)

    assert pump.told("COM-02") == []


def test_what_is_remembered_of_a_quiet_pump_stays_small() -> None:
    """Twenty contacts are a few bytes each; a pump that is well fits into one and a half kilobytes."""
    pump = Pump()
    for seq in range(40):
        contact(pump, seq, 15 * seq, -0.05, reservoir_estimated_ml=12.0, alarms=[])

    assert len(pump.world.base.timing.lags_ms) == 20
    assert len(encode_world(pump.world)) < 1_024
