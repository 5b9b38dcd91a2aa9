"""The reminders of a host's entities: what changes them, and what fires them.

What a turn asks for counts when its record is stored; until then nothing of it fires, and nothing
fires that it takes back. The owner of a shard alone has its reminders in hand: those that fall due
soon (`reminder_reader` brings them), and all that are kept in memory only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Final, TypeAlias

from seedbed.calls import Failed, NotHere
from seedbed.grpc_codes import code_of_number
from seedbed.service.logs import personal
from seedbed_worker.cells import Shard
from seedbed_worker.core.reminders import Agenda, Appointment, Listed, Place, pause_ms
from seedbed_worker.entity_store import Commit, EntityStore
from seedbed_worker.home import Home
from seedbed_worker.jobs import Answer, Job
from seedbed_worker.reminder_reader import ReminderReader
from seedbed_worker.reminder_turn import ReminderTurn
from seedbed_worker.reminding import Asked
from seedbed_worker.runtime import Runtime

log = logging.getLogger(__name__)

NOT_NOW_MS: Final = 100
"""What waits for a commit or for a table is looked at again after it."""

ReminderEnded: TypeAlias = Callable[[str, str, str], object]
"""Told of a type, a method, and how its turn ended: `done` or `failed`."""


class Reminders:
    """Those of one host. `admit` lets a turn stand in its entity's line."""

    def __init__(
        self,
        rt: Runtime,
        homes: Mapping[str, Home],
        store: EntityStore,
        admit: Callable[[Job], None],
        ended: ReminderEnded,
    ) -> None:
        self._rt = rt
        self._homes = homes
        self._admit = admit
        self._tell = ended
        self.agenda = Agenda(rt.limits.reminders_at_once)
        self.reader = ReminderReader(rt, homes, store, self.agenda, self.look)
        self._pending: dict[Place, tuple[Commit, Appointment | None]] = {}
        """What turns have asked for that is not stored yet; of each the newest."""
        self._random = Random()
        self._in_memory = 0
        """Numbers of those that are stored nowhere go down from here."""
        self._tick: int | None = None
        self._looking = False

    # What turns change.

    def changed(
        self,
        shard: Shard,
        entity: tuple[str, str],
        asked: Mapping[tuple[str, str], Asked],
        seq: int,
        commit: Commit | None,
        *,
        deleted: bool,
    ) -> None:
        """A turn of this entity (type and key) has asked for this; it counts when the commit is
        kept. `seq` is that of its record."""
        type_, key = entity
        changes: dict[Place, Appointment | None] = {}
        if deleted:
            pending = [one for one in self._pending if (one.type, one.key) == entity]
            changes = dict.fromkeys([*self.agenda.of_entity(type_, key), *pending])
        for (method, name), one in asked.items():
            number = seq
            if not one.durable:
                self._in_memory -= 1
                number = self._in_memory
            changes[Place(type_, shard.number, key, method, name)] = one.appointment(number)
        if commit is None:
            self._apply(shard, changes, entity if deleted else None)
            return
        self._pending |= {place: (commit, new) for place, new in changes.items()}
        commit.then(partial(self._ended, shard, changes, entity if deleted else None))

    def begun(self, shard: Shard, place: Place, appointment: Appointment, commit: Commit) -> None:
        """The same appointment, with the time at which it was begun: it counts when that is
        kept."""
        commit.then(partial(self._ended, shard, {place: appointment}, None))

    def stands(self, listed: Listed) -> bool:
        """Is this the newest appointment of its place, as far as any turn knows?"""
        pending = self._pending.get(listed.place)
        newest = pending[1] if pending is not None else self.agenda.get(listed.place)
        return newest is not None and newest.number == listed.appointment.number

    def keeps(self, type_: str, key: str) -> bool:
        """Does a reminder that is in memory only keep this entity from idling out?"""
        return any(
            (appointment := self.agenda.get(place)) is not None and appointment.in_memory
            for place in self.agenda.of_entity(type_, key)
        )

    def _ended(
        self,
        shard: Shard,
        changes: Mapping[Place, Appointment | None],
        deleted: tuple[str, str] | None,
        commit: Commit,
    ) -> None:
        for place in changes:
            pending = self._pending.get(place)
            if pending is not None and pending[0] is commit:
                del self._pending[place]
        if commit.error is None:
            self._apply(shard, changes, deleted)

    def _apply(
        self,
        shard: Shard,
        changes: Mapping[Place, Appointment | None],
        deleted: tuple[str, str] | None,
    ) -> None:
        if deleted is not None:
            self.reader.deleted(deleted)
        for place, new in changes.items():
            self.reader.changed(place)
            if new is not None and self.reader.wants(place, new, shard):
                self.agenda.put(place, new)
            else:
                self.agenda.drop(place)
        self.look()

    # What fires.

    def look(self) -> None:
        """Fire what is due."""
        self._looking = False
        if self._rt.running:
            for listed in self.agenda.begin(self._rt.clock.wall_ms()):
                self._fire(listed)
            self._arm()

    def next_due_ns(self) -> int | None:
        """When `look` may have something to fire next; None while there is nothing."""
        next_ms, clock = self.agenda.next_ms(), self._rt.clock
        if next_ms is None:
            return None
        return clock.now_ns() + max(0, next_ms - clock.wall_ms()) * 1_000_000

    def expire(self) -> None:
        """Something may be due (for the timers)."""
        self._tick = None
        self.look()

    def _fire(self, listed: Listed) -> None:
        home = self._homes[listed.place.type]
        limit_ns = int(self._rt.limits.reminder_timeout_s * 1e9)
        job = ReminderTurn(
            home,
            listed,
            self.stands,
            self._rt.clock.now_ns() + limit_ns,
            partial(self._over, listed),
        )
        self._admit(job)

    def _over(self, listed: Listed, answer: Answer) -> None:
        if not self._rt.running:
            return
        agenda, now_ms = self.agenda, self._rt.clock.wall_ms()
        agenda.ended(listed.place)
        if isinstance(answer, NotHere):
            agenda.again(listed, now_ms + NOT_NOW_MS, failed=False)
        elif isinstance(answer, Failed):
            self._failed(listed, answer, now_ms)
        else:
            self._tell(listed.place.type, listed.place.method, "done")
        self.reader.there_is_room()
        self._look_later()

    def _failed(self, listed: Listed, answer: Failed, now_ms: int) -> None:
        pause = pause_ms(self.agenda.failures(listed) + 1, self._random.random())
        failures = self.agenda.again(listed, now_ms + pause, failed=True)
        if not failures:
            return
        place = listed.place
        self._tell(place.type, place.method, "failed")
        log.warning(
            "reminder failed",
            extra={
                "entity_type": place.type,
                "method": place.method,
                "code": code_of_number(answer.code).name,
                "error": answer.message,
                "failures": failures,
                "again_s": pause / 1000,
            }
            | personal(key=place.key),
        )

    def _look_later(self) -> None:
        """After what is ready already: there is room for another one."""
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self.look)

    def _arm(self) -> None:
        rt = self._rt
        if self._tick is not None:
            rt.timers.discard(self._tick, self)
            self._tick = None
        next_ns = self.next_due_ns()
        if next_ns is not None:
            self._tick = rt.timers.add(next_ns, self)
