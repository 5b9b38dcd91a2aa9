"""The census with reminders: `Add` asks for one, and the state says what came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta

from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from seedbed import Entity, Reminder, ServicerContext


@dataclass
class Rung:
    asked: int = 0
    once: dict[str, int] = field(default_factory=dict[str, int])
    """How often each reminder has rung that is to ring once."""
    ticks: list[int] = field(default_factory=list[int])
    """The counts with which the repeating one has come."""


class RemindedCensus(Entity[Rung], rpc.CensusServicer):
    async def Add(self, request: pb.Person, context: ServicerContext) -> pb.Count:
        """Ring once, after `number` ms."""
        self.state.asked += 1
        self.save()
        after = timedelta(milliseconds=request.number)
        self.remind(self.ring, after=after, name=f"reminder {self.state.asked}")
        return self.told()

    async def Slow(self, request: pb.SlowRequest, context: ServicerContext) -> pb.Count:
        """Tick every `pause_ms`."""
        every = timedelta(milliseconds=request.pause_ms)
        self.remind(self.tick, after=every, every=every)
        return self.told()

    async def Get(self, request: pb.Person, context: ServicerContext) -> pb.Count:
        return self.told()

    async def ring(self, reminder: Reminder) -> None:
        self.state.once[reminder.name] = self.state.once.get(reminder.name, 0) + 1
        self.save()

    async def tick(self, reminder: Reminder) -> None:
        self.state.ticks.append(reminder.count)
        self.save()

    def told(self) -> pb.Count:
        """`worker` has what rang how often, as JSON."""
        rang = json.dumps({"once": self.state.once, "ticks": self.state.ticks})
        return pb.Count(name=self.key, count=self.state.asked, worker=rang)
