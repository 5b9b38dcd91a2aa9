"""The census, made of events: whom it counted, in order."""

from __future__ import annotations

from dataclasses import dataclass, field

from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from seedbed import Entity, ServicerContext


@dataclass
class Counted:
    """`number` is the caller's."""

    number: int


@dataclass
class Numbers:
    counted: list[int] = field(default_factory=list[int])


class EventCensus(Entity[Numbers, Counted], rpc.CensusServicer):
    def apply(self, event: Counted) -> None:
        self.state.counted.append(event.number)

    async def Add(self, request: pb.Person, context: ServicerContext) -> pb.Count:
        self.emit(Counted(request.number))
        return self.tally()

    async def Get(self, request: pb.Person, context: ServicerContext) -> pb.Count:
        return self.tally()

    def tally(self) -> pb.Count:
        turn, count = self.turn, len(self.state.counted)
        return pb.Count(
            name=self.key, count=count, worker=turn.worker, epoch=turn.epoch, shard=turn.shard
        )
