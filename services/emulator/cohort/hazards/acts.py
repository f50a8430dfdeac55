"""What several hazards do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from services.emulator import physics
from services.emulator.cohort.life import MINUTE, Life


def midnight(at: datetime) -> datetime:
    """The beginning of that day."""
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def in_session(
    life: Life, at: datetime, do: Callable[[datetime, str], None], *, delay: timedelta = timedelta(0)
) -> None:
    """Let a clinic's session with ``do`` in it begin ``delay`` after ``at``; its number is drawn at ``at``."""

    def visit(moment: datetime) -> None:
        life.session(moment + delay, do)

    life.plan(at, visit)


def mended_in_session(life: Life, at: datetime, lasts: timedelta, program: physics.Program | None = None) -> None:
    """``lasts`` after ``at`` a clinic clears the faults and programs what was prescribed.

    That is ``program``, or what the pump runs a minute before ``at``.
    """
    held = {"program": program}

    def remember(_: datetime) -> None:
        held["program"] = held["program"] or life.pump.program

    def mend(moment: datetime, session_id: str) -> None:
        life.pump = physics.mended(life.pump, moment)
        right = held["program"]
        if right is not None and right != life.pump.program:
            life.pump = physics.reprogram(life.pump, moment, right, session_id)

    life.plan(at - MINUTE, remember)
    in_session(life, at + lasts, mend, delay=MINUTE)
