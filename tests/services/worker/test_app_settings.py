"""The settings of the Faust app that decide whether reports can be lost, and the worker's metrics."""

from __future__ import annotations

from typing import cast

import pytest
from aiokafka.cluster import ClusterMetadata
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from streams.app import create_app
from streams.consumer import Assignor, TopicUnknown
from streams.metrics import LATENCY_BUCKETS, Distribution, Metrics
from tests.services.worker.bench import Bench, quick_settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("processing_guarantee", "at_least_once"),
        ("broker_session_timeout", 10),
        ("broker_heartbeat_interval", 3),
        ("broker_request_timeout", 40),
        ("broker_max_poll_interval", 300),
        ("broker_rebalance_timeout", 60),
        ("broker_max_poll_records", 1000),
        ("consumer_max_fetch_size", 256 * 1024),
        ("broker_commit_interval", 1.0),
        ("broker_commit_every", 2000),
        ("consumer_auto_offset_reset", "earliest"),
        ("stream_buffer_maxsize", 64),
        ("stream_wait_empty", True),
        ("stream_recovery_delay", 0),
        ("stream_processing_timeout", 60),
        ("broker_commit_livelock_soft_timeout", 60),
        ("producer_acks", -1),
        ("producer_request_timeout", 30),
        ("table_standby_replicas", 0),
        ("topic_allow_declare", False),
        ("topic_disable_leader", True),
        ("key_serializer", "raw"),
        ("value_serializer", "raw"),
        ("web_enabled", False),
        ("worker_redirect_stdouts", False),
        ("cython_optimizations", False),
    ],
)
async def test_settings_that_matter_are_not_faust_defaults_by_accident(name: str, value: object) -> None:
    """An upgrade of Faust must not change what these mean."""
    bench = Bench()
    worker = await bench.start()

    app = create_app(bench.settings, worker)

    found = getattr(app.conf, name)
    assert getattr(found, "value", found) == value


async def test_the_consumer_group_carries_the_topic_prefix() -> None:
    """Two systems on one broker must not take each other's partitions; a name makes membership static."""
    bench = Bench(settings=quick_settings(topic_prefix="ward-7.", worker_name="worker-0", kafka="a:9092, b:9093"))
    worker = await bench.start()

    app = create_app(bench.settings, worker)

    assert app.conf.id == "ward-7.pumpwatch-streams"
    assert app.conf.consumer_group_instance_id == "worker-0"
    assert [str(url) for url in app.conf.broker_consumer] == ["kafka://a:9092", "kafka://b:9093"]


async def test_a_leader_gives_nothing_out_before_it_knows_the_topic() -> None:
    """Members with stable names would keep an empty assignment through every restart, and work on nothing."""
    bench = Bench()
    worker = await bench.start()
    assignor = cast(Assignor, create_app(bench.settings, worker).assignor)
    members = {name: assignor.metadata({worker.topic}) for name in ("worker-1", "worker-2")}
    cluster = ClusterMetadata()

    with pytest.raises(TopicUnknown, match=worker.topic):
        assignor.assign(cluster, members)
    cluster._partitions = {worker.topic: dict.fromkeys(range(4))}
    given_out = assignor.assign(cluster, members)

    partitions = [number for one in given_out.values() for _, numbers in one.assignment for number in numbers]
    assert sorted(partitions) == [0, 1, 2, 3]


@given(st.lists(st.floats(0, 400)))
def test_a_distribution_is_a_histogram(values: list[float]) -> None:
    """A batch at once gives the same text as value by value."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    distribution = Distribution("age_seconds", "Age.", LATENCY_BUCKETS)
    ours.register(distribution)
    histogram = Histogram("age_seconds", "Age.", buckets=LATENCY_BUCKETS, registry=theirs)

    distribution.observe(values)
    for value in values:
        histogram.observe(value)

    def counts(registry: CollectorRegistry) -> list[bytes]:
        return [line for line in generate_latest(registry).splitlines() if b"_bucket" in line or b"_count" in line]

    assert counts(ours) == counts(theirs)


async def test_no_metric_names_a_pump() -> None:
    """Labels come from enums and partition numbers."""
    metrics = Metrics()

    labels = {label for metric in metrics.registry.collect() for one in metric.samples for label in one.labels}

    assert labels <= {"disposition", "outcome", "reason", "stage", "le", "partition", "kind", "priority"}
