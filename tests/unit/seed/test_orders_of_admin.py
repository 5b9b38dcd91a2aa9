"""Operators' orders through Admin: carried out, shown, bounded, refused with what there is."""

from __future__ import annotations

import asyncio

import pytest

from seedbed.errors import CallError, Reason
from seedbed.v1 import admin_pb2 as pb
from seedbed.v1 import cluster_pb2, store_pb2
from seedbed_seed import order_book
from seedbed_seed.core.orders import Orders
from seedbed_seed.order_verbs import OrderLimits, OrderVerbs
from seedbed_seed.routes import Watches
from seedbed_seed.store import Delete, Put
from tests.unit.seed.asking_admin import ask, plan, refusal, two_seeds, two_workers, up
from tests.unit.seed.desk import Desk, desk
from tests.unit.seed.scripted import ScriptedCall, TroubledStore


async def test_a_cordoned_node_is_shown_so_until_it_is_uncordoned() -> None:
    async with two_workers() as seed:
        answer = pb.CordonResponse.FromString(
            await ask(seed, "Cordon", pb.CordonRequest(node_id="w2"))
        )
        assert (answer.member.cordoned, answer.member.status) == (
            True,
            store_pb2.MEMBER_STATUS_UP,
        )
        assert seed.view.orders.cordoned == {"w2"}
        after = await ask(seed, "Uncordon", pb.UncordonRequest(node_id="w2"))
        assert not pb.UncordonResponse.FromString(after).member.cordoned
        assert seed.view.orders == Orders()


async def test_a_drain_hands_off_all_and_is_shown_as_draining() -> None:
    async with two_workers() as seed:
        answer = pb.DrainResponse.FromString(
            await ask(seed, "Drain", pb.DrainRequest(node_id="w1"))
        )
        assert answer.member.status == store_pb2.MEMBER_STATUS_DRAINING
        assert (answer.member.cordoned, answer.member.shards, answer.note) == (True, 16, "")
        await seed.until("hand-offs", lambda: len(seed.view.tables["cup", 0].handoffs) == 16)


async def test_a_drain_with_nowhere_to_go_is_an_order_that_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with desk(ttl_s=3, driving=True) as seed:
        await up(seed, "w1")
        answer = pb.DrainResponse.FromString(
            await ask(seed, "Drain", pb.DrainRequest(node_id="w1"))
        )
        assert "nowhere to go for shards of cup" in answer.note
        assert seed.view.orders.draining == {"w1"}
        assert "drain stuck" in caplog.messages


async def test_an_unknown_node_is_refused_with_those_that_are_there() -> None:
    async with two_workers() as seed:
        for verb, request in (
            ("Drain", pb.DrainRequest(node_id="w9")),
            ("Cordon", pb.CordonRequest(node_id="w9")),
            ("Uncordon", pb.UncordonRequest(node_id="w9")),
            ("MoveShards", pb.MoveShardsRequest(type="cup", shards=[1], node_id="w9")),
        ):
            assert "no worker 'w9'" in (text := await refusal(seed, verb, request))
            assert "workers: w1, w2" in text
        text = await refusal(seed, "Drain", pb.DrainRequest(node_id="s1"))
        assert text == "s1 is a seed: only workers own shards"
        assert seed.view.orders == Orders()


async def test_an_order_for_a_node_that_is_gone_can_be_taken_back() -> None:
    async with two_workers() as seed:
        record = store_pb2.Orders(draining=["gone"], cordoned=["gone"])
        await seed.store.write(Put(seed.keys.orders, record.SerializeToString()))
        await seed.until("orders", lambda: bool(seed.view.orders.draining))
        answer = pb.UncordonResponse.FromString(
            await ask(seed, "Uncordon", pb.UncordonRequest(node_id="gone"))
        )
        assert (answer.member.node_id, answer.member.cordoned) == ("gone", False)
        assert seed.view.orders == Orders()


async def test_pins_are_listed_kept_for_nodes_to_come_and_taken_back() -> None:
    async with two_workers() as seed:
        request = pb.PinShardsRequest(type="cup", shards=[3, 1, 3], node_id="w3")
        answer = pb.PinShardsResponse.FromString(await ask(seed, "PinShards", request))
        assert [(s.shard, s.pinned) for s in answer.shards] == [(1, "w3"), (3, "w3")]
        assert seed.view.orders.pins == {("cup", 1): "w3", ("cup", 3): "w3"}
        listed = pb.ListShardsResponse.FromString(
            await ask(seed, "ListShards", pb.ListShardsRequest())
        )
        assert [s.shard for s in listed.shards if s.pinned == "w3"] == [1, 3]
        await ask(seed, "PinShards", pb.PinShardsRequest(type="cup", shards=[3]))
        assert seed.view.orders.pins == {("cup", 1): "w3"}


