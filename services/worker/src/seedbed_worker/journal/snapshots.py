"""Writes snapshots beside the commits: nobody waits for one, and one that is not written does no
harm, since the records are there and the next one covers them too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from seedbed_worker.journal.port import Journal, JournalError, Snapshot, Snapshots
from seedbed_worker.journal.writer import Owned

log = logging.getLogger(__name__)

WRITTEN_BYTES: Final = 1024 * 1024
"""Of snapshots that are written together: commits may have to wait for them."""
WAITING_BYTES: Final = 16 * 1024 * 1024
"""Of those that wait; more are left out."""


class SnapshotWriter:
    """Snapshots of one worker, the newest of each entity; one write at a time."""

    def __init__(self, journal: Journal, *, keep: int | None) -> None:
        """`keep`: so many records of events behind a snapshot stay; None: all. Of older states none
        do."""
        self._journal = journal
        self._keep = keep
        self._waiting: dict[tuple[Owned, str], Snapshot] = {}
        self._bytes = 0
        self._wake = asyncio.Event()

    def add(self, owned: Owned, snapshot: Snapshot) -> None:
        """Write it later, unless too much waits."""
        entity = (owned, snapshot.key)
        older = self._waiting.get(entity)
        size = len(snapshot.data) - (len(older.data) if older is not None else 0)
        if self._bytes + size > WAITING_BYTES:
            return
        self._bytes += size
        self._waiting[entity] = snapshot
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                groups = self._next()
                if not groups:
                    continue
                try:
                    keep = self._keep if groups[0].snapshots[0].of_events else 0
                    await self._journal.snapshot(groups, keep=keep)
                except JournalError as error:
                    count = sum(len(group.snapshots) for group in groups)
                    log.warning("snapshots not kept", extra={"count": count, "error": str(error)})

    def _next(self) -> Sequence[Snapshots]:
        """Some that have one `keep`."""
        groups: dict[Owned, list[Snapshot]] = {}
        size = 0
        of_events = next(iter(self._waiting.values())).of_events
        for (owned, key), snapshot in list(self._waiting.items()):
            if size and size + len(snapshot.data) > WRITTEN_BYTES:
                break
            if snapshot.of_events != of_events:
                continue
            del self._waiting[owned, key]
            self._bytes -= len(snapshot.data)
            size += len(snapshot.data)
            groups.setdefault(owned, []).append(snapshot)
        return [
            Snapshots(owned.type, owned.number, owned.fence, snapshots)
            for owned, snapshots in groups.items()
            if owned.fence is not None and not owned.lost
        ]
