"""Carries out what the coordinator decides: one guarded transaction, and the truth about it.

A table's guard is the revision that it was decided from, a lost member's that its record is still
gone, the leader's that it still leads: a decision from an old view changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from seedbed import tables as table_codec
from seedbed.clock import Clock
from seedbed.v1 import store_pb2
from seedbed_seed.cluster_view import ClusterView
from seedbed_seed.core import decisions
from seedbed_seed.election import Leadership
from seedbed_seed.retrying import Backoff
from seedbed_seed.store import (
    Compare,
    Created,
    Get,
    Modified,
    Put,
    Store,
    StoreError,
    StoreFull,
    WriteInDoubt,
)

log = logging.getLogger(__name__)

FULL_PAUSE_S = 5.0
"""Between two looks at whether a store that was out of space takes writes again."""


class Placement:
    """Writes tables. Each call of the store ends within `write_s`."""

    def __init__(self, *, store: Store, clock: Clock, view: ClusterView, write_s: float) -> None:
        self._store = store
        self._clock = clock
        self._view = view
        self._write_s = write_s

    async def carry_out(self, leadership: Leadership, persist: decisions.Persist) -> None:
        """One guarded write; afterwards the core knows what became of it."""
        try:
            revision = await self.write(leadership, persist)
        except (StoreFull, WriteInDoubt) as error:
            full = isinstance(error, StoreFull)
            log.error("store full" if full else "write in doubt", extra={"error": str(error)})
            revision = await self._read_back(persist)
            if full and revision is None:
                # A named state, not a retry loop: the store says when it takes writes again.
                await self._until_not_full()
        except StoreError as error:
            log.warning("placement not written", extra={"error": str(error)})
            revision = None
        if revision is None:
            self._apply(decisions.PersistFailed())
            return
        self._apply(decisions.Persisted(revision))
        log.info(
            "tables written",
            extra={
                "tables": [f"{table.type}/{table.chunk}" for table in persist.tables],
                "generation": max(table.generation for table in persist.tables),
                "revision": revision,
            },
        )

    async def write(self, leadership: Leadership, persist: decisions.Persist) -> int | None:
        """Revision of the write; None (once the view shows why) if a guard did not hold."""
        keys = self._view.keys
        puts: list[Put] = []
        guards: list[Compare] = [leadership.guard]
        for table in persist.tables:
            key = keys.table(table.type, table.chunk)
            puts.append(Put(key, table_codec.to_proto(table).SerializeToString()))
            guards.append(Modified(key, table.revision) if table.revision else Created(key, 0))
        for node_id, create_revision in persist.gone:
            guards.append(Created(keys.worker(node_id), create_revision, equal=False))
        outcome = await self._store.write(*puts, when=guards, timeout=self._write_s)
        if outcome.succeeded:
            return outcome.revision
        log.info("placement overtaken", extra={"revision": outcome.revision})
        await self._catch_up(outcome.revision)
        return None

    async def _read_back(self, persist: decisions.Persist) -> int | None:
        """Revision of a write in doubt if it was carried out; tables are written all or none."""
        table = persist.tables[0]
        key = self._view.keys.table(table.type, table.chunk)
        backoff = Backoff()
        while True:
            try:
                reading = await self._store.read(Get(key), timeout=self._write_s)
                break
            except StoreError:
                await backoff.wait()
        await self._catch_up(reading.revision)
        for entry in reading.answers[0]:
            stored = store_pb2.AllocationTable.FromString(entry.value)
            if stored == table_codec.to_proto(table):
                return entry.mod_revision
        return None

    async def _catch_up(self, revision: int) -> None:
        """Let the view see why a guard failed, unless the watch stands still."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._write_s):
                await self._view.reached(revision)

    async def _until_not_full(self) -> None:
        while True:
            await asyncio.sleep(FULL_PAUSE_S)
            if not self._store.full():
                return

    def _apply(self, event: decisions.Event) -> None:
        self._view.coordinator.apply(event, self._clock.now_ns())
