"""What the end of a turn does to its entity: the changes are kept, or the turn is undone.

A turn's changes are in memory at once, and the entity's next turn may build on them; but nobody
hears of them before they are stored: an answer is held until the newest change that its turn could
have seen is kept. If one is not, the entity leaves memory with all that was built on it, and every
held answer becomes the error. After a failed turn the state is read again if memory differs.
Volatile classes have no store: what they keep is in memory already, and a failed turn leaves that
as it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from seedbed.calls import Failed, Replied
from seedbed.entity import AnyEntity
from seedbed.errors import CallError
from seedbed.service.logs import personal
from seedbed_worker.cells import Cell
from seedbed_worker.contents import KEPT, NOTHING, UNSURE, Contents, Written, deletes
from seedbed_worker.core.mailbox import HOLDING
from seedbed_worker.emitted import Emitted
from seedbed_worker.entity_store import Commit, EntityStore, Ownership
from seedbed_worker.hosted import HostedClass
from seedbed_worker.journal.port import History, Kind, Record, ReminderChange, Snapshot
from seedbed_worker.reminding import Asked

if TYPE_CHECKING:
    from seedbed_worker.jobs import Job  # a job asks for its turn to be ended

log = logging.getLogger(__name__)

Drop: TypeAlias = Callable[[AnyEntity, CallError], object]


class Commits:
    """Ends the turns of one class. `drop` is told of an entity whose commit has failed.

    Raises `StateError` if the class's fresh state cannot be serialised.
    """

    __slots__ = ("_contents", "_drop", "_hosted", "_store", "_type", "under_way")

    _contents: Contents

    def __init__(self, hosted: HostedClass, store: EntityStore, drop: Drop) -> None:
        self._hosted = hosted
        self._drop = drop
        self.under_way: dict[str, Commit] = {}
        """The newest commit of each entity, by key, as long as it has not ended."""
        self._type = hosted.contract.type
        self._store = store if hosted.durable else None
        if self._store is not None:
            self._contents = Contents(hosted)

    async def load(self, entity: AnyEntity, shard: Ownership) -> None:
        """Give the entity its state; raises what the store does, and `StateError`."""
        found = None
        if self._store is not None:
            found = await self._store.load(self._type, entity.seedbed_key, shard)
        self._set(entity, found)

    def keep(self, job: Job, answer: Replied | Failed | None = None) -> None:
        """The job's turn succeeded: its changes take effect, all of them, or this raises. They are
        stored when the commit that is then `under_way` has ended, with the call's answer if this is
        its last turn.

        One that was stopped meanwhile (its caller has been told) has not succeeded.
        """
        if job.ended:
            raise asyncio.CancelledError
        change, job.change = job.change, None
        cell, entity = job.cell, job.entity
        if change is None or cell is None or entity is None:
            return
        if isinstance(change, Emitted) and change.failure is not None:
            raise change.failure
        asked, job.reminders = job.reminders or {}, None
        if change == "remind":
            if not any(one.durable for one in asked.values()):
                self._tell_reminders(job, asked, self.under_way.get(cell.key))
                return
            change = Emitted() if self._hosted.events else "save"
        deleted = deletes(change)
        seq = entity.seedbed_seq + 1
        kept = NOTHING if deleted else KEPT
        commit: Commit | None = None
        snapshot: Snapshot | None = None
        if self._store is not None:
            written = self._contents.write(entity, change, seq)
            record = self._record(entity, written, seq, job, answer)
            if written.snapshot:
                snapshot = Snapshot(
                    *(record.key, seq, written.snapshot, record.time_ms),
                    of_events=written.kind is Kind.EVENTS,
                )
            if asked:
                record = replace(record, reminders=_stored(asked, seq))
            try:
                commit = self._store.commit(self._type, record, job.shard)
            except CallError:
                entity.seedbed_kept = UNSURE
                raise
            kept = written.mark
        entity.seedbed_seq = seq
        entity.seedbed_kept = kept
        if deleted:
            entity.state = self._hosted.state()
        if commit is None or commit.done:
            cell.tell_watchers()
        else:
            self.under_way[cell.key] = job.commit = commit
            commit.then(partial(self._ended, cell, entity))
        if commit is not None and snapshot is not None:
            commit.then(partial(self._keep_snapshot, snapshot, job.shard))
        if asked or deleted:
            self._tell_reminders(job, asked, commit, deleted=deleted)

    def note(self, job: Job, change: ReminderChange) -> Commit:
        """Keep this of a reminder, beside what the job's turn changes. Raises `CallError`."""
        cell, entity, store = job.cell, job.entity, self._store
        if job.ended:
            raise asyncio.CancelledError
        assert cell is not None
        assert entity is not None
        assert store is not None
        seq, now_ms = entity.seedbed_seq + 1, job.home.rt.clock.wall_ms()
        record = Record(cell.key, seq, Kind.NOTE, b"", now_ms, reminders=(change,))
        commit = store.commit(self._type, record, job.shard)
        entity.seedbed_seq = seq
        if not commit.done:
            self.under_way[cell.key] = commit
            commit.then(partial(self._ended, cell, entity))
        return commit

    async def confirm(self, shard: Ownership) -> None:
        """Return if what the shard's entities change would be kept now. Raises `CallError`, and
        `RuntimeError` for a volatile class."""
        if self._store is None:
            raise RuntimeError(
                f"turn.confirm(): {self._hosted.name} is declared with durable=False, so no store"
                " knows who owns it"
            )
        await self._store.confirm(self._type, shard)

    async def kept(self, key: str) -> None:
        """Return once all that the entity's turns have changed is stored. Raises `CallError`."""
        commit = self.under_way.get(key)
        if commit is not None:
            await commit.wait()

    async def undo(self, job: Job) -> None:
        """The job's turn failed: what is in memory becomes again what is stored.

        If that cannot be read, the entity leaves memory.
        """
        store, cell, entity = self._store, job.cell, job.entity
        if store is None or cell is None or entity is None or cell.dead:
            return
        if (
            job.standing is not HOLDING
            or not job.home.rt.running
            or not self._contents.differs(entity)
        ):
            return
        job.at_store = True
        try:
            self._set(entity, await store.load(self._type, cell.key, job.shard))
        except (Exception, asyncio.CancelledError) as error:
            log.error(
                "state not read after a failed turn",
                extra={"entity": self._hosted.name} | personal(key=cell.key),
                exc_info=error,
            )
            job.home.discard(cell)
        finally:
            job.at_store = False

    def _ended(self, cell: Cell, entity: AnyEntity, commit: Commit) -> None:
        if self.under_way.get(cell.key) is commit:
            del self.under_way[cell.key]
        if commit.error is None:
            cell.tell_watchers()
        else:
            self._drop(entity, commit.error)

    def _tell_reminders(
        self,
        job: Job,
        asked: Mapping[tuple[str, str], Asked],
        commit: Commit | None,
        *,
        deleted: bool = False,
    ) -> None:
        entity = job.entity
        assert entity is not None
        job.home.rt.reminders.changed(
            job.shard,
            (self._type, job.call.key),
            asked,
            entity.seedbed_seq,
            commit,
            deleted=deleted,
        )

    def _keep_snapshot(self, snapshot: Snapshot, shard: Ownership, commit: Commit) -> None:
        # Not before its newest record is kept, which may never be.
        if commit.error is None and self._store is not None:
            self._store.snapshot(self._type, snapshot, shard)

    def _record(
        self,
        entity: AnyEntity,
        written: Written,
        seq: int,
        job: Job,
        answer: Replied | Failed | None,
    ) -> Record:
        key, kind, data = entity.seedbed_key, written.kind, written.data
        repeats = job.home.repeats
        if repeats is None or answer is None or not job.call.request_id:
            return Record(key, seq, kind, data, job.home.rt.clock.wall_ms())
        kept = repeats.outcome(job, answer)
        return Record(
            key, seq, kind, data, kept.time_ms, kept.request_id, kept.data, kept.keep_until_ms
        )

    def _set(self, entity: AnyEntity, found: History | None) -> None:
        if self._store is not None:
            self._contents.restore(entity, found)
            return
        entity.state = self._hosted.state()
        entity.seedbed_kept, entity.seedbed_seq = NOTHING, 0


def _stored(asked: Mapping[tuple[str, str], Asked], seq: int) -> tuple[ReminderChange, ...]:
    return tuple(
        ReminderChange(*place, one.appointment(seq)) for place, one in asked.items() if one.durable
    )
