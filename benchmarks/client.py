"""Calls from Python: the routing `Client` against a grpc.aio channel, to the same entities."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import uvloop
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from benchmarks.report import Report
from seedbed import Client
from tests.support.callers import took_by_callers
from tests.support.cluster import cluster

KEYS = 1000
TARGETS = {64: 4.0, 256: 8.0}


@dataclass(frozen=True)
class Rate:
    per_s: float
    p50_ms: float
    p99_ms: float


async def measure(report: Report, rounds: int, seconds: float) -> None:
    """A plain channel goes straight to the worker's own port: one hop, as the `Client` has."""
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
    with tempfile.TemporaryDirectory() as folder:
        async with cluster(Path(folder), workers=1) as running:
            await running.placed(1)
            async with (
                grpc.aio.insecure_channel(running.workers[0].grpc) as plain,
                Client(running.entry) as routing,
            ):
                stubs: dict[str, rpc.CensusAsyncStub] = {
                    "grpc.aio channel": rpc.CensusStub(plain),
                    "routing Client": rpc.CensusStub(routing),
                }
                for callers in (1, *TARGETS):
                    rates: dict[str, list[Rate]] = {name: [] for name in stubs}
                    for _ in range(rounds):
                        for name, stub in stubs.items():
                            rates[name].append(await drive(stub, callers, seconds))
                    for name, runs in rates.items():
                        base = rates["grpc.aio channel"]
                        report.add(
                            f"{name}, {callers} callers",
                            [r.per_s / b.per_s for r, b in zip(runs, base, strict=True)],
                            f"x ({statistics.mean(r.per_s for r in runs):.0f}/s)",
                            at_least=TARGETS.get(callers) if name == "routing Client" else None,
                            p50_ms=[run.p50_ms for run in runs],
                            p99_ms=[run.p99_ms for run in runs],
                        )


async def drive(stub: rpc.CensusAsyncStub, callers: int, seconds: float) -> Rate:
    """Calls of so many callers, each waiting for its answer, for some seconds."""
    people = [pb.Person(name=f"person-{n}") for n in range(KEYS)]
    took = await took_by_callers(
        lambda number: stub.Get(people[number % KEYS], timeout=10), callers=callers, seconds=seconds
    )
    return Rate(len(took) / seconds, took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3)
