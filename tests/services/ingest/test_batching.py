"""How accepted reports become records: one partition each, bounded, and never a fresh one behind an old one."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.batching import MAX_BACKLOG_REPORTS, Batcher, Taken
from services.ingest.metrics import Metrics
from services.ingest.settings import MIB, Settings
from services.ingest.urgency import Lane
from streams.domain.telemetry import Motor, Received, Report
from streams.topics import MAX_BATCH_REPORTS, partition_of
from tests.services.ingest.edge import NOON, MemoryPublisher


def taken(pump_id: str, lane: Lane = Lane.FRESH, size: int = 300, seq: int = 1, at: datetime = NOON) -> Taken:
    """An accepted report."""
    report = Report(
        schema_version=1,
        pump_id=pump_id,
        boot_id=1,
        seq=seq,
        event_time=at,
        gateway_id="home-1",
        gateway_time=at,
        motor=Motor.RUNNING,
    )
    return Taken(Received(report=report, received_at=at), lane, size)


def batcher(publisher: MemoryPublisher, **fields: Any) -> Batcher:
    """With the shortest linger."""
    return Batcher(publisher, Settings(**{"ingest_linger_ms": 0, **fields}), Metrics())


@given(
    requests=st.lists(
        st.lists(st.tuples(st.integers(0, 60), st.sampled_from(list(Lane))), min_size=1, max_size=40), max_size=8
    ),
    partitions=st.integers(1, 30),
)
@settings(max_examples=40, deadline=None)
def test_every_record_holds_reports_of_its_own_partition_and_none_is_lost(
    requests: list[list[tuple[int, Lane]]], partitions: int
) -> None:
    """However requests mix pumps and ages, each report is in exactly one record, of its pump's partition and lane."""
    publisher = MemoryPublisher()

    async def hand_in() -> None:
        batches = batcher(publisher, partitions=partitions)
        offers = []
        for number, request in enumerate(requests):
            reports = [taken(f"pump-{pump}", lane, seq=number) for pump, lane in request]
            offers.append(batches.offer(reports))
        assert all([offer is not None and await offer.acknowledged(5) for offer in offers])

    asyncio.run(hand_in())

    for record in publisher.records:
        assert {partition_of(one.report.pump_id, partitions) for one in record.reports} == {record.partition}
    for lane, topic in ((Lane.FRESH, "pump.telemetry.v1"), (Lane.BACKLOG, "pump.backlog.v1")):
        expected = sorted(f"pump-{pump}" for request in requests for pump, chosen in request if chosen is lane)
        assert sorted(publisher.pumps(topic)) == expected


async def test_order_of_one_pump_is_kept() -> None:
    """Reports of a pump leave in the order in which they came, over many requests."""
    publisher = MemoryPublisher()
    batches = batcher(publisher)

    offers = [batches.offer([taken("pump-1", seq=number)]) for number in range(50)]
    assert all([offer is not None and await offer.acknowledged(5) for offer in offers])

    assert [one.report.seq for record in publisher.records for one in record.reports] == list(range(50))


@pytest.mark.parametrize(("lane", "most"), [(Lane.FRESH, MAX_BATCH_REPORTS), (Lane.BACKLOG, MAX_BACKLOG_REPORTS)])
async def test_a_record_has_a_most(lane: Lane, most: int) -> None:
    """A record never exceeds its lane's number of reports."""
    publisher = MemoryPublisher()
    batches = batcher(publisher)

    offer = batches.offer([taken("pump-1", lane, size=10, seq=number) for number in range(2 * most + 1)])

    assert offer is not None
    assert await offer.acknowledged(5)
    assert [len(record.reports) for record in publisher.records] == [most, most, 1]


async def test_reports_wait_for_the_record_of_their_partition_under_way_and_share_the_next() -> None:
    """While a record is under way its partition collects: batches grow with the load by themselves."""
    publisher = MemoryPublisher(gate=asyncio.Event())
    assert publisher.gate is not None
    batches = batcher(publisher)

    offers = [batches.offer([taken("pump-1", seq=0)])]
    await asyncio.sleep(0.01)
    offers += [batches.offer([taken("pump-1", seq=number)]) for number in range(1, 20)]
    await asyncio.sleep(0.01)
    publisher.gate.set()
    assert all([offer is not None and await offer.acknowledged(5) for offer in offers])

    assert [len(record.reports) for record in publisher.records] == [1, 19]


async def test_a_full_buffer_takes_alarms_and_nothing_else() -> None:
    """The reserve is for requests with an alarm; old reports fill only their own room."""
    publisher = MemoryPublisher(gate=asyncio.Event())
    batches = batcher(publisher, ingest_fresh_bytes=MIB, ingest_alarm_bytes=MIB, ingest_backlog_bytes=MIB)

    assert batches.offer([taken("pump-1", Lane.BACKLOG, size=MIB)]) is not None
    assert batches.offer([taken("pump-2", Lane.BACKLOG, size=1)]) is None
    assert batches.offer([taken("pump-3", size=MIB)]) is not None
    assert batches.offer([taken("pump-4", size=1)]) is None
    assert batches.offer([taken("pump-5", size=MIB)], alarm=True) is not None
    assert batches.offer([taken("pump-6", size=1)], alarm=True) is None
    await batches.close(0)


async def test_old_reports_beside_an_alarm_leave_room_for_fresh_ones() -> None:
    """They may fill the reserve of their own room, which is nothing to a request without old reports."""
    publisher = MemoryPublisher(gate=asyncio.Event())
    batches = batcher(publisher, ingest_fresh_bytes=MIB, ingest_alarm_bytes=MIB, ingest_backlog_bytes=MIB)
    assert batches.offer([taken("pump-1", Lane.BACKLOG, size=MIB + 1)], alarm=True) is not None

    fresh, old = batches.offer([taken("pump-2", size=1)]), batches.offer([taken("pump-3", Lane.BACKLOG, size=1)])

    assert fresh is not None
    assert old is None
    await batches.close(0)


async def test_room_is_given_back_when_kafka_refuses() -> None:
    """A failed record is no longer held: the next request finds room, and nothing was claimed for the failed one."""
    publisher = MemoryPublisher(broken=True)
    batches = batcher(publisher, ingest_fresh_bytes=MIB)

    failed = batches.offer([taken("pump-1", size=MIB)])
    assert failed is not None
    assert not await failed.acknowledged(5)
    publisher.broken = False
    second = batches.offer([taken("pump-1", size=MIB)])

    assert second is not None
    assert await second.acknowledged(5)


async def test_close_sends_what_lingers() -> None:
    """A stop in order leaves nothing behind that was taken."""
    publisher = MemoryPublisher()
    batches = batcher(publisher, ingest_linger_ms=100)

    offer = batches.offer([taken("pump-1")])
    await batches.close(5)

    assert offer is not None
    assert publisher.pumps() == ["pump-1"]


async def test_an_old_record_says_how_many_reports_it_holds() -> None:
    """The feeder paces by reports without opening records."""
    publisher = MemoryPublisher()
    batches = batcher(publisher)
    old = NOON - timedelta(hours=1)

    offer = batches.offer([taken("pump-1", Lane.BACKLOG, seq=number, at=old) for number in range(7)])

    assert offer is not None
    assert await offer.acknowledged(5)
    assert [record.headers for record in publisher.records] == [{"reports": b"7"}]
