"""Durable entities, in a journal.

A shard is fenced when the first of its entities is read: so whatever a former owner still sends
comes too late for it, and is in what is read, or is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID
from weakref import WeakKeyDictionary

from seedbed.ids import Epoch
from seedbed_worker.entity_store import Commit, Ownership
from seedbed_worker.journal.port import History, Journal, JournalError, Record, Snapshot
from seedbed_worker.journal.snapshots import SnapshotWriter
from seedbed_worker.journal.writer import JournalWriter, Owned, unavailable

Lost = Callable[[Ownership], object]


class JournalStore:
    """An `EntityStore`. `lost` is told of an ownership that the journal has ended."""

    def __init__(
        self,
        journal: Journal,
        *,
        shard_count: Callable[[str], int],
        new_writer: Callable[[], UUID],
        lost: Lost,
        epoch_seen: Callable[[str, int, Epoch], object],
        keep: int | None = None,
    ) -> None:
        """`shard_count` is asked for types that are owned. `epoch_seen` is told of a shard that the
        journal holds under a higher epoch than its owner's. `keep`: so many records behind an
        entity's snapshot stay; None: all."""
        self._journal = journal
        self._shard_count = shard_count
        self._entered: set[str] = set()
        self._owned: WeakKeyDictionary[Ownership, Owned] = WeakKeyDictionary()
        self._tell = lost
        self._writer = JournalWriter(
            journal, new_writer=new_writer, lost=self._give_up, epoch_seen=epoch_seen
        )

        self._snapshots = SnapshotWriter(journal, keep=keep)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._writer.run(), name="journal writer")
            tasks.create_task(self._snapshots.run(), name="snapshots")

    async def load(self, type_: str, key: str, shard: Ownership) -> History | None:
        """What was committed. Raises `CallError`."""
        owned = self._owned_by(type_, shard)
        try:
            if type_ not in self._entered:
                await self._journal.enter({type_: self._shard_count(type_)})
                self._entered.add(type_)
            await self._writer.take(owned)
            if owned.newest is not None:
                await owned.newest.ended()
            found = await self._journal.load(type_, shard.number, [key])
        except JournalError as error:
            raise unavailable(error) from error
        return found.get(key)

    def commit(self, type_: str, record: Record, shard: Ownership) -> Commit:
        """Begin to write it. Raises `CallError` if the shard is lost."""
        return self._writer.commit(self._owned_by(type_, shard), record)

    def snapshot(self, type_: str, snapshot: Snapshot, shard: Ownership) -> None:
        """Write it when there is time; it may be left out."""
        self._snapshots.add(self._owned_by(type_, shard), snapshot)

    def _owned_by(self, type_: str, shard: Ownership) -> Owned:
        owned = self._owned.get(shard)
        if owned is None:
            owned = self._owned[shard] = Owned(type_, shard)
        return owned

    def _give_up(self, owned: Owned) -> None:
        shard = owned.shard()
        if shard is not None:
            self._tell(shard)
