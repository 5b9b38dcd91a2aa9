"""Every table that is written, and what it must never show.

- Generations and epochs only rise, also above those of a future that a restore has lost.
- A shard changes its owner in a new epoch, and a hand-off ends in one.
- A shard is taken from an owner whose record is there only after a hand-off: once the record says
  that the owner released it, or the hand-off's limit and a TTL after that began.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from seedbed.ids import Epoch, Incarnation
from seedbed.routing import CHUNK, Release, ShardTable
from seedbed_seed.core.membership import Worker
from tests.simulation.calls import TTL_NS
from tests.simulation.kernel import MS, Kernel, Violation

Place: TypeAlias = tuple[str, int]
Member: TypeAlias = Callable[[Incarnation], Worker | None]


class Move(NamedTuple):
    """A shard that one worker had, and another has now."""

    at_ns: int
    place: Place


@dataclass(frozen=True, slots=True)
class HandoffSeen:
    """A hand-off, from the write that shows it to the one that does not."""

    place: Place
    epoch: Epoch
    limit_ns: int
    since_ns: int


class Movements:
    """`guarded` is off where the answers to clients alone shall show that a move came too soon."""

    def __init__(self, kernel: Kernel, *, guarded: bool) -> None:
        self.moves: list[Move] = []
        self.under_way: dict[Place, HandoffSeen] = {}
        self.begun = 0
        self.longest_ns = 0
        """Of the hand-offs that have ended."""
        self._kernel = kernel
        self._guarded = guarded
        self._newest: dict[tuple[str, int], ShardTable] = {}

    def written(self, table: ShardTable, member: Member, *, lost: bool) -> None:
        """A table is written; with `lost`, over one that a restore has brought back."""
        key = (table.type, table.chunk)
        before = self._newest.get(key)
        self._newest[key] = table
        if before is not None:
            if table.generation <= before.generation:
                raise Violation(f"generation fell: {before.generation} to {table.generation}")
            for shard in range(table.first_shard, table.first_shard + len(table.owner)):
                self._compare(shard, before, table, member, lost=lost)

    def _compare(
        self, shard: int, before: ShardTable, table: ShardTable, member: Member, *, lost: bool
    ) -> None:
        place, now_ns = (table.type, shard), self._kernel.now_ns
        old, owner = before.owner_of(shard), table.owner_of(shard)
        old_epoch, epoch = before.epoch[shard % CHUNK], table.epoch[shard % CHUNK]
        what = f"{table.type}/{shard}"
        if epoch < old_epoch or (old != owner and epoch == old_epoch):
            raise Violation(f"{what}: epoch {epoch} did not rise with its owner")
        if old is not None and old != owner and not lost:
            self._check_leave(what, place, old_epoch, member(old.incarnation))
            self.moves.append(Move(now_ns, place))
        known = self.under_way.get(place)
        handoff = table.handoffs.get(shard)
        if known is not None and (handoff is None or lost or epoch != known.epoch):
            if not lost and epoch == known.epoch:
                raise Violation(f"{what}: a hand-off ended in the epoch in which it began")
            del self.under_way[place]
            if not lost:
                self.longest_ns = max(self.longest_ns, now_ns - known.since_ns)
            known = None
        if known is None and handoff is not None:
            self.begun += 1
            limit_ns = handoff.limit_ms * MS
            self.under_way[place] = HandoffSeen(place, epoch, limit_ns, now_ns)

    def _check_leave(self, what: str, place: Place, epoch: Epoch, owner: Worker | None) -> None:
        if owner is None or not owner.serving or not self._guarded:
            return
        if Release(*place, epoch) in owner.released:
            return
        handoff = self.under_way.get(place)
        if handoff is None:
            raise Violation(f"{what} was taken from {owner.incarnation} without a hand-off")
        if self._kernel.now_ns < handoff.since_ns + handoff.limit_ns + TTL_NS:
            raise Violation(f"{what} was taken from {owner.incarnation} before it released it")
