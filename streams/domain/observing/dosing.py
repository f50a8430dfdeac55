"""Program, dose, boluses and symptoms (THR-01 to THR-07)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from streams.domain.observing.boluses import BolusLog, noted
from streams.domain.observing.schedule import Schedule, mean, reprogrammed, told
from streams.domain.profile import DrugName, Therapy
from streams.domain.telemetry import Alarm, Event, EventType, Motor, Report

if TYPE_CHECKING:
    from streams.domain.world import PumpState

KEPT_CHANGES: Final = 8
KEPT_BRIDGES: Final = 8
DOSE_DAYS: Final = 92
SAME_DOSE: Final = 0.005
"""Doses that differ by less than this part are the same dose (our own design)."""
EVENT_LAGS: Final = timedelta(hours=24)
"""How long after a new program was seen its own record may still explain it."""
BEFORE_VISIT: Final = timedelta(hours=4)
AFTER_VISIT: Final = timedelta(hours=28)
"""Around a changed concentration: boluses here may be the bridge bolus of its session."""
SCREENED: Final = frozenset({DrugName.BACLOFEN, DrugName.MORPHINE, DrugName.HYDROMORPHONE})
"""Drugs whose escalation is screened for (rule THR-03)."""


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A change of program: by its own record, or only seen as another checksum (``recorded`` false).

    ``told_at`` is the moment from which the reports told so.
    """

    at: datetime
    told_at: datetime
    checksum: str | None = None
    session_id: str | None = None
    recorded: bool = False


