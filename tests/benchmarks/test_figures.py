"""The figures are what they say: percentiles, targets, the table and the kept document."""

from __future__ import annotations

import json
import math
import os
import platform
from pathlib import Path

import pytest

from tests.benchmarks.figures import Figure, Finding, document, latencies_ms, machine, percentile, table, write


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1.0), (0.5, 5.0), (0.9, 9.0), (0.91, 10.0), (0.99, 10.0), (1.0, 10.0)]
)
def test_percentile_is_the_nearest_rank(share: float, value: float) -> None:
    """The smallest value that at least this share does not exceed; never a value that was not measured."""
    assert percentile([float(number) for number in range(10, 0, -1)], share) == value


def test_nothing_measured_is_not_a_number_and_meets_no_target() -> None:
    """An empty run must not look like a quick one."""
    figure = Figure("alert_latency_ms_p99", latencies_ms([])["p99"], "ms", 500, "at most")

    assert math.isnan(figure.value)
    assert figure.met is False
    assert "MISSED" in table([Finding("latency", (figure,))])


@pytest.mark.parametrize(
    ("value", "sense", "met"), [(10, "at least", True), (9, "at least", False), (10, "at most", True)]
)
def test_a_target_includes_its_limit(value: float, sense: str, met: bool) -> None:
    """Both ways."""
    assert Figure("f", value, "x", 10, "at most" if sense == "at most" else "at least").met is met


def test_the_kept_document_is_plain_json(tmp_path: Path) -> None:
    """What is not a number becomes null, and everything can be read again."""
    finding = Finding("part", (Figure("a", 1234.5678901, "x"), Figure("b", math.nan, "x", 1)), {"all": [math.inf, 1]})

    write(tmp_path / "build" / "latest.json", document([finding], quick=True, seconds=1.25))

    kept = json.loads((tmp_path / "build" / "latest.json").read_text())
    assert kept["figures"]["a"] == {"value": 1234.57, "unit": "x", "target": None, "sense": None, "met": None}
    assert kept["figures"]["b"]["value"] is None
    assert kept["figures"]["b"]["met"] is False
    assert kept["details"] == {"part": {"all": [None, 1]}}
    assert kept["quick"] is True


def test_the_machine_is_described_and_not_named() -> None:
    """Cores, memory and versions; no host, user or path."""
    found = json.dumps(machine())

    assert machine()["cores"] >= 1
    assert machine()["python"] == platform.python_version()
    assert platform.node() not in found
    assert os.sep not in found
