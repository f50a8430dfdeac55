"""Records of several partitions in one transaction, and what makes each partition settle its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.domain.telemetry import Received
from streams.metrics import RecordOutcome
from streams.partition import LogRange, Partition, Record, Stop
from streams.topics import encode_batch, partition_of
from streams.turns import RUN_BYTES, RUN_RECORDS, Load, Turns
from streams.worker import Worker
from tests.services.worker.bench import Bench, Ended, quick_settings, received
from tests.services.worker.memory import REFUSED_CHECKSUM, MemoryStore

PARTITIONS = 4
PUMP = {partition_of(f"P-{number}", PARTITIONS): f"P-{number}" for number in range(60)}
"""A pump of each partition."""
NONE: frozenset[int] = frozenset()
RECORDS = "pumpwatch_records_total"


def made(store: MemoryStore | None = None) -> Bench:
    """A bench whose topic has four partitions."""
    store = store or MemoryStore()
    store.partitions = PARTITIONS
    return Bench(store, settings=quick_settings(partitions=PARTITIONS, worker_dead_letter_ratio=1))


async def started(bench: Bench) -> Worker:
    """A process that owns all partitions."""
    worker = bench.make()
    await worker.assigned({number: LogRange(0, 1_000, "one") for number in range(PARTITIONS)})
    return worker


def said(partition: int, offset: int, *reports: Received) -> Record:
    """A record of a partition: these reports, or one of its pump."""
    return Record(partition, offset, encode_batch(reports or (received(offset, PUMP[partition]),)))


async def settled(bench: Bench, worker: Worker, records: Iterable[Record], pauses: AbstractSet[int] = NONE) -> None:
    """Offer the records, let others work after those in ``pauses``, and wait until something became of each."""
    offered = 0
    for offered, record in enumerate(records, start=1):
        worker.offer(record)
        if offered in pauses:
            await asyncio.sleep(0)
    async with asyncio.timeout(20):
        while sum(bench.count(RECORDS, outcome=outcome) for outcome in RecordOutcome) < offered:
            await asyncio.sleep(0.001)
    await worker.close()


async def test_records_of_all_partitions_share_a_transaction() -> None:
    """A transaction costs far more than a record; each partition's offset moves past its own."""
    bench = made()
    worker = await started(bench)

    await settled(bench, worker, [said(partition, offset) for offset in range(3) for partition in range(PARTITIONS)])

    assert bench.store.commits == 1
    assert bench.store.offsets == dict.fromkeys(range(PARTITIONS), 3)
    assert set(bench.store.readings) == {(PUMP[number], 1, seq) for number in range(PARTITIONS) for seq in range(3)}
    assert {pump_id: stored.revision for pump_id, stored in bench.store.pumps.items()} == dict.fromkeys(
        PUMP.values(), 1
    )
    assert all(partition.cache.get([PUMP[partition.number]])[1] == [] for partition in worker.partitions)
    assert bench.count(RECORDS, outcome="applied") == 12


@pytest.mark.parametrize(
    ("offender", "reason"),
    [
        (Record(2, 1, b"junk"), "undecodable"),
        (said(2, 1, received(1, PUMP[2], program_checksum=REFUSED_CHECKSUM)), "refused"),
    ],
)
async def test_what_cannot_be_used_is_set_aside_in_its_partition(offender: Record, reason: str) -> None:
    """The others do not wait for it, and what comes after it takes effect."""
    bench = made()
    worker = await started(bench)

    await settled(bench, worker, [said(0, 0), said(1, 0), said(2, 0), offender, said(2, 2), said(3, 0)])

    assert [(letter.partition, letter.offset, letter.reason) for letter in bench.letters.letters] == [(2, 1, reason)]
    assert bench.store.offsets == {0: 1, 1: 1, 2: 3, 3: 1}
    assert len(bench.store.readings) == 5


async def test_a_partition_that_another_worker_has_does_not_hold_up_the_others() -> None:
    """Its records were applied there; it goes on behind them."""
    bench = made()
    worker = await started(bench)
    bench.store.offsets[1] = 1

    await settled(bench, worker, [said(0, 0), said(1, 0), said(1, 1), said(3, 0)])

    assert bench.store.offsets == {0: 1, 1: 2, 2: 0, 3: 1}
    assert set(bench.store.readings) == {(PUMP[0], 1, 0), (PUMP[1], 1, 1), (PUMP[3], 1, 0)}
    assert bench.count(RECORDS, outcome="skipped") == 1


async def test_an_answer_that_is_lost_applies_nothing_twice() -> None:
    """Whether the common transaction was committed is looked up for each of its partitions."""
    bench = made(MemoryStore(after=[OSError("reset")]))
    worker = await started(bench)

    await settled(bench, worker, [said(partition, 0) for partition in range(PARTITIONS)])

    assert bench.store.commits == 1
    assert bench.store.offsets == dict.fromkeys(range(PARTITIONS), 1)
    assert bench.count(RECORDS, outcome="applied") == PARTITIONS
    assert bench.count("pumpwatch_transaction_failures_total", reason="transient") == 1


