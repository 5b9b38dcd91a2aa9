"""Others write in the journal: a damaged record stops its entity alone; a fence that is taken stops
nobody for long."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path

import grpc
import grpc.aio
import pytest
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from seedbed import once
from tests.support.cluster import cluster
from tests.support.kept import ENTITIES, FILE, sqlite_in
from tests.support.load import add

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

KEYS = [f"person-{n}" for n in range(40)]
SHARDS = {"SEEDBED_SHARDS": "4"}
RUBBISH = bytes.fromhex("c1ff00")


async def test_a_damaged_record_stops_its_entity_alone(tmp_path: Path) -> None:
    async with cluster(
        tmp_path, workers=1, entities=ENTITIES, seed_env=SHARDS, worker_env=sqlite_in(tmp_path)
    ) as running:
        await running.placed(1)
        async with grpc.aio.insecure_channel(running.entry) as channel:
            stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
            for key in KEYS:
                await stub.Add(pb.Person(name=key), timeout=10, metadata=once("first"))
            old = running.workers.pop()
            old.kill()
            await old.exit_code()
            good = write(tmp_path, "person-3", "data", RUBBISH)
            write(tmp_path, "person-4", "outcome", RUBBISH)
            new = await running.add_worker()
            await running.until("it has all", lambda status: status.owners() == {new.name})

            for call in (stub.Add, stub.Get):
                error = await refused(call(pb.Person(name="person-3"), timeout=10))
                assert "DurableCensus 'person-3': record 1 cannot be read" in error
            assert "DurableCensus 'person-3': record 1 cannot be read" in new.log_text()
            repeat = stub.Add(pb.Person(name="person-4"), timeout=10, metadata=once("first"))
            assert "call 'first' of census 'person-4' cannot be read" in await refused(repeat)
            for key in (key for key in KEYS if key != "person-3"):
                assert (await stub.Add(pb.Person(name=key), timeout=10)).count == 2
            write(tmp_path, "person-3", "data", good)
            assert (await stub.Add(pb.Person(name="person-3"), timeout=10)).count == 2


async def test_an_owner_goes_on_when_another_process_has_fenced_its_shards(tmp_path: Path) -> None:
    """As one does that erases an entity for good."""
    async with cluster(
        tmp_path, workers=1, entities=ENTITIES, seed_env=SHARDS, worker_env=sqlite_in(tmp_path)
    ) as running:
        await running.placed(1)
        async with grpc.aio.insecure_channel(running.entry) as channel:
            stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
            for key in KEYS:
                await stub.Add(pb.Person(name=key), timeout=10)
            with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as connection:
                connection.execute("UPDATE fence SET writer = randomblob(16)")
            async with asyncio.TaskGroup() as tasks:
                calls = [tasks.create_task(add(stub, key, timeout=5)) for key in KEYS * 3]
            ended = [call.result() for call in calls]
            assert {call.reason for call in ended if not call.ok} == {"STORE_UNAVAILABLE"}
            for key in KEYS:
                kept = 2 + sum(call.ok for call in ended if call.key == key)
                assert (await stub.Add(pb.Person(name=key), timeout=5)).count == kept


async def refused(call: Awaitable[pb.Count]) -> str:
    """With which text the call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    assert failed.value.code() is grpc.StatusCode.UNKNOWN
    return failed.value.details() or ""


def write(folder: Path, key: str, column: str, value: bytes) -> bytes:
    """Change a column of the entity's newest record; what was there."""
    newest = "WHERE key = ? ORDER BY seq DESC LIMIT 1"
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as connection:
        rowid, former = connection.execute(
            f"SELECT rowid, {column} FROM journal {newest}", (key,)
        ).fetchone()
        connection.execute(f"UPDATE journal SET {column} = ? WHERE rowid = ?", (value, rowid))
    return bytes(former)
