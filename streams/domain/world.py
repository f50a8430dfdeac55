"""A pump's world: what its reports say, what its alerts are, and which reports are still missing.

Everything here is an immutable value with a compact encoding, because the worker stores it after every batch.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from streams.domain.alert import AlertRecord, Episode
from streams.domain.memory import Memory
from streams.domain.observing.contacts import ContactLog, Timing
from streams.domain.observing.dosing import DosingLog
from streams.domain.observing.fills import FillLog
from streams.domain.observing.flow import FlowLog
from streams.domain.observing.heat import HeatLog
from streams.domain.observing.levels import LevelLog
from streams.domain.observing.power import PowerLog
from streams.domain.observing.scans import ScanLog
from streams.domain.observing.volumes import VolumeLog
from streams.domain.profile import ACCURACY_ALLOWANCE, ProfileHistory, Therapy
from streams.domain.telemetry import Received

LATENESS: Final = timedelta(hours=1)
"""How long after a newer report arrived an older one still counts as in time; inclusive, measured by arrival."""
MAX_WINDOW_REPORTS: Final = 2_000
MAX_GAPS: Final = 64
KEPT: Final = 32


class Sample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A measured or computed value and its event time."""

    value: float
    at: datetime


class Mri(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An MRI exposure: declared by a person (with an owner), or only seen as interference.

    For an undeclared one ``last_seen_at`` is the event time of the last report with MRI-level interference.
    """

    start: datetime
    declared_at: datetime | None = None
    ended_at: datetime | None = None
    last_seen_at: datetime | None = None
    stalled_at: datetime | None = None
    recovered_at: datetime | None = None

    @property
    def declared(self) -> bool:
        """Whether a person declared it."""
        return self.declared_at is not None


class Stall(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One episode of a motor that stood still: from ``start`` to ``end``, None while it goes on."""

    start: datetime
    end: datetime | None = None


class Resumption(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Delivery was confirmed again at ``at`` after it had not been since ``not_since`` (LCD)."""

    at: datetime
    not_since: datetime


class Refill(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A refill as the clinic recorded it; volumes in mL. ``residual_ml`` is what stayed after aspiration."""

    at: datetime
    aspirated_ml: float
    injected_ml: float
    residual_ml: float = 0.0


class Session(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An authorised programming session (catalogue M.23); ``end`` None while it goes on, or was never told."""

    session_id: str
    start: datetime
    end: datetime | None = None


class Symptoms(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Symptom codes that a patient or caregiver reported."""

    at: datetime
    codes: tuple[str, ...]


class PumpState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the reports so far say about a pump. All times are event times; None means never said.

    ``stalls``, ``refills``, ``sessions`` and ``symptoms`` are the latest ones, oldest first, at most `KEPT` of each.
    The logs are what single families of rules remember (`streams.domain.observing`).
    """

    clock: datetime | None = None
    boot_id: int | None = None
    motor: str | None = None
    motor_at: datetime | None = None
    reported_at: datetime | None = None
    alarms: tuple[str, ...] = ()
    alarms_at: datetime | None = None
    estimated: tuple[Sample, ...] = ()
    measured: Sample | None = None
    flow_ml_per_day: float | None = None
    delivered_ml: float | None = None
    stalled_since: datetime | None = None
    last_stall_ended_at: datetime | None = None
    confirmed_at: datetime | None = None
    """LCD, the last confirmed delivery: the latest evidence that drug moves, or where a freeze put it."""
    frozen_at: datetime | None = None
    needs_refill: bool = False
    armed_since: datetime | None = None
    refilled_at: datetime | None = None
    mri: Mri | None = None
    stopped_since: datetime | None = None
    telemetry_mode_since: datetime | None = None
    resumed: Resumption | None = None
    stalls: tuple[Stall, ...] = ()
    refills: tuple[Refill, ...] = ()
    sessions: tuple[Session, ...] = ()
    symptoms: tuple[Symptoms, ...] = ()
    replaced_at: datetime | None = None
    reset_at: datetime | None = None
    """When a reset last brought the default program (catalogue M.24)."""
    reset_over_at: datetime | None = None
    """The first delivery confirmed later than that reset, in a report that came after it."""
    checksum: str | None = None
    levels: LevelLog = LevelLog()
    fills: FillLog = FillLog()
    flow: FlowLog = FlowLog()
    scans: ScanLog = ScanLog()
    power: PowerLog = PowerLog()
    dosing: DosingLog = DosingLog()
    heat: HeatLog = HeatLog()
    contacts: ContactLog = ContactLog()
    previous_at: datetime | None = None
    """Event time of the report before the newest one: interference is told for the time in between."""
    needs_interrogation: bool = False
    """Only an interrogation that finds it running is evidence of delivery (rule MRI-04)."""
    needs_valve_reset: bool = False
    """Only the record of a valve's reset is evidence of delivery (rule MRI-05)."""
    volumes: VolumeLog = VolumeLog()
    telemetry_mode_at: datetime | None = None
    """The newest report that told of telemetry mode, while no other word on the motor came."""

    @property
    def estimated_ml(self) -> Sample | None:
        """The newest computed reservoir level."""
        return self.estimated[-1] if self.estimated else None

    def level(self, at: datetime) -> Sample | None:
        """The level to plan with: measured where it is younger than 24 h, else the computed one (rule RSV-03).

        What was measured before the last refill is no level any more.
        """
        measured = self.measured
        fresh = measured is not None and at - measured.at < timedelta(hours=24)
        if measured is not None and fresh and (self.refilled_at is None or measured.at >= self.refilled_at):
            return measured
        return self.estimated_ml

    def empty_at(self, therapy: Therapy, at: datetime) -> datetime | None:
        """When the reservoir is empty in the worst case: full boluses, and delivery at the labelled upper bound.

        A pump that the last refill showed to over-infuse (REF-02) is judged by what it did instead.
        """
        level = self.level(at)
        flow = self.flow_ml_per_day if self.flow_ml_per_day is not None else therapy.prescribed_ml_per_day
        if level is None or not flow:
            return None
        allowance = max(ACCURACY_ALLOWANCE, self.fills.over_infusion_ratio or 0.0)
        return level.at + timedelta(days=level.value / ((flow + therapy.max_bolus_ml_per_day) * allowance))


class Folded(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Reports folded in order: the state and the latest episode of each rule that had one.

    ``wakes`` are the times at which single rules want to be judged again; ``wake_at`` is the first moment at which time
    alone changes anything. ``judged_under`` names the rules and the therapy of the last judgement: under others every
    rule is judged anew. ``timing`` is what the contacts tell of the pump's clock.
    """

    state: PumpState = PumpState()
    tracks: dict[str, Episode] = {}
    wake_at: datetime | None = None
    wakes: dict[str, datetime] = {}
    memory: dict[str, Memory] = {}
    judged_under: str = ""
    timing: Timing = Timing()


class Gap(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Reports not seen yet: from ``(first_boot, first_seq)`` inclusive, to the seen ``(end_boot, end_seq)``, exclusive.

    A gap may reach over boots: how many reports an older boot ended with, or whether there was one before the first
    report ever seen, nobody knows.
    """

    first_boot: int
    first_seq: int
    end_boot: int
    end_seq: int
    opened_at: datetime

    @property
    def holds(self) -> bool:
        """Whether its reports certainly exist, between two seen ones of a boot; only then clearing waits for them."""
        return self.first_boot == self.end_boot and self.first_seq > 0


class Arrivals(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which reports arrived: the boot and next sequence number expected, and what is missing before them."""

    boot_id: int | None = None
    next_seq: int = 0
    gaps: tuple[Gap, ...] = ()
    missed: tuple[Gap, ...] = ()
    overflows: int = 0


class Resolution(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A person's decision that a rule's open episode is over, at service time ``at``.

    It stands after the report ``(boot_id, seq)``, the newest that was known: what came later nobody had seen.
    """

    rule_id: str
    at: datetime
    actor: str
    boot_id: int = 0
    seq: int = -1


class World(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """Everything remembered about one pump.

    ``base`` is frozen: no report can come before its end any more. ``window`` holds the reports after the first open
    gap, ordered by boot and sequence number; ``tip`` is the base with the window folded in, None when the same.
    """

    pump_id: str
    base: Folded = Folded()
    window: tuple[Received, ...] = ()
    resolutions: tuple[Resolution, ...] = ()
    tip: Folded | None = None
    log: tuple[Episode, ...] = ()
    arrivals: Arrivals = Arrivals()
    last_received_at: datetime | None = None
    silence: dict[str, Episode] = {}
    ledger: tuple[AlertRecord, ...] = ()
    next_wake_at: datetime | None = None

    @property
    def head(self) -> Folded:
        """The newest folded state."""
        return self.tip or self.base


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """What lists and dashboards show of a pump without decoding its world."""

    last_event_time: datetime | None
    last_received_at: datetime | None
    motor: str | None
    reservoir_estimated_ml: float | None
    reservoir_measured_ml: float | None
    last_confirmed_delivery_at: datetime | None
    predicted_empty_at: datetime | None
    site: str | None


def snapshot(world: World, profiles: ProfileHistory) -> Snapshot:
    """Summarise a world; the profile is the one in force at the pump's last report."""
    state = world.head.state
    if state.clock is None:
        return Snapshot(None, world.last_received_at, None, None, None, None, None, None)
    therapy = profiles.therapy(state.clock)
    estimated = state.estimated_ml
    return Snapshot(
        state.reported_at,
        world.last_received_at,
        state.motor,
        estimated.value if estimated else None,
        state.measured.value if state.measured else None,
        state.confirmed_at,
        state.empty_at(therapy, state.clock),
        therapy.site,
    )


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(World)


def encode_world(world: World) -> bytes:
    """Compact bytes; equal worlds give equal bytes."""
    return _ENCODER.encode(world)


def decode_world(value: bytes) -> World:
    """The world in ``value``.

    Raises:
        msgspec.DecodeError: If the bytes are not a world of this version; the caller must not guess.
    """
    return _DECODER.decode(value)


def note_arrival(arrivals: Arrivals, boot_id: int, seq: int, at: datetime) -> tuple[Arrivals, str]:
    """Book one arrival.

    Args:
        arrivals: What arrived before.
        boot_id: The report's boot.
        seq: Its number within the boot.
        at: Service time of the arrival; gaps older than `LATENESS` are given up first.

    Returns:
        The new books, and ``"next"``, ``"early"`` (after a gap), ``"filled"`` (inside an open gap), ``"late"`` (inside
        a gap that was given up) or ``"seen"``.
    """
    if arrivals.boot_id == boot_id and seq == arrivals.next_seq and not arrivals.gaps:
        return msgspec.structs.replace(arrivals, next_seq=seq + 1), "next"
    arrivals = give_up(arrivals, at)
    key, expected = (boot_id, seq), (arrivals.boot_id or 0, arrivals.next_seq)
    if key >= expected:
        gaps = arrivals.gaps
        if key > expected:
            gaps = (*gaps, Gap(*expected, *key, at))
        booked = _capped(msgspec.structs.replace(arrivals, boot_id=boot_id, next_seq=seq + 1, gaps=gaps))
        return booked, "early" if booked.gaps else "next"
    if (left := _without(arrivals.gaps, key)) is not None:
        return _capped(msgspec.structs.replace(arrivals, gaps=left)), "filled"
    if (left := _without(arrivals.missed, key)) is not None:
        return msgspec.structs.replace(arrivals, missed=_merged(left)), "late"
    return arrivals, "seen"


def _without(gaps: tuple[Gap, ...], key: tuple[int, int]) -> tuple[Gap, ...] | None:
    """The gaps with ``key`` taken out of the one that holds it, or None when none does."""
    for index, gap in enumerate(gaps):
        first, end = (gap.first_boot, gap.first_seq), (gap.end_boot, gap.end_seq)
        if first <= key < end:
            after = (key[0], key[1] + 1)
            below = (Gap(*first, *key, gap.opened_at),) if first < key else ()
            above = (Gap(*after, *end, gap.opened_at),) if after < end else ()
            return (*gaps[:index], *below, *above, *gaps[index + 1 :])
    return None


def _capped(arrivals: Arrivals) -> Arrivals:
    if len(arrivals.gaps) <= MAX_GAPS:
        return arrivals
    over = len(arrivals.gaps) - MAX_GAPS
    missed = _merged((*arrivals.missed, *arrivals.gaps[:over]))
    return msgspec.structs.replace(arrivals, gaps=arrivals.gaps[over:], missed=missed, overflows=arrivals.overflows + 1)


def _merged(missed: tuple[Gap, ...]) -> tuple[Gap, ...]:
    """At most `MAX_GAPS`: the oldest become one, so that a report is rather taken for late twice than for seen."""
    if len(missed) <= MAX_GAPS:
        return missed
    over = len(missed) - MAX_GAPS
    ordered = sorted(missed, key=lambda gap: (gap.first_boot, gap.first_seq))
    oldest, last = ordered[0], ordered[over]
    whole = Gap(oldest.first_boot, oldest.first_seq, last.end_boot, last.end_seq, last.opened_at)
    return (whole, *ordered[over + 1 :])


def give_up(arrivals: Arrivals, at: datetime) -> Arrivals:
    """Stop waiting for gaps that have been open for longer than `LATENESS` at service time ``at``."""
    if not arrivals.gaps:
        return arrivals
    limit = at - LATENESS
    kept = tuple(gap for gap in arrivals.gaps if gap.opened_at >= limit)
    if len(kept) == len(arrivals.gaps):
        return arrivals
    given_up = tuple(gap for gap in arrivals.gaps if gap.opened_at < limit)
    return msgspec.structs.replace(arrivals, gaps=kept, missed=_merged((*arrivals.missed, *given_up)))
