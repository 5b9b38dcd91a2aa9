"""`seedbed up`: etcd, seeds and workers as processes of this machine, until Ctrl-C."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from seedbed.cli import INSTALL, etcd_program
from seedbed.cli.children import Child, Children, Failed, Interrupted, describe
from seedbed.cli.etcd_program import EtcdServer
from seedbed.cli.failure import EXIT_FAILED, EXIT_USAGE, Form, refused, show, wrong_usage
from seedbed.cli.logline import for_people
from seedbed.cli.reflection import Reflection
from seedbed.cli.sample import Sample, sample
from seedbed.settings import Reader, addresses

FIRST_PORTS = {"seed": ("4684", "6684"), "worker": ("4685", "6685")}
"""gRPC and management port of the first process of each role; the others have any free ones."""

READY_LIMIT_S = 60.0
STOP_LIMIT_S = 27.0
"""Longer than a process gives itself."""

_SAMPLE_LIMIT_S = 5.0
_ADOPT_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What the command line says."""

    entities: str
    seeds: int
    workers: int
    data: Path | None
    free_ports: bool
    output: Form


def run_up(options: UpOptions) -> int:
    """Run the cluster; returns the exit code. Raises `Failure` for wrong usage."""
    for service in ("seedbed_seed", "seedbed_worker"):
        if importlib.util.find_spec(service) is None:
            raise wrong_usage(f"{service} is not installed; run: {INSTALL}")
    entities = options.entities or Reader(os.environ).text("SEEDBED_ENTITIES")
    if not entities:
        raise wrong_usage("--entities: not given, nor SEEDBED_ENTITIES; expected a module")
    keep = options.data is not None
    data = options.data or Path(tempfile.mkdtemp(prefix="seedbed-"))
    logs = data / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    story = Story(options.output)
    code = EXIT_FAILED
    try:
        with (
            _alone(data),
            Children(logs, said=story.said, ended=story.ended) as children,
        ):
            up = Up(options, entities, data.resolve(), keep, children, story)
            code = up.run()
    finally:
        if not keep and code == 0:
            shutil.rmtree(data, ignore_errors=True)
    return code


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Only one `up` at a time has a folder's etcd and journal. Raises `Failure`."""
    with (folder / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise wrong_usage(f"--data: another `seedbed up` uses {folder}") from None
        yield


class Story:
    """What `up` tells while it runs: lines for people, or JSON."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self.stopping = False

    def tell(self, event: str, text: str, **fields: object) -> None:
        line = json.dumps({"event": event, **fields}) if self._form is Form.JSON else text
        print(line, flush=True)

    def ready(self, child: Child, address: str, more: str = "") -> None:
        self.tell(
            "ready",
            f"{child.name:10} ready    {address:22} pid {child.pid:<8} {more}".rstrip(),
            name=child.name,
            pid=child.pid,
            **(child.ready or {"address": address}),
        )

    def said(self, child: Child, line: str) -> None:
        """A line of a log that people should see now."""
        text = line if self._form is Form.JSON else for_people(line)
        print(f"{child.name}: {text}", file=sys.stderr, flush=True)

    def ended(self, child: Child) -> None:
        code = child.code() or 0
        if self.stopping and code in (0, -signal.SIGTERM):  # etcd ends itself by the signal
            self.tell("stopped", f"{child.name:10} stopped", name=child.name)
        else:
            text = f"{child.name:10} ended with {describe(code)}; log: {child.log}"
            self.tell("ended", text, name=child.name, code=code, log=str(child.log))

    def failed(self, failure: Failed) -> None:
        """Why the start failed, with the last lines of the process's log."""
        child = failure.child
        last = "".join(f"\n    {line}" for line in child.last_lines)
        message = f"{child.name}: {failure.why}{last}\nlog: {child.log}"
        show(refused("FAILED_PRECONDITION", message), self._form)


class Up:
    """One run: start in order, watch, stop in the opposite order."""

    def __init__(
        self,
        options: UpOptions,
        entities: str,
        data: Path,
        keep: bool,
        children: Children,
        story: Story,
    ) -> None:
        self._options = options
        self._entities = entities
        self._data = data
        self._keep = keep
        self._children = children
        self._story = story
        self._seeds: list[Child] = []
        self._workers: list[Child] = []
        self._etcd: list[Child] = []
        given = os.environ.get("SEEDBED_JOURNAL") or os.environ.get("SEEDBED_JOURNAL_FILE")
        self._journal = None if given else data / "seedbed.db"
        """A journal of our own."""

    def run(self) -> int:
        code = 0
        try:
            self._start()
            while self._children.running():
                self._children.tick()
            code = EXIT_FAILED
        except Interrupted:
            self._story.tell("stopping", "\nstopping (once more to kill)")
        except Failed as failure:
            self._story.failed(failure)
            code = EXIT_USAGE if failure.child.code() == EXIT_USAGE else EXIT_FAILED
        self._story.stopping = True
        for group in (self._workers, self._seeds, self._etcd):
            self._children.stop(group, STOP_LIMIT_S)
        return code

    def _start(self) -> None:
        store, is_new = self._store()
        for number in range(self._options.seeds):
            self._seeds.append(self._member("seed", number, {"SEEDBED_ETCD": store}))
        self._await(self._seeds)
        seeds = [_grpc(child) for child in self._seeds]
        if is_new and self._journal is not None and self._journal.exists():
            self._adopt(self._journal, seeds[0])
        for number in range(self._options.workers):
            environ = {
                "SEEDBED_SEEDS": ",".join(seeds),
                "SEEDBED_ENTITIES": self._entities,
            }
            if self._journal is not None:
                environ["SEEDBED_JOURNAL"] = f"sqlite:///{self._journal}"
            self._workers.append(self._member("worker", number, environ))
        self._await(self._workers)
        self._story.tell(
            "up",
            f"\ndata and logs: {self._data}" + ("" if self._keep else " (removed at the end)"),
            data=str(self._data),
        )
        self._suggest(seeds[0])

    def _adopt(self, journal: Path, seed: str) -> None:
        """Bind the journal of an earlier run to this cluster, whose store began empty: both are
        ours alone. Raises `Failure`."""
        run = subprocess.run(
            [sys.executable, "-m", "seedbed.cli", "adopt", "--force", "--seed", seed],
            env={**os.environ, "SEEDBED_JOURNAL": f"sqlite:///{journal}"},
            capture_output=True,
            text=True,
            timeout=_ADOPT_LIMIT_S,
            check=False,
        )
        if run.returncode:
            raise refused("FAILED_PRECONDITION", f"{journal} not adopted: {run.stderr.strip()}")
        self._story.tell("adopted", f"{journal}: entities of an earlier run", journal=str(journal))

    def _store(self) -> tuple[str, bool]:
        """SEEDBED_ETCD for the seeds: what it is set to, an etcd of our own, or `memory`; and
        whether it is ours and empty."""
        given = os.environ.get("SEEDBED_ETCD", "").strip()
        program = None if given else etcd_program.find(os.environ)
        if program is not None:
            client_port, peer_port = etcd_program.free_ports(2)
            folder = self._data / "etcd"
            is_new = not folder.exists()
            server = EtcdServer(program, folder, client_port, peer_port, self._keep)
            child = self._children.start("etcd", server.command(), os.environ)
            self._etcd.append(child)
            self._children.wait_ready([child], READY_LIMIT_S, lambda _: server.answers())
            self._story.ready(child, server.url.removeprefix("http://"), str(program))
            return server.url, is_new
        store = given or "memory"
        if store == "memory":
            if self._options.seeds > 1:
                raise wrong_usage(
                    "--seeds: several seeds need etcd, and none is found"
                    " (SEEDBED_ETCD_BIN, or `etcd` on PATH, 3.5.23 or newer, of 3.6 3.6.5)"
                )
            self._story.tell(
                "memory", "no etcd: who owns what is in the seed's memory, and ends with it"
            )
        return store, store == "memory"

    def _member(self, role: str, number: int, more: Mapping[str, str]) -> Child:
        fixed = number == 0 and not self._options.free_ports
        port, http_port = FIRST_PORTS[role] if fixed else ("0", "0")
        name = f"{role}-{number + 1}"
        environ = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            # A cluster that stops as a whole has nowhere to drain to.
            "SEEDBED_DRAIN_TIMEOUT_S": os.environ.get("SEEDBED_DRAIN_TIMEOUT_S") or "1",
            "SEEDBED_NODE_ID": name,
            "SEEDBED_HOST": "127.0.0.1",
            "SEEDBED_BIND": "127.0.0.1",
            "SEEDBED_PORT": port,
            "SEEDBED_HTTP_PORT": http_port,
            **more,
        }
        return self._children.start(name, [sys.executable, "-m", f"seedbed_{role}"], environ)

    def _await(self, members: list[Child]) -> None:
        shown: set[str] = set()

        def ready(child: Child) -> bool:
            if child.ready is None:
                return False
            if child.name not in shown:
                shown.add(child.name)
                self._story.ready(child, _grpc(child), f"http://{child.ready['http']}/health/ready")
            return True

        self._children.wait_ready(members, READY_LIMIT_S, ready)

    def _suggest(self, seed: str) -> None:
        found = self._sample(seed)
        if found is None:
            return
        self._story.tell(
            "try",
            "\ntry, in another terminal:\n"
            f"  {found.seedbed()}\n  {found.grpcurl()}\n\nCtrl-C stops everything",
            method=found.method,
            request=json.loads(found.request),
            seed=seed,
        )

    def _sample(self, seed: str) -> Sample | None:
        """A call to try: as soon as the seed has heard of the workers' types."""
        with grpc.insecure_channel(seed) as channel:
            for _ in range(int(_SAMPLE_LIMIT_S / 0.05)):
                try:
                    if (found := sample(Reflection(channel), seed)) is not None:
                        return found
                except grpc.RpcError:
                    pass  # a call to try is a courtesy: the cluster runs without it
                self._children.tick()
        return None


def _grpc(child: Child) -> str:
    assert child.ready is not None
    return addresses("READY", child.ready["grpc"])[0]
