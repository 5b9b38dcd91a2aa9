"""Calls from entity to entity between two workers, against a plain grpc.aio channel in the same
process to the same entities."""

from __future__ import annotations

import tempfile
from pathlib import Path
from timeit import repeat

import grpc.aio
from relay.v1 import relay_pb2 as pb
from relay.v1 import relay_pb2_grpc as rpc

from benchmarks.report import Report
from seedbed.client_channel import Channel
from seedbed.client_session import ClientSession
from seedbed.clock import SystemClock
from seedbed.grpc_transport import GrpcTransport
from seedbed.router import RouterLimits
from tests.support.cluster import cluster

CALLERS = 64
KEYS = 1000
TARGET = 4.0
STUBS = 10_000


async def measure(report: Report, rounds: int, seconds: float) -> None:
    """An entity of one worker drives entities of the other, within one turn."""
    report.add("a stub of 3 methods on self.channel", [stub_us()], "us", at_most=10.0)
    with tempfile.TemporaryDirectory() as folder:
        async with (
            cluster(Path(folder), workers=2, entities="tests.support.relay") as running,
            grpc.aio.insecure_channel(running.entry) as channel,
        ):
            await running.placed(2)
            stub: rpc.RelayAsyncStub = rpc.RelayStub(channel)
            near, far = [node.name for node in running.workers]
            runners = await by_worker(stub)
            addresses = {"grpc.aio channel": running.node(far).grpc, "self.channel": ""}
            rates: dict[str, list[pb.Rate]] = {name: [] for name in addresses}
            for _ in range(rounds):
                for name, address in addresses.items():
                    load = pb.Load(
                        name=runners[near][0],
                        targets=runners[far],
                        callers=CALLERS,
                        seconds=seconds,
                        address=address,
                    )
                    rates[name].append(await stub.Drive(load, timeout=seconds + 30))
    base = rates["grpc.aio channel"]
    for name, runs in rates.items():
        report.add(
            f"entity to entity, {name}, {CALLERS} callers",
            [run.per_s / of.per_s for run, of in zip(runs, base, strict=True)],
            f"x ({sum(run.per_s for run in runs) / len(runs):.0f}/s)",
            at_least=TARGET if name == "self.channel" else None,
            p50_ms=[run.p50_ms for run in runs],
            p99_ms=[run.p99_ms for run in runs],
        )


async def by_worker(stub: rpc.RelayAsyncStub) -> dict[str, list[str]]:
    """Where the runners live."""
    found: dict[str, list[str]] = {}
    for number in range(KEYS):
        trail = await stub.Get(pb.Runner(name=f"runner-{number}"), timeout=10)
        found.setdefault(trail.workers[0], []).append(trail.names[0])
    return found


def stub_us() -> float:
    """What it takes to make a stub, in the fastest of some series."""
    transport = GrpcTransport(max_message_bytes=None)
    channel = Channel(ClientSession(transport, ["none:1"], RouterLimits(), SystemClock()))
    return min(repeat(lambda: rpc.RelayStub(channel), number=STUBS, repeat=5)) / STUBS * 1e6
