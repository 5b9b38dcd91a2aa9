"""A process that is killed is seen dead each time, though its streams end before its listener."""

from __future__ import annotations

import asyncio
import sys

import grpc.aio
import pytest

from seedbed.grpc_transport import GrpcTransport
from seedbed_seed.evidence import Dialler

pytestmark = pytest.mark.integration

LISTENER = """
import asyncio
from seedbed.grpc_transport import GrpcTransport
from seedbed.transport import BidiMethod
class Held:
    def find(self, method):
        async def held(call, requests):
            yield b"open"
            await asyncio.Event().wait()
        return BidiMethod(held)
async def main():
    server = GrpcTransport(max_message_bytes=1 << 20).server(Held())
    print(await server.start("127.0.0.1", 0), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_a_killed_process_is_seen_dead_from_the_moment_its_stream_ends() -> None:
    dialler = Dialler(GrpcTransport(max_message_bytes=1 << 20))
    for _ in range(4):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", LISTENER, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            open_stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
            open_stream = channel.stream_stream("/held/Open")
            stream = open_stream(timeout=20)
            assert await stream.read() == b"open"
            process.kill()
            with pytest.raises(grpc.aio.AioRpcError):
                await stream.read()
            assert await dialler.is_dead("127.0.0.1", port, "w1-a")
        await process.wait()
