"""The window: what waits for a missing report, what joins history for good, and what is missing for too long."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from streams.domain import window
from streams.domain.alert import AlertEventKind
from streams.domain.observing.contacts import ContactLog, Notice
from streams.domain.rule import RuleBook
from streams.domain.world import MAX_GAPS, MAX_WINDOW_REPORTS, Arrivals, Folded, Gap, PumpState, World
from streams.rehearsal import START, moment, received_of
from tests.domain.test_pipeline import BACLOFEN, Pump
from tests.shipped import RULES

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def _report(seq: int, boot_id: int = 1) -> World:
    """A world that waits with one report."""
    received = received_of({"at": "PT0M", "motor": "running", "boot_id": boot_id}, seq)
    return World(pump_id="EX-1", window=(received,), arrivals=Arrivals(boot_id, seq + 1, (Gap(1, 0, 1, seq, START),)))


@pytest.mark.parametrize(
    ("seq", "boot_id", "gaps", "follows"),
    [
        (6, 1, 1, True),
        (7, 1, 1, True),
        (0, 2, 1, True),
        (4, 1, 1, False),
        (9, 0, 1, False),
        (7, 1, MAX_GAPS - 1, True),
        (7, 1, MAX_GAPS, False),
        (6, 1, MAX_GAPS, True),
    ],
)
def test_what_comes_after_all_that_is_known_needs_no_folding_again(
    seq: int, boot_id: int, gaps: int, follows: bool
) -> None:
    """Unless its gap is one too many, and costs the oldest one."""
    waits = _report(5)
    waits = replace(waits, arrivals=replace(waits.arrivals, gaps=waits.arrivals.gaps * gaps))
    received = received_of({"at": "PT1M", "motor": "running", "boot_id": boot_id}, seq)

    assert window.follows(waits, received) is follows
    assert window.follows(replace(waits, window=()), received)


def test_reports_in_order_join_history_for_good_and_later_ones_wait_behind_a_gap() -> None:
    """The base keeps what was before; the tip tells what is known beyond."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    pump.says(1, "PT15M", motor="running")
    settled = pump.world
    pump.says(3, "PT45M", motor="stalled")
    pump.says(4, "PT1H", motor="stalled")
    waiting = pump.world
    pump.says(2, "PT30M", arrives="PT1H1M", motor="running")

    assert (settled.window, settled.tip, settled.head.state.clock) == ((), None, moment("PT15M"))
    assert [one.report.seq for one in waiting.window] == [3, 4]
    assert (waiting.base, waiting.head.state.clock) == (settled.base, moment("PT1H"))
    assert (pump.world.window, pump.world.tip, pump.world.log) == ((), None, ())
    assert pump.world.base.state.clock == moment("PT1H")


def test_of_two_gaps_the_first_one_holds_everything_behind_it() -> None:
    """When it is filled, what lies before the second one joins history."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    for seq in (2, 3, 5):
        pump.says(seq, f"PT{seq}M", motor="running")
    held = [one.report.seq for one in pump.world.window]
    pump.says(1, "PT1M", arrives="PT6M", motor="running")

    assert held == [2, 3, 5]
    assert [one.report.seq for one in pump.world.window] == [5]
    assert pump.world.base.state.clock == moment("PT3M")
    assert pump.world.head.state.clock == moment("PT5M")


def test_a_window_keeps_no_more_reports_than_it_may() -> None:
    """The oldest one joins history although a report before it may still come."""
    pump = Pump(rules=RuleBook(()))
    pump.says(0, "PT0M", motor="running")
    for seq in range(2, MAX_WINDOW_REPORTS + 2):
        pump.says(seq, f"PT{seq}S", motor="running")
    full, before = len(pump.world.window), pump.world.base.state.clock
    pump.says(MAX_WINDOW_REPORTS + 2, "PT1H", motor="running")

    assert (full, before) == (MAX_WINDOW_REPORTS, START)
    assert len(pump.world.window) == MAX_WINDOW_REPORTS
    assert pump.world.base.state.clock == START + 2 * SECOND


def _gap(pump: Pump) -> Notice | None:
    return pump.world.head.state.contacts.gap


def test_reports_missing_for_an_hour_are_noted_until_the_last_of_them_came() -> None:
    """From the end of the hour on; each that comes late shortens what is missing, and is no news."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    pump.says(4, "PT1M", motor="running")
    pump.waits("PT1H1M")
    in_time = _gap(pump)
    pump.waits("PT1H1M1S")
    missing = _gap(pump)
    pump.says(2, "PT30S", arrives="PT1H5M", motor="running")
    pump.says(1, "PT20S", arrives="PT1H6M", motor="running")
    some = _gap(pump)
    pump.says(3, "PT40S", arrives="PT1H7M", motor="running")

    since = moment("PT1H1M")
    assert (in_time, missing, some) == (None, Notice(since, since), Notice(since, since))
    assert _gap(pump) == Notice(since, since, moment("PT1H7M"))
    assert pump.told("COM-02") == [AlertEventKind.OPENED, AlertEventKind.CLEARED]


def test_gaps_that_are_given_up_together_are_noted_from_the_first_to_the_last() -> None:
    """Whichever report shows it; a gap that may never have been one is not noted."""
    pump = Pump()
    pump.says(1, "PT0M", motor="running")
    pump.says(3, "PT1M", motor="running")
    pump.says(5, "PT2M", motor="running")
    never = pump.world.arrivals.gaps[0]
    pump.waits("PT2H")

    assert not never.holds
    assert _gap(pump) == Notice(moment("PT1H1M"), moment("PT1H2M"))


