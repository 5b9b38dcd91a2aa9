"""Runs `h2load` (Debian's nghttp2-client) with a prepared gRPC body, so that the server is the
bottleneck, and reads its figures."""

from __future__ import annotations

import asyncio
import re
import shutil
import statistics
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 4


@dataclass(frozen=True)
class Figures:
    """One run: calls per second, and latencies in ms."""

    rate: float
    p50_ms: float
    p99_ms: float


def grpc_body(message: bytes) -> bytes:
    """A message in gRPC's framing: no compression, its length, itself."""
    return struct.pack(">BI", 0, len(message)) + message


async def h2load(
    address: str, method: str, message: bytes, reply_bytes: int, *, in_flight: int, seconds: int
) -> Figures:
    """Drive one method for some seconds; raises if a single answer was not a good one."""
    program = shutil.which("h2load")
    if program is None:
        raise SystemExit("h2load is missing: apt-get install nghttp2-client")
    connections = min(CONNECTIONS, in_flight)
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(grpc_body(message))
        process = await asyncio.create_subprocess_exec(
            *(program, "-D", str(int(seconds)), "--warm-up-time", "1s"),
            *("-c", str(connections), "-m", str(in_flight // connections), "-d", str(body)),
            *("-H", "content-type: application/grpc", "-H", "te: trailers"),
            *("-H", "grpc-timeout: 20S", "--log-file", str(log)),
            f"http://{address}{method}",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(seconds + 60):
            output = (await process.communicate())[0].decode()
        lines = log.read_text().splitlines() if log.exists() else []
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", output)
    bad = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", output)
    data = re.search(r"\((\d+)\) data", output)
    # HTTP says 200 also for a gRPC error, so the bytes tell whether every answer was a reply.
    good = data is not None and int(data[1]) % (5 + reply_bytes) == 0
    if rate is None or bad is None or not good or any(int(n) for n in bad.groups()):
        raise RuntimeError(f"h2load against {address}{method}:\n{output}")
    took = sorted(int(line.split("\t")[2]) / 1000 for line in lines)
    return Figures(float(rate[1]), statistics.median(took), took[int(len(took) * 0.99)])
