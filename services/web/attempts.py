"""How often somebody may try to sign in: guessing is made slow without locking out the person on call.

Counted per name and address, per address, and per name; a name's own limit does not hold where that person has signed
in before, so nobody can keep a nurse out by guessing at her password from elsewhere. The counts are this process' own.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import datetime, timedelta
from typing import Final

WINDOW: Final = timedelta(minutes=5)
PER_NAME_AND_ADDRESS: Final = 5
PER_ADDRESS: Final = 30
PER_NAME: Final = 50
KEYS: Final = 10_000


class Attempts:
    """Failed attempts of the last five minutes; bounded, the oldest names and addresses are forgotten first."""

    def __init__(self) -> None:
        self._failures: OrderedDict[tuple[str, str], deque[datetime]] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def wait(self, name: str, address: str, now: datetime) -> timedelta | None:
        """How long to wait before the next attempt; None: it may be made now."""
        limits = [((name, address), PER_NAME_AND_ADDRESS), (("", address), PER_ADDRESS)]
        if (name, address) not in self._known:
            limits.append(((name, ""), PER_NAME))
        waits = [self._wait(key, limit, now) for key, limit in limits]
        return max((wait for wait in waits if wait is not None), default=None)

    def failed(self, name: str, address: str, now: datetime) -> None:
        """Count a failed attempt."""
        for key, limit in (
            ((name, address), PER_NAME_AND_ADDRESS),
            (("", address), PER_ADDRESS),
            ((name, ""), PER_NAME),
        ):
            self._failures.setdefault(key, deque(maxlen=limit)).append(now)
            self._failures.move_to_end(key)
        while len(self._failures) > KEYS:
            self._failures.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """Take back the attempt just counted, forget the person's mistyping there, and remember where they sign in."""
        self._failures.pop((name, address), None)
        for key in (("", address), (name, "")):
            # The attempt was counted before its outcome was known: a busy ward behind one address is no attack.
            if failures := self._failures.get(key):
                failures.pop()
        self._known[name, address] = None
        self._known.move_to_end((name, address))
        while len(self._known) > KEYS:
            self._known.popitem(last=False)

    def _wait(self, key: tuple[str, str], limit: int, now: datetime) -> timedelta | None:
        failures = self._failures.get(key)
        if failures is None or len(failures) < limit:
            return None
        left = failures[0] + WINDOW - now
        return left if left > timedelta(0) else None
