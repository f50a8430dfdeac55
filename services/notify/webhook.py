"""Webhooks as Standard Webhooks describes them, sent only to where they may go."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Self

import httpx

from services.notify.channels import Address, DeliveryError, DeliveryFailure, Notice
from services.notify.message import Messages
from services.notify.settings import Settings

MAX_RESPONSE_BYTES: Final = 16 * 1024
MAX_URL_LENGTH: Final = 2_048
RETRYABLE: Final = frozenset({408, 421, 425, 429})
# Cloud metadata answers at 192.0.0.192; Python 3.11 counts most of that block as global.
_SPECIAL: Final = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("192.88.99.0/24"))
_NAT64: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))


def sign(secret: str, message_id: str, moment: datetime, body: bytes) -> str:
    """The ``webhook-signature`` header: HMAC-SHA256 over ``id.timestamp.body`` with the decoded ``whsec_`` secret.

    Raises:
        ValueError: If the secret is not base64.

    Source: standard-webhooks/standard-webhooks, spec, "Signature scheme".
    """
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise ValueError("a webhook secret is base64 with the prefix whsec_") from error
    if not key:
        raise ValueError("a webhook secret is not empty")
    signed = f"{message_id}.{int(moment.timestamp())}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet: not private, loopback, link-local, shared, mapped or NAT64."""
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inside_other = ip.ipv4_mapped or ip.sixtofour or ip.teredo or any(ip in network for network in _NAT64)
        if inside_other or ip.is_site_local:
            return False
    if any(ip in network for network in _SPECIAL):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class Webhook:
    """The webhook channel.

    Args:
        settings: Timeouts and the allow-list.
        messages: The words.
        transport: The network; a test may give another.
    """

    def __init__(
        self, settings: Settings, messages: Messages, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._messages, self._allowed = messages, settings.webhook_hosts
        self._timeout = settings.notify_send_timeout_seconds / 2
        # No connection is kept: the pool knows it by the pinned IP address, at which another host may live, whose page
        # would go to whoever proved to be the first one.
        limits = httpx.Limits(max_connections=settings.notify_concurrency, max_keepalive_connections=0)
        self._client = httpx.AsyncClient(
            timeout=self._timeout, limits=limits, follow_redirects=False, trust_env=False, transport=transport
        )

    async def __aenter__(self) -> Self:
        """Connections are made when they are needed."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def send(self, notice: Notice, address: Address) -> None:
        """Return once the receiver has answered 2xx.

        Raises:
            DeliveryError: 408, 421, 425, 429, 5xx and network errors are retryable; redirects and others are not.
        """
        now = datetime.now(UTC)
        body = json.dumps(self._messages.document(notice, now), separators=(",", ":")).encode()
        headers = self._headers(notice, address, now, body)
        request = await self._request(address.webhook_url or "", headers, body)
        try:
            status = await self._exchange(request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise DeliveryError("webhook", DeliveryFailure.UNREACHABLE, retryable=True) from error
        except httpx.TimeoutException as error:
            raise DeliveryError("webhook", DeliveryFailure.TIMED_OUT, retryable=True, unknown=True) from error
        except httpx.HTTPError as error:
            raise DeliveryError("webhook", DeliveryFailure.CONNECTION_LOST, retryable=True, unknown=True) from error
        if status >= 500 or status in RETRYABLE:
            raise DeliveryError("webhook", DeliveryFailure.TRY_LATER, retryable=True)
        if not 200 <= status < 300:
            raise DeliveryError("webhook", DeliveryFailure.REFUSED, retryable=False)

    async def _exchange(self, request: httpx.Request) -> int:
        """Send, read a bounded piece of the answer, and give its status."""
        response = await self._client.send(request, stream=True)
        try:
            read = 0
            async for piece in response.aiter_raw():
                read += len(piece)
                if read > MAX_RESPONSE_BYTES:
                    break
        finally:
            await response.aclose()
        return response.status_code

    def _headers(self, notice: Notice, address: Address, now: datetime, body: bytes) -> Mapping[str, str]:
        message_id = str(notice.notification_id)
        try:
            signature = sign(address.webhook_secret or "", message_id, now, body)
        except ValueError as error:
            raise DeliveryError("webhook", DeliveryFailure.BAD_SECRET, retryable=False) from error
        return {
            "content-type": "application/json",
            "user-agent": "pumpwatch",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }

    async def _request(self, address: str, headers: Mapping[str, str], body: bytes) -> httpx.Request:
        """A request to the checked IP address itself, so that a name cannot mean another one a moment later."""
        url = self._url(address)
        if url.host.lower() in self._allowed:
            return self._client.build_request("POST", url, headers=headers, content=body)
        if url.scheme != "https":
            raise DeliveryError("webhook", DeliveryFailure.FORBIDDEN_ADDRESS, retryable=False)
        pinned = url.copy_with(host=await self._resolve(url))
        return self._client.build_request(
            "POST",
            pinned,
            headers={**headers, "host": url.netloc.decode("ascii")},
            content=body,
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )

    def _url(self, address: str) -> httpx.URL:
        try:
            url = httpx.URL(address)
        except (httpx.InvalidURL, ValueError) as error:
            raise DeliveryError("webhook", DeliveryFailure.NO_ADDRESS, retryable=False) from error
        if url.scheme not in ("http", "https") or not url.host or len(address) > MAX_URL_LENGTH:
            raise DeliveryError("webhook", DeliveryFailure.NO_ADDRESS, retryable=False)
        if url.userinfo:
            raise DeliveryError("webhook", DeliveryFailure.FORBIDDEN_ADDRESS, retryable=False)
        return url

    async def _resolve(self, url: httpx.URL) -> str:
        """The first address of the host, if every one of its addresses is public."""
        try:
            async with asyncio.timeout(self._timeout):
                found = await asyncio.get_running_loop().getaddrinfo(url.host, url.port or 443, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise DeliveryError("webhook", DeliveryFailure.UNREACHABLE, retryable=True) from error
        addresses = [str(entry[4][0]) for entry in found]
        if not addresses or not all(is_public(address) for address in addresses):
            raise DeliveryError("webhook", DeliveryFailure.FORBIDDEN_ADDRESS, retryable=False)
        return addresses[0]
