"""One patient's months: the pump lives and reports, the clinic refills and reprograms it, hazards strike.

A life knows nothing of alerts. It comes out as reports in the order in which the pump made them, what people entered
beside them, and the truth.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

import msgspec

from services.emulator import physics
from services.emulator.cohort.patients import BOLUS_LOCKOUT, BOLUSES_PER_DAY, Patient
from services.emulator.cohort.plan import Cohort
from services.emulator.cohort.truth import Hazard, Outage, Severity
from services.emulator.physics import Document, Program, Pump, Said
from streams.domain.care import CareRecord, CareRejected, care_from
from streams.domain.profile import ACCURACY_ALLOWANCE, ProfileRejected, PumpProfile, WithdrawalClass, profile_from
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
    Report,
    Symptom,
)

MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
LONGEST_CYCLE: Final = timedelta(days=75)
"""A refill is due after so long at the latest, however much is left: drug ages."""

_MOTORS: Final = {motor.value: motor for motor in Motor}
_ALARMS: Final = {alarm.value: alarm for alarm in Alarm}

Do = Callable[[datetime], None]
Clock = Callable[[datetime], datetime]


class Spoken(msgspec.Struct, frozen=True, array_like=True):
    """A report, when the pump truly made it, and whether a clinic's gateway read it."""

    at: datetime
    report: Report
    clinic: bool


class Lived(msgspec.Struct, frozen=True):
    """A life that is over; all of it in the order of time."""

    patient: Patient
    spoken: tuple[Spoken, ...]
    profiles: tuple[PumpProfile, ...]
    care: tuple[CareRecord, ...]
    hazards: tuple[Hazard, ...]
    outages: tuple[Outage, ...]
    pump: Pump


