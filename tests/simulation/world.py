"""A whole cluster, its clients, and what goes wrong in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from seedbed.ids import NodeId
from seedbed_seed.core import decisions
from seedbed_seed.core.membership import Status, Worker
from tests.simulation.calls import HANDOFF_NS, TTL_NS, Referee
from tests.simulation.clients import Clients
from tests.simulation.ending import Ending
from tests.simulation.fault import GENTLE, UPDATES, Fault, Plan
from tests.simulation.faults import Faults
from tests.simulation.kernel import MS, SECOND, START_NS, Kernel, Violation
from tests.simulation.keys import DURABLE, MEMBERS, ROLE, SHARDS, VOLATILE
from tests.simulation.movements import Movements
from tests.simulation.network import Network
from tests.simulation.rollout import Rollout
from tests.simulation.seed import SimSeed
from tests.simulation.store import Store
from tests.simulation.worker import SimWorker

CALM_NS = 4 * SECOND

EAGER = decisions.RebalanceSettings(
    interval_ns=SECOND, threshold=0.0, max_moves=8, cooling_ns=2 * SECOND
)
"""Rebalances as often as it can."""


class World:
    """Three seeds and three workers at first; `seed_class` and `worker_class` may be broken on
    purpose."""

    def __init__(
        self,
        seed: int,
        plan: Plan,
        *,
        seed_class: type[SimSeed] = SimSeed,
        worker_class: type[SimWorker] = SimWorker,
        guarded: bool = True,
        traced: bool = False,
    ) -> None:
        self.kernel = Kernel(seed, traced=traced)
        self.movements = Movements(self.kernel, guarded=guarded)
        self.store = Store(self.kernel, self.movements)
        self.types = {VOLATILE: False, DURABLE: True}
        self.contracts = tuple(decisions.ContractSeen(name, SHARDS, ROLE) for name in self.types)
        self.settings = decisions.CoordinatorSettings(
            ttl_ns=TTL_NS, handoff_timeout_ms=HANDOFF_NS // MS, rebalance=EAGER
        )
        self.referee = Referee(self.kernel, frozenset({DURABLE}))
        self.network = Network(self)
        self.clients = Clients(self)
        self.version = "v0"
        """Of the application, as it is to be."""
        self.seeds = [seed_class(self, i) for i in range(3)]
        self._worker_class = worker_class
        self._all_workers: dict[NodeId, SimWorker] = {}
        self.workers: list[SimWorker] = []
        """All but those that left for good."""
        for _ in range(3):
            self._new_worker(self.version)
        self.rollout: Rollout | None = None
        self.faults = Faults(self)
        self._script = plan(self.kernel.random)
        kinds = {fault.kind for _, fault in self._script}
        self.clean = kinds <= GENTLE
        """Nothing goes wrong; what is done on purpose, nobody may notice."""
        self.only_updates = kinds <= UPDATES

    def run(self) -> None:
        """Start, let everything go wrong, stop that, and see that all is well again."""
        kernel = self.kernel
        for seed in self.seeds:
            seed.start()
        for worker in self.workers:
            kernel.after(kernel.between(0, 300 * MS), None, worker.start)
        last_ns = max((at_ns + fault.duration_ns for at_ns, fault in self._script), default=0)
        end_ns = START_NS + CALM_NS + last_ns + TTL_NS
        for at_ns, fault in self._script:
            kernel.after(CALM_NS + at_ns, None, partial(self.faults.inject, fault))
        kernel.after(2 * SECOND, None, partial(self.clients.call_until, end_ns))
        kernel.run_until(end_ns)
        Ending(self).see()

    # Who is there.

    def add_worker(self, version: str) -> SimWorker:
        """A new process under a new name."""
        worker = self._new_worker(version)
        worker.start()
        return worker

    def retire(self, worker: SimWorker, then: Callable[[], None]) -> None:
        """Tell it to end, for good; `then` when it has."""

        def ended() -> None:
            if worker in self.workers:
                self.workers.remove(worker)
            then()

        worker.terminate(ended)

    def worker(self, node_id: NodeId) -> SimWorker:
        """Also one that has left."""
        return self._all_workers[node_id]

    def chosen(self, fault: Fault) -> SimWorker:
        """The worker that a fault means."""
        return self.workers[fault.worker % len(self.workers)]

    def leader(self) -> SimSeed | None:
        """A seed that leads, as it believes."""
        return next((s for s in self.seeds if s.process.alive and s.leading), None)

    def is_up(self, worker: SimWorker) -> bool:
        """Does the store say so?"""
        entry = self.store.entries.get(MEMBERS + worker.node_id)
        record = entry.value if entry is not None else None
        return isinstance(record, Worker) and record.status is Status.UP

    def _new_worker(self, version: str) -> SimWorker:
        worker = self._worker_class(self, len(self._all_workers), version)
        self._all_workers[worker.node_id] = worker
        self.workers.append(worker)
        return worker


def play(
    seed: int,
    plan: Plan,
    *,
    seed_class: type[SimSeed] = SimSeed,
    worker_class: type[SimWorker] = SimWorker,
    guarded: bool = True,
    traced: bool = False,
) -> tuple[World, Violation | None]:
    """One run, and what it broke."""
    world = World(
        seed,
        plan,
        seed_class=seed_class,
        worker_class=worker_class,
        guarded=guarded,
        traced=traced,
    )
    try:
        world.run()
    except Violation as violation:
        world.kernel.log(f"VIOLATION {violation}")
        return world, violation
    return world, None


def search(seeds: Sequence[int], plan: Plan) -> tuple[int, Violation] | None:
    """The first of these seeds that breaks something, and what."""
    for seed in seeds:
        _, violation = play(seed, plan)
        if violation is not None:
            return seed, violation
    return None
