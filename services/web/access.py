"""Who may do what: every route says it, and nothing is answered before it was checked.

A request that changes anything must come from a page of ours (Origin) and carry the session's own token (CSRF).
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from services.web import health, sessions
from services.web.attempts import Attempts
from services.web.live import Feed
from services.web.metrics import Metrics
from services.web.rendering import Pages
from services.web.sessions import Lifetime, Session
from services.web.settings import Settings
from streams.domain.rule import RuleBook
from streams.rules_in_force import RulesInForce
from streams.store import Store

MAX_FORM_BYTES: Final = 16 * 1024
ANSWER_SECONDS: Final = 10.0
SAFE: Final = frozenset({"GET", "HEAD"})


class Access(StrEnum):
    """Who may use a route."""

    ANYBODY = "anybody"
    SIGNED_IN = "signed in"


class Speech(StrEnum):
    """How a route answers: a page for people, or JSON for programs."""

    PAGE = "page"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that requests share."""

    settings: Settings
    store: Store
    in_force: RulesInForce
    feed: Feed
    metrics: Metrics
    attempts: Attempts
    hashing: asyncio.Semaphore
    """Checking a password takes 64 MiB and a tenth of a second of a core: only a few at a time."""
    clock: Callable[[], datetime]
    pages: Pages

    @property
    def rules(self) -> RuleBook:
        """The rule book in force now."""
        return self.in_force.book

    @property
    def lifetime(self) -> Lifetime:
        """Of sessions."""
        return Lifetime(self.settings.idle, self.settings.longest)

    @property
    def cookie(self) -> str:
        """The session cookie's name; ``__Host-`` binds it to this host and to TLS."""
        return "__Host-pumpwatch" if self.settings.secure else "pumpwatch"


@dataclass(frozen=True, slots=True)
class Visit:
    """One request, checked: by whom, when, and with which form or JSON fields."""

    desk: Desk
    request: Request
    session: Session | None
    now: datetime
    fields: Mapping[str, str]

    @property
    def person(self) -> Session:
        """Who is signed in; a route for people who are signed in always has one."""
        if self.session is None:
            raise RuntimeError("this route does not ask for a session")
        return self.session

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """A page of ours, with the banners that every page has."""
        return self.desk.pages.response(self.request, template, self.session, self.now, status, values)


Handler = Callable[[Visit], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A route, what answers it, and who may use it."""

    path: str
    handler: Handler
    method: str = "GET"
    access: Access = Access.SIGNED_IN
    speech: Speech = Speech.PAGE

    @property
    def name(self) -> str:
        """The route's label in metrics."""
        return f"{self.method} {self.path}"

    def endpoint(self) -> Callable[[Request], Awaitable[Response]]:
        """What Starlette calls."""

        async def answer(request: Request) -> Response:
            request.scope["pumpwatch_route"] = self.name
            async with asyncio.timeout(ANSWER_SECONDS):
                return await _checked(self, request)

        return answer


class Refused(Exception):
    """The request is not answered; ``status`` and ``words`` say why."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


async def _checked(entry: Entry, request: Request) -> Response:
    desk: Desk = request.app.state.desk
    now = desk.clock()
    session = await sessions.find(desk.store.pool, request.cookies.get(desk.cookie), desk.lifetime, now)
    if entry.speech is Speech.PAGE:
        request.state.troubles = await health.look(desk.store.pool)
    visit = Visit(desk, request, session, now, {})
    try:
        if entry.method not in SAFE:
            _check_origin(request, desk.settings)
        if entry.access is Access.SIGNED_IN and session is None:
            return _sign_in_first(entry, request)
        if entry.method not in SAFE:
            visit = Visit(desk, request, session, now, await _fields(request))
            if session is not None:
                _check_token(visit, session)
        if session is not None and not by_itself(request):
            await sessions.touch(desk.store.pool, session, now)
        return await entry.handler(visit)
    except Refused as refused:
        if entry.speech is Speech.JSON:
            return problem(refused.status, refused.words)
        return visit.page("message.html", status=refused.status, title="Not done", words=refused.words)


def by_itself(request: Request) -> bool:
    """Whether the page asked by itself, without its person doing anything."""
    return request.query_params.get("auto") == "1"


def problem(status: int, detail: str, **more: Any) -> Response:
    """An error for programs (RFC 9457)."""
    body = {"type": "about:blank", "status": status, "detail": detail, **more}
    return JSONResponse(body, status_code=status, media_type="application/problem+json")


def local_path(target: str | None) -> str:
    """Where to go after signing in: a path of this page, never another host."""
    if not target or not target.startswith("/") or target[1:2] in ("/", "\\") or not target.isprintable():
        return "/"
    return target if len(target) <= 500 and "\\" not in target else "/"


def _sign_in_first(entry: Entry, request: Request) -> Response:
    if entry.speech is Speech.JSON:
        return problem(401, "sign in first")
    target = request.url.path
    if entry.method in SAFE:
        target += f"?{request.url.query}" if request.url.query and not by_itself(request) else ""
    else:
        # The form's own address answers no GET: go back to the page that it stands on.
        target = target.rsplit("/", 1)[0] or "/"
    return RedirectResponse(f"/sign-in?next={quote(target, safe='/')}", status_code=303)


def _check_origin(request: Request, settings: Settings) -> None:
    origin = request.headers.get("origin")
    if origin is None:
        if request.headers.get("sec-fetch-site") == "same-origin":
            return
        raise Refused(403, "The request does not say which page it comes from.")
    allowed = {urlsplit(settings.web_public_url).netloc, request.headers.get("host", "")}
    if urlsplit(origin).netloc not in allowed - {""}:
        raise Refused(403, "The request comes from another site.")


def _check_token(visit: Visit, session: Session) -> None:
    given = visit.request.headers.get("x-csrf-token") or visit.fields.get("csrf", "")
    if not hmac.compare_digest(given.encode(), session.csrf_token.encode()):
        raise Refused(403, "This form is from an earlier sign-in. Go back, load the page again and repeat it.")


async def _fields(request: Request) -> Mapping[str, str]:
    """The fields of a form or of a flat JSON object, as text."""
    body = await _body(request)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if not body:
        return {}
    try:
        if kind == "application/json":
            document = json.loads(body)
            if not isinstance(document, dict):
                raise Refused(400, "Expected a JSON object.")
            return {str(name): value for name, value in document.items() if isinstance(value, str)}
        if kind == "application/x-www-form-urlencoded":
            return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20))
    except (ValueError, RecursionError) as error:
        raise Refused(400, "The request's fields cannot be read.") from error
    raise Refused(415, "Expected a form or JSON.")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            raise Refused(413, "The request is too large.")
    return bytes(body)
