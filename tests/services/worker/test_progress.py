"""Whether the worker knows when it does not get on, and how far it has heard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest

from streams import progress as module
from streams.partition import LogRange, Record, Stop
from streams.progress import Log, Progress
from tests.services.worker.bench import NOON, Bench, Ended, fatal, quick_settings, received, record

PATIENCE = 60.0


class Broker:
    """The broker's log ends; an exception to raise instead."""

    def __init__(self, end: int) -> None:
        self.end = end
        self.fault: Exception | None = None
        self.moving = False
        self.waiting: set[int] = set()
        self.identity: str | None = "one"

    async def topic_id(self) -> str | None:
        """The topic's id."""
        return self.identity

    async def backlogged(self) -> set[int]:
        """Partitions with old reports that are not in the log yet."""
        return self.waiting

    async def ends(self, numbers: Sequence[int]) -> Mapping[int, int]:
        """The same end for every partition."""
        if self.fault is not None:
            raise self.fault
        return dict.fromkeys(numbers, self.end)


def watching(bench: Bench, broker: Broker) -> Progress:
    """The bench's present process, watched."""
    log = Log(broker.ends, broker.topic_id, broker.backlogged)
    return Progress(bench.settings, bench.worker, log, lambda: broker.moving, bench.metrics, bench.clock, fatal)


def let_pass(bench: Bench, watched: Progress, seconds: float) -> None:
    """As if so much monotonic time had passed since the last progress and the last answer."""
    bench.partition.progress_at -= seconds
    watched._answered_at -= seconds


async def test_a_worker_that_is_up_to_date_is_live_for_ever() -> None:
    """No records for hours is no stall."""
    bench = Bench()
    await bench.start(end=0)
    watched = watching(bench, Broker(0))

    let_pass(bench, watched, 10 * PATIENCE)
    await watched.once()

    assert watched.stalled() is None


async def test_records_that_wait_too_long_end_the_process() -> None:
    """First the liveness check fails, then the process exits."""
    bench = Bench()
    await bench.start()
    watched = watching(bench, Broker(5))
    await watched.once()
    alive = watched.stalled()

    let_pass(bench, watched, PATIENCE + 1)
    await watched.once()
    stalled = watched.stalled()
    watched._reason_at -= module.EXIT_AFTER_SECONDS + 1

    assert alive is None
    assert stalled is not None
    with pytest.raises(Ended):
        await watched.run()


async def test_slow_progress_is_progress() -> None:
    """One record in a minute, and the worker stays."""
    bench = Bench()
    await bench.start()
    watched = watching(bench, Broker(5))

    let_pass(bench, watched, PATIENCE + 1)
    await bench.worker.handle(record(0, received(0)))
    await watched.once()

    assert watched.stalled() is None
    assert bench.count("pumpwatch_consumer_lag_messages", partition="0") == 4


async def test_a_fenced_partition_that_stays_ours_is_a_stall() -> None:
    """The broker says it is ours, PostgreSQL says it is not: only a new start finds out."""
    bench = Bench()
    await bench.start()
    bench.worker.stop(bench.partition, Stop.FENCED)
    watched = watching(bench, Broker(0))

    let_pass(bench, watched, PATIENCE + 1)
    watched._answered_at += PATIENCE + 1
    await watched.once()

    assert watched.stalled() is not None


async def test_a_partition_that_waits_for_an_operator_is_unready_not_dead() -> None:
    """A restart would not help, and would stop the other partitions too."""
    bench = Bench(settings=quick_settings(worker_dead_letters_in_a_row=0))
    await bench.start()
    await bench.worker.handle(Record(0, 0, b"junk"))
    watched = watching(bench, Broker(5))

    let_pass(bench, watched, PATIENCE + 1)
    await watched.once()

    assert watched.stalled() is None
    assert watched.stopped() == "partitions stopped: 0 (dead_letters)"
    assert bench.count("pumpwatch_partitions_stopped", reason="dead_letters") == 1


