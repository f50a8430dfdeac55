"""What happens to one telemetry record after another, over a store in memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from aiokafka.errors import KafkaTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.domain.alert import Priority
from streams.domain.rule import NOT_EVALUABLE, Finding, Rule, RuleBook, View
from streams.domain.telemetry import Alarm, Motor, Received
from streams.partition import INBOX_RECORDS, LogRange, Record, Stop
from streams.store import StoredWorld
from streams.topics import decode_batch, encode_batch, partition_of
from tests.services.worker.bench import NOON, RULEBOOK, Bench, Ended, quick_settings, received, record
from tests.services.worker.memory import REFUSED_CHECKSUM, MemoryStore


async def test_a_record_takes_effect_and_moves_the_offset() -> None:
    """Readings, worlds and the offset are written together, and memory equals the rows."""
    bench = Bench()
    worker = await bench.start()

    await worker.handle(record(0, received(0), received(1), received(0, "P-2")))

    assert bench.store.offsets[0] == bench.partition.next_offset == 1
    assert set(bench.store.readings) == {("P-1", 1, 0), ("P-1", 1, 1), ("P-2", 1, 0)}
    assert bench.partition.cache.get(["P-1", "P-2"])[0] == bench.store.pumps
    assert bench.count("pumpwatch_reports_total", disposition="applied") == 3


async def test_a_partition_never_seen_starts_at_the_beginning_of_the_log() -> None:
    """Its row is made with the log's first offset."""
    bench = Bench()

    await bench.start(start=7)

    assert bench.store.offsets[0] == 7
    assert bench.partition.open


async def test_a_record_below_the_stored_offset_is_skipped() -> None:
    """It was applied before, by this process or another."""
    bench = Bench()
    worker = await bench.start()
    await worker.handle(record(0, received(0)))

    await worker.handle(record(0, received(0)))

    assert bench.store.commits == 1
    assert bench.count("pumpwatch_records_total", outcome="skipped") == 1


async def test_a_gap_is_read_again_before_anything_is_applied() -> None:
    """The consumer goes back to the stored offset once, and the records in between then come in order."""
    bench = Bench()
    worker = await bench.start()

    await worker.handle(record(2, received(2)))
    await worker.handle(record(3, received(3)))

    assert bench.store.commits == 0
    assert bench.sought == [(0, 0)]
    for offset in range(4):
        await worker.handle(record(offset, received(offset)))
    assert bench.store.offsets[0] == 4
    assert bench.count("pumpwatch_records_total", outcome="gap") == 2


async def test_a_fenced_worker_stops_the_partition() -> None:
    """Another worker goes on moving the offset: nothing is written, and memory is empty."""
    bench = Bench()
    worker = await bench.start()
    await worker.handle(record(0, received(0)))
    bench.store.offsets[0] = 2
    await worker.handle(record(1, received(1)))
    bench.store.offsets[0] = 3

    await worker.handle(record(2, received(2)))
    await worker.handle(record(3, received(3)))

    assert bench.partition.stopped is Stop.FENCED
    assert bench.store.commits == 1
    assert len(bench.partition.cache) == 0
    assert bench.count("pumpwatch_records_total", outcome="ignored") == 1


async def test_the_last_transaction_of_the_owner_before_us_is_no_reason_to_stop() -> None:
    """It came after we read the offset: the offset is read again, and nothing is applied twice."""
    bench = Bench()
    worker = await bench.start()
    bench.store.offsets[0] = 1

    await worker.handle(record(0, received(0)), record(1, received(1)))

    assert bench.partition.open
    assert set(bench.store.readings) == {("P-1", 1, 1)}
    assert bench.store.offsets[0] == 2


async def test_small_records_share_a_transaction() -> None:
    """Up to a full batch of reports, in order; a record that cannot be used ends the run and is kept alone."""
    bench = Bench(settings=quick_settings(worker_dead_letter_ratio=1))
    worker = await bench.start()
    values = [encode_batch((received(seq),)) for seq in range(20)]
    values.insert(10, b"junk")

    await worker.handle(*(Record(0, offset, value) for offset, value in enumerate(values)))

    assert len(bench.store.readings) == 20
    assert bench.store.offsets[0] == 21
    assert bench.store.commits == 3
    assert [letter.offset for letter in bench.letters.letters] == [10]


