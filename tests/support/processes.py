"""Seeds and workers as real processes on loopback, and ways to hurt them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READY_S = 60.0
EXIT_S = 30.0


@dataclass
class Node:
    """One process of ours, as its ready line described it."""

    name: str
    role: str
    env: dict[str, str]
    log: Path
    process: asyncio.subprocess.Process
    grpc: str = ""
    http: str = ""

    def send(self, sign: signal.Signals) -> None:
        self.process.send_signal(sign)

    def kill(self) -> None:
        self.send(signal.SIGKILL)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def terminate(self) -> None:
        self.send(signal.SIGTERM)

    async def fetch(self, path: str) -> str:
        """Body of a page of the management port, whatever its status."""

        def get() -> str:
            try:
                with urllib.request.urlopen(f"http://{self.http}{path}", timeout=3) as answer:
                    body: bytes = answer.read()
            except urllib.error.HTTPError as error:
                body = error.read()
            return body.decode()

        return await asyncio.to_thread(get)

    async def exit_code(self, within: float = EXIT_S) -> int:
        async with asyncio.timeout(within):
            return await self.process.wait()

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    async def ready(self, within: float = READY_S) -> None:
        """Wait for the ready line; fails with the end of the log."""
        try:
            async with asyncio.timeout(within):
                line = await self._ready_line()
        except TimeoutError:
            line = ""
        assert line, f"{self.name} is not ready\n{self.log_text()[-4000:]}"
        facts = json.loads(line.removeprefix("READY "))
        self.grpc, self.http = facts["grpc"], facts["http"]

    async def _ready_line(self) -> str:
        out = self.process.stdout
        assert out is not None
        async for raw in out:
            line = raw.decode()
            if line.startswith("READY "):
                return line
        return ""


async def start(
    role: str, name: str, env: Mapping[str, str], folder: Path, *, wait: bool = True
) -> Node:
    """Start one seed or worker; its log goes to a file in the folder."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SEEDBED_", "OTEL_"))}
    settings = {
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'protos'}",
        "SEEDBED_NODE_ID": name,
        "SEEDBED_PORT": "0",
        "SEEDBED_HTTP_PORT": "0",
        **env,
    }
    log = folder / f"{name}.log"
    with log.open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"seedbed_{role}"),
            env=inherited | settings,
            stdout=asyncio.subprocess.PIPE,
            stderr=sink,
        )
    node = Node(name, role, dict(env), log, process)
    if wait:
        await node.ready()
    return node
