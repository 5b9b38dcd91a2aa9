"""A small real worker and seed on one port: it serves Link and WatchRoutes, and can misbehave.

The entity's key says what becomes of a call: `silent` is never answered, `garbage` is answered
with bytes that are no batch, `cut` ends the stream, `abort` is answered with a status, `big` with
1 MB; anything else with its Count.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace

from census.v1 import census_pb2 as pb

from seedbed import contract, tables
from seedbed.calls import EntityCall, Failed, Metadata, Replied
from seedbed.clock import SystemClock
from seedbed.descriptors import contract_of
from seedbed.frames import EXCHANGE, ROLE_KEY, ReplyOutbox, call_from_wire, parse_calls
from seedbed.grpc_transport import GrpcTransport
from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.resolver import WATCH_ROUTES
from seedbed.routing import Owner, ShardTable
from seedbed.transport import BidiMethod, Method, Server, ServerCall, ServerStreamMethod
from seedbed.v1 import cluster_pb2

CENSUS = replace(contract_of(pb.DESCRIPTOR.services_by_name["Census"]), shard_count=8)


@dataclass
class Watching:
    """A stream that is open: it counts up as far as its credit goes."""

    call: EntityCall
    credit: int
    sent: int = 0


@dataclass
class LinkWorker:
    """`Methods` of a worker that owns all shards of Census, and of the seed that says so."""

    incarnation: str = "one"
    epoch: int = 5
    host: str = "127.0.0.1"
    port: int = 0
    routes: bool = True
    calls: list[EntityCall] = field(default_factory=list[EntityCall])
    cancelled: list[int] = field(default_factory=list[int])
    watching: dict[int, Watching] = field(default_factory=dict[int, Watching])
    streams: int = 0
    roles: set[str | bytes] = field(default_factory=set[str | bytes])
    watchers: int = 0
    seeds: tuple[str, ...] = ()
    owner: LinkWorker | None = None
    """Whom the routes name, if not this one."""

    def find(self, method: str) -> Method | None:
        if method == EXCHANGE:
            return BidiMethod(self.exchange)
        if method == WATCH_ROUTES and self.routes:
            return ServerStreamMethod(self.watch_routes)
        return None

    def table(self) -> ShardTable:
        it = self.owner or self
        owner = Owner(NodeId("w"), Incarnation(it.incarnation), it.host, it.port)
        epochs = (Epoch(it.epoch),) * CENSUS.shard_count
        generation = Generation(it.epoch)
        return ShardTable("census", 0, 8, generation, (owner,), (1,) * 8, epochs)

    async def watch_routes(self, call: ServerCall, request: bytes) -> AsyncIterator[bytes]:
        self.watchers += 1
        yield cluster_pb2.RouteUpdate(
            revision=1,
            snapshot=True,
            tables=[tables.to_proto(self.table())],
            contracts=[contract.to_proto(CENSUS)],
            seeds=self.seeds,
        ).SerializeToString()
        await asyncio.Event().wait()

    async def exchange(
        self, call: ServerCall, batches: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        self.streams += 1
        self.roles.update(value for key, value in call.metadata if key == ROLE_KEY)
        out, wake, over = ReplyOutbox(), asyncio.Event(), asyncio.Event()
        says: list[bytes] = []

        async def read() -> None:
            async for data in batches:
                self._take(data, out, says, over)
                wake.set()
            over.set()
            wake.set()

        async with asyncio.TaskGroup() as group:
            reader = group.create_task(read())
            try:
                while not over.is_set():
                    await wake.wait()
                    wake.clear()
                    while (data := out.take()) is not None:
                        yield data
                    while says:
                        yield says.pop()
            finally:
                reader.cancel()

    def _take(self, data: bytes, out: ReplyOutbox, says: list[bytes], over: asyncio.Event) -> None:
        batch = parse_calls(data)
        for wire in batch.calls:
            call = call_from_wire(wire, now_ns=SystemClock().now_ns())
            self.calls.append(call)
            if call.method.endswith("/Watch"):
                self.watching[wire.id] = Watching(call, wire.credit)
                self._count_on(wire.id, out)
                continue
            match call.key:
                case "silent":
                    pass
                case "garbage":
                    says.append(b"\xff\xff")
                case "cut":
                    over.set()
                case "abort":
                    status = Failed(9, "no", epoch=call.epoch, trailing=(("why", "so"),))
                    out.put(wire.id, status)
                case _:
                    out.put(wire.id, self.reply(call))
        for credit in batch.credits:
            self.watching[credit.id].credit += credit.items
            self._count_on(credit.id, out)
        for id_ in batch.cancels:
            self.cancelled.append(id_)
            self.watching.pop(id_, None)

    def reply(self, call: EntityCall) -> Replied:
        name = "x" * 1_000_000 if call.key == "big" else call.key
        count = pb.Count(name=name, epoch=call.epoch, shard=call.shard, worker=self.incarnation)
        metadata: Metadata = (("seen", "yes"),) if call.metadata else ()
        return Replied(count.SerializeToString(), call.epoch, metadata, call.metadata)

    def _count_on(self, id_: int, out: ReplyOutbox) -> None:
        """Send what there is credit for; a key `until-N` ends after N items."""
        watching = self.watching[id_]
        last = int(watching.call.key.removeprefix("until-") or 0)
        while watching.credit and watching.sent < last:
            watching.credit -= 1
            watching.sent += 1
            item = pb.Count(name=watching.call.key, count=watching.sent).SerializeToString()
            out.put_item(id_, item, watching.call.epoch)
        if watching.sent == last:
            out.put(id_, Failed(0, "", epoch=watching.call.epoch))


@contextlib.asynccontextmanager
async def serving(worker: LinkWorker, *, port: int = 0) -> AsyncGenerator[Server]:
    """The worker's server, until the end of the scope (then calls are cut)."""
    server = GrpcTransport(max_message_bytes=None).server(worker)
    worker.port = await server.start("127.0.0.1", port)
    try:
        yield server
    finally:
        await server.close(0)
