"""Two processes with one node id: the first keeps serving."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cluster import cluster
from tests.support.load import load, warm
from tests.support.processes import start
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

KEYS = [f"person-{n}" for n in range(20)]


async def test_on_another_address_the_second_is_told_and_the_first_serves(tmp_path: Path) -> None:
    async with cluster(tmp_path, workers=1) as running:
        before = await running.placed(1)
        first = running.workers[0]
        second = await running.add_worker(name=first.name, wait=False)
        async with load([running.entry], KEYS, per_s=50) as record:
            await warm(record, KEYS)
            await until("the second says why", lambda: "NAME_TAKEN" in second.log_text(), within=15)
        assert not record.failed, record.failed[0]
        after = await running.status()
        assert after.shards == before.shards
        assert second.process.returncode is None, "it stays up, not ready"


async def test_on_the_same_address_the_second_does_not_start(tmp_path: Path) -> None:
    async with cluster(tmp_path, workers=1) as running:
        before = await running.placed(1)
        first = running.workers[0]
        port = first.grpc.rpartition(":")[2]
        second = await start(
            "worker", first.name, {**first.env, "SEEDBED_PORT": port}, tmp_path, wait=False
        )
        assert await second.exit_code(15) == 2
        assert "SEEDBED_PORT" in second.log_text()
        assert (await running.status()).shards == before.shards


async def test_a_restart_in_place_is_let_in_and_gets_new_epochs(tmp_path: Path) -> None:
    # A long lease: what is not proved would have to wait for its end.
    env = {"SEEDBED_LEASE_TTL_S": "20"}
    async with cluster(tmp_path, workers=2, seed_env=env) as running:
        before = await running.placed(2)
        victim = running.workers[0]
        lost = before.owned_by(victim.name)
        old = before.members[victim.name].incarnation
        victim.kill()
        await victim.exit_code()
        await running.restart(victim)
        after = await running.until(
            "the restarted worker is up, and its shards are owned anew",
            lambda seen: (
                seen.is_up(victim.name, but_not=old)
                and all(seen.shards[shard][1] > before.shards[shard][1] for shard in lost)
            ),
            within=10,
        )
        kept = before.shards.keys() - lost
        assert all(after.shards[shard] == before.shards[shard] for shard in kept)
