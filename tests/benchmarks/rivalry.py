"""Runs the rivals one after the other; `tests.benchmarks.rivals` says what is compared with what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from streams import topics
from tests.benchmarks import drain, fleet
from tests.benchmarks.figures import Figure, Finding, median
from tests.benchmarks.ground import PARTITIONS, Ground, Plot, run_module

RUN_SECONDS: Final = 25.0
ROUNDS: Final = 3
"""Drains of the worker and of the rival that does the same work, in turn: single ones differ by a tenth."""
SAME_WORK: Final = "quix_same_work"
MODULES: Final = {
    SAME_WORK: "tests.benchmarks.rivals.quix_same_work",
    "quix_light": "tests.benchmarks.rivals.quix_light",
    "bare_loop": "tests.benchmarks.rivals.bare_loop",
    "bare_loop_copy": "tests.benchmarks.rivals.bare_loop",
    "bare_loop_on_batches": "tests.benchmarks.rivals.bare_loop",
}
TARGETS: Final = {SAME_WORK: 1.0, "bare_loop": 0.5}


async def measure(ground: Ground, *, quick: bool) -> tuple[Finding, Finding]:
    """The worker's figures, and each rival's rate with the worker's divided by it; above 1 the worker is faster.

    Args:
        ground: The servers.
        quick: Fewer pumps, reports and rounds.
    """
    pumps, rounds = drain.size(quick=quick)
    async with ground.plot("rivals") as plot:
        json_topic = await _prepare(plot, pumps, rounds)
    drains: list[drain.Drained] = []
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in MODULES}
    for number in range(1 if quick else ROUNDS):
        drains.append(await drain.drain(ground, f"drain-{number}", quick=quick))
        results[SAME_WORK].append(await _rival(ground, SAME_WORK, json_topic, quick=quick, number=number))
    for name in [name for name in MODULES if name != SAME_WORK]:
        topic = drains[-1].topic if name == "bare_loop_on_batches" else json_topic
        results[name].append(await _rival(ground, name, topic, quick=quick))
    rates = {
        name: median([result["reports"] / result["seconds"] for result in found]) for name, found in results.items()
    }
    worker = drain.finding(drains, quick=quick)
    worker_rate = next(figure.value for figure in worker.figures if figure.name == drain.RATE)
    figures = [Figure(f"{name}_reports_per_second", rate, "reports/s") for name, rate in rates.items()]
    figures += [
        Figure(f"ratio_vs_{name}", worker_rate / rate, "times", TARGETS.get(name)) for name, rate in rates.items()
    ]
    return worker, Finding("rivals", tuple(figures), results)


async def _rival(ground: Ground, name: str, topic: str, *, quick: bool, number: int = 0) -> dict[str, Any]:
    pumps, rounds = drain.size(quick=quick)
    async with ground.plot(f"{name.replace('_', '-')}-{number}") as plot:
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