async def test_a_gap_is_read_again_while_the_others_go_on() -> None:
    """Nothing after the gap is applied; the other partitions are."""
    bench = made()
    worker = await started(bench)
    sought: list[tuple[int, int]] = []

    async def seek_back(partition: int, offset: int) -> None:
        sought.append((partition, offset))

    worker.seek_back = seek_back

    await settled(bench, worker, [said(0, 0), said(1, 4), said(2, 0)])

    assert sought == [(1, 0)]
    assert bench.store.offsets == {0: 1, 1: 0, 2: 1, 3: 0}


async def test_a_stopped_partition_takes_no_part() -> None:
    """What still comes of it is ignored."""
    bench = made()
    worker = await started(bench)
    worker.stop(worker.partitions[1], Stop.FENCED)

    await settled(bench, worker, [said(0, 0), said(1, 0), said(2, 0)])

    assert bench.store.offsets == {0: 1, 1: 0, 2: 1, 3: 0}


FAULTS = st.sampled_from([None, None, OSError("reset"), TimeoutError()])


@settings(deadline=None, max_examples=60)
@given(
    before=st.lists(FAULTS, max_size=4),
    after=st.lists(FAULTS, max_size=4),
    order=st.permutations([number for number in range(PARTITIONS) for _ in range(5)]),
    junk=st.sets(st.tuples(st.integers(0, PARTITIONS - 1), st.integers(0, 4)), max_size=2),
    pauses=st.sets(st.integers(0, 19)),
)
def test_any_mixture_and_any_failures_end_in_the_same_rows(
    before: list[BaseException | None],
    after: list[BaseException | None],
    order: list[int],
    junk: set[tuple[int, int]],
    pauses: set[int],
) -> None:
    """Each partition ends as if its records had been settled alone."""
    offsets = {number: iter(range(5)) for number in range(PARTITIONS)}
    places = [(number, next(offsets[number])) for number in order]
    records = [Record(*place, b"junk") if place in junk else said(*place) for place in places]

    async def run() -> Bench:
        bench = made(MemoryStore(before=before, after=after))
        worker = await started(bench)
        await settled(bench, worker, records, pauses)
        return bench

    bench = asyncio.run(run())

    usable = {(number, offset) for number in range(PARTITIONS) for offset in range(5)} - junk
    assert set(bench.store.readings) == {(PUMP[number], 1, offset) for number, offset in usable}
    assert {(letter.partition, letter.offset) for letter in bench.letters.letters} == junk
    assert bench.store.offsets == dict.fromkeys(range(PARTITIONS), 5)


def waiting(number: int, sizes: Iterable[int]) -> Partition:
    """A partition with records of these sizes in its inbox."""
    partition = Partition(number, 10)
    for offset, size in enumerate(sizes):
        partition.inbox.put(Record(number, offset, bytes(size)))
    return partition


def taken(load: Load) -> list[tuple[int, int]]:
    """Which partitions, and how many records of each."""
    return [(partition.number, len(records)) for partition, records in load]


async def test_a_load_is_limited_and_the_longest_waiting_come_first() -> None:
    """A full inbox leaves the rest for later turns, and no partition is taken twice at once."""
    turns = Turns(pace_seconds=0)
    flooded, small = waiting(0, [1] * (RUN_RECORDS + 5)), waiting(1, [10, 10])
    large, late = waiting(2, [RUN_BYTES * 2, 1]), waiting(3, [1, RUN_BYTES])
    for partition in (flooded, small, large, late):
        turns.put(partition)

    first, second, third = await turns.take(), await turns.take(), await turns.take()
    for load in (first, second, third):
        turns.done(load)
    fourth, fifth = await turns.take(), await turns.take()

    assert taken(first) == [(0, RUN_RECORDS)]
    assert taken(second) == [(1, 2), (3, 1)]
    assert taken(third) == [(2, 1)]
    assert taken(fourth) == [(0, 5), (2, 1)]
    assert taken(fifth) == [(3, 1)]


async def test_a_locked_partition_waits_unless_nothing_else_does() -> None:
    """A tick at work on one partition must not hold up the records of the others."""
    turns = Turns(pace_seconds=0)
    ticking, free = waiting(0, [1]), waiting(1, [1])
    turns.put(ticking)
    turns.put(free)

    async with ticking.lock:
        first, second = await turns.take(), await turns.take()

    assert [[partition.number for partition, _ in load] for load in (first, second)] == [[1], [0]]


async def test_the_process_ends_when_nobody_settles_any_more() -> None:
    """Something unexpected outside of a record: better a restart than partitions that silently stand still."""
    bench = made()
    worker = await started(bench)
    ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: ended.set_result(context["exception"]))

    def failing(partition: int) -> None:
        raise RuntimeError("made up")

    worker.go_on = failing
    worker.offer(said(0, 0))

    async with asyncio.timeout(20):
        error = await ended
    await worker.close()

    assert isinstance(error, Ended)
    assert error.event == "settling ended"
    assert isinstance(error.error, RuntimeError)
