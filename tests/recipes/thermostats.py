"""What every recipe is run against: the thermostat example on two workers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.cluster import Cluster, cluster

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "docs" / "recipes"


@asynccontextmanager
async def thermostats(folder: Path) -> AsyncGenerator[Cluster]:
    async with cluster(
        folder, entities="thermostat.entity", seed_env={"SEEDBED_EVIDENCE": "all"}
    ) as running:
        await running.placed(2)
        yield running


async def output(
    *command: str | Path, folder: Path = ROOT, within: float = 60, **settings: str
) -> str:
    """What a command prints that must succeed; its errors are shown if it does not."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=os.environ | settings,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(within):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    said = f"{command}\n{out.decode()[-3000:]}\n{err.decode()[-3000:]}"
    assert process.returncode == 0, said
    return out.decode()
