"""A pump's body: what is in its reservoir, what its motor does, and what it says about itself.

Pure and deterministic: chance comes in as an argument. True and reported values differ on purpose: the level that a
SynchroMed II reports is computed from its program (clinical.md D-01), and it learns of a stall only later (A-10). The
same body serves the running emulator (`tell`, the wire form) and the cohort (`say`, plain values at full speed).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

import msgspec
from msgspec.structs import replace

DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)
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
MINIMUM_RATE_ML_PER_DAY: Final = 0.048
"""What a pump falls back to (clinical.md D-06, A-08)."""
MAX_STEPS: Final = 13
"""Rate steps per day of a flexible program (clinical.md D-09)."""
VALVE_LEAK_ML: Final = 0.01
"""What a flow-activated valve lets through when a strong field closes it (clinical.md M-09)."""
FEVER_RAMP: Final = timedelta(hours=2)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DAY_SECONDS: Final = 86_400.0

Document = dict[str, Any]


class Program(msgspec.Struct, frozen=True, array_like=True):
    """What the pump is told to deliver: rates in mL/day by the second of the day (UTC) from which each holds.

    ``steps`` are in order, 1 to `MAX_STEPS`, the first at second 0; every day is the same.
    """

    checksum: str
    steps: tuple[tuple[float, float], ...]

    def rate_at(self, moment: datetime) -> float:
        """The programmed rate in mL/day."""
        if len(self.steps) == 1:
            return self.steps[0][1]
        second = (moment - EPOCH).total_seconds() % DAY_SECONDS
        return self.steps[bisect_right(self.steps, second, key=lambda step: step[0]) - 1][1]

    @property
    def mean_ml_per_day(self) -> float:
        """Mean rate over a day in mL/day."""
        return self._until(DAY_SECONDS)

    def volume_ml(self, since: datetime, until: datetime) -> float:
        """What is programmed over [since, until] in mL; 0 when it is not after ``since``."""
        if until <= since:
            return 0.0
        if len(self.steps) == 1:
            return self.steps[0][1] * ((until - since).total_seconds() / DAY_SECONDS)
        begin, end = (since - EPOCH).total_seconds(), (until - EPOCH).total_seconds()
        days = end // DAY_SECONDS - begin // DAY_SECONDS
        return days * self.mean_ml_per_day + self._until(end % DAY_SECONDS) - self._until(begin % DAY_SECONDS)

    def _until(self, second: float) -> float:
        volume = 0.0
        for index, (begins, rate) in enumerate(self.steps):
            if begins >= second:
                break
            ends = self.steps[index + 1][0] if index + 1 < len(self.steps) else DAY_SECONDS
            volume += rate * (min(ends, second) - begins) / DAY_SECONDS
        return volume


def constant(rate_ml_per_day: float, checksum: str) -> Program:
    """A program without steps."""
    return Program(checksum, ((0.0, rate_ml_per_day),))


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while a pump runs.

    ``accuracy`` is true over programmed flow. ``low_alarm_ml`` is the pump's own alarm setting, on its computed level.
    ``detection`` is how long a stall, or its end, lasts before the pump knows. ``rhythm_hours`` shifts the body's daily
    rhythm. ``tells_motor`` is whether a gateway can read the motor's state. ``steps`` makes the program flexible:
    (second of the day, mL/day), instead of one rate. ``family`` decides how the pump meets an MRI field.
    ``syringe_noise_ml`` is the standard deviation of what the clinic reads when it aspirates (D-03).
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
    battery_life: timedelta = LIFETIME
    rhythm_hours: float = 0.0
    program_checksum: str = "p1"
    steps: tuple[tuple[float, float], ...] = ()
    family: str = "synchromed_ii"
    level_noise_ml: float = 0.02
    syringe_noise_ml: float = 0.0

    @property
    def valve_gated(self) -> bool:
        """Whether valves, not a rotor, meet the field (clinical.md M-08)."""
        return self.family in ("prometra", "prometra_ii")


class Pump(msgspec.Struct, frozen=True, kw_only=True):
    """A pump at the moment ``clock``; volumes in mL, the cumulative ones since its boot.

    ``stalled_since`` is the truth, ``knows_stall`` what the pump has noticed. ``trapped`` is telemetry mode: infusion
    stays off until somebody interrogates the pump (clinical.md M-05). ``unsaid`` are events for the next report.
    ``factor`` is what a fault makes of delivered over programmed, beside the build's accuracy; ``wobble`` what pressure
    and temperature do today (D-07). ``lost_share`` is what a catheter loses on the way: the pump cannot see it (F-17).
    ``log_held`` is how many interrogations it takes before a recovery is logged (M-03). ``faults`` are alarms that
    sound whatever the rest says.
    """

    build: Build
    clock: datetime
    reservoir_true_ml: float
    reservoir_estimated_ml: float
    program: Program
    boot_id: int = 0
    seq: int = 0
    volume_programmed_ml: float = 0.0
    volume_delivered_ml: float = 0.0
    received_ml: float = 0.0
    factor: float = 1.0
    wobble: float = 1.0
    lost_share: float = 0.0
    stalled_since: datetime | None = None
    knows_stall: bool = False
    recovers_at: datetime | None = None
    recovery_seen_at: datetime | None = None
    recovered_at: datetime | None = None
    log_held: int = 0
    stopped_since: datetime | None = None
    trapped: bool = False
    in_mri: bool = False
    valve_closed: bool = False
    motor_unreadable: bool = False
    faults: tuple[str, ...] = ()
    eri_forced: bool = False
    drained_v_per_day: float = 0.0
    drained_since: datetime | None = None
    powered_since: datetime | None = None
    warmth_celsius: float = 0.0
    warm_since: datetime | None = None
    warm_until: datetime | None = None
    emi: tuple[str, int] | None = None
    unsaid: tuple[Document, ...] = ()

    @property
    def turning(self) -> bool:
        """Whether the rotor truly moves, or the valve lets drug pass; over an empty reservoir it moves nothing."""
        return self.stalled_since is None and self.stopped_since is None and not self.trapped and not self.valve_closed

    @property
    def motor(self) -> str:
        """What the pump says its motor does."""
        if self.motor_unreadable:
            return "unknown"
        if self.trapped:
            return "telemetry_mode"
        if self.stopped_since is not None:
            return "stopped"
        return "stalled" if self.knows_stall else "running"

    @property
    def voltage(self) -> float:
        """Battery voltage in V: falls evenly over the battery's life, faster where it drains abnormally (A-08)."""
        age = (self.clock - (self.powered_since or self.build.implanted_at)) / self.build.battery_life
        drained = 0.0
        if self.drained_since is not None and self.clock > self.drained_since:
            drained = self.drained_v_per_day * ((self.clock - self.drained_since) / DAY)
        return max(0.0, 3.0 - 0.4 * age - drained)

    @property
    def eri(self) -> bool:
        """Whether the pump asks to be replaced."""
        return self.eri_forced or self.voltage <= ERI_VOLTAGE

    @property
    def alarms(self) -> tuple[str, ...]:
        """The codes that sound now."""
        sounding = []
        stopped, age = self.stopped_since, self.clock - (self.powered_since or self.build.implanted_at)
        if self.knows_stall and stopped is None:
            sounding.append("motor_stall")
        if self.reservoir_estimated_ml <= 0:
            sounding.append("reservoir_empty")
        if self.reservoir_estimated_ml <= self.build.low_alarm_ml:
            sounding.append("low_reservoir")
        if stopped is not None and self.clock - stopped >= STOPPED_ALARM:
            sounding.append("pump_stopped_48h")
        if self.eri:
            sounding.append("elective_replacement")
        if age >= LIFETIME + SERVICE_AFTER_ERI:
            sounding.append("end_of_service")
        sounding.extend(code for code in self.faults if code not in sounding)
        return tuple(sounding)


