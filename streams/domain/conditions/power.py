"""Power conditions: the battery and the pump's years."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from streams.domain.alert import Episode, Priority
from streams.domain.conditions.steps import next_after, reached
from streams.domain.observing.power import Indicator, replacement
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View

DAYS_PER_YEAR: Final = 365.25


def replacement_due(view: View, rule: Rule) -> Finding:
    """PWR-01: the elective replacement indicator came on, and the pump stops ``deadline_days`` later.

    LOW at once. Without a replacement booked on or before the deadline MEDIUM at ``medium_days_left``, told again at
    ``reminder_days_left``, HIGH at ``high_days_left``; booked later than the deadline MEDIUM at once. A booked day that
    passed without a replacement is no booking. Ends with a recorded replacement, whoever recorded it.
    Source: clinical.md A-07.
    """
    indicator = view.state.power.eri
    track = view.open_track(rule.id)
    if (ended := _replaced(view, indicator, track)) is not None:
        return ended
    if indicator is None:
        return ABSENT if view.state.alarms_at is not None else NOT_EVALUABLE
    if indicator.over_at is not None:
        return Finding(Presence.ABSENT, ended_at=indicator.over_at)
    since = indicator.since
    deadline = since + timedelta(days=view.parameters(rule)["deadline_days"])
    free_since, booked_until = _unbooked(view, since, deadline)
    medium_due, reminder_due, high_due = dues = _dues(view, rule, since, deadline)
    candidates, reminders = [(Priority.LOW, since)], track.reminders if track is not None else ()
    if free_since is not None:
        medium_at, reminder_at, high_at = (max(due, free_since) for due in dues)
        candidates += [(Priority.MEDIUM, medium_at), (Priority.HIGH, high_at)]
        if not reminders and _medium_since(track, medium_at) < reminder_at < high_at and reminder_at <= view.at:
            reminders = (reminder_at,)
    return Finding(
        Presence.PRESENT,
        reached(candidates, view.at),
        wake_at=next_after((medium_due, reminder_due, high_due, booked_until), view.at),
        reminders=reminders,
        values={"deadline": f"{deadline:%Y-%m-%d}"},
    )


def _dues(view: View, rule: Rule, since: datetime, deadline: datetime) -> tuple[datetime, datetime, datetime]:
    """When MEDIUM, the reminder and HIGH are due while nothing in time is booked."""
    parameters, booked_at = view.parameters(rule), view.therapy.replacement_booked_at
    medium, reminder, high = (
        deadline - timedelta(days=parameters[f"{name}_days_left"]) for name in ("medium", "reminder", "high")
    )
    too_late = booked_at is not None and booked_at > deadline
    return since if too_late else medium, reminder, high


def _unbooked(view: View, since: datetime, deadline: datetime) -> tuple[datetime | None, datetime | None]:
    """Since when nothing in time is booked, None when something is; and until when the booking counts."""
    therapy = view.therapy
    booked_at = therapy.replacement_booked_at
    free_since = max(since, therapy.since) if therapy.since is not None else since
    if booked_at is None or booked_at > deadline:
        return free_since, None
    day = booked_at.astimezone(therapy.zone).date()
    passed_at = therapy.midnight(day + timedelta(days=1))
    if view.at < passed_at:
        return None, passed_at
    return max(free_since, passed_at), passed_at


def _medium_since(track: Episode | None, otherwise: datetime) -> datetime:
    """When the alert became MEDIUM, or would now."""
    steps = track.steps if track is not None else ()
    return next((step.at for step in steps if step.priority is Priority.MEDIUM), otherwise)


def _replaced(view: View, indicator: Indicator | None, track: Episode | None) -> Finding | None:
    """What ends with the replacement: all that the pump said until then, of itself."""
    replaced_at, person = replacement(view.state, view.therapy)
    if replaced_at is None or (indicator is not None and indicator.since > replaced_at):
        return None
    if track is None or track.start > replaced_at:
        return ABSENT
    return Finding(Presence.ABSENT, ended_at=replaced_at, closed_by=person)


def at_its_end(view: View, rule: Rule) -> Finding:
    """PWR-02: the pump says end of service or a battery reset, or ``deadline_days`` passed since its indicator.

    HIGH. Ends with a replacement, or when the pump itself takes back what it said. Source: clinical.md A-02, A-07.
    """
    log, at, track = view.state.power, view.at, view.open_track(rule.id)
    replaced_at, person = replacement(view.state, view.therapy)
    eri, *said = (
        indicator if indicator is not None and (replaced_at is None or indicator.since > replaced_at) else None
        for indicator in (log.eri, log.eos, log.alarm)
    )
    wake_at = None
    if eri is not None:
        deadline = eri.since + timedelta(days=view.parameters(rule)["deadline_days"])
        if eri.over_at is None or eri.over_at > deadline:
            wake_at = deadline if deadline > at else None
            said.append(Indicator(deadline, eri.over_at) if deadline <= at else None)
    told = [indicator for indicator in said if indicator is not None]
    sounding = [indicator.since for indicator in told if indicator.over_at is None]
    if sounding:
        return Finding(Presence.PRESENT, reached([(Priority.HIGH, min(sounding))], at), wake_at=wake_at)
    if not told and track is not None and replaced_at is not None and replaced_at >= track.start:
        return Finding(Presence.ABSENT, ended_at=replaced_at, closed_by=person, wake_at=wake_at)
    ended_at = max((indicator.over_at for indicator in told if indicator.over_at is not None), default=None)
    known = told or view.state.alarms_at is not None
    return Finding(Presence.ABSENT if known else Presence.NOT_EVALUABLE, ended_at=ended_at, wake_at=wake_at)


def wearing_out(view: View, rule: Rule) -> Finding:
    """PWR-03: the pump is old, or its battery falls much faster than before.

    LOW at ``low_years`` since it was implanted, MEDIUM at ``medium_years`` (of 365.25 days; hard stop at 7). MEDIUM
    when the voltage's slope over 14 days is more than ``slope_ratio`` times that of the 60 days before and reaches
    ``eri_voltage_v`` within ``projected_days``. Ends with a replacement. Source: clinical.md A-07, A-08; the voltage
    of the indicator is our own design, to be set per device.
    """
    therapy, parameters = view.therapy, view.parameters(rule)
    replaced_at, _ = replacement(view.state, therapy)
    track = view.present_track(rule.id)
    if track is not None and replaced_at is not None and replaced_at >= track.start:
        return Finding(Presence.ABSENT, ended_at=replaced_at)
    implanted_on = therapy.profile.implanted_on if therapy.profile is not None else None
    implanted_at = therapy.midnight(implanted_on) if implanted_on is not None else None
    if replaced_at is not None and (implanted_at is None or replaced_at > implanted_at):
        implanted_at = replaced_at
    candidates = [(step.priority, step.at) for step in track.steps] if track is not None else []
    if implanted_at is not None:
        for priority, name in ((Priority.LOW, "low_years"), (Priority.MEDIUM, "medium_years")):
            years = parameters[name]
            candidates.append((priority, view.due(implanted_at + timedelta(days=years * DAYS_PER_YEAR))))
    if (falls_at := _falls_since(view, rule, replaced_at)) is not None:
        candidates.append((Priority.MEDIUM, falls_at))
    steps = reached(candidates, view.at)
    wake_at = next_after((at for _, at in candidates), view.at)
    if steps:
        return Finding(Presence.PRESENT, steps, wake_at=wake_at)
    known = implanted_at is not None or view.state.power.trend is not None
    return Finding(Presence.ABSENT if known else Presence.NOT_EVALUABLE, wake_at=wake_at)


def _falls_since(view: View, rule: Rule, replaced_at: datetime | None) -> datetime | None:
    trend, parameters = view.state.power.trend, view.parameters(rule)
    if trend is None or trend.recent >= 0 or (replaced_at is not None and trend.at <= replaced_at):
        return None
    # A battery that did not fall before has no slope to compare with; how soon it ends decides alone.
    if -trend.recent <= parameters["slope_ratio"] * max(-trend.before, 0.0):
        return None
    days_left = (trend.level_mv - 1000 * parameters["eri_voltage_v"]) / -trend.recent
    return trend.at if days_left < parameters["projected_days"] else None


CONDITIONS: Final[dict[str, Named]] = {
    "power.replacement_due": Named(replacement_due, reads=("power", "replaced_at")),
    "power.at_its_end": Named(at_its_end, reads=("power", "replaced_at")),
    "power.wearing_out": Named(wearing_out, reads=("power", "replaced_at")),
}
