"""Writes what turns have changed: many entities in one commit, and the truth about each.

A commit ends when its record is durable, or when it is certain that it is not. One whose end nobody
knows is settled here: the owner fences itself (same epoch, a new writer's id), so that
the lost commit cannot come any more, and then reads what there is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID
from weakref import ref

from seedbed.errors import CallError, Reason
from seedbed.ids import Epoch
from seedbed_worker.core.commit_groups import CommitGroups
from seedbed_worker.entity_store import Commit, Ownership
from seedbed_worker.journal.port import (
    Clash,
    Fence,
    Group,
    InDoubt,
    Journal,
    JournalError,
    Record,
    ShardKey,
    Superseded,
)
from seedbed_worker.refusals import refenced

log = logging.getLogger(__name__)

MAX_RECORDS: Final = 1_000
MAX_BYTES: Final = 1024 * 1024
"""Of one group: more only makes the first of it wait for the last."""
PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Between attempts to settle a commit in doubt; the last one again and again."""


class Owned:
    """What the journal knows of one ownership of a shard by this process."""

    __slots__ = (
        "epoch", "fence", "lost", "newest", "number", "shard", "taking", "type", "unclear",
    )  # fmt: skip

    def __init__(self, type_: str, shard: Ownership) -> None:
        self.type = type_
        self.shard = ref(shard)
        self.number = shard.number
        self.epoch = shard.epoch
        self.fence: Fence | None = None
        """Under which it writes; None: the shard is not taken yet."""
        self.newest: Commit | None = None
        """Its newest commit."""
        self.taking = asyncio.Lock()
        self.lost = False
        """The journal has refused it: for ever."""
        self.unclear: JournalError | None = None
        """Why it cannot be found out yet what became of records in doubt: until then nothing of the
        shard is written or read, so that nothing piles up behind them."""


class _Waiting:
    """A record, and those who wait for it."""

    __slots__ = ("commit", "owned", "record", "size")

    def __init__(self, owned: Owned, record: Record) -> None:
        self.owned = owned
        self.record = record
        self.commit = Commit()
        self.size = len(record.data) + len(record.outcome)