def test_a_gap_after_one_that_was_filled_is_news() -> None:
    """It is noted for itself."""
    pump = Pump()
    for seq, minutes in ((0, 0), (2, 1)):
        pump.says(seq, f"PT{minutes}M", motor="running")
    pump.waits("PT1H2M")
    pump.says(1, "PT30S", arrives="PT1H3M", motor="running")
    pump.says(4, "PT1H4M", motor="running")
    pump.waits("PT2H5M")

    assert _gap(pump) == Notice(moment("PT2H4M"), moment("PT2H4M"))


def test_a_second_gap_while_one_is_missing_moves_the_last_and_not_the_first() -> None:
    """One that is filled while the other is not ends nothing."""
    pump = Pump()
    for seq, minutes in ((0, 0), (2, 1)):
        pump.says(seq, f"PT{minutes}M", motor="running")
    pump.waits("PT1H2M")
    pump.says(4, "PT1H4M", motor="running")
    pump.waits("PT2H5M")
    both = _gap(pump)
    pump.says(1, "PT30S", arrives="PT2H6M", motor="running")

    assert both == Notice(moment("PT1H1M"), moment("PT2H4M"))
    assert _gap(pump) == both


def test_a_missing_report_that_is_handed_in_with_an_earlier_arrival_ends_no_gap_before_it_began() -> None:
    """Workers may get arrivals out of order."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    pump.says(2, "PT1M", motor="running")
    pump.waits("PT1H2M")
    pump.says(1, "PT30S", arrives="PT30M", motor="running")

    assert _gap(pump) == Notice(moment("PT1H1M"), moment("PT1H1M"), moment("PT1H1M"))


def test_reports_missing_between_some_in_quarantine_are_told_too() -> None:
    """No report took effect yet: it is judged at the time of the notice itself."""
    pump = Pump()
    pump.says(0, "PT9H", arrives="PT0M", motor="running")
    pump.says(2, "PT11H", arrives="PT1M", motor="running")
    opened = pump.waits("PT2H").events
    pump.says(1, "PT10H", arrives="PT2H1M", motor="running")

    assert pump.world.head.state.reported_at is None
    assert [event.effective_at for event in opened if event.alert.rule_id == "COM-02"] == [moment("PT1H1M")]
    assert _gap(pump) == Notice(moment("PT1H1M"), moment("PT1H1M"), moment("PT2H1M"))
    assert pump.told("COM-02") == [AlertEventKind.OPENED, AlertEventKind.CLEARED]


def test_what_arrivals_show_is_noted_in_the_base_and_in_what_waits() -> None:
    """So that folding again does not lose it."""
    pump = Pump()
    pump.says(0, "PT0M", motor="running")
    pump.says(2, "PT1M", motor="running")
    notice = Notice(START, START)

    noted, settled = window.noted(pump.world, lambda log: replace(log, twins=notice), BACLOFEN, RULES, moment("PT2M"))
    plain, _ = window.noted(
        replace(pump.world, window=(), tip=None), lambda log: replace(log, twins=notice), BACLOFEN, RULES, START
    )

    assert settled == []
    assert noted.tip is not None
    assert (noted.base.state.contacts, noted.tip.state.contacts) == (ContactLog(twins=notice),) * 2
    assert (noted.base.state.clock, noted.tip.state.clock) == (START, moment("PT1M"))
    assert plain.tip is None


@pytest.mark.parametrize(
    ("clock", "under", "is_outdated"),
    [
        (START, f"other/{BACLOFEN.key}/1", True),
        (START, f"{RULES.key}/{BACLOFEN.key}/0", False),
        (START, f"{RULES.key}/{BACLOFEN.key}/1/out", False),
        (START, f"{RULES.key}/other/1", True),
        (START, f"{RULES.key}/", True),
        (None, "other", False),
    ],
)
def test_a_pump_is_judged_anew_under_other_rules_and_for_another_profile(
    clock: object, under: str, is_outdated: bool
) -> None:
    """One that never reported has nothing to judge."""
    world = World(pump_id="EX-1", base=Folded(PumpState(clock=START if clock else None), judged_under=under))

    assert window.outdated(world, BACLOFEN, RULES) is is_outdated
    rejudged, settled = window.rejudged(world, BACLOFEN, RULES)
    assert settled == []
    assert (rejudged is world) is not is_outdated
    assert rejudged.base.judged_under == (f"{RULES.key}/{BACLOFEN.key}/1" if is_outdated else under)


def test_a_person_s_word_about_what_waits_is_folded_with_it_and_else_at_once() -> None:
    """The episode that it closes is closed either way."""
    waits, plain = Pump(), Pump()
    for pump, seq in ((waits, 3), (plain, 2)):
        pump.says(0, "PT0M", motor="stalled")
        pump.says(1, "PT5M", motor="running")
        pump.says(seq, "PT7M", motor="running")
        pump.resolves("DLV-01", "PT10M")

    assert [pump.world.head.tracks["DLV-01"].resolved_by for pump in (waits, plain)] == ["ada", "ada"]
    assert (len(waits.world.resolutions), plain.world.resolutions) == (1, ())
    assert waits.world.base.tracks["DLV-01"].resolved_by is None
    waits.says(2, "PT6M", arrives="PT11M", motor="running")
    assert waits.world.resolutions == ()
    assert waits.world.base.tracks["DLV-01"].resolved_by == "ada"
