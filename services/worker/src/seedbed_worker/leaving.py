"""How a host's work ends when its process is to: first everything is handed off; what is left when
that takes too long ends as in a hand-off to nobody, and then is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from seedbed_worker.handing_off import HandingOff
from seedbed_worker.holds import Holds
from seedbed_worker.home import Home
from seedbed_worker.runtime import Runtime


class Leaving:
    """The two steps, for a host's entities."""

    def __init__(
        self, rt: Runtime, homes: Mapping[str, Home], holds: Holds, handing_off: HandingOff
    ) -> None:
        self._rt = rt
        self._homes = homes
        self._holds = holds
        self._handing_off = handing_off
        self._changed = handing_off.changed

    def look(self) -> None:
        """The region or the lease is another: `handed_off` may be over."""
        self._changed.set()

    async def handed_off(self, deadline_ns: int) -> bool:
        """Wait until no table names this worker any more, or it has no lease; False if it is not so
        by the deadline."""
        rt = self._rt
        return await self._until(lambda: rt.lease is None or not rt.region.owns_any(), deadline_ns)

    async def drain(self, deadline_ns: int) -> None:
        """Begin nothing more, let running calls end and the entities leave; what is left at the
        deadline is lost."""
        self._rt.region.drain()
        self._holds.refuse_all()
        self._handing_off.let_go(deadline_ns)
        await self._until(lambda: self._handing_off.is_over, deadline_ns)
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

    async def _until(self, holds: Callable[[], bool], deadline_ns: int) -> bool:
        """Wait for the condition; False if it does not hold by the deadline."""
        alarm = _Alarm(self._changed)
        tick = self._rt.timers.add(deadline_ns, alarm)
        while not (alarm.rung or holds()):
            self._changed.clear()
            await self._changed.wait()
        self._rt.timers.discard(tick, alarm)
        return not alarm.rung


class _Alarm:
    """Rings at a deadline."""

    __slots__ = ("_event", "rung")

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event
        self.rung = False

    def expire(self) -> None:
        self.rung = True
        self._event.set()
