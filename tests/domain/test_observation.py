"""What reports and events mean for the delivery clock, the motor and the MRI, to the second."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from streams.domain.alert import Episode, Priority, PriorityStep
from streams.domain.memory import Fact
from streams.domain.observation import (
    SIGNALS,
    confirm,
    expire_motor_value,
    facts,
    freeze,
    let_go,
    motor_expires_at,
    observe,
    signals,
    stall,
    told,
)
from streams.domain.observing.drift import RefillDrift, Sums
from streams.domain.observing.flow import FlowLog
from streams.domain.observing.levels import LevelLog, LevelStep
from streams.domain.observing.scans import ScanLog
from streams.domain.observing.volumes import Reading, VolumeLog
from streams.domain.profile import STRICTEST, Therapy
from streams.domain.world import KEPT, Mri, PumpState, Refill, Resumption, Sample, Session, Stall, Symptoms
from streams.rehearsal import START, moment, profiles_of, received_of

THERAPY = profiles_of({}).therapy(START)
VALVED = profiles_of({"family": "prometra"}).therapy(START)
INTERVAL = timedelta(minutes=15)
UNSEEN = PumpState()
NOON = moment("PT12H")
SECOND = timedelta(seconds=1)


def at_all(*offsets: str | None) -> list[datetime | None]:
    """Moments; None stays None."""
    return [moment(offset) if offset is not None else None for offset in offsets]


def event(
    state: PumpState, kind: str, at: str, therapy: Therapy = THERAPY, told_at: str | None = None, **fields: Any
) -> PumpState:
    """The state after an event alone."""
    entry = {"clinic": fields.pop("clinic", False), "events": [{"type": kind, "at": at, **fields}]}
    return facts(state, received_of({"at": told_at or at, **entry}, 0))[0].tell(state, therapy)


def after(state: PumpState, at: str, therapy: Therapy = THERAPY, **said: Any) -> PumpState:
    """The state after a report's measurements."""
    return observe(state, therapy, received_of({"at": at, **said}, 0).report)


def seen(state: PumpState) -> PumpState:
    """The state without what single families of rules remember."""
    kept = ("levels", "fills", "flow", "scans", "power", "dosing", "heat", "contacts", "volumes")
    return replace(state, **{name: getattr(UNSEEN, name) for name in kept})


# Facts -----------------------------------------------------------------------------------------------------------


def test_a_report_is_told_by_its_events_in_order_and_then_its_measurements() -> None:
    """An event without a time of its own happened with the report."""
    entry = {"at": "PT1H", "events": [{"type": "valve_reset"}, {"type": "mri_start", "at": "PT30M"}]}

    found = facts(UNSEEN, received_of(entry, 0))

    assert [(one.at, one.event.type if one.event else None) for one in found] == [
        (moment("PT30M"), "mri_start"),
        (moment("PT1H"), "valve_reset"),
        (moment("PT1H"), None),
    ]
    assert found[2].tell(UNSEEN, THERAPY).reported_at == moment("PT1H")


@pytest.mark.parametrize(
    ("confirmed_at", "recovered_at", "count"),
    [
        ("PT30M", None, 2),
        ("PT30M1S", None, 3),
        (None, None, 2),
        ("PT45M", "PT30M", 3),
        ("PT45M", "PT29M59S", 4),
        ("PT45M", "PT1H", 3),
    ],
)
def test_a_stall_from_before_the_motor_was_seen_running_is_over(
    confirmed_at: str | None, recovered_at: str | None, count: int
) -> None:
    """Unless the report tells a recovery since, at its own second or later, which knows better."""
    state = PumpState(confirmed_at=moment(confirmed_at) if confirmed_at else None)
    events = [{"type": "stall_started", "at": "PT30M"}]
    if recovered_at:
        events.append({"type": "stall_recovered", "at": recovered_at})

    found = facts(state, received_of({"at": "PT1H", "events": events}, 0))

    assert len(found) == count


def test_a_stall_that_ended_unseen_ends_where_the_motor_was_last_seen_running() -> None:
    """A recovery without a time of its own is the report's."""
    state = PumpState(confirmed_at=moment("PT45M"))
    started = {"type": "stall_started", "at": "PT30M"}

    found = facts(state, received_of({"at": "PT1H", "events": [started]}, 0))
    for one in found[:2]:
        state = one.tell(state, THERAPY)

    assert [one.at for one in found] == [moment("PT30M"), moment("PT30M"), moment("PT1H")]
    assert state.stalls == (Stall(moment("PT30M"), moment("PT45M")),)
    known = PumpState(confirmed_at=moment("PT45M"))
    assert len(facts(known, received_of({"at": "PT1H", "events": [started, {"type": "stall_recovered"}]}, 0))) == 3


def test_signals_are_named_as_typed_conditions_listen_to_them() -> None:
    """An event by its type alone; measurements by their fields, the report's own identity left out."""
    report = received_of(
        {
            "at": "PT1H",
            "motor": "running",
            "alarms": [],
            "events": [{"type": "bolus", "outcome": "denied", "volume_ml": 0.0}],
        },
        0,
    ).report

    assert list(signals(Fact(NOON, report, None, THERAPY))) == ["report", "motor", "alarms"]
    assert list(signals(Fact(NOON, report, report.events[0], THERAPY))) == ["event:bolus"]
    assert SIGNALS[0] == "motor"
    assert "event_time" not in SIGNALS


# The delivery clock ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("confirmed_at", "lcd"),
    [
        (None, "PT12H"),
        ("PT11H30M", "PT12H"),
        ("PT11H29M59S", "PT11H29M59S"),
        ("PT12H", "PT12H"),
        ("PT11H45M", "PT12H"),
    ],
)
def test_delivery_counts_up_to_a_freeze_within_two_intervals(confirmed_at: str | None, lcd: str) -> None:
    """Of the last evidence, inclusive (M.1)."""
    state = freeze(PumpState(confirmed_at=moment(confirmed_at) if confirmed_at else None), NOON, INTERVAL)

    assert state == PumpState(confirmed_at=moment(lcd), frozen_at=NOON, armed_since=NOON)


