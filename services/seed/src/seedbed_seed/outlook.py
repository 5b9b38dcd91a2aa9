"""When the shards of a lost owner may be another's, for this seed's router and for its followers.

Both are told what the coordinator's core says. A router asks it shard by shard. Followers get one
time for each lost owner, the earliest of all its types: who waits in vain is answered at his
deadline, but nobody is turned away who need only have waited.
"""

from __future__ import annotations

from collections.abc import Iterable

from seedbed.clock import Clock
from seedbed.ids import Incarnation
from seedbed.outlook import RESUME_NS
from seedbed.routing import ShardTable
from seedbed_seed.core.coordinator import Coordinator


class ShardOutlook:
    """A router's `Outlook`, by the coordinator's core."""

    def __init__(self, coordinator: Coordinator, clock: Clock) -> None:
        self._coordinator = coordinator
        self._clock = clock

    def available_in_s(self, type: str, shard: int) -> float | None:  # noqa: A002  the port's name
        """Seconds from now; None if nobody knows."""
        now_ns = self._clock.now_ns()
        at_ns = self._coordinator.movable_at_ns(type, shard, now_ns)
        return None if at_ns is None else max(0.0, (at_ns - now_ns) / 1e9)

    def back_within_s(self, type: str, shard: int) -> float:  # noqa: A002  the port's name
        """Seconds in which a silent owner may be back by itself; 0: it is not expected any more."""
        marked_ns = self._coordinator.marked_ns(type, shard)
        if marked_ns is None:
            return 0.0
        return max(0, marked_ns + RESUME_NS - self._clock.now_ns()) / 1e9


def lost_owners(
    coordinator: Coordinator, tables: Iterable[ShardTable], now_ns: int
) -> tuple[tuple[Incarnation, int], ...]:
    """Lost owners in order, with the time at which their shards may move; not those of whom it is
    unknown, or any moment now."""
    lost = coordinator.unreachable()
    if not lost:
        return ()
    found: dict[Incarnation, int] = {}
    for table in tables:
        for index, owner in enumerate(table.owners, 1):
            if owner.incarnation in lost and index in table.owner:
                # All of an owner's shards of one type may move at the same time.
                shard = table.first_shard + table.owner.index(index)
                at_ns = coordinator.movable_at_ns(table.type, shard, now_ns) or 0
                known_ns = found.get(owner.incarnation, at_ns)
                found[owner.incarnation] = min(known_ns, at_ns)
    return tuple(sorted((owner, at_ns) for owner, at_ns in found.items() if at_ns > now_ns))
