"""How busy workers say they are reaches their records, seldom."""

from __future__ import annotations

import asyncio
import math

from seedbed.errors import CallError
from seedbed.v1 import store_pb2
from tests.unit.seed.desk import Desk, desk
from tests.unit.seed.reporting import Counted, list_of, released, until_released, up
from tests.unit.seed.scripted import ScriptedWorker

MS = 1_000_000


def beat(worker: ScriptedWorker, rate: float, *hottest: tuple[int, float]) -> None:
    load = store_pb2.Load(
        calls_per_s=rate,
        hottest=[store_pb2.ShardLoad(type="cup", shard=s, calls_per_s=r) for s, r in hottest],
    )
    worker.beat(load=load)


def rate(seed: Desk) -> float:
    known = seed.view.workers.get("w1")
    return known.record.load.calls_per_s if known is not None else math.nan


async def test_a_load_is_written_once_in_an_interval_and_only_if_it_differs() -> None:
    async with desk(ttl_s=20, load_interval_ns=300 * MS) as seed:
        worker, _ = await up(seed)
        counted = Counted(seed.store)
        began_ns = seed.clock.now_ns()
        while rate(seed) == 0:
            beat(worker, 100, (1, 60))
            await asyncio.sleep(0.01)  # until the interval is over
        assert counted.writes == 1
        wrote_ns = seed.clock.now_ns()
        assert wrote_ns - began_ns >= 250 * MS
        while rate(seed) == 100:
            beat(worker, 200, (1, 160))
            await asyncio.sleep(0.01)
        assert counted.writes == 2
        assert seed.clock.now_ns() - wrote_ns >= 290 * MS
        while seed.clock.now_ns() - wrote_ns < 1000 * MS:
            beat(worker, 205, (1, 165))
            await asyncio.sleep(0.01)
        assert counted.writes == 2


async def test_a_load_goes_along_with_a_release_only_when_it_is_due() -> None:
    async with desk(ttl_s=20) as seed:
        worker, _ = await up(seed)
        beat(worker, 100)
        worker.send(released(list_of([1])))
        await until_released(seed, 1)
        assert rate(seed) == 0
    async with desk(ttl_s=20, load_interval_ns=1) as seed:
        worker, _ = await up(seed)
        counted = Counted(seed.store)
        beat(worker, 100)
        worker.send(released(list_of([1])))
        await until_released(seed, 1)
        await seed.until("the load is there", lambda: rate(seed) == 100)
        assert counted.writes <= 2


async def test_a_rate_that_is_none_ends_the_stream() -> None:
    async with desk(ttl_s=20) as seed:
        worker, _ = await up(seed)
        beat(worker, math.nan)
        await worker.until_ended()
        assert isinstance(worker.error, CallError)
