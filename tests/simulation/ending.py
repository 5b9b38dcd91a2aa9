"""All's well that ends well: what must be true once faults have stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.calls import HANDOFF_NS, TTL_NS
from tests.simulation.departure import BOUND_NS
from tests.simulation.kernel import SECOND, Violation
from tests.simulation.keys import ORDERS, SHARDS

if TYPE_CHECKING:  # a world has its end
    from tests.simulation.world import World

HEAL_NS = 3 * TTL_NS
"""After this everybody is there again, and every hand-off of the time of faults has ended."""
QUIET_NS = 2 * TTL_NS
"""After this nothing moves any more."""
SETTLE_NS = 150 * SECOND
"""An update of all workers, each of which takes as long as it may, ends within this."""
MOST_MOVES = 2
"""Of each shard, until nothing moves any more."""
SLACK_NS = 2 * SECOND
"""For messages, and for clocks that are slow."""


class Ending:
    """Of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._kernel = world.kernel
        self._healed_ns = world.kernel.now_ns

    def see(self) -> None:
        """Stop every fault, and raise `Violation` for what does not come right."""
        self._heal()
        self._kernel.run_until(self._healed_ns + HEAL_NS)
        self._check_handoffs()
        self._settle()
        begun = self._world.movements.begun
        self._kernel.run_until(self._kernel.now_ns + QUIET_NS)
        moved = self._world.movements.begun - begun
        if moved > MOST_MOVES * SHARDS * len(self._world.types):
            raise Violation(f"{moved} moves after all has settled")
        self._probe()
        self._check_calls()
        if self._world.clean:
            self._check_unnoticed()

    def _heal(self) -> None:
        world = self._world
        self._kernel.log("-- faults stop")
        self._kernel.release_all()
        for process in (
            *(seed.process for seed in world.seeds),
            *(p for worker in world.workers for p in (worker.session, worker.loop)),
        ):
            process.paused_until_ns = 0
        if ORDERS in world.store.entries:
            world.store.write({}, (), (ORDERS,))
        for worker in world.workers:
            worker.sluggish_until_ns = 0
        for seed in world.seeds:
            world.faults.restart(seed)
        for worker in world.workers:
            world.faults.restart(worker)

    def _check_handoffs(self) -> None:
        for one in self._world.movements.under_way.values():
            since_ns = max(one.since_ns, self._healed_ns + TTL_NS)
            if self._kernel.now_ns > since_ns + one.limit_ns + TTL_NS + SLACK_NS:
                raise Violation(f"{one.place}: a hand-off does not end")

    def _settle(self) -> None:
        """Let drains and an update come to their ends."""
        world = self._world
        until_ns = self._kernel.now_ns + SETTLE_NS
        while self._kernel.now_ns < until_ns:
            for worker in world.workers:
                departure = worker.departure
                if worker.alive and departure is not None:
                    since_ns = max(departure.since_ns, self._healed_ns)
                    if self._kernel.now_ns > since_ns + BOUND_NS + SLACK_NS:
                        raise Violation(f"{worker.name}: a drain does not end")
            drains = any(w.departure is not None or not w.alive for w in world.workers)
            updates = world.rollout is not None and not world.rollout.over
            if not (drains or updates):
                return
            self._kernel.run_until(self._kernel.now_ns + SECOND)
        raise Violation("drains or an update without an end")

    def _probe(self) -> None:
        """Every shard is served, by way of every seed, and nothing moves any more."""
        world = self._world
        begun = world.movements.begun
        probes = [
            world.clients.call(type_, shard, TTL_NS, direct=False, brief=True)
            for type_ in world.types
            for shard in range(SHARDS)
            for _ in world.seeds
        ]
        self._kernel.run_until(self._kernel.now_ns + 2 * TTL_NS)
        for call in probes:
            if call.ended != "answered":
                raise Violation(f"{call}: not served after faults stopped: {call.ended}")
        if world.movements.begun != begun or world.movements.under_way:
            raise Violation("shards go on moving when nothing happens")

    def _check_calls(self) -> None:
        world = self._world
        for call in world.referee.calls:
            if not call.ended:
                raise Violation(f"{call}: never ended")
        for worker in world.workers:
            if not worker.turns.idle:
                raise Violation(f"{worker.name}: turns or waiting calls that never end")

    def _check_unnoticed(self) -> None:
        """Nothing went wrong: no call that could wait has failed, and nothing had to time out."""
        world = self._world
        for call in world.referee.calls:
            missed = call.direct and call.ended.startswith(("NotHere", "connection refused"))
            if call.ended != "answered" and not missed:
                raise Violation(f"{call}: failed though nothing went wrong: {call.ended}")
        if world.movements.longest_ns > HANDOFF_NS + SLACK_NS:
            raise Violation(f"a hand-off took {world.movements.longest_ns // 1_000_000} ms")
