"""Many deadlines at the price of a dict entry each: a coarse wheel, without I/O or a clock."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

TICK_NS: Final = 20_000_000
"""How late a deadline may be noticed."""


class Deadlines(Generic[T]):
    """Items by the tick in which they fall due. An item is in it at most once."""

    __slots__ = ("_ticks",)

    def __init__(self) -> None:
        self._ticks: dict[int, dict[T, None]] = {}

    def __bool__(self) -> bool:
        return bool(self._ticks)

    def add(self, at_ns: int, item: T) -> int:
        """Put in; the tick that is returned takes it out again. Never due before `at_ns`."""
        tick = at_ns // TICK_NS + 1
        items = self._ticks.get(tick)
        if items is None:
            items = self._ticks[tick] = {}
        items[item] = None
        return tick

    def discard(self, tick: int, item: T) -> None:
        """Take out; nothing happens if it has fallen due."""
        items = self._ticks.get(tick)
        if items is not None:
            items.pop(item, None)
            if not items:
                del self._ticks[tick]

    def next_ns(self) -> int | None:
        """When `due` gives something next; None while there is nothing."""
        return min(self._ticks) * TICK_NS if self._ticks else None

    def due(self, now_ns: int) -> list[T]:
        """Take out all that is due, earliest tick first."""
        now = now_ns // TICK_NS
        late = sorted(tick for tick in self._ticks if tick <= now)
        return [item for tick in late for item in self._ticks.pop(tick)]
