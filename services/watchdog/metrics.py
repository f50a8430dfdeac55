"""What the watchdog counts."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The watchdog's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rounds = Counter(
            "pumpwatch_canary_rounds_total",
            "Rounds of the synthetic alarm, by outcome.",
            ("outcome",),
            registry=self.registry,
        )
        self.round_seconds = Histogram(
            "pumpwatch_canary_page_seconds",
            "From sending the synthetic alarm to its page.",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 15),
            registry=self.registry,
        )
        self.last_pass = Gauge(
            "pumpwatch_canary_last_pass_timestamp_seconds",
            "When the last synthetic alarm came through.",
            registry=self.registry,
        )
        self.degraded = Gauge(
            "pumpwatch_watchdog_degraded",
            "0: the path works; 1: MEDIUM, 2: HIGH, by the dead man's switch.",
            registry=self.registry,
        )
        self.told = Counter(
            "pumpwatch_watchdog_mails_total", "Mails to operations, by outcome.", ("outcome",), registry=self.registry
        )
