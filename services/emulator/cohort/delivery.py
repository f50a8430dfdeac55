"""How reports reach the service: late where a gateway has no link, twice where it resends, out of order where it likes.

Dirt never invents and never loses a report: the set that arrives is what the pump said.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime, time, timedelta
from random import Random
from typing import Final

from services.emulator.cohort.life import Lived
from services.emulator.cohort.plan import Cohort, Dirt
from services.emulator.cohort.truth import Outage
from streams.domain.telemetry import Received

LATENCY_SECONDS: Final = (0.5, 8.0)
"""From the pump to the service while all is well."""
BUFFERED_SECONDS: Final = 0.02
"""Between two reports of a buffer that is handed in."""
ROUNDS: Final = (7, 15)
"""Hours (UTC) at which the care team looks at what is open; see `judging`."""
BEFORE_ROUND: Final = timedelta(seconds=30)
RESENT_WITHIN: Final = timedelta(minutes=20)


def outages_of(cohort: Cohort, gateway: str) -> tuple[Outage, ...]:
    """When a gateway has no link; the same for all its pumps."""
    dirt = cohort.dirt
    chance = Random(f"{cohort.seed}/{cohort.name}/outages/{gateway}")
    shortest, longest = dirt.outage
    found, day = [], 0.0
    while dirt.outages_per_month > 0:
        day += chance.expovariate(dirt.outages_per_month / 30)
        if day >= cohort.days:
            break
        lost = cohort.start + timedelta(days=day)
        back = lost + shortest + (longest - shortest) * chance.random()
        found.append(Outage(lost, back))
        # Two outages in a row would be one that is longer than the file allows.
        day = (back - cohort.start) / timedelta(days=1) + 0.5
    return tuple(found)


def deliver(lived: Lived, dirt: Dirt, chance: Random) -> list[Received]:
    """All arrivals of a life by time of arrival, copies included.

    A clinic's programmer reads the pump's buffer as well, so nothing older is still missing after its report. A delayed
    report never crosses the care team's next round: people decide on what has arrived, and what they decide is not a
    matter of order any more.
    """
    arrivals: list[tuple[datetime, int, Received]] = []
    due = _arrivals(lived, chance)
    for number, (spoken, in_order) in enumerate(zip(lived.spoken, due, strict=True)):
        at = in_order
        if not spoken.clinic and chance.random() < dirt.delayed_share:
            at = min(at + dirt.delayed_by * chance.random(), max(at, next_round(at) - BEFORE_ROUND))
        arrivals.append((at, number, Received(report=spoken.report, received_at=at, clinic=spoken.clinic)))
        if chance.random() < dirt.duplicated_share:
            again = at + RESENT_WITHIN * chance.random()
            arrivals.append((again, number, Received(report=spoken.report, received_at=again, clinic=spoken.clinic)))
    arrivals.sort(key=lambda arrival: (arrival[0], arrival[1]))
    return [received for _, _, received in arrivals]


def _arrivals(lived: Lived, chance: Random) -> list[datetime]:
    """When each report would arrive if nothing were delayed beside the outages; never before an older one."""
    outages = lived.outages
    lost = [outage.lost for outage in outages]
    fast, slow = LATENCY_SECONDS
    due: list[datetime] = []
    waiting: list[int] = []
    for number, spoken in enumerate(lived.spoken):
        at = spoken.at + timedelta(seconds=chance.uniform(fast, slow))
        if spoken.clinic:
            for place, index in enumerate(waiting):
                due[index] = min(due[index], at - timedelta(seconds=BUFFERED_SECONDS * (len(waiting) - place)))
            waiting = []
        else:
            backs = [outage.back for outage in outages[: bisect_right(lost, at)] if at < outage.back]
            if backs:
                waiting.append(number)
                at = max(backs) + timedelta(seconds=BUFFERED_SECONDS * len(waiting))
            else:
                waiting = []
        due.append(at)
    return due


def next_round(at: datetime) -> datetime:
    """The care team's first round after ``at`` (exclusive)."""
    for day in (0, 1):
        for hour in ROUNDS:
            moment = datetime.combine(at.date() + timedelta(days=day), time(hour), at.tzinfo)
            if moment > at:
                return moment
    raise AssertionError("a day has rounds")
