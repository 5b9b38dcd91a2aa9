"""What only the leading seed can carry out, asked through any seed."""

from __future__ import annotations

import pytest

from seedbed.errors import CallError, Reason
from seedbed.transport import StatusError
from seedbed.v1 import admin_pb2 as pb
from tests.unit.seed.asking_admin import ask, plan, refusal, two_seeds, two_workers, up
from tests.unit.seed.desk import desk, two_desks


@pytest.mark.parametrize("through", [0, 1], ids=["leader", "other"])
async def test_a_move_is_answered_when_it_has_begun(through: int) -> None:
    async with two_seeds() as seeds:
        leader = seeds[0]
        await up(leader, "w1", "w2")
        await seeds[1].until("the workers", lambda: len(seeds[1].view.workers) == 2)
        request = pb.MoveShardsRequest(type="cup", shards=[3, 4], node_id="w2")
        answer = pb.MoveShardsResponse.FromString(await ask(seeds[through], "MoveShards", request))
        assert [(s.shard, s.owner, s.next_owner) for s in answer.shards] == [
            (3, "w1", "w2"),
            (4, "w1", "w2"),
        ]
        assert set(leader.view.tables["cup", 0].handoffs) == {3, 4}


async def test_what_cannot_move_is_refused_in_the_leaders_words_through_any_seed() -> None:
    async with two_seeds() as (leader, other):
        await up(leader, "w1", "w2")
        await ask(leader, "Cordon", pb.CordonRequest(node_id="w2"))
        request = pb.MoveShardsRequest(type="cup", shards=[3], node_id="w2")
        said = "cup/3 cannot move to w2: the worker is cordoned; uncordon it first"
        assert await refusal(leader, "MoveShards", request) == said
        with pytest.raises(StatusError) as raised:
            await ask(other, "MoveShards", request)
        assert (raised.value.code, raised.value.message) == (3, said)


async def test_a_call_that_was_passed_on_is_not_passed_on_again() -> None:
    async with two_seeds() as (_, other):
        with pytest.raises(CallError, match="this seed does not lead, s1 does") as raised:
            await ask(other, "Rebalance", pb.RebalanceRequest(), forwarded=True)
        assert raised.value.reason is Reason.SEED_NOT_READY


async def test_without_a_leader_or_a_way_to_it_a_move_may_be_asked_again() -> None:
    async with desk() as seed:
        with pytest.raises(CallError, match="no seed leads now") as raised:
            await ask(seed, "Rebalance", pb.RebalanceRequest())
        assert raised.value.reason is Reason.SEED_NOT_READY
    async with two_desks() as (_, other, network):
        await other.until("its address", lambda: bool(other.view.leader_address()))
        network.down = True
        with pytest.raises(CallError, match="s1, which leads, is not reached") as raised:
            await ask(other, "Rebalance", pb.RebalanceRequest())
        assert raised.value.reason is Reason.SEED_NOT_READY


async def test_a_rebalance_is_planned_and_then_applied_as_planned() -> None:
    async with two_workers() as seed:
        planned = await plan(seed)
        assert not planned.applied
        assert not seed.view.tables["cup", 0].handoffs
        applied = pb.RebalanceResponse.FromString(
            await ask(seed, "Rebalance", pb.RebalanceRequest(apply=True))
        )
        assert applied.applied
        assert len(planned.moves) == 8
        assert applied.moves == planned.moves
        assert {m.shard for m in planned.moves} == set(seed.view.tables["cup", 0].handoffs)
        (spread,) = planned.types
        assert (spread.type, spread.before, spread.after) == ("cup", 2.0, 0.0)


async def test_every_call_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with desk(ttl_s=3) as seed:
        await ask(seed, "Freeze", pb.FreezeRequest(reason="lunch"))
        await refusal(seed, "Drain", pb.DrainRequest(node_id="w9"))
    lines = [vars(record) for record in caplog.records if record.message == "admin call"]
    assert [(line["method"], line["peer"], line["what"]) for line in lines] == [
        ("Freeze", "script", 'reason: "lunch"'),
        ("Drain", "script", 'node_id: "w9"'),
    ]
    assert lines[0]["outcome"] == "done"
    assert lines[1]["outcome"].startswith("BAD_REQUEST: no worker 'w9'")
