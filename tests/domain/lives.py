"""Made-up lives of one pump for property tests: what it reported, in order, with all the dirt that rules care about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hypothesis import strategies as st

from streams.domain import pipeline
from streams.domain.alert import AlertEvent, AlertRecord
from streams.domain.care import CareKind, CareRecord
from streams.domain.pipeline import Outcome
from streams.domain.profile import ProfileHistory
from streams.domain.rule import RuleBook
from streams.domain.silence import Hearing
from streams.domain.telemetry import (
    Alarm,
    Battery,
    Emi,
    EmiLevel,
    Event,
    EventType,
    FlowValve,
    InterrogationResult,
    Motor,
    PumpId,
    Received,
    Report,
    Symptom,
)
from streams.domain.world import World, decode_world, encode_world
from streams.rehearsal import profiles_of

START = datetime(2026, 3, 1, 8, tzinfo=UTC)
PUMP = PumpId("P-1")
ML_PER_MINUTE = 2.4 / 24 / 60
CLINIC = "GW-CLINIC"
"""The gateway whose programming sessions are authorised ones."""


def _care(kind: CareKind, hours: int, **fields: Any) -> CareRecord:
    valid_from = START + timedelta(hours=hours)
    return CareRecord(
        care_id=f"{kind}-{hours}",
        pump_id=PUMP,
        kind=kind,
        valid_from=valid_from,
        person="ada",
        reason="made up",
        **fields,
    )


CARED_FOR = ProfileHistory(
    profiles_of({}).versions,
    (
        _care(CareKind.STOP_PLAN, 1, valid_until=START + timedelta(hours=9)),
        _care(CareKind.SESSION, 2, session_id="S", valid_until=START + timedelta(hours=3)),
        _care(CareKind.REVIEW, 12, rule_id="DLV-02"),
    ),
)
"""A pump about which people said what the delivery rules heed."""
TAKEN_OUT: Final = ProfileHistory(profiles_of({}).versions, (_care(CareKind.REPLACED, 5),))
"""A pump that somebody said was taken out; it may report later all the same."""
_PROFILES: Final[Sequence[dict[str, Any] | None]] = (
    {},
    {"risks": ["sci_t6_or_above"]},
    {
        "drugs": [{"name": "morphine", "concentration_ug_per_ml": 10000}],
        "prescribed_ug_per_day": 1000,
        "bolus_max_per_day": 1,
        "bolus_lockout_minutes": 60,
    },
    {"drugs": [{"name": "ziconotide", "concentration_ug_per_ml": 25}], "prescribed_ug_per_day": 5},
    {"family": "prometra"},
    {"refill_booked_on": "2026-03-02", "last_fill_ml": 18.0},
    None,
)
PROFILES = st.sampled_from([*map(profiles_of, _PROFILES), CARED_FOR, TAKEN_OUT])

_ALARMS = st.sampled_from(
    [
        None,
        (),
        (),
        (Alarm.MOTOR_STALL,),
        (Alarm.LOW_RESERVOIR,),
        (Alarm.RESERVOIR_EMPTY,),
        (Alarm.ELECTIVE_REPLACEMENT,),
        (Alarm.PUMP_STOPPED_48H,),
        (Alarm.MEMORY_ERROR,),
        (Alarm.CRITICAL_MEMORY_ERROR,),
    ]
)
_EMI = st.sampled_from(
    [None, None, None, *(Emi(level=level) for level in EmiLevel), Emi(level=EmiLevel.STRONG, count=3)]
)
_CLOCKS = st.sampled_from([0, 0, 0, 0, 0, 4, 190, -3, -12, -90])
"""How many minutes a pump's clock is ahead of the gateway's."""
_MINUTES = st.sampled_from([1, 5, 15, 15, 15, 45, 60, 180, 420, 1500])


_EVENTS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    *(
        st.fixed_dictionaries({"type": st.just(kind), **fields})
        for kind, fields in {
            EventType.MRI_START: {},
            EventType.MRI_END: {},
            EventType.STALL_STARTED: {},
            EventType.STALL_RECOVERED: {},
            EventType.REFILL: {
                "aspirated_ml": st.sampled_from([1.0, 1.0, 16.5]),
                "injected_ml": st.sampled_from([1.0, 18.0]),
            },
            EventType.INTERROGATION: {"result": st.sampled_from([InterrogationResult.RUNNING, *InterrogationResult])},
            EventType.SYMPTOM_REPORT: {"codes": st.sampled_from(list(Symptom)).map(lambda code: (code,))},
            EventType.PUMP_RESET: {"default_program": st.just(True)},
            EventType.MRI_SCHEDULED: {"scheduled_for": st.sampled_from([timedelta(hours=1), timedelta(hours=26)])},
            EventType.VALVE_RESET: {},
            EventType.PROGRAMMING_SESSION: {"session_id": st.just("S"), "phase": st.sampled_from(["start", "end"])},
            EventType.PROGRAM_CHANGE: {"session_id": st.sampled_from([None, "S"])},
            EventType.BOLUS: {
                "outcome": st.sampled_from(["delivered", "denied"]),
                "volume_ml": st.sampled_from([0.1, 0.4]),
            },
            EventType.PUMP_REPLACED: {},
        }.items()
    )
)
"""Fields of an event; ``scheduled_for`` as the time from the report on."""
_BEFORE = st.sampled_from([None, timedelta(minutes=20), timedelta(minutes=100)])


@st.composite
def _events(draw: st.DrawFn, at: datetime) -> tuple[Event, ...]:
    told = []
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        fields, before = draw(_EVENTS), draw(_BEFORE)
        if "scheduled_for" in fields:
            fields["scheduled_for"] += at
        told.append(Event(at=None if before is None else at - before, **fields))
    return tuple(told)


# Longer than forty lines: every field of a report is drawn on a line of its own.
@st.composite
def reports(draw: st.DrawFn, max_size: int) -> list[Report]:
    """What a pump reported, in order of its boots and sequence numbers, to a gateway that got each report at once.

    A life has 2 to ``max_size`` reports. The pump's clock may be off, and be set once on the way.
    """
    at, boot_id, seq, programmed, delivered = START, 1, 0, 0.0, 0.0
    ahead, set_after = draw(_CLOCKS), draw(st.sampled_from([None, None, 4, 8]))
    told: list[Report] = []
    for number in range(draw(st.integers(2, max_size))):
        if number == set_after:
            ahead = draw(_CLOCKS)
        clock = at + timedelta(minutes=ahead)
        motor = draw(st.sampled_from([None, Motor.RUNNING, Motor.RUNNING, Motor.RUNNING, *Motor]))
        told.append(
            Report(
                schema_version=1,
                pump_id=PUMP,
                boot_id=boot_id,
                seq=seq,
                event_time=clock,
                gateway_id=draw(st.sampled_from(["GW-1", "GW-1", CLINIC])),
                gateway_time=at,
                motor=motor,
                alarms=draw(_ALARMS),
                reservoir_estimated_ml=draw(st.sampled_from([None, 12.0, 3.5, 1.9, 1.8, 0.3])),
                reservoir_measured_ml=draw(st.sampled_from([None, None, 10.0, 0.4])),
                flow_programmed_ml_per_day=draw(st.sampled_from([None, 0.2, 0.3, 0.048])),
                volume_programmed_ml=draw(st.sampled_from([None, programmed, programmed, 8.0])),
                volume_delivered_ml=delivered if draw(st.booleans()) else None,
                emi=draw(_EMI),
                flow_valve=draw(st.sampled_from([None, None, *FlowValve])),
                program_checksum=draw(st.sampled_from([None, "A", "A", "B"])),
                temperature_celsius=draw(st.sampled_from([37.0, 37.0, 39.2, 41.1])),
                battery=draw(st.sampled_from([None, None, Battery(eri=True), Battery(eri=False, eos=False)])),
                events=draw(_events(clock)),
            )
        )
        minutes = draw(_MINUTES)
        at += timedelta(minutes=minutes)
        programmed += minutes * ML_PER_MINUTE
        delivered += minutes * ML_PER_MINUTE * draw(st.sampled_from([1.0, 1.0, 0.1, 2.0]))
        if draw(st.integers(0, 9)) == 0:
            boot_id, seq, programmed, delivered = boot_id + 1, 0, 0.0, 0.0
        else:
            seq += 1
    return told


@dataclass(frozen=True, slots=True)
class Fact:
    """What history says of one episode when everything is known; ids and the order of learning are left out."""

    rule_id: str
    effective_from: datetime
    effective_to: datetime | None
    priority: str
    active: bool
    latched: bool
    open: bool


@dataclass(frozen=True, slots=True)
class Life:
    """A world at the end, and all that was published on the way."""

    world: World
    events: tuple[AlertEvent, ...]

    def history(self) -> set[Fact]:
        """The effective alert history."""
        last: dict[Any, AlertRecord] = {event.alert.alert_id: event.alert for event in self.events}
        return {
            Fact(
                record.rule_id,
                record.effective_from,
                record.effective_to,
                record.priority,
                record.active,
                record.latched,
                record.open,
            )
            for record in last.values()
            if not record.retracted
        }


def deaf(now: datetime) -> Hearing:
    """Service that heard nothing before now: silence is not judged, only what reports say and event time."""
    return Hearing(since=now, until=now)


def arrive_together(
    batches: Iterable[Sequence[tuple[datetime, Report]]], profiles: ProfileHistory, rules: RuleBook, *, until: datetime
) -> tuple[Life, list[Outcome], list[Received]]:
    """Run batches of arrivals, each decided when its last report came; what became of the reports, and the released."""
    world, published = pipeline.new_world(PUMP), list[AlertEvent]()
    outcomes: list[Outcome] = []
    released: list[Received] = []
    for batch in batches:
        world = decode_world(encode_world(world))
        reports = [Received(report=one, received_at=at, clinic=one.gateway_id == CLINIC) for at, one in batch]
        taken = pipeline.steps(world, reports, profiles, rules, batch[-1][0])
        world = taken.world
        published.extend(taken.events)
        outcomes.extend(taken.outcomes)
        released.extend(taken.released)
    step = pipeline.tick(world, profiles, rules, until, deaf(until))
    return Life(step.world, (*published, *step.events)), outcomes, released


def arrive(
    told: Iterable[tuple[datetime, Report]],
    profiles: ProfileHistory,
    rules: RuleBook,
    *,
    until: datetime,
    ticks: Sequence[datetime] = (),
) -> Life:
    """Run arrivals (service time, report) and ticks in order of service time, with a last tick at ``until``."""
    world, published = pipeline.new_world(PUMP), list[AlertEvent]()
    inputs: list[tuple[datetime, Report | None]] = [*told, *((at, None) for at in ticks), (until, None)]
    for at, report in sorted(inputs, key=lambda pair: pair[0]):
        # What is stored is what counts: every world goes through its bytes.
        world = decode_world(encode_world(world))
        if report is None:
            step = pipeline.tick(world, profiles, rules, at, deaf(at))
        else:
            received = Received(report=report, received_at=at, clinic=report.gateway_id == CLINIC)
            step = pipeline.step(world, received, profiles, rules, at)
        world = step.world
        published.extend(step.events)
    return Life(world, tuple(published))
