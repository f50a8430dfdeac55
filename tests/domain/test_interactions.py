"""Rules that meet: one test per row of the catalogue's interaction table (section J), and what never gives way.

Of the catalogue's invariants I1, I2, I3 and I5 are here. I6 is about snoozing, which there is none of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.domain import pipeline
from streams.domain.alert import AlertEvent, AlertEventKind, AlertRecord, Priority, Reason
from streams.domain.pipeline import Step
from streams.domain.profile import WithdrawalClass
from streams.domain.silence import Hearing
from streams.domain.telemetry import Motor, Received
from streams.domain.world import World
from streams.rehearsal import START, moment, profiles_of, received_of
from tests.domain.laws import HUNDREDS, LIVES, SECOND, UNCOUNTED
from tests.shipped import RULES

pytestmark = HUNDREDS
BACLOFEN: dict[str, Any] = {}
AT_RISK = {"risks": ["prior_withdrawal"]}
NON_DELIVERY = frozenset(
    {"DLV-01", "DLV-03", "DLV-04", "DLV-05", "DLV-09", "RSV-02", *(f"MRI-0{n}" for n in range(2, 7))}
)
MRI_START = {"type": "mri_start", "declared_by": "radiology"}


class Scene:
    """A pump's life as it is told, with a look at every planned moment in between."""

    def __init__(self, overrides: dict[str, Any] | None = None, care: Sequence[Mapping[str, Any]] = ()) -> None:
        self.profiles = profiles_of(BACLOFEN if overrides is None else overrides, care=care)
        self.world, self.events, self.seq = pipeline.new_world("EX-1"), list[AlertEvent](), 0

    def says(self, at: str, **fields: Any) -> None:
        """Take the next report, the moment it was made."""
        self.takes(received_of({"at": at, "boot_id": 0, **fields}, self.seq))

    def takes(self, received: Received) -> None:
        """Take a report when it arrives."""
        self.seq = received.report.seq + 1
        self.looks_until(received.received_at)
        self._took(pipeline.step(self.world, received, self.profiles, RULES, received.received_at))

    def waits(self, until: str) -> None:
        """Look whenever a look is planned, and at the end."""
        self.looks_until(moment(until))
        self._look(moment(until), Hearing(since=START, until=moment(until)))

    def looks_until(self, until: datetime) -> None:
        """Look whenever a look is planned."""
        while self.world.next_wake_at is not None and self.world.next_wake_at <= until:
            now = self.world.next_wake_at
            self._look(now, Hearing(since=START, until=now))

    def restarts(self, at: str) -> None:
        """The service was away, and looks again: it heard nothing meanwhile."""
        self._look(moment(at), Hearing(since=moment(at), until=moment(at)))

    def resolves_all(self, at: datetime) -> None:
        """Somebody tries to close every alert."""
        for record in self.world.ledger:
            done = pipeline.resolve(self.world, self.profiles, RULES, record.alert_id, at, "ada")
            if isinstance(done, Step):
                self._took(done)

    def told(self, rule_id: str) -> list[tuple[AlertEventKind, str, datetime]]:
        """What was published of a rule: what happened, the priority then, and since when it is so."""
        return [
            (event.kind, event.alert.priority, event.effective_at)
            for event in self.events
            if event.alert.rule_id == rule_id and event.kind is not AlertEventKind.AMENDED
        ]

    def record(self, rule_id: str) -> AlertRecord:
        """The rule's alert as last published."""
        return next(event.alert for event in reversed(self.events) if event.alert.rule_id == rule_id)

    def _look(self, now: datetime, hearing: Hearing) -> None:
        self._took(pipeline.tick(self.world, self.profiles, RULES, now, hearing))

    def _took(self, step: Step) -> None:
        self.world = step.world
        self.events.extend(step.events)


def _opened(at: str, priority: Priority) -> tuple[AlertEventKind, str, datetime]:
    return (AlertEventKind.OPENED, priority, moment(at))


