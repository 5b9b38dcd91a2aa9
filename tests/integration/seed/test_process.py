"""A seed as a process of its own, over the embedded store: from its READY line to its end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from seedbed.status import reason
from seedbed.v1 import admin_pb2, admin_pb2_grpc, cluster_pb2, cluster_pb2_grpc
from tests.support.processes import Node, start
from tests.unit.seed.declared import hello

pytestmark = pytest.mark.integration

ENV = {"SEEDBED_ETCD": "memory", "SEEDBED_CLUSTER": "test", "SEEDBED_LEASE_TTL_S": "2"}


@asynccontextmanager
async def seed(folder: Path, **env: str) -> AsyncGenerator[Node, None]:
    node = await start("seed", "s1", ENV | env, folder)
    try:
        yield node
    finally:
        if node.process.returncode is None:
            node.kill()
            await node.exit_code()


async def test_it_serves_admin_health_reflection_and_routes(tmp_path: Path) -> None:
    async with seed(tmp_path) as node, grpc.aio.insecure_channel(node.grpc) as channel:
        admin = admin_pb2_grpc.AdminStub(channel)
        cluster = await admin.GetCluster(admin_pb2.GetClusterRequest(), timeout=5)
        assert cluster.cluster == "test"
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        for service in ("", "readiness", "liveness"):
            answer = await check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        for version in ("v1", "v1alpha"):
            reflect = channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )(timeout=5)
            await reflect.write(reflection_pb2.ServerReflectionRequest(list_services="*"))
            listed = await reflect.read()
            assert isinstance(listed, reflection_pb2.ServerReflectionResponse)
            assert listed.list_services_response.service
            reflect.cancel()
        routes = cluster_pb2_grpc.ClusterStub(channel)
        watch = routes.WatchRoutes(cluster_pb2.WatchRoutesRequest(protocol_min=1, protocol_max=1))
        first = await watch.read()
        assert isinstance(first, cluster_pb2.RouteUpdate)
        assert first.snapshot
        watch.cancel()


async def test_a_worker_registers_over_grpc(tmp_path: Path) -> None:
    async with seed(tmp_path) as node, grpc.aio.insecure_channel(node.grpc) as channel:
        stream = cluster_pb2_grpc.ClusterStub(channel).Register(timeout=10)
        await stream.write(cluster_pb2.WorkerMessage(hello=hello()))
        kinds: list[str | None] = []
        for seq in range(1, 4):
            await stream.write(cluster_pb2.WorkerMessage(heartbeat=cluster_pb2.Heartbeat(seq=seq)))
            while True:
                message = await stream.read()
                assert isinstance(message, cluster_pb2.SeedMessage)
                kinds.append(message.WhichOneof("kind"))
                if kinds[-1] == "heartbeat_ack":
                    assert message.heartbeat_ack.seq == seq
                    assert message.heartbeat_ack.state == cluster_pb2.LEASE_STATE_RENEWED
                    break
        assert kinds[:2] == ["welcome", "routes"]
        await stream.write(cluster_pb2.WorkerMessage(goodbye=cluster_pb2.Goodbye()))
        while kinds[-1] != "farewell":
            message = await stream.read()
            assert isinstance(message, cluster_pb2.SeedMessage)
            kinds.append(message.WhichOneof("kind"))
        assert await stream.read() is grpc.aio.EOF


@pytest.mark.parametrize(
    ("method", "code", "why"),
    [
        ("/seedbed.v1.Cluster/Register", grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST"),
        ("/seedbed.v1.Cluster/WatchRoutes", grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST"),
        ("/seedbed.v1.Admin/ListShards", grpc.StatusCode.INVALID_ARGUMENT, "BAD_REQUEST"),
        ("/cups.Cups/Fill", grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_METHOD"),
        ("/seedbed.v1.Admin/Nothing", grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_METHOD"),
    ],
)
async def test_garbage_gets_our_own_error_and_the_seed_serves_on(
    tmp_path: Path, method: str, code: grpc.StatusCode, why: str
) -> None:
    async with seed(tmp_path) as node, grpc.aio.insecure_channel(node.grpc) as channel:
        open_stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
        open_stream = channel.stream_stream(method)
        call = open_stream(timeout=5)
        await call.write(b"\xff\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
        assert raised.value.code() == code
        assert reason(raised.value) == why
        admin = admin_pb2_grpc.AdminStub(channel)
        await admin.GetCluster(admin_pb2.GetClusterRequest(), timeout=5)


async def test_sigterm_sends_workers_elsewhere_and_exits_with_0(tmp_path: Path) -> None:
    async with seed(tmp_path) as node, grpc.aio.insecure_channel(node.grpc) as channel:
        stream = cluster_pb2_grpc.ClusterStub(channel).Register(timeout=20)
        await stream.write(cluster_pb2.WorkerMessage(hello=hello()))
        await stream.read()
        node.terminate()
        kinds: list[str | None] = []
        while True:
            message = await stream.read()
            if not isinstance(message, cluster_pb2.SeedMessage):
                break
            kinds.append(message.WhichOneof("kind"))
        assert "go_elsewhere" in kinds
        assert await node.exit_code() == 0


async def test_open_watches_do_not_hold_the_end(tmp_path: Path) -> None:
    async with seed(tmp_path) as node, grpc.aio.insecure_channel(node.grpc) as channel:
        watch = cluster_pb2_grpc.ClusterStub(channel).WatchRoutes(
            cluster_pb2.WatchRoutesRequest(protocol_min=1, protocol_max=1)
        )
        await watch.read()
        node.terminate()
        assert await node.exit_code(within=10.0) == 0
        assert await watch.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_second_signal_exits_at_once(tmp_path: Path) -> None:
    async with seed(tmp_path) as node:
        node.freeze()
        node.send(signal.SIGINT)
        node.terminate()
        node.thaw()
        assert await node.exit_code(within=5.0) != 0


@pytest.mark.parametrize(
    ("name", "value"), [("SEEDBED_ETCD", ""), ("SEEDBED_LEASE_TTL_S", "0"), ("SEEDBED_PORT", "x")]
)
async def test_a_bad_setting_is_exit_code_2_and_one_line(
    tmp_path: Path, name: str, value: str
) -> None:
    node = await start("seed", "s1", ENV | {name: value}, tmp_path, wait=False)
    assert await node.exit_code() == 2
    lines = node.log_text().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["SEEDBED_PORT", "SEEDBED_HTTP_PORT"])
async def test_a_port_in_use_is_exit_code_2_and_names_the_setting(
    tmp_path: Path, name: str
) -> None:
    async with seed(tmp_path) as first:
        address = first.grpc if name == "SEEDBED_PORT" else first.http
        port = address.rpartition(":")[2]
        second = await start("seed", "s2", ENV | {name: port}, tmp_path, wait=False)
        assert await second.exit_code() == 2
        [line] = second.log_text().splitlines()
        assert line.startswith(f"{name}: found '{port}'")


async def test_a_seed_without_etcd_goes_on_trying_and_says_so(tmp_path: Path) -> None:
    env = ENV | {"SEEDBED_ETCD": "http://127.0.0.1:1"}
    node = await start("seed", "s1", env, tmp_path, wait=False)
    try:
        async with asyncio.timeout(10):
            while "seed not ready" not in node.log_text():
                await asyncio.sleep(0.05)
        assert node.process.returncode is None
        node.terminate()
        assert await node.exit_code(within=15.0) == 0
    finally:
        if node.process.returncode is None:
            node.kill()
