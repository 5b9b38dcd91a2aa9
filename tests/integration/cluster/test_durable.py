"""Durable entities: what was acknowledged is there, whatever happened to the workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from seedbed import once, reason
from tests.support.cluster import Cluster, cluster
from tests.support.kept import ENTITIES, check_nothing_lost, sqlite_in
from tests.support.load import back, load, warm
from tests.support.waiting import now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

KEYS = [f"person-{n}" for n in range(100)]
EXIT_S = 25.0


@asynccontextmanager
async def durable(folder: Path, workers: int) -> AsyncGenerator[Cluster]:
    """A cluster whose workers share one SQLite file."""
    async with cluster(
        folder, workers=workers, entities=ENTITIES, worker_env=sqlite_in(folder)
    ) as running:
        await running.placed(workers)
        yield running


async def test_a_killed_worker_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    async with durable(tmp_path, workers=2) as running:
        victim = running.workers[0]
        async with load([running.entry], KEYS, per_s=200) as record:
            await warm(record, KEYS)
            strike = now()
            victim.kill()
            took = await back(record, KEYS, strike, within=10)
        await check_nothing_lost(running.entry, record.calls)
    print(f"all back after {took:.2f} s; {record.summary()}")
    assert took <= 1.5, "durable types move on evidence of death"
    assert {call.reason for call in record.failed} <= {"OUTCOME_UNKNOWN"}


async def test_a_rolling_restart_keeps_every_value(tmp_path: Path) -> None:
    async with durable(tmp_path, workers=2) as running:
        async with load([running.entry], KEYS, per_s=200) as record:
            await warm(record, KEYS)
            for worker in list(running.workers):
                worker.terminate()
                assert await worker.exit_code(EXIT_S) == 0
                await running.restart(worker)
            await asyncio.sleep(0.5)  # of load with all of them
        await check_nothing_lost(running.entry, record.calls)
    print(record.summary())
    assert not record.failed, record.failed[0]


async def test_a_cluster_that_lost_all_its_workers_goes_on_where_it_was(tmp_path: Path) -> None:
    async with durable(tmp_path, workers=2) as running:
        async with load([running.entry], KEYS, per_s=200) as record:
            await warm(record, KEYS)
        for worker in list(running.workers):
            worker.kill()
        for _ in range(2):
            await running.add_worker()
        await running.placed(2, within=20)
        await check_nothing_lost(running.entry, record.calls)


@dataclass
class Deed:
    """One increment, called until it is answered, and then once more."""

    key: str
    name: str
    first: pb.Count | None = None
    again: pb.Count | None = None
    tries: int = 0


async def do(deed: Deed, stub: rpc.CensusAsyncStub) -> None:
    """As a careful caller: the same call under the same name until it knows what came of it."""
    deed.first = await insist(deed, stub)
    deed.again = await insist(deed, stub)


async def insist(deed: Deed, stub: rpc.CensusAsyncStub) -> pb.Count:
    while True:
        deed.tries += 1
        try:
            return await stub.Add(pb.Person(name=deed.key), timeout=2, metadata=once(deed.name))
        except grpc.aio.AioRpcError as error:
            if reason(error) not in AGAIN:
                raise
            await asyncio.sleep(0.05)  # a caller's pause


AGAIN = {
    "OUTCOME_UNKNOWN",
    "MOVING",
    "NO_WORKERS",
    "STORE_UNAVAILABLE",
    "DEADLINE",
    "SEED_NOT_READY",
}


async def test_every_deed_is_done_once_while_workers_are_killed(tmp_path: Path) -> None:
    deeds = [Deed(KEYS[n % 20], f"deed-{n}") for n in range(600)]
    async with durable(tmp_path, workers=3) as running:
        async with (
            grpc.aio.insecure_channel(running.entry) as channel,
            asyncio.TaskGroup() as calls,
        ):
            stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)

            async def caller(number: int) -> None:
                for deed in deeds[number::10]:
                    await do(deed, stub)

            for number in range(10):
                calls.create_task(caller(number))
            for part in (120, 240, 360):
                while sum(deed.again is not None for deed in deeds) < part:
                    await asyncio.sleep(0.01)  # between looks; the test itself has a limit
                victim = running.workers[0]
                victim.kill()
                running.workers.remove(victim)
                await running.add_worker()
        repeated = sum(deed.tries > 2 for deed in deeds)
        print(f"{len(deeds)} deeds, {repeated} of them called more than twice")
        for deed in deeds:
            assert deed.first is not None
            assert deed.again is not None
            assert (deed.again.count, deed.again.name) == (deed.first.count, deed.first.name)
        for key in KEYS[:20]:
            counts = sorted(deed.first.count for deed in deeds if deed.key == key and deed.first)
            assert counts == list(range(1, 31)), f"{key}: {counts}"
