"""How a service process begins and ends: signals, exit codes, the READY line.

async def serve(stop: asyncio.Event) -> None: ...    # reads its settings, serves, drains

sys.exit(lifecycle.run(serve))
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from types import FrameType

import uvloop

from seedbed.errors import SettingsError
from seedbed.service import logs

log = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_SETTINGS = 2

EXIT_LIMIT_S = 25.0
"""From the first signal to the process's end, whatever it is still doing."""


def run(
    serve: Callable[[asyncio.Event], Awaitable[None]], *, exit_limit_s: float = EXIT_LIMIT_S
) -> int:
    """Run `serve` on uvloop until it returns; returns the process's exit code.

    The first SIGTERM or SIGINT sets the event that `serve` is given; a second one, or
    `exit_limit_s`, ends the process at once. A `SettingsError` is printed as its one line.
    """
    # A second message about a port in use, from gRPC's own core, would stand beside ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    faulthandler.enable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_guarded(serve, exit_limit_s))
    except BaseException as error:
        return _failure(error)


def print_ready(role: str, node: str, *, grpc: str, http: str) -> None:
    """Tell whoever started this process that it serves, and where."""
    line = json.dumps({"role": role, "node": node, "grpc": grpc, "http": http})
    try:
        print(f"READY {line}", flush=True)  # noqa: T201  the READY line is an interface
    except OSError:
        log.warning("ready line not written", extra={"ready": line})


async def _guarded(serve: Callable[[asyncio.Event], Awaitable[None]], exit_limit_s: float) -> int:
    stop = asyncio.Event()
    _on_signals(asyncio.get_running_loop(), stop, exit_limit_s)
    await serve(stop)
    return EXIT_OK


def _on_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, exit_limit_s: float) -> None:
    # Plain handlers, not the loop's: the second signal must also end a process whose loop hangs.
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        limit = threading.Timer(exit_limit_s, _give_up, (exit_limit_s,))
        limit.daemon = True
        limit.start()
        loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


def _give_up(exit_limit_s: float) -> None:
    log.error("not stopped in time", extra={"limit_s": exit_limit_s})
    logs.release()
    os._exit(EXIT_FAILED)


def _failure(error: BaseException) -> int:
    """Say what ended the process; returns its exit code."""
    settings = _settings_error(error)
    if settings is not None:
        print(" ".join(str(settings).split()), file=sys.stderr, flush=True)  # noqa: T201
        # Exactly one line: what is half built has nothing to save, only destructors that complain.
        os._exit(EXIT_SETTINGS)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else EXIT_FAILED
    log.critical("process failed", exc_info=error)
    return EXIT_FAILED


def _settings_error(error: BaseException) -> SettingsError | None:
    """The settings error itself, or the one that a task group wrapped."""
    found = BaseExceptionGroup("", [error]).subgroup(SettingsError)
    while found is not None:
        inner = found.exceptions[0]
        if isinstance(inner, SettingsError):
            return inner
        found = inner
    return None
