"""What notify counts. Labels come from enums, never from alerts, pumps or people."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 0.75, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0)


class Metrics:
    """One registry per process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._count_notifications(registry)
        self._count_escalations(registry)
        self._watch_outbox(registry)
        self.pumps_silent = Gauge(
            "pumpwatch_pumps_silent", "Pumps whose silence is an open alert (COM-01).", registry=registry
        )

    def _count_notifications(self, registry: CollectorRegistry) -> None:
        self.alert_latency = Histogram(
            "pumpwatch_alert_latency_seconds",
            "From acceptance of the report behind an alert to a stage of telling people.",
            ["stage"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.notifications = Counter(
            "pumpwatch_notifications_total",
            "Attempts to tell a person, by outcome.",
            ["channel", "outcome"],
            registry=registry,
        )
        self.failures = Counter(
            "pumpwatch_notification_failures_total",
            "Attempts that failed, by reason.",
            ["channel", "reason"],
            registry=registry,
        )
        self.repeated = Counter(
            "pumpwatch_notifications_repeated_total",
            "Sent again because the outcome of the first try is unknown; marked as possible repeats.",
            registry=registry,
        )
        self.notifications_waiting = Gauge(
            "pumpwatch_notifications_waiting", "Notifications queued or being sent.", registry=registry
        )

    def _count_escalations(self, registry: CollectorRegistry) -> None:
        self.decisions = Counter(
            "pumpwatch_escalation_decisions_total",
            "Alerts looked at, by why people were told or why nobody was.",
            ["reason"],
            registry=registry,
        )
        self.overdue = Gauge(
            "pumpwatch_alerts_overdue",
            "High alerts past their confirm-by time without the next step, or with a page that nobody tried to send.",
            registry=registry,
        )
        self.requeued = Counter(
            "pumpwatch_escalations_recovered_total",
            "Alerts that only the audit brought back to their ladder.",
            registry=registry,
        )
        self.events = Counter(
            "pumpwatch_alert_events_published_total",
            "Alert events sent to Kafka, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.postponed = Counter(
            "pumpwatch_escalations_postponed_total",
            "Alerts whose ladder could not be planned or stored; each is tried again after 10 s.",
            registry=registry,
        )
        self.scan_failures = Counter(
            "pumpwatch_notify_scan_failures_total",
            "Rounds of a part of notify that failed and will be tried again.",
            ["part"],
            registry=registry,
        )

    def _watch_outbox(self, registry: CollectorRegistry) -> None:
        self.outbox_pending = Gauge(
            "pumpwatch_outbox_pending", "Outbox rows that the ladder has not taken over.", registry=registry
        )
        self.outbox_unpublished = Gauge(
            "pumpwatch_outbox_unpublished", "Outbox rows that are not yet on Kafka.", registry=registry
        )
        self.outbox_oldest_age = Gauge(
            "pumpwatch_outbox_oldest_age_seconds",
            "Age of the oldest outbox row that the ladder has not taken over; 0 without one.",
            registry=registry,
        )
