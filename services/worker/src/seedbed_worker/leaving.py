"""How a host's work ends when its process is to: first everything is handed off; what is left when
that takes too long may end, and then is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from seedbed_worker.holds import Holds
from seedbed_worker.home import Home
from seedbed_worker.runtime import Runtime
from seedbed_worker.sweeper import AT_ONCE


class Leaving:
    """The two steps, for a host's entities."""

    def __init__(self, rt: Runtime, homes: Mapping[str, Home], holds: Holds) -> None:
        self._rt = rt
        self._homes = homes
        self._holds = holds
        self._changed = asyncio.Event()

    def look(self) -> None:
        """The region or the lease is another: `handed_off` may be over."""
        self._changed.set()

    async def handed_off(self, deadline_ns: int) -> bool:
        """Wait until no table names this worker any more, or it has no lease; False if it is not so
        by the deadline."""
        rt = self._rt
        alarm = _Alarm(self._changed)
        tick = rt.timers.add(deadline_ns, alarm)
        while rt.lease is not None and rt.region.owns_any() and not alarm.rung:
            self._changed.clear()
            await self._changed.wait()
        rt.timers.discard(tick, alarm)
        return not alarm.rung

    async def drain(self, deadline_ns: int) -> None:
        """Begin nothing more, let running calls end, then let the entities leave."""
        rt = self._rt
        rt.draining = True
        rt.region.drain()
        self._holds.refuse_all()
        for home in self._homes.values():
            home.refuse_waiting([*home.calls, *home.streams])
        alarm = _Alarm(rt.quiet)
        tick = rt.timers.add(deadline_ns, alarm)
        await self._until_quiet(alarm)
        for home in self._homes.values():
            for entity in list(home.entities.values()):
                if alarm.rung:
                    break
                home.retire(entity)
                if rt.calls >= AT_ONCE:
                    await self._until_quiet(alarm)
        await self._until_quiet(alarm)
        rt.timers.discard(tick, alarm)
        for home in self._homes.values():
            home.lose(list(home.shards.values()))

    def running(self) -> list[str]:
        """The methods that run, each once, as `type/Method`."""
        return sorted(
            {
                f"{type_}/{job.method.contract.name}"
                for type_, home in self._homes.items()
                for job in home.calls
                if job.handed
            }
        )

    async def _until_quiet(self, alarm: _Alarm) -> None:
        while self._rt.calls and not alarm.rung:
            self._rt.quiet.clear()
            await self._rt.quiet.wait()


class _Alarm:
    """Rings at a deadline."""

    __slots__ = ("_event", "rung")

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event
        self.rung = False

    def expire(self) -> None:
        self.rung = True
        self._event.set()
