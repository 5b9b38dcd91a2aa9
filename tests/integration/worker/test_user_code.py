"""A worker process with a user's module: its resources, and what it says of mistakes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
from census.v1 import census_pb2 as pb
from census.v1 import census_pb2_grpc as rpc

from tests.support.processes import ROOT, Node, start
from tests.support.waiting import until

pytestmark = pytest.mark.integration

HEADER = """
import asyncio
import time
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from census.v1 import census_pb2 as pb, census_pb2_grpc as rpc
from seedbed import Entity

def note(text):
    with (Path(__file__).parent / "notes").open("a") as notes:
        notes.write(text + "\\n")
"""

POOLED = """
class Counter(Entity, rpc.CensusServicer, durable=False):
    def __init__(self, pool):
        self.pool = pool

    async def Add(self, request, context):
        return pb.Count(name=self.key, count=len(self.pool))

    async def deactivating(self):
        note(f"{self.key} leaves, {len(self.pool)} in the pool")

@asynccontextmanager
async def entities():
    pool = ["connection"]
    note("in")
    async with asyncio.TaskGroup():
        yield [partial(Counter, pool)]
    pool.clear()
    note("out")
    LEAVING
"""


@asynccontextmanager
async def worker(
    folder: Path, module: str, *, wait: bool = True, seeds: str = "127.0.0.1:1", **env: str
) -> AsyncGenerator[Node]:
    (folder / "shop.py").write_text(HEADER + module)
    settings = {
        "SEEDBED_SEEDS": seeds,
        "SEEDBED_ENTITIES": "shop:entities",
        "SEEDBED_JOURNAL": "none",
        "SEEDBED_DRAIN_TIMEOUT_S": "1",  # it is alone: nobody could take its shards
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'protos'}:{folder}",
        **env,
    }
    node = await start("worker", "w1", settings, folder, wait=wait)
    try:
        yield node
    finally:
        await killed(node)


@asynccontextmanager
async def memory_seed(folder: Path) -> AsyncGenerator[Node]:
    node = await start("seed", "s1", {"SEEDBED_ETCD": "memory", "SEEDBED_SHARDS": "8"}, folder)
    try:
        yield node
    finally:
        await killed(node)


async def killed(node: Node) -> None:
    if node.process.returncode is None:
        node.kill()
        await node.exit_code()


def notes(folder: Path) -> list[str]:
    path = folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


async def add(address: str, name: str) -> pb.Count:
    async with grpc.aio.insecure_channel(address) as channel:
        return await rpc.CensusStub(channel).Add(pb.Person(name=name), timeout=20)


def events(node: Node, name: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in node.log_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


async def test_resources_are_there_before_ready_and_until_the_last_entity_has_left(
    tmp_path: Path,
) -> None:
    async with memory_seed(tmp_path) as seed:
        module = POOLED.replace("LEAVING", "")
        async with worker(tmp_path, module, seeds=seed.grpc) as node:
            assert notes(tmp_path) == ["in"]
            assert (await add(seed.grpc, "kate")).count == 1
            node.terminate()
            assert await node.exit_code(10) == 0
    assert notes(tmp_path) == ["in", "kate leaves, 1 in the pool", "out"]


async def test_what_fails_in_leaving_is_logged_and_the_exit_code_stays(tmp_path: Path) -> None:
    module = POOLED.replace("LEAVING", "raise OSError('closed twice')")
    async with memory_seed(tmp_path) as seed, worker(tmp_path, module, seeds=seed.grpc) as node:
        node.terminate()
        assert await node.exit_code(10) == 0
        [event] = events(node, "resources not left")
        assert event["function"] == "shop:entities"
        assert "closed twice" in str(event["error"])
    assert notes(tmp_path) == ["in", "out"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("    raise ConnectionError('no database')", "raises ConnectionError: no database ("),
        ("    await asyncio.sleep(60)", "was not entered within 0.2 s (SEEDBED_RESOURCES_TIMEOUT"),
    ],
)
async def test_what_fails_in_entering_is_one_line_and_exit_code_2(
    body: str, expected: str, tmp_path: Path
) -> None:
    module = f"@asynccontextmanager\nasync def entities():\n{body}\n    yield []\n"
    limit = {"SEEDBED_RESOURCES_TIMEOUT_S": "0.2"}
    async with worker(tmp_path, module, wait=False, **limit) as node:
        assert await node.exit_code(15) == 2
        [line] = node.log_text().splitlines()
        assert line.startswith("SEEDBED_ENTITIES: ")
        assert "shop:entities" in line
        assert expected in line


async def test_a_signal_while_entering_ends_the_worker(tmp_path: Path) -> None:
    module = (
        "@asynccontextmanager\nasync def entities():\n    note('in')\n"
        "    try:\n        await asyncio.sleep(60)\n    finally:\n        note('given up')\n"
        "    yield []\n"
    )
    async with worker(tmp_path, module, wait=False) as node:
        await until("it enters", lambda: notes(tmp_path) == ["in"], within=15)
        node.terminate()
        assert await node.exit_code(5) == 0
        assert "worker draining" not in node.log_text()
    assert notes(tmp_path) == ["in", "given up"]


BLOCKING = """
class Counter(Entity, rpc.CensusServicer, durable=False):
    async def Add(self, request, context):
        await asyncio.sleep(0)
        think()
        return pb.Count(name=self.key)

def think():
    time.sleep(0.6)  # here

@asynccontextmanager
async def entities():
    yield [Counter]
"""


async def test_a_turn_that_blocks_the_loop_is_warned_of_once_with_its_line(tmp_path: Path) -> None:
    async with memory_seed(tmp_path) as seed:
        async with worker(tmp_path, BLOCKING, seeds=seed.grpc) as node:
            # Two stalls, and one warning: the second is within the pause.
            await asyncio.wait_for(add(seed.grpc, "kate"), 20)
            await asyncio.wait_for(add(seed.grpc, "jane"), 20)
            node.terminate()
            assert await node.exit_code(10) == 0
        lines = (tmp_path / "shop.py").read_text().splitlines()
        number = 1 + next(n for n, line in enumerate(lines) if "# here" in line)
        [event] = events(node, "loop blocked")
        assert event["level"] == "warning"
        assert (event["entity_type"], event["entity"]) == ("census", "shop:Counter")
        assert (event["method"], event["function"]) == ("Add", "think")
        assert event["place"] == f"{tmp_path / 'shop.py'}:{number}"
        assert 0.25 <= float(str(event["blocked_s"])) < 0.6
        assert "kate" not in node.log_text()


async def test_a_turn_that_blocks_for_less_than_the_setting_says_is_not_warned_of(
    tmp_path: Path,
) -> None:
    async with memory_seed(tmp_path) as seed:
        async with worker(tmp_path, BLOCKING, seeds=seed.grpc, SEEDBED_LOOP_WARN_S="5") as node:
            await asyncio.wait_for(add(seed.grpc, "kate"), 20)
            node.terminate()
            assert await node.exit_code(10) == 0
        assert events(node, "loop blocked") == []


async def test_the_key_of_a_blocking_turn_is_told_at_debug_level(tmp_path: Path) -> None:
    async with (
        memory_seed(tmp_path) as seed,
        worker(tmp_path, BLOCKING, seeds=seed.grpc, SEEDBED_LOG="debug") as node,
    ):
        await asyncio.wait_for(add(seed.grpc, "kate"), 20)
        [event] = events(node, "loop blocked")
        assert event["key"] == "kate"
        assert re.fullmatch(r".*/shop\.py:\d+", str(event["place"]))
