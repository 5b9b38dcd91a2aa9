"""Starts the baseline server in a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


@asynccontextmanager
async def echo_server() -> AsyncGenerator[str, None]:
    """Address of a running echo server."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.echo_server"), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            line = (await process.stdout.readline()).decode()
        yield json.loads(line.removeprefix("READY "))["grpc"]
    finally:
        process.kill()
        await process.wait()
