"""Clients of a simulated cluster: they call by way of seeds, and straight to workers' own ports."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from seedbed.ids import Epoch, Generation
from tests.simulation.calls import TTL_NS, Answered, Call, Outcome
from tests.simulation.kernel import MS, SECOND
from tests.simulation.keys import DURABLE, SHARDS, VOLATILE

if TYPE_CHECKING:  # a world has its clients
    from tests.simulation.worker import SimWorker
    from tests.simulation.world import World

PATIENT_NS = 3 * TTL_NS
"""The deadline of calls that no change may break."""


class Clients:
    """Of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kernel = world.kernel

    def call_until(self, end_ns: int) -> None:
        """Call again and again, from now on."""
        kernel = self._kernel
        if kernel.now_ns < end_ns:
            kernel.after(kernel.between(10 * MS, 80 * MS), None, partial(self.call_until, end_ns))
            type_ = VOLATILE if kernel.random.random() < 0.8 else DURABLE
            within_ns = kernel.between(SECOND, TTL_NS)
            direct = kernel.random.random() < 0.5
            if self._world.clean:
                within_ns = PATIENT_NS
            self.call(type_, kernel.between(0, SHARDS), within_ns, direct=direct)

    def call(
        self, type_: str, shard: int, within_ns: int, *, direct: bool, brief: bool = False
    ) -> Call:
        """One call now."""
        world, kernel = self._world, self._kernel
        call = world.referee.invoke(type_, shard, kernel.now_ns + within_ns)
        call.direct, call.brief = direct, brief
        kernel.after(within_ns, None, lambda: world.referee.end(call, "deadline"))
        seeds = [seed for seed in world.seeds if seed.process.alive]
        if direct:
            self._call_worker(call, kernel.random.choice(world.workers))
        elif seeds:
            seed = kernel.random.choice(seeds)
            kernel.after(kernel.between(MS, 5 * MS), seed.process, lambda: seed.router.route(call))
        else:
            world.referee.end(call, "connection refused")
        return call

    def _call_worker(self, call: Call, worker: SimWorker) -> None:
        kernel, referee = self._kernel, self._world.referee

        def heard(outcome: Outcome) -> None:
            if isinstance(outcome, Answered):
                referee.accept(call, outcome)
            else:
                referee.end(call, str(outcome))

        def answer(outcome: Outcome) -> None:
            kernel.after(kernel.between(MS, 5 * MS), None, lambda: heard(outcome))

        def serve() -> None:
            worker.turns.call(call, Epoch(0), Generation(0), answer, from_seed=False)

        def arrive() -> None:
            if worker.alive:
                kernel.after(0, worker.loop, serve)
            else:
                referee.end(call, "connection refused")

        kernel.after(kernel.between(MS, 5 * MS), None, arrive)
