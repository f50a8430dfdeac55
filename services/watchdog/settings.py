"""What the watchdog needs to know. It shares no database, no broker and no channel with what it watches."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from streams.domain.deadman import Limits
from streams.domain.rule import Rule
from streams.settings import CoreSettings


class Settings(CoreSettings):
    """Where the path begins and ends, whom to tell, and when."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)  # The input may be a token or a password.

    watchdog_metrics_host: str = "127.0.0.1"
    watchdog_metrics_port: int = Field(default=9106, ge=0, le=65535)
    watchdog_receiver_host: str = "127.0.0.1"
    watchdog_receiver_port: int = Field(default=9116, ge=0, le=65535)
    """Where notify delivers the page of the synthetic alarm, as a webhook."""
    watchdog_ingest_url: str = Field(default="http://127.0.0.1:8081", pattern=r"^https?://[^\s]+$")
    watchdog_gateway_id: str = "watchdog"
    watchdog_gateway_token: SecretStr = SecretStr("")
    watchdog_web_url: str = Field(default="http://127.0.0.1:8080", pattern=r"^https?://[^\s]+$")
    watchdog_person: str = "watchdog"
    watchdog_password: SecretStr = SecretStr("")
    """With it the watchdog closes its own alerts on the care-team page, as people close theirs."""
    watchdog_webhook_secret: SecretStr = SecretStr("")
    """The secret with which notify signs to the watchdog (Standard Webhooks, ``whsec_…``)."""
    watchdog_pump_id: str = Field(default="pumpwatch-canary", pattern=r"^[A-Za-z0-9._:-]{1,64}$")

    watchdog_period_seconds: float = Field(default=15.0, gt=0, le=60)
    watchdog_medium_seconds: float | None = Field(default=None, gt=0, le=600)
    watchdog_high_seconds: float | None = Field(default=None, gt=0, le=600)
    watchdog_passes: int | None = Field(default=None, ge=1, le=100)
    """Passes in a row after which all is well again; of these three, the rule SYS-03 says what no setting does."""
    watchdog_repeat_minutes: float = Field(default=15.0, gt=0)
    """How often people are told again while it is HIGH."""

    watchdog_smtp_host: str = "127.0.0.1"
    watchdog_smtp_port: int = Field(default=1025, ge=1, le=65535)
    watchdog_smtp_starttls: bool = False
    watchdog_smtp_username: str | None = None
    watchdog_smtp_password: SecretStr | None = None
    watchdog_sender: str = Field(default="pumpwatch-watchdog@localhost", pattern=r"^[^\s@<>]+@[^\s@<>]+$")
    watchdog_recipients: str = "operations@localhost"
    """E-mail addresses, comma separated: the people who keep the system running."""

    @model_validator(mode="after")
    def _somebody_is_told(self) -> Self:
        if not self.recipients:
            raise ValueError("watchdog_recipients must name at least one address")
        return self

    def limits(self, rule: Rule) -> Limits:
        """The times of the dead man's switch: as its rule says, except where a setting says otherwise.

        Raises:
            ValueError: If both together make no sense.
        """
        settings = {
            "medium_seconds": self.watchdog_medium_seconds,
            "high_seconds": self.watchdog_high_seconds,
            "passes": self.watchdog_passes,
        }
        return Limits.of({**rule.parameters, **{name: value for name, value in settings.items() if value is not None}})

    @property
    def recipients(self) -> tuple[str, ...]:
        """Whom to tell."""
        return tuple(address.strip() for address in self.watchdog_recipients.split(",") if address.strip())
