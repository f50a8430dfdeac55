"""The parts of notify inside the test's own process, moved on by hand, with a channel that does what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from services.notify.auditor import Auditor
from services.notify.channels import Address, DeliveryError, DeliveryFailure, Notice
from services.notify.delivery import Delivery
from services.notify.gauges import Gauges
from services.notify.intake import Intake
from services.notify.metrics import Metrics
from services.notify.rounds import Wakes
from services.notify.settings import Settings
from tests.services.notify.care import Care

REFUSED = DeliveryError("email", DeliveryFailure.REFUSED_ADDRESS, retryable=False)
LATER = DeliveryError("email", DeliveryFailure.TRY_LATER, retryable=True)
LOST = DeliveryError("email", DeliveryFailure.CONNECTION_LOST, retryable=True, unknown=True)


class PlayedChannel:
    """Records what it is given; ``answer`` says what happens: nothing, a failure, or a wait."""

    def __init__(self, answer: Callable[[Notice, Address], Exception | asyncio.Event | None] | None = None) -> None:
        self.answer = answer
        self.sent: list[Notice] = []

    async def send(self, notice: Notice, address: Address) -> None:
        """As `services.notify.channels.Channel`."""
        self.sent.append(notice)
        answer = self.answer(notice, address) if self.answer else None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            await answer.wait()


class Desk:
    """Intake, delivery, audit and gauges over one database."""

    def __init__(self, care: Care, email: PlayedChannel | None = None, **settings: Any) -> None:
        quick = {
            "notify_retry_seconds": 0.01,
            "notify_send_timeout_seconds": 0.3,
            "notify_lease_seconds": 0.5,
            "notify_audit_seconds": 0.01,
            "notify_quiet_hours": "",
        }
        self.care, self.settings = care, Settings(**{**quick, **settings})
        self.email, self.webhook = email or PlayedChannel(), PlayedChannel()
        self.metrics, self.wakes = Metrics(), Wakes()
        self.intake = Intake(care.pool, self.settings, self.metrics, self.wakes, care.store.re_raise)
        channels = {"email": self.email, "webhook": self.webhook}
        self.delivery = Delivery(care.pool, self.settings, self.metrics, self.wakes, channels)
        self.auditor = Auditor(care.pool, self.settings, self.metrics, self.intake.look_at)
        self.gauges = Gauges(care.pool, self.metrics)

    async def deliver(self) -> None:
        """One round of delivery, to its end."""
        await self.delivery.send_due()
        await self.delivery.finish()

    async def work(self, rounds: int = 1) -> None:
        """News, ladders and delivery, each once per round."""
        for _ in range(rounds):
            await self.intake.take_news()
            await self.intake.climb()
            await self.deliver()

    def count(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 when it was never counted."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def age(self, alert_id: UUID, by: timedelta) -> None:
        """Let that much time pass for one alert: everything stored about it moves into the past."""
        for table, columns in _TIMES.items():
            moved = ", ".join(f"{column} = {column} - $2::interval" for column in columns)
            await self.care.pool.execute(f"UPDATE {table} SET {moved} WHERE alert_id = $1", alert_id, by)


_TIMES = {
    "alert": ("opened_at", "raised_at", "confirmed_at"),
    "ladder": ("started_at", "next_step_at", "raised_at"),
    "notification": ("queued_at", "next_try_at"),
    "outbox": ("created_at",),
}
