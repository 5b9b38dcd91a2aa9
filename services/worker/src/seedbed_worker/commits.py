"""What the end of a turn does to its entity: the changes are kept, or the turn is undone.

Memory never runs ahead of the store. A state is written before anybody hears of it, and after a
failed turn it is read again if memory differs. Volatile classes have no store: what they keep is in
memory already, and a failed turn leaves that as it is.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Literal, TypeAlias

from seedbed.entity import AnyEntity
from seedbed.errors import StateError
from seedbed.service.logs import personal
from seedbed_worker.core.mailbox import HOLDING
from seedbed_worker.entity_store import EntityStore, Ownership, Stored
from seedbed_worker.hosted import HostedClass
from seedbed_worker.state_codec import StateCodec, codec_of

if TYPE_CHECKING:
    from seedbed_worker.jobs import Job  # a job asks for its turn to be ended

log = logging.getLogger(__name__)

Change: TypeAlias = Literal["save", "delete"]

# What `seedbed_kept` says of an entity; else it is a hash of its stored state. With that a failed
# turn is compared without a read, for 40 bytes an entity.
NOTHING = 0
KEPT = 1
"""Of a volatile class."""
UNSURE = -1
"""A commit has failed, and may have happened. No hash of bytes is -1."""


class Commits:
    """Ends the turns of one class. Raises `StateError` if its fresh state cannot be serialised."""

    __slots__ = ("_codec", "_fresh", "_hosted", "_store", "_type")

    _codec: StateCodec
    _fresh: int

    def __init__(self, hosted: HostedClass, store: EntityStore) -> None:
        self._hosted = hosted
        self._type = hosted.contract.type
        self._store = store if hosted.durable else None
        if self._store is not None:
            self._codec = codec_of(hosted.state)
            self._fresh = _mark(self._codec.encode(hosted.state()))

    async def load(self, entity: AnyEntity, shard: Ownership) -> None:
        """Give the entity its state; raises what the store does, and `StateError`."""
        stored = None
        if self._store is not None:
            stored = await self._store.load(self._type, entity.seedbed_key, shard)
        self._set(entity, stored)

    async def keep(self, job: Job) -> None:
        """The job's turn succeeded: its changes take effect, all of them, or this raises.

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
        if self._store is not None:
            data = None if change == "delete" else self._write(entity)
            job.at_store = True
            try:
                await self._store.commit(self._type, cell.key, Stored(seq, data), job.shard)
            except BaseException:
                entity.seedbed_kept = UNSURE
                raise
            finally:
                job.at_store = False
            kept = NOTHING if data is None else _mark(data)
        entity.seedbed_seq = seq
        entity.seedbed_kept = kept
        if change == "delete":
            entity.state = self._hosted.state()
        if cell.watchers:
            watchers, cell.watchers = cell.watchers, None
            for watcher in watchers:
                watcher.granted()

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

    def _differs(self, entity: AnyEntity) -> bool:
        try:
            mark = _mark(self._codec.encode(entity.state))
        except StateError:
            return True
        return mark != (entity.seedbed_kept or self._fresh)

    def _set(self, entity: AnyEntity, stored: Stored | None) -> None:
        data = stored.data if stored is not None else None
        entity.state = self._hosted.state() if data is None else self._read(entity, data)
        entity.seedbed_kept = NOTHING if data is None else _mark(data)
        entity.seedbed_seq = stored.seq if stored is not None else 0

    def _write(self, entity: AnyEntity) -> bytes:
        try:
            return self._codec.encode(entity.state)
        except StateError as error:
            raise StateError(f"{self._hosted.name} {entity.seedbed_key!r}: {error}") from error

    def _read(self, entity: AnyEntity, data: bytes) -> object:
        try:
            return self._codec.decode(data)
        except StateError as error:
            raise StateError(f"{self._hosted.name} {entity.seedbed_key!r}: {error}") from error


def _mark(data: bytes) -> int:
    return hash(data) or KEPT