def _escalated(at: str, priority: Priority) -> tuple[AlertEventKind, str, datetime]:
    return (AlertEventKind.ESCALATED, priority, moment(at))


def test_a_stall_inside_a_declared_window_is_noted_and_its_clocks_run() -> None:
    """MRI-01 INFO, DLV-01 withheld, LCD frozen, MRI-02, MRI-03 and DLV-09 armed."""
    scene = Scene()
    scene.says("PT0M", motor="running", alarms=[])
    scene.says("PT10M", motor="running", events=[MRI_START])
    scene.says("PT15M", motor="stalled", alarms=["motor_stall"])
    state = scene.world.head.state

    assert scene.told("MRI-01") == [_opened("PT15M", Priority.INFO)]
    assert scene.told("DLV-01") == []
    assert state.confirmed_at == state.frozen_at == state.armed_since == moment("PT10M")
    assert {"MRI-02", "MRI-03", "DLV-09"} <= scene.world.head.wakes.keys()


def test_a_stall_that_starts_after_the_hard_end_is_a_stall() -> None:
    """Fifteen minutes after the end the window is over."""
    scene = Scene()
    scene.says("PT0M", motor="running", events=[MRI_START])
    scene.says("PT40M", motor="running", events=[{"type": "mri_end"}])
    scene.says("PT55M1S", motor="stalled")

    assert scene.told("DLV-01") == [_opened("PT55M1S", Priority.HIGH)]


def test_a_second_window_leaves_a_stall_from_before_the_first_with_its_trap() -> None:
    """M.9: the stall alert that MRI-04 took over stays taken back."""
    scene = Scene()
    scene.says("PT0M", motor="stalled", alarms=["motor_stall"])
    scene.says("PT10M", motor="stalled", events=[MRI_START])
    scene.says("PT45M", motor="stalled", events=[{"type": "mri_end", "at": "PT40M"}])
    scene.says("PT1H", motor="stalled", events=[MRI_START])

    assert not scene.record("DLV-01").open
    assert scene.record("MRI-04").open


def test_a_stall_that_outlives_the_window_is_an_overdue_recovery() -> None:
    """MRI-02, MEDIUM at T1 and HIGH at T2; the stall itself stays withheld."""
    scene = Scene()
    scene.says("PT0M", motor="running", events=[MRI_START])
    scene.says("PT5M", motor="stalled")
    scene.says("PT45M", motor="stalled", events=[{"type": "mri_end", "at": "PT40M"}])
    for minutes in range(60, 200, 15):
        scene.says(f"PT{minutes}M", motor="stalled")

    assert scene.told("DLV-01") == []
    assert scene.told("MRI-02") == [_opened("PT1H10M", Priority.MEDIUM), _escalated("PT2H40M", Priority.HIGH)]


def test_a_window_still_open_at_half_of_the_budget_holds_nothing_back() -> None:
    """I3: MRI-02 is HIGH although nobody said that the MRI ended, and DLV-09 opens under it."""
    scene = Scene(AT_RISK)
    scene.says("PT0M", motor="running", events=[MRI_START])
    scene.says("PT5M", motor="stalled")
    scene.waits("PT1H30M")

    assert scene.told("MRI-02") == [_opened("PT1H30M", Priority.HIGH)]
    assert scene.told("DLV-09") == [_opened("PT1H30M", Priority.HIGH)]
    assert scene.record("DLV-09").parent_id == scene.record("MRI-02").alert_id


def test_an_undeclared_field_with_a_stall_withholds_nothing() -> None:
    """DLV-01 HIGH at once; MRI-02 and MRI-03 watch the recovery."""
    scene = Scene()
    scene.says("PT0M", motor="running", emi={"level": "none"})
    scene.says("PT15M", motor="stalled", emi={"level": "mri"})
    scene.waits("PT45M")

    assert scene.told("DLV-01") == [_opened("PT15M", Priority.HIGH)]
    assert scene.told("MRI-01") == []
    assert scene.told("MRI-02") == [_opened("PT45M", Priority.MEDIUM)]
    assert scene.told("MRI-03") == [_opened("PT45M", Priority.MEDIUM)]
    assert scene.record("MRI-03").parent_id == scene.record("MRI-02").alert_id


