"""Election, placement and the seed's own membership, over a store that loses answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from seedbed.ids import Epoch, Generation, Incarnation, NodeId
from seedbed.routing import Owner, ShardTable
from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import store_pb2
from seedbed_seed.core import decisions
from seedbed_seed.election import Leadership, campaign
from seedbed_seed.store import Get, Put
from tests.unit.seed.declared import hello
from tests.unit.seed.desk import Desk, desk
from tests.unit.seed.scripted import TroubledStore


async def placed(seed: Desk, owners: int = 1) -> ShardTable:
    """Wait until the table of `cup` has so many owners."""
    await seed.until(
        f"cup on {owners}",
        lambda: (
            ("cup", 0) in seed.view.tables
            and len(seed.view.tables["cup", 0].owners) == owners
            and all(seed.view.tables["cup", 0].owner)
        ),
    )
    return seed.view.tables["cup", 0]


async def test_a_worker_that_is_up_is_given_all_shards() -> None:
    async with desk(ttl_s=3, driving=True) as seed:
        worker, _ = await seed.join(hello(incarnation="w1-a"))
        assert (await worker.ack()).state == pb.LEASE_STATE_RENEWED
        table = await placed(seed)
        assert table.owners[0].incarnation == "w1-a"
        routes = (await worker.expect("routes")).routes
        while not routes.tables:
            routes = (await worker.expect("routes")).routes
        assert routes.tables[0].generation == table.generation


async def test_a_placement_whose_answer_is_lost_is_read_back() -> None:
    async with desk(ttl_s=3, driving=True) as seed:
        await seed.until("a leader", lambda: seed.view.leader() == "s1")
        worker, _ = await seed.join(hello())
        await worker.ack()
        await seed.until_status("w1", store_pb2.MEMBER_STATUS_UP)
        seed.store.lose_answers = 1
        table = await placed(seed)
        again = await seed.store.read(Get(seed.keys.table("cup", 0)))
        assert again.answers[0][0].mod_revision == table.revision


async def test_a_placement_that_was_swallowed_is_written_again() -> None:
    async with desk(ttl_s=3, driving=True) as seed:
        await seed.until("a leader", lambda: seed.view.leader() == "s1")
        worker, _ = await seed.join(hello())
        await worker.ack()
        await seed.until_status("w1", store_pb2.MEMBER_STATUS_UP)
        seed.store.swallow = 2
        worker.beat()
        await placed(seed)


def table(generation: int) -> ShardTable:
    return ShardTable(
        type="cup",
        chunk=0,
        shard_count=16,
        generation=Generation(generation),
        owners=(Owner(NodeId("w1"), Incarnation("w1-1"), "127.0.0.1", 4000),),
        owner=(1,) * 16,
        epoch=(Epoch(generation),) * 16,
    )


@asynccontextmanager
async def leading(seed: Desk) -> AsyncGenerator[Leadership, None]:
    """An election that this seed won, without a driver."""
    await seed.store.grant(7, 60)
    async with campaign(seed.store, seed.keys.election, 7, b"s1") as leadership:
        yield leadership


async def test_a_decision_overtaken_by_another_write_changes_nothing() -> None:
    async with desk() as seed, leading(seed) as leadership:
        assert await seed.placement.write(leadership, decisions.Persist((table(5),))) is not None
        assert await seed.placement.write(leadership, decisions.Persist((table(6),))) is None
        assert seed.view.tables["cup", 0].generation == 5


async def test_a_deposed_leader_writes_nothing() -> None:
    async with desk() as seed, leading(seed) as leadership:
        deposed = replace(leadership, revision=leadership.revision + 1)
        assert await seed.placement.write(deposed, decisions.Persist((table(5),))) is None
        assert not seed.view.tables


async def test_nothing_is_taken_from_a_member_that_is_there_after_all() -> None:
    async with desk(ttl_s=3) as seed, leading(seed) as leadership:
        worker, _ = await seed.join(hello())
        await worker.ack()
        created = seed.view.workers["w1"].entry.create_revision
        lost = decisions.Persist((table(5),), gone=((NodeId("w1"), created),))
        assert await seed.placement.write(leadership, lost) is None
        earlier = decisions.Persist((table(5),), gone=((NodeId("w1"), created - 1),))
        assert await seed.placement.write(leadership, earlier) is not None


async def test_the_second_seed_leads_when_the_first_resigns_and_no_shard_moves() -> None:
    async with TroubledStore() as store:
        one, two = Desk(store, node="s1", ttl_s=3), Desk(store, node="s2", ttl_s=3)
        async with two.open():
            async with one.open(driving=True):
                await one.until("a leader", lambda: one.view.leader() == "s1")
                worker, _ = await two.join(hello())
                await worker.ack()
                before = await placed(two)
            async with two.open_driver():
                await two.until("the other leader", lambda: two.view.leader() == "s2")
                assert (await worker.ack()).state == pb.LEASE_STATE_RENEWED
                assert two.view.tables["cup", 0] == before


async def test_a_seed_that_loses_its_lease_comes_back() -> None:
    async with desk(ttl_s=1, driving=True) as seed:
        await seed.until("its record", lambda: "s1" in seed.view.seeds)
        await seed.until("a leader", lambda: seed.view.leader() == "s1")
        first = seed.view.seeds["s1"].record.lease_id
        await seed.store.revoke(first)
        await seed.until("it is gone", lambda: "s1" not in seed.view.seeds)
        await seed.until("it is back", lambda: "s1" in seed.view.seeds)
        assert seed.view.seeds["s1"].record.lease_id != first
        await seed.until("a leader", lambda: seed.view.leader() == "s1")


async def test_a_seed_does_not_write_over_another_of_its_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with TroubledStore() as store:
        seed = Desk(store, ttl_s=1)
        other = store_pb2.MemberRecord(
            member=store_pb2.Member(
                node_id="s1",
                incarnation="other",
                role=store_pb2.ROLE_SEED,
                status=store_pb2.MEMBER_STATUS_UP,
                host="10.0.0.9",
                port=4684,
            )
        )
        await store.grant(5, 60)
        await store.write(Put(seed.keys.seed("s1"), other.SerializeToString(), lease=5))
        async with seed.open(driving=True):
            async with asyncio.timeout(5):
                while not any(r.message == "seed name taken" for r in caplog.records):
                    await asyncio.sleep(0.01)
            assert seed.view.seeds["s1"].record.member.incarnation == "other"
            await store.revoke(5)
            await seed.until("the other is gone", lambda: "s1" not in seed.view.seeds)
            await seed.until("this one has the name", lambda: "s1" in seed.view.seeds)
            assert seed.view.seeds["s1"].record.member.incarnation == "s1-1"


async def test_leaving_says_so_and_ends_the_lease() -> None:
    async with desk(ttl_s=3) as seed:
        statuses: list[store_pb2.MemberStatus.ValueType] = []
        seed.view.listen(
            lambda change: statuses.extend(
                known.record.member.status for known in seed.view.seeds.values()
            )
        )
        await seed.lease.enter()
        await seed.until("its record", lambda: "s1" in seed.view.seeds)
        await seed.lease.leave()
        await seed.until("it is gone", lambda: "s1" not in seed.view.seeds)
        assert statuses[-1] == store_pb2.MEMBER_STATUS_LEFT


async def test_a_seed_that_resigns_keeps_its_lease_and_leads_no_more() -> None:
    async with TroubledStore() as store:
        first, second = Desk(store, node="s1"), Desk(store, node="s2")
        async with first.open(), second.open(), first.open_driver():
            await second.until("s1 leads", lambda: second.view.leader() == "s1")
            async with second.open_driver():
                await first.driver.resign()
                await second.until("s2 leads", lambda: second.view.leader() == "s2")
            await second.until("s2 has resigned too", lambda: second.view.leader() == "")
            record = second.view.seeds["s1"].record
            assert await store.renew(record.lease_id) > 0
            # It comes back with another lease, as no candidate.
            await store.revoke(record.lease_id)
            await second.until(
                "s1 is back",
                lambda: (
                    "s1" in second.view.seeds
                    and second.view.seeds["s1"].record.lease_id != record.lease_id
                ),
            )
            reading = await store.read(Get(second.keys.election, prefix=True))
            assert not reading.answers[0]


async def test_a_seed_that_drains_is_named_to_nobody_even_under_another_lease() -> None:
    async with desk() as seed, seed.open_driver():
        await seed.until("s1 is named", lambda: len(seed.view.seed_addresses()) == 1)
        lease = seed.view.seeds["s1"].record.lease_id
        await seed.lease.drain()
        await seed.until("nobody is named", lambda: not seed.view.seed_addresses())
        assert seed.view.seeds["s1"].record.lease_id == lease
        await seed.store.revoke(lease)
        await seed.until("its record is gone", lambda: "s1" not in seed.view.seeds)
        await seed.until("it is back", lambda: "s1" in seed.view.seeds)
        assert not seed.view.seed_addresses()
