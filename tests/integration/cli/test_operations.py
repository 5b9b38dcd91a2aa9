"""Operators' commands against a cluster of real processes, through a seed that does not lead."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster, cluster
from tests.support.processes import Node

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


class Operator:
    """Runs `seedbed` against one seed."""

    def __init__(self, seed: Node) -> None:
        self.seed = seed

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        process = await self.start(*arguments)
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "seedbed.cli", *arguments),
            *("-o", "json", "--seed", self.seed.grpc),
            env={k: v for k, v in os.environ.items() if not k.startswith("SEEDBED_")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    # (Any: the JSON of whichever message.)
    async def done(self, *arguments: str) -> Any:
        """The JSON that a command prints which ends with 0."""
        code, out, err = await self.run(*arguments)
        assert (code, err) == (0, ""), f"{arguments}: {code} {err}"
        return json.loads(out.splitlines()[-1])

    async def refused(self, *arguments: str) -> str:
        """Why a command ends with 1."""
        code, out, err = await self.run(*arguments)
        assert (code, out) == (1, ""), f"{arguments}: {code} {out} {err}"
        return str(json.loads(err)["message"])

    async def until(self, holds: Callable[[dict[int, str]], bool]) -> None:
        """Wait until the owners of census's shards are such, and none is on its way."""
        owners: dict[int, str] = {}
        try:
            async with asyncio.timeout(30):
                while True:
                    listed = (await self.done("shards", "census"))["shards"]
                    owners = {s["shard"]: s["owner"] for s in listed}
                    if holds(owners) and not any(s["next_owner"] for s in listed):
                        return
        except TimeoutError:
            raise AssertionError(f"owners stay {owners}") from None


@asynccontextmanager
async def three_workers(folder: Path) -> AsyncGenerator[tuple[Cluster, Operator]]:
    async with cluster(
        folder,
        seeds=2,
        workers=3,
        seed_env={"SEEDBED_SHARDS": "16", "SEEDBED_REBALANCE_INTERVAL_S": "3600"},
    ) as running:
        status = await running.placed(3)
        other = next(seed for seed in running.seeds if seed.name != status.coordinator)
        yield running, Operator(other)


async def test_workers_are_emptied_and_shards_moved_as_operators_say(tmp_path: Path) -> None:
    async with three_workers(tmp_path) as (running, it):
        one, two, three = (worker.name for worker in running.workers)

        assert (await it.done("cordon", three))["member"]["cordoned"] is True
        drained = await it.done("drain", two, "--watch")
        assert (drained["member"]["shards"], drained["note"]) == (0, "")
        await it.until(lambda owners: two not in owners.values())
        members = {m["node_id"]: m for m in (await it.done("members"))["members"]}
        assert members[two]["status"] == "DRAINING"
        assert members[three]["cordoned"] is True
        for node in (two, three):
            assert (await it.done("uncordon", node))["member"]["cordoned"] is False

        moved = (await it.done("move", "census", "0-1", two))["shards"]
        assert all(two in (shard["owner"], shard["next_owner"]) for shard in moved)
        await it.until(lambda owners: owners[0] == owners[1] == two)

        pinned = (await it.done("pin", "census", "2,5", three))["shards"]
        assert [(s["shard"], s["pinned"]) for s in pinned] == [(2, three), (5, three)]
        await it.until(lambda owners: owners[2] == owners[5] == three)
        assert [s["pinned"] for s in (await it.done("unpin", "census", "2,5"))["shards"]] == [
            "",
            "",
        ]

        await it.done("freeze", "no moves today")
        assert (await it.done("status"))["frozen_reason"] == "no moves today"
        assert "no moves today" in await it.refused("rebalance", "--apply")
        await it.done("unfreeze")

        plan = await it.done("rebalance", "--plan")
        assert plan["applied"] is False
        assert (await it.done("rebalance", "--apply"))["applied"] is True

        assert "no worker 'nobody'" in await it.refused("drain", "nobody")
        assert "no entity type 'mug'" in await it.refused("move", "mug", "1", one)
        assert "has no shard 16" in await it.refused("pin", "census", "16", one)
        assert (await it.run("move", "census", "x", one))[0] == 2


async def test_events_tell_of_a_drain_and_go_on_over_a_seeds_restart(tmp_path: Path) -> None:
    async with three_workers(tmp_path) as (running, it):
        one = running.workers[0].name
        following = await it.start("events")
        assert following.stdout is not None

        async def until(kind: str, node: str) -> dict[str, Any]:
            assert following.stdout is not None
            async with asyncio.timeout(30):
                async for line in following.stdout:
                    told: dict[str, Any] = json.loads(line)
                    if told["kind"] == kind and node in (told["node_id"], told["from_node"]):
                        return told
            raise AssertionError("the events ended")

        await it.done("drain", one)
        assert (await until("ORDER", one))["message"] == f"{one} is to drain"
        assert (await until("MOVE_BEGUN", one))["shards"]
        assert (await until("MOVED", one))["took_ms"] > 0

        it.seed.process.send_signal(signal.SIGTERM)
        await it.seed.exit_code()
        it.seed = await running.restart(it.seed)
        await it.done("uncordon", one)
        assert (await until("ORDER", one))["message"] == f"{one} is to drain no more"
        following.send_signal(signal.SIGINT)
        async with asyncio.timeout(10):
            _, errors = await following.communicate()
        assert following.returncode == 0
        said = [json.loads(line)["code"] for line in errors.decode().splitlines()]
        assert said == ["UNAVAILABLE"], "once"
