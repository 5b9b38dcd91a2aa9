"""The journal in a SQLite file, which the processes of one machine share.

SQLite lets one transaction write at a time, and `BEGIN IMMEDIATE` waits for that: so a transaction
that has seen a fence writes before anybody can change it. The file must be on a disk of this
machine: over a network its locks hold nobody off.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from seedbed_worker.core.outcomes import Kept
from seedbed_worker.core.reminders import Listed
from seedbed_worker.journal import sqlite_reminders
from seedbed_worker.journal import sqlite_statements as sql
from seedbed_worker.journal.belonging import check_cluster, check_counts, check_uid, new_journal
from seedbed_worker.journal.histories import history
from seedbed_worker.journal.port import (
    Fence,
    Group,
    History,
    Kind,
    Record,
    ShardKey,
    Snapshots,
    Superseded,
    Whose,
    Written,
)
from seedbed_worker.journal.sqlite_schema import migrate
from seedbed_worker.journal.sqlite_thread import SqliteThread, reading, writing

LOCK_WAIT_S = 5.0
"""How long a transaction waits for those of other processes, before it is `Unavailable`."""


class SqliteJournal:
    """A `Journal`. It writes on one thread and reads on another, so that no read waits for a write.

    `open` makes the file if it is not there, unless `create` is False, but not its folder.
    `lock_wait_s` is in seconds.
    """

    lanes = 1

    def __init__(
        self, path: Path, *, lock_wait_s: float = LOCK_WAIT_S, create: bool = True
    ) -> None:
        self._writer = SqliteThread(path, lock_wait_s=lock_wait_s, create=create)
        self._reader = SqliteThread(path, lock_wait_s=lock_wait_s, create=create)
        self._types: dict[str, int] = {}

    async def open(self, cluster: str) -> Whose:
        """See `Journal`. An older schema is made this release's."""

        def opened(connection: sqlite3.Connection) -> Whose:
            with writing(connection):
                migrate(connection)
                connection.execute(sql.BEGIN, new_journal(cluster))
                whose = _whose(connection)
                check_cluster(whose, cluster)
                return whose

        return await self._writer.run(opened)

    async def enter(self, shard_counts: Mapping[str, int]) -> None:
        """See `Journal`."""

        def entered(connection: sqlite3.Connection) -> dict[str, int]:
            with writing(connection):
                stored = connection.execute(sql.SHARD_COUNTS)
                check_counts(dict(stored), shard_counts)
                connection.executemany(
                    sql.ENTER,
                    shard_counts.items(),
                )
                return dict(connection.execute(sql.TYPES))

        self._types = await self._writer.run(entered)

    async def bind(self, cluster_uid: str) -> None:
        """See `Journal`."""

        def bind(connection: sqlite3.Connection) -> None:
            with writing(connection):
                check_uid(_whose(connection), cluster_uid)
                connection.execute(sql.BIND, (cluster_uid,))

        await self._writer.run(bind)

    async def rebind(self, cluster_uid: str) -> None:
        """See `Journal`."""

        def rebind(connection: sqlite3.Connection) -> None:
            with writing(connection):
                connection.execute(sql.BIND, (cluster_uid,))

        await self._writer.run(rebind)

    async def probe(self) -> Whose:
        """See `Journal`."""

        def probe(connection: sqlite3.Connection) -> Whose:
            with writing(connection):
                # A number in the file's head that SQLite leaves to us, and we to nothing else.
                (number,) = connection.execute("PRAGMA user_version").fetchone()
                connection.execute(f"PRAGMA user_version = {(number + 1) % 2**31}")
                return _whose(connection)

        return await self._writer.run(probe)

    async def take(self, type_: str, shard: int, fence: Fence) -> None:
        """See `Journal`."""
        place = (self._types[type_], shard)

        def take(connection: sqlite3.Connection) -> None:
            with writing(connection):
                found = connection.execute(sql.EPOCH, place).fetchone()
                if found is not None and found[0] > fence.epoch:
                    raise Superseded(type_, shard, found[0])
                connection.execute(sql.TAKE, (*place, fence.epoch, fence.writer.bytes))

        await self._writer.run(take)

    async def append(self, groups: Sequence[Group]) -> Collection[ShardKey]:
        """See `Journal`."""
        placed = [(self._types[group.type], group) for group in groups]

        def append(connection: sqlite3.Connection) -> set[ShardKey]:
            with writing(connection):
                owned = [
                    (type_id, group, last_off)
                    for type_id, group in placed
                    if (last_off := _last_off(connection, type_id, group)) is not None
                ]
                connection.executemany(
                    sql.INSERT, chain.from_iterable(_rows(*one) for one in owned)
                )
                for type_id, group, _ in owned:
                    sqlite_reminders.write(connection, type_id, group.shard, group.records)
                connection.executemany(
                    sql.COUNT,
                    [(len(group.records), type_, group.shard) for type_, group, _ in owned],
                )
            return {(group.type, group.shard) for _, group, _ in owned}

        return await self._writer.run(append)

    async def snapshot(self, groups: Sequence[Snapshots], *, keep: int | None) -> None:
        """See `Journal`."""
        placed = [(self._types[group.type], group) for group in groups]

        def snapshot(connection: sqlite3.Connection) -> None:
            with writing(connection, wait_for_disk=False):
                for type_id, group in placed:
                    _keep_snapshots(connection, type_id, group, keep)

        await self._writer.run(snapshot)

    async def load(self, type_: str, shard: int, keys: Collection[str]) -> Mapping[str, History]:
        """See `Journal`."""
        type_id = self._types[type_]

        def load(connection: sqlite3.Connection) -> dict[str, History]:
            histories: dict[str, History] = {}
            with reading(connection):
                for key in keys:
                    entity = (type_id, shard, key)
                    snapshot = connection.execute(sql.SNAPSHOT, entity).fetchone()
                    found = history(connection.execute(sql.NEWEST_FIRST, entity), snapshot)
                    if found is not None:
                        histories[key] = found
            return histories

        return await self._reader.run(load)

    async def outcomes(self, type_: str, shard: int, key: str, most: int) -> Sequence[Kept]:
        """See `Journal`."""
        asked = (self._types[type_], shard, key, most)
        return await self._reader.run(
            lambda connection: [Kept(*row) for row in connection.execute(sql.OUTCOMES, asked)]
        )

    async def outcome(self, type_: str, shard: int, key: str, request_id: str) -> Kept | None:
        """See `Journal`."""
        asked = (self._types[type_], shard, key, request_id)

        def outcome(connection: sqlite3.Connection) -> Kept | None:
            row = connection.execute(sql.OUTCOME, asked).fetchone()
            return Kept(*row) if row is not None else None

        return await self._reader.run(outcome)

    async def reminders(
        self, type_: str, shards: Collection[int], until_ms: int, after: Listed | None, limit: int
    ) -> Sequence[Listed]:
        """See `Journal`."""
        type_id = self._types[type_]
        return await self._reader.run(
            lambda connection: sqlite_reminders.due(
                connection, type_, type_id, shards, until_ms, after, limit
            )
        )

    async def holds(self, type_: str, shard: int, fence: Fence) -> bool:
        """See `Journal`."""
        asked = (self._types[type_], shard, fence.epoch, fence.writer.bytes)
        return await self._reader.run(
            lambda connection: connection.execute(sql.FENCED, asked).fetchone() is not None
        )

    async def tail(self, type_: str, shard: int, after: int, limit: int) -> Sequence[Written]:
        """See `Journal`."""
        asked = (self._types[type_], shard, after, limit)

        def tail(connection: sqlite3.Connection) -> list[Written]:
            return [
                Written(off, epoch, Record(key, seq, Kind(kind), *rest))
                for off, epoch, key, seq, kind, *rest in connection.execute(sql.TAIL, asked)
            ]

        return await self._reader.run(tail)

    async def close(self) -> None:
        """See `Journal`."""
        for closed in (self._reader.close(), self._writer.close()):
            await closed


