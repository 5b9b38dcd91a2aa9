"""A network in memory: addresses at which the handlers of real servers listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from seedbed.calls import Metadata
from seedbed.transport import (
    BidiMethod,
    Connection,
    Disconnected,
    Duplex,
    Methods,
    Server,
    ServerStreamMethod,
    StatusError,
    Transport,
)


@dataclass
class ServedCall:
    """What a handler sees of a call."""

    method: str
    metadata: Metadata
    deadline_ns: int | None = None
    peer: str = "memory"
    trailing: Metadata = ()

    def set_initial(self, metadata: Metadata) -> None:
        """Nobody reads it."""

    def set_trailing(self, metadata: Metadata) -> None:
        self.trailing = metadata


@dataclass
class MemoryNet(Transport):
    """Who listens where. Streams only, which is all that routers and clients use.

    Its streams are children of `tasks`.
    """

    tasks: asyncio.TaskGroup
    listening: dict[str, Methods] = field(default_factory=dict[str, Methods])
    dialled: list[str] = field(default_factory=list[str])
    streams: list[tuple[str, _Duplex]] = field(default_factory=list["tuple[str, _Duplex]"])

    def server(self, *methods: Methods) -> Server:
        raise NotImplementedError

    def connect(self, address: str) -> Connection:
        self.dialled.append(address)
        return _Connection(self, address)

    def cut(self, address: str) -> None:
        """Break all streams to an address; it goes on listening."""
        for known, stream in self.streams:
            if known == address:
                stream.cancel()
        self.streams = [(known, stream) for known, stream in self.streams if known != address]


@dataclass
class _Connection(Connection):
    net: MemoryNet
    address: str

    async def unary(
        self, method: str, request: bytes, *, timeout: float, metadata: Metadata = ()
    ) -> bytes:
        raise NotImplementedError

    def bidi(self, method: str, *, metadata: Metadata = ()) -> Duplex:
        return _Duplex(self.net, self.address, ServedCall(method, metadata))

    async def close(self) -> None:
        """Streams are closed one by one."""


class _Duplex(Duplex):
    def __init__(self, net: MemoryNet, address: str, call: ServedCall) -> None:
        self._net = net
        self._address = address
        self._call = call
        self._sent: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._came: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def opened(self) -> None:
        methods = self._net.listening.get(self._address)
        method = methods.find(self._call.method) if methods is not None else None
        if not isinstance(method, BidiMethod | ServerStreamMethod):
            raise Disconnected(14, "connection refused", reached=False)
        self._task = self._net.tasks.create_task(self._serve(method))
        self._net.streams.append((self._address, self))

    async def write(self, message: bytes) -> None:
        if self._task is None:
            await self.opened()
        self._sent.put_nowait(message)

    async def read(self) -> bytes | None:
        message = await self._came.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def done_writing(self) -> None:
        self._sent.put_nowait(None)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._came.put_nowait(Disconnected(1, "cancelled", reached=True))

    async def _serve(self, method: BidiMethod | ServerStreamMethod) -> None:
        try:
            if isinstance(method, BidiMethod):
                items = method.handler(self._call, self._written())
            else:
                request = await self._sent.get()
                items = method.handler(self._call, request or b"")
            async for item in items:
                self._came.put_nowait(item)
            self._came.put_nowait(None)
        except StatusError as error:
            self._came.put_nowait(error)

    async def _written(self) -> AsyncIterator[bytes]:
        while (message := await self._sent.get()) is not None:
            yield message
