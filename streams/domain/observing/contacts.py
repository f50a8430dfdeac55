"""Clocks and contacts (COM-02): how far a pump's clock is off, and which of its reports cannot be trusted yet.

What the contacts tell is a function of the reports in the order of their boots and sequence numbers, so the order in
which they arrived does not matter. A report that claims to be later than the moment at which a gateway got it is held:
it counts for the clock's offset and for nothing else, until the offset explains it.
"""

from __future__ import annotations

from dataclasses import replace as changed
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from streams.domain.profile import Therapy
from streams.domain.telemetry import NORMAL_LEAD, Alarm, Motor, Received, Report

if TYPE_CHECKING:
    from streams.domain.world import PumpState

MILLISECOND: Final = timedelta(milliseconds=1)
MAX_CONTACTS: Final = 20
ENOUGH_CONTACTS: Final = 5
"""From so many contacts on the offset is judged (catalogue M.34)."""
AGREEING_CONTACTS: Final = 2
"""After a clock ran backwards, so many contacts that agree correct the time (our own design; see `timed`)."""
CONTACT: Final = timedelta(minutes=1)
"""Reports that one gateway got within this time are one contact; inclusive."""
CORRECTED_ABOVE_MS: Final = 120_000
"""An offset of more than two minutes corrects the pump's times; up to there it may be transport (rule COM-02)."""
JUMP_MS: Final = 60_000
"""Contacts that differ by at most this agree; a clock that goes back by more was set."""
LEAD_MS: Final = NORMAL_LEAD // MILLISECOND
MAX_HELD: Final = 50
LONGEST_HELD: Final = timedelta(hours=24)
"""What was not explained by then never will be: it stays in quarantine for good."""
QUIET: Final = timedelta(hours=24)
"""A cause without an end of its own (a conflict, a gap) that comes again within this time is the same one."""
MAX_PEAKS: Final = 16

CRITICAL_ALARMS: Final = frozenset(
    {
        Alarm.MOTOR_STALL,
        Alarm.RESERVOIR_EMPTY,
        Alarm.END_OF_SERVICE,
        Alarm.PUMP_STOPPED_48H,
        Alarm.CRITICAL_MEMORY_ERROR,
        Alarm.BATTERY_RESET,
        Alarm.SAFE_STATE,
        Alarm.CATHETER_OCCLUSION,
    }
)
"""Critical pump alarms (catalogue M.25)."""


def critical(report: Report) -> bool:
    """Whether the report carries a critical pump alarm."""
    return report.alarms is not None and not CRITICAL_ALARMS.isdisjoint(report.alarms)


class Timing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the last contacts tell of the pump's clock.

    ``lags_ms`` is gateway time minus event time of the newest report of each contact, oldest first, at most
    `MAX_CONTACTS`; the last one belongs to the contact that goes on, which began at ``began_at`` and whose newest
    report, of ``event_time`` by the pump's own clock, the gateway got at ``heard_at``. ``offset_ms`` is what is added
    to event times now: 0 while the offset is small or unknown. ``plain``: all lags are small, and nothing is held or in
    doubt. ``held`` are reports in quarantine, ``let_go`` the identities (boot, seq) of those that left it.
    """

    boot_id: int = -1
    gateway_id: str = ""
    began_at: datetime | None = None
    heard_at: datetime | None = None
    event_time: datetime | None = None
    lags_ms: tuple[int, ...] = ()
    plain: bool = False
    offset_ms: int = 0
    jumped: bool = False
    doubtful: bool = False
    held: tuple[Received, ...] = ()
    let_go: tuple[tuple[int, int], ...] = ()
    boot_heard_at: datetime | None = None
    boot_time: datetime | None = None
    twins: bool = False

    @property
    def median_ms(self) -> int | None:
        """The median of `lags_ms`, which is the clock's offset; None while the contacts are too few."""
        return _median(self.lags_ms) if len(self.lags_ms) >= ENOUGH_CONTACTS else None


