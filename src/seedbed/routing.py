"""The allocation tables as every process sees them: immutable, versioned, refusing to go back.

A table holds one chunk of one entity type. Coordinators write tables, routers and workers read
them; who owns a shard is decided by the newest table alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from seedbed.errors import ProtocolError
from seedbed.ids import NO_EPOCH, NO_GENERATION, Epoch, Generation, Incarnation, NodeId

CHUNK = 1024
"""Shards of one table."""


def address(host: str, port: int) -> str:
    """`host:port`, with brackets round an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Owner:
    """The incarnation that owns shards, where it listens, and whether a journal fences it."""

    node_id: NodeId
    incarnation: Incarnation
    host: str
    port: int
    durable: bool = False

    @property
    def address(self) -> str:
        """`host:port`, with brackets round an IPv6 address."""
        return address(self.host, self.port)


class Handoff(NamedTuple):
    """A shard on its way: to whom, and how long its owner may finish what it has begun (ms, from
    when the owner sees it)."""

    to: Incarnation
    limit_ms: int


class Release(NamedTuple):
    """An owner's word that it serves a shard no more in this epoch, whatever happens."""

    type: str
    shard: int
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class ShardTable:
    """Owners of the shards of one chunk.

    `owner[i]` is an index into `owners` plus 1 (0: none), `epoch[i]` the generation that gave the
    shard its owner. `revision` is the store's (0: not known to this process).
    """

    type: str
    chunk: int
    shard_count: int
    generation: Generation
    owners: tuple[Owner, ...]
    owner: tuple[int, ...]
    epoch: tuple[Epoch, ...]
    handoffs: Mapping[int, Handoff] = field(default_factory=dict[int, Handoff])
    revision: int = 0

    def __post_init__(self) -> None:
        size = min(CHUNK, self.shard_count - self.chunk * CHUNK)
        if size < 1 or len(self.owner) != size or len(self.epoch) != size:
            raise ProtocolError(
                f"table {self.type}/{self.chunk}: {len(self.owner)} owners, {size} shards"
            )
        if min(self.owner) < 0 or max(self.owner) > len(self.owners):
            raise ProtocolError(f"table {self.type}/{self.chunk}: owner index out of range")

    @property
    def first_shard(self) -> int:
        return self.chunk * CHUNK

    def owner_of(self, shard: int) -> Owner | None:
        """Owner of a shard of this chunk (by its number in the type)."""
        index = self.owner[shard - self.first_shard]
        return self.owners[index - 1] if index else None

    def shards_of(self, incarnation: Incarnation) -> list[int]:
        """Numbers of the shards that this incarnation owns."""
        mine = {i for i, owner in enumerate(self.owners, 1) if owner.incarnation == incarnation}
        return [self.first_shard + n for n, i in enumerate(self.owner) if i in mine]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a shard is, as one table says."""

    owner: Owner | None
    epoch: Epoch
    generation: Generation
    moving: bool


class RouteTable:
    """The newest tables by type and chunk. One writer; readers see whole tables."""

    __slots__ = ("_tables", "revision")

    def __init__(self) -> None:
        self.revision = 0
        self._tables: dict[tuple[str, int], ShardTable] = {}

    def place(self, type_: str, shard: int) -> Place | None:
        """Where the shard is; None while no table is known."""
        table = self._tables.get((type_, shard // CHUNK))
        if table is None:
            return None
        index = shard % CHUNK
        owner = table.owner[index]
        return Place(
            table.owners[owner - 1] if owner else None,
            table.epoch[index],
            table.generation,
            shard in table.handoffs,
        )

    def table(self, type_: str, chunk: int) -> ShardTable | None:
        """The newest table of this chunk, if any is known."""
        return self._tables.get((type_, chunk))

    def generation(self, type_: str, shard: int) -> Generation:
        """Generation of the shard's table; 0 while none is known."""
        table = self._tables.get((type_, shard // CHUNK))
        return table.generation if table is not None else NO_GENERATION

    def epoch(self, type_: str, shard: int) -> Epoch:
        """Epoch of the shard; 0 while no table is known."""
        table = self._tables.get((type_, shard // CHUNK))
        return table.epoch[shard % CHUNK] if table is not None else NO_EPOCH

    def tables(self) -> Iterable[ShardTable]:
        return self._tables.values()

    def apply(
        self, revision: int, tables: Iterable[ShardTable], *, snapshot: bool, restored: bool = False
    ) -> list[ShardTable]:
        """Take over newer tables; returns those that changed.

        A table whose generation is not above the known one is left out; so is all of an update
        whose revision is below the known one, unless the store was restored from a backup. Even
        then a generation never falls: a restored table waits until it is written again above it.
        """
        if revision < self.revision and not restored:
            return []
        self.revision = revision
        changed: list[ShardTable] = []
        seen: set[tuple[str, int]] = set()
        for table in tables:
            key = (table.type, table.chunk)
            seen.add(key)
            known = self._tables.get(key)
            if known is None or table.generation > known.generation:
                self._tables[key] = table
                changed.append(table)
        if snapshot and not restored:
            for key in self._tables.keys() - seen:
                del self._tables[key]
        return changed
