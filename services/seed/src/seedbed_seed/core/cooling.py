"""Which shards have moved lately, so that a rebalance leaves them where they are.

A move is an owner replaced by another one, whatever for; a first owner is none. What happened
before this seed saw its first tables is judged by the shard's epoch, which is a wall clock in ms:
that takes a first placement for a move, and only delays a rebalance.
"""

from __future__ import annotations

from collections.abc import Iterable

from seedbed.ids import Generation
from seedbed.routing import CHUNK, ShardTable
from seedbed_seed.core.draft import TableKey

_MS = 1_000_000


class Cooling:
    """The last moves. A shard cools for `cooling_ns` after one."""

    __slots__ = ("_cooling_ns", "_inherited", "_moved_ns")

    def __init__(self, cooling_ns: int) -> None:
        self._cooling_ns = cooling_ns
        self._moved_ns: dict[tuple[str, int], int] = {}
        self._inherited: dict[TableKey, Generation] = {}

    def inherit(self, tables: Iterable[ShardTable]) -> None:
        """These are the first tables that this seed sees."""
        for table in tables:
            self._inherited[table.type, table.chunk] = table.generation

    def seen(self, before: ShardTable | None, table: ShardTable | None, now_ns: int) -> None:
        """The store holds this table now, and held that one before."""
        if before is None or table is None or len(before.owner) != len(table.owner):
            return
        was = (None, *(owner.incarnation for owner in before.owners))
        now = (None, *(owner.incarnation for owner in table.owners))
        if before.owner == table.owner and was == now:
            return
        for place, (old, new) in enumerate(zip(before.owner, table.owner, strict=True)):
            if was[old] is not None and was[old] != now[new]:
                self._moved_ns[table.type, table.first_shard + place] = now_ns

    def holds(self, table: ShardTable, shard: int, now_ns: int, wall_ms: int) -> bool:
        """Is the shard to be left where it is?"""
        moved_ns = self._moved_ns.get((table.type, shard))
        if moved_ns is not None:
            return now_ns < moved_ns + self._cooling_ns
        epoch = table.epoch[shard % CHUNK]
        inherited = self._inherited.get((table.type, table.chunk))
        if inherited is None or epoch > inherited:
            return False
        return wall_ms - epoch < self._cooling_ns // _MS
