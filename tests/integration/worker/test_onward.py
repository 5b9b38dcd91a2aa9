"""Entities of real workers that call each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from relay.v1 import relay_pb2 as pb
from relay.v1 import relay_pb2_grpc as rpc

from tests.support.cluster import Cluster, cluster
from tests.support.waiting import until

pytestmark = pytest.mark.integration


@asynccontextmanager
async def relay(folder: Path) -> AsyncGenerator[tuple[Cluster, rpc.RelayAsyncStub, str, str]]:
    """Two workers, and a runner on each."""
    async with cluster(folder, workers=2, entities="tests.support.relay") as running:
        await running.placed(2)
        async with grpc.aio.insecure_channel(running.entry) as channel:
            stub: rpc.RelayAsyncStub = rpc.RelayStub(channel)
            found: dict[str, str] = {}
            for number in range(50):
                trail = await stub.Get(pb.Runner(name=f"runner-{number}"), timeout=10)
                found.setdefault(trail.workers[0], trail.names[0])
            one, other = (found[node.name] for node in running.workers)
            yield running, stub, one, other


async def test_a_chain_runs_over_both_workers_and_a_cycle_is_refused_at_once(
    tmp_path: Path,
) -> None:
    async with relay(tmp_path) as (running, stub, one, other):
        # Links are up after the first chain; a third runner is on either worker.
        trail = await stub.Run(pb.Baton(name=one, route=[other, "third"]), timeout=20)
        names = [node.name for node in running.workers]
        assert list(trail.names) == ["third", other, one]
        assert list(trail.workers)[1:] == names[::-1]
        assert not trail.refusal

        trail = await stub.Run(pb.Baton(name=one, route=[other, one]), timeout=20)
        assert list(trail.names) == [other, one]
        assert trail.refusal.startswith("CALL_CYCLE: ")
        assert f"relay/{one} -> relay/{other} -> relay/{one}" in trail.refusal
        assert trail.refused_after_ms < 50


async def test_a_worker_that_stops_lets_its_turns_end_their_calls(tmp_path: Path) -> None:
    async with relay(tmp_path) as (running, stub, one, other), asyncio.TaskGroup() as tasks:
        worker = running.workers[0]

        async def drive() -> pb.Rate:
            load = pb.Load(name=one, targets=[other], callers=4, seconds=1.0)
            return await stub.Drive(load, timeout=20)

        driving = tasks.create_task(drive())
        await until("it calls", lambda: "link up" in worker.log_text(), within=10)
        worker.terminate()
        assert (await driving).per_s > 0
        assert await worker.exit_code() == 0
        assert "Traceback" not in worker.log_text()