def test_any_alarm_at_the_start_of_an_mri_pages_at_once() -> None:
    """MRI-04 HIGH; what would page for the same MRI is its child, and no motor that turns unfreezes the clock."""
    scene = Scene()
    scene.says("PT0M", motor="running", alarms=["elective_replacement"])
    scene.says("PT10M", motor="running", events=[MRI_START])
    scene.says("PT60M", motor="running", events=[{"type": "mri_end", "at": "PT50M"}])
    scene.waits("PT1H30M")
    trap = scene.record("MRI-04")

    assert scene.told("MRI-04") == [_opened("PT10M", Priority.HIGH)]
    assert scene.world.head.state.confirmed_at == moment("PT10M")
    assert scene.record("MRI-02").parent_id == trap.alert_id
    assert scene.record("MRI-03").parent_id == trap.alert_id


def test_an_interrogation_ends_a_trap_and_unfreezes_the_clock() -> None:
    """Then, and not before, delivery counts as confirmed, and the recovery as seen."""
    scene = Scene()
    scene.says("PT0M", motor="running", alarms=["low_reservoir"])
    scene.says("PT10M", motor="running", events=[MRI_START])
    scene.says("PT60M", motor="running", events=[{"type": "mri_end", "at": "PT50M"}])
    scene.says("PT70M", motor="running", events=[{"type": "interrogation", "result": "running", "at": "PT65M"}])
    state = scene.world.head.state

    assert state.confirmed_at == moment("PT70M")
    assert not state.needs_interrogation
    assert state.mri is not None
    assert state.mri.recovered_at == moment("PT65M")
    assert not scene.record("MRI-04").active
    assert scene.record("MRI-04").open


def test_what_an_old_scan_left_open_defers_nothing_of_a_new_one() -> None:
    """MRI-04 of last week waits for a person; the overdue recovery of today's MRI speaks for itself."""
    scene = Scene()
    scene.says("PT0M", motor="running", alarms=["low_reservoir"])
    scene.says("PT10M", motor="running", events=[MRI_START])
    scene.says(
        "PT60M",
        motor="running",
        alarms=[],
        events=[{"type": "mri_end"}, {"type": "interrogation", "result": "running"}],
    )
    scene.says("P7D", motor="running", alarms=[], events=[MRI_START])
    scene.says("P7DT45M", motor="stalled", events=[{"type": "mri_end", "at": "P7DT40M"}])
    scene.waits("P7DT3H")

    assert scene.record("MRI-04").open
    assert scene.record("MRI-02").priority is Priority.HIGH
    assert scene.record("MRI-02").parent_id is None


def test_another_program_after_an_mri_pages() -> None:
    """MRI-06 HIGH, at the first report of the other checksum."""
    scene = Scene()
    scene.says("PT0M", motor="running", program_checksum="A")
    scene.says("PT10M", motor="running", program_checksum="A", events=[MRI_START])
    scene.says("PT60M", motor="running", program_checksum="B", events=[{"type": "mri_end", "at": "PT50M"}])

    assert scene.told("MRI-06") == [_opened("PT1H", Priority.HIGH)]


def test_an_empty_reservoir_stays_open_through_silence() -> None:
    """RSV-02 does not wait for the next report to be true."""
    scene = Scene()
    scene.says("PT0M", motor="running", alarms=["reservoir_empty"])
    scene.waits("P2D")

    assert scene.record("RSV-02").active
    assert scene.record("RSV-02").open


