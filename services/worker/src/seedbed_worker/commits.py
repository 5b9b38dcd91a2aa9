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
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from seedbed.calls import Failed, Replied
from seedbed.entity import AnyEntity
from seedbed.errors import CallError, StateError, UnreadableState
from seedbed.service.logs import personal
from seedbed_worker.cells import Cell
from seedbed_worker.core.mailbox import HOLDING
from seedbed_worker.entity_store import Commit, EntityStore, Ownership
from seedbed_worker.hosted import HostedClass
from seedbed_worker.journal.port import History, Kind, Record
from seedbed_worker.state_codec import StateCodec, codec_of

if TYPE_CHECKING:
    from seedbed_worker.jobs import Job  # a job asks for its turn to be ended

log = logging.getLogger(__name__)

Change: TypeAlias = Literal["save", "delete"]

Drop: TypeAlias = Callable[[AnyEntity, CallError], object]

# What `seedbed_kept` says of an entity; else it is a hash of its stored state. With that a failed
# turn is compared without a read, for 40 bytes an entity.
NOTHING = 0
KEPT = 1
"""Of a volatile class."""
UNSURE = -1
"""A commit was refused at once. No hash of bytes is -1."""


class Commits:
    """Ends the turns of one class. `drop` is told of an entity whose commit has failed.

    Raises `StateError` if the class's fresh state cannot be serialised.
    """

    __slots__ = ("_codec", "_drop", "_fresh", "_hosted", "_store", "_type", "under_way")

    _codec: StateCodec
    _fresh: int

    def __init__(self, hosted: HostedClass, store: EntityStore, drop: Drop) -> None:
        self._hosted = hosted
        self._drop = drop
        self.under_way: dict[str, Commit] = {}
        """The newest commit of each entity, by key, as long as it has not ended."""
        self._type = hosted.contract.type
        self._store = store if hosted.durable else None
        if self._store is not None:
            self._codec = codec_of(hosted.state)
            self._fresh = _mark(self._codec.encode(hosted.state()))

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
        seq = entity.seedbed_seq + 1
        kept = NOTHING if change == "delete" else KEPT
        commit: Commit | None = None
        if self._store is not None:
            record = self._record(entity, change, seq, job, answer)
            try:
                commit = self._store.commit(self._type, record, job.shard)
            except CallError:
                entity.seedbed_kept = UNSURE
                raise
            kept = NOTHING if record.kind is Kind.DELETED else _mark(record.data)
        entity.seedbed_seq = seq
        entity.seedbed_kept = kept
        if change == "delete":
            entity.state = self._hosted.state()
        if commit is None or commit.done:
            cell.tell_watchers()
        else:
            self.under_way[cell.key] = job.commit = commit
            commit.then(partial(self._ended, cell, entity))

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
        if job.standing is not HOLDING or not job.home.rt.running or not self._differs(entity):
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

    def _differs(self, entity: AnyEntity) -> bool:
        try:
            mark = _mark(self._codec.encode(entity.state))
        except StateError:
            return True
        return mark != (entity.seedbed_kept or self._fresh)

    def _record(
        self, entity: AnyEntity, change: Change, seq: int, job: Job, answer: Replied | Failed | None
    ) -> Record:
        key = entity.seedbed_key
        kind = Kind.DELETED if change == "delete" else Kind.STATE
        data = b"" if kind is Kind.DELETED else self._write(entity)
        repeats = job.home.repeats
        if repeats is None or answer is None or not job.call.request_id:
            return Record(key, seq, kind, data, job.home.rt.clock.wall_ms())
        kept = repeats.outcome(job, answer)
        return Record(
            key, seq, kind, data, kept.time_ms, kept.request_id, kept.data, kept.keep_until_ms
        )

    def _set(self, entity: AnyEntity, found: History | None) -> None:
        data = found.state if found is not None and found.exists else None
        entity.state = self._hosted.state() if data is None else self._read(entity, data)
        entity.seedbed_kept = NOTHING if data is None else _mark(data)
        entity.seedbed_seq = found.seq if found is not None else 0

    def _write(self, entity: AnyEntity) -> bytes:
        try:
            return self._codec.encode(entity.state)
        except StateError as error:
            raise StateError(f"{self._hosted.name} {entity.seedbed_key!r}: {error}") from error

    def _read(self, entity: AnyEntity, data: bytes) -> object:
        try:
            return self._codec.decode(data)
        except StateError as error:
            raise UnreadableState(
                f"what is stored of {self._hosted.name} {entity.seedbed_key!r} cannot be read:"
                f" {error}; nothing ran"
            ) from error


def _mark(data: bytes) -> int:
    return hash(data) or KEPT
