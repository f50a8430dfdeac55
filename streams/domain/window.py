"""In which order a pump's reports take effect: they wait in a window while others before them may still come."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime

from msgspec.structs import replace

from streams.domain.alert import Episode
from streams.domain.evaluation import Fold
from streams.domain.observing.contacts import ContactLog, noticed
from streams.domain.profile import ProfileHistory
from streams.domain.rule import RuleBook
from streams.domain.telemetry import Received
from streams.domain.world import LATENESS, MAX_WINDOW_REPORTS, Arrivals, Resolution, World


def joined(
    world: World, received: Received, booked: str, profiles: ProfileHistory, rules: RuleBook
) -> tuple[World, list[Episode]]:
    """Take a report in where it belongs; returns the episodes that nothing can change any more, too.

    Args:
        world: The pump, with the report in its ``arrivals``.
        received: The report.
        booked: What `note_arrival` said of it.
        profiles: The pump's profile versions.
        rules: The rules in force.
    """
    if booked == "late":
        return _found_late(world, received, profiles, rules)
    if booked == "next" and not world.window:
        return _appended(world, received, profiles, rules)
    world = replace(world, window=_inserted(world.window, received))
    return _windowed(world, received, profiles, rules)


def _appended(
    world: World, received: Received, profiles: ProfileHistory, rules: RuleBook
) -> tuple[World, list[Episode]]:
    """In order and nothing missing: the report joins the base for good."""
    fold = Fold(world.base, profiles, rules)
    fold.report(received)
    return replace(world, base=fold.folded, tip=None, log=()), fold.log


def _inserted(window: tuple[Received, ...], received: Received) -> tuple[Received, ...]:
    report = received.report
    key = (report.boot_id, report.seq)
    place = bisect_left(window, key, key=lambda other: (other.report.boot_id, other.report.seq))
    return (*window[:place], received, *window[place:])


def _windowed(
    world: World, received: Received, profiles: ProfileHistory, rules: RuleBook
) -> tuple[World, list[Episode]]:
    """A gap is open: the newest report of the window joins its end, any other one is folded in its place."""
    at_end = world.tip is not None and world.window[-1] is received and not _frozen(world.window, world.arrivals)
    if world.tip is None or not at_end:
        return refolded(world, profiles, rules)
    fold = Fold(world.tip, profiles, rules)
    fold.report(received)
    return replace(world, tip=fold.folded, log=(*world.log, *fold.log)), []


def _found_late(
    world: World, received: Received, profiles: ProfileHistory, rules: RuleBook
) -> tuple[World, list[Episode]]:
    """Too late to change history's order: what it says still counts where nothing newer is known of the same signal."""
    fold = Fold(world.base, profiles, rules)
    fold.report(received, found_late=True)
    world = replace(world, base=fold.folded)
    if not world.window:
        return world, fold.log
    world, settled = refolded(world, profiles, rules)
    return world, [*fold.log, *settled]


def refolded(world: World, profiles: ProfileHistory, rules: RuleBook) -> tuple[World, list[Episode]]:
    """Freeze what no report can precede any more, and fold the rest of the window on top of it."""
    window, frozen_count = world.window, _frozen(world.window, world.arrivals)
    fold = Fold(world.base, profiles, rules)
    resolutions = _fold_window(fold, window[:frozen_count], world.resolutions)
    rest = window[frozen_count:]
    if not rest:
        for resolution in resolutions:
            fold.resolve(resolution)
        resolutions = ()
    base, settled = fold.folded, fold.log
    fold = Fold(base, profiles, rules)
    for resolution in _fold_window(fold, rest, resolutions):
        fold.resolve(resolution)
    tip = fold.folded if rest else None
    world = replace(world, base=base, window=rest, resolutions=resolutions, tip=tip, log=tuple(fold.log))
    return world, settled


def _fold_window(
    fold: Fold, window: tuple[Received, ...], resolutions: tuple[Resolution, ...]
) -> tuple[Resolution, ...]:
    """Fold reports with the resolutions that lie between them; returns those that come after the last report."""
    waiting = list(resolutions)
    for received in window:
        key = (received.report.boot_id, received.report.seq)
        while waiting and (waiting[0].boot_id, waiting[0].seq) < key:
            fold.resolve(waiting.pop(0))
        fold.report(received)
    return tuple(waiting)


def _frozen(window: tuple[Received, ...], arrivals: Arrivals) -> int:
    """How many reports at the start of the window come before the first open gap, or overflow it."""
    overflow = max(0, len(window) - MAX_WINDOW_REPORTS)
    if not arrivals.gaps:
        return len(window)
    first = arrivals.gaps[0]
    place = bisect_left(
        window, (first.first_boot, first.first_seq), key=lambda other: (other.report.boot_id, other.report.seq)
    )
    return max(place, overflow)


def resolved(
    world: World, resolution: Resolution, profiles: ProfileHistory, rules: RuleBook
) -> tuple[World, list[Episode]]:
    """Take in a person's decision, after the newest report that it could know of."""
    if world.window:
        return refolded(replace(world, resolutions=(*world.resolutions, resolution)), profiles, rules)
    fold = Fold(world.base, profiles, rules)
    fold.resolve(resolution)
    return replace(world, base=fold.folded), fold.log


def gaps_noticed(
    world: World, before: Arrivals, profiles: ProfileHistory, rules: RuleBook, at: datetime
) -> tuple[World, list[Episode]]:
    """Note reports that are missing for longer than an hour, or the last of which came after all."""
    were = {gap for gap in before.missed if gap.holds}
    missing = [gap for gap in world.arrivals.missed if gap.holds]
    news = [gap.opened_at + LATENESS for gap in missing if gap not in were]
    known = world.base.state.contacts.gap
    # What is left of a gap that was partly filled is no news.
    news = [since for since in news if known is None or known.end is not None or since > known.last]
    if news:
        first, last = min(news), max(news)
        return noted(
            world, lambda log: replace(log, gap=noticed(noticed(log.gap, first), last)), profiles, rules, first
        )
    if were and not missing and known is not None and known.end is None:
        over = replace(known, end=max(at, known.start))
        return noted(world, lambda log: replace(log, gap=over), profiles, rules, at)
    return world, []


def noted(
    world: World, change: Callable[[ContactLog], ContactLog], profiles: ProfileHistory, rules: RuleBook, at: datetime
) -> tuple[World, list[Episode]]:
    """Put what arrivals show into the base and the tip alike, so that folding again does not lose it."""
    fold = Fold(world.base, profiles, rules)
    fold.note(change(world.base.state.contacts), at)
    world, settled = replace(world, base=fold.folded), fold.log
    if world.tip is not None:
        fold = Fold(world.tip, profiles, rules)
        fold.note(change(world.tip.state.contacts), at)
        world = replace(world, tip=fold.folded, log=(*world.log, *fold.log))
    return world, settled


def outdated(world: World, rules: RuleBook) -> bool:
    """Whether the pump's state was last judged under other rules; its next report or tick judges it under these."""
    head = world.head
    return head.state.clock is not None and head.judged_under.partition("/")[0] != rules.key


def rejudged(world: World, profiles: ProfileHistory, rules: RuleBook) -> tuple[World, list[Episode]]:
    """Under rules that changed since the last report: a pump that says nothing more has new alerts, too."""
    if not outdated(world, rules):
        return world, []
    if world.window:
        return refolded(world, profiles, rules)
    fold = Fold(world.base, profiles, rules)
    fold.rejudge()
    return replace(world, base=fold.folded), fold.log
