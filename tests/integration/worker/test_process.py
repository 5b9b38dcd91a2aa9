"""The worker process against a scripted seed: start, health, refusals, and the order of its end."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path

import grpc.aio
import pytest
from census.v1 import census_pb2
from grpc_health.v1 import health_pb2

from seedbed.v1 import cluster_pb2 as pb
from seedbed.v1 import link_pb2, store_pb2
from tests.integration.worker.fake_seed import FakeSeed, fake_seeds
from tests.support.processes import ROOT, Node, start
from tests.support.waiting import until

pytestmark = pytest.mark.integration

ENTITIES = "tests.support.census"


@asynccontextmanager
async def worker(
    seed: FakeSeed, folder: Path, *, wait: bool = True, **env: str
) -> AsyncGenerator[Node]:
    settings = {
        "SEEDBED_SEEDS": seed.address,
        "SEEDBED_ENTITIES": ENTITIES,
        "SEEDBED_JOURNAL": "none",
        **env,
    }
    node = await start("worker", "w1", settings, folder, wait=wait)
    try:
        yield node
    finally:
        if node.process.returncode is None:
            node.kill()
            await node.exit_code()


async def http(address: str, path: str) -> tuple[int, Mapping[str, str]]:
    """Status and checks of a health page."""

    def get() -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    status, body = await asyncio.to_thread(get)
    checks: dict[str, str] = json.loads(body)["checks"]
    return status, checks


async def ask(address: str, method: str, request: bytes) -> bytes:
    async with grpc.aio.insecure_channel(address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        return await call(request, timeout=5)


async def serving(address: str, service: str) -> bool:
    request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    reply = await ask(address, "/grpc.health.v1.Health/Check", request)
    status = health_pb2.HealthCheckResponse.FromString(reply).status
    return status == health_pb2.HealthCheckResponse.SERVING


async def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def test_a_worker_that_is_up_says_so_everywhere(tmp_path: Path) -> None:
    async with fake_seeds(1) as [seed], worker(seed, tmp_path) as node:
        for service in ("", "liveness", "readiness", "census.v1.Census"):
            assert await serving(node.grpc, service)
        assert (await http(node.http, "/health/alive"))[0] == 200
        assert (await http(node.http, "/health/ready"))[0] == 200
        hello = seed.talk.hello
        assert [(t.type, t.service, t.durable) for t in hello.types] == [
            ("census", "census.v1.Census", False)
        ]
        assert f"{hello.host}:{hello.port}" == node.grpc
        reply = await ask(node.grpc, "/seedbed.v1.Link/Identify", b"")
        identity = link_pb2.IdentifyResponse.FromString(reply)
        assert (identity.node_id, identity.incarnation) == ("w1", hello.incarnation)


async def test_the_listener_is_open_until_the_seed_has_said_farewell(tmp_path: Path) -> None:
    async with fake_seeds(1) as [seed], worker(seed, tmp_path) as node:
        seed.says_farewell = False
        node.terminate()
        said = ["draining", "goodbye"]
        await until("goodbye", lambda: seed.talk.heard_kinds() == said, within=5)
        assert await listens(node.grpc)
        assert not await serving(node.grpc, "readiness")
        assert await serving(node.grpc, "liveness")
        status, checks = await http(node.http, "/health/ready")
        assert (status, checks["drain"]) == (503, "draining")
        seed.talk.say(pb.SeedMessage(farewell=pb.Farewell()))
        assert await node.exit_code(5) == 0
        assert not await listens(node.grpc)


async def test_a_worker_leaves_without_a_farewell_too(tmp_path: Path) -> None:
    async with fake_seeds(1) as [seed], worker(seed, tmp_path) as node:
        seed.says_farewell = False
        node.terminate()
        assert await node.exit_code(5) == 0


async def test_a_worker_that_has_not_joined_leaves_at_once(tmp_path: Path) -> None:
    async with fake_seeds(1) as [seed]:
        seed.welcomes = False
        async with worker(seed, tmp_path, wait=False) as node:
            await until("hello", lambda: bool(seed.talks), within=15)
            node.terminate()
            assert await node.exit_code(2) == 0


async def test_a_drain_that_times_out_says_what_holds_it_and_ends_well(tmp_path: Path) -> None:
    async with (
        fake_seeds(1) as [seed],
        worker(seed, tmp_path, SEEDBED_DRAIN_TIMEOUT_S="0.5") as node,
    ):
        hello = seed.talk.hello
        owner = store_pb2.ShardOwner(
            node_id="w1", incarnation=hello.incarnation, host=hello.host, port=hello.port
        )
        count = 4
        mine = store_pb2.AllocationTable(
            type="census", shard_count=count, generation=5, owners=[owner],
            owner=[1] * count, epoch=[5] * count,
        )  # fmt: skip
        seed.talk.say(pb.SeedMessage(routes=pb.RouteUpdate(revision=5, tables=[mine])))
        bob = census_pb2.Person(name="bob")

        async def owned() -> bool:
            try:
                await ask(node.grpc, "/census.v1.Census/Get", bob.SerializeToString())
            except grpc.aio.AioRpcError:
                return False
            return True

        async with asyncio.timeout(5):
            while not await owned():
                await asyncio.sleep(0.02)
        slow = census_pb2.SlowRequest(person=bob, pause_ms=900)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(
                ask(node.grpc, "/census.v1.Census/Slow", slow.SerializeToString())
            )
            async with asyncio.timeout(5):
                while "seedbed_running_calls 1" not in await node.fetch("/metrics"):
                    await asyncio.sleep(0.02)
            node.terminate()
        assert census_pb2.Count.FromString(running.result()).count == 1, "what runs still answers"
        assert await node.exit_code(5) == 0
        lines = [json.loads(line) for line in node.log_text().splitlines()]
        [told] = [line for line in lines if line["event"] == "drain timed out"]
        assert (told["shards"], told["running"]) == (count, ["census/Slow"])


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with fake_seeds(1) as [seed], worker(seed, tmp_path) as node:
        seed.says_farewell = False
        node.terminate()
        await until("goodbye", lambda: "goodbye" in seed.talk.heard_kinds(), within=5)
        node.terminate()
        assert await node.exit_code(1) not in (0, None)


async def test_a_worker_whose_name_is_taken_stays_up_and_is_not_ready(tmp_path: Path) -> None:
    async with fake_seeds(1) as [seed]:
        seed.refuses = "NAME_TAKEN"
        port = str(_free_port())
        async with worker(seed, tmp_path, wait=False, SEEDBED_HTTP_PORT=port) as node:
            await until("tried twice", lambda: len(seed.talks) >= 2, within=10)
            address = f"127.0.0.1:{port}"
            status, checks = await http(address, "/health/ready")
            assert status == 503
            assert checks["registration"] == "NAME_TAKEN: as the test says"
            assert (await http(address, "/health/alive"))[0] == 200
            assert node.log_text().count("worker refused") == 1
            seed.refuses = ""
            await node.ready()
            assert (await http(address, "/health/ready"))[0] == 200
            node.terminate()
            assert await node.exit_code(5) == 0


async def test_a_class_that_cannot_be_an_entity_leaves_the_worker_up_and_not_ready(
    tmp_path: Path,
) -> None:
    (tmp_path / "broken_entity.py").write_text(
        "from census.v1 import census_pb2_grpc as rpc\n"
        "from tests.support.census import Tally\n"
        "from seedbed import Entity\n"
        "class Broken(Entity[Tally], rpc.CensusServicer, durable=False):\n"
        "    def Add(self, request, context):\n"
        "        return None\n"
    )
    async with fake_seeds(1) as [seed]:
        port = _free_port()
        env = {
            "SEEDBED_ENTITIES": "broken_entity",
            "SEEDBED_HTTP_PORT": str(port),
            "PYTHONPATH": _with_path(tmp_path),
        }
        async with worker(seed, tmp_path, wait=False, **env) as node:
            address = f"127.0.0.1:{port}"
            await until("says why", lambda: "INCOMPATIBLE" in node.log_text(), within=15)
            await until_listens(address)
            status, checks = await http(address, "/health/ready")
            assert status == 503
            assert "Add" in checks["registration"]
            assert not seed.talks
            node.terminate()
            assert await node.exit_code(5) == 0


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"SEEDBED_ENTITIES": ""}, "SEEDBED_ENTITIES"),
        ({"SEEDBED_ENTITIES": "no.such.module"}, "SEEDBED_ENTITIES"),
        ({"SEEDBED_ENTITIES": f"{ENTITIES}:Nobody"}, "SEEDBED_ENTITIES"),
        ({"SEEDBED_SEEDS": ""}, "SEEDBED_SEEDS"),
        ({"SEEDBED_PORT": "-1"}, "SEEDBED_PORT"),
        ({"SEEDBED_PORT": "TAKEN"}, "SEEDBED_PORT"),
        ({"SEEDBED_HTTP_PORT": "TAKEN"}, "SEEDBED_HTTP_PORT"),
    ],
)
async def test_bad_settings_are_one_line_and_exit_code_2(
    env: dict[str, str], named: str, tmp_path: Path
) -> None:
    async with fake_seeds(1) as [seed]:
        taken = seed.address.rpartition(":")[2]
        env = {name: taken if text == "TAKEN" else text for name, text in env.items()}
        async with worker(seed, tmp_path, wait=False, **env) as node:
            assert await node.exit_code(15) == 2
            [line] = node.log_text().splitlines()
            assert line.startswith(named)


def durable(folder: Path) -> dict[str, str]:
    """Settings of a worker with a durable class, and a SQLite file in this folder."""
    return {
        "SEEDBED_ENTITIES": "tests.support.durable_census:DurableCensus",
        "SEEDBED_JOURNAL": f"sqlite:///{folder}/seedbed.db",
    }


async def test_a_durable_worker_shows_its_journal_and_the_cluster_that_it_is_bound_to(
    tmp_path: Path,
) -> None:
    async with fake_seeds(1) as [seed]:
        for bound in ("", "uid-1"):
            async with worker(seed, tmp_path, wait=True, **durable(tmp_path)) as node:
                shown = seed.talk.hello.journal
                assert shown.cluster_uid == bound
                assert shown.journal_id in node.log_text()
            assert all(talk.hello.journal.journal_id == shown.journal_id for talk in seed.talks)


async def test_one_whose_journal_is_anothers_says_goodbye_and_no_heartbeat(tmp_path: Path) -> None:
    async with fake_seeds(1) as [seed]:
        async with worker(seed, tmp_path, wait=True, **durable(tmp_path)):
            pass
        seed.cluster_uid = "uid-2"
        async with worker(seed, tmp_path, wait=False, **durable(tmp_path)) as node:
            await until("it has gone", lambda: "goodbye" in seed.talk.heard_kinds(), within=10)
            assert seed.talk.beats == []
            assert "WRONG_JOURNAL" in node.log_text()
            assert node.process.returncode is None, "it stays up, for whoever looks"


async def test_one_that_cannot_commit_is_never_registered(tmp_path: Path) -> None:
    """So a roll-out stops at its first pod, and goes on by itself when the journal is there."""
    async with fake_seeds(1) as [seed]:
        async with worker(seed, tmp_path, wait=True, **durable(tmp_path)):
            pass
        hellos = len(seed.talks)
        with closing(sqlite3.connect(tmp_path / "seedbed.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            port = str(_free_port())
            env = durable(tmp_path) | {"SEEDBED_HTTP_PORT": port}
            async with worker(seed, tmp_path, wait=False, **env) as node:
                await until(
                    "it says so", lambda: "journal not opened" in node.log_text(), within=20
                )
                node.http = f"127.0.0.1:{port}"
                assert "database is locked" in await node.fetch("/health/ready")
                assert len(seed.talks) == hellos
                other.execute("ROLLBACK")
                await node.ready()
            assert seed.talks[hellos].hello.journal.cluster_uid == "uid-1"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _with_path(folder: Path) -> str:
    return f"{ROOT}:{ROOT / 'tests' / 'protos'}:{folder}"


async def until_listens(address: str) -> None:
    async with asyncio.timeout(10):
        while not await listens(address):
            await asyncio.sleep(0.05)