async def test_a_refused_report_among_small_records_is_isolated() -> None:
    """The records of its run are then written one by one."""
    bench = Bench(settings=quick_settings(worker_dead_letter_ratio=1))
    worker = await bench.start()
    reports = [received(seq, program_checksum=REFUSED_CHECKSUM if seq == 3 else "ok") for seq in range(6)]

    await worker.handle(*(record(offset, report) for offset, report in enumerate(reports)))

    assert [(letter.offset, letter.index) for letter in bench.letters.letters] == [(3, 0)]
    assert len(bench.store.readings) == 5
    assert bench.store.offsets[0] == 6


async def test_offered_records_are_settled_in_order_and_a_flood_pauses_fetching() -> None:
    """The partition is fetched again when its inbox has room."""
    bench = Bench()
    worker = await bench.start()
    told: list[str] = []
    worker.pause = lambda _: told.append("pause")
    worker.go_on = lambda _: told.append("go on")

    for offset in range(INBOX_RECORDS + 10):
        worker.offer(record(offset, received(offset)))
    async with asyncio.timeout(20):
        while bench.store.offsets[0] < INBOX_RECORDS + 10:
            await asyncio.sleep(0.001)
    await worker.close()

    assert told[0] == "pause"
    assert told[-1] == "go on"
    assert len(bench.store.readings) == INBOX_RECORDS + 10


async def test_a_partition_that_was_stopped_is_not_fetched_again() -> None:
    """Its inbox is empty, which is no reason to fetch what nobody works on."""
    bench = Bench(settings=quick_settings(worker_dead_letters_in_a_row=0))
    worker = await bench.start()
    told: list[str] = []
    worker.pause = lambda _: told.append("pause")
    worker.go_on = lambda _: told.append("go on")

    worker.offer(Record(0, 0, b"junk"))
    async with asyncio.timeout(20):
        while bench.partition.open:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    await worker.close()

    assert told == ["pause"]


async def test_a_flooded_partition_that_is_assigned_again_is_fetched_again() -> None:
    """Its inbox was emptied, so that nothing settled would let fetching go on."""
    bench = Bench()
    worker = await bench.start()
    await worker.close()
    told: list[str] = []
    worker.pause = lambda _: told.append("pause")
    worker.go_on = lambda _: told.append("go on")
    for offset in range(INBOX_RECORDS):
        worker.offer(record(offset, received(offset)))

    await worker.assigned({0: LogRange(0, INBOX_RECORDS, "one")})

    assert told == ["pause", "go on"]


async def test_a_pump_changed_elsewhere_is_read_again() -> None:
    """A person resolved an alert between two batches: the batch is decided anew on the changed world."""
    bench = Bench()
    worker = await bench.start()
    await worker.handle(record(0, received(0)))
    stored = bench.store.pumps["P-1"]
    bench.store.pumps["P-1"] = StoredWorld(stored.revision + 1, stored.world, stored.profiles)

    await worker.handle(record(1, received(1)))

    assert bench.store.offsets[0] == 2
    assert bench.store.pumps["P-1"].revision == 3
    assert bench.count("pumpwatch_transaction_failures_total", reason="stale") == 1


@pytest.mark.parametrize("fault", [OSError("reset"), TimeoutError(), ConnectionResetError()])
async def test_a_lost_commit_answer_takes_effect_once(fault: Exception) -> None:
    """The connection was cut between COMMIT and its answer: the stored offset tells that it was done."""
    bench = Bench(MemoryStore(after=[fault]))
    worker = await bench.start()

    await worker.handle(record(0, received(0)))
    await worker.handle(record(1, received(1)))

    assert bench.store.commits == 2
    assert set(bench.store.readings) == {("P-1", 1, 0), ("P-1", 1, 1)}


async def test_a_transient_failure_is_tried_again() -> None:
    """Nothing was written; the next try writes everything."""
    bench = Bench(MemoryStore(before=[OSError("refused"), TimeoutError()]))
    worker = await bench.start()

    await worker.handle(record(0, received(0)))

    assert bench.store.offsets[0] == 1
    assert bench.count("pumpwatch_transaction_failures_total", reason="transient") == 2


async def test_records_that_took_too_long_are_tried_again_one_by_one_at_first() -> None:
    """The same run would take as long again, until the process ends and the next one begins with it."""
    bench = Bench(MemoryStore(before=[TimeoutError()]))
    worker = await bench.start()

    await worker.handle(*(record(offset, received(offset)) for offset in range(4)))

    assert bench.store.offsets[0] == 4
    assert bench.store.commits == 2


