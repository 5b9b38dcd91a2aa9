"""What a newcomer does: `seedbed up`, a call, a look at the cluster, a crash, Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.integration.cli.running import Run, ran, up
from tests.support.waiting import now

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

GET = "thermostat.v1.Thermostat/Get"
READING = '{"device_id": "kitchen", "celsius": 20.5}'


async def shown(*arguments: str) -> str:
    """What a command of `seedbed` prints as JSON."""
    code, out, err = await ran("seedbed.cli", *arguments, "-o", "json")
    assert code == 0, err
    return out


async def called(method: str, request: str, seed: str) -> dict[str, object]:
    """The reply of a call."""
    reply: dict[str, object] = json.loads(
        await shown("call", method, request, "--seed", seed, "--timeout", "10")
    )
    return reply


async def listed(seed: str, field: str, *command: str) -> list[dict[str, object]]:
    """The entries of a listing."""
    listing: dict[str, list[dict[str, object]]] = json.loads(await shown(*command, "--seed", seed))
    return listing[field]


async def cluster(run: Run) -> tuple[str, str]:
    """The seed's address and the method of the call to try, once all is up."""
    tried = await run.event("try")
    assert tried["request"] == {"device_id": "demo", "celsius": 20.5}
    return str(tried["seed"]), str(tried["method"])


async def test_a_newcomer_calls_looks_kills_and_stops(tmp_path: Path) -> None:
    arguments = ("--entities", "thermostat.entity", "--free-ports", "--data", "data")
    async with up(tmp_path, *arguments, SEEDBED_EVIDENCE="all") as run:
        seed, method = await cluster(run)
        pids = {str(e["name"]): int(str(e["pid"])) for e in run.events if e["event"] == "ready"}
        assert sorted(pids) == ["etcd", "seed-1", "worker-1", "worker-2"]

        status = await called(method, READING, seed)
        assert status["device_id"] == "kitchen"
        code, out, err = await ran("thermostat.client", "target", "kitchen", "21", "--entry", seed)
        assert (code, err) == (0, "")
        assert out.startswith("kitchen: 20.5 °C, target 21 °C, heating on, 1 readings")

        members = await listed(seed, "members", "members")
        assert {str(m["node_id"]): m["status"] for m in members} == {
            "seed-1": "UP",
            "worker-1": "UP",
            "worker-2": "UP",
        }
        shards = await listed(seed, "shards", "shards", "thermostat")
        assert len(shards) == 1024
        assert {shard["owner"] for shard in shards} == {"worker-1", "worker-2"}

        os.kill(pids[str(status["worker"])], signal.SIGKILL)
        began = now()
        again = await called(GET, '{"device_id": "kitchen"}', seed)
        assert again["worker"] != status["worker"]
        assert now() - began < 10

        run.process.send_signal(signal.SIGINT)
        code, _ = await run.end()
        assert code == 0
        assert (tmp_path / "data" / "logs" / "seed-1.log").stat().st_size


async def test_a_cluster_without_etcd_keeps_its_state_in_the_seed(tmp_path: Path) -> None:
    arguments = ("--entities", "thermostat.entity", "--free-ports", "--workers", "1")
    async with up(tmp_path, *arguments, SEEDBED_ETCD="memory") as run:
        seed, method = await cluster(run)
        assert (await called(method, READING, seed))["worker"] == "worker-1"
        run.process.send_signal(signal.SIGINT)
        assert (await run.end())[0] == 0


NO_ENTITY = """
from seedbed import Entity
from thermostat.v1 import thermostat_pb2 as pb, thermostat_pb2_grpc as pb_grpc

class Thermostat(Entity[pb.ThermostatState], pb_grpc.ThermostatServicer):
    def Report(self, request, context):
        return pb.Status()
"""


async def test_a_class_that_cannot_be_an_entity_ends_it_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(NO_ENTITY)
    arguments = ("--entities", "wrong", "--free-ports", "--workers", "1")
    async with up(tmp_path, *arguments, SEEDBED_ETCD="memory") as run:
        code, errors = await run.end()
        assert code == 1
        failure = json.loads(errors.splitlines()[-1])
        assert failure["message"].startswith(f"worker-1: {tmp_path}/wrong.py:6: method")
        assert "must be `async def`" in failure["message"]


async def test_what_workers_warn_of_is_shown(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text(NO_ENTITY.replace("def Report", "async def Report"))
    arguments = ("--entities", "half", "--free-ports", "--workers", "1")
    async with up(tmp_path, *arguments, SEEDBED_ETCD="memory") as run:
        await cluster(run)
        run.process.send_signal(signal.SIGINT)
        code, errors = await run.end()
        assert code == 0
        warned = [line for line in errors.splitlines() if '"method not implemented"' in line]
        assert len(warned) == 4


async def test_entities_that_are_not_there_are_wrong_usage(tmp_path: Path) -> None:
    arguments = ("--entities", "no.such.module", "--free-ports", "--workers", "1")
    async with up(tmp_path, *arguments, SEEDBED_ETCD="memory") as run:
        code, errors = await run.end()
        assert code == 2
        assert "SEEDBED_ENTITIES" in errors


@pytest.mark.parametrize("store", ["etcd", "memory", "a lost etcd"])
async def test_entities_are_there_again_with_the_same_data(tmp_path: Path, store: str) -> None:
    arguments = ("--entities", "thermostat.entity", "--free-ports", "--workers", "1")
    environ = {"SEEDBED_ETCD": "memory"} if store == "memory" else {}
    for readings in (1, 2):
        async with up(tmp_path, *arguments, "--data", "data", **environ) as run:
            seed, method = await cluster(run)
            assert (await called(method, READING, seed))["readings"] == readings
            run.process.send_signal(signal.SIGINT)
            assert (await run.end())[0] == 0
        adopted = [event["event"] for event in run.events].count("adopted")
        assert adopted == (readings == 2 and store != "etcd")
        if store == "a lost etcd":
            shutil.rmtree(tmp_path / "data" / "etcd")


async def test_a_folder_is_one_clusters_at_a_time(tmp_path: Path) -> None:
    one_worker = ("--entities", "thermostat.entity", "--free-ports", "--workers", "1")
    arguments = (*one_worker, "--data", "data")
    async with up(tmp_path, *arguments, SEEDBED_ETCD="memory") as run:
        await cluster(run)
        async with up(tmp_path, *arguments, SEEDBED_ETCD="memory") as second:
            code, errors = await second.end()
            assert code == 2
            assert "another `seedbed up` uses" in errors
