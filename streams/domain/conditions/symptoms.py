"""What patients report: no effect although the pump looks normal (THR-06), and signs of too little or too much drug."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from streams.domain.alert import Episode, Priority, PriorityStep, Reason
from streams.domain.care import CareKind
from streams.domain.conditions import incidents
from streams.domain.conditions.boluses import overused_since
from streams.domain.conditions.dose import increase_times, recent_doses
from streams.domain.conditions.incidents import told_again
from streams.domain.conditions.steps import reached
from streams.domain.observing.fills import refill_ratios
from streams.domain.profile import WithdrawalClass
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View
from streams.domain.telemetry import Alarm, Motor, Symptom

WITHDRAWAL: Final = frozenset({Symptom.ITCHING, Symptom.RIGIDITY, Symptom.FEVER, Symptom.CONFUSION})
OVERDOSE: Final = frozenset({Symptom.SLEEPY, Symptom.SLOW_BREATHING, Symptom.FLOPPY, Symptom.COLD})
URGENT: Final = frozenset({Symptom.ITCHING, Symptom.FEVER, Symptom.RIGIDITY})
DELIVERY: Final = tuple(f"DLV-{number:02d}" for number in range(1, 10))
RESERVOIR: Final = tuple(f"RSV-{number:02d}" for number in range(1, 6))
SCANS: Final = tuple(f"MRI-{number:02d}" for number in range(1, 7))
PUMP_RULES: Final = (*DELIVERY, *RESERVOIR, *SCANS)
UNCERTAIN_RULES: Final = (*DELIVERY, "RSV-02", *SCANS[1:])
"""While one of these is open at MEDIUM or HIGH, whether drug arrives is uncertain (catalogue M.5)."""
WATCHES: Final = ("REF-01", "REF-04")


def catheter_suspect(view: View, rule: Rule) -> Finding:
    """THR-06: loss of effect although the pump is normal; the catheter may be why.

    Loss of effect reported within ``symptom_days``, or boluses used up together with ``increases`` dose increases
    within ``increases_days``, while no DLV, RSV or MRI alert of MEDIUM or above is open, the last ``refill_ratios``
    refills fit the program (``ratio_low`` to ``ratio_high``, inclusive), and the motor runs. MEDIUM; HIGH on ``W3+1``
    with itching, fever or rigidity within ``urgent_hours`` before or any time after. The pump's alarm of an occluded
    catheter is HIGH at once, whatever else is open. Ends with a recorded review of the work-up; taken back when it
    turns out that the pump was not normal when the patient missed the effect, unless its alarm was heard since. Source:
    clinical.md F-17, F-18, F-03a.
    """
    state, track = view.state, view.open_track(rule.id)
    review = _reviewed_at(view, rule)
    if track is not None and review is not None and review[0] >= track.start:
        return Finding(Presence.ABSENT, ended_at=review[0], closed_by=review[1])
    occluded_at = state.dosing.occluded_at
    told_by_pump = track is not None and occluded_at is not None and occluded_at >= track.start
    if track is not None and track.present and not told_by_pump and _was_not_normal(view, track.start):
        return Finding(Presence.ABSENT, retract=Reason.LATE_EVIDENCE)
    parameters = view.parameters(rule)
    occluded = Alarm.CATHETER_OCCLUSION in state.alarms
    candidates = [(Priority.HIGH, state.alarms_at or view.at)] if occluded else []
    since = track.start if track is not None and track.present else None
    if since is None:
        since = _unexplained_since(view, parameters, _handled_at(view.tracks.get(rule.id), review))
        normal = _pump_is_normal(view, parameters) if since is not None else None
        if since is not None and normal is not True:
            since = None
            if not candidates:
                return ABSENT if normal is False else NOT_EVALUABLE
    if since is not None:
        candidates.append((Priority.MEDIUM, since))
        if (urgent_at := _urgent_at(view, since, parameters)) is not None:
            candidates.append((Priority.HIGH, urgent_at))
    if not candidates:
        return ABSENT if state.motor is not None else NOT_EVALUABLE
    return Finding(Presence.PRESENT, reached(candidates, view.at))


def _reviewed_at(view: View, rule: Rule) -> tuple[datetime, str] | None:
    """When somebody last recorded a review of this rule, and who."""
    for record in reversed(view.therapy.care):
        if record.kind is CareKind.REVIEW and record.rule_id == rule.id:
            return record.valid_from, record.person
    return None


def _handled_at(track: Episode | None, review: tuple[datetime, str] | None) -> datetime | None:
    """Until when somebody has seen to what was reported."""
    closed_at = track.ended_at if track is not None and track.closed and not track.retracted else None
    return max((at for at in (closed_at, review[0] if review is not None else None) if at is not None), default=None)


def _unexplained_since(view: View, parameters: Mapping[str, Any], handled_at: datetime | None) -> datetime | None:
    """Since when the patient misses the effect, if nobody has looked into it yet."""
    earliest = view.at - timedelta(days=parameters["symptom_days"])
    found = [
        report.at for report in view.state.symptoms if Symptom.LOSS_OF_EFFECT in report.codes and report.at >= earliest
    ]
    used_up = overused_since(view, parameters)
    if used_up is not None:
        doses = recent_doses(view, timedelta(days=parameters["increases_days"]), parameters)
        if len(list(increase_times(doses, parameters["increase"]))) >= parameters["increases"]:
            found.append(used_up)
    return min((at for at in found if handled_at is None or at > handled_at), default=None)


def _pump_is_normal(view: View, parameters: Mapping[str, Any]) -> bool | None:
    """Whether telemetry shows nothing wrong with the pump; None where it does not say enough."""
    motor = view.state.motor
    if (motor is not None and motor != Motor.RUNNING) or _open_at_medium(view, PUMP_RULES):
        return False
    needed = int(parameters["refill_ratios"])
    ratios = refill_ratios(view.state.fills, needed) if needed else ()
    if any(not parameters["ratio_low"] <= ratio <= parameters["ratio_high"] for ratio in ratios):
        return False
    return True if motor is not None and len(ratios) == needed else None


def _was_not_normal(view: View, at: datetime) -> bool:
    """Whether it has turned out that the pump was not normal when the patient missed the effect."""
    state = view.state
    since = (state.stalled_since, state.stopped_since, state.telemetry_mode_since)
    alerts = (_medium_since(view.open_track(rule_id)) for rule_id in PUMP_RULES)
    return any(moment is not None and moment <= at for moment in (*since, *alerts))


def _medium_since(track: Episode | None) -> datetime | None:
    """Since when an alert is MEDIUM or HIGH without a break; a LOW one before is no word on the pump."""
    if track is None:
        return None
    reached_at = next((step.at for step in track.steps if step.priority.rank >= Priority.MEDIUM.rank), None)
    if reached_at is None or track.recurred_at is None:
        return reached_at
    return max(reached_at, track.recurred_at)


def _urgent_at(view: View, since: datetime, parameters: Mapping[str, Any]) -> datetime | None:
    if not view.therapy.raises_medium:
        return None
    earliest = since - timedelta(hours=parameters["urgent_hours"])
    signs = [
        report.at for report in view.state.symptoms if report.at >= earliest and not URGENT.isdisjoint(report.codes)
    ]
    return max(min(signs), since) if signs else None


def reported(view: View, rule: Rule) -> Finding:
    """THR-07: the patient or a caregiver reports signs of withdrawal or of overdose.

    Withdrawal: HIGH on W3 while delivery is uncertain (also when it becomes so within ``recent_hours``), else MEDIUM.
    Overdose: HIGH always. In the watch of ``watch_hours`` after REF-01 or REF-04, and of ``replaced_hours`` after a
    replacement, every report is HIGH, and an overdose starts at ladder step ``watch_start_step``. It holds until the
    pump reports again ``holds_minutes`` later; then a person may resolve it. While it waits for that, each further
    report is told again, and one of an overdose at any time. Source: clinical.md F-02, F-03b, F-13.
    """
    state, track = view.state, view.open_track(rule.id)
    complaint, parameters = state.dosing.complaint, view.parameters(rule)
    if complaint is None:
        return NOT_EVALUABLE
    codes, watched = complaint.codes, _watched(view, complaint.at, parameters)
    overdose, withdrawal = not OVERDOSE.isdisjoint(codes), not WITHDRAWAL.isdisjoint(codes)
    urgent = overdose or watched or (withdrawal and _uncertain(view))
    if not (urgent or withdrawal):
        return _over(view, track, complaint.told_at, parameters)
    told = _holds(view, complaint.told_at, parameters)
    recent = view.at - complaint.at <= timedelta(hours=parameters["recent_hours"])
    worse = urgent and recent and track is not None and track.priority is not Priority.HIGH
    if not told and not worse:
        return _over(view, track, complaint.told_at, parameters)
    # What was reported before has become worse now; what is reported now is so since the patient noticed it.
    since = view.at if worse and track is not None and track.start >= complaint.at else complaint.at
    priority = Priority.HIGH if urgent else Priority.MEDIUM
    again = overdose or track is None or not track.present
    suspect = view.open_track("THR-06")
    return Finding(
        Presence.PRESENT,
        (PriorityStep(priority, since),),
        reminders=told_again(track, priority, [(complaint.at, complaint.told_at)] if again else (), view.at),
        parents=("THR-06",) if suspect is not None and suspect.priority is Priority.HIGH else (),
        start_step=int(parameters["watch_start_step"]) if watched and overdose else 0,
        values={"since": f"{complaint.at:%Y-%m-%d %H:%M UTC}"},
    )


def _over(view: View, track: Episode | None, told_at: datetime, parameters: Mapping[str, Any]) -> Finding:
    """Nothing new: the alert stays as it was until the pump has reported again."""
    if track is None or not track.present:
        return ABSENT
    last = max(told_at, track.steps[-1].at)
    if _holds(view, last, parameters):
        return NOT_EVALUABLE
    return Finding(Presence.ABSENT, ended_at=view.state.reported_at)


def _holds(view: View, told_at: datetime, parameters: Mapping[str, Any]) -> bool:
    heard_at = view.state.reported_at
    return heard_at is None or heard_at < told_at + timedelta(minutes=parameters["holds_minutes"])


def _watched(view: View, at: datetime, parameters: Mapping[str, Any]) -> bool:
    """Whether a report at ``at`` falls into the hours (both ends inclusive) after a refill, restart or replacement."""
    replaced_at = view.state.replaced_at
    records = [record.valid_from for record in view.therapy.of_kind(CareKind.REPLACED)]
    spans = [(moment, parameters["replaced_hours"]) for moment in (replaced_at, *records) if moment is not None]
    for rule_id in WATCHES:
        track = view.tracks.get(rule_id)
        if track is not None and not track.retracted:
            # Each of its incidents is watched: a second restart is told by a reminder, not by a new alert.
            spans += [(moment, parameters["watch_hours"]) for moment in incidents.told(track)]
    return any(start <= at <= start + timedelta(hours=hours) for start, hours in spans)


def _uncertain(view: View) -> bool:
    """Whether a patient who must not miss the drug may be missing it."""
    if view.therapy.withdrawal is not WithdrawalClass.W3:
        return False
    return view.state.armed_since is not None or _open_at_medium(view, UNCERTAIN_RULES)


def _open_at_medium(view: View, rule_ids: tuple[str, ...]) -> bool:
    for rule_id in rule_ids:
        track = view.open_track(rule_id)
        if track is not None and track.priority.rank >= Priority.MEDIUM.rank:
            return True
    return False


CONDITIONS: Final[dict[str, Named]] = {
    "therapy.catheter_suspect": Named(
        catheter_suspect, reads=("symptoms", "dosing", "alarms", "motor", "fills"), follows=PUMP_RULES
    ),
    "therapy.symptoms_reported": Named(
        reported,
        reads=("dosing", "armed_since", "replaced_at"),
        follows=("THR-06", *WATCHES, *UNCERTAIN_RULES),
    ),
}
