"""MRI at its limits: what explains a stall, and what MRI-01 to MRI-03 say of single states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from streams.domain.alert import Priority
from streams.domain.conditions.mri import explained, scan_of, withholds_stall
from streams.domain.observing.flow import FlowLog, Scan
from streams.domain.observing.scans import ScanLog
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Presence
from streams.domain.telemetry import Motor
from streams.domain.world import Mri, PumpState
from streams.rehearsal import moment
from tests.domain.views import MORPHINE, PROMETRA, ZICONOTIDE, judged, step, track, view_at

MEDIUM, HIGH = Priority.MEDIUM, Priority.HIGH
HIGH_RISK = {"risks": ["prior_withdrawal"]}


def _at(offset: str | None) -> Any:
    return moment(offset) if offset is not None else None


def _scan(start: str, declared_at: str | None = None, ended_at: str | None = None) -> Scan:
    return Scan(moment(start), _at(ended_at), _at(declared_at))


def _withheld(stalled_at: str, *scans: Scan, profile: Mapping[str, Any] | None = {}, **fields: Any) -> bool:
    trapped_at = fields.pop("trapped_at", None)
    state = PumpState(flow=FlowLog(scans=scans), scans=ScanLog(trapped_at=_at(trapped_at)), **fields)
    view = view_at("P1D", state, profile=profile)
    return withholds_stall(state, view.therapy, moment(stalled_at))


@pytest.mark.parametrize(
    ("stalled_at", "scan", "withheld"),
    [
        ("PT0S", _scan("PT0H", "PT0H"), True),
        ("PT2H", _scan("PT0H", "PT0H"), True),
        ("PT2H1S", _scan("PT0H", "PT0H"), False),
        ("PT55M", _scan("PT0H", "PT0H", "PT40M"), True),
        ("PT55M1S", _scan("PT0H", "PT0H", "PT40M"), False),
        ("PT5M", _scan("PT0H", "PT20M"), True),
        ("PT5M", _scan("PT0H", "PT20M1S"), False),
        ("PT5M", _scan("PT0H"), True),
    ],
)
def test_an_mri_explains_a_stall_in_its_window_that_was_declared_in_time(
    stalled_at: str, scan: Scan, withheld: bool
) -> None:
    """M.8: a quarter of an hour after the stall at the latest, inclusive."""
    assert _withheld(stalled_at, scan) is withheld
    assert not _withheld(stalled_at)


@pytest.mark.parametrize(("trapped_at", "withheld"), [(None, False), ("-PT1S", False), ("PT0S", True), ("PT10M", True)])
def test_a_stall_before_the_start_is_explained_where_the_trap_takes_it_over(
    trapped_at: str | None, withheld: bool
) -> None:
    """M.9: only SynchroMed II has that trap."""
    scan, third = _scan("PT0H", "PT0H"), {"family": "synchromed_iii"}

    assert _withheld("-PT1S", scan, trapped_at=trapped_at) is withheld
    assert _withheld("-PT15M", scan, trapped_at=trapped_at) is withheld
    assert not _withheld("-PT15M1S", scan, trapped_at=trapped_at)
    assert not _withheld("-PT1S", scan, trapped_at=trapped_at, profile=third)
    assert _withheld("PT0S", scan, trapped_at=trapped_at, profile=third)


def test_no_mri_explains_a_stall_of_a_pump_that_nobody_knows_or_that_has_valves() -> None:
    """M.22: without a profile nothing is withheld."""
    scan = _scan("PT0H", "PT0H")

    assert not _withheld("PT5M", scan, profile=None)
    assert not _withheld("PT5M", scan, profile=PROMETRA)


@pytest.mark.parametrize(
    ("replaced_at", "withheld"), [("-PT1S", True), ("PT0S", False), ("PT5M", False), ("PT5M1S", True)]
)
def test_a_pump_that_came_after_the_start_was_in_no_field(replaced_at: str, withheld: bool) -> None:
    """MRI-01: the stall is the new pump's."""
    assert _withheld("PT5M", _scan("PT0H", "PT0H"), replaced_at=moment(replaced_at)) is withheld


def test_any_of_several_mris_may_explain_a_stall() -> None:
    """MRI-01: one before it that does not is no obstacle."""
    right = _scan("PT6H", "PT6H")

    for other in (_scan("PT0H", "PT0H"), _scan("PT5H", "P1D"), _scan("PT6H15M", "PT6H15M")):
        assert _withheld("PT6H5M", other, right)
        assert _withheld("PT6H5M", right, other)


