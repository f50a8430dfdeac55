"""What the care-team page counts. Labels come from the table of routes and from enums."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """One registry per process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "pumpwatch_web_requests_total", "Requests answered.", ["route", "status"], registry=registry
        )
        self.duration = Histogram(
            "pumpwatch_web_request_duration_seconds",
            "From a request to the start of its answer.",
            ["route"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self.sign_ins = Counter(
            "pumpwatch_web_sign_ins_total", "Attempts to sign in, by outcome.", ["outcome"], registry=registry
        )
        self.actions = Counter(
            "pumpwatch_web_actions_total",
            "What people did: confirmed, resolved, entered or withdrew, by outcome.",
            ["action", "outcome"],
            registry=registry,
        )
        self.sessions = Gauge("pumpwatch_web_sessions", "People's sessions that have not ended.", registry=registry)
        self.live_pages = Gauge("pumpwatch_web_live_pages", "Open pages that update themselves.", registry=registry)
        self.live_refused = Counter(
            "pumpwatch_web_live_refused_total", "Pages refused because too many are open.", registry=registry
        )
        self.watch_failures = Counter(
            "pumpwatch_web_watch_failures_total", "Looks at the database for news that failed.", registry=registry
        )
        self.alerts_open = Gauge("pumpwatch_alerts_open", "Open alerts.", ["priority", "confirmed"], registry=registry)
        self.degraded = Gauge(
            "pumpwatch_monitoring_degraded",
            "1 while people are told that this part does not work.",
            ["part"],
            registry=registry,
        )
