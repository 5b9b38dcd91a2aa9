"""The journal: what entities keep, and the fence that lets only a shard's owner write it.

Theory. Whoever takes a shard over writes its fence first, and then reads: what it has not read,
nobody can add any more. A fence is an epoch and the id of a writer. The epoch is the shard's, given
with the ownership; the writer's id is made anew each time that an owner fences. `append` checks the
fences of its shards in the same transaction in which it writes, with the fence rows locked, so an
append is before a `take` or is refused. An owner that does not know what became of an append
fences itself (`take` with the same epoch and a new writer id) before it reads: else the append
might still come. Each shard counts its records: their offsets have no gaps, and are in the order of
the commits.

A record is one turn's change of one entity, with the outcome of the call that made it. An entity's
records have the numbers 1, 2, 3 …, its `seq`, which never falls, not even when it is deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, Protocol, TypeAlias
from uuid import UUID

from seedbed.errors import SeedbedError
from seedbed_worker.core.outcomes import Kept
from seedbed_worker.core.reminders import Appointment, Listed

DROPPED_AT_ONCE: Final = 1_000
"""Records behind a snapshot that go with it: the more, the longer do others wait. It is well above
what is written between two snapshots, so that what has piled up goes too, in time."""


class JournalError(SeedbedError):
    """The journal did not do what it was asked. The text says why, without any secret."""


class Unavailable(JournalError):
    """It does not answer, or refuses for a passing reason (disk full, too many connections):
    nothing of what was asked was done, and the same may be asked again."""


class InDoubt(JournalError):
    """The connection was lost, or the limit passed, while it was asked: it may have been done or
    not, or be done yet. Fence, then read."""


class Superseded(JournalError):
    """The shard has been taken under a higher epoch."""

    def __init__(self, type_: str, shard: int, epoch: int) -> None:
        super().__init__(f"shard {shard} of {type_} was taken under epoch {epoch}")
        self.epoch = epoch


class Clash(JournalError):
    """A record's number is in the journal already, so its owner does not know what is there; or the
    store cannot hold it. Nothing of what was asked was done, for any shard."""


class WrongJournal(JournalError):
    """It is another cluster's, or was made for other numbers of shards, or by another release."""


class Fence(NamedTuple):
    """What an owner writes under."""

    epoch: int
    writer: UUID


class Kind(IntEnum):
    """What a record says of its entity. The numbers are stored."""

    STATE = 1
    """`data` is its state from now on."""
    EVENTS = 2
    """`data` is what happened to it."""
    DELETED = 3
    """It is as fresh from now on, and its reminders are dropped; `data` is empty."""
    NOTE = 4
    """Nothing of its state: only of its reminders; `data` is empty."""


class ReminderChange(NamedTuple):
    """Another appointment of a reminder of the record's entity; None: it is dropped."""

    method: str
    name: str
    appointment: Appointment | None


@dataclass(frozen=True, slots=True)
class Record:
    """One change of one entity. Times are wall clock, in ms since 1970."""

    key: str
    seq: int
    kind: Kind
    data: bytes
    time_ms: int
    request_id: str = ""
    """Of the call that made it; empty: of none that could come again."""
    outcome: bytes = b""
    """What the call was answered."""
    keep_until_ms: int = 0
    """Until then a repeat of the request may come."""
    reminders: tuple[ReminderChange, ...] = ()
    """What becomes of its reminders, each named once; not read back by `tail`."""

    def kept(self) -> Kept:
        """What came of its call."""
        return Kept(self.request_id, self.outcome, self.time_ms, self.keep_until_ms)


class Written(NamedTuple):
    """A record at its place in the log of its shard."""

    off: int
    """1, 2, 3 …: no gaps, in the order of the commits."""
    epoch: int
    """Of the owner that wrote it."""
    record: Record


