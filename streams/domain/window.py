"""In which order a pump's reports take effect: they wait in a window while others before them may still come."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime

from msgspec.structs import replace

from streams.domain.alert import Episode
from streams.domain.evaluation import Fold, Waiting
from streams.domain.observing import contacts
from streams.domain.observing.contacts import ContactLog, noticed
from streams.domain.profile import ProfileHistory
from streams.domain.rule import RuleBook
from streams.domain.telemetry import Received
from streams.domain.world import LATENESS, MAX_GAPS, MAX_WINDOW_REPORTS, Arrivals, Resolution, World


def joined(
    world: World,
    received: Received,
    booked: str,
    profiles: ProfileHistory,
    rules: RuleBook,
    waiting: Waiting | None,
) -> tuple[World, list[Episode]]:
    """Take a report in where it belongs; returns the episodes that nothing can change any more, too.

    Args:
        world: The pump, with the report in its ``arrivals``.
        received: The report.
        booked: What `note_arrival` said of it.
        profiles: The pump's profile versions.
        rules: The rules in force.
        waiting: Kept up to date where it is given; see `Fold`.
    """
    if booked == "next" and not world.window:
        return _appended(world, received, profiles, rules, waiting)
    if world.tip is not None and booked != "late" and contacts.place(received) > contacts.place(world.window[-1]):
        window = (*world.window, received)
        if not _frozen(window, world.arrivals):
            return _at_end(replace(world, window=window), received, profiles, rules, waiting)
    world, settled = placed(world, received, booked, profiles, rules, waiting)
    return told_to_the_end(world, profiles, rules, waiting), settled


def placed(
    world: World,
    received: Received,
    booked: str,
    profiles: ProfileHistory,
    rules: RuleBook,
    waiting: Waiting | None,
) -> tuple[World, list[Episode]]:
    """As `joined`, but the window is not folded up to its end: for many reports `told_to_the_end` does that once.

    ``waiting`` is kept up to date where it is given; see `Fold`.
    """
    if booked == "late":
        # Too late to change history's order: it still counts where nothing newer is known of the same signal.
        fold = Fold(world.base, profiles, rules, waiting)
        fold.report(received, found_late=True)
        if not world.window:
            return replace(world, base=fold.folded), fold.log
        world, settled = _settled(replace(world, base=fold.folded), profiles, rules, waiting)
        return world, [*fold.log, *settled]
    if booked == "next" and not world.window:
        return _appended(world, received, profiles, rules, waiting)
    return _settled(replace(world, window=_inserted(world.window, received)), profiles, rules, waiting)


def _appended(
    world: World, received: Received, profiles: ProfileHistory, rules: RuleBook, waiting: Waiting | None
) -> tuple[World, list[Episode]]:
    """In order and nothing missing: the report joins the base for good."""
    fold = Fold(world.base, profiles, rules, waiting)
    fold.report(received)
    return replace(world, base=fold.folded, tip=None, log=()), fold.log


def follows(world: World, received: Received) -> bool:
    """Whether taking in this report costs no more than folding it: nothing has to be folded again behind it."""
    if not world.window:
        return True
    arrivals, place = world.arrivals, contacts.place(received)
    expected = (arrivals.boot_id or 0, arrivals.next_seq)
    return place == expected or (place > expected and len(arrivals.gaps) < MAX_GAPS)


def _inserted(window: tuple[Received, ...], received: Received) -> tuple[Received, ...]:
    place = bisect_left(window, contacts.place(received), key=contacts.place)
    return (*window[:place], received, *window[place:])


def _at_end(
    world: World, received: Received, profiles: ProfileHistory, rules: RuleBook, waiting: Waiting | None
) -> tuple[World, list[Episode]]:
    """A gap is open, and the newest report of the window joins its end."""
    fold = Fold(world.head, profiles, rules, waiting)
    fold.report(received)
    return replace(world, tip=fold.folded, log=(*world.log, *fold.log)), []


def refolded(world: World, profiles: ProfileHistory, rules: RuleBook) -> tuple[World, list[Episode]]:
    """Freeze what no report can precede any more, and fold the rest of the window on top of it."""
    world, settled = _settled(world, profiles, rules, None)
    return told_to_the_end(world, profiles, rules), settled


def _settled(
    world: World, profiles: ProfileHistory, rules: RuleBook, waiting: Waiting | None
) -> tuple[World, list[Episode]]:
    """Freeze what no report can precede any more; what is left of the window is folded by `told_to_the_end`."""
    window, count = world.window, _frozen(world.window, world.arrivals)
    fold = Fold(world.base, profiles, rules, waiting)
    resolutions = _fold_window(fold, window[:count], world.resolutions)
    rest = window[count:]
    if not rest:
        for resolution in resolutions:
            fold.resolve(resolution)
        resolutions = ()
    return replace(world, base=fold.folded, window=rest, resolutions=resolutions, tip=None, log=()), fold.log


def told_to_the_end(world: World, profiles: ProfileHistory, rules: RuleBook, waiting: Waiting | None = None) -> World:
    """Fold the window on top of the base, where that was not done yet."""
    if world.tip is not None or not world.window:
        return world
    fold = Fold(world.base, profiles, rules, waiting)
    for resolution in _fold_window(fold, world.window, world.resolutions):
        fold.resolve(resolution)
    return replace(world, tip=fold.folded, log=tuple(fold.log))


def _fold_window(
    fold: Fold, window: tuple[Received, ...], resolutions: tuple[Resolution, ...]
) -> tuple[Resolution, ...]:
    """Fold reports with the resolutions that lie between them; returns those that come after the last report."""
    waiting = list(resolutions)
    for received in window:
        key = contacts.place(received)
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
    place = bisect_left(window, (first.first_boot, first.first_seq), key=contacts.place)
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
    """Put what arrivals show into the base, and fold the window on top of it again: what follows is the same later."""
    told_before = world.tip is not None
    fold = Fold(world.base, profiles, rules)
    fold.note(change(world.base.state.contacts), at)
    world = replace(world, base=fold.folded, tip=None, log=())
    return told_to_the_end(world, profiles, rules) if told_before else world, fold.log


def outdated(world: World, profiles: ProfileHistory, rules: RuleBook) -> bool:
    """Whether the pump's state was last judged under other rules, or something else was known of the patient then.

    Its next report or tick judges it under these.
    """
    head = world.head
    return head.state.clock is not None and head.judged_under.split("/")[:2] != [rules.key, profiles.key]


def rejudged(world: World, profiles: ProfileHistory, rules: RuleBook) -> tuple[World, list[Episode]]:
    """Under rules, a profile or care records that changed since the last report.

    A pump that says nothing more has new alerts and other deadlines, too (catalogue M.7).
    """
    if not outdated(world, profiles, rules):
        return world, []
    if world.window:
        return refolded(world, profiles, rules)
    fold = Fold(world.base, profiles, rules)
    fold.rejudge()
    return replace(world, base=fold.folded), fold.log
