"""Durable entities: what was acknowledged is there, whatever happened to the workers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from tests.support.cluster import Cluster, cluster
from tests.support.load import Call, Load, back, load, warm
from tests.support.waiting import now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

KEYS = [f"person-{n}" for n in range(100)]
ENTITIES = "tests.support.durable_census:DurableCensus"
EXIT_S = 25.0


@asynccontextmanager
async def durable(folder: Path, workers: int) -> AsyncGenerator[Cluster]:
    """A cluster whose workers share one SQLite file."""
    journal = {"SEEDBED_JOURNAL": f"sqlite:///{folder}/seedbed.db"}
    async with cluster(folder, workers=workers, entities=ENTITIES, worker_env=journal) as running:
        await running.placed(workers)
        yield running


async def check_nothing_lost(entry: str, record: Load) -> None:
    """Every acknowledged count was given once, in order of time, and none is gone."""
    acknowledged: dict[str, list[Call]] = defaultdict(list)
    for call in record.calls:
        if call.ok:
            acknowledged[call.key].append(call)
    unclear = defaultdict[str, int](int)
    for call in record.failed:
        unclear[call.key] += call.reason in ("OUTCOME_UNKNOWN", "DEADLINE")
    async with grpc.aio.insecure_channel(entry) as channel:
        stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
        for key, calls in acknowledged.items():
            counts = [call.count for call in calls]
            assert len(set(counts)) == len(counts), f"{key}: a count was given twice: {counts}"
            kept = (await stub.Get(pb.Person(name=key), timeout=5)).count
            assert kept >= max(counts), f"{key}: {max(counts)} was acknowledged, {kept} is there"
            assert kept <= len(counts) + unclear[key], f"{key}: more than was ever asked for"


async def test_a_killed_worker_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    async with durable(tmp_path, workers=2) as running:
        victim = running.workers[0]
        async with load([running.entry], KEYS, per_s=200) as record:
            await warm(record, KEYS)
            strike = now()
            victim.kill()
            took = await back(record, KEYS, strike, within=10)
        await check_nothing_lost(running.entry, record)
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
        await check_nothing_lost(running.entry, record)
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
        await check_nothing_lost(running.entry, record)