def test_a_second_freeze_leaves_the_first_where_it_is() -> None:
    """And keeps what either asks for."""
    first = freeze(PumpState(confirmed_at=NOON), NOON, INTERVAL, "until_refill")

    second = freeze(first, NOON + INTERVAL, INTERVAL, "until_valve_reset")

    assert second == replace(first, needs_valve_reset=True)
    third = freeze(second, NOON + INTERVAL, INTERVAL, "until_interrogation")
    assert (third.needs_refill, third.needs_interrogation, third.needs_valve_reset) == (True, True, True)
    assert freeze(third, NOON + INTERVAL, INTERVAL) == third


def test_a_freeze_older_than_the_evidence_is_void_unless_it_asks_for_stronger() -> None:
    """Evidence of the same second does not end it."""
    later = PumpState(confirmed_at=NOON + SECOND, armed_since=NOON + SECOND)

    assert freeze(later, NOON, INTERVAL) is later
    for until in ("until_interrogation", "until_valve_reset"):
        frozen = freeze(later, NOON, INTERVAL, until)
        assert (frozen.confirmed_at, frozen.frozen_at, frozen.armed_since) == (NOON, NOON, NOON)
    armed = replace(later, armed_since=NOON - INTERVAL)
    assert freeze(armed, NOON, INTERVAL, "until_interrogation").armed_since == NOON - INTERVAL
    refill = freeze(later, NOON, INTERVAL, "until_refill")
    assert (refill.confirmed_at, refill.frozen_at, refill.armed_since) == (NOON + SECOND, NOON, NOON + SECOND)


def test_evidence_of_the_freeze_s_own_second_ends_it() -> None:
    """What it had not been since is told; earlier evidence says nothing."""
    frozen = PumpState(confirmed_at=NOON - INTERVAL, frozen_at=NOON, armed_since=NOON)

    assert confirm(frozen, NOON) == PumpState(confirmed_at=NOON, resumed=Resumption(NOON, NOON - INTERVAL))
    assert confirm(frozen, NOON - SECOND) == frozen
    unconfirmed = confirm(replace(frozen, confirmed_at=None), NOON)
    assert unconfirmed.resumed == Resumption(NOON, NOON)


def test_a_motor_running_at_the_very_start_of_an_mri_says_nothing_of_after_it() -> None:
    """A second later it does; and an MRI that did not freeze the clock has no part in it."""
    mri = Mri(NOON, declared_at=NOON)
    frozen = PumpState(confirmed_at=NOON, frozen_at=NOON, armed_since=NOON, mri=mri)
    other = replace(frozen, mri=replace(mri, start=NOON - SECOND))

    assert confirm(frozen, NOON).frozen_at == NOON
    assert confirm(frozen, NOON + SECOND).frozen_at is None
    assert confirm(other, NOON).frozen_at is None


def test_evidence_confirms_and_disarms_an_unfrozen_clock() -> None:
    """Older evidence than the newest changes nothing but a stall."""
    state = PumpState(confirmed_at=NOON, armed_since=NOON)

    assert confirm(state, NOON) == PumpState(confirmed_at=NOON)
    assert confirm(state, NOON + SECOND) == PumpState(confirmed_at=NOON + SECOND)
    assert confirm(state, NOON - SECOND) is state
    stalled = replace(state, stalled_since=NOON - INTERVAL, stalls=(Stall(START, START), Stall(NOON - INTERVAL)))
    ended = confirm(stalled, NOON - SECOND)
    assert ended == replace(
        state,
        last_stall_ended_at=NOON - SECOND,
        stalls=(Stall(START, START), Stall(NOON - INTERVAL, NOON - SECOND)),
    )
    assert confirm(stalled, NOON - INTERVAL).stalled_since is None
    assert confirm(stalled, NOON - INTERVAL - SECOND) is stalled


@pytest.mark.parametrize("need", ["interrogation", "valve_reset"])
@pytest.mark.parametrize("said", ["motor", "interrogation", "valve_reset"])
def test_only_the_evidence_that_was_asked_for_ends_a_freeze(need: str, said: Any) -> None:
    """And only where it comes at the freeze or later."""
    frozen = PumpState(confirmed_at=NOON - INTERVAL, frozen_at=NOON, armed_since=NOON)
    state = replace(frozen, **{f"needs_{need}": True})

    done = confirm(state, NOON, said)

    assert (done.frozen_at is None) is (said == need)
    assert getattr(done, f"needs_{need}") is (said != need)
    assert confirm(state, NOON - SECOND, said) == state


@pytest.mark.parametrize("evidence", ["interrogation", "valve_reset"])
def test_what_no_freeze_waits_with_is_met_at_any_time(evidence: Any) -> None:
    """There is nothing that the evidence could be older than."""
    state = replace(PumpState(confirmed_at=NOON), **{f"needs_{evidence}": True})

    assert confirm(state, NOON, evidence) == PumpState(confirmed_at=NOON)


def test_a_freeze_that_asks_for_both_needs_both() -> None:
    """In any order."""
    state = PumpState(
        confirmed_at=NOON, frozen_at=NOON, armed_since=NOON, needs_interrogation=True, needs_valve_reset=True
    )

    one = confirm(state, NOON + SECOND, "interrogation")
    both = confirm(one, NOON + 2 * SECOND, "valve_reset")

    assert (one.frozen_at, one.needs_interrogation, one.needs_valve_reset) == (NOON, False, True)
    assert (both.frozen_at, both.confirmed_at) == (None, NOON + 2 * SECOND)
    assert confirm(replace(state, needs_valve_reset=False), NOON, "valve_reset").needs_interrogation
    assert confirm(replace(state, needs_interrogation=False), NOON, "interrogation").needs_valve_reset


@pytest.mark.parametrize(
    ("refilled_at", "at", "flows"),
    [
        (None, "PT13H", False),
        ("PT12H", "PT12H", True),
        ("PT11H59M59S", "PT13H", False),
        ("PT13H", "PT13H", True),
        ("PT13H", "PT14H", True),
        ("PT13H", "PT12H59M59S", False),
    ],
)
def test_an_empty_reservoir_needs_a_refill_and_then_a_running_motor(
    refilled_at: str | None, at: str, flows: bool
) -> None:
    """A motor that turns over an empty reservoir delivers nothing."""
    frozen = PumpState(
        confirmed_at=NOON - INTERVAL,
        frozen_at=NOON,
        armed_since=NOON,
        needs_refill=True,
        refilled_at=moment(refilled_at) if refilled_at else None,
    )

    done = confirm(frozen, moment(at))

    expected = PumpState(
        confirmed_at=moment(at), refilled_at=frozen.refilled_at, resumed=Resumption(moment(at), NOON - INTERVAL)
    )
    assert done == (expected if flows else frozen)


