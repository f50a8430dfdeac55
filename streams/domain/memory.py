"""What typed conditions remember from report to report: an operator takes facts in and keeps a small, bounded memory.

An operator is one leaf of a rule's condition. Its memory lives with the pump's state under the operator's key, which
holds the rule's id and what the operator does, so that a changed rule starts with an empty memory.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec

from streams.domain.profile import Therapy
from streams.domain.telemetry import Event, Report


class Point(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A number and its event time."""

    at: datetime
    value: float


class Memory(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one operator remembers; each operator says what the parts mean to it. Times are event times."""

    since: datetime | None = None
    until: datetime | None = None
    points: tuple[Point, ...] = ()
    numbers: tuple[float, ...] = ()


EMPTY: Memory = Memory()


class Fact(msgspec.Struct, frozen=True):
    """One thing that a report says: one of its events, or all its measurements together (``event`` is None then)."""

    at: datetime
    report: Report
    event: Event | None
    therapy: Therapy


class Operator(Protocol):
    """A part of a typed condition with a memory of its own.

    ``signals`` are names of report fields, ``report`` for the measurements of every report, and ``event:TYPE`` for
    events. `observe` is called for every fact that carries one of them, once for each: measurements come in event-time
    order, and one that is older than what was already observed is left out; an event may be older.
    """

    @property
    def key(self) -> str:
        """Where its memory lies; unique in the rule book, and another whenever the operator means something else."""

    @property
    def signals(self) -> frozenset[str]:
        """What it listens to."""

    def observe(self, memory: Memory, fact: Fact) -> Memory:
        """The memory after a fact; the very same object where nothing changed."""
