"""Which entities leave memory: those that were idle for too long, and the least recently used when
there is no room."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from seedbed_worker.home import Home
from seedbed_worker.refusals import all_busy
from seedbed_worker.runtime import Runtime

AT_ONCE: Final = 1000
"""Entities that are retired before the loop goes on."""


class Sweeper:
    """Sweeps all homes of a host at times, from `start` to `stop`."""

    def __init__(self, rt: Runtime, homes: Mapping[str, Home]) -> None:
        self._rt = rt
        self._homes = homes
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Use the running loop."""
        self._sweep_later(at_once=False)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def make_room(self) -> None:
        """The least recently used leaves for a new one; raises `CallError` if none can."""
        rt = self._rt
        if rt.live < rt.limits.max_entities:
            return
        now_ns = rt.clock.now_ns()
        oldest = [(home.ages.oldest(now_ns), home) for home in self._homes.values()]
        found = [(entity.seedbed_since, home, entity) for entity, home in oldest if entity]
        if not found:
            raise all_busy(rt.live)
        _, home, entity = min(found, key=lambda one: one[0])
        home.retire(entity)

    def sweep(self) -> None:
        """Retire what is due by the clock now."""
        now_ns = self._rt.clock.now_ns()
        more = [home.sweep(now_ns, AT_ONCE) for home in self._homes.values()]
        self._sweep_later(at_once=any(more))

    def _sweep_later(self, *, at_once: bool) -> None:
        self.stop()
        timeouts = [home.ages.timeout_ns for home in self._homes.values()]
        pause_s = min(timeouts, default=0) / 64e9
        delay = 0.001 if at_once else min(max(pause_s, 0.05), 5.0)
        self._timer = asyncio.get_running_loop().call_later(delay, self.sweep)
