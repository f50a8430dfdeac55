"""Refill conditions: what was put in, what should be left, and what follows an interruption."""

from __future__ import annotations

from typing import Final

from streams.domain.rule import Named

CONDITIONS: Final[dict[str, Named]] = {}
