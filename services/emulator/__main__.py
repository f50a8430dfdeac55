"""``python -m services.emulator [run | profiles | gateways]``: plays a scenario, or prints what it needs beforehand."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from datetime import UTC, datetime

import msgspec
import structlog

from services.emulator.metrics import Metrics
from services.emulator.run import run
from services.emulator.scenario import Scenario, ScenarioError, load, profile_documents
from services.emulator.settings import Settings
from streams.operations import Operations, configure_logging, until_stopped


def main() -> int:
    """Read the arguments and settings, and do it; 2 when the scenario cannot be used."""
    arguments = _arguments()
    settings = Settings()
    try:
        scenario = load(arguments.scenario or settings.emulator_scenario)
    except ScenarioError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    now = datetime.now(UTC)
    if arguments.command == "profiles":
        number = next(
            number for number in (arguments.run, settings.emulator_run, int(now.timestamp())) if number is not None
        )
        for document in profile_documents(scenario, number):
            sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
        return 0
    if arguments.command == "gateways":
        sys.stdout.writelines(f"{gateway.name}\n" for gateway in scenario.gateways)
        return 0
    configure_logging("emulator", settings.log_level)
    asyncio.run(_serve(scenario, settings, now))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.emulator", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("run", "profiles", "gateways"), default="run")
    parser.add_argument("--scenario", help="name or .yaml file; PUMPWATCH_EMULATOR_SCENARIO when left out")
    parser.add_argument("--run", type=int, help="number of the run for profiles; PUMPWATCH_EMULATOR_RUN when left out")
    return parser.parse_args()


async def _serve(scenario: Scenario, settings: Settings, now: datetime) -> None:
    metrics = Metrics()

    async def ready() -> str | None:
        return None if not playing.done() else "the scenario has ended"

    operations = Operations(
        metrics.registry,
        host=settings.emulator_metrics_host,
        port=settings.emulator_metrics_port,
        live=lambda: None,
        ready=ready,
    )
    playing = asyncio.create_task(run(scenario, settings, metrics, now), name="scenario")
    stopping = asyncio.create_task(until_stopped(), name="stop signal")
    async with operations:
        await asyncio.wait((playing, stopping), return_when=asyncio.FIRST_COMPLETED)
    if stopping.done():
        playing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await playing
        structlog.get_logger().info("stopped")
        return
    stopping.cancel()
    await playing


if __name__ == "__main__":
    sys.exit(main())