def _whose(connection: sqlite3.Connection) -> Whose:
    return Whose(*connection.execute(sql.WHOSE).fetchone())


def _keep_snapshots(
    connection: sqlite3.Connection, type_id: int, group: Snapshots, keep: int | None
) -> None:
    if _last_off(connection, type_id, group) is None:
        return
    place = (type_id, group.shard)
    kept = [(*place, one.key, one.seq, one.data) for one in group.snapshots]
    connection.executemany(sql.KEEP_SNAPSHOT, kept)
    if keep is not None:
        dropped = [(*place, one.key, one.seq - keep, one.time_ms) for one in group.snapshots]
        connection.executemany(sql.DROP, dropped)


def _last_off(connection: sqlite3.Connection, type_id: int, group: Group | Snapshots) -> int | None:
    """The shard's, if its fence is the group's."""
    epoch, writer = group.fence
    fence = (type_id, group.shard, epoch, writer.bytes)
    found = connection.execute(sql.FENCED, fence).fetchone()
    return None if found is None else found[0]


def _rows(type_id: int, group: Group, last_off: int) -> Iterator[tuple[object, ...]]:
    shard, epoch = group.shard, group.fence.epoch
    for off, one in enumerate(group.records, start=last_off + 1):
        yield (
            *(type_id, shard, off, epoch, one.key, one.seq, one.kind, one.data),
            *(one.request_id or None, one.outcome, one.keep_until_ms, one.time_ms),
        )