# Stalls and the MRI ----------------------------------------------------------------------------------------------


def test_a_stall_is_noted_once_and_freezes_the_clock() -> None:
    """The newest stalls are remembered."""
    old = tuple(Stall(START + number * SECOND, START + number * SECOND) for number in range(KEPT))

    state = stall(PumpState(confirmed_at=NOON - INTERVAL, stalls=old), NOON, INTERVAL)

    assert state == PumpState(
        confirmed_at=NOON,
        frozen_at=NOON,
        armed_since=NOON,
        stalled_since=NOON,
        stalls=(*old[1:], Stall(NOON)),
    )
    assert stall(state, NOON + INTERVAL, INTERVAL) == state


@pytest.mark.parametrize(
    ("mri", "at", "by_field"),
    [
        (Mri(NOON, declared_at=NOON), "PT11H45M", True),
        (Mri(NOON, declared_at=NOON), "PT11H44M59S", False),
        (Mri(NOON, declared_at=NOON), "PT14H", True),
        (Mri(NOON, declared_at=NOON), "PT14H1S", False),
        (Mri(NOON, declared_at=NOON, ended_at=moment("PT12H30M")), "PT12H45M", True),
        (Mri(NOON, declared_at=NOON, ended_at=moment("PT12H30M")), "PT12H45M1S", False),
        (Mri(NOON, last_seen_at=NOON), "PT14H", True),
        (Mri(NOON, last_seen_at=NOON), "PT14H1S", False),
    ],
)
def test_a_stall_within_an_mri_s_window_is_the_field_s(mri: Mri, at: str, by_field: bool) -> None:
    """It has to recover anew."""
    recovered = replace(mri, recovered_at=NOON)

    state = stall(PumpState(mri=recovered), moment(at), INTERVAL)

    assert state.mri == (replace(mri, stalled_at=moment(at)) if by_field else recovered)


@pytest.mark.parametrize(
    ("mri", "at", "recovered"),
    [
        (Mri(NOON, declared_at=NOON, stalled_at=moment("PT13H")), "PT13H", False),
        (Mri(NOON, declared_at=NOON, stalled_at=moment("PT13H")), "PT13H1S", True),
        (Mri(NOON, declared_at=NOON), "PT14H", False),
        (Mri(NOON, declared_at=NOON), "PT14H1S", True),
        (Mri(NOON, declared_at=NOON, ended_at=moment("PT12H30M")), "PT12H30M", False),
        (Mri(NOON, declared_at=NOON, ended_at=moment("PT12H30M")), "PT12H30M1S", True),
        (Mri(NOON, last_seen_at=moment("PT12H5M")), "PT12H5M", False),
        (Mri(NOON, last_seen_at=moment("PT12H5M")), "PT12H5M1S", True),
        (Mri(NOON), "PT12H1S", True),
    ],
)
def test_the_motor_is_back_after_the_stall_or_the_end_of_the_field(mri: Mri, at: str, recovered: bool) -> None:
    """Exclusive; it is back once."""
    frozen = PumpState(mri=mri, frozen_at=START, confirmed_at=START, armed_since=START)
    for state in (PumpState(mri=mri), frozen):
        back = confirm(state, moment(at)).mri
        assert back == replace(mri, recovered_at=moment(at) if recovered else None)

    again = replace(mri, recovered_at=NOON)
    assert confirm(PumpState(mri=again), moment("PT20H")).mri == again


def test_a_declared_mri_freezes_the_clock_at_its_start() -> None:
    """It was declared with the report that told it; a stall of the quarter before belongs to it."""
    state = PumpState(confirmed_at=NOON - INTERVAL)

    started = event(state, "mri_start", "PT12H", told_at="PT13H")
    stalled = [
        event(replace(state, stalled_since=moment(since)), "mri_start", "PT12H").mri
        for since in ("PT11H45M", "PT11H44M")
    ]

    assert started.mri == Mri(NOON, declared_at=moment("PT13H"))
    assert (started.confirmed_at, started.frozen_at, started.armed_since) == (NOON, NOON, NOON)
    assert not started.needs_valve_reset
    late = event(PumpState(confirmed_at=NOON + SECOND), "mri_start", "PT12H", told_at="PT13H")
    assert (late.confirmed_at, late.frozen_at) == (NOON + SECOND, None)
    assert [mri.stalled_at if mri else NOON for mri in stalled] == at_all("PT11H45M", None)


@pytest.mark.parametrize(
    ("therapy", "log", "shut"),
    [
        (VALVED, ScanLog(), True),
        (VALVED, ScanLog(valve_reset_at=NOON), True),
        (VALVED, ScanLog(valve_reset_at=NOON + SECOND), False),
        (STRICTEST, ScanLog(valve="open"), True),
        (STRICTEST, ScanLog(), False),
        (THERAPY, ScanLog(valve="open"), False),
    ],
)
def test_a_valve_stays_shut_after_an_mri_until_it_was_reset_since(therapy: Therapy, log: ScanLog, shut: bool) -> None:
    """A reset of its very second was before the field (MRI-05)."""
    state = event(PumpState(scans=log, confirmed_at=NOON), "mri_start", "PT12H", therapy)

    assert state.needs_valve_reset is shut


def test_an_older_mri_than_a_declared_one_changes_nothing() -> None:
    """Nor one of the same second; an undeclared one gives way."""
    mri = Mri(NOON, declared_at=moment("PT12H30M"))

    for at in ("PT12H", "PT11H"):
        assert event(PumpState(mri=mri), "mri_start", at, told_at="PT20H").mri == mri
    newer = event(PumpState(mri=mri), "mri_start", "PT12H1S").mri
    assert newer is not None
    assert newer.start == NOON + SECOND
    assert event(PumpState(mri=Mri(NOON)), "mri_start", "PT11H").mri == Mri(
        moment("PT11H"), declared_at=moment("PT11H")
    )


