"""A store and a watch for coordinators under test: what is written comes back as events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypedDict, Unpack

from seedbed.ids import Incarnation, NodeId
from seedbed.routing import CHUNK, Release, ShardTable
from seedbed_seed.core.coordinator import Coordinator
from seedbed_seed.core.decisions import (
    ContractSeen,
    CoordinatorSettings,
    Decision,
    Elected,
    Event,
    Evidence,
    OrdersSeen,
    Persist,
    Persisted,
    RebalanceSettings,
    Synced,
    TableSeen,
    WorkerGone,
    WorkerSeen,
)
from seedbed_seed.core.membership import Status, Worker
from seedbed_seed.core.orders import Orders

MS = 1_000_000
SECOND = 1_000 * MS
TTL = 5 * SECOND
RESTORE_WAIT = TTL + SECOND
"""A lease's length, and how late the store may end it."""
LIMIT = 2 * SECOND
"""How long an owner may take to hand off."""
WALL_MS = 1_700_000_000_000
REBALANCE = RebalanceSettings()


class Fields(TypedDict, total=False):
    """What tests change of a record."""

    status: Status
    stream_id: str
    silent_age_ns: int | None
    roles: frozenset[str]
    replaced: str
    released: frozenset[Release]
    rates: Mapping[tuple[str, int], float]
    app_version: str
    app_revision: str


class OrdersFields(TypedDict, total=False):
    """What operators may order."""

    cordoned: frozenset[NodeId]
    draining: frozenset[NodeId]
    pins: Mapping[tuple[str, int], NodeId]
    frozen: bool
    frozen_reason: str


class Cluster:
    """One coordinator that leads, and the store that it believes in."""

    def __init__(
        self,
        *,
        shards: int = 8,
        min_workers: int = 1,
        evidence: Evidence = "durable",
        types: tuple[str, ...] = ("t",),
        leads: bool = True,
        rebalance: RebalanceSettings = REBALANCE,
    ) -> None:
        self.now_ns = 1_000 * SECOND
        self.revision = 1
        self.settings = CoordinatorSettings(
            TTL, min_workers, evidence, handoff_timeout_ms=LIMIT // MS, rebalance=rebalance
        )
        self.orders = Orders()
        self.contracts = tuple(ContractSeen(name, shards, "sharding") for name in types)
        self.core = Coordinator(self.settings)
        self.workers: dict[str, Worker] = {}
        self.tables: dict[tuple[str, int], ShardTable] = {}
        self.persists: list[Persist] = []
        self.synced()
        if leads:
            self.apply(Elected())

    def synced(self, *, restored: bool = False) -> None:
        """All there is in the store now, as after a gap of the watch."""
        workers, tables = tuple(self.workers.values()), tuple(self.tables.values())
        self.apply(Synced(workers, tables, self.contracts, self.orders, restored))

    def apply(self, event: Event) -> None:
        self.core.apply(event, self.now_ns)

    def decide(self) -> Decision:
        return self.core.decide(self.now_ns, WALL_MS + self.now_ns // MS)

    def write(self, persist: Persist) -> None:
        """Carry a decision out, as the store and the watch do."""
        self.persists.append(persist)
        self.revision += 1
        self.apply(Persisted(self.revision))
        for table in persist.tables:
            known = self.tables.get((table.type, table.chunk))
            assert table.revision == (known.revision if known is not None else 0)
            stored = replace(table, revision=self.revision)
            self.tables[table.type, table.chunk] = stored
            self.apply(TableSeen(stored))

    def settle(self) -> int:
        """Write whatever is decided now; returns how many writes that took."""
        for writes in range(10):
            decision = self.decide()
            if decision.persist is None:
                assert decision.wake_at_ns is None or decision.wake_at_ns > self.now_ns
                return writes
            self.write(decision.persist)
        raise AssertionError("a hot loop of writes")

    def wait(self, duration_ns: int) -> None:
        self.now_ns += duration_ns
        self.settle()

    def join(
        self,
        name: str,
        *,
        status: Status = Status.UP,
        life: int = 1,
        durable: bool = False,
        replaced: str = "",
        types: tuple[str, ...] | None = None,
        version: str = "",
        revision: str = "",
    ) -> Worker:
        self.revision += 1
        hosted = types if types is not None else tuple(c.type for c in self.contracts)
        worker = Worker(
            NodeId(name),
            Incarnation(f"{name}.{life}"),
            host=name,
            port=1,
            ttl_ns=TTL,
            status=status,
            roles=frozenset({"sharding"}),
            types=dict.fromkeys(hosted, durable),
            create_revision=self.revision,
            stream_id="1",
            replaced=replaced,
            app_version=version,
            app_revision=revision,
        )
        return self.change(worker)

    def change(self, worker: Worker, **fields: Unpack[Fields]) -> Worker:
        changed = replace(worker, **fields)
        self.workers[worker.node_id] = changed
        self.apply(WorkerSeen(changed))
        return changed

    def drain(self, name: str) -> Worker:
        return self.change(self.workers[name], status=Status.DRAINING)

    def order(self, **orders: Unpack[OrdersFields]) -> None:
        """Operators write these orders, and leave the others as they are."""
        self.orders = replace(self.orders, **orders)
        self.apply(OrdersSeen(self.orders))

    def handoffs(self, type_: str = "t") -> dict[int, str]:
        """To whom shards are on their way."""
        tables = (table for (name, _), table in self.tables.items() if name == type_)
        return {shard: one.to for table in tables for shard, one in table.handoffs.items()}

    def release(self, name: str, *shards: int) -> None:
        """The worker releases these shards, or all of its own that are in hand-off."""
        worker = self.workers[name]
        told = frozenset(
            Release(table.type, shard, table.epoch[shard % CHUNK])
            for table in self.tables.values()
            for shard in table.handoffs
            if shard in table.shards_of(worker.incarnation) and (not shards or shard in shards)
        )
        if told:
            self.change(worker, released=told)

    def hand_over(self) -> None:
        """Every owner releases what it is to hand off, until nothing is on its way."""
        for _ in range(20):
            self.settle()
            if not any(table.handoffs for table in self.tables.values()):
                return
            for name in list(self.workers):
                self.release(name)
        raise AssertionError("hand-offs without end")

    def lose(self, name: str) -> None:
        worker = self.workers.pop(name)
        self.apply(WorkerGone(worker.node_id, worker.incarnation))

    def restore(self, tables: Mapping[tuple[str, int], ShardTable], *names: str) -> None:
        """The store comes back with these tables, and with the present records of these workers."""
        self.tables = dict(tables)
        self.workers = {name: self.workers[name] for name in names}
        self.synced(restored=True)

    def owners(self, type_: str = "t") -> list[str | None]:
        return [
            owner.incarnation if (owner := table.owner_of(table.first_shard + n)) else None
            for (name, _), table in sorted(self.tables.items())
            if name == type_
            for n in range(len(table.owner))
        ]

    def epochs(self, type_: str = "t") -> list[int]:
        return [
            epoch
            for (name, _), table in sorted(self.tables.items())
            if name == type_
            for epoch in table.epoch
        ]

    def placed(self, *names: str, durable: bool = False) -> Cluster:
        """With these workers up and all shards placed."""
        for name in names:
            self.join(name, durable=durable)
        self.wait(SECOND)
        assert None not in self.owners()
        return self


def nodes(*names: str) -> frozenset[NodeId]:
    return frozenset(NodeId(name) for name in names)
