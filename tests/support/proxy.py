"""A TCP proxy on loopback that can delay, swallow, cut and refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

CHUNK = 65_536


class Proxy:
    """One listening port in front of another; its switches act on all connections at once."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.connections = 0
        """Accepted so far."""
        self.delay_s = 0.0
        """Each chunk, in either direction, waits so long."""
        self.swallow_requests = False
        """What the client sends is read and thrown away."""
        self.swallow_replies = False
        """What the server sends is read and thrown away."""
        self.refuse = False
        """New connections are closed at once."""
        self.requests_bytes = 0
        """Bytes passed on to the server so far."""
        self._open: set[asyncio.StreamWriter] = set()
        self._ended = asyncio.Condition()
        self._handlers = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def drop(self) -> None:
        """Lose everything from now on, in both directions, with all connections open."""
        self.swallow_requests = self.swallow_replies = True

    def forward(self) -> None:
        """Pass on what comes from now on; what was dropped is lost, so old connections are cut."""
        self.swallow_requests = self.swallow_replies = False
        self.cut()

    def cut(self) -> None:
        """Reset all present connections."""
        for writer in list(self._open):
            writer.transport.abort()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self._handlers += 1
        try:
            await self._serve(reader, writer)
        finally:
            self._handlers -= 1
            async with self._ended:
                self._ended.notify_all()

    async def ended(self) -> None:
        """Wait until no connection is open."""
        async with self._ended:
            await self._ended.wait_for(lambda: self._handlers == 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refuse:
            writer.close()
            return
        try:
            target_reader, target = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        if self.refuse:
            target.transport.abort()
            writer.transport.abort()
            return
        ends = {writer, target}
        self._open |= ends
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, target, up=True))
                pumps.create_task(self._pump(target_reader, writer, up=False))
        finally:
            self._open -= ends
            for end in ends:
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if self.swallow_requests if up else self.swallow_replies:
                    continue
                if up:
                    self.requests_bytes += len(chunk)
                writer.write(chunk)
                await writer.drain()
        # One direction's end is the connection's end: gRPC never half-closes.
        writer.transport.abort()


@asynccontextmanager
async def proxy(
    target_port: int, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncGenerator[Proxy, None]:
    """Run a proxy in front of a port on loopback; `host` may be any address of 127.0.0.0/8."""
    running = Proxy(target_port)
    server = await asyncio.start_server(running.handle, host, port)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
        running.refuse = True
        running.cut()
        async with asyncio.timeout(5):
            await running.ended()
