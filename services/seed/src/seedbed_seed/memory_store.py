"""The store in this process's memory: for one seed that keeps nothing, and for tests.

Semantics are etcd's, as `store` states them. Every call first ends the leases that are due by the
clock it was given; inside its scope (`async with`) a task ends them also while nobody calls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from seedbed.clock import Clock, SystemClock
from seedbed_seed.store import (
    Change,
    Changed,
    Changes,
    Compare,
    Created,
    Delete,
    Entry,
    Get,
    LeaseExists,
    LeaseNotFound,
    Outcome,
    Put,
    Reading,
    Removed,
    Snapshot,
    StoreError,
    WatchUpdate,
    Write,
)
from seedbed_seed.store_limits import check_reads, check_write

PROGRESS_S = 1.0
"""A watch that has nothing to tell says so this often."""

WATCH_BACKLOG = 10_000
"""Updates that a slow watcher may leave unread; then it gets a new snapshot instead of them."""


@dataclass(slots=True)
class _Lease:
    ttl_s: int
    due_ns: int
    keys: set[str] = field(default_factory=set[str])


@dataclass(slots=True, eq=False)
class _Watcher:
    """One watch: updates not yet read, or (`pending` is None) the need of a snapshot."""

    prefix: str
    pending: deque[Changes] | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, update: Changes) -> None:
        if self.pending is None:
            return
        if len(self.pending) >= WATCH_BACKLOG:
            self.pending = None
        else:
            self.pending.append(update)
        self.news.set()


class MemoryStore:
    """The `Store` port without a server."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._revision = 1
        self._entries: dict[str, Entry] = {}
        self._leases: dict[int, _Lease] = {}
        self._watchers: set[_Watcher] = set()
        self._lease_changed = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._expiry: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await asyncio.TaskGroup().__aenter__()
        self._expiry = self._tasks.create_task(self._expire_for_ever(), name="memory store expiry")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        tasks, expiry = self._tasks, self._expiry
        assert tasks is not None
        assert expiry is not None
        expiry.cancel()
        # The body's own error leaves as it is, and not in a group.
        cancelled = isinstance(error, asyncio.CancelledError)
        await tasks.__aexit__(*((kind, error, trace) if cancelled else (None, None, None)))

    async def read(self, *gets: Get, timeout: float | None = None) -> Reading:
        """Read several keys and ranges at one revision."""
        check_reads(gets)
        self.expire()
        return Reading(self._revision, self._answers(gets))

    async def write(
        self,
        *writes: Write,
        when: Sequence[Compare] = (),
        otherwise: Sequence[Get] = (),
        timeout: float | None = None,
    ) -> Outcome:
        """Write all if every compare holds, else nothing (and read `otherwise`)."""
        check_write(writes, when, otherwise)
        self.expire()
        if not all(self._holds(compare) for compare in when):
            return Outcome(False, self._revision, self._answers(otherwise))
        for write in writes:
            if isinstance(write, Put) and write.lease and write.lease not in self._leases:
                raise LeaseNotFound(f"lease {write.lease:x} has ended")
        self._commit(writes)
        return Outcome(True, self._revision)

    async def grant(self, lease: int, ttl_s: int, *, timeout: float | None = None) -> int:
        """Grant a lease under an id of the caller's choosing; returns its TTL in seconds."""
        if lease <= 0 or ttl_s <= 0:
            raise StoreError("a lease has a positive id and TTL")
        self.expire()
        if lease in self._leases:
            raise LeaseExists(f"lease {lease:x} is granted already")
        self._leases[lease] = _Lease(ttl_s, self._due_ns(ttl_s))
        self._lease_changed.set()
        return ttl_s

    async def renew(self, lease: int, *, timeout: float | None = None) -> int:
        """Renew; returns the TTL in seconds, or 0 if the lease has ended."""
        self.expire()
        held = self._leases.get(lease)
        if held is None:
            return 0
        held.due_ns = self._due_ns(held.ttl_s)
        return held.ttl_s

    async def revoke(self, lease: int, *, timeout: float | None = None) -> None:
        """End a lease, with its keys; an unknown lease is no error."""
        self.expire()
        self._end_lease(lease)

    def watch(self, prefix: str) -> AbstractAsyncContextManager[AsyncIterator[WatchUpdate]]:
        """A snapshot of all keys under the prefix, then every change."""
        return self._watch(prefix)

    def full(self) -> bool:
        """Never: memory is the limit."""
        return False

    def expire(self) -> None:
        """End the leases that are due by the clock (a test that moves the clock calls this)."""
        now_ns = self._clock.now_ns()
        due = [lease for lease, held in self._leases.items() if held.due_ns <= now_ns]
        for lease in due:
            self._end_lease(lease)

    @asynccontextmanager
    async def _watch(self, prefix: str) -> AsyncGenerator[AsyncIterator[WatchUpdate], None]:
        watcher = _Watcher(prefix)
        self._watchers.add(watcher)
        try:
            yield _Updates(self, watcher)
        finally:
            self._watchers.discard(watcher)

    async def next_update(self, watcher: _Watcher) -> WatchUpdate:
        """Wait for the watcher's next update (for `_Updates` only)."""
        self.expire()
        if watcher.pending is not None and not watcher.pending:
            watcher.news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(PROGRESS_S):
                    await watcher.news.wait()
            self.expire()
        return self._take(watcher)

    def _take(self, watcher: _Watcher) -> WatchUpdate:
        if watcher.pending is None:
            watcher.pending = deque()
            (entries,) = self._answers([Get(watcher.prefix, prefix=True)])
            return Snapshot(self._revision, entries)
        if not watcher.pending:
            return Changes(self._revision)
        return watcher.pending.popleft()

    def _answers(self, gets: Sequence[Get]) -> tuple[tuple[Entry, ...], ...]:
        return tuple(self._answer(get) for get in gets)

    def _answer(self, get: Get) -> tuple[Entry, ...]:
        if get.prefix:
            found = [self._entries[k] for k in sorted(self._entries) if k.startswith(get.key)]
        else:
            found = [self._entries[get.key]] if get.key in self._entries else []
        return tuple(
            replace(entry, value=b"", lease=0) if get.keys_only else entry for entry in found
        )

    def _holds(self, compare: Compare) -> bool:
        entry = self._entries.get(compare.key)
        if isinstance(compare, Created):
            created = entry.create_revision if entry else 0
            return (created == compare.revision) is compare.equal
        return (entry.mod_revision if entry else 0) == compare.revision

    def _commit(self, writes: Sequence[Write]) -> None:
        """Carry out writes that were found legal, as one revision."""
        revision = self._revision + 1
        changes: list[Change] = []
        for write in writes:
            last = self._entries.get(write.key)
            if isinstance(write, Delete) and last is None:
                continue
            if last is not None and last.lease in self._leases:
                self._leases[last.lease].keys.discard(write.key)
            if isinstance(write, Delete):
                del self._entries[write.key]
                changes.append(Removed(write.key, revision, last))
                continue
            created = last.create_revision if last else revision
            entry = Entry(write.key, write.value, created, revision, write.lease)
            self._entries[write.key] = entry
            if write.lease:
                self._leases[write.lease].keys.add(write.key)
            changes.append(Changed(entry))
        if not changes:
            return
        self._revision = revision
        for watcher in self._watchers:
            seen = tuple(change for change in changes if _key(change).startswith(watcher.prefix))
            if seen:
                watcher.tell(Changes(revision, seen))

    def _end_lease(self, lease: int) -> None:
        held = self._leases.get(lease)
        if held is not None:
            self._commit([Delete(key) for key in sorted(held.keys)])
            del self._leases[lease]

    def _due_ns(self, ttl_s: int) -> int:
        return self._clock.now_ns() + ttl_s * 1_000_000_000

    async def _expire_for_ever(self) -> None:
        while True:
            self.expire()
            self._lease_changed.clear()
            due_ns = min((held.due_ns for held in self._leases.values()), default=None)
            wait_s = None if due_ns is None else max(0.0, (due_ns - self._clock.now_ns()) / 1e9)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._lease_changed.wait()


class _Updates:
    """The iterator of one watch; a cancelled `anext` loses nothing."""

    def __init__(self, store: MemoryStore, watcher: _Watcher) -> None:
        self._store = store
        self._watcher = watcher

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchUpdate:
        return await self._store.next_update(self._watcher)


def _key(change: Change) -> str:
    return change.entry.key if isinstance(change, Changed) else change.key
