"""E-mail, by a real SMTP conversation over a bounded set of connections."""

from __future__ import annotations

import asyncio
import contextlib
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
        for _since, client in self._idle:
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
        async with self._slots:
            client = await self._offered(str(message["To"]))
            try:
                await self._hand_over(client, message.as_bytes(policy=SMTP_POLICY))
            except BaseException:
                client.close()
                raise
            # Kept only after a conversation that ended well.
            self._idle.append((datetime.now(UTC), client))

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
        # No message has this id: all of a thread name it, so that a mail client shows them together whoever got which.
        message["In-Reply-To"] = message["References"] = f"<thread-{notice.thread_id}@pumpwatch>"
        message["X-Pumpwatch-Notification-Id"] = str(notice.notification_id)
        message["Auto-Submitted"] = "auto-generated"
        if notice.priority == "high":
            message["Importance"] = "high"
        message.set_content(self._messages.body(notice))
        return message

    async def _offered(self, to: str) -> aiosmtplib.SMTP:
        """A connection whose server has agreed to take a message for this address."""
        if client := self._reusable():
            try:
                return await self._offer(client, to)
            except DeliveryError as error:
                # A server may drop an idle connection without a word; nothing was handed over yet.
                if error.reason is not DeliveryFailure.CONNECTION_LOST:
                    raise
        return await self._offer(await self._connect(), to)

    async def _offer(self, client: aiosmtplib.SMTP, to: str) -> aiosmtplib.SMTP:
        try:
            await client.mail(self._settings.notify_sender)
            await client.rcpt(to)
        except BaseException as error:
            client.close()
            if failure := _refusal(error):
                raise failure from error
            raise
        return client

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


def _refusal(error: BaseException) -> DeliveryError | None:
    """What a failure before the message was handed over means."""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        final = error.code >= 500
        reason = DeliveryFailure.REFUSED_ADDRESS if final else DeliveryFailure.TRY_LATER
        return DeliveryError("email", reason, retryable=not final)
    if isinstance(error, _SLOW):
        return DeliveryError("email", DeliveryFailure.TIMED_OUT, retryable=True)
    if isinstance(error, _LOST):
        return DeliveryError("email", DeliveryFailure.CONNECTION_LOST, retryable=True)
    return None
