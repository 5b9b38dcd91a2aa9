"""Who owns which shard: the one machine that decides it, fed by every seed, asked on the leader.

Theory. The store is the truth; `Reading` is what this seed has read of it. Every seed feeds its
machine from its own watch (`apply`), so that a new leader starts with a full one, and only the
leader's driver asks it what to write (`decide`). A decision is a `Persist`: whole tables, each with
the revision it was decided from. The driver writes them in one transaction guarded by its
leadership, by these revisions, and by the lost members' records still being gone; so a decision
from an old view, or of a deposed leader, changes nothing. Memory changes only when the tables come
back through the watch: persist, then tell. One Persist is under way at a time, and after it nothing
is decided until its tables are seen, because until then the machine knows less than the store.

Epochs. A table's generation is max(last of the type + 1, wall clock in ms), so it rises also over a
store that was emptied or restored. The epoch of a shard is the generation of the write that gave it
its owner; a shard that is not concerned keeps both.

What is decided, in this order, in one Persist: first what a restore from a backup, or a loss of
tables, left behind, and nothing else until that is done (`Aftermath`); epochs that were reported;
new owners for shards whose owner is gone (`rehoming`); the end of hand-offs; and the beginning of
others: drains, pins, ordered moves (`moving`), at last what evens loads out (`rebalancing`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from seedbed.ids import Incarnation, NodeId
from seedbed_seed.core import moving, ordered_moves, rebalancing, rehoming
from seedbed_seed.core.aftermath import LEAP_MS
from seedbed_seed.core.candidates import Candidates
from seedbed_seed.core.decisions import (
    CoordinatorSettings,
    Decision,
    Deposed,
    Elected,
    EpochReported,
    Event,
    MovesOrdered,
    Persist,
    Persisted,
    PersistFailed,
    Plan,
    ShardMove,
    Synced,
)
from seedbed_seed.core.draft import Draft, TableKey
from seedbed_seed.core.epoch_reports import EpochReports
from seedbed_seed.core.ordered_moves import OrderedMoves
from seedbed_seed.core.reading import Reading
from seedbed_seed.core.rebalancing import Rebalancing

MAX_TABLES = 126
"""Tables of one Persist: etcd takes 128 operations and 128 compares in a transaction."""

_MS = 1_000_000
_ECHO_LIMIT_NS = 2_000 * _MS
"""A watch that stands still longer does not stop decisions; the guards then stop wrong ones."""
_RETRY_NS = (100 * _MS, 200 * _MS, 400 * _MS, 800 * _MS, 1_600 * _MS, 3_200 * _MS)
"""Pauses after failed writes, unless something changes before."""


@dataclass(slots=True)
class _Writing:
    """The Persist under way; `revision` is set when it was carried out and is not yet seen."""

    keys: frozenset[TableKey]
    revision: int | None = None
    limit_ns: int = 0


class Coordinator:
    """The allocation of all types."""

    def __init__(self, settings: CoordinatorSettings) -> None:
        self._reading = Reading(settings)
        self._reports = EpochReports()
        self._ordered = OrderedMoves()
        self._rebalancing = Rebalancing(settings.rebalance.interval_ns)
        self._leading = False
        self._writing: _Writing | None = None
        self._failures = 0
        self._retry_at_ns: int | None = None

    def apply(self, event: Event, now_ns: int) -> None:
        """Take note of what happened. Of a seed's watch, every event in order."""
        match event:
            case EpochReported(type_, shard, epoch):
                if self._leading:
                    self._reports.add(type_, shard, epoch)
            case MovesOrdered(moves):
                if self._leading:
                    self._ordered.add(moves)
            case Elected() | Deposed():
                self._leading = isinstance(event, Elected)
                self._writing = None
                self._failures = 0
                self._reports.forget()
                self._ordered.forget()
                self._rebalancing.elected(now_ns)
            case Persisted(revision):
                self._failures = 0
                if self._writing is not None:
                    self._writing.revision = revision
                    self._writing.limit_ns = now_ns + _ECHO_LIMIT_NS
            case PersistFailed():
                self._writing = None
                pause_ns = _RETRY_NS[min(self._failures, len(_RETRY_NS) - 1)]
                self._failures += 1
                self._retry_at_ns = now_ns + pause_ns
                return
            case _:
                if isinstance(event, Synced) and event.restored:
                    self._writing = None
                self._reading.apply(event, now_ns)
        self._retry_at_ns = None

    def decide(self, now_ns: int, wall_ms: int) -> Decision:
        """What the leader has to write now. The driver must answer every Persist with `Persisted`
        or `PersistFailed`, unless `Deposed` comes first."""
        if not (self._leading and self._reading.synced):
            return Decision()
        if self._writing is not None and not self._has_come_back(self._writing, now_ns):
            answered = self._writing.revision is not None
            return Decision(wake_at_ns=self._writing.limit_ns if answered else None)
        self._writing = None
        if self._retry_at_ns is not None and now_ns < self._retry_at_ns:
            return Decision(wake_at_ns=self._retry_at_ns)
        draft = self._draft(wall_ms)
        self._renew(draft, wall_ms)
        wake_at_ns = self._move(draft, now_ns, wall_ms) if draft.untouched else None
        tables = draft.tables()[:MAX_TABLES]
        if not tables:
            return Decision(wake_at_ns=wake_at_ns)
        self._writing = _Writing(frozenset((t.type, t.chunk) for t in tables))
        # Guards that do not fit into a transaction are left out: the store itself has told that
        # these members are gone, and only a restore could bring such a record back.
        return Decision(Persist(tables, self._guards(draft.lost)[: MAX_TABLES + 1 - len(tables)]))

    # Queries, of any seed.

    def movable_at_ns(self, type_: str, shard: int, now_ns: int) -> int | None:
        """When a shard without a reachable owner may be given another (a time past: any moment).

        None: its owner is reachable, or may be proved dead any moment, or nobody could take it.
        """
        return rehoming.movable_at_ns(self._reading, self._candidates(now_ns), type_, shard)

    def marked_ns(self, type_: str, shard: int) -> int | None:
        """When a shard's owner, which is a member still, was seen marked silent."""
        owner = self._reading.owner(type_, shard)
        return self._reading.roster.marked_ns(owner.incarnation) if owner is not None else None

    def unreachable(self) -> frozenset[Incarnation]:
        """Owners that are marked silent, or gone."""
        reading = self._reading
        return frozenset(i for i in reading.named if not reading.roster.reachable(i))

    def without_workers(self) -> frozenset[str]:
        """Types that nobody serves, and of which nobody, or too few, could be given shards."""
        reading, candidates = self._reading, self._candidates(0)
        return frozenset(
            kind.type
            for kind in reading.kinds()
            if not reading.is_alive(kind) and not rehoming.enough(reading, candidates, kind)
        )

    def stuck(self) -> frozenset[tuple[NodeId, str]]:
        """Nodes that are to drain and own shards of a type that nobody else may be given."""
        return moving.stuck(self._reading, self._candidates(0))

    def why_not(self, moves: Iterable[ShardMove]) -> str:
        """Why not all of these moves can begin, in words; empty: they can."""
        return ordered_moves.why_not(self._reading, self._candidates(0), moves)

    def plan(self, now_ns: int, wall_ms: int) -> Plan:
        """What a rebalance would move now, and why it does not by itself."""
        candidates, draft = self._candidates(now_ns), self._draft(wall_ms)
        return rebalancing.plan(self._reading, candidates, draft, now_ns, wall_ms)

    # What follows from what was read.

    def _renew(self, draft: Draft, wall_ms: int) -> None:
        """What a store that has gone back left behind."""
        for key, renewal in self._reading.aftermath.renewals():
            draft.renew(key, above=max(renewal.floor, wall_ms) + LEAP_MS)
            if renewal.vacated and self._reading.is_writable(key):
                draft.vacate(key, renewal.vacated)

    def _move(self, draft: Draft, now_ns: int, wall_ms: int) -> int | None:
        """New owners, and hand-offs; returns when more may be done."""
        reading, candidates = self._reading, self._candidates(now_ns)
        self._reports.renew(reading.tables, draft)
        wake = [
            rehoming.rehome(reading, candidates, draft, now_ns),
            moving.end_handoffs(reading, candidates, draft, now_ns),
        ]
        moving.begin_drains(reading, candidates, draft)
        moving.begin_pins(reading, candidates, draft)
        self._ordered.begin(reading, candidates, draft)
        wake.append(self._rebalancing.begin(reading, candidates, draft, now_ns, wall_ms))
        return min((at_ns for at_ns in wake if at_ns is not None), default=None)

    def _has_come_back(self, writing: _Writing, now_ns: int) -> bool:
        if writing.revision is None:
            return False
        seen = (self._reading.tables.get(key) for key in writing.keys)
        return now_ns >= writing.limit_ns or all(
            table is not None and table.revision >= writing.revision for table in seen
        )

    def _draft(self, wall_ms: int) -> Draft:
        reading = self._reading
        counts = {name: kind.shard_count for name, kind in reading.types.items()}
        return Draft(reading.tables, counts, reading.generations, wall_ms)

    def _candidates(self, now_ns: int) -> Candidates:
        return Candidates(self._reading, now_ns)

    def _guards(self, lost: Iterable[Incarnation]) -> tuple[tuple[NodeId, int], ...]:
        records = (self._reading.roster.last_record(incarnation) for incarnation in lost)
        return tuple(sorted(record for record in records if record is not None))
