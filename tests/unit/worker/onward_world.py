"""Two workers (their hosts, Links and outgoing calls) over a network in memory, for tests of what
entities do to each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import grpc
import grpc.aio
from probe.v1 import probe_pb2 as pb
from probe.v1 import probe_pb2_grpc as rpc

from seedbed import Entity, ServicerContext, contract, tables
from seedbed.calls import EntityCall, Failed
from seedbed.client_outcomes import rpc_error
from seedbed.client_session import ClientSession
from seedbed.clock import Clock
from seedbed.descriptors import contract_of
from seedbed.errors import CallError, Reason
from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.resolver import WATCH_ROUTES
from seedbed.router import RouterLimits
from seedbed.routing import Owner, ShardTable
from seedbed.sharding import shard_of
from seedbed.testing.memory_transport import MemoryConnection, MemoryTransport
from seedbed.tracing import NO_TRACER, Tracer
from seedbed.transport import Method, ServerCall, ServerStreamMethod
from seedbed.turn import CURRENT
from seedbed.v1 import cluster_pb2
from seedbed_worker.core.lease import Lease
from seedbed_worker.core.region import Region
from seedbed_worker.entity_store import EntityStore
from seedbed_worker.host import Host
from seedbed_worker.jobs import Answer, Job
from seedbed_worker.link_server import LinkServer
from seedbed_worker.loader import host_class
from seedbed_worker.onward import Onward
from seedbed_worker.runtime import HostLimits
from tests.unit.worker.host_world import (
    SECOND,
    SHARDS,
    FakeClock,
    NoMetrics,
    Total,
    unary,
)

WAIT_S = 40.0
LEASE_NS = 1_000_000 * SECOND
SEED = "seed:1"
CONTRACT = replace(contract_of(pb.DESCRIPTOR.services_by_name["Probe"]), shard_count=SHARDS)

Script: TypeAlias = Callable[["Scripted", pb.Request, ServicerContext], Awaitable[pb.Reply]]
SCRIPTS: dict[str, Script] = {}
"""What `Act` and `ReadAct` do, by the request's `how`."""
SEEN: list[EntityCall] = []
"""The calls as they came to their hosts, in the order in which their turns began."""


def script(function: Script) -> Script:
    """Let `Act` do this for requests that name it in `how`."""
    SCRIPTS[function.__name__] = function
    return function


