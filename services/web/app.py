"""The web application: the table of routes with who may use each, and what happens when something goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from services.web import api, pages
from services.web.access import Access, Desk, Entry, Speech, problem
from services.web.headers import Envelope
from streams.operations import NO_DATABASE

STATIC: Final = Path(__file__).parent / "static"

ROUTES: Final = (
    Entry("/", pages.worklist),
    Entry("/alerts/{reference}", pages.alert),
    Entry("/alerts/{reference}/confirm", pages.confirm, "POST"),
    Entry("/alerts/{reference}/resolve", pages.resolve, "POST"),
    Entry("/pumps/{pump_id}", pages.pump),
    Entry("/pumps/{pump_id}/care", pages.pump_care),
    Entry("/pumps/{pump_id}/care", pages.add_care, "POST"),
    Entry("/care/{care_id}", pages.care_record),
    Entry("/care/{care_id}/withdraw", pages.withdraw_care, "POST"),
    Entry("/sign-in", pages.sign_in_form, access=Access.ANYBODY),
    Entry("/sign-in", pages.sign_in, "POST", access=Access.ANYBODY),
    Entry("/sign-out", pages.sign_out, "POST"),
    Entry("/events", pages.events, speech=Speech.JSON),
    Entry("/api/alerts", api.list_alerts, speech=Speech.JSON),
    Entry("/api/alerts/{reference}", api.one_alert, speech=Speech.JSON),
    Entry("/api/alerts/{reference}/confirm", api.confirm, "POST", speech=Speech.JSON),
    Entry("/api/alerts/{reference}/resolve", api.resolve, "POST", speech=Speech.JSON),
    Entry("/api/alerts/{reference}/seen", api.seen, "POST", speech=Speech.JSON),
    Entry("/api/pumps/{pump_id}/readings", api.readings, speech=Speech.JSON),
    Entry("/api/pumps/{pump_id}/care", api.list_care, speech=Speech.JSON),
    Entry("/api/pumps/{pump_id}/care", api.add_care, "POST", speech=Speech.JSON),
    Entry("/api/care/{care_id}/withdraw", api.withdraw_care, "POST", speech=Speech.JSON),
    Entry("/api/session/active", api.active, "POST", speech=Speech.JSON),
)


class CachedStaticFiles(StaticFiles):
    """Scripts and styles, which a browser may keep for an hour."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, or 404."""
        response = await super().get_response(path, scope)
        if response.status_code in (200, 304):
            response.headers["cache-control"] = "public, max-age=3600"
        return response


def create_app(desk: Desk) -> Starlette:
    """The application over what its requests share."""
    routes: list[Route | Mount] = [Route(entry.path, entry.endpoint(), methods=[entry.method]) for entry in ROUTES]
    routes.append(Mount("/static", CachedStaticFiles(directory=STATIC)))
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Envelope, metrics=desk.metrics, secure=desk.settings.secure)],
        exception_handlers={
            HTTPException: _not_served,
            **dict.fromkeys(NO_DATABASE, _no_database),
        },
    )
    app.state.desk = desk
    return app


async def _not_served(request: Request, error: Exception) -> Response:
    """An address that nothing stands at, or a method that it does not take."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if _wants_json(request):
        return problem(status, "there is nothing at this address")
    words = "There is nothing at this address."
    return _page(request, status, "Not found" if status == 404 else "Not possible", words)


async def _no_database(request: Request, error: Exception) -> Response:
    structlog.get_logger().error("request not answered", error=type(error).__name__)
    words = (
        "Pumpwatch cannot reach its database now, so this page cannot say which alerts are open. "
        "Do not rely on it: watch the pumps' own alarms, and call your operator."
    )
    response = problem(503, words) if _wants_json(request) else _page(request, 503, "Monitoring not available", words)
    response.headers["retry-after"] = "5"
    return response


def _page(request: Request, status: int, title: str, words: str) -> Response:
    desk: Desk = request.app.state.desk
    values = {"title": title, "words": words}
    return desk.pages.response(request, "message.html", None, desk.clock(), status, values)


def _wants_json(request: Request) -> bool:
    return request.url.path.startswith("/api/") or request.url.path == "/events"
