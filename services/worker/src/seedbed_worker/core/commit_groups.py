"""Which records are written together, and what may be written next.

Theory. One write is under way at a time. Whatever comes meanwhile goes into the next one, so that
many entities share one commit, and an idle store is written to at once: no timer, nothing to tune.
A group takes from shard after shard, whole queues where they fit. The records of one shard are
written in the order in which they came, which is all the order that the journal asks for.

    add ──> WAITING ── next ──> WRITING ──┬─ written ──> kept, or refused (their shard was taken)
                                          ├─ failed ───> nothing of them was written
                                          └─ doubted ──> in doubt, until `settled`

A record may build on those before it. So where one was not written, all that wait behind it in its
shard end with it. While records of a shard are in doubt nothing of it is written: its owner has to
fence itself and to read first. Other shards go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Hashable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar


class Item(Protocol):
    """A record that waits."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...


S = TypeVar("S", bound=Hashable)
P = TypeVar("P", bound=Item)


class Written(NamedTuple, Generic[S, P]):
    """What became of a group."""

    kept: Sequence[P]
    fenced: Sequence[S]
    """These shards are somebody else's by now."""
    refused: Sequence[P]
    """Their records: those of the group, and those that waited."""


class CommitGroups(Generic[S, P]):
    """The records of one lane."""

    def __init__(self, *, max_records: int, max_bytes: int) -> None:
        """A group has at most so many records, and at most so many bytes or one record."""
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._waiting: dict[S, deque[P]] = {}
        self._writing: dict[S, list[P]] = {}
        self._doubtful: set[S] = set()

    def __len__(self) -> int:
        """Records that wait or are being written."""
        queues = (*self._waiting.values(), *self._writing.values())
        return sum(len(queue) for queue in queues)

    def add(self, shard: S, item: P) -> None:
        """A record is to be written after all others of its shard."""
        queue = self._waiting.get(shard)
        if queue is None:
            queue = self._waiting[shard] = deque()
        queue.append(item)

    def next(self) -> dict[S, list[P]]:
        """Begin to write a group; empty: there is nothing to write now.

        Raises `ValueError` while another is being written.
        """
        if self._writing:
            raise ValueError("a group is being written")
        records = size = 0
        for shard in [one for one in self._waiting if one not in self._doubtful]:
            queue, group = self._waiting[shard], list[P]()
            while queue and records < self._max_records:
                if records and size + queue[0].size > self._max_bytes:
                    break
                records += 1
                size += queue[0].size
                group.append(queue.popleft())
            if not group:
                continue
            self._writing[shard] = group
            del self._waiting[shard]
            if queue:  # at the end of the line: the others have their share of the next group
                self._waiting[shard] = queue
        return dict(self._writing)

    def written(self, survivors: Container[S]) -> Written[S, P]:
        """The group's records are durable, but for the shards that are not among these."""
        kept: list[P] = []
        fenced: list[S] = []
        refused: list[P] = []
        for shard, items in self._end().items():
            if shard in survivors:
                kept += items
            else:
                fenced.append(shard)
                refused += [*items, *self.drop(shard)]
        return Written(kept, fenced, refused)

    def failed(self) -> list[P]:
        """Nothing of the group was written; returns its records and those behind them."""
        ended = self._end().items()
        return [item for shard, items in ended for item in (*items, *self.drop(shard))]

    def doubted(self) -> dict[S, list[P]]:
        """Nobody knows whether the group was written; returns it."""
        writing = self._end()
        self._doubtful |= writing.keys()
        return writing

    def behind(self, shard: S) -> list[P]:
        """Take away what waits behind records in doubt: it is not written."""
        return list(self._waiting.pop(shard, ()))

    def settled(self, shard: S) -> None:
        """What was in doubt of this shard is known, under a new fence."""
        self._doubtful.discard(shard)

    def drop(self, shard: S) -> list[P]:
        """Nothing more is written of this shard; returns what waited."""
        self._doubtful.discard(shard)
        return list(self._waiting.pop(shard, ()))

    def _end(self) -> dict[S, list[P]]:
        writing, self._writing = self._writing, {}
        return writing
