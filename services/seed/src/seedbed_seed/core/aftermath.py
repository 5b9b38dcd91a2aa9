"""What a store that went back, or lost tables, leaves behind: tables to be written again, and
shards that wait without an owner.

Theory. The store tells no more who owned a volatile shard in the future that was lost. Whoever did
may hold a valid lease, and believe its table: a seed's own memory does not say who it is, since its
watch may have lagged when that future ended. So nobody is asked. First every table is written
again, above all generations that were handed out, and volatile shards have no owner in it:

    lost ──> no owner, new epoch ──a TTL after this seed saw it──> an owner, new epoch

A lease that is valid a TTL after that write was renewed after it, hence by a seed that had sent the
write before it acknowledged: its holder knows that the shard is not its own, and everyone else's
lease has run out. The wait needs no memory but the table: a shard without an owner in a table that
exists waits a TTL from when *this* seed first saw it so, whoever wrote it and whoever leads then.
(Nothing else leaves a shard without an owner: placement gives all of a table at once.)

A durable shard is fenced by its journal and keeps its owner, in a new epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from seedbed.ids import Generation
from seedbed.routing import ShardTable
from seedbed_seed.core.draft import TableKey

LEAP_MS = 60_000
"""Generations of tables written again are this far ahead of the clock, and of what was known: what
this seed has not seen of the lost future may have been written by one whose clock was ahead."""

_LATE_NS = 1_000_000_000
"""The store may end leases this much late, and begins those of a backup anew: before then a member
that died long ago looks like one that could take the shards."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """A table must be written again, above `floor`; these places of it get no owner.

    A table that is gone and has none of them is placed like a first one.
    """

    floor: Generation
    vacated: frozenset[int]

    def done_by(self, table: ShardTable) -> bool:
        """Is this the table, or one written after it?"""
        return table.generation > self.floor and all(
            not index or (place not in self.vacated and epoch > self.floor)
            for place, (index, epoch) in enumerate(zip(table.owner, table.epoch, strict=True))
        )


class Aftermath:
    """By table. `waits`: volatile shards wait (they do not with `evidence` "all")."""

    __slots__ = ("_renewals", "_vacant_ns", "_waits")

    def __init__(self, *, waits: bool) -> None:
        self._waits = waits
        self._renewals: dict[TableKey, Renewal] = {}
        self._vacant_ns: dict[TableKey, int] = {}

    def lost(
        self,
        key: TableKey,
        size: int,
        floor: Generation,
        *,
        before: ShardTable | None,
        now: ShardTable | None,
    ) -> None:
        """The store has gone back from the table `before` to the table `now` (None: none known)."""
        vacated = frozenset(
            place for place in range(size) if self._waits and not _is_durable(place, before, now)
        )
        known = self._renewals.get(key)
        if known is not None:
            vacated |= known.vacated
        if now is None and vacated:
            # There is nobody to leave the other places to.
            vacated = frozenset(range(size))
        self._renewals[key] = Renewal(floor, vacated)

    def renewed(self, key: TableKey) -> None:
        """Somebody has written the table again."""
        self._renewals.pop(key, None)

    def seen(
        self, key: TableKey, before: ShardTable | None, table: ShardTable | None, now_ns: int
    ) -> None:
        """The store holds this table now, and held that one before."""
        renewal = self._renewals.get(key)
        if renewal is not None and table is not None and renewal.done_by(table):
            del self._renewals[key]
        if table is None or 0 not in table.owner:
            self._vacant_ns.pop(key, None)
        elif key not in self._vacant_ns or _has_new_vacancy(before, table):
            self._vacant_ns[key] = now_ns

    def renewals(self) -> Iterator[tuple[TableKey, Renewal]]:
        """Tables to be written again."""
        return iter(self._renewals.items())

    def free_at_ns(self, key: TableKey, ttl_ns: int) -> int:
        """When the table's shards without an owner may be given one."""
        since_ns = self._vacant_ns.get(key)
        return since_ns + ttl_ns + _LATE_NS if self._waits and since_ns is not None else 0


def _is_durable(place: int, *tables: ShardTable | None) -> bool:
    """Did all its owners say so, and was there one?"""
    owners = [
        table.owners[table.owner[place] - 1]
        for table in tables
        if table is not None and place < len(table.owner) and table.owner[place]
    ]
    return bool(owners) and all(owner.durable for owner in owners)


def _has_new_vacancy(before: ShardTable | None, table: ShardTable) -> bool:
    if before is None or len(before.owner) != len(table.owner):
        return True
    return any(
        not index and (old_index or epoch != old_epoch)
        for index, epoch, old_index, old_epoch in zip(
            table.owner, table.epoch, before.owner, before.epoch, strict=True
        )
    )
