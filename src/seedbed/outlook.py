"""When the shards of lost owners will be another's, as a seed has told it.

For routers outside a seed: a call that cannot wait so long is answered at once. What was told is
replaced with each update; a time that has passed says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from seedbed.clock import Clock
from seedbed.ids import Incarnation
from seedbed.routing import RouteTable
from seedbed.v1 import cluster_pb2

_NS: Final = 1e9
_NS_PER_MS: Final = 1_000_000

RESUME_NS: Final = 500_000_000
"""A worker whose stream has ended, and whose lease has not, is expected back for this long: it goes
on with the same shards by another seed, and calls that come meanwhile need only wait."""


class ToldOutlook:
    """A router's `Outlook`, for the shards of this table."""

    def __init__(self, table: RouteTable, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._at_ns: dict[Incarnation, int] = {}
        self._since_ns: dict[Incarnation, int] = {}

    def told(self, lost: Iterable[cluster_pb2.Lost]) -> None:
        """Take over the whole list of an update that has just come."""
        now_ns = self._clock.now_ns()
        self._at_ns = {
            Incarnation(one.incarnation): now_ns + one.available_in_ms * _NS_PER_MS for one in lost
        }
        self._since_ns = {one: self._since_ns.get(one, now_ns) for one in self._at_ns}

    def available_in_s(self, type: str, shard: int) -> float | None:  # noqa: A002  the port's name
        """Seconds from now until the shard may have another owner; None if nobody knows."""
        if not self._at_ns:
            return None
        place = self._table.place(type, shard)
        if place is None or place.owner is None:
            return None
        at_ns = self._at_ns.get(place.owner.incarnation, 0)
        left_ns = at_ns - self._clock.now_ns()
        return left_ns / _NS if left_ns > 0 else None

    def back_within_s(self, type: str, shard: int) -> float:  # noqa: A002  the port's name
        """Seconds in which its owner may be back by itself; 0: it is not expected any more."""
        place = self._table.place(type, shard)
        if place is None or place.owner is None:
            return 0.0
        since_ns = self._since_ns.get(place.owner.incarnation)
        if since_ns is None:
            return 0.0
        return max(0, since_ns + RESUME_NS - self._clock.now_ns()) / _NS
