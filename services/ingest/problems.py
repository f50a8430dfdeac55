"""What is answered to a request that is not taken: RFC 9457 problem documents from a closed list."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.responses import Response

from services.ingest.metrics import RequestOutcome

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:pumpwatch:problem:"


class Kind(StrEnum):
    """Why a request as a whole was not taken; the last part of the problem's ``type``."""

    EMPTY = "empty"
    NOT_JSON = "not_json"
    NOT_UTF8 = "not_utf8"
    TOO_DEEP = "too_deep"
    BAD_GZIP = "bad_gzip"
    NOTHING_USABLE = "nothing_usable"
    NO_TOKEN = "no_token"  # noqa: S105 - the name of a problem
    UNKNOWN_TOKEN = "unknown_token"  # noqa: S105 - the name of a problem
    FOREIGN_GATEWAY = "foreign_gateway"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    SLOW_BODY = "slow_body"
    BODY_TOO_LARGE = "body_too_large"
    UNPACKED_TOO_LARGE = "unpacked_too_large"
    TOO_MANY_REPORTS = "too_many_reports"
    REPORT_TOO_LARGE = "report_too_large"
    MEDIA_TYPE = "media_type"
    CHARSET = "charset"
    CONTENT_ENCODING = "content_encoding"
    RATE_LIMITED = "rate_limited"
    INTERNAL = "internal"
    TOO_MANY_REQUESTS_OPEN = "too_many_requests_open"
    BUFFERS_FULL = "buffers_full"
    NOT_ACKNOWLEDGED = "not_acknowledged"


_BAD: Final = HTTPStatus.BAD_REQUEST
_MEDIA: Final = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
_LARGE: Final = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
_LATER: Final = HTTPStatus.SERVICE_UNAVAILABLE

MEANING: Final[dict[Kind, tuple[HTTPStatus, str]]] = {
    Kind.EMPTY: (_BAD, "The body holds no report"),
    Kind.NOT_JSON: (_BAD, "The body is not JSON"),
    Kind.NOT_UTF8: (_BAD, "The body is not UTF-8"),
    Kind.TOO_DEEP: (_BAD, "The body is nested too deeply"),
    Kind.BAD_GZIP: (_BAD, "The body is not whole gzip"),
    Kind.NOTHING_USABLE: (_BAD, "No report of the request is usable"),
    Kind.NO_TOKEN: (HTTPStatus.UNAUTHORIZED, "A gateway's bearer token is needed"),
    Kind.UNKNOWN_TOKEN: (HTTPStatus.UNAUTHORIZED, "The token belongs to no gateway, or was revoked"),
    Kind.FOREIGN_GATEWAY: (HTTPStatus.FORBIDDEN, "The token belongs to another gateway"),
    Kind.NOT_FOUND: (HTTPStatus.NOT_FOUND, "There is nothing here"),
    Kind.METHOD_NOT_ALLOWED: (HTTPStatus.METHOD_NOT_ALLOWED, "Reports are posted"),
    Kind.SLOW_BODY: (HTTPStatus.REQUEST_TIMEOUT, "The body took too long to arrive"),
    Kind.BODY_TOO_LARGE: (_LARGE, "The body is too large"),
    Kind.UNPACKED_TOO_LARGE: (_LARGE, "The unpacked body is too large"),
    Kind.TOO_MANY_REPORTS: (_LARGE, "The request has too many reports"),
    Kind.REPORT_TOO_LARGE: (_LARGE, "Every report of the request is too large"),
    Kind.MEDIA_TYPE: (_MEDIA, "The media type is not supported"),
    Kind.CHARSET: (_MEDIA, "Only UTF-8 is supported"),
    Kind.CONTENT_ENCODING: (_MEDIA, "Only gzip and identity are supported"),
    Kind.RATE_LIMITED: (HTTPStatus.TOO_MANY_REQUESTS, "The gateway sends more than its allowance"),
    Kind.INTERNAL: (HTTPStatus.INTERNAL_SERVER_ERROR, "Something unexpected happened"),
    Kind.TOO_MANY_REQUESTS_OPEN: (_LATER, "Too many requests are open"),
    Kind.BUFFERS_FULL: (_LATER, "The buffers are full"),
    Kind.NOT_ACKNOWLEDGED: (_LATER, "Kafka has not acknowledged the reports"),
}
"""Status and title of each kind."""

_OUTCOMES: Final[dict[HTTPStatus, RequestOutcome]] = {
    HTTPStatus.BAD_REQUEST: RequestOutcome.BAD,
    HTTPStatus.UNAUTHORIZED: RequestOutcome.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN: RequestOutcome.FORBIDDEN,
    HTTPStatus.REQUEST_TIMEOUT: RequestOutcome.SLOW,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: RequestOutcome.TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: RequestOutcome.UNSUPPORTED,
    HTTPStatus.TOO_MANY_REQUESTS: RequestOutcome.RATE_LIMITED,
    HTTPStatus.SERVICE_UNAVAILABLE: RequestOutcome.UNAVAILABLE,
    HTTPStatus.INTERNAL_SERVER_ERROR: RequestOutcome.FAILED,
}


@dataclass(frozen=True, slots=True)
class Rejection:
    """One report that was not taken.

    ``index`` counts the request's reports from 0 (in NDJSON the lines that are not blank); ``pointer`` is the RFC 6901
    path of the first offending field within the report; ``reason`` is a word of `Reason`, ``detail`` explains it.
    """

    index: int
    pointer: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request was not taken.

    ``pointer`` leads to the first offending field: within the report when there is only one, else behind its place in
    the request. ``retry_after_seconds`` says when to come back.
    """

    kind: Kind
    detail: str
    pointer: str = ""
    rejected: tuple[Rejection, ...] = ()
    retry_after_seconds: int | None = None

    @property
    def status(self) -> HTTPStatus:
        """The HTTP status."""
        return MEANING[self.kind][0]

    @property
    def outcome(self) -> RequestOutcome:
        """The word under which the request is counted."""
        return _OUTCOMES.get(self.status, RequestOutcome.BAD)

    def document(self) -> dict[str, Any]:
        """The problem document (RFC 9457)."""
        status, title = MEANING[self.kind]
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.kind.value,
            "title": title,
            "status": int(status),
            "detail": self.detail,
        }
        if self.pointer or self.rejected:
            document["pointer"] = self.pointer
        if self.rejected:
            document["rejected"] = self.rejected
        return document

    def response(self) -> Response:
        """The answer as it is sent."""
        headers = {}
        if self.retry_after_seconds is not None:
            headers["retry-after"] = str(self.retry_after_seconds)
        if self.status is HTTPStatus.UNAUTHORIZED:
            headers["www-authenticate"] = 'Bearer realm="pumpwatch"'
        if self.status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers["allow"] = "POST"
        if self.kind is Kind.SLOW_BODY:
            headers["connection"] = "close"
        return Response(msgspec.json.encode(self.document()), self.status, headers, MEDIA_TYPE)
