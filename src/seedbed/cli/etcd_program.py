"""Finds an etcd that `seedbed up` can start, and says how."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seedbed.settings import Reader, bad_setting

FLOOR = (3, 5, 23)
"""Older ones renew revoked leases, or lose watch events at compaction."""

FLOOR_3_6 = (3, 6, 5)
"""So do older ones of 3.6, which are newer than `FLOOR` by their number."""

GET_ETCD = Path(__file__).resolve().parents[3] / "scripts" / "get_etcd"
"""In a checkout; it unpacks an etcd if the machine has none."""

_GET_LIMIT_S = 900.0


def find(environ: Mapping[str, str]) -> Path | None:
    """SEEDBED_ETCD_BIN, a checkout's own, or `etcd` on PATH if it is new enough; else None."""
    named = Reader(environ).text("SEEDBED_ETCD_BIN")
    if named:
        if not shutil.which(named):
            raise bad_setting("SEEDBED_ETCD_BIN", named, "a program that is there")
        return Path(named)
    if GET_ETCD.is_file():
        # What it does, and why it cannot, it says on stderr.
        run = subprocess.run(
            [sys.executable, str(GET_ETCD)],
            stdout=subprocess.PIPE,
            text=True,
            timeout=_GET_LIMIT_S,
            check=False,
        )
        if run.returncode == 0:
            return Path(run.stdout.strip())
    on_path = shutil.which("etcd")
    return Path(on_path) if on_path and fit(version(on_path)) else None


def fit(number: tuple[int, ...]) -> bool:
    """Whether an etcd of this version keeps leases and watches as we need it."""
    return number >= FLOOR and not (3, 6) <= number < FLOOR_3_6


def version(program: str) -> tuple[int, ...]:
    """Version of an etcd; (0,) if it does not run."""
    try:
        run = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return (0,)
    match = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", run.stdout)
    return tuple(map(int, match.groups())) if match else (0,)


@dataclass(frozen=True, slots=True)
class EtcdServer:
    """One etcd of our own on loopback."""

    program: Path
    data: Path
    client_port: int
    peer_port: int
    keep: bool
    """Whether its data is meant to survive the machine; else it need not wait for the disk."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.client_port}"

    def command(self) -> list[str]:
        peer = f"http://127.0.0.1:{self.peer_port}"
        return [
            str(self.program),
            "--name=up",
            f"--data-dir={self.data}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=up={peer}",
            "--auto-compaction-retention=10m",
            "--log-level=warn",
            *(() if self.keep else ("--unsafe-no-fsync",)),
        ]

    def answers(self) -> bool:
        """Whether it is healthy."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1) as response:
                return bool(response.status == 200)
        except OSError:
            return False


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports
