"""Brings the reminders of this worker's shards into its hand as they fall due.

Most shards have none, so nobody asks shard by shard: one question for all shards of a type finds
those with something due within the window, again and again. Such a shard is taken (fenced) and then
read: what a former owner has changed up to then is seen, and it can change no more. From then on it
is read page by page, each part once, since whatever changes it passes through this worker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from seedbed.errors import CallError, Reason
from seedbed.ids import Epoch
from seedbed.routing import CHUNK
from seedbed_worker.cells import Shard
from seedbed_worker.core.region import Admitted
from seedbed_worker.core.reminders import Agenda, Appointment, Listed, Place
from seedbed_worker.entity_store import EntityStore
from seedbed_worker.home import Home
from seedbed_worker.runtime import Runtime

log = logging.getLogger(__name__)

PAGE: Final = 1_000
"""Reminders that are read at once."""
RETRY_S: Final = 1.0
"""After the store has not answered."""


class _Group:
    """Shards of a type that have been read equally far."""

    __slots__ = ("after", "shards", "type")

    def __init__(self, type_: str, shards: dict[int, Epoch]) -> None:
        self.type = type_
        self.shards = shards
        self.after: Listed | None = None


class ReminderReader:
    """For one host. `found` is told when there is more in the agenda."""

    def __init__(
        self,
        rt: Runtime,
        homes: Mapping[str, Home],
        store: EntityStore,
        agenda: Agenda,
        found: Callable[[], None],
    ) -> None:
        self._rt = rt
        self._homes = homes
        self._store = store
        self._agenda = agenda
        self._found = found
        self._owned: dict[tuple[str, int], Epoch] = {}
        self._groups: list[_Group] = []
        """The shards that are read, by how far."""
        self._until_ms = 0
        """What is due by then is in hand, or will be when there is room."""
        self._is_full = False
        self._changed: set[Place] = set()
        self._deleted: set[tuple[str, str]] = set()
        """What has changed since the present page was asked for."""
        self._wake = asyncio.Event()

    # What the host tells.

    def region_changed(self) -> None:
        """Other shards may be ours; what is not, or is on its way out, fires nothing more."""
        owned = self._now_owned()
        lost = [place for place, epoch in self._owned.items() if owned.get(place) != epoch]
        if not lost and len(owned) == len(self._owned):
            return
        self._owned = owned
        self._agenda.drop_shards(lost)
        self._forget(lost)
        self._wake.set()

    def lost(self, type_: str, number: int) -> None:
        """This ownership has ended; if the shard still is ours, it is read anew."""
        if (type_, number) in self._owned:
            self._agenda.drop_shards([(type_, number)])
            self._forget([(type_, number)])
            self._wake.set()

    def wants(self, place: Place, appointment: Appointment, shard: Shard) -> bool:
        """Is this to be in hand already?"""
        if shard.lost or self._owned.get((place.type, place.shard)) != shard.epoch:
            return False
        if appointment.in_memory:
            return True
        if appointment.due_ms > self._until_ms:
            return False
        if self._agenda.stored < self._rt.limits.reminders_in_memory:
            return True
        self._forget([(place.type, place.shard)])  # it is read from the start when there is room
        self._is_full = True
        return False

    def changed(self, place: Place) -> None:
        """What a page says of this, that is on its way, may be old."""
        self._changed.add(place)

    def deleted(self, entity: tuple[str, str]) -> None:
        """The same of an entity, by type and key."""
        self._deleted.add(entity)

    def there_is_room(self) -> None:
        """There is less in hand."""
        if self._is_full and self._agenda.stored <= self._rt.limits.reminders_in_memory // 2:
            self._wake.set()

    def expire(self) -> None:
        """It is time to look again (for the timers)."""
        self._wake.set()

    # Reading.

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            pause_s = self._rt.limits.reminder_window_s / 2
            self._wake.clear()
            try:
                await self._read()
            except CallError as error:
                log.warning("reminders not read", extra={"error": error.message})
                pause_s = RETRY_S
            self._found()
            tick = self._rt.timers.add(self._rt.clock.now_ns() + int(pause_s * 1e9), self)
            await self._wake.wait()
            self._rt.timers.discard(tick, self)

    async def _read(self) -> None:
        window_ms = int(self._rt.limits.reminder_window_s * 1000)
        self._until_ms = self._rt.clock.wall_ms() + window_ms
        self._is_full = False
        for type_, home in self._homes.items():
            if home.hosted.durable:
                await self._look_for_shards(type_, home)
        for group in list(self._groups):
            await self._read_on(group)
        self._merge()

    async def _look_for_shards(self, type_: str, home: Home) -> None:
        """Take the shards that have something due."""
        passed = set[int]()
        while True:
            read = {n for group in self._groups if group.type == type_ for n in group.shards}
            others = [n for t, n in self._owned if t == type_ and n not in read | passed]
            if not others:
                return
            page = await self._store.reminders(type_, others, self._until_ms, None, PAGE)
            taken = dict[int, Epoch]()
            for number in {one.place.shard for one in page}:
                epoch = await self._take(type_, number, home)
                if epoch is None:
                    passed.add(number)  # another table is on its way
                else:
                    taken[number] = epoch
            if taken:
                self._groups.append(_Group(type_, taken))
            if len(page) < PAGE:
                return

    async def _take(self, type_: str, number: int, home: Home) -> Epoch | None:
        """Fence the shard; None if it is not ours now."""
        rt = self._rt
        epoch, lease = self._owned.get((type_, number)), rt.lease
        if epoch is None or lease is None or rt.region.owned(type_, number) != epoch:
            return None
        try:
            await self._store.take(
                type_, home.shard(number, Admitted(epoch, lease.incarnation), lease)
            )
        except CallError as error:
            if error.reason is Reason.STORE_UNAVAILABLE:
                raise
            return None
        return epoch if self._owned.get((type_, number)) == epoch else None

    async def _read_on(self, group: _Group) -> None:
        """Bring what is due of these shards into the agenda, as far as there is room."""
        while group.shards:
            room = self._rt.limits.reminders_in_memory - self._agenda.stored
            if room <= 0:
                self._is_full = True
                return
            self._changed.clear()
            self._deleted.clear()
            limit = min(room, PAGE)
            shards = list(group.shards)
            page = await self._store.reminders(
                group.type, shards, self._until_ms, group.after, limit
            )
            for place, appointment in page:
                if (
                    place.shard in group.shards  # else it was lost meanwhile
                    and place not in self._changed
                    and (place.type, place.key) not in self._deleted
                ):
                    self._agenda.put(place, appointment)
            self._found()
            if len(page) < limit:
                group.after = _behind(group.type, self._until_ms)
                return
            group.after = page[-1]

    def _merge(self) -> None:
        """Groups that have been read to the end are one from now on."""
        groups: dict[tuple[str, object], _Group] = {}
        for group in self._groups:
            if group.shards:
                order = group.after.order if group.after is not None else None
                groups.setdefault((group.type, order), group).shards |= group.shards
        self._groups = list(groups.values())

    def _forget(self, lost: list[tuple[str, int]]) -> None:
        for group in self._groups:
            for type_, number in lost:
                if type_ == group.type:
                    group.shards.pop(number, None)

    def _now_owned(self) -> dict[tuple[str, int], Epoch]:
        lease, region = self._rt.lease, self._rt.region
        if lease is None or region.draining or region.incarnation != lease.incarnation:
            return {}
        return {
            place: mine.epoch
            for (type_, chunk), row in region.view.mine.items()
            if type_ in self._homes
            for number, mine in enumerate(row, start=chunk * CHUNK)
            if mine is not None
            and (place := (type_, number)) not in region.view.leaving
            and region.owned(*place)
        }


def _behind(type_: str, until_ms: int) -> Listed:
    """All that is due by then lies before this."""
    return Listed(Place(type_, -1, "", "", ""), Appointment(until_ms + 1, 0, 0, 0))
