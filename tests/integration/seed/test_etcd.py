"""A seed over a real etcd: what its workers and callers are told while etcd is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from seedbed.status import reason
from seedbed.v1 import admin_pb2, admin_pb2_grpc, cluster_pb2, cluster_pb2_grpc
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.processes import Node, start
from tests.unit.seed.declared import hello

pytestmark = pytest.mark.integration

TTL_S = 2


@asynccontextmanager
async def running(
    folder: Path, *names: str
) -> AsyncGenerator[tuple[EtcdCluster, list[Node]], None]:
    """An etcd with these seeds."""
    async with etcd_cluster(1, folder / "etcd") as etcd:
        env = {
            "SEEDBED_ETCD": etcd.endpoints[0],
            "SEEDBED_CLUSTER": "test",
            "SEEDBED_LEASE_TTL_S": str(TTL_S),
        }
        nodes: list[Node] = []
        try:
            for name in names:
                nodes.append(await start("seed", name, env, folder))  # noqa: PERF401  in order
            yield etcd, nodes
        finally:
            etcd.members[0].thaw()
            for node in nodes:
                if node.process.returncode is None:
                    node.kill()
                    await node.exit_code()


class Stream:
    """A worker's Register stream over gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call = cluster_pb2_grpc.ClusterStub(channel).Register(timeout=30)
        self._seq = 0

    async def say(self, message: cluster_pb2.WorkerMessage) -> None:
        await self._call.write(message)

    async def expect(self, kind: str) -> cluster_pb2.SeedMessage:
        async with asyncio.timeout(10):
            while True:
                message = await self._call.read()
                assert isinstance(message, cluster_pb2.SeedMessage), f"ended before {kind}"
                if message.WhichOneof("kind") == kind:
                    return message

    async def beat(self) -> cluster_pb2.LeaseState.ValueType:
        self._seq += 1
        heartbeat = cluster_pb2.Heartbeat(seq=self._seq)
        await self.say(cluster_pb2.WorkerMessage(heartbeat=heartbeat))
        return (await self.expect("heartbeat_ack")).heartbeat_ack.state


async def leader(node: Node) -> str:
    async with grpc.aio.insecure_channel(node.grpc) as channel:
        stub = admin_pb2_grpc.AdminStub(channel)
        return (await stub.GetCluster(admin_pb2.GetClusterRequest(), timeout=5)).coordinator


async def test_a_frozen_etcd_is_unknown_to_workers_and_not_ready_to_callers(tmp_path: Path) -> None:
    async with (
        running(tmp_path, "s1") as (etcd, (seed,)),
        grpc.aio.insecure_channel(seed.grpc) as channel,
    ):
        stream = Stream(channel)
        await stream.say(cluster_pb2.WorkerMessage(hello=hello()))
        await stream.expect("welcome")
        assert await stream.beat() == cluster_pb2.LEASE_STATE_RENEWED
        etcd.members[0].freeze()
        began = asyncio.get_running_loop().time()
        assert await stream.beat() == cluster_pb2.LEASE_STATE_UNKNOWN
        assert asyncio.get_running_loop().time() - began < TTL_S / 8 + 0.25
        fill: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        fill = channel.unary_unary("/cups.Cups/Fill")
        async with asyncio.timeout(3 * TTL_S + 5):
            while True:
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await fill(b"\x0a\x01a", timeout=0.3)
                if reason(raised.value) == "SEED_NOT_READY":
                    break
        etcd.members[0].thaw()
        async with asyncio.timeout(10):
            while True:
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await fill(b"\x0a\x01a", timeout=0.3)
                if reason(raised.value) != "SEED_NOT_READY":
                    break
        assert seed.process.returncode is None


async def test_another_seed_leads_when_the_leader_is_killed(tmp_path: Path) -> None:
    async with running(tmp_path, "s1", "s2") as (_, (one, two)):
        assert await leader(two) == "s1"
        one.kill()
        async with asyncio.timeout(10):
            while await leader(two) != "s2":
                await asyncio.sleep(0.05)


async def test_a_leader_that_is_told_to_stop_resigns_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, "s1", "s2") as (_, (one, two)):
        one.terminate()
        assert await one.exit_code(within=15) == 0
        assert await leader(two) == "s2"
        async with grpc.aio.insecure_channel(two.grpc) as channel:
            stub = admin_pb2_grpc.AdminStub(channel)
            members = (await stub.ListMembers(admin_pb2.ListMembersRequest(), timeout=5)).members
            assert [member.node_id for member in members] == ["s2"]
