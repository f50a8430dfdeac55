"""A pump's body: what is in its reservoir, what its motor does, and what it says about itself.

Pure and deterministic: chance comes in as an argument. True and reported values differ on purpose: the level that a
SynchroMed II reports is computed from its program (clinical.md D-01), and it learns of a stall only later (A-10).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

DAY: Final = timedelta(days=1)
PROTOCOL_DECIMALS: Final = 3
"""Volumes are reported to a thousandth of a millilitre."""
ERI_VOLTAGE: Final = 2.6
"""Voltage in V at which the elective replacement indicator is set (simulated; no published figure)."""
SERVICE_AFTER_ERI: Final = timedelta(days=90)
LIFETIME: Final = timedelta(days=7 * 365)
"""From implant to the end of service at the latest (clinical.md A-07)."""
STOPPED_ALARM: Final = timedelta(hours=48)
LONG_RECOVERY_SHARE: Final = 0.03
"""Share of MRI stalls that last for hours; synthetic, none is published (clinical.md M-02, M-14)."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What does not change while a pump runs.

    ``accuracy`` is true over programmed flow. ``low_alarm_ml`` is the pump's own alarm setting, on its computed level.
    ``detection`` is how long a stall, or its end, lasts before the pump knows. ``rhythm_hours`` shifts the body's daily
    rhythm. ``tells_motor`` is whether a gateway can read the motor's state.
    """

    pump_id: str
    boot_id: int
    flow_ml_per_day: float
    reservoir_ml: float = 20.0
    accuracy: float = 1.0
    low_alarm_ml: float = 2.0
    detection: timedelta = timedelta(0)
    senses_volume: bool = False
    tells_motor: bool = True
    implanted_at: datetime
    rhythm_hours: float = 0.0
    program_checksum: str = "p1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pump:
    """A pump at the moment ``clock``; volumes in mL, the cumulative ones since its boot.

    ``stalled_since`` is the truth, ``knows_stall`` what the pump has noticed. ``trapped`` is telemetry mode: infusion
    stays off until somebody interrogates the pump (clinical.md M-05). ``unsaid`` are events for the next report.
    """

    build: Build
    clock: datetime
    reservoir_true_ml: float
    reservoir_estimated_ml: float
    seq: int = 0
    volume_programmed_ml: float = 0.0
    volume_delivered_ml: float = 0.0
    stalled_since: datetime | None = None
    knows_stall: bool = False
    recovers_at: datetime | None = None
    recovery_seen_at: datetime | None = None
    recovered_at: datetime | None = None
    stopped_since: datetime | None = None
    trapped: bool = False
    in_mri: bool = False
    unsaid: tuple[Document, ...] = ()

    @property
    def turning(self) -> bool:
        """Whether the rotor truly moves; over an empty reservoir it moves nothing."""
        return self.stalled_since is None and self.stopped_since is None and not self.trapped

    @property
    def motor(self) -> str:
        """What the pump says its motor does."""
        if self.trapped:
            return "telemetry_mode"
        if self.stopped_since is not None:
            return "stopped"
        return "stalled" if self.knows_stall else "running"

    @property
    def voltage(self) -> float:
        """Battery voltage in V: falls evenly over the pump's life."""
        age = (self.clock - self.build.implanted_at) / LIFETIME
        return max(0.0, 3.0 - 0.4 * age)

    @property
    def alarms(self) -> tuple[str, ...]:
        """The codes that sound now."""
        eos = self.clock - self.build.implanted_at >= LIFETIME + SERVICE_AFTER_ERI
        stopped = self.stopped_since
        sounding = {
            "motor_stall": self.knows_stall and stopped is None,
            "reservoir_empty": self.reservoir_estimated_ml <= 0,
            "low_reservoir": self.reservoir_estimated_ml <= self.build.low_alarm_ml,
            "pump_stopped_48h": stopped is not None and self.clock - stopped >= STOPPED_ALARM,
            "elective_replacement": self.voltage <= ERI_VOLTAGE,
            "end_of_service": eos,
        }
        return tuple(code for code, sounds in sounding.items() if sounds)


def new_pump(build: Build, clock: datetime, level_ml: float) -> Pump:
    """A running pump whose computed level is still true."""
    return Pump(build=build, clock=clock, reservoir_true_ml=level_ml, reservoir_estimated_ml=level_ml)


