"""A seed that does what a test tells it, over real gRPC: answers, is silent, refuses, ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
import grpc.aio

from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import store_pb2

REGISTER = "/seedbed.v1.Cluster/Register"
TTL_MS = 2000

RENEWED = pb.LEASE_STATE_RENEWED
LOST = pb.LEASE_STATE_LOST
UNKNOWN = pb.LEASE_STATE_UNKNOWN

State: TypeAlias = pb.LeaseState.ValueType
_Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]


@dataclass
class Talk:
    """One Register stream, as the seed has it."""

    hello: pb.Hello
    ttl_ms: int
    heard: list[pb.WorkerMessage] = field(default_factory=list[pb.WorkerMessage])
    out: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue[bytes | None])
    over: bool = False

    def say(self, message: pb.SeedMessage) -> None:
        self.out.put_nowait(message.SerializeToString())

    def ack(self, seq: int, state: State = RENEWED) -> None:
        self.say(
            pb.SeedMessage(heartbeat_ack=pb.HeartbeatAck(seq=seq, ttl_ms=self.ttl_ms, state=state))
        )

    def end(self) -> None:
        self.out.put_nowait(None)

    @property
    def beats(self) -> list[int]:
        return [m.heartbeat.seq for m in self.heard if m.HasField("heartbeat")]

    def heard_kinds(self) -> list[str | None]:
        return [m.WhichOneof("kind") for m in self.heard if not m.HasField("heartbeat")]


class FakeSeed:
    """`answers` is the state of its acks, None for silence; `refuses` a reason for each Hello."""

    def __init__(self) -> None:
        self.address = ""
        self.answers: State | None = RENEWED
        self.refuses = ""
        self.welcomes = True
        self.says_farewell = True
        self.tables: list[store_pb2.AllocationTable] = []
        self.seeds: list[str] = []
        self.lease_id = 77
        self.cluster_uid = "uid-1"
        self.ttl_ms = TTL_MS
        self.talks: list[Talk] = []
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])

    @property
    def talk(self) -> Talk:
        """The newest stream."""
        return self.talks[-1]

    async def start(self) -> None:
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
            self._register
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("seedbed.v1.Cluster", {"Register": handler}),)
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.address = f"127.0.0.1:{port}"

    async def stop(self) -> None:
        """As if it had crashed: every stream is cut."""
        for talk in self.talks:
            talk.end()
        await self._server.stop(None)

    async def _register(self, requests: AsyncIterator[bytes], context: _Context) -> None:
        hello = pb.WorkerMessage.FromString(await anext(aiter(requests))).hello
        talk = Talk(hello, self.ttl_ms)
        self.talks.append(talk)
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(self._read(talk, requests))
            try:
                self._greet(talk)
                while (message := await talk.out.get()) is not None:
                    await context.write(message)
            finally:
                talk.over = True
                reader.cancel()

    def _greet(self, talk: Talk) -> None:
        if self.refuses:
            refused = pb.Refused(reason=self.refuses, message="as the test says", retry_after_ms=50)
            talk.say(pb.SeedMessage(refused=refused))
            talk.end()
        elif self.welcomes:
            welcome = pb.Welcome(
                seed=self.address,
                lease_id=self.lease_id,
                secret=b"secret",
                ttl_ms=self.ttl_ms,
                protocol=1,
                seeds=self.seeds,
                cluster_uid=self.cluster_uid,
                shard_counts={one.type: one.shard_count or 8 for one in talk.hello.types},
            )
            talk.say(pb.SeedMessage(welcome=welcome))
            routes = pb.RouteUpdate(revision=1, snapshot=True, tables=self.tables)
            talk.say(pb.SeedMessage(routes=routes))

    async def _read(self, talk: Talk, requests: AsyncIterator[bytes]) -> None:
        async for raw in requests:
            message = pb.WorkerMessage.FromString(raw)
            talk.heard.append(message)
            if message.HasField("heartbeat") and self.answers is not None:
                talk.ack(message.heartbeat.seq, self.answers)
                if self.answers is RENEWED:
                    talk.say(pb.SeedMessage(up=pb.Up()))
            elif message.HasField("goodbye") and self.says_farewell:
                talk.say(pb.SeedMessage(farewell=pb.Farewell()))


@asynccontextmanager
async def fake_seeds(count: int) -> AsyncGenerator[list[FakeSeed]]:
    """Some seeds that know nothing of each other."""
    seeds = [FakeSeed() for _ in range(count)]
    for seed in seeds:
        await seed.start()
    try:
        yield seeds
    finally:
        for seed in seeds:
            await seed.stop()


@asynccontextmanager
async def fake_seed_in_a_thread() -> AsyncGenerator[FakeSeed]:
    """A seed on a loop of its own, which goes on while the test's loop stands still."""
    started: Future[tuple[FakeSeed, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        end = asyncio.Event()
        async with fake_seeds(1) as [seed]:
            started.set_result((seed, asyncio.get_running_loop(), end))
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    seed, loop, end = await asyncio.wrap_future(started)
    try:
        yield seed
    finally:
        loop.call_soon_threadsafe(end.set)
        await asyncio.to_thread(thread.join, 5)
