"""What the care-team page needs to know beside the shared settings."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

from pydantic import Field

from streams.settings import CoreSettings


class Settings(CoreSettings):
    """Addresses, and how long people stay signed in.

    Behind a proxy on another machine set ``FORWARDED_ALLOW_IPS`` to its address, so that sign-in attempts are counted
    by the address of the person and not of the proxy.
    """

    web_host: str = "127.0.0.1"
    web_port: int = Field(default=8080, ge=0, le=65535)
    web_metrics_host: str = "127.0.0.1"
    web_metrics_port: int = Field(default=9104, ge=0, le=65535)
    web_public_url: str = Field(default="http://127.0.0.1:8080", pattern=r"^https?://[^\s]+$")
    """Address of the page as people reach it; with https the session's cookie travels over TLS only."""
    web_idle_minutes: float = Field(default=15, gt=0, le=24 * 60)
    """A session ends after so long without its person doing anything; a page that updates itself does not count."""
    web_session_hours: float = Field(default=12, gt=0, le=24 * 7)
    """A session ends after so long in any case."""
    web_connections: int = Field(default=8, ge=2, le=100)
    """Connections to PostgreSQL for requests."""
    web_live_pages: int = Field(default=500, ge=1, le=10_000)
    """Pages that may update themselves at once; others are refused and say that they are not live."""

    @property
    def secure(self) -> bool:
        """Whether people reach the page over TLS."""
        return urlsplit(self.web_public_url).scheme == "https"

    @property
    def idle(self) -> timedelta:
        """`web_idle_minutes`."""
        return timedelta(minutes=self.web_idle_minutes)

    @property
    def longest(self) -> timedelta:
        """`web_session_hours`."""
        return timedelta(hours=self.web_session_hours)
