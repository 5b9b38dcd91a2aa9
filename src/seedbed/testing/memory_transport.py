"""The transport seam within one process: addresses are names, streams are queues, no sockets.

What the processes say to each other is the same bytes as over gRPC, through the same code on both
sides; only what carries them is another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from itertools import count
from typing import Final

from seedbed.calls import Metadata
from seedbed.clock import Clock
from seedbed.errors import CallError, Reason, SettingsError
from seedbed.status import shown
from seedbed.testing.memory_pipe import Pipe
from seedbed.transport import (
    BidiMethod,
    Connection,
    Disconnected,
    Duplex,
    Method,
    Methods,
    Server,
    StatusError,
    Transport,
    UnaryMethod,
)

log = logging.getLogger(__name__)

_CANCELLED: Final = 1
_DEADLINE_EXCEEDED: Final = 4
_UNAVAILABLE: Final = 14


class MemoryTransport(Transport):
    """A network of its own; what its servers run are children of `tasks`."""

    def __init__(self, tasks: asyncio.TaskGroup, clock: Clock) -> None:
        self.tasks = tasks
        self.clock = clock
        self.servers: dict[str, MemoryServer] = {}
        """Those that listen, by address."""
        self.written = 0
        """Messages of streams so far: while it rises, something is under way."""

    def server(self, *methods: Methods) -> MemoryServer:
        """A server that asks each of `methods` in turn for the method of a call."""
        return MemoryServer(self, methods)

    def connect(self, address: str) -> MemoryConnection:
        """A connection; whether anybody listens there is seen with each call."""
        return MemoryConnection(self, address)


class MemoryServer(Server):
    """Listens under a name."""

    def __init__(self, network: MemoryTransport, methods: tuple[Methods, ...]) -> None:
        self._network = network
        self._methods = methods
        self._address = ""
        self._streams: set[_Stream] = set()

    async def start(self, bind: str, port: int) -> int:
        taken = self._network.servers
        if port == 0:
            port = next(free for free in count(1) if f"{bind}:{free}" not in taken)
        address = f"{bind}:{port}"
        if taken.setdefault(address, self) is not self:
            raise SettingsError(f"cannot listen on {address}: another server does")
        self._address = address
        return port

    async def close(self, grace_s: float) -> None:
        self.stop_listening()
        running = [stream.task for stream in self._streams if stream.task is not None]
        if running and grace_s > 0:
            await asyncio.wait(running, timeout=grace_s)
        self.cut()
        if running:
            await asyncio.wait(running)

    def stop_listening(self) -> None:
        """Nobody can connect any more."""
        if self._network.servers.get(self._address) is self:
            del self._network.servers[self._address]

    def cut(self) -> None:
        """End what runs, as when the process dies."""
        for stream in list(self._streams):
            stream.break_off(Disconnected(_UNAVAILABLE, "the peer is gone", reached=True))

    def find(self, path: str) -> Method:
        """The method of a path; raises `StatusError`."""
        for methods in self._methods:
            method = methods.find(path)
            if method is not None:
                return method
        raise shown(CallError(Reason.UNKNOWN_METHOD, f"no method {path} here"), path, log)

    def open(self, path: str, metadata: Metadata) -> _Stream:
        """Begin a stream (for `MemoryDuplex`); raises `StatusError`."""
        stream = _Stream(self._network, path, metadata)
        stream.start(self.find(path), self._streams)
        return stream


class MemoryConnection(Connection):
    """Finds the server of its address anew for each call."""

    def __init__(self, network: MemoryTransport, address: str) -> None:
        self._network = network
        self._address = address
        self._open: set[MemoryDuplex] = set()

    async def unary(
        self, method: str, request: bytes, *, timeout: float, metadata: Metadata = ()
    ) -> bytes:
        found = self.server().find(method)
        if not isinstance(found, UnaryMethod):
            raise shown(CallError(Reason.UNKNOWN_METHOD, f"{method} is a stream"), method, log)
        clock = self._network.clock
        call = _Call(method, metadata, clock.now_ns() + int(timeout * 1e9))
        try:
            async with asyncio.timeout(timeout):
                return await found.handler(call, request)
        except TimeoutError:
            raise StatusError(_DEADLINE_EXCEEDED, "Deadline Exceeded") from None
        except Exception as error:
            raise shown(error, method, log) from error

    def bidi(self, method: str, *, metadata: Metadata = ()) -> MemoryDuplex:
        duplex = MemoryDuplex(self, method, metadata)
        self._open.add(duplex)
        return duplex

    async def close(self) -> None:
        for duplex in list(self._open):
            duplex.cancel()

    def server(self) -> MemoryServer:
        """Who listens there; raises `Disconnected`."""
        server = self._network.servers.get(self._address)
        if server is None:
            text = f"failed to connect to all addresses; nobody listens on {self._address}"
            raise Disconnected(_UNAVAILABLE, text, reached=False)
        return server

    def forget(self, duplex: MemoryDuplex) -> None:
        """It is over."""
        self._open.discard(duplex)


class MemoryDuplex(Duplex):
    """The client's side. It begins when it is first used."""

    def __init__(self, connection: MemoryConnection, method: str, metadata: Metadata) -> None:
        self._connection = connection
        self._method = method
        self._metadata = metadata
        self._begun: _Stream | None = None
        self._cancelled = False

    async def opened(self) -> None:
        self._stream()

    async def write(self, message: bytes) -> None:
        await self._stream().write(message)

    async def read(self) -> bytes | None:
        return await self._stream().replies.get()

    async def done_writing(self) -> None:
        self._stream().requests.end()

    def cancel(self) -> None:
        self._cancelled = True
        self._connection.forget(self)
        if self._begun is not None:
            self._begun.break_off(Disconnected(_CANCELLED, "cancelled", reached=True))

    def _stream(self) -> _Stream:
        if self._begun is None:
            if self._cancelled:
                raise Disconnected(_CANCELLED, "cancelled before it began", reached=False)
            self._begun = self._connection.server().open(self._method, self._metadata)
        return self._begun