async def test_a_buffer_sent_newest_first_is_folded_once_for_each_record() -> None:
    """Else the whole window would be folded for each of its reports, longer than a transaction may take."""
    judged = 0

    def counting(view: View, rule: Rule) -> Finding:
        nonlocal judged
        judged += 1
        return NOT_EVALUABLE

    rule = next(iter(RULEBOOK.event_rules))
    bench = Bench(rules=RuleBook((replace(rule, condition=counting, reads=("*",)),)))
    worker = await bench.start()
    buffer = [received(seq, at=NOON - timedelta(minutes=600 - seq)) for seq in range(600)]
    backwards = [replace(one, received_at=NOON) for one in reversed(buffer)]

    await worker.handle(*(record(offset, *backwards[200 * offset :][:200]) for offset in range(3)))
    await worker.handle(record(3, backwards[0]))

    assert len(bench.store.readings) == 600
    assert bench.partition.cache.get(["P-1"])[0]["P-1"].world.arrivals.next_seq == 600
    assert judged < 10 * len(buffer)


async def test_patience_with_postgresql_ends() -> None:
    """Down for longer than the budget: the process ends, and nothing was acknowledged as done."""
    bench = Bench(MemoryStore(before=[OSError("refused")] * 100), settings=quick_settings(worker_retry_seconds=0.2))
    worker = await bench.start()

    with pytest.raises(Ended) as ended:
        await worker.handle(record(0, received(0)))

    assert isinstance(ended.value.error, OSError)
    assert bench.store.offsets[0] == 0


async def test_what_nobody_expected_ends_the_process() -> None:
    """Faust would acknowledge the record; the next start must read it again."""
    bench = Bench(MemoryStore(before=[KeyError("bug")]))
    worker = await bench.start()

    with pytest.raises(Ended):
        await worker.handle(record(0, received(0)))

    assert bench.store.offsets[0] == 0


async def test_a_cancelled_transaction_leaves_nothing_to_trust() -> None:
    """Cancelled after the commit: the next record is judged by the stored offset, not by memory."""
    bench = Bench(MemoryStore(after=[asyncio.CancelledError()]))
    worker = await bench.start()

    with pytest.raises(asyncio.CancelledError):
        await worker.handle(record(0, received(0)))
    await worker.handle(record(0, received(0)))
    await worker.handle(record(1, received(1)))

    assert set(bench.store.readings) == {("P-1", 1, 0), ("P-1", 1, 1)}
    assert bench.store.offsets[0] == 2


async def test_an_undecodable_record_is_kept_whole() -> None:
    """Its original bytes and origin go to the dead letters before the offset moves."""
    bench = Bench()
    worker = await bench.start()

    await worker.handle(Record(0, 0, b"\xff\x00 no batch"))
    await worker.handle(record(1, received(0)))

    [letter] = bench.letters.letters
    headers = dict(letter.headers(bench.clock()))
    assert letter.value == b"\xff\x00 no batch"
    assert headers["reason"] == b"undecodable"
    assert (headers["origin_topic"], headers["origin_partition"]) == (b"pump.telemetry.v1", b"0")
    assert (headers["origin_offset"], headers["error"]) == (b"0", b"MalformedBatch")
    assert bench.store.offsets[0] == 2


async def test_a_record_with_a_pump_of_another_partition_is_kept_whole() -> None:
    """One record must never touch the rows of two partitions."""
    bench = Bench(MemoryStore(partitions=8), settings=quick_settings(partitions=8))
    pumps = [f"P-{number}" for number in range(60)]
    ours = next(pump for pump in pumps if partition_of(pump, 8) == 0)
    other = next(pump for pump in pumps if partition_of(pump, 8) == 1)
    worker = await bench.start()
    mixed = record(0, received(0, ours), received(0, other))

    await worker.handle(mixed)

    assert [letter.value for letter in bench.letters.letters] == [mixed.value]
    assert bench.store.readings == {}
    assert bench.store.offsets[0] == 1


