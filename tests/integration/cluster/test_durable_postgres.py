"""Durable entities in PostgreSQL, while their workers and their database are killed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.cluster.test_durable import KEYS
from tests.support.cluster import Cluster, cluster
from tests.support.kept import ENTITIES, check_nothing_lost
from tests.support.load import back, load, warm
from tests.support.postgres import Server
from tests.support.waiting import now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@pytest.fixture
def server() -> Generator[Server]:
    """A server that a test may kill."""
    server = Server()
    server.start()
    yield server
    server.stop()


@asynccontextmanager
async def durable(folder: Path, dsn: str) -> AsyncGenerator[Cluster]:
    journal = {"SEEDBED_JOURNAL": dsn}
    async with cluster(folder, workers=2, entities=ENTITIES, worker_env=journal) as running:
        await running.placed(2)
        yield running


async def test_a_killed_worker_loses_nothing_that_was_acknowledged(
    tmp_path: Path, server: Server
) -> None:
    async with durable(tmp_path, await server.journal()) as running:
        async with load([running.entry], KEYS, per_s=200) as record:
            await warm(record, KEYS)
            strike = now()
            running.workers[0].kill()
            took = await back(record, KEYS, strike, within=10)
        await check_nothing_lost(running.entry, record.calls)
    print(f"all back after {took:.2f} s; {record.summary()}")


async def test_a_killed_database_loses_nothing_that_was_acknowledged(
    tmp_path: Path, server: Server
) -> None:
    async with durable(tmp_path, await server.journal()) as running:
        async with load([running.entry], KEYS, per_s=200) as record:
            await warm(record, KEYS)
            for _ in range(3):
                strike = now()
                server.kill()
                server.start()
                took = await back(record, KEYS, strike, within=15)
                print(f"all back after {took:.2f} s")
        await check_nothing_lost(running.entry, record.calls)
    print(record.summary())
    allowed = {"OUTCOME_UNKNOWN", "STORE_UNAVAILABLE", "FENCED"}
    assert {call.reason for call in record.failed} <= allowed
