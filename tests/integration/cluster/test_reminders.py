"""Reminders outlive their workers: each rings once, however often it has to change its owner."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import grpc.aio
import pytest
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from seedbed import once, reason
from tests.support.cluster import Cluster, cluster
from tests.support.waiting import now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

KEYS = [f"person-{n}" for n in range(40)]
EACH = 5
AGAIN = {"OUTCOME_UNKNOWN", "MOVING", "NO_WORKERS", "STORE_UNAVAILABLE", "DEADLINE"}


@asynccontextmanager
async def reminded(folder: Path, workers: int) -> AsyncGenerator[Cluster]:
    """A cluster whose workers share one SQLite file."""
    journal = {"SEEDBED_JOURNAL": f"sqlite:///{folder}/seedbed.db"}
    entities = "tests.support.reminded_census:RemindedCensus"
    async with cluster(folder, workers=workers, entities=entities, worker_env=journal) as running:
        await running.placed(workers)
        yield running


async def ask(stub: rpc.CensusAsyncStub, key: str, after_ms: int, name: str) -> None:
    """Once, whatever happens to the call."""
    while True:
        try:
            person = pb.Person(name=key, number=after_ms)
            await stub.Add(person, timeout=2, metadata=once(name))
        except grpc.aio.AioRpcError as error:
            if reason(error) not in AGAIN:
                raise
            await asyncio.sleep(0.05)  # a caller's pause
        else:
            return


async def rang(stub: rpc.CensusAsyncStub, key: str) -> tuple[dict[str, int], list[int]]:
    found = await stub.Get(pb.Person(name=key), timeout=5)
    told = json.loads(found.worker)
    return told["once"], told["ticks"]


async def turns_done(running: Cluster) -> int:
    """Turns of reminders that the present workers have run."""
    total = 0
    for worker in running.workers:
        page = await worker.fetch("/metrics")
        for value in re.findall(r'seedbed_reminders_total\{.*end="done"\} (\d+)', page):
            total += int(value)
    return total


async def test_each_rings_once_while_workers_are_killed(tmp_path: Path) -> None:
    expected = {f"reminder {n}": 1 for n in range(1, EACH + 1)}
    async with reminded(tmp_path, workers=3) as running:
        async with (
            grpc.aio.insecure_channel(running.entry) as channel,
            asyncio.TaskGroup() as tasks,
        ):
            stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)

            async def ask_all(key: str, number: int) -> None:
                for n in range(EACH):
                    await ask(stub, key, (number * 7 + n * 1300) % 6000, f"{key} {n}")

            for number, key in enumerate(KEYS):
                tasks.create_task(ask_all(key, number))
            for _ in range(3):
                await asyncio.sleep(1.5)  # of reminders that ring
                victim = running.workers[0]
                victim.kill()
                running.workers.remove(victim)
                await running.add_worker()
        async with grpc.aio.insecure_channel(running.entry) as channel:
            stub = rpc.CensusStub(channel)
            until = now() + 30
            late = list(KEYS)
            while late and now() < until:
                late = [key for key in late if (await rang(stub, key))[0].keys() != expected.keys()]
                await asyncio.sleep(0.2)  # between looks
            for key in KEYS:
                assert (await rang(stub, key))[0] == expected, key


async def test_what_was_due_while_no_worker_was_there_is_caught_up(tmp_path: Path) -> None:
    async with reminded(tmp_path, workers=2) as running:
        async with grpc.aio.insecure_channel(running.entry) as channel:
            stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
            slow = pb.SlowRequest(person=pb.Person(name="ticker"), pause_ms=1000)
            await stub.Slow(slow, timeout=5)
            for key in KEYS:
                await ask(stub, key, 4000, key)
            await asyncio.sleep(2.2)  # of ticks
        for worker in running.workers:
            worker.kill()
        running.workers.clear()
        await asyncio.sleep(5)  # in which all of them fall due
        back = now()
        for _ in range(2):
            await running.add_worker()
        await running.placed(2)
        while await turns_done(running) < len(KEYS) + 1:  # nobody has called an entity yet
            assert now() < back + 30, "not all have rung by themselves"
            await asyncio.sleep(0.1)
        async with grpc.aio.insecure_channel(running.entry) as channel:
            stub = rpc.CensusStub(channel)
            for key in KEYS:
                assert (await rang(stub, key))[0] == {"reminder 1": 1}, key
            _, ticks = await rang(stub, "ticker")
    print(f"ticks: {ticks}")
    jumps = [later - earlier for earlier, later in pairwise(ticks)]
    assert min(jumps) >= 1, "none came twice"
    assert sum(jump >= 4 for jump in jumps) == 1, "those that were missed came as one"
