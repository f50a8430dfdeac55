"""A drain is judged from its first progress to its last: neither start-up nor the look after the end counts."""

from __future__ import annotations

import math

import pytest

from tests.benchmarks.drain import Progress, Seen


def test_rate_and_cost_leave_out_start_up_and_idling() -> None:
    """100 reports were applied between the second second and the fourth."""
    progress = Progress(
        [Seen(0, 0, 50, 1), Seen(2, 20, 80, 2), Seen(3, 70, 100, 3), Seen(4, 120, 110, 4), Seen(9, 120, 110, 5)]
    )

    assert progress.rate() == 50
    assert progress.cpu_us_per_report() == pytest.approx(20_000)
    assert progress.rss_growth_share() == pytest.approx(0.1)


def test_a_drain_that_never_began_has_no_rate() -> None:
    """It must not look like an infinitely quick one."""
    progress = Progress([Seen(0, 0, 50, 1), Seen(1, 0, 50, 1)])

    assert math.isnan(progress.rate())
    assert math.isnan(progress.cpu_us_per_report())
