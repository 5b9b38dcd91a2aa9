"""Who leaves memory and when: entities of one type by their last use.

Theory. Using an entity must cost next to nothing, so it is only noted on the entity itself
(`seedbed_since`). What is ordered here is looked at when something is to leave: keys lie in
buckets by the time at which they were put there, which is never later than the last use. The oldest
bucket is opened into a heap; a key whose entity was used since then moves on to where it belongs.
So the first of the heap really is the least recently used, every key is moved at most once per
bucket's width, and there is no pointer from entity to entity (links between a million of them in
order of use made a full garbage collection three times as long).

A collection is spared two more things. One number stands for a whole moment (`stamp`): a number for
each entity, made whenever that was used last, lies anywhere in memory, and all are looked at (at
1 M entities 150 ms became 300). And full parts of a bucket are tuples of strings, which are not
looked at (15 ms less).

Keys of entities that are gone stay until they are met, or until they are the most of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from itertools import chain
from typing import Generic, Protocol, TypeVar

BUSY = 1 << 62
"""`seedbed_since` of an entity that is in use."""

_WIDTHS = 128
"""Buckets in one time-out."""

_MOMENT_NS = 1_000_000
"""So exactly is the last use known."""

_PART = 1000
"""Keys in a part of a bucket."""

_LITTER = 10_000
"""Keys of gone entities that do not matter."""


class Aged(Protocol):
    """What leaves memory some day."""

    seedbed_since: int


N = TypeVar("N", bound=Aged)


class Ages(Generic[N]):
    """The entities of one type, given as the table of those alive."""

    __slots__ = (
        "_buckets", "_full", "_live", "_moment", "_old", "_shift", "_ticks", "placed", "timeout_ns",
    )  # fmt: skip

    def __init__(self, live: Mapping[str, N], timeout_ns: int) -> None:
        self._live = live
        self.timeout_ns = timeout_ns
        self._shift = max(1, (timeout_ns // _WIDTHS).bit_length() - 1)
        self._old: list[tuple[int, str]] = []
        self._buckets: dict[int, list[str]] = {}
        self._full: dict[int, list[tuple[str, ...]]] = {}
        """Parts of buckets that take no more."""
        self._ticks: list[int] = []
        self._moment = 0
        self.placed = 0

    def stamp(self, now_ns: int) -> int:
        """`seedbed_since` of what is used now: a moment earlier at most."""
        moment = self._moment
        if now_ns - moment >= _MOMENT_NS:
            self._moment = moment = now_ns
        return moment

    def add(self, key: str, now_ns: int) -> None:
        """A new one, or one that `due` or `oldest` gave and that stays after all."""
        if self.placed > 2 * len(self._live) + _LITTER:
            self._sweep_up(now_ns)
        self._place(key, now_ns)

    def due(self, now_ns: int, limit: int) -> list[N]:
        """Take out what has not been used for the time-out, at most `limit`, oldest first."""
        since = now_ns - self.timeout_ns
        found: list[N] = []
        while len(found) < limit:
            oldest = self._settle(now_ns, since)
            if oldest is None or oldest[0] > since:
                break
            self._pop()
            entity = self._live[oldest[1]]
            if not found or found[-1] is not entity:  # an earlier life may have left the same key
                found.append(entity)
        return found

    def oldest(self, now_ns: int) -> N | None:
        """The least recently used that is not in use; it stays."""
        found = self._settle(now_ns, now_ns)
        return self._live[found[1]] if found is not None else None

    def next_due_ns(self) -> int | None:
        """Nothing is due before; None if there is nothing at all."""
        if self._old:
            return self._old[0][0] + self.timeout_ns
        if self._ticks:
            return (self._ticks[0] << self._shift) + self.timeout_ns
        return None

    def _settle(self, now_ns: int, until_ns: int) -> tuple[int, str] | None:
        """Bring the least recently used to the top; None if all there is was used after `until`."""
        busy: list[str] = []
        found: tuple[int, str] | None = None
        while found is None:
            if not self._old and not self._open(until_ns, busy):
                break
            while self._old:
                since, key = self._old[0]
                entity = self._live.get(key)
                if entity is not None and entity.seedbed_since == since:
                    found = self._old[0]
                    break
                self._pop()
                if entity is None:
                    continue
                if entity.seedbed_since == BUSY:
                    busy.append(key)
                else:
                    self._place(key, entity.seedbed_since)
        for key in busy:
            self._place(key, now_ns)
        return found

    def _open(self, until_ns: int, busy: list[str]) -> bool:
        """Turn the oldest bucket into the heap."""
        if not self._ticks or self._ticks[0] << self._shift > until_ns:
            return False
        tick = heappop(self._ticks)
        for key in chain(*self._full.pop(tick, ()), self._buckets.pop(tick)):
            self.placed -= 1
            entity = self._live.get(key)
            if entity is None:
                continue
            since = entity.seedbed_since
            if since == BUSY:
                busy.append(key)
            elif since >> self._shift > tick:
                self._place(key, since)
            else:
                self._old.append((since, key))
                self.placed += 1
        heapify(self._old)
        return True

    def _place(self, key: str, since_ns: int) -> None:
        self.placed += 1
        tick = since_ns >> self._shift
        if self._old and tick <= self._old[0][0] >> self._shift:
            heappush(self._old, (since_ns, key))
            return
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = []
            heappush(self._ticks, tick)
        bucket.append(key)
        if len(bucket) == _PART:
            self._full.setdefault(tick, []).append(tuple(bucket))
            bucket.clear()

    def _pop(self) -> None:
        heappop(self._old)
        self.placed -= 1

    def _sweep_up(self, now_ns: int) -> None:
        """Place anew those that live."""
        self._old = []
        self._buckets = {}
        self._full = {}
        self._ticks = []
        self.placed = 0
        for key, entity in self._live.items():
            self._place(key, min(entity.seedbed_since, now_ns))
