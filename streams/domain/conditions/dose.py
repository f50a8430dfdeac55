"""The programmed dose: against the prescription (THR-01), and how it grows over weeks (THR-03)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec.structs import replace

from streams.domain.alert import Episode, Priority, Reason
from streams.domain.care import CareKind
from streams.domain.conditions.sessions import HOLD_AFTER, LONGEST_SESSION, ended_by, held_until, sessions
from streams.domain.conditions.steps import next_after, reached
from streams.domain.observing.dosing import AFTER_VISIT, BEFORE_VISIT, SAME_DOSE, Basis, Dose
from streams.domain.observing.schedule import DAY, Mean, mean, parts, said_at
from streams.domain.profile import DrugName
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View
from streams.domain.telemetry import Symptom
from streams.domain.world import Session

NEUROLOGICAL: Final = frozenset({Symptom.WEAKNESS, Symptom.SENSORY_CHANGE, Symptom.BLADDER_CHANGE})
"""Signs that a mass at the catheter tip presses on the spinal cord (clinical.md F-19)."""
ONE_INCREASE: Final = timedelta(days=2)
"""Rises on days that follow each other are one increase: the mean of 24 hours shows a new program in two parts."""

SAME: Final = 1e-9
"""What floating-point numbers may differ by and still be the same limit."""

Cause = tuple[datetime, str]


def off_prescription(view: View, rule: Rule) -> Finding:
    """THR-01: the programmed dose is not the prescribed one, or out of what device and drug allow.

    HIGH, both directions, on anything but saline:
    the scheduled mean rate times the concentration differs from the prescription by more than ``tolerance``, judged
    once a session, a change of program, or a profile version with another concentration or prescription was seen;
    a rate outside ``min_ml_per_day`` to ``max_ml_per_day`` that is no declared stop;
    ziconotide above ``ziconotide_ceiling_ug_per_day``;
    a session after a changed concentration that ended without a bolus (the bridge bolus).
    While an authorised session goes on nothing is judged. The mean is that of 24 hours. After a change of program it is
    known at once where the rate was steady for a day before; that guess is taken back where later steps disprove it.
    A rate that nobody tells for a day counts as unchanged.
    Source: clinical.md D-06, D-09; rules_catalogue.md THR-01.
    """
    track = view.open_track(rule.id)
    if view.therapy.saline_only:
        return ABSENT
    rate, parameters = _scheduled(view), view.parameters(rule)
    bridge_due = _bridge_due(view)
    causes = [cause for cause in (_out_of_range(view, parameters), _over_ceiling(view, rate, parameters)) if cause]
    dose, wake_at = _dose_differs(view, rate, parameters)
    causes += [dose] if dose is not None else []
    if bridge_due is not None and _lasts(view, bridge_due, parameters):
        causes.append((bridge_due, "no bridge bolus after a changed concentration"))
    held = held_until(view, view.at)
    if held is not None and held > view.at:
        return Finding(Presence.NOT_EVALUABLE, wake_at=held)
    due = [(max(at, held) if held is not None and held <= view.at else at, text) for at, text in causes]
    now = [cause for cause in due if cause[0] <= view.at]
    wake_at = next_after([wake_at, bridge_due, *said_at(view.state.dosing.schedule), *(at for at, _ in due)], view.at)
    if now:
        since, text = min(now)
        return Finding(
            Presence.PRESENT, reached([(Priority.HIGH, since)], view.at), wake_at=wake_at, values={"cause": text}
        )
    if track is not None and track.present and _disproved(view, track, rate):
        return Finding(Presence.ABSENT, retract=Reason.LATE_EVIDENCE, wake_at=wake_at)
    return Finding(Presence.ABSENT if rate is not None else Presence.NOT_EVALUABLE, wake_at=wake_at)


def _scheduled(view: View) -> Mean | None:
    """The scheduled mean rate as last told; None while a new program has not shown enough of its schedule."""
    log = view.state.dosing
    schedule, changed_at, at = log.schedule, log.program.changed_at, view.at
    if changed_at is None or at - changed_at >= DAY:
        whole_at = [changed_at + DAY] if changed_at is not None else []
        counts_at = max((moment for moment in [*whole_at, *said_at(schedule)] if moment <= at), default=at)
        whole = mean(schedule, view.therapy, counts_at)
        return replace(whole, known_at=max([whole.known_at, *whole_at])) if whole is not None else None
    if schedule.heard_at is None or schedule.heard_at < changed_at:
        return None
    new = [rate for rate in schedule.rates if rate.at >= changed_at]
    if len(new) > 1 or schedule.had_steps:
        return None
    known_at = new[0].at if new else changed_at
    return Mean(schedule.rates[-1].ml_per_day, known_at)


def _dose_differs(view: View, rate: Mean | None, parameters: Mapping[str, Any]) -> tuple[Cause | None, datetime | None]:
    """Since when the dose is not the prescribed one, and when a schedule not known yet will be."""
    concentration, prescribed = _prescription(view)
    asked_at = _asked_at(view)
    if not concentration or not prescribed or asked_at is None or not _reported_under(view):
        return None, None
    limit = parameters["tolerance"] * prescribed
    if rate is not None:
        dose = rate.ml_per_day * concentration
        if abs(dose - prescribed) <= limit * (1 + SAME) + rate.error * concentration:
            return None, None
        return (max(asked_at, rate.known_at), f"{dose / prescribed:.2f} times the prescribed dose"), None
    log = view.state.dosing
    changed_at = log.program.changed_at
    if changed_at is None:
        return None, None
    if log.schedule.heard_at is None or log.schedule.heard_at < changed_at:
        # After a day without another rate, the one from before the change is judged.
        return None, next_after([changed_at + DAY], view.at)
    # The whole day is not known yet, but a day's dose may have been given already.
    given_at = _given_at(view, changed_at, (prescribed + limit) / concentration)
    if given_at is not None and given_at <= view.at:
        return (given_at, "more than a day's prescribed dose in less than a day"), changed_at + DAY
    return None, next_after([given_at, changed_at + DAY], view.at)


def _given_at(view: View, since: datetime, volume_ml: float) -> datetime | None:
    """When the schedule since a change has given a volume, if that is within the day and the rate stays as it is."""
    schedule, left = view.state.dosing.schedule, volume_ml
    start = max([since, *(rate.at for rate in schedule.rates if rate.at >= since)][:2])
    at = start
    for ml_per_day, lasted in parts(schedule, start, since + DAY):
        given = ml_per_day * (lasted / DAY)
        if given >= left:
            return at + (left / ml_per_day) * DAY
        left, at = left - given, at + lasted
    return None


def _prescription(view: View) -> tuple[float | None, float | None]:
    """Concentration of the first drug and its prescribed dose per day."""
    profile = view.therapy.profile
    return (profile.drugs[0].concentration_ug_per_ml, profile.prescribed_ug_per_day) if profile else (None, None)


def _reported_under(view: View) -> bool:
    """Whether the pump has reported since this version of its profile: the visit that brings a new one comes first."""
    basis = view.state.dosing.basis
    return basis is not None and basis.version == view.therapy.valid_from


def _asked_at(view: View) -> datetime | None:
    """The last moment that asks whether dose and prescription fit: a session, a new program, a new prescription."""
    log = view.state.dosing
    moments = [session.end or session.start for session in sessions(view)]
    by_profile = log.basis.changed_at if log.basis is not None else None
    moments += [moment for moment in (log.program.changed_at, by_profile) if moment is not None]
    return max((moment for moment in moments if moment <= view.at), default=None)


def _out_of_range(view: View, parameters: Mapping[str, Any]) -> Cause | None:
    flow, track = view.state.dosing.rate, view.present_track("THR-01")
    if flow is None or parameters["min_ml_per_day"] <= flow <= parameters["max_ml_per_day"]:
        return None
    if flow == 0 and view.therapy.newest(CareKind.STOP_PLAN) is not None:
        return None
    return track.start if track is not None else view.at, "a rate that the device cannot keep"


def _over_ceiling(view: View, rate: Mean | None, parameters: Mapping[str, Any]) -> Cause | None:
    profile, track = view.therapy.profile, view.present_track("THR-01")
    if profile is None or rate is None or not _reported_under(view):
        return None
    highest = parameters["ziconotide_ceiling_ug_per_day"] * (1 + SAME)
    for drug in profile.drugs:
        concentration = drug.concentration_ug_per_ml or 0.0
        if drug.name is DrugName.ZICONOTIDE and (rate.ml_per_day - rate.error) * concentration > highest:
            return track.start if track is not None else view.at, "more than the drug's highest dose"
    return None


def _bridge_due(view: View) -> datetime | None:
    """When the bridge bolus of a changed concentration was due and did not come: after the session that changed it."""
    basis: Basis | None = view.state.dosing.basis
    if basis is None or basis.concentrated_at is None:
        return None
    visit = _visit(view, basis.concentrated_at)
    if visit is None:
        return None
    due = ended_by(visit) + HOLD_AFTER
    return None if any(visit.start <= bolus <= due for bolus in basis.bridges) else due


def _visit(view: View, changed_at: datetime) -> Session | None:
    """The first authorised session around a changed concentration."""
    first, last = changed_at - BEFORE_VISIT, changed_at + AFTER_VISIT - LONGEST_SESSION
    around = [session for session in sessions(view) if first <= session.start <= last]
    return min(around, key=lambda session: session.start, default=None)


def _lasts(view: View, since: datetime, parameters: Mapping[str, Any]) -> bool:
    """Whether something that happened once still counts: until the pump reports again some minutes later."""
    heard_at = view.state.reported_at
    return heard_at is None or heard_at < since + timedelta(minutes=parameters["holds_minutes"])


def _disproved(view: View, track: Episode, rate: Mean | None) -> bool:
    """Whether the alert came from taking a new program's first rate for its mean, and the whole day shows otherwise."""
    changed_at = view.state.dosing.program.changed_at
    if rate is None or changed_at is None or not changed_at <= track.start < changed_at + DAY:
        return False
    return view.at >= changed_at + DAY


