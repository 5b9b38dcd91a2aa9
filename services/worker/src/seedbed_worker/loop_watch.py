"""Warns of a turn that blocks the event loop, with the entity and the line of the user's code.

A thread of its own looks, since a loop that stands still cannot say so. It looks at the stack of
the loop's thread only then: turns pay nothing for it. A task that user code started itself does
not show for which entity it works: then the line is named alone.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import sysconfig
import threading
from types import FrameType
from typing import Final

from seedbed.clock import Clock
from seedbed.service.logs import personal
from seedbed.service.loop_lag import LoopLag
from seedbed_worker.jobs import Job

log = logging.getLogger(__name__)

PAUSE_S: Final = 5.0
"""After a warning, none for so long: the next one says how many stalls came between."""

_LIBRARIES: Final = (
    *(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    os.path.join(os.path.dirname(os.path.dirname(inspect.getfile(LoopLag))), ""),  # seedbed
    os.path.join(os.path.dirname(inspect.getfile(Job)), ""),
    "<",
)
"""What begins like this is no code of the user's, unless nothing else is on the stack."""


class LoopWatch:
    """Watches the loop of the thread that enters it, until it leaves."""

    def __init__(self, lag: LoopLag, clock: Clock, warn_s: float) -> None:
        self._lag = lag
        self._clock = clock
        self._warn_ns = int(warn_s * 1e9)
        self._period_s = min(warn_s / 4, 0.1)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop watch", daemon=True)
        self._loop_thread = 0
        self._in_stall = False
        self._quiet_until_ns = 0
        self._untold = 0

    def __enter__(self) -> None:
        self._loop_thread = threading.get_ident()
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(self._period_s):
            stalls = self._lag.lag_ns() >= self._warn_ns
            if stalls and not self._in_stall:
                self._warn()
            self._in_stall = stalls

    def _warn(self) -> None:
        now_ns = self._clock.now_ns()
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]  documented, and no other
        job, frame = _blocking(frames.get(self._loop_thread))
        if frame is None:
            return  # it runs no Python: a frozen process, a machine without time for us
        if now_ns < self._quiet_until_ns:
            self._untold += 1
            return
        code = frame.f_code
        place = {
            "place": f"{code.co_filename}:{frame.f_lineno}",
            "function": code.co_qualname,
            "blocked_s": round((self._lag.lag_ns()) / 1e9, 3),
            "untold": self._untold,
        }
        log.warning("loop blocked", extra=place | _whose(job))
        self._quiet_until_ns = now_ns + int(PAUSE_S * 1e9)
        self._untold = 0


def _whose(job: Job | None) -> dict[str, str]:
    if job is None:
        return {}
    hosted = job.home.hosted
    whose = {
        "entity_type": hosted.contract.type,
        "entity": hosted.name,
        "method": job.method.contract.name,
    }
    return whose | personal(key=job.call.key)


def _blocking(frame: FrameType | None) -> tuple[Job | None, FrameType | None]:
    """The call that a thread works for, and the innermost frame that is the user's.

    A turn without one on the stack (it lies in an installed package) has the frame of its method.
    """
    users: FrameType | None = None
    outermost: FrameType | None = None
    while frame is not None:
        module: object = frame.f_globals.get("__name__")
        if module == "asyncio.runners":  # below is whoever started the loop
            break
        if isinstance(module, str) and module.startswith("seedbed_worker."):
            job: object = frame.f_locals.get("self")
            if isinstance(job, Job):
                return job, users or outermost or frame
        else:
            outermost = frame
            if users is None and not frame.f_code.co_filename.startswith(_LIBRARIES):
                users = frame
        frame = frame.f_back
    return None, users