class _Call:
    """What a handler is told of its call."""

    def __init__(self, method: str, metadata: Metadata, deadline_ns: int | None = None) -> None:
        self.method = method
        self.metadata = metadata
        self.deadline_ns = deadline_ns
        self.peer = "memory"

    def set_initial(self, metadata: Metadata) -> None:
        """Nobody on the other side of the seam can read them."""

    def set_trailing(self, metadata: Metadata) -> None:
        """Nobody on the other side of the seam can read them."""


class _Stream:
    """Both directions, and the task of the handler between them."""

    def __init__(self, network: MemoryTransport, path: str, metadata: Metadata) -> None:
        self._network = network
        self._call = _Call(path, metadata)
        self.requests = Pipe()
        self.replies = Pipe()
        self.task: asyncio.Task[None] | None = None

    def start(self, method: Method, running: set[_Stream]) -> None:
        """Run the handler; among the `running` until it ends."""
        self.task = self._network.tasks.create_task(self._run(method))
        running.add(self)
        self.task.add_done_callback(lambda _: running.discard(self))

    async def write(self, message: bytes) -> None:
        """From the client to the handler."""
        self._network.written += 1
        await self.requests.put(message)

    def break_off(self, error: Disconnected) -> None:
        """One side has gone: the other one learns it, whatever was under way."""
        self.requests.end(error)
        self.replies.end(error)
        if self.task is not None:
            self.task.cancel()

    async def _run(self, method: Method) -> None:
        end: Disconnected | StatusError | None = None
        try:
            async with aclosing(self._items(method)) as items:
                async for item in items:
                    self._network.written += 1
                    await self.replies.put(item)
        except Disconnected as error:
            end = error
        except Exception as error:
            end = shown(error, self._call.method, log)
        except asyncio.CancelledError:
            end = Disconnected(_UNAVAILABLE, "the peer is gone", reached=True)
            raise
        finally:
            self.requests.end()
            self.replies.end(end)

    async def _items(self, method: Method) -> AsyncGenerator[bytes]:
        items: AsyncIterator[bytes]
        if isinstance(method, BidiMethod):
            items = method.handler(self._call, self._requests())
        else:
            # As on the wire, where both begin alike: the first message is the request.
            request = await self.requests.get()
            if request is None:
                return
            if isinstance(method, UnaryMethod):
                yield await method.handler(self._call, request)
                return
            items = method.handler(self._call, request)
        try:
            async for item in items:
                yield item
        finally:
            if isinstance(items, AsyncGenerator):
                await items.aclose()

    async def _requests(self) -> AsyncGenerator[bytes]:
        while (message := await self.requests.get()) is not None:
            yield message
