"""The processes of `seedbed up`: each with a log file, none outliving us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import BinaryIO

from seedbed.cli.logline import fields_of
from seedbed.clock import SystemClock

_LAUNCHER = Path(__file__).with_name("child.py")
_TICK_S = 0.05
_LAST_LINES = 15
_LOUD = ("error", "critical")
"""Levels of log lines that are shown at once."""
_LOUD_OF_WORKERS = ("warning", *_LOUD)
"""Workers warn of what user code does wrong: show that too."""
_FOR_GOOD = "INCOMPATIBLE"
"""A worker that is refused for this reason would be refused again."""


class Interrupted(Exception):
    """Ctrl-C, or another signal that ends `up`."""


class Failed(Exception):
    """A process did not become ready."""

    def __init__(self, child: Child, why: str) -> None:
        super().__init__(why)
        self.child = child
        self.why = why


class Child:
    """One process. What it prints goes to a file, from which its READY line is read."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log
        self.ready: Mapping[str, str] | None = None
        self.refusal = ""
        """Why it is refused for good."""
        self._loud = _LOUD_OF_WORKERS if name.startswith("worker") else _LOUD
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._reader: BinaryIO = log.open("rb")
        self._reader.seek(0, os.SEEK_END)
        self._partial = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def code(self) -> int | None:
        """Exit code; negative for a signal; None while it runs."""
        return self.process.poll()

    def read(self) -> list[str]:
        """New lines of its log that say that something is wrong."""
        *lines, self._partial = (self._partial + self._reader.read()).split(b"\n")
        loud: list[str] = []
        for raw in lines:
            line = raw.decode("utf-8", "replace")
            if line.startswith("READY "):
                self.ready = json.loads(line.removeprefix("READY "))
                continue
            self.last_lines.append(line)
            if any(f'"level": "{level}"' in line for level in self._loud):
                loud.append(line)
                said = fields_of(line)
                if said.get("event") == "worker refused" and said.get("reason") == _FOR_GOOD:
                    self.refusal = str(said.get("refusal", ""))
        return loud

    def send(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def close(self) -> None:
        self._reader.close()


class Children:
    """All of them. As a scope its end leaves none running."""

    def __init__(
        self, logs: Path, *, said: Callable[[Child, str], None], ended: Callable[[Child], None]
    ) -> None:
        self._logs = logs
        self._said = said
        self._ended = ended
        self._clock = SystemClock()
        self._all: list[Child] = []
        self._gone: set[str] = set()
        self._signals = 0
        self._tick = Event()

    def __enter__(self) -> Children:
        self._old = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for child in self._all:
                child.send(signal.SIGKILL)
            for child in self._all:
                child.process.wait()
                child.close()
        finally:
            for number, handler in self._old.items():
                signal.signal(number, handler)

    def start(self, name: str, command: Sequence[str], environ: Mapping[str, str]) -> Child:
        """Start a program; its output is appended to its log file."""
        log = self._logs / f"{name}.log"
        with log.open("ab") as out:
            # A session of its own: the terminal's Ctrl-C is for us, who stop them in order.
            # Started in the main thread: the kernel watches that thread's end.
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environ,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._all.append(child)
        return child

    def wait_ready(
        self, children: Iterable[Child], limit_s: float, ready: Callable[[Child], bool]
    ) -> None:
        """Wait until all are ready; raises `Failed` or `Interrupted`."""
        waiting = list(children)
        deadline = self._clock.now_ns() + int(limit_s * 1e9)
        while waiting:
            self.tick()
            for child in list(waiting):
                if ready(child):
                    waiting.remove(child)
                elif child.refusal:
                    child.last_lines.clear()  # the refusal says it all
                    raise Failed(child, child.refusal)
                elif (code := child.code()) is not None:
                    child.read()
                    raise Failed(child, f"ended with {describe(code)} before it was ready")
                elif self._clock.now_ns() > deadline:
                    raise Failed(child, f"not ready after {limit_s:g} s")

    def tick(self) -> None:
        """Let a moment pass; show what the processes said and which ended."""
        if self._signals:
            raise Interrupted
        self._tick.wait(_TICK_S)
        self._look()

    def running(self) -> list[Child]:
        return [child for child in self._all if child.code() is None]

    def stop(self, children: Iterable[Child], limit_s: float) -> None:
        """End them in an orderly way; a second signal to us, or the limit, kills them."""
        waiting = list(children)
        for child in waiting:
            child.send(signal.SIGTERM)
        deadline = self._clock.now_ns() + int(limit_s * 1e9)
        while any(child.code() is None for child in waiting):
            if self._signals > 1 or self._clock.now_ns() > deadline:
                for child in waiting:
                    child.send(signal.SIGKILL)
            self._tick.wait(_TICK_S)
            self._look()
        self._look()

    def _look(self) -> None:
        for child in self._all:
            for line in child.read():
                self._said(child, line)
            if child.code() is not None and child.name not in self._gone:
                self._gone.add(child.name)
                self._ended(child)

    def _on_signal(self, number: int, frame: object) -> None:
        self._signals += 1


def describe(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        return signal.Signals(-code).name
    return f"code {code}"
