"""The load generator: valid reports, a schedule that waits for no answer, a ledger of what was accepted."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from services.emulator.fleet import Fleet
from services.emulator.load import LoadPlan, LoadResult, generate, profiles, write_profiles
from streams.domain.profile import PumpProfile, profile_from
from streams.domain.telemetry import Motor, Report, validate
from tests.services.emulator.fake_ingest import FakeIngest, Mood, Say

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)


def a_plan(url: str = "http://127.0.0.1:9", **changes: Any) -> LoadPlan:
    """A short load, at nobody unless told."""
    given = {"name": "t", "pumps": 50, "rate": 1_000.0, "batch": 10, "seconds": 0.2, "boot_id": 9, **changes}
    return LoadPlan(url=url, gateway_id="GW-1", token=SecretStr("pwg_secret"), **given)


def read(body: bytes) -> list[Report]:
    """Every report in a request, valid."""
    reports = [validate(json.dumps(document).encode(), NOW) for document in json.loads(body)]
    assert all(isinstance(report, Report) for report in reports), reports
    return [report for report in reports if isinstance(report, Report)]


def ledger_of(path: Path) -> list[tuple[str, int, int]]:
    """The identities written down."""
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(datetime.fromisoformat(entry["accepted_at"]).tzinfo is not None for entry in entries)
    return [(entry["pump_id"], entry["boot_id"], entry["seq"]) for entry in entries]


def test_fresh_reports_are_valid_and_each_pump_counts_without_a_gap() -> None:
    """Every pump in turn, and every request's identities are those of its reports."""
    fleet = Fleet(a_plan(pumps=7))

    requests = [fleet.fresh(NOW) for _ in range(10)]

    reports = [report for request in requests for report in read(request.body)]
    said = [(report.pump_id, report.seq, report.alarms != ()) for report in reports]
    assert said == [identity for request in requests for identity in request.identities]
    assert all(report.event_time == NOW and report.motor is Motor.RUNNING for report in reports)
    for number in range(7):
        assert [r.seq for r in reports if r.pump_id == f"t-p{number:06d}"] == list(range(-(-(100 - number) // 7)))


def test_alarms_are_stalls_of_pumps_not_heard_before() -> None:
    """So each opens an alert of its own; their share of all reports is what was asked for."""
    fleet = Fleet(a_plan(alarm_share=0.03))

    reports = [report for _ in range(100) for report in read(fleet.fresh(NOW).body)]

    stalls = [report for report in reports if report.motor is Motor.STALLED]
    assert len(reports) == 1_000
    assert len(stalls) == len({report.pump_id for report in stalls}) == 30
    assert {report.seq for report in stalls} == {0}
    assert fleet.alarms == 30


def test_history_is_old_without_alarm_and_in_order() -> None:
    """Every old report is backlog: older than 15 minutes, and no alarm in it."""
    fleet = Fleet(a_plan(old=2_345, batch=100))

    requests = list(fleet.history(NOW))

    reports = [report for request in requests for report in read(request.body)]
    assert len(reports) == 2_345
    assert all(NOW - timedelta(hours=26) <= report.event_time <= NOW - timedelta(minutes=16) for report in reports)
    assert max(report.event_time for report in reports) == NOW - timedelta(hours=1)
    assert all(report.alarms == () for report in reports)
    last: dict[str, Report] = {}
    for report in reports:
        before = last.get(report.pump_id)
        assert report.seq == (before.seq + 1 if before else 0)
        assert before is None or report.event_time > before.event_time
        last[report.pump_id] = report


def test_every_pump_has_a_profile(tmp_path: Path) -> None:
    """Also those that will raise alarms, as far as their number can be known."""
    plan = a_plan(alarm_share=0.1, old=30, seconds=1.0)

    count = write_profiles(plan, tmp_path / "profiles.jsonl")

    documents = [json.loads(line) for line in (tmp_path / "profiles.jsonl").read_text().splitlines()]
    known = {document["pump_id"] for document in documents}
    fleet = Fleet(plan)
    said = {pump for _ in range(100) for pump, _, _ in fleet.fresh(NOW).identities}
    said |= {pump for request in fleet.history(NOW) for pump, _, _ in request.identities}
    assert count == len(documents) == len(known) == len(list(profiles(plan)))
    assert said <= known
    assert all(isinstance(profile_from(document), PumpProfile) for document in documents)


async def test_a_load_arrives_whole_and_is_written_down(tmp_path: Path) -> None:
    """In the ledger are exactly the accepted identities, each once, with what was an alarm."""
    ledger = tmp_path / "ledger.jsonl"
    async with FakeIngest() as ingest:
        result = await generate(a_plan(ingest.url, alarm_share=0.05, old=40, ledger=ledger))

    assert (result.accepted, result.accepted_alarms, result.accepted_old) == (200, 10, 40)
    assert (result.rejected, result.retried, result.unconfirmed) == (0, 0, 0)
    assert Counter(ledger_of(ledger)) == Counter(ingest.identities)
    assert sum(json.loads(line)["alarm"] for line in ledger.read_text().splitlines()) == 10
    assert len(result.latencies) == 20
    assert {"latency_p99_ms", "behind_seconds", "reports_per_second"} <= set(result.summary())


async def test_what_is_uncertain_is_sent_until_it_is_certain(tmp_path: Path) -> None:
    """An identity is in the ledger only after a 202; whatever happened before, in the end all are, and each once."""
    ledger = tmp_path / "ledger.jsonl"
    trouble: list[Mood | Say] = [
        Mood.DROP_TAKEN,
        Mood.DROP_UNREAD,
        Say(503),
        Say(429, (("retry-after", "0"),)),
        Say(202, body=b"?"),
    ]
    async with FakeIngest.moody(trouble * 2) as ingest:
        result = await generate(a_plan(ingest.url, ledger=ledger))

    written = ledger_of(ledger)
    assert len(written) == len(set(written)) == result.accepted == 200
    assert set(written) == set(ingest.identities)
    assert len(ingest.identities) > 200
    assert result.retried == len(trouble) * 2


async def test_what_ingest_rejects_is_not_in_the_ledger(tmp_path: Path) -> None:
    """Neither single reports of an accepted request nor requests refused as a whole."""
    ledger = tmp_path / "ledger.jsonl"
    moods = [Say(refuses=lambda report: report["pump_id"].endswith("3")), Say(400)]
    async with FakeIngest.moody(moods) as ingest:
        result = await generate(a_plan(ingest.url, ledger=ledger))

    assert (result.accepted, result.rejected, result.unconfirmed) == (189, 11, 0)
    assert Counter(ledger_of(ledger)) == Counter(ingest.identities)


async def test_what_stays_uncertain_is_counted_and_not_claimed(tmp_path: Path) -> None:
    """When nobody answers any more, nobody knows; the ledger is silent about it."""
    ledger = tmp_path / "ledger.jsonl"
    async with FakeIngest.moody([Mood.DROP_TAKEN] * 1_000) as ingest:
        result = await generate(a_plan(ingest.url, ledger=ledger, seconds=0.02, settle_seconds=0.1))

    assert (result.accepted, result.unconfirmed) == (0, 20)
    assert ledger.read_text() == ""


async def test_requests_are_due_whether_or_not_earlier_ones_were_answered() -> None:
    """Open loop: an ingest that answers nothing before it has seen every request still gets them all."""
    async with FakeIngest(wait_for=lambda seen: len(seen.requests) >= 20) as ingest:
        result = await generate(a_plan(ingest.url, connections=32))

    assert result.accepted == 200
    assert max(result.latencies) >= result.quantile(0.5) > 0


async def test_a_load_without_an_end_stops_when_told() -> None:
    """Requests under way still get their answer; progress is told meanwhile."""
    stop, told = asyncio.Event(), list[LoadResult]()
    async with FakeIngest() as ingest:
        load = asyncio.create_task(generate(a_plan(ingest.url, seconds=None), stop=stop, progress=told.append))
        await ingest.until(lambda seen: len(seen.taken) >= 50)
        stop.set()
        result = await load

    assert result.accepted == len(ingest.taken) >= 50
    assert all(seen is result for seen in told)


@pytest.mark.parametrize(
    "change",
    [
        {"pumps": 0},
        {"rate": -1.0},
        {"batch": 1_001},
        {"seconds": 0.0},
        {"alarm_share": 1.1},
        {"old": -1},
        {"connections": 0},
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused(change: dict[str, Any]) -> None:
    """With the name of the field."""
    with pytest.raises(ValueError, match=f"{next(iter(change))} is out of range"):
        a_plan(**change)
