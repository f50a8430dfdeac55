"""Therapy conditions: the program against the prescription, doses, boluses, and what patients report."""

from __future__ import annotations

from typing import Final

from streams.domain.rule import Named

CONDITIONS: Final[dict[str, Named]] = {}
