"""An etcd that does exactly what a test says, for faults that a real one shows only by chance."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
import grpc.aio

from seedbed_seed.etcd import wire_pb2 as wire

WatchContext: TypeAlias = grpc.aio.ServicerContext[wire.WatchRequest, wire.WatchResponse]
LeaseContext: TypeAlias = grpc.aio.ServicerContext[
    wire.LeaseKeepAliveRequest, wire.LeaseKeepAliveResponse
]


@dataclass
class WatchStream:
    """The server's end of one watch stream; `create` was read already."""

    create: wire.WatchCreateRequest
    requests: AsyncIterator[wire.WatchRequest]
    context: WatchContext
    puts: list[wire.KeyValue]

    async def send(self, response: wire.WatchResponse) -> None:
        await self.context.write(response)

    async def created(self, revision: int) -> None:
        await self.send(wire.WatchResponse(header=header(revision), created=True))

    async def event(self, revision: int, key: str, *, at: int, fragment: bool = False) -> None:
        """Tell of a put at `revision`; the header says that the store is `at`."""
        kv = wire.KeyValue(key=key.encode(), create_revision=revision, mod_revision=revision)
        self.puts.append(kv)
        await self.send(
            wire.WatchResponse(header=header(at), events=[wire.Event(kv=kv)], fragment=fragment)
        )


WatchScript: TypeAlias = Callable[[WatchStream], Awaitable[None]]
KeepAliveScript: TypeAlias = Callable[
    [AsyncIterator[wire.LeaseKeepAliveRequest], LeaseContext], Awaitable[None]
]


def header(revision: int) -> wire.ResponseHeader:
    return wire.ResponseHeader(cluster_id=1, member_id=1, revision=revision)


async def silent(stream: WatchStream) -> None:
    """Say `created`, and nothing more."""
    await stream.created(stream.create.start_revision)
    await asyncio.Event().wait()


@dataclass
class FakeEtcd:
    """Serves a store at one revision, which holds what its watches have told of.

    Streams run scripts, one each, the last for ever.
    """

    revision: int = 3
    port: int = 0
    watches: deque[WatchScript] = field(default_factory=lambda: deque([silent]))
    keepalive: KeepAliveScript | None = None
    starts: list[int] = field(default_factory=list[int])
    """Start revisions of all watches so far."""
    puts: list[wire.KeyValue] = field(default_factory=list[wire.KeyValue])
    """What watches have told of."""
    grants: int = 0
    transactions: int = 0
    refuse_writes_with: tuple[grpc.StatusCode, str] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def range(self, request: wire.RangeRequest, _: object) -> wire.RangeResponse:
        at = request.revision or self.revision
        kvs = {kv.key: kv for kv in self.puts if kv.mod_revision <= at}
        return wire.RangeResponse(header=header(self.revision), kvs=kvs.values())

    async def txn(
        self,
        request: wire.TxnRequest,
        context: grpc.aio.ServicerContext[wire.TxnRequest, wire.TxnResponse],
    ) -> wire.TxnResponse:
        if not all(op.HasField("request_range") for op in request.success):
            self.transactions += 1
            if self.refuse_writes_with is not None:
                await context.abort(*self.refuse_writes_with)
        responses = [
            wire.ResponseOp(response_range=wire.RangeResponse(header=header(self.revision)))
            for _ in request.success
        ]
        return wire.TxnResponse(header=header(self.revision), succeeded=True, responses=responses)

    async def watch(
        self, requests: AsyncIterator[wire.WatchRequest], context: WatchContext
    ) -> None:
        create = (await anext(requests)).create_request
        self.starts.append(create.start_revision)
        script = self.watches.popleft() if len(self.watches) > 1 else self.watches[0]
        await script(WatchStream(create, requests, context, self.puts))

    async def keep_alive(
        self, requests: AsyncIterator[wire.LeaseKeepAliveRequest], context: LeaseContext
    ) -> None:
        assert self.keepalive is not None
        await self.keepalive(requests, context)

    async def alarm(self, request: wire.AlarmRequest, _: object) -> wire.AlarmResponse:
        del request
        return wire.AlarmResponse(header=header(self.revision))

    async def status(self, request: wire.StatusRequest, _: object) -> wire.StatusResponse:
        del request
        return wire.StatusResponse(header=header(self.revision))


@asynccontextmanager
async def fake_etcd() -> AsyncGenerator[FakeEtcd, None]:
    """Run one on loopback."""
    fake = FakeEtcd()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "etcdserverpb.KV",
                {
                    "Range": grpc.unary_unary_rpc_method_handler(
                        fake.range,
                        wire.RangeRequest.FromString,
                        wire.RangeResponse.SerializeToString,
                    ),
                    "Txn": grpc.unary_unary_rpc_method_handler(
                        fake.txn, wire.TxnRequest.FromString, wire.TxnResponse.SerializeToString
                    ),
                },
            ),
            grpc.method_handlers_generic_handler(
                "etcdserverpb.Watch",
                {
                    "Watch": grpc.stream_stream_rpc_method_handler(
                        fake.watch,
                        wire.WatchRequest.FromString,
                        wire.WatchResponse.SerializeToString,
                    )
                },
            ),
            grpc.method_handlers_generic_handler(
                "etcdserverpb.Lease",
                {
                    "LeaseKeepAlive": grpc.stream_stream_rpc_method_handler(
                        fake.keep_alive,
                        wire.LeaseKeepAliveRequest.FromString,
                        wire.LeaseKeepAliveResponse.SerializeToString,
                    )
                },
            ),
            grpc.method_handlers_generic_handler(
                "etcdserverpb.Maintenance",
                {
                    "Alarm": grpc.unary_unary_rpc_method_handler(
                        fake.alarm,
                        wire.AlarmRequest.FromString,
                        wire.AlarmResponse.SerializeToString,
                    ),
                    "Status": grpc.unary_unary_rpc_method_handler(
                        fake.status,
                        wire.StatusRequest.FromString,
                        wire.StatusResponse.SerializeToString,
                    ),
                },
            ),
        ]
    )
    fake.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield fake
    finally:
        await server.stop(None)
