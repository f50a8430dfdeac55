"""The files of ``deploy/`` against a running system: real services, a real Prometheus, a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import yaml
from aiokafka import AIOKafkaProducer
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink

from services.standalone.child import Child, free_port
from streams import gateways, people, topics
from tests.deploy.files import RULES, SCRAPE, Query, alerts, metric_names, queries, read
from tests.stack import Stack, eventually

SERVICES = ("ingest", "worker", "notify", "web", "watchdog")
GATEWAY = "gateway-1"
RATE_INTERVAL = "20s"
WAIT_SECONDS = 40.0


@dataclass(frozen=True)
class Watched:
    """A running system and the Prometheus that scrapes it."""

    stack: Stack
    prometheus: httpx.AsyncClient
    reader: asyncpg.Pool

    async def promql(self, expression: str) -> list[float]:
        """The values of an instant query that are numbers."""
        answer = await self.prometheus.get("/api/v1/query", params={"query": expression})
        content = answer.json()
        assert content["status"] == "success", f"{expression}: {content.get('error')}"
        return [value for item in content["data"]["result"] if not math.isnan(value := float(item["value"][1]))]

    async def sql(self, statement: str) -> list[asyncpg.Record]:
        """The rows that the read-only role gets."""
        return await self.reader.fetch(statement, timeout=10)

    async def rows_of(self, query: Query) -> int:
        """How many values or rows a dashboard query returns now."""
        if query.language == "promql":
            return len(await self.promql(query.text.replace("$__rate_interval", RATE_INTERVAL)))
        return len(await self.sql(expanded(query.text)))


def expanded(sql: str) -> str:
    """Grafana's macros as its PostgreSQL data source expands them, for the last hour."""
    until = datetime.now(UTC) + timedelta(minutes=1)
    first, last = (f"'{at.isoformat()}'" for at in (until - timedelta(hours=1), until))
    sql = re.sub(
        r"\$__timeGroupAlias\((\w+), \$__interval\)",
        r'to_timestamp(floor(extract(epoch FROM \1) / 60) * 60) AS "time"',
        sql,
    )
    sql = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {first} AND {last}", sql)
    sql = sql.replace("$__timeFrom()", first)
    assert "$" not in sql, f"a macro that this test does not know: {sql}"
    return sql


def report(pump_id: str, seq: int, motor: str) -> dict[str, Any]:
    """A report as a gateway sends it."""
    now = datetime.now(UTC).isoformat()
    times = {"event_time": now, "gateway_time": now, "gateway_id": GATEWAY}
    return {"schema_version": 1, "pump_id": pump_id, "boot_id": 1, "seq": seq, "motor": motor, **times}


async def send_reports(stack: Stack, token: str) -> None:
    """Two pumps that run and one that stalls, until cancelled; and one record that is no report."""
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all") as producer:
        await producer.send_and_wait(stack.topic_prefix + topics.REPORTS.name, b"not a report", key=b"P-4")
    headers = {"authorization": f"Bearer {token}"}
    address = await stack.services["ingest"].url("http")
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=10, trust_env=False) as client:
        for seq in range(10_000):
            motors = {"P-1": "running", "P-2": "running", "P-3": "stalled"}
            answer = await client.post("/v1/reports", json=[report(pump, seq, motor) for pump, motor in motors.items()])
            answer.raise_for_status()
            await asyncio.sleep(0.3)


async def scrape_file(stack: Stack, folder: Path) -> Path:
    """The scrape file of ``deploy/`` with the addresses of this stack, and every second."""
    content = read(SCRAPE)
    content["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    content["rule_files"] = [str(RULES)]
    for target in content["scrape_configs"][0]["static_configs"]:
        url = await stack.services[target["labels"]["service"]].url()
        target["targets"] = [url.removeprefix("http://")]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(content))
    return path


