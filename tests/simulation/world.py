"""A whole cluster, its clients, and what goes wrong in it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from seedbed.ids import Epoch, Generation, NodeId
from seedbed.routing import Owner
from seedbed_seed.core import decisions
from seedbed_seed.core.membership import Worker
from seedbed_worker.core import session_events as ev
from tests.simulation.calls import TTL_NS, Answer, Answered, Call, Lost, Outcome, Referee
from tests.simulation.faults import Faults
from tests.simulation.kernel import MS, SECOND, START_NS, Channel, Kernel, Violation
from tests.simulation.keys import DURABLE, ROLE, SHARDS, VOLATILE
from tests.simulation.plans import Plan
from tests.simulation.seed import SimSeed
from tests.simulation.store import Store
from tests.simulation.worker import SimWorker, Stream

CALM_NS = 4 * SECOND
HEAL_NS = 3 * TTL_NS


class World:
    """Three seeds and three workers; `seed_class` and `worker_class` may be broken on purpose."""

    def __init__(
        self,
        seed: int,
        plan: Plan,
        *,
        seed_class: type[SimSeed] = SimSeed,
        worker_class: type[SimWorker] = SimWorker,
        traced: bool = False,
    ) -> None:
        self.kernel = Kernel(seed, traced=traced)
        self.store = Store(self.kernel)
        self.types = {VOLATILE: False, DURABLE: True}
        self.contracts = tuple(decisions.ContractSeen(name, SHARDS, ROLE) for name in self.types)
        self.evidence: decisions.Evidence = "durable"
        self.referee = Referee(self.kernel, frozenset({DURABLE}))
        self.seeds = [seed_class(self, i) for i in range(3)]
        self.workers = [worker_class(self, i) for i in range(3)]
        self.faults = Faults(self)
        self._plan = plan
        self._in_flight: dict[str, list[tuple[Call, Answer]]] = {}

    def run(self) -> None:
        """Start, let everything go wrong, stop that, and see that all is well again."""
        for seed in self.seeds:
            seed.start()
        for worker in self.workers:
            self.kernel.after(self.kernel.between(0, 300 * MS), None, worker.start)
        faults = self._plan(self.kernel.random)
        last_ns = max((at_ns + fault.duration_ns for at_ns, fault in faults), default=0)
        end_ns = START_NS + CALM_NS + last_ns + TTL_NS
        for at_ns, fault in faults:
            self.kernel.after(CALM_NS + at_ns, None, partial(self.faults.inject, fault))
        self.kernel.after(2 * SECOND, None, partial(self._call_on, end_ns))
        self.kernel.run_until(end_ns)
        self._heal()

    # Clients.

    def _call_on(self, end_ns: int) -> None:
        """Calls for ever, routed and straight to a worker's own port."""
        if self.kernel.now_ns < end_ns:
            self.kernel.after(
                self.kernel.between(10 * MS, 80 * MS), None, partial(self._call_on, end_ns)
            )
            type_ = VOLATILE if self.kernel.random.random() < 0.8 else DURABLE
            self.call(type_, self.kernel.between(0, SHARDS), self.kernel.between(SECOND, TTL_NS))

    def call(self, type_: str, shard: int, within_ns: int, *, direct: bool | None = None) -> Call:
        call = self.referee.invoke(type_, shard, self.kernel.now_ns + within_ns)
        self.kernel.after(within_ns, None, lambda: self.referee.end(call, "deadline"))
        if direct is None:
            direct = self.kernel.random.random() < 0.5
        if direct:
            self._call_worker(call, self.kernel.random.choice(self.workers))
        else:
            seeds = [seed for seed in self.seeds if seed.process.alive]
            seed = self.kernel.random.choice(seeds)
            self.kernel.after(
                self.kernel.between(MS, 5 * MS), seed.process, lambda: seed.router.route(call)
            )
        return call

    def _call_worker(self, call: Call, worker: SimWorker) -> None:
        def heard(outcome: Outcome) -> None:
            if isinstance(outcome, Answered):
                self.referee.accept(call, outcome)
            else:
                self.referee.end(call, str(outcome))

        def answer(outcome: Outcome) -> None:
            self.kernel.after(self.kernel.between(MS, 5 * MS), None, lambda: heard(outcome))

        if worker.alive:
            serve = partial(worker.call, call, Epoch(0), Generation(0), answer, from_seed=False)
            self.kernel.after(self.kernel.between(MS, 5 * MS), worker.loop, serve)
        else:
            self.referee.end(call, "connection refused")

    # The network between seeds and workers.

    def open_stream(self, worker: SimWorker, number: int, address: str, hello: ev.Hello) -> Stream:
        seed = next(seed for seed in self.seeds if seed.name == address)

        def up(message: ev.Hello | ev.ToSeed | None) -> None:
            seed.heard(stream, message)

        def down(message: ev.FromSeed | None) -> None:
            worker.heard(stream, message)

        stream = Stream(
            hello.stream_id,
            number,
            worker,
            seed,
            Channel(self.kernel, worker.name, seed.process, seed.name, up),
            Channel(self.kernel, seed.name, worker.session, worker.name, down),
        )
        if seed.process.alive:
            stream.up.send(hello)
        else:
            stream.down.send(None)
        return stream

    def deliver(self, seed_name: str, node_id: NodeId, call: Call, answer: Answer) -> None:
        """A call on the link from a seed to the process at this node's address."""
        seed = next(seed for seed in self.seeds if seed.name == seed_name)
        worker = self.worker(node_id)
        delay_ns = self.kernel.between(MS, 5 * MS) + self.kernel.held_ns(seed_name, worker.name)

        def arrive() -> None:
            if not worker.alive:
                self.kernel.after(MS, seed.process, lambda: seed.router.refused(call))
                return
            self._in_flight.setdefault(node_id, []).append((call, answer))
            serve = partial(worker.call, call, call.epoch, call.used, answer, from_seed=True)
            self.kernel.after(0, worker.loop, serve)

        self.kernel.after(delay_ns, None, arrive)

    def worker_died(self, worker: SimWorker) -> None:
        """Its links break."""
        for _, answer in self._in_flight.pop(worker.node_id, []):
            answer(Lost())

    def worker(self, node_id: NodeId) -> SimWorker:
        return next(worker for worker in self.workers if worker.node_id == node_id)

    def owner(self, worker: Worker, type_: str) -> Owner:
        return Owner(
            worker.node_id, worker.incarnation, worker.host, worker.port, self.types[type_]
        )

    # All's well that ends well.

    def _heal(self) -> None:
        self.kernel.log("-- faults stop")
        self.kernel.release_all()
        for process in (
            *(seed.process for seed in self.seeds),
            *(p for worker in self.workers for p in (worker.session, worker.loop)),
        ):
            process.paused_until_ns = 0
        for seed in self.seeds:
            self.faults.restart(seed)
        for worker in self.workers:
            self.faults.restart(worker)
        self.kernel.run_until(self.kernel.now_ns + HEAL_NS)
        probes = [
            self.call(type_, shard, TTL_NS, direct=False)
            for type_ in self.types
            for shard in range(SHARDS)
            for _ in self.seeds
        ]
        self.kernel.run_until(self.kernel.now_ns + 2 * TTL_NS)
        for call in probes:
            if call.ended != "answered":
                raise Violation(f"{call}: not served after faults stopped: {call.ended}")
        for call in self.referee.calls:
            if not call.ended:
                raise Violation(f"{call}: never ended")
        for worker in self.workers:
            if not worker.idle():
                raise Violation(f"{worker.name}: turns or waiting calls that never end")


def play(
    seed: int,
    plan: Plan,
    *,
    seed_class: type[SimSeed] = SimSeed,
    worker_class: type[SimWorker] = SimWorker,
    traced: bool = False,
) -> tuple[World, Violation | None]:
    """One run, and what it broke."""
    world = World(seed, plan, seed_class=seed_class, worker_class=worker_class, traced=traced)
    try:
        world.run()
    except Violation as violation:
        world.kernel.log(f"VIOLATION {violation}")
        return world, violation
    return world, None


def search(
    seeds: Sequence[int],
    plan: Plan,
    *,
    seed_class: type[SimSeed] = SimSeed,
    worker_class: type[SimWorker] = SimWorker,
) -> tuple[int, Violation] | None:
    """The first of these seeds that breaks something, and what."""
    for seed in seeds:
        _, violation = play(seed, plan, seed_class=seed_class, worker_class=worker_class)
        if violation is not None:
            return seed, violation
    return None