def test_a_stall_belongs_to_the_newest_mri_in_whose_window_it_began() -> None:
    """However late it was declared."""
    early, late = _scan("PT0H", "P1D"), _scan("PT1H", "P1D")
    state = PumpState(flow=FlowLog(scans=(early, late)))

    assert scan_of(state, moment("PT44M59S")) == moment("PT0H")
    assert scan_of(state, moment("PT45M")) == moment("PT1H")
    assert scan_of(state, moment("PT3H1S")) is None


def test_an_episode_is_explained_by_its_own_start() -> None:
    """Where there is none nothing is."""
    state = PumpState(flow=FlowLog(scans=(_scan("PT0H", "PT0H"),)))

    assert explained(view_at("PT5H", state), track("DLV-01", "PT5M"))
    assert not explained(view_at("PT5H", state), track("DLV-01", "PT3H"))
    assert not explained(view_at("PT5H", state), None)


def _declared(start: str = "PT0H", ended_at: str | None = None, **fields: Any) -> Mri:
    return Mri(moment(start), declared_at=moment(start), ended_at=_at(ended_at), **fields)


def test_an_expected_stall_is_attached_until_it_recovers() -> None:
    """MRI-01: INFO from the stall on; evidence of recovery ends it, another stall does not."""
    scans = FlowLog(scans=(_scan("PT0H", "PT0H"),))
    stalled = PumpState(motor=Motor.STALLED, stalled_since=moment("PT5M"), flow=scans)
    later = PumpState(motor=Motor.STALLED, stalled_since=moment("PT5H"), flow=scans)
    over = PumpState(motor=Motor.RUNNING, last_stall_ended_at=moment("PT1H"), flow=scans)
    own = track("MRI-01", "PT5M", Priority.INFO)

    assert judged("MRI-01", "PT10M", stalled) == Finding(Presence.PRESENT, (step(Priority.INFO, "PT5M"),))
    assert judged("MRI-01", "PT6H", later) == ABSENT
    assert judged("MRI-01", "PT6H", later, own) == NOT_EVALUABLE
    assert judged("MRI-01", "PT6H", over, own) == Finding(Presence.ABSENT, ended_at=moment("PT1H"))


def test_a_stall_is_expected_of_no_pump_with_valves_or_without_a_profile_or_a_word() -> None:
    """MRI-01: a motor or an MRI that was told is a word."""
    running = PumpState(motor=Motor.RUNNING)

    assert judged("MRI-01", "PT6H", PumpState()) == NOT_EVALUABLE
    assert judged("MRI-01", "PT6H", running) == ABSENT
    assert judged("MRI-01", "PT6H", PumpState(mri=_declared())) == ABSENT
    for profile in (PROMETRA, None):
        assert judged("MRI-01", "PT6H", running, profile=profile) == NOT_EVALUABLE


def _overdue(mri: Mri | None, **fields: Any) -> PumpState:
    return PumpState(motor=Motor.STALLED, mri=mri, **{"confirmed_at": moment("PT0H"), **fields})


AFTER_AN_END = [
    ("PT1H9M59S", (), "PT1H10M"),
    ("PT1H10M", (step(MEDIUM, "PT1H10M"),), "PT2H40M"),
    ("PT2H39M59S", (step(MEDIUM, "PT1H10M"),), "PT2H40M"),
    ("PT2H40M", (step(MEDIUM, "PT1H10M"), step(HIGH, "PT2H40M")), None),
]
"""Moments, steps and the next look after an MRI that ended at 40 minutes: T1 and T2 of MRI-02, and those of MRI-03."""
ENDED = {"end": "ended 2026-11-02 00:40 UTC"}
STILL_OPEN = {"end": "its window is open until 2026-11-02 02:00 UTC"}


@pytest.mark.parametrize(
    ("at", "steps", "wake_at"),
    AFTER_AN_END,
)
def test_a_recovery_is_overdue_half_an_hour_after_the_end_and_gravely_two_hours_after_it(
    at: str, steps: tuple[Any, ...], wake_at: str | None
) -> None:
    """MRI-02: both inclusive; from HIGH on the physician is called at the budget."""
    found = judged("MRI-02", at, _overdue(_declared(ended_at="PT40M")))

    if not steps:
        assert found == Finding(Presence.ABSENT, wake_at=_at(wake_at))
        return
    physician_by = moment("PT6H") if len(steps) == 2 else None
    assert found == Finding(Presence.PRESENT, steps, wake_at=_at(wake_at), physician_by=physician_by, values=ENDED)


