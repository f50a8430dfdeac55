"""The load is what it claims to be: valid reports of about 300 bytes, whole histories, batches of one partition."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

from streams.domain.profile import PumpProfile, profile_from
from streams.domain.telemetry import Report, validate
from streams.topics import MAX_BATCH_REPORTS, decode_batch, partition_of
from tests.benchmarks import fleet

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PUMPS = fleet.pump_ids("T", 400)


def test_a_report_is_valid_and_of_the_size_that_is_claimed() -> None:
    """Running or stalled, it passes the validation of the edge."""
    for stalled in (False, True):
        raw = fleet.as_json(fleet.Moment("T-00001", 7, NOW, stalled))
        report = validate(raw, NOW)

        assert isinstance(report, Report)
        assert (report.pump_id, report.seq, report.event_time) == ("T-00001", 7, NOW)
        assert report.motor == ("stalled" if stalled else "running")
        assert 280 <= len(raw) <= 340


def test_profiles_can_be_imported() -> None:
    """One for each pump, in force when it reports."""
    lines = fleet.profile_lines(PUMPS, NOW - timedelta(days=30))
    profiles = [profile_from(document) for document in map(json.loads, lines)]

    assert [profile.pump_id for profile in profiles if isinstance(profile, PumpProfile)] == list(PUMPS)


def test_a_history_is_whole_and_in_order() -> None:
    """Every pump says everything once, in order, nothing of it later than the end; some pumps stall."""
    moments = list(fleet.history(PUMPS, 6, NOW))

    assert Counter(moment.pump_id for moment in moments) == dict.fromkeys(PUMPS, 6)
    assert [moment.at for moment in moments] == sorted(moment.at for moment in moments)
    assert moments[-1].at < NOW
    assert {moment.pump_id for moment in moments if moment.stalled} == {PUMPS[0], PUMPS[fleet.STALL_EVERY]}


def test_batches_hold_each_report_once_in_order_and_in_its_partition() -> None:
    """As ingest makes them: at most 1,000 reports, sizes that vary."""
    reports = [fleet.received(fleet.as_json(moment), NOW) for moment in fleet.history(PUMPS, 30, NOW)]
    seen: dict[int, list[tuple[str, int]]] = {}
    sizes = []
    for partition, size, value in fleet.batches(reports, 4):
        held = decode_batch(value).reports
        sizes.append(size)
        seen.setdefault(partition, []).extend((one.report.pump_id, one.report.seq) for one in held)

        assert size == len(held) <= MAX_BATCH_REPORTS
        assert {partition_of(one.report.pump_id, 4) for one in held} == {partition}

    expected = [(one.report.pump_id, one.report.seq) for one in reports]
    assert seen == {
        partition: [key for key in expected if partition_of(key[0], 4) == partition] for partition in range(4)
    }
    assert len(set(sizes)) > 10
