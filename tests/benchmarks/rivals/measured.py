"""Counting what a rival processes, without costing it anything that shows."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Meter:
    """Reports processed, and until when they were durable.

    Args:
        limit: Stop after so many reports.
        seconds: Stop after so long since the first report.
    """

    limit: int
    seconds: float
    count: int = 0
    durable: int = 0
    _first_at: float = 0.0
    _durable_at: float = 0.0
    _first_cpu: float = 0.0
    _durable_cpu: float = 0.0

    @property
    def over(self) -> bool:
        """Whether the rival has run long enough."""
        if not self.count:
            return False
        return self.count >= self.limit or time.perf_counter() - self._first_at >= self.seconds

    def add(self, reports: int = 1) -> None:
        """Reports were read."""
        if not self.count:
            self._first_at, self._first_cpu = time.perf_counter(), time.process_time()
        self.count += reports

    def committed(self) -> None:
        """Everything read so far is durable."""
        self.durable, self._durable_at, self._durable_cpu = self.count, time.perf_counter(), time.process_time()

    def print(self) -> None:
        """Say what was measured, as the process' last line."""
        cpu_us = (self._durable_cpu - self._first_cpu) / self.durable * 1e6 if self.durable else 0.0
        found = {"reports": self.durable, "seconds": self._durable_at - self._first_at, "cpu_us_per_report": cpu_us}
        sys.stdout.write("\n" + json.dumps(found) + "\n")
        sys.stdout.flush()


def given() -> dict[str, Any]:
    """The settings that the process was started with."""
    settings: dict[str, Any] = json.loads(sys.argv[1])
    return settings


def meter_of(settings: dict[str, Any]) -> Meter:
    """A meter with the limits that the process was given."""
    return Meter(settings["reports"], settings["seconds"])
