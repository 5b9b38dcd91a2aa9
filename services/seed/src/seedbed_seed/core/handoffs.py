"""Which shards are being handed off, since when this seed knows, and which of them may end.

Theory. A hand-off stands in the table, so any leader goes on with it; what does not stand there is
time, since no two machines agree on it. It ends in a new epoch, always: a release, and a limit, are
an owner's word about one epoch. It may end

    at once            when the owner's record says that it released the shard in this epoch, be
                       the record gone by now or not;
    seen + limit + ttl whatever the owner says: whoever holds a valid lease a TTL after the table
                       was written has seen it, and gives the shard up by itself a limit later; and
                       anyone else has no lease, and serves nothing.

"Seen" is when *this* seed saw the shard in hand-off in this epoch, which is later than the write: a
new leader that has just started waits longer, and that is safe. (An owner that is gone frees its
shards as ever, and often sooner: `rehoming`.)

The shard goes to the owner that was named, else to any other that may be given it. If there is
none, it stays where it is, in a new epoch, while that one serves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from seedbed.ids import Epoch, Incarnation
from seedbed.routing import CHUNK, Release, ShardTable
from seedbed_seed.core.draft import TableKey
from seedbed_seed.core.roster import Roster

_MS = 1_000_000


class Underway(NamedTuple):
    """A shard in hand-off."""

    type: str
    shard: int
    epoch: Epoch
    owner: Incarnation
    to: Incarnation
    limit_ns: int
    since_ns: int


class Handoffs:
    """Every hand-off that a table shows."""

    __slots__ = ("_tables",)

    def __init__(self) -> None:
        self._tables: dict[TableKey, dict[int, Underway]] = {}

    def seen(self, key: TableKey, table: ShardTable | None, now_ns: int) -> None:
        """The store holds this table now."""
        known = self._tables.pop(key, {})
        if table is None or not table.handoffs:
            return
        self._tables[key] = shown = dict[int, Underway]()
        for shard, (to, limit_ms) in table.handoffs.items():
            owner = table.owner_of(shard)
            epoch = table.epoch[shard % CHUNK]
            before = known.get(shard)
            same = before is not None and before.epoch == epoch
            if owner is not None:
                since_ns = before.since_ns if before is not None and same else now_ns
                shown[shard] = Underway(
                    table.type, shard, epoch, owner.incarnation, to, limit_ms * _MS, since_ns
                )

    def forget(self) -> None:
        """The store has gone back: when anything was written is not known any more."""
        self._tables.clear()

    def __iter__(self) -> Iterator[Underway]:
        for shards in self._tables.values():
            yield from shards.values()

    def get(self, type_: str, shard: int) -> Underway | None:
        """The hand-off of this shard, if there is one."""
        return self._tables.get((type_, shard // CHUNK), {}).get(shard)

    def of(self, type_: str) -> int:
        """How many shards of the type are being handed off."""
        return sum(len(shards) for key, shards in self._tables.items() if key[0] == type_)

    def __len__(self) -> int:
        return sum(len(shards) for shards in self._tables.values())


def ends_ns(one: Underway, roster: Roster) -> int:
    """From when on the hand-off may end (0: it may)."""
    if Release(one.type, one.shard, one.epoch) in roster.released(one.owner):
        return 0
    return one.since_ns + one.limit_ns + roster.ttl_ns
