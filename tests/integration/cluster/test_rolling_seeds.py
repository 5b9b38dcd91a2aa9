"""Seeds are restarted one by one, under load: no call fails, no shard moves, somebody leads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc.aio
import pytest

from seedbed import Client
from tests.support.cluster import Cluster, cluster
from tests.support.load import Load, load, warm
from tests.support.processes import Node
from tests.support.waiting import now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

KEYS = [f"person-{n}" for n in range(60)]
EXIT_S = 25.0


def plain(entry: str) -> grpc.aio.Channel:
    """As a caller that knows the seeds by one DNS name."""
    config = '{"loadBalancingConfig": [{"round_robin": {}}]}'
    return grpc.aio.insecure_channel(entry, options=[("grpc.service_config", config)])


def all_of(running: Cluster) -> str:
    return "ipv4:" + ",".join(seed.grpc for seed in running.seeds)


async def restart(running: Cluster, seed: Node) -> None:
    """SIGTERM, exit 0 in time, and the same seed again on the same addresses."""
    leads = (await running.status(seed)).coordinator == seed.name
    other = next(one for one in running.seeds if one is not seed)
    began = now()
    seed.terminate()
    if leads:
        await running.until(
            "another seed leads",
            lambda seen: seen.coordinator not in ("", seed.name),
            within=1.0,
            seed=other,
        )
        print(f"{seed.name} led; the next leads after {now() - began:.2f} s")
    assert await seed.exit_code(EXIT_S) == 0
    print(f"{seed.name} stopped within {now() - began:.2f} s")
    await running.restart(seed)


async def test_seeds_restart_one_by_one(tmp_path: Path) -> None:
    async with cluster(tmp_path, seeds=3, workers=2) as running:
        before = await running.placed(2)
        async with (
            load([all_of(running)], KEYS, per_s=100, dial=plain) as by_channel,
            load([",".join(s.grpc for s in running.seeds)], KEYS, per_s=100, dial=Client) as direct,
        ):
            await warm(by_channel, KEYS)
            await warm(direct, KEYS)
            leader = running.node(before.coordinator)
            # The leader second, so that a restarted seed may lead too.
            others = [seed for seed in running.seeds if seed is not leader]
            for seed in (others[0], leader, others[1]):
                await restart(running, seed)
            await asyncio.sleep(0.5)  # of load with all of them
            after = await running.status()
        for record in (by_channel, direct):
            print(record.summary())
            assert not record.failed, f"{len(record.failed)} failed, as {record.failed[0]}"
        assert after.shards == before.shards
        for worker in running.workers:
            assert after.members[worker.name].incarnation == before.members[worker.name].incarnation