class Program(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The running program's checksum and the latest changes, in the order in which they were told."""

    checksum: str | None = None
    changes: tuple[Change, ...] = ()
    changed_at: datetime | None = None


class Basis(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the profile said of the first drug when the pump last reported, and when that last changed.

    ``bridges`` are boluses delivered around the last change of concentration.
    """

    version: datetime
    drug: str
    concentration: float | None
    prescribed: float | None
    changed_at: datetime | None = None
    concentrated_at: datetime | None = None
    bridges: tuple[datetime, ...] = ()


class Dose(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A daily dose in micrograms, from the day on which it was first the mean of 24 hours."""

    at: datetime
    ug: float


class DoseHistory(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Daily doses of the screened drug where they changed, oldest first; judged last at ``judged_at``."""

    drug: str = ""
    judged_at: datetime | None = None
    doses: tuple[Dose, ...] = ()


class Complaint(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The symptom report told last."""

    at: datetime
    told_at: datetime
    codes: tuple[str, ...]


class DosingLog(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Programmed rates, programs, the prescription's basis, daily doses, boluses, and the newest complaint."""

    schedule: Schedule = Schedule()
    program: Program = Program()
    basis: Basis | None = None
    history: DoseHistory = DoseHistory()
    boluses: BolusLog = BolusLog()
    complaint: Complaint | None = None
    rate: float | None = None
    """The programmed rate told last in mL/day; None for the zero of a pump that is stopped."""
    occluded_at: datetime | None = None
    """When the pump last said that its catheter is occluded."""


def measured(log: DosingLog, state: PumpState, therapy: Therapy, report: Report) -> DosingLog:
    """The log after a report's measurements."""
    at, flow = report.event_time, report.flow_programmed_ml_per_day
    if report.alarms and Alarm.CATHETER_OCCLUSION in report.alarms:
        log = replace(log, occluded_at=at)
    program, schedule, basis = log.program, log.schedule, log.basis
    if report.program_checksum is not None and report.program_checksum != program.checksum:
        program = _seen(program, report.program_checksum, at)
        schedule = reprogrammed(schedule, at) if program.changed_at != log.program.changed_at else schedule
    if therapy.profile is not None and (basis is None or basis.version != therapy.valid_from):
        basis = _based(basis, therapy, log.boluses)
    if program is not log.program or basis is not log.basis:
        log = replace(log, program=program, schedule=schedule, basis=basis)
    return _flowing(log, state, therapy, at, flow) if flow is not None else log


def _flowing(log: DosingLog, state: PumpState, therapy: Therapy, at: datetime, flow: float) -> DosingLog:
    """The log after a programmed rate; a pump that is stopped reports no rate of its program."""
    stopped = state.motor == Motor.STOPPED
    schedule, history, rate = log.schedule, log.history, None if stopped and not flow else flow
    if flow and not stopped:
        schedule = told(schedule, therapy, at, flow)
    if history.judged_at is None or at.toordinal() != history.judged_at.toordinal():
        history = _dosed(history, schedule, therapy, at)
    if schedule is log.schedule and history is log.history and rate == log.rate:
        return log
    return replace(log, schedule=schedule, history=history, rate=rate)


def happened(log: DosingLog, state: PumpState, therapy: Therapy, event: Event, at: datetime) -> DosingLog:
    """The log after an event that happened at ``at``."""
    told_at = at if state.clock is None else max(at, state.clock)
    if event.type is EventType.PROGRAM_CHANGE:
        program = _recorded(log.program, event, at, told_at)
        schedule = log.schedule
        if program.changed_at != log.program.changed_at:
            schedule = reprogrammed(schedule, at)
        return replace(log, program=program, schedule=schedule)
    if event.type is EventType.BOLUS:
        boluses, basis = noted(log.boluses, therapy, event, at, told_at), log.basis
        if basis is not None and event.outcome == "delivered":
            basis = _bridged(basis, at)
        return replace(log, boluses=boluses, basis=basis) if boluses is not log.boluses else log
    if event.type is EventType.SYMPTOM_REPORT:
        return replace(log, complaint=Complaint(at, told_at, event.codes or ()))
    if event.type is EventType.PUMP_REPLACED:
        # Another pump runs a program of its own.
        return replace(log, program=Program(), schedule=Schedule())
    return log


def _seen(program: Program, checksum: str, at: datetime) -> Program:
    """A checksum that differs from the last one; the first one ever seen is no change."""
    if program.checksum is None:
        return replace(program, checksum=checksum)
    return _changed(program, Change(at, at, checksum), checksum)


def _recorded(program: Program, event: Event, at: datetime, told_at: datetime) -> Program:
    """A program change by its own record, which takes the place of the one that its checksum already showed."""
    change = Change(at, told_at, event.new_checksum, event.session_id, recorded=True)
    for known in reversed(program.changes):
        lag = known.at - at
        if not known.recorded and known.checksum == event.new_checksum and timedelta(0) <= lag <= EVENT_LAGS:
            others = tuple(other for other in program.changes if other is not known)
            return replace(program, changes=(*others, change))
    checksum = program.checksum
    if program.changed_at is None or at >= program.changed_at:
        checksum = event.new_checksum
    return _changed(program, change, checksum)


def _changed(program: Program, change: Change, checksum: str | None) -> Program:
    changed_at = change.at if program.changed_at is None else max(program.changed_at, change.at)
    return Program(checksum, (*program.changes, change)[-KEPT_CHANGES:], changed_at)


def _based(known: Basis | None, therapy: Therapy, boluses: BolusLog) -> Basis | None:
    profile, version = therapy.profile, therapy.valid_from
    if profile is None or version is None:
        return known
    drug = profile.drugs[0]
    basis = Basis(version, drug.name, drug.concentration_ug_per_ml, profile.prescribed_ug_per_day)
    if known is None:
        return basis
    same_drug = (known.drug, known.concentration) == (basis.drug, basis.concentration)
    if same_drug and known.prescribed == basis.prescribed:
        return replace(known, version=version)
    if same_drug:
        times = known.concentrated_at, known.bridges
        return replace(basis, changed_at=version, concentrated_at=times[0], bridges=times[1])
    basis = replace(basis, changed_at=version, concentrated_at=version)
    for bolus in boluses.delivered:
        basis = _bridged(basis, bolus.at)
    return basis


def _bridged(basis: Basis, at: datetime) -> Basis:
    since = basis.concentrated_at
    if since is None or not since - BEFORE_VISIT <= at <= since + AFTER_VISIT or len(basis.bridges) >= KEPT_BRIDGES:
        return basis
    return replace(basis, bridges=(*basis.bridges, at))


def _dosed(history: DoseHistory, schedule: Schedule, therapy: Therapy, at: datetime) -> DoseHistory:
    """The daily doses, judged at a UTC day's first report."""
    drugs = therapy.profile.drugs if therapy.profile is not None else ()
    drug = next((drug for drug in drugs if drug.name in SCREENED and drug.concentration_ug_per_ml), None)
    if drug is None:
        return DoseHistory() if history.doses else history
    if history.drug != drug.name:
        history = DoseHistory(drug.name)
    rate = mean(schedule, therapy, at)
    if rate is None:
        return history
    ug = round(rate.ml_per_day * (drug.concentration_ug_per_ml or 0.0), 3)
    doses = history.doses
    if not doses or abs(ug - doses[-1].ug) > SAME_DOSE * doses[-1].ug:
        doses = (*doses, Dose(at, ug))
    while len(doses) > 1 and doses[1].at < at - timedelta(days=DOSE_DAYS):
        doses = doses[1:]
    return DoseHistory(history.drug, at, doses)
