"""Calls that wait for a shard to have an owner: bounded, in order, aware of deadlines. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from seedbed.deadlines import Deadlines
from seedbed.errors import CallError, Reason

T = TypeVar("T", bound=Hashable)

RETRY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class ParkingLimits:
    """How much may wait; the settings are named where one is full."""

    calls: int = 10_000
    bytes: int = 64 * 1024 * 1024
    calls_per_shard: int = 1_000


@dataclass(frozen=True, slots=True)
class _Place:
    type: str
    shard: int
    size: int
    tick: int


class Parking(Generic[T]):
    """Waiting items by shard, in an order that they bring. An item is in it at most once."""

    def __init__(self, limits: ParkingLimits) -> None:
        self._limits = limits
        self._by_shard: dict[tuple[str, int], dict[T, int]] = {}
        self._places: dict[T, _Place] = {}
        self._deadlines = Deadlines[T]()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def bytes(self) -> int:
        """Sum of the sizes of what waits."""
        return self._bytes

    @property
    def has_deadlines(self) -> bool:
        """Something here can fall due."""
        return bool(self._deadlines)

    @property
    def next_ns(self) -> int | None:
        """When `due` gives something next; None while nothing waits with a deadline."""
        return self._deadlines.next_ns()

    def enter(
        self, type_: str, shard: int, item: T, *, size: int, due_ns: int | None, order: int
    ) -> None:
        """Let an item wait, until `due_ns` at most. Raises `CallError` when a limit is reached.

        Those with a lower `order` leave before it, whenever they enter.
        """
        limits = self._limits
        waiting = self._by_shard.get((type_, shard), {})
        if len(self._places) >= limits.calls:
            raise _full(f"{limits.calls} calls", "SEEDBED_PARKED_CALLS")
        if self._bytes + size > limits.bytes:
            raise _full(f"{limits.bytes} bytes", "SEEDBED_PARKED_BYTES")
        if len(waiting) >= limits.calls_per_shard:
            raise _full(
                f"{limits.calls_per_shard} calls of shard {shard} of {type_}",
                "SEEDBED_PARKED_CALLS_PER_SHARD",
            )
        tick = self._deadlines.add(due_ns, item) if due_ns is not None else 0
        waiting[item] = order
        self._by_shard[type_, shard] = waiting
        self._places[item] = _Place(type_, shard, size, tick)
        self._bytes += size

    def leave(self, item: T) -> bool:
        """Take one out (its caller has gone); False if it does not wait here."""
        place = self._places.get(item)
        if place is None:
            return False
        self._deadlines.discard(place.tick, item)
        self._remove(item, place)
        return True

    def shards(self) -> list[tuple[str, int]]:
        """Shards for which something waits."""
        return list(self._by_shard)

    def waits_for(self, type_: str, shard: int) -> bool:
        """Something waits for this shard."""
        return (type_, shard) in self._by_shard

    def release(self, type_: str, shard: int) -> list[T]:
        """Take out all that waits for a shard, in its order."""
        waiting = self._by_shard.get((type_, shard), {})
        items = sorted(waiting, key=waiting.__getitem__)
        for item in items:
            self.leave(item)
        return items

    def due(self, now_ns: int) -> list[T]:
        """Take out what has waited as long as it may."""
        items = self._deadlines.due(now_ns)
        for item in items:
            self._remove(item, self._places[item])
        return items

    def _remove(self, item: T, place: _Place) -> None:
        del self._places[item]
        self._bytes -= place.size
        waiting = self._by_shard[place.type, place.shard]
        del waiting[item]
        if not waiting:
            del self._by_shard[place.type, place.shard]


def _full(limit: str, setting: str) -> CallError:
    return CallError(
        Reason.OVERLOADED,
        f"{limit} already wait here for a new owner ({setting}); nothing ran",
        retry_after_s=RETRY_S,
    )
