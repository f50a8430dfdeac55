"""What a benchmark found: figures with their targets, percentiles, the machine, and how they are shown and kept."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from streams.operations import version

Sense = Literal["at least", "at most"]
QUANTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value, its unit, and the target it is held against, if any."""

    name: str
    value: float
    unit: str
    target: float | None = None
    sense: Sense = "at least"

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one. A value that is not a number meets nothing."""
        if self.target is None:
            return None
        return self.value >= self.target if self.sense == "at least" else self.value <= self.target


@dataclass(frozen=True, slots=True)
class Finding:
    """What one part of the run found: its figures, and details for whoever asks how they came about."""

    part: str
    figures: tuple[Figure, ...]
    details: Mapping[str, Any] = field(default_factory=dict)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of all values do not exceed; nearest rank, NaN of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def latencies_ms(seconds: Iterable[float]) -> dict[str, float]:
    """p50, p99 and p99.9 in milliseconds, with how many there were."""
    values = list(seconds)
    return {name: percentile(values, share) * 1000 for name, share in QUANTILES.items()} | {"count": len(values)}


def median(values: Sequence[float]) -> float:
    """The middle value; NaN of nothing."""
    return statistics.median(values) if values else math.nan


def machine() -> dict[str, Any]:
    """What a reader needs to judge the figures; nothing that names the machine."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "system": platform.system(),
        "pumpwatch": version(),
    }


def table(findings: Iterable[Finding]) -> str:
    """The figures for reading: value, unit, target, and whether it is met."""
    rows = [("figure", "value", "unit", "target", "")]
    for finding in findings:
        for figure in finding.figures:
            sign = "≥" if figure.sense == "at least" else "≤"
            target = "" if figure.target is None else f"{sign} {figure.target:,g}"
            verdict = {None: "", True: "met", False: "MISSED"}[figure.met]
            rows.append((figure.name, _shown(figure.value), figure.unit, target, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]:<{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    )


def _shown(value: float) -> str:
    if math.isnan(value):
        return "none"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def document(findings: Iterable[Finding], *, quick: bool, seconds: float) -> dict[str, Any]:
    """The run as it is kept; a value that is not a number becomes null."""
    findings = tuple(findings)
    return {
        "machine": machine(),
        "quick": quick,
        "seconds": round(seconds, 1),
        "figures": {
            figure.name: {
                "value": _number(figure.value),
                "unit": figure.unit,
                "target": figure.target,
                "sense": figure.sense if figure.target is not None else None,
                "met": figure.met,
            }
            for finding in findings
            for figure in finding.figures
        },
        "details": {finding.part: _plain(finding.details) for finding in findings},
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Keep a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _number(value: float) -> float | None:
    return None if math.isnan(value) or math.isinf(value) else float(f"{value:.6g}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _number(value) if isinstance(value, float) else value