def test_the_newest_end_of_a_declared_mri_counts() -> None:
    """From its start on, inclusive."""
    state = PumpState(mri=Mri(NOON, declared_at=NOON))

    def ended(state: PumpState, at: str) -> datetime | None:
        mri = event(state, "mri_end", at).mri
        return mri.ended_at if mri else None

    assert [ended(state, at) for at in ("PT12H", "PT11H59M59S", "PT13H")] == at_all("PT12H", None, "PT13H")
    known = PumpState(mri=Mri(NOON, declared_at=NOON, ended_at=moment("PT13H")))
    assert [ended(known, at) for at in ("PT12H30M", "PT13H30M")] == at_all("PT13H", "PT13H30M")
    assert event(known, "mri_end", "PT13H") is known
    assert ended(PumpState(mri=Mri(NOON)), "PT13H") is None
    assert event(UNSEEN, "mri_end", "PT13H") is UNSEEN


def test_the_end_of_an_mri_that_is_told_late_finds_the_motor_seen_running_since() -> None:
    """Not where the clock is frozen, or the motor stands still."""
    running = PumpState(mri=Mri(NOON, declared_at=NOON), confirmed_at=moment("PT13H"))

    def recovered(state: PumpState, at: str = "PT12H30M") -> datetime | None:
        mri = event(state, "mri_end", at, told_at="PT14H").mri
        return mri.recovered_at if mri else None

    assert recovered(running) == moment("PT13H")
    assert recovered(running, "PT13H") is None
    assert recovered(replace(running, frozen_at=NOON)) is None
    assert recovered(replace(running, stalled_since=moment("PT13H"))) is None
    assert recovered(replace(running, confirmed_at=None)) is None


def test_undeclared_interference_is_an_mri_that_arms_the_clock() -> None:
    """A stall that goes on belongs to it."""
    state = PumpState(confirmed_at=NOON - INTERVAL, stalled_since=START)

    found = after(state, "PT12H", emi={"level": "mri"})
    running = after(PumpState(confirmed_at=NOON - INTERVAL), "PT12H", motor="running", emi={"level": "mri"})

    assert found.mri == Mri(NOON, last_seen_at=NOON, stalled_at=START)
    assert (found.confirmed_at, found.frozen_at, found.armed_since) == (NOON, NOON, NOON)
    assert running.mri == Mri(NOON, last_seen_at=NOON)
    assert running.frozen_at == NOON
    assert after(state, "PT12H", emi={"level": "strong"}).mri is None


@pytest.mark.parametrize(
    ("mri", "at", "expected"),
    [
        (Mri(NOON, last_seen_at=NOON), "PT14H", Mri(NOON, last_seen_at=moment("PT14H"))),
        (Mri(NOON, last_seen_at=NOON), "PT14H1S", Mri(moment("PT14H1S"), last_seen_at=moment("PT14H1S"))),
        (Mri(NOON, recovered_at=NOON), "PT13H", Mri(moment("PT13H"), last_seen_at=moment("PT13H"))),
        (Mri(NOON, declared_at=NOON), "PT14H", Mri(NOON, declared_at=NOON)),
        (Mri(NOON, declared_at=NOON), "PT14H1S", Mri(moment("PT14H1S"), last_seen_at=moment("PT14H1S"))),
        (Mri(NOON, declared_at=NOON), "PT11H", Mri(NOON, declared_at=NOON)),
        (Mri(NOON, recovered_at=NOON), "PT12H", Mri(NOON, last_seen_at=NOON)),
    ],
)
def test_interference_goes_on_for_two_hours_until_the_motor_is_back(mri: Mri, at: str, expected: Mri) -> None:
    """Inclusive; a declared MRI explains it, and an older word than the newest MRI says nothing."""
    assert after(PumpState(mri=mri, confirmed_at=NOON), at, emi={"level": "mri"}).mri == expected


def test_interference_since_a_report_inside_a_declared_mri_is_explained() -> None:
    """It is told for the time since the report before."""
    state = PumpState(mri=Mri(NOON, declared_at=NOON), reported_at=moment("PT13H59M"))

    assert after(state, "PT16H", emi={"level": "mri"}).mri == state.mri
    late = after(replace(state, reported_at=moment("PT14H")), "PT16H", emi={"level": "mri"})
    assert late.mri == Mri(moment("PT16H"), last_seen_at=moment("PT16H"))


# Other events ----------------------------------------------------------------------------------------------------


def test_a_refill_takes_its_place_among_levels_and_refills() -> None:
    """What was left and what was put in, at most what any reservoir holds."""
    state = event(UNSEEN, "refill", "PT12H", aspirated_ml=2.0, injected_ml=18.0, residual_ml=0.5)
    early = event(state, "refill", "PT11H", told_at="PT13H", aspirated_ml=1.0, injected_ml=60.0, residual_ml=10.0)

    assert state.refills == (Refill(NOON, 2.0, 18.0, 0.5),)
    assert state.estimated == (Sample(18.5, NOON),)
    assert early.refilled_at == NOON
    assert early.refills == (Refill(moment("PT11H"), 1.0, 60.0, 10.0), *state.refills)
    assert early.estimated == (Sample(60.0, moment("PT11H")), *state.estimated)
    none = event(UNSEEN, "refill", "PT12H", aspirated_ml=0.0, injected_ml=0.0)
    assert none.refills == (Refill(NOON, 0.0, 0.0, 0.0),)


def test_five_levels_and_thirty_two_refills_are_remembered() -> None:
    """The newest ones."""
    state = UNSEEN
    for second in range(KEPT + 1):
        state = event(state, "refill", f"PT{second}S", aspirated_ml=0.0, injected_ml=1.0)

    assert [refill.at for refill in state.refills] == [START + second * SECOND for second in range(1, KEPT + 1)]
    assert [sample.at for sample in state.estimated] == [
        START + second * SECOND for second in range(KEPT - 4, KEPT + 1)
    ]
    later = after(state, "PT1H", reservoir_estimated_ml=1.0)
    assert later.estimated == (*state.estimated[1:], Sample(1.0, moment("PT1H")))


