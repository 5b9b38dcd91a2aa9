"""An owner that was frozen comes back when another has its shards: the journal refuses every record
that it still sends."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import grpc.aio
import pytest
from census.v1 import census_pb2_grpc as rpc

from tests.support.cluster import cluster
from tests.support.kept import ENTITIES, FILE, counts, sqlite_in
from tests.support.load import Call, add
from tests.support.movement import calls_under_way, gauge, keys_on
from tests.support.processes import Node

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

CALLS = 100
TTL_S = 2


async def test_a_hundred_records_of_a_frozen_owner_come_too_late(tmp_path: Path) -> None:
    async with cluster(
        tmp_path,
        workers=2,
        entities=ENTITIES,
        seed_env={"SEEDBED_LEASE_TTL_S": str(TTL_S)},
        worker_env=sqlite_in(tmp_path),
    ) as running:
        entry, (frozen, other) = running.entry, running.workers
        keys = keys_on(await running.placed(2), frozen.name, CALLS)
        repeated, abandoned = keys[: CALLS // 2], keys[CALLS // 2 :]
        async with asyncio.TaskGroup() as tasks:
            first = await add_to_each(keys, entry, timeout=10)
            assert {call.count for call in first} == {1}
            with nobody_writes(tmp_path):
                patient = tasks.create_task(add_to_each(repeated, entry, timeout=15))
                impatient = tasks.create_task(add_to_each(abandoned, entry, timeout=TTL_S - 0.5))
                await calls_under_way(frozen, CALLS)  # turns are over, and their records wait
                frozen.freeze()
        assert {(call.count, call.worker) for call in patient.result()} == {(2, other.name)}
        assert not any(call.ok for call in impatient.result())
        await running.until("the other has all", lambda seen: frozen.name not in seen.owners())
        before = dict.fromkeys(repeated, 2) | dict.fromkeys(abandoned, 1)
        assert await counts(entry, keys) == before

        frozen.thaw()
        await refused(frozen, CALLS)
        after = {call.key: call.count for call in await add_to_each(keys, entry, timeout=10)}
        assert after == {key: count + 1 for key, count in before.items()}
        assert records(tmp_path) == sum(after.values())


async def add_to_each(keys: Sequence[str], entry: str, timeout: float) -> list[Call]:
    """One recorded call of each key, all at once."""
    async with grpc.aio.insecure_channel(entry) as channel, asyncio.TaskGroup() as tasks:
        stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
        calls = [tasks.create_task(add(stub, key, timeout)) for key in keys]
    return [call.result() for call in calls]


async def refused(worker: Node, many: int, within: float = 10.0) -> None:
    """Wait until the journal has refused exactly so many records of the worker."""
    seen = 0
    try:
        async with asyncio.timeout(within):
            while (seen := int(await gauge(worker, "seedbed_late_records_total"))) != many:
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{seen} records of {worker.name} refused, not {many}") from None


@contextmanager
def nobody_writes(folder: Path) -> Generator[None]:
    """Hold the lock of the journal's file: who would write waits."""
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def records(folder: Path) -> int:
    with closing(sqlite3.connect(folder / FILE)) as connection:
        (number,) = connection.execute("SELECT count(*) FROM journal").fetchone()
        return int(number)