async def test_a_report_that_postgresql_refuses_is_isolated() -> None:
    """Only the offenders go to the dead letters, as records that can be fed again; the rest takes effect."""
    bench = Bench(settings=quick_settings(worker_dead_letter_ratio=1))
    worker = await bench.start()
    good = [received(seq, pump_id) for pump_id in ("P-1", "P-2", "P-3") for seq in range(10)]
    bad = [
        received(10, "P-2", program_checksum=REFUSED_CHECKSUM),
        received(7, "P-4", program_checksum=REFUSED_CHECKSUM),
    ]

    await worker.handle(record(0, *good[:15], bad[0], *good[15:], bad[1]))

    assert {decode_batch(letter.value).reports for letter in bench.letters.letters} == {(bad[0],), (bad[1],)}
    assert {letter.index for letter in bench.letters.letters} == {15, 31}
    assert len(bench.store.readings) == 30
    assert bench.store.offsets[0] == 1


async def test_a_refused_report_that_leaves_quarantine_takes_no_other_with_it() -> None:
    """It stays where it was kept; the reports that explain its time take effect, and so do those after them."""
    bench = Bench()
    worker = await bench.start()
    ahead = [
        Received(
            report=replace(
                received(seq, at=at, program_checksum=REFUSED_CHECKSUM if seq == 0 else "ok").report,
                event_time=at + timedelta(hours=3),
            ),
            received_at=at,
        )
        for seq, at in enumerate(NOON + timedelta(minutes=15 * number) for number in range(6))
    ]

    for offset, one in enumerate(ahead):
        await worker.handle(record(offset, one))

    assert bench.letters.letters == []
    assert [one.received.report.seq for one in bench.store.quarantine] == [0, 1, 2, 3]
    assert {4, 5} <= {seq for _, _, seq in bench.store.readings}
    assert bench.store.offsets[0] == 6


async def test_a_report_that_no_rule_can_judge_is_isolated() -> None:
    """A mistake in a rule must not stop the partition: the report is kept, and its pump goes on without it."""

    def broken(view: View, rule: Rule) -> Finding:
        if view.state.flow_ml_per_day == 13.0:
            raise ZeroDivisionError
        return NOT_EVALUABLE

    rule = next(iter(RULEBOOK.event_rules))
    bench = Bench(rules=RuleBook((replace(rule, condition=broken, reads=("*",)),)))
    worker = await bench.start()
    odd = received(1, flow_programmed_ml_per_day=13.0)

    await worker.handle(record(0, received(0), odd, received(2), received(0, "P-2")))

    [letter] = bench.letters.letters
    assert (letter.value, letter.reason, letter.error) == (encode_batch((odd,)), "undecidable", "ZeroDivisionError")
    assert set(bench.store.readings) == {("P-1", 1, 0), ("P-1", 1, 2), ("P-2", 1, 0)}
    assert bench.store.offsets[0] == 1


async def test_a_conflict_of_a_pump_that_cannot_be_judged_is_set_aside_all_the_same() -> None:
    """A mistake in a rule must not end the process, and each next one, at the same record."""
    judged = 0

    def broken(view: View, rule: Rule) -> Finding:
        nonlocal judged
        judged += 1
        if judged > 1:
            raise ZeroDivisionError
        return NOT_EVALUABLE

    rule = next(iter(RULEBOOK.event_rules))
    bench = Bench(rules=RuleBook((replace(rule, condition=broken, reads=("*",)),)))
    worker = await bench.start()

    await worker.handle(record(0, received(0)))
    await worker.handle(record(1, received(0, reservoir_estimated_ml=3.0)))

    assert [one.reason for one in bench.store.quarantine] == ["conflict"]
    assert bench.store.offsets[0] == 2
    assert bench.count("pumpwatch_conflicts_untold_total") == 1


async def test_the_offset_waits_for_the_dead_letter() -> None:
    """While the dead letter is not safe, the record is not done."""
    bench = Bench()
    bench.letters.faults = [KafkaTimeoutError("no answer")]
    worker = await bench.start()

    await worker.handle(Record(0, 0, b"junk"))

    assert len(bench.letters.letters) == 1
    assert bench.store.offsets[0] == 1


async def test_a_restart_does_not_forget_the_limit_in_a_row() -> None:
    """Two dead letters in a row are allowed; a third stops the partition, in this process and in the next."""
    bench = Bench(settings=quick_settings(worker_dead_letters_in_a_row=2))
    worker = await bench.start()
    for offset in range(3):
        await worker.handle(Record(0, offset, b"junk"))
    stopped_first = bench.partition.stopped

    worker = await bench.start()
    await worker.handle(Record(0, 2, b"junk"))

    assert stopped_first is bench.partition.stopped is Stop.DEAD_LETTERS
    assert len(bench.letters.letters) == 2
    assert bench.store.offsets[0] == 2


