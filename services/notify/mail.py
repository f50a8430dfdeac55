"""E-mail, by a real SMTP conversation over a bounded set of connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.errors import MessageError
from email.headerregistry import Address as MailAddress
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from typing import Final, Self

import aiosmtplib

from services.notify.channels import Address, DeliveryError, DeliveryFailure, Notice
from services.notify.message import Messages
from services.notify.settings import Settings, SmtpSecurity

IDLE_LIMIT: Final = timedelta(seconds=20)
_LOST: Final = (aiosmtplib.SMTPServerDisconnected, ConnectionError)
_SLOW: Final = (aiosmtplib.SMTPTimeoutError, TimeoutError)


class Mail:
    """The e-mail channel. Close it to end its connections politely."""

    def __init__(self, settings: Settings, messages: Messages) -> None:
        self._settings, self._messages = settings, messages
        self._slots = asyncio.Semaphore(settings.notify_concurrency)
        self._idle: list[tuple[datetime, aiosmtplib.SMTP]] = []

    async def __aenter__(self) -> Self:
        """Connections are made when they are needed."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Say goodbye on idle connections."""
        for _, client in self._idle:
            with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                await client.quit(timeout=1)
            client.close()
        self._idle.clear()

    async def send(self, notice: Notice, address: Address) -> None:
        """Return once the mail server has said 250 to the message.

        Raises:
            DeliveryError: 4xx answers and lost connections are retryable, 5xx answers are not.
        """
        message = self._compose(notice, address)
        async with self._connection() as client:
            await self._offer(client, message["To"])
            await self._hand_over(client, message.as_bytes(policy=SMTP_POLICY))

    def _compose(self, notice: Notice, address: Address) -> EmailMessage:
        message = EmailMessage(policy=SMTP_POLICY)
        try:
            to = MailAddress(addr_spec=address.email or "")
        except (ValueError, IndexError, MessageError) as error:
            raise DeliveryError("email", DeliveryFailure.NO_ADDRESS, retryable=False) from error
        if not (to.username and to.domain and str(to).isascii() and str(to).isprintable()):
            raise DeliveryError("email", DeliveryFailure.NO_ADDRESS, retryable=False)
        message["From"] = f"Pumpwatch <{self._settings.notify_sender}>"
        message["To"] = to
        message["Subject"] = self._messages.subject(notice)
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = f"<{notice.notification_id}@pumpwatch>"
        message["Auto-Submitted"] = "auto-generated"
        if notice.priority == "high":
            message["Importance"] = "high"
        message.set_content(self._messages.body(notice))
        return message

    async def _offer(self, client: aiosmtplib.SMTP, to: str) -> None:
        try:
            await client.mail(self._settings.notify_sender)
            await client.rcpt(str(to))
        except aiosmtplib.SMTPResponseException as error:
            reason = DeliveryFailure.REFUSED_ADDRESS if error.code >= 500 else DeliveryFailure.TRY_LATER
            raise DeliveryError("email", reason, retryable=error.code < 500) from error
        except _SLOW as error:
            raise DeliveryError("email", DeliveryFailure.TIMED_OUT, retryable=True) from error
        except _LOST as error:
            raise DeliveryError("email", DeliveryFailure.CONNECTION_LOST, retryable=True) from error

    async def _hand_over(self, client: aiosmtplib.SMTP, content: bytes) -> None:
        """From here on a lost connection leaves open whether the server took the message."""
        try:
            await client.data(content)
        except aiosmtplib.SMTPResponseException as error:
            reason = DeliveryFailure.REFUSED if error.code >= 500 else DeliveryFailure.TRY_LATER
            raise DeliveryError("email", reason, retryable=error.code < 500) from error
        except _SLOW as error:
            raise DeliveryError("email", DeliveryFailure.TIMED_OUT, retryable=True, unknown=True) from error
        except _LOST as error:
            raise DeliveryError("email", DeliveryFailure.CONNECTION_LOST, retryable=True, unknown=True) from error

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[aiosmtplib.SMTP]:
        """A connection of our own for one message; it is kept only after a conversation that ended well."""
        async with self._slots:
            client = self._reusable() or await self._connect()
            try:
                yield client
            except BaseException:
                client.close()
                raise
            self._idle.append((datetime.now(UTC), client))

    def _reusable(self) -> aiosmtplib.SMTP | None:
        while self._idle:
            since, client = self._idle.pop()
            if client.is_connected and datetime.now(UTC) - since < IDLE_LIMIT:
                return client
            client.close()
        return None

    async def _connect(self) -> aiosmtplib.SMTP:
        settings = self._settings
        password = settings.notify_smtp_password
        client = aiosmtplib.SMTP(
            hostname=settings.notify_smtp_host,
            port=settings.notify_smtp_port,
            username=settings.notify_smtp_username,
            password=password.get_secret_value() if password else None,
            local_hostname="pumpwatch",
            timeout=settings.notify_send_timeout_seconds / 2,
            use_tls=settings.notify_smtp_security is SmtpSecurity.TLS,
            start_tls=settings.notify_smtp_security is SmtpSecurity.STARTTLS,
        )
        try:
            await client.connect()
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            client.close()
            raise DeliveryError("email", DeliveryFailure.UNREACHABLE, retryable=True) from error
        return client
