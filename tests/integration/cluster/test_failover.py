"""A worker goes, in every way it can: its entities answer elsewhere, and never from two places."""

from __future__ import annotations

import asyncio
import statistics
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from seedbed import Client
from seedbed.v1 import store_pb2
from tests.support.cluster import Cluster, cluster
from tests.support.load import Load, add, back, check_calls, load, warm
from tests.support.processes import Node
from tests.support.proxy import proxy
from tests.support.waiting import now, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

KEYS = [f"person-{n}" for n in range(100)]
TTL_S = 3


@pytest.mark.parametrize(
    ("evidence", "limit_s"), [("all", 1.5), ("durable", TTL_S + 2.0), ("off", TTL_S + 2.0)]
)
async def test_a_killed_workers_entities_answer_elsewhere(
    tmp_path: Path, evidence: str, limit_s: float
) -> None:
    env = {"SEEDBED_EVIDENCE": evidence, "SEEDBED_LEASE_TTL_S": str(TTL_S)}
    async with cluster(tmp_path, workers=3, seed_env=env) as running:
        before = await running.placed(3)
        victim = running.workers[1]
        async with load([running.entry], KEYS, timeout=TTL_S + 3) as record:
            await warm(record, KEYS)
            strike = now()
            victim.kill()
            took = await back(record, KEYS, strike, within=limit_s + 5)
        after = await running.placed(2)
        print(f"evidence {evidence}: all back after {took:.2f} s; {record.summary()}")
        check_calls(record, TTL_S + 3)
        assert took <= limit_s
        lost = before.owned_by(victim.name)
        for shard, home in before.shards.items():
            assert (after.shards[shard] == home) == (shard not in lost)
        assert len({after.shards[shard][1] for shard in lost}) == 1, "one transaction, one epoch"


async def test_a_worker_whose_traffic_is_dropped_loses_its_shards_and_comes_back(
    tmp_path: Path,
) -> None:
    env = {
        "SEEDBED_LEASE_TTL_S": str(TTL_S),
        "SEEDBED_HOST": "127.0.0.3",
        "SEEDBED_MIN_WORKERS": "2",
    }
    async with cluster(tmp_path, workers=0, seed_env=env) as running:
        seed_port = int(running.entry.rpartition(":")[2])
        async with (
            proxy(seed_port, host="127.0.0.3", port=seed_port) as to_seed,
            proxy(0, host="127.0.0.4") as to_worker,
        ):
            to_worker.target_port = to_worker.port
            healthy = await running.add_worker()
            victim = await running.add_worker(
                SEEDBED_SEEDS=f"127.0.0.3:{seed_port}",
                SEEDBED_HOST="127.0.0.4",
                SEEDBED_PORT=str(to_worker.port),
            )
            await running.placed(2)
            async with load([running.entry], KEYS, timeout=TTL_S + 3) as record:
                await warm(record, KEYS)
                strike = now()
                to_seed.drop()
                to_worker.drop()
                took = await back(record, KEYS, strike, within=TTL_S + 6)
                status = await running.placed(1)
                assert status.owners() == {healthy.name}
                to_seed.forward()
                to_worker.forward()
                await running.until(
                    "the cut worker is up again",
                    lambda seen: seen.is_up(victim.name),
                )
            print(f"dropped: all back after {took:.2f} s; {record.summary()}")
            check_calls(record, TTL_S + 3)
            assert took <= TTL_S + 2


def dial(through: str, seed: str) -> AbstractAsyncContextManager[grpc.aio.Channel]:
    """A plain channel to a seed, or one of ours, which goes straight to the owners."""
    return Client(seed) if through == "client" else grpc.aio.insecure_channel(seed)


@pytest.mark.parametrize("through", ["gateway", "client"])
async def test_a_call_that_cannot_wait_for_the_lease_to_end_is_answered_at_once(
    tmp_path: Path, through: str
) -> None:
    env = {"SEEDBED_LEASE_TTL_S": "5", "SEEDBED_EVIDENCE": "off"}
    async with cluster(tmp_path, workers=2, seed_env=env) as running:
        await running.placed(2)
        async with dial(through, running.entry) as channel:
            stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
            homes = {key: (await add(stub, key, 5)).worker for key in KEYS}
            victim = running.workers[0]
            key = next(key for key, worker in homes.items() if worker == victim.name)
            victim.kill()
            async with asyncio.timeout(2):
                while (call := await add(stub, key, 1.0)).reason != "MOVING":
                    pass
            call = await add(stub, key, 1.0)
            assert call.reason == "MOVING"
            assert call.code is grpc.StatusCode.UNAVAILABLE
            assert call.took < 0.3, "answered at once, not at its deadline"
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Add(pb.Person(name=key), timeout=1.0)
            pause_s = retry_after_s(refused.value)
            assert 1.0 < pause_s <= 5.0, "more than the call had, less than the lease"
            await asyncio.sleep(pause_s)
            assert (await add(stub, key, 3.0)).ok, "after that time another worker has it"


