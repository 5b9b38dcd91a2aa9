"""Which shards this incarnation owns: admission of calls, and the gate that every reply passes.

Theory. Tables reach a worker more than once and from more than one seed, some of which lag. So a
table is taken only if its generation is above the known one, and none is ever forgotten: an older
view of the cluster could give back a shard that is long another's, or drop and then return one of
ours, which would start its memory twice in one epoch. A worker whose tables really are gone (an
emptied store) has lost its lease too and owns nothing by them, since owners are incarnations.

An epoch names one owner of a shard. A call that shows our epoch is ours whatever the generation of
its sender; one that shows a higher epoch, or that is not ours by a table older than its sender's,
waits for that table; one that is not ours by a table at least as new is refused before anything
runs. An answer leaves only while its turn's epoch still is the shard's and its incarnation still
serves (`may_reply`; the host asks `Lease.valid` as well): a process may stand still between a turn
and its reply.

Hand-off. A shard that the newest table shows on its way out admits no call any more. What has begun
on it goes on, and answers, until its limit: the table's or this worker's own, counted from when
this worker first saw the hand-off in this epoch (`limit_ns`; the host compares it with the clock as
it does the lease's end). So once that limit and a TTL have passed since the table was written, this
worker answers nothing in this epoch: it has seen the table by then, or its lease has run out.
Sooner it says so itself: `release` is for ever, whatever tables come, since the shard's next owner
may have begun by the time at which anyone reads it.

Threads. The session thread calls `observe` and `begin`; `fence` and `drain` may come from anywhere;
the event loop calls `release`, and reads. What readers need is one immutable `View`, replaced by
one assignment; fence, drain and releases are marks of their own that are never taken back, so that
two writers cannot lose either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from seedbed.ids import NO_EPOCH, NO_GENERATION, Epoch, Generation, Incarnation
from seedbed.routing import CHUNK, Release, ShardTable


class Admitted(NamedTuple):
    """The call is ours: its turn belongs to this epoch and incarnation."""

    epoch: Epoch
    incarnation: Incarnation


class Refused(NamedTuple):
    """Not ours by our table of `generation` (0: none); nothing ran."""

    generation: Generation


class Wait(NamedTuple):
    """The sender knows a newer table: ask again once ours has reached `generation`."""

    generation: Generation


class EpochAhead(NamedTuple):
    """Ours, but a seed has seen a higher epoch than the newest table: report it, and wait."""

    epoch: Epoch


Admission: TypeAlias = Admitted | Refused | Wait | EpochAhead


class Leaving(NamedTuple):
    """A shard of ours in hand-off: from `until_ns` on it is served no more."""

    epoch: Epoch
    until_ns: int


_TableKey: TypeAlias = tuple[str, int]
_Row: TypeAlias = tuple[Admitted | None, ...]


@dataclass(frozen=True, slots=True)
class View:
    """What a worker knows at one moment. `mine` answers the call path: by table, then by shard.
    `leaving` has what of it is being handed off."""

    incarnation: Incarnation | None = None
    tables: Mapping[_TableKey, ShardTable] = field(default_factory=dict[_TableKey, ShardTable])
    mine: Mapping[_TableKey, _Row] = field(default_factory=dict[_TableKey, _Row])
    leaving: Mapping[tuple[str, int], Leaving] = field(
        default_factory=dict[tuple[str, int], Leaving]
    )


class Region:
    """The worker's shards. `handoff_limit_ns` shortens the tables' limits of hand-offs."""

    __slots__ = ("_handoff_limit_ns", "_released", "draining", "fenced", "view")

    def __init__(self, handoff_limit_ns: int = 10_000_000_000) -> None:
        self._handoff_limit_ns = handoff_limit_ns
        self._released: Mapping[tuple[str, int], Epoch] = {}
        self.view = View()
        self.fenced: Incarnation | None = None
        """The incarnation that `fence` ended for ever."""
        self.draining = False
        """`drain` was called."""

    def begin(self, incarnation: Incarnation) -> None:
        """Serve as a new incarnation from now on."""
        if incarnation == self.fenced:
            raise ValueError(f"incarnation {incarnation} is fenced for ever")
        tables = self.view.tables
        mine = {key: _row(table, incarnation) for key, table in tables.items()}
        self.view = View(incarnation, tables, mine)

    def observe(self, tables: Iterable[ShardTable], now_ns: int) -> list[ShardTable]:
        """Take over newer tables; returns those that changed."""
        view = self.view
        changed = {
            (table.type, table.chunk): table for table in tables if _is_news(view.tables, table)
        }
        if changed:
            leaving = {
                place: one
                for place, one in view.leaving.items()
                if (place[0], place[1] // CHUNK) not in changed
            }
            for table in changed.values():
                leaving |= self._leaving(table, now_ns)
            self.view = View(
                view.incarnation,
                {**view.tables, **changed},
                {**view.mine, **{key: _row(t, view.incarnation) for key, t in changed.items()}},
                leaving,
            )
        return list(changed.values())

    def fence(self) -> None:
        """End the present incarnation for ever: nothing is admitted, nothing answered."""
        self.fenced = self.view.incarnation

    def drain(self) -> None:
        """Admit nothing more, also as a later incarnation; running turns may still answer."""
        self.draining = True

    def release(self, releases: Iterable[Release]) -> None:
        """These shards are served no more in these epochs, for ever. Nothing of them may be left
        that could still answer."""
        # What a table has shown needs no mark any more, since epochs only rise.
        kept = {(one.type, one.shard): one.epoch for one in self.released()}
        self._released = kept | {(one.type, one.shard): one.epoch for one in releases}

    def released(self) -> tuple[Release, ...]:
        """What was released and no table has given to another yet."""
        return tuple(
            Release(type_, shard, epoch)
            for (type_, shard), epoch in self._released.items()
            if (mine := self._row_of(type_, shard)) is not None and mine.epoch == epoch
        )

    def owns_any(self) -> bool:
        """Does any table name the incarnation that serves, be the shard released or not?"""
        return self.shards_owned() > 0

    def shards_owned(self) -> int:
        """How many shards the tables give to the incarnation that serves."""
        if self.incarnation is None:
            return 0
        return sum(mine is not None for row in self.view.mine.values() for mine in row)

    def limit_ns(self, type_: str, shard: int) -> int | None:
        """When a shard of ours in hand-off is served no more; None if it is not in hand-off."""
        leaving = self.view.leaving.get((type_, shard))
        return leaving.until_ns if leaving is not None else None

    @property
    def incarnation(self) -> Incarnation | None:
        """The incarnation that serves; None before the first, and once it is fenced."""
        incarnation = self.view.incarnation
        return None if incarnation == self.fenced else incarnation

    def generation(self, type_: str, shard: int) -> Generation:
        """Generation of the shard's table; 0 while none is known."""
        table = self.view.tables.get((type_, shard // CHUNK))
        return table.generation if table is not None else NO_GENERATION

    def shard_count(self, type_: str) -> int:
        """How many shards the type has; 0 while no table of it is known."""
        table = self.view.tables.get((type_, 0))
        return table.shard_count if table is not None else 0

    def owned(self, type_: str, shard: int) -> Epoch:
        """Epoch under which this incarnation owns the shard; 0 if it does not."""
        mine = self._mine(type_, shard)
        return mine.epoch if mine is not None else NO_EPOCH

    def admit(
        self, type_: str, shard: int, epoch: Epoch, generation: Generation, *, from_seed: bool
    ) -> Admission:
        """May a call begin that was sent by a table of `generation` naming `epoch`?

        Both are 0 for a plain client of the worker's own port. Only a seed's word about a higher
        epoch is passed on to the coordinator; anyone else's is refused.
        """
        mine = self._mine(type_, shard)
        if (type_, shard) in self.view.leaving:
            mine = None
        if mine is not None and epoch <= mine.epoch and not self.draining:
            return mine
        known = self.generation(type_, shard)
        if self.draining or self.incarnation is None:
            return Refused(known)
        if generation > known:
            return Wait(generation)
        if mine is not None and from_seed:
            return EpochAhead(epoch)
        return Refused(known)

    def may_reply(self, incarnation: Incarnation, type_: str, shard: int, epoch: Epoch) -> bool:
        """The reply gate: does this turn's epoch still own the shard, as this incarnation?

        Besides the lease the clock has a say here too, if there is a `limit_ns`.
        """
        mine = self._mine(type_, shard)
        return mine is not None and mine.epoch == epoch and mine.incarnation == incarnation

    def _mine(self, type_: str, shard: int) -> Admitted | None:
        mine = self._row_of(type_, shard)
        if mine is None or mine.incarnation == self.fenced:
            return None
        return None if self._released.get((type_, shard)) == mine.epoch else mine

    def _row_of(self, type_: str, shard: int) -> Admitted | None:
        row = self.view.mine.get((type_, shard // CHUNK))
        return row[shard % CHUNK] if row is not None else None

    def _leaving(self, table: ShardTable, now_ns: int) -> dict[tuple[str, int], Leaving]:
        """What of a new table is ours and in hand-off. One seen before in this epoch stays so, with
        its time, whatever the table says: a hand-off ends in a new epoch."""
        view = self.view
        leaving: dict[tuple[str, int], Leaving] = {}
        seen = {
            shard
            for type_, shard in view.leaving
            if type_ == table.type and shard // CHUNK == table.chunk
        }
        for shard in seen | table.handoffs.keys():
            owner = table.owner_of(shard)
            if owner is None or owner.incarnation != view.incarnation:
                continue
            epoch = table.epoch[shard - table.first_shard]
            known = view.leaving.get((table.type, shard))
            if known is None or known.epoch != epoch:
                handoff = table.handoffs.get(shard)
                if handoff is None:
                    continue
                limit_ns = min(handoff.limit_ms * 1_000_000, self._handoff_limit_ns)
                known = Leaving(epoch, now_ns + limit_ns)
            leaving[table.type, shard] = known
        return leaving


def _is_news(known: Mapping[_TableKey, ShardTable], table: ShardTable) -> bool:
    old = known.get((table.type, table.chunk))
    return old is None or table.generation > old.generation


def _row(table: ShardTable, incarnation: Incarnation | None) -> _Row:
    """What of a table is ours."""
    mine: list[Admitted | None] = [None] * len(table.owner)
    if incarnation is not None:
        for shard in table.shards_of(incarnation):
            index = shard - table.first_shard
            mine[index] = Admitted(table.epoch[index], incarnation)
    return tuple(mine)
