"""The emulator against real ingest, Kafka, worker and PostgreSQL: what it says arrives, its stories come true."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from pydantic import SecretStr

from services.emulator.load import LoadPlan, generate, profiles
from services.emulator.scenario import load, profile_documents
from streams import gateways
from streams.profiles import import_profiles
from tests.stack import Database, Stack, eventually

STORY = """
name: story
title: Four stories in a few seconds
site: north
gateways:
  - {name: ward, send_every: PT0.2S, resent_share: 0.2, reordered_share: 0.3}
  - {name: clinic, send_every: PT0.2S}
pumps:
  - name: plain
    count: 5
    gateway: ward
    report_every: PT0.5S
    profile: &baclofen
      family: synchromed_ii
      reservoir_ml: 20
      drugs: [{name: baclofen, concentration_ug_per_ml: 500.0}]
      prescribed_ug_per_day: 240.0
  - name: stall
    gateway: clinic
    renewed: true
    report_every: PT0.5S
    history: {since: -PT2H, every: PT15M}
    profile: *baclofen
    story: [{at: PT1S, act: stall}]
  - name: low
    gateway: clinic
    renewed: true
    report_every: PT0.5S
    low_at: PT1S
    profile: *baclofen
  - name: mri-recovers
    gateway: clinic
    renewed: true
    report_every: PT0.5S
    history: {since: -PT14M, every: PT2M}
    profile: *baclofen
    story:
      - {at: -PT12M, act: mri_enter, declared_by: radiology}
      - {at: -PT3M, act: mri_leave, declared_by: radiology, recovers_after: PT3M2S}
  - name: mri-overdue
    gateway: clinic
    renewed: true
    report_every: PT0.5S
    history: {since: -PT104M, every: PT12M}
    profile: {<<: *baclofen, risks: [sci_t6_or_above]}
    story: [{at: -PT89M57S, act: mri_enter, declared_by: radiology}]
"""


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[asyncpg.Pool[Any]]:
    """As the application's role."""
    async with asyncpg.create_pool(database.app, min_size=1, max_size=2) as connections:
        yield connections


async def know(pool: asyncpg.Pool[Any], documents: list[dict[str, Any]]) -> None:
    """Import profiles."""
    lines = [msgspec.json.encode(document).decode() for document in documents]
    imported = await import_profiles(pool, lines, "test", datetime.now(UTC))
    assert not imported.errors, imported.errors


async def test_the_stories_come_true_and_nothing_else(stack: Stack, pool: asyncpg.Pool[Any], tmp_path: Path) -> None:
    """Opened are exactly the alerts of the scenario; the MRI that recovers has only its INFO, and it is over."""
    path, run = tmp_path / "story.yaml", 4_096
    path.write_text(STORY)
    await know(pool, profile_documents(load(str(path)), run))
    tokens = {name: await gateways.add(pool, name, "home") for name in ("ward", "clinic")}
    await stack.start("ingest", "worker")
    env = {
        "PUMPWATCH_EMULATOR_INGEST_URL": await stack.services["ingest"].url("http"),
        "PUMPWATCH_EMULATOR_GATEWAY_TOKENS": json.dumps(tokens),
        "PUMPWATCH_EMULATOR_SCENARIO": str(path),
        "PUMPWATCH_EMULATOR_RUN": str(run),
    }
    await stack.service("emulator", env).start()

    async def alerts() -> set[tuple[str, str, str, bool]]:
        rows = await pool.fetch("SELECT pump_id, rule_id, priority::text, active FROM v_alert WHERE NOT retracted")
        return {(row[0].removeprefix("story-").removesuffix("-1000"), *tuple(row)[1:]) for row in rows}

    expected = {
        ("stall", "DLV-01", "high", True),
        ("low", "RSV-01", "medium", True),
        ("mri-recovers", "MRI-01", "info", False),
        ("mri-overdue", "MRI-01", "info", True),
        ("mri-overdue", "MRI-02", "high", True),
        ("mri-overdue", "DLV-09", "high", True),
    }

    async def all_told() -> bool:
        return await alerts() >= expected

    await eventually(all_told, what="the scenario's alerts")
    assert await alerts() == expected
    taken_back = await pool.fetchval("SELECT count(*) FROM v_alert WHERE retracted")
    assert taken_back == 0
    assert await stack.services["emulator"].stop() == 0


async def test_everything_in_the_ledger_is_in_history_once(
    stack: Stack, pool: asyncpg.Pool[Any], tmp_path: Path
) -> None:
    """Fresh and old reports, and each stall's alert: what ingest accepted is there, and nothing else."""
    token, ledger = await gateways.add(pool, "load", "home"), tmp_path / "ledger.jsonl"
    await stack.start("ingest", "worker")
    plan = LoadPlan(
        url=await stack.services["ingest"].url("http"),
        gateway_id="load",
        token=SecretStr(token),
        name="load",
        pumps=200,
        rate=1_000,
        batch=50,
        seconds=2,
        alarm_share=0.01,
        old=2_000,
        ledger=ledger,
    )
    await know(pool, list(profiles(plan)))

    result = await generate(plan)

    entries = [json.loads(line) for line in ledger.read_text().splitlines()]
    accepted = Counter((entry["pump_id"], entry["boot_id"], entry["seq"]) for entry in entries)
    assert (result.accepted, result.accepted_old, result.rejected, result.unconfirmed) == (2_000, 2_000, 0, 0)

    async def settled() -> bool:
        return bool(await pool.fetchval("SELECT count(*) FROM v_reading") >= len(entries))

    await eventually(settled, what="the whole load in history")
    rows = await pool.fetch("SELECT pump_id, boot_id, seq FROM v_reading")
    assert Counter(tuple(row) for row in rows) == accepted
    stalls = {entry["pump_id"] for entry in entries if entry["alarm"]}
    alerted = await pool.fetch("SELECT pump_id, rule_id FROM v_alert")
    assert sorted(map(tuple, alerted)) == sorted((pump, "DLV-01") for pump in stalls)
    assert len(stalls) == result.accepted_alarms == 20