@pytest.mark.parametrize("verb", ["PinShards", "MoveShards"])
async def test_shards_and_types_that_are_not_there_are_refused(verb: str) -> None:
    kind = pb.PinShardsRequest if verb == "PinShards" else pb.MoveShardsRequest
    async with two_workers() as seed:
        text = await refusal(seed, verb, kind(type="mug", shards=[1], node_id="w1"))
        assert text == "no entity type 'mug' in this cluster; known: cup"
        text = await refusal(seed, verb, kind(type="cup", shards=[1, 16], node_id="w1"))
        assert text == "cup has no shard 16: it has shards 0 to 15"
        text = await refusal(seed, verb, kind(type="cup", node_id="w1"))
        assert text == "no shard named; cup has shards 0 to 15"


async def test_node_ids_and_reasons_are_bounded() -> None:
    async with two_workers() as seed:
        text = await refusal(
            seed, "PinShards", pb.PinShardsRequest(type="cup", shards=[1], node_id="No")
        )
        assert "cannot be a node id" in text
        text = await refusal(seed, "Freeze", pb.FreezeRequest(reason="x" * 501))
        assert text == "a reason has at most 500 characters"


async def test_orders_are_no_bigger_than_etcd_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_book, "MAX_BYTES", 4)
    async with two_workers() as seed:
        with pytest.raises(CallError, match="4 are the limit") as full:
            await ask(seed, "Freeze", pb.FreezeRequest(reason="lunch"))
        assert full.value.reason is Reason.OVERLOADED


async def test_orders_above_a_limit_that_was_lowered_can_be_taken_back() -> None:
    call = ScriptedCall()
    async with two_workers() as seed:
        for node in ("w1", "w2"):
            await ask(seed, "Cordon", pb.CordonRequest(node_id=node))
        one = OrderVerbs(seed.view, seed.orders, seed.table_of, OrderLimits(nodes=1))
        await one.drain(call, pb.DrainRequest(node_id="w2"))
        await one.uncordon(call, pb.UncordonRequest(node_id="w2"))
        with pytest.raises(CallError, match="1 nodes are cordoned or draining, and 1 may be"):
            await one.cordon(call, pb.CordonRequest(node_id="w2"))


async def test_a_freeze_is_shown_with_its_reason_and_refuses_a_rebalance() -> None:
    async with two_workers() as seed:
        await ask(seed, "Freeze", pb.FreezeRequest(reason="lunch"))
        cluster = pb.GetClusterResponse.FromString(
            await ask(seed, "GetCluster", pb.GetClusterRequest())
        )
        assert (cluster.frozen, cluster.frozen_reason) == (True, "lunch")
        text = await refusal(seed, "Rebalance", pb.RebalanceRequest(apply=True))
        assert text == "rebalancing is frozen (lunch): unfreeze it first"
        assert (await plan(seed)).held_back == "frozen: lunch"
        await ask(seed, "Unfreeze", pb.UnfreezeRequest())
        assert seed.view.orders == Orders()


async def test_deleted_orders_are_no_orders() -> None:
    async with two_workers() as seed:
        await ask(seed, "Freeze", pb.FreezeRequest())
        assert "frozen" in (await plan(seed)).held_back
        await seed.store.write(Delete(seed.keys.orders))
        await seed.until("no orders", lambda: seed.view.orders == Orders())
        assert "frozen" not in (await plan(seed)).held_back


async def test_a_seed_that_starts_later_obeys_the_orders_that_stand() -> None:
    async with TroubledStore() as store:
        orders = store_pb2.Orders(frozen=True, frozen_reason="lunch")
        seed = Desk(store, ttl_s=3)
        await store.write(Put(seed.keys.orders, orders.SerializeToString()))
        async with seed.open(driving=True):
            await up(seed, "w1")
            assert (await plan(seed)).held_back == "frozen: lunch"


async def test_who_watches_the_members_is_told_of_orders_at_once() -> None:
    async with two_workers() as seed:
        watches = Watches(seed.view, seed.routes)
        updates = aiter(watches.watch_members(ScriptedCall(), b""))
        await anext(updates)

        async def told() -> None:
            async for data in updates:
                update = cluster_pb2.MemberUpdate.FromString(data)
                if [m.node_id for m in update.members if m.cordoned] == ["w2"]:
                    return

        # (In less than the time after which a worker that says nothing is marked silent.)
        async with asyncio.timeout(0.5), asyncio.TaskGroup() as tasks:
            tasks.create_task(told())
            await asyncio.sleep(0)
            await ask(seed, "Cordon", pb.CordonRequest(node_id="w2"))


@pytest.mark.parametrize("trouble", ["lose_answers", "swallow"])
async def test_a_lost_answer_is_resolved_by_reading(trouble: str) -> None:
    async with desk(ttl_s=3) as seed:
        setattr(seed.store, trouble, 1)
        await ask(seed, "Freeze", pb.FreezeRequest(reason="lunch"))
        assert seed.view.orders.frozen_reason == "lunch"


async def test_orders_of_two_seeds_at_once_both_stand() -> None:
    async with two_seeds() as (leader, other):
        await up(leader, "w1", "w2")
        await other.until("the workers", lambda: len(other.view.workers) == 2)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ask(leader, "Cordon", pb.CordonRequest(node_id="w1")))
            tasks.create_task(ask(other, "Cordon", pb.CordonRequest(node_id="w2")))
        await other.until("both", lambda: sorted(other.view.orders.cordoned) == ["w1", "w2"])
