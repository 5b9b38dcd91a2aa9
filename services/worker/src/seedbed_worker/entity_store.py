"""Where durable entities are kept: the seam, and a memory behind it.

Nobody but the owner of a shard reads or writes its entities. A commit is under way from when it is
begun to its one end: it is kept, or has failed. One that has failed may have happened all the same,
so who began it reads again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from seedbed.errors import CallError, Reason
from seedbed_worker.core.outcomes import Kept
from seedbed_worker.core.reminders import Listed, Place
from seedbed_worker.journal.entity_records import EntityRecords, page
from seedbed_worker.journal.port import History, Kind, Record, Snapshot


class Ownership(Protocol):
    """One ownership of a shard: `epoch` rises with every owner."""

    @property
    def number(self) -> int: ...

    @property
    def epoch(self) -> int: ...


class Commit:
    """A change on its way into a store."""

    __slots__ = ("_then", "done", "error")

    def __init__(self) -> None:
        self.done = False
        self.error: CallError | None = None
        """Why it has failed."""
        self._then: list[Callable[[Commit], object]] = []

    def then(self, ended: Callable[[Commit], object]) -> None:
        """Call this at its end (now, if it has ended), after those that were given before."""
        if self.done:
            ended(self)
        else:
            self._then.append(ended)

    def end(self, error: CallError | None = None) -> None:
        """It is kept; or has failed, with this error."""
        self.done, self.error = True, error
        then, self._then = self._then, []
        for ended in then:
            ended(self)

    async def ended(self) -> None:
        """Return at its end; who waits may be cancelled."""
        if not self.done:
            end = asyncio.Event()
            self.then(lambda _: end.set())
            await end.wait()

    async def wait(self) -> None:
        """Return once it is kept. Raises its `CallError`."""
        await self.ended()
        if self.error is not None:
            raise self.error


class EntityStore(Protocol):
    """Keeps what entities did. Raises `CallError` when it does not answer or the shard is
    another's now."""

    async def load(self, type_: str, key: str, shard: Ownership) -> History | None:
        """What was committed, after all commits of it that are under way; None: nothing ever."""
        ...

    async def confirm(self, type_: str, shard: Ownership) -> None:
        """Return if this owner's changes would be kept now. Raises `CallError` if not."""
        ...

    async def outcomes(self, type_: str, key: str, most: int, shard: Ownership) -> Sequence[Kept]:
        """What came of the latest calls of an entity that is loaded, so many at most, the newest
        first."""
        ...

    async def outcome(self, type_: str, key: str, request_id: str, shard: Ownership) -> Kept | None:
        """What came of the call of this id; None: nothing was recorded."""
        ...

    async def take(self, type_: str, shard: Ownership) -> None:
        """Return once no other owner of the shard can change anything of it."""
        ...

    async def reminders(
        self, type_: str, shards: Collection[int], until_ms: int, after: Listed | None, limit: int
    ) -> Sequence[Listed]:
        """Those of these shards that are due by then, page by page, as `Journal.reminders`.

        Of a shard that was not taken it may be that another owner still changes them.
        """
        ...

    def commit(self, type_: str, record: Record, shard: Ownership) -> Commit:
        """Begin to keep it, after all commits of its shard that are under way. If one of these
        fails, so does it."""
        ...

    def snapshot(self, type_: str, snapshot: Snapshot, shard: Ownership) -> None:
        """Keep it at some time, of records that are kept, or not at all: it only saves reading."""
        ...


class MemoryStore:
    """One memory that all workers of a process share, so that entities survive moves and crashes.

    As a journal does, it refuses an owner that has had a successor.
    """

    def __init__(self) -> None:
        self._entities = defaultdict[tuple[str, str], EntityRecords](EntityRecords)
        self._shards: dict[tuple[str, str], int] = {}
        """Of each entity that has records."""
        self._epochs: dict[tuple[str, int], int] = {}

    async def load(self, type_: str, key: str, shard: Ownership) -> History | None:
        self._fence(type_, shard)
        return self._entities[type_, key].history()

    async def confirm(self, type_: str, shard: Ownership) -> None:
        self._fence(type_, shard)

    async def outcomes(self, type_: str, key: str, most: int, shard: Ownership) -> Sequence[Kept]:
        self._fence(type_, shard)
        return self._entities[type_, key].outcomes(most)

    async def outcome(self, type_: str, key: str, request_id: str, shard: Ownership) -> Kept | None:
        self._fence(type_, shard)
        return self._entities[type_, key].outcome(request_id)

    async def take(self, type_: str, shard: Ownership) -> None:
        self._fence(type_, shard)

    async def reminders(
        self, type_: str, shards: Collection[int], until_ms: int, after: Listed | None, limit: int
    ) -> Sequence[Listed]:
        all_of_them = (
            Listed(Place(type_, shard, key, *place), appointment)
            for (its_type, key), shard in self._shards.items()
            if its_type == type_ and shard in shards
            for place, appointment in self._entities[type_, key].reminders.items()
        )
        return page(all_of_them, until_ms, after, limit)

    def commit(self, type_: str, record: Record, shard: Ownership) -> Commit:
        self._fence(type_, shard)
        self._shards[type_, record.key] = shard.number
        self._entities[type_, record.key].write(record)
        return _KEPT

    def snapshot(self, type_: str, snapshot: Snapshot, shard: Ownership) -> None:
        if shard.epoch == self._epochs.get((type_, shard.number)):
            self._entities[type_, snapshot.key].keep(snapshot)

    def events(self, type_: str, key: str) -> list[bytes]:
        """The data of all its records that hold events, since it was last deleted."""
        found: list[bytes] = []
        for record in self._entities[type_, key].records:
            if record.kind is Kind.DELETED:
                found.clear()
            elif record.kind is Kind.EVENTS:
                found.append(record.data)
        return found

    def _fence(self, type_: str, shard: Ownership) -> None:
        newest = self._epochs.get((type_, shard.number), 0)
        if shard.epoch < newest:
            message = f"shard {shard.number} of {type_} has an owner of epoch {newest} by now"
            raise CallError(Reason.FENCED, message)
        self._epochs[type_, shard.number] = shard.epoch


_KEPT = Commit()
_KEPT.end()
