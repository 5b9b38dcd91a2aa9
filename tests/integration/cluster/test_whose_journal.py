"""The journal knows whose it is: what is not this cluster's is refused, and disturbs nobody."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import asyncpg
import grpc.aio
import pytest
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from tests.docs.blocks import ROOT, blocks
from tests.support.cluster import Cluster, cluster
from tests.support.etcd import free_port
from tests.support.load import back, load, warm
from tests.support.processes import Node
from tests.support.waiting import now, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

ENTITIES = "tests.support.durable_census:DurableCensus"
KEYS = [f"person-{n}" for n in range(50)]
SHARDS = {"SEEDBED_SHARDS": "16"}
AHEAD = "UPDATE {} SET epoch = epoch + 3600000"
"""As if the lost etcd had been written by a seed whose clock was an hour ahead."""
READ_ONLY = """
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = {}',
  current_database()); END $$
"""


def journal(folder: Path) -> dict[str, str]:
    return {"SEEDBED_JOURNAL": f"sqlite:///{folder}/seedbed.db"}


@asynccontextmanager
async def durable(
    folder: Path, file: Path, workers: int = 2, **seed_env: str
) -> AsyncGenerator[Cluster]:
    """A cluster that is placed, with its journal in the folder `file`."""
    folder.mkdir(exist_ok=True)
    async with cluster(
        folder,
        workers=workers,
        entities=ENTITIES,
        seed_env=SHARDS | seed_env,
        worker_env=journal(file),
    ) as running:
        if workers:
            await running.placed(workers)
        yield running


async def counted(entry: str, times: int) -> dict[str, int]:
    """Count each key so often; what it has come to."""
    async with grpc.aio.insecure_channel(entry) as channel:
        stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
        counts: dict[str, int] = {}
        for key in KEYS:
            for _ in range(times):
                await stub.Add(pb.Person(name=key), timeout=10)
            counts[key] = (await stub.Get(pb.Person(name=key), timeout=10)).count
        return counts


async def adopted(running: Cluster, *arguments: str, **env: str) -> tuple[int, dict[str, str]]:
    """Exit code of what the page says, and what it prints."""
    page = blocks(ROOT / "docs" / "operations.md")
    [text] = [block.text for block in page if "adopt" in block.text]
    program, *verb = text.split()
    assert program == "seedbed"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SEEDBED_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "seedbed.cli", *verb, "-o", "json", *arguments),
        env=inherited | running.worker_env | {"SEEDBED_SEEDS": running.entry} | env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    said: dict[str, str] = json.loads(out or err)
    return await process.wait(), said


async def says(node: Node, *words: str) -> None:
    """Wait until a worker has said in its log why it is refused."""
    await until(
        f"{node.name} says {words}",
        lambda: any(
            '"worker refused"' in line and all(word in line for word in words)
            for line in node.log_text().splitlines()
        ),
        within=20,
    )


async def check_not_ready(worker: Node, *words: str) -> None:
    """Its readiness says why; it was started on a port that is known before it is ready."""
    worker.http = f"127.0.0.1:{worker.env['SEEDBED_HTTP_PORT']}"
    checks = await worker.fetch("/health/ready")
    assert all(word in checks for word in words), checks
    assert worker.process.returncode is None, "it stays up"


async def unready(running: Cluster, **env: str) -> Node:
    """A worker that is not waited for."""
    return await running.add_worker(wait=False, SEEDBED_HTTP_PORT=str(free_port()), **env)


async def lose_etcd(running: Cluster) -> None:
    """Kill every process, delete etcd's data, and start all anew but the workers."""
    for node in [*running.workers, *running.seeds]:
        node.kill()
        await node.exit_code()
    running.workers.clear()
    await running.etcd.lose()
    for seed in list(running.seeds):
        await running.restart(seed)


async def comes_back(running: Cluster, ahead: Callable[[], Awaitable[None]]) -> None:
    """A lost etcd and `adopt` bring every entity back; `ahead` raises the journal's epochs."""
    before = await counted(running.entry, 3)
    assert set(before.values()) == {3}
    await lose_etcd(running)
    await ahead()
    workers = [await unready(running) for _ in range(2)]
    for worker in workers:
        await says(worker, "WRONG_JOURNAL", "seedbed adopt")
        await check_not_ready(worker, "WRONG_JOURNAL", "seedbed adopt")
    assert not (await running.status()).shards, "nothing is given to them"

    code, said = await adopted(running)
    assert code == 0, said
    for worker in workers:
        await worker.ready()
    await running.placed(2)
    assert await counted(running.entry, 0) == before
    assert await counted(running.entry, 1) == dict.fromkeys(KEYS, 4)
    code, again = await adopted(running)
    assert (code, again) == (0, said), "once more does no harm"


async def test_a_lost_etcd_and_adopt_bring_every_entity_back(tmp_path: Path) -> None:
    async def ahead() -> None:
        with closing(sqlite3.connect(tmp_path / "seedbed.db", isolation_level=None)) as connection:
            connection.execute(AHEAD.format("fence"))

    async with durable(tmp_path, tmp_path) as running:
        await comes_back(running, ahead)


async def in_postgres(address: str, statement: str) -> None:
    connection = await asyncpg.connect(address)
    try:
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_so_they_do_from_postgresql(tmp_path: Path, journal_dsn: str) -> None:
    async def ahead() -> None:
        await in_postgres(journal_dsn, AHEAD.format("seedbed.fence"))

    async with cluster(
        tmp_path,
        workers=2,
        entities=ENTITIES,
        seed_env=SHARDS,
        worker_env={"SEEDBED_JOURNAL": journal_dsn},
    ) as running:
        await running.placed(2)
        await comes_back(running, ahead)