class Group(NamedTuple):
    """Records of one shard, in the order of their commits."""

    type: str
    shard: int
    fence: Fence
    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of an entity as its records up to `seq` make it."""

    key: str
    seq: int
    data: bytes
    time_ms: int
    """When the newest of these records was written; wall clock, in ms since 1970."""
    of_events: bool = True
    """The records behind it tell what happened; else they are only older states."""


class Snapshots(NamedTuple):
    """Snapshots of one shard, one for each entity at most."""

    type: str
    shard: int
    fence: Fence
    snapshots: Sequence[Snapshot]


ShardKey: TypeAlias = tuple[str, int]
"""Type and number."""


@dataclass(frozen=True, slots=True)
class History:
    """What is kept of an entity: make its state from `state` and then `events`, in order."""

    seq: int
    exists: bool
    """Its last record is not DELETED."""
    state: bytes | None = None
    """Of the last STATE record or snapshot; None: fresh."""
    events: tuple[bytes, ...] = ()
    """`data` of the EVENTS records after it, and after the last DELETED one."""


class Whose(NamedTuple):
    """Whose journal it is. `timeline` is new each time that a journal is made."""

    journal_id: str
    timeline: str
    cluster: str
    cluster_uid: str
    """Empty as long as no cluster has bound it."""


class Journal(Protocol):
    """One store, used from one event loop.

    All methods raise `JournalError`: `Unavailable` when nothing was done, `InDoubt` when that is
    not known. None of them may be cancelled while it writes: it then ends in its own time, and
    whoever has cancelled it knows nothing of its end.
    """

    @property
    def lanes(self) -> int:
        """So many appends may be under way at once, of different shards."""
        ...

    async def open(self, cluster: str) -> Whose:
        """Connect, and see that the schema is this release's.

        A journal that is empty becomes this cluster's. Raises `WrongJournal`.
        """
        ...

    async def enter(self, shard_counts: Mapping[str, int]) -> None:
        """These types have so many shards: enter those that are not there yet.

        Before anything of a type is asked for. Raises `WrongJournal`, and enters nothing, if one
        has another number there.
        """
        ...

    async def bind(self, cluster_uid: str) -> None:
        """Make it this incarnation of the cluster's, if it is nobody's yet.

        Raises `WrongJournal`.
        """
        ...

    async def rebind(self, cluster_uid: str) -> None:
        """Make it this incarnation of the cluster's, whoever's it was: all that was before is lost.

        Who calls this has seen to it that no other cluster uses the journal.
        """
        ...

    async def probe(self) -> Whose:
        """Write and commit something that changes nothing; whose the journal is now."""
        ...

    async def take(self, type_: str, shard: int, fence: Fence) -> None:
        """From now on only what comes under this fence is written. Raises `Superseded`."""
        ...

    async def append(self, groups: Sequence[Group]) -> Collection[ShardKey]:
        """Write all records of each shard whose fence is as its group says; returns these shards.

        When it returns they are durable. A shard that is not among them was taken meanwhile, and
        nothing of it is written. Each shard is in one group at most. Raises `Clash`.
        """
        ...

    async def snapshot(self, groups: Sequence[Snapshots], *, keep: int | None) -> None:
        """Keep these snapshots, each in the place of an older one of its entity.

        Their records are durable already. A shard whose fence is not as its group says is left
        out, and so is a snapshot older than the one there. What comes of it need not be durable
        when this returns: it may be lost, and is made again by a later one.

        `keep`: so many of the newest records that a snapshot covers stay, older ones are deleted,
        those aside of whose call a repeat may come after the snapshot's time (`keep_until_ms`); of
        each entity at most `DROPPED_AT_ONCE` in one call. None: all stay. Offsets that were given
        are not given again, and a tail has holes where records were deleted.
        """
        ...

    async def load(self, type_: str, shard: int, keys: Collection[str]) -> Mapping[str, History]:
        """What is kept of these entities; those of whom nothing was ever kept are not in it."""
        ...

    async def outcomes(self, type_: str, shard: int, key: str, most: int) -> Sequence[Kept]:
        """What came of an entity's latest calls that have an id, the newest first."""
        ...

    async def outcome(self, type_: str, shard: int, key: str, request_id: str) -> Kept | None:
        """What came of the latest call of this id; None: nothing was recorded."""
        ...

    async def reminders(
        self, type_: str, shards: Collection[int], until_ms: int, after: Listed | None, limit: int
    ) -> Sequence[Listed]:
        """What of these shards is due by then, at most `limit`, in their `order`.

        After what an earlier call gave last, if that is given: reminders come page by page.
        """
        ...

    async def holds(self, type_: str, shard: int, fence: Fence) -> bool:
        """What is written under this fence is let in, as of a moment after this was asked."""
        ...

    async def tail(self, type_: str, shard: int, after: int, limit: int) -> Sequence[Written]:
        """The first `limit` records behind the offset `after`; 0: from the start."""
        ...

    async def close(self) -> None:
        """Wait for what is being written, then let go of everything. Does not raise."""
        ...
