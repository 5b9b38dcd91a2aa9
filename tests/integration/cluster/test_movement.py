"""Workers come and go in an orderly way, under load: no call fails, no effect is lost, doubled or
out of order, and nobody is away for long."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, Status
from tests.support.epochs import Epochs, epochs
from tests.support.movement import Scene, scene
from tests.support.processes import Node
from tests.support.waiting import now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

LEAVES_S = 25.0
VERSION = "SEEDBED_APP_VERSION"
OLD, NEW = "1", "2"


async def test_a_rolling_restart_of_all_workers(tmp_path: Path) -> None:
    async with scene(tmp_path, workers=3) as seen:
        async with seen.slow_calls(7, seconds=1.5):
            for worker in list(seen.cluster.workers):
                worker.terminate()
                assert await worker.exit_code(LEAVES_S) == 0
                await seen.cluster.restart(worker)
        await seen.streams.reopened()
    print(seen.report("rolling restart of three workers"))
    assert all(call.ok for call in seen.others), next(call for call in seen.others if not call.ok)
    seen.check()
    seen.streams.check()
    seen.check_pauses()


async def test_the_only_worker_serves_until_another_is_there(tmp_path: Path) -> None:
    async with scene(tmp_path, workers=1) as seen:
        leaving = seen.cluster.workers[0]
        leaving.terminate()
        await seen.cluster.add_worker()
        assert await leaving.exit_code(LEAVES_S) == 0
        await seen.streams.reopened()
    print(seen.report("the only worker stops, another comes"))
    seen.check()
    seen.streams.check()
    seen.check_pauses()


async def test_two_workers_stop_at_the_same_instant(tmp_path: Path) -> None:
    async with scene(tmp_path, workers=4) as seen:
        leaving = seen.cluster.workers[:2]
        for worker in leaving:
            worker.terminate()
        for worker in leaving:
            assert await worker.exit_code(LEAVES_S) == 0
        after = await seen.cluster.placed(2)
        assert after.owners() == {worker.name for worker in seen.cluster.workers[2:]}
        await seen.streams.reopened()
    print(seen.report("two of four workers stop at once"))
    seen.check()
    seen.streams.check()
    seen.check_pauses()


async def test_the_leading_seed_and_a_worker_stop_at_once(tmp_path: Path) -> None:
    async with scene(tmp_path, seeds=2, through=[1], workers=3) as seen:
        running = seen.cluster
        leader = running.node((await running.status()).coordinator)
        assert leader is running.seeds[0], "the first seed leads, and the load goes by the other"
        leader.terminate()
        running.workers[0].terminate()
        assert await running.workers[0].exit_code(LEAVES_S) == 0
        assert await leader.exit_code(LEAVES_S) == 0
        await running.until(
            "two workers own all",
            lambda seen: len(seen.owners()) == 2,
            seed=running.seeds[1],
        )
        await seen.streams.reopened()
    print(seen.report("leader and worker stop at once"))
    seen.check()
    seen.streams.check()
    seen.check_pauses()


async def test_scaling_up_and_down_moves_each_shard_once_and_evens_out(tmp_path: Path) -> None:
    env = {
        "SEEDBED_REBALANCE_THRESHOLD": "0",
        "SEEDBED_REBALANCE_INTERVAL_S": "3",
        "SEEDBED_REBALANCE_MAX_MOVES": "1024",
    }
    async with scene(tmp_path, workers=1, seed_env=env) as seen:
        running = seen.cluster
        async with moving(seen) as up:
            starting = [await running.add_worker(wait=False) for _ in range(3)]
            for worker in starting:
                await worker.ready()
            seen.began = now()  # three starting processes on two cores are not what is measured
            await running.until("four workers have the same", _even(4), within=30)
        assert len(up.moves) == 768
        assert up.most() == 1
        async with moving(seen) as down:
            for worker in starting[:2]:
                worker.terminate()
            for worker in starting[:2]:
                assert await worker.exit_code(LEAVES_S) == 0
            await running.until("two workers have the same", _even(2), within=30)
            await asyncio.sleep(4.0)  # an interval in which nothing may move any more
        assert len(down.moves) == 512
        assert down.most() == 1
        await seen.streams.reopened()
    print(seen.report("one worker, four, two"))
    seen.check()
    seen.streams.check()
    seen.check_pauses()


async def test_an_update_with_a_surge_moves_each_shard_once(tmp_path: Path) -> None:
    async with scene(tmp_path, workers=3, worker_env={VERSION: OLD}) as seen, moving(seen) as moves:
        for old in list(seen.cluster.workers):
            await _replace(seen.cluster, old, NEW)
        assert len(moves.moves) == 1024
        assert moves.most() == 1
    print(seen.report("update of three workers with a surge"))
    seen.check()
    seen.check_pauses()


async def test_an_update_that_is_undone_in_its_middle_moves_each_shard_once_each_way(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, workers=3, worker_env={VERSION: OLD}) as seen:
        running = seen.cluster
        first, second, _ = list(running.workers)
        async with moving(seen) as update:
            new = [await _replace(running, old, NEW) for old in (first, second)]
        async with moving(seen) as undo:
            for one in new:
                await _replace(running, one, OLD)
        assert update.most() == 1
        assert undo.most() == 1
    print(seen.report("update and undo"))
    seen.check()
    seen.check_pauses()


async def test_an_autoscaler_that_doubles_the_workers_in_the_middle_of_an_update(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, workers=2, worker_env={VERSION: OLD}) as seen, moving(seen) as moves:
        running = seen.cluster
        first, second = list(running.workers)
        await _replace(running, first, NEW)
        late = await running.add_worker(SEEDBED_APP_VERSION=OLD)
        await running.add_worker(SEEDBED_APP_VERSION=NEW)
        await _replace(running, second, NEW)
        late.terminate()
        assert await late.exit_code(LEAVES_S) == 0
        assert moves.most() == 1
    print(seen.report("update with an autoscaler in its middle"))
    seen.check()
    seen.check_pauses()


async def test_an_update_without_a_surge_moves_twice_only_what_moved_before_the_first_new_worker(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, workers=3, worker_env={VERSION: OLD}) as seen, moving(seen) as moves:
        running = seen.cluster
        workers = list(running.workers)
        early = (await running.status()).owned_by(workers[0].name)
        for old in workers:
            old.terminate()
            assert await old.exit_code(LEAVES_S) == 0
            await running.add_worker(SEEDBED_APP_VERSION=NEW)
        twice = {shard for shard, times in moves.moves.items() if times > 1}
        assert moves.most() <= 2
        assert twice <= early
    print(seen.report("update without a surge"))
    seen.check()
    seen.check_pauses()


async def _replace(running: Cluster, old: Node, version: str) -> Node:
    """A new worker is ready, then an old one stops."""
    new = await running.add_worker(SEEDBED_APP_VERSION=version)
    old.terminate()
    assert await old.exit_code(LEAVES_S) == 0
    return new


def moving(seen: Scene) -> AbstractAsyncContextManager[Epochs]:
    """What moves from now on."""
    return epochs(seen.cluster.entry)


def _even(workers: int) -> Callable[[Status], bool]:
    """So many workers own all, and none more than one shard more than another."""

    def holds(status: Status) -> bool:
        owned = Counter(owner for owner, _ in status.shards.values())
        return len(owned) == workers and max(owned.values()) - min(owned.values()) <= 1

    return holds