async def test_a_silent_broker_is_a_stall() -> None:
    """Faust would wait for ever."""
    bench = Bench()
    await bench.start()
    log = Broker(0)
    watched = watching(bench, log)
    log.fault = TimeoutError()

    await watched.once()
    at_first = watched.stalled()
    let_pass(bench, watched, PATIENCE + 1)
    await watched.once()

    assert at_first is None
    assert watched.stalled() == "the broker does not answer"


async def test_a_move_of_partitions_that_never_ends_is_a_stall() -> None:
    """Without partitions nothing can wait for too long, and all the same nothing is applied."""
    bench = Bench()
    worker = await bench.start()
    log = Broker(0)
    watched = watching(bench, log)
    worker.revoked([0])
    log.moving = True

    await watched.once()
    at_first = watched.stalled()
    watched._still_at -= PATIENCE + 1
    await watched.once()

    assert at_first is None
    assert watched.stalled() == "partitions are being moved without end"


async def test_how_far_was_heard_follows_the_log() -> None:
    """Up to the last applied report while records wait, up to now (less what is on its way) when none do."""
    bench = Bench()
    await bench.start()
    watched = watching(bench, Broker(2))

    await bench.worker.handle(record(0, received(3)))
    await watched.once()
    behind = bench.partition.heard_until
    await bench.worker.handle(record(1, received(4)))
    await watched.once()

    assert behind == received(3).received_at
    assert bench.partition.heard_until == NOON - timedelta(seconds=2)


async def test_nobody_is_heard_before_it_is_known_whether_old_reports_wait() -> None:
    """After each assignment: until the backlog was asked, what it holds may be what a silent pump said."""
    bench = Bench()
    worker = await bench.start(backlog_known=False)
    watched = watching(bench, Broker(1))

    await worker.handle(record(0, received(3)))
    at_first = bench.partition.heard_until
    await watched.once()
    known = bench.partition.heard_until
    worker.revoked([0])
    await worker.assigned({0: LogRange(0, 1, "one")})
    await worker.handle(record(1, received(4)))

    assert at_first is None
    assert known == NOON - timedelta(seconds=2)
    assert bench.partition.heard_until is None


async def test_nobody_is_heard_while_old_reports_wait_in_the_backlog() -> None:
    """They are accepted, so their pumps are not silent; once they are moved and applied, hearing goes on."""
    bench = Bench()
    await bench.start()
    log = Broker(1)
    log.waiting = {bench.partition.number}
    watched = watching(bench, log)

    await watched.once()
    await bench.worker.handle(record(0, received(3)))
    await watched.once()
    meanwhile = bench.partition.heard_until
    log.waiting = set()
    await watched.once()

    assert meanwhile is None
    assert bench.partition.heard_until == NOON - timedelta(seconds=2)


@pytest.mark.parametrize(
    ("end", "identity", "stop"),
    [(1, "one", None), (0, "one", Stop.LOG_END), (5, "two", Stop.OTHER_TOPIC), (1, None, None)],
    ids=["as applied", "shortened", "made anew", "no ids"],
)
async def test_a_log_that_is_not_the_one_applied_stops_the_partition(
    end: int, identity: str | None, stop: Stop | None
) -> None:
    """Nobody moves partitions for it, and what is written there now would be taken for applied long ago."""
    bench = Bench()
    await bench.start()
    broker = Broker(1)
    watched = watching(bench, broker)
    await bench.worker.handle(record(0, received(3)))
    broker.end, broker.identity = end, identity

    await watched.once()

    assert bench.partition.stopped is stop
    heard = received(3).received_at if stop else NOON - timedelta(seconds=2)
    assert bench.partition.heard_until == heard


async def test_an_offset_that_is_not_certain_is_not_compared_with_the_log() -> None:
    """After a failed write PostgreSQL is asked first."""
    bench = Bench()
    await bench.start()
    await bench.worker.handle(record(0, received(3)))
    bench.partition.forget()

    await watching(bench, Broker(0)).once()

    assert bench.partition.open