@pytest.mark.parametrize(
    ("mri", "fields", "profile", "deadlines"),
    [
        (_declared(), {}, {}, [(MEDIUM, "PT2H30M"), (HIGH, "PT3H")]),
        (_declared(), {}, HIGH_RISK, [(HIGH, "PT1H30M")]),
        (_declared(ended_at="PT40M"), {}, HIGH_RISK, [(MEDIUM, "PT1H10M"), (HIGH, "PT1H30M")]),
        (_declared(ended_at="PT1H"), {}, HIGH_RISK, [(HIGH, "PT1H30M")]),
        (_declared(ended_at="PT40M"), {"confirmed_at": moment("-PT1H")}, {}, [(MEDIUM, "PT1H10M"), (HIGH, "PT2H")]),
        (_declared(), {"confirmed_at": None}, {}, [(MEDIUM, "PT2H30M"), (HIGH, "PT3H")]),
        (_declared(), {"confirmed_at": moment("-PT9H")}, {}, [(HIGH, "PT0H")]),
        (_declared(ended_at="PT40M"), {}, ZICONOTIDE, [(MEDIUM, "PT1H10M")]),
        (_declared(), {"confirmed_at": moment("-P2D")}, ZICONOTIDE, [(MEDIUM, "PT0H")]),
        (Mri(moment("PT0H"), last_seen_at=moment("PT20M")), {}, {}, [(MEDIUM, "PT50M"), (HIGH, "PT2H20M")]),
        (Mri(moment("PT0H")), {}, {}, [(MEDIUM, "PT30M"), (HIGH, "PT2H")]),
    ],
)
def test_half_of_the_budget_brings_the_grave_step_forward(
    mri: Mri, fields: dict[str, Any], profile: dict[str, Any], deadlines: list[tuple[Priority, str]]
) -> None:
    """MRI-02: never before the MRI; MEDIUM is skipped where HIGH is due no later, and is all that W1 gets."""
    found = judged("MRI-02", "P3D", _overdue(mri, **fields), profile=profile)

    assert found.steps == tuple(step(priority, at) for priority, at in deadlines)


def test_while_the_window_is_open_the_text_says_until_when() -> None:
    """MRI-02: at its very end it has ended."""
    during = judged("MRI-02", "PT1H59M59S", _overdue(_declared()), profile=HIGH_RISK)
    at_end = judged("MRI-02", "PT2H", _overdue(_declared()), profile=HIGH_RISK)

    assert during.values == STILL_OPEN
    assert at_end.values == {"end": "ended 2026-11-02 02:00 UTC"}


def test_without_confirmed_delivery_the_budget_counts_from_the_mri() -> None:
    """MRI-02: also for the physician."""
    found = judged("MRI-02", "PT3H", _overdue(_declared("PT10M"), confirmed_at=None))

    assert found.steps == (step(MEDIUM, "PT2H40M"),)
    assert judged("MRI-02", "PT4H", _overdue(_declared("PT10M"), confirmed_at=None)).physician_by == moment("PT6H10M")


def test_an_open_alert_waits_where_its_deadline_was_moved() -> None:
    """MRI-02 and MRI-03: the mere passing of time shows no recovery."""
    state = _overdue(_declared(ended_at="PT40M"))

    for rule_id in ("MRI-02", "MRI-03"):
        found = judged(rule_id, "PT1H", state, track(rule_id, "PT50M", MEDIUM))
        assert found == Finding(Presence.NOT_EVALUABLE, wake_at=moment("PT1H10M"))


def test_a_recovery_ends_it_whatever_the_time() -> None:
    """MRI-02: by its own time."""
    state = _overdue(_declared(ended_at="PT40M", recovered_at=moment("PT1H5M")))

    assert judged("MRI-02", "PT9H", state) == Finding(Presence.ABSENT, ended_at=moment("PT1H5M"))


@pytest.mark.parametrize("rule_id", ["MRI-02", "MRI-03"])
def test_without_an_mri_nothing_is_overdue_of_a_pump_that_told_its_motor(rule_id: str) -> None:
    """MRI-02 and MRI-03: pumps with valves have rules of their own."""
    assert judged(rule_id, "P1D", PumpState()) == NOT_EVALUABLE
    assert judged(rule_id, "P1D", PumpState(motor=Motor.RUNNING)) == ABSENT
    assert judged(rule_id, "P1D", PumpState(motor=Motor.RUNNING), profile=PROMETRA) == NOT_EVALUABLE
    assert judged(rule_id, "P1D", _overdue(_declared()), profile=PROMETRA) == NOT_EVALUABLE


@pytest.mark.parametrize("rule_id", ["MRI-02", "MRI-03"])
def test_a_later_version_of_the_profile_is_overdue_from_its_start_on(rule_id: str) -> None:
    """M.29: both steps."""
    later = [{"from": "PT5H", **HIGH_RISK}]

    found = judged(rule_id, "PT5H", _overdue(_declared(ended_at="PT40M")), later=later)

    assert found.steps[-1] == step(HIGH, "PT5H")
    assert all(reached.at == moment("PT5H") for reached in found.steps)


