"""Runs a scenario against real ingest: pumps speak when their time has come, gateways pass it on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

import httpx
import structlog

from services.emulator.gateway import TIMEOUT, Gateway
from services.emulator.metrics import Metrics
from services.emulator.scenario import Scenario
from services.emulator.settings import Settings
from services.emulator.ward import Emission, play

CATCH_UP_REPORTS: Final = 500
"""Reports handed over in one go before other tasks get their turn: after the machine slept there may be many."""
HEARD_AFTER: Final = timedelta(milliseconds=200)
"""How long a pump's words take to its gateway."""


async def run(scenario: Scenario, settings: Settings, metrics: Metrics, started_at: datetime) -> None:
    """Play a scenario in real time until cancelled.

    Args:
        scenario: What happens.
        settings: Where ingest is, and as whom the gateways report.
        metrics: Where gateways count.
        started_at: Offset zero of the story, aware UTC; normally now.
    """
    limits = httpx.Limits(max_connections=2 * len(scenario.gateways))
    async with httpx.AsyncClient(
        base_url=settings.emulator_ingest_url, limits=limits, timeout=TIMEOUT, trust_env=False
    ) as client:
        gateways = {
            plan.name: Gateway(
                plan,
                settings.identity(plan.name),
                client,
                metrics,
                Random(f"{settings.emulator_seed}/{plan.name}"),
                started_at=started_at,
                capacity=settings.emulator_buffer_reports,
            )
            for plan in scenario.gateways
        }
        structlog.get_logger().info("scenario starts", scenario=scenario.name, gateways=len(gateways))
        emissions = play(scenario, started_at, settings.emulator_seed, settings.emulator_run)
        async with asyncio.TaskGroup() as tasks:
            for gateway in gateways.values():
                tasks.create_task(gateway.run(), name="gateway")
            tasks.create_task(speak(emissions, gateways), name="pumps")


async def speak(emissions: Iterable[Emission], gateways: Mapping[str, Gateway]) -> None:
    """Hand each report to its gateway when its time has come."""
    for number, emission in enumerate(emissions):
        ahead = (emission.at - datetime.now(UTC)).total_seconds()
        if ahead > 0 or number % CATCH_UP_REPORTS == 0:
            await asyncio.sleep(max(0.0, ahead))
        gateways[emission.gateway].offer(emission.document, emission.at + HEARD_AFTER)
