"""The entity of the fault tests: a counter that says which worker and epoch counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from seedbed import Entity, ServicerContext


@dataclass
class Tally:
    count: int = 0


class Census(Entity[Tally], rpc.CensusServicer, durable=False):
    async def Add(self, request: pb.Person, context: ServicerContext) -> pb.Count:
        return self.add(request.number)

    async def Slow(self, request: pb.SlowRequest, context: ServicerContext) -> pb.Count:
        await asyncio.sleep(request.pause_ms / 1000)
        counted = self.add(request.person.number)
        time.sleep(request.block_ms / 1000)  # noqa: ASYNC251  user code that does the wrong thing
        return counted

    async def Away(self, request: pb.SlowRequest, context: ServicerContext) -> pb.Count:
        async with self.outside():
            await asyncio.sleep(request.pause_ms / 1000)
        return self.add(request.person.number)

    async def Get(self, request: pb.Person, context: ServicerContext) -> pb.Count:
        return self.tally()

    async def Watch(self, request: pb.Person, context: ServicerContext) -> AsyncIterator[pb.Count]:
        async for _ in self.changes():
            yield self.tally()

    def add(self, number: int) -> pb.Count:
        """Count a call; `number` is its caller's."""
        self.state.count += 1
        self.save()
        return self.tally()

    def tally(self) -> pb.Count:
        return pb.Count(
            name=self.key,
            count=self.state.count,
            worker=self.turn.worker,
            epoch=self.turn.epoch,
            shard=self.turn.shard,
        )
