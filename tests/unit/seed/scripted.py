"""A store, a dialler, calls and workers that do what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

from seedbed.calls import Metadata
from seedbed.errors import CallError
from seedbed.transport import (
    StatusError,
)
from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_seed.evidence import Dialled, Dialler, Silence
from seedbed_seed.memory_store import MemoryStore
from seedbed_seed.registration import Registration
from seedbed_seed.store import (
    Compare,
    Get,
    Outcome,
    Reading,
    Write,
    WriteInDoubt,
)

PATIENCE_S = 5.0
"""How long a test waits for what must come."""


class TroubledStore(MemoryStore):
    """A memory store that can be stuck, or lose the answers of writes."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck = False
        self.lose_answers = 0
        """So many writes are carried out, and their answers lost."""
        self.swallow = 0
        """So many writes are not carried out, and their answers lost."""
        self.watch_stuck = False

    async def _hang(self) -> None:
        if self.stuck:
            await asyncio.Event().wait()

    async def read(self, *gets: Get, timeout: float | None = None) -> Reading:
        await self._hang()
        return await super().read(*gets, timeout=timeout)

    async def renew(self, lease: int, *, timeout: float | None = None) -> int:
        await self._hang()
        return await super().renew(lease, timeout=timeout)

    async def write(
        self,
        *writes: Write,
        when: Sequence[Compare] = (),
        otherwise: Sequence[Get] = (),
        timeout: float | None = None,
    ) -> Outcome:
        await self._hang()
        if self.swallow:
            self.swallow -= 1
            raise WriteInDoubt("swallowed before")
        outcome = await super().write(*writes, when=when, otherwise=otherwise, timeout=timeout)
        if self.lose_answers:
            self.lose_answers -= 1
            raise WriteInDoubt("swallowed after")
        return outcome


class ScriptedDialler(Dialler):
    """Answers dials as a test says; by default nobody can tell anything."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], Dialled] = {}
        self.dialled: list[tuple[str, int]] = []
        self.script: list[Dialled] = []
        """Answers of the next dials, whatever the address."""

    async def dial(self, host: str, port: int, timeout_s: float) -> Dialled:
        self.dialled.append((host, port))
        if self.script:
            return self.script.pop(0)
        return self.answers.get((host, port), Silence.UNKNOWN)


@dataclass
class ScriptedCall:
    """A call as the transport shows it to a handler."""

    method: str = "/seedbed.v1.Cluster/Register"
    metadata: Metadata = ()
    deadline_ns: int | None = None
    peer: str = "script"
    initial: Metadata = ()
    trailing: Metadata = ()

    def set_initial(self, metadata: Metadata) -> None:
        self.initial = metadata

    def set_trailing(self, metadata: Metadata) -> None:
        self.trailing = metadata


@dataclass
class ScriptedWorker:
    """One Register stream, from the worker's side."""

    hello: pb.Hello
    messages: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue[bytes | None])
    said: asyncio.Queue[pb.SeedMessage] = field(default_factory=asyncio.Queue[pb.SeedMessage])
    heard: list[pb.SeedMessage] = field(default_factory=list[pb.SeedMessage])
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    error: CallError | StatusError | None = None
    read_on: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared, the worker reads nothing."""
    task: asyncio.Task[None] | None = None
    _seq: count[int] = field(default_factory=lambda: count(1))

    def send(self, message: pb.WorkerMessage) -> None:
        self.messages.put_nowait(message.SerializeToString())

    def beat(
        self,
        *,
        released: Sequence[store_pb2.ReleasedShards] = (),
        load: store_pb2.Load | None = None,
    ) -> int:
        seq = next(self._seq)
        beat = pb.Heartbeat(seq=seq, released=released, load=load)
        self.send(pb.WorkerMessage(heartbeat=beat))
        return seq

    async def expect(self, kind: str) -> pb.SeedMessage:
        """The next message of this kind; others before it are skipped (and kept in `heard`)."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    message = await self.said.get()
                    if message.WhichOneof("kind") == kind:
                        return message
        except TimeoutError:
            raise AssertionError(f"no {kind} in {PATIENCE_S} s; heard {self.heard}") from None

    async def ack(self) -> pb.HeartbeatAck:
        """Send a heartbeat and await its answer."""
        seq = self.beat()
        acked = (await self.expect("heartbeat_ack")).heartbeat_ack
        assert acked.seq == seq
        return acked

    async def state(self) -> pb.LeaseState.ValueType:
        return (await self.ack()).state

    async def until_ended(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.ended.wait()

    def disconnect(self) -> None:
        """The connection breaks."""
        if self.task is not None:
            self.task.cancel()

    async def incoming(self) -> AsyncIterator[bytes]:
        while (data := await self.messages.get()) is not None:
            yield data

    async def run(self, registration: Registration) -> None:
        """What the server does with this stream."""
        outgoing = registration.register(ScriptedCall(), self.incoming())
        try:
            async for data in outgoing:
                await self.read_on.wait()
                message = pb.SeedMessage.FromString(data)
                self.heard.append(message)
                self.said.put_nowait(message)
        except (CallError, StatusError) as error:
            self.error = error
        finally:
            self.ended.set()
            assert isinstance(outgoing, AsyncGenerator)
            with suppress(RuntimeError):
                await outgoing.aclose()
