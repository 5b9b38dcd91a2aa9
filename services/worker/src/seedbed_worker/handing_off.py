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

from seedbed_worker.cells import Exit, Shard
from seedbed_worker.core.region import Release
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
        self._to_retire: deque[tuple[_Departing, str]] = deque()
        self._retiring = 0
        self._flushing = False

    def look(self) -> None:
        """The region has other tables: begin with what is newly in hand-off."""
        region = self._rt.region
        for release in [one for one in self._under_way if region.owned(*one[:2]) != one.epoch]:
            self._under_way.pop(release).forget()
        begun: list[_Departing] = []
        empty: list[Release] = []
        for (type_, number), leaving in region.view.leaving.items():
            release = Release(type_, number, leaving.epoch)
            if release in self._under_way or region.owned(type_, number) != leaving.epoch:
                continue
            home = self._homes.get(type_)
            shard = home.shards.get(number) if home is not None else None
            if home is None or shard is None or shard.epoch != leaving.epoch:
                empty.append(release)
                continue
            departing = _Departing(self, self._rt, home, shard, release, leaving.until_ns)
            self._under_way[release] = departing
            begun.append(departing)
        if begun:
            self._begin(begun)
        if empty:
            self._over += empty
            self.flush()

    def left(self, release: Release) -> None:
        """Nothing of the shard is left."""
        if self._under_way.pop(release, None) is not None:
            self._over.append(release)
            self._flush_soon()

    def limit_reached(self, departing: _Departing) -> None:
        """What is left of the shard is given up."""
        if self._under_way.pop(departing.release, None) is not None:
            self._late.append(departing)
            self._flush_soon()

    def flush(self) -> None:
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
        """Lose what is left of these; all of a type at once, since that looks at all entities."""
        log.warning(
            "hand-offs at their limit",
            extra={
                "shards": len(late),
                "calls": sum(len(departing.left.jobs) for departing in late),
                "entities": sum(len(departing.left.entities) for departing in late),
            },
        )
        for home in {departing.home: None for departing in late}:
            home.lose([departing.shard for departing in late if departing.home is home])

    def retire_some(self) -> None:
        """Let entities leave, `AT_ONCE` at one time; the others when these have left."""
        for _ in range(AT_ONCE):
            if not self._to_retire or self._retiring >= AT_ONCE:
                return
            departing, key = self._to_retire.popleft()
            entity = departing.home.entities.get(key)
            if entity is not None and entity.seedbed_shard is departing.shard:
                departing.retiring.add(key)
                self._retiring += 1
                departing.home.retire(entity)
        asyncio.get_running_loop().call_soon(self.retire_some)

    def retired(self) -> None:
        """One of them has left."""
        if self._to_retire and self._retiring == AT_ONCE:
            asyncio.get_running_loop().call_soon(self.retire_some)
        self._retiring -= 1

    def _begin(self, begun: list[_Departing]) -> None:
        homes = {departing.home: None for departing in begun}
        for home in homes:
            jobs = home.leave_with(departing.shard for departing in begun if departing.home is home)
            home.refuse_waiting(jobs)
        for departing in begun:
            if departing.left:
                departing.watch()
                self._to_retire += [(departing, key) for key in departing.left.entities]
            else:
                self.left(departing.release)
        self.retire_some()
        self.flush()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)


class _Departing:
    """One shard, until it is released or lost; expires at its limit."""

    __slots__ = (
        "_owner", "_rt", "_tick", "_until_ns", "home", "left", "release", "retiring", "shard",
    )  # fmt: skip

    def __init__(
        self,
        owner: HandingOff,
        rt: Runtime,
        home: Home,
        shard: Shard,
        release: Release,
        until_ns: int,
    ) -> None:
        self._owner = owner
        self._rt = rt
        self._until_ns = until_ns
        self._tick: int | None = None
        self.home = home
        self.shard = shard
        self.release = release
        self.left = shard.exit = Exit(self._changed)
        self.retiring: set[str] = set()
        """Entities that were asked to leave and have not left."""

    def watch(self) -> None:
        """Let it expire at its limit."""
        self._tick = self._rt.timers.add(self._until_ns, self)

    def forget(self) -> None:
        """It needs no limit any more."""
        if self._tick is not None:
            self._rt.timers.discard(self._tick, self)
            self._tick = None

    def expire(self) -> None:
        self._tick = None
        self._owner.limit_reached(self)

    def _changed(self, key: str) -> None:
        if key in self.retiring:
            self.retiring.discard(key)
            self._owner.retired()
        if not self.left:
            self.forget()
            self._owner.left(self.release)
