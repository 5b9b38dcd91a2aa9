"""A worker's host by itself, which owns every shard: no sockets, no seed, a lease for an hour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from seedbed.clock import SystemClock
from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.routing import Owner, ShardTable
from seedbed.service.metrics import Metrics
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.region import Region
from seedbed_worker.entity_store import EntityStore
from seedbed_worker.host import Host
from seedbed_worker.hosted import HostedClass
from seedbed_worker.runtime import HostLimits

SHARDS: Final = 1024
HOUR_NS: Final = 3_600_000_000_000


@asynccontextmanager
async def hosting(
    hosted: HostedClass, clock: SystemClock, limits: HostLimits, store: EntityStore | None = None
) -> AsyncGenerator[tuple[Host, asyncio.TaskGroup]]:
    """The host, and a group for tasks of the measurement."""
    region = Region()
    region.begin(Incarnation("me"))
    owner = Owner(NodeId("n"), Incarnation("me"), "127.0.0.1", 1)
    epochs = (Epoch(1),) * SHARDS
    type_ = hosted.contract.type
    region.observe(
        [ShardTable(type_, 0, SHARDS, Generation(1), (owner,), (1,) * SHARDS, epochs)],
        clock.now_ns(),
    )
    lease = Lease(Incarnation("me"), HOUR_NS, HOUR_NS // 10)
    lease.sent(1, clock.now_ns())
    lease.renewed(1, HOUR_NS, clock.now_ns())
    host = Host(
        hosted=[hosted], region=region, clock=clock, limits=limits, node_id="n",
        metrics=Metrics(), store=store,
    )  # fmt: skip
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(host.run())
        await asyncio.sleep(0)
        host.begin(lease)
        yield host, tasks
        running.cancel()