async def test_usable_reports_end_a_row_of_dead_letters() -> None:
    """The count starts again."""
    bench = Bench(settings=quick_settings(worker_dead_letters_in_a_row=2, worker_dead_letter_ratio=1))
    worker = await bench.start()
    values = [b"junk", b"junk", encode_batch((received(0),)), b"junk", b"junk"]

    for offset, value in enumerate(values):
        await worker.handle(Record(0, offset, value))

    assert bench.partition.open
    assert bench.store.offsets[0] == 5
    assert bench.limits.counts[0] == 2


async def test_another_report_under_the_same_identity_is_quarantined() -> None:
    """The same report again changes nothing; a different one is kept apart, in the same batch or a later one."""
    bench = Bench()
    worker = await bench.start()

    await worker.handle(record(0, received(0), received(0), received(0, reservoir_estimated_ml=3.0)))
    await worker.handle(record(1, received(0), received(0, reservoir_estimated_ml=4.0)))

    assert [one.reason for one in bench.store.quarantine] == ["conflict", "conflict"]
    assert bench.store.readings[("P-1", 1, 0)] == received(0)
    assert bench.count("pumpwatch_reports_total", disposition="duplicate") == 2
    assert bench.count("pumpwatch_reports_total", disposition="conflict") == 2


async def test_a_conflict_is_told_in_the_transaction_that_puts_it_aside() -> None:
    """Whether the pump has other news in the record or none, and not again when the record is delivered again."""
    bench = Bench()
    worker = await bench.start()
    await worker.handle(record(0, received(0), received(0, "P-2")))
    conflict, grave = received(0, reservoir_estimated_ml=3.0), received(0, "P-2", alarms=(Alarm.SAFE_STATE,))

    await worker.handle(record(1, conflict))
    first = list(bench.store.events)
    await worker.handle(record(2, received(1, "P-2"), grave))
    await worker.handle(record(2, received(1, "P-2"), grave))
    open_alerts = [
        (pump_id, one.rule_id, one.priority)
        for pump_id, stored in sorted(bench.store.pumps.items())
        for one in stored.world.ledger
    ]

    assert [kind for kind, _ in first] == ["opened"]
    assert [kind for kind, _ in bench.store.events[1:]] == ["opened"]
    assert open_alerts == [("P-1", "COM-02", Priority.MEDIUM), ("P-2", "COM-02", Priority.HIGH)]
    assert (await bench.store.worlds(["P-2"]))["P-2"].revision == 2


async def test_what_leaves_quarantine_becomes_a_reading_once() -> None:
    """A clock three hours ahead: four reports wait for the fifth, and a restart in between forgets none of them."""
    bench = Bench()
    worker = await bench.start()
    ahead = [
        Received(report=replace(one.report, event_time=one.report.event_time + timedelta(hours=3)), received_at=at)
        for one, at in ((received(15 * seq), received(15 * seq).received_at) for seq in range(5))
    ]
    ahead = [replace(one, report=replace(one.report, seq=seq)) for seq, one in enumerate(ahead)]

    await worker.handle(record(0, *ahead[:3]))
    worker = await bench.start()
    await worker.handle(record(1, *ahead[3:]))
    await worker.handle(record(2, ahead[0], replace(ahead[1], report=replace(ahead[1].report, motor=Motor.STALLED))))

    assert [(one.reason, one.received.report.seq) for one in bench.store.quarantine] == [
        *(("future", seq) for seq in range(4)),
        ("conflict", 1),
    ]
    assert sorted(seq for _, _, seq in bench.store.readings) == [0, 1, 2, 3, 4]
    assert bench.store.readings[("P-1", 1, 0)].report.event_time == ahead[0].report.event_time
    assert bench.count("pumpwatch_reports_total", disposition="released") == 4
    assert bench.count("pumpwatch_reports_total", disposition="applied") == 1


