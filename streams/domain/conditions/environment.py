"""Environment conditions: temperature at the pump."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from streams.domain.alert import Episode, Priority
from streams.domain.conditions.steps import reached
from streams.domain.observing.heat import Spell
from streams.domain.observing.scans import AFTER_END, hard_end
from streams.domain.rule import ABSENT, NOT_EVALUABLE, Finding, Named, Presence, Rule, View
from streams.domain.telemetry import Alarm
from streams.domain.world import Mri


def too_warm(view: View, rule: Rule) -> Finding:
    """TMP-01: the pump is warmer than usual for it; the device heats, or the patient has a fever.

    MEDIUM: ``rise_celsius`` above the 7-day median for ``rise_minutes``, or ``absolute_celsius`` for
    ``absolute_minutes``. HIGH: ``heating_celsius`` once, ``field_rise_celsius`` above the median inside an MRI or
    strong interference, or the pump's alarm. Clears under ``clear_rise_celsius`` above the median for
    ``clear_minutes``; under `_cool_below` where no median is known. All limits but the clearing one are inclusive, and
    a hold ends with the first reading that shows it whole. Source: clinical.md M-12, F-01.
    """
    log, alarming = view.state.heat, Alarm.OVER_TEMPERATURE in view.state.alarms
    if not log.spells and not alarming:
        return ABSENT if log.usual else NOT_EVALUABLE
    track = view.open_track(rule.id)
    spells = _unsettled(log.spells, view.tracks.get(rule.id))
    parameters, usual = view.parameters(rule), log.usual
    candidates = [*_held(spells, usual, parameters), *_heated(spells, usual, view.state.mri, parameters)]
    if alarming:
        candidates.append((Priority.HIGH, view.state.alarms_at or view.at))
    if steps := reached(candidates, view.at):
        return Finding(Presence.PRESENT, steps, values=_said(spells, usual))
    if track is None:
        return ABSENT if usual else NOT_EVALUABLE
    minutes = timedelta(minutes=parameters["clear_minutes"])
    cool_below = _cool_below(usual, parameters)
    since = _since(log.spells, lambda spell: spell.high < cool_below)
    if since is None or alarming or log.spells[-1].last - since < minutes:
        return NOT_EVALUABLE
    return Finding(Presence.ABSENT, ended_at=since + minutes)


def _unsettled(spells: tuple[Spell, ...], track: Episode | None) -> tuple[Spell, ...]:
    """The readings since the last episode ended."""
    if track is None or track.present or track.ended_at is None:
        return spells
    ended_at = track.ended_at
    return tuple(spell for spell in spells if spell.first > ended_at)


def _held(spells: tuple[Spell, ...], usual: int, parameters: Mapping[str, Any]) -> Iterator[tuple[Priority, datetime]]:
    for name, above in (("rise", usual), ("absolute", 0)):
        if name == "rise" and not usual:
            continue
        limit, hold = above + _hundredths(parameters, name), timedelta(minutes=parameters[f"{name}_minutes"])
        since = _since(spells, partial(_at_least, limit))
        if since is not None and spells[-1].last - since >= hold:
            yield Priority.MEDIUM, since + hold


def _at_least(limit: int, spell: Spell) -> bool:
    return spell.low >= limit


def _heated(
    spells: tuple[Spell, ...], usual: int, mri: Mri | None, parameters: Mapping[str, Any]
) -> Iterator[tuple[Priority, datetime]]:
    heating = _hundredths(parameters, "heating")
    in_field = usual + _hundredths(parameters, "field_rise")
    for spell in spells:
        warmest = max(spell.in_field, spell.high if _scanned(mri, spell) else 0)
        if spell.high >= heating or (usual and warmest >= in_field):
            yield Priority.HIGH, spell.last


def _scanned(mri: Mri | None, spell: Spell) -> bool:
    """Whether the readings come from inside the MRI's window."""
    if mri is None:
        return False
    end = hard_end(mri) if mri.declared else (mri.last_seen_at or mri.start) + AFTER_END
    return mri.start <= spell.last and spell.first <= end


def _since(spells: tuple[Spell, ...], fits: Callable[[Spell], bool]) -> datetime | None:
    """Since when all readings fit, up to the newest; None when that one does not."""
    since = None
    for spell in reversed(spells):
        if not fits(spell):
            break
        since = spell.first
    return since


def _cool_below(usual: int, parameters: Mapping[str, Any]) -> int:
    """In 0.01 °C; never so high that the absolute limit would open the alert again at once."""
    rise, clear = _hundredths(parameters, "rise"), _hundredths(parameters, "clear_rise")
    highest = _hundredths(parameters, "absolute") - (rise - clear)
    return min(usual + clear, highest) if usual else highest


def _hundredths(parameters: Mapping[str, Any], name: str) -> int:
    return round(float(parameters[f"{name}_celsius"]) * 100)


def _said(spells: tuple[Spell, ...], usual: int) -> dict[str, str]:
    """What the pump says; of a temperature that is not known nothing is said."""
    if not spells:
        return {"said": "The pump's alarm for too high a temperature"}
    measured = f"{spells[-1].high / 100:.1f} °C at the pump"
    return {"said": f"{measured}, usually {usual / 100:.1f} °C" if usual else measured}


CONDITIONS: Final[dict[str, Named]] = {
    "environment.too_warm": Named(too_warm, reads=("heat", "alarms", "mri")),
}