def test_low_and_empty_are_one_matter() -> None:
    """RSV-02 is the parent of RSV-01, whose state is kept."""
    scene = Scene()
    for minutes, level in ((0, 3.0), (15, 2.9), (30, 0.4)):
        scene.says(f"PT{minutes}M", motor="running", reservoir_estimated_ml=level, flow_programmed_ml_per_day=0.5)

    assert scene.record("RSV-01").open
    assert scene.record("RSV-01").parent_id == scene.record("RSV-02").alert_id


def test_after_a_restart_delivery_deadlines_are_those_of_the_pump() -> None:
    """Timers of delivery resume from event time, and the outage is nobody's silence."""
    scene = Scene()
    scene.says("PT0M", motor="running", events=[MRI_START])
    scene.says("PT5M", motor="stalled")
    scene.says("PT45M", motor="stalled", events=[{"type": "mri_end", "at": "PT40M"}])
    scene.restarts("PT5H")

    assert scene.told("MRI-02") == [_opened("PT1H10M", Priority.MEDIUM), _escalated("PT2H40M", Priority.HIGH)]
    assert scene.told("COM-01") == []


def test_an_mri_declared_in_time_takes_back_a_stall_that_already_ended() -> None:
    """M.8: the row opened meanwhile is retracted, although the motor runs again."""
    scene = Scene()
    scene.says("PT0M", motor="running")
    scene.says("PT5M", motor="stalled")
    scene.says("PT8M", motor="running")
    scene.says("PT18M", motor="running", events=[{**MRI_START, "at": "PT2M"}])

    assert scene.told("DLV-01")[-1][0] is AlertEventKind.RETRACTED
    assert scene.record("DLV-01").reason == Reason.MRI_DECLARED


def test_an_mri_declared_too_late_leaves_the_stall_and_makes_it_a_child() -> None:
    """M.8: it keeps its times, and pages no more by itself once the overdue recovery does."""
    scene = Scene()
    scene.says("PT0M", motor="running")
    scene.says("PT5M", motor="stalled")
    scene.says("PT21M", motor="stalled", events=[{**MRI_START, "at": "PT0M"}])
    scene.waits("PT3H30M")
    stall, overdue = scene.record("DLV-01"), scene.record("MRI-02")

    assert stall.effective_from == moment("PT5M")
    assert (stall.priority, overdue.priority) == (Priority.HIGH, Priority.HIGH)
    assert stall.parent_id == overdue.alert_id


def test_a_stall_just_before_the_start_becomes_a_trap() -> None:
    """M.9: DLV-01 is retracted, and MRI-04 says that it takes over from it; MRI-01 notes the stall."""
    scene = Scene()
    scene.says("PT0M", motor="running")
    scene.says("PT5M", motor="stalled")
    stall = scene.record("DLV-01")
    scene.says("PT15M", motor="stalled", events=[MRI_START])

    assert scene.told("DLV-01") == [
        _opened("PT5M", Priority.HIGH),
        (AlertEventKind.RETRACTED, Priority.HIGH, moment("PT5M")),
    ]
    assert scene.told("MRI-04") == [_opened("PT15M", Priority.HIGH)]
    assert scene.told("MRI-01") == [_opened("PT5M", Priority.INFO)]
    opened = next(event for event in scene.events if event.alert.rule_id == "MRI-04")
    assert opened.detail["takes_over"] == str(stall.alert_id)
    assert [event.alert.rule_id for event in scene.events if "takes_over" in event.detail] == ["MRI-04"]


def test_a_stall_just_before_the_start_stays_a_stall_where_nothing_takes_it_over() -> None:
    """On a SynchroMed III there is no trap, so nothing may withhold the stall."""
    scene = Scene({"family": "synchromed_iii"})
    scene.says("PT0M", motor="running")
    scene.says("PT5M", motor="stalled")
    scene.says("PT15M", motor="stalled", events=[MRI_START])

    assert scene.told("DLV-01") == [_opened("PT5M", Priority.HIGH)]
    assert scene.told("MRI-04") == []


