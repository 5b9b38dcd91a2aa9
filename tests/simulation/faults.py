"""What goes wrong in a cluster, and how what was stopped starts again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.changes import Changes
from tests.simulation.fault import Disturbance, Fault, Hold, Stop
from tests.simulation.kernel import MS
from tests.simulation.keys import MEMBERS, table_key
from tests.simulation.seed import SimSeed
from tests.simulation.worker import SimWorker

if TYPE_CHECKING:  # a world has its faults
    from tests.simulation.world import World


class Faults:
    """The faults of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._changes = Changes(world)

    def inject(self, fault: Fault) -> None:
        """Let this go wrong now."""
        self._world.kernel.log(f"-- {fault}")
        match fault.kind:
            case (
                "crash worker" | "crash seed" | "crash leader" | "pause worker" | "pause loop"
                | "pause seed" | "pause own seed" | "pause leader"
            ) as kind:  # fmt: skip
                self._stop(kind, fault)
            case (
                "cut worker" | "hold acks" | "hold heartbeats" | "cut store" | "hold requests"
                | "hold watch" | "strand" | "mute others" | "cut leader" | "deafen"
            ) as kind:  # fmt: skip
                self._hold(kind, fault)
            case (
                "revoke" | "break stream" | "go elsewhere" | "long turns" | "restore" | "empty"
            ) as kind:  # fmt: skip
                self._disturb(kind, fault)
            case kind:
                self._changes.make(kind, fault)

    def restart(self, it: SimSeed | SimWorker) -> None:
        """Start what is dead; a seed only once it can know all."""
        process = it.process if isinstance(it, SimSeed) else it.session
        if process.alive or (isinstance(it, SimWorker) and it not in self._world.workers):
            return
        if isinstance(it, SimSeed) and not self._knows_all():
            self._world.kernel.after(100 * MS, None, partial(self.restart, it))
        else:
            it.start()

    def _stop(self, kind: Stop, fault: Fault) -> None:
        world, duration_ns = self._world, fault.duration_ns
        seed, worker = world.seeds[fault.seed], world.chosen(fault)
        match kind:
            case "crash worker":
                worker.crash()
                world.kernel.after(duration_ns, None, partial(self.restart, worker))
            case "crash seed" | "crash leader":
                if kind == "crash leader":
                    seed = world.leader() or seed
                if self._knows_all():
                    seed.crash()
                world.kernel.after(duration_ns, None, partial(self.restart, seed))
            case "pause worker":
                if worker.alive:
                    worker.pause(duration_ns)
            case "pause loop":
                if worker.alive:
                    worker.pause(duration_ns, worker.loop)
            case "pause seed":
                if seed.process.alive:
                    seed.pause(duration_ns)
            case "pause own seed":
                own = worker.own_seed() or seed
                if own.process.alive:
                    own.pause(duration_ns)
            case "pause leader":
                if (leader := world.leader()) is not None:
                    leader.pause(duration_ns)

    def _hold(self, kind: Hold, fault: Fault) -> None:
        world, duration_ns = self._world, fault.duration_ns
        hold = world.kernel.hold
        seed, worker = world.seeds[fault.seed], world.chosen(fault)
        own = worker.own_seed() or seed
        match kind:
            case "cut worker":
                for one in world.seeds:
                    hold(worker.name, one.name, duration_ns)
                    hold(one.name, worker.name, duration_ns)
            case "hold acks":
                for one in world.seeds:
                    hold(one.name, worker.name, duration_ns)
            case "hold heartbeats":
                for one in world.seeds:
                    hold(worker.name, one.name, duration_ns)
            case "cut store" | "cut leader":
                if kind == "cut leader":
                    seed = world.leader() or seed
                hold(seed.name, "store", duration_ns)
                hold("store", seed.name, duration_ns)
                hold("store watch", seed.name, duration_ns)
            case "hold requests":
                hold(seed.name, "store", duration_ns)
            case "hold watch" | "deafen":
                hears = own if kind == "deafen" else seed
                hold("store watch", hears.name, duration_ns)
            case "strand":
                for one in world.seeds:
                    if one is not own:
                        hold(worker.name, one.name, duration_ns)
            case "mute others":
                for one in world.seeds:
                    if one is not own:
                        hold(one.name, worker.name, duration_ns)

    def _disturb(self, kind: Disturbance, fault: Fault) -> None:
        world = self._world
        seed, worker = world.seeds[fault.seed], world.chosen(fault)
        match kind:
            case "revoke":
                entry = world.store.entries.get(MEMBERS + worker.node_id)
                if entry is not None:
                    world.store.revoke(entry.lease)
            case "break stream":
                for stream in worker.streams.values():
                    stream.break_down()
            case "go elsewhere":
                own = worker.own_seed() or seed
                own.attendance.send_elsewhere(worker.node_id)
            case "long turns":
                worker.sluggish_until_ns = world.kernel.now_ns + fault.duration_ns
            case "restore":
                self._restore(fault.duration_ns)
            case "empty":
                self._restore(None)

    def _restore(self, age_ns: int | None) -> None:
        """A backup is older than whatever a seed has yet to see. A second restore comes when all
        have seen all since the first: within a minute the clock does not help those who lag."""
        world = self._world
        alive = [seed for seed in world.seeds if seed.process.alive]
        synced = [seed.revision for seed in alive if seed.revision]
        if not synced or (world.store.life and not self._all_have_seen_all(alive)):
            return
        for seed in alive:
            if not seed.revision:
                seed.crash()
        world.store.restore(age_ns, min(synced))
        for seed in alive:
            self.restart(seed)

    def _all_have_seen_all(self, seeds: list[SimSeed]) -> bool:
        now = (self._world.store.life, self._world.store.revision)
        return self._knows_all() and all((s.store_life, s.revision) == now for s in seeds)

    def _knows_all(self) -> bool:
        """Somebody who lived through a restore leads first: a seed that starts later cannot know of
        it before the tables have been written again."""
        world = self._world
        return not world.store.life or world.store.settled(
            [table_key(name, 0) for name in world.types]
        )
