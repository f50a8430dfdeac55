"""Temperature at the pump (TMP-01).

Two things are kept: one reading per four hours of the last week, whose median is what is usual for this pump; and,
only while the pump is or was just warmer than that, the readings of the last hour.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from streams.domain.observing.series import Series, added
from streams.domain.profile import Therapy
from streams.domain.telemetry import EmiLevel, Report

if TYPE_CHECKING:
    from streams.domain.world import PumpState

BLOCK_SECONDS: Final = 4 * 3600
WEEK_BLOCKS: Final = 42
LEAST_BLOCKS: Final = 6
"""With fewer readings than these nothing is usual yet (a day; our own design)."""
WARM_ABOVE: Final = 50
WARM_AT: Final = 3_800
"""In 0.01 °C: readings under both usual + `WARM_ABOVE` and this are not kept, so no rule's limit may lie lower."""
SPELL_SECONDS: Final = 120
KEPT_FOR: Final = timedelta(hours=1)
FORGOTTEN_AFTER: Final = timedelta(minutes=45)
LONGEST_GAP: Final = timedelta(hours=24)


class Spell(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Readings of at most two minutes, in 0.01 °C: lowest, highest, and the highest inside strong interference."""

    first: datetime
    last: datetime
    low: int
    high: int
    in_field: int = 0


class HeatLog(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is usual in 0.01 °C (0: not known), what that comes from, and the readings while it is warm."""

    usual: int = 0
    blocks: Series = Series()
    spells: tuple[Spell, ...] = ()


def measured(log: HeatLog, state: PumpState, therapy: Therapy, report: Report) -> HeatLog:
    """The log after a report's measurements."""
    if report.temperature_celsius is None:
        return log
    at, value = report.event_time, round(report.temperature_celsius * 100)
    if value <= 0:
        return log
    place = int(at.timestamp()) // BLOCK_SECONDS
    if place > log.blocks.newest:
        # A block's reading is compared with the week before it, so that it cannot hide itself.
        log = HeatLog(_usual(log.blocks, place), added(log.blocks, place, value, WEEK_BLOCKS), log.spells)
    if not log.spells and not _warm(log, value):
        return log
    emi = report.emi
    in_field = value if emi is not None and emi.level in (EmiLevel.STRONG, EmiLevel.MRI) else 0
    return replace(log, spells=_spells(log, at, value, in_field))


def _usual(blocks: Series, place: int) -> int:
    known = [value for block, value in blocks.told() if place - block <= WEEK_BLOCKS]
    return round(median(known)) if len(known) >= LEAST_BLOCKS else 0


def _warm(log: HeatLog, value: int) -> bool:
    return value >= WARM_AT or bool(log.usual and value >= log.usual + WARM_ABOVE)


def _spells(log: HeatLog, at: datetime, value: int, in_field: int) -> tuple[Spell, ...]:
    spells = log.spells
    settled = len(spells) > 1 and at - spells[0].first >= FORGOTTEN_AFTER
    if settled and not any(_warm(log, warmest) for warmest in (value, *(spell.high for spell in spells))):
        return ()
    if spells and at - spells[-1].last > LONGEST_GAP:
        spells = ()
    if spells and int(at.timestamp()) // SPELL_SECONDS == int(spells[-1].first.timestamp()) // SPELL_SECONDS:
        last = spells[-1]
        joined = Spell(last.first, at, min(last.low, value), max(last.high, value), max(last.in_field, in_field))
        return (*spells[:-1], joined)
    # The reading before this one always stays: what a slow gateway shows is between two of its reports.
    kept = tuple(spell for index, spell in enumerate(spells, 1) if index == len(spells) or at - spell.last <= KEPT_FOR)
    return (*kept, Spell(at, at, value, value, in_field))
