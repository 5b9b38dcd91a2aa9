"""What every Persist of a coordinator must keep, whatever has happened before it."""

from __future__ import annotations

from collections import Counter
from typing import TypeAlias

from seedbed.ids import Epoch, Incarnation
from seedbed.routing import Handoff, Owner, Release, ShardTable
from seedbed_seed.core.decisions import (
    Evidence,
    Persist,
)
from seedbed_seed.core.membership import Status
from tests.unit.seed.cluster import LIMIT, TTL, Cluster

Held: TypeAlias = tuple[Incarnation, Release]

SHARDS = 6


class Checks:
    """Against what the coordinator cannot see: when a worker last sent a heartbeat that was renewed
    (`renewed_ns`), and when it first heard that a shard is to be handed off (`told_ns`)."""

    c: Cluster
    evidence: Evidence
    renewed_ns: dict[Incarnation, int]
    left: set[Incarnation]
    told_ns: dict[Held, int]
    released: set[Held]
    reported: dict[tuple[str, int], int]

    def check(self, persist: Persist) -> None:
        for table in persist.tables:
            old = self.c.tables.get((table.type, table.chunk))
            assert table.revision == (old.revision if old is not None else 0)
            assert old is None or table.generation > old.generation
            for shard in range(SHARDS):
                self.check_shard(table, old, shard)
            if old is None or not (self.alive(old) or old.handoffs):
                self.check_balance(table)

    def check_shard(self, table: ShardTable, old: ShardTable | None, shard: int) -> None:
        owner, before = table.owner_of(shard), old.owner_of(shard) if old is not None else None
        epoch, last = table.epoch[shard], old.epoch[shard] if old is not None else 0
        handoff = table.handoffs.get(shard)
        was = old.handoffs.get(shard) if old is not None else None
        if epoch == last:
            assert owner == before, "a new owner has a new epoch"
            assert was is None or handoff == was, "a hand-off ends in a new epoch"
            if handoff is not None and was is None:
                self.check_begun(handoff, before)
            return
        assert int(epoch) == int(table.generation) > last
        assert handoff is None
        if owner == before:
            assert (table.type, shard) in self.reported or was is not None
            return
        assert owner is not None
        home = self.c.workers[owner.node_id]
        assert home.incarnation == owner.incarnation
        assert home.status is Status.UP
        assert owner.node_id not in self.c.orders.cordoned | self.c.orders.draining
        if before is not None:
            self.check_free(before, Release(table.type, shard, Epoch(last)), was)

    def check_begun(self, handoff: Handoff, owner: Owner | None) -> None:
        assert owner is not None
        assert self.serves(owner)
        assert handoff.to != owner.incarnation
        (to,) = (w for w in self.c.workers.values() if w.incarnation == handoff.to)
        assert to.status is Status.UP
        assert to.silent_age_ns is None
        assert to.node_id not in self.c.orders.cordoned | self.c.orders.draining

    def check_free(self, owner: Owner, held: Release, handoff: Handoff | None) -> None:
        """The owner has lost its shard: it may not believe that it still holds it."""
        present = self.c.workers.get(owner.node_id)
        alive = present is not None and present.incarnation == owner.incarnation
        left = owner.incarnation in self.left
        assert not alive or left or handoff is not None, "a healthy worker keeps its shards"
        if left or (not alive and (owner.durable or self.evidence == "all")):
            return
        word = (owner.incarnation, held)
        told_ns = self.told_ns.get(word)
        given_up = word in self.released or (
            told_ns is not None and self.c.now_ns >= told_ns + LIMIT
        )
        assert given_up or self.c.now_ns >= self.renewed_ns[owner.incarnation] + TTL

    def check_balance(self, table: ShardTable) -> None:
        if self.c.orders.pins:
            return
        counts = Counter(o.incarnation for n in range(SHARDS) if (o := table.owner_of(n)))
        closed = self.c.orders.cordoned | self.c.orders.draining
        able = [w for w in self.c.workers.values() if w.node_id not in closed]
        up = [w.incarnation for w in able if w.status is Status.UP]
        if sum(counts[name] for name in up) == SHARDS:
            assert max(counts[name] for name in up) - min(counts[name] for name in up) <= 1

    def alive(self, table: ShardTable) -> bool:
        return any(self.serves(owner) for owner in table.owners)

    def serves(self, owner: Owner) -> bool:
        worker = self.c.workers.get(owner.node_id)
        serving = worker is not None and worker.status is not Status.LEFT
        return serving and worker is not None and worker.incarnation == owner.incarnation