def test_telemetry_mode_freezes_the_clock_at_its_first_report() -> None:
    """M.30: whether or not MRI-04 exists yet."""
    scene = Scene()
    scene.says("PT0M", motor="running")
    scene.says("PT10M", motor="telemetry_mode")
    scene.says("PT20M", motor="telemetry_mode")
    early = scene.world.head.state.confirmed_at
    scene.says("PT30M", motor="telemetry_mode")
    scene.says("PT40M", motor="running")

    assert early == scene.world.head.state.confirmed_at == moment("PT10M")
    assert scene.told("MRI-04") == [_opened("PT25M", Priority.HIGH)]


def test_a_valve_gated_pump_delivers_again_only_from_its_reset_on() -> None:
    """The clock is frozen at the start of the MRI, whatever the pump says of its motor."""
    scene = Scene({"family": "prometra_ii"})
    scene.says("PT0M", motor="running")
    scene.says("PT10M", motor="running", events=[MRI_START])
    scene.says("PT60M", motor="running", flow_valve="closed", events=[{"type": "mri_end"}])
    frozen = scene.world.head.state.confirmed_at
    scene.says("PT2H", motor="running", flow_valve="open", events=[{"type": "valve_reset", "at": "PT1H50M"}])

    assert frozen == moment("PT10M")
    assert scene.world.head.state.confirmed_at == moment("PT2H")
    resumed = scene.world.head.state.resumed
    assert resumed is not None
    assert (resumed.at, resumed.not_since) == (moment("PT1H50M"), moment("PT10M"))


PROFILES = st.sampled_from(
    [
        BACLOFEN,
        AT_RISK,
        {"drugs": [{"name": "morphine", "concentration_ug_per_ml": 10000}], "prescribed_ug_per_day": 1000},
        {"drugs": [{"name": "ziconotide", "concentration_ug_per_ml": 25}], "prescribed_ug_per_day": 5},
        {"family": "synchromed_iii"},
        {"family": "prometra_ii"},
    ]
)


@st.composite
def _scans(draw: st.DrawFn) -> list[Received]:
    """A pump's day with an MRI in it: declared at some time or never, ended, recovered and interrogated or not."""
    minutes, told = 0, list[Received]()
    for seq in range(draw(st.integers(3, 12))):
        events: list[dict[str, Any]] = []
        kinds = ["mri_start", "mri_end", "stall_recovered", "interrogation", "valve_reset", "mri_start"]
        for kind in draw(st.lists(st.sampled_from(kinds), max_size=2, unique=True)):
            back = draw(st.sampled_from([0, 5, 10, 20])) if told else 0
            own = {"result": draw(st.sampled_from(["running", "stalled", "failed"]))} if kind == "interrogation" else {}
            events.append({"type": kind, "at": f"PT{max(0, minutes - back)}M", **own})
        entry = {
            "at": f"PT{minutes}M",
            "boot_id": 0,
            "motor": draw(st.sampled_from(["running", "stalled", "stalled", "telemetry_mode", "unknown"])),
            "alarms": draw(st.sampled_from([[], [], ["low_reservoir"]])),
            "events": events,
        }
        if draw(st.booleans()):
            entry["emi"] = {"level": draw(st.sampled_from(["none", "mri"]))}
        told.append(received_of(entry, seq))
        minutes += draw(st.sampled_from([1, 5, 10, 15, 15, 30, 60, 240]))
    return told


def _heard_of(scene: Scene, now: datetime) -> None:
    """I3 and A.6 at one moment: at half of the budget somebody is told as HIGH, and a physician by the whole of it."""
    state, therapy = scene.world.head.state, scene.profiles.therapy(now)
    if state.armed_since is None or state.confirmed_at is None or therapy.withdrawal is WithdrawalClass.W1:
        return
    if now < max(state.confirmed_at + therapy.budget / 2, state.armed_since):
        return
    told = [record for record in _high(scene.world) if record.rule_id in NON_DELIVERY]
    assert any(_speaks(record, told, scene.world.ledger) for record in told)
    assert any(record.physician_by and record.physician_by <= state.confirmed_at + therapy.budget for record in told)


