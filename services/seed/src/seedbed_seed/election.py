"""Leadership as a scope, by etcd's own recipe, over the `Store` port.

Each candidate writes a key of its own under its lease; the one with the lowest create revision
leads, and each of the others watches only the next lower one, so that the end of a leader wakes one
candidate and not all. Being leader by this is an optimisation: what proves it is the guard
(`Created(key, revision)`), which every write of the leader carries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from seedbed_seed.retrying import Backoff
from seedbed_seed.store import (
    Changed,
    Created,
    Delete,
    Entry,
    Get,
    Put,
    Snapshot,
    Store,
    StoreError,
    StoreUnreachable,
    WatchUpdate,
    WriteInDoubt,
)

RESIGN_LIMIT_S = 1.0


class LeadershipLost(StoreError):
    """The candidate's key is gone (its lease ended, or somebody deleted it), or the store was
    restored: nothing may be decided in its name any more."""


@dataclass(frozen=True, slots=True)
class Leadership:
    """A won election."""

    key: str
    revision: int
    """Create revision of the key."""
    elected_revision: int
    """Revision of the store at which the candidate was seen to lead: read nothing older."""

    @property
    def guard(self) -> Created:
        """The compare that every write of the leader carries."""
        return Created(self.key, self.revision)


@asynccontextmanager
async def campaign(
    store: Store, prefix: str, lease: int, value: bytes
) -> AsyncGenerator[Leadership, None]:
    """Wait until elected, then lead for the length of the scope; its end resigns.

    The lease is the caller's to grant and to renew. If the candidate's key goes, while it waits or
    while it leads, the body is cancelled and `LeadershipLost` raised. `LeaseNotFound` if the lease
    has ended before. While the store cannot be reached nothing is noticed: the caller fences
    itself by its lease, and the guard does the rest.
    """
    own = candidate_key(prefix, lease)
    try:
        entry = await _stand(store, own, lease, value)
    except BaseException:
        await _withdraw(store, own, lease)
        raise
    gone = asyncio.timeout(None)
    failure: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        guarding = tasks.create_task(_end_when_gone(store, entry, gone))
        try:
            async with gone:
                elected_revision = await _until_lowest(store, prefix, entry)
                yield Leadership(own, entry.create_revision, elected_revision)
        except TimeoutError as error:
            failure = LeadershipLost(f"{own} is gone") if gone.expired() else error
        except Exception as error:
            # Kept, so that it leaves as it is and not in the task group's group.
            failure = error
        finally:
            guarding.cancel()
            await _resign(store, entry)
    if failure is not None:
        raise failure


def candidate_key(prefix: str, lease: int) -> str:
    """Return the key of a candidate: of one length, so that none begins with another."""
    return f"{prefix.rstrip('/')}/{lease:016x}"


async def _stand(store: Store, own: str, lease: int, value: bytes) -> Entry:
    """Write the candidate's key, or find it: it is ours if it carries our lease."""
    backoff = Backoff()
    while True:
        try:
            outcome = await store.write(
                Put(own, value, lease), when=[Created(own, 0)], otherwise=[Get(own)]
            )
        except (WriteInDoubt, StoreUnreachable):
            # Asked anew, which finds the key if it was written: the guard lets only one of the two
            # create it, and whose it is shows by its lease.
            await backoff.wait()
            continue
        if outcome.succeeded:
            return Entry(own, value, outcome.revision, outcome.revision, lease)
        entry = outcome.answers[0][0]
        if entry.lease != lease:
            raise StoreError(f"{own} belongs to another lease")
        if entry.value == value:
            return entry
        with suppress(WriteInDoubt, StoreUnreachable):
            await store.write(Put(own, value, lease), when=[Created(own, entry.create_revision)])


async def _until_lowest(store: Store, prefix: str, entry: Entry) -> int:
    """Wait until no candidate is older; return the revision at which that was read."""
    backoff = Backoff()
    while True:
        try:
            reading = await store.read(Get(f"{prefix.rstrip('/')}/", prefix=True, keys_only=True))
        except StoreUnreachable:
            await backoff.wait()
            continue
        candidates = reading.answers[0]
        if not any(_same(candidate, entry) for candidate in candidates):
            raise LeadershipLost(f"{entry.key} is gone")
        older = [other for other in candidates if other.create_revision < entry.create_revision]
        if not older:
            return reading.revision
        await _until_gone(store, max(older, key=lambda other: other.create_revision))


async def _end_when_gone(store: Store, entry: Entry, scope: asyncio.Timeout) -> None:
    await _until_gone(store, entry)
    scope.reschedule(asyncio.get_running_loop().time())


async def _until_gone(store: Store, entry: Entry) -> None:
    """Wait until this key, as it was created then, is no longer there."""
    async with store.watch(entry.key) as updates:
        async for update in updates:
            if _gone(update, entry):
                return


def _gone(update: WatchUpdate, entry: Entry) -> bool:
    if isinstance(update, Snapshot):
        return update.restored or not any(_same(found, entry) for found in update.entries)
    return any(
        not _same(change.entry, entry) if isinstance(change, Changed) else True
        for change in update.changes
        if (change.entry.key if isinstance(change, Changed) else change.key) == entry.key
    )


def _same(found: Entry, entry: Entry) -> bool:
    return found.key == entry.key and found.create_revision == entry.create_revision


async def _withdraw(store: Store, own: str, lease: int) -> None:
    """Delete the key that a claim given up in its middle may have left: it would lead for ever."""
    with suppress(StoreError):
        reading = await store.read(Get(own), timeout=RESIGN_LIMIT_S)
        for entry in reading.answers[0]:
            if entry.lease == lease:
                await _resign(store, entry)


async def _resign(store: Store, entry: Entry) -> None:
    """Delete the candidate's key; if that fails, the end of its lease does it."""
    with suppress(StoreError):
        await store.write(
            Delete(entry.key),
            when=[Created(entry.key, entry.create_revision)],
            timeout=RESIGN_LIMIT_S,
        )
