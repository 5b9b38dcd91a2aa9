"""The other end of a Link, for tests of a worker that serves one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple

from probe.v1 import probe_pb2 as pb

from seedbed.calls import EntityCall, Metadata, Outcome, Replied
from seedbed.frames import (
    EXCHANGE,
    ROLE_KEY,
    call_to_wire,
    parse_replies,
    reply_from_wire,
)
from seedbed.transport import BidiMethod, StatusError
from seedbed.v1 import link_pb2
from seedbed_worker.link_server import LinkServer
from tests.unit.worker.host_world import WAIT_S, World, settle, world


class FakeCall:
    """A `ServerCall` without a transport."""

    def __init__(self, method: str, metadata: Metadata = ()) -> None:
        self.method = method
        self.metadata = metadata
        self.deadline_ns: int | None = None
        self.peer = "test"

    def set_initial(self, metadata: Metadata) -> None:
        raise AssertionError("a link has no metadata of its own")

    def set_trailing(self, metadata: Metadata) -> None:
        raise AssertionError("a link has no metadata of its own")


class Router:
    """The other end of one Exchange stream; `run` is the transport's task for it."""

    def __init__(self, server: LinkServer, metadata: Metadata = ()) -> None:
        self._to_worker: asyncio.Queue[bytes | None] = asyncio.Queue()
        assert isinstance(server.find(EXCHANGE), BidiMethod)
        batches = server.exchange(FakeCall(EXCHANGE, metadata), self._batches())
        self._from_worker = aclosing(batches)
        self._replies: asyncio.Queue[link_pb2.Reply] = asyncio.Queue()
        self._ended = asyncio.Event()
        self._error: StatusError | None = None
        self.next_id = 1

    async def run(self) -> None:
        """Read what the worker writes."""
        try:
            async with self._from_worker as batches:
                async for data in batches:
                    for reply in parse_replies(data).replies:
                        self._replies.put_nowait(reply)
        except StatusError as error:
            self._error = error
        finally:
            self._ended.set()

    async def _batches(self) -> AsyncIterator[bytes]:
        while (data := await self._to_worker.get()) is not None:
            yield data

    def write(self, data: bytes | None) -> None:
        """Send a message; None ends this side."""
        self._to_worker.put_nowait(data)

    def send(self, *calls: EntityCall, credit: int = 0) -> list[int]:
        """Send calls in one batch; returns their ids."""
        batch = link_pb2.CallBatch()
        ids: list[int] = []
        for call in calls:
            ids.append(self.next_id)
            now_ns = (call.deadline_ns or 0) - 60 * 10**9
            wire = batch.calls.add()
            call_to_wire(call, wire, id_=self.next_id, now_ns=now_ns, credit=credit)
            self.next_id += 1
        self.write(batch.SerializeToString())
        return ids

    async def reply(self) -> tuple[int, Outcome | bytes]:
        """The next reply and whose it is."""
        wire = await asyncio.wait_for(self._replies.get(), WAIT_S)
        return wire.id, reply_from_wire(wire)

    async def end(self) -> StatusError | None:
        """Wait until the worker ends the stream; how it did."""
        await asyncio.wait_for(self._ended.wait(), WAIT_S)
        return self._error


class Linked(NamedTuple):
    """A world, one router's stream to it, and the transport's task for that."""

    w: World
    router: Router
    transport: asyncio.Task[None]


@asynccontextmanager
async def linked(*, seed: bool = True) -> AsyncGenerator[Linked]:
    async with world() as w, asyncio.TaskGroup() as tasks:
        server = LinkServer(w.host, clock=w.clock, node_id="w-1")
        router = Router(server, ((ROLE_KEY, "seed"),) if seed else ())
        transport = tasks.create_task(router.run())
        await settle()
        yield Linked(w, router, transport)
        transport.cancel()


def total(outcome: Outcome | bytes) -> int:
    data = outcome if isinstance(outcome, bytes) else None
    if data is None:
        assert isinstance(outcome, Replied), outcome
        data = outcome.response
    return pb.Reply.FromString(data).total
