"""Tells operations by mail, over a server of the watchdog's own, that the path is broken or works again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Final

import aiosmtplib
import stamina
import structlog

from services.watchdog.metrics import Metrics
from services.watchdog.settings import Settings
from streams.domain.alert import Priority
from streams.domain.deadman import Turn

SEND_SECONDS: Final = 10.0
TRIES: Final = 5


class Alarm:
    """Sends; a mail that cannot be sent is tried again, logged and counted."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics

    async def tell(self, priority: Priority | None, turn: Turn | None, reason: str, since_pass: timedelta) -> bool:
        """One mail about where things stand; ``turn`` None: it is told again. Whether it was taken over."""
        message = self._message(priority, turn, reason, since_pass)
        try:
            async for attempt in stamina.retry_context(
                on=(OSError, TimeoutError, aiosmtplib.SMTPException), attempts=TRIES, timeout=30.0, wait_initial=0.5
            ):
                with attempt:
                    await self._send(message)
        except (OSError, TimeoutError, aiosmtplib.SMTPException) as error:
            self._metrics.told.labels("failed").inc()
            structlog.get_logger().error("operations not told", error=type(error).__name__)
            return False
        self._metrics.told.labels("sent").inc()
        return True

    async def _send(self, message: EmailMessage) -> None:
        settings = self._settings
        password = settings.watchdog_smtp_password
        await aiosmtplib.send(
            message,
            hostname=settings.watchdog_smtp_host,
            port=settings.watchdog_smtp_port,
            username=settings.watchdog_smtp_username,
            password=password.get_secret_value() if password else None,
            start_tls=settings.watchdog_smtp_starttls,
            timeout=SEND_SECONDS,
        )

    def _message(
        self, priority: Priority | None, turn: Turn | None, reason: str, since_pass: timedelta
    ) -> EmailMessage:
        message, now = EmailMessage(), datetime.now(UTC)
        message["From"] = self._settings.watchdog_sender
        message["To"] = ", ".join(self._settings.recipients)
        message["Subject"] = f"[Pumpwatch watchdog] {_headline(priority, turn)}"
        message.set_content(
            f"{_headline(priority, turn)}\n\n"
            f"Last synthetic alarm that came through: {now - since_pass:%Y-%m-%d %H:%M:%S} UTC\n"
            f"Now: {now:%Y-%m-%d %H:%M:%S} UTC\n"
            f"Where it stops: {reason or 'nowhere'}\n\n"
            "While the path is broken, alerts of pumps may reach nobody. Pumpwatch is not a medical device.\n"
        )
        return message


def _headline(priority: Priority | None, turn: Turn | None) -> str:
    if turn is Turn.CLEARED or priority is None:
        return "monitoring works again"
    again = " (still)" if turn is None else ""
    return (
        f"{priority.upper()}: monitoring degraded{again}"
        if priority is Priority.HIGH
        else "MEDIUM: monitoring may be degraded"
    )
