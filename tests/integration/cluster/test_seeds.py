"""Seeds and etcd members go: nothing that is placed moves, and somebody leads again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc.aio
import pytest
from census.v1 import census_pb2_grpc as rpc

from seedbed.v1 import cluster_pb2, cluster_pb2_grpc
from tests.support.cluster import Status, cluster
from tests.support.load import add, back, check_calls, load, warm
from tests.support.waiting import now
from tests.unit.seed.declared import hello

pytestmark = [pytest.mark.integration, pytest.mark.timeout(150)]

KEYS = [f"person-{n}" for n in range(60)]
TTL_S = 3


async def test_the_leader_dies_and_callers_of_other_seeds_see_nothing(tmp_path: Path) -> None:
    env = {"SEEDBED_MIN_WORKERS": "3"}
    async with cluster(tmp_path, seeds=3, workers=0, seed_env=env) as running:
        leading = await running.until("a seed leads", lambda seen: seen.coordinator != "")
        leader = running.node(leading.coordinator)
        for _ in range(3):
            await running.add_worker(SEEDBED_SEEDS=leader.grpc)
        before = await running.placed(3)
        others = [seed for seed in running.seeds if seed is not leader]
        async with load([seed.grpc for seed in others], KEYS) as record:
            await warm(record, KEYS)
            strike = now()
            leader.kill()
            after = await running.until(
                "another seed leads",
                lambda seen: seen.coordinator not in ("", leader.name),
                within=10,
                seed=others[0],
            )
            print(f"new leader after {now() - strike:.2f} s")
            await back(record, KEYS, strike, within=5)
            await asyncio.sleep(strike + 6 - now())  # longer than a lease: would anything move?
            after = await running.status(others[0])
        print(record.summary())
        assert not record.failed, record.failed[0]
        assert after.shards == before.shards
        for worker in running.workers:
            assert after.members[worker.name].incarnation == before.members[worker.name].incarnation
        new = await running.add_worker(SEEDBED_SEEDS=others[1].grpc)
        await running.until(
            "the new leader lets a worker in",
            lambda seen: seen.is_up(new.name),
            seed=others[0],
        )


async def test_one_of_three_etcd_members_restarts_and_nothing_moves(tmp_path: Path) -> None:
    env = {"SEEDBED_LEASE_TTL_S": str(TTL_S)}
    async with cluster(tmp_path, seeds=2, workers=2, etcd_members=3, seed_env=env) as running:
        before = await running.placed(2)
        async with load([seed.grpc for seed in running.seeds], KEYS) as record:
            await warm(record, KEYS)
            member = running.etcd.members[await running.etcd.follower()]
            member.kill()
            await asyncio.sleep(1.5)  # the length of the outage
            await member.start()
            await asyncio.sleep(TTL_S + 1)  # longer than a lease: would anything move?
        assert not record.failed, record.failed[0]
        assert (await running.status()).shards == before.shards


async def test_a_single_etcd_down_for_half_a_lease_moves_nothing(tmp_path: Path) -> None:
    env = {"SEEDBED_LEASE_TTL_S": "10"}
    async with cluster(tmp_path, workers=2, seed_env=env) as running:
        before = await running.placed(2)
        async with load([running.entry], KEYS) as record:
            await warm(record, KEYS)
            strike = now()
            running.etcd.members[0].kill()
            await asyncio.sleep(2)  # the length of the outage
            await running.etcd.members[0].start()
            assert now() - strike < 5, "the outage was longer than this test is about"
            await asyncio.sleep(11)  # longer than a lease: would anything move?
        assert not record.failed, record.failed[0]
        assert (await running.status()).shards == before.shards


async def test_twenty_workers_fenced_together_all_come_back_evenly(tmp_path: Path) -> None:
    env = {"SEEDBED_LEASE_TTL_S": "2", "SEEDBED_MIN_WORKERS": "20"}
    async with cluster(tmp_path, workers=0, seed_env=env) as running:
        async with asyncio.TaskGroup() as starts:
            for _ in range(20):
                starts.create_task(running.add_worker())
        before = await running.placed(20, within=60)
        etcd = running.etcd.members[0]
        etcd.freeze()
        await asyncio.sleep(6)  # three times the lease: the length of the outage
        etcd.thaw()
        old = {node: member.incarnation for node, member in before.members.items()}
        after = await running.until(
            "all twenty are back and own everything",
            lambda seen: (
                len(seen.owners()) == 20
                and len(seen.shards) == len(before.shards)
                and all(seen.is_up(w.name, but_not=old[w.name]) for w in running.workers)
            ),
            within=45,
        )
        most = max(len(after.owned_by(worker.name)) for worker in running.workers)
        print(f"most shards on one of twenty: {most}")
        assert most <= 2 * len(after.shards) / 20 + 1
        async with grpc.aio.insecure_channel(running.entry) as channel:
            stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
            for key in KEYS:
                call = await add(stub, key, 5)
                assert call.ok, call


async def test_etcd_started_from_an_older_snapshot(tmp_path: Path) -> None:
    env = {"SEEDBED_LEASE_TTL_S": str(TTL_S)}
    async with cluster(tmp_path, seeds=2, workers=2, seed_env=env) as running:
        await running.placed(2)
        await running.etcd.snapshot(tmp_path / "snapshot")
        victim = running.workers[0]
        victim.kill()
        await victim.exit_code()
        await running.placed(1)
        await running.restart(victim)
        await running.add_worker()
        before = await running.status()

        def risen(seen: Status) -> bool:
            for shard, (_, epoch) in seen.shards.items():
                assert epoch >= before.shards[shard][1], f"{shard} fell"
            return len(seen.shards) == len(before.shards) and all(
                epoch > before.shards[shard][1] for shard, (_, epoch) in seen.shards.items()
            )

        async with load([running.entry], KEYS, timeout=TTL_S + 12) as record:
            await warm(record, KEYS)
            strike = now()
            await running.etcd.restore(tmp_path / "snapshot")
            await running.until(
                "every shard has an owner, in an epoch above the lost ones",
                risen,
                within=TTL_S + 10,
            )
            # Until its table is written again a worker may go on by its lease: only now it counts.
            again = now()
            took = again - strike + await back(record, KEYS, again, within=TTL_S + 12)
        print(f"restored: all back after {took:.2f} s; {record.summary()}")
        check_calls(record, TTL_S + 12)
        assert took <= TTL_S + 10


async def test_the_first_call_after_a_cold_start_is_quick(tmp_path: Path) -> None:
    async with cluster(tmp_path, seeds=3, workers=3) as running:
        begin = now()
        async with grpc.aio.insecure_channel(running.seeds[1].grpc) as channel:
            stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
            calls = [await add(stub, key, 5) for key in KEYS]
        print(f"first answer {calls[0].done - begin:.2f} s after the last READY")
        assert calls[0].ok
        assert calls[0].done - begin < 1.0
        assert all(call.ok for call in calls)
        assert len((await running.status()).shards) == 1024


async def test_an_epoch_told_to_a_seed_that_does_not_lead_reaches_the_leader(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, seeds=2, workers=1) as running:
        before = await running.placed(1)
        shard = ("census", 3)
        epoch = before.shards[shard][1] + 10**9
        other = next(seed for seed in running.seeds if seed.name != before.coordinator)
        async with grpc.aio.insecure_channel(other.grpc) as channel:
            seed = cluster_pb2_grpc.ClusterStub(channel)
            seen = cluster_pb2.EpochSeen(type=shard[0], shard=shard[1], epoch=epoch)
            with pytest.raises(grpc.aio.AioRpcError, match=f"{before.coordinator} does") as refused:
                await seed.ReportEpoch(seen, timeout=5)
            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            stream = seed.Register(timeout=30)
            greeting = hello("other", types=[])
            greeting.cluster = "default"
            await stream.write(cluster_pb2.WorkerMessage(hello=greeting))
            await stream.write(cluster_pb2.WorkerMessage(epoch_seen=seen))
            after = await running.until("an epoch above", lambda at: at.shards[shard][1] > epoch)
            stream.cancel()
        moved = {one for one, home in after.shards.items() if home != before.shards[one]}
        assert moved == {shard}
        assert after.shards[shard][0] == before.shards[shard][0]
        assert "epoch not passed on" not in other.log_text()
