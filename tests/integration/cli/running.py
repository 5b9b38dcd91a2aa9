"""One `seedbed up` as a process, and what it tells."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples" / "thermostat" / "src"


class Run:
    """One `seedbed up -o json` and what it has told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, object]] = []

    async def event(self, name: str) -> dict[str, object]:
        """The next event of this name."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            async for line in self.process.stdout:
                event: dict[str, object] = json.loads(line)
                self.events.append(event)
                if event["event"] == name:
                    return event
        raise AssertionError(f"no {name!r} in {self.events}: {await self.errors()}")

    async def errors(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def end(self) -> tuple[int, str]:
        """Exit code and stderr."""
        async with asyncio.timeout(20):
            errors = await self.errors()
            return await self.process.wait(), errors

    def pids(self) -> list[int]:
        return [int(str(event["pid"])) for event in self.events if event["event"] == "ready"]


@asynccontextmanager
async def up(folder: Path, *arguments: str, **environ: str) -> AsyncGenerator[Run]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SEEDBED_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "seedbed.cli", "up", "-o", "json", *arguments),
        cwd=folder,
        env={
            **clean,
            "PYTHONPATH": f"{folder}:{ROOT / 'src'}:{EXAMPLE}",
            "TMPDIR": str(folder),
            **environ,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Run(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ran(module: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a program."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{EXAMPLE}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
        return await process.wait(), out.decode(), err.decode()
