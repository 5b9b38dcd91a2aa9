"""Durable entities: what was acknowledged is there, whatever happened to the workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, cluster
from tests.support.deeds import careful_callers, check_done_once, done
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


async def test_every_deed_is_done_once_while_workers_are_killed(tmp_path: Path) -> None:
    async with durable(tmp_path, workers=3) as running:
        async with careful_callers(running.entry, KEYS[:20], 10) as deeds:
            for part in (120, 240, 360):
                await done(deeds, part)
                victim = running.workers.pop(0)
                victim.kill()
                await running.add_worker()
            await done(deeds, 600)
        repeated = sum(deed.tries > 2 for deed in deeds)
        print(f"{len(deeds)} deeds, {repeated} of them called more than twice")
        check_done_once(deeds)