def test_a_clinic_s_session_has_a_start_and_an_end() -> None:
    """In either order; an end alone is a session of its own, and another gateway's is none (M.23)."""
    said: dict[str, Any] = {"session_id": "S", "clinic": True}
    started = event(UNSEEN, "programming_session", "PT12H", phase="start", **said)
    ended = event(started, "programming_session", "PT13H", phase="end", **said)
    earlier = event(ended, "programming_session", "PT11H", phase="start", **said)
    alone = event(UNSEEN, "programming_session", "PT13H", phase="end", **said)

    assert started.sessions == (Session("S", NOON),)
    assert ended.sessions == (Session("S", NOON, moment("PT13H")),)
    assert event(ended, "programming_session", "PT14H", phase="start", **said).sessions == ended.sessions
    assert earlier.sessions == (Session("S", moment("PT11H"), moment("PT13H")),)
    assert alone.sessions == (Session("S", moment("PT13H"), moment("PT13H")),)
    other = event(ended, "programming_session", "PT14H", phase="start", session_id="T", clinic=True)
    assert other.sessions == (*ended.sessions, Session("T", moment("PT14H")))
    stranger = {**said, "clinic": False}
    assert event(UNSEEN, "programming_session", "PT12H", phase="start", **stranger).sessions == ()


def test_thirty_two_sessions_and_symptoms_are_remembered() -> None:
    """The newest ones."""
    state = UNSEEN
    for second in range(KEPT + 1):
        at = f"PT{second}S"
        state = event(state, "programming_session", at, session_id=f"S{second}", phase="start", clinic=True)
        state = event(state, "symptom_report", at, codes=["itching"])

    assert [session.session_id for session in state.sessions] == [f"S{number}" for number in range(1, KEPT + 1)]
    assert [symptoms.at for symptoms in state.symptoms] == [START + number * SECOND for number in range(1, KEPT + 1)]
    assert state.symptoms[0] == Symptoms(START + SECOND, ("itching",))


@pytest.mark.parametrize(
    ("at", "end"),
    [("PT9H59M59S", "PT12H"), ("PT10H", "PT10H"), ("PT11H", "PT11H"), ("PT12H", "PT12H"), ("PT13H", "PT12H")],
)
def test_the_record_of_a_recovery_knows_better_when_a_stall_was_over(at: str, end: str) -> None:
    """Between its start (inclusive) and the first running sample."""
    older = (Stall(START, START + SECOND), Stall(START + INTERVAL, START + 2 * INTERVAL))
    state = PumpState(stalls=(*older, Stall(moment("PT10H"), NOON)), confirmed_at=NOON)

    done = event(state, "stall_recovered", at)

    assert done.stalls == (*older, Stall(moment("PT10H"), moment(end)))
    assert done.confirmed_at == max(NOON, moment(at))


def test_a_recovery_ends_the_stall_that_goes_on_and_without_any_is_evidence_alone() -> None:
    """A stall told by its record begins at its own time."""
    state = event(PumpState(confirmed_at=moment("PT9H45M")), "stall_started", "PT10H", told_at="PT11H")

    done = event(state, "stall_recovered", "PT11H")

    assert (state.stalled_since, state.frozen_at, state.confirmed_at) == tuple(at_all("PT10H", "PT10H", "PT10H"))
    assert done.stalls == (Stall(moment("PT10H"), moment("PT11H")),)
    assert (done.stalled_since, done.frozen_at, done.confirmed_at) == (None, None, moment("PT11H"))
    assert event(UNSEEN, "stall_recovered", "PT11H").confirmed_at == moment("PT11H")


def test_a_reset_to_the_default_program_is_over_with_the_first_delivery_after_it() -> None:
    """The newest one; a reset that keeps the program is none (M.24)."""
    state = event(PumpState(reset_over_at=START), "pump_reset", "PT12H", default_program=True)

    assert (state.reset_at, state.reset_over_at) == (NOON, None)
    assert event(UNSEEN, "pump_reset", "PT12H", default_program=False).reset_at is None
    over = replace(state, reset_over_at=NOON)
    assert event(over, "pump_reset", "PT12H", default_program=True).reset_over_at == NOON
    assert event(over, "pump_reset", "PT11H", default_program=True).reset_at == NOON
    newer = event(over, "pump_reset", "PT13H", default_program=True)
    assert (newer.reset_at, newer.reset_over_at) == (moment("PT13H"), None)


@pytest.mark.parametrize(
    ("at", "motor", "over"), [("PT12H", "running", False), ("PT12H1S", "running", True), ("PT13H", "stopped", False)]
)
def test_delivery_is_confirmed_after_a_reset_by_a_later_report(at: str, motor: str, over: bool) -> None:
    """Exclusive; a clock that is frozen confirms nothing."""
    state = after(PumpState(reset_at=NOON, confirmed_at=NOON - INTERVAL), at, motor=motor)

    assert state.reset_over_at == (moment(at) if over else None)
    known = after(PumpState(reset_at=NOON, reset_over_at=moment("PT12H5M")), "PT13H", motor="running")
    assert known.reset_over_at == moment("PT12H5M")


def test_another_pump_needs_nothing_that_the_old_one_did() -> None:
    """Its own troubles, which began later, stay; so does an MRI that began later."""
    needs: dict[str, Any] = {"needs_refill": True, "needs_interrogation": True, "needs_valve_reset": True}
    state = PumpState(frozen_at=NOON, mri=Mri(NOON, declared_at=NOON), **needs)

    done = event(state, "pump_replaced", "PT12H")
    late = event(state, "pump_replaced", "PT11H59M59S")

    assert seen(done) == PumpState(frozen_at=NOON, replaced_at=NOON)
    assert seen(late) == replace(state, replaced_at=NOON - SECOND)
    assert not event(replace(state, frozen_at=None), "pump_replaced", "PT12H").needs_refill


@pytest.mark.parametrize(
    ("result", "confirmed", "frozen", "stalled"),
    [
        ("running", True, False, False),
        ("stalled", True, True, True),
        ("stopped", True, True, False),
        ("telemetry_mode", True, True, False),
        ("failed", False, False, False),
    ],
)
def test_an_interrogation_says_what_it_found(result: str, confirmed: bool, frozen: bool, stalled: bool) -> None:
    """Within two intervals of the last evidence delivery counts up to it."""
    state = event(PumpState(confirmed_at=NOON - INTERVAL), "interrogation", "PT12H", result=result)

    assert state.confirmed_at == (NOON if confirmed else NOON - INTERVAL)
    assert state.frozen_at == (NOON if frozen else None)
    assert state.stalled_since == (NOON if stalled else None)


