"""The entity that calls others of its kind."""

from __future__ import annotations

from time import perf_counter

import grpc.aio
from relay.v1 import relay_pb2 as pb
from relay.v1 import relay_pb2_grpc as rpc

from seedbed import Entity, ServicerContext, reason
from tests.support.callers import took_by_callers


class Relay(Entity, rpc.RelayServicer, durable=False):
    async def Run(self, request: pb.Baton, context: ServicerContext) -> pb.Trail:
        trail = pb.Trail()
        if request.route:
            runners: rpc.RelayAsyncStub = rpc.RelayStub(self.channel)
            began = perf_counter()
            try:
                trail = await runners.Run(pb.Baton(name=request.route[0], route=request.route[1:]))
            except grpc.aio.AioRpcError as error:
                trail.refusal = f"{reason(error)}: {error.details()}"
                trail.refused_after_ms = (perf_counter() - began) * 1000
        trail.names.append(self.key)
        trail.workers.append(self.turn.worker)
        return trail

    async def Get(self, request: pb.Runner, context: ServicerContext) -> pb.Trail:
        return pb.Trail(names=[self.key], workers=[self.turn.worker])

    async def Drive(self, request: pb.Load, context: ServicerContext) -> pb.Rate:
        if not request.address:
            return await drive(rpc.RelayStub(self.channel), request)
        async with grpc.aio.insecure_channel(request.address) as channel:
            return await drive(rpc.RelayStub(channel), request)


async def drive(stub: rpc.RelayAsyncStub, load: pb.Load) -> pb.Rate:
    """So many callers, each of which waits for its answer, for some seconds."""
    runners = [pb.Runner(name=name) for name in load.targets]
    took = await took_by_callers(
        lambda number: stub.Get(runners[number % len(runners)], timeout=10),
        callers=load.callers,
        seconds=load.seconds,
    )
    return pb.Rate(
        per_s=len(took) / load.seconds,
        p50_ms=took[len(took) // 2] * 1e3,
        p99_ms=took[int(len(took) * 0.99)] * 1e3,
    )
