"""What the worker counts. Labels come from enums and partition numbers, never from pumps, patients or gateways."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

LATENCY_BUCKETS: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0)
AGE_BUCKETS: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0, 604_800.0)
WORK_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
SIZE_BUCKETS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000)
APPLIED_STAGE: Final = "ingest_to_applied"


class RecordOutcome(StrEnum):
    """What became of a telemetry record."""

    APPLIED = "applied"
    SKIPPED = "skipped"
    """Below the stored offset: applied before."""
    GAP = "gap"
    """Above the stored offset: not applied, read again from the stored one."""
    IGNORED = "ignored"
    """Of a partition that is stopped or not ours any more."""


class Failure(StrEnum):
    """Why a transaction was not committed, or its outcome is unknown."""

    TRANSIENT = "transient"
    STALE = "stale"
    FENCED = "fenced"
    REFUSED = "refused"


class Distribution(Collector):
    """A histogram that takes a whole batch of values at once; one value costs a bisection and no lock."""

    def __init__(self, name: str, text: str, buckets: tuple[float, ...], labels: dict[str, str] | None = None) -> None:
        self._name, self._text, self._buckets = name, text, buckets
        self._labels = labels or {}
        self._counts = [0] * (len(buckets) + 1)
        self._sum = 0.0

    def observe(self, values: Iterable[float]) -> None:
        """Count values of one batch."""
        counts, buckets = self._counts, self._buckets
        for value in values:
            counts[bisect_left(buckets, value)] += 1
            self._sum += value

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The histogram in cumulative buckets."""
        total, cumulative = 0, []
        for bound, count in zip((*self._buckets, float("inf")), self._counts, strict=True):
            total += count
            cumulative.append((floatToGoString(bound), float(total)))  # type: ignore[no-untyped-call]
        family = HistogramMetricFamily(self._name, self._text, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), cumulative, self._sum)
        yield family


class Metrics:
    """One registry per process; counters of a fixed label set are looked up once."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._count_reports(registry)
        self._time_work(registry)
        self._watch_partitions(registry)

    def _count_reports(self, registry: CollectorRegistry) -> None:
        self.reports = Counter(
            "pumpwatch_reports_total", "Reports taken, by what became of them.", ["disposition"], registry=registry
        )
        self.records = Counter(
            "pumpwatch_records_total", "Telemetry records, by what became of them.", ["outcome"], registry=registry
        )
        self.dead_letters = Counter(
            "pumpwatch_dead_letter_total",
            "Reports or whole records put aside as dead letters.",
            ["reason"],
            registry=registry,
        )
        self.alert_events = Counter(
            "pumpwatch_alert_events_total", "Alert events decided and stored.", ["kind", "priority"], registry=registry
        )
        self.untold = Counter(
            "pumpwatch_conflicts_untold_total",
            "Conflicting reports set aside without an alert, because their pump could not be judged.",
            registry=registry,
        )
        self.event_age = Distribution(
            "pumpwatch_event_age_seconds", "From the pump's own time of a report to its commit.", AGE_BUCKETS
        )
        self.latency = Distribution(
            "pumpwatch_alert_latency_seconds",
            "From acceptance of a report to a stage of its processing.",
            LATENCY_BUCKETS,
            {"stage": APPLIED_STAGE},
        )
        registry.register(self.event_age)
        registry.register(self.latency)
        self.applied_records = self.records.labels(RecordOutcome.APPLIED)
        self.failures = Counter(
            "pumpwatch_transaction_failures_total",
            "Transactions not committed, or with an unknown outcome, by reason.",
            ["reason"],
            registry=registry,
        )

    def _time_work(self, registry: CollectorRegistry) -> None:
        self.batch_reports = Histogram(
            "pumpwatch_batch_reports", "Reports in a telemetry record.", buckets=SIZE_BUCKETS, registry=registry
        )
        self.step_seconds = Histogram(
            "pumpwatch_step_seconds", "Time to decide one record's reports.", buckets=WORK_BUCKETS, registry=registry
        )
        self.transaction_seconds = Histogram(
            "pumpwatch_transaction_seconds",
            "Time of the transaction of one record.",
            buckets=WORK_BUCKETS,
            registry=registry,
        )
        self.tick_seconds = Histogram(
            "pumpwatch_tick_seconds", "Time of one look at due pumps.", buckets=WORK_BUCKETS, registry=registry
        )
        self.ticks = Counter(
            "pumpwatch_ticks_total", "Pumps looked at because a deadline passed, by outcome.", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self.cached_pumps = Gauge("pumpwatch_cached_pumps", "Pumps whose world is in memory.", registry=registry)
        self.cache_requests = Counter(
            "pumpwatch_cache_requests_total", "Worlds asked of the cache, by outcome.", ["outcome"], registry=registry
        )
        self.cache_hits = self.cache_requests.labels("hit")
        self.cache_misses = self.cache_requests.labels("miss")

    def _watch_partitions(self, registry: CollectorRegistry) -> None:
        self.lag = Gauge(
            "pumpwatch_consumer_lag_messages",
            "Telemetry records on the broker that are not applied yet.",
            ["partition"],
            registry=registry,
        )
        self.last_processed = Gauge(
            "pumpwatch_last_processed_timestamp_seconds", "When a record was last applied.", registry=registry
        )
        self.partitions = Gauge(
            "pumpwatch_partitions_assigned", "Partitions that this worker works on.", registry=registry
        )
        self.stopped = Gauge(
            "pumpwatch_partitions_stopped",
            "Assigned partitions that are not worked on, by reason; each needs an operator or a takeover.",
            ["reason"],
            registry=registry,
        )
        self.watch_failures = Counter(
            "pumpwatch_progress_checks_failed_total", "Looks at the log's end offsets that failed.", registry=registry
        )
        self.listener_losses = Counter(
            "pumpwatch_profile_listener_losses_total",
            "Times the connection that tells of changed profiles was lost.",
            registry=registry,
        )
        self.maintenance_failures = Counter(
            "pumpwatch_maintenance_failures_total", "Runs of the store's upkeep that failed.", registry=registry
        )
