"""Workers come and go in an orderly way, under load, and entities are kept: no call fails, and each
entity has counted every one of its calls once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.movement import scene

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

LEAVES_S = 25.0


async def test_the_leading_seed_and_every_worker_restart_one_of_them_and_two_at_once(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, seeds=2, through=[1], workers=3, durable=True) as seen:
        running = seen.cluster
        leader = running.node((await running.status()).coordinator)
        assert leader is running.seeds[0], "the first seed leads, and the load goes by the other"
        first, *others = running.workers
        async with seen.slow_calls(7, seconds=1.0):
            leader.terminate()
            first.terminate()
            assert await leader.exit_code(LEAVES_S) == 0
            assert await first.exit_code(LEAVES_S) == 0
            await running.restart(first)
            for worker in others:
                worker.terminate()
            for worker in others:
                assert await worker.exit_code(LEAVES_S) == 0
            for worker in [await running.restart(worker, wait=False) for worker in others]:
                await worker.ready()
        await seen.streams.reopened()
    print(seen.report("leader and worker stop at once, then the two other workers"))
    assert all(call.ok for call in seen.others), next(call for call in seen.others if not call.ok)
    seen.check()
    seen.streams.check()
    seen.check_pauses()
