"""Calls by `h2load`: the bare echo, an entity on its worker's own port, and one through a seed."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import grpc.aio
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from benchmarks.echo import echo_server
from benchmarks.h2load import Figures, h2load
from benchmarks.report import Report
from tests.support.cluster import cluster

PERSON = pb.Person(name="benchmark-key-0123456")
METHOD = "/census.v1.Census/Get"
IN_FLIGHT = (1, 64, 256)


async def measure(report: Report, rounds: int, seconds: int) -> None:
    """Every server in each round, one after the other, so that the machine's drift cancels."""
    with tempfile.TemporaryDirectory() as folder:
        async with cluster(Path(folder), workers=1) as running, echo_server() as echo:
            await running.placed(1)
            targets = {
                "bare grpc.aio echo": echo,
                "entity, worker's own port": running.workers[0].grpc,
                "entity, through a seed": running.entry,
            }
            replies = {name: await reply_size(address) for name, address in targets.items()}
            figures: dict[tuple[str, int], list[Figures]] = {}
            for in_flight in IN_FLIGHT:
                for _ in range(rounds):
                    for name, address in targets.items():
                        figures.setdefault((name, in_flight), []).append(
                            await h2load(
                                address,
                                METHOD,
                                PERSON.SerializeToString(),
                                replies[name],
                                in_flight=in_flight,
                                seconds=seconds,
                            )
                        )
    targets_at_64 = {"entity, worker's own port": 0.85, "entity, through a seed": 0.4}
    for (name, in_flight), runs in figures.items():
        base = figures["bare grpc.aio echo", in_flight]
        report.add(
            f"{name}, {in_flight} in flight",
            [run.rate / of.rate for run, of in zip(runs, base, strict=True)],
            f"x ({sum(r.rate for r in runs) / len(runs):.0f}/s)",
            at_least=targets_at_64.get(name) if in_flight == 64 else None,
            p50_ms=[run.p50_ms for run in runs],
            p99_ms=[run.p99_ms for run in runs],
        )


async def reply_size(address: str) -> int:
    """Size of a good reply; proves before the run that the target answers at all."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
        async with asyncio.timeout(10):
            reply = await stub.Get(PERSON, timeout=5)
    return reply.ByteSize()
