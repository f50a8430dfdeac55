"""Hazards of power and of the life of the device."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from services.emulator import physics
from services.emulator.cohort.hazards.acts import midnight
from services.emulator.cohort.hazards.kinds import STILL, Kinds, Moment
from services.emulator.cohort.life import DAY, HOUR, MINUTE, Life
from services.emulator.cohort.truth import Severity

KINDS: Final = Kinds()


_OLD: Final = ("PWR-01", "PWR-02", "PWR-03", "REF-04", "DLV-09", "COM-02")


@KINDS.kind("HZ-18 HZ-04", "PWR-01", also=_OLD, days=44, first_day=2)
def elective_replacement(life: Life, moment: Moment) -> None:
    """The battery asks to be replaced, and for a month nobody books it (A-07)."""
    life.body(moment.at, lambda pump, at: replace(physics.advance(pump, at), eri_forced=True))
    moment.strikes(life, Severity.LOW, within=DAY, lasts=42 * DAY, name="eri")
    moment.strikes(life, Severity.MEDIUM, within=DAY, after=30 * DAY, lasts=12 * DAY)
    _replaced(life, moment.at + 40 * DAY)


def _replaced(life: Life, at: datetime) -> None:
    """A surgeon implants a new pump, and somebody records it."""

    def implant(moment: datetime) -> None:
        life.pump = physics.replaced(life.pump, moment, max(life.pump.reservoir_true_ml, 0.0))
        life.pump = physics.mended(replace(life.pump, eri_forced=False), moment)
        life.enter("replaced", moment)
        life.prescribe(moment, implanted_on=moment.date().isoformat())
        life.plan(moment + 10 * MINUTE, lambda _: None, clinic=True)

    life.plan(at, implant, clinic=True)


@KINDS.kind("HZ-18 HZ-01", "PWR-02", also=(*_OLD, *STILL, "DLV-03", "DLV-05", "THR-01", "THR-02", "THR-07"), days=6)
def end_of_service(life: Life, moment: Moment) -> None:
    """The pump has reached the end of its life and stops delivering."""
    life.body(moment.at, physics.fail, "end_of_service")
    life.body(moment.at, physics.stop)
    lasts = timedelta(hours=life.chance.uniform(8, 20))
    moment.strikes(life, Severity.HIGH, within=life.patient.budget / 2, lasts=lasts + 26 * HOUR)
    _replaced(life, moment.at + lasts)


@KINDS.kind("HZ-18", "PWR-03", also=_OLD, days=2, first_day=4)
def old_pump(life: Life, moment: Moment) -> None:
    """The pump turns six and a half years old."""
    born = (moment.at - timedelta(days=6.5 * 365.25)).date()
    life.documents[0] = {**life.documents[0], "implanted_on": born.isoformat()}
    moment.then(midnight(moment.at) - 2 * DAY).strikes(life, Severity.LOW, within=6 * DAY, lasts=life.end - moment.at)


@KINDS.kind("HZ-18 HZ-05", "PWR-03", also=(*_OLD, "PWR-01"), days=28, first_day=62)
def battery_drain(life: Life, moment: Moment) -> None:
    """The battery falls ten times as fast as before (A-08)."""

    def drain(pump: physics.Pump, at: datetime) -> physics.Pump:
        return replace(physics.advance(pump, at), drained_since=at, drained_v_per_day=0.008)

    life.body(moment.at, drain)
    moment.strikes(life, Severity.MEDIUM, within=20 * DAY, lasts=26 * DAY)