def test_an_interrogation_and_a_valve_s_reset_are_the_evidence_that_was_asked_for() -> None:
    """A reset that nobody needs says nothing of delivery."""
    frozen = PumpState(confirmed_at=NOON, frozen_at=NOON, armed_since=NOON)

    asked = event(replace(frozen, needs_interrogation=True), "interrogation", "PT13H", result="running")
    reset = event(replace(frozen, needs_valve_reset=True), "valve_reset", "PT13H")

    assert (asked.frozen_at, asked.needs_interrogation) == (None, False)
    assert (reset.frozen_at, reset.needs_valve_reset) == (None, False)
    assert event(frozen, "valve_reset", "PT13H").frozen_at == NOON


# Measurements ----------------------------------------------------------------------------------------------------


def test_a_first_report_of_everything() -> None:
    """All of it is news."""
    state = after(
        UNSEEN,
        "PT12H",
        motor="running",
        alarms=["low_reservoir"],
        reservoir_estimated_ml=9.0,
        reservoir_measured_ml=8.0,
        flow_programmed_ml_per_day=0.5,
        volume_delivered_ml=1.0,
        program_checksum="a",
    )

    assert seen(state) == PumpState(
        clock=NOON,
        boot_id=1,
        motor="running",
        motor_at=NOON,
        reported_at=NOON,
        alarms=("low_reservoir",),
        alarms_at=NOON,
        estimated=(Sample(9.0, NOON),),
        measured=Sample(8.0, NOON),
        flow_ml_per_day=0.5,
        delivered_ml=1.0,
        confirmed_at=NOON,
        checksum="a",
    )


def test_an_older_report_changes_only_what_nothing_newer_was_said_of() -> None:
    """One of the same second counts for alarms, levels and the motor."""
    first = after(
        UNSEEN,
        "PT12H",
        motor="running",
        alarms=[],
        reservoir_estimated_ml=9.0,
        reservoir_measured_ml=8.0,
        flow_programmed_ml_per_day=0.5,
        program_checksum="a",
    )
    other: dict[str, Any] = {
        "motor": "stopped",
        "alarms": ["low_reservoir"],
        "reservoir_estimated_ml": 5.0,
        "reservoir_measured_ml": 5.0,
        "flow_programmed_ml_per_day": 0.9,
        "program_checksum": "b",
    }

    older = after(first, "PT11H", **other)
    same = after(first, "PT12H", **other)

    assert older == first
    assert (same.motor, same.alarms, same.measured) == ("stopped", ("low_reservoir",), Sample(5.0, NOON))
    assert [sample.value for sample in same.estimated] == [9.0, 5.0]
    assert (same.flow_ml_per_day, same.checksum) == (0.5, "a")


def test_the_report_before_is_remembered_with_the_newest() -> None:
    """What a report leaves out stays."""
    first = after(
        UNSEEN, "PT12H", motor="running", alarms=["low_reservoir"], flow_programmed_ml_per_day=0.5, program_checksum="a"
    )

    second = after(first, "PT13H", reservoir_estimated_ml=9.0)

    assert (second.reported_at, second.previous_at, second.clock) == (moment("PT13H"), NOON, moment("PT13H"))
    assert (second.flow_ml_per_day, second.checksum, second.alarms, second.alarms_at) == (
        0.5,
        "a",
        ("low_reservoir",),
        NOON,
    )
    third = after(second, "PT14H", alarms=[], flow_programmed_ml_per_day=0.7, program_checksum="b")
    assert (third.flow_ml_per_day, third.checksum, third.alarms, third.alarms_at) == (0.7, "b", (), moment("PT14H"))


def test_a_reboot_forgets_the_motor_and_the_counter() -> None:
    """A report of an older boot is no reboot."""
    state = after(UNSEEN, "PT12H", motor="running", volume_delivered_ml=1.0, boot_id=3)

    rebooted = after(state, "PT13H", reservoir_estimated_ml=9.0, boot_id=4)
    older = after(state, "PT13H", reservoir_estimated_ml=9.0, boot_id=2)

    assert (rebooted.boot_id, rebooted.motor, rebooted.motor_at, rebooted.delivered_ml) == (4, None, None, None)
    assert (older.boot_id, older.motor, older.motor_at, older.delivered_ml) == (3, "running", NOON, 1.0)
    back = after(state, "PT11H", motor="stopped", boot_id=4)
    assert (back.motor, back.motor_at) == ("stopped", moment("PT11H"))


def test_a_stop_and_telemetry_mode_count_from_their_first_report() -> None:
    """The newest word on telemetry mode is remembered as well; another motor value ends both."""
    stopped = after(after(UNSEEN, "PT12H", motor="stopped"), "PT13H", motor="stopped")
    asked = after(after(stopped, "PT14H", motor="telemetry_mode"), "PT15H", motor="telemetry_mode")
    running = after(asked, "PT16H", motor="running")

    assert (stopped.stopped_since, stopped.motor_at, stopped.telemetry_mode_since) == (NOON, moment("PT13H"), None)
    assert (asked.stopped_since, asked.telemetry_mode_since, asked.telemetry_mode_at) == tuple(
        at_all(None, "PT14H", "PT15H")
    )
    assert (running.telemetry_mode_since, running.telemetry_mode_at) == (None, None)
    rebooted = after(after(UNSEEN, "PT12H", motor="stopped"), "PT13H", motor="stopped", boot_id=2)
    assert (rebooted.motor, rebooted.stopped_since) == ("stopped", NOON)


@pytest.mark.parametrize("motor", ["stopped", "telemetry_mode", "unknown"])
def test_a_motor_that_does_not_run_freezes_the_clock(motor: str) -> None:
    """It is no stall."""
    state = after(PumpState(confirmed_at=NOON - INTERVAL), "PT12H", motor=motor)

    assert (state.confirmed_at, state.frozen_at, state.stalled_since) == (NOON, NOON, None)


