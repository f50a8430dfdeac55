"""From a request's body to the bytes of each report in it, without decoding any report."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from services.ingest.problems import Kind, Problem
from streams.topics import MAX_BATCH_REPORTS

MAX_REPORTS: Final = MAX_BATCH_REPORTS
_SPACE: Final = b" \t\r\n"


class Form(StrEnum):
    """How reports stand in a body."""

    JSON = "application/json"
    """One report, or an array of reports."""
    LINES = "application/x-ndjson"
    """One report per line; a bad line spoils only itself."""


_FORMS: Final = {
    "application/json": Form.JSON,
    "application/x-ndjson": Form.LINES,
    "application/ndjson": Form.LINES,
    "application/jsonl": Form.LINES,
}
_CHARSETS: Final = frozenset({"utf-8", "utf8"})


def form_of(content_type: str | None) -> Form | Problem:
    """What a ``Content-Type`` announces; any charset but UTF-8 is refused."""
    if not content_type:
        return Problem(Kind.MEDIA_TYPE, f"say one of {', '.join(_FORMS)} in Content-Type")
    essence, *parameters = (part.strip() for part in content_type.split(";"))
    form = _FORMS.get(essence.lower())
    if form is None:
        return Problem(Kind.MEDIA_TYPE, f"send one of {', '.join(_FORMS)}")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in _CHARSETS:
            return Problem(Kind.CHARSET, "send UTF-8")
    return form


def split(body: bytes, form: Form) -> Sequence[bytes] | Problem:
    """The bytes of each report, in order; 1 to `MAX_REPORTS` of them.

    A syntax error anywhere in JSON is a problem of the whole body; in lines it stays in its line.
    """
    parts = _lines(body) if form is Form.LINES else _elements(body)
    if isinstance(parts, Problem):
        return parts
    if not parts:
        return Problem(Kind.EMPTY, "send at least one report")
    if len(parts) > MAX_REPORTS:
        return Problem(Kind.TOO_MANY_REPORTS, f"at most {MAX_REPORTS} reports go into one request")
    return parts


def _lines(body: bytes) -> list[bytes]:
    return [line for line in body.split(b"\n") if line.strip(_SPACE)]


# Raw only checks the syntax: no report is decoded here, and none is encoded again.
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_SINGLE: Final = msgspec.json.Decoder(msgspec.Raw)


def _elements(body: bytes) -> list[bytes] | Problem:
    body = body.strip(_SPACE)
    if not body:
        return []
    try:
        if body.startswith(b"["):
            return [bytes(element) for element in _ARRAY.decode(body)]
        _SINGLE.decode(body)
        return [body]
    except RecursionError:
        return Problem(Kind.TOO_DEEP, "nested too deeply")
    except UnicodeDecodeError:
        return Problem(Kind.NOT_UTF8, "send UTF-8")
    except msgspec.DecodeError as error:
        return Problem(Kind.NOT_JSON, str(error))
