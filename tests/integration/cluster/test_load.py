"""The load of the movement tests, on a cluster where nothing happens, and where a worker dies."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.support import effects, witness
from tests.support.cluster import cluster
from tests.support.load import back, check_calls, load, warm
from tests.support.pauses import in_ms, moved_keys, pauses, quantile
from tests.support.waiting import now
from tests.support.watchers import watching

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

KEYS = [f"thing-{n}" for n in range(200)]
PER_S = 500.0


async def test_the_load_is_cheap_and_a_quiet_cluster_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    file = tmp_path / "effects"
    env = {witness.FILE: str(file)}
    async with cluster(tmp_path, seeds=2, entities=effects.ENTITIES, worker_env=env) as running:
        await running.placed(2)
        seeds = [seed.grpc for seed in running.seeds]
        async with (
            watching(seeds, KEYS[:5]) as streams,
            load(seeds, KEYS, per_s=PER_S) as record,
        ):
            await warm(record, KEYS)
            await streams.opened()
            begin, cpu = now(), time.process_time()
            await asyncio.sleep(6)  # the length of the measurement
            took_s, cpu = now() - begin, time.process_time() - cpu
        calls = record.since(begin)
        print(f"driver: {cpu / took_s:.0%} of a core, {cpu / len(calls) * 1e6:.0f} us a call")
        print(f"calls: {in_ms(call.took for call in calls)}; {record.summary()}")
        assert not record.failed, record.failed[0]
        assert len(calls) >= 0.95 * PER_S * took_s, "the driver does not keep its rate"
        assert quantile(pauses(record, begin, now()).values(), 0.5) < 0.25
        assert streams.ends == []
        effects.check_effects(record.calls, effects.effects_of(file))


async def test_a_worker_that_dies_under_the_load(tmp_path: Path) -> None:
    file = tmp_path / "effects"
    async with cluster(
        tmp_path,
        workers=3,
        entities=effects.ENTITIES,
        seed_env={"SEEDBED_EVIDENCE": "all"},
        worker_env={witness.FILE: str(file)},
    ) as running:
        await running.placed(3)
        async with (
            watching([running.entry], KEYS[:10]) as streams,
            load([running.entry], KEYS, per_s=PER_S) as record,
        ):
            await warm(record, KEYS)
            await streams.opened()
            strike = now()
            running.workers[1].kill()
            await back(record, KEYS, strike, within=6)
            await streams.reopened()
            end = now()
        moved = moved_keys(record, strike - 2, end)
        waits = pauses(record, strike - 1, end, moved)
        print(f"pause of {len(moved)} keys: {in_ms(waits.values())}; {record.summary()}")
        print(f"streams: {len(streams.ends)} ended, back after {in_ms(streams.back_s)}")
        check_calls(record, 5)
        assert moved
        assert streams.ends, "none was on the worker that died"
        streams.check(within=2)
        effects.check_effects(record.calls, effects.effects_of(file))
