"""Numbers by day, or another even step of time, packed small: one for each place, 0 where nothing was said."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


class Series(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Whole numbers above 0 at consecutive places, oldest first; ``newest`` is the place of the last one."""

    newest: int = 0
    values: tuple[int, ...] = ()

    def told(self) -> Iterator[tuple[int, int]]:
        """Place and number of what was said, oldest first."""
        first = self.newest - len(self.values) + 1
        return ((first + index, value) for index, value in enumerate(self.values) if value)


def added(series: Series, place: int, value: int, kept: int) -> Series:
    """The series with a number at a place after its newest one; the first number of a place counts.

    At most ``kept`` places are remembered, the newest of them always.
    """
    if not series.values:
        return Series(place, (value,))
    skipped = place - series.newest - 1
    if skipped < 0:
        return series
    if skipped >= kept:
        return Series(place, (value,))
    return Series(place, (*series.values, *(0,) * skipped, value)[-kept:])
