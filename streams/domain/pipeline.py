"""The whole path in two short functions: a report comes in, or time passes, and facts about alerts come out.

Both are pure: the same arguments always give the same step, so history can be replayed, in tests, backtests and anger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec
from msgspec.structs import replace

from streams.domain import publishing, silence, window
from streams.domain.alert import AlertEvent, Episode, Reason
from streams.domain.evaluation import Waiting
from streams.domain.observing import contacts
from streams.domain.observing.contacts import ContactLog, noticed
from streams.domain.profile import ProfileHistory
from streams.domain.rule import RuleBook
from streams.domain.silence import Hearing
from streams.domain.telemetry import PumpId, Received
from streams.domain.world import Resolution, World, give_up, note_arrival


class Disposition(StrEnum):
    """What became of a report; also the outcome label of the metric that counts it."""

    APPLIED = "applied"
    LATE = "late"
    DUPLICATE = "duplicate"
    QUARANTINED_FUTURE = "quarantined_future"


class Step(msgspec.Struct, frozen=True, gc=False):
    """The world afterwards and the facts to publish, oldest first.

    ``released`` are reports that had been quarantined and took effect now, because the clock's offset is known.
    """

    world: World
    events: tuple[AlertEvent, ...]
    disposition: Disposition = Disposition.APPLIED
    released: tuple[Received, ...] = ()


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """A report, and what became of it."""

    received: Received
    disposition: Disposition


class Steps(msgspec.Struct, frozen=True, gc=False):
    """As `Step`, for several reports.

    ``caused_at`` is when the first report arrived without which there might be no events.
    """

    world: World
    events: tuple[AlertEvent, ...]
    outcomes: tuple[Outcome, ...]
    released: tuple[Received, ...]
    caused_at: datetime | None


@dataclass(frozen=True, slots=True)
class ResolveRefused:
    """Why a person cannot close an alert now."""

    reason: str


def new_world(pump_id: str) -> World:
    """A pump that nobody has heard of yet."""
    return World(pump_id=PumpId(pump_id))


def step(world: World, received: Received, profiles: ProfileHistory, rules: RuleBook, now: datetime) -> Step:
    """Take one pump's world through one report.

    Args:
        world: The pump before the report.
        received: A validated report of this pump, with the service time at which an edge took it.
        profiles: The pump's profile versions.
        rules: The rules in force.
        now: Service time, aware UTC; the caller owns the clock.
    """
    report, arrived_at, before = received.report, received.received_at, world
    arrivals, booked = note_arrival(world.arrivals, report.boot_id, report.seq, arrived_at)
    if booked == "seen":
        return Step(world, (), Disposition.DUPLICATE)
    last_at = world.last_received_at
    heard = arrived_at if last_at is None or arrived_at > last_at else last_at
    world = replace(world, arrivals=arrivals, last_received_at=heard)
    held = before.head.timing.held
    waiting = {contacts.place(one): one for one in held} if held else None
    world, settled = window.joined(world, received, booked, profiles, rules, waiting)
    if arrivals.missed is not before.arrivals.missed:
        world, more = window.gaps_noticed(world, before.arrivals, profiles, rules, arrived_at)
        settled = [*settled, *more]
    if world.silence:
        world, forgotten = silence.ended(world, rules)
        settled = [*settled, *forgotten]
    disposition, released = _became(world, received, booked), _released(held, waiting or {})
    if publishing.as_published(before, world, settled, now):
        wake_at = publishing.next_wake_at(world, world.head, profiles, rules, now, None)
        return Step(replace(world, next_wake_at=wake_at), (), disposition, released)
    disproved_by = _evidence(before, world, (received,))
    world, events = publishing.published(world, settled, profiles, rules, now, disproved_by, settles=True)
    return Step(world, events, disposition, released)


def steps(world: World, reports: Sequence[Received], profiles: ProfileHistory, rules: RuleBook, now: datetime) -> Steps:
    """Take one pump's world through several reports; history is the same as if each had been a `step`.

    From the first one on behind which history has to be folded again, the rest is put into its place, and folded and
    told once: a buffer that is sent newest first would else fold the whole window for each of its reports.
    """
    outcomes: list[Outcome] = []
    events: list[AlertEvent] = []
    released: list[Received] = []
    caused_at = None
    for index, received in enumerate(reports):
        if index + 1 < len(reports) and not window.follows(world, received):
            rest = _at_once(world, reports[index:], profiles, rules, now)
            outcomes.extend(rest.outcomes)
            events.extend(rest.events)
            released.extend(rest.released)
            world, caused_at = rest.world, caused_at or rest.caused_at
            break
        one = step(world, received, profiles, rules, now)
        outcomes.append(Outcome(received, one.disposition))
        released.extend(one.released)
        world = one.world
        if one.events:
            events.extend(one.events)
            caused_at = caused_at or received.received_at
    return Steps(world, tuple(events), tuple(outcomes), tuple(released), caused_at)


def _at_once(
    world: World, reports: Sequence[Received], profiles: ProfileHistory, rules: RuleBook, now: datetime
) -> Steps:
    """Put all of these into their places, then fold the window and tell what follows once."""
    before, held = world, world.head.timing.held
    waiting = {contacts.place(one): one for one in held}
    late: dict[tuple[int, int], Disposition] = {}
    taken: list[Received] = []
    repeated: list[Received] = []
    settled: list[Episode] = []
    heard_first = None
    for received in reports:
        report, known = received.report, world.arrivals
        arrivals, booked = note_arrival(known, report.boot_id, report.seq, received.received_at)
        if booked == "seen":
            repeated.append(received)
            continue
        heard = max(world.last_received_at or received.received_at, received.received_at)
        heard_first = heard_first or heard
        world = replace(world, arrivals=arrivals, last_received_at=heard)
        world, more = window.placed(world, received, booked, profiles, rules, waiting)
        settled.extend(more)
        if arrivals.missed is not known.missed:
            world, more = window.gaps_noticed(world, known, profiles, rules, received.received_at)
            settled.extend(more)
        taken.append(received)
        if booked == "late":
            late[contacts.place(received)] = _found_late(world, received)
    duplicates = tuple(Outcome(received, Disposition.DUPLICATE) for received in repeated)
    if not taken:
        return Steps(before, (), duplicates, (), None)
    world = window.told_to_the_end(world, profiles, rules, waiting)
    if world.silence:
        world, forgotten = silence.ended(world, rules, heard_first)
        settled.extend(forgotten)
    disproved_by = _evidence(before, world, taken)
    world, events = publishing.published(world, settled, profiles, rules, now, disproved_by, settles=True)
    outcomes = (Outcome(one, late.get(contacts.place(one)) or _in_time(one, waiting)) for one in taken)
    released = _released(held, waiting)
    return Steps(world, events, (*outcomes, *duplicates), released, taken[0].received_at if events else None)


def _evidence(before: World, after: World, taken: Sequence[Received]) -> Reason:
    """What kind of evidence these reports are."""
    if before.head.timing.offset_ms != after.head.timing.offset_ms:
        return Reason.CLOCK_CORRECTED
    logged = any(event.at is not None for received in taken for event in received.report.events)
    return Reason.LATE_LOG if logged else Reason.LATE_EVIDENCE


def _in_time(received: Received, waiting: Waiting) -> Disposition:
    return Disposition.QUARANTINED_FUTURE if contacts.place(received) in waiting else Disposition.APPLIED


def _found_late(after: World, received: Received) -> Disposition:
    ahead = contacts.ahead_when_late(after.base.timing, received)
    return Disposition.QUARANTINED_FUTURE if ahead else Disposition.LATE


def _became(after: World, received: Received, booked: str) -> Disposition:
    if booked == "late":
        return _found_late(after, received)
    held = after.head.timing.held
    return Disposition.QUARANTINED_FUTURE if held and received in held else Disposition.APPLIED


def _released(held: tuple[Received, ...], waiting: Waiting) -> tuple[Received, ...]:
    """Those of the reports in quarantine before that took effect: let go, or taken at once where they now stand."""
    return tuple(one for one in held if contacts.place(one) not in waiting)


def tick(world: World, profiles: ProfileHistory, rules: RuleBook, now: datetime, hearing: Hearing) -> Step:
    """Let time pass for one pump: deadlines fire, gaps are given up, and silence is judged.

    Args:
        world: The pump's world.
        profiles: The pump's profile versions.
        rules: The rules in force.
        now: Service time, aware UTC.
        hearing: What the service could hear; see `Hearing`.
    """
    world, settled = window.rejudged(world, profiles, rules)
    heard_until = min(now, hearing.until)
    arrivals = give_up(world.arrivals, heard_until)
    if arrivals is not world.arrivals:
        before = world.arrivals
        world, more = window.refolded(replace(world, arrivals=arrivals), profiles, rules)
        settled = [*settled, *more]
        world, more = window.gaps_noticed(world, before, profiles, rules, heard_until)
        settled = [*settled, *more]
    hearing = Hearing(hearing.since, heard_until)
    world, forgotten = silence.judged(world, profiles, rules, hearing)
    return Step(*publishing.published(world, [*settled, *forgotten], profiles, rules, now, hearing=hearing))


def resolve(
    world: World, profiles: ProfileHistory, rules: RuleBook, alert_id: UUID, now: datetime, actor: str
) -> Step | ResolveRefused:
    """Close an alert because a person says so.

    A latched alert closes only when its condition has ended; one that clears by itself may be closed early, and then
    stays quiet unless it worsens. The caller records the person's reason.

    Args:
        world: The pump's world.
        profiles: The pump's profile versions.
        rules: The rules in force.
        alert_id: Which alert.
        now: Service time of the decision, aware UTC.
        actor: The person's id.
    """
    record = next((record for record in world.ledger if record.alert_id == alert_id), None)
    if record is None or not record.open:
        return ResolveRefused("the alert is not open any more")
    rule = rules.get(record.rule_id)
    track = world.head.tracks.get(record.rule_id)
    resolvable = track is not None and track.resolvable(now)
    latched = rule is not None and (record.latched or rule.latches(record.priority))
    if record.active and latched and not resolvable:
        return ResolveRefused("the condition still holds; it can be confirmed, and resolved when it has ended")
    newest = world.arrivals
    resolution = Resolution(record.rule_id, now, actor, newest.boot_id or 0, newest.next_seq - 1)
    world, settled = window.resolved(silence.resolved(world, resolution), resolution, profiles, rules)
    return Step(*publishing.published(world, settled, profiles, rules, now))


def note_conflict(world: World, received: Received, profiles: ProfileHistory, rules: RuleBook, now: datetime) -> Step:
    """Note that a report says something else than the one applied before under its identity (catalogue M.18).

    The report itself takes no effect. Only the store can tell such a report from a repeated one.
    """
    at = received.received_at

    def known(log: ContactLog) -> ContactLog:
        log = replace(log, conflict=noticed(log.conflict, at))
        if contacts.critical(received.report):
            log = replace(log, conflicting_alarm=noticed(log.conflicting_alarm, at))
        return log

    world, settled = window.noted(world, known, profiles, rules, at)
    world, events = publishing.published(world, settled, profiles, rules, now)
    return Step(world, events, Disposition.DUPLICATE)