@asynccontextmanager
async def prometheus(stack: Stack, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A real Prometheus that scrapes the stack."""
    port, configuration = free_port(), await scrape_file(stack, folder)
    child = Child(
        "prometheus",
        [
            *("prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'series'}"),
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        log=folder / "prometheus.log",
    )
    child.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as client:

            async def ready() -> bool:
                # It answers every query with 503 until its series are open.
                with suppress(httpx.TransportError):
                    return (await client.get("/-/ready")).is_success
                return False

            await eventually(ready, timeout=WAIT_SECONDS, what="Prometheus ready")
            yield client
    finally:
        await child.stop()


@asynccontextmanager
async def watched(stack: Stack, folder: Path) -> AsyncIterator[Watched]:
    """Everything runs, reports come in, somebody is on call, and Prometheus looks on."""
    mail = Controller(Sink(), hostname="127.0.0.1", port=free_port())
    mail.start()
    stack.env["PUMPWATCH_NOTIFY_SMTP_PORT"] = str(mail.port)
    async with (
        asyncpg.create_pool(stack.database.admin, min_size=1, max_size=1) as admin,
        asyncpg.create_pool(stack.database.read, min_size=1, max_size=1) as reader,
    ):
        token = await gateways.add(admin, GATEWAY, "home")
        await admin.execute(
            "INSERT INTO person (person_id, display_name, password_hash, email, ladder_role) "
            "VALUES ('ada', 'Ada', '', 'ada@example.org', 'primary')"
        )
        await stack.start(*(name for name in SERVICES if name != "watchdog"))
        # Without a token it sees no alarm come through; here only what it exports matters.
        env = {
            "PUMPWATCH_WATCHDOG_INGEST_URL": await stack.services["ingest"].url("http"),
            "PUMPWATCH_WATCHDOG_WEB_URL": await stack.services["web"].url("http"),
            "PUMPWATCH_WATCHDOG_SMTP_PORT": str(mail.port),
            "PUMPWATCH_WATCHDOG_WEBHOOK_SECRET": people.new_webhook_secret(),
        }
        await stack.service("watchdog", env).start()
        sending = asyncio.create_task(send_reports(stack, token))
        try:
            async with prometheus(stack, folder) as client:
                yield Watched(stack, client, reader)
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
            mail.stop()


async def test_every_query_returns_data_and_every_metric_of_the_rules_exists(stack: Stack, tmp_path: Path) -> None:
    """One stack serves all: each query of the dashboard, each name in the rules, and the rules' verdict on health."""
    async with watched(stack, tmp_path) as system:
        await _every_query_returns_data(system)
        await _every_metric_exists(system)
        await _only_what_happened_is_alerted(system)


async def _every_query_returns_data(system: Watched) -> None:
    silent = list(queries())

    async def all_answer() -> bool:
        with suppress(httpx.TransportError):
            silent[:] = [query for query in silent if not await system.rows_of(query)]
        return not silent

    with suppress(AssertionError):
        await eventually(all_answer, timeout=WAIT_SECONDS, every=0.5)
    assert silent == []


async def _every_metric_exists(system: Watched) -> None:
    known = set((await system.prometheus.get("/api/v1/metadata")).json()["data"])
    known |= set((await system.prometheus.get("/api/v1/label/__name__/values")).json()["data"])
    # A counter that never counted has a description and no series yet; OpenMetrics describes it without its ending.
    known |= {f"{name}_total" for name in known}
    wanted = {name for alert in alerts() for name in metric_names(alert["expr"])}

    assert wanted - known == set()


async def _only_what_happened_is_alerted(system: Watched) -> None:
    """The dead letter is told; that all services are up, and the watchdog, are seen."""
    rules = json.loads((await system.prometheus.get("/api/v1/rules")).text)["data"]["groups"]
    states = {rule["name"]: (rule["state"], rule["health"]) for group in rules for rule in group["rules"]}

    assert {health for _, health in states.values()} == {"ok"}
    assert states["PumpwatchWatchdog"][0] == "firing"
    assert states["PumpwatchDeadLetters"][0] == "firing"
    assert await system.promql('up{job="pumpwatch"} == 1') == [1.0] * len(SERVICES)
