"""Something dies, freezes or is slow in the middle of hand-offs: they end all the same, nothing
that was acknowledged is lost, and nobody answers twice."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from tests.support.load import back
from tests.support.movement import KEYS, busy
from tests.support.waiting import now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

LEAVES_S = 25.0
TTL_S = 2
LIMIT_S = 4.0
ENV = {"SEEDBED_LEASE_TTL_S": str(TTL_S), "SEEDBED_HANDOFF_TIMEOUT_S": str(LIMIT_S)}
ENDS_S = LIMIT_S + TTL_S + 2.0
"""A hand-off is over after so long, whatever its owner does."""


async def test_the_leading_seed_is_killed_in_the_middle_of_a_hundred_hand_offs(
    tmp_path: Path,
) -> None:
    async with busy(tmp_path, many=100, seconds=2.0, env=ENV) as (seen, calls):
        running = seen.cluster
        leader, other = running.seeds
        victim = running.workers[0]
        victim.terminate()
        await seen.hand_offs(100)
        leader.kill()
        assert await victim.exit_code(LEAVES_S) == 0
        await running.until(
            "the others own all",
            lambda status: victim.name not in status.owners() and len(status.shards) == 1024,
            seed=other,
            within=ENDS_S + 10,
        )
        done = [await call for call in calls]
        assert all(call.ok for call in done), next(call for call in done if not call.ok)
        await seen.streams.reopened()
    print(seen.report("leader killed in the middle of 100 hand-offs"))
    seen.check_effects()
    assert not seen.load.failed, seen.load.failed[0]
    seen.streams.check()


async def test_the_old_owner_is_killed_in_the_middle_of_hand_offs(tmp_path: Path) -> None:
    async with busy(tmp_path, many=20, seconds=3.0, env=ENV) as (seen, calls):
        victim = seen.cluster.workers[0]
        victim.terminate()
        await seen.hand_offs(20)
        strike = now()
        victim.kill()
        took = await back(seen.load, KEYS, strike, within=TTL_S + 5)
        done = [await call for call in calls]
        assert {call.reason for call in done if not call.ok} <= {"OUTCOME_UNKNOWN"}
        await seen.streams.reopened()
    print(seen.report(f"old owner killed, all back {took:.2f} s"))
    seen.check_effects()


async def test_the_old_owner_freezes_past_the_limit_of_its_hand_offs(tmp_path: Path) -> None:
    async with busy(tmp_path, many=20, seconds=1.0, env=ENV) as (seen, calls):
        running = seen.cluster
        victim = running.workers[0]
        mine = {
            key
            for key, owner in {call.key: call.worker for call in seen.load.calls if call.ok}.items()
            if owner == victim.name
        }
        victim.terminate()
        await seen.hand_offs(20)
        strike = now()
        victim.freeze()
        await back(seen.load, sorted(mine), strike, within=ENDS_S)
        for call in calls:
            await call
        victim.thaw()
        assert await victim.exit_code(LEAVES_S) == 0
        await seen.streams.reopened()
    print(seen.report("old owner frozen"))
    seen.check_effects()


async def test_the_new_owner_dies_before_it_serves(tmp_path: Path) -> None:
    async with busy(tmp_path, many=20, seconds=3.0, env=ENV) as (seen, calls):
        running = seen.cluster
        old = running.workers[0]
        old.terminate()
        to = await seen.hand_offs(20)
        next_owner = running.node(max(to.values()))
        shards = {shard for shard, name in to.items() if name == next_owner.name}
        strike = now()
        next_owner.kill()
        assert await old.exit_code(LEAVES_S) == 0
        last = next(worker for worker in running.workers if worker not in (old, next_owner))
        after = await running.placed(1, within=TTL_S + 10)
        assert {after.shards["census", shard][0] for shard in shards} == {last.name}
        assert all([(await call).ok for call in calls])
        await back(seen.load, KEYS, strike, within=TTL_S + 10)
        await seen.streams.reopened()
    print(seen.report("new owner killed before it serves"))
    seen.check_effects()


async def test_a_slow_turn_delays_its_own_shard_only(tmp_path: Path) -> None:
    async with busy(tmp_path, many=1, seconds=3.0, env=ENV) as (seen, calls):
        victim = seen.cluster.workers[0]
        strike = now()
        victim.terminate()
        assert await victim.exit_code(LEAVES_S) == 0
        assert now() - strike < LIMIT_S + 2
        assert (await calls[0]).ok
        await seen.streams.reopened()
    print(seen.report("a turn of 3 s"))
    seen.check()
    seen.streams.check()
    seen.check_pauses()


@pytest.mark.parametrize("outside", [False, True], ids=["in its turn", "outside its turn"])
async def test_an_entity_that_never_ends_is_given_up_on_time(tmp_path: Path, outside: bool) -> None:
    async with busy(tmp_path, many=1, seconds=60.0, env=ENV, outside=outside) as (seen, calls):
        victim = seen.cluster.workers[0]
        strike = now()
        victim.terminate()
        assert await victim.exit_code(LEAVES_S) == 0
        took = now() - strike
        call = await calls[0]
        assert (call.code, call.reason) == (grpc.StatusCode.UNKNOWN, "OUTCOME_UNKNOWN")
        await seen.streams.reopened()
    print(seen.report(f"an entity that never ends; the worker left after {took:.1f} s"))
    assert LIMIT_S - 0.5 <= took <= LIMIT_S + 3
    seen.check()
    seen.streams.check()
    seen.check_pauses()
