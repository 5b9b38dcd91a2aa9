"""What the test kit costs its users: how long a cluster takes to start, and a first call in it."""

from __future__ import annotations

import asyncio
from time import perf_counter

from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from benchmarks.dispatch import Plain
from benchmarks.report import Report
from seedbed.testing import cluster

STARTS = 20
WORKERS = 2


def measure(report: Report) -> None:
    """On the default loop, as most tests run."""
    starts_ms, tests_ms = asyncio.run(_run())
    report.add(f"testing.cluster: start, {WORKERS} workers", starts_ms, "ms", at_most=50)
    report.add("testing.cluster: start, one call, end", tests_ms, "ms")


async def _run() -> tuple[list[float], list[float]]:
    starts_ms: list[float] = []
    tests_ms: list[float] = []
    for _ in range(STARTS):
        began = perf_counter()
        async with cluster(Plain, workers=WORKERS) as c:
            starts_ms.append((perf_counter() - began) * 1e3)
            await rpc.CensusStub(c.channel).Add(pb.Person(name="a"))
        tests_ms.append((perf_counter() - began) * 1e3)
    return starts_ms, tests_ms