class Peak(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An offset of more than ``minutes`` whole minutes was first known at ``at``, when a gateway got the report."""

    minutes: int
    at: datetime


class Drift(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A clock that is off: ``behind`` the gateway's or ahead of it, with its rising peaks, smallest first."""

    behind: bool
    peaks: tuple[Peak, ...]


class Notice(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Something that was wrong from ``start`` on, last seen at ``last``, over at ``end`` where that is known."""

    start: datetime
    last: datetime
    end: datetime | None = None


def noticed(known: Notice | None, at: datetime) -> Notice:
    """The notice after it was seen (again) at ``at``."""
    if known is None or known.end is not None or at - known.last > QUIET:
        return Notice(at, at)
    return Notice(min(known.start, at), max(known.last, at))


class ContactLog(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is wrong with a pump's reports and their times.

    ``alarm_at`` is when a gateway got a report that carries a critical alarm but whose time cannot be trusted.
    ``unknown_since`` is the event time of the first report without a profile. ``gap``, ``conflict`` and
    ``conflicting_alarm`` are in service time: they tell of arrivals.
    """

    drift: Drift | None = None
    alarm_at: datetime | None = None
    twins: Notice | None = None
    unknown_since: datetime | None = None
    gap: Notice | None = None
    conflict: Notice | None = None
    conflicting_alarm: Notice | None = None


def measured(log: ContactLog, state: PumpState, therapy: Therapy, report: Report) -> ContactLog:
    """The log after a report's measurements."""
    if therapy.known:
        return log if log.unknown_since is None else replace(log, unknown_since=None)
    return log if log.unknown_since is not None else replace(log, unknown_since=report.event_time)


def timed(timing: Timing, received: Received) -> tuple[Timing, tuple[Received, ...]]:
    """What a report tells of the pump's clock, and which reports can be folded now, in order and with corrected times.

    Only the newest report of a contact counts: older ones were read from a buffer. A boot, or a clock that went back by
    more than a minute, re-baselines: of the contacts before only those stay that still agree. After a jump backwards
    two contacts that agree correct the time already: until five did, the new times would lie before what is known, and
    a stall in them would be taken for old news.
    """
    report = received.report
    heard_at = report.gateway_time
    if heard_at > received.received_at:
        heard_at = received.received_at
    lag = (heard_at - report.event_time) // MILLISECOND
    known = timing.event_time
    settled = timing.plain and known is not None and report.event_time >= known and report.boot_id == timing.boot_id
    if settled and -CORRECTED_ABOVE_MS <= lag <= CORRECTED_ABOVE_MS:
        # Nearly always: the clock goes on, and no contact is off by more than transport.
        return _next(timing, report, heard_at, lag), (received,)
    after = _judged(_contact(timing, report, heard_at, lag))
    if _leads(after.offset_ms, lag):
        recent = after.lags_ms[-ENOUGH_CONTACTS:]
        if len(recent) == ENOUGH_CONTACTS and max(recent) - min(recent) <= JUMP_MS:
            # The clock was set forward: the contacts before would hide that for ten contacts more.
            after = _judged(replace(after, lags_ms=recent))
    return _let_go(after, received, lag)


def _next(timing: Timing, report: Report, heard_at: datetime, lag: int) -> Timing:
    """The contacts with one more report of a clock that goes on."""
    began_at, elapsed = timing.began_at, heard_at - (timing.heard_at or heard_at)
    same = elapsed <= CONTACT and began_at is not None and _same_contact(timing, report, elapsed, heard_at, lag)
    return Timing(
        timing.boot_id,
        report.gateway_id,
        began_at if same else heard_at,
        heard_at,
        report.event_time,
        (*timing.lags_ms[:-1], lag) if same else (*timing.lags_ms[1 - MAX_CONTACTS :], lag),
        timing.plain,
        0,
        timing.jumped,
        False,
        timing.held,
        timing.let_go,
        timing.boot_heard_at,
        timing.boot_time,
    )


def _contact(timing: Timing, report: Report, heard_at: datetime, lag: int) -> Timing:
    """The contacts with one more report."""
    known_at, known_time = timing.heard_at, timing.event_time
    rebooted = report.boot_id != timing.boot_id
    back = known_time is not None and known_time - report.event_time > CONTACT
    # A clock that was set goes back alone. Where the gateways' time goes back with it, two pumps take turns.
    twins = back and known_at is not None and known_at - heard_at > CONTACT
    jumped = back and not twins
    after = replace(_next(timing, report, heard_at, lag), twins=twins, jumped=timing.jumped or jumped)
    if rebooted or jumped:
        lags = (*[old for old in timing.lags_ms if abs(old - lag) <= JUMP_MS][1 - MAX_CONTACTS :], lag)
        after = replace(after, boot_id=report.boot_id, began_at=heard_at, lags_ms=lags)
    if rebooted:
        after = replace(after, boot_heard_at=heard_at, boot_time=report.event_time)
    return after


def _same_contact(timing: Timing, report: Report, elapsed: timedelta, heard_at: datetime, lag: int) -> bool:
    """Whether a report belongs to the contact that goes on; reading a long buffer may take longer than a minute."""
    if report.gateway_id != timing.gateway_id or not -CONTACT <= elapsed <= CONTACT or timing.began_at is None:
        return False
    return heard_at - timing.began_at <= CONTACT or lag < timing.lags_ms[-1] - JUMP_MS


def _judged(timing: Timing) -> Timing:
    """With the offset that the contacts tell, where they are enough."""
    lags, jumped, doubtful = timing.lags_ms, timing.jumped, False
    median = 0
    if len(lags) >= ENOUGH_CONTACTS:
        median, jumped = _median(lags), False
    elif jumped and len(lags) >= AGREEING_CONTACTS and max(lags) - min(lags) <= JUMP_MS:
        median = _median(lags)
    else:
        doubtful = jumped and abs(lags[-1]) > CORRECTED_ABOVE_MS
    offset = median if abs(median) > CORRECTED_ABOVE_MS else 0
    small = max(lags) <= CORRECTED_ABOVE_MS and min(lags) >= -CORRECTED_ABOVE_MS
    return replace(timing, offset_ms=offset, jumped=jumped, doubtful=doubtful, plain=small and not jumped)


def _median(values: tuple[int, ...]) -> int:
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) // 2


def _let_go(timing: Timing, received: Received, lag: int) -> tuple[Timing, tuple[Received, ...]]:
    """Hold what is still ahead of its gateway, and let go what the offset explains now."""
    heard_at, offset = heard(received), timing.offset_ms
    ready = [one for one in timing.held if not ahead(one, offset)]
    held = [one for one in timing.held if ahead(one, offset) and heard_at - heard(one) <= LONGEST_HELD]
    let_go = timing.let_go
    if ready:
        let_go = (*let_go, *((one.report.boot_id, one.report.seq) for one in ready))[-2 * MAX_HELD :]
    if _leads(offset, lag):
        held.append(received)
    else:
        ready.append(received)
    timing = replace(timing, held=tuple(held[-MAX_HELD:]), let_go=let_go, plain=timing.plain and not held)
    return timing, tuple(corrected(one, offset) for one in ready)


def heard(received: Received) -> datetime:
    """When the gateway got the report; a gateway's clock is never believed to be ahead of the service's."""
    report = received.report
    return min(report.gateway_time, received.received_at)


def place(received: Received) -> tuple[int, int]:
    """Where the report stands among those of its pump."""
    return received.report.boot_id, received.report.seq


def _leads(offset_ms: int, lag_ms: int) -> bool:
    return lag_ms - min(offset_ms, 0) < -LEAD_MS


def ahead(received: Received, offset_ms: int) -> bool:
    """Whether the report claims to be from the future, more than 5 minutes after its gateway got it (exclusive)."""
    return _leads(offset_ms, (heard(received) - received.report.event_time) // MILLISECOND)


def corrected(received: Received, offset_ms: int) -> Received:
    """The report with its times moved by the offset, never past the moment at which the gateway got it."""
    if not offset_ms:
        return received
    report, by, limit = received.report, timedelta(milliseconds=offset_ms), heard(received)

    def moved(at: datetime) -> datetime:
        return at + by if offset_ms < 0 else max(at, min(at + by, limit))

    events = tuple(event if event.at is None else changed(event, at=moved(event.at)) for event in report.events)
    return changed(received, report=changed(report, event_time=moved(report.event_time), events=events))


def found_late(timing: Timing, received: Received) -> tuple[Timing, tuple[Received, ...]]:
    """As `timed`, for a report that came too late to be put in its place: it tells nothing of the clock.

    It shows two pumps under one id when an older boot says something newer than what began the newer boot, to a gateway
    that got it later as well.
    """
    report, offset = received.report, _offset_when_late(timing, received)
    boot_time, boot_heard_at = timing.boot_time, timing.boot_heard_at
    twins = (
        report.boot_id < timing.boot_id
        and boot_time is not None
        and boot_heard_at is not None
        and report.event_time - boot_time > CONTACT
        and heard(received) - boot_heard_at > CONTACT
    )
    if twins != timing.twins:
        timing = replace(timing, twins=twins)
    return timing, () if ahead(received, offset) else (corrected(received, offset),)


def released(timing: Timing, held: tuple[Received, ...]) -> tuple[Received, ...]:
    """Those of the reports ``held`` before that are in quarantine no more, and took effect."""
    let_go = set(timing.let_go) - {(one.report.boot_id, one.report.seq) for one in timing.held}
    return tuple(one for one in held if (one.report.boot_id, one.report.seq) in let_go)


def ahead_when_late(timing: Timing, received: Received) -> bool:
    """Whether a report that came too late stays in quarantine for good."""
    return ahead(received, _offset_when_late(timing, received))


def _offset_when_late(timing: Timing, received: Received) -> int:
    return timing.offset_ms if received.report.boot_id == timing.boot_id else 0


def told(log: ContactLog, timing: Timing, received: Received) -> ContactLog:
    """The log after what a report told of the clock; all as of the moment at which the gateway got it.

    Args:
        log: Before.
        timing: After the report.
        received: The report as it came.
    """
    at = heard(received)
    report, drift, alarm_at, twins = received.report, log.drift, log.alarm_at, log.twins
    median = timing.median_ms
    if median is not None:
        drift = _drift(drift, median, at) if abs(median) > CORRECTED_ABOVE_MS else None
    if timing.doubtful or (timing.held and timing.held[-1] is received):
        if alarm_at is None and (critical(report) or report.motor is Motor.STALLED):
            alarm_at = at
    elif report.alarms is not None:
        # What the pump says of its alarms counts again, and other rules judge it.
        alarm_at = None
    if timing.twins:
        twins = noticed(twins, at)
    if drift == log.drift and alarm_at == log.alarm_at and twins == log.twins:
        return log
    return replace(log, drift=drift, alarm_at=alarm_at, twins=twins)


def _drift(known: Drift | None, median_ms: int, at: datetime) -> Drift:
    behind, minutes = median_ms > 0, (abs(median_ms) - 1) // 60_000
    if known is None or known.behind is not behind:
        return Drift(behind, (Peak(minutes, at),))
    if minutes <= known.peaks[-1].minutes:
        return known
    return Drift(behind, (*known.peaks[: MAX_PEAKS - 1], Peak(minutes, at)))
