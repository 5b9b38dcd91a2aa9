"""A transport in memory: workers that are asked what they make of each call that reaches them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from seedbed.calls import EntityCall, Failed, Metadata, NotHere, Replied
from seedbed.frames import ReplyOutbox, call_from_wire, parse_calls
from seedbed.ids import Epoch
from seedbed.transport import Connection, Disconnected, Duplex, Methods, Server, Transport

Answer: TypeAlias = Replied | Failed | NotHere | None


class ManualClock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.time_ns = 1_000_000_000_000

    def now_ns(self) -> int:
        return self.time_ns

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self.time_ns // 1_000_000

    def advance(self, seconds: float) -> None:
        self.time_ns += int(seconds * 1e9)


def echo(call: EntityCall) -> Answer:
    return Replied(call.request, call.epoch)


def silence(call: EntityCall) -> Answer:
    return None


class FakeWorker:
    """One address. `answer` decides; None keeps the call open for `reply` and `item`."""

    def __init__(self, clock: ManualClock, answer: Callable[[EntityCall], Answer] = echo) -> None:
        self.answer: Callable[[EntityCall], Answer] = answer
        self.listening = True
        self.calls: list[EntityCall] = []
        self.ids: list[int] = []
        self.batches = 0
        self.cancelled: list[int] = []
        self.credits: list[tuple[int, int]] = []
        self._clock = clock
        self.streams: list[FakeDuplex] = []

    def take(self, data: bytes, stream: FakeDuplex) -> None:
        self.batches += 1
        batch = parse_calls(data)
        out = ReplyOutbox()
        for wire in batch.calls:
            call = call_from_wire(wire, now_ns=self._clock.now_ns())
            self.calls.append(call)
            self.ids.append(wire.id)
            answer = self.answer(call)
            if answer is not None:
                out.put(wire.id, answer)
        self.cancelled.extend(batch.cancels)
        self.credits.extend((credit.id, credit.items) for credit in batch.credits)
        stream.send(out)

    def reply(self, id_: int, answer: Replied | Failed | NotHere) -> None:
        """Answer an open call on every stream that is up (ids are unique over all)."""
        out = ReplyOutbox()
        out.put(id_, answer)
        self._say(out)

    def item(self, id_: int, item: bytes, epoch: Epoch) -> None:
        out = ReplyOutbox()
        out.put_item(id_, item, epoch)
        self._say(out)

    def say(self, data: bytes) -> None:
        """Put any bytes on the streams."""
        for stream in self.streams:
            stream.incoming.put_nowait(data)

    def die(self) -> None:
        """Stop listening and break what is up."""
        self.listening = False
        self.break_streams()

    def break_streams(self) -> None:
        for stream in self.streams:
            stream.incoming.put_nowait(Disconnected(14, "connection reset", reached=True))
        self.streams.clear()

    def _say(self, out: ReplyOutbox) -> None:
        data = out.take()
        assert data is not None
        self.say(data)


class FakeNetwork(Transport):
    """Addresses and who listens there."""

    def __init__(self) -> None:
        self.workers: dict[str, FakeWorker] = {}

    def server(self, *methods: Methods) -> Server:
        raise NotImplementedError

    def connect(self, address: str) -> Connection:
        return FakeConnection(self, address)


class FakeConnection(Connection):
    def __init__(self, network: FakeNetwork, address: str) -> None:
        self._network = network
        self._address = address

    async def unary(
        self, method: str, request: bytes, *, timeout: float, metadata: Metadata = ()
    ) -> bytes:
        raise NotImplementedError

    def bidi(self, method: str, *, metadata: Metadata = ()) -> Duplex:
        return FakeDuplex(self._network, self._address)

    async def close(self) -> None:
        pass


class FakeDuplex(Duplex):
    def __init__(self, network: FakeNetwork, address: str) -> None:
        self._network = network
        self._address = address
        self._worker: FakeWorker | None = None
        self.incoming: asyncio.Queue[bytes | Disconnected | None] = asyncio.Queue()

    async def opened(self) -> None:
        worker = self._network.workers.get(self._address)
        if worker is None or not worker.listening:
            raise Disconnected(14, "connection refused", reached=False)
        self._worker = worker
        worker.streams.append(self)

    async def write(self, message: bytes) -> None:
        assert self._worker is not None
        if self not in self._worker.streams:
            raise Disconnected(14, "connection reset", reached=True)
        self._worker.take(message, self)

    async def read(self) -> bytes | None:
        message = await self.incoming.get()
        if isinstance(message, Disconnected):
            raise message
        return message

    async def done_writing(self) -> None:
        pass

    def cancel(self) -> None:
        if self._worker is not None and self in self._worker.streams:
            self._worker.streams.remove(self)
        self.incoming.put_nowait(Disconnected(1, "cancelled", reached=True))

    def send(self, out: ReplyOutbox) -> None:
        while (data := out.take()) is not None:
            self.incoming.put_nowait(data)
