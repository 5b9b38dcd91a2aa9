"""Which workers may be given shards of a type, and where each of some shards goes.

Theory. A worker may be given shards if it is UP, hosts the type under its role, and is neither
cordoned nor draining. Of these, only those count whose version is to stay (`Versions`), except for
a pin and an order, which name a node: operators know why. So there is a home for a shard whenever
any worker may be given one.

A shard goes to the node it is pinned to, if that may be given it; else where the strategy puts it.
Nothing that is served goes to a worker that is silent: it would only be answered later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from seedbed.ids import NodeId
from seedbed.routing import Owner
from seedbed_seed.core.allocation import Candidate
from seedbed_seed.core.decisions import ContractSeen
from seedbed_seed.core.draft import Draft
from seedbed_seed.core.membership import Worker
from seedbed_seed.core.reading import Reading


class Candidates:
    """Of all types, at one moment."""

    def __init__(self, reading: Reading, now_ns: int) -> None:
        self._reading = reading
        self._now_ns = now_ns
        self._able: dict[str, list[Worker]] = {}
        self._best: dict[str, list[Worker]] = {}

    def hosts(self, kind: ContractSeen) -> list[Worker]:
        """All workers of the type that serve, in order."""
        hosts = (w for w in self._reading.roster.workers() if w.hosts(kind.type, kind.role))
        return sorted(hosts, key=lambda worker: worker.node_id)

    def able(self, kind: ContractSeen) -> list[Worker]:
        """Those that may be given shards of the type, in order."""
        found = self._able.get(kind.type)
        if found is None:
            orders = self._reading.orders
            closed = orders.cordoned | orders.draining
            found = self._able[kind.type] = [
                worker
                for worker in self.hosts(kind)
                if worker.takes(kind.type, kind.role) and worker.node_id not in closed
            ]
        return found

    def best(self, kind: ContractSeen) -> list[Worker]:
        """Those of the able whose version is to stay."""
        found = self._best.get(kind.type)
        if found is None:
            hosts = self.hosts(kind)
            draining = [worker for worker in hosts if self._reading.is_draining(worker)]
            found = self._best[kind.type] = self._reading.versions.best(
                kind.type, self.able(kind), hosts, draining, self._now_ns
            )
        return found

    def next_owners(self, kind: ContractSeen) -> list[Worker]:
        """Those to which shards that are served may be handed off."""
        roster = self._reading.roster
        return [w for w in self.best(kind) if roster.reachable(w.incarnation)] or [
            w for w in self.able(kind) if roster.reachable(w.incarnation)
        ]

    def on(self, kind: ContractSeen, node_id: NodeId) -> Worker | None:
        """The able worker of this node, whatever its version."""
        return next((w for w in self.able(kind) if w.node_id == node_id), None)

    def next_owner_on(self, kind: ContractSeen, node_id: NodeId) -> Worker | None:
        """The same, if shards that are served may be handed off to it."""
        worker = self.on(kind, node_id)
        reachable = worker is not None and self._reading.roster.reachable(worker.incarnation)
        return worker if reachable else None

    def pinned(self, kind: ContractSeen, shard: int) -> Worker | None:
        """The able worker to which the shard is pinned."""
        node_id = self._reading.orders.pins.get((kind.type, shard))
        return self.on(kind, node_id) if node_id is not None else None

    def homes(
        self, kind: ContractSeen, shards: Sequence[int], among: Sequence[Worker], draft: Draft
    ) -> Mapping[int, Worker]:
        """A home for each of the shards; `among` is not empty."""
        homes: dict[int, Worker] = {}
        if self._reading.orders.pins:
            pinned = ((shard, self.pinned(kind, shard)) for shard in shards)
            homes = {shard: worker for shard, worker in pinned if worker is not None}
            shards = [shard for shard in shards if shard not in homes]
        loads = draft.loads()
        coming = Counter(worker.incarnation for worker in homes.values())
        workers = {worker.node_id: worker for worker in among}
        chosen = self._reading.settings.strategy.place(
            shards,
            [
                Candidate(
                    node_id,
                    loads[kind.type, w.incarnation] + coming[w.incarnation],
                    loads["", w.incarnation] + coming[w.incarnation],
                )
                for node_id, w in workers.items()
            ],
        )
        homes.update((shard, workers[node_id]) for shard, node_id in chosen.items())
        return homes


def owner_of(worker: Worker, kind: ContractSeen) -> Owner:
    """The worker as a table names it."""
    durable = worker.types[kind.type]
    return Owner(worker.node_id, worker.incarnation, worker.host, worker.port, durable)
