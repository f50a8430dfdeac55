"""A mail server that keeps what it was given, for the oracle to count."""

from __future__ import annotations

import email
from dataclasses import dataclass
from datetime import UTC, datetime
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller


@dataclass(frozen=True, slots=True)
class Mail:
    """One message that the server answered 250 to, at ``at``."""

    notification_id: str
    subject: str
    repeat: bool
    at: datetime


class Inbox:
    """Real SMTP on loopback; what it took is in ``mails``."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Keep a message."""
        message = email.message_from_bytes(envelope.content, policy=default)
        notification_id = message["Message-ID"].strip("<>").partition("@")[0]
        text = message.get_content()
        self.mails.append(
            Mail(notification_id, message["Subject"], "possible repeat" in text.lower(), datetime.now(UTC))
        )
        return "250 kept"


def serve(inbox: Inbox, port: int) -> Controller:
    """A server on ``port``, not yet started; it runs in a thread of its own."""
    return Controller(inbox, hostname="127.0.0.1", port=port)
