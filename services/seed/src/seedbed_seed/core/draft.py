"""Allocation tables being changed into the next ones: who gets what, in which epoch.

A shard that is not touched keeps its owner and its epoch; one that is gets the next generation,
also one that is left without an owner. A hand-off begins without touching the epoch, and whatever
gives the shard a new one ends it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from seedbed.ids import NO_EPOCH, NO_GENERATION, Epoch, Generation, Incarnation
from seedbed.routing import CHUNK, Handoff, Owner, ShardTable

TableKey: TypeAlias = tuple[str, int]
"""Type and chunk."""


class Draft:
    """Tables being changed into the next ones."""

    def __init__(
        self,
        tables: Mapping[TableKey, ShardTable],
        shard_counts: Mapping[str, int],
        generations: Mapping[str, Generation],
        wall_ms: int,
    ) -> None:
        self.lost: set[Incarnation] = set()
        self._tables = tables
        self._shard_counts = shard_counts
        self._generations = generations
        self._wall_ms = wall_ms
        self._given: dict[TableKey, dict[int, Owner | None]] = {}
        self._begun: dict[TableKey, dict[int, Handoff]] = {}
        self._floors: dict[str, int] = {}
        self._loads: Counter[tuple[str, Incarnation]] | None = None

    def give(self, type_: str, shard: int, owner: Owner) -> None:
        """The shard's next owner, in a new epoch; ends its hand-off, if it is in one."""
        self._send(type_, shard, owner.incarnation)
        self._given.setdefault((type_, shard // CHUNK), {})[shard % CHUNK] = owner

    def hand_off(self, type_: str, shard: int, to: Incarnation, limit_ms: int) -> None:
        """Begin the hand-off of a shard that has an owner: its epoch stays."""
        self._send(type_, shard, to)
        begun = self._begun.setdefault((type_, shard // CHUNK), {})
        begun[shard] = Handoff(to, limit_ms)

    def renew(self, key: TableKey, shards: Iterable[int] | None = None, *, above: int = 0) -> None:
        """The same owners, in a new epoch (None: of all shards).

        Whatever of the type is written is above the floor, be there such a table or not.
        """
        self._floors[key[0]] = max(above, self._floors.get(key[0], 0))
        table = self._tables.get(key)
        if table is None:
            return
        given = self._given.setdefault(key, {})
        for shard in range(len(table.owner)) if shards is None else (s % CHUNK for s in shards):
            owner = table.owner_of(table.first_shard + shard)
            if owner is not None:
                given[shard] = owner

    def vacate(self, key: TableKey, places: Iterable[int]) -> None:
        """These places of a table get no owner; there may be no such table yet."""
        given = self._given.setdefault(key, {})
        given.update(dict.fromkeys(places))

    @property
    def untouched(self) -> bool:
        """Is no table to be written?"""
        return not (self._given or self._begun)

    @property
    def begun(self) -> int:
        """How many hand-offs begin."""
        return sum(len(shards) for shards in self._begun.values())

    def touches(self, type_: str, shard: int) -> bool:
        """Is anything to be written about this shard?"""
        key = (type_, shard // CHUNK)
        return shard % CHUNK in self._given.get(key, ()) or shard in self._begun.get(key, ())

    def loads(self) -> Counter[tuple[str, Incarnation]]:
        """Shards by type (empty: all types) and incarnation, as they will be when all that is under
        way has ended: a shard in hand-off counts for its next owner."""
        if self._loads is None:
            self._loads = Counter()
            for table in self._tables.values():
                for index, shards in Counter(table.owner).items():
                    if index:
                        self._count(table.type, table.owners[index - 1].incarnation, shards)
                for shard, handoff in table.handoffs.items():
                    if (before := table.owner_of(shard)) is not None:
                        self._count(table.type, before.incarnation, -1)
                        self._count(table.type, handoff.to, 1)
            for (type_, chunk), given in self._given.items():
                for place, owner in given.items():
                    self._count(type_, self._shown(type_, chunk * CHUNK + place), -1)
                    self._count(type_, owner.incarnation if owner is not None else None, 1)
        return self._loads

    def tables(self) -> tuple[ShardTable, ...]:
        """The next tables, in order."""
        return tuple(self._next(key) for key in sorted(self._given.keys() | self._begun.keys()))

    def _shown(self, type_: str, shard: int) -> Incarnation | None:
        """Whose the shard is, or will be, by the tables there are."""
        table = self._tables.get((type_, shard // CHUNK))
        if table is None:
            return None
        owner = table.owner_of(shard)
        if owner is None:
            return None
        handoff = table.handoffs.get(shard)
        return handoff.to if handoff is not None else owner.incarnation

    def _send(self, type_: str, shard: int, to: Incarnation) -> None:
        self.loads()
        self._count(type_, self._shown(type_, shard), -1)
        self._count(type_, to, 1)

    def _count(self, type_: str, incarnation: Incarnation | None, shards: int) -> None:
        if self._loads is not None and incarnation is not None:
            self._loads[type_, incarnation] += shards
            self._loads["", incarnation] += shards

    def _next(self, key: TableKey) -> ShardTable:
        type_, chunk = key
        given = self._given.get(key, {})
        floor = max(self._generations.get(type_, NO_GENERATION), self._floors.get(type_, 0))
        generation = max(floor + 1, self._wall_ms)
        table = self._tables.get(key)
        if table is None:
            shard_count = self._shard_counts[type_]
            size = min(CHUNK, shard_count - chunk * CHUNK)
            owners: list[Owner | None] = [None] * size
            epochs = [NO_EPOCH] * size
        else:
            shard_count = table.shard_count
            choice = (None, *table.owners)
            owners = [choice[index] for index in table.owner]
            epochs = list(table.epoch)
        for shard, owner in given.items():
            if shard < len(owners):
                owners[shard] = owner
                epochs[shard] = Epoch(generation)
        used = dict.fromkeys(owner for owner in owners if owner is not None)
        index_of: dict[Owner | None, int] = {owner: n for n, owner in enumerate(used, 1)}
        index_of[None] = 0
        handoffs = {**(table.handoffs if table is not None else {}), **self._begun.get(key, {})}
        return ShardTable(
            type=type_,
            chunk=chunk,
            shard_count=shard_count,
            generation=Generation(generation),
            owners=tuple(used),
            owner=tuple(index_of[owner] for owner in owners),
            epoch=tuple(epochs),
            handoffs={s: one for s, one in handoffs.items() if s % CHUNK not in given},
            revision=table.revision if table is not None else 0,
        )