class Scripted(Entity[Total], rpc.ProbeServicer, durable=False):
    """Does what the tests say, and keeps the calls that it gets."""

    async def Write(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        SEEN.append(current().call)
        self.state.value += request.amount
        self.save()
        return pb.Reply(total=self.state.value)

    async def Act(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        SEEN.append(current().call)
        return await SCRIPTS[request.how](self, request, context)

    async def ReadAct(self, request: pb.Request, context: ServicerContext) -> pb.Reply:
        SEEN.append(current().call)
        return await SCRIPTS[request.how](self, request, context)

    async def Watch(self, request: pb.Request, context: ServicerContext) -> AsyncIterator[pb.Reply]:
        SEEN.append(current().call)
        for n in range(request.amount):
            yield pb.Reply(total=n)
            if request.how:
                await SCRIPTS[request.how](self, request, context)

    @property
    def probes(self) -> rpc.ProbeAsyncStub:
        return rpc.ProbeStub(self.channel)


class Stored(Scripted, durable=True):
    """The same, in a store."""


def current() -> Job:
    """The job of this task."""
    job = CURRENT.get()
    assert isinstance(job, Job)
    return job


@dataclass
class Node:
    """One worker."""

    name: str
    host: Host
    region: Region
    onward: Onward

    async def call(self, call: EntityCall) -> Answer:
        return await asyncio.wait_for(unary(self.host, call), WAIT_S)


@dataclass
class Seed:
    """Tells routes to whoever asks, from when it is told to."""

    routes: bytes
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def find(self, method: str) -> Method | None:
        return ServerStreamMethod(self.watch_routes) if method == WATCH_ROUTES else None

    async def watch_routes(self, call: ServerCall, request: bytes) -> AsyncIterator[bytes]:
        await self.open.wait()
        yield self.routes
        await asyncio.Event().wait()


class Dialled(MemoryTransport):
    """Knows which addresses were connected to, in their order."""

    def __init__(self, tasks: asyncio.TaskGroup, clock: Clock) -> None:
        super().__init__(tasks, clock)
        self.dialled: list[str] = []

    def connect(self, address: str) -> MemoryConnection:
        self.dialled.append(address)
        return super().connect(address)

    def cut(self, address: str) -> None:
        """Break all streams to an address; it goes on listening."""
        self.servers[address].cut()


@dataclass
class Net:
    """All of it."""

    clock: FakeClock
    net: Dialled
    seed: Seed
    nodes: Sequence[Node]

    def node_of(self, key: str) -> Node:
        """Its owner: even shards are the first worker's, odd ones the second's."""
        return self.nodes[shard_of(key.encode(), SHARDS) % len(self.nodes)]

    def call(
        self,
        key: str,
        how: str,
        *,
        method: str = "Act",
        amount: int = 0,
        request_id: str = "id-1",
        deadline_s: float | None = 3600.0,
    ) -> EntityCall:
        request = pb.Request(id=key, how=how, amount=amount)
        return EntityCall(
            method=f"/probe.v1.Probe/{method}",
            type="probe",
            key=key,
            shard=shard_of(key.encode(), SHARDS),
            request=request.SerializeToString(),
            deadline_ns=None if deadline_s is None else self.clock.now + int(deadline_s * SECOND),
            request_id=request_id,
        )

    async def act(self, key: str, how: str, *, request_id: str = "id-1") -> Answer:
        """Call an entity at its owner."""
        return await self.node_of(key).call(self.call(key, how, request_id=request_id))


@asynccontextmanager
async def net(
    *,
    limits: HostLimits | None = None,
    tracer: Tracer = NO_TRACER,
    told: bool = True,
    clock: Clock | None = None,
    store: EntityStore | None = None,
) -> AsyncGenerator[Net]:
    """Two workers that own half of the shards each, and a seed that says so if it is `told`.

    Their entities are in the store, if one is given.

    Their clock stands still but for what the test does, unless another is given.
    """
    SEEN.clear()
    SCRIPTS.clear()
    fake = FakeClock()
    used = clock or fake
    names = ("w-0", "w-1")
    owners = tuple(Owner(NodeId(name), Incarnation(name), name, 1) for name in names)
    table = ShardTable(
        "probe", 0, SHARDS, Generation(1), owners,
        tuple(shard % len(names) + 1 for shard in range(SHARDS)), (Epoch(1),) * SHARDS,
    )  # fmt: skip
    update = cluster_pb2.RouteUpdate(
        revision=1,
        snapshot=True,
        tables=[tables.to_proto(table)],
        contracts=[contract.to_proto(CONTRACT)],
    )
    seed = Seed(update.SerializeToString())
    if told:
        seed.open.set()
    async with asyncio.TaskGroup() as tasks:
        memory = Dialled(tasks, used)
        await memory.server(seed).start("seed", 1)
        nodes: list[Node] = []
        running: list[asyncio.Task[None]] = []
        for name in names:
            region = Region()
            region.begin(Incarnation(name))
            region.observe([table], 0)
            host = Host(
                hosted=[host_class(Scripted if store is None else Stored)],
                region=region,
                clock=used,
                limits=limits or HostLimits(),
                node_id=name,
                metrics=NoMetrics(),
                tracer=tracer,
                store=store,
            )
            session = ClientSession(memory, [SEED], RouterLimits(), used, node=name)
            onward = Onward(session, default_deadline_s=10.0, repeat_window_s=3600.0)
            host.rt.channel = onward.channel
            await memory.server(LinkServer(host, clock=used, node_id=name)).start(name, 1)
            nodes.append(Node(name, host, region, onward))
            running.append(tasks.create_task(host.run()))
            running.append(tasks.create_task(onward.run()))
        await asyncio.sleep(0)
        for node in nodes:
            lease = Lease(Incarnation(node.name), LEASE_NS, SECOND // 4)
            lease.sent(1, used.now_ns())
            assert lease.renewed(1, LEASE_NS, used.now_ns())
            node.host.begin(lease)
        yield Net(fake, memory, seed, nodes)
        for task in running:
            task.cancel()


def key_on(node: int, name: str = "k") -> str:
    """A key whose entity lives on this worker."""
    for n in range(1000):
        if shard_of(f"{name}{n}".encode(), SHARDS) % 2 == node:
            return f"{name}{n}"
    raise AssertionError


HERE, THERE = key_on(0, "here"), key_on(1, "there")


def ids(key: str) -> list[str]:
    return [call.request_id for call in SEEN if call.key == key]


def failing(how: str) -> None:
    """Let `Act` of this name fail, with Seedbed's reason or as an entity's own status."""
    codes = {
        "abort_late": grpc.StatusCode.DEADLINE_EXCEEDED,
        "exhausted": grpc.StatusCode.RESOURCE_EXHAUSTED,
        "unavailable": grpc.StatusCode.UNAVAILABLE,
        "not_found": grpc.StatusCode.NOT_FOUND,
    }

    async def fail(self: Scripted, request: pb.Request, context: ServicerContext) -> pb.Reply:
        if how in codes:
            await context.abort(codes[how], "in the way")
        raise CallError(Reason[how.upper()], "in the way", retry_after_s=0.25)

    fail.__name__ = how
    script(fail)


async def refusal(it: Net, *, amount: int = 0) -> grpc.aio.AioRpcError:
    """The error that a client of the first entity would see."""
    answer = await it.nodes[0].call(it.call(HERE, "ask", amount=amount))
    assert isinstance(answer, Failed), answer
    return rpc_error(answer)


def number(error: grpc.aio.AioRpcError) -> int:
    code: int = error.code().value[0]
    return code
