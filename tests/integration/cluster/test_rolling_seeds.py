"""Seeds are restarted one by one, under load: no call fails, no shard moves, somebody leads."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import grpc.aio
import pytest
from census.v1 import census_pb2
from census.v1 import census_pb2_grpc as rpc

from seedbed import Client, service_config
from tests.support.cluster import Cluster, cluster
from tests.support.load import load, warm
from tests.support.movement import scene
from tests.support.pauses import in_ms, pauses
from tests.support.processes import Node
from tests.support.waiting import now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

KEYS = [f"person-{n}" for n in range(60)]
OTHERS = [f"other-{n}" for n in range(60)]
EXIT_S = 25.0
CHANNELS = 24
MIN_WORKERS = {"SEEDBED_MIN_WORKERS": "2"}


def plain(entry: str) -> grpc.aio.Channel:
    """As a caller that knows the seeds by one DNS name."""
    options = [("grpc.service_config", service_config(census_pb2))]
    return grpc.aio.insecure_channel(entry, options=options)


def sticky(entry: str) -> grpc.aio.Channel:
    """As a caller that stays with the first seed that it reaches."""
    config = '{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}'
    options = [("grpc.service_config", config), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.insecure_channel(entry, options=options)


def all_of(running: Cluster) -> str:
    return "ipv4:" + ",".join(seed.grpc for seed in running.seeds)


async def restart(running: Cluster, seed: Node) -> None:
    """SIGTERM, exit 0 in time, and the same seed again on the same addresses."""
    leads = (await running.status(seed)).coordinator == seed.name
    other = next(one for one in running.seeds if one is not seed)
    began = now()
    seed.terminate()
    assert await seed.exit_code(EXIT_S) == 0
    print(f"{seed.name} stopped within {now() - began:.2f} s")
    if leads:
        await running.until("another seed leads", lambda seen: seen.coordinator != "", seed=other)
        _check_handed_over(running, seed)
    await running.restart(seed)


def _check_handed_over(running: Cluster, left: Node) -> None:
    """The next leader was elected while this one was a member still, not when its lease ended."""
    for seed in running.seeds:
        if seed is not left:
            lines = [json.loads(line) for line in seed.log_text().splitlines()]
            events = [(line["event"], line.get("node")) for line in lines][::-1]
            left_at = events.index(("member left", left.name))
            came_at = events.index(("member up", left.name))
            if ("leader elected", seed.name) in events[left_at:came_at]:
                return
    raise AssertionError(f"nobody was elected before {left.name} had left")


async def test_seeds_restart_one_by_one(tmp_path: Path) -> None:
    async with scene(tmp_path, seeds=3, workers=2, in_one=True, dial=plain) as seen:
        running = seen.cluster
        before = await running.status()
        entries = ",".join(seed.grpc for seed in running.seeds)
        async with load([entries], OTHERS, per_s=100, dial=Client) as direct:
            await warm(direct, OTHERS)
            leader = running.node(before.coordinator)
            # The leader second, so that a restarted seed may lead too.
            others = [seed for seed in running.seeds if seed is not leader]
            for seed in (others[0], leader, others[1]):
                await restart(running, seed)
            await asyncio.sleep(0.5)  # of load with all of them
            await seen.streams.reopened()
            after = await running.status()
    print(f"rolling restart of three seeds: {seen.load.summary()}; by Client: {direct.summary()};")
    print(f"pause {in_ms(pauses(seen.load, seen.began, now()).values())};", end=" ")
    print(f"{len(seen.streams.ends)} streams ended, back after {in_ms(seen.streams.back_s)}")
    assert not direct.failed, f"{len(direct.failed)} failed, as {direct.failed[0]}"
    seen.check(but=OTHERS)
    seen.streams.check()
    assert after.shards == before.shards
    for worker in running.workers:
        assert "fenced" not in worker.log_text()
        assert after.members[worker.name].incarnation == before.members[worker.name].incarnation


async def test_a_restarted_seed_gets_its_share_when_connections_age(tmp_path: Path) -> None:
    env = {"SEEDBED_MAX_CONNECTION_AGE_S": "2"}
    async with cluster(tmp_path, seeds=2, workers=0, seed_env=env | MIN_WORKERS) as running:
        stays, restarted = running.seeds
        for _ in range(2):
            await running.add_worker(SEEDBED_SEEDS=stays.grpc)
        await running.placed(2)
        restarted.terminate()
        assert await restarted.exit_code(EXIT_S) == 0
        async with load([all_of(running)] * CHANNELS, KEYS, per_s=200, dial=sticky) as record:
            await warm(record, KEYS)  # all of it by the seed that stays
            async with grpc.aio.insecure_channel(stays.grpc) as channel:
                stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
                stream = stub.Watch(census_pb2.Person(name=KEYS[0]))
                await stream.read()
                restarted = await running.restart(restarted)
                share = await until_share(restarted, stays, at_least=0.25, within=20)
                assert not stream.done(), "age has cut a stream"
                stream.cancel()
        print(f"share of the restarted seed {share:.2f}; {record.summary()}")
        assert not record.failed, f"{len(record.failed)} failed, as {record.failed[0]}"
        assert "worker resumed" not in restarted.log_text(), "age has cut a Register stream"


async def until_share(seed: Node, other: Node, *, at_least: float, within: float) -> float:
    """Wait until this seed takes such a share of the calls of a second; what it is then."""
    share = 0.0
    try:
        async with asyncio.timeout(within):
            while share < at_least:
                before = [await answered(seed), await answered(other)]
                await asyncio.sleep(1)  # of load, to be measured
                took = [await answered(seed) - before[0], await answered(other) - before[1]]
                share = took[0] / sum(took)
    except TimeoutError:
        raise AssertionError(f"not within {within} s: a share of {at_least}, but {share}") from None
    return share


async def answered(seed: Node) -> float:
    """Good answers that this seed has given."""
    lines = (await seed.fetch("/metrics")).splitlines()
    good = [line for line in lines if line.startswith("seedbed_calls_total{") and '"OK"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in good)
