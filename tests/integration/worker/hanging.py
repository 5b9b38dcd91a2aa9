"""A relay whose present connections can be made to hang, while new ones pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress


class Relay:
    """In front of one address."""

    def __init__(self, target: str) -> None:
        self.address = ""
        self.connections = 0
        self._host, _, self._port = target.rpartition(":")
        self._hung_below = 0

    def hang(self) -> None:
        """What is connected now passes nothing any more, and is not closed either."""
        self._hung_below = self.connections

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.connections = self.connections, self.connections + 1
        to_reader, to_writer = await asyncio.open_connection(self._host, int(self._port))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pass(number, reader, to_writer))
            tasks.create_task(self._pass(number, to_reader, writer))

    async def _pass(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65_536):
                if number >= self._hung_below:
                    writer.write(chunk)
        writer.transport.abort()


@asynccontextmanager
async def relay(target: str) -> AsyncGenerator[Relay]:
    """Run a relay in front of this address."""
    running = Relay(target)
    server = await asyncio.start_server(running.serve, "127.0.0.1", 0)
    running.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield running
    finally:
        server.close()