def usual_level(moment: datetime, full_ml: float, refill_at_ml: float, flow_ml_per_day: float, phase: float) -> float:
    """The level of a pump that was always refilled in time, so that it goes on where an earlier run left it.

    Args:
        moment: When; aware.
        full_ml: Level after a refill.
        refill_at_ml: Level at which it is refilled; below ``full_ml``.
        flow_ml_per_day: Programmed flow; positive.
        phase: Where in its cycle this pump is, in [0, 1).
    """
    period_days = (full_ml - refill_at_ml) / flow_ml_per_day
    elapsed_days = (moment.timestamp() / 86_400 + phase * period_days) % period_days
    return full_ml - flow_ml_per_day * elapsed_days


def advance(pump: Pump, to: datetime) -> Pump:
    """Let time pass up to ``to``; earlier than the pump's clock changes nothing."""
    while True:
        moments = [at for at in (_notices_stall_at(pump), pump.recovers_at, pump.recovery_seen_at) if at is not None]
        at = min((moment for moment in moments if moment <= to), default=None)
        if at is None:
            return _flowed(pump, to)
        pump = _happened_by_itself(_flowed(pump, at), at)


def _flowed(pump: Pump, to: datetime) -> Pump:
    if to <= pump.clock:
        return pump
    days = (to - pump.clock) / DAY
    # The program runs on during a stall that the pump may not even know of; a commanded stop ends it.
    programmed = 0.0 if pump.stopped_since is not None else pump.build.flow_ml_per_day * days
    wanted = pump.build.flow_ml_per_day * pump.build.accuracy * days if pump.turning else 0.0
    delivered = min(wanted, pump.reservoir_true_ml)
    return replace(
        pump,
        clock=to,
        reservoir_true_ml=pump.reservoir_true_ml - delivered,
        reservoir_estimated_ml=max(0.0, pump.reservoir_estimated_ml - programmed),
        volume_programmed_ml=pump.volume_programmed_ml + programmed,
        volume_delivered_ml=pump.volume_delivered_ml + delivered,
    )


def _notices_stall_at(pump: Pump) -> datetime | None:
    if pump.stalled_since is None or pump.knows_stall:
        return None
    return max(pump.stalled_since + pump.build.detection, pump.clock)


def _happened_by_itself(pump: Pump, at: datetime) -> Pump:
    if pump.stalled_since is not None and pump.recovers_at is not None and pump.recovers_at <= at:
        return _released(pump, pump.recovers_at)
    if pump.recovery_seen_at is not None and pump.recovery_seen_at <= at:
        event = {"type": "stall_recovered", "at": _text(pump.recovered_at or at)}
        return replace(_said(pump, event), knows_stall=False, recovery_seen_at=None, recovered_at=None)
    if pump.stalled_since is None:
        return replace(pump, recovers_at=None)
    return replace(_said(pump, {"type": "stall_started", "at": _text(pump.stalled_since)}), knows_stall=True)


def stall(pump: Pump, at: datetime) -> Pump:
    """The rotor stands still although it should turn."""
    pump = advance(pump, at)
    if pump.stalled_since is not None:
        return pump
    return advance(replace(pump, stalled_since=at, recovery_seen_at=None, recovered_at=None), at)


def recover(pump: Pump, at: datetime) -> Pump:
    """The rotor turns again; the pump knows after its detection time, and never if it had not noticed the stall."""
    return advance(_released(advance(replace(pump, recovers_at=None), at), at), at)


def _released(pump: Pump, at: datetime) -> Pump:
    pump = replace(pump, stalled_since=None, recovers_at=None)
    if not pump.knows_stall or pump.recovery_seen_at is not None:
        return pump
    return replace(pump, recovery_seen_at=at + pump.build.detection, recovered_at=at)


def stop(pump: Pump, at: datetime) -> Pump:
    """Somebody programs a stop."""
    pump = advance(pump, at)
    return replace(pump, stopped_since=pump.stopped_since or at)


def start(pump: Pump, at: datetime) -> Pump:
    """Somebody programs infusion again."""
    return replace(advance(pump, at), stopped_since=None)


def enter_mri(pump: Pump, at: datetime, declared_by: str | None) -> Pump:
    """The field holds the rotor; while an alarm sounds it also traps the pump in telemetry mode (clinical.md M-05)."""
    pump = advance(pump, at)
    trapped = pump.trapped or bool(pump.alarms)
    if declared_by:
        pump = _said(pump, {"type": "mri_start", "at": _text(at), "declared_by": declared_by})
    return stall(replace(pump, in_mri=True, trapped=trapped), at)


