"""Which reminders a worker has in hand, and which of them fire when.

Theory. A reminder has a place (whose it is, which method it calls, its name) and an appointment. It
fires when it is due, and comes again after a pause if its turn fails, the longer the more often it
has failed; so what fires next is the head of a heap of times. Two bounds pace it: so many turns are
under way at once in all, and of one entity only one, so that an entity with a thousand of them and
a slow method takes one turn from the others and no more.

An appointment has a number, which no other one of its place ever had: what was decided for one
does not touch another that was made meanwhile. One that comes again and again keeps to its times:
what was missed is caught up by one turn, which is told how many times it has been due so far.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple, TypeAlias

FIRST_PAUSE_MS: Final = 1_000
LAST_PAUSE_MS: Final = 300_000
"""Between two attempts: the first pause, and the longest."""
_LITTER: Final = 1_000
"""What counts no more in the heap, and does not matter."""


class Place(NamedTuple):
    """Whose reminder it is, and which: setting another one here replaces it."""

    type: str
    shard: int
    key: str
    method: str
    name: str


@dataclass(frozen=True, slots=True)
class Appointment:
    """When a reminder is due next. Times are wall clock, in ms since 1970."""

    due_ms: int
    every_ms: int
    """0: once."""
    count: int
    """Of its times: 1, 2, 3 …"""
    number: int
    """The `seq` of the change that made this appointment; below 0: it is in memory only."""
    begun_ms: int = 0
    """When the turn whose calls may have left was first tried; 0: no call has left."""

    @property
    def in_memory(self) -> bool:
        """It is stored nowhere."""
        return self.number < 0


class Listed(NamedTuple):
    """A reminder as it is stored."""

    place: Place
    appointment: Appointment

    @property
    def order(self) -> tuple[int, int, str, str, str]:
        """In which those of a type are read."""
        _, shard, key, method, name = self.place
        return (self.appointment.due_ms, shard, key, method, name)


@dataclass(frozen=True, slots=True)
class Times:
    """What one turn stands for."""

    due_ms: int
    """The newest of the times."""
    count: int


def times(appointment: Appointment, now_ms: int) -> Times:
    """All times up to now, of which the first is the appointment's."""
    every_ms = appointment.every_ms
    more = max(0, now_ms - appointment.due_ms) // every_ms if every_ms else 0
    return Times(appointment.due_ms + more * every_ms, appointment.count + more)


def following(appointment: Appointment, done: Times, number: int) -> Appointment | None:
    """The next appointment after a turn that succeeded; None: that was all."""
    every_ms = appointment.every_ms
    if not every_ms:
        return None
    return Appointment(done.due_ms + every_ms, every_ms, done.count + 1, number)


def pause_ms(failures: int, jitter: float) -> int:
    """After so many failures in a row; `jitter`, from 0 to 1, shortens it by up to a half."""
    longest = min(FIRST_PAUSE_MS << min(failures - 1, 20), LAST_PAUSE_MS)
    return int(longest * (1 - jitter / 2))


_Entity: TypeAlias = tuple[str, str]


class _Entry:
    __slots__ = ("appointment", "failures", "parting", "turn")

    def __init__(self, appointment: Appointment) -> None:
        self.appointment = appointment
        self.failures = 0
        self.parting = False
        """Its shard is ours no more: it is there for the turn that is under way, and no longer."""
        self.turn = 0
        """Its newest place in the heap."""


