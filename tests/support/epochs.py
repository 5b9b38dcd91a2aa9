"""How often each shard moves, by the tables that a seed sends out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc.aio

from seedbed.routing import ShardTable
from seedbed.tables import from_proto
from seedbed.v1 import cluster_pb2, cluster_pb2_grpc


@dataclass
class Epochs:
    """Moves of each shard of each type since the first tables came."""

    moves: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])
    seen: asyncio.Event = field(default_factory=asyncio.Event)
    _tables: dict[tuple[str, int], ShardTable] = field(
        default_factory=dict[tuple[str, int], ShardTable]
    )

    def most(self) -> int:
        """Moves of the shard that moved most."""
        return max(self.moves.values(), default=0)

    def note(self, table: ShardTable) -> None:
        key = (table.type, table.chunk)
        before = self._tables.get(key)
        self._tables[key] = table
        if before is None:
            return
        for place, (old, new) in enumerate(zip(before.epoch, table.epoch, strict=True)):
            if old != new:
                self.moves[table.type, table.first_shard + place] += 1


@asynccontextmanager
async def epochs(entry: str) -> AsyncGenerator[Epochs, None]:
    """Follow the tables of the seed at this address."""
    record = Epochs()

    async def follow() -> None:
        async with grpc.aio.insecure_channel(entry) as channel:
            stub: cluster_pb2_grpc.ClusterAsyncStub = cluster_pb2_grpc.ClusterStub(channel)
            asked = cluster_pb2.WatchRoutesRequest(protocol_min=1, protocol_max=1)
            async for update in stub.WatchRoutes(asked):
                for table in update.tables:
                    record.note(from_proto(table))
                record.seen.set()

    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follow())
        async with asyncio.timeout(10):
            await record.seen.wait()
        try:
            yield record
        finally:
            following.cancel()
