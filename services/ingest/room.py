"""Bounded room for bytes that are held in memory."""

from __future__ import annotations


class Room:
    """Counts bytes against a capacity, and a reserve beside it that is opened only on demand."""

    def __init__(self, capacity: int, reserve: int = 0) -> None:
        self._capacity, self._reserve, self.used = capacity, reserve, 0

    def fits(self, size: int, *, reserve: bool = False) -> bool:
        """Whether so many bytes are free; none always are, also while the reserve is in use."""
        if not size:
            return True
        return self.used + size <= self._capacity + (self._reserve if reserve else 0)

    def take(self, size: int) -> bool:
        """Take so many bytes; False, and nothing is taken, when they are not free."""
        if not self.fits(size):
            return False
        self.used += size
        return True

    def occupy(self, size: int) -> None:
        """Take bytes for which `fits` was asked."""
        self.used += size

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self.used -= size