def _high(world: World) -> list[AlertRecord]:
    return [record for record in world.ledger if record.open and record.active and record.priority is Priority.HIGH]


def _speaks(record: AlertRecord, told: Iterable[AlertRecord], ledger: Iterable[AlertRecord]) -> bool:
    """Whether somebody hears of it as HIGH: its own ladder is climbed, or that of a HIGH parent which speaks for both.

    Its own is climbed without a parent, and also under one of lower priority (`escalation.Silence.CHILD_OF`).
    """
    parent = next((other for other in ledger if other.alert_id == record.parent_id), None)
    return parent is None or parent.priority.rank < record.priority.rank or parent in told


@UNCOUNTED
@LIVES
@given(told=_scans(), overrides=PROFILES, hours=st.integers(0, 14))
def test_no_window_hides_non_delivery_past_half_of_the_budget(
    told: list[Received], overrides: dict[str, Any], hours: int
) -> None:
    """I3: whatever was declared, ended, recovered or interrogated, at half of the budget HIGH is open."""
    scene = Scene(overrides)
    for received in told:
        scene.takes(received)
        _heard_of(scene, received.received_at)
    for hour in range(hours):
        until = told[-1].received_at + timedelta(hours=hour)
        scene.looks_until(until)
        _heard_of(scene, until)


@UNCOUNTED
@LIVES
@given(told=_scans(), overrides=PROFILES, closing=st.lists(st.integers(0, 900), max_size=5))
def test_nothing_that_a_person_closes_stops_the_delivery_clock(
    told: list[Received], overrides: dict[str, Any], closing: list[int]
) -> None:
    """I5: closing alerts moves no evidence of delivery, and at half of the budget HIGH is open all the same."""
    alone, closed = Scene(overrides), Scene(overrides)
    moments = sorted(START + timedelta(minutes=minutes) + SECOND for minutes in closing)
    for received in told:
        alone.takes(received)
        while moments and moments[0] <= received.received_at:
            closed.looks_until(moments[0])
            closed.resolves_all(moments.pop(0))
        closed.takes(received)
        _heard_of(closed, received.received_at)
    clock, other = alone.world.head.state, closed.world.head.state

    assert (clock.confirmed_at, clock.frozen_at, clock.armed_since) == (
        other.confirmed_at,
        other.frozen_at,
        other.armed_since,
    )


@st.composite
def _explained(draw: st.DrawFn) -> list[Received]:
    """A pump that does not deliver at the end; scans, sessions at the clinic and planned scans come with it."""
    minutes, told = 0, list[Received]()
    for seq in range(draw(st.integers(2, 6))):
        events = [
            {"type": kind, "at": f"PT{minutes}M", **fields}
            for kind, fields in draw(st.lists(st.sampled_from(_EXPLANATIONS), max_size=2, unique_by=str))
        ]
        last = draw(st.sampled_from(["stalled", "stopped", "telemetry_mode"]))
        entry = {"at": f"PT{minutes}M", "boot_id": 0, "clinic": True, "events": events}
        told.append(received_of({**entry, "motor": last if seq else "running"}, seq))
        minutes += draw(st.sampled_from([1, 5, 15, 15, 60]))
    return told


_EXPLANATIONS: list[tuple[str, dict[str, str]]] = [
    ("mri_start", {"declared_by": "radiology"}),
    ("mri_end", {}),
    ("programming_session", {"session_id": "S-1", "phase": "start"}),
    ("programming_session", {"session_id": "S-1", "phase": "end"}),
    ("mri_scheduled", {"for": "PT3H"}),
]
PLANS = st.sampled_from(
    [
        (),
        ({"kind": "stop_plan", "from": "PT0H", "until": "P10D"},),
        ({"kind": "session", "from": "PT0H", "session_id": "S-2", "until": "P10D"},),
    ]
)


