"""The journal in one process's memory: for tests, and for entities under test."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from seedbed_worker.core.outcomes import Kept
from seedbed_worker.core.reminders import Listed, Place
from seedbed_worker.journal.belonging import check_cluster, check_counts, check_uid, new_journal
from seedbed_worker.journal.entity_records import EntityRecords, page
from seedbed_worker.journal.port import (
    DROPPED_AT_ONCE,
    Clash,
    Fence,
    Group,
    History,
    Record,
    ShardKey,
    Snapshots,
    Superseded,
    Unavailable,
    Whose,
    Written,
)


@dataclass(slots=True)
class _Shard:
    fence: Fence | None = None
    log: list[Written] = field(default_factory=list[Written])
    entities: defaultdict[str, EntityRecords] = field(
        default_factory=lambda: defaultdict[str, EntityRecords](EntityRecords)
    )
    taken: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    """Keys with each number that is there."""
    last_off: int = 0

    def write(self, record: Record, epoch: int) -> None:
        self.last_off += 1
        self.log.append(Written(self.last_off, epoch, record))
        self.entities[record.key].write(record)
        self.taken.add((record.key, record.seq))

    def drop(self, key: str, seq: int, now_ms: int) -> None:
        records = self.entities[key].records
        dropped = [one for one in records if one.seq <= seq and one.keep_until_ms <= now_ms]
        for record in dropped[:DROPPED_AT_ONCE]:
            records.remove(record)
            self.log = [one for one in self.log if one.record is not record]
            self.taken.discard((key, record.seq))

    def check(self, records: Sequence[Record]) -> None:
        names = [(record.key, record.seq) for record in records]
        if len(set(names)) < len(names) or not self.taken.isdisjoint(names):
            raise Clash


class Memory:
    """What is kept: the store of all `MemoryJournal`s of a cluster."""

    def __init__(self) -> None:
        self.whose = new_journal("")
        self.shard_counts: dict[str, int] = {}
        self.shards: defaultdict[ShardKey, _Shard] = defaultdict(_Shard)


class MemoryJournal:
    """A `Journal`. It is never in doubt, and unavailable only while it is not open."""

    lanes = 1

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory = memory or Memory()
        self._open = False

    async def open(self, cluster: str) -> Whose:
        """See `Journal`."""
        if not self._memory.whose.cluster:
            self._memory.whose = self._memory.whose._replace(cluster=cluster)
        check_cluster(self._memory.whose, cluster)
        self._open = True
        return self._memory.whose

    async def enter(self, shard_counts: Mapping[str, int]) -> None:
        """See `Journal`."""
        memory = self._opened()
        check_counts(memory.shard_counts, shard_counts)
        memory.shard_counts |= shard_counts

    async def bind(self, cluster_uid: str) -> None:
        """See `Journal`."""
        memory = self._opened()
        check_uid(memory.whose, cluster_uid)
        memory.whose = memory.whose._replace(cluster_uid=cluster_uid)

    async def rebind(self, cluster_uid: str) -> None:
        """See `Journal`."""
        memory = self._opened()
        memory.whose = memory.whose._replace(cluster_uid=cluster_uid)

    async def probe(self) -> Whose:
        """See `Journal`."""
        return self._opened().whose

    async def take(self, type_: str, shard: int, fence: Fence) -> None:
        """See `Journal`."""
        taken = self._opened().shards[type_, shard]
        if taken.fence is not None and taken.fence.epoch > fence.epoch:
            raise Superseded(type_, shard, taken.fence.epoch)
        taken.fence = fence

    async def append(self, groups: Sequence[Group]) -> Collection[ShardKey]:
        """See `Journal`."""
        shards = self._opened().shards
        owned = [group for group in groups if shards[group.type, group.shard].fence == group.fence]
        for group in owned:
            shards[group.type, group.shard].check(group.records)
        for group in owned:
            for record in group.records:
                shards[group.type, group.shard].write(record, group.fence.epoch)
        return {(group.type, group.shard) for group in owned}

    async def snapshot(self, groups: Sequence[Snapshots], *, keep: int | None) -> None:
        """See `Journal`."""
        shards = self._opened().shards
        for group in groups:
            shard = shards[group.type, group.shard]
            if shard.fence != group.fence:
                continue
            for one in group.snapshots:
                shard.entities[one.key].keep(one)
                if keep is not None:
                    shard.drop(one.key, one.seq - keep, one.time_ms)

    async def load(self, type_: str, shard: int, keys: Collection[str]) -> Mapping[str, History]:
        """See `Journal`."""
        entities = self._opened().shards[type_, shard].entities
        found = {key: entities[key].history() for key in keys if key in entities}
        return {key: kept for key, kept in found.items() if kept is not None}

    async def outcomes(self, type_: str, shard: int, key: str, most: int) -> Sequence[Kept]:
        """See `Journal`."""
        entity = self._opened().shards[type_, shard].entities.get(key)
        return entity.outcomes(most) if entity is not None else ()

    async def outcome(self, type_: str, shard: int, key: str, request_id: str) -> Kept | None:
        """See `Journal`."""
        entity = self._opened().shards[type_, shard].entities.get(key)
        return entity.outcome(request_id) if entity is not None else None

    async def reminders(
        self, type_: str, shards: Collection[int], until_ms: int, after: Listed | None, limit: int
    ) -> Sequence[Listed]:
        """See `Journal`."""
        memory = self._opened()
        all_of_them = (
            Listed(Place(type_, shard, key, *place), appointment)
            for shard in shards
            for key, entity in memory.shards[type_, shard].entities.items()
            for place, appointment in entity.reminders.items()
        )
        return page(all_of_them, until_ms, after, limit)

    async def holds(self, type_: str, shard: int, fence: Fence) -> bool:
        """See `Journal`."""
        return self._opened().shards[type_, shard].fence == fence

    async def tail(self, type_: str, shard: int, after: int, limit: int) -> Sequence[Written]:
        """See `Journal`."""
        log = self._opened().shards[type_, shard].log
        first = bisect_right(log, after, key=lambda one: one.off)
        return log[first : first + limit]

    async def close(self) -> None:
        """See `Journal`."""
        self._open = False

    def _opened(self) -> Memory:
        if not self._open:
            raise Unavailable("the journal is not open")
        return self._memory
