"""The journal in PostgreSQL.

A fence is a row, locked by every append until it is committed: so a `take` waits for the appends
before it, and those after it see what it has set. An append is one statement that commits itself:
whoever sent it cannot hold the lock by having stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TypeVar

import asyncpg

from seedbed_worker.core.outcomes import Kept
from seedbed_worker.core.reminders import Appointment, Listed, Place
from seedbed_worker.journal import postgres_statements as sql
from seedbed_worker.journal.belonging import check_cluster, check_counts, check_uid, new_journal
from seedbed_worker.journal.histories import history
from seedbed_worker.journal.port import (
    Fence,
    Group,
    History,
    InDoubt,
    Kind,
    Record,
    ShardKey,
    Snapshots,
    Superseded,
    Unavailable,
    Whose,
    Written,
)
from seedbed_worker.journal.postgres_append import append
from seedbed_worker.journal.postgres_lane import Lane
from seedbed_worker.journal.postgres_schema import check
from seedbed_worker.journal.postgres_session import Session, Sessions

T = TypeVar("T")

LANES = 2
"""Connections that append: one is busy while the other waits for the disk; more bring nothing."""
READERS = 2
"""Connections for all else, so that no take waits for a long read of another shard."""
LIMIT_S = 10.0
"""Then the connection of a request is given up: a disk or a standby that pauses is back by then,
and callers have some of their time left."""
LOCK_WAIT_S = 5.0
"""How long `take` waits for an append of the owner before it."""


class PostgresJournal:
    """A `Journal`. Its connections are used by tasks of its own, from `open` to `close`.

    `dsn` gives the address, and is asked for each connection. `require_sync`: refuse a server
    without synchronous replication. Limits are in seconds.
    """

    lanes = LANES

    def __init__(
        self,
        dsn: Callable[[], str],
        *,
        require_sync: bool = False,
        limit_s: float = LIMIT_S,
        lock_wait_s: float = LOCK_WAIT_S,
    ) -> None:
        self._sessions = Sessions(dsn, require_sync=require_sync)
        self._writers = [Lane(self._sessions.writing, limit_s=limit_s) for _ in range(LANES)]
        self._readers = [Lane(self._sessions.reading, limit_s=limit_s) for _ in range(READERS)]
        self._lock_wait = f"{lock_wait_s * 1000:.0f}ms"
        self._types: dict[str, int] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._running: list[asyncio.Task[None]] = []
        self._closed = False

    async def open(self, cluster: str) -> Whose:
        """See `Journal`. It must have been migrated. Raises `WrongJournal` also for a server whose
        settings let it lose what it has written.
        """

        async def opened(session: Session) -> Whose:
            await check(session.connection)
            await session.connection.execute(sql.BEGIN, *new_journal(cluster))
            whose = await session.whose()
            check_cluster(whose, cluster)
            return whose

        await self._start()
        self._sessions.whose = None
        whose = await self._repeatable(self._readers[0], opened)
        self._sessions.whose = whose
        return whose

    async def enter(self, shard_counts: Mapping[str, int]) -> None:
        """See `Journal`."""

        async def entered(session: Session) -> dict[str, int]:
            rows = await session.connection.fetch(sql.TYPES)
            check_counts({row["name"]: row["shard_count"] for row in rows}, shard_counts)
            counts = list(shard_counts.items())
            await session.connection.execute(
                sql.ENTER, [name for name, _ in counts], [str(count) for _, count in counts]
            )
            rows = await session.connection.fetch(sql.TYPES)
            check_counts({row["name"]: row["shard_count"] for row in rows}, shard_counts)
            return {row["name"]: row["id"] for row in rows}

        self._types = await self._repeatable(self._readers[0], entered)

    async def bind(self, cluster_uid: str) -> None:
        """See `Journal`."""

        async def bound(session: Session) -> None:
            await session.connection.execute(sql.BIND, cluster_uid)
            check_uid(await session.whose(), cluster_uid)

        await self._repeatable(self._readers[0], bound)

    async def rebind(self, cluster_uid: str) -> None:
        """See `Journal`."""

        async def rebound(session: Session) -> None:
            await session.connection.execute(sql.REBIND, cluster_uid)

        await self._repeatable(self._readers[0], rebound)

    async def probe(self) -> Whose:
        """See `Journal`."""

        async def probe(session: Session) -> Whose:
            await session.connection.execute(sql.PROBE)
            return await session.whose()

        return await self._repeatable(self._readers[0], probe)

    async def take(self, type_: str, shard: int, fence: Fence) -> None:
        """See `Journal`."""
        place = (self._types[type_], shard)

        async def take(session: Session) -> None:
            fetch = session.connection.fetchval
            if await fetch(sql.TAKE, *place, fence.epoch, fence.writer, self._lock_wait) is None:
                raise Superseded(type_, shard, await fetch(sql.EPOCH, *place))

        await self._reader(shard).ask(take)

    async def append(self, groups: Sequence[Group]) -> Collection[ShardKey]:
        """See `Journal`. It waits for those whose first shard has the same remainder by `lanes`."""
        if not groups:
            return set()
        lane = self._writers[groups[0].shard % LANES]
        return await lane.ask(partial(append, self._types, groups))

    async def snapshot(self, groups: Sequence[Snapshots], *, keep: int | None) -> None:
        """See `Journal`."""
        if not groups:
            return
        types = self._types
        snapshots = [
            (place, one) for place, group in enumerate(groups, start=1) for one in group.snapshots
        ]
        columns = (
            [types[group.type] for group in groups],
            [group.shard for group in groups],
            [group.fence.epoch for group in groups],
            [group.fence.writer for group in groups],
            [place for place, _ in snapshots],
            [one.key for _, one in snapshots],
            [one.seq for _, one in snapshots],
            [one.data for _, one in snapshots],
            [one.time_ms for _, one in snapshots],
        )

        async def snapshot(session: Session) -> None:
            await session.connection.execute(sql.SNAPSHOT, *columns, keep, self._lock_wait)

        await self._repeatable(self._reader(groups[0].shard), snapshot)

    async def load(self, type_: str, shard: int, keys: Collection[str]) -> Mapping[str, History]:
        """See `Journal`."""
        asked = (self._types[type_], shard, list(keys), Kind.EVENTS, Kind.NOTE)

        async def load(session: Session) -> dict[str, History]:
            rows = await session.connection.fetch(sql.LOAD, *asked)
            found = {key: _history(list(of)) for key, of in groupby(rows, lambda row: row["key"])}
            return {key: kept for key, kept in found.items() if kept is not None}

        return await self._repeatable(self._reader(shard), load)

    async def reminders(
        self, type_: str, shards: Collection[int], until_ms: int, after: Listed | None, limit: int
    ) -> Sequence[Listed]:
        """See `Journal`."""
        start = after.order if after is not None else (-1, -1, "", "", "")
        asked = (self._types[type_], list(shards), until_ms, *start, limit)

        async def reminders(session: Session) -> list[Listed]:
            return [
                Listed(Place(type_, shard, key, method, name), Appointment(*times))
                for shard, key, method, name, *times in await session.connection.fetch(
                    sql.REMINDERS, *asked
                )
            ]

        return await self._repeatable(self._readers[0], reminders)

    async def holds(self, type_: str, shard: int, fence: Fence) -> bool:
        """See `Journal`."""
        asked = (self._types[type_], shard, fence.epoch, fence.writer)

        async def holds(session: Session) -> bool:
            return await session.connection.fetchval(sql.HOLDS, *asked) is not None

        return await self._repeatable(self._reader(shard), holds)

    async def tail(self, type_: str, shard: int, after: int, limit: int) -> Sequence[Written]:
        """See `Journal`."""
        asked = (self._types[type_], shard, after, limit)

        async def tail(session: Session) -> list[Written]:
            return [
                Written(off, epoch, Record(key, seq, Kind(kind), *rest))
                for off, epoch, key, seq, kind, *rest in await session.connection.fetch(
                    sql.TAIL, *asked
                )
            ]

        return await self._repeatable(self._reader(shard), tail)

    async def outcomes(self, type_: str, shard: int, key: str, most: int) -> Sequence[Kept]:
        """See `Journal`."""
        asked = (self._types[type_], shard, key, most)

        async def outcomes(session: Session) -> list[Kept]:
            return [Kept(*row) for row in await session.connection.fetch(sql.OUTCOMES, *asked)]

        return await self._repeatable(self._reader(shard), outcomes)

    async def outcome(self, type_: str, shard: int, key: str, request_id: str) -> Kept | None:
        """See `Journal`."""
        asked = (self._types[type_], shard, key, request_id)

        async def outcome(session: Session) -> Kept | None:
            row = await session.connection.fetchrow(sql.OUTCOME, *asked)
            return None if row is None else Kept(*row)

        return await self._repeatable(self._reader(shard), outcome)

    async def close(self) -> None:
        """See `Journal`. Cancelled, it waits no longer: what is being written is in doubt."""
        self._closed = True
        for lane in self._lanes:
            lane.close()
        tasks, self._tasks = self._tasks, None
        if tasks is None:
            return
        try:
            await asyncio.wait(self._running)
        finally:
            for lane in self._lanes:
                lane.abort()
            await tasks.__aexit__(None, None, None)

    async def _start(self) -> None:
        """Let the lanes run. Whoever opens need not be who closes: no lane ever fails, so its group
        has nothing to tell its parent.
        """
        if self._tasks is None and not self._closed:
            self._tasks = tasks = asyncio.TaskGroup()
            await tasks.__aenter__()
            self._running = [lane.start(tasks) for lane in self._lanes]

    @property
    def _lanes(self) -> Sequence[Lane]:
        return (*self._writers, *self._readers)

    def _reader(self, shard: int) -> Lane:
        """One and the same for a shard."""
        return self._readers[shard % READERS]

    async def _repeatable(self, lane: Lane, work: Callable[[Session], Awaitable[T]]) -> T:
        """Of work that may be done again, so that nobody need know whether it was done."""
        try:
            return await lane.ask(work)
        except InDoubt as error:
            raise Unavailable(str(error)) from error


def _history(newest_first: Sequence[asyncpg.Record]) -> History | None:
    rows = [(row["seq"], row["kind"], row["data"]) for row in newest_first]
    snapshot = None
    if rows[-1][1] is None:
        seq, _, data = rows.pop()
        snapshot = (seq, data)
    return history(rows, snapshot)
