"""How laws of the core are tested: over how many lives, and on which arrivals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from streams.domain.rule import RuleBook
from streams.domain.telemetry import Report
from tests.domain.lives import reports

EACH_DAY: Final = 500
COUNT: Final = int(os.environ.get("PUMPWATCH_LIVES", EACH_DAY))
TOLD: Final = reports(max_size=8 if COUNT <= EACH_DAY else 12)
"""Lives of a pump; what a late report costs grows with their square, so that the few lives of each day are shorter."""
HUNDREDS: Final = pytest.mark.timeout(300 + 2 * COUNT)
"""Hundreds of lives, on a machine that may be busy."""
UNCOUNTED: Final = pytest.mark.no_cover
"""Counting lines takes longer than living; the laws without this mark reach them all."""
LIVES: Final = settings(
    max_examples=COUNT,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
SECOND: Final = timedelta(seconds=1)


def slots(told: Sequence[Report]) -> list[datetime]:
    """Arrival times after everything happened, all within the lateness bound."""
    end = max(max(report.event_time, report.gateway_time) for report in told)
    return [end + (index + 1) * SECOND for index in range(len(told))]


def at_once(told: Sequence[Report]) -> list[tuple[datetime, Report]]:
    """Arrivals of a live gateway: each report a second after the gateway got it."""
    return [(report.gateway_time + SECOND, report) for report in told]


def judging_all(rules: RuleBook) -> RuleBook:
    """The same rules, each judged at every fact."""
    return RuleBook(tuple(replace(rule, reads=("*",), follows=("*",)) for rule in rules))