class Life:
    """A life under way: `plan` what will happen, then `live` it.

    Args:
        cohort: The file.
        patient: Whose life.
        outages: When the gateway can pass nothing on.
        chance: Where all that differs between two lives comes from.
    """

    def __init__(self, cohort: Cohort, patient: Patient, outages: tuple[Outage, ...], chance: Random) -> None:
        self.cohort, self.patient, self.chance = cohort, patient, chance
        self.start = cohort.start
        self.end = cohort.start + timedelta(days=cohort.days)
        self.outages = list(outages)
        self.hazards: list[Hazard] = []
        self.care: list[CareRecord] = []
        self.documents: list[dict[str, Any]] = [patient.document]
        self.instead_of_visit: deque[Do] = deque()
        self.refill_variants: deque[Callable[[datetime, float], None]] = deque()
        self.books = True
        self._busy: list[tuple[datetime, datetime]] = []
        self.omits_motor = False
        self._lingering: list[str] = []
        self._plans: list[tuple[datetime, int, Do, bool]] = []
        self._below: list[tuple[float, Do]] = []
        self._spoken: list[Spoken] = []
        self._count = 0
        self._offset = timedelta(0)
        self._sessions = 0
        self._bookings = 0
        self.pump = self._first_pump()

    # What hazards and routine use -----------------------------------------------------------------------------------

    def plan(self, at: datetime, do: Do, *, clinic: bool = False) -> None:
        """Let ``do`` happen at ``at``; ``clinic``: a clinic's gateway is there and passes a report on at once."""
        heapq.heappush(self._plans, (at, self._count, do, clinic))
        self._count += 1

    def body(self, at: datetime, act: Callable[..., Pump], *args: Any, clinic: bool = False, **kwargs: Any) -> None:
        """Let ``act(pump, at, *args)`` of `physics` happen at ``at``."""

        def do(moment: datetime) -> None:
            self.pump = act(self.pump, moment, *args, **kwargs)

        self.plan(at, do, clinic=clinic)

    def below(self, level_ml: float, do: Do) -> None:
        """Let ``do`` happen at the first report with a computed level of at most ``level_ml``."""
        self._below.append((level_ml, do))

    def strike(
        self,
        kind: str,
        covers: tuple[str, ...],
        rules: tuple[str, ...],
        severity: Severity,
        *,
        onset: datetime,
        within: timedelta,
        until: datetime,
        also: tuple[str, ...] = (),
        lingers: tuple[str, ...] = (),
    ) -> None:
        """Enter a hazard into the truth; one whose deadline lies after the end of the cohort proves nothing."""
        if self.patient.therapy.high_risk and "HZ-01" in covers:
            covers = (*covers, "HZ-02")
        hazard = Hazard(
            hazard_id=f"{self.patient.pump_id}/{kind}/{len(self.hazards) + 1}",
            kind=kind,
            pump_id=self.patient.pump_id,
            covers=covers,
            rules=rules,
            also=also,
            severity=severity,
            onset=onset,
            know_by=onset + within,
            until=until,
            lingers=lingers,
            lingers_until=self.end if lingers else None,
        )
        if lingers:
            self._lingering.append(hazard.hazard_id)
        self.hazards.append(hazard)

    def busy(self, since: datetime, until: datetime) -> None:
        """Nothing of the routine happens in [since, until): something is wrong with the pump, or being done to it."""
        self._busy.append((since, until))

    def free_from(self, at: datetime, ahead: timedelta = HOUR) -> datetime:
        """The first moment from ``at`` on at which the routine may do something that takes up to ``ahead``."""
        while True:
            ends = [until for since, until in self._busy if since < at + ahead and at < until]
            if not ends:
                return at
            at = max(ends)

    def loss(self) -> Severity:
        """How severe lost delivery is for this patient (``W1-1`` of the catalogue)."""
        mild = self.patient.therapy.withdrawal is WithdrawalClass.W1
        return Severity.MEDIUM if mild else Severity.HIGH

    def enter(self, kind: str, at: datetime, **fields: Any) -> None:
        """Somebody enters a care record that counts from ``at``."""
        document = {
            "care_id": f"{self.patient.pump_id}:{len(self.care) + 1}",
            "pump_id": self.patient.pump_id,
            "kind": kind,
            "valid_from": at.isoformat(),
            "person": "cohort",
            "reason": "as simulated",
            **fields,
        }
        record = care_from(document)
        if isinstance(record, CareRejected):
            raise ValueError(f"care record{record.pointer}: {record.reason}")
        self.care.append(record)

    def prescribe(self, at: datetime, **fields: Any) -> None:
        """A new version of the profile counts from ``at``."""
        self.documents.append({**self.documents[-1], **fields, "valid_from": at.isoformat()})

    def dose(self, at: datetime, ratio: float, session_id: str, *, prescribed: bool = True) -> None:
        """A session programs ``ratio`` times the dose; not ``prescribed``: somebody gets it wrong."""
        program = self.pump.program
        steps = tuple((second, round(rate * ratio, 4)) for second, rate in program.steps)
        self.pump = physics.reprogram(self.pump, at, Program(self.new_checksum(), steps), session_id)
        before = self.documents[-1].get("prescribed_ug_per_day")
        if prescribed and before is not None:
            self.prescribe(at, prescribed_ug_per_day=round(before * ratio, 3))
        if prescribed and ratio > 1.0 and self.books:
            self.plan(at + 20 * MINUTE, self.book)

    def new_checksum(self) -> str:
        """A program identity that was not there before."""
        self._sessions += 1
        return f"p{self._sessions + 1}"

    def session(self, at: datetime, do: Callable[[datetime, str], None]) -> str:
        """A clinic's visit of half an hour with a programming session; ``do`` happens ten minutes into it."""
        self._sessions += 1
        name = f"S{self._sessions}"
        self.body(at, physics.in_session, name, "start", clinic=True)
        self.plan(at + 10 * MINUTE, lambda moment: do(moment, name), clinic=True)
        self.body(at + 24 * MINUTE, physics.interrogate)
        self.body(at + 25 * MINUTE, physics.in_session, name, "end", clinic=True)
        return name

    def silence(self, since: datetime, until: datetime) -> None:
        """The gateway passes nothing on; what the pump says meanwhile comes afterwards."""
        self.outages.append(Outage(since, until))

    def shift_clock(self, at: datetime, by: timedelta) -> None:
        """The pump's clock jumps."""

        def do(_: datetime) -> None:
            self._offset += by

        self.plan(at, do)

    # Refills --------------------------------------------------------------------------------------------------------

    def worst_case_days(self) -> float:
        """Days until the computed level is at the patient's limit, in the worst case (``Dw`` of rule RSV-03)."""
        therapy = self.patient.therapy
        rate = (self.pump.program.mean_ml_per_day + therapy.max_bolus_ml_per_day) * ACCURACY_ALLOWANCE
        return (self.pump.reservoir_estimated_ml - therapy.low_reservoir_ml) / rate

    def book(self, at: datetime, *, after_days: float | None = None) -> None:
        """Book the next refill two to six days before the worst case, or after so many days."""
        days = after_days if after_days is not None else self.worst_case_days() - self.chance.uniform(2.0, 6.0)
        days = max(1.0, min(days, LONGEST_CYCLE / DAY))
        day = (at + timedelta(days=days)).date()
        self.enter("refill_booked", at, booked_on=day.isoformat())
        midnight = datetime.combine(day, datetime.min.time(), at.tzinfo)
        visit = midnight + timedelta(hours=self.chance.uniform(8, 15))
        self._bookings += 1
        booking = self._bookings
        # A later booking takes the place of this one.
        self.plan(max(visit, at + HOUR), lambda moment: self.visit(moment) if booking == self._bookings else None)

    def visit(self, at: datetime) -> None:
        """The booked day has come: the patient is refilled, unless a hazard keeps that from happening."""
        free_at = self.free_from(at)
        if free_at > at:
            if free_at.date() != at.date():
                self.enter("refill_booked", at, booked_on=free_at.date().isoformat())
            self.plan(free_at, self.visit)
            return
        if self.instead_of_visit:
            self.instead_of_visit.popleft()(at)
            return
        self.session(at + MINUTE, self._refilled)

    def _refilled(self, at: datetime, session_id: str) -> None:
        if self.refill_variants:
            self.refill_variants.popleft()(at, self.patient.full_ml)
        else:
            self.pump = physics.refill(self.pump, at, self.patient.full_ml, chance=self.chance)
        self._lingered(at)
        if self.books:
            if self.chance.random() < self.cohort.routine.dose_change_share:
                self.dose(at, self.chance.choice((0.92, 0.95, 1.05)), session_id)
            # The next visit is booked when this one ends, and what happened in it is known.
            self.plan(at + 20 * MINUTE, self.book)

    def _lingered(self, at: datetime) -> None:
        """A refill shows what went wrong before it; what is planned for later, or happens at this refill, goes on."""
        ended = {
            hazard.hazard_id
            for hazard in self.hazards
            if hazard.hazard_id in self._lingering and hazard.onset + timedelta(minutes=5) < at
        }
        self._lingering = [hazard_id for hazard_id in self._lingering if hazard_id not in ended]
        self.hazards = [
            msgspec.structs.replace(hazard, lingers_until=at) if hazard.hazard_id in ended else hazard
            for hazard in self.hazards
        ]

    # Living ---------------------------------------------------------------------------------------------------------

    def live(self) -> Lived:
        """Live to the end of the cohort."""
        self._routine()
        interval = self.patient.interval
        due = self.start + interval * self.chance.random()
        while True:
            planned = self._plans[0][0] if self._plans else self.end
            at = min(due, planned)
            if at >= self.end:
                break
            if planned <= due:
                at, _, do, clinic = heapq.heappop(self._plans)
                do(at)
                if clinic:
                    self._speak(at, clinic=True)
                continue
            self._speak(at, clinic=False)
            due += interval
        return self._lived()

    def _lived(self) -> Lived:
        profiles = []
        for document in self.documents:
            profile = profile_from(document)
            if isinstance(profile, ProfileRejected):
                raise ValueError(f"profile{profile.pointer}: {profile.reason}")
            profiles.append(profile)
        hazards = tuple(
            hazard for hazard in self.hazards if max(hazard.know_by, hazard.onset + 2 * HOUR) < self.end - 2 * HOUR
        )
        outages = tuple(sorted(self.outages, key=lambda outage: outage.lost))
        return Lived(self.patient, tuple(self._spoken), tuple(profiles), tuple(self.care), hazards, outages, self.pump)

    def _first_pump(self) -> Pump:
        patient, chance = self.patient, self.chance
        pump = physics.new_pump(patient.build, self.start, patient.full_ml)
        self.pump = pump
        days = max(2.0, min(self.worst_case_days() - 6.0, LONGEST_CYCLE / DAY))
        gone = patient.build.flow_ml_per_day * days * chance.random()
        return physics.new_pump(patient.build, self.start, patient.full_ml - gone)

    def _routine(self) -> None:
        self.book(self.start)
        routine, chance = self.cohort.routine, self.chance
        for at in self._moments(routine.mris_per_year / 365.25, first_day=3):
            self.plan(at, self._scan)
        for at in self._moments(routine.weak_interference_per_month / 30, first_day=0):
            self.body(at, physics.interfere, "weak")
        for day in range(self.cohort.days):
            self.plan(self.start + timedelta(days=day, seconds=1), self._new_day)
        if self.patient.group.boluses:
            for day in range(self.cohort.days):
                self._boluses(self.start + timedelta(days=day), chance.randint(0, BOLUSES_PER_DAY - 2))

    def _moments(self, per_day: float, first_day: int) -> list[datetime]:
        found, day = [], float(first_day)
        while per_day > 0:
            day += self.chance.expovariate(per_day)
            if day >= self.cohort.days - 1:
                break
            found.append(self.start + timedelta(days=day))
        return found

    def _new_day(self, at: datetime) -> None:
        self.pump = physics.advance(self.pump, at)
        wobble = 1.0 + max(-0.03, min(0.03, self.chance.gauss(0.0, self.cohort.dirt.wobble_sd)))
        self.pump = msgspec.structs.replace(self.pump, wobble=wobble)

    def _boluses(self, midnight: datetime, count: int) -> None:
        """A day's boluses, each after the lockout; asking less than a few minutes too early is not simulated here."""
        at = midnight + timedelta(hours=self.chance.uniform(6, 9))
        for _ in range(count):
            self.plan(at, self._bolus)
            at += BOLUS_LOCKOUT + timedelta(minutes=self.chance.uniform(15, 120))

    def _bolus(self, at: datetime) -> None:
        if self.free_from(at) == at and self.pump.turning and self.pump.reservoir_estimated_ml > 1.0:
            self.pump = physics.bolus(self.pump, at, self.patient.bolus_ml)

    def _scan(self, at: datetime) -> None:
        """An MRI as it should be: declared, no alarm, a rotor that follows within minutes, and an interrogation.

        A valve-gated pump is not scanned by routine: emptying it is an operation of its own (clinical.md M-08).
        """
        if self.free_from(at, HOUR * 3) > at or self.pump.alarms or self.patient.build.valve_gated:
            return
        chance, minutes = self.chance, self.chance.uniform(15, 60)
        left = at + timedelta(minutes=minutes)
        self.body(at, physics.enter_mri, "radiology", clinic=True)
        back = timedelta(minutes=chance.uniform(4, 18))
        self.body(left, physics.leave_mri, "radiology", chance, back, clinic=True)
        self.body(left + timedelta(minutes=chance.uniform(20, 27)), physics.interrogate, clinic=True)
        self.busy(at, left + 2 * HOUR)

    def _clock(self) -> Clock:
        """What the pump's clock shows; a jump moves what is in its log as well, so that its order stays."""
        drift, jumped = self.patient.drift_seconds_per_day, self._offset
        if not drift and not jumped:
            return _true
        return lambda at: at + jumped + timedelta(seconds=drift * ((at - self.start) / DAY))

    def _speak(self, at: datetime, *, clinic: bool) -> None:
        self.pump = physics.advance(self.pump, at)
        self.pump, said = physics.say(self.pump, self.chance)
        omitted = self.omits_motor or self.chance.random() < self.cohort.dirt.omitted_motor_share
        gateway = "clinic" if clinic else self.patient.gateway
        self._spoken.append(
            Spoken(at, report_of(said, self.patient.pump_id, gateway, at, self._clock(), omitted), clinic)
        )
        for level, do in self._below:
            if said.estimated_ml <= level:
                self._below.remove((level, do))
                do(at)
                break


