"""A buffer that a worker decides at once: what is told, for which arrival, and what became of each report."""

from __future__ import annotations

from typing import Any

import pytest

from streams.domain import pipeline
from streams.domain.alert import AlertEventKind, Reason
from streams.domain.pipeline import Disposition, Outcome, Steps
from streams.domain.telemetry import Received
from streams.domain.world import encode_world
from streams.rehearsal import moment, received_of
from tests.domain.test_pipeline import MINUTE, Pump


def _report(seq: int, at: str, arrives: str, **said: Any) -> Received:
    return received_of({"at": at, "arrives": arrives, "boot_id": 0, "motor": "running", **said}, seq)


def _together(pump: Pump, *buffer: Received) -> Steps:
    now = max(one.received_at for one in buffer) + MINUTE / 60
    done = pipeline.steps(pump.world, buffer, pump.profiles, pump.rules, now)
    pump.world = done.world
    pump.events.extend(done.events)
    return done


def _one_by_one(pump: Pump, *buffer: Received) -> None:
    now = max(one.received_at for one in buffer) + MINUTE / 60
    for received in buffer:
        pump._took(pipeline.step(pump.world, received, pump.profiles, pump.rules, now))


def _running(until: int = 1) -> Pump:
    pump = Pump()
    for seq in range(until):
        pump.says(seq, f"PT{15 * seq}M", motor="running")
    return pump


def test_nothing_changes_nothing() -> None:
    """An empty buffer has no cause and no outcome."""
    pump = _running()
    before = pump.world

    assert pipeline.steps(before, (), pump.profiles, pump.rules, moment("PT1H")) == Steps(before, (), (), (), None)


def test_reports_in_order_are_steps_and_the_first_that_says_something_is_the_cause() -> None:
    """Not the first of all, nor the last."""
    together, single = _running(), _running()
    buffer = [
        _report(1, "PT15M", "PT16M"),
        _report(2, "PT30M", "PT31M", motor="stalled"),
        _report(3, "PT45M", "PT46M", alarms=["motor_stall"]),
    ]

    done = _together(together, *buffer)
    _one_by_one(single, *buffer)

    assert done.outcomes == tuple(Outcome(one, Disposition.APPLIED) for one in buffer)
    assert (done.caused_at, done.released) == (moment("PT31M"), ())
    assert done.events == tuple(single.events)
    assert encode_world(together.world) == encode_world(single.world)


def test_a_repeated_report_among_others_is_a_duplicate_and_no_cause() -> None:
    """Those behind it count."""
    pump = _running()
    first, stall = _report(0, "PT0M", "PT16M"), _report(1, "PT15M", "PT17M", motor="stalled")

    done = _together(pump, first, stall)

    assert [one.disposition for one in done.outcomes] == [Disposition.DUPLICATE, Disposition.APPLIED]
    assert done.caused_at == moment("PT17M")


def test_a_buffer_that_begins_in_order_and_goes_on_newest_first_is_told_as_a_whole() -> None:
    """The outcomes in the order of the buffer; the cause is the first report that said something."""
    together, single = _running(), _running()
    buffer = [
        _report(1, "PT15M", "PT1H30M", motor="stalled"),
        _report(5, "PT1H15M", "PT1H31M"),
        _report(4, "PT1H", "PT1H32M"),
        _report(3, "PT45M", "PT1H33M"),
        _report(2, "PT30M", "PT1H34M", motor="stalled"),
    ]

    done = _together(together, *buffer)
    _one_by_one(single, *buffer)

    assert done.outcomes == tuple(Outcome(one, Disposition.APPLIED) for one in buffer)
    assert done.caused_at == moment("PT1H30M")
    assert together.told("DLV-01") == single.told("DLV-01") == [AlertEventKind.OPENED, AlertEventKind.CLEARED]
    assert together.world.head == single.world.head
    assert (together.world.arrivals, together.world.window) == (single.world.arrivals, single.world.window)
    assert together.world.last_received_at == moment("PT1H34M")


def test_what_is_told_at_once_was_caused_by_the_first_of_what_was_folded_again() -> None:
    """Without that one there might be nothing to tell; the one before it was a step of its own."""
    pump = _running()

    done = _together(
        pump,
        _report(3, "PT45M", "PT50M"),
        _report(2, "PT30M", "PT51M"),
        _report(1, "PT15M", "PT49M", motor="stalled"),
    )

    assert {event.alert.rule_id for event in done.events} == {"DLV-01"}
    assert done.caused_at == moment("PT51M")
    assert pump.world.last_received_at == moment("PT51M")


@pytest.mark.parametrize("waits", [False, True], ids=["nothing missing", "behind a gap"])
@pytest.mark.parametrize("newest_first", [False, True])
def test_a_silence_ends_by_the_first_report_of_a_buffer_and_its_alert_says_so(waits: bool, newest_first: bool) -> None:
    """In whatever order they are in it."""
    pump = _running()
    if waits:
        pump.says(9, "PT15M", motor="running")
    buffer = [_report(seq, f"PT{seq}M", f"PT4H{5 + seq}M") for seq in (1, 2, 3)]
    pump.waits("PT4H")

    _together(pump, *sorted(buffer, key=lambda one: one.report.seq, reverse=newest_first))

    [silence] = [row for row in pump.world.ledger if row.rule_id == "COM-01"]
    assert (silence.active, silence.effective_to) == (False, moment("PT4H8M" if newest_first else "PT4H6M"))


def test_a_gap_that_a_buffer_shows_to_be_old_is_noted_for_its_own_hour() -> None:
    """It was open for more than an hour when the buffer came; what fills it ends that."""
    together, single = _running(), _running()
    for pump in (together, single):
        pump.says(4, "PT15M", motor="running")
    buffer = [
        _report(6, "PT1H20M", "PT1H21M"),
        _report(5, "PT1H19M", "PT1H22M"),
        _report(3, "PT10M", "PT1H23M"),
        _report(2, "PT9M", "PT1H24M"),
        _report(1, "PT8M", "PT1H25M"),
    ]

    done = _together(together, *buffer)
    _one_by_one(single, *buffer)

    assert [one.disposition for one in done.outcomes] == [Disposition.APPLIED] * 2 + [Disposition.LATE] * 3
    assert together.world.head.state.contacts.gap == single.world.head.state.contacts.gap
    assert together.world.head.state.contacts.gap is not None
    assert together.world.head.state.contacts.gap.end == moment("PT1H25M")
    assert together.told("COM-02") == [AlertEventKind.OPENED, AlertEventKind.CLEARED]


@pytest.mark.parametrize(("logged", "why"), [(True, Reason.LATE_LOG), (False, Reason.LATE_EVIDENCE)])
def test_what_a_buffer_disproves_is_taken_back_for_the_kind_of_evidence(logged: bool, why: Reason) -> None:
    """The pump's own log, or reports that came late."""
    pump = _running()
    pump.says(3, "PT5H", motor="unknown")
    opened = {row.rule_id for row in pump.world.ledger} | {
        event.alert.rule_id for event in pump.waits("PT5H30M").events
    }
    log = {"events": [{"type": "stall_recovered", "at": "PT4H40M"}]} if logged else {}

    done = _together(pump, _report(2, "PT4H50M", "PT5H31M", **log), _report(1, "PT4H45M", "PT5H32M"))

    assert "DLV-09" in opened
    assert {event.reason for event in done.events if event.kind is AlertEventKind.RETRACTED} == {why}
