"""Durable entities in PostgreSQL, whose server is killed, or away for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from tests.support.cluster import Cluster, cluster
from tests.support.deeds import careful_callers, check_done_once, done
from tests.support.kept import ENTITIES, check_nothing_lost, counts
from tests.support.load import back, load, warm
from tests.support.movement import gauge
from tests.support.postgres import Server
from tests.support.waiting import now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

KEYS = [f"person-{n}" for n in range(100)]
BUSY, IDLE = KEYS[:80], KEYS[80:]
AWAY_S = 20.0
MOST_GROWTH = 16 * 2**20
IN_DOUBT_S = 1.0
"""So long may calls wait for what was being written when the server went away."""


@pytest.fixture
def server() -> Generator[Server]:
    """A server that a test may kill."""
    server = Server()
    server.start()
    yield server
    server.stop()


@asynccontextmanager
async def durable(folder: Path, server: Server, workers: int) -> AsyncGenerator[Cluster]:
    journal = {"SEEDBED_JOURNAL": await server.journal()}
    async with cluster(folder, workers=workers, entities=ENTITIES, worker_env=journal) as running:
        await running.placed(workers)
        yield running


async def test_every_deed_is_done_once_while_workers_and_the_server_are_killed(
    tmp_path: Path, server: Server
) -> None:
    random = Random(8)

    async def kill_worker(running: Cluster) -> None:
        running.workers.pop(random.randrange(len(running.workers))).kill()
        await running.add_worker()

    async def kill_server() -> None:
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(random.uniform(0, 0.5))  # of calls that find nobody
        await asyncio.to_thread(server.start)

    async with durable(tmp_path, server, workers=3) as running:
        async with careful_callers(running.entry, KEYS[:20], 10) as deeds:
            for strike in ("server", "worker", "both", "server", "both"):
                await done(deeds, len(deeds) + random.randrange(50, 200))
                async with asyncio.TaskGroup() as strikes:
                    if strike != "worker":
                        strikes.create_task(kill_server())
                    if strike != "server":
                        strikes.create_task(kill_worker(running))
            await done(deeds, len(deeds) + 100)
        repeated = sum(deed.tries > 2 for deed in deeds)
        print(f"{len(deeds)} deeds, {repeated} of them called more than twice")
        check_done_once(deeds)


async def test_while_the_server_is_away_changes_are_refused_at_once_and_nothing_piles_up(
    tmp_path: Path, server: Server
) -> None:
    async with durable(tmp_path, server, workers=2) as running:
        async with load([running.entry], KEYS, per_s=400) as first:
            await warm(first, KEYS)
        idle = await counts(running.entry, IDLE)
        async with load([running.entry], BUSY, per_s=400) as record:
            await warm(record, BUSY)
            before = await memory(running)
            await asyncio.to_thread(server.kill)
            gone = now()
            while now() < gone + AWAY_S:
                assert await counts(running.entry, IDLE) == idle
                await asyncio.sleep(0.5)  # between looks at those who only read
            after, back_at = await memory(running), now()
            await asyncio.to_thread(server.start)
            took = await back(record, BUSY, now(), within=15)
        grown = [had - has for had, has in zip(after, before, strict=True)]
        print(f"back after {took:.1f} s; grown by {grown}; {record.summary()}")
        await check_nothing_lost(running.entry, [*first.calls, *record.calls])
    assert max(grown) < MOST_GROWTH
    meanwhile = [call for call in record.since(gone + IN_DOUBT_S) if call.sent < back_at]
    assert {call.reason for call in meanwhile} == {"STORE_UNAVAILABLE"}
    assert max(call.took for call in meanwhile) < 1.0


async def memory(running: Cluster) -> list[float]:
    """Of each worker, in bytes."""
    return [await gauge(worker, "process_resident_memory_bytes") for worker in running.workers]
