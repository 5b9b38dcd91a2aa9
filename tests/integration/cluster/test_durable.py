"""Durable entities: what was acknowledged is there, whatever happened to the workers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import msgspec
import pytest
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from seedbed import once
from seedbed_worker.journal.port import Kind
from seedbed_worker.record_codec import unpack
from tests.support.cluster import Cluster, cluster
from tests.support.deeds import careful_callers, check_done_once, done
from tests.support.kept import ENTITIES, check_nothing_lost, sqlite_in
from tests.support.load import Load, back, load, warm
from tests.support.waiting import now, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

KEYS = [f"person-{n}" for n in range(100)]
EVENTFUL = "tests.support.event_census:EventCensus"
EXIT_S = 25.0
WINDOW_S = 1.0


@asynccontextmanager
async def durable(
    folder: Path, workers: int, *, entities: str = ENTITIES, **env: str
) -> AsyncGenerator[Cluster]:
    """A cluster whose workers share one SQLite file."""
    async with cluster(
        folder, workers=workers, entities=entities, worker_env=sqlite_in(folder) | env
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


@dataclass
class Stored:
    """What is in the file of one entity."""

    events: list[int] = field(default_factory=list[int])
    """The numbers that were counted, in order."""
    snapshot: int = 0
    """Up to which record it goes."""


def stored(folder: Path) -> dict[str, Stored]:
    """By key."""
    found = defaultdict[str, Stored](Stored)
    file = sqlite3.connect(f"file:{folder}/seedbed.db?mode=ro", uri=True)
    with closing(file):
        rows = file.execute("SELECT key, kind, data FROM journal ORDER BY key, seq")
        for key, kind, data in rows:
            assert kind == Kind.EVENTS
            (part,) = unpack(data)
            assert part.name == "Counted"
            found[key].events.append(msgspec.msgpack.decode(part.data)["number"])
        for key, seq in file.execute("SELECT key, seq FROM snapshot"):
            found[key].snapshot = seq
    return found


async def counted(record: Load, keys: list[str], at_least: int) -> None:
    """Return when each entity has counted so many."""

    def enough() -> bool:
        counts = Counter(call.key for call in record.calls if call.ok)
        return min(counts[key] for key in keys) >= at_least

    await until(f"{at_least} calls of each", enough, within=20)


async def test_an_entity_made_of_events_has_them_all_after_a_kill(tmp_path: Path) -> None:
    keys = KEYS[:8]
    async with durable(tmp_path, workers=2, entities=EVENTFUL) as running:
        async with load([running.entry], keys, per_s=400) as record:
            await counted(record, keys, 120)
            victim, strike = running.workers[0], now()
            victim.kill()
            await back(record, keys, strike, within=10)
            await counted(record, keys, 150)
        await check_nothing_lost(running.entry, record.calls)
    print(record.summary())
    assert victim.name in {call.worker for call in record.calls}
    there = stored(tmp_path)
    for key in keys:
        numbers = there[key].events
        assert len(set(numbers)) == len(numbers), f"{key}: an event is there twice"
        acknowledged = {call.number for call in record.calls if call.ok and call.key == key}
        assert acknowledged <= set(numbers)
        assert there[key].snapshot == len(numbers) // 100 * 100


async def test_events_behind_a_snapshot_go_and_the_state_is_whole(tmp_path: Path) -> None:
    keys = KEYS[:4]
    env = {"SEEDBED_JOURNAL_KEEP": "10", "SEEDBED_REPEAT_WINDOW_S": str(WINDOW_S)}
    async with durable(tmp_path, 1, entities=EVENTFUL, **env) as running:
        async with grpc.aio.insecure_channel(running.entry) as channel:
            stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)

            async def call(key: str, numbers: range) -> None:
                for number in numbers:
                    name = once(f"{key}/{number}")
                    await stub.Add(pb.Person(name=key, number=number), timeout=5, metadata=name)

            async with asyncio.TaskGroup() as calls:
                for key in keys:
                    calls.create_task(call(key, range(1, 81)))
            await asyncio.sleep(WINDOW_S + 0.1)  # from now on none of them may be repeated
            async with asyncio.TaskGroup() as calls:
                for key in keys:
                    calls.create_task(call(key, range(81, 121)))
        (worker,) = running.workers
        worker.kill()
        await running.add_worker()
        await running.placed(1, within=20)
        async with grpc.aio.insecure_channel(running.entry) as channel:
            stub = rpc.CensusStub(channel)
            for key in keys:
                assert (await stub.Get(pb.Person(name=key), timeout=5)).count == 120
    there = stored(tmp_path)
    for key in keys:
        assert there[key] == Stored(list(range(81, 121)), snapshot=100)