def leave_mri(
    pump: Pump, at: datetime, declared_by: str | None, chance: Random, recovers_after: timedelta | None = None
) -> Pump:
    """The patient leaves the field; the rotor follows after minutes, seldom hours, or after ``recovers_after``."""
    pump = advance(pump, at)
    if declared_by:
        pump = _said(pump, {"type": "mri_end", "at": _text(at), "declared_by": declared_by})
    delay = recovers_after if recovers_after is not None else recovery_delay(chance)
    return replace(pump, in_mri=False, recovers_at=at + delay if pump.stalled_since is not None else None)


def recovery_delay(chance: Random) -> timedelta:
    """How long a rotor stays bound after a scan: 5 to 40 min, seldom 2 to 24 h (clinical.md M-02, M-14)."""
    if chance.random() < LONG_RECOVERY_SHARE:
        return timedelta(hours=chance.uniform(2, 24))
    return timedelta(minutes=chance.uniform(5, 40))


def interrogate(pump: Pump, at: datetime) -> Pump:
    """A programmer asks the pump: that frees it from telemetry mode, and shows at once what it had not noticed."""
    pump = advance(pump, at)
    pump = replace(pump, trapped=pump.trapped and pump.in_mri)
    if pump.recovery_seen_at is not None:
        pump = advance(replace(pump, recovery_seen_at=at), at)
    return _said(pump, {"type": "interrogation", "at": _text(at), "result": pump.motor})


def refill(pump: Pump, at: datetime, injected_ml: float) -> Pump:
    """The reservoir is emptied and filled; from then on the computed level is true again."""
    pump = advance(pump, at)
    injected_ml = min(injected_ml, pump.build.reservoir_ml)
    event = {
        "type": "refill",
        "at": _text(at),
        "aspirated_ml": round(pump.reservoir_true_ml, PROTOCOL_DECIMALS),
        "injected_ml": round(injected_ml, PROTOCOL_DECIMALS),
    }
    return replace(_said(pump, event), reservoir_true_ml=injected_ml, reservoir_estimated_ml=injected_ml)


def temperature(pump: Pump, chance: Random) -> float:
    """Body temperature at the pump in °C: a daily rhythm of ±0.4 around 36.8, and the sensor's noise."""
    hour = pump.clock.hour + pump.clock.minute / 60 + pump.build.rhythm_hours
    rhythm = 0.4 * math.sin((hour - 10) * math.tau / 24)
    return round(36.8 + rhythm + chance.gauss(0, 0.04), 2)


def tell(pump: Pump, chance: Random) -> tuple[Pump, Document]:
    """What the pump says now, in wire form but for the gateway's part; the pump after it has said it."""
    build = pump.build
    battery: Document = {"voltage_v": round(pump.voltage, 3), "eri": pump.voltage <= ERI_VOLTAGE}
    document: Document = {
        "schema_version": 1,
        "pump_id": build.pump_id,
        "boot_id": build.boot_id,
        "seq": pump.seq,
        "event_time": _text(pump.clock),
        "motor": pump.motor,
        "alarms": list(pump.alarms),
        "reservoir_estimated_ml": round(pump.reservoir_estimated_ml, PROTOCOL_DECIMALS),
        "flow_programmed_ml_per_day": 0.0 if pump.stopped_since is not None else build.flow_ml_per_day,
        "volume_programmed_ml": round(pump.volume_programmed_ml, 6),
        "temperature_celsius": temperature(pump, chance),
        "battery": battery,
        "program_checksum": build.program_checksum,
    }
    if not build.tells_motor:
        del document["motor"]
    if build.senses_volume:
        document["volume_delivered_ml"] = round(pump.volume_delivered_ml, 6)
        noisy = pump.reservoir_true_ml + chance.gauss(0, 0.02)
        document["reservoir_measured_ml"] = round(min(max(noisy, 0.0), 60.0), PROTOCOL_DECIMALS)
    if pump.in_mri:
        document["emi"] = {"level": "mri", "count": 1}
    if pump.unsaid:
        document["events"] = list(pump.unsaid)
    return replace(pump, seq=pump.seq + 1, unsaid=()), document


def _said(pump: Pump, event: Document) -> Pump:
    return replace(pump, unsaid=(*pump.unsaid, event))


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