class Agenda:
    """The reminders that a worker has in hand; `at_once` turns are under way at most."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._entries: dict[Place, _Entry] = {}
        self._of_entity: dict[_Entity, set[Place]] = {}
        self._heap: list[tuple[int, int, Place]] = []
        self._turns = 0
        self.stored = 0
        """How many of them are stored too."""
        self._running: dict[_Entity, Place] = {}
        self._behind: dict[_Entity, dict[Place, None]] = {}
        """What is due of entities of whom one is under way."""

    def get(self, place: Place) -> Appointment | None:
        """The appointment of this place."""
        entry = self._entries.get(place)
        return entry.appointment if entry is not None else None

    def of_entity(self, type_: str, key: str) -> list[Place]:
        """All of an entity that are in hand."""
        return list(self._of_entity.get((type_, key), ()))

    def failing(self, type_: str) -> int:
        """How many failed when they were tried last."""
        entries = list(self._entries.items())
        return sum(1 for place, entry in entries if place.type == type_ and entry.failures)

    def put(self, place: Place, appointment: Appointment) -> None:
        """Take it in hand. What is known of the same appointment stays."""
        entry = self._entries.get(place)
        if entry is not None and entry.appointment.number == appointment.number:
            entry.appointment = appointment
            entry.parting = False
            return
        if entry is not None:
            self.drop(place)
        entry = self._entries[place] = _Entry(appointment)
        self.stored += not appointment.in_memory
        self._of_entity.setdefault((place.type, place.key), set()).add(place)
        self._push(place, entry, appointment.due_ms)
        if len(self._heap) > 2 * len(self._entries) + _LITTER:
            self._sweep_up()

    def drop(self, place: Place) -> None:
        """Forget it; a turn that is under way goes on."""
        entry = self._entries.pop(place, None)
        if entry is None:
            return
        self.stored -= not entry.appointment.in_memory
        entity = (place.type, place.key)
        places = self._of_entity[entity]
        places.discard(place)
        if not places:
            del self._of_entity[entity]

    def drop_shards(self, shards: Iterable[tuple[str, int]]) -> None:
        """Forget all of these, given by type and number; what is under way when it has ended."""
        gone = set(shards)
        for place in [one for one in self._entries if (one.type, one.shard) in gone]:
            if self._running.get((place.type, place.key)) == place:
                self._entries[place].parting = True
            else:
                self.drop(place)

    def begin(self, now_ms: int) -> list[Listed]:
        """What fires now; each is under way until `ended`."""
        begun: list[Listed] = []
        while self._heap and self._heap[0][0] <= now_ms and len(self._running) < self._at_once:
            _, turn, place = heappop(self._heap)
            entry = self._entries.get(place)
            if entry is None or entry.turn != turn:
                continue
            entity = (place.type, place.key)
            if entity in self._running:
                self._behind.setdefault(entity, {})[place] = None
                continue
            self._running[entity] = place
            begun.append(Listed(place, entry.appointment))
        return begun

    def ended(self, place: Place) -> None:
        """Its turn is over. Unless it was dropped or replaced, say when it comes `again`."""
        entity = (place.type, place.key)
        if self._running.get(entity) != place:
            return
        del self._running[entity]
        for other in self._behind.pop(entity, ()):
            entry = self._entries.get(other)
            if entry is not None:
                self._push(other, entry, entry.appointment.due_ms)

    def again(self, listed: Listed, at_ms: int, *, failed: bool) -> int:
        """It fires again then, if it still stands; how often it has failed by now (0: it is gone).

        `failed`: its turn has.
        """
        entry = self._entries.get(listed.place)
        if entry is None or entry.appointment.number != listed.appointment.number:
            return 0
        if entry.parting:
            self.drop(listed.place)
            return 0
        entry.failures += failed
        self._push(listed.place, entry, at_ms)
        return entry.failures

    def failures(self, listed: Listed) -> int:
        """How often it has failed so far."""
        entry = self._entries.get(listed.place)
        return entry.failures if entry is not None else 0

    def next_ms(self) -> int | None:
        """When `begin` may have something; None: not before something else happens."""
        if not self._heap or len(self._running) >= self._at_once:
            return None
        return self._heap[0][0]

    def _push(self, place: Place, entry: _Entry, at_ms: int) -> None:
        self._turns += 1
        entry.turn = self._turns
        heappush(self._heap, (at_ms, entry.turn, place))

    def _sweep_up(self) -> None:
        """Take out of the heap what counts no more."""
        entries = self._entries
        self._heap = [
            one for one in self._heap if one[2] in entries and entries[one[2]].turn == one[1]
        ]
        heapify(self._heap)