def escalating(view: View, rule: Rule) -> Finding:
    """THR-03: the daily dose grows fast or often; a mass at the catheter tip may be why.

    LOW: ``rise`` within ``rise_days``, or ``increases`` increases (each at least ``increase``) within
    ``increases_days``; MEDIUM with a neurological symptom that is new since. The first ``titration_days`` after it was
    implanted, and until ``titration_until``, are exempt. Daily dose: mean programmed rate over 24 h times concentration
    (M.15). Ends with a recorded review, from which dose counts anew. Source: clinical.md F-19.
    """
    history, track = view.state.dosing.history, view.open_track(rule.id)
    reviews = [record for record in view.therapy.of_kind(CareKind.REVIEW) if record.rule_id == rule.id]
    review = reviews[-1] if reviews else None
    if track is not None and review is not None and review.valid_from >= track.start:
        return Finding(Presence.ABSENT, ended_at=review.valid_from, closed_by=review.person)
    if not history.doses or history.judged_at is None:
        return NOT_EVALUABLE
    parameters = view.parameters(rule)
    since = _titrated_until(view, parameters)
    if review is not None:
        since = max(since, review.valid_from) if since is not None else review.valid_from
    window = timedelta(days=parameters["increases_days"])
    grown_at = _grown_at(history.doses, history.judged_at, since, parameters)
    if grown_at is None:
        return Finding(Presence.ABSENT, ended_at=max(history.judged_at, track.start) if track is not None else None)
    sign_at = _new_sign(view, grown_at - window if since is None else max(since, grown_at - window))
    candidates = [(Priority.LOW, grown_at)]
    if sign_at is not None:
        candidates.append((Priority.MEDIUM, max(sign_at, grown_at)))
    return Finding(Presence.PRESENT, reached(candidates, view.at))


