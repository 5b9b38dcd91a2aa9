"""What is done to the cluster; each returns when all is as it should be again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import grpc.aio

from seedbed.v1 import admin_pb2, admin_pb2_grpc, store_pb2
from tests.support.cluster import Cluster
from tests.support.load import Load, back
from tests.support.processes import Node
from tests.support.waiting import now

TYPE: Final = "census"

ROLLED: Final = 4
"""Workers that a rolling update restarts at most: the pause of each does not grow with them."""

POLL_S: Final = 0.25
"""Seldom, because a list of thousands of shards is work for the seed that is measured."""

WITHIN_S: Final = 60.0


class World:
    """A cluster under load through the seed that does not lead, which stays alive."""

    def __init__(self, running: Cluster, entry: Node, record: Load, keys: Sequence[str]) -> None:
        self.running = running
        self.entry = entry
        self.record = record
        self.keys = keys

    async def shards_of(self, node: str) -> list[int]:
        """Shards that a node owns, by the entry's table."""
        async with grpc.aio.insecure_channel(self.entry.grpc) as channel:
            stub: admin_pb2_grpc.AdminAsyncStub = admin_pb2_grpc.AdminStub(channel)
            request = admin_pb2.ListShardsRequest(type=TYPE)
            answer = await stub.ListShards(request, timeout=10)
        return [shard.shard for shard in answer.shards if shard.owner == node]

    async def leader(self) -> str:
        """Node id of the seed that leads; empty while none does."""
        async with grpc.aio.insecure_channel(self.entry.grpc) as channel:
            stub: admin_pb2_grpc.AdminAsyncStub = admin_pb2_grpc.AdminStub(channel)
            return (await stub.GetCluster(admin_pb2.GetClusterRequest(), timeout=5)).coordinator

    async def up(self, node: str) -> bool:
        """The worker is a member and takes shards."""
        async with grpc.aio.insecure_channel(self.entry.grpc) as channel:
            stub: admin_pb2_grpc.AdminAsyncStub = admin_pb2_grpc.AdminStub(channel)
            answer = await stub.ListMembers(admin_pb2.ListMembersRequest(), timeout=5)
        status = {member.node_id: member.status for member in answer.members}
        return status.get(node) == store_pb2.MEMBER_STATUS_UP

    async def owner(self, *, but_not: str = "") -> Node:
        """A worker that owns shards."""
        for node in self.running.workers:
            if node.name != but_not and await self.shards_of(node.name):
                return node
        raise AssertionError("no worker owns anything")


Event: TypeAlias = Callable[[World], Awaitable[None]]


async def planned_move(world: World) -> None:
    """Half of one worker's shards are handed to another, in one order."""
    source = await world.owner()
    target = next(node for node in world.running.workers if node is not source)
    owned = await world.shards_of(source.name)
    moved = set(owned[: max(1, len(owned) // 2)])
    async with grpc.aio.insecure_channel(world.entry.grpc) as channel:
        stub: admin_pb2_grpc.AdminAsyncStub = admin_pb2_grpc.AdminStub(channel)
        order = admin_pb2.MoveShardsRequest(type=TYPE, shards=moved, node_id=target.name)
        await stub.MoveShards(order, timeout=30)

    async def there() -> bool:
        return moved <= set(await world.shards_of(target.name))

    await _until("the shards are the other worker's", there)


async def rolling_update(world: World) -> None:
    """Workers are stopped and started again one by one."""
    for node in list(world.running.workers)[:ROLLED]:
        node.terminate()
        code = await node.exit_code()
        assert code == 0, f"{node.name} ended with {code}"
        await _start_again(world, node)


async def worker_crash(world: World) -> None:
    """SIGKILL of a worker that owns shards; another starts in its place when all is back."""
    victim, strike = await world.owner(), now()
    victim.kill()
    await back(world.record, world.keys, strike, within=WITHIN_S)
    await _start_again(world, victim)


async def leader_crash(world: World) -> None:
    """SIGKILL of the seed that leads; it starts again when another leads."""
    leader = world.running.node(await world.leader())
    assert leader is not world.entry, "the entry leads"
    strike = now()
    leader.kill()

    async def another() -> bool:
        return await world.leader() not in ("", leader.name)

    await _until("another seed leads", another)
    await back(world.record, world.keys, strike, within=WITHIN_S)
    await leader.exit_code()
    await world.running.restart(leader)


EVENTS: Final[dict[str, Event]] = {
    "planned move": planned_move,
    "worker crash": worker_crash,
    "rolling update": rolling_update,
    "leader crash": leader_crash,
}
"""The last one makes the entry the leader, so nothing comes after it. A rolling update may leave
all shards with one of two workers, so the crash comes before it: a placement from nothing would
wait for both."""


async def _start_again(world: World, node: Node) -> None:
    await node.exit_code()
    await world.running.restart(node)
    await _until(f"{node.name} is up again", lambda: world.up(node.name))


async def _until(what: str, holds: Callable[[], Awaitable[bool]]) -> None:
    try:
        async with asyncio.timeout(WITHIN_S):
            while not await holds():  # noqa: ASYNC110  processes can only be polled
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"not within {WITHIN_S} s: {what}") from None
