"""Durable entities, in a journal.

A shard is fenced when the first of its entities is read: so whatever a former owner still sends
comes too late for it, and is in what is read, or is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias
from uuid import UUID
from weakref import WeakKeyDictionary

from seedbed.ids import Epoch
from seedbed_worker.core.outcomes import Kept
from seedbed_worker.core.reminders import Listed
from seedbed_worker.entity_store import Commit, Ownership
from seedbed_worker.journal.port import History, Journal, JournalError, Record, Snapshot
from seedbed_worker.journal.snapshots import SnapshotWriter
from seedbed_worker.journal.writer import JournalWriter, Owned, fenced, unavailable

Lost: TypeAlias = Callable[[Ownership, bool], bool]
"""Told of an ownership that the journal has ended, and whether under a higher epoch, so that
another table is there or on its way. Returns whether the shard is its owner's all the same."""


class JournalStore:
    """An `EntityStore`. `lost` is told of an ownership that the journal has ended."""

    def __init__(
        self,
        journal: Journal,
        *,
        new_writer: Callable[[], UUID],
        lost: Lost,
        epoch_seen: Callable[[str, int, Epoch], object],
        keep: int | None = None,
    ) -> None:
        """The journal knows the types already. `epoch_seen` is told of a shard that it holds under
        a higher epoch than its owner's. `keep`: so many records behind an entity's snapshot stay;
        None: all."""
        self._journal = journal
        self._owned: WeakKeyDictionary[Ownership, Owned] = WeakKeyDictionary()
        self._tell = lost
        self._writer = JournalWriter(
            journal, new_writer=new_writer, lost=self._give_up, epoch_seen=epoch_seen
        )
        self._snapshots = SnapshotWriter(journal, keep=keep)

    @property
    def late(self) -> int:
        """Records that were refused, since their shards had been taken by others."""
        return self._writer.late

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._writer.run(), name="journal writer")
            tasks.create_task(self._snapshots.run(), name="snapshots")

    async def load(self, type_: str, key: str, shard: Ownership) -> History | None:
        """What was committed. Raises `CallError`."""
        owned = self._owned_by(type_, shard)
        try:
            await self._writer.take(owned)
            await self._writer.ended(owned)
            found = await self._journal.load(type_, shard.number, [key])
        except JournalError as error:
            raise unavailable(error) from error
        return found.get(key)

    async def confirm(self, type_: str, shard: Ownership) -> None:
        """See `EntityStore`."""
        owned = self._owned_by(type_, shard)
        try:
            await self._writer.take(owned)
            assert owned.fence is not None
            if await self._journal.holds(type_, shard.number, owned.fence):
                return
        except JournalError as error:
            raise unavailable(error) from error
        raise fenced(owned)

    async def outcomes(self, type_: str, key: str, most: int, shard: Ownership) -> Sequence[Kept]:
        """See `EntityStore`."""
        try:
            return await self._journal.outcomes(type_, shard.number, key, most)
        except JournalError as error:
            raise unavailable(error) from error

    async def outcome(self, type_: str, key: str, request_id: str, shard: Ownership) -> Kept | None:
        """See `EntityStore`."""
        try:
            return await self._journal.outcome(type_, shard.number, key, request_id)
        except JournalError as error:
            raise unavailable(error) from error

    async def take(self, type_: str, shard: Ownership) -> None:
        """See `EntityStore`. Raises `CallError`."""
        await self._writer.take(self._owned_by(type_, shard))

    async def reminders(
        self, type_: str, shards: Collection[int], until_ms: int, after: Listed | None, limit: int
    ) -> Sequence[Listed]:
        """See `EntityStore`."""
        try:
            return await self._journal.reminders(type_, shards, until_ms, after, limit)
        except JournalError as error:
            raise unavailable(error) from error

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

    def _give_up(self, owned: Owned, superseded: bool) -> bool:
        shard = owned.shard()
        return shard is not None and self._tell(shard, superseded)
