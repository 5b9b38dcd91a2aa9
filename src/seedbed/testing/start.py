"""How a test's cluster is put together, and taken apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from seedbed.entity import Factory
from seedbed.settings_list import SETTINGS
from seedbed.testing.calls import KitSession
from seedbed.testing.clock import VirtualClock
from seedbed.testing.cluster import Cluster
from seedbed.testing.memory_transport import MemoryTransport
from seedbed.testing.placement import Placement
from seedbed.testing.timeline import Timeline
from seedbed.testing.unawaited import awaiting
from seedbed.testing.unsaved import Watch
from seedbed.testing.worker import TTL_NS, KitWorker
from seedbed_worker.entity_store import MemoryStore
from seedbed_worker.hosted import HostedClass
from seedbed_worker.loader import load

SHARDS: Final = int(SETTINGS["SEEDBED_SHARDS"].default)


@asynccontextmanager
async def cluster(*factories: Factory, workers: int = 1) -> AsyncGenerator[Cluster]:
    """Run these entities in this process, on so many workers, until the block ends.

    A factory is an entity class, or `functools.partial(Class, …)` with what its constructor needs.
    Durable classes keep their states in a memory of the cluster: over passivation, moves and
    crashes, and not from one cluster to the next. Raises `ContractError` for a class that a worker
    would refuse too.
    """
    if not factories:
        raise ValueError("cluster(): give it at least one entity class")
    if workers < 1:
        raise ValueError(f"cluster(workers={workers}): at least one")
    watch = Watch()
    hosted = [watch.over(awaiting(_with_shards(one))) for one in load(factories)]
    tasks = asyncio.TaskGroup()
    await tasks.__aenter__()
    clock = VirtualClock()
    network, store = MemoryTransport(tasks, clock), MemoryStore()
    team = [KitWorker(number, hosted, store, clock, network) for number in range(workers)]
    client = KitSession(network, clock)
    calls = tasks.create_task(client.run(), name="calls of the test")
    try:
        for worker in team:
            await worker.start(tasks)
        await asyncio.sleep(0)  # the hosts and the routers run now
        placement = Placement(clock, [one.contract for one in hosted], TTL_NS)
        placement.start(worker.record for worker in team)
        for worker in team:
            placement.follow(worker.told)
            placement.route(worker.session.told)
        placement.route(client.told)
        timeline = Timeline(clock, network, team, client.router, placement)
        classes = {one.cls: one for one in hosted}
        yield Cluster(classes, team, store, placement, client, timeline, network)
    finally:
        calls.cancel()
        for worker in team:
            worker.stop()
        # Not the error of the block: in a group's hands it would become an ExceptionGroup.
        await tasks.__aexit__(None, None, None)


def _with_shards(hosted: HostedClass) -> HostedClass:
    """A class that does not say how many shards it has gets the cluster's default."""
    contract = hosted.contract
    return replace(hosted, contract=replace(contract, shard_count=contract.shard_count or SHARDS))
