"""``python -m services.emulator [run | profiles | gateways]``: plays a scenario, or prints what it needs beforehand."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
import structlog
from pydantic import ValidationError

from services.emulator.metrics import Metrics
from services.emulator.run import run
from services.emulator.scenario import Scenario, ScenarioError, load, profile_documents
from services.emulator.settings import Settings
from streams.operations import STOPPING_SECONDS, Operations, PortTaken, configure_logging, until_stopped


def main() -> int:
    """Do what the arguments say; 2 when a setting, the scenario or the port cannot be used."""
    arguments, now = _arguments(), datetime.now(UTC)
    try:
        settings = Settings()
        scenario = load(arguments.scenario or settings.emulator_scenario)
    except ValidationError as error:
        wrong = [".".join(map(str, fault["loc"])) or fault["msg"] for fault in error.errors(include_input=False)]
        return _refused(f"settings refused: {', '.join(wrong)}")
    except ScenarioError as error:
        return _refused(str(error))
    match arguments.command:
        case "profiles":
            number = arguments.run if arguments.run is not None else settings.emulator_run
            documents = profile_documents(scenario, int(now.timestamp()) if number is None else number)
            return _printed(msgspec.json.encode(document).decode() for document in documents)
        case "gateways":
            return _printed(gateway.name for gateway in scenario.gateways)
        case _:
            return _played(scenario, settings, now)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m services.emulator", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("run", "profiles", "gateways"), default="run")
    parser.add_argument("--scenario", help="name or .yaml file; PUMPWATCH_EMULATOR_SCENARIO when left out")
    parser.add_argument("--run", type=int, help="number of the run for profiles; PUMPWATCH_EMULATOR_RUN when left out")
    return parser.parse_args()


def _refused(reason: str) -> int:
    sys.stderr.write(f"{reason}\n")
    return 2


def _printed(lines: Iterable[str]) -> int:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


def _played(scenario: Scenario, settings: Settings, now: datetime) -> int:
    configure_logging("emulator", settings.log_level)
    # It says every request; what became of them is in the metrics.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        asyncio.run(_serve(scenario, settings, now))
    except PortTaken as error:
        structlog.get_logger().error("cannot start", reason=str(error))
        return 2
    return 0


async def _serve(scenario: Scenario, settings: Settings, now: datetime) -> None:
    """Play until a signal comes; a scenario that ends by itself has failed, and so has the process."""
    metrics = Metrics()

    async def ready() -> str | None:
        return None

    operations = Operations(
        metrics.registry,
        host=settings.emulator_metrics_host,
        port=settings.emulator_metrics_port,
        live=lambda: "the scenario has ended" if playing.done() else None,
        ready=ready,
    )
    playing = asyncio.create_task(run(scenario, settings, metrics, now), name="scenario")
    stopping = asyncio.create_task(until_stopped(STOPPING_SECONDS), name="stop signal")
    async with operations:
        await asyncio.wait((playing, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        stopping.cancel()
        return await playing
    playing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await playing
    structlog.get_logger().info("stopped")
    return None


if __name__ == "__main__":
    sys.exit(main())
