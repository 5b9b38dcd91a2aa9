"""What operators and their platform do to a cluster on purpose."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, assert_never

from seedbed_seed.core.decisions import ShardMove
from seedbed_seed.core.orders import Orders
from tests.simulation.fault import Change, Fault
from tests.simulation.keys import DURABLE, ORDERS, SHARDS, VOLATILE
from tests.simulation.rollout import Rollout

if TYPE_CHECKING:  # a world has its changes
    from tests.simulation.world import World

LEAST_WORKERS, MOST_WORKERS = 2, 6


class Changes:
    """Those of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._updates = 0

    def make(self, kind: Change, fault: Fault) -> None:
        """Change something now."""
        world = self._world
        worker = world.chosen(fault)
        match kind:
            case "sigterm":
                start = partial(world.faults.restart, worker)
                worker.terminate(lambda: world.kernel.after(fault.duration_ns, None, start))
            case "roll" | "roll without surge":
                self._roll(surge=kind == "roll")
            case "undo":
                if world.rollout is not None:
                    world.rollout.undo()
            case "join":
                if len(world.workers) < MOST_WORKERS:
                    world.add_worker(world.version)
            case "leave":
                if len(world.workers) > LEAST_WORKERS:
                    world.retire(worker, lambda: None)
            case "resign":
                if (leader := world.leader()) is not None:
                    leader.resign()
            case "move":
                if (leader := world.leader()) is not None:
                    type_, shard = self._shard()
                    leader.order(ShardMove(type_, shard, worker.node_id))
            case "cordon" | "drain node" | "pin" | "freeze" | "free nodes":
                self._order(kind, fault)
            case _:
                assert_never(kind)

    def _roll(self, *, surge: bool) -> None:
        world = self._world
        if world.rollout is None or world.rollout.over:
            self._updates += 1
            world.rollout = Rollout(world, f"v{self._updates}", surge=surge)
            world.rollout.begin()

    def _order(self, kind: Change, fault: Fault) -> None:
        world = self._world
        node = frozenset({world.chosen(fault).node_id})
        entry = world.store.entries.get(ORDERS)
        orders = entry.value if entry is not None and isinstance(entry.value, Orders) else Orders()
        match kind:
            case "cordon":
                orders = replace(orders, cordoned=orders.cordoned | node)
            case "drain node":
                orders = replace(orders, draining=orders.draining | node)
            case "pin":
                orders = replace(orders, pins={**orders.pins, self._shard(): min(node)})
            case "freeze":
                orders = replace(orders, frozen=True)
            case _:
                orders = Orders()
        world.store.write({ORDERS: (orders, 0)})

    def _shard(self) -> tuple[str, int]:
        kernel = self._world.kernel
        type_ = VOLATILE if kernel.random.random() < 0.8 else DURABLE
        return type_, kernel.between(0, SHARDS)
