"""Runs the rivals one after the other; `tests.benchmarks.rivals` says what is compared with what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from streams import topics
from tests.benchmarks import drain, fleet
from tests.benchmarks.figures import Figure, Finding
from tests.benchmarks.ground import PARTITIONS, Ground, Plot, run_module

RUN_SECONDS: Final = 25.0
MODULES: Final = {
    "quix_light": "tests.benchmarks.rivals.quix_light",
    "quix_same_work": "tests.benchmarks.rivals.quix_same_work",
    "bare_loop": "tests.benchmarks.rivals.bare_loop",
    "bare_loop_copy": "tests.benchmarks.rivals.bare_loop",
    "bare_loop_on_batches": "tests.benchmarks.rivals.bare_loop",
}
TARGETS: Final = {"quix_same_work": 1.0, "bare_loop": 0.5}


async def measure(ground: Ground, drained: Finding, *, quick: bool) -> Finding:
    """Each rival's rate, and the worker's divided by it; a ratio above 1 means that the worker is faster.

    Args:
        ground: The servers.
        drained: What `drain.measure` found in this run; its telemetry topic is read again.
        quick: Fewer pumps and reports.
    """
    worker_rate = next(figure.value for figure in drained.figures if figure.name == drain.RATE)
    pumps, rounds = drain.size(quick=quick)
    async with ground.plot("rivals") as plot:
        json_topic = await _prepare(plot, pumps, rounds)
    results: dict[str, dict[str, Any]] = {}
    for name in MODULES:
        topic = drain.TOPIC if name == "bare_loop_on_batches" else json_topic
        results[name] = await _rival(ground, name, topic, pumps, rounds)
    rates = {name: result["reports"] / result["seconds"] for name, result in results.items()}
    figures = [Figure(f"{name}_reports_per_second", rate, "reports/s") for name, rate in rates.items()]
    figures += [
        Figure(f"ratio_vs_{name}", worker_rate / rate, "times", TARGETS.get(name)) for name, rate in rates.items()
    ]
    return Finding("rivals", tuple(figures), results)


async def _rival(ground: Ground, name: str, topic: str, pumps: tuple[str, ...], rounds: int) -> dict[str, Any]:
    async with ground.plot(name.replace("_", "-")) as plot:
        await plot.add_pumps(pumps)
        settings = {
            "kafka": ground.kafka,
            "postgres": plot.database.app,
            "topic": topic,
            "alerts": plot.settings.topic(topics.ALERTS.name),
            "group": plot.settings.topic("rival"),
            "state": str(plot.folder / "state"),
            "reports": len(pumps) * rounds,
            "seconds": RUN_SECONDS,
            "batches": name == "bare_loop_on_batches",
            "copy": name != "bare_loop",
        }
        result = await run_module(MODULES[name], settings, plot.folder)
        return result | {"stored": await plot.count("SELECT count(*) FROM reading")}


async def _prepare(plot: Plot, pumps: tuple[str, ...], rounds: int) -> str:
    """The same reports as `drain.prepare` makes, one per record, on a topic with as many partitions."""
    topic = await plot.add_topic("reports")
    end = datetime.now(UTC) - timedelta(seconds=5)
    records: list[tuple[int, bytes | None, bytes]] = [
        (topics.partition_of(moment.pump_id, PARTITIONS), moment.pump_id.encode(), fleet.as_json(moment))
        for moment in fleet.history(pumps, rounds, end)
    ]
    await plot.produce(topic, records)
    return topic