@pytest.mark.parametrize(
    ("said", "stalled", "frozen"),
    [
        ({"motor": "stalled"}, True, True),
        ({"motor": "running", "alarms": ["motor_stall"]}, True, True),
        ({"alarms": ["motor_stall"]}, True, True),
        ({"motor": "running", "alarms": ["reservoir_empty"]}, False, True),
        ({"motor": "running", "alarms": ["low_reservoir"]}, False, False),
        ({"reservoir_estimated_ml": 9.0}, False, False),
    ],
)
def test_alarms_of_delivery_say_more_than_a_turning_motor(said: dict[str, Any], stalled: bool, frozen: bool) -> None:
    """A stall's alarm is a stall."""
    state = after(PumpState(confirmed_at=NOON - INTERVAL), "PT12H", **said)

    assert (state.stalled_since is not None, state.frozen_at is not None) == (stalled, frozen)


@pytest.mark.parametrize(
    "trouble",
    [
        {"frozen_at": NOON, "armed_since": NOON},
        {"armed_since": NOON},
        {"stalled_since": NOON, "stalls": (Stall(NOON),)},
        {"mri": Mri(NOON, last_seen_at=NOON)},
    ],
)
def test_a_running_motor_ends_what_troubled_delivery(trouble: dict[str, Any]) -> None:
    """Each trouble by itself."""
    state = after(PumpState(confirmed_at=NOON, **trouble), "PT13H", motor="running")

    assert (state.confirmed_at, state.frozen_at, state.armed_since, state.stalled_since) == (
        moment("PT13H"),
        None,
        None,
        None,
    )
    assert state.mri is None or state.mri.recovered_at == moment("PT13H")
    assert "stalls" not in trouble or state.stalls == (Stall(NOON, moment("PT13H")),)


@pytest.mark.parametrize("need", ["needs_refill", "needs_interrogation", "needs_valve_reset"])
def test_a_running_motor_is_no_stronger_evidence(need: str) -> None:
    """Also where the clock was never frozen."""
    state = after(replace(PumpState(confirmed_at=NOON), **{need: True}), "PT13H", motor="running")

    assert state.confirmed_at == NOON


def test_a_running_motor_from_before_the_newest_evidence_confirms_nothing() -> None:
    """An interrogation was later."""
    state = after(PumpState(confirmed_at=NOON), "PT11H", motor="running")

    assert (state.confirmed_at, state.motor) == (NOON, "running")
    assert after(PumpState(confirmed_at=NOON), "PT12H", motor="running").confirmed_at == NOON


MOVED = PumpState(clock=NOON, boot_id=1, reported_at=NOON, delivered_ml=1.0, confirmed_at=NOON)


@pytest.mark.parametrize(
    ("said", "confirmed"),
    [
        ({"volume_delivered_ml": 1.1}, True),
        ({"volume_delivered_ml": 1.0}, False),
        ({"volume_delivered_ml": 0.5}, False),
        ({"volume_delivered_ml": 1.1, "boot_id": 2}, False),
        ({"volume_delivered_ml": 1.1, "alarms": ["safe_state"]}, False),
    ],
)
def test_a_volume_that_grew_is_evidence_of_delivery(said: dict[str, Any], confirmed: bool) -> None:
    """Within one boot, and no alarm of delivery beside it."""
    state = after(MOVED, "PT13H", **said)

    assert (state.confirmed_at == moment("PT13H")) is confirmed
    assert state.delivered_ml == said["volume_delivered_ml"]
    assert after(replace(MOVED, delivered_ml=None), "PT13H", volume_delivered_ml=1.1).confirmed_at == NOON


@pytest.mark.parametrize(
    ("frozen_at", "lcd", "frozen"),
    [(None, "PT13H", None), ("PT12H", "PT13H", None), ("PT12H1S", "PT12H", "PT12H1S"), ("PT11H", "PT13H", None)],
)
def test_an_unknown_motor_that_moved_drug_stays_in_doubt(frozen_at: str | None, lcd: str, frozen: str | None) -> None:
    """Delivery is confirmed up to now where all of it moved after the freeze, inclusive; the clock stays armed."""
    armed = moment(frozen_at) if frozen_at else None
    state = replace(MOVED, motor="unknown", frozen_at=armed, armed_since=armed)

    done = after(state, "PT13H", motor="unknown", volume_delivered_ml=1.1)

    assert (done.confirmed_at, done.frozen_at) == tuple(at_all(lcd, frozen))
    assert done.armed_since == (armed if frozen else moment("PT13H"))


def test_an_unknown_motor_that_moved_drug_while_it_asks_for_more_stays_frozen() -> None:
    """Or while an alarm of delivery sounds, or where nothing is known of the report before."""
    state = replace(MOVED, frozen_at=moment("PT11H"), armed_since=moment("PT11H"))
    said: dict[str, Any] = {"motor": "unknown", "volume_delivered_ml": 1.1}

    needing = after(replace(state, needs_interrogation=True), "PT13H", **said)
    alarming = after(state, "PT13H", alarms=["reservoir_empty"], **said)
    first = after(replace(state, reported_at=None), "PT13H", **said)

    for done in (needing, alarming, first):
        assert (done.confirmed_at, done.frozen_at, done.armed_since) == tuple(at_all("PT12H", "PT11H", "PT11H"))


def test_what_the_logs_are_told_comes_in_order() -> None:
    """A report from before the clock is not shown to them, one of its second is."""
    state = after(UNSEEN, "PT12H", motor="running", flow_programmed_ml_per_day=0.5)
    later = after(state, "PT12H", motor="running", flow_programmed_ml_per_day=0.7)
    older = after(state, "PT11H", motor="running", flow_programmed_ml_per_day=0.7)

    assert [point.value for point in later.volumes.rates] == [0.5, 0.7]
    assert older.volumes is state.volumes


