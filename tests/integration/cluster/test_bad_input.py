"""Bad input: the right status, a text that says what to do, and everybody else is served."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from seedbed import reason
from tests.support.cluster import Cluster, cluster
from tests.support.load import add
from tests.support.processes import ROOT
from tests.support.waiting import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(90),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """One cluster for all of these: each test proves that the ones before did no harm."""
    async with cluster(tmp_path_factory.mktemp("bad"), workers=1) as started:
        await started.placed(1)
        yield started


async def refused(address: str, method: str, request: bytes) -> grpc.aio.AioRpcError:
    """The error of one raw call; fails if there is none. A good call then still works."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request, timeout=3)
        good = await rpc.CensusStub(channel).Get(pb.Person(name="good"), timeout=3)
        assert good.name == "good"
    return caught.value


PERSON = pb.Person(name="a").SerializeToString()
BAD_CALLS = [
    ("/census.v1.Census/Nothing", PERSON, "UNIMPLEMENTED", "UNKNOWN_METHOD", "Nothing"),
    ("/no.such.Service/Get", PERSON, "UNIMPLEMENTED", "UNKNOWN_METHOD", "no.such.Service"),
    ("/census.v1.Census/Get", b"", "INVALID_ARGUMENT", "BAD_KEY", "name"),
    ("/census.v1.Census/Get", b"\x08\x07", "INVALID_ARGUMENT", "BAD_KEY", "name"),
    ("/census.v1.Census/Get", b"\x0a\xff\xff", "INVALID_ARGUMENT", "BAD_REQUEST", ""),
    ("/census.v1.Census/Get", b"\x0a\x02\xff\xfe", "INVALID_ARGUMENT", "BAD_KEY", "UTF-8"),
    (
        "/census.v1.Census/Get",
        pb.Person(name="x" * 1025).SerializeToString(),
        "INVALID_ARGUMENT",
        "BAD_KEY",
        "1024",
    ),
    ("/census.v1.Census/Slow", b"\x0a\x03\x0a\x01a\x10", "INVALID_ARGUMENT", "BAD_REQUEST", ""),
    ("/census.v1.Census/Get", bytes(5 << 20), "RESOURCE_EXHAUSTED", "TOO_LARGE", "MAX_MESSAGE"),
]


@pytest.mark.parametrize(("method", "request_bytes", "code", "why", "text"), BAD_CALLS)
@pytest.mark.parametrize("entry", ["seed", "worker"])
async def test_a_wrong_call_gets_its_own_error(
    running: Cluster, entry: str, method: str, request_bytes: bytes, code: str, why: str, text: str
) -> None:
    address = running.entry if entry == "seed" else running.workers[0].grpc
    error = await refused(address, method, request_bytes)
    assert (error.code().name, reason(error)) == (code, why), error
    assert text in (error.details() or "")


@pytest.mark.parametrize(
    ("role", "method", "garbage"),
    [
        ("seed", "/seedbed.v1.Cluster/Register", b"\xff\xff\xff"),
        ("seed", "/seedbed.v1.Cluster/Register", b""),
        ("seed", "/seedbed.v1.Cluster/WatchRoutes", b"\xff\xff\xff"),
        ("worker", "/seedbed.v1.Link/Exchange", b"\xff\xff\xff"),
    ],
)
async def test_garbage_ends_only_its_own_stream(
    running: Cluster, role: str, method: str, garbage: bytes
) -> None:
    address = running.entry if role == "seed" else running.workers[0].grpc
    async with grpc.aio.insecure_channel(address) as channel:
        stream = channel.stream_stream(
            method, request_serializer=bytes, response_deserializer=bytes
        )(timeout=5)
        await stream.write(garbage)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stream:
                pass
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    async with grpc.aio.insecure_channel(running.entry) as channel:
        assert (await add(rpc.CensusStub(channel), "good", 3)).ok