@UNCOUNTED
@LIVES
@given(told=_explained(), overrides=PROFILES, plans=PLANS)
def test_every_explanation_ends_by_itself(
    told: list[Received], overrides: dict[str, Any], plans: Sequence[Mapping[str, Any]]
) -> None:
    """I1: a day after the last confirmed delivery people are told, whatever was declared, planned or begun."""
    scene = Scene(overrides, plans)
    for received in told:
        scene.takes(received)
    confirmed_at = scene.world.head.state.confirmed_at
    assert confirmed_at is not None

    end = max(confirmed_at, told[-1].received_at) + timedelta(hours=25)
    scene.looks_until(end)

    lowers = scene.profiles.therapy(end).withdrawal is WithdrawalClass.W1
    least = Priority.MEDIUM if lowers else Priority.HIGH
    told_of = [
        record for record in scene.world.ledger if record.open and record.active and record.rule_id in NON_DELIVERY
    ]
    assert max(record.priority.rank for record in told_of) >= least.rank


@UNCOUNTED
@LIVES
@given(told=_explained(), overrides=PROFILES, plans=PLANS)
def test_what_is_explained_is_recorded_all_the_same(
    told: list[Received], overrides: dict[str, Any], plans: Sequence[Mapping[str, Any]]
) -> None:
    """I2: a pump that says that it does not deliver has an open alert of some priority from its first word on."""
    scene = Scene(overrides, plans)
    for received in told:
        scene.takes(received)
        if received.report.motor in (Motor.STALLED, Motor.STOPPED):
            assert [record for record in scene.world.ledger if record.open and record.active and _of_motor(record)]


def _of_motor(record: AlertRecord) -> bool:
    return record.rule_id in NON_DELIVERY or record.rule_id == "MRI-01"


# Rows about refills, sessions and what patients feel ----------------------------------------------------------------


def test_low_with_nothing_booked_is_one_matter() -> None:
    """RSV-03 HIGH is the parent; RSV-01 annotates."""
    scene = Scene()
    for hour in range(4):
        scene.says(
            f"PT{hour}H", motor="running", reservoir_estimated_ml=3.0 - 0.2 * hour, flow_programmed_ml_per_day=4.8
        )

    outlook, low = scene.record("RSV-03"), scene.record("RSV-01")

    assert (outlook.priority, outlook.parent_id) == (Priority.HIGH, None)
    assert low.open
    assert low.parent_id == outlook.alert_id


def test_a_refill_soon_after_a_recovery_is_judged_for_itself() -> None:
    """REF-01 and REF-04 each by its own condition; DLV-01 stays latched."""
    scene = Scene()
    scene.says("PT0H", motor="running", reservoir_measured_ml=5.0, volume_programmed_ml=0.0)
    scene.says("PT15M", motor="stalled", reservoir_measured_ml=5.0, volume_programmed_ml=0.0)
    scene.says("PT13H", motor="running", reservoir_measured_ml=5.0, volume_programmed_ml=0.2)
    refill = {"type": "refill", "aspirated_ml": 5.0, "injected_ml": 18.0}
    scene.says("PT13H30M", motor="running", reservoir_measured_ml=16.0, volume_programmed_ml=0.2, events=[refill])

    assert scene.record("REF-01").priority is Priority.HIGH
    assert scene.record("REF-04").priority is Priority.HIGH
    assert scene.record("DLV-01").open


def test_a_session_explains_a_stop_until_a_quarter_of_an_hour_after_it() -> None:
    """DLV-03 is noted and held; once the session's hold is over it is judged by the time without delivery."""
    scene = Scene()
    session = {"type": "programming_session", "session_id": "S-1"}
    scene.says("PT0M", motor="running", clinic=True, events=[{**session, "phase": "start"}])
    scene.says("PT5M", motor="stopped")
    scene.says("PT20M", motor="stopped", clinic=True, events=[{**session, "phase": "end"}])
    scene.waits("PT4H")

    priorities = [priority for kind, priority, _ in scene.told("DLV-03") if kind is not AlertEventKind.CLEARED]
    assert priorities[0] == Priority.INFO
    assert priorities[-1] == Priority.HIGH
    assert all(at >= moment("PT35M") for _, priority, at in scene.told("DLV-03") if priority == Priority.HIGH)


