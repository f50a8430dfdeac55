"""Runs the benchmarks; see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from pathlib import Path
from typing import Final

import structlog

from tests.benchmarks import core, drain, latency, live, monitoring, rivalry, stored, throughput
from tests.benchmarks.figures import Finding, document, table, write
from tests.benchmarks.fleet import pump_ids
from tests.benchmarks.ground import Ground, ground
from tests.stack import ROOT

PARTS: Final = ("core", "worker", "rivals", "looks", "system", "latency", "prometheus")
WHEN_NAMED: Final = ("backtest",)
RESULT: Final = ROOT / "build" / "bench" / "latest.json"


async def run(parts: set[str], *, quick: bool) -> list[Finding]:
    """Measure the parts asked for, one after the other."""
    findings: list[Finding] = []
    if "core" in parts:
        findings.append(_told(core.measure(quick=quick)))
    async with ground() as servers:
        if "rivals" in parts:
            findings.extend(_told(found) for found in await rivalry.measure(servers, quick=quick))
        elif "worker" in parts:
            findings.append(_told(await drain.measure(servers, quick=quick)))
        if "looks" in parts:
            findings.append(_told(await stored.measure_looks(servers, quick=quick)))
        if "backtest" in parts:
            findings.append(_told(await stored.measure_backtest(servers, quick=quick)))
        if parts & {"system", "latency"}:
            findings.extend(await _live(servers, parts, quick=quick))
        if "prometheus" in parts:
            findings.append(_told(await monitoring.measure(servers.folder / "monitoring", findings, quick=quick)))
    return findings


async def _live(servers: Ground, parts: set[str], *, quick: bool) -> list[Finding]:
    findings: list[Finding] = []
    pumps = pump_ids("L", 1_000 if quick else 10_000)
    others = latency.stall_pumps() + latency.backlog_pumps()
    async with live.system(servers, "live", pumps, others) as running:
        if "system" in parts:
            findings.append(_told(await throughput.measure(running, quick=quick)))
        if "latency" in parts:
            findings.extend(_told(found) for found in await latency.measure(running, quick=quick))
    return findings


def _told(finding: Finding) -> Finding:
    sys.stdout.write(f"\n{finding.part}\n{table([finding])}\n")
    sys.stdout.flush()
    return finding


def main() -> int:
    """Run, show and keep the figures; exit code 0 whatever they are, since a busy machine is not a mistake."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="part",
        help=f"of {', '.join(PARTS)}; all of these without any. Only when named: {', '.join(WHEN_NAMED)}",
    )
    parser.add_argument("--quick", action="store_true", help="small loads: shows that it works, not how fast it is")
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    if unknown := set(given.parts) - {*PARTS, *WHEN_NAMED}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    started = time.monotonic()
    findings = asyncio.run(run(set(given.parts or PARTS), quick=given.quick))
    seconds = time.monotonic() - started
    write(given.output, document(findings, quick=given.quick, seconds=seconds))
    sys.stdout.write(f"\n{table(findings)}\n\n{seconds:,.0f} s; kept in {os.path.relpath(given.output)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
