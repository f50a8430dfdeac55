"""Notices and addresses for tests of channels."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.notify.channels import Address, Notice

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
ID = UUID("11111111-1111-4111-8111-111111111111")
ALERT = UUID("22222222-2222-4222-8222-222222222222")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def notice(**changes: Any) -> Notice:
    """The first page of a high alert."""
    fields: dict[str, Any] = {
        "notification_id": ID,
        "alert_id": ALERT,
        "number": 7,
        "priority": "high",
        "site": "north",
        "raised_at": NOON,
        "step": 0,
        "repeat": False,
        "thread_id": ALERT,
    }
    return Notice(**{**fields, **changes})


def mail_to(address: str | None) -> Address:
    """Somebody reached by mail."""
    return Address(address, None, None)


def hook_at(url: str | None, secret: str | None = SECRET) -> Address:
    """Somebody reached by webhook."""
    return Address(None, url, secret)
