"""What a test holds of its cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import timedelta
from typing import Any, TypeVar, cast

import grpc.aio

from seedbed.client_channel import Channel
from seedbed.entity import Entity
from seedbed.errors import Reason
from seedbed.keys import canonical
from seedbed.sharding import shard_of
from seedbed.testing.calls import KitSession
from seedbed.testing.memory_transport import MemoryTransport
from seedbed.testing.patience import finished
from seedbed.testing.placement import Placement
from seedbed.testing.restored import restored
from seedbed.testing.timeline import Timeline
from seedbed.testing.worker import KitWorker
from seedbed_worker.activation import Departure
from seedbed_worker.contents import Contents
from seedbed_worker.entity_store import MemoryStore
from seedbed_worker.hosted import HostedClass
from seedbed_worker.jobs import Job

S = TypeVar("S")
E = TypeVar("E")


class Cluster:
    """A running cluster, given by `cluster`. Workers have the numbers 0, 1, 2, …

    Time stands still but for `advance`: it is the clock of `self.turn.now`, of deadlines, idling
    and leases. `asyncio.sleep` in user code is real. An entity is named by its class and its key,
    as in `self.key`.
    """

    def __init__(
        self,
        hosted: Mapping[type, HostedClass],
        workers: Sequence[KitWorker],
        store: MemoryStore,
        placement: Placement,
        session: KitSession,
        timeline: Timeline,
        network: MemoryTransport,
    ) -> None:
        self._hosted = hosted
        self._workers = {worker.number: worker for worker in workers}
        self._started = len(workers)
        self._store = store
        self._placement = placement
        self._timeline = timeline
        self._network = network
        self._channel = Channel(session)

    @property
    def channel(self) -> grpc.aio.Channel:
        """For the generated stubs of all classes of the cluster.

        A call's time-out (10 s if it gives none) ends it in the cluster's time or in real time,
        whichever comes first.
        """
        return self._channel

    async def advance(self, delta: timedelta) -> None:
        """Let time pass, from one thing that falls due to the next.

        First, calls under way come as far as they can, so `advance(timedelta())` waits just for
        that. Then it waits for the turns that begin or end by the clock. One that is not over after
        a second of real time is left running, with a `StillRunning` warning. Raises `ValueError`
        for time that runs backwards.
        """
        if delta < timedelta():
            raise ValueError(f"advance({delta!r}): time does not run backwards")
        await self._timeline.advance(delta // timedelta(microseconds=1) * 1000)

    async def move(self, cls: type[Entity[Any, Any]], key: str, *, to: int) -> None:
        """Give the entity's shard to another worker, as a planned move does.

        Turns that run end first, `deactivating()` runs, then the shard has a new epoch at its new
        owner; other calls wait for that. An open stream ends with MOVING, and the state of a
        volatile class is lost. A block of `outside()` is waited for in a volatile class; in a
        durable one it is cancelled, and its call begins anew if it may be repeated. A turn that is
        not over after a second of real time is stopped, with a `StillRunning` warning. The owner
        itself may be named: it gets a new epoch.
        """
        type_, shard = self._shard(cls, key)
        worker, owner = self._worker(to, "move"), self._owner(type_, shard)
        if owner is None:
            raise RuntimeError(f"move: no worker is left that owns {type_}/{key}")
        home = owner.host.homes[type_]
        self._placement.hand_off(type_, shard, worker.owner(type_))

        def remaining() -> list[Job]:
            if owner.number not in self._workers:  # killed meanwhile
                return []
            jobs = [job for job in home.calls if job.shard.number == shard]
            for job in jobs:
                if job.is_outside and home.hosted.durable:
                    # It begins anew elsewhere, on what it has kept before the block.
                    job.stop(Reason.FENCED, "the shard moves")
            return jobs

        try:
            await finished(self._network, remaining, what="and the shard moves without it")
        finally:  # a hand-off that has begun always ends in a new epoch
            self._placement.give(type_, shard, worker.owner(type_))

    async def kill(self, worker: int) -> None:
        """Crash a worker: no goodbye, no `deactivating()`, what was in its memory is lost.

        When this returns, its shards answer at the others. Its number is not used again.
        """
        dead = self._worker(worker, "kill")
        del self._workers[worker]
        self._timeline.forget(dead)
        self._placement.unfollow(dead.told)
        self._placement.unroute(dead.session.told)
        await dead.crash()
        self._placement.gone(dead.record.node_id, dead.record.incarnation)

    async def passivate(self, cls: type[Entity[Any, Any]], key: str) -> None:
        """Let an entity leave memory, after `deactivating()`; nothing happens if it is not there.

        The turn that runs ends first. One that is not over after a second of real time is left
        running, with a `StillRunning` warning, and the entity leaves after it; so it does if a
        call of it is in a block of `outside()`. Open streams end with MOVING.
        """
        type_, shard = self._shard(cls, key)
        owner = self._owner(type_, shard)
        if owner is None:
            return
        home = owner.host.homes[type_]
        entity = home.entities.get(key)
        if entity is None:
            return
        home.retire(entity)

        def remaining() -> list[Job]:
            jobs = [job for job in home.calls if job.call.key == key]
            leaves = any(isinstance(job, Departure) for job in jobs)
            return [job for job in jobs if job.handed] if leaves else []

        await finished(self._network, remaining, what="and its entity does not leave before")

    async def state(self, cls: type[Entity[S, Any]], key: str) -> S:
        """A copy of the entity's state, as its next turn would find it.

        From memory if the entity is there (a turn that runs may be half through), else what is
        stored, else a fresh one. It makes no turn, so it does not wake the entity.
        """
        type_, shard = self._shard(cls, key)
        owner = self._owner(type_, shard)
        entity = owner.host.homes[type_].entities.get(key) if owner is not None else None
        if entity is not None:
            state: S = entity.state
            return deepcopy(state)
        hosted = self._hosted[cls]
        found = hosted.state()
        if hosted.durable:
            kept = await self._store.load(type_, key, self._placement.place(type_, shard))
            found = restored(hosted, key, kept)
        # What the loader found to make, and its codec reads, is the class's S.
        return cast("S", found)

    async def events(self, cls: type[Entity[Any, E]], key: str) -> list[E]:
        """The events that are stored of an entity since it was last deleted, in order.

        Those of a turn that runs are not among them. A volatile class stores none.
        """
        type_, _ = self._shard(cls, key)
        hosted = self._hosted[cls]
        if not hosted.durable:
            return []
        contents = Contents(hosted)
        found = [
            event for data in self._store.events(type_, key) for event in contents.events_of(data)
        ]
        # They are of the classes that the loader found in the class's E.
        return cast("list[E]", found)

    def _worker(self, number: int, what: str) -> KitWorker:
        worker = self._workers.get(number)
        if worker is None:
            state = "is dead" if 0 <= number < self._started else "was never there"
            alive = ", ".join(map(str, self._workers)) or "none"
            raise ValueError(f"{what}: worker {number} {state}; there are: {alive}")
        return worker

    def _shard(self, cls: type[Entity[Any, Any]], key: str) -> tuple[str, int]:
        hosted = self._hosted.get(cls)
        if hosted is None:
            names = ", ".join(known.__name__ for known in self._hosted)
            raise ValueError(f"{cls.__name__} is not in this cluster; it has: {names}")
        contract = hosted.contract
        return contract.type, shard_of(canonical(key, contract.key_kind), contract.shard_count)

    def _owner(self, type_: str, shard: int) -> KitWorker | None:
        owner = self._placement.owner(type_, shard)
        for worker in self._workers.values():
            if owner is not None and worker.record.incarnation == owner.incarnation:
                return worker
        return None
