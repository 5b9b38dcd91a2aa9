"""Allocation tables being changed into the next ones: who gets what, in which epoch.

A shard that is not touched keeps its owner and its epoch; one that is gets the next generation,
also one that is left without an owner.
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
        self._floors: dict[str, int] = {}
        self._loads: Counter[tuple[str, Incarnation]] | None = None

    def give(self, type_: str, shard: int, owner: Owner) -> None:
        """The shard's next owner, in a new epoch."""
        self._given.setdefault((type_, shard // CHUNK), {})[shard % CHUNK] = owner
        if self._loads is not None:
            self._loads[type_, owner.incarnation] += 1
            self._loads["", owner.incarnation] += 1

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
        return not self._given

    def loads(self) -> Counter[tuple[str, Incarnation]]:
        """Shards by type (empty: all types) and incarnation, with those that were given."""
        if self._loads is None:
            self._loads = Counter()
            for table in self._tables.values():
                for index, shards in Counter(table.owner).items():
                    if index:
                        incarnation = table.owners[index - 1].incarnation
                        self._loads[table.type, incarnation] += shards
                        self._loads["", incarnation] += shards
        return self._loads

    def tables(self) -> tuple[ShardTable, ...]:
        """The next tables, in order."""
        return tuple(self._next(key) for key in sorted(self._given))

    def _next(self, key: TableKey) -> ShardTable:
        type_, chunk = key
        given = self._given[key]
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
        handoffs = table.handoffs if table is not None else dict[int, Handoff]()
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