async def test_a_worker_of_a_read_only_database_is_never_ready(
    tmp_path: Path, journal_dsn: str
) -> None:
    async with cluster(
        tmp_path,
        workers=1,
        entities=ENTITIES,
        seed_env=SHARDS,
        worker_env={"SEEDBED_JOURNAL": journal_dsn},
    ) as running:
        await running.placed(1)
        await in_postgres(journal_dsn, READ_ONLY.format("on"))
        newcomer = await unready(running)
        await until("it says so", lambda: "journal not opened" in newcomer.log_text(), within=20)
        await check_not_ready(newcomer, "read-only")
        assert newcomer.name not in (await running.status()).members
        await in_postgres(journal_dsn, READ_ONLY.format("off"))
        await newcomer.ready()


async def test_a_cluster_of_another_name_is_refused_and_disturbs_nothing(tmp_path: Path) -> None:
    async with (
        durable(tmp_path / "one", tmp_path) as running,
        cluster(
            tmp_path / "two",
            workers=0,
            entities=ENTITIES,
            seed_env={"SEEDBED_CLUSTER": "staging"},
            worker_env=journal(tmp_path) | {"SEEDBED_CLUSTER": "staging"},
        ) as staging,
        load([running.entry], KEYS, per_s=200) as record,
    ):
        await warm(record, KEYS)
        other = await unready(staging)
        await says(other, "WRONG_JOURNAL", "'default'", "'staging'", "SEEDBED_JOURNAL")
        await check_not_ready(other, "WRONG_JOURNAL", "staging")
        assert other.name not in (await staging.status()).members
        code, said = await adopted(staging)
        assert (code, said["reason"]) == (1, "WRONG_JOURNAL"), said
        await back(record, KEYS, now(), within=10)
    assert not record.failed, record.failed[0]


async def test_a_cluster_of_the_same_name_is_refused_and_disturbs_nothing(tmp_path: Path) -> None:
    async with (
        durable(tmp_path / "one", tmp_path) as running,
        durable(tmp_path / "two", tmp_path, workers=0) as two,
        load([running.entry], KEYS, per_s=200) as record,
    ):
        await warm(record, KEYS)
        other = await unready(two)
        await says(other, "WRONG_JOURNAL", "bound to the cluster uid", "seedbed adopt")
        assert other.name not in (await two.status()).members
        await back(record, KEYS, now(), within=10)
    assert not record.failed, record.failed[0]


async def test_a_worker_with_a_journal_of_its_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    async with durable(tmp_path, tmp_path, workers=1) as running:
        other = await unready(running, **journal(tmp_path / "elsewhere"))
        await says(other, "WRONG_JOURNAL", "all workers of a cluster use one journal")
        await check_not_ready(other, "WRONG_JOURNAL")
        assert set((await counted(running.entry, 1)).values()) == {1}

        code, said = await adopted(running, **journal(tmp_path / "elsewhere"))
        assert (code, said["reason"]) == (1, "WRONG_JOURNAL"), "never bound"
        code, said = await adopted(running, "--force", **journal(tmp_path / "elsewhere"))
        assert code == 1
        assert running.workers[0].name in said["message"], "it uses the other one"


async def one_of(workers: list[Node], *words: str) -> None:
    """Wait until one of them has been refused in these words, and the other is ready."""

    def refused() -> list[Node]:
        return [
            node
            for node in workers
            if any(
                '"worker refused"' in line and all(word in line for word in words)
                for line in node.log_text().splitlines()
            )
        ]

    await until("one is refused", lambda: len(refused()) == 1, within=20)
    [other] = [node for node in workers if node not in refused()]
    await other.ready()
    assert len(refused()) == 1


async def test_of_two_fresh_journals_at_once_a_cluster_takes_one(tmp_path: Path) -> None:
    async with durable(tmp_path, tmp_path, workers=0) as running:
        folders = [tmp_path / "a", tmp_path / "b"]
        for folder in folders:
            folder.mkdir()
        workers = [await unready(running, **journal(folder)) for folder in folders]
        await one_of(workers, "WRONG_JOURNAL", "all workers of a cluster use one journal")
        assert set((await counted(running.entry, 1)).values()) == {1}


async def test_of_two_clusters_at_once_a_fresh_journal_takes_one(tmp_path: Path) -> None:
    async with (
        durable(tmp_path / "one", tmp_path, workers=0) as one,
        durable(tmp_path / "two", tmp_path, workers=0) as two,
    ):
        workers = [await unready(one), await unready(two)]
        await one_of(workers, "WRONG_JOURNAL", "uid")


async def test_other_shard_counts_than_the_journals_are_refused(tmp_path: Path) -> None:
    async with durable(tmp_path, tmp_path) as running:
        before = await counted(running.entry, 1)
        running.seeds[0].env["SEEDBED_SHARDS"] = "32"
        await lose_etcd(running)
        assert (await adopted(running))[0] == 0
        worker = await unready(running)
        await says(worker, "WRONG_JOURNAL", "census has 16 shards, in this cluster 32")
        await check_not_ready(worker, "WRONG_JOURNAL", "16 shards")
        assert not (await running.status()).shards, "nothing is given to it"
        worker.terminate()
        assert await worker.exit_code() == 0
        running.workers.remove(worker)

        running.seeds[0].env["SEEDBED_SHARDS"] = "16"
        await lose_etcd(running)
        assert (await adopted(running))[0] == 0
        await running.add_worker()
        await running.add_worker()
        assert await counted(running.entry, 0) == before