async def test_a_worker_with_another_shard_count_is_refused_and_says_why(running: Cluster) -> None:
    other = await running.add_worker(wait=False, PYTHONPATH=f"{ROOT}:{ROOT / 'tests' / 'protos64'}")
    try:
        await until("it says why", lambda: "INCOMPATIBLE" in other.log_text(), within=15)
        assert "1024" in other.log_text()
        assert "64" in other.log_text()
        assert other.process.returncode is None, "it stays up, not ready"
    finally:
        other.kill()
        running.workers.remove(other)
        await other.exit_code()
    async with grpc.aio.insecure_channel(running.entry) as channel:
        assert (await add(rpc.CensusStub(channel), "good", 3)).ok


SETTINGS = [
    ("seed", {"SEEDBED_PORT": "many"}, "SEEDBED_PORT"),
    ("seed", {"SEEDBED_ETCD": ""}, "SEEDBED_ETCD"),
    ("seed", {"SEEDBED_CLUSTER": "Not A Name"}, "SEEDBED_CLUSTER"),
    ("seed", {"SEEDBED_EVIDENCE": "maybe"}, "SEEDBED_EVIDENCE"),
    ("seed", {"SEEDBED_LEASE_TTL_S": "1"}, "SEEDBED_LEASE_TTL_S"),
    ("worker", {"SEEDBED_ENTITIES": ""}, "SEEDBED_ENTITIES"),
    ("worker", {"SEEDBED_SEEDS": ""}, "SEEDBED_SEEDS"),
    ("worker", {"SEEDBED_ENTITIES": "no.such.module"}, "SEEDBED_ENTITIES"),
    ("worker", {"SEEDBED_ENTITIES": "tests.support.census:Nobody"}, "SEEDBED_ENTITIES"),
    ("worker", {"SEEDBED_JOURNAL": "file.db"}, "SEEDBED_JOURNAL"),
    (
        "worker",
        {"SEEDBED_ENTITIES": "tests.support.durable_census:DurableCensus"},
        "SEEDBED_JOURNAL: found 'none', expected a journal for tests.support.durable_census",
    ),
]


@pytest.mark.parametrize(("role", "wrong", "variable"), SETTINGS)
async def test_a_wrong_setting_stops_the_start_with_one_line(
    role: str, wrong: dict[str, str], variable: str
) -> None:
    assert variable in await one_line(role, {"SEEDBED_JOURNAL": "none"} | wrong)


@pytest.mark.parametrize("variable", ["SEEDBED_PORT", "SEEDBED_HTTP_PORT"])
@pytest.mark.parametrize("role", ["seed", "worker"])
async def test_a_port_in_use_stops_the_start_with_one_line(role: str, variable: str) -> None:
    # With settings that are worth a warning each, once the process serves.
    odd = {"SEEDBED_JOURNAL": "", "SEEDBED_POLICY": "README.md"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = await one_line(role, odd | {variable: port})
    assert line.startswith(f"{variable}: found '{port}'")


async def one_line(role: str, settings: dict[str, str]) -> str:
    """All that a process says that does not start."""
    good = {
        "SEEDBED_ETCD": "memory",
        "SEEDBED_SEEDS": "127.0.0.1:1",
        "SEEDBED_ENTITIES": "tests.support.census",
        "SEEDBED_PORT": "0",
        "SEEDBED_HTTP_PORT": "0",
        "PYTHONPATH": ".:tests/protos",
    }
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", f"seedbed_{role}"],
        env=dict(os.environ) | good | settings,
        capture_output=True,
        text=True,
        timeout=20,
    )
    lines = ended.stderr.strip().splitlines()
    assert ended.returncode == 2, ended
    assert len(lines) == 1, ended.stderr
    return lines[0]


async def test_management_answers_after_all_of_that(running: Cluster) -> None:
    for node in (running.seeds[0], running.workers[0]):
        assert json.loads(await node.fetch("/health/ready"))
        assert 'method="Get"' in await node.fetch("/metrics")
