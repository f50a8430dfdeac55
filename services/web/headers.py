"""What every answer carries: nothing from elsewhere runs, nobody frames the page, nothing of a patient is cached."""

from __future__ import annotations

import time
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.web.metrics import Metrics

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    # same-origin, not no-referrer: under that, browsers send forms with the Origin "null", which is refused.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Envelope:
    """Adds the headers to each answer, and counts it."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, secure: bool) -> None:
        self._app, self._metrics = app, metrics
        self._headers = dict(HEADERS)
        if secure:
            self._headers["strict-transport-security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                if "cache-control" not in headers:
                    headers["cache-control"] = "no-store"
                route = _route(scope)
                self._metrics.requests.labels(route, str(message["status"])).inc()
                self._metrics.duration.labels(route).observe(time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _route(scope: Scope) -> str:
    """A name from the table of routes, never the path itself: that has the numbers of alerts and pumps."""
    if str(scope.get("path", "")).startswith("/static/"):
        return "GET /static"
    return str(scope.get("pumpwatch_route", "unmatched"))
