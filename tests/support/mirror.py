"""A reader of a watch: what it knows, and everything it was told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from seedbed_seed.store import Changed, Entry, Snapshot, Store


class Mirror:
    """Keeps the keys under a prefix as a watch tells them."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.revision = 0
        self.snapshots: list[Snapshot] = []
        self.changes: list[tuple[int, str]] = []
        """Revision and key of every change told, in order."""
        self.updates = 0

    async def run(self, store: Store, prefix: str) -> None:
        async with store.watch(prefix) as updates:
            async for update in updates:
                if isinstance(update, Snapshot):
                    self.snapshots.append(update)
                    self.entries = {entry.key: entry for entry in update.entries}
                else:
                    assert update.revision >= self.revision, "a watch went back"
                    for change in update.changes:
                        if isinstance(change, Changed):
                            self.entries[change.entry.key] = change.entry
                            self.changes.append((change.entry.mod_revision, change.entry.key))
                        else:
                            self.entries.pop(change.key, None)
                            self.changes.append((change.revision, change.key))
                self.revision = update.revision
                self.updates += 1


@asynccontextmanager
async def mirror(store: Store, prefix: str) -> AsyncGenerator[Mirror, None]:
    """Watch for the length of a scope."""
    watching = Mirror()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(watching.run(store, prefix))
        try:
            yield watching
        finally:
            task.cancel()