async def test_a_buffer_sent_newest_first_leaves_and_enters_quarantine_like_any_other() -> None:
    """A clock three hours ahead: what waited stays until enough contacts explain it, and then all of it counts once."""
    bench = Bench()
    worker = await bench.start()
    buffer = [received(15 * seq, at=NOON - timedelta(hours=9) + timedelta(minutes=15 * seq)) for seq in range(8)]
    ahead = [
        Received(
            report=replace(one.report, boot_id=0, seq=seq, event_time=one.report.event_time + timedelta(hours=3)),
            received_at=NOON,
        )
        for seq, one in enumerate(buffer)
    ]

    await worker.handle(record(0, ahead[0], ahead[7]))
    await worker.handle(record(1, ahead[6], ahead[5]))
    waiting = [one.received.report.seq for one in bench.store.quarantine]
    taken = set(bench.store.readings)
    await worker.handle(record(2, *reversed(ahead[1:5])))

    assert (waiting, taken) == ([0, 7, 6, 5], set())
    assert sorted(seq for _, _, seq in bench.store.readings) == list(range(8))
    assert len(bench.store.quarantine) == 4


async def test_a_conflict_with_a_quarantined_report_is_one_as_well() -> None:
    """It is not among the readings, and still was the first under its identity."""
    bench = Bench()
    worker = await bench.start()
    first = received(0, at=NOON + timedelta(hours=2))
    first = replace(first, received_at=NOON, report=replace(first.report, gateway_time=NOON))
    other = replace(first, report=replace(first.report, motor=Motor.STALLED))

    await worker.handle(record(0, first))
    await worker.handle(record(1, first, other))

    assert [one.reason for one in bench.store.quarantine] == ["future", "conflict"]
    assert bench.count("pumpwatch_reports_total", disposition="duplicate") == 1


async def test_a_revoked_partition_leaves_nothing_in_memory() -> None:
    """Its next owner writes from now on."""
    bench = Bench()
    worker = await bench.start()
    await worker.handle(record(0, received(0)))
    partition = bench.partition

    worker.revoked([0])
    await worker.handle(record(1, received(1)))

    assert worker.partitions == []
    assert len(partition.cache) == 0
    assert bench.store.offsets[0] == 1


@pytest.mark.parametrize(
    ("log", "stop"),
    [
        (LogRange(6, 9, "one"), Stop.LOG_START),
        (LogRange(0, 4, "one"), Stop.LOG_END),
        (LogRange(0, 9, "two"), Stop.OTHER_TOPIC),
        (LogRange(5, 5, "one"), None),
        (LogRange(0, 9, None), None),
    ],
)
async def test_a_log_that_does_not_fit_the_stored_offset_is_refused(log: LogRange, stop: Stop | None) -> None:
    """Deleted unread, lost by the broker, or another topic under the same name: nothing is guessed."""
    bench = Bench(MemoryStore(offsets={0: 5}, topic_ids={0: "one"}))

    worker = await bench.start(log.end, log.start, log.topic_id)
    await worker.handle(record(5, received(0)))

    assert bench.partition.stopped is stop
    assert bool(bench.store.readings) is (stop is None)


async def test_a_changed_profile_is_not_remembered_from_work_under_way() -> None:
    """The news came while a batch was being written: the next one asks PostgreSQL for the profile."""
    bench = Bench()
    worker = await bench.start()
    known, missing = bench.partition.cache.get(["P-1"])

    worker.forget_pump("P-1")
    bench.partition.cache.put("P-1", (await bench.store.worlds(missing))["P-1"])

    assert known == {}
    assert bench.partition.cache.get(["P-1"]) == ({}, ["P-1"])


FAULTS = st.sampled_from([None, None, OSError("reset"), TimeoutError(), asyncio.CancelledError()])


@settings(deadline=None, max_examples=60)
@given(
    before=st.lists(FAULTS, max_size=6),
    after=st.lists(FAULTS, max_size=6),
    starts=st.lists(st.integers(0, 5), min_size=1, max_size=6),
)
def test_any_failures_and_deliveries_end_in_the_same_rows(
    before: list[BaseException | None], after: list[BaseException | None], starts: list[int]
) -> None:
    """Whatever is delivered again, cancelled or cut off: the end is that of one clean run."""
    records = [record(offset, received(offset), received(offset, "P-2"), received(offset)) for offset in range(6)]

    async def run(bench: Bench, deliveries: list[int]) -> MemoryStore:
        worker = await bench.start()
        for first in deliveries:
            for one in records[first:]:
                try:
                    await worker.handle(one)
                except asyncio.CancelledError:
                    break
        return bench.store

    clean = asyncio.run(run(Bench(), [0]))
    messy = asyncio.run(run(Bench(MemoryStore(before=before, after=after)), [*starts, *[0] * 13]))

    assert messy.offsets == clean.offsets
    assert messy.readings == clean.readings
    assert messy.pumps == clean.pumps
    assert messy.events == clean.events
