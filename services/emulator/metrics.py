"""What the emulator counts. Labels come from enums, never from pumps."""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge


class Outcome(StrEnum):
    """What became of a report, or of a try to send it."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    RETRIED = "retried"
    RESENT = "resent"
    DROPPED = "dropped"


class Metrics:
    """One registry per process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        reports = Counter(
            "pumpwatch_emulator_reports_total",
            "Reports accepted or rejected by ingest, retried, resent on purpose, or dropped from a full buffer.",
            ["outcome"],
            registry=registry,
        )
        self.reports = {outcome: reports.labels(outcome.value) for outcome in Outcome}
        self.requests = Counter(
            "pumpwatch_emulator_requests_total",
            "Requests to ingest by the answer's status, or by network_error.",
            ["status"],
            registry=registry,
        )
        self.buffered = Gauge(
            "pumpwatch_emulator_buffered_reports",
            "Reports that gateways hold and ingest has not accepted.",
            registry=registry,
        )
