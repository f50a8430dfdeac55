"""The same stall told through Prometheus and Alertmanager, at their fastest sensible settings.

Scraped every second, rules evaluated every second, no ``for``, no group wait, one group per pump, a webhook as
receiver. The exporter shows a stall the moment it happens; stalls start at random phases, so the figure holds the wait
for scrape and evaluation that polling implies. Latency is from the stall to the webhook's request.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import yaml
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.standalone.child import Child, free_port
from streams.operations import WebServer, listen
from tests.benchmarks.figures import Figure, Finding, latencies_ms
from tests.benchmarks.ground import inherited
from tests.stack import eventually

STALLS: Final = 80
GAP_SECONDS: Final = 0.5
START_SECONDS: Final = 40.0
SETTLE_SECONDS: Final = 8.0
PROMETHEUS: Final = "prometheus"
ALERTMANAGER: Final = "prometheus-alertmanager"


@dataclass(slots=True)
class Ward:
    """Pumps as an exporter shows them, and a webhook that hears of their stalls."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    stalled_at: dict[str, float] = field(default_factory=dict)
    told_at: dict[str, float] = field(default_factory=dict)
    stalled: Gauge = field(init=False)

    def __post_init__(self) -> None:
        self.stalled = Gauge("pump_motor_stalled", "1 while the motor stalls.", ["pump"], registry=self.registry)
        for number in range(STALLS):
            self.stalled.labels(f"P-{number}").set(0)

    def stall(self, number: int) -> None:
        """A pump's motor stalls now."""
        self.stalled_at[f"P-{number}"] = time.time()
        self.stalled.labels(f"P-{number}").set(1)

    def app(self) -> Starlette:
        """The exporter and the webhook."""

        async def metrics(_: Request) -> Response:
            return Response(generate_latest(self.registry), media_type="text/plain")

        async def webhook(request: Request) -> Response:
            now = time.time()
            for alert in (await request.json())["alerts"]:
                if alert["status"] == "firing":
                    self.told_at.setdefault(alert["labels"]["pump"], now)
            return Response()

        return Starlette(routes=[Route("/metrics", metrics), Route("/hook", webhook, methods=["POST"])])


async def measure(folder: Path, rival_of: list[Finding], *, quick: bool) -> Finding:
    """Latencies of Prometheus and Alertmanager, and their p99 over ours from this run."""
    ward = Ward()
    stalls = 10 if quick else STALLS
    async with WebServer(ward.app(), listen("127.0.0.1", 0)) as exporter, _monitoring(folder, exporter.url) as address:
        await _scraped(address)
        chance = random.Random(3)
        for number in range(stalls):
            await asyncio.sleep(chance.uniform(0.5, 1.5) * GAP_SECONDS)
            ward.stall(number)
        await _told(ward, stalls)
    found = latencies_ms(ward.told_at[pump] - at for pump, at in ward.stalled_at.items() if pump in ward.told_at)
    ours = next((f.value for finding in rival_of for f in finding.figures if f.name == "alert_latency_ms_p99"), None)
    figures = [Figure(f"prometheus_alert_ms_{name}", found[name], "ms, from stall") for name in ("p50", "p99")]
    if ours is not None:
        figures.append(Figure("ratio_vs_prometheus_p99", found["p99"] / ours, "times shorter", 4))
    return Finding("prometheus", tuple(figures), {"stalls": stalls, "told": len(ward.told_at), "latency_ms": found})


@asynccontextmanager
async def _monitoring(folder: Path, exporter: str) -> AsyncIterator[str]:
    port, alertmanager_port = free_port(), free_port()
    _configure(folder, exporter, f"127.0.0.1:{alertmanager_port}")
    alertmanager = Child(
        ALERTMANAGER,
        [
            *(ALERTMANAGER, f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'notified'}"),
            *(f"--web.listen-address=127.0.0.1:{alertmanager_port}", "--cluster.listen-address="),
        ],
        env=inherited(),
        log=folder / "alertmanager.log",
    )
    prometheus = Child(
        PROMETHEUS,
        [
            *(PROMETHEUS, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'series'}"),
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        env=inherited(),
        log=folder / "prometheus.log",
    )
    try:
        alertmanager.start()
        prometheus.start()
        yield f"http://127.0.0.1:{port}"
    finally:
        await asyncio.gather(prometheus.stop(), alertmanager.stop())


def _configure(folder: Path, exporter: str, alertmanager: str) -> None:
    folder.mkdir(parents=True)
    rule = {"alert": "MotorStall", "expr": "pump_motor_stalled == 1", "labels": {"severity": "critical"}}
    route = {"receiver": "hook", "group_by": ["pump"], "group_wait": "0s", "group_interval": "1s"}
    content: dict[str, Any] = {
        "rules.yml": {"groups": [{"name": "pumps", "interval": "1s", "rules": [rule]}]},
        "prometheus.yml": {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
            "scrape_configs": [
                {"job_name": "pumps", "static_configs": [{"targets": [exporter.removeprefix("http://")]}]}
            ],
        },
        "alertmanager.yml": {
            "route": route,
            "receivers": [{"name": "hook", "webhook_configs": [{"url": f"{exporter}/hook", "send_resolved": False}]}],
        },
    }
    for name, document in content.items():
        (folder / name).write_text(yaml.safe_dump(document))


async def _scraped(address: str) -> None:
    """Wait until Prometheus has every pump, so that its start does not count."""
    async with httpx.AsyncClient(base_url=address, timeout=5, trust_env=False) as client:

        async def seen() -> bool:
            try:
                answer = await client.get("/api/v1/query", params={"query": "count(pump_motor_stalled)"})
                return bool(json.loads(answer.text)["data"]["result"])
            except (httpx.TransportError, KeyError, ValueError):
                return False

        await eventually(seen, timeout=START_SECONDS, every=0.2, what="the first scrape")


async def _told(ward: Ward, stalls: int) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while len(ward.told_at) < stalls and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
