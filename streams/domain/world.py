"""A pump's world: what its reports say, what its alerts are, and which reports are still missing.

Everything here is an immutable value with a compact encoding, because the worker stores it after every batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec

from streams.domain.alert import AlertRecord, Episode
from streams.domain.profile import ACCURACY_ALLOWANCE, ProfileHistory, Therapy
from streams.domain.telemetry import Received

LATENESS: Final = timedelta(hours=1)
"""How long after a newer report arrived an older one still counts as in time; inclusive, measured by arrival."""
MAX_WINDOW_REPORTS: Final = 2_000
MAX_GAPS: Final = 64
UNBOUNDED: Final = 2**62


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """A measured or computed value and its event time."""

    value: float
    at: datetime


class Mri(msgspec.Struct, frozen=True, array_like=True):
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


class PumpState(msgspec.Struct, frozen=True, array_like=True):
    """What the reports so far say about a pump. All times are event times; None means never said."""

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

    @property
    def estimated_ml(self) -> Sample | None:
        """The newest computed reservoir level."""
        return self.estimated[-1] if self.estimated else None

    def level(self, at: datetime) -> Sample | None:
        """The level to plan with: measured where it is younger than 24 h, else the computed one (rule RSV-03)."""
        if self.measured is not None and at - self.measured.at < timedelta(hours=24):
            return self.measured
        return self.estimated_ml

    def empty_at(self, therapy: Therapy, at: datetime) -> datetime | None:
        """When the reservoir is empty in the worst case: full boluses, and delivery at the labelled upper bound."""
        level = self.level(at)
        flow = self.flow_ml_per_day if self.flow_ml_per_day is not None else therapy.prescribed_ml_per_day
        if level is None or not flow:
            return None
        return level.at + timedelta(days=level.value / ((flow + therapy.max_bolus_ml_per_day) * ACCURACY_ALLOWANCE))


class Folded(msgspec.Struct, frozen=True, array_like=True):
    """Reports folded in order: the state and the latest episode of each rule that had one."""

    state: PumpState = PumpState()
    tracks: dict[str, Episode] = {}
    wake_at: datetime | None = None


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """Reports of one boot not seen yet: sequence numbers ``first`` to ``last``, both inclusive.

    ``holds`` is false for what may never have existed (before the first report seen of a boot, after the last one of an
    older boot): such a gap keeps the window open, but holds back no clearing.
    """

    boot_id: int
    first: int
    last: int
    opened_at: datetime
    holds: bool


class Arrivals(msgspec.Struct, frozen=True, array_like=True):
    """Which reports arrived: the boot and next sequence number expected, and what is missing before them."""

    boot_id: int | None = None
    next_seq: int = 0
    gaps: tuple[Gap, ...] = ()
    missed: tuple[Gap, ...] = ()
    overflows: int = 0


class Resolution(msgspec.Struct, frozen=True, array_like=True):
    """A person's decision that a rule's open episode is over, at service time ``at``."""

    rule_id: str
    at: datetime
    actor: str


class World(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
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


@dataclass(frozen=True, slots=True)
class Snapshot:
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
    if arrivals.boot_id is None or boot_id > arrivals.boot_id:
        return _new_boot(arrivals, boot_id, seq, at)
    if boot_id == arrivals.boot_id and seq >= arrivals.next_seq:
        gaps = arrivals.gaps
        if seq > arrivals.next_seq:
            gaps = (*gaps, Gap(boot_id, arrivals.next_seq, seq - 1, at, True))
        booked = _capped(msgspec.structs.replace(arrivals, next_seq=seq + 1, gaps=gaps))
        return booked, "early" if booked.gaps else "next"
    for kind, ranges in (("filled", arrivals.gaps), ("late", arrivals.missed)):
        for index, gap in enumerate(ranges):
            if gap.boot_id == boot_id and gap.first <= seq <= gap.last:
                left = (*ranges[:index], *_split(gap, seq), *ranges[index + 1 :])
                if kind == "filled":
                    return _capped(msgspec.structs.replace(arrivals, gaps=left)), kind
                return msgspec.structs.replace(arrivals, missed=left[-MAX_GAPS:]), kind
    known_boot = arrivals.boot_id == boot_id or any(gap.boot_id == boot_id for gap in arrivals.missed)
    return arrivals, "seen" if known_boot or not _could_be_new(arrivals, boot_id) else "late"


def _could_be_new(arrivals: Arrivals, boot_id: int) -> bool:
    """Whether a report of an older boot was perhaps never seen: nothing about that boot is booked any more."""
    return arrivals.boot_id is not None and boot_id < arrivals.boot_id


def _new_boot(arrivals: Arrivals, boot_id: int, seq: int, at: datetime) -> tuple[Arrivals, str]:
    gaps = arrivals.gaps
    if arrivals.boot_id is not None:
        gaps = (*gaps, Gap(arrivals.boot_id, arrivals.next_seq, UNBOUNDED, at, False))
        if boot_id > arrivals.boot_id + 1:
            gaps = (*gaps, *(Gap(b, 0, UNBOUNDED, at, False) for b in range(arrivals.boot_id + 1, boot_id)[-4:]))
    if seq > 0:
        gaps = (*gaps, Gap(boot_id, 0, seq - 1, at, False))
    booked = _capped(msgspec.structs.replace(arrivals, boot_id=boot_id, next_seq=seq + 1, gaps=gaps))
    return booked, "early" if booked.gaps else "next"


def _split(gap: Gap, seq: int) -> tuple[Gap, ...]:
    below = msgspec.structs.replace(gap, last=seq - 1)
    above = msgspec.structs.replace(gap, first=seq + 1)
    return tuple(part for part in (below, above) if part.first <= part.last)


def _capped(arrivals: Arrivals) -> Arrivals:
    if len(arrivals.gaps) <= MAX_GAPS:
        return arrivals
    over = len(arrivals.gaps) - MAX_GAPS
    missed = (*arrivals.missed, *arrivals.gaps[:over])[-MAX_GAPS:]
    return msgspec.structs.replace(arrivals, gaps=arrivals.gaps[over:], missed=missed, overflows=arrivals.overflows + 1)


def give_up(arrivals: Arrivals, at: datetime) -> Arrivals:
    """Stop waiting for gaps that have been open for longer than `LATENESS` at service time ``at``."""
    if not arrivals.gaps:
        return arrivals
    limit = at - LATENESS
    kept = tuple(gap for gap in arrivals.gaps if gap.opened_at >= limit)
    if len(kept) == len(arrivals.gaps):
        return arrivals
    given_up = tuple(gap for gap in arrivals.gaps if gap.opened_at < limit)
    return msgspec.structs.replace(arrivals, gaps=kept, missed=(*arrivals.missed, *given_up)[-MAX_GAPS:])
