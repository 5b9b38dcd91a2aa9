"""Shards on their way to another worker: what has begun on them ends, their entities leave memory,
and then they are released.

Each shard goes by itself. Calls in line that have not begun are refused, so that their router holds
them back for the next owner: a hand-off waits for the turns that run, never for a queue. At a
shard's limit whatever is left of it is given up; the clock, asked before every turn and answer, has
the last word (`Shard.serves`), so that a busy loop answers nothing late.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import TypeAlias

from seedbed.routing import Release
from seedbed_worker.cells import Exit, Shard
from seedbed_worker.home import Home
from seedbed_worker.runtime import Runtime
from seedbed_worker.sweeper import AT_ONCE

log = logging.getLogger(__name__)

Released: TypeAlias = Callable[[int, int], object]
"""Told how many shards were released with nothing left of them, and how many at their limit."""


class HandingOff:
    """The shards of a host that are in hand-off. Used in the loop only."""

    def __init__(self, rt: Runtime, homes: Mapping[str, Home], released: Released) -> None:
        self._rt = rt
        self._homes = homes
        self._tell = released
        self._under_way: dict[Release, _Departing] = {}
        self._over: list[Release] = []
        self._late: list[_Departing] = []
        self._flushing = False
        self.retirement = _Retirement()
        self.changed = asyncio.Event()
        """Set when less is under way."""

    @property
    def is_over(self) -> bool:
        """Nothing is under way."""
        return not self._under_way

    def look(self) -> None:
        """The region has other tables: forget what they have ended, begin what they began."""
        self._flush()
        region = self._rt.region
        for release, departing in list(self._under_way.items()):
            if region.owned(release.type, release.shard) != release.epoch:
                del self._under_way[release]
                departing.forget_limit()
        begun: list[_Departing] = []
        for (type_, number), leaving in region.view.leaving.items():
            release = Release(type_, number, leaving.epoch)
            if release in self._under_way or region.owned(type_, number) != leaving.epoch:
                continue
            home = self._homes.get(type_)
            shard = home.shards.get(number) if home is not None else None
            if home is None or shard is None or shard.epoch != leaving.epoch:
                self._over.append(release)  # nothing of it is in memory
            else:
                departing = _Departing(self, self._rt, home, shard, leaving.until_ns)
                begun.append(departing)
                self._under_way[release] = departing
        self._begin(begun)
        self._flush()

    def let_go(self, until_ns: int) -> None:
        """Hand off to nobody all that is not on its way to anybody: no seed is told of it."""
        begun = [
            _Departing(self, self._rt, home, shard, until_ns, to_nobody=True)
            for home in self._homes.values()
            for shard in home.shards.values()
            if shard.exit is None
        ]
        self._under_way.update((departing.release, departing) for departing in begun)
        self._begin(begun)

    def over(self, departing: _Departing, *, late: bool) -> None:
        """Nothing of the shard is left; or, `late`, its limit has come."""
        release = departing.release
        if self._under_way.pop(release, None) is None:
            return
        self.changed.set()
        if departing.to_nobody:
            return
        if late:
            self._late.append(departing)
        else:
            self._over.append(release)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _begin(self, begun: list[_Departing]) -> None:
        """Refuse what waits and let entities leave; all of a type at once, since to find what there
        is of a shard is to look at all entities."""
        for home in {departing.home: None for departing in begun}:
            jobs = home.leave_with(departing.shard for departing in begun if departing.home is home)
            home.refuse_waiting(jobs)
        for departing in begun:
            departing.changed()
        self.retirement.add(begun)

    def _flush(self) -> None:
        """Release what is over, all at once."""
        self._flushing = False
        over, self._over = self._over, []
        late, self._late = self._late, []
        if late:
            self._give_up(late)
        for release in over:
            home = self._homes.get(release.type)
            if home is not None:
                home.part_with(release.shard, release.epoch)
        releases = over + [departing.release for departing in late]
        if releases:
            self._rt.region.release(releases)
            self._tell(len(over), len(late))

    def _give_up(self, late: list[_Departing]) -> None:
        """Lose what is left of these; all of a type at once, as in `_begin`."""
        log.warning(
            "hand-offs at their limit",
            extra={
                "shards": len(late),
                "calls": sum(len(departing.jobs) for departing in late),
                "entities": sum(len(departing.entities) for departing in late),
            },
        )
        for home in {departing.home: None for departing in late}:
            home.lose([departing.shard for departing in late if departing.home is home])


class _Departing(Exit):
    """One shard, until nothing of it is left or its limit comes."""

    __slots__ = ("_handing_off", "_rt", "_tick", "home", "release", "shard", "to_nobody")

    def __init__(
        self,
        handing_off: HandingOff,
        rt: Runtime,
        home: Home,
        shard: Shard,
        until_ns: int,
        *,
        to_nobody: bool = False,
    ) -> None:
        super().__init__()
        self._handing_off = handing_off
        self._rt = rt
        self._tick: int | None = rt.timers.add(until_ns, self)
        self.home = home
        self.release = Release(home.hosted.contract.type, shard.number, shard.epoch)
        self.shard = shard
        self.to_nobody = to_nobody
        shard.exit = self

    def removed(self, key: str) -> None:
        self._handing_off.retirement.left(self, key)
        super().removed(key)

    def changed(self) -> None:
        if not self.jobs and not self.entities:
            self.forget_limit()
            self._handing_off.over(self, late=False)

    def forget_limit(self) -> None:
        """It needs none any more."""
        if self._tick is not None:
            self._rt.timers.discard(self._tick, self)
            self._tick = None

    def expire(self) -> None:
        """Its limit has come."""
        self._tick = None
        self._handing_off.over(self, late=True)


class _Retirement:
    """Lets the entities of departing shards leave, `AT_ONCE` at one time."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[_Departing, str]] = deque()
        self._leaving: set[tuple[_Departing, str]] = set()

    def add(self, begun: list[_Departing]) -> None:
        """The entities of these are to leave."""
        self._waiting += [(departing, key) for departing in begun for key in departing.entities]
        self._go_on()

    def left(self, departing: _Departing, key: str) -> None:
        """An entity is out of memory, whatever the reason."""
        was_full = len(self._leaving) == AT_ONCE
        self._leaving.discard((departing, key))
        if was_full and self._waiting:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        for _ in range(AT_ONCE):
            if not self._waiting or len(self._leaving) == AT_ONCE:
                return
            departing, key = self._waiting.popleft()
            entity = departing.home.entities.get(key)
            if entity is not None and entity.seedbed_shard is departing.shard:
                self._leaving.add((departing, key))
                departing.home.retire(entity)
        asyncio.get_running_loop().call_soon(self._go_on)
