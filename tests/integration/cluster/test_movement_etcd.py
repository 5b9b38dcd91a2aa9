"""etcd's quorum is lost and comes back, under load."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.load import REFUSALS, back
from tests.support.movement import KEYS, scene
from tests.support.waiting import now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

TTL_S = 5
ALL_BACK_S = 10.0


async def test_without_quorum_for_two_seconds_nobody_notices(tmp_path: Path) -> None:
    async with scene(tmp_path, seeds=2, etcd_members=3) as seen:
        before = await seen.cluster.status()
        for member in seen.cluster.etcd.members[:2]:
            member.freeze()
        await asyncio.sleep(2.0)  # the length of the outage
        for member in seen.cluster.etcd.members[:2]:
            member.thaw()
        await asyncio.sleep(TTL_S)  # of load after it
        assert (await seen.cluster.status()).shards == before.shards
    print(seen.report("no quorum for 2 s"))
    seen.check()
    assert not seen.streams.ends


async def test_without_quorum_for_three_leases_everything_fences_and_comes_back(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, seeds=2, etcd_members=3) as seen:
        running = seen.cluster
        before = await running.status()
        lost = now()
        for member in running.etcd.members[:2]:
            member.freeze()
        await asyncio.sleep(3 * TTL_S)  # the length of the outage
        last_answer = max(call.done for call in seen.load.calls if call.ok) - lost
        for member in running.etcd.members[:2]:
            member.thaw()
        strike = now()
        took = await back(seen.load, KEYS, strike, within=ALL_BACK_S)
        after = await running.placed(3)
        await seen.streams.reopened()
    print(seen.report(f"no quorum for {3 * TTL_S} s, all back after {took:.1f} s"))
    assert last_answer < TTL_S + 0.5, "a lease outlived its TTL"
    assert {call.reason for call in seen.load.failed} >= {"MOVING", "SEED_NOT_READY"}
    assert all(after.shards[shard][1] > before.shards[shard][1] for shard in before.shards)
    # Without a reason: the caller's own clock was first.
    seen.check_effects(REFUSALS | {"SEED_NOT_READY", ""})