def test_known_over_infusion_brings_the_empty_date_nearer() -> None:
    """After REF-02 the observed ratio replaces the labelled one."""
    scene, usual = Scene({"last_fill_ml": 20.0}), Scene()
    for pump in (scene, usual):
        pump.says("PT0H", motor="running", reservoir_estimated_ml=8.0, volume_programmed_ml=12.0)
    # 20 mL filled, 12 mL programmed, 2 mL left: 18 / 12 is half as much again as programmed.
    found = {"type": "refill", "aspirated_ml": 2.0, "injected_ml": 18.0}
    scene.says("PT1H", motor="running", reservoir_estimated_ml=18.0, volume_programmed_ml=12.0, events=[found])
    usual.says("PT1H", motor="running", reservoir_estimated_ml=18.0, volume_programmed_ml=12.0)

    at = moment("PT1H")
    known = scene.world.head.state.empty_at(scene.profiles.therapy(at), at)
    unknown = usual.world.head.state.empty_at(usual.profiles.therapy(at), at)

    assert scene.record("REF-02").open
    assert known is not None
    assert unknown is not None
    assert known < unknown


def test_another_program_after_an_mri_is_the_parent_of_an_unknown_change() -> None:
    """MRI-06 pages; THR-02 is its child."""
    scene = Scene()
    scene.says("PT0H", motor="running", program_checksum="A", events=[MRI_START])
    change = {"type": "program_change", "old_checksum": "A", "new_checksum": "B"}
    scene.says("PT1H", motor="running", program_checksum="B", events=[{"type": "mri_end", "at": "PT40M"}, change])

    assert scene.record("MRI-06").open
    assert scene.record("THR-02").parent_id == scene.record("MRI-06").alert_id


def test_a_fever_brings_the_second_step_of_a_stall_at_once() -> None:
    """TMP-01: on baclofen warmth at the pump may be an early sign of withdrawal."""
    scene, cool = Scene(), Scene()
    for hour in range(0, 28, 4):
        scene.says(f"PT{hour}H", motor="running", temperature_celsius=36.6)
        cool.says(f"PT{hour}H", motor="running", temperature_celsius=36.6)
    for minute in (0, 15, 30):
        scene.says(f"PT28H{minute}M", motor="running", temperature_celsius=39.4)
        cool.says(f"PT28H{minute}M", motor="running", temperature_celsius=36.6)
    scene.says("PT28H40M", motor="stalled", temperature_celsius=39.4)
    cool.says("PT28H40M", motor="stalled", temperature_celsius=36.6)

    assert scene.record("TMP-01").open
    assert (scene.record("DLV-01").start_step, cool.record("DLV-01").start_step) == (1, 0)


def test_a_fever_advances_what_was_open_before_it() -> None:
    """A stopped pump and one in telemetry mode, like a stall, and the clock behind them."""
    for motor, rule_id in (("stopped", "DLV-03"), ("telemetry_mode", "MRI-04")):
        scene = Scene()
        for hour in range(0, 28, 4):
            scene.says(f"PT{hour}H", motor="running", temperature_celsius=36.6)
        scene.says("PT28H", motor=motor, temperature_celsius=36.6)
        scene.says("PT29H30M", motor=motor, temperature_celsius=36.6)
        before = scene.record(rule_id).start_step
        for minute in (40, 50):
            scene.says(f"PT29H{minute}M", motor=motor, temperature_celsius=38.5)
        scene.waits("PT32H")

        assert scene.record("TMP-01").open
        assert (before, scene.record(rule_id).start_step, scene.record("DLV-09").start_step) == (0, 1, 1)