class Said(msgspec.Struct, frozen=True):
    """What a pump says of itself at a moment, as its protocol rounds it; None is not said."""

    at: datetime
    boot_id: int
    seq: int
    motor: str | None
    alarms: tuple[str, ...]
    estimated_ml: float
    measured_ml: float | None
    flow_ml_per_day: float
    programmed_ml: float
    delivered_ml: float | None
    celsius: float
    voltage_v: float
    eri: bool
    emi: tuple[str, int] | None
    valve: str | None
    checksum: str
    events: tuple[Document, ...]


def new_pump(build: Build, clock: datetime, level_ml: float) -> Pump:
    """A running pump whose computed level is still true."""
    program = Program(build.program_checksum, build.steps or ((0.0, build.flow_ml_per_day),))
    return Pump(
        build=build,
        clock=clock,
        reservoir_true_ml=level_ml,
        reservoir_estimated_ml=level_ml,
        program=program,
        boot_id=build.boot_id,
    )


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
    if pump.stalled_since is None and pump.recovery_seen_at is None and pump.recovers_at is None:
        return _flowed(pump, to)
    while True:
        moments = [at for at in (_notices_stall_at(pump), pump.recovers_at, pump.recovery_seen_at) if at is not None]
        at = min((moment for moment in moments if moment <= to), default=None)
        if at is None:
            return _flowed(pump, to)
        pump = _happened_by_itself(_flowed(pump, at), at)


