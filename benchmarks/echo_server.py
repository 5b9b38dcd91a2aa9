"""The baseline: a bare grpc.aio unary echo with protobuf on uvloop, and nothing else."""

from __future__ import annotations

import asyncio
import sys

import grpc
import grpc.aio
import uvloop
from census.v1 import census_pb2 as pb

from seedbed import ServicerContext


async def echo(request: pb.Person, context: ServicerContext) -> pb.Count:
    return pb.Count(name=request.name, count=1, worker="echo", epoch=1, shard=1)


async def serve() -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    method = grpc.unary_unary_rpc_method_handler(
        echo,
        request_deserializer=pb.Person.FromString,
        response_serializer=pb.Count.SerializeToString,
    )
    service = grpc.method_handlers_generic_handler("census.v1.Census", {"Get": method})
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f'READY {{"grpc": "127.0.0.1:{port}", "http": ""}}\n')
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
