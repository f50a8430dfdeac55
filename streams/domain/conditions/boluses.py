"""Patient boluses: more than the patient is allowed, or nearly all of it too often (THR-04)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from streams.domain.alert import Priority
from streams.domain.conditions.incidents import told_again
from streams.domain.conditions.sessions import HOLD_AFTER, known_session
from streams.domain.conditions.steps import reached
from streams.domain.observing.boluses import DAY, KEPT_BOLUSES, KEPT_DAYS, Bolus, Use, site_day
from streams.domain.profile import DrugName
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View

ROUNDING_ML: Final = 0.001


def outside_limits(view: View, rule: Rule) -> Finding:
    """THR-04: a bolus outside the patient's limits (HIGH), or boluses used up or denied often (LOW).

    HIGH: delivered within the lockout (shorter than ``bolus_lockout_minutes``, exclusive) of the one before, above the
    daily count or volume (24 h, inclusive limits), or baclofen on a valve-gated pump, whose patient controller is not
    cleared for it. It holds until the pump reports again ``holds_minutes`` later; then a person may resolve it. Each
    further one is told again.
    LOW: at least ``overuse`` of the daily allowance on ``overuse_days`` of 7 days at the site, or ``denials`` denied
    within 24 h. Boluses inside an authorised session are not the patient's. Source: clinical.md D-13 to D-15.
    """
    log, track = view.state.dosing.boluses, view.present_track(rule.id)
    if not log.delivered and not log.denied:
        return NOT_EVALUABLE
    parameters = view.parameters(rule)
    violations = list(_violations(view, parameters))
    candidates = [(Priority.HIGH, bolus.at) for bolus in violations]
    often = (overused_since(view, parameters), _denied_since(view, parameters))
    candidates += [(Priority.LOW, since) for since in often if since is not None]
    if steps := reached(candidates, view.at):
        facts = [(bolus.at, bolus.told_at) for bolus in violations]
        return Finding(
            Presence.PRESENT, steps, reminders=told_again(view.open_track(rule.id), Priority.HIGH, facts, view.at)
        )
    heard_at = view.state.reported_at
    if track is None:
        return ABSENT
    if heard_at is None or heard_at < track.steps[-1].at:
        return NOT_EVALUABLE
    return Finding(Presence.ABSENT, ended_at=heard_at)


def _violations(view: View, parameters: Mapping[str, Any]) -> Iterator[Bolus]:
    """Boluses of which the reports told just now, and which were delivered against the limits."""
    heard_at, holds = view.state.reported_at, timedelta(minutes=parameters["holds_minutes"])
    boluses = view.state.dosing.boluses.delivered
    if heard_at is not None and all(bolus.told_at + holds <= heard_at for bolus in boluses):
        return
    patient = [bolus for bolus in boluses if known_session(view, None, bolus.at, HOLD_AFTER) is None]
    for index, bolus in enumerate(patient):
        told = heard_at is None or heard_at < bolus.told_at + holds
        if told and (_not_permitted(view) or _too_soon(view, patient, index) or _too_many(view, patient[: index + 1])):
            yield bolus


def _not_permitted(view: View) -> bool:
    profile = view.therapy.profile
    if profile is None or not view.therapy.valve_gated:
        return False
    return any(drug.name is DrugName.BACLOFEN for drug in profile.drugs)


def _too_soon(view: View, boluses: list[Bolus], index: int) -> bool:
    profile = view.therapy.profile
    if index == 0 or profile is None or profile.bolus_lockout_minutes is None:
        return False
    return boluses[index].at - boluses[index - 1].at < timedelta(minutes=profile.bolus_lockout_minutes)


def _too_many(view: View, boluses: list[Bolus]) -> bool:
    profile, newest = view.therapy.profile, boluses[-1].at
    if profile is None:
        return False
    within = [bolus for bolus in boluses if newest - bolus.at < DAY]
    most, volume = profile.bolus_max_per_day, profile.max_bolus_ml_per_day
    if volume is not None and sum(bolus.ml for bolus in within) > volume + ROUNDING_ML:
        return True
    if most is None or most < KEPT_BOLUSES:
        return most is not None and len(within) > most
    # More than what is remembered one by one: the day at the site counts.
    today = site_day(view.therapy, newest)
    return any(use.day == today and use.count > most for use in view.state.dosing.boluses.days)


def overused_since(view: View, parameters: Mapping[str, Any]) -> datetime | None:
    """Since when nearly all of the daily allowance was used on several days of the last week, if so."""
    log, heard_at = view.state.dosing.boluses, view.state.reported_at
    if not log.delivered:
        return None
    newest = log.delivered[-1].at
    today = site_day(view.therapy, max(newest, heard_at) if heard_at is not None else newest)
    full = [use for use in log.days if today - use.day < KEPT_DAYS and _full(view, use, parameters["overuse"])]
    return newest if len(full) >= parameters["overuse_days"] else None


def _full(view: View, use: Use, part: float) -> bool:
    profile = view.therapy.profile
    most, volume = (profile.bolus_max_per_day, profile.max_bolus_ml_per_day) if profile else (None, None)
    by_count = bool(most) and use.count >= part * (most or 0)
    return by_count or (bool(volume) and use.ml >= part * (volume or 0.0) - ROUNDING_ML)


def _denied_since(view: View, parameters: Mapping[str, Any]) -> datetime | None:
    denied, heard_at = view.state.dosing.boluses.denied, view.state.reported_at
    if not denied:
        return None
    now = max(denied[-1], heard_at) if heard_at is not None else denied[-1]
    within = [at for at in denied if now - at < DAY]
    needed = int(parameters["denials"])
    return within[needed - 1] if len(within) >= needed else None


CONDITIONS: Final[dict[str, Named]] = {
    "therapy.bolus_outside_limits": Named(outside_limits, reads=("dosing", "sessions")),
}