def _titrated_until(view: View, parameters: Mapping[str, Any]) -> datetime | None:
    profile, therapy = view.therapy.profile, view.therapy
    ends = []
    if profile is not None and profile.implanted_on is not None:
        ends.append(therapy.midnight(profile.implanted_on) + timedelta(days=parameters["titration_days"]))
    if profile is not None and profile.titration_until is not None:
        ends.append(therapy.midnight(profile.titration_until + timedelta(days=1)))
    return max(ends, default=None)


def _grown_at(
    doses: Sequence[Dose], judged_at: datetime, since: datetime | None, parameters: Mapping[str, Any]
) -> datetime | None:
    """When the newest dose became an escalation, judged at the last day whose dose is known."""
    doses = _from(doses, since)
    if len(doses) < 2 or (since is not None and judged_at < since):
        return None
    newest, window_start = doses[-1], judged_at - timedelta(days=parameters["rise_days"])
    before = _from(doses, window_start)[0]
    if newest.ug >= before.ug * (1 + parameters["rise"]):
        return newest.at
    recent = _from(doses, judged_at - timedelta(days=parameters["increases_days"]))
    increases = list(increase_times(recent, parameters["increase"]))
    needed = int(parameters["increases"])
    return increases[needed - 1] if len(increases) >= needed else None


def _from(doses: Sequence[Dose], since: datetime | None) -> Sequence[Dose]:
    """The doses from a moment on, the one in force then first."""
    if since is None:
        return doses
    first = max((index for index, dose in enumerate(doses) if dose.at <= since), default=0)
    return doses[first:]


def recent_doses(view: View, window: timedelta, parameters: Mapping[str, Any]) -> Sequence[Dose]:
    """The daily doses within a window before the last day known, after the initial titration."""
    history = view.state.dosing.history
    since = _titrated_until(view, parameters)
    if history.judged_at is None or (since is not None and since > history.judged_at):
        return ()
    return _from(_from(history.doses, since), history.judged_at - window)


def increase_times(doses: Sequence[Dose], least: float) -> Iterator[datetime]:
    """When the dose was increased by at least the part ``least``; rises on following days count once."""
    plateau, counted, before = None, False, None
    for dose in doses:
        if before is None or plateau is None or dose.ug < before.ug or dose.at - before.at > ONE_INCREASE:
            plateau, counted = before, False
        if plateau is not None and not counted and dose.ug >= plateau.ug * (1 + least - SAME_DOSE):
            counted = True
            yield dose.at
        before = dose


def _new_sign(view: View, since: datetime) -> datetime | None:
    """When a neurological symptom was first reported that nobody reported before the dose began to grow."""
    known: set[str] = set()
    for report in sorted(view.state.symptoms, key=lambda report: report.at):
        signs = NEUROLOGICAL.intersection(report.codes)
        if report.at >= since and not signs <= known:
            return report.at
        known |= signs
    return None


CONDITIONS: Final[dict[str, Named]] = {
    "therapy.off_prescription": Named(off_prescription, reads=("dosing", "sessions", "armed_since")),
    "therapy.escalating": Named(escalating, reads=("dosing", "symptoms")),
}
