"""Takes the pages of the synthetic alarm from notify's webhook; what is not signed by notify does not count.

A page of another site is refused: nobody reads it here, so the ladder must go on to a person.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streams.people import WATCHDOG_SITE

MAX_BYTES: Final = 64 * 1024
MOST_LEFT: Final = 100


class Pages:
    """The pages that arrived, of which only the newest is kept, and which of their alerts are still to be closed."""

    def __init__(self) -> None:
        self.count = 0
        self._newest: dict[str, Any] = {}
        self._left: dict[str, None] = {}
        self._arrival = asyncio.Condition()

    @property
    def left(self) -> tuple[str, ...]:
        """Alerts that paged and are not known to be closed, the longest first."""
        return tuple(self._left)

    def closed(self, alert_id: str) -> None:
        """The alert is over."""
        self._left.pop(alert_id, None)

    async def arrived(self, page: dict[str, Any]) -> None:
        """Somebody was paged."""
        async with self._arrival:
            self.count, self._newest = self.count + 1, page
            self._left[page["alert_id"]] = None
            if len(self._left) > MOST_LEFT:
                del self._left[next(iter(self._left))]
            self._arrival.notify_all()

    async def after(self, count: int) -> dict[str, Any]:
        """The next page after the first ``count``; the caller limits the wait."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: self.count > count)
            return self._newest


def create_app(pages: Pages, secret: str) -> Starlette:
    """The receiver; ``secret`` is the one with which notify signs."""
    webhook = Webhook(secret)

    async def receive(request: Request) -> Response:
        body = await request.body()
        if len(body) > MAX_BYTES:
            return Response(status_code=413)
        try:
            webhook.verify(body, dict(request.headers))
            page = json.loads(body)["data"]
            alert_id, site = str(page["alert_id"]), page["site"]
        except (WebhookVerificationError, ValueError, LookupError, TypeError):
            return Response(status_code=401)
        if site != WATCHDOG_SITE:
            return Response(status_code=403)
        await pages.arrived({**page, "alert_id": alert_id})
        return Response(status_code=204)

    return Starlette(routes=[Route("/pages", receive, methods=["POST"])])
