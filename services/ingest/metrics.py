"""What ingest counts. Labels come from enums, never from pumps, patients or gateways."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZE_BUCKETS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000)


class Transport(StrEnum):
    """The edge that a report came through."""

    HTTP = "http"
    KAFKA = "kafka"


class RequestOutcome(StrEnum):
    """What became of a request, or of one poll of the Kafka edge."""

    ACCEPTED = "accepted"
    PARTLY_ACCEPTED = "partly_accepted"
    BAD = "bad"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    SLOW = "slow"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    DISCONNECTED = "disconnected"
    FAILED = "failed"


class FeederState(StrEnum):
    """What the feeder does."""

    IDLE = "idle"
    """Nothing waits."""
    FEEDING = "feeding"
    WAITING = "waiting"
    """Reports wait until the worker has caught up."""
    UNREACHABLE = "unreachable"
    """Kafka or PostgreSQL does not answer."""


class Failure(StrEnum):
    """Which part of ingest failed and will try again."""

    PRODUCE = "produce"
    FEEDER = "feeder"
    KAFKA_EDGE = "kafka_edge"
    GATEWAYS = "gateways"
    HEARTBEAT = "heartbeat"
    DEAD_LETTER_LIMIT = "dead_letter_limit"


class Metrics:
    """One registry per process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._count_edges(registry)
        self._watch_requests(registry)
        self._watch_producing(registry)
        self._watch_backlog(registry)

    def _count_edges(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "pumpwatch_requests_total",
            "Requests, or polls of the Kafka edge, by what became of them.",
            ["transport", "outcome"],
            registry=registry,
        )
        self.accepted = Counter(
            "pumpwatch_reports_accepted_total",
            "Reports that Kafka acknowledged, by edge and lane.",
            ["transport", "lane"],
            registry=registry,
        )
        self.rejected = Counter(
            "pumpwatch_reports_rejected_total",
            "Reports not taken, by edge and reason.",
            ["transport", "reason"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "pumpwatch_dead_letter_total", "Records of the Kafka edge put aside.", ["reason"], registry=registry
        )
        self.stopped_partitions = Gauge(
            "pumpwatch_kafka_edge_partitions_stopped",
            "Partitions of the Kafka edge stopped because too much of them was unusable; each needs an operator.",
            registry=registry,
        )

    def _watch_requests(self, registry: CollectorRegistry) -> None:
        self.duration = Histogram(
            "pumpwatch_ingest_duration_seconds",
            "From a request's head to its answer.",
            ["transport"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.open_requests = Gauge("pumpwatch_open_requests", "Requests being worked on.", registry=registry)
        self.gateways = Gauge("pumpwatch_gateways_known", "Gateways with a valid token.", registry=registry)
        self.gateways_read = Gauge(
            "pumpwatch_gateways_read_timestamp_seconds", "When the tokens were last read.", registry=registry
        )
        self.connections_refused = Counter(
            "pumpwatch_connections_refused_total",
            "Connections closed because too many were open, or their request's head did not come in time.",
            ["reason"],
            registry=registry,
        )

    def _watch_producing(self, registry: CollectorRegistry) -> None:
        self.batch_reports = Histogram(
            "pumpwatch_batch_reports", "Reports in a record.", ["lane"], buckets=SIZE_BUCKETS, registry=registry
        )
        self.produce = Histogram(
            "pumpwatch_kafka_produce_seconds",
            "From handing over a record to its acknowledgement by all in-sync replicas.",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.buffered_reports = Gauge(
            "pumpwatch_buffered_reports", "Reports not acknowledged by Kafka yet.", ["lane"], registry=registry
        )
        self.buffered_bytes = Gauge(
            "pumpwatch_buffered_bytes", "Their bytes as they were received.", ["lane"], registry=registry
        )
        self.receiving_bytes = Gauge(
            "pumpwatch_receiving_bytes", "Bytes of bodies held, as sent and unpacked.", registry=registry
        )
        self.refused_full = Counter(
            "pumpwatch_buffer_full_total", "Requests refused because a buffer was full.", ["buffer"], registry=registry
        )
        self.producers_replaced = Counter(
            "pumpwatch_producers_replaced_total", "Producers given up after a failure.", registry=registry
        )
        self.kafka_reachable = Gauge("pumpwatch_kafka_reachable", "1 while Kafka answers ingest.", registry=registry)
        self.failures = Counter(
            "pumpwatch_ingest_failures_total", "Failed tries that are repeated, by part.", ["part"], registry=registry
        )

    def _watch_backlog(self, registry: CollectorRegistry) -> None:
        self.backlog_records = Gauge(
            "pumpwatch_backlog_records", "Records of old reports not yet moved to the worker.", registry=registry
        )
        self.backlog_moved = Counter(
            "pumpwatch_backlog_reports_moved_total", "Old reports moved to the worker.", registry=registry
        )
        self.feeder = Gauge("pumpwatch_feeder_state", "1 for what the feeder does now.", ["state"], registry=registry)
        self.feeder_does(FeederState.IDLE)
        self.feeder_window = Gauge(
            "pumpwatch_feeder_window_reports", "Old reports that may be under way to the worker.", registry=registry
        )
        self.worker_lag = Gauge(
            "pumpwatch_worker_lag_seconds",
            "Age of the oldest telemetry record that the worker has not applied, as the feeder sees it.",
            registry=registry,
        )

    def feeder_does(self, state: FeederState) -> None:
        """Show one state, and no other."""
        for other in FeederState:
            self.feeder.labels(other).set(other is state)
