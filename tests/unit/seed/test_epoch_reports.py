"""An epoch above its table's that a worker saw: only the leader acts, whichever seed is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from seedbed.calls import Metadata
from seedbed.errors import CallError, Reason
from seedbed.routing import ShardTable
from seedbed.transport import StatusError, UnaryMethod
from seedbed.v1 import cluster_pb2 as pb
from seedbed_seed.epoch_reports import REPORT_EPOCH
from tests.unit.seed.declared import hello
from tests.unit.seed.desk import Desk, two_desks
from tests.unit.seed.scripted import PATIENCE_S, ScriptedCall, ScriptedWorker
from tests.unit.seed.seed_network import SeedNetwork


class Two:
    """Two seeds over one store, of which one leads."""

    def __init__(self, network: SeedNetwork, leader: Desk, other: Desk) -> None:
        self.network = network
        self.leader = leader
        self.other = other

    async def placed(self, desk: Desk) -> tuple[ScriptedWorker, ShardTable]:
        """A worker, registered at this seed, that owns all shards of `cup`."""
        worker, _ = await desk.join(hello())
        await worker.ack()
        for view in (self.leader.view, self.other.view):
            async with asyncio.timeout(PATIENCE_S):
                while ("cup", 0) not in view.tables:
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(PATIENCE_S):
            while not self.leader.driver.leading:
                await asyncio.sleep(0.01)
        return worker, self.leader.view.tables["cup", 0]

    async def until_above(self, epoch: int) -> ShardTable:
        """Wait until shard 3 has a higher epoch than this."""
        view = self.leader.view
        await self.leader.until(
            f"an epoch above {epoch}", lambda: view.tables["cup", 0].epoch[3] > epoch
        )
        return view.tables["cup", 0]


@asynccontextmanager
async def two_seeds() -> AsyncGenerator[Two, None]:
    async with two_desks() as (leader, other, network):
        yield Two(network, leader, other)


def above(table: ShardTable) -> pb.EpochSeen:
    return pb.EpochSeen(type="cup", shard=3, epoch=table.epoch[3] + 10**9)


async def ask(desk: Desk, request: bytes) -> bytes:
    method = desk.epochs.find(REPORT_EPOCH)
    assert isinstance(method, UnaryMethod)
    return await method.handler(ScriptedCall(REPORT_EPOCH), request)


async def test_the_leader_acts_on_what_its_own_worker_saw() -> None:
    async with two_seeds() as it:
        worker, before = await it.placed(it.leader)
        seen = above(before)
        worker.send(pb.WorkerMessage(epoch_seen=seen))
        after = await it.until_above(seen.epoch)
        assert after.epoch[4] == before.epoch[4]
        assert not it.network.asked


async def test_a_seed_that_does_not_lead_passes_it_on() -> None:
    async with two_seeds() as it:
        worker, before = await it.placed(it.other)
        seen = above(before)
        worker.send(pb.WorkerMessage(epoch_seen=seen))
        after = await it.until_above(seen.epoch)
        assert after.epoch[4] == before.epoch[4]
        assert it.network.asked == ["127.0.0.1:4684"]


async def test_what_could_not_be_passed_on_is_logged_and_may_be_said_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with two_seeds() as it:
        worker, before = await it.placed(it.other)
        seen = above(before)
        it.network.down = True
        worker.send(pb.WorkerMessage(epoch_seen=seen))
        async with asyncio.timeout(PATIENCE_S):
            while "epoch not passed on" not in caplog.messages:
                await asyncio.sleep(0.01)
        assert it.network.asked == ["127.0.0.1:4684"], "once"
        assert (await worker.ack()).state == pb.LEASE_STATE_RENEWED
        it.network.down = False
        worker.send(pb.WorkerMessage(epoch_seen=seen))
        await it.until_above(seen.epoch)


async def test_a_seed_that_does_not_lead_refuses_and_says_who_does() -> None:
    async with two_seeds() as it:
        _, before = await it.placed(it.leader)
        seen = above(before)
        with pytest.raises(StatusError, match="s1 does") as refused:
            await ask(it.other, seen.SerializeToString())
        assert refused.value.code == 9
        assert await ask(it.leader, seen.SerializeToString()) == b""
        await it.until_above(seen.epoch)


async def test_garbage_is_refused() -> None:
    async with two_seeds() as it:
        with pytest.raises(CallError) as refused:
            await ask(it.leader, b"\xff\xff")
        assert refused.value.reason is Reason.BAD_REQUEST


async def test_many_reports_while_one_is_under_way_are_passed_on_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with two_seeds() as it:
        _, before = await it.placed(it.leader)
        seen = above(before)
        held = asyncio.Event()
        told: list[pb.EpochSeen] = []

        async def call(address: str, method: str, request: bytes, metadata: Metadata) -> bytes:
            told.append(pb.EpochSeen.FromString(request))
            await held.wait()
            return b""

        monkeypatch.setattr(it.network, "call", call)
        it.other.epochs.seen(seen)
        async with asyncio.timeout(PATIENCE_S):
            while not told:
                await asyncio.sleep(0.01)
            for number in range(1, 50):
                again = pb.EpochSeen(type="cup", shard=3, epoch=seen.epoch + number)
                it.other.epochs.seen(again)
            held.set()
            while len(told) < 2:
                await asyncio.sleep(0.01)
        assert [one.epoch for one in told] == [seen.epoch, seen.epoch + 49]