def _flowed(pump: Pump, to: datetime) -> Pump:
    if to <= pump.clock:
        return pump
    # The program runs on during a stall that the pump may not even know of; a commanded stop ends it.
    programmed = 0.0 if pump.stopped_since is not None else pump.program.volume_ml(pump.clock, to)
    wanted = programmed * pump.build.accuracy * pump.factor * pump.wobble if pump.turning else 0.0
    delivered = min(wanted, pump.reservoir_true_ml)
    return replace(
        pump,
        clock=to,
        reservoir_true_ml=pump.reservoir_true_ml - delivered,
        reservoir_estimated_ml=max(0.0, pump.reservoir_estimated_ml - programmed),
        volume_programmed_ml=pump.volume_programmed_ml + programmed,
        volume_delivered_ml=pump.volume_delivered_ml + delivered,
        received_ml=pump.received_ml + delivered * (1.0 - pump.lost_share),
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
    # A held log tells of the recovery only when somebody asks again, or a day later.
    seen_after = DAY if pump.log_held else pump.build.detection
    return replace(pump, recovery_seen_at=at + seen_after, recovered_at=at)


def stop(pump: Pump, at: datetime) -> Pump:
    """Somebody programs a stop."""
    pump = advance(pump, at)
    return replace(pump, stopped_since=pump.stopped_since or at)


def start(pump: Pump, at: datetime) -> Pump:
    """Somebody programs infusion again."""
    return replace(advance(pump, at), stopped_since=None)


def enter_mri(pump: Pump, at: datetime, declared_by: str | None) -> Pump:
    """A strong field holds a rotor, and opens or closes valves.

    While an alarm sounds it also traps a SynchroMed in telemetry mode (clinical.md M-05). A Prometra's valves open and
    the reservoir empties into the patient; a Prometra II's valve closes and stays closed (M-08 to M-10).
    """
    pump = advance(pump, at)
    if declared_by:
        pump = _said(pump, {"type": "mri_start", "at": _text(at), "declared_by": declared_by})
    if pump.build.family == "prometra":
        return replace(dump(pump, at, pump.reservoir_true_ml), in_mri=True)
    if pump.build.family == "prometra_ii":
        return replace(dump(pump, at, VALVE_LEAK_ML), in_mri=True, valve_closed=True)
    trapped = pump.trapped or bool(pump.alarms)
    return stall(replace(pump, in_mri=True, trapped=trapped), at)


def leave_mri(
    pump: Pump, at: datetime, declared_by: str | None, chance: Random, recovers_after: timedelta | None = None
) -> Pump:
    """The patient leaves the field; the rotor follows after minutes, seldom hours, or after ``recovers_after``."""
    pump = advance(pump, at)
    if declared_by:
        pump = _said(pump, {"type": "mri_end", "at": _text(at), "declared_by": declared_by})
    if pump.build.valve_gated:
        return replace(pump, in_mri=False)
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
    pump = replace(pump, trapped=pump.trapped and pump.in_mri, log_held=max(0, pump.log_held - 1))
    if pump.recovery_seen_at is not None and not pump.log_held:
        pump = advance(replace(pump, recovery_seen_at=at), at)
    return _said(pump, {"type": "interrogation", "at": _text(at), "result": pump.motor})


def refill(
    pump: Pump, at: datetime, injected_ml: float, *, into_pocket_ml: float = 0.0, chance: Random | None = None
) -> Pump:
    """The reservoir is emptied and filled; from then on the computed level is what the program assumes.

    Args:
        pump: Whose reservoir.
        at: When.
        injected_ml: What the syringe gave, at most the reservoir's size.
        into_pocket_ml: What of it missed the reservoir (F-09, F-10): the clinic records the full injection.
        chance: Where the syringe's reading noise comes from; None reads exactly.
    """
    pump = advance(pump, at)
    injected_ml = min(injected_ml, pump.build.reservoir_ml)
    noise = chance.gauss(0.0, pump.build.syringe_noise_ml) if chance is not None else 0.0
    event = {
        "type": "refill",
        "at": _text(at),
        "aspirated_ml": round(min(max(pump.reservoir_true_ml + noise, 0.0), 60.0), PROTOCOL_DECIMALS),
        "injected_ml": round(injected_ml, PROTOCOL_DECIMALS),
    }
    filled = max(0.0, injected_ml - into_pocket_ml)
    return replace(_said(pump, event), reservoir_true_ml=filled, reservoir_estimated_ml=injected_ml)


def top_up(pump: Pump, at: datetime, injected_ml: float) -> Pump:
    """Somebody fills the pump and tells its computer, but nobody records the refill."""
    pump = advance(pump, at)
    full = pump.build.reservoir_ml
    return replace(
        pump,
        reservoir_true_ml=min(full, pump.reservoir_true_ml + injected_ml),
        reservoir_estimated_ml=min(full, pump.reservoir_estimated_ml + injected_ml),
    )


def dump(pump: Pump, at: datetime, volume_ml: float) -> Pump:
    """Drug leaves the reservoir for the patient at once and without a program (clinical.md F-16, M-08)."""
    pump = advance(pump, at)
    volume_ml = min(volume_ml, pump.reservoir_true_ml)
    return replace(
        pump,
        reservoir_true_ml=pump.reservoir_true_ml - volume_ml,
        volume_delivered_ml=pump.volume_delivered_ml + volume_ml,
        received_ml=pump.received_ml + volume_ml * (1.0 - pump.lost_share),
    )


def bolus(pump: Pump, at: datetime, volume_ml: float, outcome: str = "delivered") -> Pump:
    """The patient asks for a bolus; a delivered one belongs to the programmed volume (clinical.md D-14)."""
    pump = advance(pump, at)
    event = {"type": "bolus", "at": _text(at), "outcome": outcome, "volume_ml": round(volume_ml, 6)}
    if outcome != "delivered":
        return _said(pump, event)
    pump = replace(
        pump,
        volume_programmed_ml=pump.volume_programmed_ml + volume_ml,
        reservoir_estimated_ml=max(0.0, pump.reservoir_estimated_ml - volume_ml),
    )
    moved = volume_ml * pump.build.accuracy * pump.factor if pump.turning else 0.0
    return _said(dump(pump, at, moved), event)


def bias(pump: Pump, at: datetime, factor: float) -> Pump:
    """From now on the pump truly delivers ``factor`` times what it did: a fault, or its end (clinical.md F-11)."""
    return replace(advance(pump, at), factor=factor)


def leak(pump: Pump, at: datetime, lost_share: float) -> Pump:
    """The catheter loses this share, in [0, 1], on the way to the patient; the pump itself looks normal (F-17)."""
    return replace(advance(pump, at), lost_share=lost_share)


def reprogram(
    pump: Pump, at: datetime, program: Program, session_id: str | None = None, *, logged: bool = True
) -> Pump:
    """Another program runs from now on; ``logged`` False: the pump itself does not know that it changed (M-04)."""
    pump = advance(pump, at)
    if logged:
        event = {
            "type": "program_change",
            "at": _text(at),
            "old_checksum": pump.program.checksum,
            "new_checksum": program.checksum,
        }
        if session_id is not None:
            event["session_id"] = session_id
        pump = _said(pump, event)
    return replace(pump, program=program)


def in_session(pump: Pump, at: datetime, session_id: str, phase: str) -> Pump:
    """A programming session of a clinic begins (``start``) or ends (``end``)."""
    event = {"type": "programming_session", "at": _text(at), "session_id": session_id, "phase": phase}
    return _said(advance(pump, at), event)


def report_symptoms(pump: Pump, at: datetime, *codes: str) -> Pump:
    """The patient, or somebody near, says what is wrong."""
    return _said(advance(pump, at), {"type": "symptom_report", "at": _text(at), "codes": list(codes)})


def schedule_mri(pump: Pump, at: datetime, when: datetime) -> Pump:
    """Radiology says that an MRI is planned."""
    return _said(advance(pump, at), {"type": "mri_scheduled", "at": _text(at), "for": _text(when)})


def reset_valve(pump: Pump, at: datetime) -> Pump:
    """The flow-activated valve is opened by hand (clinical.md M-10)."""
    return replace(_said(advance(pump, at), {"type": "valve_reset", "at": _text(at)}), valve_closed=False)


def fail(pump: Pump, at: datetime, *alarms: str) -> Pump:
    """A fault sounds with these codes until `mended`."""
    pump = advance(pump, at)
    return replace(pump, faults=tuple(dict.fromkeys((*pump.faults, *alarms))))


def mended(pump: Pump, at: datetime, *alarms: str) -> Pump:
    """The faults with these codes are over; all of them when none is named."""
    pump = advance(pump, at)
    return replace(pump, faults=tuple(code for code in pump.faults if alarms and code not in alarms))


def trap(pump: Pump, at: datetime) -> Pump:
    """Interference while an alarm sounds: telemetry mode, and no infusion until somebody asks the pump (M-05)."""
    return replace(advance(pump, at), trapped=True)


def interfere(pump: Pump, at: datetime, level: str, count: int = 1) -> Pump:
    """Interference that the next report tells of: ``weak``, ``strong`` or ``mri``."""
    return replace(advance(pump, at), emi=(level, count))


def reset(pump: Pump, at: datetime, *, default_program: bool) -> Pump:
    """The pump restarts: a new boot, its counters at zero, and by default the minimum rate (clinical.md A-08)."""
    pump = advance(pump, at)
    pump = replace(pump, boot_id=pump.boot_id + 1, seq=0, volume_programmed_ml=0.0, volume_delivered_ml=0.0)
    if default_program:
        pump = replace(pump, program=constant(MINIMUM_RATE_ML_PER_DAY, "default"))
    return _said(pump, {"type": "pump_reset", "at": _text(at), "default_program": default_program})


def replaced(pump: Pump, at: datetime, level_ml: float) -> Pump:
    """A new pump with a new battery takes over program and identity, filled to ``level_ml``."""
    pump = replace(advance(pump, at), boot_id=pump.boot_id + 1, seq=0, unsaid=())
    new = new_pump(pump.build, pump.clock, level_ml)
    new = replace(new, boot_id=pump.boot_id, program=pump.program, powered_since=at, received_ml=pump.received_ml)
    return _said(new, {"type": "pump_replaced", "at": _text(at)})


def warm(pump: Pump, at: datetime, celsius: float, until: datetime) -> Pump:
    """The pump is warmer by ``celsius`` until then (fever, heat); ramps last `FEVER_RAMP` or a quarter of the time."""
    return replace(advance(pump, at), warmth_celsius=celsius, warm_since=at, warm_until=until)


def temperature(pump: Pump, chance: Random) -> float:
    """Body temperature at the pump in °C: a daily rhythm of ±0.4 around 36.8, what warms it, and the sensor's noise."""
    hour = pump.clock.hour + pump.clock.minute / 60 + pump.build.rhythm_hours
    rhythm = 0.4 * math.sin((hour - 10) * math.tau / 24)
    return round(36.8 + rhythm + _warmth(pump) + chance.gauss(0, 0.04), 2)


def _warmth(pump: Pump) -> float:
    since, until = pump.warm_since, pump.warm_until
    if since is None or until is None or not since <= pump.clock <= until:
        return 0.0
    ramp = min(FEVER_RAMP, (until - since) / 4)
    edge = min(pump.clock - since, until - pump.clock)
    return pump.warmth_celsius * min(1.0, edge / ramp) if ramp else pump.warmth_celsius


def say(pump: Pump, chance: Random) -> tuple[Pump, Said]:
    """What the pump says now; the pump after it has said it."""
    build = pump.build
    measured = None
    if build.senses_volume:
        noisy = pump.reservoir_true_ml + chance.gauss(0, build.level_noise_ml)
        measured = round(min(max(noisy, 0.0), 60.0), PROTOCOL_DECIMALS)
    said = Said(
        pump.clock,
        pump.boot_id,
        pump.seq,
        pump.motor if build.tells_motor else None,
        pump.alarms,
        round(pump.reservoir_estimated_ml, PROTOCOL_DECIMALS),
        measured,
        0.0 if pump.stopped_since is not None else pump.program.rate_at(pump.clock),
        round(pump.volume_programmed_ml, 6),
        round(pump.volume_delivered_ml, 6) if build.senses_volume else None,
        temperature(pump, chance),
        round(pump.voltage, 3),
        pump.eri,
        ("mri", 1) if pump.in_mri else pump.emi,
        ("closed" if pump.valve_closed else "open") if build.valve_gated else None,
        pump.program.checksum,
        pump.unsaid,
    )
    return replace(pump, seq=pump.seq + 1, unsaid=(), emi=None), said


def tell(pump: Pump, chance: Random) -> tuple[Pump, Document]:
    """What the pump says now, in wire form but for the gateway's part; the pump after it has said it."""
    pump, said = say(pump, chance)
    document: Document = {
        "schema_version": 1,
        "pump_id": pump.build.pump_id,
        "boot_id": said.boot_id,
        "seq": said.seq,
        "event_time": _text(said.at),
        "motor": said.motor,
        "alarms": list(said.alarms),
        "reservoir_estimated_ml": said.estimated_ml,
        "reservoir_measured_ml": said.measured_ml,
        "flow_programmed_ml_per_day": said.flow_ml_per_day,
        "volume_programmed_ml": said.programmed_ml,
        "volume_delivered_ml": said.delivered_ml,
        "temperature_celsius": said.celsius,
        "battery": {"voltage_v": said.voltage_v, "eri": said.eri},
        "emi": {"level": said.emi[0], "count": said.emi[1]} if said.emi else None,
        "flow_valve": said.valve,
        "program_checksum": said.checksum,
        "events": list(said.events) or None,
    }
    return pump, {key: value for key, value in document.items() if value is not None}


def _said(pump: Pump, event: Document) -> Pump:
    return replace(pump, unsaid=(*pump.unsaid, event))


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
