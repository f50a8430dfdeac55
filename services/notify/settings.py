"""What notify needs to know beside the shared settings."""

from __future__ import annotations

from datetime import time, timedelta
from enum import StrEnum
from typing import Self

from pydantic import Field, SecretStr, model_validator

from streams.domain.escalation import Policy
from streams.settings import CoreSettings


class SmtpSecurity(StrEnum):
    """How the conversation with the mail server is protected."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


class Settings(CoreSettings):
    """Addresses of the channels, limits, and the organisation's choices for escalation."""

    notify_metrics_host: str = "127.0.0.1"
    notify_metrics_port: int = Field(default=9103, ge=0, le=65535)
    notify_public_url: str = Field(default="http://127.0.0.1:8080", pattern=r"^https?://[^\s]+$")
    """Address of the care-team page as people reach it; every message links to it."""

    notify_smtp_host: str = "127.0.0.1"
    notify_smtp_port: int = Field(default=1025, ge=1, le=65535)
    notify_smtp_security: SmtpSecurity = SmtpSecurity.NONE
    notify_smtp_username: str | None = None
    notify_smtp_password: SecretStr | None = None
    notify_sender: str = Field(default="pumpwatch@localhost", pattern=r"^[^\s@<>]+@[^\s@<>]+$")

    notify_webhook_hosts: str = ""
    """Hosts, comma separated, that may be reached without TLS and on a private address; others need https."""

    notify_concurrency: int = Field(default=8, ge=1, le=64)
    """Deliveries under way at once; also the number of connections to the mail server."""
    notify_attempts: int = Field(default=6, ge=1, le=20)
    """Tries of one notification before its channel counts as failed."""
    notify_send_timeout_seconds: float = Field(default=15.0, gt=0, le=120)
    notify_lease_seconds: float = Field(default=30.0, gt=0, le=600)
    """How long a delivery may go on before another notifier takes it for lost; longer than the timeout."""
    notify_retry_seconds: float = Field(default=5.0, gt=0, le=300)
    """Wait before the second try of a notification; it doubles with each further one, up to 5 minutes."""
    notify_audit_seconds: float = Field(default=5.0, gt=0, le=60)
    """How often the audit looks for high alerts whose next step is missing, and how late a step may be."""

    notify_quiet_hours: str = Field(default="22:00-07:00", pattern=r"^(\d\d:\d\d-\d\d:\d\d)?$")
    """Night at the site, in which a MEDIUM page that can wait is held; empty: there is no night."""
    notify_hold_high_minutes: float = Field(default=60, gt=0)
    notify_hold_medium_minutes: float = Field(default=480, gt=0)
    notify_repeat_minutes: float = Field(default=30, gt=0)
    """How often everyone is told again after the last step, until a person confirms."""
    notify_repeat_after_failure_minutes: float = Field(default=5, gt=0)
    """The same after a last step that reached nobody."""
    notify_ladder_pace: float = Field(default=1.0, gt=0, le=1)
    """Multiplies the times of the steps: below 1 only for drills."""

    @model_validator(mode="after")
    def _lease_outlasts_the_timeout(self) -> Self:
        if self.notify_lease_seconds <= self.notify_send_timeout_seconds:
            raise ValueError("the lease must be longer than the timeout, or a slow delivery is taken for a lost one")
        _ = self.policy
        return self

    @property
    def policy(self) -> Policy:
        """The choices as escalation reads them."""
        quiet = None
        if self.notify_quiet_hours:
            night, morning = self.notify_quiet_hours.split("-")
            quiet = (time.fromisoformat(night), time.fromisoformat(morning))
        return Policy(
            quiet=quiet,
            hold_high=timedelta(minutes=self.notify_hold_high_minutes),
            hold_medium=timedelta(minutes=self.notify_hold_medium_minutes),
            repeat_every=timedelta(minutes=self.notify_repeat_minutes),
            repeat_after_failure=timedelta(minutes=self.notify_repeat_after_failure_minutes),
            pace=self.notify_ladder_pace,
        )

    @property
    def webhook_hosts(self) -> frozenset[str]:
        """The allow-list, lower case."""
        return frozenset(host.strip().lower() for host in self.notify_webhook_hosts.split(",") if host.strip())
