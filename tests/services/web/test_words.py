"""The page has words for every code that history can hold."""

from __future__ import annotations

from services.web.words import KINDS, REASONS
from streams.domain.alert import AlertEventKind, Reason


def test_every_reason_and_every_kind_of_event_has_words() -> None:
    """A person reads neither enums nor underscores."""
    assert {reason.value for reason in Reason} - set(REASONS) == set()
    assert {kind.value for kind in AlertEventKind} - set(KINDS) == set()