def _true(at: datetime) -> datetime:
    """The clock of a pump that runs right."""
    return at


def report_of(
    said: Said, pump_id: str, gateway_id: str, heard_at: datetime, clock: Clock = _true, omits_motor: bool = False
) -> Report:
    """What a pump said as the report that an edge would make of it; ``clock`` is what the pump shows at a true time."""
    emi = said.emi
    return Report(
        schema_version=1,
        pump_id=PumpId(pump_id),
        boot_id=said.boot_id,
        seq=said.seq,
        event_time=clock(said.at),
        gateway_id=gateway_id,
        gateway_time=heard_at,
        motor=_MOTORS[said.motor] if said.motor is not None and not omits_motor else None,
        alarms=tuple(_ALARMS[code] for code in said.alarms) if said.alarms else (),
        reservoir_estimated_ml=said.estimated_ml,
        reservoir_measured_ml=said.measured_ml,
        flow_programmed_ml_per_day=said.flow_ml_per_day,
        volume_programmed_ml=said.programmed_ml,
        volume_delivered_ml=said.delivered_ml,
        temperature_celsius=said.celsius,
        battery=Battery(voltage_v=said.voltage_v, eri=said.eri),
        emi=Emi(level=EmiLevel(emi[0]), count=emi[1]) if emi else None,
        flow_valve=FlowValve(said.valve) if said.valve else None,
        program_checksum=said.checksum,
        events=tuple(event_of(document, clock) for document in said.events) if said.events else (),
    )


def event_of(document: Document, clock: Clock = _true) -> Event:
    """An event in wire form as the value that an edge makes of it."""
    fields: dict[str, Any] = {key: value for key, value in document.items() if key not in ("type", "at", "for")}
    if "result" in fields:
        fields["result"] = InterrogationResult(fields["result"])
    if "codes" in fields:
        fields["codes"] = tuple(Symptom(code) for code in fields["codes"])
    if "for" in document:
        fields["scheduled_for"] = datetime.fromisoformat(document["for"])
    at = clock(datetime.fromisoformat(document["at"])) if "at" in document else None
    return Event(type=EventType(document["type"]), at=at, **fields)