def test_the_trap_of_the_same_mri_is_the_parent() -> None:
    """MRI-02 goes under MRI-04, MRI-03 under either; what an earlier MRI left open takes nothing."""
    state = _overdue(_declared(ended_at="PT40M"))
    trap, overdue = track("MRI-04", "-PT15M"), track("MRI-02", "PT1H10M")
    old = track("MRI-04", "-PT15M1S")

    assert judged("MRI-02", "PT2H", state, trap).parents == ("MRI-04",)
    assert judged("MRI-02", "PT2H", state, old).parents == ()
    assert judged("MRI-03", "PT2H", state, trap, overdue).parents == ("MRI-04", "MRI-02")
    assert judged("MRI-03", "PT2H", state, old, overdue).parents == ("MRI-02",)


def _asked(mri: Mri, **log: str) -> PumpState:
    times: dict[str, Any] = {name: moment(at) for name, at in log.items()}
    return PumpState(motor=Motor.RUNNING, mri=mri, scans=ScanLog(**times))


AFTER = {"end": "2026-11-02 00:40 UTC"}


@pytest.mark.parametrize(
    ("at", "steps", "wake_at"),
    AFTER_AN_END,
)
@pytest.mark.parametrize("profile", [{}, MORPHINE])
def test_an_interrogation_is_missed_half_an_hour_and_gravely_two_hours_after_the_end(
    at: str, steps: tuple[Any, ...], wake_at: str | None, profile: dict[str, Any]
) -> None:
    """MRI-03: both inclusive, on W2 and W3."""
    found = judged("MRI-03", at, _asked(_declared(ended_at="PT40M")), profile=profile)

    if not steps:
        assert found == Finding(Presence.ABSENT, wake_at=_at(wake_at))
        return
    values = {**AFTER, "delivery": "Delivery was not seen since"}
    assert found == Finding(Presence.PRESENT, steps, wake_at=_at(wake_at), values=values)


@pytest.mark.parametrize(
    ("delivered_at", "seen"), [("PT40M", False), ("PT40M1S", True), ("PT2H40M", True), ("PT2H40M1S", False)]
)
def test_delivery_seen_between_the_end_and_the_grave_deadline_keeps_it_at_medium(delivered_at: str, seen: bool) -> None:
    """MRI-03: and the text says which it was."""
    found = judged("MRI-03", "PT9H", _asked(_declared(ended_at="PT40M"), delivered_at=delivered_at))

    assert [reached.priority for reached in found.steps] == ([MEDIUM] if seen else [MEDIUM, HIGH])
    assert found.values == {**AFTER, "delivery": f"Delivery was {'' if seen else 'not '}seen since"}


def test_a_harmless_drug_stays_at_medium() -> None:
    """MRI-03: W1."""
    found = judged("MRI-03", "PT9H", _asked(_declared(ended_at="PT40M")), profile=ZICONOTIDE)

    assert found.steps == (step(MEDIUM, "PT1H10M"),)


def test_an_interrogation_from_the_end_on_settles_it() -> None:
    """MRI-03: for an open alert already from its own start on, where an end that was told later moved it."""
    mri = _declared(ended_at="PT40M")
    settled = Finding(Presence.ABSENT, ended_at=moment("PT40M"))
    before = _asked(mri, interrogated_at="PT39M59S")

    assert judged("MRI-03", "PT9H", _asked(mri, interrogated_at="PT40M")) == settled
    assert judged("MRI-03", "PT9H", before).steps
    assert judged("MRI-03", "PT9H", before, track("MRI-03", "PT39M59S")).presence is Presence.ABSENT
    assert judged("MRI-03", "PT9H", before, track("MRI-03", "PT1H10M")).steps


@pytest.mark.parametrize(
    ("mri", "asks"),
    [
        (Mri(moment("PT0H"), last_seen_at=moment("PT40M"), recovered_at=moment("PT1H")), False),
        (Mri(moment("PT0H"), last_seen_at=moment("PT40M")), True),
        (
            Mri(
                moment("PT0H"),
                last_seen_at=moment("PT40M"),
                stalled_at=moment("PT5M"),
                recovered_at=moment("PT1H"),
            ),
            True,
        ),
        (_declared(ended_at="PT40M", recovered_at=moment("PT1H")), True),
    ],
)
def test_an_undeclared_mri_asks_only_after_a_stall_or_without_later_delivery(mri: Mri, asks: bool) -> None:
    """MRI-03, M.10: a declared one always does."""
    found = judged("MRI-03", "PT9H", _asked(mri))

    if asks:
        assert found.steps == (step(MEDIUM, "PT1H10M"), step(HIGH, "PT2H40M"))
    else:
        assert found == Finding(Presence.ABSENT, ended_at=moment("PT1H"))