def retry_after_s(error: grpc.aio.AioRpcError) -> float:
    """What the RetryInfo of an error says."""
    trailing = dict(error.trailing_metadata() or ())
    details = trailing["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    status, retry = Status.FromString(details), RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    return retry.retry_delay.ToTimedelta().total_seconds()


async def test_a_frozen_worker_answers_nothing_as_old_owner_and_rejoins(tmp_path: Path) -> None:
    env = {"SEEDBED_LEASE_TTL_S": str(TTL_S)}
    async with cluster(tmp_path, workers=2, seed_env=env) as running:
        before = await running.placed(2)
        victim = running.workers[0]
        old = before.members[victim.name].incarnation
        async with (
            load([running.entry], KEYS, timeout=TTL_S + 3) as record,
            grpc.aio.insecure_channel(victim.grpc) as channel,
        ):
            direct: rpc.CensusAsyncStub = rpc.CensusStub(channel)
            await warm(record, KEYS)
            assert any([(await add(direct, key, 5)).ok for key in KEYS])
            strike = now()
            victim.freeze()
            await back(record, KEYS, strike, within=TTL_S + 6)
            async with asyncio.TaskGroup() as late:
                # They reach the old owner's port after a newer owner has answered.
                asked = [late.create_task(add(direct, key, 2 * TTL_S + 4)) for key in KEYS]
                await asyncio.sleep(strike + 2 * TTL_S - now())  # the length of the freeze itself
                victim.thaw()
            await running.until(
                "the thawed worker is a new incarnation",
                lambda seen: seen.is_up(victim.name, but_not=old),
            )
        check_calls(record, TTL_S + 3)
        Load([*record.calls, *(task.result() for task in asked)]).check_single_owner()
        assert (await running.status()).owners() != before.owners()


async def test_a_terminated_worker_leaves_without_waiting_for_its_lease(tmp_path: Path) -> None:
    async with cluster(tmp_path, workers=3) as running:
        before = await running.placed(3)
        victim = running.workers[2]
        async with load([running.entry], KEYS) as record:
            await warm(record, KEYS)
            strike = now()
            victim.terminate()
            code = await victim.exit_code(25)
            took = await back(record, KEYS, strike, within=5)
        after = await running.placed(2)
        print(f"SIGTERM: all back after {took:.2f} s; {record.summary()}")
        assert code == 0
        assert not record.failed, f"{record.failed[0]}"
        assert took <= 1.5
        record.check_single_owner()
        kept = before.shards.keys() - before.owned_by(victim.name)
        assert all(after.shards[shard] == before.shards[shard] for shard in kept)


async def test_a_running_turn_ends_before_a_terminated_worker_leaves(tmp_path: Path) -> None:
    async with cluster(tmp_path, workers=1) as running:
        await running.placed(1)
        async with grpc.aio.insecure_channel(running.entry) as channel:
            stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
            await stub.Add(pb.Person(name="a"), timeout=5)
            slow = stub.Slow(pb.SlowRequest(person=pb.Person(name="a"), pause_ms=1500), timeout=8)
            queued_behind = asyncio.timeout(8)
            async with queued_behind:
                await asyncio.sleep(0.3)
                running.workers[0].terminate()
                assert (await slow).count == 2
        assert await running.workers[0].exit_code(25) == 0


async def test_a_lease_revoked_by_hand_only_costs_the_worker_its_incarnation(
    tmp_path: Path,
) -> None:
    env = {"SEEDBED_LEASE_TTL_S": str(TTL_S)}
    async with cluster(tmp_path, workers=2, seed_env=env) as running:
        before = await running.placed(2)
        victim = running.workers[0]
        old = before.members[victim.name].incarnation
        async with load([running.entry], KEYS, timeout=2 * TTL_S + 3) as record:
            await warm(record, KEYS)
            strike = now()
            await revoke_lease(running, victim)
            await running.until(
                "rejoined",
                lambda seen: seen.is_up(victim.name, but_not=old),
            )
            await back(record, KEYS, strike, within=2 * TTL_S + 3)
        await running.placed(2)
        check_calls(record, 2 * TTL_S + 3)
        assert victim.process.returncode is None


async def revoke_lease(running: Cluster, victim: Node) -> None:
    """What `etcdctl lease revoke` does, for the lease of a worker's record."""
    async with running.etcd.store() as store:
        found = await store.read_key(f"/seedbed/default/members/worker/{victim.name}")
        record = store_pb2.MemberRecord.FromString(found.value)
        await store.revoke(record.lease_id)


async def test_an_open_watch_delays_no_writer_and_ends_with_moving(tmp_path: Path) -> None:
    env = {"SEEDBED_EVIDENCE": "all"}
    async with cluster(tmp_path, workers=2, seed_env=env) as running:
        await running.placed(2)
        async with grpc.aio.insecure_channel(running.entry) as channel:
            stub: rpc.CensusAsyncStub = rpc.CensusStub(channel)
            home = (await stub.Add(pb.Person(name="watched"), timeout=5)).worker
            seen: list[int] = []
            end: list[grpc.aio.AioRpcError] = []

            async def watch() -> None:
                try:
                    async for item in stub.Watch(pb.Person(name="watched")):
                        seen.append(item.count)  # noqa: PERF401 - kept when the stream fails
                except grpc.aio.AioRpcError as error:
                    end.append(error)

            async with asyncio.TaskGroup() as group:
                group.create_task(watch())
                begin, took, count = now(), list[float](), 1
                while now() < begin + 60:
                    call = await add(stub, "watched", 5)
                    assert call.ok, call
                    took.append(call.took)
                    count = call.count
                    await asyncio.sleep(0.05)
                await until("the watcher has seen the last", lambda: seen[-1:] == [count], within=5)
                running.node(home).kill()
                await until("the watch ends", lambda: bool(end), within=5)
        # A writer behind the watcher would wait for its own deadline.
        assert max(took) < 4.0
        assert statistics.median(took) < 0.1
        assert seen == sorted(seen)
        details = "".join(str(value) for _, value in end[0].trailing_metadata() or ())
        assert end[0].code() is grpc.StatusCode.UNAVAILABLE, end[0]
        assert "MOVING" in details or "MOVING" in (end[0].details() or "")
