"""From one report's bytes to a report that may go on, or the reason why it may not."""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from streams.domain.telemetry import Rejected, RejectReason, Report, validate


class Reason(StrEnum):
    """Why a report was not taken: in the answer, the metric and the dead letter."""

    TOO_LARGE = RejectReason.TOO_LARGE.value
    NOT_UTF8 = RejectReason.NOT_UTF8.value
    NOT_JSON = RejectReason.NOT_JSON.value
    TOO_DEEP = RejectReason.TOO_DEEP.value
    INVALID = RejectReason.INVALID.value
    TOO_OLD = RejectReason.TOO_OLD.value
    TOO_FAR_AHEAD = RejectReason.TOO_FAR_AHEAD.value
    FOREIGN_GATEWAY = RejectReason.FOREIGN_GATEWAY.value
    DUPLICATE_NAME = "duplicate_name"
    """A name stands twice in one object; which value was meant is anybody's guess (RFC 8259, section 4)."""
    KEY_MISMATCH = "key_mismatch"
    """The Kafka record's key is not the report's pump."""
    NO_VALUE = "no_value"
    """The Kafka record has no value."""


class _NameTwice(Exception):
    """A name stands twice in one object."""


def _only_once(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _NameTwice


# Runs on what already is a valid report, so depth and size of numbers are bounded.
_NAMES: Final = json.JSONDecoder(object_pairs_hook=_only_once)


def judge(raw: bytes, now: datetime) -> Report | Rejected:
    """As `streams.domain.telemetry.validate`, and refuse a name that stands twice in one object.

    Such a report is ambiguous: parsers differ in which value they take, and a gateway that writes it is broken.
    """
    report = validate(raw, now)
    if isinstance(report, Rejected):
        return report
    try:
        _NAMES.decode(raw.decode())
    except _NameTwice:
        return _DUPLICATE
    return report


DUPLICATE_DETAIL: Final = "a field is given twice"
_DUPLICATE: Final = Rejected(RejectReason.INVALID, "", DUPLICATE_DETAIL)


def reason_of(rejected: Rejected) -> Reason:
    """The word for a rejection."""
    return Reason.DUPLICATE_NAME if rejected is _DUPLICATE else Reason(rejected.code.value)
