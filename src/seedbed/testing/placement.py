"""Who owns which shard in a test's cluster: the seeds' own coordinator, its store a dictionary.

Persist, then tell: what it decides becomes a table first, then every follower hears of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from seedbed import contract as contract_codec
from seedbed import tables as table_codec
from seedbed.clock import Clock
from seedbed.contract import TypeContract
from seedbed.ids import NO_GENERATION, Epoch, Generation, Incarnation, NodeId
from seedbed.routing import CHUNK, Owner, ShardTable
from seedbed.v1 import cluster_pb2, store_pb2
from seedbed_seed.core import coordinator as core
from seedbed_seed.core import decisions
from seedbed_seed.core.draft import Draft, TableKey
from seedbed_seed.core.membership import Worker
from seedbed_seed.core.orders import Orders

SETTLED_NS: Final = 10_000_000_000
"""The workers joined this long before the test began: nobody waits for more of them."""

_NO_LIMIT_MS: Final = 1 << 30
"""A test ends its hand-offs itself."""

RoutesTold: TypeAlias = Callable[[cluster_pb2.RouteUpdate], None]
TablesTold: TypeAlias = Callable[[Sequence[ShardTable]], None]


@dataclass(frozen=True, slots=True)
class ShardPlace:
    """A shard in one epoch of it."""

    number: int
    epoch: Epoch


class Placement:
    """The tables of all types, and those who follow them: workers and routers."""

    def __init__(self, clock: Clock, contracts: Sequence[TypeContract], ttl_ns: int) -> None:
        self._clock = clock
        self._contracts = contracts
        self._core = core.Coordinator(decisions.CoordinatorSettings(ttl_ns=ttl_ns, evidence="all"))
        self._tables: dict[TableKey, ShardTable] = {}
        self._revision = 0
        self._workers: list[TablesTold] = []
        self._routers: list[RoutesTold] = []
        self._wake_at_ns: int | None = None

    def start(self, workers: Iterable[Worker]) -> None:
        """Give all shards to these workers."""
        kinds = [
            decisions.ContractSeen(one.type, one.shard_count, role="") for one in self._contracts
        ]
        joined_ns = self._clock.now_ns() - SETTLED_NS
        # Only tests move shards here.
        orders = Orders(frozen=True)
        synced = decisions.Synced(tuple(workers), (), tuple(kinds), orders)
        self._core.apply(synced, joined_ns)
        self._core.apply(decisions.Elected(), joined_ns)
        self.tick()

    def follow(self, told: TablesTold) -> None:
        """Tell a worker all tables there are, and from now on each that is written."""
        self._workers.append(told)
        told(list(self._tables.values()))

    def unfollow(self, told: TablesTold) -> None:
        """That worker is gone."""
        self._workers.remove(told)

    def route(self, told: RoutesTold) -> None:
        """Tell a router all there is, and from now on every change."""
        self._routers.append(told)
        contracts = [contract_codec.to_proto(contract) for contract in self._contracts]
        told(self._update(self._tables.values(), contracts))

    def unroute(self, told: RoutesTold) -> None:
        """That router is gone."""
        self._routers.remove(told)

    def gone(self, node_id: NodeId, incarnation: Incarnation) -> None:
        """A worker has died, with evidence: its shards get other owners, if there are any."""
        self._core.apply(decisions.WorkerGone(node_id, incarnation), self._clock.now_ns())
        self._tell_routers(())
        self.tick()

    def owner(self, type_: str, shard: int) -> Owner | None:
        """Who owns a shard; None if nobody is there who could."""
        return self._tables[type_, shard // CHUNK].owner_of(shard)

    def place(self, type_: str, shard: int) -> ShardPlace:
        """The shard in its present epoch."""
        table = self._tables[type_, shard // CHUNK]
        return ShardPlace(shard, table.epoch[shard % CHUNK])

    def hand_off(self, type_: str, shard: int, to: Owner) -> None:
        """Let routers hold the shard's calls and its owner end what runs, until `give`."""
        draft = self._draft()
        draft.hand_off(type_, shard, to.incarnation, _NO_LIMIT_MS)
        self._write(draft.tables())

    def give(self, type_: str, shard: int, to: Owner) -> None:
        """The shard's next owner, in a new epoch."""
        draft = self._draft()
        draft.give(type_, shard, to)
        self._write(draft.tables())
        self.tick()  # it may have died meanwhile

    def next_due_ns(self) -> int | None:
        """When `tick` has something to do next; None while there is nothing."""
        return self._wake_at_ns

    def tick(self) -> None:
        """Decide what may be decided by now."""
        while True:
            decision = self._core.decide(self._clock.now_ns(), self._clock.wall_ms())
            self._wake_at_ns = decision.wake_at_ns
            if decision.persist is None:
                return
            self._write(decision.persist.tables)

    def _draft(self) -> Draft:
        generations: dict[str, Generation] = {}
        for table in self._tables.values():
            known = generations.get(table.type, NO_GENERATION)
            generations[table.type] = max(table.generation, known)
        counts = {contract.type: contract.shard_count for contract in self._contracts}
        return Draft(self._tables, counts, generations, self._clock.wall_ms())

    def _write(self, tables: Iterable[ShardTable]) -> None:
        now_ns = self._clock.now_ns()
        self._revision += 1
        written = [replace(table, revision=self._revision) for table in tables]
        self._core.apply(decisions.Persisted(self._revision), now_ns)
        for table in written:
            self._tables[table.type, table.chunk] = table
            self._core.apply(decisions.TableSeen(table), now_ns)
        for told in self._workers:
            told(written)
        self._tell_routers(written)

    def _tell_routers(self, tables: Iterable[ShardTable]) -> None:
        update = self._update(tables)
        for told in self._routers:
            told(update)

    def _update(
        self,
        tables: Iterable[ShardTable],
        contracts: Sequence[store_pb2.TypeContract] = (),
    ) -> cluster_pb2.RouteUpdate:
        return cluster_pb2.RouteUpdate(
            revision=self._revision,
            snapshot=bool(contracts),
            tables=[table_codec.to_proto(table) for table in tables],
            contracts=contracts,
            unreachable=sorted(self._core.unreachable()),
            types_without_workers=sorted(self._core.without_workers()),
        )
