"""Refill conditions: what was put in, what should be left, and what follows an interruption.

A refill is the only moment at which most pumps show what they really delivered (clinical.md D-01, D-02), and a restart
after silent non-delivery is a moment of overdose (F-12 to F-15).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec.structs import replace

from streams.domain.alert import Priority, PriorityStep
from streams.domain.conditions.incidents import Incident, standing, told
from streams.domain.conditions.sessions import held_until
from streams.domain.observing.fills import Check, Outcome, Restart
from streams.domain.profile import WithdrawalClass
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View

ROUNDING_ML: Final = 1e-6
_KINDS: Final = {
    "refill": "Refilled after {hours:.0f} h without confirmed delivery.",
    "valve_reset": "The flow valve was reset after {hours:.0f} h without confirmed delivery.",
    "delivery": "Delivery is back after {hours:.0f} h without.",
    "concentration": "The concentration in the reservoir has changed.",
    "replaced": "The pump was replaced.",
}


def pocket_fill(view: View, rule: Rule) -> Finding:
    """REF-01: less is measured in the reservoir than was put in (HIGH), or nothing confirms the refill (MEDIUM).

    Within 60 min of a refill (inclusive) the measured level lies more than ``missing_ml_20`` or ``missing_ml_40`` (by
    reservoir size, exclusive) below residual plus injected minus programmed: HIGH, the physician on call
    ``physician_after_minutes`` later, for a person to resolve ``watch_hours`` after it. No plausible level and no
    interrogation within ``confirmed_within_minutes``: MEDIUM until one comes.
    """
    check, p = view.state.fills.check, view.parameters(rule)
    incidents = _missing(view, check, p) if check is not None else []
    track = view.open_track(rule.id)
    fresh = any(item.told_at >= view.at and item.at not in told(view.tracks.get(rule.id)) for item in incidents)
    if fresh or (track is not None and track.priority is Priority.HIGH):
        finding = standing(view, rule, incidents, resolvable_after=timedelta(hours=p["watch_hours"]))
        high_at = next((step.at for step in finding.steps if step.priority is Priority.HIGH), None)
        after = timedelta(minutes=p["physician_after_minutes"])
        return replace(finding, physician_by=high_at + after if high_at is not None else None)
    if check is None:
        return ABSENT
    due_at = check.at + timedelta(minutes=p["confirmed_within_minutes"])
    if check.confirmed_at is not None:
        return Finding(Presence.ABSENT, ended_at=check.confirmed_at)
    if due_at > view.at:
        return Finding(Presence.ABSENT, wake_at=due_at)
    values = {"finding": "The refill is not confirmed: no level and no interrogation since."}
    return Finding(Presence.PRESENT, (PriorityStep(Priority.MEDIUM, due_at),), values=values)


def _missing(view: View, check: Check, p: Mapping[str, Any]) -> list[Incident]:
    profile = view.therapy.profile
    limit_ml = p["missing_ml_40"] if profile is not None and profile.reservoir_ml == 40 else p["missing_ml_20"]
    found = next((item for item in check.shortfalls if item.ml > limit_ml + ROUNDING_ML), None)
    if found is None or check.told_at is None:
        return []
    values = {"finding": f"{found.ml:.1f} mL less is measured in the reservoir than was put in."}
    return [Incident(found.at, check.told_at, (PriorityStep(Priority.HIGH, found.at),), values)]


def over_infusion(view: View, rule: Rule) -> Finding:
    """REF-02: the last filling left the reservoir too fast: delivered over programmed above ``ratio_above``.

    Needs at least ``least_excess_ml`` beyond the program and ``least_programmed_ml`` programmed (inclusive). HIGH; with
    saline alone MEDIUM for a first occurrence with less than ``saline_excess_below`` of the program in excess.
    """
    outcomes, p = view.state.fills.outcomes, view.parameters(rule)
    incidents = []
    for index, outcome in enumerate(outcomes):
        if not _over(outcome, p):
            continue
        first = not any(_over(earlier, p) for earlier in outcomes[:index])
        mild = outcome.ratio - 1.0 < p["saline_excess_below"]
        again = view.therapy.saline_only and first and mild
        values = _ratio_values(outcome) | {
            "advice": "Repeat at the next refill." if again else "Check the patient now."
        }
        incidents.append(_incident(outcome, Priority.MEDIUM if again else Priority.HIGH, values))
    if not outcomes and view.open_track(rule.id) is None:
        return NOT_EVALUABLE
    return standing(view, rule, incidents)


def _over(outcome: Outcome, p: Mapping[str, Any]) -> bool:
    if outcome.programmed_ml < p["least_programmed_ml"] - ROUNDING_ML or outcome.ratio <= p["ratio_above"]:
        return False
    return bool(outcome.excess_ml >= p["least_excess_ml"] - ROUNDING_ML)


def under_delivery(view: View, rule: Rule) -> Finding:
    """REF-03: more was left than expected: delivered over programmed below ``ratio_below``, by ``least_missing_ml``.

    MEDIUM, on ``W3+1`` HIGH, and HIGH for all below ``severe_below``. The ratio is exclusive, the volume inclusive.
    """
    outcomes, p = view.state.fills.outcomes, view.parameters(rule)
    incidents = []
    for outcome in outcomes:
        if _under(outcome, p["ratio_below"], p["least_missing_ml"]):
            high = view.therapy.raises_medium or outcome.ratio < p["severe_below"]
            values = _ratio_values(outcome)
            incidents.append(_incident(outcome, Priority.HIGH if high else Priority.MEDIUM, values))
    if not outcomes and view.open_track(rule.id) is None:
        return NOT_EVALUABLE
    return standing(view, rule, incidents)


def _under(outcome: Outcome, ratio_below: float, least_missing_ml: float) -> bool:
    return outcome.ratio < ratio_below and -outcome.excess_ml >= least_missing_ml - ROUNDING_ML


def _incident(outcome: Outcome, priority: Priority, values: Mapping[str, str]) -> Incident:
    return Incident(outcome.at, outcome.told_at, (PriorityStep(priority, outcome.at),), values)


def _ratio_values(outcome: Outcome) -> dict[str, str]:
    return {
        "delivered": f"{outcome.delivered_ml:.1f} mL",
        "programmed": f"{outcome.programmed_ml:.1f} mL",
        "ratio": f"{outcome.ratio:.2f}",
    }


def resumption(view: View, rule: Rule) -> Finding:
    """REF-04: drug flows again after an interruption, or at another concentration: observe the patient.

    On W2 and W3 a refill, a valve reset or confirmed delivery after ``non_delivery_hours`` (inclusive) without, a
    filling of which less than ``ratio_below`` was delivered, or a replaced pump; for every drug a concentration that a
    refill or program change brought (catalogue M.14, M.28). HIGH; MEDIUM inside an authorised session and for a
    replacement, which are a clinician's own work. A person may resolve it ``watch_hours`` after the latest of them.
    """
    p = view.parameters(rule)
    incidents = sorted(_resumptions(view, p), key=lambda incident: incident.at)
    return standing(view, rule, incidents, resolvable_after=timedelta(hours=p["watch_hours"]))


def _resumptions(view: View, p: Mapping[str, Any]) -> Iterator[Incident]:
    w1 = view.therapy.withdrawal is WithdrawalClass.W1
    for restart in view.state.fills.restarts:
        if restart.kind == "concentration" or (not w1 and _long_enough(restart, p["non_delivery_hours"])):
            yield _restarted(view, restart)
    for outcome in view.state.fills.outcomes:
        if not w1 and _under(outcome, p["ratio_below"], p["least_missing_ml"]):
            values = {"cause": f"Only {outcome.ratio:.0%} of the program was delivered before the refill."}
            yield _incident(outcome, _by_session(view, outcome.at), values)


def _long_enough(restart: Restart, hours: float) -> bool:
    return restart.not_since is None or restart.at - restart.not_since >= timedelta(hours=hours)


def _restarted(view: View, restart: Restart) -> Incident:
    hours = (restart.at - restart.not_since) / timedelta(hours=1) if restart.not_since is not None else 0.0
    priority = Priority.MEDIUM if restart.kind == "replaced" else _by_session(view, restart.at)
    values = {"cause": _KINDS[restart.kind].format(hours=hours)}
    return Incident(restart.at, restart.told_at, (PriorityStep(priority, restart.at),), values)


def _by_session(view: View, at: datetime) -> Priority:
    return Priority.HIGH if held_until(view, at) is None else Priority.MEDIUM


CONDITIONS: Final = {
    "refill.over_infusion": Named(over_infusion, reads=("fills",)),
    "refill.pocket_fill": Named(pocket_fill, reads=("fills",)),
    "refill.resumption": Named(resumption, reads=("fills",)),
    "refill.under_delivery": Named(under_delivery, reads=("fills",)),
}
