"""One cluster of real processes, and one event after the other on it, under load."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.movement.events import EVENTS, World
from benchmarks.movement.figures import Row, row
from seedbed.sharding import MAX_SHARDS
from tests.support.cluster import Cluster, cluster
from tests.support.load import load, warm
from tests.support.waiting import now

KEYS: Final = [f"thing-{n}" for n in range(200)]
PER_S: Final = 500.0
TIMEOUT_S: Final = 5.0

ENTITIES: Final = ("tests.support.census", "tests.support.relay")
"""The first one is called; the other is there where one type may not have so many shards."""

AT_ONCE: Final = 4
"""Workers that start at the same time: more would wait for each other on a small machine."""


async def measure(
    workers: int, shards: int, events: Sequence[str], quiet_s: float
) -> AsyncGenerator[Row, None]:
    """The rows of these events, in the order of `EVENTS`."""
    async with _cluster(workers, shards) as running:
        leading = await running.until("a seed leads", lambda seen: seen.coordinator != "")
        entry = next(seed for seed in running.seeds if seed.name != leading.coordinator)
        await running.placed(workers, within=60)
        async with load([entry.grpc], KEYS, per_s=PER_S, timeout=TIMEOUT_S) as record:
            await warm(record, KEYS)
            world = World(running, entry, record, KEYS)
            for event in (name for name in EVENTS if name in events):
                await asyncio.sleep(quiet_s)
                begin = now()
                await EVENTS[event](world)
                end = now()
                await asyncio.sleep(max(quiet_s, TIMEOUT_S))  # till the last call has ended
                yield row(event, workers, shards, record, begin, end, quiet_s)


@asynccontextmanager
async def _cluster(workers: int, shards: int) -> AsyncGenerator[Cluster, None]:
    types = -(-shards // MAX_SHARDS)
    entities = ",".join(ENTITIES[:types])
    env = {"SEEDBED_SHARDS": str(shards // types), "SEEDBED_MIN_WORKERS": str(workers)}
    with tempfile.TemporaryDirectory() as folder:
        async with cluster(
            Path(folder), seeds=2, workers=0, entities=entities, seed_env=env
        ) as running:
            turns = asyncio.Semaphore(AT_ONCE)

            async def add() -> None:
                async with turns:
                    await running.add_worker()

            async with asyncio.TaskGroup() as starts:
                for _ in range(workers):
                    starts.create_task(add())
            yield running