def test_every_log_is_told_of_a_report() -> None:
    """Of each something."""
    state = after(
        after(
            UNSEEN,
            "PT12H",
            STRICTEST,
            motor="running",
            flow_programmed_ml_per_day=0.5,
            volume_programmed_ml=1.0,
            volume_delivered_ml=1.0,
        ),
        "PT13H",
        STRICTEST,
        motor="running",
        flow_programmed_ml_per_day=0.5,
        reservoir_estimated_ml=9.0,
        volume_programmed_ml=1.1,
        volume_delivered_ml=1.1,
        temperature_celsius=38.5,
        battery={"voltage_v": 2.9},
        emi={"level": "none"},
    )

    assert [forecast.at for forecast in state.levels.forecasts] == [moment("PT13H")]
    assert len(state.flow.volumes) == 2
    assert state.scans.told_emi
    assert state.power.voltages.values == (2900,)
    assert state.dosing.rate == 0.5
    assert [spell.high for spell in state.heat.spells] == [3850]
    assert state.contacts.unknown_since == NOON
    assert state.volumes.at == moment("PT13H")


def test_a_pump_s_indicator_is_judged_by_what_it_said_and_when_it_was_replaced() -> None:
    """The log of power is told of both."""
    said: dict[str, Any] = {"battery": {"eri": True}}
    state = after(UNSEEN, "PT12H", motor="running", **said)
    replaced = profiles_of({}, care=[{"kind": "replaced", "from": "PT13H"}]).therapy(moment("PT14H"))

    again = after(state, "PT14H", replaced, motor="running", **said)

    assert again.power.eri is not None
    assert again.power.eri.since == moment("PT14H")
    alarming = after(state, "PT13H", motor="running", alarms=["elective_replacement"])
    silenced = after(alarming, "PT14H", motor="running", battery={"eri": False})
    assert silenced.power.eri == state.power.eri


def test_refills_that_showed_something_are_told_to_the_drift() -> None:
    """Once, of a pump that senses no volume."""
    filled = profiles_of({"last_fill_ml": 18.0}).therapy(START)
    state = after(UNSEEN, "PT0H", filled, motor="running", volume_programmed_ml=1.0, flow_programmed_ml_per_day=0.5)
    state = event(state, "refill", "P10D", filled, aspirated_ml=12.0, injected_ml=18.0)

    state = after(state, "P10D", filled, motor="running", volume_programmed_ml=6.0)
    later = after(state, "P11D", filled, motor="running", volume_programmed_ml=6.5)

    assert len(state.fills.outcomes) == 1
    assert state.flow.refill_drift is not None
    assert state.flow.refill_drift.at == moment("P10D")
    assert later.flow.refill_drift == state.flow.refill_drift


# The motor's value -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reported_at", "expires"),
    [
        ("PT12H", None),
        ("PT12H1S", None),
        ("PT12H29M59S", None),
        ("PT12H30M", "PT13H"),
        ("PT20H", "PT13H"),
        (None, None),
    ],
)
def test_a_motor_value_left_out_expires_while_other_telemetry_goes_on(
    reported_at: str | None, expires: str | None
) -> None:
    """After three intervals, an hour at least; silence for two intervals before that is none (M.2)."""
    state = PumpState(motor="running", motor_at=NOON, reported_at=moment(reported_at) if reported_at else None)

    assert motor_expires_at(state, INTERVAL) == (moment(expires) if expires else None)
    assert motor_expires_at(replace(state, motor="unknown"), INTERVAL) is None
    assert motor_expires_at(replace(state, motor_at=None), INTERVAL) is None


def test_three_intervals_of_a_slow_pump_are_longer_than_an_hour() -> None:
    """Exactly three of them."""
    state = PumpState(motor="running", motor_at=NOON, reported_at=moment("PT14H"))

    assert motor_expires_at(state, timedelta(minutes=40)) == moment("PT14H")


def test_an_expired_motor_value_is_unknown_and_freezes_the_clock() -> None:
    """At the moment at which it expired."""
    state = expire_motor_value(PumpState(motor="running", confirmed_at=NOON - INTERVAL), NOON, INTERVAL)

    assert state == PumpState(motor="unknown", confirmed_at=NOON, frozen_at=NOON, armed_since=NOON)


# What people did -------------------------------------------------------------------------------------------------


def test_a_resolved_drift_starts_anew() -> None:
    """Another rule's resolution changes nothing."""
    drift = RefillDrift(START, Sums(3.0, 2.0))
    state = PumpState(flow=FlowLog(refill_drift=drift))

    assert let_go(state, "DLV-08") == PumpState(flow=FlowLog(refill_drift=RefillDrift(START)))
    assert let_go(state, "DLV-07") is state


FALLEN = PumpState(
    levels=LevelLog(steps=(LevelStep(NOON, START, -2.0, 0.0, True),)),
    volumes=VolumeLog(higher=(Reading(10.0, START, 0.0, 0.0), Reading(8.0, NOON, 0.0, 0.0))),
)


def fall(rule_id: str = "RSV-05", start: str = "PT0H", **said: Any) -> Episode:
    """An episode."""
    steps = said.pop("steps", (PriorityStep(Priority.HIGH, START),))
    return Episode(rule_id, moment(start), steps, **said)


@pytest.mark.parametrize(
    ("episode", "done"),
    [
        (fall(start="PT12H"), True),
        (fall(), False),
        (fall(recurred_at=NOON), True),
        (fall(steps=(PriorityStep(Priority.MEDIUM, START), PriorityStep(Priority.HIGH, NOON))), True),
        (fall(steps=(PriorityStep(Priority.MEDIUM, NOON), PriorityStep(Priority.HIGH, START))), False),
        (fall(reminders=(START, NOON)), True),
        (fall(reminders=(NOON, START)), False),
        (fall(reminders=(START, NOON, START)), False),
        (fall("RSV-01", start="PT12H"), False),
    ],
)
def test_people_who_were_told_of_the_newest_fall_are_done_with_what_was_before_it(episode: Episode, done: bool) -> None:
    """By whatever told them last: its opening, its coming back, its rise, or a reminder."""
    state = told(FALLEN, episode)

    assert state.volumes.higher == (FALLEN.volumes.higher[1:] if done else FALLEN.volumes.higher)
    assert done or state is FALLEN


def test_without_a_fall_there_is_nothing_to_be_done_with() -> None:
    """And being told twice changes nothing."""
    once = told(FALLEN, fall(start="PT12H"))

    assert told(UNSEEN, fall(start="PT12H")) is UNSEEN
    assert told(once, fall(start="PT12H")) is once