class JournalWriter:
    """Commits for one worker. `lost` is told of each shard that the journal has refused; True: it
    is this worker's all the same."""

    def __init__(
        self,
        journal: Journal,
        *,
        new_writer: Callable[[], UUID],
        lost: Callable[[Owned, bool], bool],
        epoch_seen: Callable[[str, int, Epoch], object],
    ) -> None:
        self._journal = journal
        self._new_writer = new_writer
        self._lost = lost
        self._epoch_seen = epoch_seen
        self._lanes = [_Lane() for _ in range(journal.lanes)]
        self._tasks: asyncio.TaskGroup | None = None
        self.late = 0
        """Records that the journal has refused, since their shards had been taken by others."""

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for lane in self._lanes:
                tasks.create_task(self._run(lane), name="journal lane")

    def commit(self, owned: Owned, record: Record) -> Commit:
        """Begin to write it. Raises `CallError` if the shard is lost, or in doubt for longer."""
        if owned.lost:
            raise fenced(owned)
        if owned.unclear is not None:
            raise unavailable(owned.unclear)
        waiting = _Waiting(owned, record)
        owned.newest = waiting.commit
        lane = self._lane(owned)
        lane.groups.add(owned, waiting)
        lane.wake.set()
        return waiting.commit

    async def take(self, owned: Owned) -> None:
        """Fence the shard for this ownership, once. Raises `CallError`."""
        async with owned.taking:
            if owned.lost:
                raise fenced(owned)
            if owned.fence is None:
                fence = Fence(owned.epoch, self._new_writer())
                try:
                    await self._journal.take(owned.type, owned.number, fence)
                except Superseded as error:
                    self._give_up(owned, superseded=True)
                    self._epoch_seen(owned.type, owned.number, Epoch(error.epoch))
                    raise _not_owner(error) from error
                except JournalError as error:
                    raise unavailable(error) from error
                owned.fence = fence

    async def ended(self, owned: Owned) -> None:
        """Return when all commits of the shard that were under way have ended.

        Raises `CallError` if it cannot be found out now how.
        """
        if owned.newest is not None and owned.unclear is None:
            await owned.newest.ended()
        if owned.unclear is not None:
            raise unavailable(owned.unclear)

    def _lane(self, owned: Owned) -> _Lane:
        # The records of one shard keep their order: always the same lane.
        return self._lanes[owned.number % len(self._lanes)]

    async def _run(self, lane: _Lane) -> None:
        while True:
            await lane.wake.wait()
            lane.wake.clear()
            while groups := lane.groups.next():
                await self._write(lane, groups)

    async def _write(self, lane: _Lane, groups: dict[Owned, list[_Waiting]]) -> None:
        try:
            survivors = await self._append(groups)
        except InDoubt as error:
            log.warning("commit in doubt", extra={"shards": len(groups), "error": str(error)})
            assert self._tasks is not None
            for owned, items in lane.groups.doubted().items():
                self._tasks.create_task(self._settle(lane, owned, items))
        except JournalError as error:
            refused = lane.groups.failed()
            log.warning("records not kept", extra={"records": len(refused), "error": str(error)})
            for item in refused:
                item.commit.end(unavailable(error))
        else:
            written = lane.groups.written({o for o in groups if (o.type, o.number) in survivors})
            for item in written.kept:
                item.commit.end()
            ours = {owned for owned in written.fenced if self._give_up(owned)}
            for item in written.refused:
                item.commit.end(refenced() if item.owned in ours else _taken())

    async def _append(self, groups: dict[Owned, list[_Waiting]]) -> set[ShardKey]:
        """As the journal's; a shard whose records clash with what is there is not among those that
        were written."""
        try:
            written = set(await self._journal.append(_wire(groups)))
            for owned, items in groups.items():
                if (owned.type, owned.number) not in written:
                    self.late += len(items)
            return written
        except Clash as error:
            if len(groups) > 1:
                written = set[ShardKey]()
                for owned, items in groups.items():
                    written |= await self._append({owned: items})
                return written
            [owned] = groups
            log.error(
                "records clash",
                extra={"entity_type": owned.type, "shard": owned.number, "error": str(error)},
            )
            return set()

    async def _settle(self, lane: _Lane, owned: Owned, items: list[_Waiting]) -> None:
        """Find out what became of records in doubt, however long that takes."""
        attempt = 0
        while True:
            fence = Fence(owned.epoch, self._new_writer())
            keys = {item.record.key for item in items}
            try:
                await self._journal.take(owned.type, owned.number, fence)
                found = await self._journal.load(owned.type, owned.number, keys)
                break
            except Superseded:
                self._give_up(owned, superseded=True)
                # Whoever took it knows whether they were kept; this process does not any more.
                for item in [*items, *lane.groups.drop(owned)]:
                    item.commit.end(
                        CallError(Reason.FENCED, "the shard was taken while this was kept")
                    )
                return
            except JournalError as error:
                log.info("commit still in doubt", extra={"error": str(error)})
                owned.unclear = error
                for item in lane.groups.behind(owned):
                    item.commit.end(unavailable(error))
                await asyncio.sleep(PAUSES_S[min(attempt, len(PAUSES_S) - 1)])
                attempt += 1
        owned.fence, owned.unclear = fence, None
        # One transaction wrote all of them, or none.
        kept = all(
            (history := found.get(item.record.key)) is not None and history.seq >= item.record.seq
            for item in items
        )
        ended = items if kept else [*items, *lane.groups.drop(owned)]
        lane.groups.settled(owned)
        for item in ended:
            item.commit.end(None if kept else _lost())
        lane.wake.set()

    def _give_up(self, owned: Owned, *, superseded: bool = False) -> bool:
        owned.lost = True
        return self._lost(owned, superseded)


class _Lane:
    """One write at a time."""

    __slots__ = ("groups", "wake")

    def __init__(self) -> None:
        self.groups = CommitGroups[Owned, _Waiting](max_records=MAX_RECORDS, max_bytes=MAX_BYTES)
        self.wake = asyncio.Event()


def _wire(groups: dict[Owned, list[_Waiting]]) -> Sequence[Group]:
    made: list[Group] = []
    for owned, items in groups.items():
        assert owned.fence is not None, "it was taken before it was read"
        records = [item.record for item in items]
        made.append(Group(owned.type, owned.number, owned.fence, records))
    return made


def fenced(owned: Owned) -> CallError:
    """Somebody else has the shard by now."""
    return CallError(Reason.FENCED, f"shard {owned.number} of {owned.type} was taken by another")


def _taken() -> CallError:
    """Whoever has it now repeats the call."""
    return CallError(Reason.FENCED, "the shard was taken before this was kept")


def unavailable(error: JournalError) -> CallError:
    """Nothing was kept."""
    message = f"not kept, since the journal does not answer ({error}); nothing was acknowledged"
    return CallError(Reason.STORE_UNAVAILABLE, message, retry_after_s=1.0)


def _lost() -> CallError:
    return unavailable(InDoubt("the connection was lost before it was kept"))


def _not_owner(error: Superseded) -> CallError:
    return CallError(Reason.NOT_OWNER, f"{error}; nothing ran")
