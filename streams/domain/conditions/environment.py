"""Environment conditions: temperature at the pump."""

from __future__ import annotations

from typing import Final

from streams.domain.rule import Named

CONDITIONS: Final[dict[str, Named]] = {}
